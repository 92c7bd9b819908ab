"""RoIAlign over a feature pyramid (Mask R-CNN, section 3; level assignment of FPN, equation 1, finest size 56)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag
from torchvision.ops import roi_align

from qdtrack_ros.ops.boxes import box_area

_AT_A_TIME = 4_000_000  # pixels of bags, or samples: bounds the memory that a thousand stretched regions take


def assign_levels(boxes: Tensor, num_levels: int, finest_size: float = 56.0) -> Tensor:
    """Pyramid level of every box: floor(log2(sqrt(area) / finest_size)), clamped to the levels there are.

    By comparing with powers of two: a logarithm just below 3 is rounded up to it by some libraries, and not by others.

    Args:
        boxes: [N, 4].
        num_levels: levels, finest first.
        finest_size: boxes of less than twice this size go to level 0. Raising it moves boxes to finer levels.

    Returns:
        int64 [N]; 0 for boxes that are no number.
    """
    # The small term puts exact multiples on the upper level, as the reference does.
    sizes = box_area(boxes).sqrt() / finest_size + 1e-6
    levels = torch.zeros_like(sizes, dtype=torch.int64)
    for level in range(1, num_levels):
        levels += sizes >= 2.0**level
    return levels


def multilevel_roi_align(
    features: Sequence[Tensor],
    rois: Tensor,
    strides: Sequence[int],
    output_size: int | tuple[int, int] = 7,
    finest_size: float = 56.0,
) -> Tensor:
    """Pool every region from the level that fits its size, with ceil(region / output) samples per cell and side.

    Args:
        features: one map [B, C, H, W] per level, finest first.
        rois: [R, 5]: batch index, then xyxy in pixels of the network's input.
        strides: stride of every map.
        output_size: cells per side of the output, or (rows, columns).
        finest_size: see :func:`assign_levels`.

    Returns:
        [R, C, rows, columns]; every map takes part in the graph even when no region uses it,
        so that backward and distributed training work on batches without regions.
    """
    if len(features) != len(strides):
        raise ValueError(f"got {len(features)} feature maps and {len(strides)} strides, expected as many of each")
    size = (output_size, output_size) if isinstance(output_size, int) else output_size
    levels = assign_levels(rois[:, 1:], len(features), finest_size)
    of_level = [(levels == level).nonzero().squeeze(1) for level in range(len(features))]
    on_cpu = rois.device.type == "cpu" and features[0].dtype == torch.float32
    if on_cpu and not torch.is_grad_enabled():
        pooled = features[0].new_empty((len(rois), features[0].shape[1], *size))  # as a fully connected layer wants it
        for feature, stride, rows in zip(features, strides, of_level, strict=True):
            _pool_as_bags(feature, rois[rows], stride, rows, pooled)
        return pooled
    parts = [
        roi_align(feature, rois[rows].to(feature.dtype), size, 1 / stride, sampling_ratio=0, aligned=True)
        for feature, stride, rows in zip(features, strides, of_level, strict=True)
    ]
    return torch.cat(parts)[torch.cat(of_level).argsort()]


def _pool_as_bags(feature: Tensor, rois: Tensor, stride: int, rows: Tensor, pooled: Tensor) -> None:
    """RoIAlign of one level on the CPU, written to ``pooled[rows]``.

    A cell of the output is a weighted sum of pixels of the map, and in channels_last a pixel is a row of a table: an
    embedding bag, which PyTorch vectorises over the channels and shares out among its threads. torchvision's kernel
    walks through every channel by itself, on one thread, and takes six to nine times as long. Weights separate into
    those of rows and of columns, and neighbouring samples share their pixels. (A bag may hold pixels of weight 0 at its
    rim, by which a NaN in the map reaches one cell further than its samples do.)

    Args:
        feature: [B, C, H, W].
        rois: [R, 5], those of this level.
        rows: int64 [R], where they go.
        pooled: [all regions, C, height, width].
    """
    _, channels, map_height, map_width = feature.shape
    table = feature.permute(0, 2, 3, 1).reshape(-1, channels)
    height, width = pooled.shape[2:]
    boxes = rois[:, 1:].to(feature.dtype) * (1 / stride) - 0.5
    sound = boxes.isfinite().all(dim=1) & (boxes[:, 2:] > boxes[:, :2]).all(dim=1)
    boxes = torch.where(sound[:, None], boxes, 0.0)  # the others pool nothing, as empty boxes
    (left, top), sizes = boxes[:, :2].unbind(1), boxes[:, 2:] - boxes[:, :2]
    image = (rois[:, 0] * (map_height * map_width)).int()
    samples = (sizes / sizes.new_tensor([width, height])).ceil()
    # Regions of about as many samples go together, so that small ones are not padded to the largest.
    octaves = samples.amax(dim=1).clamp(min=1).log2().ceil()
    for octave in octaves.unique():
        of_octave = (octaves == octave).nonzero().squeeze(1)
        most = int(2**octave)
        of_bags = height * width * min(most + 1, map_height) * min(most + 1, map_width)
        of_samples = (height + width) * most
        for some in of_octave.split(max(1, _AT_A_TIME // max(of_bags, of_samples))):
            y, y_weight = _pixels(top[some], sizes[some, 1], samples[some, 1], height, map_height)
            x, x_weight = _pixels(left[some], sizes[some, 0], samples[some, 0], width, map_width)
            y = image[some, None, None] + y * map_width
            bags = (y[:, :, None, :, None] + x[:, None, :, None, :]).flatten(0, 2).flatten(1)
            weights = (y_weight[:, :, None, :, None] * x_weight[:, None, :, None, :]).flatten(0, 2).flatten(1)
            cells = embedding_bag(bags, table, per_sample_weights=weights, mode="sum")
            pooled[rows[some]] = cells.reshape(len(some), height, width, channels).permute(0, 3, 1, 2)


def _pixels(start: Tensor, size: Tensor, samples: Tensor, cells: int, length: int) -> tuple[Tensor, Tensor]:
    """Pixels along one axis that the cells of regions are made of, and their weights.

    The order of operations is that of torchvision's kernel, so that both sample at the same places to the last bit.

    Args:
        start, size: float32 [R], of the regions, in pixels of the map from the centre of its first.
        samples: float32 [R], samples per cell; at most one pixel apart.
        cells: cells of the output along this axis.
        length: pixels of the map along this axis.

    Returns:
        int32 and float32 [R, cells, K].
    """
    start, samples, step = start[:, None, None], samples[:, None, None], (size / cells)[:, None, None]
    most = max(1, int(samples.max()))
    position = torch.arange(cells, dtype=size.dtype)[:, None] * step + start
    position = position + (torch.arange(most, dtype=size.dtype) + 0.5) * step / samples
    counts = (torch.arange(most) < samples) & (position >= -1) & (position <= length)
    position = position.nan_to_num(0.0).clamp(0, length - 1)
    lower = position.floor()
    fraction, share = position - lower, counts / samples.clamp(min=1)
    first = lower[..., :1]
    offset = (lower - first).long()
    # n samples touch n + 1 pixels, and one more that rounding may give a weight of nearly nothing.
    weights = share.new_zeros((len(size), cells, most + 2))
    weights.scatter_add_(2, offset, share * (1 - fraction)).scatter_add_(2, offset + 1, share * fraction)
    pixels = min(most + 1, length)
    return (first.int() + torch.arange(pixels, dtype=torch.int32)).clamp(max=length - 1), weights[..., :pixels]
