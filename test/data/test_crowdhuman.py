"""CrowdHuman's odgt files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from qdtrack_ros.data.crowdhuman import read_crowdhuman
from qdtrack_ros.data.types import DataError


def person(**fields: Any) -> dict[str, Any]:
    return {
        "tag": "person",
        "fbox": [-2, 1, 8, 10],
        "vbox": [0, 1, 4, 5],
        "hbox": [1, 1, 2, 2],
        "extra": {"box_id": 0, "occ": 1},
        "head_attr": {"ignore": 0, "unsure": 0, "occ": 0},
        **fields,
    }


def save(folder: Path, *lines: object) -> Path:
    path = folder / "annotation_val.odgt"
    path.write_text("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines))
    return path


def test_persons_and_masks(tmp_path: Path):
    cv2.imwrite(str(tmp_path / "273271,c9db.jpg"), np.full((12, 12, 3), 200, np.uint8))
    boxes = [person(), person(extra={"ignore": 1}), person(tag="mask", vbox=[-2, 1, 8, 10], extra={"ignore": 1})]
    boxes.append({"tag": "person", "fbox": [0, 0, 2, 2]})  # extra, head_attr and the rest are optional
    sequence = read_crowdhuman(save(tmp_path, {"ID": "273271,c9db", "gtboxes": boxes}), tmp_path)
    assert (sequence.name, sequence.is_video, len(sequence.frames)) == ("annotation_val", False, 1)
    frame = sequence.frames[0]
    assert frame.path == tmp_path / "273271,c9db.jpg" and frame.load().shape == (12, 12, 3)
    full, ignored, mask, bare = frame.annotations
    assert (full.box, full.label, full.instance_id) == ((-2, 1, 6, 11), "person", None)
    assert full.visibility == pytest.approx(4 * 5 / (8 * 10)) and not full.ignore
    assert (ignored.label, ignored.ignore, ignored.crowd) == ("person", True, False)
    assert (mask.label, mask.ignore, mask.crowd, mask.visibility) == ("mask", True, True, 1.0)
    assert (bare.ignore, bare.crowd, bare.visibility) == (False, False, 1.0)


def test_a_picture_without_people_counts(tmp_path: Path):
    sequence = read_crowdhuman(save(tmp_path, {"ID": "a", "gtboxes": []}, "", {"ID": "b", "gtboxes": []}), tmp_path)
    assert [(frame.index, frame.annotations) for frame in sequence.frames] == [(0, ()), (1, ())]


def test_boxes_without_area_are_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    boxes = [person(fbox=[0, 0, 0, 5]), person()]
    frames = read_crowdhuman(save(tmp_path, {"ID": "a", "gtboxes": boxes}), tmp_path).frames
    assert len(frames[0].annotations) == 1 and "left out 1 boxes" in caplog.text


def test_faults_are_listed_by_line(tmp_path: Path):
    boxes = [person(tag="dog"), person(fbox=[0, 0, -1, 5]), person(fbox=[0, 0, 1]), person(extra={"ignore": 2}), 5]
    path = save(
        tmp_path,
        {"ID": "a", "gtboxes": boxes},
        '{"ID": "b", ',
        {"gtboxes": []},
        [],
        {"ID": "a", "gtboxes": []},
        {"ID": "c", "gtboxes": None},
    )
    with pytest.raises(DataError) as caught:
        read_crowdhuman(path, tmp_path)
    assert [(fault.line, fault.reason) for fault in caught.value.faults] == [
        (1, "gtboxes[0]: tag is 'dog', expected person or mask"),
        (1, "gtboxes[1]: box is -1 wide and 5 high, expected 0 or more"),
        (1, "gtboxes[2]: fbox is [0, 0, 1], expected four numbers (left, top, width, height)"),
        (1, "gtboxes[3]: extra.ignore is 2, expected true or false, or 1 or 0"),
        (1, "gtboxes[4]: box is 5, expected an object"),
        (2, "not JSON (Expecting property name enclosed in double quotes in column 13), "
            "expected an object with ID and gtboxes"),
        (3, "there is no ID"),
        (4, "row is [], expected an object"),
        (5, "picture a is that of line 1, too"),
        (6, "gtboxes is None, expected a list"),
    ]  # fmt: skip


def test_a_missing_file_is_named(tmp_path: Path):
    with pytest.raises(DataError, match="annotation_val.odgt: cannot be read"):
        read_crowdhuman(tmp_path / "annotation_val.odgt", tmp_path)
