"""Keeps a fault that comes with every frame from flooding the log."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


class LogThrottle:
    """Lets a message of each kind through at most once in `period_s`, and says how many were held back. Thread-safe.

    Args:
        period_s: seconds between two messages of one kind.
        clock: monotonic seconds.
    """

    def __init__(self, period_s: float = 10.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._period_s = period_s
        self._clock = clock
        self._last: dict[str, float] = {}
        self._held: dict[str, int] = {}
        self._lock = threading.Lock()

    def pass_on(self, kind: str, text: str) -> str | None:
        """The text to log now, or None while this kind is held back."""
        now = self._clock()
        with self._lock:
            last = self._last.get(kind)
            if last is not None and now - last < self._period_s:
                self._held[kind] = self._held.get(kind, 0) + 1
                return None
            self._last[kind] = now
            held = self._held.pop(kind, 0)
        return f"{text} (and {held} more like it)" if held else text
