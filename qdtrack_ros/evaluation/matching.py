"""Which track covers which identity in every frame, as CLEAR matches them: counts, switches and fragmentations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from qdtrack_ros.evaluation.clear import clear_matches
from qdtrack_ros.evaluation.overlaps import Overlaps, PreparedFrame


class FrameMatch(NamedTuple):
    """Matches of one frame.

    Attributes:
        rows: int64 [K], rows of ``PreparedFrame.ious``: the identities found.
        columns: int64 [K], its columns: the tracks that found them.
        switched: bool [K], the identity was last found by another track.
        resumed: bool [K], the identity had been found before, but not in the frame before: a fragmentation ends.
    """

    rows: npt.NDArray[np.int64]
    columns: npt.NDArray[np.int64]
    switched: npt.NDArray[np.bool_]
    resumed: npt.NDArray[np.bool_]


def match_frames(frames: Sequence[PreparedFrame]) -> list[FrameMatch]:
    """Match every frame of a sequence; sums over the frames equal CLEAR's counts.

    As there, frames without truth or without tracks are passed over: what was found before them counts as found in the
    frame before.
    """
    overlaps = Overlaps.of(frames)
    pairs = np.flatnonzero(clear_matches(overlaps))
    borders = np.searchsorted(pairs, overlaps.pair_starts)
    last_track: dict[int, int] = {}  # of every identity, whenever that was
    before: set[int] = set()  # identities found in the frame before
    matches = []
    for index, frame in enumerate(frames):
        own = pairs[borders[index] : borders[index + 1]]
        rows = overlaps.truths[own] - overlaps.truth_starts[index]
        columns = overlaps.tracks[own] - overlaps.track_starts[index]
        found = dict(zip(frame.truth_ids[rows].tolist(), frame.track_ids[columns].tolist(), strict=True))
        switched = np.array([last_track.get(one, track) != track for one, track in found.items()], np.bool_)
        resumed = np.array([one in last_track and one not in before for one in found], np.bool_)
        matches.append(FrameMatch(rows, columns, switched, resumed))
        last_track.update(found)
        if frame.ious.size:
            before = set(found)
    return matches


class FrameCounts(NamedTuple):
    """CLEAR counts of every frame, [F] each.

    Attributes:
        true_positives, false_positives, false_negatives, switches, fragmentations: int64.
        overlap: float64, sum of the matches' IoUs.
    """

    true_positives: npt.NDArray[np.int64]
    false_positives: npt.NDArray[np.int64]
    false_negatives: npt.NDArray[np.int64]
    switches: npt.NDArray[np.int64]
    fragmentations: npt.NDArray[np.int64]
    overlap: npt.NDArray[np.float64]


def count_frames(frames: Sequence[PreparedFrame], matches: Sequence[FrameMatch]) -> FrameCounts:
    """CLEAR counts of every frame."""
    found = np.array([len(match.rows) for match in matches], np.int64)
    return FrameCounts(
        found,
        np.array([len(frame.track_ids) for frame in frames], np.int64) - found,
        np.array([len(frame.truth_ids) for frame in frames], np.int64) - found,
        np.array([match.switched.sum() for match in matches], np.int64),
        np.array([match.resumed.sum() for match in matches], np.int64),
        np.array(
            [frame.ious[match.rows, match.columns].sum() for frame, match in zip(frames, matches, strict=True)],
            np.float64,
        ),
    )


class Run(NamedTuple):
    """Consecutive frames in which one track covers an identity; ``track_id`` is None where none does."""

    first: int
    last: int
    track_id: int | None


class Switch(NamedTuple):
    """The identity is found by ``new_track`` in ``frame`` and was last found by ``old_track`` in ``last_seen``."""

    frame: int
    last_seen: int
    old_track: int
    new_track: int


class History(NamedTuple):
    """What happened to one identity of the ground truth.

    Attributes:
        truth_id: the identity.
        runs: by time; frames in which it is not in the ground truth lie between runs.
        switches: by time.
        resumed: frames at which a fragmentation ends.
    """

    truth_id: int
    runs: tuple[Run, ...]
    switches: tuple[Switch, ...]
    resumed: tuple[int, ...]

    @property
    def frames(self) -> int:
        """Frames in which the identity is there."""
        return sum(run.last - run.first + 1 for run in self.runs)

    @property
    def found(self) -> int:
        """Frames in which a track covers it."""
        return sum(run.last - run.first + 1 for run in self.runs if run.track_id is not None)


def histories(frames: Sequence[PreparedFrame], matches: Sequence[FrameMatch]) -> list[History]:
    """The identities of a sequence in the order in which they appear."""
    builders: dict[int, _Builder] = {}
    for index, (frame, match) in enumerate(zip(frames, matches, strict=True)):
        found = {
            int(frame.truth_ids[row]): (int(frame.track_ids[column]), bool(resumed))
            for row, column, resumed in zip(match.rows, match.columns, match.resumed, strict=True)
        }
        for truth_id in frame.truth_ids.tolist():
            track_id, resumed = found.get(truth_id, (None, False))
            builders.setdefault(truth_id, _Builder()).add(index, track_id, resumed)
    return [
        History(truth_id, tuple(one.runs), tuple(one.switches), tuple(one.resumed))
        for truth_id, one in builders.items()
    ]


class _Builder:
    def __init__(self) -> None:
        self.runs: list[Run] = []
        self.switches: list[Switch] = []
        self.resumed: list[int] = []
        self._seen: tuple[int, int] | None = None  # frame and track of the last match

    def add(self, frame: int, track_id: int | None, resumed: bool) -> None:
        if self.runs and self.runs[-1].last == frame - 1 and self.runs[-1].track_id == track_id:
            self.runs[-1] = self.runs[-1]._replace(last=frame)
        else:
            self.runs.append(Run(frame, frame, track_id))
        if resumed:
            self.resumed.append(frame)
        if track_id is not None:
            if self._seen is not None and self._seen[1] != track_id:
                self.switches.append(Switch(frame, *self._seen, track_id))
            self._seen = (frame, track_id)
