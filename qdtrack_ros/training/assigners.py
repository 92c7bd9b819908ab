"""Assignment of boxes to ground truth by IoU (Faster R-CNN, section 3.1.2) with the rules of mmdet 2.x."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from qdtrack_ros.ops.boxes import pairwise_iof, pairwise_iou


class Assignment(NamedTuple):
    """What every box was assigned to.

    Attributes:
        gt_inds: int64 [N]: 0 negative, i + 1 assigned to ground truth i, -1 ignored.
        max_overlaps: float32 [N], largest IoU with any ground truth; -1 for boxes in an ignore region.
        labels: int64 [N], class of the assigned ground truth; -1 elsewhere. None when no labels were given.
    """

    gt_inds: Tensor
    max_overlaps: Tensor
    labels: Tensor | None

    def with_gt(self, num_gt: int, gt_labels: Tensor | None) -> Assignment:
        """The assignment after every ground truth was put in front of the boxes, assigned to itself with IoU 1."""
        own = torch.arange(1, num_gt + 1, device=self.gt_inds.device)
        labels = self.labels
        if labels is not None:
            if gt_labels is None:
                raise ValueError("the assignment has labels: pass gt_labels too when ground truth is added")
            labels = torch.cat([gt_labels.to(labels), labels])
        return Assignment(
            torch.cat([own, self.gt_inds]), torch.cat([self.max_overlaps.new_ones(num_gt), self.max_overlaps]), labels
        )


@dataclass(frozen=True)
class MaxIoUAssigner:
    """Every box goes to the ground truth it overlaps most, if by enough.

    Args:
        positive_iou: boxes at or above it are positive.
        negative_iou: boxes below it are negative; those in between are ignored.
        min_positive_iou: with ``match_low_quality``, the least IoU of a forced match.
        match_low_quality: give every ground truth the boxes it overlaps most, even below ``positive_iou``; among
            several ground truths that claim a box, the last one gets it, as in the reference.
    """

    positive_iou: float
    negative_iou: float
    min_positive_iou: float = 0.0
    match_low_quality: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.negative_iou <= self.positive_iou <= 1:
            raise ValueError(
                f"expected 0 <= negative_iou <= positive_iou <= 1, got {self.negative_iou} and {self.positive_iou}"
            )

    @torch.no_grad()
    def __call__(
        self,
        boxes: Tensor,
        gt_boxes: Tensor,
        gt_labels: Tensor | None = None,
        ignore_boxes: Tensor | None = None,
        ignore_iof: float = 0.5,
    ) -> Assignment:
        """Assign.

        Args:
            boxes: proposals or anchors [N, 4].
            gt_boxes: [G, 4].
            gt_labels: int64 [G].
            ignore_boxes: regions [I, 4]; a box of which one covers more than ``ignore_iof`` is ignored.
            ignore_iof: share of a box's own area; 0 turns ignore regions off.

        Returns:
            The assignment of the N boxes.
        """
        num_boxes, num_gt = len(boxes), len(gt_boxes)
        gt_inds = torch.zeros(num_boxes, dtype=torch.int64, device=boxes.device)
        max_overlaps = boxes.new_zeros(num_boxes)
        ignored = torch.zeros(num_boxes, dtype=torch.bool, device=boxes.device)
        if ignore_boxes is not None and len(ignore_boxes) and num_boxes and ignore_iof > 0:
            ignored = pairwise_iof(boxes, ignore_boxes).amax(dim=1) > ignore_iof
        if num_boxes and num_gt:
            overlaps = pairwise_iou(gt_boxes, boxes)
            overlaps[:, ignored] = -1
            max_overlaps, nearest = overlaps.max(dim=0)
            gt_inds[max_overlaps >= self.negative_iou] = -1
            positive = max_overlaps >= self.positive_iou
            gt_inds[positive] = nearest[positive] + 1
            if self.match_low_quality:
                forced = self._forced_matches(overlaps)
                gt_inds = torch.where(forced > 0, forced, gt_inds)
        # Without ground truth too, where the reference would train on ignore regions as background.
        gt_inds[ignored] = -1
        labels = None
        if gt_labels is not None:
            labels = torch.full_like(gt_inds, -1)
            assigned = gt_inds > 0
            labels[assigned] = gt_labels[gt_inds[assigned] - 1]
        return Assignment(gt_inds, max_overlaps, labels)

    def _forced_matches(self, overlaps: Tensor) -> Tensor:
        """For overlaps [G, N]: i + 1 of the last ground truth i whose best box this is (ties included), else 0."""
        best = overlaps.amax(dim=1, keepdim=True)
        claims = (overlaps == best) & (best >= self.min_positive_iou)
        numbers = torch.arange(1, len(overlaps) + 1, device=overlaps.device)
        return (claims * numbers[:, None]).amax(dim=0)
