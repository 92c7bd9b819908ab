"""One camera: its mailbox, clock, tracker and figures. Nothing here knows rclpy."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from qdtrack_ros.node.clock_guard import TIME_JUMP, ClockGuard
from qdtrack_ros.node.frame_timing import FrameTimes, LatencyWindow
from qdtrack_ros.node.log_text import harmless
from qdtrack_ros.node.mailbox import Mailbox, MailboxCounts
from qdtrack_ros.node.session import TrackedFrame, TrackerConfig, TrackingSession

BgrImage = npt.NDArray[np.uint8]


class ReceivedFrame(NamedTuple):
    """An image message as the subscription stored it.

    Attributes:
        payload: the serialized message.
        arrived_s: monotonic time of its arrival (`time.perf_counter`).
        arrived_ns: ROS time of its arrival, nanoseconds.
    """

    payload: bytes
    arrived_s: float
    arrived_ns: int


class DecodedImage(NamedTuple):
    """A picture with the header of its message.

    Attributes:
        header: std_msgs/Header, passed on verbatim.
        stamp_ns: its stamp, integer nanoseconds.
        pixels: uint8 [H, W, 3] BGR.
        encoding: in which it came.
    """

    header: Any
    stamp_ns: int
    pixels: BgrImage
    encoding: str


Decoder = Callable[[bytes, int], DecodedImage]
"""Turns a serialized message into a picture, given the most pixels allowed; raises ImageError."""


class FrameResult(NamedTuple):
    """All that is published about one processed frame.

    Attributes:
        image: the picture and its header.
        tracked: tracks, session and trails.
        skipped: frames of this camera dropped since the one processed before.
    """

    image: DecodedImage
    tracked: TrackedFrame
    skipped: int


class CameraFigures(NamedTuple):
    """A camera's state for diagnostics.

    Attributes:
        counts: frames whose fate is decided.
        lost: frames that were published and never arrived; in none of the counts.
        faults: what went wrong since configure, by kind.
        silent_s: seconds since the last frame arrived, or since the camera was started.
        last_error: the newest fault in words, empty when there was none.
        tracks: live tracks.
        image: size and encoding of the last one, empty before the first.
    """

    counts: MailboxCounts
    lost: int
    faults: Mapping[str, int]
    silent_s: float
    last_error: str
    tracks: int
    image: str


class Camera:
    """Everything that belongs to one camera.

    Args:
        name: prefix of its topics.
        decode: turns its messages into pictures.
        session: its tracker.
        guard: judges its stamps.
        condition: of the worker that serves it.
    """

    def __init__(
        self, name: str, decode: Decoder, session: TrackingSession, guard: ClockGuard, condition: threading.Condition
    ) -> None:
        self.name = name
        self.decode = decode
        self.session = session
        self.guard = guard
        self.mailbox: Mailbox[ReceivedFrame] = Mailbox(condition)
        self.latency = LatencyWindow()
        self._faults: Counter[str] = Counter()
        self._faults_lock = threading.Lock()
        self._last_error = ""
        self._image = ""
        self._dropped_before = 0
        self._lost = 0

    def receive(self, frame: ReceivedFrame) -> None:
        """Store the newest frame; all a subscription callback does."""
        self.mailbox.put(frame)

    def expect(self) -> None:
        """Begin to expect frames: silence and rate count from now."""
        self.mailbox.expect()
        self.latency.restart()

    def note_lost(self, count: int) -> None:
        """Remember frames that were published and never arrived."""
        with self._faults_lock:
            self._lost += count

    def note_fault(self, kind: str, text: str) -> None:
        """Remember a fault for the diagnostics."""
        with self._faults_lock:
            self._faults[kind] += 1
            self._last_error = text

    def note_processed(self, counts: MailboxCounts) -> int:
        """Frames dropped since the processed frame before this one."""
        skipped = counts.dropped - self._dropped_before
        self._dropped_before = counts.dropped
        return skipped

    def note_image(self, image: DecodedImage) -> str:
        """What to tell when the images begin, or change size or encoding; empty while they stay as they are."""
        height, width = image.pixels.shape[:2]
        encoding = harmless(image.encoding, 40)  # a compressed image's format is any text
        before, self._image = self._image, f"{width} x {height} {encoding}"
        if not before:
            return f"first image, {self._image}"
        return "" if before == self._image else f"the images changed from {before} to {self._image}"

    def note_times(self, times: FrameTimes) -> None:
        """Remember the latency of a published frame."""
        self.latency.add(times.total)

    def reset(self) -> None:
        """Forget all tracks and stamps: a new session."""
        self.session.reset()
        self.guard.restart()

    def follow_clock_back(self, now_ns: int, jump_ns: int) -> bool:
        """Start a new session if a backward jump of /clock asks for it; True when it did."""
        if not self.guard.follow_clock_back(now_ns, jump_ns):
            return False
        self.session.reset()
        self.note_fault(TIME_JUMP, f"camera {self.name}: /clock jumped back by {-jump_ns / 1e9:.3f} s: new session")
        return True

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Take up a saved session.

        Raises:
            ValueError: it is damaged or does not fit; nothing has changed.
        """
        self.session.load_state_dict(state)
        self.guard.restart(self.session.last_stamp_ns)

    def reconfigure(self, config: TrackerConfig) -> None:
        """Go on with other thresholds."""
        self.session.reconfigure(config)

    def figures(self) -> CameraFigures:
        """For diagnostics; may be called from any thread."""
        with self._faults_lock:
            faults, last_error, lost = dict(self._faults), self._last_error, self._lost
        counts, silent_s = self.mailbox.counts(), self.mailbox.silent_s
        return CameraFigures(counts, lost, faults, silent_s, last_error, self.session.track_count, self._image)
