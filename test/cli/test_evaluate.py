from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from qdtrack_ros.cli import main as cli
from qdtrack_ros.evaluation import cross_check
from qdtrack_ros.inference import engine as engines

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


def test_a_box_of_a_result_file_that_is_found_by_exactly_half_is_found(crossing: Path, tmp_path: Path) -> None:
    rows = [(f"{frame},1,{100.1 + frame},50.2,30.3,", ",1,-1,-1,-1\n") for frame in range(1, 7)]
    (crossing / "gt" / "gt.txt").write_text("".join(f"{place}60.6{end}" for place, end in rows), encoding="ascii")
    results = tmp_path / "results.txt"
    results.write_text("".join(f"{place}30.3{end}" for place, end in rows), encoding="ascii")
    report = tmp_path / "report.json"
    assert cli.main(["evaluate", str(crossing), "--mot", str(results), "--json", str(report)]) == 0
    assert json.loads(report.read_text(encoding="utf-8"))["metrics"]["mota"] == 1


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


def worse_tracks(crossing: Path, path: Path) -> Path:
    """The ground truth as tracks, less the second person from frame 3 on."""
    rows = (crossing / "gt" / "gt.txt").read_text(encoding="ascii").splitlines(keepends=True)
    path.write_text("".join(row for row in rows if row.split(",")[1] == "1" or int(row.split(",")[0]) < 3))
    return path


@pytest.mark.usefixtures("colour_engine")
def test_a_report_is_two_files(crossing: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "new" / "report"
    assert cli.main(["evaluate", str(crossing), "--report", str(folder)]) == 0
    assert sorted(path.name for path in folder.iterdir()) == ["report.html", "results.json"]
    assert f"report: {folder / 'report.html'}" in capsys.readouterr().out
    assert "<h1>Tracking report</h1>" in (folder / "report.html").read_text(encoding="utf-8")
    (sequence,) = json.loads((folder / "results.json").read_text(encoding="utf-8"))["sequences"]
    assert sequence["detector"]["average_precision"] == 1.0
    assert set(sequence["milliseconds"]) == {"preprocess", "inference", "association"}
    assert len(sequence["milliseconds"]["association"]) == 6 and min(sequence["milliseconds"]["association"]) > 0


@pytest.mark.usefixtures("colour_engine")
def test_a_frame_that_is_left_out_has_no_times(crossing: Path, tmp_path: Path) -> None:
    (crossing / "img1" / "000003.png").write_bytes(b"no picture")
    report = tmp_path / "results.json"
    assert cli.main(["evaluate", str(crossing), "--json", str(report)]) == 0
    content = json.loads(report.read_text(encoding="utf-8"))
    (sequence,) = content["sequences"]
    assert [one is None for one in sequence["milliseconds"]["inference"]] == [False, False, True, False, False, False]
    assert sequence["per_frame"]["false_negatives"] == [0, 0, 2, 0, 0, 0]
    assert content["frames_dropped"] == {"undecodable": 1}


def test_several_sources_are_summed_up(crossing: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report, gt = tmp_path / "results.json", crossing / "gt" / "gt.txt"
    worse = worse_tracks(crossing, tmp_path / "worse.txt")
    words = ["evaluate", str(crossing), str(crossing), "--mot", str(gt), "--mot", str(worse), "--json", str(report)]
    assert cli.main(words) == 0
    names = [line.split()[0] for line in capsys.readouterr().out.splitlines()[:4]]
    assert names == ["sequence", "crossing", "crossing", "combined"]
    content = json.loads(report.read_text(encoding="utf-8"))
    assert [one["name"] for one in content["sequences"]] == ["crossing", "crossing (2)"]
    assert [one["metrics"]["false_negatives"] for one in content["sequences"]] == [0, 4]
    assert content["metrics"]["mota"] == pytest.approx(1 - 4 / 24) and content["frames"] == 12


def test_options_for_each_source_are_counted(crossing: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gt = str(crossing / "gt" / "gt.txt")
    for option, what in (("--gt", "sources"), ("--mot", "sequences")):
        assert cli.main(["evaluate", str(crossing), str(crossing), option, gt]) == 1
        assert f"{option} is given 1 times for 2 {what}" in capsys.readouterr().err


def test_a_report_that_cannot_be_written_is_refused_before_the_work(
    crossing: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("in the way")
    assert cli.main(["evaluate", str(crossing), "--report", str(tmp_path / "file" / "report")]) == 1
    captured = capsys.readouterr()
    assert "cannot be written" in captured.err and captured.out == ""


def test_evaluations_are_compared(crossing: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gt, worse = crossing / "gt" / "gt.txt", worse_tracks(crossing, tmp_path / "worse.txt")
    for name, tracks in (("a.json", gt), ("b.json", worse)):
        assert cli.main(["evaluate", str(crossing), "--mot", str(tracks), "--json", str(tmp_path / name)]) == 0
    capsys.readouterr()
    assert cli.main(["compare", str(tmp_path / "a.json"), str(tmp_path / "b.json"), "--resamples", "50"]) == 0
    out = capsys.readouterr().out
    assert "MOTA    100.00    66.67   -33.33" in out and "too little data" in out  # two people only
    words = ["evaluate", str(crossing), "--mot", str(gt), "--max-frames", "4", "--json", str(tmp_path / "c.json")]
    assert cli.main(words) == 0
    assert cli.main(["compare", str(tmp_path / "a.json"), str(tmp_path / "c.json")]) == 1
    assert "6 frames in the first, 4 in the second" in capsys.readouterr().err


def test_trackeval_is_asked(
    crossing: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("trackeval", reason="trackeval is not installed")
    worse, report = worse_tracks(crossing, tmp_path / "worse.txt"), tmp_path / "results.json"
    words = ["evaluate", str(crossing), "--mot", str(worse), "--trackeval", "--json", str(report)]
    assert cli.main(words) == 0
    assert "TrackEval agrees in every field of 1 row\n" in capsys.readouterr().out
    assert json.loads(report.read_text(encoding="utf-8"))["trackeval"] == "agrees"
    theirs = cross_check.trackeval_fields

    def other_fields(*arguments: Any) -> dict[str, Any]:
        fields = theirs(*arguments)
        fields["CLEAR"]["MOTA"] += 1e-4
        return fields

    monkeypatch.setattr(cross_check, "trackeval_fields", other_fields)
    assert cli.main(words) == 1
    assert "TrackEval disagrees: crossing: CLEAR MOTA" in capsys.readouterr().out
    assert json.loads(report.read_text(encoding="utf-8"))["trackeval"] == "disagrees"


def test_a_report_that_cannot_be_made_is_refused_before_the_work(
    crossing: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    monkeypatch.setattr(engines, "create_engine", lambda *_, **__: pytest.fail("the work has begun"))
    assert cli.main(["evaluate", str(crossing), "--report", str(tmp_path / "report")]) == 1
    assert "pip install jinja2 matplotlib" in capsys.readouterr().err


def test_ground_truth_without_identities_is_refused_before_the_work(
    crossing: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def create(*arguments: Any, **options: Any) -> Any:
        raise AssertionError("the work began")

    monkeypatch.setattr(engines, "create_engine", create)
    truth = crossing / "gt" / "gt.txt"
    truth.write_text(truth.read_text() + "3,-1,1,1,9,9,0,-1,-1,-1\n3,-1,1,1,9,9,1,-1,-1,-1\n")
    assert cli.main(["evaluate", str(crossing)]) == 1
    assert "crossing, frame 2: ground truth has a box without identity" in capsys.readouterr().err
