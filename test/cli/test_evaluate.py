from __future__ import annotations

import json
from pathlib import Path

import pytest

from qdtrack_ros.cli import main as cli

pytest.importorskip("scipy")


@pytest.mark.usefixtures("colour_engine")
def test_perfect_tracks_are_perfect(crossing: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = tmp_path / "new" / "report.json"
    assert cli.main(["evaluate", str(crossing), "--json", str(report)]) == 0
    header, row = capsys.readouterr().out.splitlines()[:2]
    assert header.split()[:4] == ["sequence", "MOTA", "IDF1", "HOTA"]
    assert row.split()[:4] == ["crossing", "100.00", "100.00", "100.00"]
    content = json.loads(report.read_text(encoding="utf-8"))
    assert content["metrics"]["mota"] == 1.0 and content["metrics"]["truth_boxes"] == 12
    assert content["frames"] == 6 and content["preset"] == "pedestrian" and content["engine"] == "colours"


def test_results_of_others_are_measured(crossing: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = (crossing / "gt" / "gt.txt").read_text(encoding="ascii").splitlines()
    # The second person is found under a new id from frame 4 on, and not at all in frame 6.
    found = [row.split(",") for row in rows]
    for row in found:
        row[1] = "9" if row[1] == "2" and int(row[0]) >= 4 else row[1]
    kept = [",".join(row) for row in found if not (row[0] == "6" and row[1] == "9")]
    results = tmp_path / "results.txt"
    results.write_text("\n".join(kept) + "\n", encoding="ascii")
    report = tmp_path / "report.json"
    words = ["evaluate", str(crossing), "--gt", str(crossing), "--mot", str(results), "--json", str(report)]
    assert cli.main(words) == 0
    metrics = json.loads(report.read_text(encoding="utf-8"))["metrics"]
    assert (metrics["id_switches"], metrics["false_negatives"], metrics["false_positives"]) == (1, 1, 0)
    assert metrics["mota"] == pytest.approx(1 - 2 / 12)


def test_missing_truth_says_what_to_do(crossing: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["evaluate", str(crossing / "img1")]) == 1
    assert "--gt" in capsys.readouterr().err
    assert cli.main(["evaluate", str(crossing), "--gt", str(tmp_path / "no.txt")]) == 1
    assert "no.txt" in capsys.readouterr().err


def test_preset_without_pedestrians_is_refused(
    crossing: Path, preset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["evaluate", str(crossing), "--preset", str(preset), "--set", "labels=[car]"]) == 1
    assert "car" in capsys.readouterr().err
