"""Which boxes of a sequence overlap: the one table that HOTA, CLEAR and Identity are computed from.

The table is sparse: of 50 people on 2000 frames of full HD, 140,000 pairs of boxes overlap out of 4 million, and of
most it is plain whether they belong to the best matching (``best_pairs``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


class PreparedFrame(NamedTuple):
    """What counts in one frame: ids of truth and tracks, each once, and their IoU float64 [truth, tracks]."""

    truth_ids: Ints
    track_ids: Ints
    ious: Floats


class Overlaps(NamedTuple):
    """Boxes of F frames, numbered through all of them in order: T of the truth, D of the tracks, P overlapping pairs.

    Attributes:
        truth_ids, track_ids: identity of each box, made 0 .. G - 1 and 0 .. R - 1; int64 [T], [D].
        truths, tracks: the boxes of each pair, ordered by frame; int64 [P].
        ious: of each pair, more than 0; float64 [P].
        truth_starts, track_starts, pair_starts: first box or pair of each frame, and the end; int64 [F + 1].
    """

    truth_ids: Ints
    track_ids: Ints
    truths: Ints
    tracks: Ints
    ious: Floats
    truth_starts: Ints
    track_starts: Ints
    pair_starts: Ints

    @classmethod
    def of(cls, frames: Sequence[PreparedFrame]) -> Overlaps:
        """Gather the frames of a sequence."""
        truth_starts = _starts([len(frame.truth_ids) for frame in frames])
        track_starts = _starts([len(frame.track_ids) for frame in frames])
        pairs = [np.flatnonzero(frame.ious > 0) for frame in frames]
        pair_starts = _starts([len(places) for places in pairs])
        ious = [frame.ious.reshape(-1)[places] for frame, places in zip(frames, pairs, strict=True)]
        frame_of = np.repeat(np.arange(len(frames)), np.diff(pair_starts))
        rows, columns = np.divmod(np.concatenate([np.zeros(0, np.int64), *pairs]), np.diff(track_starts)[frame_of])
        return cls(
            _renumbered([frame.truth_ids for frame in frames]),
            _renumbered([frame.track_ids for frame in frames]),
            rows + truth_starts[frame_of],
            columns + track_starts[frame_of],
            np.concatenate([np.zeros(0), *ious]),
            truth_starts,
            track_starts,
            pair_starts,
        )

    @property
    def truth_lengths(self) -> Ints:
        """Boxes of each true identity, int64 [G]."""
        return np.bincount(self.truth_ids).astype(np.int64)

    @property
    def track_lengths(self) -> Ints:
        """Boxes of each track, int64 [R]."""
        return np.bincount(self.track_ids).astype(np.int64)

    def where(self, kept: Mask) -> Overlaps:
        """The same boxes with some of their pairs only."""
        starts = np.concatenate([[0], np.cumsum(kept)])[self.pair_starts]
        pairs = (self.truths[kept], self.tracks[kept], self.ious[kept])
        return self._replace(truths=pairs[0], tracks=pairs[1], ious=pairs[2], pair_starts=starts)

    def by_frame(self, pairs: Ints) -> Iterator[tuple[int, list[int]]]:
        """Some pairs, given in order, frame by frame; frames without any are passed over."""
        frames, firsts = np.unique(np.searchsorted(self.pair_starts, pairs, side="right") - 1, return_index=True)
        for frame, own in zip(frames.tolist(), np.split(pairs, firsts)[1:], strict=True):
            yield frame, own.tolist()

    def matched(self, frame: int, scores: Floats) -> Ints:
        """Pairs of a frame, one to one, with the largest sum of ``scores`` [pairs of the frame], all above 0."""
        own = slice(self.pair_starts[frame], self.pair_starts[frame + 1])
        shape = (
            self.truth_starts[frame + 1] - self.truth_starts[frame],
            self.track_starts[frame + 1] - self.track_starts[frame],
        )
        rows, columns = self.truths[own] - self.truth_starts[frame], self.tracks[own] - self.track_starts[frame]
        gain, pair = np.zeros(shape), np.full(shape, -1)
        gain[rows, columns] = scores
        pair[rows, columns] = np.arange(own.start, own.stop)
        best = pair[linear_sum_assignment(gain, maximize=True)]
        return best[best >= 0]


def best_pairs(overlaps: Overlaps, scores: Floats) -> Mask:
    """In every frame the one-to-one matching with the largest sum of ``scores`` [P], which are above 0: a mask [P].

    A pair that scores more than the next best of its two boxes together is in that matching; what its boxes have left
    is out, which makes further pairs clear. The Hungarian method is left with the few frames where that ends early.
    """
    chosen = np.zeros(len(scores), np.bool_)
    truth_count, track_count = len(overlaps.truth_ids), len(overlaps.track_ids)
    left: Ints = np.arange(len(scores))
    truths, tracks, gains = overlaps.truths, overlaps.tracks, scores
    while len(left) > 0:
        best = _best(truths, gains, truth_count), _best(tracks, gains, track_count)
        tops = np.flatnonzero((gains == best[0][truths]) & (gains == best[1][tracks]))
        others = gains.copy()
        others[tops] = 0.0
        top_truths, top_tracks = truths[tops], tracks[tops]
        rivals = _best(truths, others, truth_count)[top_truths] + _best(tracks, others, track_count)[top_tracks]
        clear = (gains[tops] > rivals) & _alone(top_truths, truth_count) & _alone(top_tracks, track_count)
        if not clear.any():
            break
        chosen[left[tops[clear]]] = True
        free = _without(top_truths[clear], truth_count)[truths] & _without(top_tracks[clear], track_count)[tracks]
        left, truths, tracks, gains = left[free], truths[free], tracks[free], gains[free]
    for frame, _ in overlaps.by_frame(left):
        own = slice(overlaps.pair_starts[frame], overlaps.pair_starts[frame + 1])
        chosen[own] = False
        chosen[overlaps.matched(frame, scores[own])] = True
    return chosen


def _best(boxes: Ints, gains: Floats, count: int) -> Floats:
    """The best gain of each of ``count`` boxes; 0 of those in no pair."""
    best = np.zeros(count)
    np.maximum.at(best, boxes, gains)
    return best


def _alone(boxes: Ints, count: int) -> Mask:
    """Which of some boxes are not named twice."""
    alone: Mask = np.bincount(boxes, minlength=count)[boxes] == 1
    return alone


def _without(boxes: Ints, count: int) -> Mask:
    others = np.ones(count, np.bool_)
    others[boxes] = False
    return others


def _starts(counts: Sequence[int]) -> Ints:
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)


def _renumbered(ids: Sequence[Ints]) -> Ints:
    gathered = np.concatenate([np.zeros(0, np.int64), *ids])
    return np.searchsorted(np.unique(gathered), gathered)
