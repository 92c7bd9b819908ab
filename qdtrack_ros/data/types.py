"""What every reader gives: a ``Sequence`` of ``Frame`` with ``Annotation``.

Frames are 0-based. Boxes are ``xyxy`` in pixels of the source image, origin at the top-left corner of its
top-left pixel, and stay as the source states them (they may reach beyond the picture).
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as AbstractSequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

Image: TypeAlias = npt.NDArray[np.uint8]

REPORTED_FAULTS = 10  # faulty rows that an error message quotes; all of them are in ``DataError.faults``


class DataFault(NamedTuple):
    """One faulty place of an input file; ``line`` counts from 1, None where the format has no lines."""

    path: Path
    line: int | None
    reason: str

    def __str__(self) -> str:
        place = f"{self.path}" if self.line is None else f"{self.path}:{self.line}"
        return f"{place}: {self.reason}"


class DataError(ValueError):
    """Input that cannot be used.

    The message says what was found and what was expected, and quotes the first faulty rows; ``faults`` holds them all.
    """

    def __init__(self, summary: str, faults: AbstractSequence[DataFault] = ()) -> None:
        self.faults = tuple(faults)
        lines = [summary, *(f"  {fault}" for fault in self.faults[:REPORTED_FAULTS])]
        if len(self.faults) > REPORTED_FAULTS:
            lines.append(f"  ... and {len(self.faults) - REPORTED_FAULTS} more")
        super().__init__("\n".join(lines))


@dataclass(frozen=True, slots=True)
class Annotation:
    """One labelled box.

    Attributes:
        box: x1, y1, x2, y2 in pixels of the source image.
        label: class name as the source writes it.
        instance_id: identity within the sequence (0 is an identity); None when the source gives none.
        ignore: the source says not to count this box, neither as found nor as missed.
        crowd: the box is a region that holds objects not labelled one by one.
        visibility: visible part in [0, 1]; 1 where the source does not tell.
        difficulty: level that the source gives (Waymo: 1 or 2; KITTI: 2 for boxes that its benchmark leaves out); 0
            where it gives none.
    """

    box: tuple[float, float, float, float]
    label: str
    instance_id: int | None = None
    ignore: bool = False
    crowd: bool = False
    visibility: float = 1.0
    difficulty: int = 0


@dataclass(frozen=True, slots=True)
class Frame:
    """One picture of a sequence; ``load()`` decodes it as uint8 [H, W, 3] BGR and raises ``DataError`` when that fails.

    ``width`` and ``height`` are None where they are not known without decoding, ``timestamp_ns`` where the source has
    no clock, ``path`` where the picture is no file of its own.
    """

    index: int
    timestamp_ns: int | None
    width: int | None
    height: int | None
    annotations: tuple[Annotation, ...]
    load: Callable[[], Image]
    path: Path | None = None


@dataclass(frozen=True)
class LabelCoverage:
    """What a source tells that labels only some classes in each video (TAO).

    Attributes:
        absent: classes that were looked for and are not there.
        partial: classes that are there, but not every object of which is labelled.
    """

    absent: frozenset[str]
    partial: frozenset[str]


def in_memory(image: Image) -> Callable[[], Image]:
    """A ``load`` for a frame whose picture is there already; picklable."""
    return partial(_as_it_is, image)


def _as_it_is(image: Image) -> Image:
    return image


@dataclass(frozen=True)
class Sequence:
    """A video, a bag topic, a folder or a set of stills.

    ``frames`` decodes nothing by itself. A live source (camera, network stream) can only be iterated, once: ``len`` and
    indexing raise ``TypeError``. ``is_video`` is False for stills, whose neighbours in the list have nothing to do with
    one another; ``frame_rate`` is in frames per second. ``coverage`` is None where every class is labelled throughout.
    ``is_cut`` says that the file is damaged, and frames may be missing at its end.
    """

    name: str
    frames: AbstractSequence[Frame]
    frame_rate: float | None
    is_video: bool
    coverage: LabelCoverage | None = None
    is_cut: bool = False
