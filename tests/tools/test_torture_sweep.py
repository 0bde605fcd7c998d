"""One sweep, killed twice and with a job that fails, held against itself undisturbed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tools import torture_sweep
from tools.torture.fingerprint import difference, fingerprint


@pytest.mark.slow
def test_the_attack_in_small_finds_no_difference(tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert torture_sweep.main(["--engines", "local", "--tasks", "digits", "--epochs", "2", "--out", str(out)]) == 0
    record = json.loads((out / "record.json").read_text())
    found = record["engines"]["local"]
    assert record["jobs"] == found["results"] == 8 and found["statuses"] == [-9, 143, 2, 0]
    assert found["difference"] is None and found["touched_again"] == []
    assert found["failed_said"].startswith("1 of 8 jobs failed")


def test_a_folder_that_is_there_is_refused_and_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "kept").touch()
    with pytest.raises(SystemExit) as end:
        torture_sweep.main(["--out", str(tmp_path)])
    assert end.value.code == 2 and "delete it or choose another" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["kept"]


@pytest.mark.parametrize(
    ("engine", "lacking"), [("ray", "needs ray"), ("submitit", "needs submitit"), ("submitit_slurm", "no sbatch")]
)
def test_an_engine_that_is_not_here_is_refused_before_anything_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, engine: str, lacking: str
) -> None:
    monkeypatch.setattr(torture_sweep, "find_spec", lambda _: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SystemExit) as end:
        torture_sweep.main(["--engines", "local", engine, "--out", str(tmp_path / "out")])
    assert end.value.code == 2 and lacking in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_what_is_compared_is_of_runs_and_a_run_written_again_is_seen(tmp_path: Path) -> None:
    for root, words in (("whole", "{}"), ("other", '{"seed": 1}')):
        folder = tmp_path / root / "digits" / "run"
        folder.mkdir(parents=True)
        (folder / "weights.safetensors").touch()
        (folder / "result.json").write_text(words)
        (tmp_path / root / "tables").mkdir()
        for name in (f"tables/{root}.md", f"digits/run/{root}.log"):  # of calls and of attempts
            (tmp_path / root / name).touch()
    whole, other = (torture_sweep.of_runs(fingerprint(tmp_path / root)) for root in ("whole", "other"))
    assert difference(other, whole) == "digits/run/result.json is another"
    before = torture_sweep.results(tmp_path / "other")
    assert list(before) == ["digits/run"]
    (tmp_path / "other/digits/run/result.json").write_text("{}")
    assert torture_sweep.results(tmp_path / "other") != before
    assert difference(torture_sweep.of_runs(fingerprint(tmp_path / "other")), whole) is None
