"""Quasi-dense embedding head (paper, section 3.2): pooled features of a box to its appearance embedding."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ConvNormReLU(nn.Module):
    """3x3 convolution without bias, GroupNorm over 32 groups, ReLU."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)
        self.norm = nn.GroupNorm(32, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.norm(self.conv(x)))


class EmbeddingHead(nn.Module):
    """Convolutions with GroupNorm, an optional hidden layer, and a linear embedding that is not normalised.

    Args:
        in_channels: channels of the pooled features.
        roi_size: their height and width.
        num_convs: convolutions.
        conv_channels: their channels, a multiple of 32.
        fc_channels: width of the hidden layer; 0 leaves it out.
        embedding_dim: D.
    """

    def __init__(
        self, in_channels: int, roi_size: int, num_convs: int, conv_channels: int, fc_channels: int, embedding_dim: int
    ) -> None:
        super().__init__()
        widths = [in_channels] + [conv_channels] * num_convs
        self.convs = nn.ModuleList(ConvNormReLU(a, b) for a, b in zip(widths[:-1], widths[1:], strict=True))
        flat = widths[-1] * roi_size * roi_size
        self.fcs = nn.ModuleList([nn.Linear(flat, fc_channels)] if fc_channels else [])
        self.embed = nn.Linear(fc_channels or flat, embedding_dim)
        for layer in self.fcs:
            assert isinstance(layer, nn.Linear)
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
        nn.init.normal_(self.embed.weight, std=0.01)
        nn.init.zeros_(self.embed.bias)

    def forward(self, pooled: Tensor) -> Tensor:
        """Pooled features [R, channels, size, size] to embeddings [R, D]."""
        x = pooled
        for conv in self.convs:
            x = conv(x)
        x = x.flatten(1)
        for layer in self.fcs:
            x = torch.relu(layer(x))
        return self.embed(x)
