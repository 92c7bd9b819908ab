"""Calls that the executor's thread has made in the main thread, which a signal can interrupt and no other."""

from __future__ import annotations

import queue
from collections.abc import Callable
from typing import TypeVar

from rclpy.executors import Executor
from rclpy.task import Future

T = TypeVar("T")


class MainThread:
    """Where calls wait until the main thread makes them, one after the other.

    Args:
        executor: woken when a call is done, so that a coroutine that awaits it goes on.
    """

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self._calls: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()  # None ends

    def call(self, function: Callable[[], T]) -> Future[T]:
        """Have a call made; the future gets what it returns or raises."""
        future: Future[T] = Future(executor=self._executor)

        def make() -> None:
            try:
                future.set_result(function())
            except Exception as error:
                future.set_exception(error)
            self._executor.wake()

        self._calls.put(make)
        return future

    def serve(self) -> None:
        """Make the calls, until :meth:`close`."""
        while (call := self._calls.get()) is not None:
            call()

    def close(self) -> None:
        """End :meth:`serve` after the call in work."""
        self._calls.put(None)
