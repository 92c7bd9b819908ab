"""The arithmetic of association, as pure functions on arrays.

N detections, M memory entries, D embedding dimensions. All in float32, as the reference computes.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from qdtrack_ros.tracking.types import BoolArray, FloatArray, IntArray

# Far below any dot product, and finite, so that a row without a plausible entry gives no NaN.
_NEVER = np.float32(-1e30)


def pairwise_iou(boxes: FloatArray) -> FloatArray:
    """Intersection over union of every two boxes.

    Args:
        boxes: float32 [N, 4], xyxy.

    Returns:
        float32 [N, N]; the union is taken as at least 1e-6, so that empty boxes give 0.
    """
    left, top, right, bottom = np.ascontiguousarray(boxes.T)
    # In place throughout: at 300 boxes a fresh temporary costs more than the operation that fills it.
    width: FloatArray = np.minimum(right[:, None], right)
    other = np.maximum(left[:, None], left)
    width -= other
    np.maximum(width, 0.0, out=width)
    height = np.minimum(bottom[:, None], bottom)
    np.maximum(top[:, None], top, out=other)
    height -= other
    np.maximum(height, 0.0, out=height)
    width *= height
    area = (right - left) * (bottom - top)
    np.add(area[:, None], area, out=other)
    other -= width
    np.maximum(other, 1e-6, out=other)
    width /= other
    return width


def softmax(logits: FloatArray, axis: int) -> FloatArray:
    """Softmax along an axis, shifted by the maximum, so that it can't overflow."""
    result: FloatArray = logits - logits.max(axis=axis, keepdims=True)
    np.exp(result, out=result)
    result /= result.sum(axis=axis, keepdims=True)
    return result


def bisoftmax(logits: FloatArray) -> FloatArray:
    """Mean of the softmax over memory and the softmax over detections (paper equation 6).

    Args:
        logits: float32 [N, M], dot products; N and M at least 1.

    Returns:
        float32 [N, M] in (0, 1]. A lone detection and a lone entry always score 1.
    """
    result = softmax(logits, axis=1)
    result += softmax(logits, axis=0)
    result *= 0.5
    return result


def cosine(embeddings: FloatArray, memory: FloatArray) -> FloatArray:
    """Cosine of every detection with every memory entry, float32 [N, M]; 0 for zero vectors."""
    return _normalized(embeddings) @ _normalized(memory).T


def similarity(
    embeddings: FloatArray, memory: FloatArray, metric: str, plausible: BoolArray | None = None
) -> FloatArray:
    """Similarity of detections to memory entries.

    Args:
        embeddings: float32 [N, D], N at least 1.
        memory: float32 [M, D], M at least 1.
        metric: ``bisoftmax``, ``softmax`` or ``cosine``.
        plausible: bool [N, M]; the other pairs get 0 and take no share of a softmax. None for all.

    Returns:
        float32 [N, M].
    """
    if metric == "cosine":
        result = cosine(embeddings, memory)
    else:
        logits = embeddings @ memory.T
        if plausible is not None:
            logits[~plausible] = _NEVER
        result = bisoftmax(logits) if metric == "bisoftmax" else softmax(logits, axis=1)
    if plausible is not None:
        result *= plausible
    return result


def heights_apart(boxes: FloatArray, others: FloatArray) -> FloatArray:
    """Distance of the centres of boxes [N, 4] and others [M, 4], in heights of the lower of the two: float32 [N, M]."""
    centres, other_centres = (boxes[:, :2] + boxes[:, 2:]) / 2, (others[:, :2] + others[:, 2:]) / 2
    offset = centres[:, None] - other_centres
    height = np.minimum((boxes[:, 3] - boxes[:, 1])[:, None], others[:, 3] - others[:, 1])
    apart: FloatArray = np.hypot(offset[..., 0], offset[..., 1]) / np.maximum(height, np.float32(1e-6))
    return apart


def class_bisoftmax(logits: FloatArray, same_class: BoolArray) -> FloatArray:
    """Bi-softmax within classes as the reference's TAO variant defines it, with 1e-6 added to each sum, but finite.

    The reference exponentiates the raw dot products, which overflows above 88. Here each row (and column) is shifted
    by its maximum where that is positive, and the 1e-6 with it: the same values, for dot products of any size.

    Args:
        logits: float32 [N, M], dot products.
        same_class: bool [N, M]; other pairs get 0.
    """
    masked = np.where(same_class, logits, np.float32(-np.inf))
    result = np.zeros_like(masked)
    for axis in (1, 0):
        shift = np.maximum(masked.max(axis=axis, keepdims=True), 0.0)
        part = np.exp(masked - shift)
        part /= part.sum(axis=axis, keepdims=True) + np.float32(1e-6) * np.exp(-shift)
        result += part
    result *= 0.5
    return result


def assign_greedily(
    scores: FloatArray, match_score: float, accept: Callable[[int, int, float], bool], rows: IntArray | None = None
) -> tuple[IntArray, FloatArray]:
    """Give each row, in order, its best column, unless the column was taken by an earlier row.

    Equal to the reference's loop, which after each match zeroes the column for all other rows: a row is looked at
    again only when its best column was taken, and rows that never exceed ``match_score`` (>= 0) not at all.

    Args:
        scores: float32 [N, M].
        match_score: a score must exceed it.
        accept: called with row, column and score of each candidate; True takes the column, False leaves the row
            unmatched (no second choice is tried) and the column free.
        rows: the rows that take part, rising; None for all.

    Returns:
        int64 [N] column of each row or -1; float32 [N] the score, NaN where there is none.
    """
    columns = np.full(len(scores), -1, np.int64)
    values = np.full(len(scores), np.nan, np.float32)
    best = scores.argmax(axis=1)
    best_score = scores[np.arange(len(scores)), best]
    contends = best_score > np.float32(match_score)
    contenders = np.flatnonzero(contends) if rows is None else rows[contends[rows]]
    threshold = float(np.float32(match_score))
    free = np.ones(scores.shape[1], np.float32)
    taken: set[int] = set()
    matched: list[tuple[int, int, float]] = []
    for row, first_column, first_score in zip(
        contenders.tolist(), best[contenders].tolist(), best_score[contenders].tolist(), strict=True
    ):
        column, score = first_column, first_score
        if column in taken:
            remaining = scores[row] * free
            column = int(remaining.argmax())
            score = float(remaining[column])
            if score <= threshold:
                continue
        if accept(row, column, score):
            taken.add(column)
            free[column] = 0.0
            matched.append((row, column, score))
    if matched:
        matched_rows, matched_columns, matched_scores = zip(*matched, strict=True)
        columns[list(matched_rows)] = matched_columns
        values[list(matched_rows)] = matched_scores
    return columns, values


def overlaps_earlier(iou: FloatArray, threshold: float | FloatArray) -> BoolArray:
    """Whether each box overlaps a box before it by more than the threshold.

    Boxes that are themselves dropped go on suppressing, so this is no greedy NMS and needs no loop.

    Args:
        iou: float32 [N, N].
        threshold: one value, or float32 [N] for each box its own.

    Returns:
        bool [N].
    """
    limit = threshold[:, None] if isinstance(threshold, np.ndarray) else np.float32(threshold)
    over: BoolArray = iou > limit
    over &= np.tri(len(iou), k=-1, dtype=np.bool_)
    any_over: BoolArray = np.logical_or.reduce(over, axis=1)
    return any_over


def _normalized(vectors: FloatArray) -> FloatArray:
    # einsum needs no temporary of squares; the floor is the reference's (torch.nn.functional.normalize).
    norms = np.sqrt(np.einsum("nd,nd->n", vectors, vectors))
    unit: FloatArray = vectors / np.maximum(norms, np.float32(1e-12))[:, None]
    return unit
