"""Tracking metrics against hand-computed cases; test_trackeval.py has the comparison with TrackEval."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest

from qdtrack_ros.data.types import Annotation, DataError
from qdtrack_ros.evaluation.metrics import (
    Metrics,
    class_mean,
    combine,
    combine_classes,
    evaluate_classes,
    evaluate_sequence,
)
from qdtrack_ros.evaluation.rules import (
    BDD100K,
    KITTI_PEDESTRIAN_RULES,
    MOT,
    MOT20,
    MOT20_RULES,
    MOT_RULES,
    TruthRules,
    mot_benchmark,
    open_benchmark,
    together,
)

BOX = (10.0, 10.0, 30.0, 50.0)
OTHER = (100.0, 10.0, 120.0, 50.0)


class Tracks(NamedTuple):
    ids: np.ndarray
    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray


def tracks(*rows: tuple[int, tuple[float, ...]], label: int = 0) -> Tracks:
    return Tracks(
        np.array([row[0] for row in rows], np.int64),
        np.array([row[1] for row in rows], np.float32).reshape(-1, 4),
        np.ones(len(rows), np.float32),
        np.full(len(rows), label, np.int64),
    )


def person(instance_id: int | None, box: tuple[float, ...] = BOX, **flags: object) -> Annotation:
    return Annotation(box, "pedestrian", instance_id, **flags)


def evaluate(truth: list[list[Annotation]], found: list[Tracks], rules: TruthRules = MOT_RULES) -> Metrics:
    return evaluate_sequence(truth, found, rules).metrics


def test_perfect_tracks_score_one_and_identity_zero_counts():
    found = evaluate([[person(0)], [person(0)]], [tracks((7, BOX)), tracks((7, BOX))])
    assert (found.mota, found.motp, found.idf1, found.hota, found.loca) == pytest.approx((1, 1, 1, 1, 1))
    assert (found.mostly_tracked, found.mostly_lost, found.truth_ids, found.truth_boxes) == (1, 0, 1, 2)


def test_switch_halfway_by_hand():
    # Four frames, one person, ids 1 1 2 2: one switch of four boxes; the best identity explains two of four.
    found = evaluate([[person(5)]] * 4, [tracks((1, BOX))] * 2 + [tracks((2, BOX))] * 2)
    assert found.id_switches == 1
    assert found.mota == pytest.approx(1 - 1 / 4)
    assert found.idf1 == pytest.approx(0.5)
    assert found.deta == pytest.approx(1.0)
    # AssA: each match shares 2 frames with its track, of 4 of the person and 2 of the track: 2 / 4.
    assert found.assa == pytest.approx(0.5)
    assert found.hota == pytest.approx(np.sqrt(0.5))


def test_miss_and_false_positive_by_hand():
    # Three frames, two persons; one is never found, one false box.
    truth = [[person(1), person(2, OTHER)]] * 3
    found = evaluate(truth, [tracks((4, BOX), (9, (300, 300, 320, 340))), tracks((4, BOX)), tracks((4, BOX))])
    assert (found.false_positives, found.false_negatives, found.id_switches) == (1, 3, 0)
    assert found.mota == pytest.approx(1 - 4 / 6)
    assert found.idp == pytest.approx(3 / 4)
    assert found.idr == pytest.approx(3 / 6)
    assert (found.mostly_tracked, found.mostly_lost) == (1, 1)


def test_gap_is_a_fragmentation():
    # A frame without any track at all would not do: TrackEval takes no notice of those when it counts fragmentations.
    truth = [[person(1), person(2, OTHER)]] * 3
    both = tracks((0, BOX), (1, OTHER))
    found = evaluate(truth, [both, tracks((1, OTHER)), both])
    assert (found.fragmentations, found.id_switches, found.false_negatives) == (1, 0, 1)


def test_flag_zero_is_not_missed_and_a_box_on_it_counts_as_motchallenge_counts_it():
    truth = [[person(1), person(2, OTHER, ignore=True)]]
    assert evaluate(truth, [tracks((1, BOX))]).mota == pytest.approx(1.0)
    assert evaluate(truth, [tracks((1, BOX), (2, OTHER))]).false_positives == 1
    lenient = TruthRules(MOT_RULES.labels, MOT_RULES.distractors, forgive_ignored=True)
    assert evaluate(truth, [tracks((1, BOX), (2, OTHER))], lenient).false_positives == 0


def test_box_on_a_distractor_is_removed():
    truth = [[person(1), Annotation(OTHER, "static_person", 2, ignore=True)]]
    assert evaluate(truth, [tracks((1, BOX), (2, OTHER))]).false_positives == 0
    vehicle = [[person(1), Annotation(OTHER, "non_mot_vehicle", 2, ignore=True)]]
    assert evaluate(vehicle, [tracks((1, BOX), (2, OTHER))]).false_positives == 1
    assert evaluate(vehicle, [tracks((1, BOX), (2, OTHER))], MOT20_RULES).false_positives == 0


def test_kitti_region_swallows_what_lies_in_it():
    region = Annotation((90, 0, 200, 100), "DontCare", None, ignore=True, crowd=True)
    truth = [[Annotation(BOX, "Pedestrian", 1), region]]
    inside, outside = tracks((1, BOX), (2, OTHER)), tracks((1, BOX), (2, (300, 0, 320, 40)))
    assert evaluate(truth, [inside], KITTI_PEDESTRIAN_RULES).false_positives == 0
    assert evaluate(truth, [outside], KITTI_PEDESTRIAN_RULES).false_positives == 1


def test_empty_tracks_and_empty_truth():
    nothing = evaluate([[person(1)], []], [tracks(), tracks()])
    assert (nothing.false_negatives, nothing.mota, nothing.hota) == (1, 0, 0)
    assert evaluate([[]], [tracks((1, BOX))]).false_positives == 1


def test_combine_sums_before_it_divides():
    good = evaluate_sequence([[person(1)]] * 3, [tracks((1, BOX))] * 3, name="a")
    bad = evaluate_sequence([[person(1)]], [tracks((1, OTHER))], name="b")
    both = combine([good, bad]).metrics
    assert (both.false_positives, both.false_negatives, both.truth_boxes) == (1, 1, 4)
    assert both.mota == pytest.approx(1 - 2 / 4)


@pytest.mark.parametrize(
    ("truth", "found", "message"),
    [
        ([[person(1)]], [], "1 frames but tracks of 0"),
        ([[person(None)]], [tracks()], "frame 0: ground truth has a box without identity"),
        ([[person(1), person(1, OTHER)]], [tracks()], "ground truth has identity 1 more than once"),
        ([[]], [tracks((3, BOX), (3, OTHER))], "tracks has identity 3 more than once"),
        ([[]], [tracks((3, (0, 0, np.nan, 1)))], "finite boxes"),
    ],
)
def test_unusable_input_is_named(truth, found, message):
    with pytest.raises(DataError, match=message):
        evaluate_sequence(truth, found)


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (["car", "Person"], [1]),
        (["person", "pedestrian"], [1]),
        (["car"], []),
    ],
)
def test_labels_of_a_tracker_that_mean_a_class(labels, expected):
    assert TruthRules(frozenset({"Pedestrian"})).indices(labels) == expected


def test_a_part_of_a_benchmark():
    part = BDD100K.known_to(["person", "motor", "bike", "Van"])
    assert list(part.classes) == ["pedestrian", "car", "motorcycle", "bicycle"]
    assert list(part.groups) == ["BIKE"] and part.means
    both = together([MOT, part])
    assert both.name == "MOTChallenge, BDD100K" and list(both.classes) == list(part.classes) and both.means


def test_every_label_of_an_open_benchmark_is_a_class():
    classes = open_benchmark("mine", ["bus", "Car", "bus"]).classes
    assert list(classes) == ["Car", "bus"] and classes["Car"].indices(["person", "car"]) == [1]


def test_rules_by_benchmark():
    assert mot_benchmark("MOT20-01") is MOT20
    assert mot_benchmark("PETS09-S2L1") is MOT


def test_kitti_leaves_out_hard_boxes_and_small_tracks():
    hard = [[Annotation(BOX, "Pedestrian", 1, difficulty=1), Annotation(OTHER, "Pedestrian", 2, difficulty=2)]]
    neither = evaluate(hard, [tracks((1, BOX))], KITTI_PEDESTRIAN_RULES)
    assert (neither.false_negatives, neither.truth_boxes) == (0, 1)
    assert evaluate(hard, [tracks((1, BOX), (2, OTHER))], KITTI_PEDESTRIAN_RULES).false_positives == 0
    assert evaluate(hard, [tracks((1, BOX), (2, (300, 0, 320, 25)))], KITTI_PEDESTRIAN_RULES).false_positives == 0
    assert evaluate(hard, [tracks((1, BOX), (2, (300, 0, 320, 26)))], KITTI_PEDESTRIAN_RULES).false_positives == 1


def test_other_classes_compete_for_tracks_in_motchallenge_only():
    # The car overlaps the track a little more than the distractor does, so that MOTChallenge does not remove the track.
    car = Annotation(OTHER, "car", 3)
    distractor = Annotation((102.0, 10.0, 122.0, 50.0), "static_person", 2)
    found = [tracks((5, (100.5, 10.0, 120.5, 50.0)))]
    assert evaluate([[car, distractor]], found).false_positives == 1
    assert (
        evaluate([[car, distractor]], found, TruthRules(MOT_RULES.labels, MOT_RULES.distractors)).false_positives == 0
    )


def test_classes_are_evaluated_apart_and_their_mean_has_equal_weights():
    truth = [[Annotation(BOX, "pedestrian", 1), Annotation(OTHER, "car", 1)]] * 2
    both = [tracks((1, BOX), label=1), tracks((1, OTHER), label=0)]
    results = evaluate_classes(truth, both, ["car", "pedestrian", "dog"], BDD100K)
    assert results["pedestrian"].metrics.false_negatives == results["car"].metrics.false_negatives == 1
    assert results["train"].metrics.truth_boxes == 0
    rows = combine_classes([results], BDD100K)
    assert rows["mean"].metrics.mota == pytest.approx((0.5 + 0.5 + 6 * 0) / 8)
    assert rows["overall"].metrics.mota == pytest.approx(0.5)
    assert (rows["HUMAN"].metrics.truth_boxes, rows["BIKE"].metrics.truth_boxes) == (2, 0)
    two = class_mean([results["car"], results["pedestrian"]])
    assert (two.metrics.mota, two.metrics.false_negatives) == (pytest.approx(0.5), 2)


def test_a_track_of_another_class_is_wrong():
    results = evaluate_classes([[person(1)]], [tracks((1, BOX), label=1)], ["pedestrian", "car"], BDD100K)
    assert results["pedestrian"].metrics.false_negatives == 1 and results["car"].metrics.false_positives == 1


def test_people_are_pedestrians_to_motchallenge():
    assert evaluate_classes([[person(1)]], [tracks((1, BOX))], ["person"], MOT)["pedestrian"].metrics.mota == 1
    with pytest.raises(DataError, match="tracks are of car; MOTChallenge evaluates pedestrian, person"):
        evaluate_classes([[person(1)]], [tracks((1, BOX))], ["car"], MOT)
