"""Train: `python train.py dataset=digits trainer=mini` (GLoRA supernet), `method=linear` for the probe."""

from runner.signals import loading

with loading():
    from runner.cli import main
    from runner.stages.train import train

if __name__ == "__main__":
    main(lambda run: print(f"trained: {train(run)}"))
