"""What a camera's header stamps do to its tracker: go on, drop the frame, or start a new session."""

from __future__ import annotations

import enum
from typing import NamedTuple

# Frames of the old time that can still be under way when /clock jumps: in work, in the mailbox, in the queue.
_LATE_FRAMES = 3

ZERO_STAMP = "zero_stamp"
REPEATED_STAMP = "repeated_stamp"
TIME_JUMP = "time_jump"


class Verdict(enum.Enum):
    """What to do with a frame because of its stamp."""

    ACCEPT = "accept"
    DROP = "drop"
    RESET = "reset"


class StampCheck(NamedTuple):
    """Result of `ClockGuard.check`.

    Attributes:
        verdict: what to do with the frame; RESET means: start a new session, then process the frame.
        tracker_ns: the time to give to the tracker, integer nanoseconds; never goes back within a session.
        warning: what to tell the user, empty when there is nothing new to tell.
        kind: of warning, for throttling and for the diagnostics.
    """

    verdict: Verdict
    tracker_ns: int
    warning: str = ""
    kind: str = ""


class ClockGuard:
    """Judges the stamps of one camera, in the order in which its frames are processed.

    - Forward, by any amount: accepted.
    - Repeated: accepted, with a warning once. Such a frame still gets its output; the tracker's time stands still.
      (Coarse clocks give equal stamps to different pictures, and losing pictures is worse than tracking one twice.)
    - Back by less than `reset_on_jump_s`: dropped.
    - Further back: reset. The frame is the first one of a new session.
    - Zero (the driver sets no stamp): accepted without a comparison, with a warning once. Only in a session that itself
      began at zero, as with simulation time, is zero a time like any other.

    Args:
        reset_on_jump_s: seconds; raising it makes the guard drop more late frames before it believes in a jump.
    """

    def __init__(self, reset_on_jump_s: float = 1.0) -> None:
        if not reset_on_jump_s > 0:
            raise ValueError(f"reset_on_jump_s must be above 0 seconds, got {reset_on_jump_s}")
        self._limit_ns = round(reset_on_jump_s * 1e9)
        self._last_ns: int | None = None
        self._began_at_zero = False
        self._warned_zero = False
        self._warned_repeated = False
        self._late_beyond_ns: int | None = None
        self._late_allowance = 0

    def check(self, stamp_ns: int) -> StampCheck:
        """Judge the stamp of the next frame; `stamp_ns` is the header stamp in integer nanoseconds."""
        if self.is_late(stamp_ns):
            self._late_allowance = max(0, self._late_allowance - 1)
            return StampCheck(Verdict.DROP, stamp_ns if self._last_ns is None else self._last_ns)
        if self._last_ns is None:
            return self._begin(stamp_ns)
        if self._is_missing(stamp_ns):
            return StampCheck(Verdict.ACCEPT, self._last_ns, self._zero_warning(), ZERO_STAMP)
        step_ns = stamp_ns - self._last_ns
        if step_ns <= -self._limit_ns:
            warning = f"stamps jumped back by {-step_ns / 1e9:.3f} s: new session, all tracks forgotten"
            return self._begin(stamp_ns)._replace(verdict=Verdict.RESET, warning=warning, kind=TIME_JUMP)
        self._last_ns = stamp_ns
        if step_ns == 0 and not self._warned_repeated:
            self._warned_repeated = True
            warning = "the stamp of the previous frame is repeated (told once)"
            return StampCheck(Verdict.ACCEPT, stamp_ns, warning, REPEATED_STAMP)
        return StampCheck(Verdict.ACCEPT, stamp_ns)

    def is_late(self, stamp_ns: int) -> bool:
        """Whether :meth:`check` would drop this frame as things stand; nothing changes by it."""
        if self._last_ns is None:
            return bool(self._late_allowance and self._late_beyond_ns is not None and stamp_ns > self._late_beyond_ns)
        return not self._is_missing(stamp_ns) and -self._limit_ns < stamp_ns - self._last_ns < 0

    def restart(self, last_ns: int | None = None) -> None:
        """Forget the past: the next frame is accepted whatever its stamp is, or, with `last_ns`, compared to that."""
        self._last_ns = last_ns
        self._began_at_zero = False
        self._late_beyond_ns, self._late_allowance = None, 0

    def follow_clock_back(self, now_ns: int, jump_ns: int) -> bool:
        """Take note that /clock jumped by `jump_ns` < 0 to `now_ns`; True when this camera must be reset.

        It need not when no frame came yet, or when the frames had already followed the clock back before it told us: a
        bag that loops must not start two sessions. For the same reason the few frames of the old time that are still
        under way are dropped instead of beginning a session of their own.
        """
        middle_ns = now_ns - jump_ns // 2  # later stamps belong to the old time, earlier ones to the new
        if self._last_ns is None or self._last_ns <= middle_ns:
            return False
        self.restart()
        self._late_beyond_ns, self._late_allowance = middle_ns, _LATE_FRAMES
        return True

    def _is_missing(self, stamp_ns: int) -> bool:
        """Whether a zero is no time, but the lack of one."""
        return stamp_ns == 0 and not (self._began_at_zero and self._last_ns is not None and self._last_ns > 0)

    def _begin(self, stamp_ns: int) -> StampCheck:
        self._last_ns = stamp_ns
        self._began_at_zero = stamp_ns == 0
        self._late_beyond_ns, self._late_allowance = None, 0
        if stamp_ns == 0:
            return StampCheck(Verdict.ACCEPT, stamp_ns, self._zero_warning(), ZERO_STAMP)
        return StampCheck(Verdict.ACCEPT, stamp_ns)

    def _zero_warning(self) -> str:
        if self._warned_zero:
            return ""
        self._warned_zero = True
        return "the images carry no stamp (zero): velocities and memory in seconds are not available (told once)"
