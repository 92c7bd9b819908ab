"""The preset `tao` from end to end: ResNet-101, 482 labels, and an association of its own."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from qdtrack_ros import Tracker
from qdtrack_ros.cli import main as cli
from qdtrack_ros.inference.presets import load_preset
from qdtrack_ros.models.checkpoint import save_weights
from qdtrack_ros.models.qdtrack import QDTrack
from qdtrack_ros.tracking import TaoTracker

PERSON = load_preset("tao").labels.index("person")
SMALL = {"preprocess.image_scale": [96, 64], "model.proposals.total": 8}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights of the whole network; whatever it finds, it takes for a person first."""
    torch.manual_seed(0)
    network = QDTrack(load_preset("tao").model)
    for name, parameter in network.named_parameters():
        if name.endswith("bn3.weight"):  # else 33 residual blocks of random weights overflow
            torch.nn.init.constant_(parameter, 0.1)
    with torch.no_grad():
        network.box_head.classifier.bias[PERSON] = 8.0
    path = tmp_path_factory.mktemp("tao") / "tao.safetensors"
    save_weights(network, path)
    return path


def options(weights: Path) -> list[str]:
    settings = [f"{key}={json.dumps(value)}" for key, value in SMALL.items()]
    return ["--preset", "tao", "--weights", str(weights), "--device", "cpu", "--set", *settings]


def test_from_python(weights: Path, synthetic_image) -> None:
    tracker = Tracker.from_preset("tao", weights=weights, device="cpu", overrides=SMALL)
    assert isinstance(tracker.association, TaoTracker) and len(tracker.labels) == 482
    frame = synthetic_image(1, 64, 96)
    found = tracker.detect(frame)
    assert 100 < len(found.boxes) <= 300, "scores far below 0.05 count"
    assert found.scores.min() < 0.01 and set(found.labels) > {PERSON}
    first = tracker(frame)
    assert len(first.ids) and first.labels[0] == PERSON and (np.diff(first.scores) <= 0).all()
    again = tracker(frame)
    known = dict(zip(first.ids.tolist(), first.boxes.tolist(), strict=True))
    same = [known[i] == box for i, box in zip(again.ids.tolist(), again.boxes.tolist(), strict=True) if i in known]
    assert len(same) > 0 and np.mean(same) > 0.5, "the same picture again: most objects keep their ids"
    state = tracker.association.state_dict()
    other = Tracker.from_preset("tao", weights=weights, device="cpu", overrides=SMALL)
    other.association.load_state_dict(state)
    other.frame_index = tracker.frame_index
    mine, theirs = tracker(frame), other(frame)
    assert all(np.array_equal(a, b) for a, b in zip(mine, theirs, strict=True))
    tracker.reset()
    assert tracker(frame).ids.min() == 0


def test_track(weights: Path, crossing: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("rosbags")
    text, bag, video = tmp_path / "t.txt", tmp_path / "bag", tmp_path / "t.mp4"
    words = ["track", str(crossing), "--mot", str(text), "--bag", str(bag), "-o", str(video), "--max-frames", "2"]
    assert cli.main([*words, *options(weights)]) == 0
    assert "2 frames" in capsys.readouterr().out
    rows = np.loadtxt(text, delimiter=",", ndmin=2)
    assert set(rows[:, 0]) == {1, 2} and bag.is_dir() and video.is_file()


def test_evaluate_compares_persons(weights: Path, crossing: Path, tmp_path: Path) -> None:
    pytest.importorskip("scipy")
    report = tmp_path / "report.json"
    words = ["evaluate", str(crossing), "--max-frames", "2", "--json", str(report)]
    assert cli.main([*words, *options(weights)]) == 0
    content = json.loads(report.read_text(encoding="utf-8"))
    assert content["preset"] == "tao" and content["metrics"]["truth_boxes"] == 4
    assert content["metrics"]["false_positives"] > 0


def test_a_threshold_of_the_other_tracker_is_refused(
    weights: Path, crossing: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["track", str(crossing), *options(weights), "association.backdrop_frames=2"]
    assert cli.main(words) == cli.EXIT_FAILED
    assert "preset tao.association has unknown key(s) backdrop_frames; known: init_score" in capsys.readouterr().err
