"""Train: `python train.py dataset=digits trainer=mini` (GLoRA supernet), `method=linear` for the probe."""

from runner.cli import main
from runner.schema import TrainConf
from runner.training import train


def stage(config: TrainConf) -> None:
    """Train one run and say where it is."""
    print(f"trained: {train(config)}")


if __name__ == "__main__":
    main(stage)
