"""Results in MOTChallenge text format (https://motchallenge.net/instructions)."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from qdtrack_ros.evaluation.tracks import ScoredTracks
from qdtrack_ros.files import replacing


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


def write_mot_zip(path: str | os.PathLike[str], sequences: Mapping[str, Iterable[ScoredTracks]]) -> None:
    """Write what the server takes: one text file for each sequence, named as the sequence, at the root of a zip file.

    Args:
        path: of the zip file; its folder is made if it is missing.
        sequences: frames by the name of the sequence ("MOT17-01-FRCNN").
    """
    with replacing(Path(path)) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, frames in sequences.items():
            rows = "".join(row for index, tracks in enumerate(frames) for row in mot_rows(index, tracks))
            archive.writestr(f"{name}.txt", rows)
