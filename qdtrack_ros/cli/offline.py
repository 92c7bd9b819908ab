"""Tracking without ROS: the frames of a source through the same session, clock rules and checks as in the node."""

from __future__ import annotations

import logging
from collections import Counter
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from qdtrack_ros.data.types import DataError, Frame, Image
from qdtrack_ros.inference.types import Detections, Engine
from qdtrack_ros.node.clock_guard import ClockGuard, Verdict
from qdtrack_ros.node.session import TrackedFrame, TrackingSession
from qdtrack_ros.tracking import TrackerConfig

logger = logging.getLogger(__name__)


class FrameTracks(NamedTuple):
    """Tracked objects of one frame, by falling score.

    Attributes:
        ids: int64 [K], unique over the whole source, sessions included.
        boxes: float32 [K, 4], xyxy, source pixels.
        scores: float32 [K].
        labels: int64 [K], index into the preset's labels.
    """

    ids: npt.NDArray[np.int64]
    boxes: npt.NDArray[np.float32]
    scores: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]

    @classmethod
    def empty(cls) -> FrameTracks:
        """No tracks."""
        return cls(np.zeros(0, np.int64), np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64))


class TrackedPicture(NamedTuple):
    """A processed frame.

    Attributes:
        frame: as the source gave it.
        image: uint8 [H, W, 3] BGR.
        tracks: what was found in it.
        session: the same with everything the tracker knows; ids are those of the session.
        skipped: frames dropped since the processed frame before this one.
        first_id: what was added to the session's ids in ``tracks``.
    """

    frame: Frame
    image: Image
    tracks: FrameTracks
    session: TrackedFrame
    skipped: int
    first_id: int


class OfflineTracker:
    """Tracks the frames of one source, in order.

    Args:
        engine: runs the network.
        config: thresholds of the association.
        trail_length: points kept for drawing.

    Attributes:
        processed: frames tracked.
        dropped: frames left out, by reason.
    """

    def __init__(self, engine: Engine, config: TrackerConfig, trail_length: int = 30) -> None:
        self._engine = engine
        self._session = TrackingSession(config, trail_length)
        self._guard = ClockGuard()
        self._first_id = 0
        self._skipped = 0
        self.processed = 0
        self.dropped: Counter[str] = Counter()

    @property
    def identities(self) -> int:
        """Ids given so far."""
        return self._first_id + self._session.next_id

    def step(self, frame: Frame) -> TrackedPicture | None:
        """Track the next frame; None when it cannot be decoded or its stamp is late, as the node would drop it."""
        try:
            image = frame.load()
        except DataError as error:
            self._drop("undecodable", f"frame {frame.index} is left out: {error}")
            return None
        check = self._guard.check(frame.timestamp_ns or 0)
        if check.verdict is Verdict.DROP:
            self._drop("out of order", f"frame {frame.index} is left out: its stamp is before the last one's")
            return None
        if check.verdict is Verdict.RESET:
            logger.warning("frame %d: %s", frame.index, check.warning)
            self._first_id = self.identities
            self._session.reset()
        session = self._session.step(self._detect(frame.index, image), check.tracker_ns)
        self.processed += 1
        skipped, self._skipped = self._skipped, 0
        return TrackedPicture(frame, image, _frame_tracks(session, self._first_id), session, skipped, self._first_id)

    def _detect(self, index: int, image: Image) -> Detections:
        found = self._engine.detect([image]).detections[0]
        if not all(np.isfinite(part).all() for part in (found.boxes, found.scores, found.embeddings)):
            logger.error("frame %d: the network gave NaN or infinite values; the frame counts as empty", index)
            return Detections.empty(self._engine.embedding_dim)
        return found

    def _drop(self, reason: str, text: str) -> None:
        if reason not in self.dropped:
            logger.warning("%s (told once)", text)
        self.dropped[reason] += 1
        self._skipped += 1


def _frame_tracks(session: TrackedFrame, first_id: int) -> FrameTracks:
    tracks = [view.track for view in session.visible]
    return FrameTracks(
        np.array([track.id + first_id for track in tracks], np.int64),
        np.array([track.box for track in tracks], np.float32).reshape(-1, 4),
        np.array([track.score for track in tracks], np.float32),
        np.array([track.label for track in tracks], np.int64),
    )
