from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest

from qdtrack_ros.cli.packed_frames import PackedFrames


class Found(NamedTuple):
    ids: np.ndarray
    boxes: np.ndarray


def found(index: int) -> Found:
    """So many that some frames are empty; the values are the frame's number."""
    count = index % 4
    return Found(np.full(count, index, np.int64), np.full((count, 4), index, np.float32))


@pytest.mark.parametrize("count", [0, 1, 1023, 1024, 1025, 3000])
def test_what_is_put_in_comes_out(count: int) -> None:
    frames = PackedFrames(Found, map(found, range(count)))
    assert len(frames) == count == len(list(frames))
    for index, one in enumerate(frames):
        assert isinstance(one, Found) and one.ids.dtype == np.int64 and one.boxes.shape == (index % 4, 4)
        assert (one.ids == index).all() and (one.boxes == index).all()
    if count:
        assert (frames[-1].ids == count - 1).all() and len(frames[-2:]) == min(count, 2)


def test_there_is_nothing_beyond_the_end() -> None:
    frames = PackedFrames(Found, map(found, range(1024)))
    for index in (1024, -1025):
        with pytest.raises(IndexError, match="there are 1024"):
            frames[index]
