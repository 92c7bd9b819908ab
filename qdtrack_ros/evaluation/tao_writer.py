"""Results of TAO: a JSON list of boxes (https://github.com/TAO-Dataset/tao/blob/master/docs/evaluation.md)."""

from __future__ import annotations

import itertools
import json
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from qdtrack_ros.data.types import DataError
from qdtrack_ros.evaluation.tracks import VideoTracks, frame_by_frame, track_rows
from qdtrack_ros.files import replacing


class TaoNumbers(NamedTuple):
    """Numbers that TAO's annotations give to what we know by name."""

    videos: Mapping[str, int]
    images: Mapping[str, int]
    categories: Mapping[str, int]


def read_tao_numbers(path: str | os.PathLike[str], categories: str | os.PathLike[str] | None = None) -> TaoNumbers:
    """Read the numbers of videos, images (by ``file_name``) and categories from an annotation file.

    Args:
        path: of the annotations; those of the test set will do (``test_without_annotations.json``).
        categories: another file that has the categories (``test_categories.json``), as a list or under that name.

    Raises:
        DataError: a file cannot be read or lacks them.
    """
    content = _content(path)
    listed = content if categories is None else _content(categories)
    return TaoNumbers(
        _numbers(path, content, "videos", "name"),
        _numbers(path, content, "images", "file_name"),
        _numbers(
            categories or path, listed if isinstance(listed, dict) else {"categories": listed}, "categories", "name"
        ),
    )


def _content(path: str | os.PathLike[str]) -> Any:
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); expected TAO's annotations") from error
    except ValueError as error:
        raise DataError(f"{path}: not JSON ({error}); expected TAO's annotations") from error


def _numbers(path: str | os.PathLike[str], content: Any, part: str, name: str) -> dict[str, int]:
    try:
        return {row[name]: int(row["id"]) for row in content[part]}
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{path}: not TAO's annotations ({type(error).__name__}: {error}); expected {part} with id and {name}"
        ) from error


def tao_rows(videos: Iterable[VideoTracks], labels: Sequence[str], numbers: TaoNumbers) -> Iterator[dict[str, Any]]:
    """Boxes of a set of videos as TAO defines them: image_id, category_id, bbox (xywh), score, track_id, video_id.

    Tracks are numbered from 1 through all videos: TAO has ids unique over the set, and to TrackEval a match with track
    0 is none. Tracks of labels that are no category are left out.

    Args:
        videos: ``pictures`` are ``file_name`` of the annotations ("val/YFCC100M/v_.../frame0391.jpg").
        labels: names of the tracks' classes.
        numbers: as ``read_tao_numbers`` gives them.

    Raises:
        DataError: a video or a picture that the annotations do not know; different numbers of pictures and frames; no
            label is a category.
    """
    categories = {index: numbers.categories[label] for index, label in enumerate(labels) if label in numbers.categories}
    if not categories:
        raise DataError(
            f"none of the {len(labels)} labels of the tracks is a category of TAO ({', '.join(labels[:5])})"
        )
    counter = itertools.count(1)
    track_ids: defaultdict[tuple[str, int], int] = defaultdict(lambda: next(counter))
    for video in videos:
        if video.name not in numbers.videos:
            raise DataError(f"TAO's annotations have no video {video.name}; expected a name such as one of theirs")
        for picture, tracks in frame_by_frame(*video):
            if picture not in numbers.images:
                raise DataError(
                    f"{video.name}: TAO's annotations have no image {picture}; expected a file_name of theirs"
                )
            for row in track_rows(tracks):
                if row.label in categories:
                    x1, y1, x2, y2 = row.box
                    yield {
                        "image_id": numbers.images[picture],
                        "category_id": categories[row.label],
                        "bbox": [round(value, 3) for value in (x1, y1, x2 - x1, y2 - y1)],
                        "score": round(row.score, 5),
                        "track_id": track_ids[video.name, row.identity],
                        "video_id": numbers.videos[video.name],
                    }


def write_tao(
    path: str | os.PathLike[str], videos: Iterable[VideoTracks], labels: Sequence[str], numbers: TaoNumbers
) -> None:
    """Write the results of a set of videos as one JSON file, which appears whole or not at all.

    Raises:
        DataError: as ``tao_rows``.
    """
    with replacing(Path(path)) as file:
        for index, row in enumerate(tao_rows(videos, labels, numbers)):
            file.write((",\n" if index else "[\n").encode() + json.dumps(row).encode())
        file.write(b"\n]\n" if file.tell() else b"[]\n")
