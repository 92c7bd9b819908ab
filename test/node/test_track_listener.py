"""The example of a consumer: it tells who comes and who goes, and begins anew with a session."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: no ROS graph to test on")

from qdtrack_ros.msg import Track, TrackArray
from ros_client import S
from unique_identifier_msgs.msg import UUID
from vision_msgs.msg import Detection2D, ObjectHypothesis, ObjectHypothesisWithPose

from qdtrack_ros.node import qos
from qdtrack_ros.node.messages import time_message

LISTENER = Path(__file__).resolve().parents[2] / "scripts" / "track_listener.py"


def tracks(session, *entries):
    """A message of tracks, each ``(id, status, seconds since it was first seen)``."""
    built = []
    for track_id, status, seconds in entries:
        result = ObjectHypothesisWithPose(hypothesis=ObjectHypothesis(class_id="person", score=0.9))
        times = {"first_seen": time_message(100 * S), "last_seen": time_message(100 * S + int(seconds * S))}
        built.append(Track(detection=Detection2D(results=[result]), track_id=track_id, status=status, **times))
    return TrackArray(session_id=UUID(uuid=[session] * 16), tracks=built)


def test_it_tells_who_comes_and_who_goes(start_node, connect):
    listener = start_node("-r", "tracks:=front/tracks", script=LISTENER)
    client = connect("elsewhere")
    publisher = client.node.create_publisher(TrackArray, "front/tracks", qos.results())
    client.until(publisher.get_subscription_count, "the listener")
    publisher.publish(tracks(1, (7, Track.TENTATIVE, 0), (8, Track.CONFIRMED, 0)))
    publisher.publish(tracks(1, (7, Track.CONFIRMED, 1), (8, Track.LOST, 1)))
    publisher.publish(tracks(1, (7, Track.CONFIRMED, 2), (8, Track.REMOVED, 1.5)))
    publisher.publish(tracks(2, (7, Track.CONFIRMED, 0)))
    listener.wait_for("person 7 has come; 1 here")
    told = [line.rpartition("]: ")[2] for line in listener.log.splitlines() if "]: " in line]
    assert told == [
        "new session: ids begin anew",
        "person 8 has come; 1 here",
        "person 7 has come; 2 here",
        "person 8 is gone after 1.5 s; 1 here",
        "new session: ids begin anew",
        "person 7 has come; 1 here",
    ]
    assert listener.end() == 0 and "Traceback" not in listener.log
