"""Fixtures every test may use."""

from __future__ import annotations

import json
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
import yaml
from torch import Tensor

from qdtrack_ros.models import ModelConfig, QDTrack
from qdtrack_ros.models.conversion import Target, convert

Golden = dict[str, npt.NDArray[np.generic]]
_GOLDEN = Path(__file__).parent / "golden"
sys.path.insert(0, str(Path(__file__).parent / "support"))  # helpers of several tests


@pytest.fixture(scope="session")
def golden() -> Callable[[str], Golden]:
    """``golden("ops/nms")`` reads the arrays of ``test/golden/ops/nms.npz``: numbers the reference gave."""

    def read(name: str) -> Golden:
        with np.load(_GOLDEN / f"{name.removesuffix('.npz')}.npz", allow_pickle=False) as arrays:
            return {key: arrays[key] for key in arrays.files}

    return read


@pytest.fixture(scope="session")
def reference_state() -> dict[str, Tensor]:
    """The reference's random checkpoint of ``test/golden/model`` in the old official layout: the same bits everywhere.

    Weights are uniform with the variance their fan-in asks for; those of the heads are centred row by row. The file
    ``ckpt_calib.npz`` holds powers of two and biases by which scores, boxes and embeddings of the heads vary.
    """
    shapes = json.loads((_GOLDEN / "model" / "keys_old.json").read_text())
    with np.load(_GOLDEN / "model" / "ckpt_calib.npz", allow_pickle=False) as arrays:
        calibration = {key: arrays[key] for key in arrays.files}
    state = {}
    for name, shape in shapes.items():
        values = _seeded_values(name, tuple(shape))
        if f"e:{name}" in calibration:
            values = values * np.float32(2.0 ** int(calibration[f"e:{name}"]))
        if f"b:{name}" in calibration:
            values = (calibration[f"b:{name}"].astype(np.float64) / 256).astype(np.float32)
        state[name] = torch.from_numpy(values)
    return state


@pytest.fixture(scope="session")
def reference_network(reference_state: dict[str, Tensor]) -> QDTrack:
    """The R50-FPN of 8 classes with the weights of ``reference_state``, in evaluation mode."""
    network = QDTrack(ModelConfig())
    network.load_state_dict(convert(reference_state, Target(network.state_dict())).tensors)
    return network.eval()


@pytest.fixture
def tiny_preset(tmp_path: Path) -> Path:
    """Preset file of a network that runs in milliseconds; a ``model.safetensors`` for it is not there."""
    settings = {
        "labels": ["person", "car"],
        "model": {
            "num_classes": 2,
            "backbone": "efficientnet_lite0",
            "fpn_channels": 32,
            "fpn_first_stride": 8,
            "fpn_levels": 4,
            "anchor_scales": [4.0],
            "proposals": {"per_level": 50, "nms_iou": 0.7, "total": 40},
            "box_fc_channels": 32,
            "score_threshold": 0.05,
            "max_detections": 20,
            "embedding_convs": 1,
            "embedding_conv_channels": 32,
            "embedding_fc_channels": 0,
            "embedding_dim": 16,
        },
        "preprocess": {"image_scale": [128, 96]},
        "association": {"init_score": 0.2, "object_score": 0.1},
    }
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


@pytest.fixture(scope="session")
def new_names() -> dict[str, str]:
    """Names of the reference's tensors in the new official layout, by those of the old one."""
    pairs = json.loads((_GOLDEN / "model" / "keys_new_to_old.json").read_text())
    return {old: new for new, old in pairs.items()}


@pytest.fixture(scope="session")
def synthetic_image() -> Callable[..., npt.NDArray[np.uint8]]:
    """``synthetic_image(seed, height, width, shift=(0, 0))``: the picture that the reference was given."""
    return _synthetic_image


_CENTRED = ("rpn_", "fc_cls.weight", "fc_reg.weight", "fc_embed.weight", "shared_fcs", "fcs.0.weight")
_RECTIFIED = ("backbone", "rpn_conv", "shared_fcs", "track_head.convs", "track_head.fcs")
_NORM_RANGES = {"running_var": (0.6, 1.6), "running_mean": (-0.2, 0.2), "weight": (0.7, 1.3), "bias": (-0.2, 0.2)}


def _random_integers(name: str, count: int) -> npt.NDArray[np.int64]:
    """24 random bits each, from the raw stream that numpy promises never to change."""
    return (np.random.PCG64([2024, zlib.crc32(name.encode())]).random_raw(count) >> np.uint64(40)).astype(np.int64)


def _seeded_values(name: str, shape: tuple[int, ...]) -> npt.NDArray[Any]:
    if name.endswith("num_batches_tracked"):
        return np.zeros((), np.int64)
    raw = _random_integers(name, int(np.prod(shape)))
    kind = name.rpartition(".")[2]
    is_norm = any(part in name for part in (".bn", ".downsample.1.", ".gn."))
    if not is_norm and kind == "weight":
        fan_in = int(np.prod(shape[1:]))
        bound = float(np.sqrt(3.0 * (2.0 if any(part in name for part in _RECTIFIED) else 1.0) / fan_in))
        if any(part in name for part in _CENTRED):
            rows = raw.reshape(shape[0], -1)
            centred = (rows * fan_in - rows.sum(1, keepdims=True)).astype(np.float64) / (fan_in * 2.0**24)
            return (centred * (2 * bound)).astype(np.float32).reshape(shape)
        low, high = -bound, bound
    elif is_norm:
        low, high = (0.2, 0.6) if ".bn3.weight" in name else _NORM_RANGES[kind]
    else:
        low, high = -0.05, 0.05
    return (low + (high - low) * (raw.astype(np.float64) * 2.0**-24)).astype(np.float32).reshape(shape)


def _synthetic_image(seed: int, height: int, width: int, shift: tuple[float, float] = (0, 0)) -> npt.NDArray[np.uint8]:
    """Gradients, 40 coloured rectangles (moved by about ``shift``) and noise."""
    draws = (np.random.PCG64([seed, 1]).random_raw(1000) >> np.uint64(40)).astype(np.float64) * 2.0**-24
    rows, columns = np.mgrid[0:height, 0:width]
    channels = [60 + (columns * (20 + 30 * c)) // width + (rows * (70 - 25 * c)) // height for c in range(3)]
    image = np.stack(channels, axis=-1).astype(np.int64)
    for a in draws[:400].reshape(40, 10):
        box_w, box_h = int(8 + a[0] * a[0] * width * 0.35), int(8 + a[1] * a[1] * height * 0.5)
        left = int(a[2] * width) - box_w // 2 + int(shift[0] * (0.5 + a[8]))
        top = int(a[3] * height) - box_h // 2 + int(shift[1] * (0.5 + a[9]))
        patch = image[max(top, 0) : max(top + box_h, 0), max(left, 0) : max(left + box_w, 0)]
        if patch.size:
            patch[:] = (a[4:7] * 255).astype(np.int64)
            if a[7] > 0.5:
                patch[::4] = 255 - patch[::4]
    noise = np.random.PCG64([seed, 2]).random_raw(height * width * 3) >> np.uint64(59)
    return np.clip(image + noise.astype(np.int64).reshape(image.shape) - 16, 0, 255).astype(np.uint8)
