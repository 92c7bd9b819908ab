"""Tracks drawn into a picture so that a person can judge them at a glance: one steady colour per identity."""

from __future__ import annotations

import colorsys
import itertools
from collections.abc import Mapping, Sequence

import cv2
import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]
Color = tuple[int, int, int]
Plate = tuple[int, int, int, int]  # the place of a label: left, top, right, bottom

# The golden angle: consecutive ids land far apart on the colour wheel, and no later id lands close to a recent one.
_GOLDEN_FRACTION = 0.618033988749895
# Saturation and value cycle with another period, so that ids whose hues come close still differ.
_TONES = ((0.95, 1.0), (0.60, 1.0), (0.95, 0.78))
_UNTRACKED: Color = (150, 150, 150)
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_MAX_COORDINATE = 1 << 14  # OpenCV draws with 16 fractional bits: larger coordinates overflow


def track_color(track_id: int) -> Color:
    """The colour of an identity as (blue, green, red), 0-255: the same for the same id, grey for negative ids."""
    if track_id < 0:
        return _UNTRACKED
    saturation, value = _TONES[track_id % len(_TONES)]
    red, green, blue = colorsys.hsv_to_rgb((track_id * _GOLDEN_FRACTION) % 1.0, saturation, value)
    return round(blue * 255), round(green * 255), round(red * 255)


def draw_tracks(
    image_bgr: Image,
    ids: npt.NDArray[np.int64],
    boxes: npt.NDArray[np.float32],
    labels_text: Sequence[str],
    scores: npt.NDArray[np.float32],
    trails: Mapping[int, npt.NDArray[np.float32]] | None = None,
) -> Image:
    """Draw boxes, labels and trails on a copy of the image.

    Args:
        image_bgr: uint8 [H, W, 3], unchanged.
        ids: int64 [K]; negative ids are drawn thin and grey, without a number.
        boxes: float32 [K, 4] xyxy, pixels; they may reach over the border.
        labels_text: K class names.
        scores: float32 [K] in [0, 1].
        trails: track id to float32 [T, 2] points in pixels, oldest first; only those of `ids` are drawn.

    Returns:
        A new picture of the same shape. Labels lie on a plate of the track's colour and stay inside the picture.
    """
    canvas: Image = np.ascontiguousarray(image_bgr).copy()
    # A 640-pixel picture takes lines of 2 pixels and text of 12 pixels; larger pictures in proportion.
    scale = max(min(canvas.shape[:2]) / 480.0, 0.5)
    thickness = max(1, round(1.6 * scale))
    # Lower boxes are nearer to the camera: draw them last, over those behind.
    rows = np.asarray(boxes, np.float32).reshape(-1, 4)
    order = [int(i) for i in np.argsort(rows[:, 3], kind="stable") if np.isfinite(rows[i]).all()]
    for i in order:
        points = trails.get(int(ids[i])) if trails and ids[i] >= 0 else None
        if points is not None and len(points) > 1:
            _draw_trail(canvas, points, track_color(int(ids[i])), thickness)
    for i in order:
        _draw_box(canvas, boxes[i], track_color(int(ids[i])), thickness if ids[i] >= 0 else 1)
    plates: list[Plate] = []
    for i in reversed(order):  # the nearest first: they get the best places
        number = f"{int(ids[i])} " if ids[i] >= 0 else ""
        text = f"{number}{labels_text[i]} {float(scores[i]):.2f}"
        plates.append(_draw_label(canvas, text, boxes[i], track_color(int(ids[i])), scale, plates))
    return canvas


def _pixel(x: float, y: float) -> tuple[int, int]:
    limit = float(_MAX_COORDINATE)
    return round(min(max(x, -limit), limit)), round(min(max(y, -limit), limit))


def _draw_box(canvas: Image, box: npt.NDArray[np.float32], color: Color, thickness: int) -> None:
    left, top, right, bottom = (float(v) for v in box)
    # The dark rim keeps the box visible on a background of its own colour.
    cv2.rectangle(canvas, _pixel(left, top), _pixel(right, bottom), (20, 20, 20), thickness + 2)
    cv2.rectangle(canvas, _pixel(left, top), _pixel(right, bottom), color, thickness)


def _draw_trail(canvas: Image, points: npt.NDArray[np.float32], color: Color, thickness: int) -> None:
    """The path, thin and dark at its old end, thick and bright where the track stands now."""
    pixels = [_pixel(float(x), float(y)) for x, y in points if np.isfinite(x) and np.isfinite(y)]
    for step, (start, end) in enumerate(itertools.pairwise(pixels), start=1):
        age = step / max(len(pixels) - 1, 1)
        faded = tuple(round(c * (0.45 + 0.55 * age)) for c in color)
        cv2.line(canvas, start, end, faded, max(1, round(thickness * (0.5 + 0.8 * age))), cv2.LINE_AA)


def _draw_label(
    canvas: Image, text: str, box: npt.NDArray[np.float32], color: Color, scale: float, taken: Sequence[Plate]
) -> Plate:
    font_scale, stroke = max(0.38 * scale, 0.33), max(1, round(scale))
    (text_width, text_height), baseline = cv2.getTextSize(text, _FONT, font_scale, stroke)
    pad = max(2, round(2 * scale))
    width, height = text_width + 2 * pad, text_height + baseline + 2 * pad
    left, top = _place_plate((canvas.shape[0], canvas.shape[1]), (width, height), box, taken)
    cv2.rectangle(canvas, (left, top), (left + width - 1, top + height - 1), color, cv2.FILLED)
    luminance = 0.114 * color[0] + 0.587 * color[1] + 0.299 * color[2]
    ink = (0, 0, 0) if luminance > 110 else (255, 255, 255)
    origin = (left + pad, top + pad + text_height)
    cv2.putText(canvas, text, origin, _FONT, font_scale, ink, stroke, cv2.LINE_AA)
    return left, top, left + width, top + height


def _place_plate(
    picture: tuple[int, int], plate: tuple[int, int], box: npt.NDArray[np.float32], taken: Sequence[Plate]
) -> tuple[int, int]:
    """The upper left corner of a label: above its box, else below or inside, where it hides other labels least."""
    (height, width), (plate_width, plate_height) = picture, plate
    left, top = _pixel(float(box[0]), float(box[1]))
    right, bottom = _pixel(float(box[2]), float(box[3]))
    wishes = [(left, top - plate_height), (right - plate_width, top - plate_height), (left, bottom), (left, top)]
    wishes.append((left, top - 2 * plate_height))
    best, least_hidden = (0, 0), float("inf")
    for x, y in wishes:
        x = min(max(x, 0), max(width - plate_width, 0))
        y = min(max(y, 0), max(height - plate_height, 0))
        hidden = sum(_overlap((x, y, x + plate_width, y + plate_height), other) for other in taken)
        if hidden < least_hidden:
            best, least_hidden = (x, y), hidden
    return best


def _overlap(a: Plate, b: Plate) -> int:
    return max(0, min(a[2], b[2]) - max(a[0], b[0])) * max(0, min(a[3], b[3]) - max(a[1], b[1]))
