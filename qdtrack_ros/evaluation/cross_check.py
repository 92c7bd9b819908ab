"""TrackEval's own figures beside ours: only here is ``trackeval`` imported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from qdtrack_ros.evaluation.overlaps import PreparedFrame

TOLERANCE = 1e-6


class DisagreementError(RuntimeError):
    """Two ways to compute the same figure gave different values."""


def require_trackeval() -> None:
    """Raise ImportError, with what to do, unless TrackEval is installed."""
    try:
        import trackeval.metrics  # noqa: F401
    except ImportError as error:
        raise ImportError("checking metrics needs TrackEval: pip install trackeval==1.3.0") from error


def check_against_trackeval(
    name: str, frames: Sequence[PreparedFrame], fields: Mapping[str, Mapping[str, Any]]
) -> None:
    """Compute preprocessed frames with TrackEval, and compare every field of the metrics in ``fields``.

    Raises:
        DisagreementError: names the first field that differs by more than ``TOLERANCE``.
        ImportError: TrackEval is not installed.
    """
    theirs_of = trackeval_fields(name, frames)
    for key, found in fields.items():
        expected = theirs_of[key]
        for field in sorted(set(expected) | set(found)):
            ours, theirs = found.get(field, np.nan), expected.get(field, np.nan)
            if not np.allclose(ours, theirs, rtol=0, atol=TOLERANCE):
                raise DisagreementError(
                    f"{name}: {key} {field} is {ours}, but TrackEval has {theirs}; please report it with the data"
                )


def trackeval_fields(name: str, frames: Sequence[PreparedFrame]) -> dict[str, dict[str, Any]]:
    """TrackEval's HOTA, CLEAR, Identity and Count of preprocessed frames.

    Raises:
        ImportError: TrackEval is not installed.
    """
    require_trackeval()
    from trackeval.metrics import CLEAR, HOTA, Count, Identity

    truth_ids = np.unique(np.concatenate([np.zeros(0, np.int64), *(frame.truth_ids for frame in frames)]))
    track_ids = np.unique(np.concatenate([np.zeros(0, np.int64), *(frame.track_ids for frame in frames)]))
    data = {
        "seq": name,
        "num_timesteps": len(frames),
        "num_gt_ids": len(truth_ids),
        "num_tracker_ids": len(track_ids),
        "num_gt_dets": sum(len(frame.truth_ids) for frame in frames),
        "num_tracker_dets": sum(len(frame.track_ids) for frame in frames),
        "gt_ids": [np.searchsorted(truth_ids, frame.truth_ids) for frame in frames],
        "tracker_ids": [np.searchsorted(track_ids, frame.track_ids) for frame in frames],
        "similarity_scores": [frame.ious for frame in frames],
    }
    config = {"PRINT_CONFIG": False}
    metrics = {"HOTA": HOTA(), "CLEAR": CLEAR(config), "Identity": Identity(config), "Count": Count()}
    return {key: metric.eval_sequence(data) for key, metric in metrics.items()}
