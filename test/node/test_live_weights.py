"""The real executable with real weights files: missing and damaged ones."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: no ROS graph to test on")

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
