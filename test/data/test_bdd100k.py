"""BDD100K tracking labels, today's and those of the first release."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from qdtrack_ros.data.bdd100k import read_bdd100k
from qdtrack_ros.data.types import DataError

VIDEO = "b1c66a42-6f7d68ca"


def label(key: object = "00122078", category: str = "car", **fields: Any) -> dict[str, Any]:
    return {
        "id": key,
        "category": category,
        "attributes": {"occluded": False, "truncated": False, "crowd": False},
        "box2d": {"x1": 10.5, "y1": 20, "x2": 40, "y2": 50.25},
        **fields,
    }


def frame(index: int, *labels: dict[str, Any], **fields: Any) -> dict[str, Any]:
    name = f"{VIDEO}-{index + 1:07d}.jpg"
    return {"name": name, "videoName": VIDEO, "frameIndex": index, "labels": list(labels), **fields}


def save(path: Path, content: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def test_labels_of_today(tmp_path: Path):
    pictures = tmp_path / "images" / VIDEO
    pictures.mkdir(parents=True)
    cv2.imwrite(str(pictures / f"{VIDEO}-0000001.jpg"), np.full((4, 6, 3), 90, np.uint8))
    frames = [frame(3, label("00122080")), frame(0, label(), label("00122079", "rider"))]  # out of order, with a gap
    folder = save(tmp_path / "labels" / f"{VIDEO}.json", frames).parent
    (sequence,) = read_bdd100k(folder, tmp_path / "images")
    assert (sequence.name, sequence.is_video, sequence.frame_rate) == (VIDEO, True, 5.0)
    first, second = sequence.frames
    assert [(item.index, item.timestamp_ns) for item in sequence.frames] == [(0, 0), (1, 600_000_000)]
    assert first.load().shape == (4, 6, 3) and second.path == pictures / f"{VIDEO}-0000004.jpg"
    assert [(row.label, row.instance_id) for row in first.annotations] == [("car", 122078), ("rider", 122079)]
    assert first.annotations[0].box == (10.5, 20, 40, 50.25)
    assert (first.width, first.height) == (None, None)


def test_what_the_benchmark_ignores_becomes_regions(tmp_path: Path):
    labels = [
        label("1"),
        label("2", attributes={"crowd": True, "occluded": True}),
        *(label(str(3 + place), name) for place, name in enumerate(("other person", "other vehicle", "trailer"))),
        label("6", attributes={"ignored": True}),
        label("7", "rider", attributes=None),
    ]
    (sequence,) = read_bdd100k(save(tmp_path / "all.json", [frame(0, *labels)]), tmp_path)
    rows = sequence.frames[0].annotations
    assert [(row.ignore, row.crowd) for row in rows] == [(False, False), *[(True, True)] * 5, (False, False)]
    assert [row.label for row in rows[2:5]] == ["other person", "other vehicle", "trailer"]
    assert [row.visibility for row in rows] == [1.0, 0.5, 1.0, 1.0, 1.0, 1.0, 1.0]


def test_labels_of_the_first_release(tmp_path: Path):
    row = {
        "name": f"{VIDEO}-0000001.jpg",
        "video_name": VIDEO,
        "index": 0,
        "labels": [
            label(7, manualShape=True, attributes={"Crowd": False, "Occluded": True, "Truncated": False}),
            label(0, attributes={"Crowd": True, "Occluded": False, "Truncated": False}),
        ],
    }
    (sequence,) = read_bdd100k(save(tmp_path / "first.json", [[row]]), tmp_path)  # a list per video
    known, crowd = sequence.frames[0].annotations
    assert (known.instance_id, known.visibility, known.crowd) == (7, 0.5, False)
    assert (crowd.instance_id, crowd.crowd, crowd.ignore) == (0, True, True)


def test_one_file_of_several_videos(tmp_path: Path):
    rows = [frame(0, videoName="b"), frame(0, videoName="a", size={"width": 1280, "height": 720}), frame(1)]
    path = save(tmp_path / "all.json", {"frames": rows, "config": None})
    assert [sequence.name for sequence in read_bdd100k(path, tmp_path)] == ["a", "b", VIDEO]
    (chosen,) = read_bdd100k(path, tmp_path, "a*")
    assert (chosen.name, chosen.frames[0].width, chosen.frames[0].height) == ("a", 1280, 720)


def test_only_the_wanted_files_of_a_folder_are_opened(tmp_path: Path):
    save(tmp_path / "labels" / "a.json", [frame(0, videoName="a")])
    (tmp_path / "labels" / "b.json").write_text("broken")
    assert [sequence.name for sequence in read_bdd100k(tmp_path / "labels", tmp_path, "a")] == ["a"]
    with pytest.raises(DataError, match=r"b\.json: not JSON"):
        read_bdd100k(tmp_path / "labels", tmp_path)
    with pytest.raises(DataError, match="no JSON file named c"):
        read_bdd100k(tmp_path / "labels", tmp_path, "c")


def test_the_folder_of_a_single_video_will_do(tmp_path: Path):
    path = save(tmp_path / f"{VIDEO}.json", [frame(0)])
    (sequence,) = read_bdd100k(path, tmp_path / VIDEO)
    assert sequence.frames[0].path == tmp_path / VIDEO / f"{VIDEO}-0000001.jpg"


def test_ids_that_are_no_numbers_are_numbered(tmp_path: Path):
    rows = [frame(0, label("k-b"), label("k-a")), frame(1, label("k-b"), label("007"))]
    (sequence,) = read_bdd100k(save(tmp_path / "all.json", rows), tmp_path)
    ids = [[row.instance_id for row in item.annotations] for item in sequence.frames]
    assert ids == [[3, 2], [3, 1]]


@pytest.mark.parametrize("keys", [("7", "07"), ("7", "12345678901234")])
def test_ids_that_make_no_identities_as_numbers_are_numbered(tmp_path: Path, keys: tuple[str, str]):
    rows = [frame(0, *(label(key) for key in keys))]
    (sequence,) = read_bdd100k(save(tmp_path / "all.json", rows), tmp_path)
    assert sorted(row.instance_id or 0 for row in sequence.frames[0].annotations) == [1, 2]


def test_frames_without_labels_and_labels_without_boxes(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    rows = [
        frame(0, labels=None),
        {"name": "x.jpg", "videoName": VIDEO, "frameIndex": 1},
        frame(2, label("1", box2d=None), {"id": "2", "category": "car", "poly2d": []}),
        frame(3, label("1", box2d={"x1": 1, "y1": 1, "x2": 1, "y2": 5})),
    ]
    (sequence,) = read_bdd100k(save(tmp_path / "all.json", rows), tmp_path)
    assert [len(item.annotations) for item in sequence.frames] == [0, 0, 0, 0]
    assert "[3]: left out 1 boxes without area" in caplog.text


def test_faults_are_listed_by_place_over_all_files(tmp_path: Path):
    save(
        tmp_path / "a.json",
        [
            frame(0, label("1"), label("1")),
            frame(0),
            frame(1, label("1", box2d={"x1": 5, "y1": 1, "x2": 2, "y2": 5}), label("2", box2d={"x1": 5, "y1": 1})),
            frame(2, label(None), label("4", category=None), label("5", attributes={"crowd": "yes"})),
            {"name": "x.jpg", "frameIndex": 3},
            {"name": "x.jpg", "videoName": VIDEO},
            "frame",
            frame(4, labels={}),
            frame(5, labels=7),
        ],
    )
    save(tmp_path / "b.json", [frame(9, size={"width": 0, "height": 5})])
    with pytest.raises(DataError) as caught:
        read_bdd100k(tmp_path, tmp_path)
    assert {fault.path.name for fault in caught.value.faults} == {"a.json", "b.json"}
    assert [fault.reason for fault in caught.value.faults] == [
        "[0].labels[1]: identity 1 appears twice in frame 0",
        f"[1]: frame 0 of video {VIDEO} is listed twice",
        "[2].labels[0]: box is 5 1 2 5, expected x1 < x2 and y1 < y2",
        "[2].labels[1]: there is no x2",
        "[3].labels[0]: id is None, expected a text",
        "[3].labels[1]: category is None, expected a text",
        "[3].labels[2]: crowd is 'yes', expected true or false, or 1 or 0",
        "[4]: there is no videoName",
        "[5]: there is no frameIndex",
        "[6]: frame is 'frame', expected an object",
        "[8]: labels is 7, expected a list",
        "[0]: size is 0 x 5, expected more than 0",
    ]


@pytest.mark.parametrize(("content", "message"), [("7", "holds a JSON int"), ("{}", "holds a JSON dict")])
def test_what_is_no_label_file_is_named(tmp_path: Path, content: str, message: str):
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(DataError, match=f"{message}, expected BDD100K labels"):
        read_bdd100k(tmp_path / "a.json", tmp_path)
