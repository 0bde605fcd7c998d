"""Measure test once and print the table: `python evaluate.py dataset=digits trainer=mini`; no words: all results."""

import json
from pathlib import Path

from runner.cli import main
from runner.config import TrainConf
from runner.stages import measure


def stage(config: TrainConf) -> None:
    """Measure the named run if it has no result yet, then show every result under `output_root`."""
    if config.dataset is not None:
        measure(config)
    records = [json.loads(p.read_text()) for p in sorted(Path(config.output_root).rglob("result.json"))]
    print(f"{'dataset':20} {'method':12} {'protocol':18} seed {'params':>10}   val   test")
    for r in records:
        mark = "  selected on test" if r["selected_on_test"] else ""
        val = "    -" if r["val_accuracy"] is None else f"{100 * r['val_accuracy']:5.1f}"
        print(
            f"{r['dataset']:20} {r['label']:12} {r['protocol']:18} {r['seed']:4} {r['params']:10,} {val} "
            f"{100 * r['test_accuracy']:6.1f}{mark}"
        )


if __name__ == "__main__":
    main(stage)
