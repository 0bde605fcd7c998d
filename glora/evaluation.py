"""Accuracy and loss over any number of images: a batch is prepared while the model computes the one before."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glora.product import in_precision
from glora.search.selection import Measured

Pair = tuple[Tensor, Tensor]


class Predictions(NamedTuple):
    """Of N images, on the CPU: top-1 `classes` (N,) int64 and the `probability` (N,) float32 of each one's label."""

    classes: Tensor
    probability: Tensor


KEPT_BYTES = 2 << 30
"""How much model input `Batches` keeps at most; beyond, it prepares batches anew each time."""


class Batches:
    """Images as batches of model input, each prepared in a thread of its own while the one before is computed with.

    Reading from disk, the copy to the device and the normalisation then overlap with the model's work.

    Args:
        images: (N, 3, h, w) uint8, in memory, memory-mapped or on the device.
        prepare: maps a batch of them to model input on the device.
        device: where the model is. On CUDA the batches are prepared on a stream of their own.
        size: images per batch.
        keep: keep the prepared batches for the next iteration, where they fit into `KEPT_BYTES`; the candidates of a
            search share one such object.
    """

    def __init__(
        self,
        images: Tensor,
        prepare: Callable[[Tensor], Tensor],
        device: torch.device,
        size: int = 256,
        keep: bool = False,
    ) -> None:
        self.images, self.prepare, self.size = images, prepare, size
        on_cuda = device.type == "cuda"
        self._stream = torch.cuda.Stream(device) if on_cuda else None
        self._keep = keep
        self._kept: list[Tensor] | None = None

    def __iter__(self) -> Iterator[Tensor]:
        """The batches in order; the last may be smaller."""
        if self._kept is not None:
            yield from self._kept
            return
        done: list[Tensor] = []
        for batch in self._prepared():
            if self._keep and batch.nbytes * len(self.images) <= KEPT_BYTES * len(batch):
                done.append(batch)
            yield batch
        if done:
            self._kept = done

    def _prepared(self) -> Iterator[Tensor]:
        starts = range(0, len(self.images), self.size)
        with ThreadPoolExecutor(1, "batches") as pool:
            coming = pool.submit(self._prepare, 0)
            for start in starts:
                batch, ready = coming.result()
                if start + self.size < len(self.images):
                    coming = pool.submit(self._prepare, start + self.size)
                if ready is not None:
                    current = torch.cuda.current_stream(batch.device)
                    current.wait_event(ready)
                    batch.record_stream(current)  # its memory is not the other stream's again before this one is done
                yield batch

    def _prepare(self, start: int) -> tuple[Tensor, torch.cuda.Event | None]:
        part = self.images[start : start + self.size]
        if self._stream is None:
            return self.prepare(part), None
        with torch.cuda.stream(self._stream):
            return self.prepare(part), self._stream.record_event()


def _outputs(model: nn.Module, batches: Iterable[Tensor], labels: Tensor, precision: torch.dtype) -> Iterator[Pair]:
    """Logits and labels of each batch, computed in eval mode; the model's mode is restored at the end."""
    was_training, seen, forward = model.training, 0, in_precision(model, precision)
    model.eval()
    for x in batches:
        yield forward(x), labels[seen : seen + len(x)]
        seen += len(x)
    model.train(was_training)


def _counts(logits: Tensor, wanted: Tensor) -> Tensor:
    """How many images have the right answer, and how many have none: NaN or infinite logits, (2,) int64."""
    finite = logits.isfinite().all(1)
    return torch.stack([(finite & (logits.argmax(1) == wanted)).sum(), (~finite).sum()])


def _refuse_broken(broken: int, images: int) -> None:
    if broken:
        raise FloatingPointError(
            f"the logits of {broken} of {images} images are NaN or infinite: the training diverged (lower optimizer.lr "
            "and train again), or the backbone's weights are damaged"
        )


@torch.no_grad()
def score(model: nn.Module, batches: Iterable[Tensor], labels: Tensor, precision: torch.dtype = torch.float32) -> float:
    """Top-1 accuracy in [0, 1] in eval mode over batches of model input; the model's mode is restored.

    `labels` (N,) are on the model's device; `precision` is of the matrix products (autocast). The host reads
    once from the device, at the end.

    Raises:
        FloatingPointError: if logits are not finite.
    """
    counts = labels.new_zeros(2)
    for logits, wanted in _outputs(model, batches, labels, precision):
        counts += _counts(logits, wanted)
    right, broken = counts.tolist()
    _refuse_broken(broken, len(labels))
    return int(right) / len(labels)


@torch.no_grad()
def measure(
    model: nn.Module, batches: Iterable[Tensor], labels: Tensor, precision: torch.dtype = torch.float32
) -> Measured:
    """Accuracy as `score` gives it, the mean cross-entropy in nats and the mean probability of the label, in one pass.

    Log-softmax and the sum over images are in float32, whatever the precision of the products, or in float64 for a
    model of that; the mean is the sum divided by N, so it does not depend on the size of the last batch. In float32 the
    size of the batches moves it by less than 1e-6 of itself for thousands of images. The host reads at the end.

    One subnet that overflows is no reason to end a search: an image whose logits are not finite counts as wrong, and
    loss and probability are NaN then, which every search ranks last.
    """
    counts, totals = labels.new_zeros(2), torch.zeros(2, device=labels.device)
    for logits, wanted in _outputs(model, batches, labels, precision):
        counts += _counts(logits, wanted)
        losses = F.cross_entropy(logits.to(torch.promote_types(logits.dtype, torch.float32)), wanted, reduction="none")
        totals = totals + torch.stack([losses.sum(), losses.neg().exp().sum()])
    right, broken = counts.tolist()
    loss, probability = (math.nan if broken else total / len(labels) for total in totals.tolist())
    return Measured(int(right) / len(labels), loss, probability)


@torch.no_grad()
def predict(
    model: nn.Module, batches: Iterable[Tensor], labels: Tensor, precision: torch.dtype = torch.float32
) -> Predictions:
    """What the model says of every image, in the same pass as `score`, of whose hits `classes` are the cause.

    Raises:
        FloatingPointError: if logits are not finite.
    """
    found, counts = [], labels.new_zeros(2)
    for logits, wanted in _outputs(model, batches, labels, precision):
        counts += _counts(logits, wanted)
        found.append((logits.argmax(1), logits.float().softmax(1).gather(1, wanted[:, None])[:, 0]))
    _refuse_broken(int(counts[1]), len(labels))
    return Predictions(*(torch.cat(column).cpu() for column in zip(*found, strict=True)))


def accuracy(
    model: nn.Module, images: Tensor, labels: Tensor, prepare: Callable[[Tensor], Tensor], batch: int = 256
) -> float:
    """Top-1 accuracy in [0, 1] of uint8 images (N, 3, h, w) that `prepare` maps to model input; see `score`."""
    return score(model, Batches(images, prepare, labels.device, batch), labels)
