"""The node with an engine that finds nothing and takes a given time for it; `qdtrack benchmark node` measures it.

    python -m qdtrack_ros.cli.timed_node MILLISECONDS --ros-args ...

0 milliseconds stand for the engine that the parameters name.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from functools import partial

import numpy as np

from qdtrack_ros.inference.types import Detections, Engine, EngineOutput
from qdtrack_ros.node.main import main


class TimedEngine:
    """Finds nothing, after a fixed time for a batch.

    Args:
        milliseconds: that a call takes.
    """

    model_id = "timed"
    embedding_dim = 1

    def __init__(self, milliseconds: float) -> None:
        self.name = f"timed {milliseconds:g} ms"
        self._seconds = milliseconds / 1e3

    def detect(self, images: Sequence[np.ndarray]) -> EngineOutput:
        """No detections for every image."""
        time.sleep(self._seconds)
        return EngineOutput([Detections.empty(1) for _ in images], 0.0, 1e3 * self._seconds, 0.0)

    def warmup(self) -> None:
        """Nothing to warm up."""

    def close(self) -> None:
        """Nothing to free."""


def _timed_engine(preset: object, weights: str | None, device: str, engine: str, *, milliseconds: float) -> Engine:
    return TimedEngine(milliseconds)


def _run_node(words: Sequence[str]) -> int:
    milliseconds = float(words[0])
    if not milliseconds:
        return main(words[1:])
    return main(words[1:], engine_factory=partial(_timed_engine, milliseconds=milliseconds))


if __name__ == "__main__":
    sys.exit(_run_node(sys.argv[1:]))
