"""Results of Waymo's 2D tracking: a binary ``Objects`` message; Waymo's ``create_submission`` makes a submission of it.

Defined by https://github.com/waymo-research/waymo-open-dataset, ``src/waymo_open_dataset``: ``protos/metrics.proto``,
``label.proto``, ``dataset.proto``. It takes four messages and a dozen fields, which are encoded here in five small
functions (https://protobuf.dev/programming-guides/encoding) rather than by generated code and another dependency. The
tests read them back with the protobuf package.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from qdtrack_ros.data.types import DataError
from qdtrack_ros.data.waymo import BOX_TYPES, CAMERAS
from qdtrack_ros.evaluation.tracks import LabelledTracks, frame_by_frame, track_rows
from qdtrack_ros.evaluation.waymo import IOUS
from qdtrack_ros.files import replacing


class CameraTracks(NamedTuple):
    """Tracks of one camera of one segment.

    Attributes:
        name: ``SEGMENT/FRONT``, as the reader names its sequences.
        timestamps_ns: of the frames; whole microseconds, equal to Waymo's.
        frames: tracks of each frame, empty ones included.
    """

    name: str
    timestamps_ns: Sequence[int]
    frames: Sequence[LabelledTracks]


def waymo_objects(video: CameraTracks, labels: Sequence[str]) -> Iterator[bytes]:
    """The boxes of one camera, each as a field of ``Objects``; put one after the other they are the message.

    ``length`` is the extent along x, ``width`` along y; ids are texts such as ``FRONT-17``, unique in their segment.
    Tracks of classes that Waymo does not evaluate are left out.

    Raises:
        DataError: a name that is no segment and camera; different numbers of times and frames; no label is a class of
            Waymo.
    """
    segment, _, camera_name = video.name.rpartition("/")
    cameras = {name: number for number, name in CAMERAS.items()}
    if not segment or camera_name not in cameras:
        raise DataError(f"{video.name} is no segment and camera; expected SEGMENT/{'|'.join(cameras)}")
    numbers = {name: number for number, name in BOX_TYPES.items() if name in IOUS}
    types = {index: numbers[label] for index, label in enumerate(labels) if label in numbers}
    if not types:
        raise DataError(f"tracks are of {', '.join(labels)}; Waymo has {', '.join(numbers)}")
    for timestamp_ns, tracks in frame_by_frame(*video):
        place = _text(4, segment) + _number(5, timestamp_ns // 1000) + _number(6, cameras[camera_name])
        for row in track_rows(tracks):
            if row.label not in types:
                continue
            x1, y1, x2, y2 = row.box
            center = _double(1, (x1 + x2) / 2) + _double(2, (y1 + y2) / 2)
            box = center + _double(4, y2 - y1) + _double(5, x2 - x1)
            labelled = _message(1, box) + _number(3, types[row.label]) + _text(4, f"{camera_name}-{row.identity}")
            yield _message(1, _message(1, labelled) + _float(2, row.score) + place)


def write_waymo(path: str | os.PathLike[str], videos: Iterable[CameraTracks], labels: Sequence[str]) -> None:
    """Write the results of any number of cameras and segments as one ``Objects`` file, whole or not at all.

    Raises:
        DataError: as ``waymo_objects``.
    """
    with replacing(Path(path)) as file:
        for video in videos:
            file.writelines(waymo_objects(video, labels))


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _double(field: int, value: float) -> bytes:
    return _varint(field << 3 | 1) + struct.pack("<d", value)


def _message(field: int, content: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(content)) + content


def _text(field: int, text: str) -> bytes:
    return _message(field, text.encode())


def _float(field: int, value: float) -> bytes:
    return _varint(field << 3 | 5) + struct.pack("<f", value)
