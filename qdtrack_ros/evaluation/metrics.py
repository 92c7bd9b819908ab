"""Tracking metrics (HOTA, CLEAR, Identity) of sequences, of their classes, and of all of them together.

Computed here (``hota.py``, ``clear.py``, ``identity.py``), not by TrackEval, whose figures these are to 1e-6: on 2000
frames with 50 people ours take a third to a seventh of its CPU time (``scripts/compare_metrics.py``), and only scipy
needs to be installed. ``check=True`` runs TrackEval beside them and says where they disagree.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from qdtrack_ros.data.types import Annotation, DataError
from qdtrack_ros.evaluation.boxes import Boxes, covered, ious
from qdtrack_ros.evaluation.clear import COUNTS as CLEAR_COUNTS
from qdtrack_ros.evaluation.clear import clear, combine_clear
from qdtrack_ros.evaluation.cross_check import check_against_trackeval
from qdtrack_ros.evaluation.hota import COUNTS as HOTA_COUNTS
from qdtrack_ros.evaluation.hota import combine_hota, hota
from qdtrack_ros.evaluation.identity import COUNTS as IDENTITY_COUNTS
from qdtrack_ros.evaluation.identity import combine_identity, identity
from qdtrack_ros.evaluation.overlaps import Overlaps, PreparedFrame
from qdtrack_ros.evaluation.rules import MOT_RULES, Benchmark, FrameTruth, TruthRules
from qdtrack_ros.evaluation.tracks import FrameTracks, LabelledTracks, check_identities

MATCH_IOU = 0.5  # of the preprocessing, as in MOTChallenge, KITTI and BDD100K
CLASS_MEAN = "mean"
ALL_CLASSES = "overall"
_EPSILON = np.finfo(np.float64).eps

Fields = Mapping[str, Any]


class Metrics(NamedTuple):
    """Figures of one sequence or of several together; rates are fractions (1.0 is 100 %), HOTA ones means over alpha.

    Attributes:
        mota, motp: CLEAR accuracy (may be negative) and mean IoU of the matches.
        idf1, idp, idr: identity F1, precision, recall.
        hota, deta, assa, loca: HOTA and its detection, association and localisation parts.
        id_switches, fragmentations: counts (IDs, Frag).
        mostly_tracked, mostly_lost: identities found for more than 80 %, for less than 20 % of their frames.
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
    """Metrics of a sequence, and all fields by metric ("HOTA", "CLEAR", "Identity", "Count"), named as in TrackEval.

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
    check: bool = False,
) -> SequenceResult:
    """Compare tracks of one class with ground truth, frame by frame.

    Equal to TrackEval's ``MotChallenge2DBox`` with MOT_RULES (MOT15, MOT16, MOT17, DanceTrack) and MOT20_RULES, to its
    ``Kitti2DBox`` and ``BDD100K`` with the rules of KITTI and BDD100K.

    Args:
        truth: annotations of every frame, empty ones included.
        tracks: one entry a frame; all are taken to be of the evaluated class.
        rules: what of the ground truth counts.
        name: of the sequence, for messages and reports.
        check: compute the figures with TrackEval, too.

    Raises:
        DataError: different numbers of frames, a counted box without identity, an identity twice in a frame, a box that
            is not finite.
        DisagreementError: ``check``, and TrackEval's figures are others.
        ImportError: ``check``, and TrackEval is not installed.
    """
    return evaluate_frames(prepare_frames(truth, tracks, rules, name), name, check)


def check_truth(truth: Sequence[Sequence[Annotation]], rules: TruthRules, name: str = "sequence") -> None:
    """Find out before the work, not after it, whether ground truth can be evaluated.

    Raises:
        DataError: a counted box without identity, an identity twice in a frame, a box that is not finite.
    """
    for index, rows in enumerate(truth):
        frame = FrameTruth(rows, rules)
        place = f"{name}, frame {index}: ground truth"
        check_identities(place, frame.ids[frame.counted], frame.boxes[frame.counted])


def prepare_frames(
    truth: Sequence[Sequence[Annotation]],
    tracks: Sequence[FrameTracks],
    rules: TruthRules = MOT_RULES,
    name: str = "sequence",
) -> list[PreparedFrame]:
    """What counts of every frame, and how it overlaps: all that the metrics of a sequence are made of.

    Arguments and errors as for ``evaluate_sequence``.
    """
    if len(truth) != len(tracks):
        raise DataError(f"{name}: ground truth of {len(truth)} frames but tracks of {len(tracks)}; expected as many")
    return [
        _prepare(f"{name}, frame {index}", annotations, frame_tracks, rules)
        for index, (annotations, frame_tracks) in enumerate(zip(truth, tracks, strict=True))
    ]


def evaluate_frames(frames: Sequence[PreparedFrame], name: str = "sequence", check: bool = False) -> SequenceResult:
    """Metrics of a sequence from its prepared frames; ``check`` and errors as for ``evaluate_sequence``."""
    overlaps = Overlaps.of(frames)
    fields = {key: metric.compute(overlaps) for key, metric in _METRICS.items()}
    if check:
        check_against_trackeval(name, frames, fields)
    return SequenceResult(name, _summary(fields), fields)


def evaluate_classes(
    truth: Sequence[Sequence[Annotation]],
    tracks: Sequence[LabelledTracks],
    labels: Sequence[str],
    benchmark: Benchmark,
    name: str = "sequence",
    check: bool = False,
) -> dict[str, SequenceResult]:
    """Compare tracks with ground truth for each class of a benchmark.

    Args:
        truth: annotations of every frame, empty ones included.
        tracks: one entry a frame.
        labels: names of the tracks' classes; tracks of labels that the benchmark does not know are left out.
        benchmark: which classes, and what counts for each.
        name: of the sequence, for messages and reports.
        check: compute the figures with TrackEval, too.

    Returns:
        A result for every class of the benchmark, whether the tracker knows it or not.

    Raises:
        DataError: as ``evaluate_sequence``; none of the labels is one of the benchmark's.
        DisagreementError, ImportError: as ``evaluate_sequence``.
    """
    indices = {key: rules.indices(labels) for key, rules in benchmark.classes.items()}
    if not any(indices.values()):
        wanted = ", ".join(sorted(frozenset().union(*(rules.tracked_as for rules in benchmark.classes.values()))))
        raise DataError(f"tracks are of {', '.join(labels)}; {benchmark.name} evaluates {wanted}")
    return {
        key: evaluate_sequence(
            truth, [_only(frame, indices[key]) for frame in tracks], rules, f"{name}, {key}", check
        )._replace(name=name)
        for key, rules in benchmark.classes.items()
    }


def combine(results: Sequence[SequenceResult], name: str = "combined") -> SequenceResult:
    """Metrics over several sequences or classes as benchmarks report them: counts are summed before rates are taken."""
    if not results:
        raise DataError("no sequence to combine; expected at least one result")
    fields = {key: metric.combine([result.fields[key] for result in results]) for key, metric in _METRICS.items()}
    return SequenceResult(name, _summary(fields), fields)


def class_mean(results: Sequence[SequenceResult], name: str = CLASS_MEAN) -> SequenceResult:
    """Mean over classes, each of the same weight (mMOTA, mIDF1, mHOTA); counts are summed.

    As in TrackEval a class without ground truth takes part, with what it has (a MOTA of minus its false positives).
    """
    if not results:
        raise DataError("no class to take the mean of; expected at least one result")
    fields = {
        key: {
            field: sum(values) if field in metric.counts else np.mean(values, axis=0)
            for field in results[0].fields[key]
            if (values := [result.fields[key][field] for result in results if field in result.fields[key]])
        }
        for key, metric in _METRICS.items()
    }
    return SequenceResult(name, _summary(fields), fields)


def combine_classes(videos: Sequence[Mapping[str, SequenceResult]], benchmark: Benchmark) -> dict[str, SequenceResult]:
    """The rows of a benchmark's table over all its sequences.

    Args:
        videos: results of ``evaluate_classes``, one entry a sequence.
        benchmark: the same as there, or ``together`` those of all sequences.

    Returns:
        By name: the classes; then, as the benchmark has them, its groups (all boxes of their classes counted together),
        the mean over classes ``CLASS_MEAN`` and the figures of all boxes together ``ALL_CLASSES``.
    """
    classes = {key: combine([video[key] for video in videos if key in video], key) for key in benchmark.classes}
    rows = dict(classes)
    for group, members in benchmark.groups.items():
        rows[group] = combine([classes[member] for member in members], group)
    if benchmark.means:
        rows[CLASS_MEAN] = class_mean(list(classes.values()))
        rows[ALL_CLASSES] = combine(list(classes.values()), ALL_CLASSES)
    return rows


class _ClassTracks(NamedTuple):
    ids: npt.NDArray[np.int64]
    boxes: npt.NDArray[np.float32]


def _only(tracks: LabelledTracks, labels: Sequence[int]) -> _ClassTracks:
    kept = np.isin(tracks.labels, labels)
    return _ClassTracks(tracks.ids[kept], tracks.boxes[kept])


def _prepare(place: str, annotations: Sequence[Annotation], tracks: FrameTracks, rules: TruthRules) -> PreparedFrame:
    """Preprocessing of one frame: drop tracks that nothing can be said of, then truth that does not count."""
    truth = FrameTruth(annotations, rules)
    boxes = np.asarray(tracks.boxes, np.float64).reshape(-1, 4)
    ids = np.asarray(tracks.ids, np.int64)
    check_identities(f"{place}: ground truth", truth.ids[truth.counted], truth.boxes[truth.counted])
    check_identities(f"{place}: tracks", ids, boxes)
    overlap = ious(truth.boxes, boxes)
    kept = _judged(truth, boxes, overlap, rules.min_height)
    return PreparedFrame(truth.ids[truth.counted], ids[kept], overlap[truth.counted][:, kept])


def _judged(truth: FrameTruth, boxes: Boxes, overlap: Boxes, min_height: float) -> npt.NDArray[np.bool_]:
    """Which tracks of a frame are right or wrong, [K]."""
    judged = np.ones(len(boxes), np.bool_)
    if len(boxes) == 0 or not (truth.neutral.any() or len(truth.regions) or min_height > 0):
        return judged
    close = np.where(overlap < MATCH_IOU - _EPSILON, 0.0, overlap)
    rows, columns = linear_sum_assignment(close, maximize=True)
    matched = close[rows, columns] > 0
    rows, columns = rows[matched], columns[matched]
    judged[columns[truth.neutral[rows]]] = False
    unmatched = np.ones(len(boxes), np.bool_)
    unmatched[columns] = False
    judged[unmatched] = covered(boxes[unmatched], truth.regions) <= 0.5 + _EPSILON
    if min_height > 0:
        judged[unmatched] &= boxes[unmatched, 3] - boxes[unmatched, 1] > min_height + _EPSILON
    return judged


class _Metric(NamedTuple):
    """One family of figures: of a sequence, and of several; ``counts`` are those that add up over classes."""

    compute: Callable[[Overlaps], Fields]
    combine: Callable[[Sequence[Fields]], Fields]
    counts: Sequence[str]


_COUNT_FIELDS = ("Dets", "GT_Dets", "IDs", "GT_IDs")


def _count(overlaps: Overlaps) -> Fields:
    return {
        "Dets": len(overlaps.track_ids),
        "GT_Dets": len(overlaps.truth_ids),
        "IDs": len(overlaps.track_lengths),
        "GT_IDs": len(overlaps.truth_lengths),
        "Frames": len(overlaps.pair_starts) - 1,
    }


def _combine_count(parts: Sequence[Fields]) -> Fields:
    return {key: sum(part[key] for part in parts) for key in _COUNT_FIELDS}


_METRICS = {
    "HOTA": _Metric(hota, combine_hota, HOTA_COUNTS),
    "CLEAR": _Metric(clear, combine_clear, CLEAR_COUNTS),
    "Identity": _Metric(identity, combine_identity, IDENTITY_COUNTS),
    "Count": _Metric(_count, _combine_count, _COUNT_FIELDS),
}


def _summary(fields: Mapping[str, Mapping[str, Any]]) -> Metrics:
    hota_fields, clear_fields, identity_fields, count = (fields[key] for key in _METRICS)
    return Metrics(
        mota=float(clear_fields["MOTA"]),
        motp=float(clear_fields["MOTP"]),
        idf1=float(identity_fields["IDF1"]),
        idp=float(identity_fields["IDP"]),
        idr=float(identity_fields["IDR"]),
        hota=float(np.mean(hota_fields["HOTA"])),
        deta=float(np.mean(hota_fields["DetA"])),
        assa=float(np.mean(hota_fields["AssA"])),
        loca=float(np.mean(hota_fields["LocA"])),
        id_switches=int(clear_fields["IDSW"]),
        fragmentations=int(clear_fields["Frag"]),
        mostly_tracked=int(clear_fields["MT"]),
        mostly_lost=int(clear_fields["ML"]),
        false_positives=int(clear_fields["CLR_FP"]),
        false_negatives=int(clear_fields["CLR_FN"]),
        truth_boxes=int(count["GT_Dets"]),
        truth_ids=int(count["GT_IDs"]),
    )
