from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from qdtrack_ros.cli import benchmark
from qdtrack_ros.cli import main as cli


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark, "WARMUP", 1)


def test_association_reports_each_case(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = tmp_path / "a.json"
    words = ["benchmark", "association", "--detections", "5", "12", "--memory", "8", "--dim", "16", "--repeats", "3"]
    assert cli.main([*words, "--json", str(report)]) == 0
    content = json.loads(report.read_text(encoding="utf-8"))
    assert [result["case"]["detections"] for result in content["results"]] == [5, 12]
    for result in content["results"]:
        times = result["milliseconds"]
        assert 0 < times["minimum"] <= times["median"] <= times["p99"]
    assert content["machine"]["cores"] >= 1 and "numpy" in content["machine"]["versions"]


def test_association_measures_a_full_memory_each_time() -> None:
    """What is measured matches: each known object is found again, which a step on a worn memory would not do."""
    from qdtrack_ros.tracking import AssociationConfig, QuasiDenseTracker

    objects = benchmark.scattered(np.random.default_rng(0), 300, 256)
    tracker = QuasiDenseTracker(AssociationConfig())
    first = tracker.step(*benchmark.rows(objects, 223), frame_index=0)
    again = tracker.step(*benchmark.rows(objects, 100), frame_index=1)
    assert again.track_ids.tolist() == first.track_ids[:100].tolist()


def test_engine_reports_its_case(preset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = tmp_path / "e.json"
    words = ["benchmark", "engine", "--preset", str(preset), "--engine", "noop", "--size", "64x48", "--batch", "2"]
    assert cli.main([*words, "--repeats", "2", "--json", str(report)]) == 0
    (result,) = json.loads(report.read_text(encoding="utf-8"))["results"]
    assert result["case"] == {"engine": "noop", "preset": "tiny", "size": "64x48", "batch": 2, "detections": 0}
