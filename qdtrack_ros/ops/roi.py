"""RoIAlign over a feature pyramid (Mask R-CNN, section 3; level assignment of FPN, equation 1, finest size 56)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.ops import roi_align

from qdtrack_ros.ops.boxes import box_area


def assign_levels(boxes: Tensor, num_levels: int, finest_size: float = 56.0) -> Tensor:
    """Pyramid level of every box: floor(log2(sqrt(area) / finest_size)), clamped to the levels there are.

    Args:
        boxes: [N, 4].
        num_levels: levels, finest first.
        finest_size: boxes of less than twice this size go to level 0. Raising it moves boxes to finer levels.

    Returns:
        int64 [N].
    """
    sizes = box_area(boxes).sqrt()
    # The small term keeps empty boxes finite and puts exact multiples on the upper level, as the reference does.
    levels = torch.floor(torch.log2(sizes / finest_size + 1e-6))
    return levels.clamp(0, num_levels - 1).long()


def multilevel_roi_align(
    features: Sequence[Tensor],
    rois: Tensor,
    strides: Sequence[int],
    output_size: int | tuple[int, int] = 7,
    finest_size: float = 56.0,
    sampling_ratio: int = 0,
) -> Tensor:
    """Pool every region from the level that fits its size.

    Args:
        features: one map [B, C, H, W] per level, finest first.
        rois: [R, 5]: batch index, then xyxy in pixels of the network's input.
        strides: stride of every map.
        output_size: cells per side of the output, or (rows, columns).
        finest_size: see :func:`assign_levels`.
        sampling_ratio: samples per cell and side; 0 takes ceil(region / output), as the reference does.

    Returns:
        [R, C, rows, columns]; every map takes part in the graph even when no region uses it,
        so that backward and distributed training work on batches without regions.
    """
    if len(features) != len(strides):
        raise ValueError(f"got {len(features)} feature maps and {len(strides)} strides, expected as many of each")
    levels = assign_levels(rois[:, 1:], len(features), finest_size)
    rows, pooled = [], []
    for level, (feature, stride) in enumerate(zip(features, strides, strict=True)):
        of_level = (levels == level).nonzero().squeeze(1)
        rows.append(of_level)
        pooled.append(
            roi_align(feature, rois[of_level].to(feature.dtype), output_size, 1 / stride, sampling_ratio, aligned=True)
        )
    return torch.cat(pooled)[torch.cat(rows).argsort()]
