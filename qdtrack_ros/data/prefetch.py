"""Decoding ahead: pictures are decoded in a thread while the network works on those before them."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterable
from dataclasses import replace
from functools import partial
from typing import TypeAlias

from qdtrack_ros.data.types import DataError, Frame, Image, in_memory

DEPTH = 4  # decoded pictures that wait at most; more would not be quicker, only larger
_POLL_S = 0.1

_Item: TypeAlias = "Frame | BaseException | None"  # None ends
_Waiting: TypeAlias = "queue.Queue[_Item]"


def prefetched(frames: Iterable[Frame], depth: int = DEPTH) -> Generator[Frame, None, None]:
    """The same frames in the same order, decoded ahead by a thread.

    ``load()`` of a frame gives the picture that is there already, or raises the ``DataError`` that decoding it raised.
    What the source itself raises between two frames is raised at that place. Closing the iterator ends the thread.

    Args:
        frames: a source with a length. A live one has nothing to decode ahead; its frames would only grow old.
        depth: decoded pictures that wait at most.
    """
    if depth < 1:
        raise ValueError(f"depth is {depth}; expected at least 1")
    waiting: _Waiting = queue.Queue(depth)
    stop = threading.Event()
    thread = threading.Thread(target=_decode, args=(frames, waiting, stop), name="qdtrack_decoder", daemon=True)
    thread.start()
    try:
        while (item := waiting.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stop.set()
        thread.join()


def _decode(frames: Iterable[Frame], waiting: _Waiting, stop: threading.Event) -> None:
    try:
        for frame in frames:
            if not _put(waiting, _decoded(frame), stop):
                return
    except BaseException as error:  # raised again where the frames are read
        _put(waiting, error, stop)
    else:
        _put(waiting, None, stop)


def _put(waiting: _Waiting, item: _Item, stop: threading.Event) -> bool:
    """Put an item in the queue when there is room; False when nobody wants it any more."""
    while not stop.is_set():
        try:
            waiting.put(item, timeout=_POLL_S)
        except queue.Full:
            continue
        return True
    return False


def _decoded(frame: Frame) -> Frame:
    try:
        return replace(frame, load=in_memory(frame.load()))
    except DataError as error:
        return replace(frame, load=partial(_fail, error))


def _fail(error: DataError) -> Image:
    raise error
