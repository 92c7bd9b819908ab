"""Transitions by hand, failures of the engine, silence, QoS that does not fit, and the state across a restart."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: no ROS graph to test on")

from ros_client import BLUE, RED, YELLOW, S, image, picture
from scripted_node import BOMB

ROOT = Path(__file__).resolve().parents[2]
ONE = {RED: (10, 20, 30, 50)}
TWO = {**ONE, BLUE: (50, 5, 70, 45)}


def ids(tracks):
    return [track.track_id for track in tracks.tracks]


@pytest.fixture(scope="module")
def node(start_node):
    process = start_node(
        *("-p", "autostart:=false", "-p", "stale_after_s:=0.3", "-p", "camera.qos.reliability:=reliable")
    )
    process.wait_for("autostart is off")
    return process


@pytest.fixture(scope="module")
def client(node, connect):
    return connect("camera")


@pytest.fixture
def active(client):
    """The node, active, whatever the test before left."""
    if client.state == "unconfigured":
        assert client.transition("configure")
    if client.state == "inactive":
        assert client.transition("activate")
    client.connect(image(1 * S))
    assert client.trigger("reset").success
    return client


def test_every_transition_by_hand(client, node):
    assert client.state == "unconfigured"
    assert not client.trigger("reset").success, "nothing to reset yet"
    assert client.transition("configure") and client.state == "inactive"
    assert client.transition("activate") and client.state == "active"
    client.connect(image(1 * S))
    before = client.process(image(2 * S, picture(TWO)))
    assert client.transition("deactivate") and client.state == "inactive"
    client.send(image(3 * S, picture(TWO)))
    assert client.transition("activate")
    client.connect(image(4 * S, picture(TWO)))
    after = client.process(image(5 * S, picture(TWO)))
    assert after.tracks.session_id == before.tracks.session_id, "deactivate keeps the tracks"
    assert ids(after.tracks) == ids(before.tracks) == [0, 1]
    assert client.transition("deactivate") and client.transition("cleanup") and client.state == "unconfigured"
    assert client.transition("configure") and client.transition("activate")
    client.connect(image(1 * S))
    again = client.process(image(2 * S, picture(ONE)))
    assert again.tracks.session_id != before.tracks.session_id and ids(again.tracks) == [0]
    assert again.timing.frames_received == again.timing.frames_processed + again.timing.frames_dropped


def test_an_impossible_transition_is_refused(active):
    assert not active.transition("configure")
    assert active.state == "active"


def test_a_single_failure_of_the_engine_costs_one_frame(active):
    before = active.process(image(5 * S, picture(ONE)))
    active.send_to_be_dropped(image(6 * S, picture(ONE, corner=BOMB)))
    after = active.process(image(7 * S, picture(ONE)))
    assert after.timing.frames_dropped == before.timing.frames_dropped + 1
    assert ids(after.tracks) == [0]


def test_a_broken_engine_ends_in_unconfigured_with_the_reason(active, node):
    active.send_to_be_dropped(image(8 * S, picture(ONE, corner=BOMB)))
    active.send(image(9 * S, picture(ONE, corner=BOMB)))
    node.wait_for("fell back to unconfigured")
    assert active.state == "unconfigured" and node.is_alive
    report = active.diagnosis("engine", lambda status, values: values["state"] == "unconfigured")
    assert "the scripted engine was told to fail" in report["message"]
    assert "lifecycle set /qdtrack configure" in node.log
    assert active.transition("configure") and active.transition("activate")
    active.connect(image(1 * S))
    active.diagnosis("engine", lambda status, values: values["state"] == "active" and not values["last_error"])


def test_silence_is_told_with_topic_and_publishers(active, node):
    active.diagnosis("camera camera", lambda status, values: status.level == b"\x02" and "no frame" in status.message)
    node.wait_for("no frame on /camera/image_raw")
    assert "publishers found: /client_of_camera (reliable)" in node.log
    active.until(lambda: (active.process(image(3 * S)), "frames arrive again" in node.log)[1], "the end of the silence")


def test_qos_that_does_not_fit_is_told(active, node, connect):
    other = connect("camera", reliable=False)
    node.wait_for("does not offer the RELIABILITY")
    other.close_publisher()


def test_parameters_of_the_model_change_while_unconfigured(active):
    assert active.transition("deactivate")
    assert not active.set("cameras", ["front"])[0], "inactive is not unconfigured"
    assert active.transition("cleanup")
    assert active.set("weights", "/no/such/file.safetensors") == (True, "")
    assert not active.set("cameras", ["a", "a"])[0]


def test_a_failing_configure_says_why_and_can_be_repeated(client, node):
    if client.state == "active":
        client.transition("deactivate")
    if client.state == "inactive":
        client.transition("cleanup")
    assert client.set("weights", "/no/such/file.safetensors")[0]
    assert not client.transition("configure")
    assert client.state == "unconfigured"
    node.wait_for("/no/such/file.safetensors")
    report = client.diagnosis("engine", lambda status, values: status.level == b"\x02")
    assert "/no/such/file.safetensors" in report["last_error"]
    assert client.set("weights", "")[0]
    assert client.transition("configure")


def test_what_is_asked_while_a_model_loads_is_answered(client, node, tmp_path):
    if client.state == "inactive":
        client.transition("cleanup")
    there = tmp_path / "there"
    assert client.set("preset", f"until:{there}")[0]
    loaded = client.begin_transition("configure")
    client.diagnosis("engine", lambda status, values: values["state"] == "configuring")
    assert client.state == "unconfigured" and client.get("preset") == f"until:{there}"
    assert not client.transition("configure") and "the model is being loaded already" in node.log
    refused, reason = client.set("cameras", ["front"])
    assert not refused and "only change while the node is unconfigured; wait until the model is loaded" in reason
    assert client.set("confirm_hits", 3) == (True, "")
    answer = client.trigger("reset")
    assert not answer.success and "the model is being loaded" in answer.message
    assert not loaded.done()
    there.touch()
    client.until(loaded.done, "the end of the transition")
    assert loaded.result().success and client.state == "inactive" and client.get("confirm_hits") == 3
    assert client.transition("cleanup") and client.set("preset", "scripted")[0]


def test_a_node_may_be_shut_down_while_its_model_loads(start_node, connect, tmp_path):
    there = tmp_path / "there"
    process = start_node("-p", f"preset:=until:{there}", "-r", "__node:=loading")
    process.wait_for("loading preset until:")
    client = connect("camera", of_node="loading")
    assert client.transition("shutdown") and client.state == "finalized"
    client.diagnosis("engine", lambda status, values: values["state"] == "finalized")
    assert not client.transition("configure") and "loaded already" not in process.log, "it never will be configured"
    there.touch()
    assert process.end(signal.SIGTERM) == 0
    assert "Traceback" not in process.log and "ERROR" not in process.log and "active:" not in process.log


def test_shutdown_as_a_transition_and_by_signal(client, node):
    assert client.transition("shutdown") and client.state == "finalized"
    client.diagnosis("engine", lambda status, values: values["state"] == "finalized")
    for name in ("reset", "save_state", "load_state"):
        answer = client.trigger(name)
        assert not answer.success and "start it anew" in answer.message
    assert node.end(signal.SIGTERM) == 0
    assert "Traceback" not in node.log


def test_wrong_parameters_end_the_start_with_one_line(start_node):
    process = start_node("-p", "batch_wait_ms:=-1.0")
    assert process.wait() == 2
    assert "batch_wait_ms" in process.log and "0 to 1000" in process.log and "Traceback" not in process.log


def test_ids_persist_across_a_restart(start_node, connect, tmp_path):
    weights = tmp_path / "weights.txt"
    weights.write_text("first model")
    arguments = ("-p", f"state.path:={tmp_path / 'state.npz'}", "-p", f"weights:={weights}")
    first = start_node(*arguments)
    first.wait_for("active:")
    assert "no saved state yet" in first.log
    client = connect("camera")
    client.connect(image(100 * S))
    before = client.process(image(101 * S, picture(TWO)))
    assert ids(before.tracks) == [0, 1]
    assert first.end() == 0
    assert "written to" in first.log

    second = start_node(*arguments)
    second.wait_for("active:")
    assert "2 track(s) of camera taken up" in second.log
    client.connect(image(101 * S + S // 10, picture(TWO)))
    after = client.process(image(102 * S, picture({**TWO, YELLOW: (5, 52, 20, 58)})))
    assert after.tracks.session_id == before.tracks.session_id
    assert ids(after.tracks) == [0, 1, 2]
    assert after.tracks.frame_index > before.tracks.frame_index
    answer = client.trigger("save_state")
    assert answer.success and "state.npz" in answer.message
    client.process(image(103 * S, picture({YELLOW: (5, 52, 20, 58)})))
    assert client.trigger("load_state").success
    back = client.process(image(104 * S, picture(ONE)))
    assert [track.hits for track in back.tracks.tracks if track.track_id == 2] == [1], "the state of the save"

    # Another model, then a damaged file: refused with a warning, and the node works.
    assert client.transition("deactivate") and client.transition("cleanup")
    other = tmp_path / "other.txt"
    other.write_text("second model")
    assert client.set("weights", str(other))[0] and client.transition("configure")
    second.wait_for("embeddings do not compare")
    assert client.transition("cleanup")
    (tmp_path / "state.npz").write_bytes(b"PK\x03\x04 nothing")
    assert client.transition("configure")
    second.wait_for("is damaged")
    assert second.end() == 0
