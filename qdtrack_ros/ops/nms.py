"""Non-maximum suppression by group (level or class) with the semantics of mmcv 1.x ``batched_nms``."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torchvision.ops import nms

from qdtrack_ros.ops.boxes import pairwise_iou

# From here on groups are suppressed one after the other: time and device memory of one pass grow with N^2. A GPU
# prefers one launch for longer (10 000 is the reference's limit); a CPU takes half the time from about 2 000 on.
_SPLIT_FROM = 10_000
_SPLIT_FROM_CPU = 2_000


class NMSResult(NamedTuple):
    """Kept detections by falling score.

    Attributes:
        boxes: [K, 4].
        scores: [K].
        labels: int64 [K], class indices.
        indices: int64 [K], row * C + class of the candidate in the input; ``indices // C`` is the input row.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    indices: Tensor


def per_level_nms(boxes: Tensor, scores: Tensor, group_ids: Tensor, iou_threshold: float) -> Tensor:
    """Greedy NMS in which only boxes of the same group suppress each other (an IoU above the threshold, strictly).

    Every group is shifted by a multiple of the largest coordinate, so that one pass serves all. As in the reference
    this costs a little precision. (In one pass, boxes with negative coordinates could in theory reach into the group
    before theirs: they would have to stick out at the top left as far as others reach to the bottom right.)

    Args:
        boxes: [N, 4].
        scores: [N].
        group_ids: int64 [N], level or class.
        iou_threshold: in [0, 1].

    Returns:
        int64 [K], kept rows by falling score; equal scores keep their order.
    """
    if len(boxes) == 0:
        return group_ids.new_zeros(0)
    iou_threshold = _representable(iou_threshold, boxes.dtype)
    shifted = boxes + (group_ids.to(boxes) * (boxes.max() + 1))[:, None]
    if len(boxes) < (_SPLIT_FROM_CPU if boxes.device.type == "cpu" else _SPLIT_FROM):
        return nms(shifted, scores, iou_threshold)
    kept = []
    for group in group_ids.unique():
        rows = (group_ids == group).nonzero().squeeze(1)
        kept.append(rows[nms(shifted[rows], scores[rows], iou_threshold)])
    keep = torch.cat(kept).sort().values
    return keep[scores[keep].sort(descending=True, stable=True).indices]


def multiclass_nms(
    boxes: Tensor, scores: Tensor, score_threshold: float, iou_threshold: float, max_detections: int
) -> NMSResult:
    """Final detections of one image: every (row, class) above the threshold is a candidate, then NMS class by class.

    Args:
        boxes: [N, 4], shared by the classes, or [N, 4C], one per class.
        scores: [N, C + 1] probabilities, background last.
        score_threshold: candidates must score more than this.
        iou_threshold: a candidate that overlaps a better one of its class by more than this is dropped.
        max_detections: how many are kept at most, over all classes; a negative number keeps all.

    Returns:
        Detections by falling score.
    """
    num_classes = scores.shape[1] - 1
    class_scores = scores[:, :-1].flatten()
    indices = (class_scores > score_threshold).nonzero().squeeze(1)
    labels = indices % num_classes
    # A row of 4C coordinates is C boxes; a row of 4 serves every class.
    candidates = boxes.reshape(-1, 4)[indices] if boxes.shape[1] > 4 else boxes[indices // num_classes]
    keep = per_level_nms(candidates, class_scores[indices], labels, iou_threshold)
    if max_detections >= 0:
        keep = keep[:max_detections]
    return NMSResult(candidates[keep], class_scores[indices[keep]], labels[keep], indices[keep])


class FixedPoint(NamedTuple):
    """Result of :func:`fixed_point_nms`.

    Attributes:
        keep: bool [..., N], what greedy suppression keeps, where ``converged`` says so.
        converged: bool [...], whether the last step changed nothing.
    """

    keep: Tensor
    converged: Tensor


def fixed_point_nms(
    boxes: Tensor,
    valid: Tensor,
    iou_threshold: float,
    steps: int,
    labels: Tensor | None = None,
    dtype: torch.dtype = torch.float32,
) -> FixedPoint:
    """NMS without loops over boxes or shapes that depend on data: matrix steps to the fixed point.

    A box is kept when no better box that is itself kept overlaps it by more than the threshold. Greedy NMS is the one
    solution of that. Starting from all boxes, step t makes every box right that at most t - 1 boxes in a chain, each
    suppressing the next, lie before: a step that changes nothing has found the solution.

    Args:
        boxes: [..., N, 4] by falling score; of two equal scores the first counts as better.
        valid: bool [..., N], false for slots that hold nothing.
        iou_threshold: a box is suppressed by a better one that overlaps it by more.
        steps: at least 1; raising it lets longer chains of overlapping boxes converge, and costs time.
        labels: [..., N]; boxes of different labels do not suppress each other. None: all are of one.
        dtype: of the matrices of zeros and ones in the steps. All are exact: none takes a sum of ones for zero. But a
            Turing GPU, for one, multiplies no float32 matrices in TensorRT for RTX.
    """
    boxes = boxes.to(torch.promote_types(boxes.dtype, torch.float32))  # areas of a picture are no half precision
    overlaps = pairwise_iou(boxes, boxes, 0.0)
    # No overlap is above 1. That of two empty boxes is NaN: OpenVINO calls it greater than anything, but not less.
    overlaps = (overlaps > _representable(iou_threshold, boxes.dtype)) & (overlaps <= 2)
    if labels is not None:
        overlaps = overlaps & (labels[..., :, None] == labels[..., None, :])
    count = boxes.shape[-2]
    before = torch.ones(count, count, dtype=torch.bool, device=boxes.device).triu(1)
    suppresses = (overlaps & before).to(dtype)
    usable = valid.to(dtype)
    keep = previous = usable
    for _ in range(steps):  # in numbers, not flags: of three launches on a GPU each, not six
        suppressors = (keep[..., None, :] @ suppresses)[..., 0, :]
        previous, keep = keep, torch.relu(usable - suppressors)
    return FixedPoint(keep > 0, (keep == previous).all(dim=-1))


def _representable(threshold: float, dtype: torch.dtype) -> float:
    """The largest number of a dtype that is not above the threshold: a number of the dtype exceeds either or neither.

    torchvision compares the overlaps with the threshold itself on a CPU, and with one rounded to float32 on a GPU, as
    matrices do: 0.3 becomes more than 0.3, and boxes that overlap by just that would be kept here and dropped there.
    """
    rounding = np.float64 if dtype == torch.float64 else np.float32
    nearest = rounding(threshold)
    return float(nearest if float(nearest) <= threshold else np.nextafter(nearest, rounding(-1)))
