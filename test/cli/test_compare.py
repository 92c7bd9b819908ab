from __future__ import annotations

import math
from pathlib import Path

import pytest

from qdtrack_ros.cli import main as cli
from qdtrack_ros.cli.compare import details, overview, verdict
from qdtrack_ros.evaluation.comparison import Comparison, Difference

SAME = Difference(0.5, 0.5, 0.0, 0.0)
NOISE = Difference(0.5, 0.51, -0.01, 0.03)
UP = Difference(0.5, 0.6, 0.05, 0.15)
DOWN = Difference(0.5, 0.4, -0.15, -0.05)
FEWER = Difference(9.0, 4.0, -7.0, -2.0)
UNKNOWN = Difference(0.5, 0.9, math.nan, math.nan)


def comparison(*differences: Difference, name: str = "street") -> Comparison:
    return Comparison(name, differences, "blocks of 10 of 100 frames, and 8 people")


def test_the_verdict_knows_that_fewer_switches_are_better() -> None:
    assert verdict(comparison(UP, NOISE, UP, NOISE, SAME, FEWER)) == "better beyond noise: HOTA, AssA, IDs"
    assert verdict(comparison(DOWN, DOWN, UP, NOISE, SAME, SAME)) == (
        "better beyond noise: AssA; worse beyond noise: HOTA, DetA"
    )
    assert verdict(comparison(*[NOISE] * 6)) == "no difference beyond noise"
    assert verdict(comparison(*[UNKNOWN] * 6)).startswith("too little data")


def test_details_show_both_values_and_the_interval() -> None:
    lines = details(comparison(UP, NOISE, SAME, DOWN, UNKNOWN, FEWER), 0.95).splitlines()
    assert "95% interval" in lines[1]
    assert lines[2].split() == ["HOTA", "50.00", "60.00", "+10.00", "[+5.00,", "+15.00]", "beyond", "noise"]
    assert lines[3].endswith("within noise") and lines[4].endswith("equal") and lines[6].endswith("cannot be told")
    assert lines[7].split()[:4] == ["IDs", "9.00", "4.00", "-5.00"]


def test_the_overview_marks_what_is_beyond_noise() -> None:
    rows = overview([comparison(UP, NOISE, SAME, DOWN, NOISE, FEWER), comparison(*[SAME] * 6, name="b")]).splitlines()
    assert rows[1].split() == ["street", "+10.00*", "+1.00", "+0.00", "-10.00*", "+1.00", "-5.00*"]
    assert rows[2].split() == ["b"] + ["+0.00"] * 6


def test_files_of_another_kind_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "other.json"
    path.write_text("{}", encoding="utf-8")
    assert cli.main(["compare", str(path), str(path)]) == 1
    assert "qdtrack results 1" in capsys.readouterr().err
    assert cli.main(["compare", str(tmp_path / "none.json"), str(path)]) == 1
    assert capsys.readouterr().err == (
        f"qdtrack compare: error: {tmp_path / 'none.json'}: cannot be read (No such file or directory); expected a "
        "results.json of `qdtrack evaluate --json`\n"
    )
    assert cli.main(["compare", str(tmp_path), str(path)]) == 1
    assert "cannot be read (Is a directory)" in capsys.readouterr().err
