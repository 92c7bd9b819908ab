"""Box head (Fast R-CNN): pooled features to class logits and box deltas."""

from __future__ import annotations

import torch
from torch import Tensor, nn

BOX_DELTA_STDS = (0.1, 0.1, 0.2, 0.2)
"""Standard deviations by which the box head's deltas are normalised (mmdet 2.x, torchvision's 10, 10, 5, 5)."""


class BoxHead(nn.Module):
    """Two shared fully connected layers, then a classifier (background last) and a box regressor.

    Args:
        in_channels: channels of the pooled features.
        roi_size: their height and width.
        fc_channels: width of the shared layers.
        num_classes: C foreground classes.
        class_agnostic: one set of deltas for all classes.
    """

    def __init__(
        self, in_channels: int, roi_size: int, fc_channels: int, num_classes: int, class_agnostic: bool = False
    ) -> None:
        super().__init__()
        self.fcs = nn.ModuleList(
            [nn.Linear(in_channels * roi_size * roi_size, fc_channels), nn.Linear(fc_channels, fc_channels)]
        )
        self.classifier = nn.Linear(fc_channels, num_classes + 1)
        self.regressor = nn.Linear(fc_channels, 4 * (1 if class_agnostic else num_classes))
        for layer in self.fcs:
            assert isinstance(layer, nn.Linear)
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
        nn.init.normal_(self.classifier.weight, std=0.01)
        nn.init.zeros_(self.classifier.bias)
        nn.init.normal_(self.regressor.weight, std=0.001)
        nn.init.zeros_(self.regressor.bias)

    def forward(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """Pooled features [R, channels, size, size] to logits [R, C + 1] and deltas [R, 4 or 4C]."""
        x = pooled.flatten(1)
        for layer in self.fcs:
            x = torch.relu(layer(x))
        return self.classifier(x), self.regressor(x)
