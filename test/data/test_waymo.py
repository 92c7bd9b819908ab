"""Waymo's Perception v2: parquet files of pictures and of boxes."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from qdtrack_ros.data.types import DataError
from qdtrack_ros.data.waymo import read_waymo

SEGMENT = "10023947602400723454_1120_000_1140_000"
FRONT, SIDE = 1, 4


def jpeg(value: int) -> bytes:
    return cv2.imencode(".jpg", np.full((8, 12, 3), value, np.uint8))[1].tobytes()


def picture(stamp: int, camera: int = FRONT, value: int = 0, **fields: Any) -> dict[str, Any]:
    return {
        "key.segment_context_name": SEGMENT,
        "key.frame_timestamp_micros": stamp,
        "key.camera_name": camera,
        "[CameraImageComponent].image": jpeg(value),
        **fields,
    }


def box(stamp: int, key: str, camera: int = FRONT, **fields: Any) -> dict[str, Any]:
    return {
        "key.segment_context_name": SEGMENT,
        "key.frame_timestamp_micros": stamp,
        "key.camera_name": camera,
        "key.camera_object_id": key,
        "[CameraBoxComponent].box.center.x": 6.0,
        "[CameraBoxComponent].box.center.y": 4.0,
        "[CameraBoxComponent].box.size.x": 3.0,
        "[CameraBoxComponent].box.size.y": 2.0,
        "[CameraBoxComponent].type": 1,
        "[CameraBoxComponent].difficulty_level.detection": 1,
        "[CameraBoxComponent].difficulty_level.tracking": 2,
        **fields,
    }


def save(root: Path, component: str, rows: list[dict[str, Any]], name: str = SEGMENT, group: int = 2) -> None:
    pyarrow = pytest.importorskip("pyarrow", reason="Waymo's files are parquet; pip install pyarrow")
    from pyarrow import parquet

    types = {
        "key.segment_context_name": pyarrow.string(),
        "key.frame_timestamp_micros": pyarrow.int64(),
        "key.camera_name": pyarrow.int8(),
        "key.camera_object_id": pyarrow.string(),
        "[CameraImageComponent].image": pyarrow.binary(),
        "[CameraBoxComponent].type": pyarrow.int8(),
        "[CameraBoxComponent].difficulty_level.detection": pyarrow.int8(),
        "[CameraBoxComponent].difficulty_level.tracking": pyarrow.int8(),
    }
    columns = [(key, types.get(key, pyarrow.float64())) for key in rows[0]]
    (root / component).mkdir(parents=True, exist_ok=True)
    table = pyarrow.Table.from_pylist(rows, pyarrow.schema(columns))
    parquet.write_table(table, root / component / f"{name}.parquet", row_group_size=group)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A segment of two cameras; rows are out of order, and the middle picture of the front camera has no box."""
    save(
        tmp_path,
        "camera_image",
        [picture(300, FRONT, 30), picture(100, FRONT, 10), picture(100, SIDE, 99), picture(200, FRONT, 20)],
    )
    save(
        tmp_path,
        "camera_box",
        [
            box(300, "b-7"),
            box(100, "b-7", **{"[CameraBoxComponent].type": 2, "[CameraBoxComponent].difficulty_level.tracking": None}),
            box(100, "a-1", **{"[CameraBoxComponent].type": 4}),
            box(100, "c-0", SIDE, **{"[CameraBoxComponent].type": 3}),
        ],
    )
    return tmp_path


def test_a_sequence_per_camera(root: Path):
    front, side = read_waymo(root)
    assert (front.name, side.name) == (f"{SEGMENT}/FRONT", f"{SEGMENT}/SIDE_LEFT")
    assert (front.is_video, front.frame_rate) == (True, 10.0)
    assert [(frame.index, frame.timestamp_ns) for frame in front.frames] == [(0, 100_000), (1, 200_000), (2, 300_000)]
    assert [int(frame.load()[0, 0, 0]) for frame in front.frames] == [10, 20, 30]
    assert int(side.frames[0].load()[0, 0, 0]) == 99
    first, second, third = (frame.annotations for frame in front.frames)
    assert [(row.label, row.instance_id, row.difficulty) for row in first] == [("pedestrian", 2, 0), ("cyclist", 1, 2)]
    assert second == ()
    assert (third[0].box, third[0].label, third[0].instance_id) == ((4.5, 3.0, 7.5, 5.0), "vehicle", 2)
    assert side.frames[0].annotations[0].instance_id == 3  # numbered within the segment


def test_cameras_are_chosen_by_name(root: Path):
    assert [sequence.name for sequence in read_waymo(root, "*/FRONT")] == [f"{SEGMENT}/FRONT"]
    assert read_waymo(root, "other/*") == ()


@pytest.mark.parametrize("in_memory", [False, True])
def test_pictures_load_in_any_order_and_in_another_process(root: Path, in_memory: bool):
    (front,) = read_waymo(root, "*/FRONT", in_memory)
    frames = pickle.loads(pickle.dumps(front)).frames
    assert [int(frames[index].load()[0, 0, 0]) for index in (2, 0, 1, 2)] == [30, 10, 20, 30]
    if in_memory:
        (root / "camera_image" / f"{SEGMENT}.parquet").unlink()
        assert int(front.frames[1].load()[0, 0, 0]) == 20


def test_a_test_set_has_no_boxes(root: Path):
    (root / "camera_box" / f"{SEGMENT}.parquet").unlink()
    with pytest.raises(DataError, match=r"camera_box/.*no such file; expected the boxes"):
        read_waymo(root)
    (root / "camera_box").rmdir()
    assert all(not frame.annotations for sequence in read_waymo(root) for frame in sequence.frames)


def test_a_damaged_picture_is_named_when_it_is_loaded(tmp_path: Path):
    save(tmp_path, "camera_image", [picture(1), picture(2, **{"[CameraImageComponent].image": b"no JPEG"})])
    (front,) = read_waymo(tmp_path)
    with pytest.raises(DataError, match=r"\.parquet, row 1: an undecodable picture"):
        front.frames[1].load()


def test_faulty_rows_are_listed_by_file_and_number(tmp_path: Path):
    save(
        tmp_path,
        "camera_image",
        [picture(1), picture(1), picture(2, 9), picture(3, **{"key.segment_context_name": "x"}), picture(4)],
    )
    size, center, kind = (f"[CameraBoxComponent].{name}" for name in ("box.size.x", "box.center.y", "type"))
    rows = [
        box(1, "a"),
        box(1, "a"),
        box(1, "b", **{size: -1.0}),
        box(1, "c", **{size: 0.0}),
        box(1, "d", **{center: float("nan")}),
        box(1, "e", **{kind: 7}),
        box(1, "f", **{kind: None}),
        box(1, ""),
        box(1, "g", 0),
        box(9, "h"),
    ]
    save(tmp_path, "camera_box", rows)
    with pytest.raises(DataError) as caught:
        read_waymo(tmp_path)
    found = [(fault.path.parent.name, fault.reason) for fault in caught.value.faults]
    assert found == [
        ("camera_box", "row 1: object a appears twice at 1 in camera FRONT"),
        ("camera_box", "row 2: box is -1 wide and 2 high, expected 0 or more"),
        ("camera_box", "row 3: box is 0 wide and 2 high, expected more than 0"),
        ("camera_box", "row 4: [CameraBoxComponent].box.center.y is nan, expected a finite number"),
        ("camera_box", "row 5: [CameraBoxComponent].type is 7, expected 0 to 4"),
        ("camera_box", "row 6: [CameraBoxComponent].type is None, expected a finite number"),
        ("camera_box", "row 7: key.camera_object_id is '', expected a text"),
        ("camera_box", "row 8: key.camera_name is 0, expected 1 to 5"),
        ("camera_image", "row 1: picture of camera FRONT at 1 is that of row 0, too"),
        ("camera_image", "row 2: key.camera_name is 9, expected 1 to 5"),
        ("camera_image", f"row 3: key.segment_context_name is x, expected {SEGMENT} as the file is named"),
        ("camera_box", "boxes of camera FRONT at 9, but no picture of it in camera_image"),
    ]


def test_what_is_no_component_is_named(tmp_path: Path):
    with pytest.raises(DataError, match="camera_image: no parquet file"):
        read_waymo(tmp_path)
    save(tmp_path, "camera_image", [{"key.segment_context_name": SEGMENT}])
    with pytest.raises(DataError, match=r"has no column key\.frame_timestamp_micros"):
        read_waymo(tmp_path)
    (tmp_path / "camera_image" / f"{SEGMENT}.parquet").write_bytes(b"no parquet")
    with pytest.raises(DataError, match="not a parquet file"):
        read_waymo(tmp_path)


def test_without_pyarrow_the_pip_line_is_named(root: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ImportError, match="pip install pyarrow"):
        read_waymo(root)
