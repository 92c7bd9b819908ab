"""`qdtrack benchmark node` measures real nodes in processes of their own; no figure is judged here."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: no node to measure")

from qdtrack_ros.cli.main import main

SHORT = ("benchmark", "node", "--size", "64x48", "--repeats", "10", "--rate", "50")


@pytest.fixture(autouse=True)
def own_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")


def results(path: Path, *words: str) -> list[dict]:
    assert main([*SHORT, *words, "--json", str(path)]) == 0
    return json.loads(path.read_text())["results"]


def test_one_node_for_two_cameras_beside_two_nodes(tmp_path: Path) -> None:
    together, apart = results(tmp_path / "figures.json", "--cameras", "2")
    assert (together["case"]["nodes"], together["case"]["cameras"]) == (1, 2)
    assert (apart["case"]["nodes"], apart["case"]["cameras"]) == (2, 2)
    for result in (together, apart):
        assert result["milliseconds"].keys() == {"median", "p90", "p99", "minimum", "iqr", "maximum"}
        assert result["figures"]["memory_mib"] > 10 and result["figures"]["frames_per_second"] > 0
    assert apart["figures"]["batch"] == 1.0


def test_overload_drops_and_accounts_for_every_frame(tmp_path: Path) -> None:
    (result,) = results(tmp_path / "figures.json", "--overload")
    assert result["case"]["engine"] == "fixed 40.0 ms"
    assert result["figures"]["dropped"] > 0 and result["figures"]["latency_in_engine_periods"] >= 1.0


def test_a_node_that_cannot_run_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*SHORT, "--preset", "no_such_preset"]) == 1
    assert "no_such_preset" in capsys.readouterr().err
    assert main([*SHORT, "--rate", "0"]) == 1
    assert "--rate" in capsys.readouterr().err
