"""Views of labelled pictures: scale, crop, flip and mosaic, with boxes that follow their pixels. numpy and OpenCV only.

Every function takes its randomness as a ``numpy.random.Generator`` and changes nothing in place, so that a sample is
a function of its seed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import cv2
import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class LabelledPicture:
    """A picture with its objects.

    Attributes:
        image: uint8 [H, W, 3], BGR.
        boxes: float32 [N, 4], xyxy in pixels of ``image``.
        labels: int64 [N].
        instance_ids: int64 [N], -1 where the identity is unknown; 0 is an identity like any other.
        ignore_boxes: float32 [M, 4], regions that are neither object nor background.
    """

    image: npt.NDArray[np.uint8]
    boxes: FloatArray
    labels: IntArray
    instance_ids: IntArray
    ignore_boxes: FloatArray


@dataclass(frozen=True)
class AugmentationConfig:
    """How much a training picture is varied, around one of its objects.

    Args:
        size: (height, width) of what comes out, multiples of 32.
        object_height: a random object is brought to a height between these (pixels, log-uniform), so that every source
            teaches every scale whatever its camera.
        max_magnification: upper bound of the resulting enlargement; more only blurs.
        pair_scale_jitter: natural logarithm of the largest scale change between key and reference view.
        flip: probability of a mirrored pair.
        colour: strength of hue, saturation, brightness and contrast changes, shared by a pair; 0 is none.
        pair_colour: the same within a pair. Colour tells people apart, so this stays small.
        grey: probability that a pair is grey.
        degrade: probability of blur, sensor noise or JPEG artefacts, each picture on its own.
        min_visible: objects cut by the crop to less than this fraction become ignore regions.
        min_height: so do objects lower than this many pixels.
    """

    kind: ClassVar[str] = "objects"

    size: tuple[int, int] = (352, 608)
    object_height: tuple[float, float] = (30.0, 220.0)
    max_magnification: float = 2.0
    pair_scale_jitter: float = 0.15
    flip: float = 0.5
    colour: float = 1.0
    pair_colour: float = 0.2
    grey: float = 0.1
    degrade: float = 0.3
    min_visible: float = 0.35
    min_height: float = 14.0

    def __post_init__(self) -> None:
        if any(side <= 0 or side % 32 for side in self.size):
            raise ValueError(f"size is {self.size}; expected (height, width), both multiples of 32")
        if not 0 < self.object_height[0] <= self.object_height[1]:
            raise ValueError(f"object_height is {self.object_height}; expected (smallest, largest)")


@dataclass(frozen=True)
class View:
    """Where to look: output pixel = scale * source pixel + offset, mirrored afterwards if ``flip``."""

    scale: float
    offset: tuple[float, float]
    flip: bool


def random_view(
    picture: LabelledPicture, size: tuple[int, int], config: AugmentationConfig, rng: np.random.Generator
) -> tuple[View, int | None]:
    """Choose a view of ``size`` (height, width) around a random object, or anywhere if there is none.

    Returns:
        The view, and the instance id that it was chosen for (None without one).
    """
    height, width = picture.image.shape[:2]
    out_h, out_w = size
    fit = min(out_h / height, out_w / width)
    flip = bool(rng.random() < config.flip)
    if len(picture.boxes) == 0:
        scale = float(fit * rng.uniform(0.8, 1.8))
        focus = rng.uniform((0, 0), (width, height))
        return _place(scale, focus, (height, width), size, flip, rng), None
    index = int(rng.integers(len(picture.boxes)))
    box = picture.boxes[index]
    low, high = np.log(config.object_height)
    scale = float(np.exp(rng.uniform(low, high)) / max(box[3] - box[1], 1.0))
    scale = float(np.clip(scale, 0.75 * fit, max(config.max_magnification, fit)))
    instance = int(picture.instance_ids[index])
    view = _place(scale, (box[:2] + box[2:]) / 2, (height, width), size, flip, rng)
    return view, instance if instance >= 0 else None


def follow_view(
    view: View,
    focus: tuple[FloatArray, FloatArray] | None,
    source_size: tuple[int, int],
    size: tuple[int, int],
    config: AugmentationConfig,
    rng: np.random.Generator,
) -> View:
    """The reference picture's view: the key's, jittered, and moved along with an object.

    Args:
        view: the key picture's view.
        focus: centres [2] of the same object in key and reference picture; None keeps the place.
        source_size: (height, width) of the reference picture.
        size: (height, width) of what comes out.
        config: strength of the jitter.
        rng: source of randomness.
    """
    scale = view.scale * float(np.exp(rng.uniform(-config.pair_scale_jitter, config.pair_scale_jitter)))
    out_h, out_w = size
    if focus is None:
        anchor = (np.array([out_w, out_h], np.float64) / 2 - view.offset) / view.scale
        target = np.array([out_w, out_h], np.float64) / 2
    else:
        anchor = np.asarray(focus[1], np.float64)
        target = np.asarray(focus[0], np.float64) * view.scale + view.offset
    target = target + rng.uniform(-0.1, 0.1, 2) * (out_w, out_h)
    offset = target - anchor * scale
    return View(scale, _inside(offset, scale, source_size, size), view.flip)


def _place(
    scale: float,
    focus: npt.NDArray[np.floating],
    source_size: tuple[int, int],
    size: tuple[int, int],
    flip: bool,
    rng: np.random.Generator,
) -> View:
    """View of a scale with the focus at a random place, showing as much picture as it can."""
    target = rng.uniform(0.15, 0.85, 2) * (size[1], size[0])
    return View(scale, _inside(target - np.asarray(focus) * scale, scale, source_size, size), flip)


def _inside(
    offset: npt.NDArray[np.floating], scale: float, source_size: tuple[int, int], size: tuple[int, int]
) -> tuple[float, float]:
    """Move an offset so that no border is shown where the picture is large enough; a small picture stays wholly in."""
    result = []
    for value, source, out in zip(offset, source_size[::-1], size[::-1], strict=True):
        slack = out - source * scale
        result.append(float(np.clip(value, min(slack, 0.0), max(slack, 0.0))))
    return result[0], result[1]


def apply_view(
    picture: LabelledPicture, view: View, size: tuple[int, int], config: AugmentationConfig
) -> LabelledPicture:
    """Render a view: warped image, boxes clipped to it, objects hardly visible turned into ignore regions."""
    out_h, out_w = size
    matrix = np.array([[view.scale, 0, view.offset[0]], [0, view.scale, view.offset[1]]], np.float64)
    # Pixel centres lie at half integers (boxes have their origin at a pixel's corner): shift by the difference.
    matrix[:, 2] += 0.5 * view.scale - 0.5
    interpolation = cv2.INTER_AREA if view.scale < 0.6 else cv2.INTER_LINEAR
    if view.scale < 0.6:  # warpAffine has no area mode; shrink first, so that fine texture does not alias
        shrunk = cv2.resize(picture.image, None, fx=view.scale, fy=view.scale, interpolation=interpolation)
        matrix = np.array([[1, 0, view.offset[0]], [0, 1, view.offset[1]]], np.float64)
        image = cv2.warpAffine(shrunk, matrix, (out_w, out_h), flags=cv2.INTER_LINEAR, borderValue=(114, 114, 114))
    else:
        image = cv2.warpAffine(
            picture.image, matrix, (out_w, out_h), flags=cv2.INTER_LINEAR, borderValue=(114, 114, 114)
        )
    boxes = _transform_boxes(picture.boxes, view, out_w)
    ignore = _transform_boxes(picture.ignore_boxes, view, out_w)
    if view.flip:
        image = np.ascontiguousarray(image[:, ::-1])
    moved = replace(picture, image=np.asarray(image, np.uint8), boxes=boxes, ignore_boxes=ignore)
    return clip_objects(moved, config)


def _transform_boxes(boxes: FloatArray, view: View, width: int) -> FloatArray:
    result = boxes * np.float32(view.scale) + np.array([*view.offset, *view.offset], np.float32)
    if view.flip:
        result = result[:, [2, 1, 0, 3]] * np.array([-1, 1, -1, 1], np.float32) + np.array(
            [width, 0, width, 0], np.float32
        )
    return result.astype(np.float32)


def clip_objects(picture: LabelledPicture, config: AugmentationConfig) -> LabelledPicture:
    """Clip boxes to the picture; what is hardly visible or tiny becomes an ignore region, what is outside goes."""
    height, width = picture.image.shape[:2]
    limit = np.array([width, height, width, height], np.float32)
    clipped = np.clip(picture.boxes, 0, limit)
    size, full = clipped[:, 2:] - clipped[:, :2], picture.boxes[:, 2:] - picture.boxes[:, :2]
    visible = size.prod(axis=1) / np.maximum(full.prod(axis=1), 1e-6)
    present = (size > 1).all(axis=1)
    good = present & (visible >= config.min_visible) & (size[:, 1] >= config.min_height)
    ignore = np.clip(picture.ignore_boxes, 0, limit)
    ignore = ignore[(ignore[:, 2:] - ignore[:, :2] > 1).all(axis=1)]
    return LabelledPicture(
        picture.image,
        clipped[good].astype(np.float32),
        picture.labels[good],
        picture.instance_ids[good],
        np.concatenate([ignore, clipped[present & ~good]]).astype(np.float32),
    )


def mosaic(
    pictures: list[LabelledPicture], split: tuple[int, int], size: tuple[int, int], config: AugmentationConfig
) -> LabelledPicture:
    """Four pictures side by side, two above two, each cut to its quadrant.

    Args:
        pictures: four, each already of its quadrant's size, in reading order.
        split: (row, column) where the quadrants meet.
        size: (height, width) of the whole.
        config: rules for objects cut off.
    """
    image = np.empty((*size, 3), np.uint8)
    corners = [(0, 0), (0, split[1]), (split[0], 0), split]
    boxes, ignore = [], []
    for picture, (top, left) in zip(pictures, corners, strict=True):
        h, w = picture.image.shape[:2]
        image[top : top + h, left : left + w] = picture.image
        shift = np.array([left, top, left, top], np.float32)
        boxes.append(picture.boxes + shift)
        ignore.append(picture.ignore_boxes + shift)
    return clip_objects(
        LabelledPicture(
            image,
            np.concatenate(boxes),
            np.concatenate([p.labels for p in pictures]),
            np.concatenate([p.instance_ids for p in pictures]),
            np.concatenate(ignore),
        ),
        config,
    )
