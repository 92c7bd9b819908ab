"""Formats of annotated data by name: the one place where a name meets its reader."""

from __future__ import annotations

from collections.abc import Callable
from fnmatch import fnmatchcase
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from qdtrack_ros.data._rows import load_json, text_lines
from qdtrack_ros.data.bdd100k import read_bdd100k
from qdtrack_ros.data.coco import read_coco
from qdtrack_ros.data.coco_video import read_coco_videos, read_tao
from qdtrack_ros.data.crowdhuman import read_crowdhuman
from qdtrack_ros.data.kitti import read_kitti_sequence
from qdtrack_ros.data.label_studio import read_label_studio
from qdtrack_ros.data.mot import read_mot_sequence, truth_file
from qdtrack_ros.data.types import DataError, Sequence
from qdtrack_ros.data.waymo import read_waymo

_KITTI_COLUMNS = 17
_ROWS_LOOKED_AT = 10


class Location(NamedTuple):
    """Where annotated data is.

    Attributes:
        pictures: MOT folder; pictures or video of KITTI; folder of Waymo's components; else the folder of pictures.
        annotations: file or folder; ``pictures`` itself where the format keeps both in one place.
        names: which sequences, by a pattern of their names.
        in_memory: keep pictures in memory, where the reader can.
    """

    pictures: Path
    annotations: Path
    names: str = "*"
    in_memory: bool = False


class Format(NamedTuple):
    """A format: how it is read, and what its annotations are, for messages; "" where they are with the pictures."""

    read: Callable[[Location], tuple[Sequence, ...]]
    annotations: str


FORMATS = {
    "mot": Format(lambda at: (read_mot_sequence(at.pictures),), ""),
    "kitti": Format(lambda at: (read_kitti_sequence(at.annotations, at.pictures),), "a label file"),
    "coco": Format(lambda at: (read_coco(at.annotations, at.pictures),), "a JSON file"),
    "crowdhuman": Format(lambda at: (read_crowdhuman(at.annotations, at.pictures),), "an .odgt file"),
    "cocovid": Format(lambda at: read_coco_videos(at.annotations, at.pictures, at.names), "a JSON file"),
    "tao": Format(lambda at: read_tao(at.annotations, at.pictures, at.names), "a JSON file"),
    "bdd100k": Format(lambda at: read_bdd100k(at.annotations, at.pictures, at.names), "a folder of JSON files, or one"),
    "label_studio": Format(lambda at: read_label_studio(at.annotations, at.pictures), "a JSON file"),
    "waymo": Format(lambda at: read_waymo(at.pictures, at.names, at.in_memory), ""),
}


def read_sequences(name: str, location: Location) -> tuple[Sequence, ...]:
    """The sequences of a format whose names match; at least one.

    Raises:
        DataError: something is missing or faulty, by file and line, or no name matches.
        ImportError: the format needs a package that is not installed.
    """
    found = FORMATS[name].read(location)
    chosen = tuple(sequence for sequence in found if fnmatchcase(sequence.name, location.names))
    if not chosen:
        there = ", ".join(sequence.name for sequence in islice(found, 5)) or "none"
        raise DataError(f"{location.annotations}: no sequence is named {location.names}; found: {there}")
    return chosen


def recognise(annotations: Path) -> str:
    """Name of the format that a file or folder of annotations is of.

    Raises:
        DataError: it is of none.
    """
    if annotations.is_dir():
        return _recognise_folder(annotations)
    if annotations.suffix == ".odgt":
        return "crowdhuman"
    if annotations.suffix == ".json":
        return _recognise_json(annotations)
    # Of the first rows, not the first alone: one that is cut short is a fault of its line, not of the whole file.
    rows = [row for _, row in islice(text_lines(annotations), _ROWS_LOOKED_AT)]
    return "kitti" if any("," not in row and len(row.split()) >= _KITTI_COLUMNS for row in rows) else "mot"


def _recognise_folder(folder: Path) -> str:
    if (folder / "camera_image").is_dir():
        return "waymo"
    if (folder / "gt").is_dir() or (folder / "seqinfo.ini").is_file() or truth_file(folder) is not None:
        return "mot"
    if next(folder.glob("*.json"), None) is not None:
        return "bdd100k"
    expected = "gt/gt.txt (MOTChallenge), JSON files (BDD100K), or camera_image (Waymo)"
    raise DataError(f"{folder}: no folder of annotations; expected {expected} in it")


def _recognise_json(path: Path) -> str:
    content = load_json(path, "annotations of BDD100K, COCO, CocoVID, TAO or Label Studio")
    if isinstance(content, list) and content and isinstance(content[0], dict) and "annotations" in content[0]:
        return "label_studio"
    if not isinstance(content, dict) or "frames" in content:
        return "bdd100k"
    if "videos" not in content:
        return "coco"
    return "tao" if "tracks" in content else "cocovid"
