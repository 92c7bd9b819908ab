"""From a camera's picture to the network's input: resize, normalise, pad; the reference's order of steps to the letter.

The reference resizes the uint8 picture, normalises, and pads with zeros afterwards; padding before normalising gives
other features along the border.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)


@dataclass(frozen=True)
class PreprocessConfig:
    """How pictures are prepared.

    Args:
        image_scale: (width, height) that a picture is resized to fit into, keeping its aspect ratio; (0, 0) leaves the
            size. Larger finds smaller objects and costs time in proportion to the area.
        channel_order: ``rgb`` or ``bgr``, the order in which the network was trained; mean and std are in that order.
        mean: subtracted per channel.
        std: divided by per channel.
        pad_multiple: height and width are padded at the bottom and right to a multiple of this.
    """

    image_scale: tuple[int, int] = (1296, 720)
    channel_order: str = "rgb"
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    pad_multiple: int = 32

    def __post_init__(self) -> None:
        if self.channel_order not in ("rgb", "bgr"):
            raise ValueError(f"channel_order is {self.channel_order!r}; expected rgb or bgr")
        if (self.image_scale[0] == 0) != (self.image_scale[1] == 0) or min(self.image_scale) < 0:
            raise ValueError(f"image_scale is {self.image_scale}; expected (width, height), or (0, 0) for no resize")
        if not all(math.isfinite(value) and value > 0 for value in self.std):
            raise ValueError(f"std is {self.std}; expected positive numbers")
        if not all(math.isfinite(value) for value in self.mean):
            raise ValueError(f"mean is {self.mean}; expected numbers")
        if self.pad_multiple < 1:
            raise ValueError(f"pad_multiple is {self.pad_multiple}; expected at least 1")


class Batch(NamedTuple):
    """A network input.

    Attributes:
        images: float32 [B, 3, H, W].
        image_sizes: (height, width) of every resized picture, padding excluded.
        scale_factors: (x, y) factors from source to resized pixels.
    """

    images: npt.NDArray[np.float32]
    image_sizes: list[tuple[int, int]]
    scale_factors: list[tuple[float, float]]


def resized_size(height: int, width: int, image_scale: tuple[int, int]) -> tuple[int, int]:
    """(height, width) after fitting into ``image_scale``, as mmcv's ``imrescale`` does it.

    The larger number of ``image_scale`` bounds the long edge and the smaller one the short edge, whichever way round.
    """
    if image_scale == (0, 0):
        return height, width
    long_edge, short_edge = max(image_scale), min(image_scale)
    factor = min(long_edge / max(height, width), short_edge / min(height, width))
    # Nothing less than a pixel remains of an image a thousand times as long as wide; the reference fails on it.
    return max(int(height * factor + 0.5), 1), max(int(width * factor + 0.5), 1)


def padded_size(height: int, width: int, multiple: int) -> tuple[int, int]:
    """(height, width) of the smallest network input that a resized picture fits into."""
    return -(-height // multiple) * multiple, -(-width // multiple) * multiple


def resized(image: npt.NDArray[np.uint8], size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """A picture [H, W, 3] of another (height, width); itself where that is its own."""
    if size == image.shape[:2]:
        return image
    return np.asarray(cv2.resize(image, (size[1], size[0]), interpolation=cv2.INTER_LINEAR), np.uint8)


def letterboxed_size(height: int, width: int, config: PreprocessConfig, canvas: tuple[int, int]) -> tuple[int, int]:
    """(height, width) of a picture resized for a network input of fixed (height, width): smaller where it must be."""
    new_h, new_w = resized_size(height, width, config.image_scale)
    factor = min(1.0, canvas[0] / new_h, canvas[1] / new_w)
    if factor == 1.0:
        return new_h, new_w
    return min(max(int(new_h * factor + 0.5), 1), canvas[0]), min(max(int(new_w * factor + 0.5), 1), canvas[1])


def preprocess(images: Sequence[npt.NDArray[np.uint8]], config: PreprocessConfig) -> Batch:
    """Prepare pictures for the network.

    Args:
        images: uint8 BGR [H, W, 3]; the batch is padded to the largest. More padding than a picture needs by itself
            moves its detections a little: pictures of one size are best kept together.
        config: see :class:`PreprocessConfig`.
    """
    sizes = [resized_size(image.shape[0], image.shape[1], config.image_scale) for image in images]
    prepared = [resized(image, size) for image, size in zip(images, sizes, strict=True)]
    factors = [(w / image.shape[1], h / image.shape[0]) for image, (h, w) in zip(images, sizes, strict=True)]
    batch_h, batch_w = padded_size(max(h for h, _ in sizes), max(w for _, w in sizes), config.pad_multiple)
    # Channels last in memory: the layout in which convolutions are quickest on a CPU and on tensor cores.
    batch = np.zeros((len(images), batch_h, batch_w, 3), np.float32)
    mean, inverse_std = np.array(config.mean, np.float32), np.float32(1) / np.array(config.std, np.float32)
    for slot, image, (height, width) in zip(batch, prepared, sizes, strict=True):
        view = slot[:height, :width]
        pixels = image[..., ::-1] if config.channel_order == "rgb" else image
        np.subtract(pixels, mean, out=view)
        view *= inverse_std
    return Batch(batch.transpose(0, 3, 1, 2), sizes, factors)
