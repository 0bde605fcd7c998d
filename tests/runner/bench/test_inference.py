"""Inference of every method: counts against formulas, the record and the table's files; no time is judged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from glora.methods import METHODS, ordered_methods
from runner.bench import inference
from runner.bench.inference import PLAIN, forward_flops, inference_table, measure_inference
from runner.bench.setting import Setting
from tests.helpers.commands import forked

# Of vit_micro: width, blocks, MLP's width, patches and the class token, pixels of a patch, classes.
WIDTH, BLOCKS, HIDDEN, TOKENS, PATCH, CLASSES = 128, 6, 512, 65, 3 * 8 * 8, 100


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    """Every method that vit_micro takes, once."""
    return measure_inference(Setting(), [], [8, 16], repeats=1)


def test_the_untouched_model_is_counted_as_its_products() -> None:
    linears = 3 * WIDTH * WIDTH + WIDTH * WIDTH + 2 * WIDTH * HIDDEN
    attention = 2 * TOKENS * TOKENS * WIDTH
    products = (TOKENS - 1) * PATCH * WIDTH + BLOCKS * (TOKENS * linears + attention) + WIDTH * CLASSES
    setting = Setting()
    assert forward_flops(setting.model().eval(), setting.images(1)) == 2 * products


@pytest.mark.slow
def test_merged_models_cost_what_the_untouched_one_does_and_others_what_they_add(found: dict[str, Any]) -> None:
    rows = {row["method"]: row for row in found["methods"]}
    assert list(rows) == [m.name for m in ordered_methods()] and not found["not_defined"]
    for name, row in rows.items():
        assert row["merged"] == METHODS[name].mergeable
        if row["merged"]:
            assert row["extra_params"] == row["extra_flops"] == 0, name
        else:
            assert row["extra_params"] == row["tunable"] > 0 < row["extra_flops"], name
    # Adapter: two products of width 8 on every token of every block, with biases.
    assert rows["adapter"]["extra_flops"] == BLOCKS * TOKENS * 2 * (2 * WIDTH * 8)
    assert rows["adapter"]["extra_params"] == BLOCKS * (2 * WIDTH * 8 + 8 + WIDTH)
    # VPT-Deep: so many tokens more in every block; attention grows with their square.
    more, all_tokens = METHODS["vpt_deep"].options()["prompts"], TOKENS + METHODS["vpt_deep"].options()["prompts"]
    linears = 4 * WIDTH * WIDTH + 2 * WIDTH * HIDDEN
    attention = 2 * (all_tokens**2 - TOKENS**2) * WIDTH
    assert rows["vpt_deep"]["extra_flops"] == 2 * BLOCKS * (more * linears + attention)


def test_the_table_has_a_row_for_every_method_beside_the_untouched_model(found: dict[str, Any]) -> None:
    table = inference_table(found)
    assert len(table.rows) == 1 + len(found["methods"]) and table.rows[0][0] == PLAIN
    assert all(len(row) == len(table.header) == 10 for row in table.rows)
    cells = {row[0]: dict(zip(table.header, row, strict=True)) for row in table.rows}
    assert cells["LoRA"]["Model"] == "merged" and cells["LoRA"]["Extra GFLOPs"] == "0"
    assert cells["LoRA"]["GFLOPs"] == cells[PLAIN]["GFLOPs"] and cells["LoRA"]["Tunable"] == "24,576"
    assert cells["NOAH, largest subnet"]["Model"] == "unmerged"
    lora = next(row for row in found["methods"] if row["method"] == "lora")
    both = lora["images_per_second"][8]
    rate = float(cells[PLAIN]["Images/s, batch 8"].replace(",", "")) * both["method"][0] / both["plain"][0]
    assert float(cells["LoRA"]["Images/s, batch 8"].replace(",", "")) == pytest.approx(rate, rel=0.01)
    assert cells["LoRA"]["times untouched, batch 8"].startswith(f"{both['method'][0] / both['plain'][0]:.3f} (")


def test_a_method_that_the_backbone_does_not_take_is_left_out_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inference, "ordered_methods", lambda: [METHODS["noah"], METHODS["linear"]])
    monkeypatch.setattr(inference, "IMAGES", 1)
    found = measure_inference(Setting("swin_tiny_patch4_window7_224"), [], [1], repeats=1)
    assert [row["method"] for row in found["methods"]] == ["linear"]
    assert any("left out: method=noah is defined on ViTs" in note for note in inference_table(found).notes)


def test_the_command_keeps_record_and_table(tmp_path: Path) -> None:
    words = ["methods=[lora,adapter]", "batches=[1,2]", "repeats=2", f"json={tmp_path}/x.json", f"tables={tmp_path}/t"]
    done = forked(["benchmark.py", "inference", *words])
    assert done.returncode == 0, done.stderr
    assert "untouched model" in done.stdout and f"written: {tmp_path}/t/table.tex" in done.stdout
    kept = json.loads((tmp_path / "x.json").read_text())
    assert [row["method"] for row in kept["methods"]] == ["lora", "adapter"] and kept["hardware"]["device"]
    assert kept["command"].startswith("python benchmark.py inference methods=[lora,adapter] batches=[1,2] backbone=")
    rates = kept["methods"][0]["images_per_second"]["2"]
    assert len(rates["plain"]) == len(rates["method"]) == 2 and min(rates["plain"]) > 0
    assert "| LoRA | merged |" in (tmp_path / "t" / "table.md").read_text()
    assert r"\toprule" in (tmp_path / "t" / "table.tex").read_text()
