"""The timeline of a sequence: one row an identity of the ground truth, coloured by the track that covers it."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

from qdtrack_ros.evaluation.matching import History, Run
from qdtrack_ros.inference.drawing import track_color

MOST_ROWS = 60
WIDTH = 900.0  # of the bars, in the drawing's units
_DIGIT = 6.0  # width of a figure of a label
_TICKS = 10
_NARROWEST_GAP = 2.0  # that is marked; narrower than a quarter of it, it is not even drawn


class Bar(NamedTuple):
    """A stretch of frames on the page; ``track_id`` is None where the identity is there and nobody found it."""

    x: float
    width: float
    first: int
    last: int
    track_id: int | None
    color: str
    ink: str

    @property
    def has_label(self) -> bool:
        """Whether the id fits."""
        return self.track_id is not None and self.width >= _DIGIT * (len(str(self.track_id)) + 1)


class Row(NamedTuple):
    """One identity: bars; x and description of its switches; x of the ends of its fragmentations."""

    history: History
    bars: list[Bar]
    switches: list[tuple[float, str]]
    resumed: list[float]


class Timeline(NamedTuple):
    """What the page draws.

    Attributes:
        rows: by first frame.
        hidden: identities left out.
        ticks: x and frame number.
    """

    rows: list[Row]
    hidden: int
    ticks: list[tuple[float, int]]


def timeline(stories: Sequence[History], frame_count: int) -> Timeline:
    """Lay out the histories of a sequence; if there are too many, the ones with most trouble are shown."""
    troubled = sorted(stories, key=lambda one: (-len(one.switches), one.found - one.frames, -len(one.resumed)))
    shown = sorted(troubled[:MOST_ROWS], key=lambda one: (one.runs[0].first, one.truth_id))
    scale = WIDTH / max(frame_count, 1)
    return Timeline([_row(one, scale) for one in shown], len(stories) - len(shown), _ticks(frame_count, scale))


def _row(story: History, scale: float) -> Row:
    found = [run for run in story.runs if run.track_id is not None]
    bars = [*(_bar(run, scale) for run in _present(story.runs)), *(_bar(run, scale) for run in _joined(found, scale))]
    switches = [
        (one.frame * scale, f"frame {one.frame}: track {one.old_track} becomes {one.new_track}")
        for one in story.switches
    ]
    return Row(story, bars, switches, [frame * scale for frame in _after_visible_gaps(story, scale)])


def _after_visible_gaps(story: History, scale: float) -> list[int]:
    """Ends of fragmentations, without those of flicker that the eye cannot see at this scale."""
    found = [run for run in story.runs if run.track_id is not None]
    starts = {
        run.first
        for before, run in itertools.pairwise(found)
        if (run.first - before.last - 1) * scale >= _NARROWEST_GAP
    }
    return [frame for frame in story.resumed if frame in starts]


def _present(runs: Sequence[Run]) -> list[Run]:
    """Stretches in which the identity is there, found or not."""
    stretches: list[Run] = []
    for run in runs:
        if stretches and run.first == stretches[-1].last + 1:
            stretches[-1] = stretches[-1]._replace(last=run.last)
        else:
            stretches.append(Run(run.first, run.last, None))
    return stretches


def _joined(runs: Sequence[Run], scale: float) -> list[Run]:
    """Runs of one track with gaps too narrow to be seen become one: a long video stays a small page."""
    joined: list[Run] = []
    for run in runs:
        last = joined[-1] if joined else None
        if (
            last is not None
            and last.track_id == run.track_id
            and (run.first - last.last - 1) * scale < _NARROWEST_GAP / 4
        ):
            joined[-1] = last._replace(last=run.last)
        else:
            joined.append(run)
    return joined


def _bar(run: Run, scale: float) -> Bar:
    x, width = run.first * scale, (run.last - run.first + 1) * scale
    if run.track_id is None:
        return Bar(x, width, run.first, run.last, None, "", "")
    blue, green, red = track_color(run.track_id)
    ink = "#000" if 0.114 * blue + 0.587 * green + 0.299 * red > 110 else "#fff"
    return Bar(x, width, run.first, run.last, run.track_id, f"#{red:02x}{green:02x}{blue:02x}", ink)


def _ticks(frame_count: int, scale: float) -> list[tuple[float, int]]:
    step = next(
        size * 10**power for power in range(12) for size in (1, 2, 5) if frame_count <= size * 10**power * _TICKS
    )
    return [(frame * scale, frame) for frame in range(0, frame_count, step)]
