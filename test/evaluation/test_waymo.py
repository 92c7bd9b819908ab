"""Waymo's metrics, on the cases of its own tests (metrics/mot_test.cc and tracking_metrics_test.cc)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pytest

from qdtrack_ros.data.types import Annotation, DataError
from qdtrack_ros.evaluation.waymo import CUTOFFS, CameraVideo, Counts, WaymoFrame, count_at_cutoffs, waymo_metrics

PLACES = {0: 0.0, 200: 1000.0, 400: 2000.0}


class Tracks(NamedTuple):
    ids: np.ndarray
    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray


def frame(found: dict[int, tuple[int, float]], there: dict[int, int], scores: Sequence[float] = ()) -> WaymoFrame:
    """Tracks by id, each at a place and with an IoU to whatever is there; objects by id, each at a place."""
    ious = np.array(
        [[iou if place == at else 0.0 for place, iou in found.values()] for at in there.values()], np.float64
    ).reshape(len(there), len(found))
    all_scores = np.array(scores or [1.0] * len(found), np.float32)
    return WaymoFrame(list(there), np.zeros(len(there), np.int64), list(found), all_scores, ious)


def counts(frames: Sequence[WaymoFrame], iou: float = 0.5) -> Counts:
    return count_at_cutoffs(frames, iou)[0]


def assert_counts(found: Counts, wrong: int, missed: int, mismatches: int, matches: int, objects: int, cost: float):
    assert (found.false_positives, found.misses[1], found.mismatches) == (wrong, missed, mismatches)
    assert (found.matches, found.objects[1]) == (matches, objects)
    assert found.cost == pytest.approx(cost)


def test_miss_and_false_positive():
    frames = [frame({1: (0, iou)}, {1: 0}) for iou in (0.8, 0.6, 0.4)]
    assert_counts(counts(frames), wrong=1, missed=1, mismatches=0, matches=2, objects=3, cost=0.2 + 0.4)


def test_a_switch_of_two_is_two_mismatches():
    found = {1: (0, 0.8), 2: (200, 0.8), 3: (400, 0.8)}
    frames = [frame(found, {1: 0, 2: 200, 3: 400})] * 3
    frames += [frame(found, {1: 200, 2: 0, 3: 400})] * 2
    frames += [frame(found, {1: 200, 2: 400, 3: 0})] * 3
    assert_counts(counts(frames), wrong=0, missed=0, mismatches=4, matches=24, objects=24, cost=0.2 * 24)


@pytest.mark.parametrize(("first", "second"), [(2, 7), (4, 5)])
def test_a_new_track_is_one_mismatch_however_long_it_is(first: int, second: int):
    frames = [frame({1: (0, 0.8)}, {1: 0})] * first + [frame({2: (0, 0.8)}, {1: 0})] * second
    assert_counts(counts(frames), wrong=0, missed=0, mismatches=1, matches=9, objects=9, cost=0.2 * 9)


def test_an_object_keeps_its_track_over_a_gap():
    frames = [frame({1: (0, 0.8)}, {1: 0}), frame({}, {1: 0}), frame({1: (0, 0.8), 2: (0, 0.9)}, {1: 0})]
    assert_counts(counts(frames), wrong=1, missed=1, mismatches=0, matches=2, objects=3, cost=0.2 * 2)


def test_a_track_that_left_an_object_which_is_gone_is_a_mismatch_too():
    both = frame({1: (0, 0.8), 2: (200, 0.8)}, {1: 0, 2: 200})
    gone = counts([both, frame({2: (0, 0.8)}, {1: 0})])
    assert_counts(gone, wrong=0, missed=0, mismatches=2, matches=3, objects=3, cost=0.2 * 3)
    missed = counts([both, frame({2: (0, 0.8)}, {1: 0, 2: 200})])
    assert_counts(missed, wrong=0, missed=1, mismatches=1, matches=3, objects=4, cost=0.2 * 3)


def box(place: float, iou: float = 1.0) -> tuple[float, float, float, float]:
    return (place, 0.0, place + 100.0 * iou, 10.0)


def tracks(*rows: tuple[int, float, float, float], label: int = 0) -> Tracks:
    """Id, place, IoU with what is there, score."""
    return Tracks(
        np.array([row[0] for row in rows], np.int64),
        np.array([box(row[1], row[2]) for row in rows], np.float32).reshape(-1, 4),
        np.array([row[3] for row in rows], np.float32),
        np.full(len(rows), label, np.int64),
    )


def vehicle(identity: int, place: float, difficulty: int = 1) -> Annotation:
    return Annotation(box(place), "vehicle", identity, difficulty=difficulty)


def test_the_best_cutoff_is_reported_and_the_lowest_of_equals():
    found = [tracks((1, 0.0, 0.9, 0.6), (2, 200.0, 0.9, 0.7)), tracks((2, 0.0, 0.9, 0.7))]
    video = CameraVideo([[vehicle(1, 0.0), vehicle(2, 200.0)]] * 2, found)
    metrics = waymo_metrics([video, video], ["vehicle"])["vehicle"][2]
    assert metrics.score_cutoff == 0.0 and metrics.objects == 8
    assert (metrics.miss, metrics.mismatch, metrics.false_positive) == pytest.approx((2 / 8, 2 / 8, 0))
    assert (metrics.mota, metrics.motp) == pytest.approx((4 / 8, 0.1))
    # A wrong box of a low score: leaving it out is better.
    wrong = found[0]._replace(**tracks((1, 0.0, 0.9, 0.6), (2, 200.0, 0.9, 0.7), (9, 900.0, 1.0, 0.2))._asdict())
    better = waymo_metrics([CameraVideo(video.truth, [wrong, found[1]])], ["vehicle"])["vehicle"][2]
    assert better.score_cutoff == pytest.approx(0.21) and better.mota == pytest.approx(0.5)
    assert len(CUTOFFS) == 101


def test_harder_objects_need_not_be_found_but_count_when_they_are():
    truth = [[vehicle(1, 0.0), vehicle(2, 200.0, 2), vehicle(3, 400.0, 2)]]
    found = [tracks((1, 0.0, 1.0, 1.0), (2, 200.0, 1.0, 1.0))]
    levels = waymo_metrics([CameraVideo(truth, found)], ["vehicle"])["vehicle"]
    assert (levels[1].objects, levels[1].miss, levels[1].mota) == (2, 0.0, 1.0)
    assert (levels[2].objects, levels[2].mota) == (3, pytest.approx(2 / 3))


def test_classes_are_apart_and_vehicles_must_overlap_more():
    truth = [[vehicle(1, 0.0), Annotation(box(0.0), "pedestrian", 1)]]
    as_vehicle = waymo_metrics([CameraVideo(truth, [tracks((1, 0.0, 0.6, 1.0))])], ["vehicle", "pedestrian"])
    as_person = waymo_metrics([CameraVideo(truth, [tracks((1, 0.0, 0.6, 1.0), label=1)])], ["vehicle", "pedestrian"])
    assert as_vehicle["vehicle"][2].mota == 0 and as_person["pedestrian"][2].mota == 1
    assert as_person["cyclist"][2].objects == 0


def test_what_is_worse_than_nothing_is_nought():
    video = CameraVideo([[vehicle(1, 0.0)]], [tracks((1, 500.0, 1.0, 1.0), (2, 700.0, 1.0, 1.0))])
    metrics = waymo_metrics([video], ["vehicle"])["vehicle"][1]
    assert metrics == (0, 0, 0, 0, 0, 0, 1)


def test_random_boxes_add_up():
    random = np.random.default_rng(0)
    frames = []
    for _ in range(30):
        truths, found = random.integers(0, 8, 2)
        ious = random.random((truths, found)) * (random.random((truths, found)) < 0.5)
        levels = random.integers(0, 3, truths)
        ids = random.permutation(9)[:truths].tolist(), random.permutation(9)[:found].tolist()
        frames.append(WaymoFrame(ids[0], levels, ids[1], random.random(found).astype(np.float32), ious))
    for cutoff, total in zip(CUTOFFS, count_at_cutoffs(frames, 0.5), strict=True):
        kept = sum(int((row.scores >= np.float32(cutoff)).sum()) for row in frames)
        assert total.matches + total.false_positives == kept
        assert total.objects[1] == sum(len(row.truth_ids) for row in frames)
        assert (total.objects - total.misses == total.matches).all()


def test_numbers_of_frames_must_agree():
    with pytest.raises(DataError, match="video 0: ground truth of 1 frames but tracks of 0"):
        waymo_metrics([CameraVideo([[]], [])], ["vehicle"])
