"""MOTChallenge sequences: MOT15, MOT16, MOT17, MOT20, DanceTrack, and what labelling tools export as MOT.

CVAT (https://docs.cvat.ai/docs/dataset_management/formats/format-mot) writes no ``seqinfo.ini``, and beside ``gt.txt``
the names of its classes, a line each, which column 8 counts from 1.
"""

from __future__ import annotations

import configparser
import operator
import os
from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

from qdtrack_ros.data._rows import RowError, Rows, frame_index, identity, integer, number, text_lines
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
LABELS = "labels.txt"
# Columns 8 to 10 of VisDrone: ignored regions, 10 classes, others; whether cut by the edge; how much hidden.
_VISDRONE_VALUES = (frozenset(map(str, range(12))), frozenset("01"), frozenset("012"))


def read_mot_sequence(
    folder: str | os.PathLike[str], is_video: bool = True, frame_rate: float | None = None
) -> Sequence:
    """One MOTChallenge sequence.

    Pictures come from ``imDir`` of ``seqinfo.ini`` (any suffix OpenCV reads), else from a video file beside it, whose
    frame i (0-based) is ground truth frame i + 1. ``gt/gt.txt``, or ``gt.txt`` in the folder itself, may be missing
    (test sets): then no annotations; or ``seqinfo.ini`` (labelling tools): then the frame rate is unknown. Column 7 is
    a flag (0 = ignore). Rows of nine columns carry class and visibility (MOT16 and later), of eight the class; other
    rows are MOT15 ones, where world coordinates follow.
    VisDrone's rows, which have the class in place of these, are refused. Boxes are taken as written, as the benchmark's
    own tools do.

    Args:
        folder: holds ``seqinfo.ini`` or the ground truth.
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
    truth = truth_file(root)
    annotations = [()] * len(bare) if truth is None else read_mot_annotations(truth, len(bare))
    frames = tuple(replace(frame, annotations=boxes) for frame, boxes in zip(bare, annotations, strict=True))
    return Sequence(name, frames, rate, is_video)


def read_mot_annotations(path: str | os.PathLike[str], frame_count: int) -> list[tuple[Annotation, ...]]:
    """Annotations of ``frame_count`` frames from a ``gt.txt``, one tuple a frame, in the order of the file.

    Classes are those of ``labels.txt`` beside it, else MOTChallenge's.

    Raises:
        DataError: lists the faulty rows by line.
    """
    own = own_classes(Path(path).parent)
    return _read_rows(Path(path), frame_count, MOT_CLASSES if own is None else dict(enumerate(own, start=1)))


def read_mot_results(path: str | os.PathLike[str], frame_count: int) -> list[tuple[Annotation, ...]]:
    """Tracks of ``frame_count`` frames from a result file, one tuple a frame, all with an identity.

    What follows the score (column 7) is not looked at: trackers write -1 there, in as many columns as they like.

    Raises:
        DataError: lists the faulty rows by line.
    """
    return _read_rows(Path(path), frame_count, None)


def _read_rows(path: Path, frame_count: int, classes: Mapping[int, str] | None) -> list[tuple[Annotation, ...]]:
    """Rows by frame; without classes they are tracks."""
    rows = Rows(path, ",")
    frames: defaultdict[int, list[Annotation]] = defaultdict(list)
    ends: set[tuple[str, ...] | None] = set()  # of the rows, after the flag, where they can be VisDrone's
    for line, fields in rows:
        if not fields[-1]:  # a comma at the end of the row, which the benchmark's own tools pass over
            fields.pop()
        ends.add(_visdrone_end(fields))
        try:
            index, annotation = _parse_row(fields, frame_count, classes)
            if classes is None and annotation.instance_id is None:
                raise RowError(f"identity is {fields[1]}, expected 0 or more: these are detections, and no tracks")
            rows.check_unique(line, index + 1, annotation.instance_id)
            frames[index].append(annotation)
        except RowError as error:
            rows.fault(line, str(error))
    rows.close()
    if classes is MOT_CLASSES and _is_visdrone(ends):
        raise DataError(
            f"{path}: rows end with VisDrone's category, truncation and occlusion, where MOT15 has world coordinates; "
            "expected nine columns, the last two class and visibility, with the names of classes 1, 2, ... in "
            f"{path.parent / LABELS}, a line each"
        )
    return [tuple(frames.get(index, ())) for index in range(frame_count)]


def _visdrone_end(fields: list[str]) -> tuple[str, ...] | None:
    """Columns 8 to 10 of a row that can be VisDrone's, else None."""
    end = tuple(fields[7:])
    return end if len(end) == 3 and all(map(operator.contains, _VISDRONE_VALUES, end)) else None


def _is_visdrone(ends: Collection[tuple[str, ...] | None]) -> bool:
    """Whether a file is VisDrone's, by the different ends of its rows; False where all are pedestrians.

    World coordinates are -1 throughout, or measured, and then not whole numbers from so few; those that are the same in
    every row say nothing.
    """
    categories = {end[0] for end in ends if end is not None}
    return None not in ends and len(ends) > 1 and categories != {"1"}


def own_classes(folder: Path) -> tuple[str, ...] | None:
    """Classes that a labelling tool wrote into ``labels.txt`` beside ``gt.txt``; None where it did not.

    Raises:
        DataError: the file holds a name twice, or none.
    """
    path = folder / LABELS
    if not path.is_file():
        return None
    names = tuple(row.strip() for _, row in text_lines(path))
    if not names or len(set(names)) < len(names):
        raise DataError(f"{path}: {len(names)} names, {len(set(names))} of them different; expected a class a line")
    return names


def _parse_row(fields: list[str], frame_count: int, classes: Mapping[int, str] | None) -> tuple[int, Annotation]:
    if len(fields) < 7:
        raise RowError(f"{len(fields)} columns, expected at least 7 (frame, id, left, top, width, height, flag)")
    index = frame_index(fields[0], 1, frame_count)
    left, top, width, height = (number(text, "box") for text in fields[2:6])
    if width <= 0 or height <= 0:
        raise RowError(f"box is {width:g} wide and {height:g} high, expected more than 0")
    label, crowd, visibility = "pedestrian", False, 1.0
    own = classes is not None and classes is not MOT_CLASSES
    if own and len(fields) < 8:
        raise RowError(f"{len(fields)} columns, expected 9 (the last: class, visibility), for there is a labels.txt")
    if classes is not None and (own or len(fields) in (8, 9)):
        class_number = integer(fields[7], "class")
        if class_number not in classes:
            raise RowError(f"class is {class_number}, expected 1 to {len(classes)}")
        label = classes[class_number]
        crowd = not own and class_number == CROWD_CLASS
        if len(fields) > 8:
            visibility = max(0.0, min(1.0, number(fields[8], "visibility")))
    box = (left, top, left + width, top + height)
    return index, Annotation(box, label, identity(fields[1]), number(fields[6], "flag") == 0, crowd, visibility)


def truth_file(folder: Path) -> Path | None:
    """Ground truth of a sequence: ``gt/gt.txt``, else ``gt.txt`` in the folder itself; None where there is neither."""
    return next((path for path in (folder / "gt" / "gt.txt", folder / "gt.txt") if path.is_file()), None)


def is_mot_folder(folder: Path) -> bool:
    """Whether a folder is a sequence of this format."""
    if (folder / "seqinfo.ini").is_file() or (folder / "gt" / "gt.txt").is_file():
        return True
    return (folder / "gt.txt").is_file() and (folder / "img1").is_dir()  # else it may be anything, among pictures


def _read_info(root: Path) -> Mapping[str, str]:
    path = root / "seqinfo.ini"
    if not path.exists() and truth_file(root) is not None:
        return {}
    parser = configparser.ConfigParser(interpolation=None)
    try:
        if not parser.read(path, encoding="utf-8-sig"):
            raise DataError(f"{path}: no such file; expected a MOTChallenge folder with seqinfo.ini or gt/gt.txt")
        return parser["Sequence"]
    except (configparser.Error, KeyError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not a seqinfo.ini ({error}); expected a section [Sequence]") from error


def _positive(root: Path, info: Mapping[str, str], key: str) -> float | None:
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


def _picture_frames(root: Path, info: Mapping[str, str], rate: float | None, length: int | None) -> list[Frame]:
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


def _folder_frames(folder: Path, info: Mapping[str, str], rate: float | None, length: int | None) -> list[Frame]:
    """Frames by the number in the file name (000001 is the first); by position where a name is no number, or 0."""
    images = list_images(folder)
    numbers = [int(path.stem) for path in images if path.stem.isdecimal() and int(path.stem) > 0]
    numbered = dict(zip(numbers if len(numbers) == len(images) else range(1, len(images) + 1), images, strict=True))
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


def _size(info: Mapping[str, str], key: str) -> int | None:
    text = info.get(key, "")
    return int(text) if text.isdecimal() and int(text) > 0 else None
