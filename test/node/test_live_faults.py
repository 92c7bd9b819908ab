"""Faults of a running node: memory, disk, kills, signals while it loads, and other nodes' QoS."""

from __future__ import annotations

import resource
import signal

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: no ROS graph to test on")

from qdtrack_ros.msg import TrackArray
from rclpy.qos import DurabilityPolicy, QoSProfile
from ros_client import BLUE, HEIGHT, RED, WIDTH, YELLOW, S, image, picture
from scripted_node import MEMORY_BOMB, MUTE

ONE = {RED: (10, 20, 30, 50)}
TWO = {**ONE, BLUE: (50, 5, 70, 45)}
ERROR, WARN, OK = b"\x02", b"\x01", b"\x00"
RESERVED = 10_000  # ids that a kill may cost


def ids(outputs):
    return [track.track_id for track in outputs.tracks.tracks]


@pytest.fixture(scope="module")
def state(tmp_path_factory):
    return tmp_path_factory.mktemp("state") / "state.npz"


@pytest.fixture(scope="module")
def node(start_node, state):
    process = start_node("-p", f"state.path:={state}", "-p", "state.save_period_s:=3600.0")
    process.wait_for("active:")
    return process


@pytest.fixture(scope="module")
def client(node, connect):
    client = connect("camera")
    client.connect(image(1 * S))
    return client


def test_memory_that_runs_out_once_costs_a_frame_and_twice_ends_in_unconfigured(client, node, state):
    before = client.process(image(10 * S, picture(TWO)))
    client.send_to_be_dropped(image(11 * S, picture(TWO, corner=MEMORY_BOMB)))
    after = client.process(image(12 * S, picture(TWO)))
    assert ids(after) == ids(before) and after.tracks.session_id == before.tracks.session_id
    assert after.timing.frames_dropped == before.timing.frames_dropped + 1
    client.send_to_be_dropped(image(13 * S, picture(TWO, corner=MEMORY_BOMB)))
    client.send(image(14 * S, picture(TWO, corner=MEMORY_BOMB)))
    node.wait_for("fell back to unconfigured")
    assert client.state == "unconfigured" and node.is_alive
    reason = "OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has none left., 2 times in a row"
    report = client.diagnosis("engine", lambda status, values: status.level == ERROR)
    assert reason in report["last_error"] and reason in node.log
    assert client.transition("configure") and client.transition("activate"), "without a restart"
    node.wait_for("2 track(s) of camera taken up")
    client.connect(image(15 * S, picture(TWO)))
    again = client.process(image(16 * S, picture(TWO)))
    assert ids(again) == ids(before) and again.tracks.session_id == before.tracks.session_id


def test_a_full_disk_is_told_and_leaves_the_old_state(client, node, state):
    assert client.trigger("save_state").success
    before = state.read_bytes()
    limits = resource.prlimit(node.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(node.pid, resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        answer = client.trigger("save_state")
    finally:
        resource.prlimit(node.pid, resource.RLIMIT_FSIZE, limits)
    assert not answer.success and str(state) in answer.message and "File too large" in answer.message
    assert state.read_bytes() == before and [item.name for item in state.parent.iterdir()] == ["state.npz"]
    client.process(image(20 * S, picture(TWO)))
    assert client.trigger("save_state").success and state.read_bytes() != before


def test_services_and_parameters_in_every_state(client, node):
    client.process(image(30 * S, picture(TWO)))
    assert client.transition("deactivate")
    assert client.trigger("save_state").success and client.trigger("load_state").success
    assert client.trigger("reset").success
    assert client.set("batch_wait_ms", 4.0)[0] and not client.set("preset", "x")[0]
    assert client.trigger("load_state").success, "what was saved is there after a reset"
    assert client.transition("cleanup")
    for name in ("save_state", "load_state", "reset"):
        answer = client.trigger(name)
        assert not answer.success and "lifecycle set /qdtrack configure" in answer.message
    assert client.set("batch_wait_ms", 3.0)[0] and client.set("preset", "x")[0]
    assert not client.set("autostart", False)[0] and not client.set("batch_wait_ms", -1.0)[0]
    assert client.transition("configure") and client.transition("activate")
    client.connect(image(31 * S, picture(TWO)))
    assert ids(client.process(image(32 * S, picture(TWO)))) == [0, 1]
    assert client.trigger("save_state").success


def test_thresholds_of_the_diagnostics_warn_and_stop_warning(client, node):
    part = "camera camera"
    client.diagnosis("engine", lambda status, values: status.level == OK and values["engine"] == "scripted cpu")
    for name, value, usual, words in [
        ("diagnostics.min_rate_hz", 1000.0, 0.0, "frames/s, limit 1000"),
        ("diagnostics.max_latency_ms", 1e-6, 500.0, "latency p99"),
    ]:
        assert client.set(name, value)[0]
        stamps = iter(range(40 * S, 50 * S, S // 100))
        client.until(
            lambda stamps=stamps: client.process(image(next(stamps), picture(TWO))),
            "frames to judge",
        )
        client.diagnosis(part, lambda status, values, words=words: status.level == WARN and words in status.message)
        assert client.set(name, usual)[0]
        client.diagnosis(part, lambda status, values, words=words: words not in status.message)
        assert client.trigger("reset").success
    values = client.diagnosis(part, lambda status, values: True)
    assert {"rate_hz", "latency_p50_ms", "latency_p99_ms", "frames_lost", "last_error", "tracks"} <= set(values)


def test_a_callback_that_fails_is_told_and_the_node_lives_on(client, node):
    before = client.process(image(50 * S, picture(TWO, corner=MUTE)))
    node.wait_for("a callback failed: ")
    after = client.process(image(51 * S, picture(TWO, corner=MUTE)))
    assert ids(after) == ids(before) and after.tracks.session_id == before.tracks.session_id
    client.diagnosis("engine", lambda status, values: values["state"] == "active")
    assert "Traceback" not in node.log


def test_a_subscriber_whose_qos_does_not_fit_is_told_as_long_as_it_is_there(client, node):
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    late = client.node.create_subscription(TrackArray, "camera/tracks", lambda message: None, latched)
    node.wait_for("a subscriber of /camera/tracks asks for a DURABILITY that is not offered")
    text = "nothing on /camera/tracks for /client_of_camera (reliable, transient_local)"
    client.diagnosis("camera camera", lambda status, values: status.level == ERROR and text in status.message)
    client.node.destroy_subscription(late)
    client.diagnosis("camera camera", lambda status, values: "incompatible QoS" not in status.message)


def test_ids_persist_across_a_kill_and_are_not_given_out_twice(client, node, start_node, state):
    assert client.trigger("reset").success
    first = client.process(image(60 * S, picture(TWO)))
    assert client.trigger("save_state").success
    late = client.process(image(61 * S, picture({**TWO, YELLOW: (5, 52, 20, 58)})))
    assert ids(late) == [0, 1, 2]
    node.end(signal.SIGKILL)
    second = start_node("-p", f"state.path:={state}", "-p", "state.save_period_s:=1.0")
    second.wait_for("2 track(s) of camera taken up")
    second.wait_for("active:")
    client.connect(image(61 * S, picture(TWO)))
    after = client.process(image(62 * S, picture({**TWO, YELLOW: (5, 52, 20, 58)})))
    assert after.tracks.session_id == first.tracks.session_id
    assert ids(after) == [0, 1, RESERVED + 2], "2 was given out after the save, to something that is forgotten"
    written = state.stat().st_mtime_ns
    client.until(lambda: state.stat().st_mtime_ns > written, "a save in the background")
    second.end(signal.SIGKILL)
    third = start_node("-p", f"state.path:={state}")
    third.wait_for("3 track(s) of camera taken up")
    third.wait_for("active:")
    assert third.end(signal.SIGTERM) == 0 and "Traceback" not in third.log


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_the_model_loads_ends_the_node(start_node, number):
    process = start_node("-p", "preset:=slow")
    process.wait_for("loading preset slow")
    assert process.end(number) == 0
    assert f"loading was ended by {number.name}" in process.log and f"{number.name}: shutting down" in process.log
    assert "Traceback" not in process.log and "ERROR" not in process.log


def test_a_camera_that_restarts_with_another_size_and_encoding_keeps_its_tracks(start_node, connect):
    node = start_node("-r", "__node:=restarted", "-p", "cameras:=[restarted]", "-p", "stale_after_s:=0.5")
    node.wait_for("active: waiting")
    pixels = picture({RED: (10, 10, 30, 40)})
    driver = connect("restarted", of_node="restarted")
    driver.connect(image(1 * S, pixels))
    before = driver.process(image(2 * S, pixels))
    driver.close_publisher()
    node.wait_for("no frame on /restarted/image_raw")
    larger = np.full((2 * HEIGHT, 2 * WIDTH, 3), 9, np.uint8)
    larger[:HEIGHT, :WIDTH] = pixels
    again = connect("restarted", of_node="restarted")
    again.connect(image(3 * S, larger[:, :, ::-1], encoding="rgb8"))
    after = again.process(image(4 * S, larger[:, :, ::-1], encoding="rgb8"))
    assert (after.tracks.image_width, after.tracks.image_height) == (2 * WIDTH, 2 * HEIGHT)
    assert (
        [track.track_id for track in after.tracks.tracks] == [track.track_id for track in before.tracks.tracks] == [0]
    )
    assert after.tracks.session_id == before.tracks.session_id
    values = again.diagnosis("camera restarted", lambda status, values: True)
    assert values["image"] == f"{2 * WIDTH} x {2 * HEIGHT} rgb8"
    node.wait_for("frames arrive again")
    assert node.end() == 0  # so that what the log's throttle holds back is told now
    assert f"the images changed from {WIDTH} x {HEIGHT} bgr8 to {2 * WIDTH} x {2 * HEIGHT} rgb8" in node.log
