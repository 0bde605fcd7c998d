"""The forms of GLoRA that the study compares, as overrides, and what their records hold beside the winner."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from runner.report.result import RANDOM, Record

MINI = ("trainer=mini", "search=mini")
PAPER, PLUS = "trainer=mini_paper", "method=glora_plus"
LOSS, ACCURACY, DRAWN = "search.fitness=loss", "search.fitness=accuracy", "search.extremes=false"
BASELINES = ("repadapter", "fact_tk", "fact_tt", "lora", "full", "adaptformer", "noah")
FORMS: dict[str, tuple[str, ...]] = {
    "glora": (ACCURACY, DRAWN),
    "probability": (),
    "loss": (LOSS,),
    "accuracy": (ACCURACY,),
    "drawn": (DRAWN,),
    "soup": ("search.winner=soup",),
    "greedy_soup": ("search.winner=greedy_soup",),
    "mean": ("search.winner=mean",),
    "tuned": ("search.finetune_epochs=30",),
    "fair": ("supernet.sampling=fair",),
    "draws": ("supernet.draws=2",),
    "ema": ("supernet.ema=0.99",),
    "sandwich": ("supernet.sampling=sandwich",),
    "distilled": ("supernet.sampling=sandwich", "supernet.distill=true"),
    "paper": (PAPER, ACCURACY, DRAWN),
    "paper_probability": (PAPER,),
    "paper_loss": (PAPER, LOSS),
    "paper_soup": (PAPER, "search.winner=soup"),
    "paper_greedy_soup": (PAPER, "search.winner=greedy_soup"),
    "paper_mean": (PAPER, "search.winner=mean"),
    "paper_tuned": (PAPER, "search.finetune_epochs=30"),
    "largest": ("method=glora_subnet",),
    "largest_long": ("method=glora_subnet", "trainer.epochs=150"),
    "short": (
        "trainer.epochs=30", "supernet.sampling=sandwich", LOSS, "search.max_share=0.34", "search.finetune_epochs=10"),
    "plus": (PLUS,),
    "plus_probability": (PLUS, "search.fitness=probability"),
    "plus_accuracy": (PLUS, ACCURACY),
    "plus_uniform": (PLUS, "supernet.sampling=uniform", "trainer.epochs=120"),  # as many steps, one subnet in each
    "plus_scratch": (PLUS, "search.finetune_scratch=true"),
    "plus_gates": (PLUS, "search.winner=soup", "search.learn_gates=true"),
    "plus_largest_tuned": (PLUS, "search.winner=largest"),
    "plus_sixth": (PLUS, "search.max_share=0.17"),
    "plus_tenth": (PLUS, "search.max_share=0.1"),
    **{name: (f"method={name}",) for name in BASELINES},
    "noah": ("method=noah", ACCURACY, DRAWN),
    "repadapter_long": ("method=repadapter", "trainer.epochs=150"),
    "repadapter_long_low": ("method=repadapter", "trainer.epochs=150", "optimizer.lr=4.5e-3"),
}  # fmt: skip
"""Overrides of every form; the methods of other papers are the baselines."""
OTHERS = frozenset(f for f, words in FORMS.items() if {f"method={name}" for name in BASELINES} & {*words})
"""Forms that are no GLoRA: the baselines, and baselines with another recipe."""

COMPARED = {
    "paper_largest": ("paper", "largest"),
    "plus_untuned": ("plus", "untuned"),
    "plus_largest": ("plus", "largest"),
    "plus_random": ("plus", RANDOM),
    "plus_random_search": ("plus", "random_search"),
    "plus_from_scratch": ("plus_scratch", "scratch"),
}
"""Rows of what was measured beside a form's winner: the form, and the comparator of its results."""
SAME_WINNER = ("plus_scratch",)
"""Forms whose winner is another one's, run for what is measured beside it; the picture leaves them out."""


def compared(found: Mapping[str, Sequence[Record]]) -> dict[str, list[Record]]:
    """All rows, those of `COMPARED` after their forms': records whose accuracy and parameters are the comparator's.

    A comparator that saw fewer test images than the winner is left out. Of the times the supernet's training stays.
    """
    rows: dict[str, list[Record]] = {}
    for form, records in found.items():
        rows[form] = list(records)
        for row, (whose, name) in COMPARED.items():
            if whose == form:
                rows[row] = [_of_comparator(r, name) for r in records if _is_comparable(r, name)]
    return rows


def _is_comparable(record: Record, name: str) -> bool:
    return name in record["comparators"] and "winner" not in record["comparators"]


def _of_comparator(record: Record, name: str) -> Record:
    found = record["comparators"][name]
    shared = {k: v for k, v in record.items() if k not in ("tuned_val_accuracy", "search_seconds", "tuning_seconds")}
    return shared | {
        "test_accuracy": found["test_mean"] if name == RANDOM else found["test"],
        "val_accuracy": record["val_accuracy"] if name == "untuned" else found.get("val"),
        "params": record["params"] if name in ("untuned", "scratch") else found.get("params"),
    }
