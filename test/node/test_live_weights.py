"""The real executable with real weights files: missing, damaged and exchanged ones."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: no ROS graph to test on")

from qdtrack_ros.catalogue import find_weights

ROOT = Path(__file__).resolve().parents[2]


def test_missing_and_damaged_weights_fail_configure_with_a_clear_reason(start_node, connect, tmp_path):
    missing, damaged = tmp_path / "missing.safetensors", tmp_path / "damaged.safetensors"
    damaged.write_bytes(b"\x10\x00\x00\x00\x00\x00\x00\x00 this is no header, and no tensors follow")
    node = start_node("-p", f"weights:={missing}", "-p", "device:=cpu", script=ROOT / "scripts" / "tracker_node")
    node.wait_for("configure failed")
    assert str(missing) in node.log and "lifecycle set /qdtrack configure" in node.log
    client = connect("camera")
    assert client.state == "unconfigured"
    assert client.set("weights", str(damaged))[0]
    assert not client.transition("configure")
    node.wait_for(str(damaged))
    assert client.state == "unconfigured"
    assert client.set("engine", "noop")[0] and client.transition("configure") and client.transition("activate")
    assert node.end() == 0
    assert "Traceback" not in node.log


def test_public_weights_by_name_want_their_preset_and_their_hash(start_node, connect, tmp_path, monkeypatch):
    entry = find_weights("mot17-r50")
    monkeypatch.setenv("QDTRACK_CACHE", str(tmp_path))
    (tmp_path / entry.file).write_bytes(b"not what was published")
    node = start_node("-p", "weights:=mot17-r50", "-p", "device:=cpu", script=ROOT / "scripts" / "tracker_node")
    node.wait_for("the weights mot17-r50 are for preset mot17, not for pedestrian; use preset mot17 with them")
    client = connect("camera")
    assert client.set("preset", "mot17")[0]
    assert not client.transition("configure")
    node.wait_for(f"{entry.file} is not the published mot17-r50: its sha256 is ")
    assert f"expected {entry.sha256}..." in node.log and "qdtrack weights get mot17-r50" in node.log
    assert client.state == "unconfigured"
    assert node.end() == 0
    assert "Traceback" not in node.log


def test_what_loading_warns_of_stands_in_the_nodes_log(start_node):
    node = start_node("-p", "preset:=telling")
    node.wait_for("active:")
    assert re.search(r"^\[WARN\] .*\[qdtrack\]: the embedding head is untrained$", node.log, re.MULTILINE)
    assert node.log.count("untrained") == 1
