"""Presets: read strictly, overridden by dotted keys, and refused by name of the key."""

from __future__ import annotations

import dataclasses

import pytest
import torch
import yaml

from qdtrack_ros.configuration import ConfigurationError
from qdtrack_ros.inference.presets import load_preset, preset_names
from qdtrack_ros.models import QDTrack


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_that_ships_builds_its_network(name):
    preset = load_preset(name)
    assert preset.name == name and len(preset.labels) == preset.model.num_classes
    with torch.device("meta"):
        QDTrack(preset.model)


def test_a_path_is_a_preset_too(tiny_preset):
    preset = load_preset(str(tiny_preset))
    assert preset.name == "tiny"
    assert preset.labels == ("person", "car")
    assert preset.model.proposals.per_level == 50
    assert preset.association.init_score == 0.2 and preset.association.momentum == 0.8


def test_overrides_change_what_they_name_and_nothing_else(tiny_preset):
    plain = load_preset(str(tiny_preset))
    changed = load_preset(
        str(tiny_preset), {"association.match_score": 0.6, "model": {"proposals": {"total": 7}}, "weights": "a.pth"}
    )
    assert changed.association == dataclasses.replace(plain.association, match_score=0.6)
    assert changed.model.proposals == dataclasses.replace(plain.model.proposals, total=7)
    assert changed.weights == "a.pth" and changed.preprocess == plain.preprocess


def test_unknown_names_list_what_there_is():
    with pytest.raises(ConfigurationError, match=r"no preset 'pedestrain'; use one of .*pedestrian"):
        load_preset("pedestrain")
    with pytest.raises(ConfigurationError, match=r"gone\.yaml cannot be read"):
        load_preset("gone.yaml")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            {"association.match_scor": 0.6},
            r"preset tiny\.association has unknown key\(s\) match_scor; known: .*match_score",
        ),
        ({"association.match_score": "high"}, r"preset tiny\.association\.match_score is 'high'; expected float"),
        ({"association.match_score": 1.5}, "match_score"),
        ({"model.backbone": "vgg"}, "backbone is 'vgg'; expected one of resnet50"),
        ({"model.num_classes": 3}, "2 labels for a model of 3 classes"),
        ({"model.proposals": 5}, r"preset tiny\.model\.proposals is 5; expected a mapping"),
        ({"model.embedding_conv_channels": 48}, "embedding_conv_channels is 48; expected a multiple of 32"),
        ({"model.score_threshold": 2}, "score_threshold is 2"),
        ({"model.max_detections": 0}, "max_detections is 0"),
        ({"model.proposals.total": 0}, "total 0"),
        ({"preprocess.image_scale": [640]}, r"image_scale has 1 entries; expected 2"),
        ({"colour": "red"}, "unknown key.*colour"),
    ],
)
def test_a_wrong_value_is_named(tiny_preset, overrides, message):
    with pytest.raises(ConfigurationError, match=message):
        load_preset(str(tiny_preset), overrides)


def test_labels_are_required(tmp_path):
    (tmp_path / "bare.yaml").write_text(yaml.safe_dump({"weights": ""}))
    with pytest.raises(ConfigurationError, match="labels"):
        load_preset(str(tmp_path / "bare.yaml"))
