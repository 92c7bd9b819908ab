"""Tracking metrics (CLEAR, Identity, HOTA) of sequences; TrackEval computes them from data handed over in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from qdtrack_ros.data.types import Annotation, DataError
from qdtrack_ros.evaluation.rules import MOT_RULES, Boxes, FrameTruth, TruthRules, covered, ious

IOU_THRESHOLD = 0.5  # of CLEAR, Identity and the preprocessing, as in MOTChallenge and KITTI


class FrameTracks(Protocol):
    """Tracks of one frame: ``ids`` int64 [K], each once, and ``boxes`` [K, 4] xyxy in source pixels."""

    @property
    def ids(self) -> npt.NDArray[np.int64]:
        """Identities."""

    @property
    def boxes(self) -> npt.NDArray[np.float32]:
        """Boxes."""


class Metrics(NamedTuple):
    """Figures of one sequence or of several together; rates are fractions (1.0 is 100 %), HOTA ones means over alpha.

    Attributes:
        mota, motp: CLEAR accuracy (may be negative) and mean IoU of the matches.
        idf1, idp, idr: identity F1, precision, recall.
        hota, deta, assa, loca: HOTA and its detection, association and localisation parts.
        id_switches, fragmentations: counts (IDs, Frag).
        mostly_tracked, mostly_lost: identities found for at least 80 %, for less than 20 % of their frames.
        false_positives, false_negatives: counts of boxes.
        truth_boxes, truth_ids: what there was to find.
    """

    mota: float
    motp: float
    idf1: float
    idp: float
    idr: float
    hota: float
    deta: float
    assa: float
    loca: float
    id_switches: int
    fragmentations: int
    mostly_tracked: int
    mostly_lost: int
    false_positives: int
    false_negatives: int
    truth_boxes: int
    truth_ids: int


class SequenceResult(NamedTuple):
    """Metrics of a sequence, and TrackEval's own fields by metric ("HOTA", "CLEAR", "Identity", "Count").

    ``fields["HOTA"]["HOTA"]`` is float64 [19] over alpha = 0.05 .. 0.95, ``fields["CLEAR"]["IDSW"]`` a count.
    """

    name: str
    metrics: Metrics
    fields: Mapping[str, Mapping[str, Any]]


def evaluate_sequence(
    truth: Sequence[Sequence[Annotation]],
    tracks: Sequence[FrameTracks],
    rules: TruthRules = MOT_RULES,
    name: str = "sequence",
) -> SequenceResult:
    """Compare tracks with ground truth, frame by frame.

    Equal to TrackEval's ``MotChallenge2DBox`` with MOT_RULES (MOT15, MOT16, MOT17, DanceTrack) and MOT20_RULES.

    Args:
        truth: annotations of every frame, empty ones included.
        tracks: one entry a frame; all are taken to be of the evaluated classes.
        rules: what of the ground truth counts.
        name: of the sequence, for messages and reports.

    Raises:
        DataError: different numbers of frames, a counted box without identity, an identity twice in a frame, a box that
            is not finite.
        ImportError: TrackEval is not installed.
    """
    if len(truth) != len(tracks):
        raise DataError(f"{name}: ground truth of {len(truth)} frames but tracks of {len(tracks)}; expected as many")
    frames = [
        _prepare(f"{name}, frame {index}", FrameTruth(annotations, rules), frame_tracks)
        for index, (annotations, frame_tracks) in enumerate(zip(truth, tracks, strict=True))
    ]
    data = _trackeval_data(name, frames)
    fields = {key: metric.eval_sequence(data) for key, metric in _trackeval_metrics().items()}
    return SequenceResult(name, _summary(fields), fields)


def combine(results: Sequence[SequenceResult], name: str = "combined") -> SequenceResult:
    """Metrics over several sequences as benchmarks report them: counts are summed before rates are taken."""
    if not results:
        raise DataError("no sequence to combine; expected at least one result")
    fields = {
        key: metric.combine_sequences({str(place): result.fields[key] for place, result in enumerate(results)})
        for key, metric in _trackeval_metrics().items()
    }
    return SequenceResult(name, _summary(fields), fields)


class _Frame(NamedTuple):
    truth_ids: npt.NDArray[np.int64]
    track_ids: npt.NDArray[np.int64]
    similarity: Boxes  # [truth, tracks]


def _prepare(place: str, truth: FrameTruth, tracks: FrameTracks) -> _Frame:
    """Preprocessing of one frame: drop tracks on neutral boxes, then truth that does not count."""
    boxes = np.asarray(tracks.boxes, np.float64).reshape(-1, 4)
    ids = np.asarray(tracks.ids, np.int64)
    if len(ids) != len(boxes) or not np.isfinite(boxes).all():
        raise DataError(f"{place}: {len(ids)} ids and {len(boxes)} boxes; expected as many, and finite boxes")
    _check_ids(place, "ground truth", truth.ids[truth.counted])
    _check_ids(place, "tracks", ids)
    similarity = ious(truth.boxes, boxes)
    close = np.where(similarity < IOU_THRESHOLD - np.finfo(np.float64).eps, 0.0, similarity)
    rows, columns = linear_sum_assignment(-close)
    matched = close[rows, columns] > 0
    rows, columns = rows[matched], columns[matched]
    keep = np.ones(len(ids), np.bool_)
    keep[columns[truth.neutral[rows]]] = False
    unmatched = np.setdiff1d(np.arange(len(ids)), columns)
    keep[unmatched[covered(boxes[unmatched], truth.regions) > 0.5]] = False
    return _Frame(truth.ids[truth.counted], ids[keep], similarity[truth.counted][:, keep])


def _check_ids(place: str, what: str, ids: npt.NDArray[np.int64]) -> None:
    if (ids < 0).any():
        raise DataError(f"{place}: {what} has a box without identity; expected ids of 0 or more")
    values, counts = np.unique(ids, return_counts=True)
    if (counts > 1).any():
        raise DataError(f"{place}: {what} has identity {values[counts > 1][0]} more than once; expected each once")


def _trackeval_data(name: str, frames: Sequence[_Frame]) -> dict[str, Any]:
    """The dictionary that TrackEval's metric classes take; ids become 0 .. n - 1."""
    none = np.zeros(0, np.int64)
    truth_ids = np.unique(np.concatenate([none, *(frame.truth_ids for frame in frames)]))
    track_ids = np.unique(np.concatenate([none, *(frame.track_ids for frame in frames)]))
    return {
        "seq": name,
        "num_timesteps": len(frames),
        "num_gt_ids": len(truth_ids),
        "num_tracker_ids": len(track_ids),
        "num_gt_dets": sum(len(frame.truth_ids) for frame in frames),
        "num_tracker_dets": sum(len(frame.track_ids) for frame in frames),
        "gt_ids": [np.searchsorted(truth_ids, frame.truth_ids) for frame in frames],
        "tracker_ids": [np.searchsorted(track_ids, frame.track_ids) for frame in frames],
        "similarity_scores": [frame.similarity for frame in frames],
    }


def _trackeval_metrics() -> dict[str, Any]:
    try:
        from trackeval.metrics import CLEAR, HOTA, Count, Identity
    except ImportError as error:
        raise ImportError("tracking metrics need TrackEval: pip install trackeval==1.3.0") from error
    config = {"THRESHOLD": IOU_THRESHOLD, "PRINT_CONFIG": False}
    return {"HOTA": HOTA(), "CLEAR": CLEAR(config), "Identity": Identity(config), "Count": Count()}


def _summary(fields: Mapping[str, Mapping[str, Any]]) -> Metrics:
    hota, clear, identity, count = (fields[key] for key in ("HOTA", "CLEAR", "Identity", "Count"))
    return Metrics(
        mota=float(clear["MOTA"]),
        motp=float(clear["MOTP"]),
        idf1=float(identity["IDF1"]),
        idp=float(identity["IDP"]),
        idr=float(identity["IDR"]),
        hota=float(np.mean(hota["HOTA"])),
        deta=float(np.mean(hota["DetA"])),
        assa=float(np.mean(hota["AssA"])),
        loca=float(np.mean(hota["LocA"])),
        id_switches=int(clear["IDSW"]),
        fragmentations=int(clear["Frag"]),
        mostly_tracked=int(clear["MT"]),
        mostly_lost=int(clear["ML"]),
        false_positives=int(clear["CLR_FP"]),
        false_negatives=int(clear["CLR_FN"]),
        truth_boxes=int(count["GT_Dets"]),
        truth_ids=int(count["GT_IDs"]),
    )
