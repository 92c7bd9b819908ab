"""The moments of an evaluation that a person should see: where identities changed, were missed or were made up."""

from __future__ import annotations

import bisect
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from qdtrack_ros.evaluation.matching import FrameMatch, History
from qdtrack_ros.evaluation.overlaps import PreparedFrame

SHORTEST_FAULT = 5  # frames that an identity must be missed, or a false track live, to be shown


class Moment(NamedTuple):
    """Something that went wrong.

    Attributes:
        kind: "switch", "missed" or "false track".
        frames: those to show, in order.
        truth_id: the identity concerned; None for a false track.
        tracks: the tracks concerned.
        weight: frames of harm, by which moments are ranked.
    """

    kind: str
    frames: tuple[int, ...]
    truth_id: int | None
    tracks: tuple[int, ...]
    weight: int


def switch_moments(stories: Sequence[History]) -> list[Moment]:
    """Every switch; it weighs as much as the shorter of the stretches that the two tracks cover around it.

    So a flicker weighs little, and a switch in the middle of a long life much.
    """
    return [
        Moment("switch", (switch.last_seen, switch.frame), story.truth_id, (switch.old_track, switch.new_track), weight)
        for story in stories
        for switch, weight in zip(story.switches, _weights(story), strict=True)
    ]


def _weights(story: History) -> list[int]:
    borders = [switch.frame for switch in story.switches]
    stretches = [0] * (len(borders) + 1)
    for run in story.runs:
        if run.track_id is not None:
            stretches[bisect.bisect_right(borders, run.first)] += run.last - run.first + 1
    return [min(before, after) for before, after in zip(stretches, stretches[1:], strict=False)]


def missed_moments(stories: Sequence[History]) -> list[Moment]:
    """The longest stretch that each identity was missed, shown at its middle."""
    moments = []
    for story in stories:
        missed = [run for run in story.runs if run.track_id is None]
        run = max(missed, key=lambda one: one.last - one.first, default=None)
        if run is not None and run.last - run.first + 1 >= SHORTEST_FAULT:
            moments.append(
                Moment("missed", ((run.first + run.last) // 2,), story.truth_id, (), run.last - run.first + 1)
            )
    return moments


def false_track_moments(frames: Sequence[PreparedFrame], matches: Sequence[FrameMatch]) -> list[Moment]:
    """Tracks by the number of frames in which they cover nobody, each shown at the middle one of these."""
    idle: defaultdict[int, list[int]] = defaultdict(list)
    for index, (frame, match) in enumerate(zip(frames, matches, strict=True)):
        taken = set(match.columns.tolist())
        for column, track_id in enumerate(frame.track_ids.tolist()):
            if column not in taken:
                idle[track_id].append(index)
    return [
        Moment("false track", (indices[len(indices) // 2],), None, (track_id,), len(indices))
        for track_id, indices in idle.items()
        if len(indices) >= SHORTEST_FAULT
    ]


def worst(moments: Sequence[tuple[int, Moment]], limit: int) -> list[tuple[int, Moment]]:
    """At most ``limit`` moments, heaviest first; each comes with the place of its sequence, which is passed on."""
    return sorted(moments, key=lambda pair: (-pair[1].weight, pair[0], pair[1].frames))[:limit]
