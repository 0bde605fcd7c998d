"""Real failures of disks and allocators, each as one line with the file or with what to lower; a bug stays a bug."""

import errno
import logging
import os
import re
import resource
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import save_file

from runner.config.errors import ConfigError
from runner.failures import BUG, LOWER, MISTAKE, explained, naming, report
from runner.tracking import standing
from runner.tracking.progress import Progress, log_file
from tests.helpers.composing import composed


@pytest.fixture(autouse=True)
def _in_a_run(tmp_path):
    standing.begin(tmp_path)
    yield
    standing.begin()


TENSORS = {"a": torch.zeros(100_000)}


@contextmanager
def files_up_to(size):
    """The system refuses to let a file of this process grow beyond so many bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def to_a_stream(folder):
    with (folder / "x.pt").open("wb") as stream:
        torch.save(TENSORS, stream)


WRITERS = {
    "torch": lambda folder: torch.save(TENSORS, folder / "x.pt"),
    "torch, to a stream": to_a_stream,
    "torch, no folder": lambda folder: torch.save(TENSORS, folder / "gone" / "x.pt"),
    "safetensors": lambda folder: save_file(TENSORS, folder / "x.safetensors"),
    "safetensors, no folder": lambda folder: save_file(TENSORS, folder / "gone" / "x.safetensors"),
    "text": lambda folder: (folder / "x.json").write_text("x" * 100_000),
    "no folder": lambda folder: (folder / "gone" / "x.json").write_text("x"),
    "under a file": lambda folder: (folder / "file" / "x").mkdir(parents=True),
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_disk_that_refuses_is_one_line_with_the_place(tmp_path, name):
    (tmp_path / "file").touch()
    with pytest.raises(Exception) as found, files_up_to(20_000):
        WRITERS[name](tmp_path)
    text = explained(found.value)
    assert text is not None and str(tmp_path) in text and "\n" not in text, (found.value, text)
    assert "again" in text or "output_root=" in text


@pytest.mark.parametrize(
    "allocate",
    [lambda: torch.empty(10**15), lambda: np.empty(10**15), lambda: bytearray(10**15)],
    ids=["torch", "numpy", "python"],
)
def test_memory_that_is_not_there_says_what_to_lower(allocate):
    with pytest.raises((RuntimeError, MemoryError)) as found:
        allocate()
    text = explained(found.value)
    assert text is not None and text.startswith("out of memory") and "\n" not in text
    assert all(word in text for word in ("trainer.batch_size", "image_size", "ranks", "search."))


def test_what_it_says_to_lower_can_be_typed():
    keys = re.findall(r"\b[a-z]+\.[a-z_]+", LOWER)
    assert len(keys) >= 3
    for key in keys:
        assert OmegaConf.select(composed("dataset=digits"), key, default="unknown") != "unknown", key


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a capacity of 79 GiB."),
        RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("can't start new thread"),
        OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)),
    ],
    ids=str,
)
def test_so_does_memory_that_only_a_gpu_or_the_system_runs_out_of(error):
    text = explained(error)
    assert text is not None and text.startswith("out of memory") and "trainer.batch_size" in text and "\n" not in text


def test_a_name_is_given_to_what_an_open_file_says(tmp_path):
    path = tmp_path / "metrics.jsonl"
    with pytest.raises(OSError) as found, files_up_to(10), naming(path), path.open("a") as file:
        file.write("x" * 100)
    assert str(path) in explained(found.value)


@pytest.mark.parametrize("error", [KeyError("x"), RuntimeError("mat1 and mat2"), OSError("made up"), ValueError()])
def test_what_nobody_foresaw_is_a_bug_with_its_traceback(error, capsys):
    def stage():
        raise error

    with pytest.raises(type(error)) as found:
        stage()
    text, status = report(found.value)
    said = capsys.readouterr().err
    assert status == BUG != MISTAKE and type(error).__name__ in text
    assert "Traceback" in said and "in stage" in said and "report it" in said


def test_a_log_that_the_disk_refuses_ends_the_run_by_name(tmp_path, capsys):
    logger = logging.getLogger("glora.test")
    logging.getLogger("glora").setLevel(logging.INFO)
    path = tmp_path / "train.log"
    with pytest.raises(OSError) as found, files_up_to(1000), log_file(path):
        for _ in range(100):
            logger.info("a line of the log")
    assert str(path) in explained(found.value)
    assert "Logging error" not in capsys.readouterr().err
    assert not [h for h in logging.getLogger().handlers if getattr(h, "baseFilename", "") == str(path)]


@pytest.mark.parametrize(
    ("error", "bug", "last"),
    [
        (KeyError("x"), True, "KeyError: 'x'"),
        (ConfigError("a mistake"), False, "a mistake"),
        (KeyboardInterrupt(), False, "epoch 3 of 6 is kept; the same command goes on from there"),
    ],
)
def test_what_ends_a_stage_stands_last_in_its_log(tmp_path, error, bug, last):
    with (
        pytest.raises(type(error)),
        log_file(tmp_path / "train.log"),
        Progress("digits", 6, 2) as progress,
    ):
        progress.step("")
        raise error
    text = Path(tmp_path / "train.log").read_text()
    assert text.rstrip().endswith(last) and ("Traceback" in text) == bug
