"""CocoVID and TAO files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from qdtrack_ros.data.coco_video import read_coco_videos, read_tao
from qdtrack_ros.data.types import DataError


def save(folder: Path, content: dict[str, Any]) -> Path:
    path = folder / "truth.json"
    path.write_text(json.dumps(content))
    return path


def cocovid(**changes: Any) -> dict[str, Any]:
    """Two videos; the frames of the first are out of order and have a gap."""
    return {
        "videos": [{"id": 7, "name": "street", "fps": 10}, {"id": 8, "name": "park"}],
        "images": [
            {"id": 1, "file_name": "b.png", "height": 4, "width": 6, "video_id": 7, "frame_id": 5},
            {"id": 2, "file_name": "a.png", "height": 4, "width": 6, "video_id": 7, "frame_id": 0},
            {"id": 3, "file_name": "c.png", "height": 4, "width": 6, "video_id": 8, "frame_id": 0},
        ],
        "annotations": [
            {"id": 1, "image_id": 1, "video_id": 7, "category_id": 1, "instance_id": 0, "bbox": [1, 1, 2, 2]},
            {"id": 2, "image_id": 2, "video_id": 7, "category_id": 1, "instance_id": 0, "bbox": [0, 1, 2, 2]},
            {"id": 3, "image_id": 2, "category_id": 2, "bbox": [0, 0, 6, 4], "iscrowd": 1, "ignore": True},
        ],
        "categories": [{"id": 1, "name": "person"}, {"id": 2, "name": "car"}],
        **changes,
    }


def test_cocovid(tmp_path: Path):
    for value, name in enumerate("abc"):
        cv2.imwrite(str(tmp_path / f"{name}.png"), np.full((4, 6, 3), value, np.uint8))
    street, park = read_coco_videos(save(tmp_path, cocovid()), tmp_path)
    assert (street.name, street.is_video, street.frame_rate, street.coverage) == ("street", True, 10.0, None)
    assert [int(frame.load()[0, 0, 0]) for frame in street.frames] == [0, 1]
    assert [frame.index for frame in street.frames] == [0, 1]
    assert [frame.path for frame in street.frames] == [tmp_path / "a.png", tmp_path / "b.png"]
    assert [frame.annotations[0].instance_id for frame in street.frames] == [0, 0]
    crowd = street.frames[0].annotations[1]
    assert (crowd.label, crowd.instance_id, crowd.crowd, crowd.ignore) == ("car", None, True, True)
    assert (park.name, park.frame_rate, len(park.frames), park.frames[0].annotations) == ("park", None, 1, ())


def test_videos_are_chosen_by_name(tmp_path: Path):
    path = save(tmp_path, cocovid())
    assert [sequence.name for sequence in read_coco_videos(path, tmp_path, "p*")] == ["park"]
    assert read_coco_videos(path, tmp_path, "x*") == ()


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        ({"video_id": 9, "frame_id": 0}, "video_id is 9, no such video"),
        ({"video_id": 7}, "there is no frame_id"),
        ({"video_id": 7, "frame_id": "1"}, "frame_id is '1', expected a finite number"),
        ({"video_id": 7, "frame_id": 1.5}, "frame_id is 1.5, expected a whole number"),
        ({"video_id": 7, "frame_id": 5}, "frame_id 5 of video 7 is that of b.png, too"),
    ],
)
def test_images_out_of_place_are_named(tmp_path: Path, place: dict[str, Any], reason: str):
    images = [*cocovid()["images"], {"id": 4, "file_name": "d.png", **place}]
    with pytest.raises(DataError, match=rf"images\[3\]: {reason}"):
        read_coco_videos(save(tmp_path, cocovid(images=images)), tmp_path)


def test_faulty_videos_are_listed(tmp_path: Path):
    videos = [{"id": 7}, {"id": 7}, {"name": "x"}, {"id": 8, "fps": 0}, {"id": 9, "name": ""}]
    with pytest.raises(DataError) as caught:
        read_coco_videos(save(tmp_path, cocovid(videos=videos)), tmp_path)
    assert [fault.reason for fault in caught.value.faults] == [
        "videos[1]: id 7 is that of another video, too",
        "videos[2]: there is no id",
        "videos[3]: fps is 0, expected more than 0",
        "videos[4]: name is '', expected a text",
    ]


@pytest.mark.parametrize("videos", [{}, {"videos": []}, {"videos": {}}])
def test_a_file_of_stills_is_no_file_of_videos(tmp_path: Path, videos: dict[str, Any]):
    content = {key: value for key, value in cocovid().items() if key != "videos"}
    with pytest.raises(DataError, match='no "videos"'):
        read_coco_videos(save(tmp_path, content | videos), tmp_path)


def tao(**changes: Any) -> dict[str, Any]:
    """A video of a frame a second; category 3 is merged into category 1."""
    return {
        "videos": [
            {
                "id": 0,
                "name": "val/YFCC100M/v_1",
                "width": 6,
                "height": 4,
                "neg_category_ids": [2],
                "not_exhaustive_category_ids": [1],
                "metadata": {"dataset": "YFCC100M"},
            }
        ],
        "images": [
            {"id": 0, "video_id": 0, "file_name": "val/YFCC100M/v_1/frame0031.jpg", "frame_index": 30},
            {"id": 1, "video_id": 0, "file_name": "val/YFCC100M/v_1/frame0001.jpg", "frame_index": 0},
        ],
        "tracks": [{"id": 0, "category_id": 3, "video_id": 0}, {"id": 1, "category_id": 1, "video_id": 0}],
        "annotations": [
            {"id": 1, "image_id": 0, "track_id": 0, "category_id": 3, "bbox": [-1, 0, 3, 2], "area": 6},
            {"id": 2, "image_id": 1, "track_id": 0, "category_id": 3, "bbox": [0, 0, 3, 2], "area": 6},
            {"id": 3, "image_id": 1, "track_id": 1, "category_id": 1, "bbox": [2, 1, 3, 2], "area": 6},
        ],
        "categories": [
            {"id": 1, "name": "baby", "synset": "baby.n.01", "merged": [{"id": 3, "name": "person"}]},
            {"id": 2, "name": "cat", "synset": "cat.n.01"},
        ],
        **changes,
    }


def test_tao(tmp_path: Path):
    (video,) = read_tao(save(tmp_path, tao()), tmp_path)
    assert (video.name, video.is_video, video.frame_rate) == ("val/YFCC100M/v_1", True, None)
    assert video.coverage is not None
    assert (video.coverage.absent, video.coverage.partial) == ({"cat"}, {"baby"})
    first, second = video.frames
    assert first.path == tmp_path / "val/YFCC100M/v_1/frame0001.jpg"
    assert [(row.label, row.instance_id) for row in first.annotations] == [("baby", 0), ("baby", 1)]
    assert second.annotations[0].box == (-1, 0, 2, 2)
    assert [video.name for video in read_tao(save(tmp_path, tao()), tmp_path, "val/BDD/*")] == []


def test_annotations_that_disagree_with_their_track_are_listed(tmp_path: Path):
    content = tao()
    content["tracks"][1]["category_id"] = 2
    content["annotations"][0]["track_id"] = 5
    del content["annotations"][1]["track_id"]
    with pytest.raises(DataError) as caught:
        read_tao(save(tmp_path, content), tmp_path)
    assert [fault.reason for fault in caught.value.faults] == [
        "annotation 1: track_id is 5, no such track",
        "annotation 2: track_id is None, no such track",
        "annotation 3: baby in video 0, but its track 1 is cat in video 0",
    ]


def test_classes_of_a_video_that_are_none_are_named(tmp_path: Path):
    videos = [tao()["videos"][0] | {"neg_category_ids": [2, 77]}]
    with pytest.raises(DataError, match=r"videos\[0\]: neg_category_ids has 77, no such category"):
        read_tao(save(tmp_path, tao(videos=videos)), tmp_path)
    with pytest.raises(DataError, match=r"videos\[0\]: there is no neg_category_ids"):
        read_tao(save(tmp_path, tao(videos=[{"id": 0, "name": "x"}])), tmp_path)


def test_a_cocovid_file_is_no_tao_file(tmp_path: Path):
    with pytest.raises(DataError, match='no "tracks"'):
        read_tao(save(tmp_path, cocovid()), tmp_path)
