"""The parts that are commands of their own: the tests that need a device, and the long runs of the winner study."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tools.gpu_check.check import FAILED, Check

ROOT = Path(__file__).resolve().parent.parent.parent
LINE = re.compile(r"^(tests/\S+::.+?) (PASSED|FAILED|ERROR|SKIPPED|XFAIL|XPASS)\b")

STUDIES: tuple[tuple[str, ...], ...] = (
    ("forms=[plus,largest]", "tasks=[textures,shapes_orientation]", "seeds=1"),
    ("forms=[glora,repadapter,lora,fact_tt]", "tasks=[textures,shapes_orientation]", "seeds=1"),
    ("forms=[glora,plus,largest,repadapter,lora,fact_tt]", "seeds=3"),
    ("forms=[paper,paper_loss,paper_tuned,largest_long]", "seeds=1"),
    ("forms=[soup,greedy_soup,mean,fair,ema,distilled]", "seeds=1"),
    ("seeds=3",),
)
"""Words of tools.winner_study, most valuable first: the tasks that a CPU did not get to, then seeds, then forms."""


def marked() -> list[str]:
    """The test files that hold tests for a GPU: collecting all others takes longer than running these."""
    files = sorted((ROOT / "tests").rglob("test_*.py"))
    return [str(p.relative_to(ROOT)) for p in files if re.search(r"^[^#\"]*pytest\.mark\.gpu\b", p.read_text(), re.M)]


def run_tests(check: Check) -> None:
    """Run them with pytest, each noted when it ends; on a CPU what they share with it."""
    chosen = ["-m", "gpu"] if check.cuda else ["-m", "not gpu", "-k", "cpu"]
    command = [sys.executable, "-m", "pytest", "-v", "-o", "addopts=--strict-markers", "-p", "no:cacheprovider"]
    passed = failed = 0
    with subprocess.Popen([*command, *chosen, *marked()], cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            found = LINE.match(line)
            if found:
                good = found[2] == "PASSED"
                passed, failed = passed + good, failed + (not good)
                check.note(found[1], good, remark=found[2].lower())
    if process.returncode not in (0, 1):  # 1: some failed
        raise RuntimeError(f"pytest ended with status {process.returncode}")
    check.note("tests passed", passed)
    check.note(FAILED, failed)


def run_studies(check: Check) -> None:
    """Take up the long runs, one command after another, until the time is over; finished runs are reused next time."""
    root = check.folder / "study"
    shared = [f"device={check.device}", f"output_root={root}", f"data_root={check.folder / 'data'}"]
    studies, small = STUDIES, list[str]()
    if check.smoke:
        studies = (("forms=[lora]", "tasks=[digits]", "seeds=1"),)
        small = ["backbone=vit_micro", "backbone.pretrained=false", "trainer.epochs=1"]
        small += ["backbone.kwargs={img_size:64,patch_size:16,embed_dim:32,depth:2,num_heads:2}"]
    for words in studies:
        command = ["-m", "tools.winner_study", *words, *shared, "logger.wandb=disabled", *small]
        print("$ python", *command, flush=True)
        status = subprocess.run([sys.executable, *command], cwd=ROOT).returncode
        finished = len(list(root.rglob("result.json")))
        check.note(f"study {' '.join(words)}: finished runs", finished, remark=f"status {status}")
        if status:
            raise RuntimeError(f"the study ended with status {status}")
