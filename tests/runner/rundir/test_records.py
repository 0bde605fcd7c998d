"""Every kind of JSON that is read back: damage is one line that names file and key, or the file means what it says."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data.base import DataError
from data.cache import read_info
from data.shots import ListInfo
from glora import LayerSpec, SearchSpace
from glora.methods.glora_subnet import GLoRASubnet
from glora.methods.noah_space import NOAHSpace
from glora.search import EvolutionSearch, Measured, State, sealed
from glora.winner import soup
from runner.config.errors import ConfigError
from runner.report.result import collect, read_result
from runner.rundir.records import Best, Clock, Grid, Summary, Tried, read, read_subnet, read_winner
from runner.tracking.metrics import read_metrics
from runner.tracking.outcomes import Left
from tests.helpers.records import record

SPACE = SearchSpace((LayerSpec("fc1", 8, 8), LayerSpec("fc2", 8, 8, bias=False)), (8, 4))
NOAH = NOAHSpace(4, 8)


def searched() -> EvolutionSearch[Any]:
    return EvolutionSearch(SPACE, lambda s: Measured(0.5, 1.5), generations=3, population=4, mutants=2, crossovers=1)


def state(generations: int = 2) -> dict[str, Any]:
    """Of the search after so many of its three generations."""
    search = searched()
    for _ in range(generations):
        search.step()
    return search.state()


EPOCH = {"epoch": 0, "loss": 1.5, "lr": 0.01, "seconds": 2.5, "train_accuracy": 0.5, "val/accuracy": 0.25}
BEST = {"search": "evolution", "winner": "soup", "val_accuracy": 0.5, "params": 30, "images": 200,
        "random_search": {"val": 0.25, "params": 20}, "members": 2}  # fmt: skip
OUTCOME = {"value": "out", "error": None, "status": 0, "passed_over": False, "words": "seed=1"}
POINT = {"point": {"lr": 0.5}, "val_accuracy": 0.5, "val": {"accuracy": 0.5}, "seconds": 1.5}
INFO = {"schema": 1, "count": 3, "content_hash": "ab", "source": "raw", "codec": "raw", "resize": "bicubic",
        "lists": "cd", "doubled_lines": 0, "overlap": [1]}  # fmt: skip
FULL = record(comparators={"images": 9, "largest": {"test": 0.5, "params": 9}, "random_search": {"val": 0.5}},
              environment={"device": "cpu", "threads": 2}, training_seconds=1.5)  # fmt: skip
MIXED = soup(SPACE, [c for s in [searched()] for c in s.step()], 3)

KINDS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "subnet": (SPACE.to_json(SPACE.largest), lambda p: read_subnet(SPACE, p.parent, p.stem.removeprefix("subnet_"))),
    "soup": (SPACE.to_json(MIXED), lambda p: read_subnet(SPACE, p.parent, p.stem.removeprefix("subnet_"))),
    "noah": (NOAH.to_json(NOAH.largest), lambda p: read_subnet(NOAH, p.parent, p.stem.removeprefix("subnet_"))),
    "glora_subnet": (SPACE.to_json(SPACE.largest), lambda p: GLoRASubnet.check_options({"subnet": str(p)})),
    "state": (json.dumps(sealed(state())), lambda p: searched().load_state(read(p, State, "delete it"))),
    "best": (json.dumps(BEST), lambda p: read(p, Best)),
    "clock": (json.dumps({"seconds": 1.5}), lambda p: read(p, Clock)),
    "summary": (json.dumps({"data_hash": "ab", "images": 8, "seconds": 2.5, "rows": [EPOCH]}),
                lambda p: read(p, Summary)),
    "point": (json.dumps(POINT), lambda p: read(p, Tried)),
    "grid": (json.dumps({"chosen": {"lr": 0.5}, "points": [POINT]}), lambda p: read(p, Grid)),
    "result": (json.dumps(FULL), read_result),
    "outcome": (json.dumps(OUTCOME), lambda p: read(p, Left)),
    "cache": (json.dumps(INFO), read_info),
    "metrics": (json.dumps({"step": 1, **EPOCH}), read_metrics),
}  # fmt: skip


def places(value: object, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths to everything in a JSON value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [*([at] if at else []), *(p for key, part in inner for p in places(part, (*at, key)))]


NESTED: Any = 0
for _ in range(300):
    NESTED = [NESTED]
STRANGE = [None, "text", "", -1, -0.5, 10**30, 1e300, float("nan"), float("inf"), True, 2.5, [], {}, NESTED, "lora_64"]


@st.composite
def damaged(draw: st.DrawFn) -> tuple[str, bytes]:
    """A kind of file, and a valid one of it with one thing wrong."""
    kind = draw(st.sampled_from(sorted(KINDS)))
    text = KINDS[kind][0]
    how = draw(st.sampled_from(["drop", "replace", "replace", "truncate", "flip"]))
    if how == "truncate":
        return kind, text.encode()[: draw(st.integers(0, len(text)))]
    if how == "flip":
        raw = bytearray(text.encode())
        raw[draw(st.integers(0, len(raw) - 1))] ^= 1 << draw(st.integers(0, 7))
        return kind, bytes(raw)
    value = json.loads(text)
    *way, last = draw(st.sampled_from(places(value)))
    part = value
    for key in way:
        part = part[key]
    if how == "drop":
        del part[last]
    else:
        part[last] = draw(st.sampled_from(STRANGE))
    return kind, json.dumps(value).encode()


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_written_is_read(kind: str, tmp_path: Path) -> None:
    text, reader = KINDS[kind]
    path = tmp_path / f"subnet_{kind}.json"
    for before in (b"", b"\xef\xbb\xbf") if kind not in ("metrics", "cache") else (b"",):
        path.write_bytes(before + text.encode())
        reader(path)


@given(damaged())
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damage_is_one_line_or_means_what_it_says(tmp_path: Path, found: tuple[str, bytes]) -> None:
    kind, raw = found
    path = tmp_path / f"subnet_{kind}.json"
    path.write_bytes(raw)
    try:
        KINDS[kind][1](path)
    except (ConfigError, DataError, ValueError) as error:
        said = str(error)
        assert "\n" not in said and said.isprintable() and len(said) < 700
        # What is of no file by itself is given the file's name by its caller.
        assert str(path) in said or kind in ("glora_subnet", "state")


@pytest.mark.parametrize("key", [k for k in BEST if k not in ("members", "winner")])
@pytest.mark.parametrize("value", [None, [], {"a": 1}, -1, 10**30, "x/../../y"])
def test_a_value_of_another_kind_is_named_with_its_key_and_remedy(key: str, value: object, tmp_path: Path) -> None:
    path = tmp_path / "best.json"
    path.write_text(json.dumps(BEST | {key: value}))
    with pytest.raises(ConfigError, match=rf"{path} (has|lacks|is wrong at) .*{key}.*; delete it, and run search\.py"):
        read(path, Best)


@pytest.mark.parametrize(
    ("layer", "tensor", "option"), [("fc1", 0, "lora_64"), ("fc1", 3, "lora_8"), ("fc2", 3, "vector")]
)
def test_an_option_outside_the_space_is_no_subnet(layer: str, tensor: int, option: str, tmp_path: Path) -> None:
    raw = json.loads(SPACE.to_json(SPACE.smallest))
    raw[layer][tensor] = option
    path = tmp_path / "subnet_evolution.json"
    path.write_text(json.dumps(raw))
    said = f"{layer}: {'ABCDE'[tensor]}={option} is not in the space"
    with pytest.raises(ConfigError, match=rf"{path} holds no subnet of this model \({said}"):
        read_subnet(SPACE, tmp_path, "evolution")
    with pytest.raises(ValueError, match=said):
        SPACE.decode({"layers": list(raw.values())})


def test_the_gates_of_a_winner_are_averages(tmp_path: Path) -> None:
    (tmp_path / "best.json").write_text(json.dumps(BEST))
    raw = json.loads(SPACE.to_json(MIXED))
    path = tmp_path / "winner.json"
    path.write_text(json.dumps(raw))
    assert read_winner(SPACE, tmp_path) == MIXED
    raw["layers"]["fc1"]["E"]["vector"] = 1.5
    path.write_text(json.dumps(raw))
    with pytest.raises(ConfigError, match=r"winner\.json holds no subnet of this model \(its gates are averages"):
        read_winner(SPACE, tmp_path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"accuracy": 1e30}, r"candidates\.1\.accuracy=1e\+30 .*less than or equal to 1"),
        ({"accuracy": float("nan")}, r"candidates\.1\.accuracy=nan .*finite"),
        ({"loss": -1.0}, r"candidates\.1\.loss"),
        ({"params": -5}, r"candidates\.1\.params=-5"),
        ({"params": 5}, "candidate 1 has .* parameters, not 5"),
        ({"generation": 2}, "not in the order"),
        ({"layers": [["lora_64"] + ["none"] * 4] * 2}, "A=lora_64 is not in the space"),
        ({"layers": state()["candidates"][0]["layers"], "params": state()["candidates"][0]["params"]}, "twice"),
    ],
)
def test_a_state_is_of_its_search_or_refused(change: dict[str, Any], said: str, tmp_path: Path) -> None:
    raw = state()
    raw["candidates"][1] |= change
    search = searched()
    with pytest.raises(ValueError, match=said):
        search.load_state(raw)
    assert not search.candidates and search.generation == 0


@pytest.mark.parametrize(("key", "value"), [("generation", 99), ("generation", 1), ("generation", -1)])
def test_a_state_of_another_budget_is_refused(key: str, value: int) -> None:
    with pytest.raises(ValueError, match=r"99 generations|are of generation 1, and 1|generation=-1"):
        searched().load_state(state() | {key: value})
    small = EvolutionSearch(SPACE, lambda s: 0.5, generations=3, population=3)
    with pytest.raises(ValueError, match="this search has 3 of 3"):
        small.load_state(state())


@pytest.mark.parametrize("left", [[], state()["candidates"][4:]])
def test_a_state_without_its_first_generation_is_refused(left: list[Any]) -> None:
    with pytest.raises(ValueError, match="2 generations are done, and no candidate is of the first"):
        searched().load_state(state() | {"candidates": left})


def test_a_state_on_the_disk_proves_itself(tmp_path: Path) -> None:
    path, other = tmp_path / "evolution.json", sealed(state())
    other["candidates"].pop()  # what is left is a state as well
    searched().load_state({key: value for key, value in other.items() if key != "sha256"})  # of an early version
    path.write_text(json.dumps(other))
    with pytest.raises(ConfigError, match=r"evolution\.json is wrong: it is damaged, its digest .*; delete it"):
        read(path, State, "delete it")


def test_a_loss_that_is_not_finite_survives_in_json() -> None:
    bad = random.Random(0)
    search = EvolutionSearch(SPACE, lambda s: Measured(0.5, bad.choice((float("nan"), float("inf"), 1.0))),
                             generations=2, population=6)  # fmt: skip
    search.step()
    again = EvolutionSearch(SPACE, lambda s: 0.5, generations=2, population=6)
    again.load_state(json.loads(json.dumps(search.state(), allow_nan=False)))
    assert [(c.worth("loss"), c.subnet) for c in again.candidates] == [
        (c.worth("loss"), c.subnet) for c in search.candidates
    ]


def test_results_that_do_not_fit_leave_the_others(tmp_path: Path) -> None:
    wrong: dict[str, dict[str, Any]] = {
        "a": {"test_accuracy": 12.5}, "b": {"val_accuracy": "high"}, "c": {"params": -3}, "d": {"seed": None},
        "e": {"comparators": {"random20": {"test_mean": 0.5}}}, "f": {"suite": "few_shot"}, "g": {"schema": 4},
        "h": {"environment": {"threads": "two"}}, "i": {"suite": "domain_generalization"},
        "j": {"environment": {"threads": 2}}, "k": {"schema": 2, "family": "vit", "mark": ""},
        "l": {"schema": 2, "comparators": {"random_search": {"val": 0.5, "test": 0.5}}},
        "m": {"schema": 2, "search": "evolution-a", "search_seconds": 3.0,
              "comparators": {"largest": {"test": 0.5, "params": 9}}},
        "n": {"comparators": {"random_subnets": {"test_mean": 0.5, "test_sd": 0.1}}}, "o": {},
    }  # fmt: skip
    for name, change in wrong.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "result.json").write_text(json.dumps(record() | {"latency_ms": 3} | change))
    records, problems = collect(tmp_path)
    assert [r["latency_ms"] for r in records] == [3] and records[0]["test_accuracy"] == record()["test_accuracy"]
    assert [p.partition("/result.json")[0] for p in problems] == [str(tmp_path / n) for n in list(wrong)[:-1]]
    assert all(p.endswith("run evaluate.py with the same overrides again") for p in problems)
    assert "schema 4, this version reads 1 to 3; update the code" in problems[6]
    assert "lacks environment.device" in problems[9] and "a result of schema 2 has comparable, resize" in problems[10]
    assert "search_seconds where it has comparators.random_search" in problems[11]
    assert "comparators.random_search beside the time of a search" in problems[12]
    assert "lacks comparators.random_subnets.subnets" in problems[13]


def test_the_random_subnets_of_earlier_results_were_twenty(tmp_path: Path) -> None:
    drawn = {"test_mean": 0.5, "test_sd": 0.1}
    (tmp_path / "result.json").write_text(json.dumps(record() | {"comparators": {"images": 9, "random20": drawn}}))
    (read,), problems = collect(tmp_path)
    assert read["comparators"] == {"images": 9, "random_subnets": {"subnets": 20, **drawn}} and not problems


def test_a_chosen_point_is_one_that_was_tried(tmp_path: Path) -> None:
    path = tmp_path / "grid.json"
    for chosen in ({"lr": 0.25}, {}):
        path.write_text(json.dumps({"chosen": chosen, "points": [POINT]}))
        with pytest.raises(ConfigError, match=r"grid\.json is wrong: the chosen .*; delete it, and run train\.py"):
            read(path, Grid)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "best.json")
    with pytest.raises(DataError, match=r"best\.json is a named pipe, not a file"):
        read(tmp_path / "best.json", Best)
    with pytest.raises(ValueError, match="it is no regular file"):
        GLoRASubnet.check_options({"subnet": str(tmp_path / "best.json")})


def test_lines_of_a_log_that_do_not_fit_are_left_out_and_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "metrics.jsonl"
    lines = ['{"step": 1, "loss": NaN}', '{"step": null}', '{"step": 2, "epoch": "1"}', "[1]", '{"step": 3']
    path.write_text("\n".join(lines))
    assert [r["step"] for r in read_metrics(path)] == [1]
    assert all(f"{path}:{number} " in caplog.text for number in (2, 3, 4, 5))


def test_indices_of_a_list_count_from_zero(tmp_path: Path) -> None:
    assert ListInfo.model_validate(INFO).overlap == [1]
    with pytest.raises(ValueError, match="overlap"):
        ListInfo.model_validate(INFO | {"overlap": [-1]})
