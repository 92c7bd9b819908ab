"""MOTChallenge result files."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from qdtrack_ros.evaluation.mot_writer import write_mot


class Tracks(NamedTuple):
    ids: np.ndarray
    boxes: np.ndarray
    scores: np.ndarray


def frame(*ids: int) -> Tracks:
    boxes = np.array([(1.5, 2.0, 11.5, 22.25)] * len(ids), np.float32).reshape(-1, 4)
    return Tracks(np.array(ids, np.int64), boxes, np.full(len(ids), 0.5, np.float32))


def test_frames_and_ids_are_one_based(tmp_path: Path):
    path = tmp_path / "results" / "a.txt"
    write_mot(path, [frame(0), frame(), frame(3)])
    expected = ["1,1,1.500,2.000,10.000,20.250,0.5000,-1,-1,-1", "3,4,1.500,2.000,10.000,20.250,0.5000,-1,-1,-1"]
    assert path.read_text().splitlines() == expected


def test_old_file_stays_when_writing_fails(tmp_path: Path):
    path = tmp_path / "a.txt"
    write_mot(path, [frame(0)])
    before = path.read_text()

    def frames():
        yield frame(1)
        raise RuntimeError("camera gone")

    with pytest.raises(RuntimeError, match="camera gone"):
        write_mot(path, frames())
    assert path.read_text() == before
    assert list(tmp_path.iterdir()) == [path]
