"""Average precision against hand-computed cases and against pycocotools."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest

from qdtrack_ros.data.types import Annotation, DataError
from qdtrack_ros.evaluation.detection import match_detections, precision_recall
from qdtrack_ros.evaluation.rules import COCO_PERSON_RULES

BOX, OTHER, FAR = (10.0, 10.0, 30.0, 50.0), (100.0, 10.0, 120.0, 50.0), (300.0, 10.0, 320.0, 50.0)


class Found(NamedTuple):
    boxes: np.ndarray
    scores: np.ndarray


def found(*rows: tuple[float, tuple[float, ...]]) -> Found:
    boxes = np.array([row[1] for row in rows], np.float32).reshape(-1, 4)
    return Found(boxes, np.array([row[0] for row in rows], np.float32))


def person(box: tuple[float, ...], **flags: bool) -> Annotation:
    return Annotation(box, "pedestrian", None, **flags)


def average_precision(*arguments) -> float:
    return precision_recall([match_detections(*arguments)]).average


def test_all_found_is_one():
    assert average_precision([[person(BOX)], []], [found((0.4, BOX)), found()]) == pytest.approx(1.0)


def test_false_box_above_the_right_one_halves_precision():
    assert average_precision([[person(BOX)]], [found((0.9, FAR), (0.8, BOX))]) == pytest.approx(0.5)


def test_false_box_below_costs_nothing():
    assert average_precision([[person(BOX)]], [found((0.7, FAR), (0.8, BOX))]) == pytest.approx(1.0)


def test_duplicate_is_wrong():
    # Right, duplicate, right: precision 1 up to recall 0.5 (51 points), then 2/3 (50 points).
    rows = found((0.9, BOX), (0.8, BOX), (0.7, OTHER))
    assert average_precision([[person(BOX), person(OTHER)]], [rows]) == pytest.approx((51 + 50 * 2 / 3) / 101)


@pytest.mark.parametrize(
    "neutral", [person(OTHER, ignore=True), person(OTHER, crowd=True), Annotation(OTHER, "static_person", 3)]
)
def test_neutral_boxes_are_neither_found_nor_missed(neutral):
    assert average_precision([[person(BOX), neutral]], [found((0.9, OTHER), (0.8, BOX))]) == pytest.approx(1.0)
    assert average_precision([[person(BOX), neutral]], [found((0.8, BOX))]) == pytest.approx(1.0)


def test_an_ignored_box_excuses_one_detection_and_a_crowd_any_number():
    two = found((0.95, OTHER), (0.9, OTHER), (0.8, BOX))
    assert average_precision([[person(BOX), person(OTHER, ignore=True)]], [two]) == pytest.approx(0.5)
    assert average_precision([[person(BOX), person(OTHER, crowd=True)]], [two]) == pytest.approx(1.0)


def test_other_classes_do_not_excuse():
    car = Annotation(OTHER, "car", 3, ignore=True)
    assert average_precision([[person(BOX), car]], [found((0.9, OTHER), (0.8, BOX))]) == pytest.approx(0.5)


def test_nothing_found_is_zero_and_nothing_to_find_is_nan():
    assert average_precision([[person(BOX)]], [found()]) == 0.0
    assert np.isnan(average_precision([[]], [found((0.9, BOX))]))


def test_lengths_must_agree():
    with pytest.raises(DataError, match="1 images but detections of 0"):
        average_precision([[person(BOX)]], [])


@pytest.mark.parametrize("threshold", [0.5, 0.75])
def test_equal_to_pycocotools(threshold: float):
    coco_module = pytest.importorskip("pycocotools.coco")
    from pycocotools.cocoeval import COCOeval

    random = np.random.default_rng(5)
    truth, detections, rows, results = [], [], [], []
    for image in range(1, 31):
        annotations, boxes = [], []
        for _ in range(random.integers(0, 12)):
            left, top, width, height = (int(value) for value in random.integers([0, 0, 40, 60], [500, 300, 80, 160]))
            crowd = bool(random.random() < 0.15)
            annotations.append(Annotation((left, top, left + width, top + height), "person", None, False, crowd))
            rows.append(
                {
                    "id": len(rows) + 1,
                    "image_id": image,
                    "category_id": 1,
                    "bbox": [left, top, width, height],
                    "area": width * height,
                    "iscrowd": int(crowd),
                }
            )
            for _ in range(random.integers(0, 3)):
                boxes.append(np.array([left, top, width, height]) + random.integers(-8, 9, 4))
        boxes += [random.integers([0, 0, 20, 20], [500, 300, 80, 160]) for _ in range(random.integers(0, 4))]
        scores = random.permutation(1000)[: len(boxes)] / 1000 + image / 1e6  # no ties: their order is not defined
        truth.append(annotations)
        xyxy = [(box[0], box[1], box[0] + box[2], box[1] + box[3]) for box in boxes]
        detections.append(Found(np.array(xyxy, np.float64).reshape(-1, 4), scores))
        results += [
            {"image_id": image, "category_id": 1, "bbox": [float(value) for value in box], "score": float(score)}
            for box, score in zip(boxes, scores, strict=True)
        ]
    coco = coco_module.COCO()
    coco.dataset = {
        "info": {},
        "images": [{"id": image} for image in range(1, 31)],
        "annotations": rows,
        "categories": [{"id": 1, "name": "person"}],
    }
    coco.createIndex()
    evaluation = COCOeval(coco, coco.loadRes(results), "bbox")
    evaluation.params.iouThrs = np.array([threshold])
    evaluation.evaluate()
    evaluation.accumulate()
    expected = float(evaluation.eval["precision"][0, :, 0, 0, -1].mean())
    assert 0.05 < expected < 0.95
    assert average_precision(truth, detections, threshold, COCO_PERSON_RULES) == pytest.approx(expected, abs=1e-9)


def test_the_curve_tells_precision_and_score_at_each_recall():
    matches = [
        match_detections([[person(BOX), person(OTHER)]], [found((0.9, BOX), (0.8, FAR), (0.6, OTHER))]),
        match_detections([[person(BOX), person(OTHER)]], [found((0.7, BOX))]),
    ]
    curve = precision_recall(matches)
    # By score: right, wrong, right, right; four to find.
    assert curve.precision[[0, 25, 26, 50, 75, 76]] == pytest.approx([1, 1, 0.75, 0.75, 0.75, 0])
    assert curve.score[[25, 50, 75]] == pytest.approx([0.9, 0.7, 0.6]) and np.isnan(curve.score[76])
    assert curve.average == pytest.approx(curve.precision.mean())
