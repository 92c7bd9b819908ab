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


def test_smaller_pictures_are_padded_and_what_that_adds_is_ignored():
    def pair(height, width):
        none = np.zeros((0, 4), np.float32)
        image = np.full((height, width, 3), 7, np.uint8)
        picture = LabelledPicture(image, none, np.zeros(0, np.int64), np.zeros(0, np.int64), none)
        return Pair(picture, picture, np.zeros(0, np.int64))

    batch = collate([pair(60, 100), pair(90, 50)], first=6)
    assert batch.images.shape == (4, 96, 128, 3) and batch.numbers == [6, 7]
    assert batch.sizes == [(60, 100), (90, 50)] * 2
    assert [int((image == 7).sum()) for image in batch.images] == [60 * 100 * 3, 90 * 50 * 3] * 2
    # Up to the next multiple of 32 a picture is padded for itself, as always; only what lies beyond is ignored.
    assert [o.ignore_boxes.tolist() for o in batch.objects[:2]] == [[[0, 64, 128, 96]], [[64, 0, 128, 96]]]
