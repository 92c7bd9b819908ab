"""Presets: read strictly, overridden by dotted keys, and refused by name of the key."""

from __future__ import annotations

import dataclasses

import pytest
import torch
import torchvision
import yaml

from qdtrack_ros.configuration import ConfigurationError
from qdtrack_ros.inference.preprocess import PreprocessConfig
from qdtrack_ros.inference.presets import load_preset, preset_names
from qdtrack_ros.models import ModelConfig, QDTrack
from qdtrack_ros.models.conversion import SYSCV_NEW, SYSCV_OLD, Target, convert, foreign_name, recognise_layout
from qdtrack_ros.tracking import AssociationConfig, TaoConfig


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


def test_thresholds_may_have_the_names_of_the_node(tiny_preset):
    """What was found on a running node is tried on a recording as it is called there."""
    plain = load_preset(str(tiny_preset), {"association.match_score": 0.6})
    assert load_preset(str(tiny_preset), {"tracker.match_score": 0.6}) == plain
    both = {"association.match_score": 0.3, "tracker.match_score": 0.6}
    assert load_preset(str(tiny_preset), both) == plain
    assert load_preset(str(tiny_preset), dict(reversed(both.items()))).association.match_score == 0.3
    with pytest.raises(ConfigurationError, match=r"association has unknown key\(s\) match_scor;"):
        load_preset(str(tiny_preset), {"tracker.match_scor": 0.6})


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


# The reference's names of the thresholds, as the golden streams hold them.
QUASI_DENSE = {
    "init_score": "init_score_thr",
    "object_score": "obj_score_thr",
    "match_score": "match_score_thr",
    "memory_frames": "memo_tracklet_frames",
    "backdrop_frames": "memo_backdrop_frames",
    "momentum": "memo_momentum",
    "nms_confidence": "nms_conf_thr",
    "backdrop_nms_iou": "nms_backdrop_iou_thr",
    "class_nms_iou": "nms_class_iou_thr",
}
TAO = {
    "init_score": "init_score_thr",
    "object_score": "obj_score_thr",
    "match_score": "match_score_thr",
    "memory_frames": "memo_frames",
    "momentum": "momentum_embed",
    "score_momentum": "momentum_obj_score",
    "score_difference": "obj_score_diff_thr",
    "distractor_iou": "distractor_nms_thr",
    "distractor_score": "distractor_score_thr",
    "with_cosine": "match_with_cosine",
}


@pytest.mark.parametrize(
    ("name", "stream", "kind", "names"),
    [
        ("bdd100k", "qd_bdd100k", AssociationConfig, QUASI_DENSE),
        ("mot17", "qd_mot17", AssociationConfig, QUASI_DENSE),
        ("tao", "tao_default", TaoConfig, TAO),
    ],
)
def test_association_is_that_of_the_reference_s_configuration(golden, name, stream, kind, names):
    association, recorded = load_preset(name).association, golden(f"tracker/{stream}")
    assert isinstance(association, kind)
    for ours, theirs in names.items():
        assert getattr(association, ours) == recorded[f"cfg_{theirs}"].item(), ours
    assert association.metric == "bisoftmax" and recorded["cfg_match_metric"] == 0
    assert association.memory_seconds == 0
    if kind is AssociationConfig:
        assert association.match_across_classes == (not recorded["cfg_with_cats"]) and association.spatial_gate == 0


def test_the_paper_s_presets_differ_where_its_configurations_do():
    presets = {name: load_preset(name) for name in ("bdd100k", "mot17", "waymo", "tao")}
    assert {name: (p.model.num_classes, p.model.backbone) for name, p in presets.items()} == {
        "bdd100k": (8, "resnet50"),
        "mot17": (1, "resnet50"),
        "waymo": (3, "resnet50"),
        "tao": (482, "resnet101"),
    }
    assert {name: p.preprocess.image_scale for name, p in presets.items()} == {
        "bdd100k": (1296, 720),
        "mot17": (1088, 1088),
        "waymo": (1920, 1080),
        "tao": (1333, 800),
    }
    plain = ModelConfig(num_classes=1)  # what the reference's base configuration says, but for what follows
    own = {
        "mot17": {"clip_boxes": False, "backbone_style": "caffe"},
        "tao": {"backbone": "resnet101", "score_threshold": 0.0001, "max_detections": 300},
    }
    for name, preset in presets.items():
        assert dataclasses.replace(preset.model, num_classes=1) == dataclasses.replace(plain, **own.get(name, {}))
    rgb, caffe = PreprocessConfig(), PreprocessConfig((1088, 1088), "bgr", (103.53, 116.28, 123.675), (1.0, 1.0, 1.0))
    assert presets["mot17"].preprocess == caffe
    for name in ("bdd100k", "waymo", "tao"):
        assert dataclasses.replace(presets[name].preprocess, image_scale=rgb.image_scale) == rgb
    assert presets["waymo"].association == presets["bdd100k"].association
    assert not any(preset.weights for preset in presets.values())


def test_labels_stand_in_the_order_of_the_classifier():
    assert load_preset("bdd100k").labels == (
        *("pedestrian", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle"),
    )
    assert load_preset("mot17").labels == ("pedestrian",)
    assert load_preset("waymo").labels == ("vehicle", "pedestrian", "cyclist")


def test_tao_has_the_categories_of_lvis_that_occur_in_it():
    labels = load_preset("tao").labels
    assert len(set(labels)) == 482
    assert labels[:3] == ("aerosol_can", "airplane", "apricot") and labels[-2:] == ("yacht", "zebra")
    # LVIS v0.5 orders its categories by synset: in this order these follow each other, whatever lies between.
    some = ("backpack", "car_(automobile)", "dog", "person", "train_(railroad_vehicle)")
    assert [name for name in labels if name in some] == list(some)


def test_resnet101_has_torchvision_s_names_and_the_shapes_of_482_classes():
    with torch.device("meta"):
        state = QDTrack(load_preset("tao").model).state_dict()
        trunk = torchvision.models.resnet101(weights=None).state_dict()
    own = {name.removeprefix("backbone."): t.shape for name, t in state.items() if name.startswith("backbone.")}
    assert own == {name: tensor.shape for name, tensor in trunk.items() if not name.startswith("fc.")}
    assert "layer3.22.conv3.weight" in own and "layer3.23.conv1.weight" not in own
    assert state["box_head.classifier.weight"].shape == (483, 1024)
    assert state["box_head.regressor.weight"].shape == (4 * 482, 1024)
    assert state["embedding_head.embed.weight"].shape == (256, 1024)
    for layout in (SYSCV_OLD, SYSCV_NEW):
        official = {foreign_name(name, layout): tensor for name, tensor in state.items()}
        assert len(official) == len(state) and recognise_layout(official) == layout
        assert convert(official, Target(state)).tensors == state


def test_the_tracker_is_chosen_by_kind(tiny_preset):
    chosen = load_preset(str(tiny_preset), {"association.kind": "tao"}).association
    assert chosen == TaoConfig(init_score=0.2, object_score=0.1)
    with pytest.raises(ConfigurationError, match=r"association\.kind is 'toa'; expected one of quasi_dense, tao"):
        load_preset(str(tiny_preset), {"association.kind": "toa"})
    with pytest.raises(ConfigurationError, match=r"association has unknown key\(s\) spatial_gate; .*with_cosine"):
        load_preset("tao", {"association.spatial_gate": 1.0})


def test_labels_are_required(tmp_path):
    (tmp_path / "bare.yaml").write_text(yaml.safe_dump({"weights": ""}))
    with pytest.raises(ConfigurationError, match="labels"):
        load_preset(str(tmp_path / "bare.yaml"))
