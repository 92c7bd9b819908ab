"""COCO files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from qdtrack_ros.data.coco import read_coco
from qdtrack_ros.data.types import DataError


def write(folder: Path, annotations: list[dict[str, Any]], **more: Any) -> Path:
    images = [{"id": 5, "file_name": "a.png", "width": 6, "height": 4}, {"id": 3, "file_name": "b.png"}]
    for value, image in enumerate(images):
        cv2.imwrite(str(folder / image["file_name"]), np.full((4, 6, 3), value, np.uint8))
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "person"}], **more}
    path = folder / "truth.json"
    path.write_text(json.dumps(content))
    return path


def row(**fields: Any) -> dict[str, Any]:
    return {"id": 1, "image_id": 5, "category_id": 1, "bbox": [1, 2, 3, 4.5], "iscrowd": 0, **fields}


def test_stills(tmp_path: Path):
    path = write(tmp_path, [row(), row(id=2, image_id=3, iscrowd=1, ignore=1)])
    sequence = read_coco(path, tmp_path)
    assert (sequence.name, sequence.is_video, sequence.frame_rate) == ("truth", False, None)
    first, second = sequence.frames
    assert first.annotations[0].box == (1, 2, 4, 6.5)
    assert (first.annotations[0].label, first.annotations[0].instance_id) == ("person", None)
    assert (second.annotations[0].crowd, second.annotations[0].ignore) == (True, True)
    assert (first.width, second.width, first.timestamp_ns) == (6, None, None)
    assert int(second.load()[0, 0, 0]) == 1


def test_names_that_windows_wrote(tmp_path: Path):
    path = write(tmp_path, [])
    (tmp_path / "day 1").mkdir()
    (tmp_path / "b.png").rename(tmp_path / "day 1" / "b.png")
    (tmp_path / "a.png").rename(tmp_path / "c\\d.png")  # a name like any other here
    text = path.read_text().replace("b.png", r"day 1\\b.png").replace("a.png", r"c\\d.png")
    path.write_text(text)
    assert [int(frame.load()[0, 0, 0]) for frame in read_coco(path, tmp_path).frames] == [0, 1]


def test_faulty_annotations_are_listed(tmp_path: Path):
    faulty = [
        row(id=10, image_id=9),
        row(id=11, category_id=2),
        row(id=12, bbox=[1, 2, 3]),
        row(id=13, bbox=[1, 2, -3, 4]),
        row(id=14, bbox=[1, 2, None, 4]),
        row(id=15, instance_id=0),
        row(id=16, instance_id=0),
    ]
    with pytest.raises(DataError) as caught:
        read_coco(write(tmp_path, faulty), tmp_path)
    reasons = [str(fault.reason).split(":")[0] for fault in caught.value.faults]
    assert reasons == [f"annotation {number}" for number in (10, 11, 12, 13, 14, 16)]


def test_box_without_area_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    sequence = read_coco(write(tmp_path, [row(bbox=[1, 2, 0, 4]), row()]), tmp_path)
    assert len(sequence.frames[0].annotations) == 1
    assert "left out 1 boxes" in caplog.text


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"bbox": [1, 2, True, 4]}, "bbox is True, expected a finite number"),
        ({"bbox": [1, 2, float("nan"), 4]}, "bbox is nan"),
        ({"iscrowd": "no"}, "iscrowd is 'no', expected true or false"),
        ({"instance_id": "seven"}, "instance_id is 'seven'"),
        ({"instance_id": 2**64}, "instance_id is 18446744073709551616, expected less than"),
        ({"category_id": [1]}, r"category_id is \[1\]"),
    ],
)
def test_values_of_wrong_types_are_named(tmp_path: Path, fields: dict[str, Any], reason: str):
    with pytest.raises(DataError, match=f"annotation 1: {reason}"):
        read_coco(write(tmp_path, [row(**fields)]), tmp_path)


def test_a_row_that_is_no_object_is_named(tmp_path: Path):
    with pytest.raises(DataError, match="annotation number 1: annotation is 7, expected an object"):
        read_coco(write(tmp_path, [row(), 7]), tmp_path)  # type: ignore[list-item]


def test_faulty_images_are_listed(tmp_path: Path):
    images = [{"id": 5, "file_name": "a.png"}, {"id": 5, "file_name": "b.png"}, {"id": 6}, {"id": 7, "file_name": 3}]
    images.append({"id": 8, "file_name": "c.png", "width": 0})
    with pytest.raises(DataError) as caught:
        read_coco(write(tmp_path, [], images=images), tmp_path)
    assert [fault.reason for fault in caught.value.faults] == [
        "images[1]: id 5 is that of images[0], too",
        "images[2]: there is no file_name",
        "images[3]: file_name is 3, expected a text",
        "images[4]: width is 0, expected more than 0",
    ]


def test_identity_zero_is_one_and_a_negative_one_is_none(tmp_path: Path):
    rows = [row(instance_id=0), row(id=2, instance_id=-1), row(id=3, instance_id=-1)]
    (annotations, _) = (frame.annotations for frame in read_coco(write(tmp_path, rows), tmp_path).frames)
    assert [annotation.instance_id for annotation in annotations] == [0, None, None]


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "not JSON"), ("[]", "holds a JSON list"), ('{"images": []}', "missing annotations, categories")],
)
def test_what_is_no_coco_file_is_named(tmp_path: Path, text: str, message: str):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(DataError, match=message):
        read_coco(tmp_path / "a.json", tmp_path)
