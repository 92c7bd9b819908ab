"""Sums under weights: the metrics for weights of one, and those of sequences that were really repeated or cut."""

from __future__ import annotations

import numpy as np
import pytest

from qdtrack_ros.evaluation.metrics import combine, evaluate_frames
from qdtrack_ros.evaluation.overlaps import PreparedFrame
from qdtrack_ros.evaluation.tally import Figures, Tally, add, figures, scaled

pytest.importorskip("scipy")


def random_frames(seed: int, count: int = 50) -> list[PreparedFrame]:
    """Crowded frames: most boxes overlap several others."""
    rng = np.random.default_rng(seed)
    frames = []
    for _ in range(count):
        truth = np.flatnonzero(rng.random(7) < 0.7)
        tracks = np.flatnonzero(rng.random(10) < 0.5)
        overlaps = rng.random((len(truth), len(tracks)))
        frames.append(PreparedFrame(truth, tracks, np.where(overlaps > 0.5, overlaps, 0.0)))
    return frames


def by_the_metrics(frames: list[PreparedFrame]) -> Figures:
    m = combine([evaluate_frames(frames)]).metrics  # for a sequence without truth it says more than the sequence alone
    return Figures(m.hota, m.deta, m.assa, m.mota, m.idf1, m.id_switches)


@pytest.mark.parametrize("seed", range(6))
def test_weights_of_one_give_the_figures_of_the_metrics(seed: int) -> None:
    frames = random_frames(seed)
    assert figures(Tally(frames).sums()) == pytest.approx(by_the_metrics(frames))


def test_a_frame_that_counts_twice_is_a_frame_that_is_there_twice() -> None:
    frames = random_frames(1)
    weights = np.ones(50)
    weights[20] = 2
    once = figures(Tally(frames).sums(weights))
    twice = by_the_metrics([*frames[:21], frames[20], *frames[21:]])
    assert (once.hota, once.deta, once.assa, once.idf1) == pytest.approx(
        (twice.hota, twice.deta, twice.assa, twice.idf1)
    )


def test_frames_without_weight_are_as_if_they_were_not_there() -> None:
    frames = random_frames(2)
    weights = np.repeat([1.0, 0.0], 25)
    assert figures(Tally(frames).sums(weights)) == pytest.approx(by_the_metrics(frames[:25]))


def test_people_without_weight_are_as_if_they_and_what_found_them_were_not_there() -> None:
    # Person 0 has track 5 and person 1 has track 6 for ten frames; person 1 is found in half of them.
    truth, both = np.array([0, 1]), np.array([5, 6])
    apart = np.diag([0.8, 0.9])
    frames = [
        PreparedFrame(truth, both, apart) if index % 2 else PreparedFrame(truth, both[:1], apart[:, :1])
        for index in range(10)
    ]
    only_first = figures(Tally(frames).sums(person_weights=np.array([1.0, 0.0])))
    assert (only_first.mota, only_first.idf1, only_first.switches) == (1.0, 1.0, 0.0)
    only_second = figures(Tally(frames).sums(person_weights=np.array([0.0, 1.0])))
    assert only_second.mota == pytest.approx(0.5) and only_second.idf1 == pytest.approx(2 / 3)


def test_sums_of_sequences_add_up_as_benchmarks_combine_them() -> None:
    first, second = random_frames(3), random_frames(4)
    m = combine([evaluate_frames(first), evaluate_frames(second), evaluate_frames(second)]).metrics
    together = add([Tally(first).sums(), scaled(Tally(second).sums(), 2.0)])
    assert figures(together) == pytest.approx((m.hota, m.deta, m.assa, m.mota, m.idf1, m.id_switches))


@pytest.mark.parametrize("side", ["truth", "tracks", "both"])
def test_nothing_to_find_and_nothing_found(side: str) -> None:
    none = np.zeros(0, np.int64)
    truth = none if side in ("truth", "both") else np.array([0])
    tracks = none if side in ("tracks", "both") else np.array([3])
    frames = [PreparedFrame(truth, tracks, np.zeros((len(truth), len(tracks))))] * 3
    assert figures(Tally(frames).sums()) == pytest.approx(by_the_metrics(frames))
