"""Comparisons of trackers whose quality is known: equal ones, luckier ones, better ones."""

from __future__ import annotations

import numpy as np
import pytest
from tracked_scenes import walk

from qdtrack_ros.data.types import DataError
from qdtrack_ros.evaluation.comparison import Comparison, ResamplingConfig, compare
from qdtrack_ros.evaluation.overlaps import PreparedFrame
from qdtrack_ros.evaluation.results import RecordedSequence
from qdtrack_ros.evaluation.tally import Figures

FEW = ResamplingConfig(resamples=200)


def recorded(name: str, frames: list[PreparedFrame], truth: str = "same", video: str = "") -> RecordedSequence:
    return RecordedSequence(name, video or name, truth, frames)


def walks(count: int, seed: int, switching: float = 0.02, missing: float = 0.1, frames: int = 120) -> list:
    rng = np.random.default_rng(seed)
    return [recorded(f"walk {number}", walk(rng, frames, 12, switching, missing)) for number in range(count)]


def real(comparison: Comparison) -> list[str]:
    pairs = zip(Figures._fields, comparison.differences, strict=True)
    return [name for name, difference in pairs if difference.is_beyond_noise]


@pytest.mark.parametrize("count", [1, 2, 8])
def test_a_tracker_does_not_differ_from_itself(count: int) -> None:
    sequences = walks(count, 0)
    for comparison in compare(sequences, sequences, FEW):
        assert real(comparison) == []
        assert all(one.low == one.high == one.change == 0 for one in comparison.differences)


@pytest.mark.parametrize("count", [1, 2, 8])
def test_another_draw_of_the_same_tracker_is_noise(count: int) -> None:
    whole = compare(walks(count, 1), walks(count, 2), FEW)[-1]
    assert any(one.change != 0 for one in whole.differences)
    assert real(whole) == []


@pytest.mark.parametrize("count", [1, 2, 8])
def test_a_clearly_better_tracker_is_seen(count: int) -> None:
    worse, better = walks(count, 3, missing=0.3, switching=0.05), walks(count, 4, missing=0.02, switching=0.002)
    whole = compare(worse, better, FEW)[-1]
    assert {"hota", "deta", "assa", "mota", "idf1", "switches"} == set(real(whole))
    assert all(one.change > 0 for one in whole.differences[:5]) and whole.differences[5].change < 0
    back = compare(better, worse, FEW)[-1]
    assert set(real(back)) == set(real(whole)) and back.differences[0].change == pytest.approx(
        -whole.differences[0].change
    )


def test_one_switch_of_one_person_each_is_chance_wherever_it_lies() -> None:
    # The first loses an id halfway, the second another one near the start: blocks of frames alone would all agree that
    # the second is better.
    frames, people = 600, 12
    truth = np.arange(people)

    def switched(person: int, when: int) -> list[PreparedFrame]:
        ids = np.where(truth == person, 99, truth)
        return [PreparedFrame(truth, ids if index >= when else truth, 0.8 * np.eye(people)) for index in range(frames)]

    (whole,) = compare([recorded("one", switched(0, 300))], [recorded("one", switched(1, 30))], FEW)
    assert whole.differences[4].change > 0.01
    assert real(whole) == []


def test_switches_alone_leave_detection_alone() -> None:
    frames, people = 200, 12
    truth = np.arange(people)
    steady = [PreparedFrame(truth, truth, 0.8 * np.eye(people))] * frames
    restless = [PreparedFrame(truth, truth + people * (index // 8), 0.8 * np.eye(people)) for index in range(frames)]
    (whole,) = compare([recorded("one", steady)], [recorded("one", restless)], FEW)
    assert set(real(whole)) == {"hota", "assa", "mota", "idf1", "switches"}
    assert whole.differences[1].change == 0


def test_several_sequences_are_followed_by_all_together() -> None:
    few, many = compare(walks(3, 0), walks(3, 1), FEW), compare(walks(6, 0), walks(6, 1), FEW)
    assert [one.name for one in few] == ["walk 0", "walk 1", "walk 2", "combined"]
    assert few[-1].units.startswith("blocks and people of each") and many[-1].units == "6 sequences"


def test_the_same_seed_gives_the_same_intervals() -> None:
    first, second = walks(1, 1), walks(1, 2)
    assert compare(first, second, FEW) == compare(first, second, FEW)


@pytest.mark.parametrize(("frames", "people"), [(30, 12), (120, 3)])
def test_too_little_data_gives_no_verdict(frames: int, people: int) -> None:
    rng = np.random.default_rng(0)
    first, second = ([recorded("short", walk(rng, frames, people, 0.0, missing))] for missing in (0.9, 0.0))
    (whole,) = compare(first, second, FEW)
    assert real(whole) == [] and not any(one.is_known for one in whole.differences)


def test_sequences_without_people_or_without_frames_do_no_harm() -> None:
    none = np.zeros(0, np.int64)
    empty = PreparedFrame(none, none, np.zeros((0, 0)))
    for frames in ([], [empty] * 100):
        (whole,) = compare([recorded("empty", frames)], [recorded("empty", frames)], FEW)
        assert real(whole) == []


def test_other_sequences_and_other_truth_are_refused() -> None:
    one, two = walks(2, 0)
    with pytest.raises(DataError, match="only in the first walk 1; only in the second none"):
        compare([one, two], [one], FEW)
    with pytest.raises(DataError, match="walk 0: ground truth same in the first, other in the second"):
        compare([one], [one._replace(truth="other")], FEW)
    with pytest.raises(DataError, match="walk 0: 120 frames in the first, 100 in the second"):
        compare([one], [one._replace(frames=one.frames[:100])], FEW)


def blinking(people: int, share: float, seed: int) -> list[PreparedFrame]:
    """A tracker that sees everybody, or for ten frames together nobody."""
    truth, nobody = np.arange(people), np.zeros(0, np.int64)
    blind = np.repeat(np.random.default_rng(seed).random(20) < share, 10)
    seen, unseen = (
        PreparedFrame(truth, truth, 0.8 * np.eye(people)),
        PreparedFrame(truth, nobody, np.zeros((people, 0))),
    )
    return [unseen if one else seen for one in blind]


def width(comparison: Comparison) -> float:
    detection = comparison.differences[1]
    return detection.high - detection.low


@pytest.mark.parametrize("count", [1, 6])
def test_classes_of_one_video_share_its_chance(count: int) -> None:
    # Four classes that go blind in the same pictures tell no more of the tracker than one of them.
    def classes(share: float, videos: bool, number: int) -> list[RecordedSequence]:
        return [
            recorded(f"{video}, {label}", blinking(24, share, 10 * video + int(share > 0.2)), "same", one)
            for video in range(count)
            for label in range(number)
            for one in [str(video) if videos else ""]
        ]

    alone, apart, shared = (
        compare(classes(0.1, *kind), classes(0.3, *kind), ResamplingConfig(resamples=100))[-1]
        for kind in ((True, 1), (False, 4), (True, 4))
    )
    assert width(shared) == pytest.approx(width(alone), rel=0.25)
    assert width(apart) < 0.7 * width(alone)
    if count == 1:
        assert shared.units == "blocks of 10 of 200 frames, and 96 people of 4 classes"
    else:
        assert shared.units == "6 sequences"


def test_classes_of_a_video_have_its_frames() -> None:
    rows = [
        recorded("a, car", walks(1, 0)[0].frames, video="a"),
        recorded("a, bus", walks(1, 0)[0].frames[:-1], video="a"),
    ]
    with pytest.raises(DataError, match="a, bus has 119 frames, a, car of the same video 120"):
        compare(rows, rows, FEW)
