"""Quasi-dense contrastive loss (paper, section 3.2, equations 5 to 7) on the regions of a pair of frames."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from qdtrack_ros.models.qdtrack import Features, QDTrack
from qdtrack_ros.ops.losses import l2_auxiliary_loss, multi_positive_cross_entropy
from qdtrack_ros.ops.similarity import dot_similarity
from qdtrack_ros.training.assigners import MaxIoUAssigner
from qdtrack_ros.training.config import LossConfig
from qdtrack_ros.training.embedding_targets import match_targets
from qdtrack_ros.training.samplers import (
    Choice,
    CombinedSampler,
    IndexSampler,
    InstanceBalancedPositiveSampler,
    IoUBalancedNegativeSampler,
    RandomNegativeSampler,
    Sample,
    random_choice,
)
from qdtrack_ros.training.stream import Objects, PairBatch


class TrackLoss(NamedTuple):
    """Contrastive and auxiliary loss, scalars, and the number of region pairs that show one object."""

    contrastive: Tensor
    auxiliary: Tensor
    positives: int


class EmbeddingLoss:
    """Samples regions of both frames, embeds them and compares every key region with every reference region.

    Args:
        config: thresholds, numbers and weights.
        generator: source of the sampling's randomness; None takes torch's default.
        choose: picks some of many candidates.
    """

    def __init__(
        self, config: LossConfig, generator: torch.Generator | None = None, choose: Choice = random_choice
    ) -> None:
        self._config = config
        self._generator = generator
        self._assign = MaxIoUAssigner(
            config.track_positive_iou, config.track_negative_iou, config.track_positive_iou, False
        )
        positives, negatives = InstanceBalancedPositiveSampler(choose), RandomNegativeSampler(choose)
        reference_negatives: IndexSampler = negatives
        if config.iou_balanced_negatives:
            reference_negatives = IoUBalancedNegativeSampler(choose=choose)
        # The reference draws negatives of the key picture too, and never uses them.
        self._sample_key = CombinedSampler(config.key_positives, 1.0, 0, positives=positives, negatives=negatives)
        self._sample_reference = CombinedSampler(
            config.reference_samples,
            0.5,
            config.reference_negative_ratio,
            positives=positives,
            negatives=reference_negatives,
        )

    def __call__(self, model: QDTrack, features: Features, proposals: Sequence[Tensor], batch: PairBatch) -> TrackLoss:
        """Loss over all pairs of a batch.

        Args:
            model: embeds.
            features: of the B key pictures, then the B reference pictures.
            proposals: [P, 4] of each picture, in the same order.
            batch: the pairs.
        """
        pairs = len(batch.matches)
        keys = [self._sample(self._sample_key, p, o) for p, o in zip(proposals[:pairs], batch.objects, strict=False)]
        references = [
            self._sample(self._sample_reference, p, o)
            for p, o in zip(proposals[pairs:], batch.objects[pairs:], strict=True)
        ]
        key_boxes, reference_boxes = [s.positive_boxes for s in keys], [s.boxes for s in references]
        counts = [len(b) for b in key_boxes + reference_boxes]
        embeddings = model.embed(features, key_boxes + reference_boxes).split(counts)
        contrastive, auxiliary, positives = [], [], 0
        for i, matches in enumerate(batch.matches):
            key, reference = embeddings[i], embeddings[pairs + i]
            target = match_targets(
                keys[i].positive_gt_indices, references[i].positive_gt_indices, len(reference), matches
            )
            rows = float(target.weights.sum())
            contrastive.append(
                multi_positive_cross_entropy(
                    dot_similarity(key, reference), target.targets, target.weights, rows, self._config.track_weight
                )
            )
            cosine = dot_similarity(key, reference, cosine=True)
            auxiliary.append(l2_auxiliary_loss(cosine, target.targets, loss_weight=self._config.auxiliary_weight))
            positives += int(target.targets.sum())
        return TrackLoss(torch.stack(contrastive).mean(), torch.stack(auxiliary).mean(), positives)

    def _sample(self, sampler: CombinedSampler, proposals: Tensor, objects: Objects) -> Sample:
        assignment = self._assign(proposals, objects.boxes, ignore_boxes=objects.ignore_boxes)
        return sampler(assignment, proposals, objects.boxes, generator=self._generator)
