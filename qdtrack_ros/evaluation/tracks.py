"""What metrics and writers take: the tracks of one frame, as arrays of one length K."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt


class FrameTracks(Protocol):
    """Tracks of one frame: ``ids`` int64 [K], 0 or more and each once, and ``boxes`` [K, 4] xyxy in source pixels."""

    @property
    def ids(self) -> npt.NDArray[np.int64]:
        """Identities."""

    @property
    def boxes(self) -> npt.NDArray[np.float32]:
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
