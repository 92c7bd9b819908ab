"""Which class of a checkpoint becomes which label of the preset: by name where names are known, else by position."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from qdtrack_ros.models.conversion.layout import ConversionError, State

CLASSIFIER, REGRESSOR = "box_head.classifier", "box_head.regressor"
# What data sets call the same thing.
_PAIRS = (("pedestrian", "person"), ("motorcycle", "motor"), ("bicycle", "bike"))
_SYNONYMS = {**dict(_PAIRS), **{other: name for name, other in _PAIRS}}


def class_count(tensors: Mapping[str, Tensor]) -> int | None:
    """Foreground classes of a box head in our names; None without one."""
    weight = tensors.get(f"{CLASSIFIER}.weight")
    return None if weight is None or weight.dim() != 2 else len(weight) - 1


def class_rows(names: Sequence[str], labels: Sequence[str], sources: Mapping[str, str]) -> list[int]:
    """The class of the checkpoint that each label is taken from.

    Args:
        names: names of the checkpoint's classes, in its order; a class without a name is empty.
        labels: of the preset.
        sources: label -> class of the checkpoint, where the names differ.

    Returns:
        For each label an index into ``names``.

    Raises:
        ConversionError: a label has no class.
    """
    folded = [name.strip().lower() for name in names]
    rows = [_row(sources.get(label, label).strip().lower(), folded, label in sources) for label in labels]
    lost = [label for label, row in zip(labels, rows, strict=True) if row is None]
    if lost and len(names) == len(labels) and not sources and _agree(rows):
        return list(range(len(labels)))  # the same classes, some under other names
    if lost:
        raise ConversionError(
            f"has no class for {', '.join(map(repr, lost))}; it has {'; '.join(filter(None, names))}. "
            f"Say which one is meant, e.g. qdtrack convert ... --take {lost[0].replace(' ', '_')}=CLASS"
        )
    return [row for row in rows if row is not None]


def _row(wanted: str, folded: Sequence[str], literal: bool) -> int | None:
    candidates = (wanted,) if literal else (wanted, _SYNONYMS.get(wanted, wanted))
    return next((folded.index(name) for name in candidates if name and name in folded), None)


def _agree(rows: Sequence[int | None]) -> bool:
    """Whether classes may be taken by position: a single one, or some names are the same and stand in their places."""
    known = [row == index for index, row in enumerate(rows) if row is not None]
    return all(known) and (len(known) > 0 or len(rows) == 1)


def same_class(one: str, other: str) -> bool:
    """Whether two names mean the same class."""
    one, other = one.strip().lower(), other.strip().lower()
    return one == other or _SYNONYMS.get(one) == other


def with_classes(tensors: State, rows: Sequence[int]) -> State:
    """The box head with these classes of its, in this order, and the background."""
    count = class_count(tensors)
    assert count is not None
    chosen = torch.tensor(list(rows), dtype=torch.long)
    result = dict(tensors)
    for part in ("weight", "bias"):
        classifier, regressor = f"{CLASSIFIER}.{part}", f"{REGRESSOR}.{part}"
        if classifier in tensors and len(tensors[classifier]) == count + 1:
            result[classifier] = tensors[classifier][torch.cat([chosen, torch.tensor([count])])]
        # Deltas that are the same for all classes have no rows to choose from.
        if regressor in tensors and len(tensors[regressor]) == 4 * count:
            by_class = tensors[regressor].unflatten(0, (count, 4))
            result[regressor] = by_class[chosen].flatten(0, 1)
    return result
