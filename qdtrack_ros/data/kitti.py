"""KITTI tracking annotations (``label_02``) over a folder of pictures or a video file."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence as AbstractSequence
from functools import partial
from pathlib import Path

from qdtrack_ros.data._rows import RowError, Rows, frame_index, identity, integer, number
from qdtrack_ros.data.media import VideoSource, frame_timestamp_ns, list_images, load_image, video_frame
from qdtrack_ros.data.types import Annotation, DataError, Frame, Sequence

KITTI_FRAME_RATE = 10.0  # the recordings' rate; video files made from them often carry another
# Fully visible, partly occluded, largely occluded; anything else is unknown.
VISIBILITY_OF_OCCLUSION = {0: 1.0, 1: 0.5, 2: 0.2}


def read_kitti_sequence(
    label_file: str | os.PathLike[str], images_or_video: str | os.PathLike[str], frame_rate: float = KITTI_FRAME_RATE
) -> Sequence:
    """One KITTI tracking sequence; frame numbers are 0-based, in the labels as in the pictures.

    ``DontCare`` boxes become regions (``ignore`` and ``crowd``) without identity. Visibility is a rough figure from the
    occlusion column. Boxes that the benchmark does not count, being truncated or hidden to an unknown part, have a
    difficulty of 2, the others of 1.

    Args:
        label_file: e.g. ``label_02/0000.txt``.
        images_or_video: the folder ``image_02/0000`` or a video file of the same frames.
        frame_rate: frames per second.

    Raises:
        DataError: something is missing, or the label file has faulty rows (listed by line).
    """
    labels, pictures = Path(label_file), Path(images_or_video)
    if pictures.is_dir():
        images = list_images(pictures)
        if not images:
            raise DataError(f"{pictures}: no picture in this folder; expected files such as 000000.png")
        _check_whole(pictures, images)
        truth = read_kitti_annotations(labels, len(images))
        frames = tuple(
            Frame(
                index, frame_timestamp_ns(index, frame_rate), None, None, truth[index], partial(load_image, path), path
            )
            for index, path in enumerate(images)
        )
    else:
        source = VideoSource(pictures)
        truth = read_kitti_annotations(labels, source.count)
        frames = tuple(video_frame(source, index, truth[index], frame_rate) for index in range(source.count))
    return Sequence(labels.stem, frames, frame_rate, True)


def _check_whole(folder: Path, images: AbstractSequence[Path]) -> None:
    """``DataError`` where pictures with the numbers of frames have gaps: all labels after one would be shifted."""
    if not all(path.stem.isdecimal() for path in images):
        return  # such are counted by their position, as are time stamps
    numbers = {int(path.stem) for path in images}
    first, last = min(numbers), max(numbers)
    if first <= 1 and last - first >= len(images):
        gap = next(number for number in range(first, last) if number not in numbers)
        raise DataError(f"{folder}: {len(images)} pictures with numbers from {first} to {last}; there is no {gap}")


def read_kitti_annotations(path: str | os.PathLike[str], frame_count: int) -> list[tuple[Annotation, ...]]:
    """Annotations of ``frame_count`` frames from a label file, one tuple a frame.

    Raises:
        DataError: lists the faulty rows by line.
    """
    rows = Rows(Path(path), None)
    frames: defaultdict[int, list[Annotation]] = defaultdict(list)
    for line, fields in rows:
        try:
            index, annotation = _parse_row(fields, frame_count)
            rows.check_unique(line, index, annotation.instance_id)
            frames[index].append(annotation)
        except RowError as error:
            rows.fault(line, str(error))
    rows.close()
    return [tuple(frames.get(index, ())) for index in range(frame_count)]


def _parse_row(fields: list[str], frame_count: int) -> tuple[int, Annotation]:
    if len(fields) < 10:
        raise RowError(f"{len(fields)} columns, expected 17 (frame, id, type, truncated, occluded, alpha, box, ...)")
    index = frame_index(fields[0], 0, frame_count)
    x1, y1, x2, y2 = (number(text, "box") for text in fields[6:10])
    if x2 <= x1 or y2 <= y1:
        raise RowError(f"box is {x1:g} {y1:g} {x2:g} {y2:g}, expected left < right and top < bottom")
    region = fields[2] == "DontCare"
    instance_id = identity(fields[1])
    truncated, occluded = number(fields[3], "truncated"), integer(fields[4], "occluded")
    visibility = VISIBILITY_OF_OCCLUSION.get(occluded, 1.0)
    difficulty = 2 if truncated > 0 or occluded > max(VISIBILITY_OF_OCCLUSION) else 1
    box, identified = (x1, y1, x2, y2), None if region else instance_id
    return index, Annotation(box, fields[2], identified, region, region, visibility, difficulty)
