"""How the process of the node uses processors and memory; the environment variables named here have the last word."""

from __future__ import annotations

import contextlib
import ctypes
import os

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
_LARGEST_MMAP_THRESHOLD = 32 << 20  # glibc takes no more
_KEPT_BYTES = 256 << 20


def settle_in() -> None:
    """Suit a process that shares its machine and handles an image every few milliseconds; before PyTorch is loaded."""
    _let_waiting_threads_sleep()
    _keep_freed_memory()


def _let_waiting_threads_sleep() -> None:
    """PyTorch's threads wait for one another by spinning.

    That is the quickest way on an idle machine, and the slowest beside a camera driver and all else that runs on a
    robot. OpenMP reads this when PyTorch is loaded.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def _keep_freed_memory() -> None:
    """Reuse the memory of the last image for the next one.

    By default, a thread's freed megabytes go back to the system at once, and come again page by page: for a 720p image
    that takes longer than all else that the node does with it.
    """
    if "GLIBC_TUNABLES" in os.environ or any(name.startswith("MALLOC_") for name in os.environ):
        return
    with contextlib.suppress(AttributeError, OSError):  # another C library
        library = ctypes.CDLL(None)
        library.mallopt(_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD)
        library.mallopt(_TRIM_THRESHOLD, _KEPT_BYTES)
