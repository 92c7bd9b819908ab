"""Checkpoints of other QDTrack implementations, brought into our layout key by key.

SysCV/qdtrack has two layouts. The *new* one, of its newest code, keeps the detector below ``detector.`` and the
embedding head below ``track_head.track_head.``; the *old* one, which the released files have, is flat. Where one is
loaded for the other, the reference goes on with random weights without a word; here every key must find its place.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

SYSCV_NEW = "SysCV/qdtrack (new layout)"
SYSCV_OLD = "SysCV/qdtrack (old layout)"

_DETECTOR_PARTS = (
    (r"backbone\.", "backbone."),
    (r"neck\.lateral_convs\.(\d+)\.", r"neck.lateral_convs.\1.conv."),
    (r"neck\.output_convs\.(\d+)\.", r"neck.fpn_convs.\1.conv."),
    (r"rpn\.conv\.", "rpn_head.rpn_conv."),
    (r"rpn\.objectness\.", "rpn_head.rpn_cls."),
    (r"rpn\.deltas\.", "rpn_head.rpn_reg."),
    (r"box_head\.fcs\.", "roi_head.bbox_head.shared_fcs."),
    (r"box_head\.classifier\.", "roi_head.bbox_head.fc_cls."),
    (r"box_head\.regressor\.", "roi_head.bbox_head.fc_reg."),
)
_EMBEDDING_PARTS = (
    (r"embedding_head\.convs\.(\d+)\.conv\.", r"track_head.convs.\1.conv."),
    (r"embedding_head\.convs\.(\d+)\.norm\.", r"track_head.convs.\1.gn."),
    (r"embedding_head\.fcs\.", "track_head.fcs."),
    (r"embedding_head\.embed\.", "track_head.fc_embed."),
)
_PREFIXES = {SYSCV_NEW: ("detector.", "track_head."), SYSCV_OLD: ("", "roi_head.")}


class ConversionError(ValueError):
    """A checkpoint of a known foreign layout that does not fit the network; the message lists the keys."""


def recognise_layout(names: Iterable[str]) -> str | None:
    """Foreign layout of a checkpoint by its keys; None for any other, our own included."""
    known = set(names)
    if any(name.startswith(("detector.", "track_head.")) for name in known):
        return SYSCV_NEW
    if any(name.startswith(("rpn_head.", "roi_head.")) for name in known):
        return SYSCV_OLD
    return None


def foreign_name(name: str, layout: str) -> str:
    """Name that one of our tensors has in a foreign layout."""
    for parts, prefix in zip((_DETECTOR_PARTS, _EMBEDDING_PARTS), _PREFIXES[layout], strict=True):
        for own, foreign in parts:
            renamed, count = re.subn(f"^{own}", foreign, name)
            if count:
                return prefix + renamed
    return name


def convert_syscv(state: Mapping[str, Tensor], expected: Mapping[str, Tensor], layout: str) -> dict[str, Tensor]:
    """Rename the tensors of a SysCV/qdtrack checkpoint.

    Args:
        state: the checkpoint's tensors.
        expected: our network's state dict.
        layout: see :func:`recognise_layout`.

    Returns:
        The tensors by our names. Batch counters of BatchNorm, which nothing reads, are zero where they are absent.

    Raises:
        ConversionError: keys are left over or missing; both are listed in the checkpoint's own names.
    """
    sources = {name: foreign_name(name, layout) for name in expected}
    optional = {name for name in sources if name.endswith(".num_batches_tracked")}
    left_over = sorted(set(state) - set(sources.values()))
    missing = sorted(source for name, source in sources.items() if source not in state and name not in optional)
    if left_over or missing:
        raise ConversionError(
            f"checkpoint of {layout} does not fit the preset's network: "
            + "; ".join(
                f"{len(names)} {title}: {listed(names)}"
                for title, names in (("missing", missing), ("left over", left_over))
                if names
            )
        )
    return {name: state.get(source, torch.zeros_like(expected[name])) for name, source in sources.items()}


def listed(names: list[str], limit: int = 8) -> str:
    """The first names of a list, and how many there are besides."""
    return "; ".join(names[:limit]) + (f"; and {len(names) - limit} more" if len(names) > limit else "")
