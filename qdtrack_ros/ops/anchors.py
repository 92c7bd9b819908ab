"""Anchors of a region proposal network (mmdet 2.x ``AnchorGenerator``: centred at the cell's corner, not rounded)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def base_anchors(stride: int, scales: Sequence[float], ratios: Sequence[float]) -> Tensor:
    """Anchors of one cell.

    Args:
        stride: stride of the level in pixels of the network's input; an anchor of scale s has area (stride * s)^2.
        scales: sizes in units of the stride.
        ratios: heights / widths.

    Returns:
        float32 [A, 4] centred at (0, 0); ratios vary slowest, scales fastest.
    """
    height_factors = torch.tensor(ratios, dtype=torch.float32).sqrt()
    scale_factors = torch.tensor(scales, dtype=torch.float32)
    widths = (stride * (1 / height_factors)[:, None] * scale_factors[None, :]).flatten()
    heights = (stride * height_factors[:, None] * scale_factors[None, :]).flatten()
    return torch.stack([-0.5 * widths, -0.5 * heights, 0.5 * widths, 0.5 * heights], dim=1)


def grid_anchors(
    base: Tensor, feature_hw: tuple[int, int], stride: int, device: torch.device | str | None = None
) -> Tensor:
    """Anchors of a whole level.

    Args:
        base: anchors of one cell [A, 4].
        feature_hw: (H, W) of the level.
        stride: its stride.
        device: where the anchors go; the device of ``base`` when None.

    Returns:
        [H * W * A, 4]: row by row, in a row cell by cell, the A anchors of a cell together.
    """
    height, width = feature_hw
    base = base.to(device) if device is not None else base
    x = torch.arange(width, device=base.device, dtype=base.dtype) * stride
    y = torch.arange(height, device=base.device, dtype=base.dtype) * stride
    grid_y, grid_x = torch.meshgrid(y, x, indexing="ij")
    shifts = torch.stack([grid_x, grid_y, grid_x, grid_y], dim=-1).reshape(-1, 1, 4)
    return (shifts + base).reshape(-1, 4)


def valid_flags(
    feature_hw: tuple[int, int],
    padded_hw: tuple[int, int],
    stride: int,
    num_base: int,
    device: torch.device | str | None = None,
) -> Tensor:
    """Which anchors belong to a cell inside an image that may be smaller than its batch.

    Args:
        feature_hw: (H, W) of the level.
        padded_hw: (height, width) of the image with its own padding.
        stride: stride of the level.
        num_base: A, anchors of a cell.
        device: where the flags go.

    Returns:
        bool [H * W * A], in the order of :func:`grid_anchors`.
    """
    height, width = feature_hw
    rows = torch.arange(height, device=device) < math.ceil(padded_hw[0] / stride)
    columns = torch.arange(width, device=device) < math.ceil(padded_hw[1] / stride)
    cells = (rows[:, None] & columns[None, :]).reshape(-1, 1)
    return cells.expand(-1, num_base).reshape(-1)


def inside_flags(anchors: Tensor, valid: Tensor, image_hw: tuple[int, int], allowed_border: int = 0) -> Tensor:
    """Valid anchors [N, 4] that leave the image by at most ``allowed_border`` pixels; a negative border allows all.

    Args:
        anchors: [N, 4].
        valid: bool [N] of :func:`valid_flags`.
        image_hw: (height, width) of the image without padding.
        allowed_border: pixels an anchor may stick out.

    Returns:
        bool [N].
    """
    if allowed_border < 0:
        return valid
    height, width = image_hw
    low = (anchors[:, :2] >= -allowed_border).all(dim=1)
    return valid & low & (anchors[:, 2] < width + allowed_border) & (anchors[:, 3] < height + allowed_border)
