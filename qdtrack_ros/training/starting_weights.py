"""The network that a training starts from. Random weights only where the configuration asks for them."""

from __future__ import annotations

import logging
from pathlib import Path

from qdtrack_ros.inference.presets import Preset
from qdtrack_ros.models.backbones import EfficientNetLite0
from qdtrack_ros.models.checkpoint import (
    load_detector,
    load_efficientnet_lite0,
    load_torchvision_resnet,
    load_weights,
)
from qdtrack_ros.models.embedding_head import TrunkEmbeddingHead
from qdtrack_ros.models.qdtrack import QDTrack
from qdtrack_ros.training.config import TrainingConfig
from qdtrack_ros.training.module import TrainingError
from qdtrack_ros.training.sources import weights_file

log = logging.getLogger(__name__)


def build_model(config: TrainingConfig, preset: Preset, root: Path) -> QDTrack:
    """The network with the weights to start from.

    Raises:
        TrainingError: no weights are named. A training never starts from random weights unasked.
        CheckpointError: they cannot be used.
    """
    model = QDTrack(preset.model)
    others = [name for name in ("detector_weights", "backbone_weights") if getattr(config, name)]
    if config.initial_weights and others:
        raise TrainingError(f"initial_weights are of the whole network: leave out {' and '.join(others)}, or them")
    if config.initial_weights:
        load_weights(model, weights_file(config.initial_weights, root), preset.labels, initial=True)
        return model
    trunk_head = isinstance(model.embedding_head, TrunkEmbeddingHead)
    if config.detector_weights and trunk_head and not config.backbone_weights:
        raise TrainingError(
            "the embedding head starts from the backbone's blocks: name backbone_weights, too (or random)"
        )
    if config.backbone_weights or not config.detector_weights:
        _start_backbone(model, config, root)
    if config.detector_weights:
        load_detector(model, weights_file(config.detector_weights, root), preset.labels)
    return model


def _start_backbone(model: QDTrack, config: TrainingConfig, root: Path) -> None:
    if config.backbone_weights == "random":
        log.warning("the backbone starts from random weights, as the configuration asks")
    elif not config.backbone_weights:
        raise TrainingError("name backbone_weights, detector_weights or initial_weights (or backbone_weights: random)")
    elif isinstance(model.backbone, EfficientNetLite0):
        load_efficientnet_lite0(model.backbone, weights_file(config.backbone_weights, root))
        if isinstance(model.embedding_head, TrunkEmbeddingHead):
            model.embedding_head.start_from(model.backbone)
    else:
        load_torchvision_resnet(model.backbone, weights_file(config.backbone_weights, root))
