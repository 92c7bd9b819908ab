"""Average precision of whole tracks, as TAO defines it: https://arxiv.org/abs/2005.10356, section 3.4.

A track is right when its overlap with a true track in space and time reaches a threshold; areas shared and areas in all
are summed over the frames before they are divided. Fields are named as in TrackEval's ``TrackMAP``, whose figures with
its ``TAO`` these are to 1e-6.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from qdtrack_ros.data.types import Annotation, DataError, LabelCoverage
from qdtrack_ros.evaluation.boxes import areas, intersections
from qdtrack_ros.evaluation.tracks import LabelledTracks, check_identities

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

THRESHOLDS = np.arange(0.5, 0.96, 0.05)
RECALLS = np.linspace(0.0, 1.0, 101)
AREAS = {"area_s": (0.0, 32.0**2), "area_m": (32.0**2, 96.0**2), "area_l": (96.0**2, 1e10)}
"""Mean area of a track's boxes, in pixels."""
LENGTHS = {"time_s": (0.0, 3.0), "time_m": (3.0, 10.0), "time_l": (10.0, 1e5)}
"""Boxes of a track."""
SUBSETS = ("all", *AREAS, *LENGTHS)
MAX_DETECTIONS = 300  # in an image; those with the lowest scores are left out
NONE = -1.0  # of a figure without true tracks
_EPSILON = np.finfo(np.float64).eps


class LabelledVideo(NamedTuple):
    """One video: truth and tracks frame by frame, and which classes were looked for.

    Attributes:
        truth: annotations of every frame; every one has an identity.
        tracks: of every frame.
        coverage: tracks of a class that is neither in ``truth`` nor ``absent`` are neither right nor wrong; those of
            ``partial`` classes are right or nothing. None is for truth in which every class is labelled throughout.
    """

    truth: Sequence[Sequence[Annotation]]
    tracks: Sequence[LabelledTracks]
    coverage: LabelCoverage | None = None


class TrackAp(NamedTuple):
    """Track AP and recall: "AP_all", "AR_all", "AP_area_s", ... float64 [10] over ``THRESHOLDS``; -1 is no figure.

    Attributes:
        mean: over the classes that have a figure.
        classes: of each class that has true tracks.
    """

    mean: Mapping[str, Floats]
    classes: Mapping[str, Mapping[str, Floats]]

    @property
    def ap50(self) -> float:
        """Mean over classes at an overlap of 0.5, by which TAO ranks trackers."""
        return float(self.mean["AP_all"][0])

    @property
    def ap75(self) -> float:
        """Mean over classes at an overlap of 0.75."""
        return float(self.mean["AP_all"][5])

    @property
    def ap(self) -> float:
        """Mean over classes and over overlaps of 0.5 to 0.95."""
        return float(self.mean["AP_all"].mean())


def track_average_precision(videos: Sequence[LabelledVideo], labels: Sequence[str]) -> TrackAp:
    """Track AP of a set of videos, for every class that has true tracks in one of them.

    A track is of the class of its first box, and its score is the mean over its boxes.

    Args:
        videos: of the whole set; figures are not means over videos.
        labels: names of the tracks' classes. Classes that TAO merges carry one name.

    Raises:
        DataError: different numbers of frames; an identity missing or twice in a frame; a box that is not finite.
    """
    overlaps = [_overlaps(f"video {index}", video, labels) for index, video in enumerate(videos)]
    names = sorted({name for video in overlaps for name in video.truth.names})
    classes = {}
    for name in names:
        parts = [
            _matches(video, name, coverage is not None and name in coverage.partial)
            for video, (_, _, coverage) in zip(overlaps, videos, strict=True)
            if coverage is None or name in video.truth.names or name in coverage.absent
        ]
        classes[name] = _class_figures(parts)
    fields = [f"{kind}_{subset}" for kind in ("AP", "AR") for subset in SUBSETS]
    return TrackAp({field: _mean([classes[name][field] for name in names]) for field in fields}, classes)


class _TrackSet(NamedTuple):
    """N tracks of one video: names of their classes, total areas, numbers of boxes and mean scores."""

    names: list[str]
    areas: Floats
    lengths: Floats
    scores: Floats


class _VideoOverlaps(NamedTuple):
    truth: _TrackSet
    tracks: _TrackSet
    ious: Floats  # [tracks, truth]


class _Gathered:
    """Tracks of a video as its frames come in."""

    def __init__(self) -> None:
        self.numbers: dict[int, int] = {}  # by identity, in order of appearance
        self.names: list[str] = []
        self.sums: list[npt.NDArray[np.float64]] = []  # area, boxes, score

    def add(self, ids: Sequence[int], names: Sequence[str], boxes: Floats, scores: Sequence[float]) -> list[int]:
        """Add the boxes of a frame; gives the numbers of their tracks."""
        for identity, name, area, score in zip(ids, names, areas(boxes), scores, strict=True):
            if identity not in self.numbers:
                self.numbers[identity] = len(self.numbers)
                self.names.append(name)
                self.sums.append(np.zeros(3))
            self.sums[self.numbers[identity]] += (area, 1.0, score)
        return [self.numbers[identity] for identity in ids]

    def finished(self) -> _TrackSet:
        area, length, score = np.array(self.sums).reshape(-1, 3).T
        return _TrackSet(self.names, area, length, score / np.maximum(1, length))


def _overlaps(place: str, video: LabelledVideo, labels: Sequence[str]) -> _VideoOverlaps:
    if len(video.truth) != len(video.tracks):
        raise DataError(
            f"{place}: ground truth of {len(video.truth)} frames but tracks of {len(video.tracks)}; expected as many"
        )
    truth, tracks = _Gathered(), _Gathered()
    shared = []
    for index, (rows, found) in enumerate(zip(video.truth, video.tracks, strict=True)):
        true_boxes = np.array([row.box for row in rows], np.float64).reshape(-1, 4)
        true_ids = [-1 if row.instance_id is None else row.instance_id for row in rows]
        check_identities(f"{place}, frame {index}: ground truth", np.array(true_ids, np.int64), true_boxes)
        kept = np.sort(np.argsort(-np.asarray(found.scores), kind="stable")[:MAX_DETECTIONS])
        boxes, ids = np.asarray(found.boxes, np.float64).reshape(-1, 4)[kept], np.asarray(found.ids, np.int64)[kept]
        check_identities(f"{place}, frame {index}: tracks", ids, boxes)
        names = [labels[label] for label in np.asarray(found.labels)[kept].tolist()]
        numbers = tracks.add(ids.tolist(), names, boxes, np.asarray(found.scores, np.float64)[kept].tolist())
        true_numbers = truth.add(true_ids, [row.label for row in rows], true_boxes, [1.0] * len(rows))
        shared.append((numbers, true_numbers, intersections(boxes, true_boxes)))
    all_truth, all_tracks = truth.finished(), tracks.finished()
    together = np.zeros((len(all_tracks.names), len(all_truth.names)))
    for numbers, true_numbers, area in shared:
        together[np.ix_(numbers, true_numbers)] += area
    union = all_tracks.areas[:, None] + all_truth.areas[None, :] - together
    ious = np.divide(together, union, out=np.zeros_like(together), where=union > 0)
    return _VideoOverlaps(all_truth, all_tracks, ious)


class _Matches(NamedTuple):
    """Outcome of D tracks of a class in one video, by falling score."""

    scores: Floats  # [D]
    matched: Mask  # [7 subsets, 10 thresholds, D]
    ignored: Mask  # the same: neither right nor wrong
    truths: Floats  # [7]: true tracks that count


def _matches(video: _VideoOverlaps, name: str, partial: bool) -> _Matches:
    of_truth = np.array([other == name for other in video.truth.names], np.bool_)
    own = np.flatnonzero([other == name for other in video.tracks.names])
    own = own[np.argsort(-video.tracks.scores[own], kind="stable")]
    ious = video.ious[own][:, of_truth]
    out_of_truth = _outside(video.truth)[:, of_truth]
    out_of_tracks = _outside(video.tracks)[:, own] | partial
    outcomes = [_greedy(ious, outside) for outside in out_of_truth]
    matched = np.stack([found for found, _ in outcomes])
    on_ignored = np.stack([ignored for _, ignored in outcomes])
    ignored = on_ignored | (~matched & out_of_tracks[:, None, :])
    return _Matches(video.tracks.scores[own], matched, ignored, (~out_of_truth).sum(axis=1).astype(np.float64))


def _outside(tracks: _TrackSet) -> Mask:
    """Which tracks do not belong to each subset, [7, N]."""
    mean_areas = tracks.areas / np.maximum(1, tracks.lengths)
    ranges = [(mean_areas, low, high) for low, high in AREAS.values()]
    ranges += [(tracks.lengths, low, high) for low, high in LENGTHS.values()]
    outside = [(values < low - _EPSILON) | (values > high + _EPSILON) for values, low, high in ranges]
    return np.stack([np.zeros(len(tracks.names), np.bool_), *outside])


def _greedy(ious: Floats, ignored: Mask) -> tuple[Mask, Mask]:
    """Match tracks in order, each with the best true track that is left, an ignored one only if no other will do.

    Args:
        ious: [D, G].
        ignored: true tracks that need not be found, [G].

    Returns:
        Which tracks are matched, and which of them with an ignored one: [10, D].
    """
    thresholds = np.minimum(THRESHOLDS, 1 - 1e-10)[:, None] - _EPSILON
    count, truths = len(ious), len(ignored)
    matched, on_ignored = np.zeros((2, len(THRESHOLDS), count), np.bool_)
    free = np.ones((len(THRESHOLDS), truths), np.bool_)
    levels = np.arange(len(THRESHOLDS))
    for row, overlap in enumerate(ious if truths else ()):
        # Ignored ones come last; of equals the last is taken.
        worth = np.where(free & (overlap >= thresholds), overlap + 2.0 * ~ignored, -1.0)
        best = truths - 1 - worth[:, ::-1].argmax(axis=1)
        found = worth[levels, best] >= 0
        matched[:, row], on_ignored[:, row] = found, found & ignored[best]
        free[levels[found], best[found]] = False
    return matched, on_ignored


def _class_figures(parts: Sequence[_Matches]) -> dict[str, Floats]:
    scores = np.concatenate([part.scores for part in parts])
    order = np.argsort(-scores, kind="stable")
    matched = np.concatenate([part.matched for part in parts], axis=2)[:, :, order]
    ignored = np.concatenate([part.ignored for part in parts], axis=2)[:, :, order]
    truths = np.sum([part.truths for part in parts], axis=0)
    figures = {}
    for index, subset in enumerate(SUBSETS):
        precision, recall = np.full((2, len(THRESHOLDS)), NONE)
        if truths[index] > 0:
            right = np.cumsum(matched[index] & ~ignored[index], axis=1)
            wrong = np.cumsum(~matched[index] & ~ignored[index], axis=1)
            for level in range(len(THRESHOLDS)):
                precision[level], recall[level] = _precision(right[level], wrong[level], truths[index])
        figures[f"AP_{subset}"], figures[f"AR_{subset}"] = precision, recall
    return figures


def _precision(right: Floats, wrong: Floats, truths: float) -> tuple[float, float]:
    """Mean precision over ``RECALLS``, and the recall reached."""
    if len(right) == 0:
        return 0.0, 0.0
    recall = right / truths
    precision = right / (right + wrong + np.spacing(1))
    best_from_here = np.maximum.accumulate(precision[::-1])[::-1]
    places = np.searchsorted(recall, RECALLS, side="left")
    return float(best_from_here[places[places < len(recall)]].sum() / len(RECALLS)), float(recall[-1])


def _mean(figures: Sequence[Floats]) -> Floats:
    """Mean over those that are there, for each threshold."""
    table = np.array(figures).reshape(-1, len(THRESHOLDS))
    there = table > NONE
    mean: Floats = np.where(there, table, 0.0).sum(axis=0) / np.maximum(1, there.sum(axis=0))
    return np.where(there.any(axis=0), mean, NONE)
