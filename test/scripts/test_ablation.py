"""The ablation: its IoU baseline, its settings, and that it goes on where it stopped."""

from __future__ import annotations

import importlib
import json
import shutil
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from qdtrack_ros.data.synthetic import street
from qdtrack_ros.evaluation.rules import TruthRules
from qdtrack_ros.inference.presets import load_preset
from qdtrack_ros.inference.types import Detections
from qdtrack_ros.resources import share_path
from qdtrack_ros.tracking import AssociationConfig

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
CONFIG = AssociationConfig(init_score=0.9, object_score=0.5, memory_frames=3)


@pytest.fixture
def ablation(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    return importlib.import_module("ablation")


def frame(*boxes: tuple[float, float]) -> Detections:
    """Boxes of 20 x 40 by their left edge and score."""
    found = Detections.empty(1)
    return found._replace(
        boxes=np.array([(x, 0, x + 20, 40) for x, _ in boxes], np.float32).reshape(-1, 4),
        scores=np.array([score for _, score in boxes], np.float32),
        labels=np.zeros(len(boxes), np.int64),
    )


def ids(
    ablation: ModuleType, frames: list[Detections], threshold: float = 0.3, predict: bool = False
) -> list[list[int]]:
    return [tracks.ids.tolist() for tracks in ablation.iou_tracks(frames, CONFIG, threshold, predict)]


def test_overlap_keeps_ids_in_whatever_order_boxes_come(ablation: ModuleType) -> None:
    frames = [frame((0, 0.99), (100, 0.95)), frame((102, 0.97), (3, 0.6)), frame()]
    assert ids(ablation, frames) == [[0, 1], [1, 0], []]


def test_the_larger_overlap_wins_and_the_other_box_starts_a_track_where_its_score_allows(ablation: ModuleType) -> None:
    assert ids(ablation, [frame((0, 0.99)), frame((8, 0.99), (1, 0.6))]) == [[0], [1, 0]]
    assert ids(ablation, [frame((0, 0.99)), frame((8, 0.8), (1, 0.6))]) == [[0], [0]]  # 0.8 starts none


@pytest.mark.parametrize(("gap", "kept"), [(2, True), (3, False)])
def test_tracks_are_remembered_as_long_as_the_association_remembers(gap: int, kept: bool, ablation: ModuleType) -> None:
    last = ids(ablation, [frame((0, 0.99)), *[frame()] * gap, frame((0, 0.99))])[-1]
    assert last == [0 if kept else 1]


def test_velocity_bridges_what_overlap_alone_cannot(ablation: ModuleType) -> None:
    walk = [frame((8.0 * step, 0.99)) for step in range(3)] + [frame(), frame((32, 0.99))]
    assert ids(ablation, walk, predict=True)[-1] == [0]
    assert ids(ablation, walk, predict=False)[-1] == [1]


def test_each_setting_is_one_of_the_association_and_the_last_is_the_preset_s(ablation: ModuleType) -> None:
    built = [load_preset("pedestrian", setting.overrides()).association for setting in ablation.SETTINGS]
    assert len(set(built)) == len(ablation.SETTINGS) and built[-1] == load_preset("pedestrian").association


def test_it_trains_and_measures_what_is_missing_and_nothing_twice(
    ablation: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[tuple[str, str, int, int]] = []
    lengths: list[int] = []

    def train(config: object, root: Path, output: Path) -> None:
        trained.append((config.loss.regions, config.loss.positives, config.seed, config.pairs.seed))  # type: ignore[attr-defined]
        lengths.append(config.steps)  # type: ignore[attr-defined]
        output.mkdir(parents=True)
        shutil.copyfile(share_path("weights/pedestrian.safetensors"), output / "model.safetensors")

    videos = {"first": street(3, (160, 120), walkers=3), "second": street(3, (160, 120), walkers=2)}
    labels = frozenset(a.label for a in videos["first"].frames[0].annotations)
    truths = {name: ablation.Truth(video, TruthRules(labels)) for name, video in videos.items()}
    monkeypatch.setattr(ablation, "train", train)
    monkeypatch.setattr(ablation, "truths", lambda data, names: {name: truths[name] for name in names})
    monkeypatch.setattr(ablation, "TESTED", ("first", "second"))
    monkeypatch.setattr(ablation, "TUNED_ON", ("second",))
    monkeypatch.setattr(ablation, "NEAREST_STEPS", (1, 2))
    monkeypatch.setattr(ablation, "TABLE_STEP", 2)
    monkeypatch.setattr(ablation, "COLUMNS", (("first", "idf1"), ("all", "id_switches")))
    ablation.run(tmp_path, tmp_path / "out", 1)
    assert trained == [("sparse", "many", 0, 0), ("quasi_dense", "one", 0, 0), ("quasi_dense", "many", 0, 0)]
    first = (tmp_path / "out" / "table.md").read_text()
    assert all(f"| {name} |" in first for name in (*ablation.ARMS, "shipped", "cosine", "bisoftmax + D.R. + backdrops"))
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    copy = results["sparse, seed 0"]
    assert copy["tracking"] == results["shipped"]["tracking"] and copy["nearest"] == results["shipped"]["nearest"]

    embed = ablation.embed
    monkeypatch.setattr(ablation, "embed", lambda models, video, preset: pytest.fail("measured again"))
    ablation.run(tmp_path, tmp_path / "out", 1)
    assert len(trained) == 3 and (tmp_path / "out" / "table.md").read_text() == first

    monkeypatch.setattr(ablation, "embed", embed)
    ablation.run(tmp_path, tmp_path / "out", 2)
    assert [seed for *_, seed, _ in trained] == [0, 0, 0, 1, 1, 1]
    assert "±" in (tmp_path / "out" / "table.md").read_text()

    ablation.run(tmp_path, tmp_path / "out", 1, 7)
    assert lengths == [250] * 6 + [7] * 3 and (tmp_path / "out" / "7_steps" / "table.md").is_file()


def test_a_missing_folder_is_one_line(
    ablation: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["ablation", "--data", str(tmp_path), "--output", str(tmp_path / "out")])
    assert ablation.main() == 1
    message = capsys.readouterr().err
    assert message.startswith("ablation: error: ") and "PETS09-S2L1" in message
