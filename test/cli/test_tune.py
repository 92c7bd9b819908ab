"""Tuning on a drawn street: the network is the coloured rectangles' one, or finds what the street is known to hold."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml

from qdtrack_ros.cli import main as cli
from qdtrack_ros.cli import tune
from qdtrack_ros.data.synthetic import street
from qdtrack_ros.inference import engine as engines
from qdtrack_ros.inference.presets import Preset
from qdtrack_ros.inference.types import Detections, EngineOutput

pytest.importorskip("scipy")
pytest.importorskip("optuna")

FRAMES, PEOPLE = 30, 5


class StreetEngine:
    """Finds the people of a street by their boxes; each looks the same in all frames, and is seen with score 0.6."""

    name, model_id, embedding_dim = "street", "0123456789abcdef", 8
    at_once: int | None = 1
    streams = 1

    def __init__(self) -> None:
        self._frames = iter(street(FRAMES, (160, 120), PEOPLE).frames)
        self.calls = 0

    def detect(self, images: Sequence[np.ndarray]) -> EngineOutput:
        self.calls += 1
        people = next(self._frames).annotations
        found = Detections(
            np.array([person.box for person in people], np.float32).reshape(-1, 4),
            np.full(len(people), 0.6, np.float32),
            np.zeros(len(people), np.int64),
            10 * np.eye(self.embedding_dim, dtype=np.float32)[[person.instance_id or 0 for person in people]],
        )
        return EngineOutput([found], 0.0, 0.0, 0.0)

    def warmup(self, pictures: int = 1, threads: int = 1) -> None:
        pass

    def close(self) -> None:
        pass


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> StreetEngine:
    monkeypatch.setenv("QDTRACK_CACHE", str(tmp_path / "cache"))
    network = StreetEngine()
    monkeypatch.setattr(engines, "create_engine", lambda *arguments, **options: network)
    return network


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The street as a MOTChallenge folder."""
    root = tmp_path / "street"
    (root / "img1").mkdir(parents=True)
    (root / "gt").mkdir()
    rows = []
    for frame in street(FRAMES, (160, 120), PEOPLE).frames:
        cv2.imwrite(str(root / "img1" / f"{frame.index + 1:06d}.png"), frame.load())
        for row in frame.annotations:
            left, top, right, bottom = row.box
            rows.append(f"{frame.index + 1},{row.instance_id},{left},{top},{right - left},{bottom - top},1,-1,-1,-1\n")
    (root / "gt" / "gt.txt").write_text("".join(rows), encoding="ascii")
    info = f"[Sequence]\nname=street\nimDir=img1\nframeRate=10\nseqLength={FRAMES}\nimWidth=160\nimHeight=120\n"
    (root / "seqinfo.ini").write_text(info, encoding="ascii")
    return root


def test_settings_that_find_people_are_found(
    engine: StreetEngine, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # With an init score of 0.9 nobody is ever tracked: all are seen with 0.6.
    words = ["tune", str(folder), "--set", "association.init_score=0.9", "--trials", "12", "--search", "init_score"]
    assert cli.main(words) == 0
    out = capsys.readouterr().out
    baseline, best = (line.split() for line in out.splitlines()[1:3])
    assert baseline[:4] == ["baseline", "0.00", "0.00", "0.00"] and best[0] == "best" and float(best[1]) > 90
    option = re.search(r"--set association\.init_score=(\S+)", out)
    assert option is not None and float(option.group(1)) < 0.6
    settings = yaml.safe_load(re.search(r"^association:\n(  .*\n)+", out, re.MULTILINE).group())  # type: ignore[union-attr]
    assert settings == {"association": {"init_score": float(option.group(1))}}
    assert "on other data expect less" in out


def test_the_network_runs_once(engine: StreetEngine, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["tune", str(folder), "--trials", "2"]
    assert cli.main(words) == 0 and engine.calls == FRAMES
    first = capsys.readouterr().out
    assert cli.main(words) == 0 and engine.calls == FRAMES
    assert capsys.readouterr().out == first
    engine.model_id = "other weights"
    with pytest.raises(RuntimeError, match="StopIteration"):
        cli.main(words)  # would find anew, but this engine has no more


def test_the_baseline_is_what_evaluate_gives(
    engine: StreetEngine, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "img1" / "000004.png").write_bytes(b"no picture")
    arguments = [str(folder), "--set", "association.init_score=0.5"]
    assert cli.main(["tune", *arguments, "--trials", "1"]) == 0
    tuned = capsys.readouterr().out.splitlines()[1].split()[1:]
    monkeypatch.setattr(engines, "create_engine", lambda *arguments, **options: StreetEngine())
    assert cli.main(["evaluate", *arguments]) == 0
    assert capsys.readouterr().out.splitlines()[1].split()[1:] == tuned


def test_named_weights_bring_their_preset(
    engine: StreetEngine, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    presets = []

    def create(preset: Preset, *arguments: Any, **options: Any) -> StreetEngine:
        presets.append(preset.name)
        return engine

    monkeypatch.setattr(engines, "create_engine", create)
    assert cli.main(["tune", str(folder), "--weights", "bdd100k-r50", "--trials", "1"]) == 0
    assert presets == ["bdd100k"]


def test_ground_truth_without_identities_is_refused_before_the_work(
    engine: StreetEngine, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with (folder / "gt" / "gt.txt").open("a", encoding="ascii") as rows:
        rows.write("1,-1,1,1,9,30,1,1,1\n")
    assert cli.main(["tune", str(folder), "--trials", "1"]) == 1
    assert "without identity" in capsys.readouterr().err and engine.calls == 0


def test_a_wrong_setting_is_refused_before_the_work(
    engine: StreetEngine, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["tune", str(folder), "--search", "gate"]) == 1
    assert "cannot search for gate" in capsys.readouterr().err and engine.calls == 0


def test_ctrl_c_shows_the_best_so_far(
    engine: StreetEngine, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real, calls = tune.result_of, []

    def seventh_trial_is_interrupted(*arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) == 8:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(tune, "result_of", seventh_trial_is_interrupted)
    words = ["tune", str(folder), "--set", "association.init_score=0.9", "--trials", "40", "--search", "init_score"]
    assert cli.main(words) == 130
    captured = capsys.readouterr()
    assert "--set association.init_score=" in captured.out
    assert captured.err.splitlines()[-1] == (
        "qdtrack tune: interrupted after 6 of 40 trials: above is the best of these"
    )
