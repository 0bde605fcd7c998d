"""Accuracy over batches: prepared one ahead, and kept where they fit."""

import threading

import pytest
import torch
from torch import nn

from glora import evaluation
from glora.evaluation import Batches, accuracy, score

CPU = torch.device("cpu")
IMAGES = torch.arange(10, dtype=torch.uint8).view(10, 1, 1, 1).expand(10, 3, 2, 2).contiguous()


class Preparing:
    """Halves its images and says in which thread, and of how many images, each time."""

    def __init__(self):
        self.calls, self.begun = [], {}

    def __call__(self, images):
        first = int(images[0, 0, 0, 0])
        self.calls.append((threading.current_thread().name.split("_")[0], len(images)))
        self.begun.setdefault(first, threading.Event()).set()
        return images.float() / 2


def test_the_next_batch_is_prepared_while_the_current_one_is_in_use():
    prepare, seen = Preparing(), []
    for start in range(0, 10, 4):
        prepare.begun[start] = threading.Event()
    for start, batch in zip(range(0, 10, 4), Batches(IMAGES, prepare, CPU, 4), strict=True):
        seen.append(batch)
        if start + 4 < 10:
            assert prepare.begun[start + 4].wait(30)
    assert torch.equal(torch.cat(seen), IMAGES.float() / 2)
    assert prepare.calls == [("batches", 4), ("batches", 4), ("batches", 2)]


@pytest.mark.parametrize(("keep", "limit", "times"), [(True, 1 << 30, 1), (True, 100, 3), (False, 1 << 30, 3)])
def test_batches_are_kept_if_asked_and_if_they_fit(keep, limit, times, monkeypatch):
    monkeypatch.setattr(evaluation, "KEPT_BYTES", limit)
    prepare = Preparing()
    batches = Batches(IMAGES, prepare, CPU, 4, keep)
    assert all(torch.equal(torch.cat(list(batches)), IMAGES.float() / 2) for _ in range(3))
    assert len(prepare.calls) == 3 * times


def test_batches_of_an_unfinished_iteration_are_not_taken_for_all():
    batches = Batches(IMAGES, Preparing(), CPU, 4, keep=True)
    next(iter(batches))
    assert sum(map(len, batches)) == 10


def test_a_fault_in_preparing_reaches_the_caller():
    def prepare(images):
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        list(Batches(IMAGES, prepare, CPU))


@pytest.mark.parametrize("size", [1, 3, 5, 10, 64])
def test_accuracy_counts_every_image_once_and_leaves_the_mode(size):
    class Threshold(nn.Module):
        def forward(self, x):
            assert not self.training and not torch.is_grad_enabled()
            return torch.stack([3.2 - x[:, 0, 0, 0], x[:, 0, 0, 0] - 3.2], 1)

    labels = torch.tensor([0, 0, 0, 0, 0, 0, 0, 1, 0, 0])  # the threshold lies between 6 and 7
    model = Threshold().train()
    assert accuracy(model, IMAGES, labels, lambda x: x.float() / 2, size) == 0.8
    assert model.training


def test_precision_reaches_the_model():
    model, found = nn.Sequential(nn.Flatten(), nn.Linear(12, 2)), []
    model.register_forward_hook(lambda m, i, out: found.append(out.dtype))
    for precision in (torch.float32, torch.bfloat16):
        score(model, [torch.randn(4, 3, 2, 2)], torch.zeros(4, dtype=torch.long), precision)
    assert found == [torch.float32, torch.bfloat16]


@pytest.mark.gpu
def test_batches_made_on_a_stream_of_their_own_are_whole_when_used():
    images, labels = torch.randint(0, 256, (700, 3, 64, 64), dtype=torch.uint8), torch.zeros(700, dtype=torch.long)
    device = torch.device("cuda")
    batches = Batches(images, lambda x: x.to(device).float() / 2, device, 64)
    for start, batch in zip(range(0, 700, 64), batches, strict=True):
        assert torch.equal(batch.cpu(), images[start : start + 64].float() / 2)
    with torch.cuda.device(device):
        assert score(nn.Sequential(nn.Flatten(), nn.Linear(12288, 1)).to(device), batches, labels.to(device)) == 1.0
