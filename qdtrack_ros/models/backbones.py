"""Backbones: an image batch in, feature maps at strides 2 or 4 to 32 out.

``channels`` and ``strides`` describe the outputs, finest first, so that a neck can be built on any of them.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn
from torchvision.models.resnet import Bottleneck

from qdtrack_ros.models.config import BACKBONE_STYLES


class ResNet(nn.Module):
    """ResNet-50 or -101 (torchvision's layout and key names); outputs C2 to C5.

    BatchNorm keeps its statistics in training too: detection batches are too small to estimate them.

    Args:
        depth: 50 or 101.
        style: ``pytorch`` halves the picture in a block's 3x3 convolution, ``caffe`` in the 1x1 before it (mmdet 2.x
            ``ResNet(style=...)``). Names and shapes of the weights are the same.
        frozen_stages: the stem and this many stages receive no gradient (1 in the paper's recipe).
    """

    channels = (256, 512, 1024, 2048)
    strides = (4, 8, 16, 32)

    def __init__(self, depth: int = 50, style: str = "pytorch", frozen_stages: int = 1) -> None:
        super().__init__()
        if style not in BACKBONE_STYLES:
            raise ValueError(f"ResNet style {style!r} is unknown; use one of {', '.join(BACKBONE_STYLES)}")
        self.style = style
        builders = {50: torchvision.models.resnet50, 101: torchvision.models.resnet101}
        if depth not in builders:
            raise ValueError(f"ResNet depth {depth} is not supported; use one of {sorted(builders)}")
        trunk = builders[depth](weights=None)
        self.conv1, self.bn1, self.relu, self.maxpool = trunk.conv1, trunk.bn1, trunk.relu, trunk.maxpool
        self.layer1, self.layer2, self.layer3, self.layer4 = trunk.layer1, trunk.layer2, trunk.layer3, trunk.layer4
        if style == "caffe":
            for stage in self._stages():
                _move_stride_to_first_conv(stage)
        for module in (self.conv1, self.bn1, *list(self._stages())[:frozen_stages]):
            module.requires_grad_(False)

    def _stages(self) -> tuple[nn.Module, ...]:
        return self.layer1, self.layer2, self.layer3, self.layer4

    def train(self, mode: bool = True) -> ResNet:
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self

    def forward(self, images: Tensor) -> list[Tensor]:
        """Map images [B, 3, H, W] to C2..C5."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        features = []
        for stage in self._stages():
            x = stage(x)
            features.append(x)
        return features


def _move_stride_to_first_conv(stage: nn.Module) -> None:
    for block in stage.children():
        assert isinstance(block, Bottleneck)
        block.conv1.stride, block.conv2.stride = block.conv2.stride, block.conv1.stride


class SameConv(nn.Conv2d):
    """Convolution with TensorFlow's "same" padding for inputs whose size the stride divides.

    EfficientNet-Lite was trained with it: with stride 2 the extra pixel goes to the bottom and right, and symmetric
    padding would shift every feature map by half a cell. Padding the input by hand would copy the largest tensors of
    the network; instead the convolution pads a stride more on every side, and its first row and column, which see only
    that, are cut off.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        self._shifted = (kernel - stride) % 2 == 1
        padding = (kernel - stride) // 2 + (stride if self._shifted else 0)
        super().__init__(in_channels, out_channels, kernel, stride, padding, groups=groups, bias=True)

    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x)
        return y[..., 1:, 1:] if self._shifted else y


class InvertedResidual(nn.Module):
    """Expand, depthwise, project: MobileNetV2's block with ReLU6 and with BatchNorm folded into the convolutions."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int, expand_ratio: int) -> None:
        super().__init__()
        hidden = in_channels * expand_ratio
        self.expand = SameConv(in_channels, hidden, 1) if expand_ratio != 1 else None
        self.depthwise = SameConv(hidden, hidden, kernel, stride, groups=hidden)
        self.project = SameConv(hidden, out_channels, 1)
        self.residual = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        y = x if self.expand is None else F.relu6(self.expand(x), inplace=True)
        y = self.project(F.relu6(self.depthwise(y), inplace=True))
        return x + y if self.residual else y


class _StageSpec(NamedTuple):
    repeats: int
    kernel: int
    stride: int
    expand_ratio: int
    channels: int


_LITE0_STAGES = (
    _StageSpec(1, 3, 1, 1, 16),
    _StageSpec(2, 3, 2, 6, 24),
    _StageSpec(2, 5, 2, 6, 40),
    _StageSpec(3, 3, 2, 6, 80),
    _StageSpec(3, 5, 1, 6, 112),
    _StageSpec(4, 5, 2, 6, 192),
    _StageSpec(1, 3, 1, 6, 320),
)


def lite0_blocks() -> nn.ModuleList:
    """The sixteen blocks of EfficientNet-Lite0, with random weights."""
    blocks = nn.ModuleList()
    channels = 32
    for spec in _LITE0_STAGES:
        for repeat in range(spec.repeats):
            stride = spec.stride if repeat == 0 else 1
            blocks.append(InvertedResidual(channels, spec.channels, spec.kernel, stride, spec.expand_ratio))
            channels = spec.channels
    return blocks


class EfficientNetLite0(nn.Module):
    """EfficientNet-Lite0 (Google, 2020): C1 to C5 at strides 2 to 32.

    BatchNorm is folded into the convolutions when ImageNet weights are loaded (``checkpoint.load_efficientnet_lite0``):
    its statistics would be frozen anyway, and on a CPU the trunk takes a fifth (training) to a quarter (inference) less
    time without it.

    Args:
        frozen_blocks: the stem and this many blocks receive no gradient.
    """

    channels = (16, 24, 40, 112, 320)
    strides = (2, 4, 8, 16, 32)
    output_blocks = (0, 2, 4, 10, 15)

    def __init__(self, frozen_blocks: int = 3) -> None:
        super().__init__()
        self.stem = SameConv(3, 32, 3, 2)
        self.blocks = lite0_blocks()
        for module in (self.stem, *self.blocks[:frozen_blocks]):
            module.requires_grad_(False)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Map images [B, 3, H, W] (H and W multiples of 32) to C1..C5."""
        x = F.relu6(self.stem(images), inplace=True)
        features = []
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index in self.output_blocks:
                features.append(x)
        return features


def build_backbone(name: str, style: str = "pytorch") -> ResNet | EfficientNetLite0:
    """Backbone by its name and style in :class:`ModelConfig`, with random weights.

    Raises:
        ValueError: the name is unknown.
    """
    if name in ("resnet50", "resnet101"):
        return ResNet(int(name.removeprefix("resnet")), style)
    if name == "efficientnet_lite0":
        return EfficientNetLite0()
    raise ValueError(f"unknown backbone {name!r}; use resnet50, resnet101 or efficientnet_lite0")


@torch.no_grad()
def fold_batch_norm(
    weight: Tensor, gamma: Tensor, beta: Tensor, mean: Tensor, var: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    """Weight [O, ...] and bias [O] of the convolution that equals convolution (without bias) then BatchNorm."""
    scale = gamma / torch.sqrt(var + eps)
    return weight * scale.reshape(-1, *[1] * (weight.dim() - 1)), beta - mean * scale
