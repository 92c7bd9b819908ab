"""Pairs of frames for quasi-dense similarity learning (paper, section 3.1): a key frame and a reference frame near it.

Still pictures become pairs by two views of one picture, crops by identity by two sheets of them. A pair is a function
of (seed, number), so a training that is resumed sees the same pairs again.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from qdtrack_ros.configuration import within
from qdtrack_ros.data.appearance import apply_colour, degrade, random_colour
from qdtrack_ros.data.pair_sources import PairSource
from qdtrack_ros.data.scene import SceneAugmentation, vary_scene
from qdtrack_ros.data.transforms import (
    AugmentationConfig,
    LabelledPicture,
    apply_view,
    follow_view,
    mosaic,
    random_view,
)

_TRIES = 20  # to find frames that share an object, before a pair without is taken
_IDS_PER_SOURCE = 1_000_000_000
"""Instance ids of source k are shifted by k times this, so that people of different sources differ within a mosaic."""


@dataclass(frozen=True)
class PairConfig:
    """How pairs are drawn and varied.

    Attributes:
        augmentation: of kind ``objects``, see :class:`AugmentationConfig`, or ``scene``, see
            :class:`SceneAugmentation`: the paper's, which knows no mosaic.
        mosaic: probability of a mosaic of four pairs.
        background: probability of drawing any frame, rather than one with an object.
        matched: draw again where the two frames share no object, as the paper's code does.
        seed: seed of the whole stream.
    """

    augmentation: AugmentationConfig | SceneAugmentation = field(default_factory=AugmentationConfig)
    mosaic: float = 0.3
    background: float = 0.1
    matched: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        within(self, 0, 1, "mosaic", "background")
        within(self, 0, math.inf, "seed")
        if isinstance(self.augmentation, SceneAugmentation) and self.mosaic:
            raise ValueError(f"mosaic is {self.mosaic}; whole pictures (kind: scene) make none: set it to 0.0")


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

    def __init__(self, sources: Sequence[PairSource], config: PairConfig) -> None:
        self._sources = list(sources)
        self._config = config
        if not any(source.has_objects for source in self._sources):
            names = ", ".join(source.name for source in self._sources) or "no source at all"
            raise ValueError(f"no object to learn from in {names}: check the label names in the training configuration")
        weights = np.array([s.weight for s in self._sources], np.float64)
        self._probabilities = weights / weights.sum()

    def draw(self, number: int) -> Pair:
        """The pair of that number: the same for the same seed, whichever process asks."""
        rng = np.random.default_rng([self._config.seed, number])
        augmentation = self._config.augmentation
        if isinstance(augmentation, SceneAugmentation):
            return _match(*vary_scene(*self._draw_pictures(rng), augmentation, rng))
        size = augmentation.size
        if rng.random() >= self._config.mosaic:
            return _match(*self._draw_views(size, augmentation, rng))
        rows = (np.clip(rng.normal(0.5, 0.1), 0.3, 0.7) * size[0]).astype(int)
        columns = (np.clip(rng.normal(0.5, 0.1), 0.3, 0.7) * size[1]).astype(int)
        quadrants = [
            (rows, columns), (rows, size[1] - columns), (size[0] - rows, columns), (size[0] - rows, size[1] - columns)
        ]  # fmt: skip
        views = [self._draw_views(quadrant, augmentation, rng) for quadrant in quadrants]
        split = (int(rows), int(columns))
        key, reference = (mosaic(list(side), split, size, augmentation) for side in zip(*views, strict=True))
        return _match(_without_doubles(key), _without_doubles(reference))

    def _draw_views(
        self, size: tuple[int, int], config: AugmentationConfig, rng: np.random.Generator
    ) -> tuple[LabelledPicture, LabelledPicture]:
        key, reference = self._draw_pictures(rng)
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

    def _draw_pictures(self, rng: np.random.Generator) -> tuple[LabelledPicture, LabelledPicture]:
        """Key and reference picture of a random source, as they are there."""
        for _ in range(_TRIES if self._config.matched else 1):
            index = int(rng.choice(len(self._sources), p=self._probabilities))
            pair = self._sources[index].draw(index * _IDS_PER_SOURCE, self._config.background, rng)
            if (_match(*pair).matches >= 0).any():
                break
        return pair


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
