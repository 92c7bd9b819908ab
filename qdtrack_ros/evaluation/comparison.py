"""Two trackers on the same ground truth: which differences would be there on another day, and which are noise.

Both trackers are resampled together (paired bootstrap), and the metrics are computed anew on each resample, HOTA's and
Identity's global matchings included.

- Over sequences: sequences are drawn with replacement, each with all its classes. This is what benchmarks of many
  sequences allow, and it says something about other sequences of the kind.
- Within a sequence: blocks of consecutive frames and, independently of them, people (identities of the ground truth)
  are drawn with replacement, and a box counts as often as its frame times its person. Blocks alone would not do for
  metrics of identity: a switch of ids splits a life in two wherever one looks, so that resampled frames agree on it,
  however chance its cause. Drawing both is Owen's pigeonhole bootstrap (Annals of Applied Statistics 1, 2007), which is
  on the safe side for crossed causes. The classes of a sequence share its pictures, so that they share its blocks, too.

Intervals are percentiles, widened for few units as Student's t asks (Hesterberg, The American Statistician 69, 2015).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.stats import norm
from scipy.stats import t as student

from qdtrack_ros.data.types import DataError
from qdtrack_ros.evaluation.results import RecordedSequence
from qdtrack_ros.evaluation.tally import Figures, Floats, Sums, Tally, add, figures, scaled

FEWEST_UNITS = 5  # sequences, blocks or people: fewer tell nothing about chance
FEWEST_SEQUENCES = 6  # that are drawn: with fewer, all could point one way by chance more often than 1 in 20 times
_BLOCKS, _SHORTEST_BLOCK, _LONGEST_BLOCK = 20, 10, 100


@dataclass(frozen=True)
class ResamplingConfig:
    """How noise is estimated.

    Attributes:
        resamples: int >= 1. More give steadier intervals and take longer.
        confidence: float in (0, 1), of the intervals. Raising it calls fewer differences real.
        block_frames: int >= 0, frames drawn together; 0 takes a twentieth of the sequence, 10 to 100 frames. Errors
            of tracking last: blocks should be longer than they do.
        seed: of the draws; the same seed gives the same figures.
    """

    resamples: int = 1000
    confidence: float = 0.95
    block_frames: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.resamples < 1 or self.block_frames < 0 or not 0.0 < self.confidence < 1.0:
            raise ValueError(f"expected resamples >= 1, block_frames >= 0 and confidence between 0 and 1, got {self}")


class Difference(NamedTuple):
    """One metric of the two trackers.

    Attributes:
        first, second: its values.
        low, high: interval of second - first; NaN where there are too few units to tell.
    """

    first: float
    second: float
    low: float
    high: float

    @property
    def change(self) -> float:
        """Second less first."""
        return self.second - self.first

    @property
    def is_known(self) -> bool:
        """Whether there were enough units to tell."""
        return not np.isnan(self.low)

    @property
    def is_beyond_noise(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.is_known and (self.low > 0 or self.high < 0)


class Comparison(NamedTuple):
    """One sequence, or all together.

    Attributes:
        name: of the sequence, or of one of its classes.
        differences: one for each field of ``Figures``.
        units: what was drawn, for the reader.
    """

    name: str
    differences: tuple[Difference, ...]
    units: str


class _Pair(NamedTuple):
    """A sequence, or one of its classes, as each of the trackers did it."""

    name: str
    first: Tally
    second: Tally


def check_same_truth(first: Sequence[RecordedSequence], second: Sequence[RecordedSequence]) -> None:
    """Raise DataError unless both hold the same sequences with the same ground truth."""
    names = [{one.name for one in sequences} for sequences in (first, second)]
    if names[0] != names[1]:
        only = [", ".join(sorted(own - other)) or "none" for own, other in (names, names[::-1])]
        raise DataError(
            f"different sequences: only in the first {only[0]}; only in the second {only[1]}; "
            "compare evaluations of the same ones"
        )
    others = {one.name: one for one in second}
    for one in first:
        other = others[one.name]
        if len(one.frames) != len(other.frames):
            raise DataError(
                f"{one.name}: {len(one.frames)} frames in the first, {len(other.frames)} in the second; "
                "evaluate as many with both"
            )
        if one.truth != other.truth:
            raise DataError(
                f"{one.name}: ground truth {one.truth} in the first, {other.truth} in the second (boxes, classes or "
                "rules differ); evaluate both against the same"
            )


def compare(
    first: Sequence[RecordedSequence],
    second: Sequence[RecordedSequence],
    config: ResamplingConfig,
    progress: Callable[[Iterable[int]], Iterable[int]] = iter,
) -> list[Comparison]:
    """Compare two trackers, sequence by sequence and class by class; several are followed by all of them together.

    Args:
        first: sequences of one tracker.
        second: those of the other, in any order.
        config: how noise is estimated.
        progress: wraps the numbers of the draws, to show how far they are.

    Raises:
        DataError: the sequences or their ground truth are not the same.
    """
    check_same_truth(first, second)
    videos = _videos(first, second)
    pairs = [pair for video in videos for pair in video]
    whole = [(pair.first.sums(), pair.second.sums()) for pair in pairs]
    rng = np.random.default_rng(config.seed)
    within = [
        [sums for video in videos for sums in _draw_within(video, config, rng)]
        for _ in progress(range(config.resamples))
    ]
    comparisons = [
        _comparison(
            pair.name, [whole[place]], [draw[place : place + 1] for draw in within], _units([pair], config), config
        )
        for place, pair in enumerate(pairs)
    ]
    if len(pairs) > 1:
        comparisons.append(_together(videos, whole, within, config, rng))
    return comparisons


_Video = Sequence[_Pair]  # the classes of one sequence
_Draw = Sequence[tuple[Sums, Sums]]  # of some of them, by each tracker


def _videos(first: Sequence[RecordedSequence], second: Sequence[RecordedSequence]) -> list[_Video]:
    """The classes of each sequence.

    Raises:
        DataError: classes of one sequence have different numbers of frames.
    """
    others = {one.name: one for one in second}
    videos: dict[str, list[_Pair]] = {}
    for one in first:
        pairs = videos.setdefault(one.video, [])
        pairs.append(_Pair(one.name, Tally(one.frames), Tally(others[one.name].frames)))
        if pairs[-1].first.frame_count != pairs[0].first.frame_count:
            raise DataError(
                f"{one.name} has {len(one.frames)} frames, {pairs[0].name} of the same video "
                f"{pairs[0].first.frame_count}; evaluate it again"
            )
    return list(videos.values())


def _draw_within(video: _Video, config: ResamplingConfig, rng: np.random.Generator) -> Iterator[tuple[Sums, Sums]]:
    """Blocks of frames and people of one sequence, the same for both trackers; the blocks also for all classes."""
    frame_weights = draw_blocks(video[0].first.frame_count, config, rng)
    for pair in video:
        person_weights = draw_people(pair.first.person_count, rng)
        yield pair.first.sums(frame_weights, person_weights), pair.second.sums(frame_weights, person_weights)


def draw_blocks(frames: int, config: ResamplingConfig, rng: np.random.Generator) -> Floats:
    """How often each frame is drawn, float64 [frames]; blocks may begin anywhere, and go on at the first frame."""
    length = block_frames(frames, config)
    starts = rng.integers(0, max(frames, 1), -(-frames // length))
    drawn = (starts[:, None] + np.arange(length)).ravel()[:frames] % max(frames, 1)
    return np.bincount(drawn, minlength=frames).astype(np.float64)


def draw_people(people: int, rng: np.random.Generator) -> Floats:
    """How often each person is drawn, float64 [people]."""
    return np.bincount(rng.integers(0, max(people, 1), people), minlength=people).astype(np.float64)


def _together(
    videos: Sequence[_Video],
    whole: _Draw,
    within: Sequence[_Draw],
    config: ResamplingConfig,
    rng: np.random.Generator,
) -> Comparison:
    """All sequences: they are drawn if there are enough of them, else the draws within each are put together."""
    count = len(videos)
    if count == 1:
        return _comparison("combined", whole, within, _units(videos[0], config), config)
    if count < FEWEST_SEQUENCES:
        units = sum(_units(video, config)[0] for video in videos)
        text = f"blocks and people of each of the {count} sequences: nothing is said about other sequences"
        return _comparison("combined", whole, within, (units, text), config)
    video_of = np.repeat(np.arange(count), [len(video) for video in videos])
    draws = []
    for _ in range(config.resamples):
        weights = np.bincount(rng.integers(0, count, count), minlength=count)[video_of]
        draws.append(
            [
                (scaled(one, weight), scaled(two, weight))
                for (one, two), weight in zip(whole, weights.tolist(), strict=True)
                if weight
            ]
        )
    return _comparison("combined", whole, draws, (count, f"{count} sequences"), config)


def _comparison(
    name: str, whole: _Draw, draws: Sequence[_Draw], units: tuple[int, str], config: ResamplingConfig
) -> Comparison:
    count, text = units
    first, second = _figures(whole)
    changes = np.array([np.subtract(*_figures(draw)[::-1]) for draw in draws])
    low, high = interval(changes, count, config.confidence)
    differences = tuple(Difference(*values) for values in zip(first, second, low.tolist(), high.tolist(), strict=True))
    return Comparison(name, differences, text)


def _figures(draw: _Draw) -> tuple[Figures, Figures]:
    return figures(add([one for one, _ in draw])), figures(add([two for _, two in draw]))


def interval(changes: Floats, units: int, confidence: float) -> tuple[Floats, Floats]:
    """Percentiles of the changes [resamples, metrics], widened for few units."""
    if units < FEWEST_UNITS:
        unknown = np.full(changes.shape[1], np.nan)
        return unknown, unknown
    widening = np.sqrt(units / (units - 1)) * student.ppf((1 + confidence) / 2, units - 1)
    tail = float(norm.cdf(-widening))
    low, high = np.quantile(changes, [tail, 1 - tail], axis=0)
    return low, high


def block_frames(frames: int, config: ResamplingConfig) -> int:
    """Frames drawn together in a sequence of so many."""
    length = config.block_frames or min(max(frames // _BLOCKS, _SHORTEST_BLOCK), _LONGEST_BLOCK)
    return min(length, max(frames, 1))


def _units(video: _Video, config: ResamplingConfig) -> tuple[int, str]:
    """How many independent units there are, and what they are: the scarcer of blocks and people tells."""
    frames, people = video[0].first.frame_count, sum(pair.first.person_count for pair in video)
    length = block_frames(frames, config)
    classes = f" of {len(video)} classes" if len(video) > 1 else ""
    return min(frames // length, people), f"blocks of {length} of {frames} frames, and {people} people{classes}"
