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
from qdtrack_ros.training.embedding_targets import EmbeddingTargets, first_positives, match_targets, of_named
from qdtrack_ros.training.samplers import (
    Choice,
    CombinedSampler,
    IndexSampler,
    InstanceBalancedPositiveSampler,
    IoUBalancedNegativeSampler,
    RandomNegativeSampler,
    Sample,
    ground_truth_sample,
    random_choice,
)
from qdtrack_ros.training.stream import Objects, PairBatch

# Far below any dot product, and finite: infinity would meet NaN on the way back.
NO_SIMILARITY = -1e9


class TrackLoss(NamedTuple):
    """Contrastive and auxiliary loss, scalars, and the number of region pairs that show one object."""

    contrastive: Tensor
    auxiliary: Tensor
    positives: int


class EmbeddingLoss:
    """Samples regions of both frames, embeds them and compares every key region with every reference region.

    Args:
        config: thresholds, numbers and weights.
        choose: picks some of many candidates.
    """

    def __init__(self, config: LossConfig, choose: Choice = random_choice) -> None:
        self._config = config
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

    def __call__(
        self,
        model: QDTrack,
        features: Features,
        proposals: Sequence[Tensor],
        batch: PairBatch,
        generators: Sequence[torch.Generator],
    ) -> TrackLoss:
        """Loss over all pairs of a batch.

        Args:
            model: embeds.
            features: of the B key pictures, then the B reference pictures.
            proposals: [P, 4] of each picture, in the same order.
            batch: the pairs.
            generators: source of each picture's randomness, in the same order.
        """
        pairs = len(batch.matches)
        samples = [
            self._sample(self._sample_key if row < pairs else self._sample_reference, *picture)
            for row, picture in enumerate(zip(proposals, batch.objects, generators, strict=True))
        ]
        keys, references = samples[:pairs], samples[pairs:]
        regions = [s.positive_boxes for s in keys] + [s.boxes for s in references]
        embeddings = model.embed(features, regions).split([len(boxes) for boxes in regions])
        named = [objects.named for objects in batch.objects]
        targets = [
            self._targets(*pair)
            for pair in zip(keys, references, batch.matches, named[:pairs], named[pairs:], strict=True)
        ]
        # In float32 whatever the precision of the network: a dot product of 256 terms loses too much in 8 bits.
        with torch.autocast(embeddings[0].device.type, enabled=False):
            losses = [
                self._compare(*pair) for pair in zip(embeddings[:pairs], embeddings[pairs:], targets, strict=True)
            ]
        contrastive, auxiliary = (torch.stack(terms).mean() for terms in zip(*losses, strict=True))
        return TrackLoss(contrastive, auxiliary, sum(int((target.targets == 1).sum()) for target in targets))

    def _targets(
        self, key: Sample, reference: Sample, matches: Tensor, key_named: Tensor, reference_named: Tensor
    ) -> EmbeddingTargets:
        key_rows, reference_rows = key.positive_gt_indices, reference.positive_gt_indices
        targets, weights = match_targets(key_rows, reference_rows, len(reference.boxes), matches)
        if self._config.positives == "one":
            targets = first_positives(targets)
        return EmbeddingTargets(of_named(targets, key_rows, reference_rows, key_named, reference_named), weights)

    def _compare(self, key: Tensor, reference: Tensor, target: EmbeddingTargets) -> tuple[Tensor, Tensor]:
        """Contrastive and auxiliary loss of one pair."""
        rows = float(target.weights.sum())
        # As negatives of no similarity whatever, those that take no part add nothing to the sum over negatives.
        similarity = dot_similarity(key, reference).masked_fill(target.targets < 0, NO_SIMILARITY)
        contrastive = multi_positive_cross_entropy(
            similarity, target.targets.clamp(min=0), target.weights, rows, self._config.track_weight
        )
        cosine = dot_similarity(key, reference, cosine=True)
        return contrastive, l2_auxiliary_loss(cosine, target.targets, loss_weight=self._config.auxiliary_weight)

    def _sample(
        self, sampler: CombinedSampler, proposals: Tensor, objects: Objects, generator: torch.Generator
    ) -> Sample:
        if self._config.regions == "sparse":
            return ground_truth_sample(objects.boxes)
        assignment = self._assign(proposals, objects.boxes, ignore_boxes=objects.ignore_boxes)
        return sampler(assignment, proposals, objects.boxes, generator=generator)
