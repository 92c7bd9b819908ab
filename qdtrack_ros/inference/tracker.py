"""The Python interface: frames in, tracks with persistent ids out."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from qdtrack_ros.inference.engine import create_engine
from qdtrack_ros.inference.presets import load_preset
from qdtrack_ros.inference.types import Detections, Engine
from qdtrack_ros.tracking import TrackerConfig, create_tracker

log = logging.getLogger(__name__)


class Tracks(NamedTuple):
    """Tracked objects of one frame, by falling score.

    Attributes:
        ids: int64 [K], persistent identities.
        boxes: float32 [K, 4], xyxy, source pixels.
        scores: float32 [K]; the TAO variant blends them with the tracks' earlier scores.
        labels: int64 [K], index into ``Tracker.labels``.
    """

    ids: npt.NDArray[np.int64]
    boxes: npt.NDArray[np.float32]
    scores: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]


class Tracker:
    """Detector, embedding and association for the frames of one camera.

    Args:
        engine: runs the network.
        association: thresholds and memory, of either variant.
        labels: class names.

    Attributes:
        engine: as given; several trackers may share one.
        labels: as given.
        association: the tracker behind it: live tracks, saved states.
        frame_index: index of the next frame, from 0 after a reset.
    """

    def __init__(self, engine: Engine, association: TrackerConfig, labels: tuple[str, ...]) -> None:
        self.engine = engine
        self.labels = labels
        self.association = create_tracker(association)
        self.frame_index = 0

    @classmethod
    def from_preset(
        cls,
        name_or_path: str,
        weights: str | Path | None = None,
        device: str = "auto",
        engine: str = "auto",
        form: str = "auto",
        overrides: Mapping[str, Any] | None = None,
        precision: str = "auto",
    ) -> Tracker:
        """Build a tracker from a preset.

        Args:
            name_or_path: ``pedestrian``, ``bdd100k``, ``mot17``, ``waymo``, ``tao``, or the path of a preset's file.
            weights: file of the weights, or the name of public ones that `qdtrack weights get` fetched, which brings
                the settings they were made with; None takes the preset's own.
            device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
            engine: see :func:`create_engine`.
            form: see :func:`create_engine`.
            overrides: values laid over the preset and over the settings of public weights, e.g.
                ``{"association.match_score": 0.6}``.
            precision: see :func:`create_engine`.

        Raises:
            ConfigurationError, EngineError, CheckpointError: with what to do.
        """
        preset = load_preset(name_or_path, overrides, weights)
        return cls(create_engine(preset, weights, device, engine, form, precision), preset.association, preset.labels)

    def __call__(self, frame: npt.NDArray[np.uint8], stamp_ns: int | None = None) -> Tracks:
        """Track the objects of the next frame.

        Args:
            frame: uint8 [H, W, 3], BGR.
            stamp_ns: time of the frame in nanoseconds; needed for velocities and for ``memory_seconds``.

        Raises:
            ValueError: the frame is not such a picture.
        """
        return self.associate(self.detect(frame), stamp_ns)

    def detect(self, frame: npt.NDArray[np.uint8]) -> Detections:
        """Detections with embeddings of one frame; no tracking.

        Where the network gives NaN or infinity, that is logged as an error and there are no detections.
        """
        if not isinstance(frame, np.ndarray) or frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
            found = f"{frame.dtype} {list(frame.shape)}" if isinstance(frame, np.ndarray) else type(frame).__name__
            raise ValueError(f"frame is {found}; expected a uint8 BGR picture [H, W, 3]")
        if frame.shape[0] == 0 or frame.shape[1] == 0:
            raise ValueError(f"frame is {list(frame.shape)}: a picture needs at least one pixel")
        detections = self.engine.detect([frame]).detections[0]
        if not detections.is_finite:
            log.error("the network gave NaN or infinite values; frame %d counts as empty", self.frame_index)
            return Detections.empty(self.engine.embedding_dim)
        return detections

    def associate(self, detections: Detections, stamp_ns: int | None = None) -> Tracks:
        """Track given detections: the second half of a call."""
        result = self.association.step(*detections, self.frame_index, stamp_ns)
        self.frame_index += 1
        tracked = np.flatnonzero(result.track_ids >= 0)
        # The TAO variant keeps the order of its input, and its blended scores may fall in another.
        tracked = tracked[np.argsort(-result.scores[tracked], kind="stable")]
        rows = result.indices[tracked]
        return Tracks(
            result.track_ids[tracked], detections.boxes[rows], result.scores[tracked], detections.labels[rows]
        )

    def reset(self) -> None:
        """Forget all tracks; ids start again."""
        self.association.reset()
        self.frame_index = 0
