"""What the trackers take and give: detections of a frame, tracks, and the result of a step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

UNTRACKED = -1
SUPPRESSED = -2

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
AnyArray = npt.NDArray[Any]


class FrameDetections(NamedTuple):
    """Checked detections of one frame.

    Attributes:
        boxes: float32 [N, 4], xyxy, pixels.
        scores: float32 [N].
        labels: int64 [N].
        embeddings: float32 [N, D].
    """

    boxes: FloatArray
    scores: FloatArray
    labels: IntArray
    embeddings: FloatArray


class Backdrops(NamedTuple):
    """Unmatched boxes of one frame, kept as competitors of the tracks.

    Attributes:
        boxes: float32 [B, 5], xyxy in pixels and score.
        labels: int64 [B].
        embeddings: float32 [B, D].
    """

    boxes: FloatArray
    labels: IntArray
    embeddings: FloatArray


@dataclass(frozen=True, eq=False, slots=True)
class Track:
    """One track as it stands after a step. Arrays are copies: they don't change with later steps.

    Attributes:
        id: its identity, never reused before `reset`.
        label: class of its newest box.
        box: float32 [4], newest box, xyxy, pixels.
        score: score of the newest box (blended with earlier scores in the TAO variant).
        embedding: float32 [D], running mean of its embeddings.
        hits: boxes it has had, the first included.
        first_frame: index of the frame in which it started.
        last_frame: index of the frame of its newest box.
        first_stamp_ns: time of ``first_frame``, nanoseconds; None when that frame had no stamp.
        last_stamp_ns: time of ``last_frame``, likewise.
        match_score: similarity with which its newest box was matched, NaN for its first box.
        velocity: float32 [5], mean change of x1, y1, x2, y2 (pixels per frame) and score (per frame) since it started;
            zeros after one box. The reference's definition.
        velocity_per_s: float32 [4], recent change of cx, cy, w, h in pixels per second, NaN while unknown (one box, or
            no stamps). Each new box weighs as much as all the past.
    """

    id: int
    label: int
    box: FloatArray
    score: float
    embedding: FloatArray
    hits: int
    first_frame: int
    last_frame: int
    first_stamp_ns: int | None
    last_stamp_ns: int | None
    match_score: float
    velocity: FloatArray
    velocity_per_s: FloatArray


class StepResult(NamedTuple):
    """What became of one frame's detections.

    Attributes:
        indices: int64 [K], rows of the input that survived duplicate removal; by falling score (`QuasiDenseTracker`) or
            in the order of the input (`TaoTracker`).
        track_ids: int64 [K], the track's id (>= 0), -1 untracked, -2 suppressed as a copy of a track.
        match_scores: float32 [K], similarity to the matched track, NaN where a track is new and where there is none.
        scores: float32 [K], the boxes' scores; blended with the track's score where `TaoTracker` matched.
        removed: the tracks that were dropped from memory in this step.
    """

    indices: IntArray
    track_ids: IntArray
    match_scores: FloatArray
    scores: FloatArray
    removed: tuple[Track, ...]


class Decision(NamedTuple):
    """An association before it is carried out, so that nothing can fail half-way through a change of memory.

    Attributes:
        indices: int64 [K], surviving rows of the input.
        scores: float32 [K].
        rows: int64 [K], memory row matched, -1 for none.
        match_scores: float32 [K], NaN where ``rows`` is -1.
        suppressed: bool [K].
        starts: bool [K], starts a track.
        backdrops: int64 [B], positions in 0..K-1 that become backdrops.
    """

    indices: IntArray
    scores: FloatArray
    rows: IntArray
    match_scores: FloatArray
    suppressed: BoolArray
    starts: BoolArray
    backdrops: IntArray
