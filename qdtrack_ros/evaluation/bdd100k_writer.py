"""Results of BDD100K box tracking in Scalabel JSON (https://doc.bdd100k.com/evaluate.html#multiple-object-tracking).

A file for each video is a list of frames: ``videoName``, ``name``, ``frameIndex``, and ``labels`` with ``id``,
``category``, ``score`` and ``box2d`` of x1, y1, x2, y2. ``index`` repeats ``frameIndex`` under its name of the first
release, which TrackEval reads. Boxes are written as they are: Scalabel's evaluation adds a pixel to width and height of
truth and results alike.
"""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from qdtrack_ros.data.types import DataError
from qdtrack_ros.evaluation.rules import BDD100K
from qdtrack_ros.evaluation.tracks import VideoTracks, frame_by_frame, track_rows
from qdtrack_ros.files import replacing

_CORNERS = ("x1", "y1", "x2", "y2")


def bdd100k_frames(video: VideoTracks, labels: Sequence[str]) -> list[dict[str, Any]]:
    """A video as the JSON list that the benchmark defines; tracks of classes that it does not evaluate are left out.

    Args:
        video: its ``pictures`` are names such as ``b1c66a42-6f7d68ca-0000001.jpg``.
        labels: names of the tracks' classes, today's or those of the first release.

    Raises:
        DataError: different numbers of pictures and frames; no label is a class of the benchmark.
    """
    categories = {
        index: name
        for index, label in enumerate(labels)
        for name, rules in BDD100K.classes.items()
        if label in rules.tracked_as
    }
    if not categories:
        raise DataError(f"tracks are of {', '.join(labels)}; BDD100K has {', '.join(BDD100K.classes)}")
    return [
        {
            "videoName": video.name,
            "name": picture,
            "frameIndex": index,
            "index": index,
            "labels": [
                {
                    "id": str(row.identity),
                    "category": categories[row.label],
                    "score": round(row.score, 4),
                    "box2d": {key: round(value, 3) for key, value in zip(_CORNERS, row.box, strict=True)},
                }
                for row in track_rows(tracks)
                if row.label in categories
            ],
        }
        for index, (picture, tracks) in enumerate(frame_by_frame(*video))
    ]


def write_bdd100k(folder: str | os.PathLike[str], videos: Iterable[VideoTracks], labels: Sequence[str]) -> None:
    """Write a file for each video into a folder; each appears whole or not at all.

    Raises:
        DataError: as ``bdd100k_frames``.
    """
    for video in videos:
        content = json.dumps(bdd100k_frames(video, labels))
        with replacing(Path(folder) / f"{video.name}.json") as file:
            file.write(content.encode())


def write_bdd100k_zip(path: str | os.PathLike[str], videos: Iterable[VideoTracks], labels: Sequence[str]) -> None:
    """Write what the server takes: a zip file of a folder with a file for each video.

    Raises:
        DataError: as ``bdd100k_frames``.
    """
    with replacing(Path(path)) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for video in videos:
            archive.writestr(f"tracks/{video.name}.json", json.dumps(bdd100k_frames(video, labels)))
