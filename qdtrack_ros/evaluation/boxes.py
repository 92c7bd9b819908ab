"""Overlaps of boxes, float64 [N, 4] xyxy."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Boxes = npt.NDArray[np.float64]


def intersections(first: Boxes, second: Boxes) -> Boxes:
    """Areas shared by every box of ``first`` [N, 4] with every one of ``second`` [M, 4]: float64 [N, M]."""
    (x1, y1, x2, y2), (u1, v1, u2, v2) = first.T[:, :, None], second.T[:, None, :]
    width = np.minimum(x2, u2) - np.maximum(x1, u1)
    height = np.minimum(y2, v2) - np.maximum(y1, v1)
    shared: Boxes = np.maximum(width, 0.0) * np.maximum(height, 0.0)
    return shared


def areas(boxes: Boxes) -> Boxes:
    """Areas of ``boxes`` [N, 4]: float64 [N]."""
    area: Boxes = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    return area


def ious(first: Boxes, second: Boxes) -> Boxes:
    """Intersection over union, float64 [N, M]; 0 where both boxes have no area."""
    shared = intersections(first, second)
    union = areas(first)[:, None] + areas(second)[None, :] - shared
    overlap: Boxes = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    return overlap


def covered(boxes: Boxes, regions: Boxes) -> Boxes:
    """Part of each box in the region that holds most of it, float64 [N]."""
    if len(regions) == 0 or len(boxes) == 0:
        return np.zeros(len(boxes))
    own = areas(boxes)
    most = intersections(boxes, regions).max(axis=1)
    part: Boxes = np.divide(most, own, out=np.zeros_like(most), where=own > 0)
    return part
