"""torchvision's ``fasterrcnn_resnet50_fpn``: a detector without an embedding head.

Sources: pytorch/vision ``models/detection/{faster_rcnn,rpn,anchor_utils,_utils}.py``,
``ops/{misc,feature_pyramid_network,poolers}.py``. Weights, features and RPN outputs come out equal; anchors (rounded
there) and pooling (half a pixel off there, 2x2 samples) are ours, so detections differ slightly: docs/checkpoints.md.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.models.detection import FasterRCNN_ResNet50_FPN_Weights

from qdtrack_ros.models.conversion.layout import ConversionError, FileFacts, Layout, State

# Of the COCO file that torchvision offers. It was trained when FrozenBatchNorm2d had an epsilon of 0, and torchvision
# sets it to 0 for this file alone; every other one is meant for 1e-5, as ours is.
_ZERO_EPSILON_SHA256 = "258fb6c6"
_EPSILON = 1e-5
_CLASSIFIER = "roi_heads.box_predictor.cls_score"
_REGRESSOR = "roi_heads.box_predictor.bbox_pred"

# By COCO's ids, 1 to 90; ids that COCO never gave out are empty.
COCO_CATEGORIES = tuple(
    "" if name == "N/A" else name for name in FasterRCNN_ResNet50_FPN_Weights.COCO_V1.meta["categories"][1:]
)


def _prepare(state: State, facts: FileFacts) -> State:
    if any(name.startswith("backbone.fpn.inner_blocks.0.1.") for name in state):
        raise ConversionError(
            "is of fasterrcnn_resnet50_fpn_v2, with BatchNorm in the pyramid, which our network has not; "
            "take fasterrcnn_resnet50_fpn"
        )
    state = dict(state)
    for part in ("weight", "bias"):
        if f"{_CLASSIFIER}.{part}" in state:
            state[f"{_CLASSIFIER}.{part}"] = _background_last(state[f"{_CLASSIFIER}.{part}"])
        if f"{_REGRESSOR}.{part}" in state:
            state[f"{_REGRESSOR}.{part}"] = _without_background(state[f"{_REGRESSOR}.{part}"])
    if facts.sha256.startswith(_ZERO_EPSILON_SHA256):
        state.update(_for_our_epsilon(state))
    return state


def _background_last(rows: Tensor) -> Tensor:
    """Classifier rows [C + 1, ...] from background first to background last."""
    return torch.roll(rows, -1, dims=0)


def _without_background(rows: Tensor) -> Tensor:
    """Regressor rows [4 (C + 1), ...] without the four of the background, which are never used."""
    return rows[4:]


def _for_our_epsilon(state: State) -> State:
    """BatchNorm weights that give with our epsilon what those of the state give with an epsilon of 0."""
    weights = {}
    for name, variance in state.items():
        weight = name.replace(".running_var", ".weight")
        if name.endswith(".running_var") and weight in state:
            exact = variance.double()
            ratio = torch.where(exact > 0, (exact + _EPSILON) / exact, torch.ones_like(exact)).sqrt()
            weights[weight] = (state[weight].double() * ratio).to(state[weight].dtype)
    return weights


TORCHVISION_DETECTOR = Layout(
    name="torchvision fasterrcnn_resnet50_fpn",
    table={
        "backbone.": "backbone.body.",
        "neck.lateral_convs.{n}.": "backbone.fpn.inner_blocks.{n}.0.",
        "neck.output_convs.{n}.": "backbone.fpn.layer_blocks.{n}.0.",
        "rpn.conv.": "rpn.head.conv.0.0.",
        "rpn.objectness.": "rpn.head.cls_logits.",
        "rpn.deltas.": "rpn.head.bbox_pred.",
        "box_head.fcs.0.": "roi_heads.box_head.fc6.",
        "box_head.fcs.1.": "roi_heads.box_head.fc7.",
        "box_head.classifier.": f"{_CLASSIFIER}.",
        "box_head.regressor.": f"{_REGRESSOR}.",
    },
    marks=("backbone.body.", "backbone.fpn.", "rpn.head.", "roi_heads."),
    spellings={
        # torchvision before 0.13, and the file it offers
        "backbone.fpn.inner_blocks.{n}.weight": "backbone.fpn.inner_blocks.{n}.0.weight",
        "backbone.fpn.inner_blocks.{n}.bias": "backbone.fpn.inner_blocks.{n}.0.bias",
        "backbone.fpn.layer_blocks.{n}.weight": "backbone.fpn.layer_blocks.{n}.0.weight",
        "backbone.fpn.layer_blocks.{n}.bias": "backbone.fpn.layer_blocks.{n}.0.bias",
        "rpn.head.conv.weight": "rpn.head.conv.0.0.weight",
        "rpn.head.conv.bias": "rpn.head.conv.0.0.bias",
    },
    prepare=_prepare,
    style=lambda names, facts: "pytorch",
    classes=COCO_CATEGORIES,
    picks_classes=True,
)
