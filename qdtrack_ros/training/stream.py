"""Batches of pairs for the training loop: an endless, numbered stream, the same however many workers make it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from qdtrack_ros.data.pairs import Pair, PairSampler
from qdtrack_ros.data.transforms import LabelledPicture

_PAD_MULTIPLE = 32


@dataclass(frozen=True)
class Objects:
    """Objects of one picture.

    Attributes:
        boxes: float32 [N, 4].
        labels: int64 [N].
        ignore_boxes: float32 [M, 4].
        named: bool [N]: whether the identity is known; else nobody can say who in the other picture is the same.
    """

    boxes: Tensor
    labels: Tensor
    ignore_boxes: Tensor
    named: Tensor

    def to(self, device: torch.device) -> Objects:
        """The same on a device."""
        return Objects(*(part.to(device) for part in (self.boxes, self.labels, self.ignore_boxes, self.named)))


@dataclass(frozen=True)
class PairBatch:
    """B pairs.

    Attributes:
        images: uint8 [2B, H, W, 3] BGR, the B key pictures first, then the B reference pictures; smaller ones are
            padded at the bottom and right.
        sizes: 2B (height, width) without padding, in the same order.
        objects: 2B entries in the same order.
        matches: per pair int64 [N]: row of the same object in the reference picture, or -1.
        numbers: of the pairs in the stream; they seed what the losses draw.
    """

    images: Tensor
    sizes: list[tuple[int, int]]
    objects: list[Objects]
    matches: list[Tensor]
    numbers: list[int]

    def to(self, device: torch.device) -> PairBatch:
        """The same on a device."""
        return replace(
            self,
            images=self.images.to(device, non_blocking=True),
            objects=[o.to(device) for o in self.objects],
            matches=[m.to(device) for m in self.matches],
        )

    def pin_memory(self) -> PairBatch:
        """The pictures in pinned memory, for an asynchronous copy."""
        return replace(self, images=self.images.pin_memory())


def collate(pairs: list[Pair], first: int = 0) -> PairBatch:
    """One batch of pairs, numbered from ``first``, on a canvas of the largest sides rounded up to multiples of 32."""
    pictures = [pair.key for pair in pairs] + [pair.reference for pair in pairs]
    sizes = [(picture.image.shape[0], picture.image.shape[1]) for picture in pictures]
    height, width = (max(_rounded(side) for side in sides) for sides in zip(*sizes, strict=True))
    images = np.zeros((len(pictures), height, width, 3), np.uint8)
    for row, picture in enumerate(pictures):
        images[row, : sizes[row][0], : sizes[row][1]] = picture.image
    return PairBatch(
        torch.from_numpy(images),
        sizes,
        [_objects(picture, (height, width)) for picture in pictures],
        [torch.from_numpy(pair.matches) for pair in pairs],
        list(range(first, first + len(pairs))),
    )


def _rounded(side: int) -> int:
    return math.ceil(side / _PAD_MULTIPLE) * _PAD_MULTIPLE


def _objects(picture: LabelledPicture, canvas: tuple[int, int]) -> Objects:
    """Objects of a picture; what the canvas adds for a larger picture beside it is a region to ignore."""
    (height, width), (below, right) = (_rounded(side) for side in picture.image.shape[:2]), canvas
    strips = np.array([[0, height, right, below], [width, 0, right, below]], np.float32)
    strips = strips[[height < below, width < right]]
    return Objects(
        torch.from_numpy(picture.boxes),
        torch.from_numpy(picture.labels),
        torch.from_numpy(np.concatenate([picture.ignore_boxes, strips])),
        torch.from_numpy(picture.instance_ids >= 0),
    )


class PairStream(IterableDataset[PairBatch]):
    """Batch k of process r holds the pairs numbered from (k * processes + r) * batch size.

    Args:
        sampler: makes a pair from its number.
        batch_size: pairs per batch.
        first_batch: where to begin; a resumed training goes on with the batch after its last.
        rank, processes: this process among those that train together.
    """

    def __init__(
        self, sampler: PairSampler, batch_size: int, first_batch: int = 0, rank: int = 0, processes: int = 1
    ) -> None:
        self._sampler = sampler
        self._batch_size = batch_size
        self._first_batch = first_batch
        self._rank, self._processes = rank, processes

    def __iter__(self) -> Iterator[PairBatch]:
        info = get_worker_info()
        worker, workers = (0, 1) if info is None else (info.id, info.num_workers)
        if info is not None:
            cv2.setNumThreads(0)
        batch = self._first_batch + worker
        while True:
            first = (batch * self._processes + self._rank) * self._batch_size
            yield collate([self._sampler.draw(first + i) for i in range(self._batch_size)], first)
            batch += workers


def loader(
    stream: PairStream, workers: int, pin: bool, start: Callable[[int], None] | None = None
) -> DataLoader[PairBatch]:
    """A loader whose batches come in the stream's order; every worker begins with ``start`` (of its number)."""
    return DataLoader(
        stream,
        batch_size=None,
        num_workers=workers,
        pin_memory=pin,
        persistent_workers=workers > 0,
        prefetch_factor=3 if workers else None,
        worker_init_fn=start,
    )
