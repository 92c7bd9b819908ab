"""RoIAlign over a feature pyramid (Mask R-CNN, section 3; level assignment of FPN, equation 1, finest size 56)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor
from torchvision.ops import roi_align

from qdtrack_ros.ops.boxes import box_area

_SHARE = 16  # regions that are worth a thread


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
    rows = [(levels == level).nonzero().squeeze(1) for level in range(len(features))]

    def pool(level: int, some: Tensor) -> Tensor:
        boxes = rois[some].to(features[level].dtype)
        return roi_align(features[level], boxes, output_size, 1 / strides[level], sampling_ratio, aligned=True)

    if torch.is_grad_enabled():
        return torch.cat([pool(level, of_level) for level, of_level in enumerate(rows)])[torch.cat(rows).argsort()]
    size = (output_size, output_size) if isinstance(output_size, int) else output_size
    pooled = features[0].new_empty((len(rois), features[0].shape[1], *size))
    _write_in_threads(pooled, pool, rows)
    return pooled


def _write_in_threads(pooled: Tensor, pool: Callable[[int, Tensor], Tensor], rows: Sequence[Tensor]) -> None:
    """Pool the regions of every level into their rows.

    torchvision's CPU kernel runs on one thread, so the regions are shared out among PyTorch's threads. The result is
    the same to the bit: no region knows of another.
    """
    threads = torch.get_num_threads() if pooled.device.type == "cpu" else 1
    jobs = [
        (level, share)
        for level, of_level in enumerate(rows)
        for share in of_level.tensor_split(max(1, min(threads, len(of_level) // _SHARE)))
        if len(share)
    ]

    def write(job: tuple[int, Tensor]) -> None:
        with torch.inference_mode():  # modes belong to threads
            pooled[job[1]] = pool(*job)

    if threads < 2 or len(jobs) < 2:
        for job in jobs:
            write(job)
        return
    with ThreadPoolExecutor(threads) as executor:
        list(executor.map(write, jobs))
