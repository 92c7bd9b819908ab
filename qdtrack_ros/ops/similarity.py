"""Similarity of embeddings (QDTrack, sections 3.2 and 3.3)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def dot_similarity(key: Tensor, reference: Tensor, temperature: float = -1.0, cosine: bool = False) -> Tensor:
    """Similarity of every key embedding to every reference embedding.

    Args:
        key: [K, D].
        reference: [R, D].
        temperature: when positive, the cosine divided by this; lowering it sharpens a softmax over the result.
        cosine: normalise the embeddings first; a zero vector has similarity 0 to all.

    Returns:
        [K, R]: dot products by default.
    """
    if cosine or temperature > 0:
        key, reference = F.normalize(key, dim=1), F.normalize(reference, dim=1)
    similarity = key @ reference.t()
    return similarity / temperature if temperature > 0 else similarity


def bisoftmax(similarity: Tensor) -> Tensor:
    """Mean of the softmax over columns and the softmax over rows (equation 5) of [N, M]: high only where both agree.

    A lone row and a lone column score 1 whatever their similarity is.
    """
    return (similarity.softmax(dim=1) + similarity.softmax(dim=0)) / 2
