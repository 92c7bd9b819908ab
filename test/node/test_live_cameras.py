"""Four cameras on one node: batches, sessions of their own, and no camera pays for another's faults."""

from __future__ import annotations

import itertools
import re

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: no ROS graph to test on")

from ros_client import BLUE, GREEN, RED, YELLOW, S, image, picture
from scripted_node import BOMB

NAMES = ("front", "rear", "left", "right")
COLOURS = dict(zip(NAMES, (RED, GREEN, BLUE, YELLOW), strict=True))
BOX = (10, 20, 30, 50)


@pytest.fixture(scope="module")
def node(start_node):
    process = start_node(
        *("-p", f"cameras:=[{', '.join(NAMES)}]", "-p", "batch_wait_ms:=1000.0", "-p", "stale_after_s:=2.0"),
        *("-p", "right.qos.reliability:=reliable", "-p", "right.qos.depth:=3"),
    )
    process.wait_for("active:")
    return process


@pytest.fixture(scope="module")
def clients(node, connect):
    clients = {name: connect(name) for name in NAMES}
    for client in clients.values():
        client.connect(image(1 * S))
    return clients


@pytest.fixture(scope="module")
def stamps():
    return itertools.count(2 * S, S // 10)


def send(clients, stamp, names=NAMES, **corners):
    """A picture for each camera, each with one object of its own colour; what came out, by camera."""
    before = {name: len(clients[name].of("timing")) for name in names}
    for name in names:
        corner = {"corner": corners[name]} if name in corners else {}
        clients[name].send(image(stamp, picture({COLOURS[name]: BOX}, **corner)))
    expected = [name for name in names if name not in corners]
    outputs = {}
    for name in expected:
        client = clients[name]
        client.until(
            lambda c=client, n=name: all(len(c.of(t)) > before[n] for t in ("timing", "tracks", "detections")),
            f"outputs of {name}",
        )
        outputs[name] = (client.of("tracks")[-1], client.of("timing")[-1])
        assert outputs[name][0].header.stamp == image(stamp).header.stamp
    return outputs


def test_cameras_that_are_ready_share_a_batch_and_nothing_else(clients, stamps):
    def all_in_one_batch():
        outputs = send(clients, next(stamps))
        return outputs if {timing.batch_size for _, timing in outputs.values()} == {4} else None

    outputs = clients["front"].until(all_in_one_batch, "a batch of four")
    sessions = {bytes(tracks.session_id.uuid) for tracks, _ in outputs.values()}
    assert len(sessions) == 4
    for tracks, timing in outputs.values():
        assert [track.track_id for track in tracks.tracks] == [0], "every camera counts its own ids"
        assert timing.frames_received == timing.frames_processed + timing.frames_dropped


def test_each_camera_has_its_own_qos(clients):
    found = {
        name: client.node.get_subscriptions_info_by_topic(f"/{name}/image_raw")[0].qos_profile.reliability.name
        for name, client in clients.items()
    }
    assert found == {"front": "BEST_EFFORT", "rear": "BEST_EFFORT", "left": "BEST_EFFORT", "right": "RELIABLE"}


def test_a_picture_that_breaks_the_network_costs_one_camera_one_frame(clients, stamps, node):
    before = send(clients, next(stamps))
    for _ in range(3):  # twice in a row would end a node with this camera alone
        others = send(clients, next(stamps), rear=BOMB)
        assert set(others) == {"front", "left", "right"}
    part = clients["rear"].diagnosis("camera rear", lambda status, values: values.get("dropped.engine_failed") == "3")
    assert part["faults.engine_failed"] == "3"
    after = send(clients, next(stamps))
    for name in NAMES:
        assert after[name][0].session_id == before[name][0].session_id
        assert [track.track_id for track in after[name][0].tracks] == [0]
        lost = after[name][1].frames_dropped - before[name][1].frames_dropped
        assert lost == (3 if name == "rear" else 0)


def test_a_spoiled_image_costs_one_camera_one_frame(clients, stamps):
    before = send(clients, next(stamps))
    clients["left"].send_to_be_dropped(image(next(stamps), encoding="no such encoding"))
    after = send(clients, next(stamps))
    lost = {name: after[name][1].frames_dropped - before[name][1].frames_dropped for name in NAMES}
    assert lost == {"front": 0, "rear": 0, "left": 1, "right": 0}


def test_dead_cameras_cost_the_others_nothing(clients, stamps, node):
    before = send(clients, next(stamps))
    clients["rear"].close_publisher()
    living = ("front", "left")  # right is silent, rear is gone
    for _ in range(3):
        send(clients, next(stamps), living)
    for name, why in [("rear", "no publisher found"), ("right", "publishers found: /client_of_right (reliable)")]:
        told = re.compile(rf"no frame on /{name}/image_raw for .* {re.escape(why)}")
        clients["front"].diagnosis(f"camera {name}", lambda status, values, told=told: told.search(status.message))
    for _ in range(20):
        after = send(clients, next(stamps), living)
    for name in living:
        assert after[name][1].frames_dropped == before[name][1].frames_dropped
        assert [track.track_id for track in after[name][0].tracks] == [0]
    again = send(clients, next(stamps), ("front", "left", "right"))
    assert again["right"][0].session_id == before["right"][0].session_id
    assert [track.track_id for track in again["right"][0].tracks] == [0]
    node.wait_for("camera right: frames arrive again", times=node.log.count("camera right: no frame on"))


def test_a_jump_back_of_one_camera_leaves_the_others_alone(clients, stamps):
    names = ("front", "left", "right")
    before = send(clients, next(stamps), names)
    clients["left"].process(image(1 * S, picture({BLUE: BOX})))
    after = send(clients, next(stamps), ("front", "right"))
    assert all(after[name][0].session_id == before[name][0].session_id for name in after)
    assert clients["left"].of("tracks")[-1].session_id != before["left"][0].session_id


def test_it_ends_in_order(node):
    assert node.end() == 0 and "Traceback" not in node.log
