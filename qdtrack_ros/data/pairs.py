"""Pairs of frames for quasi-dense similarity learning (paper, section 3.1): a key frame and a reference frame near it.

Still pictures become pairs by two views of one picture. A pair is a function of (seed, number), so a training that is
resumed sees the same pairs again.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence as Seq
from dataclasses import dataclass, field
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from qdtrack_ros.data.appearance import apply_colour, degrade, random_colour
from qdtrack_ros.data.transforms import (
    AugmentationConfig,
    LabelledPicture,
    apply_view,
    follow_view,
    mosaic,
    random_view,
)
from qdtrack_ros.data.types import Annotation, Frame, Sequence

_IDS_PER_SOURCE = 1_000_000_000
"""Instance ids of source k are shifted by k times this, so that people of different sources differ within a mosaic."""


@dataclass(frozen=True)
class PairSource:
    """One sequence as a source of pairs.

    Attributes:
        sequence: frames with annotations.
        weight: how often it is drawn, relative to the others.
        scope: largest distance in frames between key and reference; 0 makes still pairs.
        labels: class index of each label name of the source; names that are mapped to None are ignore regions, other
            names are background.
    """

    sequence: Sequence
    weight: float
    scope: int
    labels: Mapping[str, int | None]


@dataclass(frozen=True)
class PairConfig:
    """How pairs are drawn and varied.

    Attributes:
        augmentation: see :class:`AugmentationConfig`.
        mosaic: probability of a mosaic of four pairs.
        background: probability of drawing any frame, rather than one with an object.
        seed: seed of the whole stream.
    """

    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    mosaic: float = 0.3
    background: float = 0.1
    seed: int = 0


class Pair(NamedTuple):
    """A key and a reference picture.

    Attributes:
        key, reference: the pictures.
        matches: int64 [N], for every key object the row of the same object in the reference, or -1.
    """

    key: LabelledPicture
    reference: LabelledPicture
    matches: npt.NDArray[np.int64]


class PairSampler:
    """Draws pairs from weighted sources.

    Args:
        sources: where pairs come from; at least one must have an object.
        config: how they are drawn.

    Raises:
        ValueError: there is no source, or none has an object.
    """

    def __init__(self, sources: Seq[PairSource], config: PairConfig) -> None:
        self._sources = list(sources)
        self._config = config
        self._populated = [
            [i for i, frame in enumerate(s.sequence.frames) if _has_object(frame, s.labels)] for s in self._sources
        ]
        if not any(self._populated):
            names = ", ".join(s.sequence.name for s in self._sources) or "no source at all"
            raise ValueError(f"no object to learn from in {names}: check the label names in the training configuration")
        weights = np.array([s.weight for s in self._sources], np.float64)
        self._probabilities = weights / weights.sum()

    def draw(self, number: int) -> Pair:
        """The pair of that number: the same for the same seed, whichever process asks."""
        rng = np.random.default_rng([self._config.seed, number])
        size = self._config.augmentation.size
        if rng.random() >= self._config.mosaic:
            return _match(*self._draw_views(size, rng))
        rows = (np.clip(rng.normal(0.5, 0.1), 0.3, 0.7) * size[0]).astype(int)
        columns = (np.clip(rng.normal(0.5, 0.1), 0.3, 0.7) * size[1]).astype(int)
        quadrants = [
            (rows, columns), (rows, size[1] - columns), (size[0] - rows, columns), (size[0] - rows, size[1] - columns)
        ]  # fmt: skip
        views = [self._draw_views(quadrant, rng) for quadrant in quadrants]
        split = (int(rows), int(columns))
        key, reference = (
            mosaic(list(side), split, size, self._config.augmentation) for side in zip(*views, strict=True)
        )
        return _match(_without_doubles(key), _without_doubles(reference))

    def _draw_views(self, size: tuple[int, int], rng: np.random.Generator) -> tuple[LabelledPicture, LabelledPicture]:
        config = self._config.augmentation
        key, reference = self._draw_frames(rng)
        view, instance = random_view(key, size, config, rng)
        focus = None
        if instance is not None and instance in reference.instance_ids:
            focus = (_centre(key, instance), _centre(reference, instance))
        height, width = reference.image.shape[:2]
        second = follow_view(view, focus, (height, width), size, config, rng)
        colour = random_colour(config.colour, config.grey, rng)
        views = []
        for picture, chosen in ((key, view), (reference, second)):
            rendered = apply_view(picture, chosen, size, config)
            image = apply_colour(rendered.image, colour)
            image = apply_colour(image, random_colour(config.pair_colour, 0.0, rng))
            if rng.random() < config.degrade:
                image = degrade(image, rng)
            views.append(
                LabelledPicture(image, rendered.boxes, rendered.labels, rendered.instance_ids, rendered.ignore_boxes)
            )
        return views[0], views[1]

    def _draw_frames(self, rng: np.random.Generator) -> tuple[LabelledPicture, LabelledPicture]:
        """Key and reference frame of a random source, unchanged but for the instance ids."""
        index = int(rng.choice(len(self._sources), p=self._probabilities))
        source, populated = self._sources[index], self._populated[index]
        frames = source.sequence.frames
        anywhere = not populated or rng.random() < self._config.background
        key = int(rng.integers(len(frames))) if anywhere else int(rng.choice(populated))
        low, high = max(0, key - source.scope), min(len(frames) - 1, key + source.scope)
        other = int(rng.integers(low, high + 1))
        first = _load(frames[key], source.labels, index * _IDS_PER_SOURCE, still=source.scope == 0)
        if other == key:
            return first, first
        return first, _load(frames[other], source.labels, index * _IDS_PER_SOURCE, still=False)


def _has_object(frame: Frame, labels: Mapping[str, int | None]) -> bool:
    return any(_class_of(annotation, labels) is not None for annotation in frame.annotations)


def _class_of(annotation: Annotation, labels: Mapping[str, int | None]) -> int | None:
    """Class index of an object to learn; None for ignore regions and background."""
    if annotation.ignore or annotation.crowd:
        return None
    return labels.get(annotation.label)


def _is_ignored(annotation: Annotation, labels: Mapping[str, int | None]) -> bool:
    return annotation.ignore or annotation.crowd or (annotation.label in labels and labels[annotation.label] is None)


def _load(frame: Frame, labels: Mapping[str, int | None], first_id: int, still: bool) -> LabelledPicture:
    """Decode a frame. In a still picture every object is its own identity."""
    objects = [a for a in frame.annotations if _class_of(a, labels) is not None]
    ids = [
        first_id + frame.index * 1000 + row if still else -1 if a.instance_id is None else first_id + a.instance_id
        for row, a in enumerate(objects)
    ]
    ignored = [a.box for a in frame.annotations if _is_ignored(a, labels)]
    image = frame.load()
    if image.ndim == 2:
        image = np.asarray(cv2.cvtColor(image, cv2.COLOR_GRAY2BGR), np.uint8)
    return LabelledPicture(
        image,
        np.array([a.box for a in objects], np.float32).reshape(-1, 4),
        np.array([labels[a.label] for a in objects], np.int64),
        np.array(ids, np.int64),
        np.array(ignored, np.float32).reshape(-1, 4),
    )


def _centre(picture: LabelledPicture, instance: int) -> npt.NDArray[np.float32]:
    box = picture.boxes[int(np.flatnonzero(picture.instance_ids == instance)[0])]
    return np.asarray((box[:2] + box[2:]) / 2, np.float32)


def _without_doubles(picture: LabelledPicture) -> LabelledPicture:
    """Turn the second copy of a person whom two quadrants show into an ignore region.

    A match names one partner only: the loss would take the other copy for a stranger.
    """
    first = np.zeros(len(picture.instance_ids), bool)
    first[np.unique(picture.instance_ids, return_index=True)[1]] = True
    keep = first | (picture.instance_ids < 0)
    return LabelledPicture(
        picture.image,
        picture.boxes[keep],
        picture.labels[keep],
        picture.instance_ids[keep],
        np.concatenate([picture.ignore_boxes, picture.boxes[~keep]]),
    )


def _match(key: LabelledPicture, reference: LabelledPicture) -> Pair:
    same = (key.instance_ids[:, None] == reference.instance_ids[None]) & (key.instance_ids[:, None] >= 0)
    found = same.any(axis=1)
    matches = np.where(found, same.argmax(axis=1) if same.size else 0, -1).astype(np.int64)
    return Pair(key, reference, matches)
