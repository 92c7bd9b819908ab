"""One forward and backward of the joint training against the reference's: every loss, every gradient's norm."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from qdtrack_ros.inference.presets import Preset
from qdtrack_ros.models.conversion import SYSCV_OLD, foreign_name
from qdtrack_ros.training.config import LossConfig, TrainingConfig
from qdtrack_ros.training.module import QDTrackModule
from qdtrack_ros.training.stream import Objects, PairBatch


def first(candidates: Tensor, count: int, generator: torch.Generator | None) -> Tensor:
    """Stands for every random choice, in the run of the reference too."""
    return candidates[:count]


@pytest.fixture(scope="module")
def step(golden, reference_network, synthetic_image):
    arrays = golden("model/train")
    # "The first n negatives" leaves nothing of the balance by IoU.
    config = TrainingConfig(preset="", sources=(), loss=LossConfig(iou_balanced_negatives=False))
    module = QDTrackModule(config, Preset("random", labels=tuple("abcdefgh")), reference_network.train(), choose=first)
    shift = tuple(arrays["ref_shift"].tolist())
    images = [synthetic_image(int(s), 192, 320, move) for move in ((0, 0), shift) for s in arrays["image_seeds"]]
    objects = [
        Objects(
            torch.from_numpy(arrays[f"{side}gt{i}"]),
            torch.from_numpy(arrays[f"{side}labels{i}"]),
            torch.zeros(0, 4),
        )
        for side in ("", "ref_")
        for i in (0, 1)
    ]
    matches = [torch.from_numpy(arrays[f"match{i}"]) for i in (0, 1)]
    terms, figures = module.losses(PairBatch(torch.from_numpy(np.stack(images)), objects, matches))
    torch.stack(list(terms.values())).sum().backward()
    gradients = {name: p.grad.clone() for name, p in reference_network.named_parameters() if p.grad is not None}
    reference_network.zero_grad()
    reference_network.eval()
    return arrays, {name: float(term.detach()) for name, term in terms.items()}, figures, gradients


@pytest.mark.parametrize(
    ("term", "name"),
    [
        ("rpn_objectness", "loss_rpn_cls"),
        ("rpn_boxes", "loss_rpn_bbox"),
        ("box_classification", "loss_cls"),
        ("box_regression", "loss_bbox"),
        ("track", "loss_track"),
        ("track_auxiliary", "loss_track_aux"),
    ],
)
def test_losses(step, term, name):
    arrays, terms, _, _ = step
    assert terms[term] == pytest.approx(arrays[name].item(), rel=2e-4)


def test_accuracy(step):
    arrays, _, figures, _ = step
    assert 100 * figures["box_accuracy"] == pytest.approx(arrays["acc"].item(), abs=1e-3)


def test_gradients(step, new_names):
    arrays, _, _, gradients = step
    assert len(gradients) == arrays["n_params_with_grad"]
    assert not [name for name in gradients if name.startswith(("backbone.conv1", "backbone.bn1", "backbone.layer1"))]
    for name, gradient in gradients.items():
        official = new_names[foreign_name(name, SYSCV_OLD)]
        norm = arrays[f"grad_norm:{official}"].item()
        assert float(gradient.norm()) == pytest.approx(norm, rel=1e-3, abs=1e-6), name
        if f"grad:{official}" in arrays:
            # A ReLU that stands at zero may switch with the rounding and move a single channel: hence two bounds.
            error = np.abs(gradient.flatten()[:64].numpy() - arrays[f"grad:{official}"]) / max(norm, 1e-4)
            assert error.max() < 1e-2 and np.mean(error < 1e-3) > 0.95, name
