"""Waymo's 2D tracking metrics: by class and level of difficulty, at the score cutoff that suits the tracker best.

Defined by https://github.com/waymo-research/waymo-open-dataset, folder ``src/waymo_open_dataset/metrics``: ``mot.cc``
and ``tracking_metrics.cc``. They are CLEAR's, with differences: an object keeps its track over any gap; a track that
leaves an object for another one is a mismatch, too, if the first is gone; MOTP is a mean of 1 - IoU, the lower the
better; and a MOTA below 0 is reported as 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from qdtrack_ros.data.types import Annotation, DataError
from qdtrack_ros.evaluation.boxes import Boxes, ious
from qdtrack_ros.evaluation.rules import Benchmark, TruthRules
from qdtrack_ros.evaluation.tracks import LabelledTracks, check_identities

IOUS = {"vehicle": 0.7, "pedestrian": 0.5, "cyclist": 0.5}
"""Classes, and the IoU from which on a track may match an object of them."""
_TRACKED_AS = {"vehicle": frozenset({"vehicle", "car", "truck", "bus"})}
WAYMO = Benchmark(
    "Waymo", {name: TruthRules(frozenset({name}), track_labels=_TRACKED_AS.get(name, frozenset())) for name in IOUS}
)
"""Its classes, and the labels of trackers that mean them; what counts is said here, not in the rules."""
LEVELS = (1, 2)
CUTOFFS = np.round(np.arange(101) * 0.01, 2)
_WEIGHTS = 1e6  # IoUs are compared as whole millionths


class CameraVideo(NamedTuple):
    """One camera of one segment: annotations with their ``difficulty``, and tracks, frame by frame."""

    truth: Sequence[Sequence[Annotation]]
    tracks: Sequence[LabelledTracks]


class WaymoMetrics(NamedTuple):
    """Figures of one class and level.

    Attributes:
        mota: 1 - miss - mismatch - false_positive; not below 0.
        motp: mean of 1 - IoU over matches.
        miss, mismatch, false_positive: per object of the level.
        score_cutoff: tracks below it were left out; the one that gives the best MOTA.
        objects: boxes of the level.
    """

    mota: float
    motp: float
    miss: float
    mismatch: float
    false_positive: float
    score_cutoff: float
    objects: int


class Counts(NamedTuple):
    """What happened at one score cutoff; misses and objects are of level 1 and of both, float64 [2]."""

    misses: npt.NDArray[np.float64]
    objects: npt.NDArray[np.float64]
    false_positives: float
    mismatches: float
    cost: float
    matches: float


class WaymoFrame(NamedTuple):
    """Objects and tracks of one class in one frame: ids, levels of difficulty, scores, and IoU [objects, tracks]."""

    truth_ids: Sequence[int]
    levels: npt.NDArray[np.int64]
    track_ids: Sequence[int]
    scores: npt.NDArray[np.float32]
    ious: Boxes


def waymo_metrics(videos: Sequence[CameraVideo], labels: Sequence[str]) -> dict[str, dict[int, WaymoMetrics]]:
    """Waymo's figures over a set of videos, each of one camera.

    Objects of a level above the asked one need not be found, but count as found when they are. An object without a
    level is of every level.

    Args:
        videos: of the whole set; counts are summed before rates are taken.
        labels: names of the tracks' classes: those of ``IOUS``.

    Returns:
        By class and level.

    Raises:
        DataError: different numbers of frames; an identity missing or twice in a frame; a box that is not finite.
    """
    return {
        name: best_cutoff(
            [count_at_cutoffs(_frames(index, video, name, labels), iou) for index, video in enumerate(videos)]
        )
        for name, iou in IOUS.items()
    }


def count_at_cutoffs(frames: Sequence[WaymoFrame], iou: float) -> list[Counts]:
    """Go through the frames of a video once for each of ``CUTOFFS``; pairs match from ``iou`` on."""
    counts: list[Counts] = []
    before: list[npt.NDArray[np.bool_]] | None = None
    for cutoff in CUTOFFS.astype(np.float32):
        kept = [frame.scores >= cutoff for frame in frames]
        same = before is not None and all(map(np.array_equal, kept, before))
        counts.append(counts[-1] if same else _count(frames, kept, iou))
        before = kept
    return counts


def best_cutoff(videos: Sequence[Sequence[Counts]]) -> dict[int, WaymoMetrics]:
    """Figures of each level over all videos, given their counts at ``CUTOFFS``."""
    totals = [Counts(*(sum(values) for values in zip(*parts, strict=True))) for parts in zip(*videos, strict=True)]
    return {level: _best(totals, index) for index, level in enumerate(LEVELS)}


def _best(totals: Sequence[Counts], level: int) -> WaymoMetrics:
    best = WaymoMetrics(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0)
    for cutoff, total in zip(CUTOFFS, totals, strict=True):
        objects = total.objects[level]
        if objects == 0:
            continue
        best = best._replace(objects=int(objects))
        miss, mismatch, wrong = (
            float(value / objects) for value in (total.misses[level], total.mismatches, total.false_positives)
        )
        mota = 1 - miss - mismatch - wrong
        if mota > best.mota:
            motp = total.cost / total.matches if total.matches else 0.0
            best = WaymoMetrics(mota, motp, miss, mismatch, wrong, float(cutoff), int(objects))
    return best


def _frames(index: int, video: CameraVideo, name: str, labels: Sequence[str]) -> list[WaymoFrame]:
    if len(video.truth) != len(video.tracks):
        raise DataError(
            f"video {index}: ground truth of {len(video.truth)} frames but tracks of {len(video.tracks)}; "
            "expected as many"
        )
    wanted = [number for number, label in enumerate(labels) if label == name]
    frames = []
    for place, (rows, found) in enumerate(zip(video.truth, video.tracks, strict=True)):
        own = [row for row in rows if row.label == name]
        ids = [-1 if row.instance_id is None else row.instance_id for row in own]
        true_boxes = np.array([row.box for row in own], np.float64).reshape(-1, 4)
        kept = np.isin(found.labels, wanted)
        boxes = np.asarray(found.boxes, np.float64).reshape(-1, 4)[kept]
        check_identities(f"video {index}, frame {place}: ground truth", np.array(ids, np.int64), true_boxes)
        check_identities(f"video {index}, frame {place}: tracks", found.ids[kept], boxes)
        levels = np.array([row.difficulty for row in own], np.int64)
        scores = np.asarray(found.scores, np.float32)[kept]
        frames.append(WaymoFrame(ids, levels, found.ids[kept].tolist(), scores, ious(true_boxes, boxes)))
    return frames


def _count(frames: Sequence[WaymoFrame], kept: Sequence[npt.NDArray[np.bool_]], iou: float) -> Counts:
    misses, objects = np.zeros(len(LEVELS)), np.zeros(len(LEVELS))
    wrong = mismatches = matches = 0
    cost = 0.0
    held: dict[int, int] = {}  # track of each object, from whenever it was last matched
    for frame, tracks in zip(frames, kept, strict=True):
        track_ids = [identity for identity, keep in zip(frame.track_ids, tracks, strict=True) if keep]
        overlap = frame.ious[:, tracks]
        pairs = _match(frame.truth_ids, track_ids, overlap, held, iou)
        now = {frame.truth_ids[row]: track_ids[column] for row, column in pairs}
        owners = {track: owner for owner, track in held.items()}

        mismatches += sum(held.get(truth, track) != track for truth, track in now.items())
        mismatches += sum(owners.get(track, truth) not in frame.truth_ids for truth, track in now.items())
        cost += sum(1.0 - overlap[pair] for pair in pairs)
        matches += len(pairs)
        wrong += len(track_ids) - len(pairs)
        missed = np.ones(len(frame.truth_ids), np.bool_)
        missed[[row for row, _ in pairs]] = False
        for index, level in enumerate(LEVELS):
            misses[index] += (missed & (frame.levels <= level)).sum()
            objects[index] += (~missed | (frame.levels <= level)).sum()

        lost = {owners[track] for track in now.values() if track in owners}
        held = {truth: track for truth, track in held.items() if truth not in lost} | now
    return Counts(misses, objects, wrong, mismatches, cost, matches)


def _match(
    truth_ids: Sequence[int], track_ids: Sequence[int], overlap: Boxes, held: dict[int, int], iou: float
) -> list[tuple[int, int]]:
    """Objects keep their tracks while they may; then the sum of IoUs of the others is largest."""
    places = {identity: column for column, identity in enumerate(track_ids)}
    near = overlap >= iou
    pairs = []
    for row, identity in enumerate(truth_ids):
        column = places.get(held.get(identity, -1))
        if column is not None and near[row, column]:
            pairs.append((row, column))
    weights = np.where(near, np.round(overlap * _WEIGHTS), 0.0)
    for row, column in pairs:
        weights[row], weights[:, column] = 0.0, 0.0
    rows, columns = linear_sum_assignment(weights, maximize=True)
    return pairs + [(row, column) for row, column in zip(rows, columns, strict=True) if weights[row, column] > 0]
