"""The tracker node with a scripted engine in place of a network: started as a process of its own by the node tests."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from qdtrack_ros.inference.types import Detections, EngineOutput
from qdtrack_ros.node.main import main
from qdtrack_ros.tracking import AssociationConfig, TaoConfig, TrackerConfig

LABELS = ("box", "circle")
# Pure colours (blue, green, red) and the label of the object painted in each; its embedding points along its own axis.
PALETTE = {(0, 0, 255): 0, (0, 255, 0): 0, (255, 0, 0): 1, (0, 255, 255): 1}
POISON = (255, 255, 255)  # a picture whose first pixel is white makes the network give NaN
BOMB = (1, 2, 3)  # a picture whose first pixel is this makes the engine raise
MUTE = (7, 7, 7)  # after such a picture the engine has no name, until the next one: diagnostics cannot be written
MEMORY_BOMB = (3, 2, 1)  # the same, as PyTorch does when the GPU's memory is used up


class ScriptedPreset(NamedTuple):
    """Stands for a preset."""

    name: str = "scripted"
    labels: tuple[str, ...] = LABELS
    association: TrackerConfig = AssociationConfig()


class ColourEngine:
    """Finds filled rectangles of pure colours."""

    name = "scripted cpu"
    embedding_dim = 8
    at_once: int | None = None
    streams = 1

    def __init__(self, model_id: str = "0123456789abcdef") -> None:
        self.model_id = model_id

    def detect(self, images: Sequence[np.ndarray]) -> EngineOutput:
        """See Engine."""
        return EngineOutput([self._find(image) for image in images], 0.0, 1.0, 0.0)

    def warmup(self, pictures: int = 1, threads: int = 1) -> None:
        """See Engine."""
        self.detect([np.zeros((8, 8, 3), np.uint8)])

    def close(self) -> None:
        """See Engine."""

    def _find(self, image: np.ndarray) -> Detections:
        if tuple(image[0, 0]) == BOMB:
            raise RuntimeError("the scripted engine was told to fail")
        if tuple(image[0, 0]) == MUTE:
            self.name = "" if self.name is None else None  # type: ignore[assignment]
        if tuple(image[0, 0]) == MEMORY_BOMB:
            import torch

            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nGPU 0 has none left.")
        boxes, labels, embeddings = [], [], []
        for axis, (colour, label) in enumerate(PALETTE.items()):
            rows, columns = np.nonzero((image == np.array(colour, np.uint8)).all(axis=2))
            if len(rows):
                boxes.append([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
                labels.append(label)
                embeddings.append(20.0 * np.eye(self.embedding_dim)[axis])
        if not boxes:
            return Detections.empty(self.embedding_dim)
        scores = np.linspace(0.99, 0.95, len(boxes), dtype=np.float32)
        found = np.array(embeddings, np.float32)
        if tuple(image[0, 0]) == POISON:
            found[:] = np.nan
        return Detections(np.array(boxes, np.float32), scores, np.array(labels, np.int64), found)


def scripted_engine(preset: Any, weights: str | None, device: str, engine: str, precision: str) -> ColourEngine:
    """An engine factory; weights may name a file, which must exist and gives the model its identity."""
    if weights is None:
        return ColourEngine()
    return ColourEngine(Path(weights).read_text(encoding="utf-8").strip())


def scripted_preset(name_or_path: str, weights: str | None) -> ScriptedPreset:
    """A preset loader; ``tao`` has the TAO variant of the association, others the usual one.

    ``slow`` never ends; ``until:FILE`` ends when there is such a file.

    ``telling`` warns as the package's other parts do.
    """
    if name_or_path == "telling":
        logging.getLogger("qdtrack_ros.models.checkpoint").warning("the embedding head\nis untrained")
    kind, _, file = name_or_path.partition(":")
    while name_or_path == "slow" or (kind == "until" and not Path(file).exists()):
        threading.Event().wait(0.1)
    return ScriptedPreset(association=TaoConfig()) if name_or_path == "tao" else ScriptedPreset()


if __name__ == "__main__":
    sys.exit(main(engine_factory=scripted_engine, preset_loader=scripted_preset))
