"""Labelled videos as Label Studio exports them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from qdtrack_ros.data.formats import Location, read_sequences
from qdtrack_ros.data.label_studio import read_label_studio
from qdtrack_ros.data.types import DataError

WIDTH, HEIGHT, COUNT = 64, 48, 10


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    folder = tmp_path / "videos"
    folder.mkdir()
    writer = cv2.VideoWriter(str(folder / "street.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 5.0, (WIDTH, HEIGHT))
    for index in range(COUNT):
        writer.write(np.full((HEIGHT, WIDTH, 3), 20 * index, np.uint8))
    writer.release()
    return folder


def key(frame: int, x: float, enabled: bool = True, **more: Any) -> dict[str, Any]:
    return {"frame": frame, "enabled": enabled, "x": x, "y": 50.0, "width": 25.0, "height": 50.0, **more}


def region(*keys: dict[str, Any], labels: tuple[str, ...] = ("person",), name: str = "r1") -> dict[str, Any]:
    value = {"framesCount": COUNT, "duration": 2.0, "sequence": list(keys), "labels": list(labels)}
    return {"id": name, "type": "videorectangle", "from_name": "box", "to_name": "video", "value": value}


def task(*regions: dict[str, Any], video: str = "/data/upload/1/1a2b3c4d-street.avi", **more: Any) -> dict[str, Any]:
    return {"id": 7, "data": {"video": video}, "annotations": [{"id": 3, "result": list(regions)}], **more}


def write(tmp_path: Path, *tasks: Any) -> Path:
    path = tmp_path / "export.json"
    path.write_text(json.dumps(list(tasks)))
    return path


def boxes(path: Path, videos: Path) -> list[list[tuple[int | None, tuple[float, ...]]]]:
    (sequence,) = read_label_studio(path, videos)
    return [[(row.instance_id, row.box) for row in frame.annotations] for frame in sequence.frames]


def test_boxes_move_evenly_between_key_frames_and_end_where_they_are_switched_off(tmp_path: Path, videos: Path):
    walker = region(key(6, 50.0, enabled=False), key(2, 0.0))  # in any order
    stander = region(key(8, 75.0), labels=("rider",), name="r2")
    (sequence,) = read_label_studio(write(tmp_path, task(walker, stander)), videos)
    assert (sequence.name, sequence.frame_rate, len(sequence.frames)) == ("street", 5.0, COUNT)
    found = [[(row.label, row.instance_id, row.box[0]) for row in frame.annotations] for frame in sequence.frames]
    assert found[0] == []
    assert found[1:6] == [[("person", 1, 8.0 * step)] for step in range(5)]  # 0 to 50 % of 64 pixels
    assert found[6] == []
    assert found[7:] == [[("rider", 2, 48.0)]] * 3  # to the end of the video
    assert sequence.frames[1].annotations[0].box == (0.0, 24.0, 16.0, 48.0)


def test_an_object_comes_back_with_its_identity(tmp_path: Path, videos: Path):
    found = boxes(write(tmp_path, task(region(key(1, 0.0, enabled=False), key(4, 0.0, enabled=False)))), videos)
    assert [[identity for identity, _ in frame] for frame in found] == [[1], [], [], [1], *[[]] * 6]


def test_a_turned_rectangle_becomes_the_upright_one_around_it(tmp_path: Path, videos: Path):
    found = boxes(write(tmp_path, task(region(key(10, 50.0, rotation=90.0)))), videos)
    assert found[9][0][1] == pytest.approx((32 - 24, 24, 32, 24 + 16))


def test_the_video_is_found_by_its_own_name_too_or_is_named_itself(tmp_path: Path, videos: Path):
    path = write(tmp_path, task(region(key(1, 0.0)), video="s3://bucket/street.avi"))
    assert len(boxes(path, videos)) == len(boxes(path, videos / "street.avi")) == COUNT
    assert read_sequences("label_studio", Location(videos, path))[0].name == "street"


@pytest.mark.parametrize(
    "address",
    [
        "/data/local-files/?d=shared/my%20street%20a.avi",
        "/data/local-files/?d=my street a.avi",
        "/data/local-files/?d=shared%5Cmy street a.avi",  # from Windows
        "https://bucket.example/videos/my%20street%20a.avi?X-Amz-Signature=abc.def",
        "/data/upload/1/1a2b3c4d-my%20street%20a.avi",
        "my street a.avi",
    ],
)
def test_the_video_is_found_behind_an_address(tmp_path: Path, videos: Path, address: str):
    (videos / "street.avi").rename(videos / "my street a.avi")
    assert len(boxes(write(tmp_path, task(region(key(1, 0.0)), video=address)), videos)) == COUNT


def test_frames_counted_at_another_rate_than_the_video_s_are_refused(tmp_path: Path, videos: Path):
    labelled = region(key(1, 0.0))
    for frames, seconds in ((COUNT, 2.0), (COUNT + 1, 2.0), (COUNT + 3, 2.6)):  # rounded, and with sound that goes on
        labelled["value"] |= {"framesCount": frames, "duration": seconds}
        assert len(boxes(write(tmp_path, task(labelled)), videos)) == COUNT
    for frames in (5, 48):  # all key frames may lie within the video even so
        labelled["value"] |= {"framesCount": frames, "duration": 2.0}
        with pytest.raises(DataError, match=rf"r1: it was labelled at {frames / 2:g} frames/s .* has 5: convert"):
            boxes(write(tmp_path, task(labelled)), videos)
    del labelled["value"]["framesCount"], labelled["value"]["duration"]  # early versions did not write them
    assert len(boxes(write(tmp_path, task(labelled)), videos)) == COUNT


def test_tasks_without_labels_are_left_out(tmp_path: Path, videos: Path):
    skipped = {"id": 1, "data": {"video": "x.avi"}, "annotations": [{"was_cancelled": True, "result": []}]}
    (sequence,) = read_label_studio(write(tmp_path, skipped, task(region(key(1, 0.0)))), videos)
    assert sequence.name == "street"
    with pytest.raises(DataError, match="none of 1 tasks has a labelled video"):
        read_label_studio(write(tmp_path, skipped), videos)


def test_of_several_annotations_the_ground_truth_counts(tmp_path: Path, videos: Path):
    two = task(region(key(1, 0.0)))
    two["annotations"].append({"ground_truth": True, "result": [region(key(10, 50.0))]})
    assert [len(frame) for frame in boxes(write(tmp_path, two), videos)] == [0] * 9 + [1]
    del two["annotations"][1]["ground_truth"]
    with pytest.raises(DataError, match="2 annotations, expected one, or one that is marked as ground truth"):
        boxes(write(tmp_path, two), videos)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (region(key(11, 0.0)), r"task 7, region r1: frame is 11, street.avi has frames 1 to 10"),
        (region(key(1, 0.0), labels=()), "0 labels, expected one"),
        (region(key(1, 0.0, width=-2.0)), "box is -2 wide"),
        (region(key(1, float("nan"))), "x is nan, expected a finite number"),
        (region(key(1, 0.0), key(1, 5.0)), "two key frames in frame 1"),
        (region({"frame": 1}), "there is no x"),
        ({"type": "videorectangle"}, "there is no value"),
    ],
)
def test_faulty_regions_are_named(tmp_path: Path, videos: Path, bad: dict[str, Any], message: str):
    with pytest.raises(DataError, match=message):
        boxes(write(tmp_path, task(bad)), videos)


def test_what_is_no_export_or_lacks_its_video_is_refused(tmp_path: Path, videos: Path):
    with pytest.raises(DataError, match="task 7: no video 1a2b-park.avi or park.avi in"):
        boxes(write(tmp_path, task(region(key(1, 0.0)), video="1a2b-park.avi")), videos)
    with pytest.raises(DataError, match="its data names no video file"):
        boxes(write(tmp_path, task(video="street.png")), videos)
    with pytest.raises(DataError, match="is one video, but there are several tasks"):
        read_label_studio(write(tmp_path, task(), task()), videos / "street.avi")
    (tmp_path / "a.json").write_text("{}")
    with pytest.raises(DataError, match="not a list of tasks"):
        read_label_studio(tmp_path / "a.json", videos)
