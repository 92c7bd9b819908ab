"""Ground truth topics of bags."""

from __future__ import annotations

from pathlib import Path

import pytest

from qdtrack_ros.data.types import DataError

pytest.importorskip("rosbags", reason="rosbags is not installed: no bags to read")

from truth_bags import Box, S, add_boxes  # noqa: E402

from qdtrack_ros.data.bag_truth import DETECTIONS_TYPE, read_bag_annotations  # noqa: E402
from qdtrack_ros.data.rosbag import BagWriter  # noqa: E402


def write(
    path: Path, arrays: dict[int, list[Box]], topics: tuple[str, ...] = ("/truth",), extra_class: str | None = None
) -> Path:
    with BagWriter(path) as writer:
        for topic in topics:
            for stamp_ns, boxes in arrays.items():
                add_boxes(writer, topic, stamp_ns, boxes, extra_class)
    return path


def test_boxes_come_by_stamp_with_their_identities(tmp_path):
    boxes = [(10.0, 20.0, 4.0, 8.0, "car", "0"), (50.0, 20.0, 4.0, 8.0, "person", "7")]
    found = read_bag_annotations(write(tmp_path / "bag", {S: boxes, 2 * S + 3: [], 3 * S: boxes[1:]}))
    assert list(found) == [S, 2 * S + 3, 3 * S]
    first, second = found[S]
    assert (first.box, first.label, first.instance_id) == ((8.0, 16.0, 12.0, 24.0), "car", 0)
    assert (second.label, second.instance_id) == ("person", 7)
    assert found[2 * S + 3] == () and found[3 * S] == (second,)


def test_the_best_hypothesis_names_the_class(tmp_path):
    path = write(tmp_path / "bag", {S: [(1.0, 1.0, 2.0, 2.0, "car", "1")]}, extra_class="truck")
    assert read_bag_annotations(path)[S][0].label == "car"


def test_identities_that_are_texts_are_numbered_and_kept(tmp_path):
    names = [(9.0, 9.0, 2.0, 2.0, "car", name) for name in ("b", "a", "")]
    found = read_bag_annotations(write(tmp_path / "bag", {S: names, 2 * S: names[::-1]}))
    assert [item.instance_id for item in found[S]] == [0, 1, None]
    assert [item.instance_id for item in found[2 * S]] == [None, 1, 0]


def test_faulty_boxes_are_all_named(tmp_path):
    boxes = [
        (1.0, 1.0, 0.0, 2.0, "car", "1"),
        (float("nan"), 1.0, 2.0, 2.0, "car", "2"),
        (1.0, 1.0, 2.0, 2.0, "", "3"),
        (1.0, 1.0, 2.0, 2.0, "car", "4"),
        (1.0, 1.0, 2.0, 2.0, "car", "four"),
        (1.0, 1.0, 2.0, 2.0, "car", "99999999999999999999"),
    ]
    with pytest.raises(DataError, match="5 faulty places in the ground truth of /truth") as caught:
        read_bag_annotations(write(tmp_path / "bag", {S: boxes}))
    reasons = [fault.reason for fault in caught.value.faults]
    assert [reason.split(":")[0] for reason in reasons] == [f"/truth, message 0, box {row}" for row in (0, 1, 2, 4, 5)]
    assert "no class" in reasons[2] and "'four' beside '4'" in reasons[3]
    assert "identity is 99999999999999999999, expected less than" in reasons[4]


def test_two_arrays_of_one_stamp_are_a_fault(tmp_path):
    with BagWriter(tmp_path / "bag") as writer:
        time = writer.types.new("builtin_interfaces/msg/Time", sec=1, nanosec=0)
        header = writer.types.new("std_msgs/msg/Header", stamp=time, frame_id="camera")
        array = writer.types.new(DETECTIONS_TYPE, header=header, detections=[])
        for recorded in (S, S + 1):
            writer.add("/truth", DETECTIONS_TYPE, array, recorded)
    with pytest.raises(DataError, match="a second array with the stamp 1000000000 ns"):
        read_bag_annotations(tmp_path / "bag")


def test_the_topic_is_chosen_or_asked_for(tmp_path):
    path = write(tmp_path / "bag", {S: []}, topics=("/truth", "/camera/detections"))
    with pytest.raises(DataError, match="name one of its topics with boxes .*: /truth, /camera/detections"):
        read_bag_annotations(path)
    assert list(read_bag_annotations(path, "/truth")) == [S]
    with pytest.raises(DataError, match="/nothing is none of its topics with boxes"):
        read_bag_annotations(path, "/nothing")


def test_an_identity_is_there_once_in_a_picture(tmp_path: Path) -> None:
    with BagWriter(tmp_path / "a") as writer:
        box = (5.0, 5.0, 2.0, 2.0, "car", "0")
        add_boxes(writer, "/truth", S, [box, (*box[:5], ""), (*box[:5], ""), box])
    with pytest.raises(DataError, match="message 0, box 3: identity 0 is that of another box, too"):
        read_bag_annotations(tmp_path / "a")


def test_messages_of_an_older_vision_msgs_are_refused(tmp_path: Path) -> None:
    definitions = {
        f"vision_msgs/msg/{name}": text
        for name, text in {
            "ObjectHypothesisWithPose": "string id\nfloat64 score",
            "BoundingBox2D": "geometry_msgs/Pose2D center\nfloat64 size_x\nfloat64 size_y",
            "Detection2D": "std_msgs/Header header\nvision_msgs/ObjectHypothesisWithPose[] results\n"
            "vision_msgs/BoundingBox2D bbox",
            "Detection2DArray": "std_msgs/Header header\nvision_msgs/Detection2D[] detections",
        }.items()
    }
    with BagWriter(tmp_path / "old", definitions=definitions) as writer:
        new = writer.types.new
        for name in definitions:
            writer.types.ensure(name)
        stamp = new("builtin_interfaces/msg/Time", sec=1, nanosec=0)
        header = new("std_msgs/msg/Header", stamp=stamp, frame_id="")
        center = new("geometry_msgs/msg/Pose2D", x=5.0, y=5.0, theta=0.0)
        box = new("vision_msgs/msg/BoundingBox2D", center=center, size_x=2.0, size_y=2.0)
        result = new("vision_msgs/msg/ObjectHypothesisWithPose", id="car", score=1.0)
        found = new("vision_msgs/msg/Detection2D", header=header, results=[result], bbox=box)
        kind = "vision_msgs/msg/Detection2DArray"
        writer.add("/truth", kind, new(kind, header=header, detections=[found]), 1)
    with pytest.raises(DataError, match=r"another version of vision_msgs .* expected 4\.0 or later"):
        read_bag_annotations(tmp_path / "old")
