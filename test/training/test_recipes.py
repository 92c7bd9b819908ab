"""The recipes in config/training: the paper's settings, and the whole R50-FPN trained on a tiny street."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch

from qdtrack_ros import Tracker
from qdtrack_ros.data.scene import SceneAugmentation
from qdtrack_ros.inference.presets import load_preset
from qdtrack_ros.models import QDTrack
from qdtrack_ros.resources import share_path
from qdtrack_ros.training.config import SourceConfig, load_training_config
from qdtrack_ros.training.module import QDTrackModule
from qdtrack_ros.training.sources import label_indices
from qdtrack_ros.training.train import train

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning", "ignore:.*treespec")

RECIPES = sorted(path.stem for path in share_path("config/training").glob("*.yaml"))


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_s_labels_are_those_of_its_preset(name):
    config = load_training_config(share_path(f"config/training/{name}.yaml"))
    labels = load_preset(config.preset).labels
    for source in config.with_labels(labels).sources:
        indices = label_indices(source, labels)
        assert any(index is not None for index in indices.values())
        if source.format != "crops" and len(labels) > 1:
            assert {index for index in indices.values() if index is not None} == set(range(len(labels)))


@pytest.mark.parametrize(
    ("name", "pairs", "rate", "epochs", "steps", "scope"),
    [
        ("bdd100k", 16, 0.02, (8, 11, 12), (175000, 240625, 262500), 3),
        ("mot17", 16, 0.02, (3, 4), (501, 668), 10),
        ("tao_detector", 16, 0.02, (16, 22, 24), (118288, 162646, 177432), 0),
        ("tao", 16, 0.002, (8, 11, 12), (9000, 12375, 13500), 1),
        ("waymo", 24, 0.04, (8, 11, 12), (88000, 121000, 132000), 3),
    ],
)
def test_the_paper_s_recipes(name, pairs, rate, epochs, steps, scope):
    config = load_training_config(share_path(f"config/training/{name}.yaml"))
    assert config.preset == name.removesuffix("_detector") and isinstance(config.pairs.augmentation, SceneAugmentation)
    assert (config.optimizer.kind, config.optimizer.learning_rate) == ("sgd", rate)
    assert config.optimizer.reference_batch == pairs and (pairs / config.batch_size) in (4, 8)  # processes
    assert (*config.optimizer.milestones, config.steps) == steps
    assert all(step == epoch * config.validate_every for epoch, step in zip(epochs, steps, strict=True))
    assert config.sources[0].scope == scope and not config.pairs.mosaic


@pytest.fixture
def r50_street(street):
    """Settings that bring a recipe of the paper onto the street: small pictures, few steps, random weights."""
    source = SourceConfig("mot", "street", scope=3, other_frame=True, labels={"pedestrian": "pedestrian"})

    def shrink(name, **changes):
        config = load_training_config(share_path(f"config/training/{name}.yaml"))
        crop = (96, 128) if any(config.pairs.augmentation.crop) else (0, 0)
        augmentation = dataclasses.replace(config.pairs.augmentation, scales=((128, 96),), crop=crop)
        return dataclasses.replace(
            config,
            sources=(source,),
            detector_weights="",
            backbone_weights="random",
            pairs=dataclasses.replace(config.pairs, augmentation=augmentation),
            optimizer=dataclasses.replace(config.optimizer, warmup_steps=1, learning_rate=0.08, milestones=()),
            workers=0,
            **changes,
        )

    return shrink


@pytest.mark.parametrize("name", ["bdd100k", "mot17"])
def test_the_whole_r50_recipe_trains(r50_street, street, tmp_path, monkeypatch, name):
    seen = []
    losses = QDTrackModule.losses

    def noted(self, batch):
        terms, figures = losses(self, batch)
        seen.append({term: float(value.detach()) for term, value in terms.items()})
        assert figures["positives"] > 0
        return terms, figures

    monkeypatch.setattr(QDTrackModule, "losses", noted)
    steps = 4 if name == "bdd100k" else 2
    weights = train(r50_street(name, steps=steps, batch_size=1), street.parent, tmp_path / "out")
    assert len(seen) == steps and all(math.isfinite(value) for step in seen for value in step.values())
    assert all(seen[0][term] != seen[-1][term] for term in seen[0]) and len(seen[0]) == 6
    if name == "bdd100k":
        assert sum(seen[-1].values()) < sum(seen[0].values())
    content = torch.load(tmp_path / "out" / "last.ckpt", map_location="cpu", weights_only=True)
    assert content["global_step"] == steps
    preset_input = {"preprocess.image_scale": [128, 96]}
    tracker = Tracker.from_preset(name, weights=weights, device="cpu", overrides=preset_input)
    tracks = tracker(np.zeros((96, 128, 3), np.uint8), 0)
    assert np.isfinite(tracks.boxes).all()


def test_the_mot17_recipe_leaves_the_scales_of_batch_norm_alone(r50_street):
    preset = load_preset("mot17")
    learnt = {}
    for name in ("mot17", "bdd100k"):
        module = QDTrackModule(r50_street(name), preset, QDTrack(preset.model))
        learnt[name] = {n for n, p in module.model.named_parameters() if p.requires_grad}
    assert learnt["mot17"] < learnt["bdd100k"]
    assert all(".bn" in name or ".downsample.1." in name for name in learnt["bdd100k"] - learnt["mot17"])
    assert not any(".bn" in name for name in learnt["mot17"])
