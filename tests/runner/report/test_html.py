"""The page of a sweep: whole by itself, every number leads to its run, nothing of a run can change the page."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from urllib.parse import unquote
from xml.etree import ElementTree

import pytest
import torch
from PIL import Image

from glora.evaluation import Predictions
from runner.config.errors import ConfigError
from runner.report.page import finish
from runner.report.predictions import PREDICTIONS, confusion, read_examples, write_predictions
from tests.helpers.pages import MakeRun, Page


def page(root: Path, *named: str) -> Page:
    finish([[str(root), n] for n in named or ("",)])
    return Page((root / "report.html").read_text())


def test_every_link_leads_somewhere_and_nothing_is_fetched(tmp_path: Path, finished_run: MakeRun) -> None:
    finished_run(tmp_path, "a", seed=0)
    finished_run(tmp_path, "b", seed=1, test_accuracy=0.9)
    finished_run(tmp_path, "c [1] 50%", method="lora", label="LoRA")
    found = page(tmp_path)
    assert not found.outside
    assert len(set(found.ids)) == len(found.ids)
    inner = [link[1:] for link in found.links if link.startswith("#")]
    assert set(inner) <= set(found.ids)
    folders = {unquote(link) for link in found.links if not link.startswith("#")}
    assert folders == {"digits/a/", "digits/b/", "digits/c [1] 50%/"}
    kinds = [kind for kind, _ in found.pictures]
    assert kinds.count("svg") == 6  # curves and confusion of three runs
    assert kinds.count("data:image/webp;base64") == 6  # two wrong images each
    for kind, data in found.pictures:
        if kind == "svg":
            ElementTree.fromstring(data)


def test_a_picture_that_is_a_png_alone_is_shown_as_it_is(tmp_path: Path, finished_run: MakeRun) -> None:
    drawn = finished_run(tmp_path, "a") / "plots" / "confusion.png"
    drawn.with_suffix(".svg").unlink()
    found = page(tmp_path)
    assert [data for kind, data in found.pictures if kind == "data:image/png;base64"] == [drawn.read_bytes()]
    assert [kind for kind, _ in found.pictures].count("svg") == 1


def test_a_number_leads_to_the_runs_behind_it(tmp_path: Path, finished_run: MakeRun) -> None:
    finished_run(tmp_path, "a", seed=0, test_accuracy=0.8)
    finished_run(tmp_path, "b", seed=1, test_accuracy=0.9)
    finished_run(tmp_path, "c", method="lora", label="LoRA")
    found = page(tmp_path)
    text = (tmp_path / "report.html").read_text()
    rows = {cells[0][0]: dict(zip([c[0] for c in found.rows[0]], cells, strict=True)) for cells in found.rows[1:3]}
    shown, target = rows["GLoRA-8-4"]["Digits (UCI)"]
    assert shown == "85.0 ± 7.1"
    part = text.split(f'id="{target[1:]}"')[1].split("</section>")[0]
    assert "seed 0" in part and "seed 1" in part and "LoRA, digits" not in part.replace("GLoRA-8-4, digits", "")
    assert rows["LoRA"]["Digits (UCI)"][1] != target
    assert rows["GLoRA-8-4"]["Spec"] == ("-", None)
    assert "python train.py dataset=digits &#39;ranks=[8,4]&#39;" in part


def test_a_run_stands_beside_its_comparators(tmp_path: Path, finished_run: MakeRun) -> None:
    beside = {"images": 797, "largest": {"test": 0.7, "params": 99_000},
              "random_subnets": {"subnets": 4, "test_mean": 0.625, "test_sd": 0.1},
              "random_search": {"val": 0.8, "test": 0.75, "params": 9_000}}  # fmt: skip
    finished_run(tmp_path, "a", comparators=beside)
    page(tmp_path)
    text = (tmp_path / "report.html").read_text()
    for title, value in (("the largest subnet", "70.0 %, 99,000 parameters"), ("4 random subnets, mean", "62.5 %"),
                         ("random search", "75.0 %, 9,000 parameters")):  # fmt: skip
        assert f"<dt>{title}</dt><dd>{value}</dd>" in text


def test_what_a_run_is_called_stays_text(tmp_path: Path, finished_run: MakeRun) -> None:
    finished_run(tmp_path, "a", label="<script>alert(1)</script>")
    page(tmp_path)
    assert "<script>alert" not in (tmp_path / "report.html").read_text()


def test_only_what_is_named_is_on_the_page(tmp_path: Path, finished_run: MakeRun) -> None:
    finished_run(tmp_path, "a", seed=0)
    finished_run(tmp_path, "b", seed=1)
    found = page(tmp_path, "digits/b")
    assert [link for link in found.links if not link.startswith("#")] == ["digits/b/"]
    with pytest.raises(ConfigError, match="no finished result of these runs"):
        page(tmp_path, "digits/c")


def test_an_unreadable_result_is_named_and_the_others_are_shown(tmp_path: Path, finished_run: MakeRun) -> None:
    finished_run(tmp_path, "a")
    (finished_run(tmp_path, "b", seed=1) / "result.json").write_text("{")
    with pytest.raises(ConfigError, match="digits/b/result.json"):
        page(tmp_path)
    assert "seed 0" in (tmp_path / "report.html").read_text()


def test_predictions_come_back_as_counts_and_as_the_worst_images(
    tmp_path: Path, labels: torch.Tensor, predictions: Predictions
) -> None:
    images = torch.stack([torch.full((3, 64, 64), 10 * i, dtype=torch.uint8) for i in range(6)])
    write_predictions(tmp_path / PREDICTIONS, predictions, labels, images)
    assert confusion(tmp_path / PREDICTIONS).tolist() == [[1, 1, 0], [0, 2, 0], [1, 0, 1]]
    worst = read_examples(tmp_path / PREDICTIONS)
    assert [(e.index, e.label, e.predicted, e.probability) for e in worst] == [(4, 2, 0, "5.0"), (1, 0, 1, "20.0")]

    shown = Image.open(io.BytesIO(base64.b64decode(worst[0].uri.partition(",")[2])))
    assert shown.size == (64, 64) and shown.getpixel((5, 5)) == (40, 40, 40)
    assert worst[0].thumbnail.getpixel((5, 5)) == (40, 40, 40)


def test_a_run_without_a_mistake_has_no_worst_images(tmp_path: Path, labels: torch.Tensor) -> None:
    right = Predictions(labels.clone(), torch.ones(6))
    write_predictions(tmp_path / PREDICTIONS, right, labels, torch.zeros(6, 3, 8, 8, dtype=torch.uint8))
    assert read_examples(tmp_path / PREDICTIONS) == []
