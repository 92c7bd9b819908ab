"""What `qdtrack train --check` finds before an hour is lost: all sources of a training, read and looked through."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, TypeVar

from qdtrack_ros.configuration import ConfigurationError
from qdtrack_ros.data.crops import CROP_LABEL
from qdtrack_ros.data.pair_sources import CropSource, SequenceSource
from qdtrack_ros.data.types import DataError
from qdtrack_ros.inference.presets import load_preset
from qdtrack_ros.models.weights_file import CheckpointError
from qdtrack_ros.training.config import SourceConfig, TrainingConfig
from qdtrack_ros.training.module import TrainingError
from qdtrack_ros.training.picture_check import PictureReport, look_at_crops, look_at_sequences
from qdtrack_ros.training.sources import IGNORE, label_indices, open_pair_sources, open_sequences
from qdtrack_ros.training.starting_weights import build_model

T = TypeVar("T")

_EXPECTED = (ConfigurationError, DataError, TrainingError, CheckpointError, ImportError, OSError)


class LabelUse(NamedTuple):
    """A label of a source: how many boxes have it, and what it becomes; None for background."""

    label: str
    boxes: int
    target: str | None


@dataclass
class SourceReport:
    """What was found in a source.

    Attributes:
        name: path of its annotations; of the sequence to validate on with a note that it is that.
        format: its format.
        sequences, frames: how many; of crops, identities and pictures.
        boxes: objects to learn.
        ignored: regions neither taught nor punished.
        identities: of the objects; each object of a still is its own.
        lone: identities never seen in two frames within the scope.
        pairs: how often an object has a partner within the scope: another sight of it or, in stills, itself.
        pictures: how many were decoded.
        labels: all labels that occur or are mapped.
        errors: what keeps a training from using it.
        warnings: what it can be used with, but may not be meant.
    """

    name: str
    format: str
    sequences: int = 0
    frames: int = 0
    boxes: int = 0
    ignored: int = 0
    identities: int = 0
    lone: int = 0
    pairs: int = 0
    pictures: int = 0
    labels: tuple[LabelUse, ...] = ()
    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


class CheckReport(NamedTuple):
    """All of a training: its sources, that to validate on last, and what is wrong with the weights to start from."""

    sources: tuple[SourceReport, ...]
    errors: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether the training can begin."""
        return not self.errors and not any(source.errors for source in self.sources)


def check_training(config: TrainingConfig, root: Path, all_pictures: bool = False) -> CheckReport:
    """Read everything that a training would, and say all that is wrong with it.

    Args:
        config: the training.
        root: folder that the sources' paths start from.
        all_pictures: decode every picture, not only some of each source.

    Raises:
        ConfigurationError: the preset cannot be used, so that nothing else can be looked at.
    """
    preset = load_preset(config.preset)
    config = config.with_labels(preset.labels)
    sources = [check_source(source, root, preset.labels, all_pictures) for source in config.sources]
    for validation in config.validation or ():
        sources.append(check_validation(validation, root, preset.labels, all_pictures))
    errors: list[str] = []
    _attempt(lambda: build_model(config, preset, root), errors)
    if not any(source.boxes or source.errors for source in sources[: len(config.sources)]):
        errors.append("no source has an object to learn from")
    return CheckReport(tuple(sources), tuple(errors))


def check_source(config: SourceConfig, root: Path, labels: Sequence[str], all_pictures: bool = False) -> SourceReport:
    """Read one source to learn from."""
    report = SourceReport(config.annotations or config.path, config.format)
    if _attempt(lambda: label_indices(config, labels), report.errors) is None:
        # What is wrong with its files is worth knowing all the same.
        config = SourceConfig(**{**vars(config), "labels": dict.fromkeys(config.labels, IGNORE)})
        _attempt(lambda: open_pair_sources(config, root, labels, cache=False), report.errors)
        return report
    opened = _attempt(lambda: open_pair_sources(config, root, labels, cache=False), report.errors)
    if opened is None:
        return report
    for source in opened:
        if isinstance(source, CropSource):
            _count_crops(report, source, config)
            _take(report, look_at_crops(source.crops, all_pictures))
    videos = [source for source in opened if isinstance(source, SequenceSource)]
    if videos:
        _count(report, videos, config)
        _take(report, look_at_sequences([source.sequence for source in videos], all_pictures))
    _judge(report, config)
    return report


def check_validation(
    config: SourceConfig, root: Path, labels: Sequence[str], all_pictures: bool = False
) -> SourceReport:
    """Read the sequences to validate on; whether objects have partners does not matter there."""
    report = SourceReport(f"{config.annotations or config.path} (validation)", config.format)
    indices = _attempt(lambda: label_indices(config, labels), report.errors)
    sequences = _attempt(lambda: open_sequences(config, root), report.errors)
    if indices is not None and sequences is not None:
        videos = [SequenceSource(sequence, config.weight, config.scope, indices) for sequence in sequences]
        _count(report, videos, config)
        _take(report, look_at_sequences(sequences, all_pictures))
        if not report.boxes:
            report.errors.append(f"no object to validate on; it has {_labels_there(report)}")
    return report


def _attempt(action: Callable[[], T], errors: list[str]) -> T | None:
    """What an action gives; None, after noting why, when it fails in a way that is told to users."""
    try:
        return action()
    except _EXPECTED as error:
        errors.append(str(error) or type(error).__name__)
        return None


def _take(report: SourceReport, found: PictureReport) -> None:
    report.pictures += found.decoded
    report.errors += found.errors
    report.warnings += found.warnings


def _count(report: SourceReport, sources: Sequence[SequenceSource], config: SourceConfig) -> None:
    """Fill in the figures from the annotations of all frames."""
    found: Counter[str] = Counter(dict.fromkeys(config.labels, 0))
    nameless = 0
    for source in sources:
        seen: defaultdict[int, list[int]] = defaultdict(list)  # frames of each identity
        for frame in source.sequence.frames:
            for annotation in frame.annotations:
                found[annotation.label] += 1
                report.ignored += source.is_ignored(annotation)
                if source.class_of(annotation) is None:
                    continue
                report.boxes += 1
                if annotation.instance_id is not None:
                    seen[annotation.instance_id].append(frame.index)
                nameless += annotation.instance_id is None
        report.sequences += 1
        report.frames += len(source.sequence.frames)
        if source.scope > 0:
            partners = [_partners(frames, source.scope) for frames in seen.values()]
            report.identities += len(partners)
            report.lone += partners.count(0)
            report.pairs += sum(partners)
    if config.scope == 0:
        report.identities = report.pairs = report.boxes
    elif nameless:
        report.warnings.append(f"{nameless} objects have no identity: they teach the detector alone")
    report.labels = tuple(LabelUse(label, count, config.labels.get(label)) for label, count in sorted(found.items()))


def _partners(places: Sequence[int], scope: int) -> int:
    """Pairs of places at most ``scope`` apart; the places are in order."""
    return sum(bisect_right(places, place + scope) - index - 1 for index, place in enumerate(places))


def _judge(report: SourceReport, config: SourceConfig) -> None:
    """What the figures say about the use of a source."""
    there = [use for use in report.labels if use.boxes]
    if there and all(use.target is None for use in there):
        report.errors.append(f"none of its labels is mapped under `labels`; it has {_labels_there(report)}")
    elif not report.boxes:
        report.warnings.append(f"no object to learn from: it gives background alone; it has {_labels_there(report)}")
    elif not report.pairs:
        report.errors.append(
            f"no identity is in two frames within scope {config.scope}: do the ids go on from frame to frame? "
            "Else raise scope, or set it to 0 to take each picture as a still"
        )
    missing = [use.label for use in report.labels if not use.boxes and use.target != IGNORE]
    if missing and report.boxes:
        report.warnings.append(f"labels are mapped that never occur: {', '.join(missing)}")


def _labels_there(report: SourceReport) -> str:
    return ", ".join(use.label for use in report.labels if use.boxes) or "no annotations at all"


def _count_crops(report: SourceReport, source: CropSource, config: SourceConfig) -> None:
    """Fill in the figures of crops, each of which is an object."""
    partners = [_partners(range(len(pictures)), config.scope) for pictures in source.crops.pictures]
    report.sequences = report.identities = len(partners)
    report.frames = report.boxes = sum(len(pictures) for pictures in source.crops.pictures)
    report.lone, report.pairs = partners.count(0), sum(partners)
    report.labels = (LabelUse(CROP_LABEL, report.boxes, config.labels.get(CROP_LABEL)),)


_COLUMNS = ("frames", "boxes", "identities", "lone", "pairs", "ignored", "decoded")


def table(report: CheckReport) -> str:
    """The report as text: a table with a line per source, then what each has to say."""
    names = [source.name for source in report.sources]
    width = max([len("source"), *map(len, names)])
    lines = [f"{'source':{width}}  {'format':10}" + "".join(f"{column:>12}" for column in _COLUMNS)]
    for s in report.sources:
        figures = (s.frames, s.boxes, s.identities, s.lone, s.pairs, s.ignored, s.pictures)
        lines.append(f"{s.name:{width}}  {s.format:10}" + "".join(f"{figure:12d}" for figure in figures))
    for s in report.sources:
        lines += ["", f"{s.name}:"]
        if s.labels:
            lines.append(f"  labels: {'; '.join(map(_use, s.labels))}")
        lines += [_indented(f"warning: {warning}") for warning in s.warnings]
        lines += [_indented(f"ERROR: {error}") for error in s.errors]
    lines += ["", *(f"ERROR: {error}" for error in report.errors)]
    count = len(report.errors) + sum(len(source.errors) for source in report.sources)
    lines.append("the training can begin" if report.ok else f"the training cannot begin: {count} errors")
    return "\n".join(lines)


def _use(use: LabelUse) -> str:
    target = "background (not mapped)" if use.target is None else use.target
    return f"{use.label} {use.boxes} -> {target}"


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines())
