"""Published numbers are those of the records: README and docs/winner.md say what the tables of results/ say, and the
study makes its table from the records beside it.
"""

import re
import shutil

import pytest

from tests.helpers import ROOT
from tests.helpers.commands import forked

RECORDS = [ROOT / "results" / f"2026-11-{name}" for name in ("25-cpu-mini", "27-cpu-winner", "28-cpu-winner")]
"""What the study's table is made of; the last has the table."""
TASKS = ["digits", "textures", "count", "location", "orientation", "distance"]
Row = dict[str, str]

BASELINES = {"RepAdapter": "repadapter", "FacT-TK": "fact_tk", "FacT-TT": "fact_tt", "LoRA": "lora", "Full": "full",
             "full fine-tuning": "full", "NOAH, searched": "noah", "AdaptFormer": "adaptformer"}  # fmt: skip
README_FORMS = {
    "GLoRA-8-4 as published, searched by accuracy": "glora",
    "the same at the paper's proportion (`trainer=mini_paper`)": "paper",
    "at the paper's proportion, the default search (by probability)": "paper_probability",
    "`glora_plus`: searched and tuned": "plus",
    "the largest subnet of its supernets": "plus_largest",
    "`glora_subnet`: the largest trained alone": "largest",
}


def tables(text: str) -> list[list[Row]]:
    """The Markdown tables of a page, each row by the header's cells; empty cells as `-`."""
    found = []
    for block in re.findall(r"(?:^\|.*\|\n)+", text, flags=re.MULTILINE):
        lines = [re.split(r"(?<!\\)\|", line)[1:-1] for line in block.splitlines()]
        header, _, *rows = [[cell.strip() for cell in line] for line in lines]
        found.append([dict(zip(header, (cell or "-" for cell in row), strict=True)) for row in rows])
    return found


def of_page(row: Row) -> list[str]:
    """The six tasks, average and parameters of a row of a page."""
    return [*(row[task] for task in TASKS), row["average of groups"], row["parameters"]]


@pytest.fixture(scope="module")
def study() -> dict[str, Row]:
    return {row["Form"]: row for row in tables((RECORDS[-1] / "table.md").read_text())[0]}


def shown(row: Row) -> list[str]:
    """The same of a row of results/."""
    return [*list(row.values())[1:7], row["Average"], row["Params"]]


def test_readme_has_the_numbers_of_the_tables(study):
    (readme,) = (t for t in tables((ROOT / "README.md").read_text()) if "average of groups" in t[0])
    first = {row["Method"]: row for row in tables((RECORDS[0] / "table.md").read_text())[0]}
    first["Linear probe"] = first["Linear"]
    for row in readme:
        form = BASELINES.get(row["method"]) or README_FORMS.get(row["method"])
        assert of_page(row) == shown(study[form] if form else first[row["method"]]), row["method"]
    assert len(readme) == 21


def test_the_page_on_the_winner_has_the_numbers_of_the_study(study):
    pages = tables((ROOT / "docs" / "winner.md").read_text())
    (measured,) = (t for t in pages if "form" in t[0] and "seeds" in t[0])
    for row in measured:
        form = BASELINES.get(row["form"]) or re.findall(r"`([a-z_]+)`\)$", row["form"])[0]
        filled = sum(row[task] != "-" for task in TASKS)
        assert of_page(row) == shown(study[form]), form
        assert int(row["seeds"]) * filled == int(study[form]["Runs"]), form
    assert len(measured) == 17
    (differences,) = (t for t in pages if "GLoRA as published" in t[0])
    for row in differences:
        of = study[next(iter(row.values())).strip("`")]
        assert (row["RepAdapter"], row["GLoRA as published"]) == (of["vs repadapter"], of["vs glora"])
    (cost,) = (t for t in pages if "epochs" in t[0])
    named = {form: row for row in cost for form in re.findall(r"\(`([a-z_]+)`\)", row["what"])}
    assert len(named) >= 2 and all(of_page(row) == shown(study[form]) for form, row in named.items())


@pytest.mark.slow
def test_the_study_makes_its_table_from_the_records(tmp_path):
    for directory in RECORDS:
        shutil.copytree(directory, tmp_path, dirs_exist_ok=True)
    done = forked(["tools/winner_study.py", "measure=false", f"output_root={tmp_path}"])
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "winner_study" / "table.md").read_text() == (RECORDS[-1] / "table.md").read_text()
