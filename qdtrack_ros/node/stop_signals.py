"""SIGINT and SIGTERM: the first asks for an orderly end, the second ends the process at once."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from types import FrameType, TracebackType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(BaseException):
    """A signal came within `StopSignals.interruptible`. No `Exception`, so that no library takes it for its own."""


class StopSignals:
    """A context manager that takes over both signals; for the main thread.

    Python's handlers run only when the main thread is back from C code, where the executor sleeps; the wake-up socket
    is written by the signal itself, and a thread waits on it.
    """

    def __init__(self) -> None:
        self._name = ""  # for the thread that waits
        self._handled = ""  # for the main thread, which may have handled a signal before that thread has woken up
        self._interruptible = False
        self._on_stop: Callable[[str], object] | None = None
        self._lock = threading.Lock()

    def __enter__(self) -> StopSignals:
        self._reader, self._writer = socket.socketpair()
        self._writer.setblocking(False)
        self._handlers = {number: signal.signal(number, self._handle) for number in _SIGNALS}
        self._descriptor = signal.set_wakeup_fd(self._writer.fileno())
        self._thread = threading.Thread(target=self._wait, name="qdtrack_signals", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        signal.set_wakeup_fd(self._descriptor)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._reader.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._reader.close()
        self._writer.close()

    def on_stop(self, call: Callable[[str], object]) -> None:
        """Have `call` called with the signal's name, from a thread of its own; at once when the signal came already."""
        with self._lock:
            self._on_stop = call
            name = self._name
        if name:
            call(name)

    @contextlib.contextmanager
    def interruptible(self) -> Iterator[None]:
        """Around long work of the main thread: a signal ends it.

        Raises:
            Interrupted: a signal came, now or before; its text is the signal's name.
        """
        self._interruptible = True
        try:
            self._check()
            yield
            self._check()  # some library may have swallowed the interruption
        finally:
            self._interruptible = False

    def _check(self) -> None:
        if name := self._handled or self._name:
            raise Interrupted(name)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._handled = self._handled or signal.Signals(number).name
        if self._interruptible:
            self._interruptible = False  # once: what cleans up after it must not be interrupted
            raise Interrupted(self._handled)

    def _wait(self) -> None:
        with contextlib.suppress(OSError, ValueError):  # closed at the end
            numbers = _received(self._reader)
            name = signal.Signals(next(numbers)).name
            with self._lock:
                self._name = name
                call = self._on_stop
            if call is not None:
                call(name)
            os._exit(128 + next(numbers))


def _received(reader: socket.socket) -> Iterator[int]:
    """The numbers of our signals, as they come."""
    while True:
        data = reader.recv(1)
        if not data:
            raise OSError("the socket was closed")
        if data[0] in _SIGNALS:
            yield data[0]
