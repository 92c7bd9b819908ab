"""Embedding heads (paper, section 3.2): pooled features of a box to its appearance embedding.

The paper's head pools the feature pyramid, like the box head. The trunk head pools the backbone's finest map instead
and goes on with blocks of its own, which see nothing beyond the box: what tells small people apart is the colour of a
few pixels, and the pyramid has blurred it with their surroundings.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from qdtrack_ros.models.backbones import EfficientNetLite0, lite0_blocks


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
        roi_size: their (height, width).
        num_convs: convolutions.
        conv_channels: their channels, a multiple of 32.
        fc_channels: width of the hidden layer; 0 leaves it out.
        embedding_dim: D.
    """

    def __init__(
        self,
        in_channels: int,
        roi_size: tuple[int, int],
        num_convs: int,
        conv_channels: int,
        fc_channels: int,
        embedding_dim: int,
    ) -> None:
        super().__init__()
        widths = [in_channels] + [conv_channels] * num_convs
        self.convs = nn.ModuleList(ConvNormReLU(a, b) for a, b in zip(widths[:-1], widths[1:], strict=True))
        flat = widths[-1] * roi_size[0] * roi_size[1]
        self.fcs = nn.ModuleList([nn.Linear(flat, fc_channels)] if fc_channels else [])
        self.embed = nn.Linear(fc_channels or flat, embedding_dim)
        for layer in self.fcs:
            assert isinstance(layer, nn.Linear)
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
        nn.init.normal_(self.embed.weight, std=0.01)
        nn.init.zeros_(self.embed.bias)

    def forward(self, pooled: Tensor) -> Tensor:
        """Pooled features [R, channels, height, width] to embeddings [R, D]."""
        x = pooled
        for conv in self.convs:
            x = conv(x)
        x = x.flatten(1)
        for layer in self.fcs:
            x = torch.relu(layer(x))
        return self.embed(x)


class TrunkEmbeddingHead(nn.Module):
    """EfficientNet-Lite0 from C1 to C4 once more, on the pooled C1 of every box, then a linear embedding.

    Args:
        roi_size: (height, width) of the pooled features, multiples of 8.
        conv_channels: channels of the last convolution, a multiple of 32.
        embedding_dim: D.
    """

    def __init__(self, roi_size: tuple[int, int], conv_channels: int, embedding_dim: int) -> None:
        super().__init__()
        first, last = EfficientNetLite0.output_blocks[0] + 1, EfficientNetLite0.output_blocks[3]
        self.blocks = lite0_blocks()[first : last + 1]
        self._first = first
        self.conv = nn.Conv2d(EfficientNetLite0.channels[3], conv_channels, 1, bias=False)
        self.norm = nn.GroupNorm(32, conv_channels)
        self.embed = nn.Linear(conv_channels * (roi_size[0] // 8) * (roi_size[1] // 8), embedding_dim)
        nn.init.normal_(self.embed.weight, std=0.01)
        nn.init.zeros_(self.embed.bias)

    @torch.no_grad()
    def start_from(self, backbone: EfficientNetLite0) -> None:
        """Copy the weights of the backbone's own blocks between C1 and C4."""
        for own, source in zip(self.blocks, backbone.blocks[self._first :], strict=False):
            own.load_state_dict(source.state_dict())

    def forward(self, pooled: Tensor) -> Tensor:
        """Pooled C1 [R, 16, height, width] to embeddings [R, D]."""
        x = pooled
        for block in self.blocks:
            x = block(x)
        return self.embed(torch.relu(self.norm(self.conv(x))).flatten(1))
