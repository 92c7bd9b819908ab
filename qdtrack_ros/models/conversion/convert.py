"""The way from a checkpoint's tensors to ours, whatever their layout."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from qdtrack_ros.models.conversion.classes import CLASSIFIER, class_count, class_rows, with_classes
from qdtrack_ros.models.conversion.layout import ConversionError, FileFacts, Layout, State, with_names
from qdtrack_ros.models.conversion.openmmlab import OPENMMLAB, SYSCV_NEW, SYSCV_OLD
from qdtrack_ros.models.conversion.resnet import RESNET
from qdtrack_ros.models.conversion.torchvision_detector import TORCHVISION_DETECTOR
from qdtrack_ros.models.conversion.vis4d import VIS4D

# The first that recognises a checkpoint has it, so the more particular come first.
LAYOUTS = (VIS4D, OPENMMLAB, SYSCV_NEW, TORCHVISION_DETECTOR, SYSCV_OLD, RESNET)
OWN = Layout(name="qdtrack_ros", table={"": ""}, marks=("",))
# What other wrappers put before every name: DistributedDataParallel, torch.compile, Lightning.
_WRAPPERS = ("module.", "_orig_mod.", "model.")


@dataclass(frozen=True)
class Target:
    """The network that a checkpoint is brought to.

    Attributes:
        tensors: its state dict; only shapes and dtypes are looked at.
        style: of its ResNet, ``pytorch`` or ``caffe``; empty where that means nothing.
        labels: of its classes; empty takes the checkpoint's classes as they come.
        sources: label -> class of the checkpoint, where the names differ.
    """

    tensors: Mapping[str, Tensor]
    style: str = ""
    labels: tuple[str, ...] = ()
    sources: Mapping[str, str] = field(default_factory=dict)


class Conversion(NamedTuple):
    """A checkpoint in our layout.

    Attributes:
        layout: that it had.
        tensors: by our names; all of the network but those of the ``untrained`` parts.
        used: number of the checkpoint's tensors that went into them.
        aside: what was left out -> number of tensors.
        classes: (label, class of the checkpoint) for every label, where names are known; else empty.
        untrained: parts of our network that the layout has not.
        style: of its ResNet, where layout or file tells; else empty.
    """

    layout: Layout
    tensors: State
    used: int
    aside: dict[str, int]
    classes: list[tuple[str, str]]
    untrained: frozenset[str]
    style: str


class _Sorted(NamedTuple):
    tensors: State  # by the names of the layout's table
    original: dict[str, str]  # those names -> the checkpoint's own
    aside: dict[str, int]
    repeated: list[str]


def recognise_layout(names: Iterable[str]) -> Layout:
    """Layout of a checkpoint by its names; ours for any that is not known."""
    known = list(names)
    return next((layout for layout in LAYOUTS if layout.recognises(known)), OWN)


def foreign_name(name: str, layout: Layout) -> str:
    """Name that one of our tensors has in a layout.

    Raises:
        KeyError: the layout has no such part.
    """
    foreign = layout.foreign_name(name)
    if foreign is None:
        raise KeyError(f"{layout.name} has nothing like {name}")
    return foreign


def convert(state: Mapping[str, Tensor], target: Target, facts: FileFacts | None = None) -> Conversion:
    """Bring a checkpoint's tensors to our names, orders and rules.

    Args:
        state: the checkpoint's tensors.
        target: the network that they are for.
        facts: what is known about the file besides.

    Returns:
        The tensors by our names. Batch counters of BatchNorm, which nothing reads, are zero where they are absent.

    Raises:
        ConversionError: tensors are left over, missing or mis-shaped, all of which are listed in the checkpoint's own
            names; or its classes or its backbone's style are not the network's.
    """
    names, unwrapped_aside = _unwrapped({name: name for name in state})
    layout = recognise_layout(names)
    try:
        conversion = _convert_as(layout, state, names, target, facts or FileFacts())
    except ConversionError as error:
        if layout is OWN:
            raise
        raise ConversionError(f"(recognised as {layout.name}) {error}") from error
    return conversion._replace(aside={**unwrapped_aside, **conversion.aside})


def opened(state: Mapping[str, Tensor]) -> tuple[Layout, State]:
    """Layout of a checkpoint, and its tensors by the names of the layout's table."""
    names, _ = _unwrapped({name: name for name in state})
    layout = recognise_layout(names)
    return layout, _sorted_out(layout, state, names).tensors


def _convert_as(
    layout: Layout, state: Mapping[str, Tensor], names: Mapping[str, str], target: Target, facts: FileFacts
) -> Conversion:
    style = layout.style(names, facts) or facts.style
    _check_style(style, target.style)
    found = _sorted_out(layout, state, names)
    prepared = _prepared(layout, found.tensors, facts)
    parts = {own: layout.foreign_name(own) for own in target.tensors}
    expected = {own: foreign for own, foreign in parts.items() if foreign is not None}
    tensors = {own: prepared[foreign] for own, foreign in expected.items() if foreign in prepared}
    tensors, classes = _with_labels(layout, tensors, target, facts)
    originals = {own: found.original.get(foreign, foreign) for own, foreign in expected.items()}
    unused = [found.original[foreign] for foreign in prepared if foreign not in expected.values()]
    faults = {
        "missing": sorted(originals[own] for own in expected if own not in tensors and not _is_counter(own)),
        "unknown" if layout is OWN else "left over": sorted(unused + found.repeated),
        "mis-shaped": _misshapen(tensors, target, originals),
    }
    if any(faults.values()):
        raise ConversionError(_complaint(faults, class_count(tensors), class_count(target.tensors)))
    absent = {own: torch.zeros(target.tensors[own].shape, dtype=torch.int64) for own in expected if own not in tensors}
    return Conversion(
        layout,
        {own: absent[own] if own in absent else tensors[own] for own in expected},
        len(tensors),
        found.aside,
        classes,
        _parts(parts) - _parts(expected),
        style,
    )


def _prepared(layout: Layout, tensors: State, facts: FileFacts) -> State:
    try:
        return layout.prepare(tensors, facts)
    except (IndexError, RuntimeError) as error:  # torch's, for shapes that do not go together
        raise ConversionError(f"has tensors whose shapes do not go together ({error})") from error


def _parts(names: Iterable[str]) -> frozenset[str]:
    return frozenset(name.partition(".")[0] for name in names)


def _unwrapped(names: dict[str, str]) -> tuple[dict[str, str], dict[str, int]]:
    """Names without what wrappers put before them -> the checkpoint's own; and what is left out on the way."""
    aside: dict[str, int] = {}
    while True:
        averaged = {name: own for name, own in names.items() if name.startswith("ema_model.")}
        if averaged:
            aside["weights that were not averaged; the averaged ones are taken"] = len(names) - len(averaged)
            names = {name.removeprefix("ema_model."): own for name, own in averaged.items()}
        prefix = next((p for p in _WRAPPERS if names and all(name.startswith(p) for name in names)), None)
        if prefix is None:
            return names, aside
        names = {name.removeprefix(prefix): own for name, own in names.items()}


def _sorted_out(layout: Layout, state: Mapping[str, Tensor], names: Mapping[str, str]) -> _Sorted:
    result = _Sorted({}, {}, {}, [])
    for name, own in names.items():
        reason = layout.reason_aside(name)
        spelled = layout.newest_spelling(name)
        if reason is not None:
            result.aside[reason] = result.aside.get(reason, 0) + 1
        elif spelled in result.tensors:
            result.repeated.append(own)
        else:
            result.tensors[spelled] = state[own]
            result.original[spelled] = own
    return result


def class_names(state: Mapping[str, Tensor], facts: FileFacts) -> tuple[str, ...]:
    """Names of a checkpoint's classes in the order of its classifier; empty where neither file nor layout tells."""
    layout, tensors = opened(state)
    classifier = tensors.get(layout.foreign_name(f"{CLASSIFIER}.weight") or "")
    return () if classifier is None or not classifier.dim() else facts.classes or layout.names_of(len(classifier) - 1)


def _with_labels(
    layout: Layout, tensors: State, target: Target, facts: FileFacts
) -> tuple[State, list[tuple[str, str]]]:
    count = class_count(tensors)
    names = facts.classes or (layout.names_of(count) if count is not None else ())
    if facts.classes and count is not None and len(names) != count:
        raise ConversionError(f"has {count} classes, but {len(names)} names were given for them: {', '.join(names)}")
    if target.sources and not names:
        raise ConversionError("does not tell the names of its classes; give them with --classes, in their order")
    # Of a tracker's classes none is left out unasked.
    picking = layout.picks_classes or bool(target.sources)
    if count is None or not names or not target.labels or (count != len(target.labels) and not picking):
        return tensors, []
    rows = class_rows(names, target.labels, target.sources)
    pairs = [(label, names[row]) for label, row in zip(target.labels, rows, strict=True)]
    return (tensors if rows == list(range(count)) else with_classes(tensors, rows)), pairs


def _check_style(found: str, wanted: str) -> None:
    if found and wanted and found != wanted:
        place = {"caffe": "the 1x1", "pytorch": "the 3x3"}
        raise ConversionError(
            f"has a ResNet of {found} style (stride in {place[found]} convolution), the preset one of {wanted} style; "
            f"set model.backbone_style to {found}, and see that the preset's channel order, mean and std are its too"
        )


def _misshapen(tensors: State, target: Target, names: Mapping[str, str]) -> list[str]:
    faults = []
    for own, tensor in sorted(tensors.items()):
        wanted = target.tensors[own]
        if tensor.shape != wanted.shape:
            faults.append(f"{names[own]} is {list(tensor.shape)}, expected {list(wanted.shape)}")
        elif tensor.is_floating_point() != wanted.is_floating_point():
            faults.append(f"{names[own]} is {tensor.dtype}, expected {wanted.dtype}")
    return faults


def _is_counter(name: str) -> bool:
    return name.endswith(".num_batches_tracked")


def _complaint(faults: Mapping[str, list[str]], found_classes: int | None, wanted_classes: int | None) -> str:
    sentence = "is of another model, or not whole; take the preset that it was made for, or get the file again"
    if None not in (found_classes, wanted_classes) and found_classes != wanted_classes:
        sentence += f". The checkpoint has {_classes(found_classes)}, the preset {wanted_classes}"
    return with_names(sentence, faults)


def _classes(count: int | None) -> str:
    return "1 class" if count == 1 else f"{count} classes"
