"""CLEAR: MOTA, MOTP and the counts that they are made of; fields are defined and named as in TrackEval.

Bernardin and Stiefelhagen 2008, https://doi.org/10.1155/2008/246309.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from qdtrack_ros.evaluation.overlaps import Ints, Mask, Overlaps

COUNTS = ("CLR_TP", "CLR_FN", "CLR_FP", "IDSW", "MT", "PT", "ML", "Frag", "CLR_Frames")
_EPSILON = np.finfo(np.float64).eps
_CONTINUED = 1000.0  # a track that goes on with its object beats any IoU

Fields = dict[str, Any]


def clear(overlaps: Overlaps, threshold: float = 0.5) -> Fields:
    """CLEAR of one sequence; pairs match from an IoU of ``threshold`` on.

    As in TrackEval, frames without truth or without tracks are passed over: they end no track's match and are no gap
    for fragmentations.
    """
    truths, tracks = len(overlaps.truth_ids), len(overlaps.track_ids)
    identities = len(overlaps.truth_lengths)
    if truths == 0 or tracks == 0:  # TrackEval gives no rates then, and does not count the frames
        nothing = _rates({**dict.fromkeys(COUNTS, 0), "MOTP_sum": 0.0})
        return {**nothing, "CLR_FN": truths, "CLR_FP": tracks, "ML": identities, "MLR": 1.0}
    near = overlaps.where(overlaps.ious >= threshold - _EPSILON)
    steps = _steps(near)
    chosen = _matches(near, steps)
    found = int(chosen.sum())

    truth_ids, track_ids = near.truth_ids[near.truths[chosen]], near.track_ids[near.tracks[chosen]]
    step = np.repeat(steps, np.diff(near.pair_starts))[chosen]
    order = np.lexsort((step, truth_ids))
    truth_ids, track_ids, step = truth_ids[order], track_ids[order], step[order]
    again = truth_ids[1:] == truth_ids[:-1]  # matches of an identity that had one before
    coverage = np.bincount(truth_ids, minlength=identities) / near.truth_lengths
    mostly, partly = int((coverage > 0.8).sum()), int((coverage >= 0.2).sum())
    return _rates(
        {
            "CLR_TP": found,
            "CLR_FN": truths - found,
            "CLR_FP": tracks - found,
            "IDSW": int((again & (track_ids[1:] != track_ids[:-1])).sum()),
            "MT": mostly,
            "PT": partly - mostly,
            "ML": identities - partly,
            "Frag": int((again & (step[1:] != step[:-1] + 1)).sum()),
            "CLR_Frames": len(near.pair_starts) - 1,
            "MOTP_sum": float(near.ious[chosen].sum()),
        }
    )


def clear_matches(overlaps: Overlaps, threshold: float = 0.5) -> Mask:
    """Which pairs of boxes CLEAR takes for matches, bool [P]."""
    near = overlaps.ious >= threshold - _EPSILON
    matched = np.zeros(len(near), np.bool_)
    close = overlaps.where(near)
    matched[near] = _matches(close, _steps(close))
    return matched


def combine_clear(parts: Sequence[Mapping[str, Any]]) -> Fields:
    """Figures of several sequences or classes together: counts add up, rates follow."""
    return _rates({key: sum(part[key] for part in parts) for key in (*COUNTS, "MOTP_sum")})


def _steps(overlaps: Overlaps) -> Ints:
    """Number of each frame among those with both truth and tracks, int64 [F]."""
    both = (np.diff(overlaps.truth_starts) > 0) & (np.diff(overlaps.track_starts) > 0)
    return np.cumsum(both).astype(np.int64)


def _matches(near: Overlaps, steps: Ints) -> Mask:
    """Matching of every frame: objects keep the track of the step before, then the sum of IoUs is largest.

    A pair of boxes that is near nothing else matches whatever came before, so only the others are gone through in
    order. Those that continue all go into the matching, as they can: the step before was one to one.
    """
    lonely_truth, lonely_track = np.bincount(near.truths) == 1, np.bincount(near.tracks) == 1
    chosen: Mask = lonely_truth[near.truths] & lonely_track[near.tracks]
    identities = len(near.truth_lengths)
    places = np.repeat(steps, np.diff(near.pair_starts)) * identities + near.truth_ids[near.truths]
    place, before = places.tolist(), (places - identities).tolist()  # numbers of an identity at a step
    truth, track, track_id = near.truths.tolist(), near.tracks.tolist(), near.track_ids[near.tracks].tolist()
    starts = near.pair_starts.tolist()
    held = {place[pair]: track_id[pair] for pair in np.flatnonzero(chosen).tolist()}
    for frame, pairs in near.by_frame(np.flatnonzero(~chosen)):
        kept = [pair for pair in pairs if held.get(before[pair]) == track_id[pair]]
        taken = {truth[pair] for pair in kept}, {track[pair] for pair in kept}
        best = kept + [pair for pair in pairs if truth[pair] not in taken[0] and track[pair] not in taken[1]]
        if len({truth[pair] for pair in best}) < len(best) or len({track[pair] for pair in best}) < len(best):
            own = slice(starts[frame], starts[frame + 1])
            continued = list(map(operator.eq, map(held.get, before[own]), track_id[own]))
            best = near.matched(frame, near.ious[own] + _CONTINUED * np.array(continued)).tolist()
            chosen[own] = False
        chosen[best] = True
        held.update((place[pair], track_id[pair]) for pair in best)
    return chosen


def _rates(total: Fields) -> Fields:
    found, missed, wrong, switches = (total[key] for key in ("CLR_TP", "CLR_FN", "CLR_FP", "IDSW"))
    there, identities = max(1.0, found + missed), max(1.0, total["MT"] + total["PT"] + total["ML"])
    logarithm = np.log10(switches) if switches > 0 else 0.0
    return {
        **total,
        "MTR": total["MT"] / identities,
        "PTR": total["PT"] / identities,
        "MLR": total["ML"] / identities,
        "CLR_Re": found / there,
        "CLR_Pr": found / max(1.0, found + wrong),
        "CLR_F1": found / max(1.0, found + 0.5 * missed + 0.5 * wrong),
        "MODA": (found - wrong) / there,
        "MOTA": (found - wrong - switches) / there,
        "MOTAL": (found - wrong - logarithm) / there,
        "MOTP": total["MOTP_sum"] / max(1.0, found),
        "sMOTA": (total["MOTP_sum"] - wrong - switches) / there,
        "FP_per_frame": wrong / max(1.0, total["CLR_Frames"]),
    }
