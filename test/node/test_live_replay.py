"""A bag through `qdtrack track` and through the live node: the same tracks, bit for bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: no ROS graph to test on")
pytest.importorskip("rosbags", reason="rosbags is not installed: no bags to replay")

from qdtrack_ros.msg import TrackArray
from rclpy.serialization import deserialize_message
from ros_client import image
from sensor_msgs.msg import Image

from qdtrack_ros.cli import main as cli
from qdtrack_ros.data.bag_images import write_video_as_bag
from qdtrack_ros.data.rosbag import BagReader
from qdtrack_ros.data.synthetic import street

ROOT = Path(__file__).resolve().parents[2]
FRAMES = 12


def without_session(message: TrackArray) -> str:
    message.session_id.uuid = np.zeros(16, np.uint8)
    return str(message)


def test_replay_gives_the_live_nodes_tracks_to_the_bit(start_node, connect, tmp_path):
    write_video_as_bag(street(FRAMES, (640, 480)), tmp_path / "drive", frame_id="camera")
    model = ("--set", "association.init_score=0.5", "--device", "cpu")
    assert cli.main(["track", str(tmp_path / "drive"), "--bag", str(tmp_path / "replayed"), *model]) == 0
    with BagReader(tmp_path / "replayed") as reader:
        topics = ["/camera/tracks"]
        replayed = [deserialize_message(item.data, TrackArray) for item in reader.messages(topics)]
    settings = ("-p", "device:=cpu", "-p", "tracker.init_score:=0.5")
    node = start_node(*settings, script=ROOT / "scripts" / "tracker_node")
    node.wait_for("active:")
    client = connect("camera")
    with BagReader(tmp_path / "drive") as reader:
        images = [deserialize_message(item.data, Image) for item in reader.messages()]
    client.connect(image(1))
    client.settle(quiet_s=3.0)  # a network takes its time: nothing of these may come after the reset
    assert client.trigger("reset").success
    live = [client.process(message).tracks for message in images]
    assert node.end() == 0
    assert len(live) == len(replayed) == FRAMES
    assert sum(len(message.tracks) for message in live) > FRAMES, "the street's people are found"
    for ours, theirs in zip(replayed, live, strict=True):
        assert without_session(ours) == without_session(theirs)
