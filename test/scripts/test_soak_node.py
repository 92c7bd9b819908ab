"""The soak, for seconds instead of minutes: it passes a sound node and sees what is wrong with another."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


@pytest.fixture
def soak_node(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    return importlib.import_module("soak_node")


def test_a_short_soak_of_the_real_node(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("rclpy", reason="rclpy is not installed: no node to run")
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    monkeypatch.setenv("ROS_DOMAIN_ID", str(os.getpid() % 100 + 1))
    command = [sys.executable, str(SCRIPTS / "soak_node.py"), "--frames", "400", "--bad", "30"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and done.stdout.endswith("passed\n"), done.stdout + done.stderr
    assert "bad images sent" in done.stdout and "SIGINT: shutting down" in done.stdout


def test_growth_and_repeated_ids_are_seen(soak_node: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    usages = iter(soak_node.Usage(100.0 + index, 20, 20 + index) for index in range(100))
    monkeypatch.setattr(soak_node.Usage, "of", lambda pid: next(usages))
    client = SimpleNamespace(process=lambda: None, highest_id=3)
    wrong = " ".join(soak_node.soak(client, 0, 1000))
    assert "memory grew" in wrong and "became more" in wrong and "only 4 ids in 1000 frames" in wrong


def test_ids_and_indices_that_go_back_are_seen(soak_node: ModuleType) -> None:
    client = soak_node.Client.__new__(soak_node.Client)
    client.sessions, client.faults, client._known, client.highest_id, client.next_index = set(), [], set(), -1, 0

    def tracks(index: int, *ids: int) -> SimpleNamespace:
        listed = [SimpleNamespace(track_id=number) for number in ids]
        return SimpleNamespace(session_id=SimpleNamespace(uuid=bytes(16)), frame_index=index, tracks=listed)

    for index, ids in enumerate([(0, 1), (1,), (1, 2)]):
        client._take_tracks(tracks(index, *ids))
    assert not client.faults
    client._take_tracks(tracks(3, 0))
    client._take_tracks(tracks(2))
    assert client.faults == ["new id 0, though 2 was given out", "frame index 2 after 3"]
