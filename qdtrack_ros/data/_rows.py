"""Reading of text annotations row by row, with faults collected by file and line."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

from qdtrack_ros.data.types import DataError, DataFault


class RowError(ValueError):
    """A fault of one row, before the reader knows its place."""


class Rows:
    """The non-empty rows of a text file; ``fault()`` notes a bad one, ``close()`` raises for all of them together."""

    def __init__(self, path: Path, separator: str | None) -> None:
        self.path = path
        self._separator = separator
        self._faults: list[DataFault] = []
        self._first: dict[tuple[int, int], int] = {}

    def __iter__(self) -> Iterator[tuple[int, list[str]]]:
        """Line number (from 1) and fields."""
        try:
            text = self.path.read_text(encoding="utf-8-sig")
        except OSError as error:
            raise DataError(f"{self.path}: cannot be read ({error.strerror}); expected an annotation file") from error
        except UnicodeDecodeError as error:
            raise DataError(f"{self.path}: not a text file (byte {error.start}); expected annotation rows") from error
        for line, row in enumerate(text.splitlines(), start=1):
            if row.strip():
                yield line, [field.strip() for field in row.split(self._separator)]

    def fault(self, line: int, reason: str) -> None:
        """Note a faulty row."""
        self._faults.append(DataFault(self.path, line, reason))

    def check_unique(self, line: int, frame: int, instance_id: int | None) -> None:
        """``RowError`` when the same identity was already seen in the same frame."""
        if instance_id is None:
            return
        first = self._first.setdefault((frame, instance_id), line)
        if first != line:
            raise RowError(f"identity {instance_id} appears twice in frame {frame} (first in line {first})")

    def close(self) -> None:
        """Raise ``DataError`` when any row was faulty."""
        if self._faults:
            raise DataError(f"{self.path}: {len(self._faults)} faulty rows", self._faults)


def number(text: str, what: str) -> float:
    """A finite number."""
    try:
        value = float(text)
    except ValueError:
        raise RowError(f"{what} is {text!r}, expected a number") from None
    if not math.isfinite(value):
        raise RowError(f"{what} is {text!r}, expected a finite number")
    return value


def integer(text: str, what: str) -> int:
    """A whole number; "3.0" counts as one, as some tools write it."""
    value = number(text, what)
    if value != int(value):
        raise RowError(f"{what} is {text!r}, expected a whole number")
    return int(value)


def identity(text: str) -> int | None:
    """An identity; -1 says that there is none, 0 is an identity."""
    value = integer(text, "identity")
    if value < -1:
        raise RowError(f"identity is {value}, expected 0 or more, or -1 for none")
    return None if value == -1 else value


def frame_index(text: str, first: int, count: int) -> int:
    """A frame number in ``first .. first + count - 1``, as 0-based index."""
    value = integer(text, "frame")
    if not first <= value < first + count:
        raise RowError(f"frame is {value}, the sequence has frames {first} to {first + count - 1}")
    return value - first
