"""MOTChallenge sequences: MOT15, MOT16, MOT17, MOT20, DanceTrack and others with ``seqinfo.ini`` and ``gt/gt.txt``."""

from __future__ import annotations

import configparser
import os
from collections import defaultdict
from dataclasses import replace
from functools import partial
from pathlib import Path

from qdtrack_ros.data._rows import RowError, Rows, frame_index, identity, integer, number
from qdtrack_ros.data.media import VideoSource, frame_timestamp_ns, is_video, list_images, load_image, video_frame
from qdtrack_ros.data.types import Annotation, DataError, Frame, Sequence

# Column 8 of MOT16, MOT17 and MOT20; the names are those of TrackEval.
MOT_CLASSES = {
    1: "pedestrian",
    2: "person_on_vehicle",
    3: "car",
    4: "bicycle",
    5: "motorbike",
    6: "non_mot_vehicle",
    7: "static_person",
    8: "distractor",
    9: "occluder",
    10: "occluder_on_ground",
    11: "occluder_full",
    12: "reflection",
    13: "crowd",
}
CROWD_CLASS = 13


def read_mot_sequence(
    folder: str | os.PathLike[str], is_video: bool = True, frame_rate: float | None = None
) -> Sequence:
    """One MOTChallenge sequence.

    Pictures come from ``imDir`` of ``seqinfo.ini`` (any suffix OpenCV reads), else from a video file beside it, whose
    frame i (0-based) is ground truth frame i + 1. ``gt/gt.txt`` may be missing (test sets): then no annotations.
    Column 7 is a flag (0 = ignore). Rows of nine columns carry class and visibility (MOT16 and later); other rows are
    MOT15 ones, where world coordinates follow. Boxes are taken as written, as the benchmark's own tools do.

    Args:
        folder: holds ``seqinfo.ini``.
        is_video: False when neighbouring frames are too far apart to be tracked through.
        frame_rate: replaces the one in ``seqinfo.ini``.

    Raises:
        DataError: something is missing, or ``gt.txt`` has faulty rows (listed by line).
    """
    root = Path(folder)
    info = _read_info(root)
    name = info.get("name", root.resolve().name)
    rate = frame_rate if frame_rate is not None else _positive(root, info, "frameRate")
    length = _positive(root, info, "seqLength")
    bare = _picture_frames(root, info, rate if is_video else None, None if length is None else int(length))
    truth = root / "gt" / "gt.txt"
    annotations = read_mot_annotations(truth, len(bare)) if truth.is_file() else [()] * len(bare)
    frames = tuple(replace(frame, annotations=boxes) for frame, boxes in zip(bare, annotations, strict=True))
    return Sequence(name, frames, rate, is_video)


def read_mot_annotations(path: str | os.PathLike[str], frame_count: int) -> list[tuple[Annotation, ...]]:
    """Annotations of ``frame_count`` frames from a ``gt.txt``, one tuple a frame, in the order of the file.

    Raises:
        DataError: lists the faulty rows by line.
    """
    rows = Rows(Path(path), ",")
    frames: defaultdict[int, list[Annotation]] = defaultdict(list)
    for line, fields in rows:
        try:
            index, annotation = _parse_row(fields, frame_count)
            rows.check_unique(line, index + 1, annotation.instance_id)
            frames[index].append(annotation)
        except RowError as error:
            rows.fault(line, str(error))
    rows.close()
    return [tuple(frames[index]) for index in range(frame_count)]


def _parse_row(fields: list[str], frame_count: int) -> tuple[int, Annotation]:
    if len(fields) < 7:
        raise RowError(f"{len(fields)} columns, expected at least 7 (frame, id, left, top, width, height, flag)")
    index = frame_index(fields[0], 1, frame_count)
    left, top, width, height = (number(text, "box") for text in fields[2:6])
    if width <= 0 or height <= 0:
        raise RowError(f"box is {width:g} wide and {height:g} high, expected more than 0")
    label, crowd, visibility = "pedestrian", False, 1.0
    if len(fields) == 9:
        class_number = integer(fields[7], "class")
        if class_number not in MOT_CLASSES:
            raise RowError(f"class is {class_number}, expected 1 to {len(MOT_CLASSES)}")
        label, crowd = MOT_CLASSES[class_number], class_number == CROWD_CLASS
        visibility = max(0.0, min(1.0, number(fields[8], "visibility")))
    box = (left, top, left + width, top + height)
    return index, Annotation(box, label, identity(fields[1]), number(fields[6], "flag") == 0, crowd, visibility)


def _read_info(root: Path) -> configparser.SectionProxy:
    path = root / "seqinfo.ini"
    parser = configparser.ConfigParser(interpolation=None)
    try:
        if not parser.read(path, encoding="utf-8-sig"):
            raise DataError(f"{path}: no such file; expected a MOTChallenge folder with seqinfo.ini and gt/gt.txt")
        return parser["Sequence"]
    except (configparser.Error, KeyError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not a seqinfo.ini ({error}); expected a section [Sequence]") from error


def _positive(root: Path, info: configparser.SectionProxy, key: str) -> float | None:
    text = info.get(key)
    if text is None:
        return None
    try:
        value = number(text, key)
    except RowError as error:
        raise DataError(f"{root / 'seqinfo.ini'}: {error}") from None
    if value <= 0:
        raise DataError(f"{root / 'seqinfo.ini'}: {key} is {text}, expected more than 0")
    return value


def _picture_frames(root: Path, info: configparser.SectionProxy, rate: float | None, length: int | None) -> list[Frame]:
    folder = root / info.get("imDir", "img1")
    if folder.is_dir():
        return _folder_frames(folder, info, rate, length)
    videos = sorted(path for path in root.iterdir() if is_video(path))
    if len(videos) != 1:
        found = f"no folder {folder.name} and {len(videos)} video files"
        raise DataError(f"{root}: {found}; expected pictures in {folder.name} or exactly one video")
    source = VideoSource(videos[0])
    if length is not None and length > source.count:
        raise DataError(f"{root}: seqinfo.ini promises {length} frames, {videos[0].name} has {source.count}")
    return [video_frame(source, index, (), rate) for index in range(length or source.count)]


def _folder_frames(
    folder: Path, info: configparser.SectionProxy, rate: float | None, length: int | None
) -> list[Frame]:
    """Frames by the number in the file name (000001 is the first); names that are no numbers count by position."""
    images = list_images(folder)
    if all(path.stem.isdecimal() for path in images):
        numbered = {int(path.stem): path for path in images}
    else:
        numbered = dict(enumerate(images, start=1))
    count = length or max(numbered, default=0)
    missing = [frame for frame in range(1, count + 1) if frame not in numbered]
    if missing or count == 0:
        shown = ", ".join(map(str, missing[:5])) + (", ..." if len(missing) > 5 else "")
        raise DataError(f"{folder}: {len(images)} pictures, expected frames 1 to {count}; missing: {shown or 'all'}")
    width, height = (_size(info, key) for key in ("imWidth", "imHeight"))
    return [
        Frame(number - 1, frame_timestamp_ns(number - 1, rate), width, height, (), partial(load_image, path), path)
        for number in range(1, count + 1)
        for path in [numbered[number]]
    ]


def _size(info: configparser.SectionProxy, key: str) -> int | None:
    text = info.get(key, "")
    return int(text) if text.isdecimal() and int(text) > 0 else None
