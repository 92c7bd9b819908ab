"""COCO's extensions to video: CocoVID (mmtracking) and TAO.

CocoVID is described in https://github.com/open-mmlab/mmtracking/blob/master/docs/en/tutorials/customize_dataset.md:
``videos``; images with ``video_id`` and ``frame_id``; annotations with ``instance_id``. TAO is described at the top of
https://github.com/TAO-Dataset/tao/blob/master/tao/toolkit/tao/tao.py: images with ``video_id`` and ``frame_index``;
``tracks``, annotations with ``track_id``; which classes are labelled in a video is said by the video.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

from qdtrack_ros.data._rows import (
    Faults,
    RowError,
    field,
    json_integer,
    json_list,
    json_number,
    json_object,
    json_text,
)
from qdtrack_ros.data.coco import CocoFile, Row, load_coco
from qdtrack_ros.data.types import DataError, LabelCoverage, Sequence


class _Video(NamedTuple):
    name: str
    frame_rate: float | None
    coverage: LabelCoverage | None


def read_coco_videos(
    json_file: str | os.PathLike[str], image_dir: str | os.PathLike[str], names: str = "*"
) -> tuple[Sequence, ...]:
    """The videos of a CocoVID file, one sequence each, frames in the order of ``frame_id``.

    ``iscrowd`` becomes ``crowd``, ``ignore`` becomes ``ignore``, ``instance_id`` the identity; ``fps`` of a video is
    its frame rate.

    Args:
        json_file: the annotations.
        image_dir: folder that each ``file_name`` starts from.
        names: which videos, by a pattern of their names such as ``val/*``.

    Raises:
        DataError: the file is missing or is not CocoVID, or videos, images or annotations are faulty (listed by id or
            place); an identity appears twice in a picture.
    """
    file = _load(Path(json_file))
    return _sequences(file, _videos(file, _video), "frame_id", Path(image_dir), names)


def read_tao(
    json_file: str | os.PathLike[str], image_dir: str | os.PathLike[str], names: str = "*"
) -> tuple[Sequence, ...]:
    """The videos of a TAO file, one sequence each, frames in the order of ``frame_index``.

    Only annotated frames are listed, about one a second. Categories ``merged`` into another take its label, as TAO's
    toolkit has it. ``neg_category_ids`` and ``not_exhaustive_category_ids`` become ``coverage``.

    Args:
        json_file: the annotations.
        image_dir: folder that each ``file_name`` (``val/YFCC100M/...``) starts from.
        names: which videos, by a pattern of their names such as ``val/BDD/*``.

    Raises:
        DataError: as ``read_coco_videos``; also when an annotation and its track disagree.
    """
    file = _load(Path(json_file))
    _check_tracks(file)
    return _sequences(file, _videos(file, _tao_video), "frame_index", Path(image_dir), names)


def read_tao_pictures(
    json_file: str | os.PathLike[str], image_dir: str | os.PathLike[str], names: str = "*"
) -> tuple[Sequence, ...]:
    """The videos of a TAO file without their annotations, as of the test set, which has none; else as ``read_tao``."""

    def bare(row: Row, labels: Mapping[int, str]) -> _Video:
        return _Video(field(row, "name", json_text), None, None)

    file = _load(Path(json_file), is_labelled=False)
    return _sequences(file, _videos(file, bare), "frame_index", Path(image_dir), names)


def _load(path: Path, is_labelled: bool = True) -> CocoFile:
    file = load_coco(path, is_labelled)
    if not isinstance(file.content.get("videos"), list) or not file.content["videos"]:
        raise DataError(f'{path}: no "videos"; expected a file of videos (stills are of format coco)')
    return file


def _sequences(
    file: CocoFile, videos: Mapping[int, _Video], order: str, image_dir: Path, names: str
) -> tuple[Sequence, ...]:
    members = _members(file, videos, order)
    return tuple(
        Sequence(
            video.name,
            tuple(file.frame(index, image, image_dir) for index, image in enumerate(members[number])),
            video.frame_rate,
            True,
            video.coverage,
        )
        for number, video in videos.items()
        if fnmatchcase(video.name, names)
    )


def _videos(file: CocoFile, read: Callable[[Row, Mapping[int, str]], _Video]) -> dict[int, _Video]:
    faults = Faults(file.path, "videos")
    videos: dict[int, _Video] = {}
    for position, row in enumerate(file.content["videos"]):
        try:
            video = json_object(row, "video")
            number = field(video, "id", json_integer)
            if number in videos:
                raise RowError(f"id {number} is that of another video, too")
            videos[number] = read(video, file.labels)
        except RowError as error:
            faults.add(f"videos[{position}]: {error}")
    faults.close()
    return videos


def _video(row: Row, labels: Mapping[int, str]) -> _Video:
    rate = None if row.get("fps") is None else json_number(row["fps"], "fps")
    if rate is not None and rate <= 0:
        raise RowError(f"fps is {rate:g}, expected more than 0")
    return _Video(json_text(row["name"], "name") if "name" in row else str(row["id"]), rate, None)


def _tao_video(row: Row, labels: Mapping[int, str]) -> _Video:
    def named(key: str) -> frozenset[str]:
        ids = [json_integer(number, key) for number in field(row, key, json_list)]
        unknown = [number for number in ids if number not in labels]
        if unknown:
            raise RowError(f"{key} has {unknown[0]}, no such category")
        return frozenset(labels[number] for number in ids)

    coverage = LabelCoverage(named("neg_category_ids"), named("not_exhaustive_category_ids"))
    return _Video(field(row, "name", json_text), None, coverage)


def _members(file: CocoFile, videos: Mapping[int, _Video], order: str) -> Mapping[int, list[dict[str, Any]]]:
    """Images of each video, in order."""
    faults = Faults(file.path, "images")
    numbered: defaultdict[int, dict[int, dict[str, Any]]] = defaultdict(dict)
    for position, image in enumerate(file.images):
        try:
            number = field(image, "video_id", json_integer)
            if number not in videos:
                raise RowError(f"video_id is {number}, no such video")
            place = field(image, order, json_integer)
            other = numbered[number].setdefault(place, image)
            if other is not image:
                raise RowError(f"{order} {place} of video {number} is that of {other['file_name']}, too")
        except RowError as error:
            faults.add(f"images[{position}]: {error}")
    faults.close()
    empty: dict[int, list[dict[str, Any]]] = {number: [] for number in videos}
    return empty | {number: [images[place] for place in sorted(images)] for number, images in numbered.items()}


def _check_tracks(file: CocoFile) -> None:
    """Every annotation is of a track of the same category, in the track's video."""
    rows = file.content.get("tracks")
    if not isinstance(rows, list):
        raise DataError(f'{file.path}: no "tracks"; expected a TAO annotation file (others of videos are cocovid)')
    faults = Faults(file.path, "tracks and annotations")
    tracks: dict[int, tuple[str | None, int]] = {}
    for position, row in enumerate(rows):
        try:
            track = json_object(row, "track")
            label = file.labels.get(field(track, "category_id", json_integer))
            tracks[field(track, "id", json_integer)] = (label, field(track, "video_id", json_integer))
        except RowError as error:
            faults.add(f"tracks[{position}]: {error}")
    faults.close()
    video_of = {image["id"]: image.get("video_id") for image in file.images}
    for row in file.content["annotations"]:
        where = (file.labels[row["category_id"]], video_of[row["image_id"]])
        number = row.get("track_id")
        found = tracks.get(number) if isinstance(number, int) else None
        if found is None:
            faults.add(f"annotation {row.get('id')}: track_id is {number!r}, no such track")
        elif found != where:
            faults.add(
                f"annotation {row.get('id')}: {where[0]} in video {where[1]}, but its track {number} is "
                f"{found[0]} in video {found[1]}"
            )
    faults.close()
