"""Metrics of a sequence under weights: how they would come out if some frames and people came more often than others.

This is what resampling needs, thousands of times a comparison. With weights of one they are those of ``metrics``.

Letters: F frames, G people (identities of the ground truth), K pairs of a person and a track that ever overlap.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment

from qdtrack_ros.evaluation.clear import clear_matches
from qdtrack_ros.evaluation.hota import ALPHAS
from qdtrack_ros.evaluation.metrics import MATCH_IOU
from qdtrack_ros.evaluation.overlaps import Floats, Ints, Mask, Overlaps, PreparedFrame, best_pairs

_EPSILON = np.finfo(np.float64).eps
_NOBODY = -1


class Sums(NamedTuple):
    """What adds up over sequences, float64: the metrics are quotients of these.

    Attributes:
        truth_boxes, track_boxes: what there is.
        matches, switches: of CLEAR.
        identity_matches: IDTP.
        hota_matches: [19], HOTA's true positives by alpha.
        shared: [19], sum of their association scores.
    """

    truth_boxes: float
    track_boxes: float
    matches: float
    switches: float
    identity_matches: float
    hota_matches: Floats
    shared: Floats


class Figures(NamedTuple):
    """Metrics that are compared; rates are fractions, HOTA ones means over alpha; ``switches`` is a count."""

    hota: float
    deta: float
    assa: float
    mota: float
    idf1: float
    switches: float


def add(sums: Sequence[Sums]) -> Sums:
    """The sums of several sequences together."""
    return Sums(*(sum(values) for values in zip(*sums, strict=True)))  # type: ignore[arg-type]


def scaled(sums: Sums, weight: float) -> Sums:
    """The sums of a sequence that counts ``weight`` times."""
    return Sums(*(weight * value for value in sums))  # type: ignore[arg-type]


def figures(sums: Sums) -> Figures:
    """The metrics, with the conventions of ``metrics`` for nothing to find and nothing found."""
    false_positives = sums.track_boxes - sums.matches
    detection = sums.hota_matches / np.maximum(1.0, sums.truth_boxes + sums.track_boxes - sums.hota_matches)
    association = sums.shared / np.maximum(1.0, sums.hota_matches)
    return Figures(
        float(np.sqrt(detection * association).mean()),
        float(detection.mean()),
        float(association.mean()),
        (sums.matches - false_positives - sums.switches) / max(1.0, sums.truth_boxes),
        2.0 * sums.identity_matches / max(1.0, sums.truth_boxes + sums.track_boxes),
        sums.switches,
    )


class Tally:
    """A sequence, made ready to be summed under many weights.

    Args:
        frames: what was compared.

    Attributes:
        frame_count, person_count: F and G; people are numbered by rising id.
    """

    def __init__(self, frames: Sequence[PreparedFrame]) -> None:
        self._overlaps = overlaps = Overlaps.of(frames)
        self.frame_count, self.person_count = len(frames), len(overlaps.truth_lengths)
        self._track_count = len(overlaps.track_lengths)
        self._truth_frame = np.repeat(np.arange(len(frames)), np.diff(overlaps.truth_starts))
        self._box_frame = np.repeat(np.arange(len(frames)), np.diff(overlaps.track_starts))
        self._box_person, self._box_switched = _found(overlaps)
        self._pair_person = overlaps.truth_ids[overlaps.truths]
        self._pair_frame = self._truth_frame[overlaps.truths]
        kinds = self._pair_person * max(self._track_count, 1) + overlaps.track_ids[overlaps.tracks]
        unique, self._pair_kind = np.unique(kinds, return_inverse=True)
        self._kind_person, self._kind_track = np.divmod(unique, max(self._track_count, 1))
        whole = np.bincount(overlaps.truths, overlaps.ious, len(overlaps.truth_ids))[overlaps.truths]
        whole += np.bincount(overlaps.tracks, overlaps.ious, len(overlaps.track_ids))[overlaps.tracks]
        self._share = overlaps.ious / (whole - overlaps.ious)
        self._level = np.searchsorted(ALPHAS - _EPSILON, overlaps.ious, side="right")  # alphas that the overlap reaches

    def sums(self, frame_weights: Floats | None = None, person_weights: Floats | None = None) -> Sums:
        """Sum the sequence up.

        Args:
            frame_weights: float64 [F], how often each frame counts; None for once.
            person_weights: float64 [G], the same for people. Track boxes that cover nobody carry their frame's alone.
        """
        overlaps = self._overlaps
        frame_weights = np.ones(self.frame_count) if frame_weights is None else frame_weights
        person_weights = np.ones(self.person_count) if person_weights is None else person_weights
        truths = frame_weights[self._truth_frame] * person_weights[overlaps.truth_ids]
        boxes = frame_weights[self._box_frame] * np.append(person_weights, 1.0)[self._box_person]
        pairs = frame_weights[self._pair_frame] * person_weights[self._pair_person]
        lives = np.bincount(overlaps.truth_ids, truths, self.person_count)
        lengths = np.bincount(overlaps.track_ids, boxes, self._track_count)
        hota_matches, shared = self._hota(pairs, lives[self._kind_person] + lengths[self._kind_track])
        return Sums(
            float(truths.sum()),
            float(boxes.sum()),
            float(boxes[self._box_person != _NOBODY].sum()),
            float(boxes[self._box_switched].sum()),
            self._identity_matches(pairs),
            hota_matches,
            shared,
        )

    def _identity_matches(self, pairs: Floats) -> float:
        """IDTP: the best assignment of whole tracks to people."""
        together = np.zeros((self.person_count, self._track_count))
        together[self._kind_person, self._kind_track] = self._per_kind(pairs * (self._overlaps.ious >= MATCH_IOU))
        return float(together[linear_sum_assignment(together, maximize=True)].sum())

    def _hota(self, pairs: Floats, union: Floats) -> tuple[Floats, Floats]:
        """True positives and the sum of their association scores, by alpha; ``union`` [K] as if nothing were shared."""
        potential = self._per_kind(pairs * self._share)
        alignment = potential / np.maximum(union - potential, _EPSILON)
        chosen = self._matched(self._overlaps.ious * alignment[self._pair_kind])
        kinds, levels = len(self._kind_person), len(ALPHAS) + 1
        places = self._pair_kind[chosen] * levels + self._level[chosen]
        exactly = np.bincount(places, pairs[chosen], kinds * levels).reshape(kinds, levels)
        matches = exactly[:, ::-1].cumsum(axis=1)[:, ::-1][:, 1:]  # [K, 19], that reach each alpha
        # Where another matching than CLEAR's gave a box its weight, a track can be lighter than its matches.
        association = matches / np.maximum(np.maximum(union[:, None] - matches, matches), 1.0)
        return matches.sum(axis=0), (matches * association).sum(axis=0)

    def _matched(self, gains: Floats) -> Ints:
        """Pairs of the matching with the largest gain in every frame; what has no weight takes no part."""
        there = gains > 0
        return np.flatnonzero(there)[best_pairs(self._overlaps.where(there), gains[there])]

    def _per_kind(self, values: Floats) -> Floats:
        summed: Floats = np.bincount(self._pair_kind, values, len(self._kind_person)).astype(np.float64)
        return summed


def _found(overlaps: Overlaps) -> tuple[Ints, Mask]:
    """Of every track box: the person that it found by CLEAR, and whether that was last found by another track.

    A weight on a person is one on the boxes that found it, too.
    """
    pairs = np.flatnonzero(clear_matches(overlaps))
    boxes, people = overlaps.tracks[pairs], overlaps.truth_ids[overlaps.truths[pairs]]
    person = np.full(len(overlaps.track_ids), _NOBODY, np.int64)
    person[boxes] = people
    switched = np.zeros(len(overlaps.track_ids), np.bool_)
    by_person = boxes[np.argsort(people, kind="stable")]  # within a person, by time
    same = person[by_person[1:]] == person[by_person[:-1]]
    switched[by_person[1:]] = same & (overlaps.track_ids[by_person[1:]] != overlaps.track_ids[by_person[:-1]])
    return person, switched
