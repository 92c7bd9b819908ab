"""Checkpoints as other implementations write them, and what their networks compute, both written down from the public
module definitions: names and shapes come from here, never from the tables under test.

mmtracking 0.x and mmdetection 3: ``ResNet``, ``FPN``, ``RPNHead``, ``Shared2FCBBoxHead``, ``QuasiDenseEmbedHead``.
vis4d: ``ResNet``, ``FPN`` (torchvision's), ``RPNHead``, ``RCNNHead``, ``QDSimilarityHead``.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

State = dict[str, Tensor]


class Names(NamedTuple):
    """How an implementation calls its layers; ``{}`` is a number."""

    trunk: str
    lateral: str
    output: str
    rpn_conv: str
    rpn_cls: str
    rpn_reg: str
    fc: str
    cls: str
    reg: str
    track_conv: str
    track_norm: str
    track_fc: str
    track_embed: str


OPENMMLAB = Names(
    trunk="detector.backbone.",
    lateral="detector.neck.lateral_convs.{}.conv",
    output="detector.neck.fpn_convs.{}.conv",
    rpn_conv="detector.rpn_head.rpn_conv",
    rpn_cls="detector.rpn_head.rpn_cls",
    rpn_reg="detector.rpn_head.rpn_reg",
    fc="detector.roi_head.bbox_head.shared_fcs.{}",
    cls="detector.roi_head.bbox_head.fc_cls",
    reg="detector.roi_head.bbox_head.fc_reg",
    track_conv="track_head.embed_head.convs.{}.conv",
    track_norm="track_head.embed_head.convs.{}.gn",
    track_fc="track_head.embed_head.fcs.{}",
    track_embed="track_head.embed_head.fc_embed",
)
VIS4D = Names(
    trunk="basemodel.",
    lateral="fpn.inner_blocks.{}.0",
    output="fpn.layer_blocks.{}.0",
    rpn_conv="faster_rcnn_head.rpn_head.rpn_conv",
    rpn_cls="faster_rcnn_head.rpn_head.rpn_cls",
    rpn_reg="faster_rcnn_head.rpn_head.rpn_box",
    fc="faster_rcnn_head.roi_head.shared_fcs.{}",
    cls="faster_rcnn_head.roi_head.fc_cls",
    reg="faster_rcnn_head.roi_head.fc_reg",
    track_conv="qdtrack_head.similarity_head.convs.{}",
    track_norm="qdtrack_head.similarity_head.convs.{}.norm",
    track_fc="qdtrack_head.similarity_head.fcs.{}.0",
    track_embed="qdtrack_head.similarity_head.fc_embed",
)
_BLOCKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}


class Maker:
    """Adds seeded layers to a state dict, scaled so that activations keep their size."""

    def __init__(self, seed: int) -> None:
        self.state: State = {}
        self._generator = torch.Generator().manual_seed(seed)

    def conv(self, name: str, *shape: int, bias: bool = True) -> None:
        fan_in = torch.Size(shape[1:]).numel()
        self.state[f"{name}.weight"] = torch.randn(shape, generator=self._generator) * (2 / fan_in) ** 0.5
        if bias:
            self.state[f"{name}.bias"] = torch.randn(shape[0], generator=self._generator) * 0.1

    def batch_norm(self, name: str, channels: int, counters: bool, scale: float = 1.0) -> None:
        def uniform(low: float, high: float) -> Tensor:
            return torch.rand(channels, generator=self._generator) * (high - low) + low

        self.state[f"{name}.weight"] = uniform(0.5, 1.0) * scale
        self.state[f"{name}.bias"] = uniform(-0.1, 0.1)
        self.state[f"{name}.running_mean"] = uniform(-0.1, 0.1)
        self.state[f"{name}.running_var"] = uniform(0.5, 1.5)
        if counters:
            self.state[f"{name}.num_batches_tracked"] = torch.tensor(7)

    def resnet(self, prefix: str, depth: int = 50, counters: bool = True) -> None:
        self.conv(f"{prefix}conv1", 64, 3, 7, 7, bias=False)
        self.batch_norm(f"{prefix}bn1", 64, counters)
        channels = 64
        for stage, blocks in enumerate(_BLOCKS[depth], start=1):
            width = 64 * 2 ** (stage - 1)
            for block in range(blocks):
                name = f"{prefix}layer{stage}.{block}"
                shapes = ((width, channels, 1, 1), (width, width, 3, 3), (4 * width, width, 1, 1))
                for number, shape in enumerate(shapes, start=1):
                    self.conv(f"{name}.conv{number}", *shape, bias=False)
                    self.batch_norm(f"{name}.bn{number}", shape[0], counters, 0.3 if number == 3 else 1.0)
                if block == 0:
                    self.conv(f"{name}.downsample.0", 4 * width, channels, 1, 1, bias=False)
                    self.batch_norm(f"{name}.downsample.1", 4 * width, counters)
                channels = 4 * width


def checkpoint(names: Names, classes: int = 8, depth: int = 50, counters: bool = True, seed: int = 0) -> State:
    """A state dict of a whole QDTrack network."""
    maker = Maker(seed)
    maker.resnet(names.trunk, depth, counters)
    for level, channels in enumerate((256, 512, 1024, 2048)):
        maker.conv(names.lateral.format(level), 256, channels, 1, 1)
        maker.conv(names.output.format(level), 256, 256, 3, 3)
    maker.conv(names.rpn_conv, 256, 256, 3, 3)
    maker.conv(names.rpn_cls, 3, 256, 1, 1)
    maker.conv(names.rpn_reg, 12, 256, 1, 1)
    maker.conv(names.fc.format(0), 1024, 256 * 49)
    maker.conv(names.fc.format(1), 1024, 1024)
    maker.conv(names.cls, classes + 1, 1024)
    maker.conv(names.reg, 4 * classes, 1024)
    for number in range(4):
        maker.conv(names.track_conv.format(number), 256, 256, 3, 3, bias=False)
        maker.batch_norm("norm", 256, counters=False)
        for part in ("weight", "bias"):
            maker.state[f"{names.track_norm.format(number)}.{part}"] = maker.state.pop(f"norm.{part}")
        del maker.state["norm.running_mean"], maker.state["norm.running_var"]
    maker.conv(names.track_fc.format(0), 1024, 256 * 49)
    maker.conv(names.track_embed, 256, 1024)
    return maker.state


class Outputs(NamedTuple):
    """What a network computes from images, and its heads from pooled features."""

    pyramid: list[Tensor]
    objectness: list[Tensor]
    rpn_deltas: list[Tensor]
    logits: Tensor
    deltas: Tensor
    embeddings: Tensor


def run(state: State, names: Names, images: Tensor, pooled: Tensor, style: str = "pytorch") -> Outputs:
    """The network of a state dict of :func:`checkpoint`, written out."""

    def conv(x: Tensor, name: str, padding: int = 0) -> Tensor:
        return F.conv2d(x, state[f"{name}.weight"], state.get(f"{name}.bias"), padding=padding)

    def linear(x: Tensor, name: str) -> Tensor:
        return F.linear(x, state[f"{name}.weight"], state[f"{name}.bias"])

    features = trunk(state, names.trunk, images, style)
    merged = [conv(feature, names.lateral.format(level)) for level, feature in enumerate(features)]
    for level in (2, 1, 0):
        merged[level] = merged[level] + F.interpolate(merged[level + 1], size=merged[level].shape[-2:], mode="nearest")
    pyramid = [conv(feature, names.output.format(level), padding=1) for level, feature in enumerate(merged)]
    pyramid.append(F.max_pool2d(pyramid[-1], 1, stride=2))
    hidden = [conv(feature, names.rpn_conv, padding=1).relu() for feature in pyramid]
    box = linear(linear(pooled.flatten(1), names.fc.format(0)).relu(), names.fc.format(1)).relu()
    x = pooled
    for number in range(4):
        norm = names.track_norm.format(number)
        x = conv(x, names.track_conv.format(number), padding=1)
        x = F.group_norm(x, 32, state[f"{norm}.weight"], state[f"{norm}.bias"]).relu()
    return Outputs(
        pyramid,
        [conv(h, names.rpn_cls) for h in hidden],
        [conv(h, names.rpn_reg) for h in hidden],
        linear(box, names.cls),
        linear(box, names.reg),
        linear(linear(x.flatten(1), names.track_fc.format(0)).relu(), names.track_embed),
    )


def trunk(state: State, prefix: str, images: Tensor, style: str = "pytorch") -> list[Tensor]:
    """C2 to C5 of a ResNet; ``caffe`` strides in the first 1x1 of a stage, ``pytorch`` in its 3x3."""

    def conv(x: Tensor, name: str, stride: int, padding: int) -> Tensor:
        return F.conv2d(x, state[f"{name}.weight"], state.get(f"{name}.bias"), stride, padding)

    def norm(x: Tensor, name: str) -> Tensor:
        mean, var, weight, bias = (state[f"{name}.{p}"] for p in ("running_mean", "running_var", "weight", "bias"))
        return F.batch_norm(x, mean, var, weight, bias, eps=1e-5)

    x = norm(conv(images, f"{prefix}conv1", 2, 3), f"{prefix}bn1").relu()
    x = F.max_pool2d(x, 3, 2, 1)
    features = []
    for stage in range(1, 5):
        block = 0
        while f"{prefix}layer{stage}.{block}.conv1.weight" in state:
            name = f"{prefix}layer{stage}.{block}"
            stride = 2 if stage > 1 and block == 0 else 1
            first, second = (stride, 1) if style == "caffe" else (1, stride)
            y = norm(conv(x, f"{name}.conv1", first, 0), f"{name}.bn1").relu()
            y = norm(conv(y, f"{name}.conv2", second, 1), f"{name}.bn2").relu()
            y = norm(conv(y, f"{name}.conv3", 1, 0), f"{name}.bn3")
            if block == 0:
                x = norm(conv(x, f"{name}.downsample.0", stride, 0), f"{name}.downsample.1")
            x = (x + y).relu()
            block += 1
        features.append(x)
    return features
