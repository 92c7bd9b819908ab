"""Reading of annotations row by row, with faults collected by their place: the line, or the place in a JSON file."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from qdtrack_ros.data.types import DataError, DataFault

T = TypeVar("T")

LARGEST_IDENTITY = 999_999_999
"""Identities are kept below this, so that those of many sequences can be told apart by adding to them."""


IDENTITY_LIMIT = 2**53
"""Identities of a file are below this: up to here a number keeps every digit on its way through a float."""


class RowError(ValueError):
    """A fault of one row, before the reader knows its place."""


class Faults:
    """Faults of an input, noted one by one; ``close()`` raises for all of them together.

    Args:
        path: file or folder that the message names.
        what: what is faulty, in the plural.
    """

    def __init__(self, path: Path, what: str = "rows") -> None:
        self.path = path
        self._what = what
        self._faults: list[DataFault] = []

    def add(self, reason: str, line: int | None = None, path: Path | None = None) -> None:
        """Note a fault; ``path`` where it is in another file than the one named above."""
        self._faults.append(DataFault(path or self.path, line, reason))

    def close(self) -> None:
        """Raise ``DataError`` when there were any."""
        if self._faults:
            raise DataError(f"{self.path}: {len(self._faults)} faulty {self._what}", self._faults)


class Rows:
    """The non-empty rows of a text file; ``fault()`` notes a bad one, ``close()`` raises for all of them together."""

    def __init__(self, path: Path, separator: str | None) -> None:
        self.path = path
        self._separator = separator
        self._faults = Faults(path)
        self._first: dict[tuple[int, int], int] = {}

    def __iter__(self) -> Iterator[tuple[int, list[str]]]:
        """Line number (from 1) and fields."""
        for line, row in text_lines(self.path):
            yield line, [field.strip() for field in row.split(self._separator)]

    def fault(self, line: int, reason: str) -> None:
        """Note a faulty row."""
        self._faults.add(reason, line)

    def check_unique(self, line: int, frame: int, instance_id: int | None) -> None:
        """``RowError`` when the same identity was already seen in the same frame."""
        if instance_id is None:
            return
        first = self._first.setdefault((frame, instance_id), line)
        if first != line:
            raise RowError(f"identity {instance_id} appears twice in frame {frame} (first in line {first})")

    def close(self) -> None:
        """Raise ``DataError`` when any row was faulty."""
        self._faults.close()


def text_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Line number (from 1) and text of every line that is not blank; ``DataError`` when the file is no text."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); expected an annotation file") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not a text file (byte {error.start}); expected annotation rows") from error
    # A line ends where an editor says it does: other separators that splitlines() knows may stand inside JSON strings.
    for line, row in enumerate(text.split("\n"), start=1):
        if row.strip():
            yield line, row


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
    if value >= IDENTITY_LIMIT:
        raise RowError(f"identity is {text}, expected less than {IDENTITY_LIMIT}")
    return None if value == -1 else value


def frame_index(text: str, first: int, count: int) -> int:
    """A frame number in ``first .. first + count - 1``, as 0-based index."""
    value = integer(text, "frame")
    if not first <= value < first + count:
        raise RowError(f"frame is {value}, the sequence has frames {first} to {first + count - 1}")
    return value - first


def load_json(path: Path, expected: str) -> Any:
    """Content of a JSON file; ``DataError`` when it is missing or is none. ``expected`` says what it should hold."""
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); expected {expected}") from error
    except ValueError as error:
        raise DataError(f"{path}: not JSON ({error}); expected {expected}") from error


def field(row: Mapping[str, Any], key: str, kind: Callable[[object, str], T]) -> T:
    """Field ``key`` of a JSON object as ``kind`` (one of the ``json_*`` below) takes it; ``RowError`` without one."""
    if key not in row:
        raise RowError(f"there is no {key}")
    return kind(row[key], key)


def json_object(value: object, what: str) -> dict[str, Any]:
    """A JSON object."""
    if not isinstance(value, dict):
        raise RowError(f"{what} is {_shown(value)}, expected an object")
    return value


def json_list(value: object, what: str) -> list[Any]:
    """A JSON list."""
    if not isinstance(value, list):
        raise RowError(f"{what} is {_shown(value)}, expected a list")
    return value


def json_text(value: object, what: str) -> str:
    """A JSON string that is not empty."""
    if not isinstance(value, str) or not value:
        raise RowError(f"{what} is {_shown(value)}, expected a text")
    return value


def json_number(value: object, what: str) -> float:
    """A finite JSON number; true and false are none."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise RowError(f"{what} is {_shown(value)}, expected a finite number")
    return float(value)


def json_integer(value: object, what: str) -> int:
    """A whole JSON number; 3.0 counts as one."""
    if json_number(value, what) != int(value):  # type: ignore[call-overload]
        raise RowError(f"{what} is {_shown(value)}, expected a whole number")
    return int(value)  # type: ignore[call-overload]


def json_flag(value: object, what: str) -> bool:
    """True or false, or 1 or 0 as many files write it."""
    if not isinstance(value, (bool, int)) or value not in (0, 1):
        raise RowError(f"{what} is {_shown(value)}, expected true or false, or 1 or 0")
    return bool(value)


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def corners(left: float, top: float, width: float, height: float) -> tuple[float, float, float, float]:
    """Box xyxy of a corner and a size of 0 or more."""
    if width < 0 or height < 0:
        raise RowError(f"box is {width:g} wide and {height:g} high, expected 0 or more")
    return left, top, left + width, top + height


def json_box(value: object, what: str) -> tuple[float, float, float, float]:
    """Box xyxy of a JSON list of left, top, width and height."""
    if not isinstance(value, list) or len(value) != 4:
        raise RowError(f"{what} is {_shown(value)}, expected four numbers (left, top, width, height)")
    left, top, width, height = (json_number(number, what) for number in value)
    return corners(left, top, width, height)


def has_area(box: tuple[float, float, float, float]) -> bool:
    """Whether a box covers anything. Published files hold some that do not; readers leave them out."""
    return box[2] > box[0] and box[3] > box[1]


def numbered(names: Iterable[str]) -> dict[str, int]:
    """An identity for each name: the number that it is, where all are different numbers, else its place in order."""
    unique = sorted(set(names))
    if all(name.isascii() and name.isdecimal() for name in unique):
        numbers = {name: int(name) for name in unique}
        if len(set(numbers.values())) == len(unique) and max(numbers.values(), default=0) <= LARGEST_IDENTITY:
            return numbers
    return {name: place for place, name in enumerate(unique, start=1)}
