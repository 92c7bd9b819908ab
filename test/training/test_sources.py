"""Sources of pairs, and where pretrained weights are looked for."""

from __future__ import annotations

import json

import numpy as np
import pytest

from qdtrack_ros.configuration import ConfigurationError
from qdtrack_ros.models.checkpoint import CheckpointError
from qdtrack_ros.training.config import SourceConfig
from qdtrack_ros.training.sources import open_pair_sources, weights_file


def test_a_path_starts_at_the_data_folder(tmp_path):
    assert weights_file("trunk.pth", tmp_path) == tmp_path / "trunk.pth"


def test_a_file_inside_an_installed_package_is_found(tmp_path):
    assert weights_file("numpy:version.py", tmp_path).is_file()


def test_public_weights_are_found_by_name_once_they_are_fetched(tmp_path, monkeypatch):
    monkeypatch.setenv("QDTRACK_CACHE", str(tmp_path / "cache"))
    with pytest.raises(CheckpointError, match="get them with `qdtrack weights get imagenet-resnet50`"):
        weights_file("imagenet-resnet50", tmp_path)
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "resnet50-0676ba61.pth").write_bytes(b"other")
    with pytest.raises(CheckpointError, match="is not the published imagenet-resnet50"):
        weights_file("imagenet-resnet50", tmp_path)
    (tmp_path / "imagenet-resnet50").touch()  # a file of the user's own comes first
    assert weights_file("imagenet-resnet50", tmp_path) == tmp_path / "imagenet-resnet50"


@pytest.mark.parametrize(
    ("spec", "words"), [("no_such_package:a.pth", "pip install no-such-package"), ("numpy:a.pth", "has no file a.pth")]
)
def test_a_missing_package_or_file_is_named(tmp_path, spec, words):
    with pytest.raises(ConfigurationError, match=words):
        weights_file(spec, tmp_path)


def test_pairs_are_drawn_from_the_videos_of_a_benchmark(street, tmp_path):
    truth = [row.split(",") for row in (street / "gt" / "gt.txt").read_text().splitlines()]
    frames = [{"name": f"{index + 1:06d}.png", "videoName": "img1", "frameIndex": index} for index in range(8)]
    for frame, who, left, top, width, height, *_ in truth:
        box = {"x1": int(left), "y1": int(top), "x2": int(left) + int(width), "y2": int(top) + int(height)}
        label = {"id": who, "category": "pedestrian" if who != "3" else "other person", "box2d": box}
        frames[int(frame) - 1].setdefault("labels", []).append(label)
    (tmp_path / "truth.json").write_text(json.dumps(frames))
    config = SourceConfig("bdd100k", "street", "truth.json", scope=2, labels={"pedestrian": "person"})
    (source,) = open_pair_sources(config, tmp_path, ("person",), cache=False)
    key, reference = source.draw(100, 0.0, np.random.default_rng(0))
    assert key.image.shape == (128, 192, 3)
    assert key.instance_ids.tolist() == reference.instance_ids.tolist() == [101, 102]
    assert len(key.ignore_boxes) == 1  # the benchmark ignores the third
