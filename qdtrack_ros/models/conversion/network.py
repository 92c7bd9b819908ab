"""The network that a checkpoint belongs to, read off the shapes of its tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from qdtrack_ros.models.config import ModelConfig
from qdtrack_ros.models.conversion.convert import OWN, opened
from qdtrack_ros.models.conversion.layout import ConversionError, FileFacts, with_names

_LAYERS_OF_STAGE_3 = {6: "resnet50", 23: "resnet101"}


def network_of(state: Mapping[str, Tensor], facts: FileFacts | None = None) -> ModelConfig:
    """Architecture of a checkpoint in a foreign layout; what the layout has not, or shapes do not tell, is default.

    Args:
        state: the checkpoint's tensors.
        facts: what is known about the file besides.

    Raises:
        ConversionError: the layout is not known, or the network is none that we can build.
    """
    facts = facts or FileFacts()
    layout, tensors = opened(state)
    if layout is OWN:
        sentence = "is of no other implementation that is known; if it is one of ours, name its preset"
        raise ConversionError(with_names(sentence, {"tensors": sorted(state)}))

    def shape(own: str) -> tuple[int, ...]:
        foreign = layout.foreign_name(own)
        return tuple(tensors[foreign].shape) if foreign in tensors else ()

    def rows(own: str, default: int) -> int:
        return next(iter(shape(own)), default)

    blocks = _count(shape, "backbone.layer3.{}.conv1.weight")
    if blocks not in _LAYERS_OF_STAGE_3:
        raise ConversionError(
            f"(recognised as {layout.name}) has a backbone with {blocks} blocks in its third stage; "
            "expected a ResNet-50 (6) or ResNet-101 (23)"
        )
    classes = rows("box_head.classifier.weight", ModelConfig.num_classes + 1) - 1
    values: dict[str, Any] = {
        "num_classes": classes,
        "backbone": _LAYERS_OF_STAGE_3[blocks],
        "backbone_style": layout.style(tensors, facts) or facts.style or ModelConfig.backbone_style,
        "fpn_channels": rows("neck.lateral_convs.0.weight", ModelConfig.fpn_channels),
        "box_fc_channels": rows("box_head.fcs.0.weight", ModelConfig.box_fc_channels),
        "class_agnostic_boxes": classes > 1 and shape("box_head.regressor.bias") == (4,),
    }
    if shape("embedding_head.embed.weight"):
        convs = _count(shape, "embedding_head.convs.{}.conv.weight")
        values |= {
            "embedding_convs": convs,
            "embedding_conv_channels": rows("embedding_head.convs.0.conv.weight", ModelConfig.embedding_conv_channels),
            "embedding_fc_channels": rows("embedding_head.fcs.0.weight", 0),
            "embedding_dim": rows("embedding_head.embed.weight", ModelConfig.embedding_dim),
        }
    try:
        return ModelConfig(**values)
    except ValueError as error:
        raise ConversionError(f"(recognised as {layout.name}) is of a network that cannot be built: {error}") from error


def _count(shape: Callable[[str], tuple[int, ...]], pattern: str) -> int:
    number = 0
    while shape(pattern.format(number)):
        number += 1
    return number
