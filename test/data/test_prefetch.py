"""Frames decoded ahead."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import pytest

from qdtrack_ros.data.prefetch import prefetched
from qdtrack_ros.data.types import DataError, Frame


def frames(count: int, loaded: list[int] | None = None) -> Iterator[Frame]:
    def load(index: int) -> np.ndarray:
        if loaded is not None:
            loaded.append(index)
        if index == 2:
            raise DataError("frame 2 cannot be decoded")
        return np.full((2, 3, 3), index, np.uint8)

    for index in range(count):
        yield Frame(index, 10 * index, 3, 2, (), lambda index=index: load(index))


def test_frames_come_in_order_with_pictures_and_errors_of_their_own():
    found = list(prefetched(frames(6), depth=2))
    assert [(frame.index, frame.timestamp_ns) for frame in found] == [(i, 10 * i) for i in range(6)]
    for frame in found:
        if frame.index == 2:
            with pytest.raises(DataError, match="frame 2"):
                frame.load()
        else:
            assert (frame.load() == frame.index).all() and frame.load().dtype == np.uint8


def test_a_picture_is_decoded_once_and_not_far_ahead():
    loaded: list[int] = []
    stream = prefetched(frames(50, loaded), depth=3)
    first = next(stream)
    first.load()
    first.load()
    stream.close()
    assert loaded.count(0) == 1
    assert len(loaded) <= 1 + 3 + 1, "given, waiting, and one at the door"


def test_what_the_source_raises_is_raised_after_the_frames_before_it():
    def broken() -> Iterator[Frame]:
        yield from frames(2)
        raise OSError("the disk is gone")

    stream = prefetched(broken())
    assert [next(stream).index, next(stream).index] == [0, 1]
    with pytest.raises(OSError, match="the disk is gone"):
        next(stream)


def test_no_thread_is_left_behind():
    before = threading.active_count()
    list(prefetched(frames(5)))
    stream = prefetched(frames(50), depth=1)
    next(stream)
    stream.close()
    assert threading.active_count() == before


def test_a_source_without_frames_gives_none():
    assert list(prefetched(frames(0))) == []
    with pytest.raises(ValueError, match="depth is 0"):
        next(prefetched(frames(1), depth=0))
