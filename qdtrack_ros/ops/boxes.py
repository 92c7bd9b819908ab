"""Box geometry and the delta coder (Faster R-CNN, section 3.1.2) with the conventions of mmdet 2.x."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

_MIN_AREA = 1e-6


def box_area(boxes: Tensor) -> Tensor:
    """Areas [..., N] of boxes [..., N, 4]; positive for a box inverted in both directions, as in the reference."""
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def _pairwise_intersection(a: Tensor, b: Tensor) -> Tensor:
    # Column by column: the [N, M, 2] form takes three times as long and twice the memory for 10^4 anchors.
    left = torch.maximum(a[..., :, None, 0], b[..., None, :, 0])
    right = torch.minimum(a[..., :, None, 2], b[..., None, :, 2])
    top = torch.maximum(a[..., :, None, 1], b[..., None, :, 1])
    bottom = torch.minimum(a[..., :, None, 3], b[..., None, :, 3])
    return (right - left).clamp_(min=0) * (bottom - top).clamp_(min=0)


def pairwise_iou(a: Tensor, b: Tensor, min_union: float = _MIN_AREA) -> Tensor:
    """Intersection over union.

    Args:
        a: boxes [..., N, 4].
        b: boxes [..., M, 4].
        min_union: smaller unions count as this. The reference's gives boxes of less than a thousandth of a pixel too
            small an overlap; 0 takes unions as they are, and the overlap of two empty boxes is NaN.

    Returns:
        [..., N, M], in [0, 1] for boxes that are not inverted; 0 where both boxes are empty and `min_union` is above 0.
    """
    intersection = _pairwise_intersection(a, b)
    union = box_area(a)[..., :, None] + box_area(b)[..., None, :] - intersection
    return intersection / (union.clamp(min=min_union) if min_union else union)


def pairwise_iof(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over foreground: the share [N, M] of each box of ``a`` [N, 4] that a box of ``b`` [M, 4] covers."""
    return _pairwise_intersection(a, b) / box_area(a).clamp(min=_MIN_AREA)[:, None]


def clip_boxes(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Clip boxes to an image.

    Args:
        boxes: [..., 4], or [N, 4k] with k boxes in a row.
        size: (height, width) of the image.

    Returns:
        Boxes of the same shape with x in [0, width] and y in [0, height].
    """
    height, width = size
    clipped = torch.empty_like(boxes)
    clipped[..., 0::2] = boxes[..., 0::2].clamp(0, width)
    clipped[..., 1::2] = boxes[..., 1::2].clamp(0, height)
    return clipped


def encode_deltas(boxes: Tensor, targets: Tensor, stds: Sequence[float] = (1.0, 1.0, 1.0, 1.0)) -> Tensor:
    """Regression targets that turn ``boxes`` into ``targets``: centre offsets in units of the box, log size ratios.

    Args:
        boxes: proposals or anchors [N, 4] of positive width and height.
        targets: boxes to reach [N, 4] of positive width and height; others give infinities.
        stds: the deltas are divided by these.

    Returns:
        Deltas [N, 4] as (dx, dy, dw, dh).
    """
    sizes = boxes[:, 2:] - boxes[:, :2]
    centres = (boxes[:, :2] + boxes[:, 2:]) * 0.5
    target_sizes = targets[:, 2:] - targets[:, :2]
    target_centres = (targets[:, :2] + targets[:, 2:]) * 0.5
    deltas = torch.cat([(target_centres - centres) / sizes, torch.log(target_sizes / sizes)], dim=1)
    return deltas / deltas.new_tensor(stds)


def decode_deltas(
    boxes: Tensor,
    deltas: Tensor,
    stds: Sequence[float] = (1.0, 1.0, 1.0, 1.0),
    max_shape: tuple[int, int] | None = None,
    max_ratio: float = 16 / 1000,
) -> Tensor:
    """Apply deltas to boxes, the inverse of :func:`encode_deltas`.

    Args:
        boxes: proposals or anchors [N, 4].
        deltas: [N, 4k], k predictions (classes) for each box.
        stds: the deltas are multiplied by these.
        max_shape: (height, width) the result is clipped to; None leaves it as it is.
        max_ratio: sizes change by at most 1 / max_ratio, so that an untrained network cannot overflow.

    Returns:
        Boxes [N, 4k].
    """
    denormalised = deltas.reshape(len(deltas), deltas.shape[1] // 4, 4)
    if any(std != 1 for std in stds):  # numbers go to a GPU by a copy that waits for it
        denormalised = denormalised * deltas.new_tensor(stds)
    sizes = (boxes[:, 2:] - boxes[:, :2])[:, None]
    centres = ((boxes[:, :2] + boxes[:, 2:]) * 0.5)[:, None]
    limit = abs(math.log(max_ratio))
    new_centres = centres + sizes * denormalised[..., :2]
    half_sizes = sizes * denormalised[..., 2:].clamp(-limit, limit).exp() * 0.5
    decoded = torch.cat([new_centres - half_sizes, new_centres + half_sizes], dim=-1)
    if max_shape is not None:
        decoded = clip_boxes(decoded, max_shape)
    return decoded.reshape(deltas.shape)
