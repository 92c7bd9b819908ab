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
        self._held: dict[str, tuple[int, str]] = {}
        self._lock = threading.Lock()

    def pass_on(self, kind: str, text: str) -> str | None:
        """The text to log now, or None while this kind is held back."""
        now = self._clock()
        with self._lock:
            held, _ = self._held.get(kind, (0, ""))
            last = self._last.get(kind)
            if last is not None and now - last < self._period_s:
                self._held[kind] = (held + 1, text)
                return None
            self._last[kind] = now
            self._held.pop(kind, None)
        return _with_count(text, held)

    def overdue(self, all_held: bool = False) -> list[tuple[str, str]]:
        """Kinds and texts held back that no later message has told of, and none is awaited for: to log now.

        Args:
            all_held: also those whose period is not over, as at an end.
        """
        now = self._clock()
        with self._lock:
            kinds = [kind for kind in self._held if all_held or now - self._last[kind] >= self._period_s]
            told = {kind: self._held.pop(kind) for kind in kinds}
            self._last.update(dict.fromkeys(kinds, now))
        return [(kind, _with_count(text, count - 1)) for kind, (count, text) in told.items()]


def _with_count(text: str, more: int) -> str:
    return f"{text} (and {more} more like it)" if more else text
