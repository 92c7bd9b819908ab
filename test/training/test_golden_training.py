"""One forward and backward of the joint training against the reference's: every loss, every gradient's norm."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

from qdtrack_ros.inference.presets import Preset
from qdtrack_ros.models.conversion import SYSCV_OLD, foreign_name
from qdtrack_ros.ops.boxes import encode_deltas
from qdtrack_ros.training.assigners import MaxIoUAssigner
from qdtrack_ros.training.config import LossConfig, TrainingConfig
from qdtrack_ros.training.module import QDTrackModule
from qdtrack_ros.training.samplers import RandomNegativeSampler, RandomPositiveSampler, RandomSampler
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
            torch.ones(len(arrays[f"{side}gt{i}"]), dtype=torch.bool),
        )
        for side in ("", "ref_")
        for i in (0, 1)
    ]
    matches = [torch.from_numpy(arrays[f"match{i}"]) for i in (0, 1)]
    seen = {}
    hooks = [
        getattr(reference_network, part).register_forward_hook(lambda _, i, out, part=part: seen.__setitem__(part, out))
        for part in ("neck", "rpn")
    ]
    sizes = [(192, 320)] * 4
    terms, figures = module.losses(PairBatch(torch.from_numpy(np.stack(images)), sizes, objects, matches, [0, 1]))
    for hook in hooks:
        hook.remove()
    anchors = reference_network.rpn.anchors(seen["neck"])
    torch.stack(list(terms.values())).sum().backward()
    gradients = {name: p.grad.clone() for name, p in reference_network.named_parameters() if p.grad is not None}
    reference_network.zero_grad()
    reference_network.eval()
    terms = {name: float(term.detach()) for name, term in terms.items()}
    return SimpleNamespace(
        arrays=arrays,
        terms=terms,
        figures=figures,
        gradients=gradients,
        rpn=seen["rpn"],
        anchors=anchors,
        boxes=[target.boxes for target in objects[: len(matches)]],
    )


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
    assert step.terms[term] == pytest.approx(step.arrays[name].item(), rel=2e-4)


def test_rpn_losses_by_level(step):
    """Every level's share, from the anchors that assigner and sampler give: the sums hide which level paid."""
    config = LossConfig()
    assign = MaxIoUAssigner(config.rpn_positive_iou, config.rpn_negative_iou, 0.3, True)
    kinds = {"positives": RandomPositiveSampler(first), "negatives": RandomNegativeSampler(first)}
    sample = RandomSampler(config.rpn_samples, 0.5, add_gt=False, **kinds)
    anchors = torch.cat(step.anchors)
    level = torch.cat([torch.full((len(a),), number) for number, a in enumerate(step.anchors)])
    cls, box, count = torch.zeros(5), torch.zeros(5), 0
    for image, gt in enumerate(step.boxes):
        logits = torch.cat([m[image].detach().permute(1, 2, 0).reshape(-1) for m in step.rpn.logits])
        deltas = torch.cat([m[image].detach().permute(1, 2, 0).reshape(-1, 4) for m in step.rpn.deltas])
        chosen = sample(assign(anchors, gt), anchors, gt)
        positive, negative = chosen.positive_indices, chosen.negative_indices
        count += len(positive) + len(negative)
        cls.index_add_(0, level[positive], -logits[positive].sigmoid().log())
        cls.index_add_(0, level[negative], -(-logits[negative]).sigmoid().log())
        off = (deltas[positive] - encode_deltas(anchors[positive], gt[chosen.positive_gt_indices])).abs()
        smooth = torch.where(off < 1 / 9, off.square() * 4.5, off - 1 / 18)
        box.index_add_(0, level[positive], smooth.sum(dim=1))
    for term, levels, name in (("rpn_objectness", cls / count, "cls"), ("rpn_boxes", box / count, "bbox")):
        np.testing.assert_allclose(levels, step.arrays[f"loss_rpn_{name}_levels"], rtol=2e-4, atol=1e-7)
        assert step.terms[term] == pytest.approx(float(levels.sum()), rel=1e-5)


def test_accuracy(step):
    assert 100 * step.figures["box_accuracy"] == pytest.approx(step.arrays["acc"].item(), abs=1e-3)


def test_gradients(step, new_names):
    arrays, gradients = step.arrays, step.gradients
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
