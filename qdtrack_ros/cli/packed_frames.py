"""Arrays of very many frames in little memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar, overload

import numpy as np
import numpy.typing as npt

T = TypeVar("T", bound="tuple[Any, ...]")

_BLOCK = 1024  # frames that are kept together


class PackedFrames(Sequence[T]):
    """Frames that are named tuples of arrays of one length, kept as one array a column and a thousand frames.

    An array of its own takes a hundred bytes before its first value: of ten objects a frame that is most of it. What is
    got out are views.

    Args:
        kind: of the tuples.
        frames: the first ones.
    """

    def __init__(self, kind: Callable[..., T], frames: Iterable[T] = ()) -> None:
        self._kind = kind
        self._blocks: list[tuple[npt.NDArray[np.int32], list[Any]]] = []  # where each frame begins, and the columns
        self._loose: list[T] = []
        for frame in frames:
            self.append(frame)

    def append(self, frame: T) -> None:
        """Add the next frame."""
        self._loose.append(frame)
        if len(self._loose) == _BLOCK:
            starts = np.cumsum([0, *(len(one[0]) for one in self._loose)], dtype=np.int32)
            self._blocks.append((starts, [np.concatenate(column) for column in zip(*self._loose, strict=True)]))
            self._loose = []

    def __len__(self) -> int:
        return len(self._blocks) * _BLOCK + len(self._loose)

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> list[T]: ...
    def __getitem__(self, index: int | slice) -> T | list[T]:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        position = index + len(self) if index < 0 else index
        if not 0 <= position < len(self):
            raise IndexError(f"frame {index} asked for, there are {len(self)}")
        block, place = divmod(position, _BLOCK)
        if block == len(self._blocks):
            return self._loose[place]
        starts, columns = self._blocks[block]
        return self._kind(*(column[starts[place] : starts[place + 1]] for column in columns))
