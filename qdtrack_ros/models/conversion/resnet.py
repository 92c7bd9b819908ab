"""A ResNet trained on ImageNet: the trunk alone, in torchvision's names, from torchvision or from Caffe.

Sources: pytorch/vision ``models/resnet.py``; open-mmlab/mmengine ``hub/openmmlab.json`` (names of the Caffe files, with
the first digits of their hash) and mmdetection ``mmdet/models/backbones/resnet.py`` (what ``caffe`` style means). Files
of Caffe have the stride in the 1x1 and expect BGR minus its mean; names and shapes do not tell the two apart.
"""

from __future__ import annotations

from collections.abc import Iterable

from qdtrack_ros.models.conversion.layout import FileFacts, Layout, State

_STYLE_BY_SHA256 = {
    "0676ba61": "pytorch",  # torchvision resnet50, IMAGENET1K_V1
    "11ad3fa6": "pytorch",  # V2
    "63fe2227": "pytorch",  # torchvision resnet101, IMAGENET1K_V1
    "cd907fc2": "pytorch",  # V2
    "788b5fa3": "caffe",  # open-mmlab resnet50_caffe
    "3ad79236": "caffe",  # resnet101_caffe
    "5891d200": "caffe",  # resnet50_msra, detectron2's
    "6cc46731": "caffe",  # resnet101_msra
}


def _style(names: Iterable[str], facts: FileFacts) -> str:
    if "conv1.bias" in names:  # only files that come from Caffe have it
        return "caffe"
    return _STYLE_BY_SHA256.get(facts.sha256[:8], "")


def _without_stem_bias(state: State, facts: FileFacts) -> State:
    """Move the bias of the first convolution, which ours has not, into the mean that BatchNorm subtracts."""
    state = dict(state)
    if "conv1.bias" in state and "bn1.running_mean" in state:
        state["bn1.running_mean"] = state["bn1.running_mean"] - state.pop("conv1.bias")
    return state


RESNET = Layout(
    name="ImageNet ResNet (torchvision's names)",
    table={"backbone.": ""},
    marks=("conv1.", "bn1.", "layer1.", "layer2.", "layer3.", "layer4."),
    aside={r"fc\.": "the ImageNet classifier"},
    prepare=_without_stem_bias,
    style=_style,
)
