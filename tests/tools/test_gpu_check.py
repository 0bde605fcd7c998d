"""The check of a GPU: parts that hang or crash, the record with its goals, and everything at tiny sizes on a CPU."""

import json
import os
import stat
import time
from pathlib import Path

import pytest

from tests.helpers import ROOT
from tests.helpers.commands import forked, fresh
from tools.gpu_check import parts
from tools.gpu_check.check import BATCHES, GOALS, SHARE, THOUSAND, WAITS, Check, merged_name
from tools.gpu_check.commands import STUDIES, marked
from tools.gpu_check.parts import PARTS, Part, run_all
from tools.gpu_check.record import Outcome, Record, state_of
from tools.winner_forms import FORMS


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_what_hangs_or_crashes_is_ended_with_all_it_started_and_keeps_its_figures(tmp_path, monkeypatch):
    helper = "tests.helpers.gpu_parts"
    made = {
        "crash": Part(f"{helper}:crash", 60, 0),
        "hang": Part(f"{helper}:hang", 5, 0),
        "late": Part(f"{helper}:crash", 60, 9999),
    }
    monkeypatch.setattr(parts, "PARTS", made)
    record = Record("the command", "cpu", False, 600)
    run_all(record, made, tmp_path)
    child = int((tmp_path / "child").read_text())
    deadline = time.time() + 10
    while alive(child) and time.time() < deadline:
        time.sleep(0.05)
    assert not alive(child)
    assert record.parts["crash"].status == "failed: RuntimeError: the device fell off the bus"
    assert "Traceback" in record.parts["crash"].log and "Traceback" in (tmp_path / "log.txt").read_text()
    assert record.parts["hang"].status == "cut off after 5 s" and record.parts["late"].status.startswith("not run: ")
    found = json.loads((tmp_path / "record.json").read_text())
    row = {"name": "seen", "value": 3.5, "unit": "ms", "remark": "before it hangs"}
    assert found["parts"]["hang"]["figures"] == [row] and found["versions"]["torch"]
    assert "| hang | seen | 3.5 ms |  |  | before it hangs |" in (tmp_path / "record.md").read_text()


def test_goals_are_met_missed_or_not_measured_and_a_smoke_run_judges_none():
    row = {"unit": "", "remark": "a | b"}
    steps = Outcome(
        "done", 9.6, (345, 1980), [{"name": SHARE, "value": 0.4, **row}, {"name": WAITS, "value": 0, **row}]
    )
    candidates = Outcome("cut off", figures=[{"name": merged_name(1), "value": 1.009, **row}])
    record = Record("x", "cpu", False, 480, {"steps": steps, "candidates": candidates})
    lines = record.lines()
    assert f"| steps | {SHARE} | 0.4 | at least 0.5 | missed | a / b |" in lines
    assert f"| steps | {WAITS} | 0 | at most 0 | met | a / b |" in lines
    assert f"| candidates | {merged_name(1)} | 1.009 | at most 1.01 | met | a / b |" in lines
    assert f"| candidates | {THOUSAND} | | at most 60 | not measured | |" in lines
    assert "| steps | done | 10 | 345 to 1980 |" in lines
    record.smoke = True
    assert not [line for line in record.lines() if "| met |" in line or "| missed |" in line]


def test_the_card_is_read_from_nvidia_smi_under_its_own_number(tmp_path, monkeypatch):
    tool = tmp_path / "nvidia-smi"
    tool.write_text(
        '#!/bin/sh\n[ "$1" = --id=3 ] && echo "NVIDIA H100, 580.1, 81559, 1980, 2619, 1980, 2619, 98.1, 40"\n'
    )
    tool.chmod(tool.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")
    found = state_of("cuda:1")
    assert found["name"] == "NVIDIA H100" and found["clocks.sm"] == "1980" and found["driver_version"] == "580.1"
    assert state_of("cuda:0") == {} == state_of("cpu")


def test_every_goal_belongs_to_a_part_and_every_study_to_the_forms():
    assert {goal.part for goal in GOALS.values()} <= PARTS.keys()
    assert sum(part.limit for name, part in PARTS.items() if name != "study") <= 480
    for words in STUDIES:
        chosen = [w.partition("=")[2].strip("[]").split(",") for w in words if w.startswith("forms=")]
        assert all(form in FORMS for forms in chosen for form in forms)
    assert {"tests/glora/test_devices.py", "tests/runner/stages/test_other_device.py"} <= set(marked())


def test_what_travels_is_what_was_tested():
    def pins(name):
        lines = (ROOT / name).read_text().splitlines()
        return dict(line.replace("_", "-").split("==") for line in lines if "==" in line)

    tested, travels = pins("constraints.txt"), pins("tools/gpu_check/wheels.txt")
    shared = tested.keys() & travels.keys()
    assert len(shared) >= 5 and all(tested[name] == travels[name] for name in shared)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["device=cuda:7"], "device=cuda:7 is not one of cpu"),
        (["device=cpu"], "type smoke=true"),
        (["device=cpu", "smoke=true", "parts=[steps,prayers]"], "parts: prayers is not one of tests, steps"),
        (["device=cpu", "smoke=true", "budget=0"], "budget=0 must be at least 1"),
    ],
)
def test_what_cannot_be_checked_is_one_clear_message(words, message):
    done = forked(["tools/gpu_check/__main__.py", *words])
    assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr


@pytest.mark.slow  # six parts, tiny
def test_every_part_runs_on_a_cpu_at_tiny_sizes_and_gives_its_figures(tmp_path):
    words = ["device=cpu", "smoke=true", "budget=1200", f"output={tmp_path}"]
    done = fresh(["-m", "tools.gpu_check", *words])
    assert done.returncode == 0, done.stdout + (tmp_path / "log.txt").read_text()
    found = json.loads((tmp_path / "record.json").read_text())["parts"]
    assert {name: part["status"] for name, part in found.items()} == dict.fromkeys(PARTS, "done")
    noted = {row["name"]: row["value"] for part in found.values() for row in part["figures"]}
    assert GOALS.keys() - noted.keys() == {WAITS}  # a CPU is never waited for
    assert not [name for name in noted if name.startswith("failed")] and len(BATCHES) == 4
    assert noted["graphs compiled for all subnets"] == 1 and noted["tests passed"] >= 5
    assert noted["study forms=[lora] tasks=[digits] seeds=1: finished runs"] == 1
    assert (tmp_path / "record.md").read_text().count("not judged") == len(GOALS) - 1


def test_a_check_knows_how_long_it_has(tmp_path):
    check = Check("cuda:0", False, tmp_path, "steps", time.time() + 60)
    assert check.cuda and 0 < check.left <= 60
    assert check.setting().backbone == "vit_b16" and check.setting("fp32").precision == "fp32"
