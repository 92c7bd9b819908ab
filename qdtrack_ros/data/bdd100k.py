"""BDD100K tracking labels: Scalabel JSON, today's and that of the first release (2020).

Today's is described in https://doc.bdd100k.com/format.html and https://doc.scalabel.ai/format.html: ``videoName``,
``frameIndex``, attributes ``crowd``, ``occluded``, ``truncated``. The first release
(https://bdd-data.berkeley.edu/wad-2020.html) has ``video_name`` or ``videoName``, ``index``, and capital attributes.
"""

from __future__ import annotations

import logging
import os
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from qdtrack_ros.data._rows import (
    Faults,
    RowError,
    field,
    has_area,
    json_flag,
    json_integer,
    json_list,
    json_number,
    json_object,
    json_text,
    load_json,
    numbered,
)
from qdtrack_ros.data.media import frame_timestamp_ns, load_image, read_folder
from qdtrack_ros.data.types import Annotation, DataError, Frame, Sequence

logger = logging.getLogger(__name__)

BDD100K_FRAME_RATE = 5.0
BDD100K_CLASSES = ("pedestrian", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle")
BDD100K_IGNORED = ("other person", "other vehicle", "trailer")
"""Classes that the benchmark ignores: their boxes are regions in which any detection is forgiven."""

Row = Mapping[str, Any]


class _Label(NamedTuple):
    key: str  # the identity as the file writes it
    annotation: Annotation


class _Picture(NamedTuple):
    name: str
    width: int | None
    height: int | None
    labels: tuple[_Label, ...]


class _Place(NamedTuple):
    video: str
    frame: int
    picture: _Picture


def read_bdd100k(
    labels: str | os.PathLike[str], image_dir: str | os.PathLike[str], names: str = "*"
) -> tuple[Sequence, ...]:
    """Videos of BDD100K, one sequence each, by name; frames in the order of their index, which may have gaps.

    Boxes are taken as written, as the benchmark's evaluation and TrackEval do (newer Scalabel tools add a pixel to
    width and height). ``crowd`` boxes become regions to ignore, and so do boxes of the classes that the benchmark
    ignores (other person, other vehicle, trailer) and those marked ``ignored``; they keep label and identity. Labels
    without ``box2d`` are passed over, boxes without area left out with a warning. Identities are the numbers that the
    ids are; ids that are no numbers are numbered video by video.

    Args:
        labels: a folder with one JSON file per video (``labels/box_track_20/train``), named as the video; or one file
            of any number of videos.
        image_dir: pictures, in a folder per video (``images/track/train``); the folder of a single video will do.
        names: which videos, by a pattern of their names; of a folder only such files are opened.

    Raises:
        DataError: a file is missing or is not Scalabel JSON, or frames and labels are faulty (listed by place).
    """
    path = Path(labels)
    faults = Faults(path, "frames and labels")
    videos: defaultdict[str, dict[int, _Picture]] = defaultdict(dict)
    for file in _files(path, names):
        for where, row in _frames(file):
            place = _place(file, where, row, faults)
            if place is None or not fnmatchcase(place.video, names):
                continue
            if place.frame in videos[place.video]:
                faults.add(f"{where}: frame {place.frame} of video {place.video} is listed twice", path=file)
            videos[place.video][place.frame] = place.picture
    faults.close()
    return tuple(_sequence(video, videos[video], Path(image_dir)) for video in sorted(videos))


def read_bdd100k_pictures(image_dir: str | os.PathLike[str], names: str = "*") -> tuple[Sequence, ...]:
    """Videos of BDD100K without labels, as of the test set, which has none; a sequence for each folder, by name.

    Args:
        image_dir: holds a folder of pictures for each video (``images/track/test``).
        names: which videos, by a pattern of their names.

    Raises:
        DataError: no such folder, no folder of that name in it, or one without pictures.
    """
    root = Path(image_dir)
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; expected one with a folder of pictures for each video")
    folders = sorted(path for path in root.iterdir() if path.is_dir() and fnmatchcase(path.name, names))
    if not folders:
        raise DataError(f"{root}: no folder named {names} in it; expected one for each video, as in images/track/test")
    return tuple(read_folder(folder, BDD100K_FRAME_RATE) for folder in folders)


def _files(path: Path, names: str) -> list[Path]:
    if not path.is_dir():
        return [path]
    files = sorted(file for file in path.glob("*.json") if fnmatchcase(file.stem, names))
    if not files:
        raise DataError(f"{path}: no JSON file named {names}; expected one per video, as in labels/box_track_20/train")
    return files


def _frames(path: Path) -> list[tuple[str, Any]]:
    """Frames of a file, each with its place: a list, a list of one list per video, or ``frames`` of an object."""
    expected = "BDD100K labels: a list of frames"
    content = load_json(path, expected)
    prefix = ""
    if isinstance(content, dict) and isinstance(content.get("frames"), list):
        content, prefix = content["frames"], "frames"
    if not isinstance(content, list):
        raise DataError(f"{path}: holds a JSON {type(content).__name__}, expected {expected}")
    frames = []
    for position, item in enumerate(content):
        members = enumerate(item) if isinstance(item, list) else [(None, item)]
        for inner, row in members:
            frames.append((f"{prefix}[{position}]" + ("" if inner is None else f"[{inner}]"), row))
    return frames


def _place(path: Path, where: str, content: object, faults: Faults) -> _Place | None:
    """A frame; None, after noting why, when it is faulty."""
    try:
        row = json_object(content, "frame")
        name = field(row, "name", json_text)
        video = field(row, "video_name" if "video_name" in row else "videoName", json_text)
        index = field(row, "index" if "index" in row else "frameIndex", json_integer)
        width, height = _size(row)
        rows = json_list(row.get("labels") or [], "labels")
    except RowError as error:
        faults.add(f"{where}: {error}", path=path)
        return None
    labels: dict[str, _Label] = {}
    empty = 0
    for position, item in enumerate(rows):
        try:
            label = _label(json_object(item, "label"))
            if label is None:
                continue
            if not has_area(label.annotation.box):
                empty += 1
                continue
            if label.key in labels:
                raise RowError(f"identity {label.key} appears twice in frame {index}")
            labels[label.key] = label
        except RowError as error:
            faults.add(f"{where}.labels[{position}]: {error}", path=path)
    if empty:
        logger.warning("%s: %s: left out %d boxes without area", path, where, empty)
    return _Place(video, index, _Picture(name, width, height, tuple(labels.values())))


def _size(row: Row) -> tuple[int | None, int | None]:
    if row.get("size") is None:
        return None, None
    size = json_object(row["size"], "size")
    width, height = (field(size, key, json_integer) for key in ("width", "height"))
    if width <= 0 or height <= 0:
        raise RowError(f"size is {width} x {height}, expected more than 0")
    return width, height


def _label(row: Row) -> _Label | None:
    if row.get("box2d") is None:
        return None
    box = json_object(row["box2d"], "box2d")
    x1, y1, x2, y2 = (field(box, key, json_number) for key in ("x1", "y1", "x2", "y2"))
    if x2 < x1 or y2 < y1:
        raise RowError(f"box is {x1:g} {y1:g} {x2:g} {y2:g}, expected x1 < x2 and y1 < y2")
    category = field(row, "category", json_text)
    attributes = {key.lower(): value for key, value in json_object(row.get("attributes") or {}, "attributes").items()}
    crowd, ignored, occluded = (
        json_flag(attributes.get(key) or False, key) for key in ("crowd", "ignored", "occluded")
    )
    region = crowd or ignored or category in BDD100K_IGNORED
    # The label says only that something hides a part: half is as good a figure as any.
    annotation = Annotation((x1, y1, x2, y2), category, None, region, region, 0.5 if occluded else 1.0)
    return _Label(_key(row), annotation)


def _key(row: Row) -> str:
    """The identity: a text today, a number in some files of the first release."""
    value = row.get("id")
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return str(value)
    return field(row, "id", json_text)


def _sequence(video: str, pictures: Mapping[int, _Picture], image_dir: Path) -> Sequence:
    folder = image_dir / video
    if not folder.is_dir() and image_dir.name == video:
        folder = image_dir
    identities = numbered(label.key for picture in pictures.values() for label in picture.labels)
    frames = []
    for position, index in enumerate(sorted(pictures)):
        picture = pictures[index]
        path = folder / Path(picture.name).name
        annotations = tuple(replace(label.annotation, instance_id=identities[label.key]) for label in picture.labels)
        stamp_ns = frame_timestamp_ns(index, BDD100K_FRAME_RATE)
        load = partial(load_image, path)
        frames.append(Frame(position, stamp_ns, picture.width, picture.height, annotations, load, path))
    return Sequence(video, tuple(frames), BDD100K_FRAME_RATE, True)
