"""Targets of the embedding head: which key region shows the same object as which reference region."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class EmbeddingTargets(NamedTuple):
    """Targets of one image pair.

    Attributes:
        targets: int64 [K, R]: 1 same object, 0 not, -1 takes no part (:func:`first_positives`, :func:`of_named`).
        weights: float32 [K]: 1 for key regions with at least one positive, else 0.
    """

    targets: Tensor
    weights: Tensor


def match_targets(
    key_gt_indices: Tensor, reference_gt_indices: Tensor, num_reference: int, gt_match_indices: Tensor
) -> EmbeddingTargets:
    """Match positive key regions to all reference regions of the pair (QDTrack, section 3.2).

    Args:
        key_gt_indices: int64 [K], ground truth of the key frame of every positive key region.
        reference_gt_indices: int64 [P], ground truth of the reference frame of every positive reference region;
            these are the first P of the reference regions.
        num_reference: R, positives and negatives of the reference frame.
        gt_match_indices: int64 [G], for every ground truth of the key frame its index in the reference frame, -1 when
            the object is not there.

    Returns:
        Targets and weights.
    """
    targets = torch.zeros((len(key_gt_indices), num_reference), dtype=torch.int64, device=key_gt_indices.device)
    partners = gt_match_indices[key_gt_indices]
    targets[:, : len(reference_gt_indices)] = (partners[:, None] == reference_gt_indices[None, :]).long()
    return EmbeddingTargets(targets, targets.any(dim=1).float())


def of_named(
    targets: Tensor, key_gt_indices: Tensor, reference_gt_indices: Tensor, key_named: Tensor, reference_named: Tensor
) -> Tensor:
    """Regions of objects without identity take no part: whether they show the same object is not known.

    Args:
        targets: int64 [K, R].
        key_gt_indices, reference_gt_indices: see :func:`match_targets`.
        key_named: bool [G], for every ground truth of the key frame whether its identity is known.
        reference_named: bool [H], likewise of the reference frame.

    Returns:
        int64 [K, R]: -1 in every row and every column of such an object.
    """
    columns = torch.ones(targets.shape[1], dtype=torch.bool, device=targets.device)
    columns[: len(reference_gt_indices)] = reference_named[reference_gt_indices]
    return targets.masked_fill(~(key_named[key_gt_indices][:, None] & columns), -1)


def first_positives(targets: Tensor) -> Tensor:
    """Only the first positive of every row; the others take no part, for they are no negatives either.

    Reference regions come with the ground truth first, then by falling objectness, so the first is the surest.

    Args:
        targets: int64 [K, R]: 1 same object, 0 not.

    Returns:
        int64 [K, R]: -1 in place of every 1 but the first of a row.
    """
    repeated = (targets == 1) & (targets.cumsum(dim=1) > 1)
    return targets.masked_fill(repeated, -1)
