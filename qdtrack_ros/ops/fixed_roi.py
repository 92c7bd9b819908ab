"""RoIAlign over a pyramid with fixed shapes: no region is moved to the others of its level, as :mod:`.roi` does it.

Both ways take regions [B, R, 4] of every image and give float32 [B * R, C, rows, columns]. They pool in float32: half
precision has no room for the coordinates of a picture.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.ops import roi_align


def level_masks(boxes: Tensor, num_levels: int, finest_size: float) -> Tensor:
    """Which level each region is pooled from: :func:`qdtrack_ros.ops.roi.assign_levels` as flags.

    Args:
        boxes: [..., 4].
        num_levels: L.
        finest_size: see ``assign_levels``.

    Returns:
        bool [L, ...], true for one level of every region; an empty one has none.
    """
    width, height = boxes[..., 2] - boxes[..., 0], boxes[..., 3] - boxes[..., 1]
    sizes = (width * height).clamp(min=0).sqrt() / finest_size + 1e-6
    sizes = torch.where((width > 0) & (height > 0), sizes, -1.0)
    reached = torch.stack([sizes >= bound for bound in (0.0, *(2.0**level for level in range(1, num_levels)))])
    return torch.cat([reached[:-1] & ~reached[1:], reached[-1:]])


def pool_level_by_level(
    features: Sequence[Tensor],
    boxes: Tensor,
    strides: Sequence[int],
    output_size: tuple[int, int],
    finest_size: float = 56.0,
) -> Tensor:
    """RoIAlign of every region on every level, empty on all but its own, where it takes no sample.

    Exact for any region, those that leave the image included. For engines that know RoIAlign.

    Args:
        features: one map [B, C, H, W] per level, finest first.
        boxes: [B, R, 4], pixels of the network's input.
        strides: stride of every map.
        output_size: (rows, columns).
        finest_size: see :func:`level_masks`.
    """
    batch, count = boxes.shape[:2]
    masks = level_masks(boxes, len(features), finest_size)
    image = torch.arange(batch, device=boxes.device, dtype=boxes.dtype)[:, None, None]
    of_levels = torch.where(masks[..., None], boxes, 0.0)
    rois = torch.cat([image.expand(len(features), -1, count, 1), of_levels], dim=3).flatten(1, 2).unbind()
    pooled: Tensor | float = 0.0
    for feature, stride, mask, some in zip(features, strides, masks.flatten(1).unbind(), rois, strict=True):
        part = roi_align(feature.float(), some, output_size, 1 / stride, sampling_ratio=0, aligned=True)
        # Chosen, not added: OpenVINO divides by the samples of an empty region, which are none.
        pooled = torch.where(mask[:, None, None, None], part, pooled)
    assert isinstance(pooled, Tensor)
    return pooled


def pool_from_atlas(
    features: Sequence[Tensor],
    boxes: Tensor,
    strides: Sequence[int],
    output_size: tuple[int, int],
    finest_size: float = 56.0,
    max_samples: int = 4,
) -> Tensor:
    """RoIAlign of all regions in one sampling of an atlas that holds all levels. For engines without RoIAlign.

    Equal to RoIAlign for regions that it samples at most ``max_samples`` times per cell and side. FPN's rule keeps a
    square of 7x7 cells at 4 samples, the coarsest level apart; one that is a times as long as wide takes 4 * sqrt(a)
    along its length. Where that is more, the samples are ``max_samples``, evenly spread as ever.

    Args:
        features, boxes, strides, output_size, finest_size: see :func:`pool_level_by_level`.
        max_samples: S; time and memory grow with its square.
    """
    batch, count = boxes.shape[:2]
    rows, columns = output_size
    atlas, corners = build_atlas([feature.float() for feature in features])
    masks = level_masks(boxes, len(features), finest_size).to(boxes.dtype)

    def of_level(values: Sequence[float]) -> Tensor:
        return sum(mask * value for mask, value in zip(masks, values, strict=True))  # type: ignore[return-value]

    scale = of_level([1 / stride for stride in strides])
    heights, widths = (of_level([float(feature.shape[axis]) for feature in features]) for axis in (2, 3))
    y, y_weights = _samples(boxes[..., 1] * scale - 0.5, boxes[..., 3] * scale - 0.5, heights, rows, max_samples)
    x, x_weights = _samples(boxes[..., 0] * scale - 0.5, boxes[..., 2] * scale - 0.5, widths, columns, max_samples)
    y = y + of_level([float(row) for row, _ in corners])[..., None]
    x = x + of_level([float(column) for _, column in corners])[..., None]
    y = (2 * y + 1) / atlas.shape[2] - 1
    x = (2 * x + 1) / atlas.shape[3] - 1
    tall, wide = rows * max_samples, columns * max_samples
    grid = torch.stack([x[:, :, None, :].expand(-1, -1, tall, -1), y[:, :, :, None].expand(-1, -1, -1, wide)], dim=-1)
    sampled = torch.nn.functional.grid_sample(
        atlas, grid.flatten(1, 2), mode="bilinear", padding_mode="border", align_corners=False
    )
    weights = (y_weights[:, :, :, None] * x_weights[:, :, None, :]).flatten(1, 2)
    channels = features[0].shape[1]
    cells = (sampled * weights[:, None]).reshape(batch, channels, count, rows, max_samples, columns, max_samples)
    return cells.sum(dim=(4, 6)).transpose(1, 2).flatten(0, 1)


def build_atlas(features: Sequence[Tensor]) -> tuple[Tensor, list[tuple[int, int]]]:
    """All levels in one map: the finest at the left, the others below each other at its right.

    Each has its last row and column twice, so that a sample on its border reads nothing of a neighbour.

    Args:
        features: maps [B, C, H, W], finest first.

    Returns:
        [B, C, height, width], and (row, column) of every level's first pixel.
    """
    framed = [torch.cat([feature, feature[..., -1:, :]], dim=2) for feature in features]
    framed = [torch.cat([feature, feature[..., -1:]], dim=3) for feature in framed]
    first, others = framed[0], framed[1:]
    if not others:
        return first, [(0, 0)]
    # A tracer's sizes are tensors: int() keeps their arithmetic out of exported graphs, which other tools get wrong.
    sizes = [(int(feature.shape[2]), int(feature.shape[3])) for feature in framed]
    width = max(columns for _, columns in sizes[1:])
    corners, row = [(0, 0)], 0
    for rows, _ in sizes[1:]:
        corners.append((row, sizes[0][1]))
        row += rows
    pad = torch.nn.functional.pad
    right = [pad(feature, (0, width - columns)) for feature, (_, columns) in zip(others, sizes[1:], strict=True)]
    height = max(sizes[0][0], row)
    left = pad(first, (0, 0, 0, height - sizes[0][0]))
    return torch.cat([left, pad(torch.cat(right, dim=2), (0, 0, 0, height - row))], dim=3), corners


def _samples(start: Tensor, end: Tensor, length: Tensor, cells: int, most: int) -> tuple[Tensor, Tensor]:
    """Where RoIAlign samples along one axis of a level, and with which weight.

    Args:
        start, end: [B, R], of the regions, in pixels of the level from the centre of its first.
        length: [B, R], pixels of the level.
        cells: of the output.
        most: samples per cell; unused ones have weight 0.

    Returns:
        Positions in the level and weights, [B, R, cells * most].
    """
    step = (end - start) / cells
    samples = step.ceil().clamp(1, most)
    cell = torch.arange(cells, device=start.device, dtype=start.dtype)[:, None]
    sample = torch.arange(most, device=start.device, dtype=start.dtype)[None, :]
    step, samples, length = step[..., None, None], samples[..., None, None], length[..., None, None]
    position = start[..., None, None] + cell * step + (sample + 0.5) * step / samples
    # Samples up to a pixel beyond the border read the border, those further out read 0.
    used = (sample < samples) & (step > 0) & (position >= -1) & (position <= length)
    position = torch.minimum(position.clamp(min=0), length - 1)
    return position.flatten(2), (used.to(start.dtype) / samples).flatten(2)
