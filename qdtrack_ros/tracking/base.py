"""What both trackers share: the order of a step, the clock, and the state that can be saved."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

import numpy as np

from qdtrack_ros.tracking import state as state_format
from qdtrack_ros.tracking.config import TrackerConfig
from qdtrack_ros.tracking.memory import NO_STAMP, TrackMemory
from qdtrack_ros.tracking.types import (
    SUPPRESSED,
    UNTRACKED,
    AnyArray,
    Backdrops,
    Decision,
    FloatArray,
    FrameDetections,
    IntArray,
    StepResult,
    Track,
)
from qdtrack_ros.tracking.validation import check_clock, check_detections


class MemoryTracker(ABC):
    """A tracker with a memory of embeddings: one object per camera, no global state, not thread-safe.

    A step first decides, without touching the memory, and then carries the decision out; a step that raises has
    changed nothing.

    Attributes:
        kind: name of the variant in saved states.
        config: the settings; may be replaced between steps, the tracks stay.
    """

    kind: str
    config: TrackerConfig

    def __init__(self) -> None:
        self._memory = TrackMemory()
        self._last_frame: int | None = None
        self._last_stamp: int | None = None

    def step(
        self,
        boxes: FloatArray,
        scores: FloatArray,
        labels: IntArray,
        embeddings: FloatArray,
        frame_index: int,
        stamp_ns: int | None = None,
    ) -> StepResult:
        """Associate one frame's detections with the tracks. Zero detections are legal, and age the memory.

        Args:
            boxes: float32 [N, 4], xyxy, pixels, in any order.
            scores: float32 [N], in [0, 1].
            labels: int64 [N], class indices.
            embeddings: float32 [N, D], finite, not normalised.
            frame_index: index of the frame, >= 0 and not the same twice in a row. Gaps age the memory accordingly.
            stamp_ns: time of the frame in nanoseconds, not falling; None when unknown.

        Returns:
            `StepResult`, whose arrays the caller owns.

        Raises:
            ValueError: an argument breaks one of these rules; the tracker is as it was before the call.
        """
        detections = check_detections(boxes, scores, labels, embeddings, self._memory.embedding_dim)
        check_clock(frame_index, stamp_ns, self._last_frame, self._last_stamp)
        decision = self._decide(detections, int(frame_index))
        return self._carry_out(decision, detections, int(frame_index), stamp_ns)

    @abstractmethod
    def _decide(self, detections: FrameDetections, frame_index: int) -> Decision:
        """Associate the detections of a frame with the memory, changing neither."""

    @property
    @abstractmethod
    def _backdrop_frames(self) -> int:
        """For how many frames backdrops are kept."""

    @property
    def tracks(self) -> tuple[Track, ...]:
        """The live tracks, by rising id; built on each access, and unaffected by later steps."""
        return tuple(self._memory.track(row) for row in range(self._memory.count))

    @property
    def backdrops(self) -> tuple[Backdrops, ...]:
        """The backdrops in memory, newest frame first."""
        blocks = self._memory.backdrops
        return tuple(Backdrops(b.boxes.copy(), b.labels.copy(), b.embeddings.copy()) for b in blocks)

    @property
    def memory_size(self) -> int:
        """How many entries (tracks and backdrops) the next frame is compared with."""
        return len(self._memory.labels)

    @property
    def next_id(self) -> int:
        """The id that the next new track will get."""
        return self._memory.next_id

    @property
    def last_frame_index(self) -> int | None:
        """Index of the last frame stepped, None before the first; count on from here after `load_state_dict`."""
        return self._last_frame

    @property
    def last_stamp_ns(self) -> int | None:
        """Time of the last stamped frame, nanoseconds; None before the first."""
        return self._last_stamp

    def reset(self) -> None:
        """Forget everything and begin a new session: tracks, backdrops, clock and embedding size; ids restart at 0.

        Ids of different sessions can be equal, so whoever publishes them must publish a new session with it. (The
        reference never resets between videos; simply don't call this to get that.)
        """
        self._memory = TrackMemory()
        self._last_frame = self._last_stamp = None

    def state_dict(self) -> dict[str, AnyArray]:
        """Copy all that is needed to go on as if never stopped into plain arrays, fit for ``numpy.savez``."""
        return state_format.pack(self.kind, self.config.metric, self._memory, self._last_frame, self._last_stamp)

    def load_state_dict(self, state: Mapping[str, AnyArray]) -> None:
        """Take up a saved state in place of the present one.

        Afterwards ids, matches and memory are those of a tracker that never stopped. Ids which this object gave out
        already are not given out again, even if the state is from before they were; only `reset` restarts them.

        Args:
            state: what `state_dict` gave, also through ``numpy.savez`` and ``numpy.load``.

        Raises:
            ValueError: keys, version, kind of tracker, metric, dtypes, shapes or values don't fit; nothing has changed.
        """
        loaded = state_format.unpack(state, self.kind, self.config.metric)
        memory = TrackMemory()
        memory.next_id = max(loaded.next_id, self._memory.next_id)
        memory.restore(loaded.records, loaded.embeddings, loaded.backdrops[: self._backdrop_frames])
        self._memory, self._last_frame, self._last_stamp = memory, loaded.last_frame, loaded.last_stamp

    def continue_ids(self, next_id: int) -> None:
        """Let the next new track have this id, whatever a loaded state says.

        Raises:
            ValueError: a live track has such an id already.
        """
        taken = self._memory.records["id"]
        if len(taken) and next_id <= int(taken[-1]):
            raise ValueError(f"next_id {next_id} is not above the live track {int(taken[-1])}")
        self._memory.next_id = next_id

    def _carry_out(
        self, decision: Decision, detections: FrameDetections, frame_index: int, stamp_ns: int | None
    ) -> StepResult:
        memory = self._memory
        stamp = NO_STAMP if stamp_ns is None else int(stamp_ns)
        indices = decision.indices
        boxes = np.empty((len(indices), 5), np.float32)
        boxes[:, :4] = detections.boxes[indices]
        boxes[:, 4] = decision.scores
        labels = detections.labels[indices]
        track_ids = np.where(decision.suppressed, np.int64(SUPPRESSED), np.int64(UNTRACKED))

        matched = np.flatnonzero(decision.rows >= 0)
        if len(matched):
            rows = decision.rows[matched]
            track_ids[matched] = memory.records["id"][rows]
            memory.update(
                rows,
                boxes[matched],
                labels[matched],
                detections.embeddings[indices[matched]],
                decision.match_scores[matched],
                frame_index,
                stamp,
                self.config.momentum,
            )
        started = np.flatnonzero(decision.starts)
        if len(started):
            embeddings = detections.embeddings[indices[started]]
            track_ids[started] = memory.add(boxes[started], labels[started], embeddings, frame_index, stamp)
        gone = memory.expired(frame_index, stamp, self.config.memory_frames, self.config.memory_seconds)
        removed = memory.remove(gone)
        rows = decision.backdrops
        block = Backdrops(boxes[rows], labels[rows], detections.embeddings[indices[rows]])
        memory.replace_backdrops([block, *memory.backdrops][: self._backdrop_frames])
        self._last_frame = frame_index
        if stamp_ns is not None:
            self._last_stamp = stamp
        return StepResult(indices, track_ids, decision.match_scores, decision.scores, removed)
