"""Detections kept on disk, and an engine that gives them again: association can be tried out without the network."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from qdtrack_ros.files import replacing
from qdtrack_ros.inference.types import Detections, EngineOutput


class RecordedEngine:
    """Gives recorded detections, one image after the other, whatever the image shows.

    Args:
        detections: of the images in their order, source pixels.
        embedding_dim: D.
        model_id: of the network that found them.
    """

    name = "recorded"
    at_once: int | None = 1
    streams = 1

    def __init__(self, detections: Sequence[Detections], embedding_dim: int, model_id: str) -> None:
        self._detections = iter(detections)
        self.embedding_dim = embedding_dim
        self.model_id = model_id

    def detect(self, images: Sequence[np.ndarray]) -> EngineOutput:
        """The next detections, as many as there are images."""
        return EngineOutput([next(self._detections) for _ in images], 0.0, 0.0, 0.0)

    def warmup(self, pictures: int = 1, threads: int = 1) -> None:
        """Nothing to warm up."""

    def close(self) -> None:
        """Nothing to free."""


def save_detections(path: Path, frames: Sequence[Detections | None]) -> None:
    """Write the detections of a sequence to an ``.npz`` file; None stands for a frame that was left out."""
    there = [frame for frame in frames if frame is not None]
    counts = np.array([-1 if frame is None else len(frame.scores) for frame in frames], np.int64)
    none = Detections.empty(there[0].embeddings.shape[1] if there else 0)
    boxes, scores, labels, embeddings = (np.concatenate(parts) for parts in zip(none, *there, strict=True))
    with replacing(path) as file:
        np.savez(file, counts=counts, boxes=boxes, scores=scores, labels=labels, embeddings=embeddings)


def load_detections(path: Path) -> list[Detections | None] | None:
    """What ``save_detections`` wrote; None where there is no such file, or where it is damaged."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            counts, parts = arrays["counts"], [arrays[name] for name in Detections._fields]
    except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile):
        return None
    if any(len(part) != counts.clip(0).sum() for part in parts):
        return None
    ends = np.cumsum(counts.clip(0)).tolist()
    return [
        None if count < 0 else Detections(*(part[end - count : end] for part in parts))
        for count, end in zip(counts.tolist(), ends, strict=True)
    ]
