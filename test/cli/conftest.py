from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from qdtrack_ros.inference import engine as engines
from qdtrack_ros.inference.types import Detections, EngineOutput

COLOURS = {(0, 0, 255): 0, (0, 255, 0): 1}  # BGR of each person, and the axis its embedding points along
FRAMES = 6
PRESET = """
labels: [person]
model: {num_classes: 1, backbone: efficientnet_lite0, fpn_channels: 16, fpn_levels: 4, anchor_scales: [3.0],
  anchor_ratios: [2.0], proposals: {per_level: 20, nms_iou: 0.7, total: 20}, box_fc_channels: 16, embedding_convs: 1,
  embedding_conv_channels: 32, embedding_fc_channels: 0, embedding_dim: 8}
preprocess: {image_scale: [96, 64]}
"""


class ColourEngine:
    """Finds rectangles of known colours."""

    name = "colours"
    model_id = "0123456789abcdef"
    embedding_dim = 4
    at_once: int | None = 1
    streams = 1

    def detect(self, images: Sequence[np.ndarray]) -> EngineOutput:
        return EngineOutput([self._find(image) for image in images], 0.0, 0.0, 0.0)

    def warmup(self, pictures: int = 1, threads: int = 1) -> None:
        pass

    def close(self) -> None:
        pass

    def _find(self, image: np.ndarray) -> Detections:
        boxes, embeddings = [], []
        for colour, axis in COLOURS.items():
            rows, columns = np.nonzero((image == np.array(colour, np.uint8)).all(axis=2))
            if len(rows):
                boxes.append([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
                embeddings.append(20.0 * np.eye(self.embedding_dim)[axis])
        count = len(boxes)
        return Detections(
            np.array(boxes, np.float32).reshape(-1, 4),
            np.linspace(0.99, 0.95, count, dtype=np.float32),
            np.zeros(count, np.int64),
            np.array(embeddings, np.float32).reshape(-1, self.embedding_dim),
        )


@pytest.fixture
def preset(tmp_path: Path) -> Path:
    """A tiny network without weights."""
    path = tmp_path / "tiny.yaml"
    path.write_text(PRESET, encoding="utf-8")
    return path


@pytest.fixture
def colour_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """The commands find coloured rectangles instead of running a network."""

    def create(*arguments: Any, **options: Any) -> ColourEngine:
        return ColourEngine()

    monkeypatch.setattr(engines, "create_engine", create)


@pytest.fixture
def crossing(tmp_path: Path) -> Path:
    """A MOTChallenge folder in which two people walk past each other; its ground truth is exact."""
    folder = tmp_path / "crossing"
    (folder / "img1").mkdir(parents=True)
    (folder / "gt").mkdir()
    rows = []
    for index in range(FRAMES):
        picture = np.zeros((64, 96, 3), np.uint8)
        for number, colour in enumerate(COLOURS):
            left = 5 + 8 * index if number == 0 else 75 - 8 * index
            top = 8 + 28 * number
            picture[top : top + 24, left : left + 12] = colour
            rows.append(f"{index + 1},{number + 1},{left},{top},12,24,1,-1,-1,-1\n")
        cv2.imwrite(str(folder / "img1" / f"{index + 1:06d}.png"), picture)
    (folder / "gt" / "gt.txt").write_text("".join(rows), encoding="ascii")
    info = f"[Sequence]\nname=crossing\nimDir=img1\nframeRate=10\nseqLength={FRAMES}\nimWidth=96\nimHeight=64\n"
    (folder / "seqinfo.ini").write_text(info, encoding="ascii")
    return folder
