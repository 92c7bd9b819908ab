"""Weights by a name of the catalogue, from Python and in the node: settings, hash, preset."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch
import yaml

from qdtrack_ros import Tracker, catalogue
from qdtrack_ros.configuration import ConfigurationError
from qdtrack_ros.inference.engine import create_engine
from qdtrack_ros.inference.presets import load_preset
from qdtrack_ros.models import QDTrack
from qdtrack_ros.models.checkpoint import CheckpointError, save_weights
from qdtrack_ros.node.model_loading import default_engine_factory, default_preset_loader, load_model

SETTINGS = {"preprocess.channel_order": "bgr", "association.init_score": 0.05}
FACTS = {"what": "w", "layout": "l", "licence": "MIT", "score": "s", "source": "https://example.org"}


@pytest.fixture
def cached(tiny_preset, tmp_path, monkeypatch):
    """The cached file of the public weights `tiny` for the tiny preset; they want SETTINGS."""
    torch.manual_seed(3)
    path = tmp_path / "cache" / "t.safetensors"
    save_weights(QDTrack(load_preset(str(tiny_preset)).model), path)
    settings = [f"{key}={value}" for key, value in SETTINGS.items()]
    row = {"name": "tiny", "preset": str(tiny_preset), "settings": settings, "url": "https://example.org", **FACTS}
    row |= {"file": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    (tmp_path / "weights.yaml").write_text(yaml.safe_dump({"weights": [row]}))
    monkeypatch.setattr(catalogue, "share_path", lambda relative: tmp_path / "weights.yaml")
    monkeypatch.setenv("QDTRACK_CACHE", str(path.parent))
    return path


@pytest.fixture
def picture():
    return np.random.default_rng(0).integers(0, 255, (96, 128, 3), np.uint8)


def found(tiny_preset, picture, **options):
    """Boxes, scores and tracks of a picture."""
    tracker = Tracker.from_preset(str(tiny_preset), device="cpu", **options)
    boxes, scores, _, _ = tracker.detect(picture)
    return boxes, scores, tracker(picture).ids


def same(a, b):
    return all(len(x) == len(y) and np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def test_a_name_brings_its_settings_and_overrides_win(cached, tiny_preset, picture):
    named = found(tiny_preset, picture, weights="tiny")
    assert len(named[2])
    assert same(named, found(tiny_preset, picture, weights=cached, overrides=SETTINGS))
    plain = found(tiny_preset, picture, weights=cached)
    assert not same(named[:2], plain[:2]), "the order of the channels must show"
    other_way = {"preprocess": {"channel_order": "rgb"}, "association.init_score": 0.2}
    assert same(plain, found(tiny_preset, picture, weights="tiny", overrides=other_way))


def test_a_preset_of_one_s_own_may_name_them(cached, tiny_preset, picture):
    own = tiny_preset.with_name("own.yaml")
    own.write_text(tiny_preset.read_text() + "\nweights: tiny\n")
    assert same(found(own, picture), found(tiny_preset, picture, weights="tiny"))
    chosen = load_preset(str(tiny_preset), {"weights": "tiny"})
    assert (chosen.weights, chosen.preprocess.channel_order) == ("tiny", "bgr")


def test_an_engine_is_not_built_from_a_preset_without_the_settings(cached, tiny_preset):
    words = (
        r"want settings \(preprocess.channel_order=bgr, .*without; load it with load_preset\('tiny', weights='tiny'\)"
    )
    with pytest.raises(ConfigurationError, match=words):
        create_engine(load_preset(str(tiny_preset)), "tiny", "cpu")
    create_engine(load_preset(str(tiny_preset), weights="tiny"), "tiny", "cpu").close()


def test_a_changed_file_and_another_preset_are_refused(cached, tiny_preset):
    with pytest.raises(ConfigurationError, match=r"the weights tiny are for preset .*tiny\.yaml, not for pedestrian"):
        Tracker.from_preset("pedestrian", weights="tiny")
    content = bytearray(cached.read_bytes())
    content[-1] ^= 1
    cached.write_bytes(content)
    for build in (
        lambda: Tracker.from_preset(str(tiny_preset), weights="tiny", device="cpu"),
        lambda: node_model(tiny_preset, "tiny"),
    ):
        with pytest.raises(
            CheckpointError, match=r"t\.safetensors is not the published tiny: its sha256 is \w{64}, exp"
        ):
            build()


def node_model(preset, weights, **others):
    values = {"preset": str(preset), "weights": weights, "device": "cpu", "engine": "auto", "precision": "auto"}
    values |= {"cameras": ["camera"], **others}
    return load_model(values, default_preset_loader, default_engine_factory)


def test_the_node_gets_the_settings_too(cached, tiny_preset, picture):
    named, plain = node_model(tiny_preset, "tiny"), node_model(tiny_preset, str(cached))
    assert (named.preset.association.init_score, plain.preset.association.init_score) == (0.05, 0.2)
    scores = [model.engine.detect([picture]).detections[0].scores for model in (named, plain)]
    assert np.array_equal(scores[0], found(tiny_preset, picture, weights="tiny")[1])
    assert not np.array_equal(*scores)


def test_the_engine_is_made_ready_for_as_many_threads_as_there_are_cameras(cached, tiny_preset):
    pytest.importorskip("openvino")
    threads = torch.get_num_threads()
    for cameras in (["front"], ["front", "rear"]):
        assert node_model(tiny_preset, str(cached), cameras=cameras).engine.streams == min(len(cameras), threads)


def test_the_node_asks_for_engine_and_precision(cached, tiny_preset):
    assert node_model(tiny_preset, str(cached), engine="torch", precision="bf16").engine.name == "torch cpu bf16 static"
