"""Training configurations and the sequences they name."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest
import yaml

from qdtrack_ros.configuration import ConfigurationError, build
from qdtrack_ros.data.formats import FORMATS
from qdtrack_ros.resources import share_path
from qdtrack_ros.training.config import CROPS, LossConfig, SourceConfig, TrainingConfig, load_training_config
from qdtrack_ros.training.sources import cached, every, label_indices, open_pair_sources, open_sequences, weights_file


def test_the_recipe_of_the_shipped_model_loads():
    config = load_training_config(share_path("config/training/pedestrian.yaml"))
    assert config.preset == "pedestrian" and len(config.sources) > 5 and config.validation is not None
    kitti = [s for s in config.sources if s.format == "kitti"]
    assert len({s.path for s in kitti}) == len(kitti) and all(s.labels["Pedestrian"] == "person" for s in kitti)


def test_the_page_on_training_has_an_example_of_every_format():
    page = (Path(__file__).resolve().parents[2] / "docs" / "training.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```yaml\n(.*?)^```$", page[page.index("## Formats") :], re.MULTILINE | re.DOTALL)
    sources = [build(SourceConfig, row, "source") for block in blocks for row in yaml.safe_load(block)]
    assert sorted(source.format for source in sources) == sorted([*FORMATS, CROPS])


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"format": "kitti", "path": "x"}, "source x has no annotations; format kitti needs a label file"),
        ({"format": "waymo", "path": "x", "annotations": "y"}, "format waymo has no annotations apart from its path"),
    ],
)
def test_annotations_that_a_format_needs_or_has_not_are_named(source, message):
    with pytest.raises(ConfigurationError, match=message):
        build(SourceConfig, source, "source")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"seed": -1}, "seed is -1; expected 0 to"),
        ({"sources": [{"format": "mot"}]}, r"sources\[0\]: missing path"),
        ({"sources": [{"format": "mot", "path": "x", "weight": float("nan")}]}, r"weight is nan; expected a finite"),
        ({"sources": [{"format": "mot", "path": "x", "min_aspect": -1}]}, r"min_aspect is -1\.0; expected at least 0"),
        ({"pairs": {"mosaic": 2}}, r"pairs: mosaic is 2\.0; expected 0 to 1"),
        ({"optimizer": {"learning_rate": 0}}, r"optimizer: learning_rate is 0\.0; expected more than 0"),
        ({"optimizer": {"backbone_factor": -1}}, r"backbone_factor is -1\.0; expected at least 0"),
        ({"optimizer": {"weight_decay": -1}}, r"weight_decay is -1\.0; expected at least 0"),
        ({"optimizer": {"ema_decay": 1}}, r"ema_decay is 1\.0; expected 0 or more and less than 1"),
        ({"optimizer": {"milestones": [3, 1]}}, r"milestones is \(3, 1\); expected rising steps"),
        ({"loss": {"rpn_samples": 0}}, "loss: rpn_samples is 0; expected at least 1"),
        ({"loss": {"track_weight": -1}}, r"track_weight is -1\.0; expected at least 0"),
        ({"loss": {"track_positive_iou": 0.2}}, r"track_negative_iou is 0\.3; expected 0 to 0\.2"),
        ({"loss": {"box_beta": -1}}, r"box_beta is -1\.0; expected at least 0"),
    ],
)
def test_values_that_no_training_can_have_are_named_before_it_begins(setting, message):
    base = {"preset": "pedestrian", "sources": [{"format": "mot", "path": "x"}]}
    build(TrainingConfig, base, "training")
    with pytest.raises(ConfigurationError, match=message):
        build(TrainingConfig, base | setting, "training")


def test_oversampling_is_for_stills():
    build(SourceConfig, {"format": "mot", "path": "x", "scope": 0, "oversample": 0.001}, "source")
    with pytest.raises(ConfigurationError, match=r"oversample is 0.001 and scope 3; expected 0 to 1, for stills"):
        build(SourceConfig, {"format": "mot", "path": "x", "oversample": 0.001}, "source")


def test_sequences_of_a_source_share_its_weight_by_their_frames(tmp_path):
    rows = [{"name": "a.jpg", "videoName": name, "frameIndex": i} for name, n in (("a", 1), ("b", 3)) for i in range(n)]
    (tmp_path / "all.json").write_text(json.dumps(rows))
    config = SourceConfig("bdd100k", "images", "all.json", weight=2.0)
    sources = open_pair_sources(config, tmp_path, ("car",), cache=False)
    assert [(source.name, source.weight) for source in sources] == [("a", 0.5), ("b", 1.5)]
    assert [one.name for one in open_sequences(dataclasses.replace(config, sequences="b"), tmp_path)] == ["b"]


def test_the_ablation_learns_from_nothing_that_it_is_tested_on():
    config = load_training_config(share_path("config/training/ablation.yaml"), {"detector_weights": "any"})
    paths = " ".join(source.path for source in config.sources)
    assert config.validation is None and not any(name in paths for name in ("PETS09-S2L1", "TUD-Campus", "0015"))


def test_overrides(tmp_path):
    path = share_path("config/training/pedestrian.yaml")
    config = load_training_config(path, {"steps": 5, "optimizer.learning_rate": 0.5})
    assert config.steps == 5 and config.optimizer.learning_rate == 0.5
    assert config.optimizer.kind == load_training_config(path).optimizer.kind


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"step": 5}, r"pedestrian\.yaml has unknown key\(s\) step; known: preset"),
        ({"steps": 0}, "steps is 0; expected at least 1"),
        ({"workers": -1}, "workers is -1"),
        ({"optimizer.kind": "adam"}, "kind is 'adam'; expected sgd or adamw"),
        (
            {"sources": [{"format": "video", "path": "x"}]},
            r"sources\[0\]: format is 'video'; expected one of mot, kitti",
        ),
        ({"sources": [{"format": "mot", "path": "x", "weight": 0}]}, "weight 0.0 must be positive"),
        ({"pairs.augmentation.size": [100, 200]}, "multiples of 32"),
        ({"loss.regions": "dense"}, "regions is 'dense'; expected quasi_dense or sparse"),
        ({"loss.positives": "two"}, "positives is 'two'; expected many or one"),
        ({"loss.rpn_sampels": 1}, r"loss has unknown key\(s\) rpn_sampels"),
    ],
)
def test_a_wrong_value_is_named(overrides, message):
    with pytest.raises(ConfigurationError, match=message):
        load_training_config(share_path("config/training/pedestrian.yaml"), overrides)


def test_the_defaults_are_the_paper_s():
    config = LossConfig()
    assert (config.rpn_samples, config.box_samples, config.key_positives, config.reference_samples) == (
        256,
        512,
        128,
        256,
    )
    assert (config.regions, config.positives) == ("quasi_dense", "many")
    assert (config.rpn_positive_iou, config.rpn_negative_iou, config.box_iou) == (0.7, 0.3, 0.5)
    assert (config.train_proposals_per_level, config.train_proposals) == (2000, 1000)
    assert (config.track_weight, config.auxiliary_weight) == (0.25, 1.0)


def test_labels_become_class_indices():
    source = SourceConfig("mot", "x", labels={"pedestrian": "person", "static_person": "ignore", "car": "car"})
    assert label_indices(source, ("person", "car")) == {"pedestrian": 0, "static_person": None, "car": 1}
    with pytest.raises(ConfigurationError, match="source x maps 'car' to 'car'; expected one of person, ignore"):
        label_indices(source, ("person",))


def test_labels_left_out_are_the_preset_s():
    names = ("person", "car")
    assert SourceConfig("mot", "x").with_labels(names).labels == {"person": "person", "car": "car"}
    some = SourceConfig("mot", "x", labels={"*": "*", "baby": "person", "car": "ignore"}).with_labels(names)
    assert some.labels == {"person": "person", "car": "ignore", "baby": "person"}
    for source in (SourceConfig("mot", "x", labels={"a": "car"}), SourceConfig("crops", "x")):
        assert source.with_labels(names) == source
    with pytest.raises(ValueError, match="expected '\\*': the same names"):
        SourceConfig("mot", "x", labels={"*": "car"})


def test_validation_is_a_source_or_a_list_of_them(training):
    source = {"format": "mot", "path": "a"}
    assert [one.path for one in training(validation=source).validation] == ["a"]
    both = training(validation=[source, {**source, "path": "b"}]).with_labels(("person",))
    assert [(one.path, dict(one.labels)) for one in both.validation] == [(n, {"person": "person"}) for n in "ab"]
    assert training(validation=None).validation is None
    with pytest.raises(ConfigurationError, match="validation is an empty list"):
        training(validation=[])


def test_a_part_of_a_sequence(training, street):
    (config,) = training().sources
    indices = [
        [frame.index for frame in open_sequences(dataclasses.replace(config, part=part), street.parent)[0].frames]
        for part in ((0.0, 0.5), (0.5, 1.0))
    ]
    assert indices == [[0, 1, 2, 3], [4, 5, 6, 7]]
    with pytest.raises(ValueError, match="part is"):
        dataclasses.replace(config, part=(0.5, 0.5))


def test_wide_objects_are_ignored_where_asked(training, street):
    (config,) = training().sources
    (plain,) = open_pair_sources(config, street.parent, ("person",), cache=False)
    assert not any(a.ignore for f in plain.sequence.frames for a in f.annotations)
    (upright,) = open_pair_sources(dataclasses.replace(config, min_aspect=3.0), street.parent, ("person",), cache=False)
    assert all(a.ignore for f in upright.sequence.frames for a in f.annotations)  # 56 / 24 is less


def test_cached_frames_look_the_same_and_need_their_files_no_more(training, street):
    (sequence,) = open_sequences(training().sources[0], street.parent)
    kept = cached(sequence)
    before = [frame.load() for frame in sequence.frames]
    for picture in (street / "img1").iterdir():
        picture.unlink()
    for frame, image in zip(kept.frames, before, strict=True):
        assert np.abs(frame.load().astype(int) - image).mean() < 3
        assert len(frame.annotations) == 3


def test_every_second_frame(training, street):
    (sequence,) = open_sequences(training().sources[0], street.parent)
    assert [f.index for f in every(sequence, 3).frames] == [0, 3, 6]


def test_weights_files_are_paths_or_lie_in_packages(tmp_path):
    assert weights_file("a/b.pth", tmp_path) == tmp_path / "a" / "b.pth"
    assert weights_file("/abs/b.pth", tmp_path).as_posix() == "/abs/b.pth"
    assert weights_file("yaml:__init__.py", tmp_path).is_file()
