"""Precision and recall of detections; the average precision is what checkpoints are chosen by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from qdtrack_ros.data.types import Annotation, DataError
from qdtrack_ros.evaluation.boxes import Boxes, covered, ious
from qdtrack_ros.evaluation.rules import MOT_RULES, FrameTruth, TruthRules

RECALL_POINTS = np.linspace(0.0, 1.0, 101)


class ImageDetections(Protocol):
    """Detections of one image: ``boxes`` [N, 4] xyxy in source pixels and ``scores`` [N]."""

    @property
    def boxes(self) -> npt.NDArray[np.float32]:
        """Boxes."""

    @property
    def scores(self) -> npt.NDArray[np.float32]:
        """Scores in [0, 1]."""


class DetectionMatches(NamedTuple):
    """Detections that count, of any number of images, and whether each is right.

    Attributes:
        scores: float64 [N].
        correct: bool [N].
        wanted: number of boxes to find.
    """

    scores: npt.NDArray[np.float64]
    correct: npt.NDArray[np.bool_]
    wanted: int


class PrecisionRecall(NamedTuple):
    """The curve of a detector at COCO's 101 recall points.

    Attributes:
        precision: float64 [101], the best precision at this recall or a higher one; 0 where it is never reached.
        score: float64 [101], the score threshold that gives this recall; NaN where it is never reached.
        average: mean precision, in [0, 1]; NaN when there is no box to find.
    """

    precision: npt.NDArray[np.float64]
    score: npt.NDArray[np.float64]
    average: float


def match_detections(
    truth: Sequence[Sequence[Annotation]],
    detections: Sequence[ImageDetections],
    iou: float = 0.5,
    rules: TruthRules = MOT_RULES,
) -> DetectionMatches:
    """Match the detections of every image by falling score, as COCO does.

    Boxes that ``rules`` calls distractors, and those flagged ``ignore`` or ``crowd`` whether the rules forgive them or
    not, are neutral: a detection on one counts neither as right nor as wrong.

    Args:
        truth: annotations of every image.
        detections: one entry an image, all of the evaluated classes, in any order.
        iou: a detection is right when it overlaps a free box by at least this much.
        rules: the evaluated classes and their distractors.

    Raises:
        DataError: different numbers of images.
    """
    if len(truth) != len(detections):
        raise DataError(f"ground truth of {len(truth)} images but detections of {len(detections)}; expected as many")
    lenient = replace(rules, forgive_ignored=True)
    pairs = zip(truth, detections, strict=True)
    return _together([_match(FrameTruth(rows, lenient), found, iou) for rows, found in pairs])


def precision_recall(matches: Sequence[DetectionMatches]) -> PrecisionRecall:
    """The curve of several sets of images together; COCO's average precision (101 recall points)."""
    scores, correct, wanted = _together(matches)
    precision, score = np.zeros(len(RECALL_POINTS)), np.full(len(RECALL_POINTS), np.nan)
    if wanted == 0:
        return PrecisionRecall(precision, score, float("nan"))
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(correct[order])
    recall = hits / wanted
    best_from_here = np.maximum.accumulate((hits / np.arange(1, len(hits) + 1))[::-1])[::-1]
    places = np.searchsorted(recall, RECALL_POINTS, side="left")
    reached = places < len(recall)
    precision[reached] = best_from_here[places[reached]]
    score[reached] = scores[order][places[reached]]
    return PrecisionRecall(precision, score, float(precision.mean()))


def _together(matches: Sequence[DetectionMatches]) -> DetectionMatches:
    return DetectionMatches(
        np.concatenate([np.zeros(0), *(match.scores for match in matches)]),
        np.concatenate([np.zeros(0, np.bool_), *(match.correct for match in matches)]),
        sum(match.wanted for match in matches),
    )


def _match(truth: FrameTruth, found: ImageDetections, threshold: float) -> DetectionMatches:
    """Greedy matching in one image; detections on neutral boxes and in crowd regions are left out of the result."""
    scores = np.asarray(found.scores, np.float64)
    order = np.argsort(-scores, kind="stable")
    boxes: Boxes = np.asarray(found.boxes, np.float64).reshape(-1, 4)[order]
    overlaps = ious(boxes, truth.boxes)
    free = truth.counted.copy()
    neutral = truth.neutral.copy()
    in_crowd = covered(boxes, truth.regions) >= threshold
    correct = np.zeros(len(boxes), np.bool_)
    kept = np.ones(len(boxes), np.bool_)
    for row, overlap in enumerate(overlaps):
        best = _best(overlap, free, threshold)
        if best is not None:
            free[best] = False
            correct[row] = True
            continue
        beside = _best(overlap, neutral, threshold)
        if beside is not None:
            neutral[beside] = False
        kept[row] = beside is None and not in_crowd[row]
    return DetectionMatches(scores[order][kept], correct[kept], int(truth.counted.sum()))


def _best(overlap: Boxes, among: npt.NDArray[np.bool_], threshold: float) -> int | None:
    """Index of the largest overlap among the allowed boxes, if it reaches the threshold."""
    candidates = np.where(among, overlap, -1.0)
    if len(candidates) == 0:
        return None
    best = int(candidates.argmax())
    return best if candidates[best] >= min(threshold, 1 - 1e-10) else None
