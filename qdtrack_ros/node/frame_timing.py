"""Where the time of a frame went, and what that adds up to over the last seconds."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import NamedTuple

import numpy as np


class FrameTimes(NamedTuple):
    """Milliseconds, as FrameTiming.msg defines them.

    Attributes:
        transport: from the image's stamp to its arrival; NaN without a stamp, or while the ROS clock reads zero.
        queue_wait: from arrival until the worker took it up.
        preprocess: decoding and the engine's preparation.
        inference: the network, whole batch.
        postprocess: network output to detections.
        association: detections to tracks.
        publish: building and publishing the messages.
        total: from arrival to the end of publishing.
        batch_size: images in the batch.
    """

    transport: float
    queue_wait: float
    preprocess: float
    inference: float
    postprocess: float
    association: float
    publish: float
    total: float
    batch_size: int


class LatencySummary(NamedTuple):
    """Processed frames of the last seconds: their rate and their latency from arrival to published."""

    rate_hz: float
    p50_ms: float
    p99_ms: float


class LatencyWindow:
    """Latencies of the frames of the last seconds. Thread-safe.

    Args:
        span_s: how far back it looks, seconds.
        capacity: most frames it remembers.
    """

    def __init__(self, span_s: float = 10.0, capacity: int = 2000) -> None:
        self._span_s = span_s
        self._samples: deque[tuple[float, float]] = deque(maxlen=capacity)
        self._lock = threading.Lock()
        self._began_s = time.monotonic()

    def restart(self) -> None:
        """Forget all frames: the rate counts from now."""
        with self._lock:
            self._samples.clear()
            self._began_s = time.monotonic()

    def add(self, latency_ms: float, now_s: float | None = None) -> None:
        """Add a frame published now (or at the monotonic time `now_s`)."""
        with self._lock:
            self._samples.append((time.monotonic() if now_s is None else now_s, latency_ms))

    def summary(self, now_s: float | None = None) -> LatencySummary:
        """Rate and percentiles; NaN percentiles when no frame came."""
        now = time.monotonic() if now_s is None else now_s
        with self._lock:
            recent = [(at, latency) for at, latency in self._samples if now - at <= self._span_s]
        if not recent:
            return LatencySummary(0.0, float("nan"), float("nan"))
        p50, p99 = np.percentile([latency for _, latency in recent], [50, 99])
        # A window that is not full yet, in time or in capacity, must not read as a low rate.
        span = min(self._span_s, max(now - self._began_s, 1e-3))
        if len(recent) == self._samples.maxlen:
            span = max(now - recent[0][0], 1e-3)
        return LatencySummary(len(recent) / span, float(p50), float(p99))
