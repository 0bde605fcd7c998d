"""The cache file under processes that make it at the same time, and under a limit on file sizes."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from data import DataError
from data.base import usable_cpus
from data.cache import read_split, write_split
from data.native import read_images, write_images
from tests.helpers import ROOT
from tests.helpers.vtab_raw import write_noah

MAKER = """
import sys, time
from pathlib import Path
import numpy as np
from data.cache import write_split
path, go = Path(sys.argv[1]), Path(sys.argv[2])
def get(i):
    sys.stdout.write("decoding\\n")  # one write: threads that print() mix their lines
    sys.stdout.flush()
    while not go.exists():
        time.sleep(0.01)
    return np.full((3, 8, 8), i, np.uint8), i
print(write_split(path, 3, 8, get, {"source": "raw", "codec": "raw", "resize": "bicubic"}, 3), flush=True)
"""


def start(*args: object) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen([sys.executable, "-c", MAKER, *map(str, args)], env=environment, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE)  # fmt: skip


def test_a_second_process_waits_and_does_not_decode_again(tmp_path: Path) -> None:
    path, go = tmp_path / "test.safetensors", tmp_path / "go"
    first = start(path, go)
    assert first.stdout and first.stdout.readline() == "decoding\n"
    second = start(path, go)
    assert second.stderr and second.stderr.readline() == f"{path} is being made by another process; waiting for it\n"
    go.touch()
    assert second.communicate(timeout=60) == ("False\n", "")
    assert first.communicate(timeout=60)[0].splitlines()[-1] == "True"
    assert read_split(path, "").images[:, 0, 0, 0].tolist() == [0, 1, 2]


def test_a_killed_maker_holds_up_nobody(tmp_path: Path) -> None:
    path, go = tmp_path / "test.safetensors", tmp_path / "go"
    first = start(path, go)
    assert first.stdout and first.stdout.readline() == "decoding\n"
    first.kill()
    first.communicate()
    go.touch()
    second = start(path, go)
    out, err = second.communicate(timeout=60)
    assert out.splitlines()[-1] == "True" and "waiting" not in err
    assert len(read_split(path, "").labels) == 3 and not list(tmp_path.glob("*.part"))


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, code: int
) -> None:
    def flock(stream: object, operation: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", flock)
    monkeypatch.setattr("data.cache._without_locks", set())
    info = {"source": "raw", "codec": "raw", "resize": "bicubic"}
    image = np.arange(192, dtype=np.uint8).reshape(3, 8, 8)
    for name in "ab":
        assert write_split(tmp_path / f"{name}.safetensors", 2, 8, lambda i: (image, i), info, 2)
    (warning,) = caplog.messages  # once, however many folders lie on it
    assert os.strerror(code) in warning and "are not kept apart" in warning and str(tmp_path) in warning


def test_without_the_calls_of_linux(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "posix_fallocate")
    monkeypatch.delattr(os, "sched_getaffinity")
    assert usable_cpus() == os.cpu_count()

    info = {"source": "raw", "codec": "raw", "resize": "bicubic"}

    def make() -> bool:
        return write_split(tmp_path / "a.safetensors", 2, 8, lambda i: (np.zeros((3, 8, 8), np.uint8), i), info, 2)

    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=100))
    with pytest.raises(DataError, match="No space left on device.*GB are needed"):
        make()
    monkeypatch.undo()
    monkeypatch.delattr(os, "posix_fallocate")
    assert make() and not make()


def test_a_place_that_cannot_be_is_asked_for_and_no_space(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    info = {"source": "raw", "codec": "raw", "resize": "bicubic"}
    with pytest.raises(DataError, match=r"a\.safetensors \(Not a directory\); set data_root=$"):
        write_split(tmp_path / "file" / "x" / "a.safetensors", 1, 8, lambda i: (np.zeros((3, 8, 8)), 0), info, 1)


OTHERS: dict[str, tuple[str, Callable[[torch.Tensor], torch.Tensor]]] = {
    "labels float64": ("labels", lambda t: t.double()),
    "labels int32": ("labels", lambda t: t.int()),
    "labels (1, 3)": ("labels", lambda t: t[None]),
    "images (3, 3, 16, 4)": ("images", lambda t: t.view(3, 3, 16, 4)),
    "images (9, 1, 8, 8)": ("images", lambda t: t.view(9, 1, 8, 8)),
    "images int8": ("images", lambda t: t.view(torch.int8)),
}


@pytest.mark.parametrize("other", OTHERS)
def test_tensors_of_another_kind_with_the_same_hash_are_damage(other: str, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    image = np.arange(192, dtype=np.uint8).reshape(3, 8, 8)
    info = {"source": "raw", "codec": "raw", "resize": "bicubic"}
    write_split(path, 3, 8, lambda i: (image, i), info, 3)
    tensors = load_file(path)
    name, change = OTHERS[other]
    save_file({**tensors, name: change(tensors[name]).contiguous()}, path)
    said = other.split(maxsplit=1)[1]
    with pytest.raises(DataError, match=rf"a\.safetensors is damaged \(its {name} are .*{re.escape(said)}.*\); again"):
        read_split(path, "again")


@pytest.mark.parametrize("name", ["offsets", "shapes", "labels"])
def test_images_of_any_size_lie_where_their_shapes_say(name: str, tmp_path: Path) -> None:
    files = [tmp_path / f"{i}.png" for i in range(2)]
    for i, file in enumerate(files):
        Image.fromarray(np.full((4 + i, 6, 3), 50 * i, np.uint8)).save(file)
    path = tmp_path / "a.safetensors"
    write_images(path, [(file, i) for i, file in enumerate(files)], {"source": "x", "codec": "raw", "resize": "native"})
    tensors = load_file(path)
    save_file({**tensors, name: tensors[name] + 0.0 if name == "labels" else tensors[name].flip(0)}, path)
    if name == "offsets":
        assert np.asarray(read_images(path, "").image(1)).tolist() == np.full((5, 6, 3), 50).tolist()
    else:
        with pytest.raises(DataError, match="is damaged"):
            read_images(path, "")


def test_a_file_that_may_not_grow_is_one_clear_error_and_leaves_nothing(tmp_path: Path) -> None:
    """As on a full disk; the limit is the kernel's."""
    write_noah(tmp_path / "vtab-1k", "kitti_dist", "kitti")
    args = [sys.executable, "prepare.py", "dataset=kitti_dist", "source=noah", f"data_root={tmp_path}"]
    limit = 750 * 3 * 224 * 224  # one byte a pixel: train800 does not fit

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    done = subprocess.run(args, cwd=ROOT, capture_output=True, text=True, preexec_fn=limited)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "train800.safetensors (File too large); 0.12 GB are needed" in done.stderr
    assert {p.suffix for p in (tmp_path / "vtab").rglob("*") if p.is_file()} == {".lock"}
