"""Losses of quasi-dense similarity learning (QDTrack, section 3.2)."""

from __future__ import annotations

import torch
from torch import Tensor


def multi_positive_terms(pred: Tensor, label: Tensor) -> Tensor:
    """Unweighted multi-positive cross entropy of every row (equation 4).

    A row gives log(1 + sum over its negatives n and positives p of exp(s_n - s_p)). The double sum is a product, so
    its logarithm is logsumexp(s_n) + logsumexp(-s_p): no [K, R * R] tensor, and no overflow.

    Args:
        pred: similarities [K, R].
        label: [K, R]: 1 positive, 0 negative. Any other entry is a similarity of 0 that counts as positive and
            negative at once, as the reference has it; training never produces one.

    Returns:
        float32 [K]; 0 for a row without positives or without negatives.
    """
    pred = pred.float()
    if pred.shape[1] == 0:
        return pred.sum(dim=1)
    positive, negative = label == 1, label == 0
    pred = pred.masked_fill(~(positive | negative), 0.0)
    # A finite floor instead of -inf: for rows that lack one side, logsumexp would meet NaN on the way back, which is
    # masked in the end but stops autograd's anomaly mode.
    floor = torch.finfo(pred.dtype).min / 4
    negatives = pred.masked_fill(positive, floor).logsumexp(dim=1)
    positives = (-pred).masked_fill(negative, floor).logsumexp(dim=1)
    total = negatives + positives
    return torch.logaddexp(total, torch.zeros_like(total))


def multi_positive_cross_entropy(
    pred: Tensor,
    label: Tensor,
    weight: Tensor | None = None,
    avg_factor: float | Tensor | None = None,
    loss_weight: float = 0.25,
) -> Tensor:
    """Weighted mean of :func:`multi_positive_terms`.

    Args:
        pred: similarities [K, R].
        label: [K, R]: 1 positive, 0 negative.
        weight: row weights [K]; 1 when None.
        avg_factor: what the sum is divided by; K when None. Zero gives 0, not NaN, when the weights are zero too.
        loss_weight: factor of the result.

    Returns:
        float32 scalar.
    """
    terms = multi_positive_terms(pred, label)
    if weight is not None:
        terms = terms * weight.to(terms)
    if avg_factor is None:
        return loss_weight * terms.sum() / max(len(terms), 1)
    return loss_weight * terms.sum() / (avg_factor + torch.finfo(torch.float32).eps)


def hardest_negatives(costs: Tensor, target: Tensor, limit: int) -> Tensor:
    """Mask of the pairs that stay when only the ``limit`` most expensive negatives are kept.

    Args:
        costs: [K, R].
        target: [K, R]: 1 positive, 0 negative.
        limit: negatives to keep.

    Returns:
        bool [K, R]: every positive, and the negatives chosen.
    """
    negatives = (target == 0).flatten().nonzero().squeeze(1)
    chosen = negatives[costs.detach().flatten()[negatives].topk(min(limit, len(negatives))).indices]
    kept = (target == 1).flatten()
    kept[chosen] = True
    return kept.reshape(target.shape)


def l2_auxiliary_loss(
    pred: Tensor,
    target: Tensor,
    negative_positive_ub: int = 3,
    positive_margin: float = 0.0,
    negative_margin: float = 0.1,
    loss_weight: float = 1.0,
) -> Tensor:
    """Squared distance of cosine similarities to 0 or 1 with hard negative mining (equation 6).

    Without a positive pair the mining limit is zero pairs: the result is 0 with its graph intact. The reference
    divides by zero there.

    Args:
        pred: cosine similarities [K, R]; after the margins they are clamped to [0, 1].
        target: [K, R]: 1 same object, 0 different ones.
        negative_positive_ub: negatives per positive, the hardest first; -1 keeps all.
        positive_margin: subtracted from the similarity of positives.
        negative_margin: subtracted from the similarity of negatives: below it they cost nothing.
        loss_weight: factor of the result.

    Returns:
        float32 scalar, the mean over the pairs kept.
    """
    pred = pred.float()
    margins = torch.where(target == 1, positive_margin, negative_margin)
    costs = ((pred - margins).clamp(0, 1) - target) ** 2
    num_positive, num_negative = int((target == 1).sum()), int((target == 0).sum())
    limit = num_positive * negative_positive_ub if negative_positive_ub > 0 else num_negative
    kept = hardest_negatives(costs, target, limit)
    return loss_weight * (costs * kept).sum() / max(int(kept.sum()), 1)
