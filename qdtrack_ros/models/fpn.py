"""Feature pyramid (Lin et al., CVPR 2017) as mmdet 2.x lays it out."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn


class FPN(nn.Module):
    """1x1 laterals, nearest top-down additions, 3x3 outputs; further levels by stride-2 max-pooling of the last one.

    Args:
        in_channels: channels of the backbone's outputs, finest first.
        out_channels: channels of every level.
        num_levels: levels in all, at least ``len(in_channels)``.
    """

    def __init__(self, in_channels: Sequence[int], out_channels: int, num_levels: int) -> None:
        super().__init__()
        if num_levels < len(in_channels):
            raise ValueError(f"fpn_levels is {num_levels}, the backbone alone has {len(in_channels)} outputs")
        self.num_levels = num_levels
        self.lateral_convs = nn.ModuleList(nn.Conv2d(channels, out_channels, 1) for channels in in_channels)
        self.output_convs = nn.ModuleList(nn.Conv2d(out_channels, out_channels, 3, padding=1) for _ in in_channels)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Backbone outputs, finest first, to ``num_levels`` maps of ``out_channels``."""
        merged = [conv(feature) for conv, feature in zip(self.lateral_convs, features, strict=True)]
        for level in range(len(merged) - 1, 0, -1):
            upsampled = F.interpolate(merged[level], size=merged[level - 1].shape[-2:], mode="nearest")
            merged[level - 1] = merged[level - 1] + upsampled
        outputs = [conv(feature) for conv, feature in zip(self.output_convs, merged, strict=True)]
        while len(outputs) < self.num_levels:
            outputs.append(F.max_pool2d(outputs[-1], 1, stride=2))
        return outputs
