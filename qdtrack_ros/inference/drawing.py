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

# The golden angle: consecutive ids land far apart on the colour wheel.
_GOLDEN_FRACTION = 0.618033988749895
# Saturation and value. Hues come close again after 8, 13, 21 and 34 ids (Fibonacci numbers): five tones, in this order,
# keep those ids apart. Of all orders of some likely tones this one has the largest least distance, 14 in CIE L*a*b*,
# between any two of 40 ids in a row.
_TONES = ((0.80, 0.85), (0.50, 0.75), (0.95, 0.60), (0.95, 1.00), (0.45, 1.00))
_UNTRACKED: Color = (150, 150, 150)
_DARK: Color = (20, 20, 20)
_LIGHT: Color = (245, 245, 245)
_NUMBER_FONT, _FONT = cv2.FONT_HERSHEY_DUPLEX, cv2.FONT_HERSHEY_SIMPLEX
# How much worse it is to hide a pixel of another label than one of another box.
_LABEL_WEIGHT = 4
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
    scale = picture_scale(*canvas.shape[:2])
    thickness = max(1, round(1.6 * scale))
    # Lower boxes are nearer to the camera: draw them last, over those behind.
    rows = np.asarray(boxes, np.float32).reshape(-1, 4)
    order = [int(i) for i in np.argsort(rows[:, 3], kind="stable") if np.isfinite(rows[i]).all()]
    for i in order:
        points = trails.get(int(ids[i])) if trails and ids[i] >= 0 else None
        if points is not None and len(points) > 1:
            _draw_trail(canvas, points, track_color(int(ids[i])), thickness)
    for i in order:
        _draw_box(canvas, rows[i], track_color(int(ids[i])), thickness if ids[i] >= 0 else 1)
    plates: list[Plate] = []
    for i in reversed(order):  # the nearest first: they get the best places
        label = _Label(str(int(ids[i])) if ids[i] >= 0 else "", f"{labels_text[i]} {float(scores[i]):.2f}", scale)
        others = np.concatenate([rows[[j for j in order if j != i]], np.array(plates, np.float32).reshape(-1, 4)])
        weights = np.repeat([1, _LABEL_WEIGHT], [len(order) - 1, len(plates)])
        plate = _place_plate((canvas.shape[0], canvas.shape[1]), label.size, rows[i], others, weights)
        label.draw(canvas, plate, track_color(int(ids[i])))
        plates.append(plate)
    return canvas


def picture_scale(height: int, width: int) -> float:
    """How large lines and text are drawn: 1 for a picture of 640 x 480."""
    return max(min(height, width) / 480.0, 0.5)


def _luminance(color: Color) -> float:
    return 0.114 * color[0] + 0.587 * color[1] + 0.299 * color[2]


def _pixel(x: float, y: float) -> tuple[int, int]:
    limit = float(_MAX_COORDINATE)
    return round(min(max(x, -limit), limit)), round(min(max(y, -limit), limit))


def _draw_box(canvas: Image, box: npt.NDArray[np.float32], color: Color, thickness: int) -> None:
    left, top, right, bottom = (float(v) for v in box)
    # The rim keeps the box visible on a background of its own colour.
    rim = _DARK if _luminance(color) > 75 else _LIGHT
    cv2.rectangle(canvas, _pixel(left, top), _pixel(right, bottom), rim, thickness + 2)
    cv2.rectangle(canvas, _pixel(left, top), _pixel(right, bottom), color, thickness)


def _draw_trail(canvas: Image, points: npt.NDArray[np.float32], color: Color, thickness: int) -> None:
    """The path, thin and dark at its old end, thick and bright where the track stands now."""
    pixels = [_pixel(float(x), float(y)) for x, y in points if np.isfinite(x) and np.isfinite(y)]
    for step, (start, end) in enumerate(itertools.pairwise(pixels), start=1):
        age = step / max(len(pixels) - 1, 1)
        faded = tuple(round(c * trail_brightness(age)) for c in color)
        cv2.line(canvas, start, end, faded, max(1, round(thickness * (0.5 + 0.8 * age))), cv2.LINE_AA)


def trail_brightness(age: float) -> float:
    """Part of a trail's colour that is left: from 0.45 at its old end (0) to 1 where the track stands now (1)."""
    return 0.45 + 0.55 * age


class _Label:
    """The id, large, then class and score, on a plate of the track's colour.

    Args:
        number: the id, empty for none.
        text: class and score.
        scale: of the picture.
    """

    def __init__(self, number: str, text: str, scale: float) -> None:
        self._number, self._text = number, text
        self._pad = max(2, round(2.5 * scale))
        self._font_scale, self._stroke = max(0.36 * scale, 0.33), max(1, round(0.9 * scale))
        self._number_scale = 1.3 * self._font_scale
        (self._number_width, self._height), number_base = self._measure(number or "0", _NUMBER_FONT, self._number_scale)
        if not number:
            self._number_width = 0
        (text_width, _), text_base = self._measure(text, _FONT, self._font_scale)
        gap = 2 * self._pad if number else 0
        self._text_left = self._pad + self._number_width + gap
        width, height = self._text_left + text_width + self._pad, self._height + 2 * self._pad
        self.size = (width, height + max(number_base, text_base) // 2)

    def draw(self, canvas: Image, plate: Plate, color: Color) -> None:
        """Write it."""
        left, top, right, bottom = plate
        ink, baseline = _DARK if _luminance(color) > 110 else _LIGHT, top + self._pad + self._height
        cv2.rectangle(canvas, (left, top), (right - 1, bottom - 1), color, cv2.FILLED)
        number_at, text_at = (left + self._pad, baseline), (left + self._text_left, baseline)
        cv2.putText(canvas, self._number, number_at, _NUMBER_FONT, self._number_scale, ink, self._stroke, cv2.LINE_AA)
        cv2.putText(canvas, self._text, text_at, _FONT, self._font_scale, ink, self._stroke, cv2.LINE_AA)

    def _measure(self, text: str, font: int, scale: float) -> tuple[tuple[int, int], int]:
        (width, height), baseline = cv2.getTextSize(text, font, scale, self._stroke)
        return (width, height), baseline


def _place_plate(
    picture: tuple[int, int],
    size: tuple[int, int],
    box: npt.NDArray[np.float32],
    others: npt.NDArray[np.float32],
    weights: npt.NDArray[np.int64],
) -> Plate:
    """The place of a label: above its box, else below or inside, where it hides the least of `others` [N, 4]."""
    (height, width), (plate_width, plate_height) = picture, size
    left, top = _pixel(float(box[0]), float(box[1]))
    right, bottom = _pixel(float(box[2]), float(box[3]))
    wishes = [(left, top - plate_height), (right - plate_width, top - plate_height), (left, bottom)]
    wishes += [(right - plate_width, bottom), (left, top), (left, top - 2 * plate_height)]
    best, least_hidden = (0, 0, plate_width, plate_height), float("inf")
    for x, y in wishes:
        x = min(max(x, 0), max(width - plate_width, 0))
        y = min(max(y, 0), max(height - plate_height, 0))
        plate = (x, y, x + plate_width, y + plate_height)
        hidden = float(_overlaps(plate, others) @ weights)
        if hidden < least_hidden:
            best, least_hidden = plate, hidden
    return best


def _overlaps(plate: Plate, others: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Pixels of a plate that lie in each of the other rectangles [N, 4]."""
    sides = np.minimum(plate[2:], others[:, 2:]) - np.maximum(plate[:2], others[:, :2])
    return np.asarray(np.maximum(sides, 0).prod(axis=1), np.float32)
