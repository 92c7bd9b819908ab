"""What of the ground truth counts, and on which of its boxes a detection is neither right nor wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from qdtrack_ros.data.types import Annotation

Boxes = npt.NDArray[np.float64]

REGION_LABELS = frozenset({"DontCare", "crowd"})  # KITTI's and MOT20's names for regions of any content


@dataclass(frozen=True)
class TruthRules:
    """Roles of ground truth boxes by label and flag.

    Attributes:
        labels: classes that are evaluated; boxes of theirs flagged ``ignore`` or ``crowd`` do not count as missed.
        distractors: classes that look like them: a detection matched with such a box is removed before counting.
        forgive_ignored: also remove detections matched with an ``ignore`` box of these classes, and those that lie more
            than half in a ``crowd`` region. MOTChallenge does not: there a detection on a box flagged 0 is a false
            positive.
    """

    labels: frozenset[str]
    distractors: frozenset[str] = frozenset()
    forgive_ignored: bool = False


MOT_RULES = TruthRules(
    frozenset({"pedestrian"}), frozenset({"person_on_vehicle", "static_person", "distractor", "reflection"})
)
MOT20_RULES = TruthRules(MOT_RULES.labels, MOT_RULES.distractors | {"non_mot_vehicle"})
KITTI_CAR_RULES = TruthRules(frozenset({"Car"}), frozenset({"Van"}), forgive_ignored=True)
KITTI_PEDESTRIAN_RULES = TruthRules(frozenset({"Pedestrian"}), frozenset({"Person"}), forgive_ignored=True)
COCO_PERSON_RULES = TruthRules(frozenset({"person"}), forgive_ignored=True)


def mot_rules(benchmark: str) -> TruthRules:
    """Rules of a MOTChallenge benchmark by its name, or by the name of one of its sequences ("MOT20-01")."""
    return MOT20_RULES if benchmark.upper().startswith("MOT20") else MOT_RULES


class FrameTruth:
    """Boxes of one frame sorted by role; float64 [N, 4] xyxy.

    Attributes:
        counted: rows of ``boxes`` that detections must find.
        neutral: rows of ``boxes`` whose detections are removed.
        regions: crowd regions, [R, 4].
        ids: identities of ``boxes``, -1 for none.
    """

    def __init__(self, annotations: Sequence[Annotation], rules: TruthRules) -> None:
        looked_like = rules.labels | rules.distractors | REGION_LABELS
        forgiven = [rules.forgive_ignored and row.label in looked_like for row in annotations]
        region = [forgive and row.crowd for forgive, row in zip(forgiven, annotations, strict=True)]
        single = [
            (row, forgive)
            for row, forgive, is_region in zip(annotations, forgiven, region, strict=True)
            if not is_region
        ]
        singles = [row for row, _ in single]
        self.boxes: Boxes = np.array([row.box for row in singles], np.float64).reshape(-1, 4)
        self.ids = np.array([-1 if row.instance_id is None else row.instance_id for row in singles], np.int64)
        self.counted = np.array(
            [row.label in rules.labels and not row.ignore and not row.crowd for row in singles], np.bool_
        )
        self.neutral = np.array(
            [row.label in rules.distractors or (forgive and row.ignore) for row, forgive in single], np.bool_
        )
        crowds = [row.box for row, is_region in zip(annotations, region, strict=True) if is_region]
        self.regions: Boxes = np.array(crowds, np.float64).reshape(-1, 4)


def intersections(first: Boxes, second: Boxes) -> Boxes:
    """Areas shared by every box of ``first`` [N, 4] with every one of ``second`` [M, 4]: float64 [N, M]."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    shared: Boxes = np.prod(np.maximum(high - low, 0.0), axis=2)
    return shared


def areas(boxes: Boxes) -> Boxes:
    """Areas of ``boxes`` [N, 4]: float64 [N]."""
    area: Boxes = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    return area


def ious(first: Boxes, second: Boxes) -> Boxes:
    """Intersection over union, float64 [N, M]; 0 where both boxes have no area."""
    shared = intersections(first, second)
    union = areas(first)[:, None] + areas(second)[None, :] - shared
    overlap: Boxes = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    return overlap


def covered(boxes: Boxes, regions: Boxes) -> Boxes:
    """Part of each box in the region that holds most of it, float64 [N]."""
    if len(regions) == 0 or len(boxes) == 0:
        return np.zeros(len(boxes))
    own = areas(boxes)
    most = intersections(boxes, regions).max(axis=1)
    part: Boxes = np.divide(most, own, out=np.zeros_like(most), where=own > 0)
    return part
