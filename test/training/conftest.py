"""A street of coloured rectangles, and a training on it that takes seconds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from qdtrack_ros.configuration import build, merge
from qdtrack_ros.training.config import TrainingConfig

COLOURS = ((30, 30, 230), (30, 230, 30), (230, 30, 30))
FRAMES = 8


@pytest.fixture
def street(tmp_path: Path) -> Path:
    """Folder ``street``, a MOT sequence: three people, each of one colour, walk to the right."""
    folder = tmp_path / "street"
    (folder / "img1").mkdir(parents=True)
    (folder / "gt").mkdir()
    (folder / "seqinfo.ini").write_text(
        "[Sequence]\nname=street\nimDir=img1\nframeRate=10\n"
        f"seqLength={FRAMES}\nimWidth=192\nimHeight=128\nimExt=.png\n"
    )
    rows = []
    for frame in range(1, FRAMES + 1):
        image = np.full((128, 192, 3), 120, np.uint8)
        for identity, colour in enumerate(COLOURS, start=1):
            x, y = 60 * identity - 45 + 3 * frame, 30 + 8 * identity
            image[y : y + 56, x : x + 24] = colour
            rows.append(f"{frame},{identity},{x + 1},{y + 1},24,56,1,1,1")
        cv2.imwrite(str(folder / "img1" / f"{frame:06d}.png"), image)
    (folder / "gt" / "gt.txt").write_text("\n".join(rows) + "\n")
    return folder


SOURCE = {"format": "mot", "path": "street", "labels": {"pedestrian": "person"}}


@pytest.fixture
def training_settings(tiny_preset: Path, street: Path) -> dict[str, Any]:
    """A training of a few steps on the street."""
    return {
        "preset": str(tiny_preset),
        "backbone_weights": "random",
        "sources": [{**SOURCE, "scope": 2}],
        "pairs": {"mosaic": 0.25, "augmentation": {"size": [96, 128], "object_height": [40.0, 60.0]}},
        "loss": {"rpn_samples": 64, "box_samples": 32, "train_proposals_per_level": 50, "train_proposals": 40},
        "optimizer": {"kind": "adamw", "learning_rate": 1e-3, "reference_batch": 0, "warmup_steps": 0},
        "batch_size": 2,
        "steps": 4,
        "validate_every": 2,
        "workers": 0,
    }


@pytest.fixture
def training(training_settings: dict[str, Any]) -> Callable[..., TrainingConfig]:
    """``training(steps=4)``: that training with other values; dotted keys go through ``**{"a.b": 1}``."""

    def make(**overrides: Any) -> TrainingConfig:
        changed = dict(overrides)
        if changed.pop("validated", False):
            changed |= {"validation": SOURCE, "validation_stride": 4}
        return build(TrainingConfig, merge(training_settings, changed), "training")

    return make
