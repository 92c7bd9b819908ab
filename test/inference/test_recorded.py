from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from qdtrack_ros.inference.recorded import RecordedEngine, load_detections, save_detections
from qdtrack_ros.inference.types import Detections


def some(count: int, dim: int = 4) -> Detections:
    rng = np.random.default_rng(count)
    return Detections(
        rng.random((count, 4)).astype(np.float32),
        rng.random(count).astype(np.float32),
        rng.integers(0, 3, count),
        rng.random((count, dim)).astype(np.float32),
    )


@pytest.mark.parametrize("counts", [[3, 0, 2], [], [0], [None], [None, 2, None]])
def test_detections_come_back_as_they_were(tmp_path: Path, counts: list[int | None]) -> None:
    frames = [None if count is None else some(count) for count in counts]
    save_detections(tmp_path / "new" / "found.npz", frames)
    back = load_detections(tmp_path / "new" / "found.npz")
    assert back is not None and len(back) == len(frames)
    for one, other in zip(back, frames, strict=True):
        assert (one is None) == (other is None)
        if one is not None and other is not None:
            assert all(np.array_equal(a, b) and a.dtype == b.dtype for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("content", [b"", b"no archive", None])
def test_a_damaged_or_missing_file_gives_nothing(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "found.npz"
    if content is not None:
        path.write_bytes(content)
    assert load_detections(path) is None


def test_a_truncated_file_gives_nothing(tmp_path: Path) -> None:
    path = tmp_path / "found.npz"
    save_detections(path, [some(30)])
    path.write_bytes(path.read_bytes()[:-200])
    assert load_detections(path) is None


def test_the_engine_gives_what_was_recorded_in_order() -> None:
    engine = RecordedEngine([some(1), some(2), some(3)], 4, "abc")
    picture = np.zeros((1, 1, 3), np.uint8)
    assert [len(one.scores) for one in engine.detect([picture, picture]).detections] == [1, 2]
    assert [len(one.scores) for one in engine.detect([picture]).detections] == [3]
