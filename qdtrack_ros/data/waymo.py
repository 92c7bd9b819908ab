"""Waymo Open Dataset, Perception v2: parquet files, a folder per component. Only here is ``pyarrow`` used.

Components and columns are those of https://github.com/waymo-research/waymo-open-dataset, folder
``src/waymo_open_dataset/v2``: ``perception/camera_image.py``, ``perception/box.py``, ``column_types.py``. The layout of
the files is that of its ``tutorial/tutorial_v2.ipynb``: ``camera_image/SEGMENT.parquet`` and so on.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from qdtrack_ros.data._rows import (
    Faults,
    RowError,
    corners,
    field,
    has_area,
    json_integer,
    json_number,
    json_text,
    numbered,
)
from qdtrack_ros.data.media import decode_picture
from qdtrack_ros.data.types import Annotation, DataError, Frame, Image, Sequence

WAYMO_FRAME_RATE = 10.0
CAMERAS = {1: "FRONT", 2: "FRONT_LEFT", 3: "FRONT_RIGHT", 4: "SIDE_LEFT", 5: "SIDE_RIGHT"}
BOX_TYPES = {0: "unknown", 1: "vehicle", 2: "pedestrian", 3: "sign", 4: "cyclist"}
"""Names of the enumeration BoxType, in small letters and without their TYPE_."""

_SEGMENT, _TIME, _CAMERA, _OBJECT = (
    f"key.{name}" for name in ("segment_context_name", "frame_timestamp_micros", "camera_name", "camera_object_id")
)
_PICTURE = "[CameraImageComponent].image"
_BOX = "[CameraBoxComponent]"
_CENTER_X, _CENTER_Y, _SIZE_X, _SIZE_Y = (f"{_BOX}.box.{part}" for part in ("center.x", "center.y", "size.x", "size.y"))
_TYPE, _LEVEL = f"{_BOX}.type", f"{_BOX}.difficulty_level.tracking"

_Place = tuple[int, int]  # camera, time stamp in microseconds


class _Row(NamedTuple):
    place: _Place
    key: str
    annotation: Annotation


def read_waymo(folder: str | os.PathLike[str], names: str = "*", in_memory: bool = False) -> tuple[Sequence, ...]:
    """Videos of Waymo's cameras, one sequence per segment and camera, named ``SEGMENT/FRONT``; frames by their time.

    Labels are those of ``BOX_TYPES``. The level of difficulty is that of tracking. Object ids, which are texts, become
    numbers within their segment. Without a folder ``camera_box`` (test set) there are no annotations.

    Pictures lie in the parquet file and are read from it a row group at a time, the last of which is kept: going
    through a sequence reads the file once, jumping about in it reads it again and again. ``in_memory`` keeps all
    pictures, as the JPEG data that they are.

    Args:
        folder: holds ``camera_image`` and ``camera_box``.
        names: which sequences, by a pattern of their names such as ``*/FRONT``.
        in_memory: read all pictures now.

    Raises:
        DataError: files are missing or are no such parquet files, or rows are faulty (listed by number, from 0).
        ImportError: pyarrow is not installed.
    """
    root = Path(folder)
    images, boxes = root / "camera_image", root / "camera_box"
    files = sorted(images.glob("*.parquet"))
    if not files:
        raise DataError(f"{images}: no parquet file; expected one per segment, as Waymo's Perception v2 has them")
    faults, pictures = Faults(root), _Pictures()
    found: list[Sequence] = []
    for file in files:
        cameras = [number for number, name in CAMERAS.items() if fnmatchcase(f"{file.stem}/{name}", names)]
        if cameras:
            rows = _read_boxes(boxes / file.name, faults) if boxes.is_dir() else []
            found += _segment(file, rows, cameras, pictures, in_memory, faults)
    faults.close()
    return tuple(found)


def _segment(
    file: Path, boxes: list[_Row], cameras: list[int], pictures: _Pictures, in_memory: bool, faults: Faults
) -> Iterator[Sequence]:
    """The sequences of a segment's cameras."""
    places = _read_places(file, faults)
    identities = numbered(row.key for row in boxes)
    annotations: defaultdict[_Place, list[Annotation]] = defaultdict(list)
    for row in boxes:
        annotations[row.place].append(_identified(row, identities))
    for camera, stamp in annotations.keys() - places.keys():
        reason = f"boxes of camera {CAMERAS[camera]} at {stamp}, but no picture of it in camera_image"
        faults.add(reason, path=file.parent.parent / "camera_box" / file.name)
    for camera in cameras:
        stamps = sorted(stamp for number, stamp in places if number == camera)
        frames = []
        for index, stamp in enumerate(stamps):
            row_number = places[camera, stamp]
            load = partial(pictures.load, file, row_number)
            if in_memory:
                load = partial(decode_picture, pictures.data(file, row_number), f"{file}, row {row_number}")
            here = tuple(annotations.get((camera, stamp), ()))
            frames.append(Frame(index, 1000 * stamp, None, None, here, load))
        if frames:
            yield Sequence(f"{file.stem}/{CAMERAS[camera]}", tuple(frames), WAYMO_FRAME_RATE, True)


def _identified(row: _Row, identities: Mapping[str, int]) -> Annotation:
    box, label, difficulty = row.annotation.box, row.annotation.label, row.annotation.difficulty
    return Annotation(box, label, identities[row.key], difficulty=difficulty)


def _read_places(file: Path, faults: Faults) -> dict[_Place, int]:
    """Row number of each picture."""
    places: dict[_Place, int] = {}
    for number, row in enumerate(_rows(file, (_SEGMENT, _TIME, _CAMERA), (_PICTURE,))):
        try:
            place = _place(row, file)
            if places.setdefault(place, number) != number:
                raise RowError(
                    f"picture of camera {CAMERAS[place[0]]} at {place[1]} is that of row {places[place]}, too"
                )
        except RowError as error:
            faults.add(f"row {number}: {error}", path=file)
    return places


def _read_boxes(file: Path, faults: Faults) -> list[_Row]:
    if not file.is_file():
        faults.add("no such file; expected the boxes of the segment's pictures", path=file)
        return []
    columns = (_SEGMENT, _TIME, _CAMERA, _OBJECT, _CENTER_X, _CENTER_Y, _SIZE_X, _SIZE_Y, _TYPE)
    boxes: dict[tuple[_Place, str], _Row] = {}
    for number, values in enumerate(_rows(file, columns, (), (_LEVEL,))):
        try:
            row = _box(values, file)
            if (row.place, row.key) in boxes:
                raise RowError(f"object {row.key} appears twice at {row.place[1]} in camera {CAMERAS[row.place[0]]}")
            boxes[row.place, row.key] = row
        except RowError as error:
            faults.add(f"row {number}: {error}", path=file)
    return list(boxes.values())


def _place(row: Mapping[str, Any], file: Path) -> _Place:
    segment, camera = field(row, _SEGMENT, json_text), field(row, _CAMERA, json_integer)
    if segment != file.stem:
        raise RowError(f"{_SEGMENT} is {segment}, expected {file.stem} as the file is named")
    if camera not in CAMERAS:
        raise RowError(f"{_CAMERA} is {camera}, expected 1 to {len(CAMERAS)}")
    return camera, field(row, _TIME, json_integer)


def _box(row: Mapping[str, Any], file: Path) -> _Row:
    place = _place(row, file)
    x, y, width, height = (field(row, key, json_number) for key in (_CENTER_X, _CENTER_Y, _SIZE_X, _SIZE_Y))
    box = corners(x - width / 2, y - height / 2, width, height)
    if not has_area(box):
        raise RowError(f"box is {width:g} wide and {height:g} high, expected more than 0")
    kind = field(row, _TYPE, json_integer)
    if kind not in BOX_TYPES:
        raise RowError(f"{_TYPE} is {kind}, expected 0 to {len(BOX_TYPES) - 1}")
    level = 0 if row.get(_LEVEL) is None else json_integer(row[_LEVEL], _LEVEL)
    return _Row(place, field(row, _OBJECT, json_text), Annotation(box, BOX_TYPES[kind], None, difficulty=level))


class _Pictures:
    """Pictures of ``camera_image`` files by file and row. Picklable; keeps no file open, so that it may cross a fork.

    All sequences of a source share one: what is kept is the row group read last, not one of each segment.
    """

    def __init__(self) -> None:
        self._kept: tuple[Path | None, int, Any] = (None, 0, ())  # file, first row, column of pictures

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__()  # type: ignore[misc]

    def data(self, file: Path, row: int) -> bytes:
        """The picture of a row as it is stored."""
        kept, first, column = self._kept
        if kept != file or not first <= row < first + len(column):
            first, column = _read_group(file, row)
            self._kept = (file, first, column)
        return column[row - first].as_py() or b""

    def load(self, file: Path, row: int) -> Image:
        """The picture of a row, uint8 [H, W, 3] BGR; ``DataError`` when it is damaged."""
        return decode_picture(self.data(file, row), f"{file}, row {row}")


def _read_group(path: Path, row: int) -> tuple[int, Any]:
    """First row and pictures of the row group that a row is in."""
    try:
        with _parquet().ParquetFile(path) as file:
            first = 0
            for group in range(file.num_row_groups):
                count = file.metadata.row_group(group).num_rows
                if row < first + count:
                    # Threads of a library do not survive a fork: a data worker would wait for them forever.
                    return first, file.read_row_group(group, [_PICTURE], use_threads=False).column(0)
                first += count
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({error})") from error
    raise DataError(f"{path}: row {row} is gone; the file has {first}")


def _rows(
    file: Path, columns: tuple[str, ...], unread: tuple[str, ...] = (), optional: tuple[str, ...] = ()
) -> Iterator[dict[str, Any]]:
    """Rows of a parquet file by column; ``unread`` columns must be there, ``optional`` ones need not."""
    parquet = _parquet()
    try:
        with parquet.ParquetFile(file) as source:
            there = set(source.schema_arrow.names)
            missing = [column for column in (*columns, *unread) if column not in there]
            if missing:
                raise DataError(f"{file}: has no column {', '.join(missing)}; expected Waymo's Perception v2")
            wanted = [*columns, *(column for column in optional if column in there)]
            rows: list[dict[str, Any]] = source.read(wanted, use_threads=False).to_pylist()
    except (OSError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{file}: not a parquet file ({error}); expected Waymo's Perception v2") from error
    yield from rows


def _parquet() -> Any:
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise ImportError("Waymo's files need pyarrow: pip install pyarrow") from error
    return parquet
