"""The values that pass from an engine to association: detections of one image, and what a call of an engine gives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt


class Detections(NamedTuple):
    """Detections of one image in source pixels, sorted by falling score.

    Attributes:
        boxes: float32 [N, 4], xyxy.
        scores: float32 [N], in [0, 1].
        labels: int64 [N], index into the preset's labels.
        embeddings: float32 [N, D], not normalised (the association uses the raw dot product).
    """

    boxes: npt.NDArray[np.float32]
    scores: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]
    embeddings: npt.NDArray[np.float32]

    @property
    def is_finite(self) -> bool:
        """False for NaN or infinity: engines pass them on so that users can tell, and such a frame counts as empty."""
        return all(bool(np.isfinite(part).all()) for part in (self.boxes, self.scores, self.embeddings))

    @classmethod
    def empty(cls, embedding_dim: int) -> Detections:
        """No detections, with the right dtypes and shapes."""
        return cls(
            np.zeros((0, 4), np.float32),
            np.zeros(0, np.float32),
            np.zeros(0, np.int64),
            np.zeros((0, embedding_dim), np.float32),
        )


class EngineOutput(NamedTuple):
    """Result of one engine call on a batch of images.

    Attributes:
        detections: one entry per image, in the order given.
        preprocess_ms: resizing, normalising and transfer, for the whole batch, milliseconds.
        inference_ms: the network.
        postprocess_ms: copy to the host and conversion to source pixels.
    """

    detections: list[Detections]
    preprocess_ms: float
    inference_ms: float
    postprocess_ms: float


class EngineError(RuntimeError):
    """An engine that cannot be built or used as asked; the message says what to do."""


class Engine(Protocol):
    """Whatever turns images into detections with embeddings.

    Attributes:
        name: engine, device and precision as a person would name them, e.g. ``torch cpu fp32``.
        model_id: hash of the weights; embeddings can be compared only when it is equal.
        embedding_dim: D.
        at_once: the most pictures that are quicker in one call than in several; None: any number.
        streams: how many threads may call :meth:`detect` at the same time, and are the quicker for it.
    """

    name: str
    model_id: str
    embedding_dim: int
    at_once: int | None
    streams: int

    def detect(self, images: Sequence[np.ndarray]) -> EngineOutput:
        """Detect on a batch of uint8 BGR images [H, W, 3], whose sizes may differ."""
        ...

    def warmup(self, pictures: int = 1, threads: int = 1) -> None:
        """Run on blank images, so that the first real frames are not slower than the others.

        Args:
            pictures: how many will come in one call, at most.
            threads: how many will call at the same time, at most; lowers `streams` to it.
        """
        ...

    def close(self) -> None:
        """Free device memory; the engine must not be used afterwards."""
        ...
