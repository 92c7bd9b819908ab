"""IDF1, IDP and IDR: Ristani et al. 2016, https://arxiv.org/abs/1609.01775; fields are named as in TrackEval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

from qdtrack_ros.evaluation.overlaps import Overlaps

COUNTS = ("IDTP", "IDFN", "IDFP")

Fields = dict[str, Any]


def identity(overlaps: Overlaps, threshold: float = 0.5) -> Fields:
    """Identity metrics of one sequence; pairs of boxes agree from an IoU of ``threshold`` on.

    Each true identity is given at most one track over the whole sequence, so that the boxes that agree are most: these
    are IDTP. That is the same as TrackEval's cheapest assignment, where all other boxes cost one each.
    """
    near = overlaps.where(overlaps.ious >= threshold)
    together = np.zeros((len(near.truth_lengths), len(near.track_lengths)), np.int64)
    np.add.at(together, (near.truth_ids[near.truths], near.track_ids[near.tracks]), 1)
    agreed = int(together[linear_sum_assignment(together, maximize=True)].sum())
    return _rates({"IDTP": agreed, "IDFN": len(near.truth_ids) - agreed, "IDFP": len(near.track_ids) - agreed})


def combine_identity(parts: Sequence[Mapping[str, Any]]) -> Fields:
    """Figures of several sequences or classes together: counts add up, rates follow."""
    return _rates({key: sum(part[key] for part in parts) for key in COUNTS})


def _rates(total: Fields) -> Fields:
    agreed, missed, wrong = (total[key] for key in COUNTS)
    return {
        **total,
        "IDR": agreed / max(1.0, agreed + missed),
        "IDP": agreed / max(1.0, agreed + wrong),
        "IDF1": agreed / max(1.0, agreed + 0.5 * wrong + 0.5 * missed),
    }
