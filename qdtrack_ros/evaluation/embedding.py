"""How well embeddings tell objects apart, without the noise of whole tracks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt


class KnownObjects(NamedTuple):
    """Embeddings float32 [N, D] of the objects of one picture, and who they are: int64 [N]."""

    embeddings: npt.NDArray[np.float32]
    instance_ids: npt.NDArray[np.int64]


def nearest_accuracy(*sequences: Sequence[KnownObjects], step: int = 1) -> float:
    """How often the nearest of all objects ``step`` pictures later (by dot product) is the same object.

    Pictures of different sequences are not compared: identities are those of their sequence.

    Objects that are not there any more do not count.

    Returns:
        A fraction; NaN where no object is in two pictures.
    """
    right = asked = 0
    pairs = (pair for pictures in sequences for pair in zip(pictures[:-step], pictures[step:], strict=True))
    for now, later in pairs:
        still_there = np.isin(now.instance_ids, later.instance_ids)
        if not still_there.any():
            continue
        nearest = (now.embeddings[still_there] @ later.embeddings.T).argmax(axis=1)
        right += int((later.instance_ids[nearest] == now.instance_ids[still_there]).sum())
        asked += int(still_there.sum())
    return right / asked if asked else float("nan")
