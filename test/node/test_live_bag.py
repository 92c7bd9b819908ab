"""A bag played into a node on simulation time, recorded, and looped."""

from __future__ import annotations

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: no ROS graph to test on")
pytest.importorskip("rosbags", reason="rosbags is not installed: no bags to play")

from qdtrack_ros.msg import TrackArray
from rclpy.serialization import deserialize_message, serialize_message
from ros_client import BLUE, RED, S, image, picture

from qdtrack_ros.data.rosbag import BagReader, BagWriter
from qdtrack_ros.node.bag_player import play
from qdtrack_ros.node.bag_recorder import BagRecorder, RecordedTopic

FRAMES = 20
START = 1000 * S
TRACKS = RecordedTopic("/camera/tracks", "qdtrack_ros/msg/TrackArray")
TIMING = RecordedTopic("/camera/timing", "qdtrack_ros/msg/FrameTiming")


@pytest.fixture(scope="module")
def bag(tmp_path_factory):
    path = tmp_path_factory.mktemp("bags") / "drive"
    with BagWriter(path) as writer:
        for index in range(FRAMES):
            stamp = START + index * S // 10
            pixels = picture({RED: (index, 20, index + 20, 50), BLUE: (50, 5, 70, 45)})
            message = bytes(serialize_message(image(stamp, pixels)))
            writer.add("/recorded/image", "sensor_msgs/msg/Image", message, stamp)
    return path


@pytest.mark.parametrize("sim_time", [True, False])
def test_a_looped_bag_begins_one_session_a_loop(start_node, bag, tmp_path, sim_time):
    node = start_node("-p", f"use_sim_time:={str(sim_time).lower()}")
    node.wait_for("active:")
    with BagRecorder(tmp_path / "out", [TRACKS, TIMING]) as recorder:
        assert recorder.wait_for_publishers(60.0)
        report = play(
            bag,
            rate=1.0,
            loops=3,
            remap={"/recorded/image": "/camera/image_raw"},
            publish_clock=sim_time,
            wait_for_subscribers_s=60.0,
        )
        assert recorder.wait_until_quiet(0.5, 60.0)
    assert report.published == {"/camera/image_raw": 3 * FRAMES}
    with BagReader(tmp_path / "out") as reader:
        assert {name: topic.type_name for name, topic in reader.topics.items()} == dict([TRACKS[:2], TIMING[:2]])
        found = [deserialize_message(item.data, TrackArray) for item in reader.messages([TRACKS.name])]
    assert len(found) > FRAMES, "frames of more than one loop came through"
    sessions = [bytes(message.session_id.uuid) for message in found]
    changes = sum(a != b for a, b in zip(sessions, sessions[1:], strict=False))
    assert changes == 2 and len(set(sessions)) == 3
    for session in set(sessions):
        of_loop = [message for message, its in zip(found, sessions, strict=True) if its == session]
        assert {track.track_id for message in of_loop for track in message.tracks} == {0, 1}
        assert [message.frame_index for message in of_loop] == list(range(len(of_loop)))
    assert node.end() == 0


def test_wrong_requests_are_refused(bag):
    with pytest.raises(ValueError, match="/recorded/image"):
        play(bag, topics=["/nothing"])
    with pytest.raises(ValueError, match="rate"):
        play(bag, rate=0.0)
    with pytest.raises(TimeoutError, match="/lonely"):
        play(bag, remap={"/recorded/image": "/lonely"}, wait_for_subscribers_s=0.1)


def test_an_unknown_message_type_names_the_package(tmp_path):
    with pytest.raises(LookupError, match="no_such_msgs"):
        BagRecorder(tmp_path / "bag", [RecordedTopic("/x", "no_such_msgs/msg/Thing")])
    assert not list(tmp_path.iterdir())
