"""Batches of pairs for the training loop: an endless, numbered stream, the same however many workers make it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from qdtrack_ros.data.pairs import Pair, PairSampler
from qdtrack_ros.data.transforms import LabelledPicture


@dataclass(frozen=True)
class Objects:
    """Objects of one picture: boxes float32 [N, 4], labels int64 [N], ignore regions float32 [M, 4]."""

    boxes: Tensor
    labels: Tensor
    ignore_boxes: Tensor

    def to(self, device: torch.device) -> Objects:
        """The same on a device."""
        return Objects(self.boxes.to(device), self.labels.to(device), self.ignore_boxes.to(device))


@dataclass(frozen=True)
class PairBatch:
    """B pairs.

    Attributes:
        images: uint8 [2B, H, W, 3] BGR, the B key pictures first, then the B reference pictures.
        objects: 2B entries in the same order.
        matches: per pair int64 [N]: row of the same object in the reference picture, or -1.
    """

    images: Tensor
    objects: list[Objects]
    matches: list[Tensor]

    def to(self, device: torch.device) -> PairBatch:
        """The same on a device."""
        return PairBatch(
            self.images.to(device, non_blocking=True),
            [o.to(device) for o in self.objects],
            [m.to(device) for m in self.matches],
        )

    def pin_memory(self) -> PairBatch:
        """The pictures in pinned memory, for an asynchronous copy."""
        return PairBatch(self.images.pin_memory(), self.objects, self.matches)


def collate(pairs: list[Pair]) -> PairBatch:
    """One batch of pairs."""
    pictures = [pair.key for pair in pairs] + [pair.reference for pair in pairs]
    return PairBatch(
        torch.from_numpy(np.stack([picture.image for picture in pictures])),
        [_objects(picture) for picture in pictures],
        [torch.from_numpy(pair.matches) for pair in pairs],
    )


def _objects(picture: LabelledPicture) -> Objects:
    return Objects(
        torch.from_numpy(picture.boxes), torch.from_numpy(picture.labels), torch.from_numpy(picture.ignore_boxes)
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
            yield collate([self._sampler.draw(first + i) for i in range(self._batch_size)])
            batch += workers


def loader(stream: PairStream, workers: int, pin: bool) -> DataLoader[PairBatch]:
    """A loader whose batches come in the stream's order."""
    return DataLoader(
        stream,
        batch_size=None,
        num_workers=workers,
        pin_memory=pin,
        persistent_workers=workers > 0,
        prefetch_factor=3 if workers else None,
    )
