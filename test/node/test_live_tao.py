"""The TAO variant of the association in the live node: tracks, state, and parameters that it does not have."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: no ROS graph to test on")

from ros_client import BLUE, GREEN, RED, S, image, picture

ROOT = Path(__file__).resolve().parents[2]
TWO = {RED: (10, 20, 30, 50), BLUE: (50, 5, 70, 45)}


def ids(outputs):
    return [track.track_id for track in outputs.tracks.tracks]


@pytest.fixture(scope="module")
def node(start_node, tmp_path_factory):
    state = tmp_path_factory.mktemp("state") / "state.npz"
    process = start_node("-p", f"state.path:={state}")
    process.wait_for("active:")
    return process


@pytest.fixture(scope="module")
def client(node, connect):
    client = connect("camera")
    client.connect(image(1 * S))
    return client


def test_another_tracker_takes_over_without_the_thresholds_of_the_first(client, node):
    assert client.get("tracker.backdrop_frames") == 1 and client.get("tracker.memory_frames") == 10
    assert client.transition("deactivate") and client.transition("cleanup")
    assert client.set("preset", "tao")[0]
    assert client.transition("configure") and client.transition("activate")
    assert client.get("tracker.init_score") == pytest.approx(0.0001)
    assert client.get("tracker.backdrop_frames") is None and client.get("tracker.match_across_classes") is None
    node.wait_for("tracker state has kind 'quasi_dense', this tracker 'tao'")


def test_tracks_and_state(client):
    client.connect(image(1 * S))
    assert client.trigger("reset").success
    first = client.process(image(2 * S, picture(TWO)))
    assert ids(first) == [0, 1]
    assert ids(client.process(image(3 * S, picture({})))) == [0, 1], "lost, but remembered"
    assert client.trigger("save_state").success
    assert ids(client.process(image(4 * S, picture({**TWO, GREEN: (2, 40, 9, 55)})))) == [0, 2, 1]
    assert client.trigger("load_state").success
    back = client.process(image(5 * S, picture(TWO)))
    assert ids(back) == [0, 1] and back.tracks.session_id == first.tracks.session_id
    assert [track.hits for track in back.tracks.tracks] == [2, 2]
    assert [detection.id for detection in back.detections.detections] == ["0", "1"]


def test_thresholds_that_it_has_change_and_others_are_refused_with_the_reason(client):
    assert client.set("tracker.memory_frames", 3) == (True, "")
    assert client.get("tracker.memory_frames") == 3
    for name, value in (("backdrop_frames", 2), ("match_across_classes", True), ("spatial_gate", 1.0)):
        accepted, reason = client.set(f"tracker.{name}", value)
        assert not accepted and f"tracker.{name} cannot be set" in reason
        assert "of kind tao" in reason and "tracker.* it has init_score, match_score, memory_frames" in reason
        assert client.get(f"tracker.{name}") is None
    assert ids(client.process(image(6 * S, picture(TWO)))) == [0, 1], "nothing has changed"


def test_the_way_back(client, node):
    assert client.transition("deactivate") and client.transition("cleanup")
    assert client.set("preset", "usual")[0]
    assert client.transition("configure") and client.transition("activate")
    node.wait_for("tracker state has kind 'tao', this tracker 'quasi_dense'")
    assert client.get("tracker.backdrop_frames") == 1
    assert client.get("tracker.memory_frames") == 3, "set by hand: no preset replaces it"
    assert node.end() == 0 and "Traceback" not in node.log


def test_the_shipped_preset_is_refused_a_threshold_of_the_other_tracker(start_node, connect):
    arguments = ("-p", "preset:=tao", "-p", "engine:=noop", "-p", "tracker.nms_confidence:=0.4")
    node = start_node(*arguments, script=ROOT / "scripts" / "tracker_node")
    node.wait_for("configure failed: tracker.nms_confidence cannot be set")
    assert node.end() == 0 and "Traceback" not in node.log


def test_the_shipped_preset_runs(start_node, connect):
    arguments = ("-p", "preset:=tao", "-p", "engine:=noop")
    node = start_node(*arguments, script=ROOT / "scripts" / "tracker_node")
    node.wait_for("preset tao (classes: 482)")
    client = connect("camera")
    client.connect(image(1 * S))
    assert client.process(image(2 * S)).tracks.frame_index > 0
    assert client.set("classes", ["person", "zebra"]) == (True, "")
    assert node.end() == 0 and "Traceback" not in node.log
