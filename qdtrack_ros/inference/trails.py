"""The recent path of every track, for drawing."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping

import numpy as np
import numpy.typing as npt


class TrailHistory:
    """Remembers where each track stood in its last frames: the middle of its box's lower edge, at the feet or wheels.

    Args:
        length: points kept per track; 0 keeps none.
        forget_after: updates after which a track that is not seen any more is forgotten.
    """

    def __init__(self, length: int = 30, forget_after: int = 30) -> None:
        if length < 0 or forget_after < 0:
            raise ValueError(f"length and forget_after must not be negative, got {length} and {forget_after}")
        self._length = length
        self._forget_after = forget_after
        self._points: dict[int, deque[tuple[float, float]]] = {}
        self._last_seen: dict[int, int] = {}
        self._updates = 0

    def update(self, track_ids: Iterable[int], boxes: npt.NDArray[np.float32]) -> None:
        """Add one frame: `track_ids` [K] and their `boxes` [K, 4] xyxy in pixels; negative ids are left out."""
        self._updates += 1
        for track_id, (left, _, right, bottom) in zip(track_ids, np.asarray(boxes, np.float32).tolist(), strict=True):
            if track_id >= 0 and self._length > 0:
                points = self._points.setdefault(int(track_id), deque(maxlen=self._length))
                points.append(((left + right) / 2, bottom))
                self._last_seen[int(track_id)] = self._updates
        for track_id in [i for i, seen in self._last_seen.items() if self._updates - seen > self._forget_after]:
            del self._points[track_id], self._last_seen[track_id]

    def clear(self) -> None:
        """Forget everything, as after a reset of the tracker."""
        self._points.clear()
        self._last_seen.clear()

    def snapshot(self) -> Mapping[int, npt.NDArray[np.float32]]:
        """A copy: track id to points float32 [T, 2], pixels, oldest first."""
        return {track_id: np.array(points, np.float32) for track_id, points in self._points.items()}
