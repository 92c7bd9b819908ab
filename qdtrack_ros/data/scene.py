"""Whole pictures varied as the paper's configurations do: resized, coloured, cut and mirrored, in this order."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import cv2
import numpy as np

from qdtrack_ros.data.appearance import Distortion, apply_distortion, random_distortion
from qdtrack_ros.data.transforms import LabelledPicture

_CHANGES = ("scale", "colour", "crop", "flip")


@dataclass(frozen=True)
class SceneAugmentation:
    """How much a whole picture is varied; the defaults are the paper's for BDD100K.

    Args:
        scales: (long, short) sides; the picture is fitted into one of these, drawn at random, and keeps its shape.
        scale_range: what that is multiplied by: smallest and largest factor.
        colour: distort brightness, contrast, saturation and hue, and swap channels, each in half of the pictures (SSD).
        crop: (height, width) of a window cut out at random; (0, 0) cuts nothing. Smaller pictures stay whole.
        flip: probability of a mirrored picture.
        shared: which of ``scale``, ``colour``, ``crop`` and ``flip`` are drawn once for a pair, not once for a picture.
        clip_boxes: cut boxes at the picture's border (the MOT17 configuration does not).
    """

    kind: ClassVar[str] = "scene"

    scales: tuple[tuple[int, int], ...] = ((1296, 720),)
    scale_range: tuple[float, float] = (1.0, 1.0)
    colour: bool = False
    crop: tuple[int, int] = (0, 0)
    flip: float = 0.5
    shared: tuple[str, ...] = ("scale", "colour", "flip")
    clip_boxes: bool = True

    def __post_init__(self) -> None:
        if not self.scales or any(short < 32 or long < short for long, short in self.scales):
            raise ValueError(f"scales is {self.scales}; expected (long, short) sides of at least 32 pixels")
        if not 0 < self.scale_range[0] <= self.scale_range[1]:
            raise ValueError(f"scale_range is {self.scale_range}; expected (smallest, largest)")
        if set(self.shared) - set(_CHANGES):
            raise ValueError(f"shared is {self.shared}; expected some of {', '.join(_CHANGES)}")


@dataclass(frozen=True)
class SceneChange:
    """One draw: (long, short) sides, colours, place of the window as fractions of the room, mirrored or not."""

    scale: tuple[float, float]
    colour: Distortion
    crop: tuple[float, float]
    flip: bool


def vary_scene(
    key: LabelledPicture, reference: LabelledPicture, config: SceneAugmentation, rng: np.random.Generator
) -> tuple[LabelledPicture, LabelledPicture]:
    """Both pictures of a pair, varied together where the configuration says so."""
    first, second = random_change(config, rng), random_change(config, rng)
    second = replace(second, **{name: getattr(first, name) for name in config.shared})
    return apply_change(key, first, config), apply_change(reference, second, config)


def random_change(config: SceneAugmentation, rng: np.random.Generator) -> SceneChange:
    """Draw a change."""
    long, short = config.scales[int(rng.integers(len(config.scales)))]
    factor = float(rng.uniform(*config.scale_range))
    return SceneChange(
        scale=(long * factor, short * factor),
        colour=random_distortion(rng),
        crop=(float(rng.random()), float(rng.random())),
        flip=bool(rng.random() < config.flip),
    )


def apply_change(picture: LabelledPicture, change: SceneChange, config: SceneAugmentation) -> LabelledPicture:
    """Change a picture; objects and regions of which less than a pixel is left are dropped."""
    height, width = picture.image.shape[:2]
    factor = min(change.scale[0] / max(height, width), change.scale[1] / min(height, width))
    new_width, new_height = round(width * factor), round(height * factor)
    image = cv2.resize(picture.image, (new_width, new_height), interpolation=cv2.INTER_LINEAR)
    stretch = np.array([new_width / width, new_height / height] * 2, np.float32)
    boxes, ignored = picture.boxes * stretch, picture.ignore_boxes * stretch
    if config.colour:
        image = apply_distortion(np.asarray(image, np.uint8), change.colour)
    if all(config.crop):
        top, left = (
            int(place * (max(side - window, 0) + 1))
            for place, side, window in zip(change.crop, image.shape[:2], config.crop, strict=True)
        )
        image = image[top : top + config.crop[0], left : left + config.crop[1]]
        offset = np.array([left, top, left, top], np.float32)
        boxes, ignored = boxes - offset, ignored - offset
    rows, columns = image.shape[:2]
    if change.flip:
        image = image[:, ::-1]
        mirror, sign = np.array([columns, 0, columns, 0], np.float32), np.array([-1, 1, -1, 1], np.float32)
        boxes, ignored = (mirror + sign * some[:, [2, 1, 0, 3]] for some in (boxes, ignored))
    limit = np.array([columns, rows, columns, rows], np.float32)
    seen, ignored = np.clip(boxes, 0, limit), np.clip(ignored, 0, limit)
    left_over = (seen[:, 2:] - seen[:, :2] >= 1).all(axis=1)
    return LabelledPicture(
        np.ascontiguousarray(image, np.uint8),
        (seen if config.clip_boxes else boxes)[left_over].astype(np.float32),
        picture.labels[left_over],
        picture.instance_ids[left_over],
        ignored[(ignored[:, 2:] - ignored[:, :2] >= 1).all(axis=1)].astype(np.float32),
    )
