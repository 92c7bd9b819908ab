"""HOTA, Luiten et al., IJCV 2021, https://doi.org/10.1007/s11263-020-01375-2; fields are named as in TrackEval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from qdtrack_ros.evaluation.overlaps import Floats, Ints, Overlaps, best_pairs

ALPHAS = np.arange(0.05, 0.99, 0.05)
COUNTS = ("HOTA_TP", "HOTA_FN", "HOTA_FP")
_EPSILON = np.finfo(np.float64).eps

Fields = dict[str, Any]


def hota(overlaps: Overlaps) -> Fields:
    """HOTA of one sequence: figures float64 [19] over ``ALPHAS``, those with (0) at the first of them.

    Boxes are matched once for all alphas, so that the sum of IoU times the alignment of their identities over the whole
    sequence is largest; a match counts at each alpha up to its IoU.
    """
    truth_lengths, track_lengths = overlaps.truth_lengths, overlaps.track_lengths
    identities = (overlaps.truth_ids[overlaps.truths], overlaps.track_ids[overlaps.tracks])
    chosen = best_pairs(overlaps, overlaps.ious * _alignment(overlaps)[identities])
    ious, truth_ids, track_ids = overlaps.ious[chosen], identities[0][chosen], identities[1][chosen]

    levels = np.searchsorted(ALPHAS - _EPSILON, ious, side="right")  # alphas at which a match counts
    kinds = truth_ids * len(track_lengths) + track_ids
    both = np.unique(kinds)
    matches = _at_least(levels, np.searchsorted(both, kinds), len(both))  # [19, pairs of identities]
    found = matches.sum(axis=1)
    truth_length, track_length = truth_lengths[both // len(track_lengths)], track_lengths[both % len(track_lengths)]

    def per_match(association: Floats) -> Floats:
        mean: Floats = (matches * association).sum(axis=1) / np.maximum(1, found)
        return mean

    located = _at_least(levels, np.zeros(len(levels), np.int64), 1, ious)[:, 0]
    return _finished(
        {
            "HOTA_TP": found,
            "HOTA_FN": len(overlaps.truth_ids) - found,
            "HOTA_FP": len(overlaps.track_ids) - found,
            "AssA": per_match(matches / np.maximum(1, truth_length + track_length - matches)),
            "AssRe": per_match(matches / np.maximum(1, truth_length)),
            "AssPr": per_match(matches / np.maximum(1, track_length)),
            "LocA": np.maximum(1e-10, located) / np.maximum(1e-10, found),
        }
    )


def combine_hota(parts: Sequence[Mapping[str, Any]]) -> Fields:
    """Figures of several sequences or classes together: counts add up, the others are means over matches."""
    total: Fields = {key: sum(part[key] for part in parts) for key in COUNTS}
    found = total["HOTA_TP"]
    for key in ("AssA", "AssRe", "AssPr"):
        total[key] = sum(part[key] * part["HOTA_TP"] for part in parts) / np.maximum(1.0, found)
    located = sum(part["LocA"] * part["HOTA_TP"] for part in parts)
    total["LocA"] = np.maximum(1e-10, located) / np.maximum(1e-10, found)
    return _finished(total)


def _alignment(overlaps: Overlaps) -> Floats:
    """Soft Jaccard index of every true identity and every track over the whole sequence, float64 [G, R]."""
    truths, tracks, ious = overlaps.truths, overlaps.tracks, overlaps.ious
    of_truth = np.bincount(truths, ious, len(overlaps.truth_ids))
    of_track = np.bincount(tracks, ious, len(overlaps.track_ids))
    shares = ious / (of_truth[truths] + of_track[tracks] - ious)
    truth_lengths, track_lengths = overlaps.truth_lengths, overlaps.track_lengths
    shape = (len(truth_lengths), len(track_lengths))
    places = overlaps.truth_ids[truths] * shape[1] + overlaps.track_ids[tracks]
    together = np.bincount(places, shares, shape[0] * shape[1]).reshape(shape)
    alignment: Floats = together / (truth_lengths[:, None] + track_lengths[None, :] - together)
    return alignment


def _at_least(levels: Ints, groups: Ints, count: int, weights: Floats | None = None) -> Floats:
    """Matches of each group, or their weights, that count at each alpha: float64 [19, count]."""
    size = len(ALPHAS) + 1
    exactly = np.bincount(levels * count + groups, weights, size * count).reshape(size, count)
    reached: Floats = np.cumsum(exactly[:0:-1], axis=0)[::-1].astype(np.float64)
    return reached


def _finished(total: Fields) -> Fields:
    found, missed, wrong = (total[key] for key in COUNTS)
    total["DetRe"] = found / np.maximum(1, found + missed)
    total["DetPr"] = found / np.maximum(1, found + wrong)
    total["DetA"] = found / np.maximum(1, found + missed + wrong)
    total["HOTA"] = np.sqrt(total["DetA"] * total["AssA"])
    total["OWTA"] = np.sqrt(total["DetRe"] * total["AssA"])
    total["HOTA(0)"], total["LocA(0)"] = total["HOTA"][0], total["LocA"][0]
    total["HOTALocA(0)"] = total["HOTA(0)"] * total["LocA(0)"]
    return total
