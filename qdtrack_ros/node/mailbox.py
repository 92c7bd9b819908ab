"""Single-slot mailboxes between subscriptions and worker: the newest frame wins, and every frame is accounted for."""

from __future__ import annotations

import math
import threading
import time
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T")

OVERWRITTEN = "overwritten"
"""Drop reason of a frame that was replaced by a newer one before the worker took it."""

DEACTIVATED = "deactivated"
"""Drop reason of a frame that still waited when the node was deactivated."""


class MailboxCounts(NamedTuple):
    """Frames of one camera whose fate is decided.

    Attributes:
        received: always exactly `processed` + `dropped`; a frame that waits or is being worked on is not in it yet.
        processed: frames that gave a result.
        dropped: frames that gave none.
        reasons: `dropped` by reason; the values sum up to it.
    """

    received: int
    processed: int
    dropped: int
    reasons: Mapping[str, int]


class Mailbox(Generic[T]):
    """Holds the newest frame of one camera until the worker takes it. All methods may be called from any thread.

    Args:
        condition: notified when a frame arrives. Several mailboxes that one worker serves share one condition.
    """

    def __init__(self, condition: threading.Condition | None = None) -> None:
        self.condition = condition if condition is not None else threading.Condition()
        self._slot: list[T] = []
        self._filled_s = 0.0
        self._in_work = 0
        self._arrived = 0
        self._processed = 0
        self._drops: Counter[str] = Counter()
        self._last_s = time.monotonic()

    def put(self, frame: T) -> bool:
        """Store the newest frame; True when an older one had to give way (counted as dropped)."""
        with self.condition:
            overwritten = bool(self._slot)
            if overwritten:
                self._drops[OVERWRITTEN] += 1
            self._slot = [frame]
            self._arrived += 1
            self._last_s = time.monotonic()
            if not overwritten:
                self._filled_s = self._last_s
            self.condition.notify_all()
            return overwritten

    def take(self) -> T | None:
        """The waiting frame, or None. Each frame taken must be settled by `processed` or `dropped`."""
        with self.condition:
            if not self._slot:
                return None
            self._in_work += 1
            return self._slot.pop()

    def processed(self) -> MailboxCounts:
        """Settle a frame that was taken: it gave a result. Returns the counts with this frame in them."""
        with self.condition:
            self._settle()
            self._processed += 1
            return self._counts()

    def dropped(self, reason: str) -> MailboxCounts:
        """Settle a frame that was taken: it gave no result, for `reason`."""
        with self.condition:
            self._settle()
            self._drops[reason] += 1
            return self._counts()

    def discard(self, reason: str) -> bool:
        """Drop the waiting frame, if there is one; True when there was."""
        with self.condition:
            if not self._slot:
                return False
            self._slot.clear()
            self._drops[reason] += 1
            return True

    @property
    def waiting(self) -> bool:
        """Whether a frame waits."""
        with self.condition:
            return bool(self._slot)

    @property
    def waiting_since_s(self) -> float:
        """Since when there has been a frame that waits, by the monotonic clock: a newer one takes over its place."""
        with self.condition:
            return self._filled_s if self._slot else math.inf

    @property
    def silent_s(self) -> float:
        """Seconds since the last frame arrived, or since frames are expected."""
        return time.monotonic() - self._last_s

    def expect(self) -> None:
        """Begin to expect frames: silence counts from now."""
        self._last_s = time.monotonic()

    def counts(self) -> MailboxCounts:
        """The counts of all frames whose fate is decided."""
        with self.condition:
            return self._counts()

    def _settle(self) -> None:
        if self._in_work == 0:
            raise RuntimeError("no frame of this mailbox is being worked on: settle each frame taken exactly once")
        self._in_work -= 1

    def _counts(self) -> MailboxCounts:
        received = self._arrived - len(self._slot) - self._in_work
        return MailboxCounts(received, self._processed, self._drops.total(), dict(self._drops))


def wait_for_frames(
    mailboxes: Sequence[Mailbox[T]],
    stop: threading.Event,
    batch_wait_s: float = 0.0,
    silent_after_s: float = math.inf,
    at_most: int | None = None,
    busy: Collection[int] = (),
) -> list[tuple[int, T]]:
    """Sleep until a frame is there or `stop` is set, then take what is ready.

    After the first frame the other mailboxes get at most `batch_wait_s` to deliver one each. To end the wait, set
    `stop` and then notify the condition.

    Args:
        mailboxes: those of one worker; they share one condition.
        stop: ends the wait.
        batch_wait_s: how long the first frame waits for the other mailboxes, seconds.
        silent_after_s: a mailbox without a frame for this long is not waited for: a dead camera delays no other.
        at_most: frames to take; those of the mailboxes that have waited longest, so that each has its turn.
        busy: indices of mailboxes to take nothing from; may change while this waits, with a notification.

    Returns:
        Pairs of mailbox index and frame, at most one per mailbox, by index; empty only when `stop` is set.
    """
    condition = mailboxes[0].condition
    if any(box.condition is not condition for box in mailboxes):
        raise ValueError("the mailboxes of one worker must share one condition")
    most = len(mailboxes) if at_most is None else at_most

    def ready() -> list[int]:
        return [index for index, box in enumerate(mailboxes) if box.waiting and index not in busy]

    def complete() -> bool:
        there = ready()
        others = (box for index, box in enumerate(mailboxes) if index not in busy and index not in there)
        return len(there) >= most or all(box.silent_s >= silent_after_s for box in others)

    with condition:
        condition.wait_for(lambda: stop.is_set() or bool(ready()))
        if stop.is_set():
            return []
        condition.wait_for(lambda: stop.is_set() or complete(), timeout=batch_wait_s)
        by_turn = sorted(ready(), key=lambda index: mailboxes[index].waiting_since_s)
        taken = [(index, mailboxes[index].take()) for index in sorted(by_turn[:most])]
        return [(index, frame) for index, frame in taken if frame is not None]
