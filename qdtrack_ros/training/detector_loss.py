"""Losses of the region proposal network and the box head (Faster R-CNN, as mmdet 2.x assigns, samples and averages)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from qdtrack_ros.models.box_head import BOX_DELTA_STDS
from qdtrack_ros.models.qdtrack import QDTrack
from qdtrack_ros.models.rpn import RPNOutput
from qdtrack_ros.ops.boxes import encode_deltas
from qdtrack_ros.training.assigners import MaxIoUAssigner
from qdtrack_ros.training.config import LossConfig
from qdtrack_ros.training.processes import mean_count
from qdtrack_ros.training.samplers import (
    Choice,
    RandomNegativeSampler,
    RandomPositiveSampler,
    RandomSampler,
    random_choice,
)
from qdtrack_ros.training.stream import Objects


class RPNLoss(NamedTuple):
    """Classification and box loss, scalars."""

    classification: Tensor
    boxes: Tensor


class BoxLoss(NamedTuple):
    """Classification and box loss, scalars, and the fraction of regions that were classified rightly."""

    classification: Tensor
    boxes: Tensor
    accuracy: Tensor


class DetectorLoss:
    """Assigns, samples and compares.

    Args:
        config: thresholds, numbers and weights.
        choose: picks some of many candidates.
    """

    def __init__(self, config: LossConfig, choose: Choice = random_choice) -> None:
        self._rpn_beta = config.rpn_beta
        self._box_beta = config.box_beta
        self._assign_anchors = MaxIoUAssigner(config.rpn_positive_iou, config.rpn_negative_iou, 0.3, True)
        self._assign_boxes = MaxIoUAssigner(config.box_iou, config.box_iou, config.box_iou, False)
        positives, negatives = RandomPositiveSampler(choose), RandomNegativeSampler(choose)
        self._sample_anchors = RandomSampler(
            config.rpn_samples, 0.5, add_gt=False, positives=positives, negatives=negatives
        )
        self._sample_boxes = RandomSampler(
            config.box_samples, config.box_positive_fraction, positives=positives, negatives=negatives
        )

    def rpn(
        self,
        output: RPNOutput,
        anchors: Sequence[Tensor],
        objects: Sequence[Objects],
        generators: Sequence[torch.Generator],
    ) -> RPNLoss:
        """Loss of the RPN, over the sampled anchors of all pictures (of all processes).

        Args:
            output: logits and deltas of the pictures.
            anchors: anchors of every level.
            objects: what is in each picture.
            generators: source of each picture's randomness.
        """
        flat_anchors = torch.cat(list(anchors))
        logits = _flatten(output.logits, 1)[..., 0]
        deltas = _flatten(output.deltas, 4)
        losses_cls, losses_box, count = [], [], 0
        for image_logits, image_deltas, target, generator in zip(logits, deltas, objects, generators, strict=True):
            assignment = self._assign_anchors(flat_anchors, target.boxes, ignore_boxes=target.ignore_boxes)
            sample = self._sample_anchors(assignment, flat_anchors, target.boxes, generator=generator)
            positive, negative = sample.positive_indices, sample.negative_indices
            rows = torch.cat([positive, negative])
            wanted = torch.zeros(len(rows), device=rows.device)
            wanted[: len(positive)] = 1.0
            losses_cls.append(F.binary_cross_entropy_with_logits(image_logits[rows].float(), wanted, reduction="sum"))
            matched = target.boxes[sample.positive_gt_indices]
            goal = encode_deltas(flat_anchors[positive], matched)
            losses_box.append(
                F.smooth_l1_loss(image_deltas[positive].float(), goal, beta=self._rpn_beta, reduction="sum")
            )
            # A picture without positives (or negatives) counts as if it had one, as in the reference.
            count += max(len(positive), 1) + max(len(negative), 1)
        average = mean_count(count, flat_anchors)
        return RPNLoss(torch.stack(losses_cls).sum() / average, torch.stack(losses_box).sum() / average)

    def boxes(
        self,
        model: QDTrack,
        features: Sequence[Tensor],
        proposals: Sequence[Tensor],
        objects: Sequence[Objects],
        generators: Sequence[torch.Generator],
    ) -> BoxLoss:
        """Loss of the box head, over the sampled proposals of all pictures (of all processes).

        Args:
            model: pools the features and holds the head.
            features: pyramid of the pictures.
            proposals: [P, 4] of each picture.
            objects: what is in each picture.
            generators: source of each picture's randomness.
        """
        regions, wanted, goals, positives = [], [], [], []
        for boxes, target, generator in zip(proposals, objects, generators, strict=True):
            assignment = self._assign_boxes(boxes, target.boxes, target.labels, ignore_boxes=target.ignore_boxes)
            sample = self._sample_boxes(assignment, boxes, target.boxes, target.labels, generator)
            background = torch.full((len(sample.boxes),), model.config.num_classes, device=boxes.device)
            number = len(sample.positive_indices)
            background[:number] = target.labels[sample.positive_gt_indices]
            regions.append(sample.boxes)
            wanted.append(background)
            goals.append(encode_deltas(sample.boxes[:number], target.boxes[sample.positive_gt_indices], BOX_DELTA_STDS))
            positives.append(background < model.config.num_classes)
        labels, positive, goal = torch.cat(wanted), torch.cat(positives), torch.cat(goals)
        logits, deltas = model.box_head(model.pool(features, regions))
        logits, deltas = logits.float(), deltas.float()
        average = mean_count(len(labels), logits)
        classification = F.cross_entropy(logits, labels, reduction="sum") / average
        chosen = deltas[positive].reshape(int(positive.sum()), deltas.shape[1] // 4, 4)
        column = torch.zeros_like(labels[positive]) if model.config.class_agnostic_boxes else labels[positive]
        own = chosen[torch.arange(len(chosen), device=chosen.device), column]
        regression = F.smooth_l1_loss(own, goal, beta=self._box_beta, reduction="sum") / average
        return BoxLoss(classification, regression, (logits.argmax(1) == labels).float().mean())


def _flatten(maps: Sequence[Tensor], width: int) -> Tensor:
    """Per-level maps [B, A * width, H, W] to [B, sum of H * W * A, width], in the order of the anchors."""
    return torch.cat([m.permute(0, 2, 3, 1).reshape(m.shape[0], -1, width) for m in maps], dim=1)
