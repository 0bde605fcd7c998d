"""Weights prove themselves: one flipped bit, another type or a number that is none, and the file is named."""

from __future__ import annotations

import os
import random
import stat
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from data import DataError
from glora.state import check_trained, digest
from runner.config.errors import ConfigError
from runner.rundir.weights import has_weights, read_weights, write_weights

TENSORS = {"head.weight": torch.randn(5, 8), "head.bias": torch.zeros(5), "scale": torch.tensor(2.0)}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write_weights(tmp_path / "weights.safetensors", TENSORS)
    return tmp_path / "weights.safetensors"


def test_weights_are_plain_safetensors_with_the_mode_of_other_files(path):
    assert digest(load_file(path)) == digest(read_weights(path)) == digest(TENSORS)
    path.with_name("other").touch()
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(path.with_name("other").stat().st_mode)
    assert has_weights(path) and not has_weights(path.with_name("absent"))


def test_a_flipped_bit_is_named_or_without_effect(path):
    whole, rng, named = path.read_bytes(), random.Random(0), 0
    for _ in range(400):
        bit = rng.randrange(8 * len(whole))
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        try:
            assert digest(read_weights(path)) == digest(TENSORS)  # of the digest's own name, say
        except ConfigError as error:
            assert str(path) in str(error) and "damaged" in str(error) and "\n" not in str(error)
            named += 1
    assert named > 380


def test_a_digest_tells_names_types_shapes_and_values_apart():
    one = {"a": torch.zeros(4), "b": torch.zeros(2)}
    others = [
        {"a": torch.zeros(4), "c": torch.zeros(2)},
        {"a": torch.zeros(2, 2), "b": torch.zeros(2)},
        {"a": torch.zeros(4, dtype=torch.int32), "b": torch.zeros(2)},
        {"a": torch.zeros(4), "b": torch.tensor([0.0, -0.0])},
        {"a": torch.zeros(4)},
    ]
    assert len({digest(tensors) for tensors in [one, *others]}) == 6
    assert digest(dict(reversed(one.items()))) == digest(one)
    assert digest({"a": torch.zeros(3, 2).T.to(torch.bfloat16)}) == digest({"a": torch.zeros(2, 3).to(torch.bfloat16)})


@pytest.mark.parametrize("value", [torch.tensor([1.0, float("nan")]), torch.tensor([float("inf")]), torch.arange(3)])
def test_old_weights_are_read_without_a_digest_but_only_finite_numbers(tmp_path, value):
    path = tmp_path / "weights.safetensors"
    save_file(TENSORS, path)
    assert digest(read_weights(path)) == digest(TENSORS)
    save_file({"head.weight": value}, path)
    with pytest.raises(ConfigError, match=r"weights\.safetensors is damaged .*head\.weight"):
        has_weights(path)


def test_parameters_take_weights_of_their_own_kind_alone():
    named = {"w": torch.nn.Parameter(torch.ones(3))}
    for odd in (torch.zeros(3, dtype=torch.float64), torch.zeros(3, dtype=torch.int64), torch.full((3,), torch.nan)):
        with pytest.raises(ValueError, match=r"\bw\b"):
            check_trained(named, {"w": odd})


def test_a_pipe_and_a_folder_in_place_of_weights_are_named_and_not_waited_for(path):
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(DataError, match=r"weights\.safetensors is a named pipe"):
        has_weights(path)
    path.unlink()
    path.mkdir()
    with pytest.raises(DataError, match=r"weights\.safetensors is a folder"):
        has_weights(path)


def test_the_library_still_says_what_a_cut_file_is(path):
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(SafetensorError):
        load_file(path)
    with pytest.raises(ConfigError, match="is damaged"):
        read_weights(path)
