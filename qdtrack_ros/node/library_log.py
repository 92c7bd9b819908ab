"""What the package's other parts say through Python's logging, in the node's log: they know no ROS."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from typing import Protocol

_PACKAGE = "qdtrack_ros"


class NodeLogger(Protocol):
    """What is needed of rclpy's logger."""

    def info(self, message: str) -> object:
        """Log a message."""
        ...

    def warning(self, message: str) -> object:
        """Log a warning."""
        ...

    def error(self, message: str) -> object:
        """Log an error."""
        ...


@contextlib.contextmanager
def in_node_log(log: NodeLogger) -> Iterator[None]:
    """Within the ``with`` block what the package says stands in the node's log, and nowhere else."""
    package = logging.getLogger(_PACKAGE)
    handler, propagated, level = _Handler(log), package.propagate, package.level
    package.addHandler(handler)
    package.setLevel(logging.INFO)
    package.propagate = False  # else the command line's handler would print them a second time
    try:
        yield
    finally:
        package.removeHandler(handler)
        package.propagate = propagated
        package.setLevel(level)


class _Handler(logging.Handler):
    def __init__(self, log: NodeLogger) -> None:
        super().__init__(logging.INFO)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        text = " ".join(record.getMessage().split())
        # One call a line: rclpy remembers the severity of each call by its place in the source.
        if record.levelno >= logging.ERROR:
            self._log.error(text)
        elif record.levelno >= logging.WARNING:
            self._log.warning(text)
        else:
            self._log.info(text)
