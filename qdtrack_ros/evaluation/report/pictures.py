"""Pictures of moments: the place where it happened, with all tracks drawn and the box in question marked."""

from __future__ import annotations

import base64

import cv2
import numpy as np
import numpy.typing as npt

from qdtrack_ros.data.types import Image
from qdtrack_ros.evaluation.tracks import ScoredTracks
from qdtrack_ros.inference.drawing import draw_tracks

Box = npt.NDArray[np.float64]

HEIGHT = 320  # of a picture in the page, pixels
PORTRAIT, LANDSCAPE = 0.78, 1.6  # width by height, of one of two pictures and of a single one
_SURROUNDINGS = 0.7  # box heights shown above and below
_LOWEST = 100  # of the part of the image that is shown, pixels
_QUALITY = 80


def window(boxes: Box, size: tuple[int, int], shape: float) -> tuple[int, int, int, int]:
    """The part of an image that shows some boxes with their surroundings.

    Args:
        boxes: float64 [N, 4], N at least 1.
        size: width and height of the image.
        shape: wanted width by height; the image's borders come first.

    Returns:
        left, top, right, bottom in whole pixels, inside the image.
    """
    low, high = boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)
    margin = _SURROUNDINGS * float((boxes[:, 3] - boxes[:, 1]).max())
    height = max(high[1] - low[1] + 2 * margin, (high[0] - low[0] + margin) / shape, float(_LOWEST))
    left, right = _span((low[0] + high[0]) / 2, height * shape, size[0])
    top, bottom = _span((low[1] + high[1]) / 2, height, size[1])
    return left, top, right, bottom


def _span(middle: float, length: float, limit: int) -> tuple[int, int]:
    """A stretch around a place, moved inside [0, limit], or all of that."""
    whole = min(max(round(length), 1), limit)
    start = min(max(round(middle - whole / 2), 0), limit - whole)
    return start, start + whole


def picture(image: Image, tracks: ScoredTracks, part: tuple[int, int, int, int], marked: Box) -> str:
    """A part of an image with its tracks, as the address of a JPEG that holds it (``data:``).

    Args:
        image: uint8 [H, W, 3] BGR.
        tracks: all of the frame.
        part: left, top, right, bottom, from ``window``.
        marked: the box [4] that the moment is about.
    """
    left, top, right, bottom = part
    cut = image[top:bottom, left:right]
    zoom = HEIGHT / cut.shape[0]
    shape = max(round(cut.shape[1] * zoom), 1), max(round(cut.shape[0] * zoom), 1)
    cut = np.asarray(cv2.resize(cut, shape, interpolation=cv2.INTER_CUBIC if zoom > 1 else cv2.INTER_AREA), np.uint8)

    def placed(boxes: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
        shifted = (np.asarray(boxes, np.float64).reshape(-1, 4) - np.array([left, top, left, top])) * zoom
        return shifted.astype(np.float32)

    _mark(cut, placed(marked)[0])  # before the tracks, whose labels matter more
    boxes = placed(tracks.boxes)
    inside = (boxes[:, :2] < shape).all(axis=1) & (boxes[:, 2:] > 0).all(axis=1)
    drawn = draw_tracks(
        cut, tracks.ids[inside], boxes[inside], [""] * int(inside.sum()), np.asarray(tracks.scores)[inside]
    )
    _, data = cv2.imencode(".jpg", drawn, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode("ascii")


def _mark(canvas: Image, box: npt.NDArray[np.float32]) -> None:
    """White corners around a box: no track has that colour."""
    left, top, right, bottom = (round(float(edge)) for edge in box)
    gap = 5
    arm = max(8, min(right - left, bottom - top) // 4)
    for x, inward in ((left - gap, 1), (right + gap, -1)):
        for y, down in ((top - gap, 1), (bottom + gap, -1)):
            corner = np.array([[x + inward * arm, y], [x, y], [x, y + down * arm]], np.int32)
            cv2.polylines(canvas, [corner], False, (0, 0, 0), 5, cv2.LINE_AA)
            cv2.polylines(canvas, [corner], False, (255, 255, 255), 2, cv2.LINE_AA)
