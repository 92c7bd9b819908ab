"""Files for the servers of BDD100K, TAO and Waymo; test_trackeval.py reads the first two with TrackEval."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from qdtrack_ros.data.bdd100k import read_bdd100k
from qdtrack_ros.data.types import DataError
from qdtrack_ros.evaluation.bdd100k_writer import write_bdd100k, write_bdd100k_zip
from qdtrack_ros.evaluation.mot_writer import write_mot, write_mot_zip
from qdtrack_ros.evaluation.tao_writer import TaoNumbers, read_tao_numbers, write_tao
from qdtrack_ros.evaluation.tracks import VideoTracks
from qdtrack_ros.evaluation.waymo_writer import CameraTracks, write_waymo

BOX = (1.5, 2.0, 11.5, 22.25)


class Tracks(NamedTuple):
    ids: np.ndarray
    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray


def tracks(*rows: tuple[int, int]) -> Tracks:
    """Tracks by id and label."""
    return Tracks(
        np.array([row[0] for row in rows], np.int64),
        np.array([BOX] * len(rows), np.float32).reshape(-1, 4),
        np.full(len(rows), 0.75, np.float32),
        np.array([row[1] for row in rows], np.int64),
    )


def video(name: str = "v-1") -> VideoTracks:
    return VideoTracks(name, [f"{name}-1.jpg", f"{name}-2.jpg"], [tracks((0, 1), (5, 0), (6, 2)), tracks()])


def test_motchallenge_zip_holds_a_file_for_each_sequence_at_its_root(tmp_path: Path) -> None:
    write_mot(tmp_path / "a.txt", [tracks((0, 0)), tracks()])
    write_mot_zip(tmp_path / "all.zip", {"MOT17-01-FRCNN": [tracks((0, 0)), tracks()], "MOT17-03-FRCNN": []})
    with zipfile.ZipFile(tmp_path / "all.zip") as archive:
        assert archive.namelist() == ["MOT17-01-FRCNN.txt", "MOT17-03-FRCNN.txt"]
        assert archive.read("MOT17-01-FRCNN.txt").decode() == (tmp_path / "a.txt").read_text()
        assert archive.read("MOT17-03-FRCNN.txt") == b""


def test_bdd100k_has_every_frame_and_only_its_own_classes(tmp_path: Path) -> None:
    write_bdd100k(tmp_path, [video()], ["car", "person", "dog"])
    frames = json.loads((tmp_path / "v-1.json").read_text())
    assert [(row["videoName"], row["name"], row["frameIndex"]) for row in frames] == [
        ("v-1", "v-1-1.jpg", 0),
        ("v-1", "v-1-2.jpg", 1),
    ]
    assert frames[0]["labels"] == [
        {
            "id": str(identity),
            "category": category,
            "score": 0.75,
            "box2d": {"x1": 1.5, "y1": 2.0, "x2": 11.5, "y2": 22.25},
        }
        for identity, category in ((0, "pedestrian"), (5, "car"))
    ]
    assert frames[1]["labels"] == []
    (read,) = read_bdd100k(tmp_path, tmp_path)
    found = read.frames[0].annotations
    assert [(row.label, row.instance_id, row.box) for row in found] == [("pedestrian", 0, BOX), ("car", 5, BOX)]


def test_bdd100k_zip_is_a_folder_of_such_files(tmp_path: Path) -> None:
    write_bdd100k(tmp_path, [video("v-1"), video("v-2")], ["car", "person", "dog"])
    write_bdd100k_zip(tmp_path / "all.zip", [video("v-1"), video("v-2")], ["car", "person", "dog"])
    with zipfile.ZipFile(tmp_path / "all.zip") as archive:
        assert archive.namelist() == ["tracks/v-1.json", "tracks/v-2.json"]
        assert archive.read("tracks/v-2.json").decode() == (tmp_path / "v-2.json").read_text()


NUMBERS = TaoNumbers(
    {"v-1": 30, "v-2": 31}, {"v-1-1.jpg": 7, "v-1-2.jpg": 8, "v-2-1.jpg": 9, "v-2-2.jpg": 10}, {"cat": 4, "dog": 2}
)


def test_tao_numbers_tracks_through_all_videos_from_one_on(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    write_tao(path, [video("v-1"), video("v-2")], ["dog", "cat", "yak"], NUMBERS)
    rows = json.loads(path.read_text())
    assert rows[0] == {
        "image_id": 7,
        "category_id": 4,
        "bbox": [1.5, 2.0, 10.0, 20.25],
        "score": 0.75,
        "track_id": 1,
        "video_id": 30,
    }
    assert [(row["video_id"], row["track_id"]) for row in rows] == [(30, 1), (30, 2), (31, 3), (31, 4)]
    write_tao(path, [VideoTracks("v-1", [], [])], ["dog"], NUMBERS)
    assert json.loads(path.read_text()) == []


def test_tao_numbers_come_from_the_annotations_of_the_test_set(tmp_path: Path) -> None:
    path = tmp_path / "test_without_annotations.json"
    content: dict[str, Any] = {
        "videos": [{"id": 30, "name": "v-1"}],
        "images": [{"id": 7, "video_id": 30, "file_name": "v-1-1.jpg"}],
        "categories": [{"id": 4, "name": "cat"}],
    }
    path.write_text(json.dumps(content))
    assert read_tao_numbers(path) == ({"v-1": 30}, {"v-1-1.jpg": 7}, {"cat": 4})
    del content["videos"]
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match="not TAO's annotations .*videos"):
        read_tao_numbers(path)
    with pytest.raises(DataError, match="cannot be read"):
        read_tao_numbers(tmp_path / "none.json")


def waymo_message() -> Any:
    """The message ``Objects`` as Waymo's .proto files define the fields that concern 2D tracking."""
    pytest.importorskip("google.protobuf", reason="reads the file back: pip install protobuf")
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    double, single, int64, enum, text, message = 1, 2, 3, 5, 9, 11
    definition = {
        "Box": {"center_x": (1, double), "center_y": (2, double), "width": (4, double), "length": (5, double)},
        "Label": {"box": (1, "Box"), "type": (3, enum), "id": (4, text)},
        "Object": {
            "object": (1, "Label"),
            "score": (2, single),
            "context_name": (4, text),
            "frame_timestamp_micros": (5, int64),
            "camera_name": (6, enum),
        },
        "Objects": {"objects": (1, "Object")},
    }
    file = descriptor_pb2.FileDescriptorProto(name="objects.proto", package="waymo")
    for name, fields in definition.items():
        described = file.message_type.add(name=name)
        for field, (number, kind) in fields.items():
            entry = described.field.add(name=field, number=number, label=3 if name == "Objects" else 1)
            if isinstance(kind, str):
                entry.type, entry.type_name = message, f".waymo.{kind}"
            else:
                entry.type = kind
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("waymo.Objects"))()


def test_waymo_objects_are_read_by_protobuf(tmp_path: Path) -> None:
    path = tmp_path / "results.bin"
    stamps = [1_558_017_621_622_379_000, 1_558_017_621_722_379_000]
    cameras = [
        CameraTracks("18096_2360/FRONT", stamps, [tracks((0, 1), (6, 2)), tracks((300, 0))]),
        CameraTracks("18096_2360/SIDE_LEFT", stamps, [tracks(), tracks((0, 1))]),
    ]
    write_waymo(path, cameras, ["vehicle", "cyclist", "sign"])
    message = waymo_message()
    message.ParseFromString(path.read_bytes())
    found = [
        (row.context_name, row.camera_name, row.frame_timestamp_micros, row.object.type, row.object.id)
        for row in message.objects
    ]
    assert found == [
        ("18096_2360", 1, 1_558_017_621_622_379, 4, "FRONT-0"),
        ("18096_2360", 1, 1_558_017_621_722_379, 1, "FRONT-300"),
        ("18096_2360", 4, 1_558_017_621_722_379, 4, "SIDE_LEFT-0"),
    ]
    box = message.objects[0].object.box
    assert (box.center_x, box.center_y, box.length, box.width) == (6.5, 12.125, 10.0, 20.25)
    assert message.objects[0].score == 0.75
    assert message.SerializeToString() == path.read_bytes()


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: write_bdd100k(path, [video()], ["dog"]), "tracks are of dog; BDD100K has pedestrian"),
        (
            lambda path: write_bdd100k(path, [video()._replace(pictures=["a.jpg"])], ["car"]),
            "v-1: tracks of 2 frames, but 1 pictures or times",
        ),
        (lambda path: write_tao(path, [video()], ["car"], NUMBERS), "none of the 1 labels .*car"),
        (lambda path: write_tao(path, [video("x")], ["cat"], NUMBERS), "no video x"),
        (
            lambda path: write_tao(path, [video()._replace(pictures=["a.jpg", "b.jpg"])], ["cat"], NUMBERS),
            "v-1: TAO's annotations have no image a.jpg",
        ),
        (lambda path: write_waymo(path, [CameraTracks("x", [], [])], ["vehicle"]), "x is no segment and camera"),
        (lambda path: write_waymo(path, [CameraTracks("x/FRONT", [], [])], ["dog"]), "tracks are of dog; Waymo has"),
        (lambda path: write_waymo(path, [CameraTracks("x/FRONT", [1], [])], ["vehicle"]), "0 frames, but 1 pictures"),
    ],
)
def test_what_a_server_would_not_take_is_refused_and_nothing_written(tmp_path: Path, write: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        write(tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
