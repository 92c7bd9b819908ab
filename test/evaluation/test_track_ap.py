"""Track AP by hand; test_trackeval.py has the comparison with TrackEval."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest

from qdtrack_ros.data.types import Annotation, DataError, LabelCoverage
from qdtrack_ros.evaluation.track_ap import LabelledVideo, track_average_precision

BOX, FAR = (0.0, 0.0, 50.0, 40.0), (500.0, 0.0, 550.0, 40.0)
LABELS = ["cat", "dog"]


class Tracks(NamedTuple):
    ids: np.ndarray
    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray


def tracks(*rows: tuple[int, tuple[float, ...], float], label: int = 0) -> Tracks:
    return Tracks(
        np.array([row[0] for row in rows], np.int64),
        np.array([row[1] for row in rows], np.float32).reshape(-1, 4),
        np.array([row[2] for row in rows], np.float32),
        np.full(len(rows), label, np.int64),
    )


def cat(identity: int | None, box: tuple[float, ...] = BOX) -> Annotation:
    return Annotation(box, "cat", identity)


def test_perfect_track_is_one_at_every_threshold_and_a_wrong_one_behind_it_costs_nothing():
    video = LabelledVideo([[cat(0)]] * 4, [tracks((0, BOX, 0.9), (7, FAR, 0.1))] * 4)
    found = track_average_precision([video], LABELS)
    assert (found.ap, found.ap50, found.ap75) == pytest.approx((1, 1, 1))
    assert list(found.classes) == ["cat"]
    # 2000 square pixels are medium, 4 boxes too; a track of 4 boxes is not short, and there is no other to be found.
    assert found.mean["AP_area_m"][0] == found.mean["AP_time_m"][0] == pytest.approx(1)
    assert found.mean["AP_area_l"][0] == found.mean["AP_time_s"][0] == -1


def test_overlap_is_of_whole_tracks():
    # The track covers three of four boxes: an overlap of 0.75, right up to that threshold, the sixth of ten.
    video = LabelledVideo([[cat(1)]] * 4, [tracks((1, BOX, 0.9))] * 3 + [tracks()])
    found = track_average_precision([video], LABELS).mean["AP_all"]
    assert (found[:6] == pytest.approx(1)) and (found[6:] == 0).all()


def test_identity_switch_halves_the_track():
    video = LabelledVideo([[cat(1)]] * 4, [tracks((1, BOX, 0.5))] * 2 + [tracks((2, BOX, 0.9))] * 2)
    found = track_average_precision([video], LABELS)
    assert found.ap50 == pytest.approx(1)  # one half is right, the other one is wrong but comes after it
    assert found.mean["AP_all"][1] == 0 and found.mean["AR_all"][0] == 1


def test_classes_that_nobody_looked_for_do_not_count():
    there = LabelledVideo([[cat(1)]], [tracks((1, BOX, 0.5))])
    elsewhere = [tracks((3, BOX, 0.9))]

    def ap50(coverage: LabelCoverage | None) -> float:
        return track_average_precision([there, LabelledVideo([[]], elsewhere, coverage)], LABELS).ap50

    assert ap50(LabelCoverage(frozenset(), frozenset())) == pytest.approx(1)
    assert ap50(LabelCoverage(frozenset({"cat"}), frozenset())) == pytest.approx(0.5)
    assert ap50(None) == pytest.approx(0.5)
    partial = LabelCoverage(frozenset({"cat"}), frozenset({"cat"}))
    assert ap50(partial) == pytest.approx(1)


def test_only_the_best_boxes_of_a_picture_are_looked_at():
    crowd = [(number, (60.0 * number, 500.0, 60.0 * number + 50.0, 540.0), 0.9) for number in range(1, 301)]
    few = LabelledVideo([[cat(1)]], [tracks(*crowd[1:], (999, BOX, 0.1))])
    many = LabelledVideo([[cat(1)]], [tracks(*crowd, (999, BOX, 0.1))])
    assert track_average_precision([few], LABELS).mean["AR_all"][0] == 1
    assert track_average_precision([many], LABELS).mean["AR_all"][0] == 0


def test_an_object_of_the_subset_goes_before_a_nearer_one_outside_it():
    small, medium = (0.0, 0.0, 30.0, 30.0), (0.0, 0.0, 33.0, 33.0)
    video = LabelledVideo([[cat(1, small), cat(2, medium)]], [tracks((1, small, 0.5))])
    found = track_average_precision([video], LABELS).mean
    assert (found["AR_area_s"][0], found["AR_area_m"][0], found["AR_all"][0]) == (1, 1, 0.5)
    # At 0.85 the medium one does not reach: the track is on the small one, and neither right nor wrong.
    assert (found["AR_area_s"][7], found["AR_area_m"][7]) == (1, 0)


def test_no_truth_gives_no_figure():
    assert track_average_precision([LabelledVideo([[]], [tracks((1, BOX, 0.5))])], LABELS).ap50 == -1


@pytest.mark.parametrize(
    ("video", "message"),
    [
        (LabelledVideo([[cat(1)]], []), "video 0: ground truth of 1 frames but tracks of 0"),
        (LabelledVideo([[cat(None)]], [tracks()]), "video 0, frame 0: ground truth has a box without identity"),
        (LabelledVideo([[]], [tracks((1, BOX, 0.5), (1, FAR, 0.5))]), "tracks has identity 1 more than once"),
    ],
)
def test_unusable_input_is_named(video: LabelledVideo, message: str):
    with pytest.raises(DataError, match=message):
        track_average_precision([video], LABELS)
