"""Tasks for workers: a module of its own, because other processes must be able to import it."""

from __future__ import annotations

import logging
import os
import signal
from pathlib import Path

from qdtrack_ros.data.types import DataError


def square(item: int) -> int:
    if item == 3:
        raise DataError("bag 3 cannot be read")
    if item == 4:
        raise KeyError("a fault of ours")
    return item * item


def die_at_first(folder: Path, item: int) -> int:
    """The worker of item 1 is killed the first time, that of item 2 every time."""
    marker = folder / str(item)
    if item == 2 or (item == 1 and not marker.exists()):
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return -item


def warn(item: int) -> None:
    logging.getLogger("qdtrack_ros.somewhere").warning("item %d is odd", item)


def seen_gpus(item: int) -> str:
    """The GPUs that the worker may use."""
    return os.environ.get("CUDA_VISIBLE_DEVICES", "all")
