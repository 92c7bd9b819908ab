"""A small network that finds something, for the tests of engines."""

from __future__ import annotations

import pytest
import torch

from qdtrack_ros.inference.presets import load_preset
from qdtrack_ros.models import QDTrack
from qdtrack_ros.models.checkpoint import save_weights


@pytest.fixture
def preset(tiny_preset):
    return load_preset(str(tiny_preset))


@pytest.fixture
def model(preset):
    torch.manual_seed(0)
    network = QDTrack(preset.model)
    # A fresh box head gives every class a third, which is above the threshold: there is something to compare.
    torch.nn.init.normal_(network.box_head.classifier.weight, std=0.3)
    torch.nn.init.normal_(network.embedding_head.embed.weight, std=0.1)
    return network


@pytest.fixture
def weights(model, tmp_path):
    save_weights(model, tmp_path / "model.safetensors", half=False)
    return tmp_path / "model.safetensors"
