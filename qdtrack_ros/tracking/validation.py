"""Checks on what a caller hands to a step, made before any state changes."""

from __future__ import annotations

import math

import numpy as np

from qdtrack_ros.tracking.types import AnyArray, FrameDetections

_INT64_MAX = 2**63 - 1


def check_detections(
    boxes: object, scores: object, labels: object, embeddings: object, embedding_dim: int | None
) -> FrameDetections:
    """Check the four arrays of a frame against each other and against the tracker's embedding size.

    Args:
        boxes, scores, labels, embeddings: what the caller passed as float32 [N, 4], [N], int64 [N], float32 [N, D].
        embedding_dim: D of the memory, None while it has none.

    Raises:
        ValueError: an argument is not an array of the right dtype and shape, holds NaN or infinite values, or has a box
            with x2 < x1 or y2 < y1.
    """
    boxes = _check_array("boxes", boxes, np.float32, "[N, 4]", 2)
    scores = _check_array("scores", scores, np.float32, "[N]", 1)
    labels = _check_array("labels", labels, np.int64, "[N]", 1)
    embeddings = _check_array("embeddings", embeddings, np.float32, "[N, D]", 2)
    if boxes.shape[1] != 4:
        raise ValueError(f"boxes must have shape [N, 4] (xyxy; scores go separately), got {list(boxes.shape)}")
    count = len(boxes)
    if not len(scores) == len(labels) == len(embeddings) == count:
        raise ValueError(
            "boxes, scores, labels and embeddings must have one row per detection, got "
            f"{count}, {len(scores)}, {len(labels)} and {len(embeddings)}"
        )
    if count:
        _check_values(boxes, scores, embeddings, embedding_dim)
    return FrameDetections(boxes, scores, labels, embeddings)


def check_clock(frame_index: object, stamp_ns: object, last_frame: int | None, last_stamp: int | None) -> None:
    """Check a step's frame index and stamp against the step before.

    The index may fall (the reference goes on over a cut to a new video without a reset), but not repeat.

    Raises:
        ValueError: not whole numbers, negative, a repeated index, or a stamp before the last one.
    """
    if isinstance(frame_index, bool) or not isinstance(frame_index, int | np.integer):
        raise ValueError(f"frame_index must be an integer, got {frame_index!r} of type {type(frame_index).__name__}")
    if not 0 <= frame_index <= _INT64_MAX:
        raise ValueError(f"frame_index must be at least 0 and fit 64 bits, got {frame_index}")
    if frame_index == last_frame:
        raise ValueError(f"frame_index {frame_index} was given in the step before; count on, or reset() first")
    if stamp_ns is None:
        return
    if isinstance(stamp_ns, bool) or not isinstance(stamp_ns, int | np.integer):
        raise ValueError(f"stamp_ns must be integer nanoseconds or None, got {stamp_ns!r}")
    if not 0 <= stamp_ns <= _INT64_MAX:
        raise ValueError(f"stamp_ns must be at least 0 and fit 64 bits, got {stamp_ns}")
    if last_stamp is not None and stamp_ns < last_stamp:
        raise ValueError(
            f"stamp_ns {stamp_ns} lies {(last_stamp - int(stamp_ns)) / 1e9:.6f} s before the last step's {last_stamp}; "
            "drop the frame, or reset() when the clock jumped"
        )


def _check_array(name: str, value: object, dtype: type[np.generic], shape: str, ndim: int) -> AnyArray:
    if not isinstance(value, np.ndarray):
        raise ValueError(f"{name} must be a numpy array {np.dtype(dtype)} {shape}, got {type(value).__name__}")
    if value.dtype != dtype:
        wanted = np.dtype(dtype)
        raise ValueError(f"{name} must be {wanted}, got {value.dtype}; convert with .astype(np.{wanted})")
    if value.ndim != ndim:
        raise ValueError(f"{name} must have shape {shape}, got {list(value.shape)}")
    return value


def _check_values(boxes: AnyArray, scores: AnyArray, embeddings: AnyArray, embedding_dim: int | None) -> None:
    dim = embeddings.shape[1]
    if dim == 0:
        raise ValueError(f"embeddings must have at least one column, got shape {list(embeddings.shape)}")
    if embedding_dim is not None and dim != embedding_dim:
        raise ValueError(
            f"embeddings must have {embedding_dim} columns like those in memory, got {dim}; reset() to change the model"
        )
    for name, values in (("boxes", boxes), ("scores", scores)):
        if not np.isfinite(values).all():
            row = int(np.argwhere(~np.isfinite(values))[0][0])
            raise ValueError(f"{name} must be finite, row {row} is {values[row]}")
    # One pass for two ends: a finite sum of squares means no NaN and no infinity, and (Cauchy-Schwarz) that no dot
    # product of these with each other or with memory, which is a mean of such rows, can overflow.
    flat = embeddings.reshape(-1)
    with np.errstate(over="ignore", invalid="ignore"):
        energy = float(flat @ flat)
    if not math.isfinite(energy):
        bad = np.flatnonzero(~np.isfinite(embeddings).all(axis=1))
        if len(bad):
            raise ValueError(f"embeddings must be finite, row {bad[0]} has NaN or infinite values")
        raise ValueError(f"embeddings are too large for float32 dot products, largest value {np.abs(flat).max():g}")
    if (boxes[:, 2:] < boxes[:, :2]).any():
        row = int(np.flatnonzero((boxes[:, 2:] < boxes[:, :2]).any(axis=1))[0])
        raise ValueError(f"boxes must be xyxy with x1 <= x2 and y1 <= y2, row {row} is {boxes[row]}")
