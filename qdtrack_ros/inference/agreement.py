"""How far two runs of one network agree on a picture."""

from __future__ import annotations

import torch

from qdtrack_ros.inference.types import Detections
from qdtrack_ros.ops.boxes import pairwise_iou

SAME_IOU = 0.95


def share_matched(found: Detections, expected: Detections, score_tolerance: float) -> float:
    """The part, 0 to 1, of the detections of both that have their like in the other.

    Args:
        found: of one run.
        expected: of the other.
        score_tolerance: how far apart the scores of one object may be; boxes of one overlap by more than 0.95.
    """
    count = len(found.scores) + len(expected.scores)
    if count == 0:
        return 1.0
    same = pairwise_iou(torch.from_numpy(found.boxes), torch.from_numpy(expected.boxes)) > SAME_IOU
    for of_found, of_expected, tolerance in (
        (found.labels, expected.labels, 0),
        (found.scores, expected.scores, score_tolerance),
    ):
        same &= (torch.from_numpy(of_found)[:, None] - torch.from_numpy(of_expected)).abs() <= tolerance
    return float(same.any(dim=1).sum() + same.any(dim=0).sum()) / count
