"""Samplers: which of the assigned boxes a loss sees (mmdet 2.x rules, on which QDTrack's training depends)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from qdtrack_ros.training.assigners import Assignment

Choice = Callable[[Tensor, int, "torch.Generator | None"], Tensor]


def random_choice(candidates: Tensor, count: int, generator: torch.Generator | None) -> Tensor:
    """``count`` different entries of ``candidates`` [N] (all of them when there are fewer), uniformly.

    The permutation is drawn on the generator's device (the CPU without one), so a seed gives the same choice anywhere.
    """
    device = generator.device if generator is not None else torch.device("cpu")
    order = torch.randperm(len(candidates), generator=generator, device=device)[:count]
    return candidates[order.to(candidates.device)]


class Sample(NamedTuple):
    """Boxes chosen for a loss: P positives, then Q negatives.

    Attributes:
        positive_indices: int64 [P], rising, rows of the candidates (ground truth first where it was added).
        negative_indices: int64 [Q], rising.
        boxes: [P + Q, 4], positives first.
        positive_gt_indices: int64 [P], ground truth of every positive, 0-based.
        positive_is_gt: bool [P], the positive is an added ground truth itself.
        positive_labels: int64 [P], classes; None when the assignment has none.
    """

    positive_indices: Tensor
    negative_indices: Tensor
    boxes: Tensor
    positive_gt_indices: Tensor
    positive_is_gt: Tensor
    positive_labels: Tensor | None

    @property
    def positive_boxes(self) -> Tensor:
        """[P, 4]."""
        return self.boxes[: len(self.positive_indices)]

    @property
    def negative_boxes(self) -> Tensor:
        """[Q, 4]."""
        return self.boxes[len(self.positive_indices) :]


def ground_truth_sample(gt_boxes: Tensor) -> Sample:
    """The ground truth boxes [G, 4] and nothing else: one positive for each object, no negatives (sparse matching)."""
    rows = torch.arange(len(gt_boxes), device=gt_boxes.device)
    return Sample(rows, rows[:0], gt_boxes, rows, torch.ones_like(rows, dtype=torch.bool), None)


class IndexSampler(Protocol):
    """Picks about ``count`` rows of one kind (positive or negative) from an assignment."""

    def __call__(self, assignment: Assignment, count: int, generator: torch.Generator | None) -> Tensor:
        """Rows int64 [at most about ``count``], in any order, possibly repeated."""


@dataclass(frozen=True)
class RandomPositiveSampler:
    """Positives, uniformly."""

    choose: Choice = random_choice

    def __call__(self, assignment: Assignment, count: int, generator: torch.Generator | None) -> Tensor:
        """See :class:`IndexSampler`."""
        positives = (assignment.gt_inds > 0).nonzero().squeeze(1)
        return positives if len(positives) <= count else self.choose(positives, count, generator)


@dataclass(frozen=True)
class RandomNegativeSampler:
    """Negatives, uniformly."""

    choose: Choice = random_choice

    def __call__(self, assignment: Assignment, count: int, generator: torch.Generator | None) -> Tensor:
        """See :class:`IndexSampler`."""
        negatives = (assignment.gt_inds == 0).nonzero().squeeze(1)
        return negatives if len(negatives) <= count else self.choose(negatives, count, generator)


@dataclass(frozen=True)
class InstanceBalancedPositiveSampler:
    """As many positives for every ground truth as there are, up to an equal share.

    What the shares leave open is filled from *all* positives, so a row can come twice and the number of different
    positives lies a few below ``count`` (118 to 128 of 128). The reference behaves so; its loss weights depend on it.
    """

    choose: Choice = random_choice

    def __call__(self, assignment: Assignment, count: int, generator: torch.Generator | None) -> Tensor:
        """See :class:`IndexSampler`."""
        positives = (assignment.gt_inds > 0).nonzero().squeeze(1)
        if len(positives) <= count:
            return positives
        owners = assignment.gt_inds[positives]
        instances = owners.unique()
        share = round(count / len(instances)) + 1
        chosen = []
        for instance in instances:
            rows = positives[owners == instance]
            chosen.append(rows if len(rows) <= share else self.choose(rows, share, generator))
        sampled = torch.cat(chosen)
        if len(sampled) < count:
            return torch.cat([sampled, self.choose(positives, count - len(sampled), generator)])
        return sampled if len(sampled) == count else self.choose(sampled, count, generator)


@dataclass(frozen=True)
class IoUBalancedNegativeSampler:
    """Negatives in equal parts from bins of IoU (Libra R-CNN, section 3.1); those with IoU 0 only fill gaps.

    The bins span 0 to the largest IoU of *any* box. With ground truth added that is 1, all negatives fall into the
    first bin, and the choice is in effect uniform over negatives with IoU > 0. The reference samples IoU 0 on equal
    terms in its very first call and as here in all later ones.

    Args:
        num_bins: bins, at least 1.
    """

    num_bins: int = 3
    choose: Choice = random_choice

    def __post_init__(self) -> None:
        if self.num_bins < 1:
            raise ValueError(f"num_bins is {self.num_bins}, expected at least 1")

    def __call__(self, assignment: Assignment, count: int, generator: torch.Generator | None) -> Tensor:
        """See :class:`IndexSampler`."""
        overlaps = assignment.max_overlaps
        negative = assignment.gt_inds == 0
        if int(negative.sum()) <= count:
            return negative.nonzero().squeeze(1)
        touching = (negative & (overlaps > 0)).nonzero().squeeze(1)
        sampled = touching
        if len(touching) > count:
            sampled = self._by_bins(touching, overlaps, count, generator)
        apart = (negative & (overlaps <= 0)).nonzero().squeeze(1)
        missing = count - len(sampled)
        return torch.cat([sampled, self.choose(apart, missing, generator)]) if missing else sampled

    def _by_bins(self, rows: Tensor, overlaps: Tensor, count: int, generator: torch.Generator | None) -> Tensor:
        width = overlaps.max() / self.num_bins
        share = count // self.num_bins
        bins = (overlaps[rows] / width).long()
        chosen = []
        for number in range(self.num_bins):
            of_bin = rows[bins == number]
            chosen.append(of_bin if len(of_bin) <= share else self.choose(of_bin, share, generator))
        sampled = torch.cat(chosen)
        rest = rows[~torch.isin(rows, sampled)]
        return torch.cat([sampled, self.choose(rest, count - len(sampled), generator)])


@dataclass(frozen=True)
class CombinedSampler:
    """A budget of boxes, split between a positive and a negative strategy; negatives take what positives leave.

    Args:
        num: boxes in all.
        positive_fraction: share of ``num`` that positives may take.
        negative_positive_ub: at most so many negatives per positive (with no positive: per one); -1 for no limit.
        add_gt: put the ground-truth boxes in front of the candidates.
        positives: strategy for positives.
        negatives: strategy for negatives.
    """

    num: int
    positive_fraction: float
    negative_positive_ub: float = -1
    add_gt: bool = True
    _: KW_ONLY
    positives: IndexSampler
    negatives: IndexSampler

    def __post_init__(self) -> None:
        if self.num < 1 or not 0 <= self.positive_fraction <= 1:
            raise ValueError(
                f"expected num >= 1 and positive_fraction in [0, 1], got {self.num} and {self.positive_fraction}"
            )

    @torch.no_grad()
    def __call__(
        self,
        assignment: Assignment,
        boxes: Tensor,
        gt_boxes: Tensor,
        gt_labels: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Sample:
        """Sample.

        Args:
            assignment: of the N boxes.
            boxes: [N, 4].
            gt_boxes: [G, 4].
            gt_labels: int64 [G]; needed when ground truth is added to an assignment with labels.
            generator: source of randomness; torch's global one when None.
        """
        num_added = len(gt_boxes) if self.add_gt else 0
        if num_added:
            boxes = torch.cat([gt_boxes.to(boxes), boxes])
            assignment = assignment.with_gt(num_added, gt_labels)
        # unique() sorts, and drops what the instance-balanced strategy drew twice.
        positive = self.positives(assignment, int(self.num * self.positive_fraction), generator).unique()
        quota = self.num - len(positive)
        if self.negative_positive_ub >= 0:
            quota = min(quota, int(self.negative_positive_ub * max(1, len(positive))))
        negative = self.negatives(assignment, quota, generator).unique()
        return Sample(
            positive_indices=positive,
            negative_indices=negative,
            boxes=boxes[torch.cat([positive, negative])],
            positive_gt_indices=assignment.gt_inds[positive] - 1,
            positive_is_gt=positive < num_added,
            positive_labels=None if assignment.labels is None else assignment.labels[positive],
        )


@dataclass(frozen=True)
class RandomSampler(CombinedSampler):
    """Both kinds uniformly: the sampler of RPN and box head. Arguments as in :class:`CombinedSampler`."""

    _: KW_ONLY
    positives: IndexSampler = RandomPositiveSampler()
    negatives: IndexSampler = RandomNegativeSampler()
