"""Results in MOTChallenge text format."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from qdtrack_ros.files import replacing


class ScoredTracks(Protocol):
    """Tracks of one frame: ``ids`` int64 [K], ``boxes`` [K, 4] xyxy in source pixels, ``scores`` [K]."""

    @property
    def ids(self) -> npt.NDArray[np.int64]:
        """Identities, 0 or more."""

    @property
    def boxes(self) -> npt.NDArray[np.float32]:
        """Boxes."""

    @property
    def scores(self) -> npt.NDArray[np.float32]:
        """Scores in [0, 1]."""


def mot_rows(frame_index: int, tracks: ScoredTracks) -> Iterable[str]:
    """Rows of one frame: frame, id, left, top, width, height, score, -1, -1, -1.

    Frames and ids are 1-based there: row values are ``frame_index + 1`` and ``id + 1`` (the benchmark's tools want
    positive ids). Pixels carry three decimals.
    """
    boxes = np.asarray(tracks.boxes, np.float64).reshape(-1, 4)
    for track_id, (x1, y1, x2, y2), score in zip(tracks.ids, boxes, tracks.scores, strict=True):
        box = f"{x1:.3f},{y1:.3f},{x2 - x1:.3f},{y2 - y1:.3f}"
        yield f"{frame_index + 1},{int(track_id) + 1},{box},{float(score):.4f},-1,-1,-1\n"


def write_mot(path: str | os.PathLike[str], frames: Iterable[ScoredTracks]) -> None:
    """Write the tracks of a sequence, first frame first; the file appears whole or not at all.

    Args:
        path: of the text file; its folder is made if it is missing.
        frames: one entry a frame, empty ones included.
    """
    with replacing(Path(path)) as file:
        for index, tracks in enumerate(frames):
            file.writelines(row.encode("ascii") for row in mot_rows(index, tracks))
