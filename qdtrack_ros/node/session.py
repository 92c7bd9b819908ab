"""The tracker of one camera and the session its ids belong to."""

from __future__ import annotations

import enum
import math
import uuid
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from qdtrack_ros.inference.trails import TrailHistory
from qdtrack_ros.inference.types import Detections
from qdtrack_ros.tracking import Track, TrackerConfig, create_tracker

CONFIRM_HITS = 2  # matched frames that make a track CONFIRMED, in the node unless its parameter says otherwise


class TrackStatus(enum.IntEnum):
    """As in Track.msg."""

    TENTATIVE = 0
    CONFIRMED = 1
    LOST = 2
    REMOVED = 3


class TrackView(NamedTuple):
    """One track as it is published after a frame.

    Attributes:
        track: the tracker's own record.
        status: tentative, confirmed, lost or removed.
        missed: processed frames since it was last matched.
        match_score: NaN unless it was matched in this frame.
    """

    track: Track
    status: TrackStatus
    missed: int
    match_score: float

    @property
    def is_visible(self) -> bool:
        """Whether a detection of this frame belongs to it."""
        return self.status in (TrackStatus.TENTATIVE, TrackStatus.CONFIRMED)


class TrackedFrame(NamedTuple):
    """What a session says about one frame.

    Attributes:
        session_id: 16 bytes, the session in which the ids are unique.
        frame_index: frames of this session before this one.
        tracks: the visible ones by falling score, then the lost and the removed ones.
        trails: track id to points float32 [T, 2] in pixels, oldest first.
    """

    session_id: bytes
    frame_index: int
    tracks: tuple[TrackView, ...]
    trails: Mapping[int, npt.NDArray[np.float32]]

    @property
    def visible(self) -> tuple[TrackView, ...]:
        """The tracks that have a detection in this frame."""
        return tuple(view for view in self.tracks if view.is_visible)


class TrackingSession:
    """Steps the tracker of one camera; a reset starts a new session with ids from 0. Not thread-safe.

    Args:
        config: thresholds of the association.
        trail_length: points kept for drawing.

    Attributes:
        session_id: 16 bytes, the session in which ids are unique.
        frame_index: index of the next frame of this session.
        track_count: live tracks after the last step.
    """

    def __init__(self, config: TrackerConfig, trail_length: int = 30) -> None:
        self._config = config
        self._tracker = create_tracker(config)
        self._trails = TrailHistory(trail_length)
        self.session_id = uuid.uuid4().bytes
        self.frame_index = 0
        self.track_count = 0

    @property
    def config(self) -> TrackerConfig:
        """Thresholds in use."""
        return self._config

    @property
    def next_id(self) -> int:
        """The id of the next new track: how many ids this session has given."""
        return self._tracker.next_id

    @property
    def last_stamp_ns(self) -> int | None:
        """Time of the last frame, None before the first."""
        return self._tracker.last_stamp_ns

    def reset(self) -> None:
        """Forget all tracks and begin a new session."""
        self._tracker.reset()
        self._trails.clear()
        self.session_id = uuid.uuid4().bytes
        self.frame_index = self.track_count = 0

    def reconfigure(self, config: TrackerConfig) -> None:
        """Go on with other thresholds; tracks, ids and session stay.

        Raises:
            ValueError: the memory does not fit the new configuration (another metric or kind of tracker).
        """
        tracker = create_tracker(config)
        tracker.load_state_dict(self._tracker.state_dict())
        self._tracker, self._config = tracker, config

    def step(self, detections: Detections, stamp_ns: int, confirm_hits: int = CONFIRM_HITS) -> TrackedFrame:
        """Track the detections of the next frame, which may be none.

        Args:
            detections: of this frame, source pixels.
            stamp_ns: its time, integer nanoseconds, not before that of the frame before.
            confirm_hits: matched frames that make a track CONFIRMED.

        Raises:
            ValueError: the detections are malformed; the session is as it was.
        """
        result = self._tracker.step(*detections, frame_index=self.frame_index, stamp_ns=stamp_ns)
        views = [self._view(track, confirm_hits) for track in self._tracker.tracks]
        visible = sorted((v for v in views if v.is_visible), key=lambda v: -v.track.score)
        lost = [v for v in views if not v.is_visible]
        removed = [
            TrackView(track, TrackStatus.REMOVED, self.frame_index - track.last_frame, math.nan)
            for track in result.removed
        ]
        boxes = np.array([v.track.box for v in visible], np.float32).reshape(-1, 4)
        self._trails.update([v.track.id for v in visible], boxes)
        frame = TrackedFrame(self.session_id, self.frame_index, (*visible, *lost, *removed), self._trails.snapshot())
        self.frame_index += 1
        self.track_count = len(views)
        return frame

    def state_dict(self) -> dict[str, np.ndarray]:
        """Everything needed to go on after a restart, as plain arrays."""
        return {
            "session_id": np.frombuffer(self.session_id, np.uint8).copy(),
            "frame_index": np.array(self.frame_index, np.int64),
            **{f"tracker.{key}": value for key, value in self._tracker.state_dict().items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up a saved session.

        Raises:
            ValueError: the state is damaged or does not fit; nothing has changed.
        """
        session_id = np.asarray(state.get("session_id", ()))
        frame_index = np.asarray(state.get("frame_index", -1))
        if session_id.shape != (16,) or session_id.dtype != np.uint8:
            raise ValueError("the state has no valid session id")
        if frame_index.shape != () or frame_index.dtype.kind not in "iu" or frame_index < 0:
            raise ValueError("the state has no valid frame index")
        same_session = session_id.tobytes() == self.session_id
        tracker = create_tracker(self._config)
        prefix = "tracker."
        tracker.load_state_dict({key[len(prefix) :]: value for key, value in state.items() if key.startswith(prefix)})
        if tracker.last_frame_index is not None and tracker.last_frame_index >= int(frame_index):
            raise ValueError(
                f"the state's frame index {int(frame_index)} is behind its tracker's {tracker.last_frame_index}"
            )
        if same_session:
            tracker.continue_ids(self._tracker.next_id)  # those given out since the save are not given out again
        self._tracker = tracker
        self.track_count = len(tracker.tracks)
        self._trails.clear()
        self.session_id, self.frame_index = session_id.tobytes(), int(frame_index)

    def _view(self, track: Track, confirm_hits: int) -> TrackView:
        missed = self.frame_index - track.last_frame
        if missed:
            return TrackView(track, TrackStatus.LOST, missed, math.nan)
        status = TrackStatus.CONFIRMED if track.hits >= confirm_hits else TrackStatus.TENTATIVE
        return TrackView(track, status, 0, track.match_score)
