"""What metrics and writers take: the tracks of one frame, as arrays of one length K."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from qdtrack_ros.data.types import DataError
from qdtrack_ros.evaluation.boxes import Boxes

_Key = TypeVar("_Key")


class FrameTracks(Protocol):
    """Tracks of one frame: ``ids`` int64 [K], 0 or more and each once, and ``boxes`` [K, 4] xyxy in source pixels."""

    @property
    def ids(self) -> npt.NDArray[np.int64]:
        """Identities."""

    @property
    def boxes(self) -> npt.NDArray[np.floating[Any]]:
        """Boxes."""


class ScoredTracks(FrameTracks, Protocol):
    """Tracks of one frame with ``scores`` [K] in [0, 1]."""

    @property
    def scores(self) -> npt.NDArray[np.float32]:
        """Scores."""


class LabelledTracks(ScoredTracks, Protocol):
    """Tracks of one frame with ``labels`` int64 [K], indices into the names of the classes."""

    @property
    def labels(self) -> npt.NDArray[np.int64]:
        """Classes."""


class VideoTracks(NamedTuple):
    """Tracks of one video, as servers want them.

    Attributes:
        name: of the video, as the benchmark writes it.
        pictures: file name of each frame, as the benchmark's annotations write it.
        frames: tracks of each frame, empty ones included.
    """

    name: str
    pictures: Sequence[str]
    frames: Sequence[LabelledTracks]


class TrackRow(NamedTuple):
    """One track in one frame."""

    identity: int
    label: int
    score: float
    box: tuple[float, float, float, float]


def track_rows(tracks: LabelledTracks) -> Iterator[TrackRow]:
    """The tracks of a frame one by one, as Python's numbers."""
    columns = (tracks.ids, tracks.labels, tracks.scores, tracks.boxes)
    for identity, label, score, box in zip(*(column.tolist() for column in columns), strict=True):
        yield TrackRow(identity, label, score, tuple(box))


def frame_by_frame(
    name: str, keys: Sequence[_Key], frames: Sequence[LabelledTracks]
) -> Iterator[tuple[_Key, LabelledTracks]]:
    """What a benchmark knows each frame by, with its tracks.

    Raises:
        DataError: different numbers of both.
    """
    if len(keys) != len(frames):
        raise DataError(f"{name}: tracks of {len(frames)} frames, but {len(keys)} pictures or times; expected as many")
    yield from zip(keys, frames, strict=True)


def check_identities(place: str, ids: npt.NDArray[np.int64], boxes: Boxes) -> None:
    """Refuse what cannot be evaluated in one frame.

    Raises:
        DataError: different numbers of ids and boxes, a box that is not finite, a negative id, an id twice.
    """
    if len(ids) != len(boxes) or not np.isfinite(boxes).all():
        raise DataError(f"{place} has {len(ids)} ids and {len(boxes)} boxes; expected as many, and finite boxes")
    if (ids < 0).any():
        raise DataError(f"{place} has a box without identity; expected ids of 0 or more")
    values, counts = np.unique(ids, return_counts=True)
    if (counts > 1).any():
        raise DataError(f"{place} has identity {values[counts > 1][0]} more than once; expected each once")
