"""Matches of every frame against the counts of the metrics, and the histories made of them against hand-made cases."""

from __future__ import annotations

import numpy as np
import pytest

from qdtrack_ros.evaluation.matching import Run, Switch, count_frames, histories, match_frames
from qdtrack_ros.evaluation.metrics import evaluate_frames
from qdtrack_ros.evaluation.overlaps import PreparedFrame

pytest.importorskip("scipy")


def frame(truth: list[int], tracks: list[int], *overlaps: tuple[int, int, float]) -> PreparedFrame:
    similarity = np.zeros((len(truth), len(tracks)))
    for row, column, overlap in overlaps:
        similarity[row, column] = overlap
    return PreparedFrame(np.array(truth, np.int64), np.array(tracks, np.int64), similarity)


def random_frames(seed: int, count: int = 60) -> list[PreparedFrame]:
    rng = np.random.default_rng(seed)
    frames = []
    for _ in range(count):
        truth = np.flatnonzero(rng.random(6) < 0.7)
        tracks = np.flatnonzero(rng.random(9) < 0.5)
        overlaps = rng.random((len(truth), len(tracks))) ** 0.5
        frames.append(PreparedFrame(truth, tracks, np.where(overlaps > 0.3, overlaps, 0.0)))
    frames[7] = frame([], [3])
    frames[8] = frame([1, 2], [])
    return frames


@pytest.mark.parametrize("seed", range(8))
def test_counts_are_those_of_the_metrics(seed: int) -> None:
    frames = random_frames(seed)
    clear = evaluate_frames(frames).fields["CLEAR"]
    counts = count_frames(frames, match_frames(frames))
    assert counts.true_positives.sum() == clear["CLR_TP"]
    assert counts.false_positives.sum() == clear["CLR_FP"]
    assert counts.false_negatives.sum() == clear["CLR_FN"]
    assert counts.switches.sum() == clear["IDSW"]
    assert counts.fragmentations.sum() == clear["Frag"]
    assert counts.overlap.sum() == pytest.approx(clear["MOTP_sum"])


@pytest.mark.parametrize("seed", range(3))
def test_histories_add_up_to_the_counts(seed: int) -> None:
    frames = random_frames(seed)
    matches = match_frames(frames)
    counts, stories = count_frames(frames, matches), histories(frames, matches)
    assert sum(story.found for story in stories) == counts.true_positives.sum()
    assert sum(story.frames - story.found for story in stories) == counts.false_negatives.sum()
    assert sum(len(story.switches) for story in stories) == counts.switches.sum()
    assert sum(len(story.resumed) for story in stories) == counts.fragmentations.sum()


def test_a_history_by_hand() -> None:
    found = [frame([4], [0], (0, 0, 0.9)) for _ in range(2)]
    lost = frame([4], [0], (0, 0, 0.3))
    other = frame([4], [0, 7], (0, 1, 0.8))
    away = frame([5], [7])
    frames = [*found, lost, other, away, other]
    first, second = histories(frames, match_frames(frames))
    assert first.truth_id == 4 and second.truth_id == 5
    assert first.runs == (Run(0, 1, 0), Run(2, 2, None), Run(3, 3, 7), Run(5, 5, 7))
    assert first.switches == (Switch(3, 1, 0, 7),)
    assert first.resumed == (3, 5)
    assert (first.frames, first.found) == (5, 4)
    assert second.runs == (Run(4, 4, None),)


def test_an_empty_sequence_has_no_histories() -> None:
    assert histories([frame([], [])], match_frames([frame([], [])])) == []
