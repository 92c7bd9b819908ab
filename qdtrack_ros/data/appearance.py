"""Changes of a picture's look that leave its geometry alone: colours, and the faults of cheap cameras."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class ColourChange:
    """Hue shift (OpenCV degrees), and gains of saturation, brightness and contrast; ``grey`` drops colour."""

    hue: float
    saturation: float
    brightness: float
    contrast: float
    grey: bool


def random_colour(strength: float, grey: float, rng: np.random.Generator) -> ColourChange:
    """Draw a colour change; strength 1 is what a change of camera and daylight brings."""
    return ColourChange(
        hue=float(rng.uniform(-10, 10) * strength),
        saturation=float(np.exp(rng.uniform(-0.5, 0.4) * strength)),
        brightness=float(rng.uniform(-35, 35) * strength),
        contrast=float(np.exp(rng.uniform(-0.4, 0.35) * strength)),
        grey=bool(rng.random() < grey),
    )


def apply_colour(image: npt.NDArray[np.uint8], change: ColourChange) -> npt.NDArray[np.uint8]:
    """Apply a colour change to a BGR image."""
    if change.grey:
        image = np.asarray(cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR), np.uint8)
    else:
        hsv = cv2.cvtColor(image, cv2.COLOR_BGR2HSV)
        levels = np.arange(256, dtype=np.float32)
        hue = ((levels + change.hue) % 180).astype(np.uint8)
        saturation = np.clip(levels * change.saturation, 0, 255).astype(np.uint8)
        hsv = cv2.merge([cv2.LUT(hsv[..., 0], hue), cv2.LUT(hsv[..., 1], saturation), hsv[..., 2]])
        image = np.asarray(cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR), np.uint8)
    table = np.clip((np.arange(256) - 128) * change.contrast + 128 + change.brightness, 0, 255).astype(np.uint8)
    return np.asarray(cv2.LUT(image, table), np.uint8)


def degrade(image: npt.NDArray[np.uint8], rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Blur, sensor noise, JPEG artefacts or a lower resolution, one of them: what cheap cameras do."""
    kind = int(rng.integers(4))
    if kind == 0:
        result = cv2.GaussianBlur(image, (0, 0), float(rng.uniform(0.5, 1.6)))
    elif kind == 1:
        noise = rng.standard_normal(image.shape, np.float32) * np.float32(rng.uniform(3, 14))
        result = np.clip(image + noise, 0, 255).astype(np.uint8)
    elif kind == 2:
        _, buffer = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(15, 60))])
        decoded = cv2.imdecode(buffer, cv2.IMREAD_COLOR)
        result = image if decoded is None else decoded
    else:
        factor = float(rng.uniform(0.45, 0.8))
        small = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
        result = cv2.resize(small, (image.shape[1], image.shape[0]), interpolation=cv2.INTER_LINEAR)
    return np.asarray(result, np.uint8)


@dataclass(frozen=True)
class Distortion:
    """Colour distortion of SSD (Liu et al., ECCV 2016, section 3.7); what was not drawn leaves the picture as it is.

    Attributes:
        brightness: added, in grey levels.
        contrast: factor; applied before or after the rest, as ``contrast_first`` says.
        saturation: factor.
        hue: degrees of 360.
        channels: order of the channels afterwards.
    """

    brightness: float
    contrast: float
    contrast_first: bool
    saturation: float
    hue: float
    channels: tuple[int, ...]


def random_distortion(rng: np.random.Generator) -> Distortion:
    """Draw a distortion, every part of it in half of the cases."""

    def sometimes(low: float, high: float, nothing: float) -> float:
        value = float(rng.uniform(low, high))
        return value if rng.random() < 0.5 else nothing

    return Distortion(
        brightness=sometimes(-32, 32, 0.0),
        contrast=sometimes(0.5, 1.5, 1.0),
        contrast_first=bool(rng.random() < 0.5),
        saturation=sometimes(0.5, 1.5, 1.0),
        hue=sometimes(-18, 18, 0.0),
        channels=tuple(int(c) for c in rng.permutation(3)) if rng.random() < 0.5 else (0, 1, 2),
    )


def apply_distortion(image: npt.NDArray[np.uint8], change: Distortion) -> npt.NDArray[np.uint8]:
    """Distort the colours of a BGR image; values stay within 0 to 255 at every step."""
    levels = np.arange(256, dtype=np.float32)
    before, after = (change.contrast, 1.0) if change.contrast_first else (1.0, change.contrast)
    image = _by_table(image, (levels + change.brightness) * before)
    if change.saturation != 1.0 or change.hue != 0.0:
        hsv = np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2HSV), np.uint8)
        hsv[..., 0] = _by_table(hsv[..., 0], np.rint(levels + change.hue / 2) % 180)  # OpenCV counts in two degrees
        hsv[..., 1] = _by_table(hsv[..., 1], levels * change.saturation)
        image = np.asarray(cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR), np.uint8)
    return np.ascontiguousarray(_by_table(image, levels * after)[..., change.channels])


def _by_table(image: npt.NDArray[np.uint8], table: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """Replace every value by the table's, rounded and clipped."""
    return np.asarray(cv2.LUT(image, np.clip(np.rint(table), 0, 255).astype(np.uint8)), np.uint8)
