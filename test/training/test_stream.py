"""The stream of pairs: numbered, the same however many workers and processes make it."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from qdtrack_ros.data.pairs import Pair
from qdtrack_ros.data.transforms import LabelledPicture
from qdtrack_ros.training.stream import PairStream, collate, loader

# PyTorch warns of more workers than this machine has cores.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


class Numbered:
    """A sampler whose pairs say their number."""

    def draw(self, number: int) -> Pair:
        objects = number % 3
        picture = LabelledPicture(
            np.full((32, 32, 3), number % 256, np.uint8),
            np.full((objects, 4), number, np.float32),
            np.zeros(objects, np.int64),
            np.arange(objects),
            np.zeros((1, 4), np.float32),
        )
        return Pair(picture, picture, np.arange(objects))


def numbers(stream, batches, workers=0):
    return [
        batch.images[: len(batch.matches), 0, 0, 0].tolist()
        for batch in itertools.islice(loader(stream, workers, pin=False), batches)
    ]


def test_batches_come_in_order_from_any_number_of_workers():
    expected = [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9, 10, 11]]
    for workers in (0, 1, 3):
        assert numbers(PairStream(Numbered(), 3), 4, workers) == expected


def test_a_stream_begins_where_it_is_told():
    assert numbers(PairStream(Numbered(), 2, first_batch=5), 2) == [[10, 11], [12, 13]]
    assert numbers(PairStream(Numbered(), 2, first_batch=5), 3, workers=2) == [[10, 11], [12, 13], [14, 15]]


@pytest.mark.parametrize("first_batch", [0, 3])
def test_processes_share_the_pairs_and_none_comes_twice(first_batch):
    seen = [
        number
        for rank in range(4)
        for batch in numbers(PairStream(Numbered(), 2, first_batch, rank, processes=4), 3)
        for number in batch
    ]
    assert sorted(seen) == list(range(8 * first_batch, 8 * first_batch + 24))


def test_collate_puts_keys_first():
    pairs = [Numbered().draw(n) for n in (4, 5)]
    batch = collate(pairs)
    assert batch.images.shape == (4, 32, 32, 3) and batch.images.dtype == torch.uint8
    assert batch.images[:, 0, 0, 0].tolist() == [4, 5, 4, 5]
    assert [len(o.boxes) for o in batch.objects] == [1, 2, 1, 2]
    assert [m.tolist() for m in batch.matches] == [[0], [0, 1]]
    assert batch.objects[1].boxes.dtype == torch.float32 and batch.objects[1].labels.dtype == torch.int64
    moved = batch.to(torch.device("cpu"))
    assert torch.equal(moved.images, batch.images) and len(moved.objects) == 4
