"""Pairs drawn for TensorBoard, so that a person sees at a glance what the embedding is taught."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from qdtrack_ros.inference.drawing import Color, Image, track_color
from qdtrack_ros.training.module import L
from qdtrack_ros.training.stream import PairBatch

_SHOWN = 2  # pairs of a batch
_LEAST_WIDTH = 480  # of one picture: smaller ones are enlarged, so that numbers can be read
_GAP, _CAPTION = 12, 26  # pixels
_PAPER, _INK, _UNMATCHED, _IGNORED = (255, 255, 255), (40, 40, 40), (235, 235, 235), (90, 90, 90)
_FONT = cv2.FONT_HERSHEY_SIMPLEX


class PairPictures(L.Callback):
    """Shows the pairs of a step, key on the left, under ``pairs`` in TensorBoard.

    Args:
        every: steps between two; the first step is always shown.
    """

    def __init__(self, every: int) -> None:
        self._every = every

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: PairBatch, batch_index: int) -> None:
        """Draw the batch that was learnt from."""
        step = trainer.global_step
        if trainer.is_global_zero and (step == 1 or step % self._every == 0):
            picture = draw_pairs(batch, module.labels)
            trainer.logger.experiment.add_image("pairs", picture[..., ::-1].copy(), step, dataformats="HWC")


def draw_pairs(batch: PairBatch, labels: Sequence[str]) -> Image:
    """The first pairs of a batch, one below the other.

    Key and reference picture stand side by side. An object that both show has one colour and one number in both, and a
    line from here to there; an object without a partner is white, an ignore region hatched.

    Args:
        batch: the pairs.
        labels: name of every class; a lone one is not written.

    Returns:
        uint8 [H, W, 3], BGR.
    """
    return np.concatenate([_draw_pair(batch, row, labels) for row in range(min(_SHOWN, len(batch.matches)))])


def _draw_pair(batch: PairBatch, row: int, labels: Sequence[str]) -> Image:
    sides = (row, len(batch.matches) + row)
    matches = batch.matches[row].cpu().numpy()
    partners = {int(partner): number for number, partner in enumerate(matches) if partner >= 0}
    numbers = ({number: number for number in partners.values()}, partners)
    scale = max(1.0, _LEAST_WIDTH / batch.images.shape[2])
    pictures, boxes = [], []
    for side, shown in zip(sides, numbers, strict=True):
        objects = batch.objects[side]
        picture: Image = batch.images[side].cpu().numpy()
        picture = np.asarray(cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR), np.uint8)
        boxes.append(objects.boxes.cpu().numpy() * np.float32(scale))
        for region in objects.ignore_boxes.cpu().numpy() * np.float32(scale):
            _hatch(picture, region)
        names = [labels[int(label)] if len(labels) > 1 else "" for label in objects.labels]
        _draw_objects(picture, boxes[-1], names, shown)
        pictures.append(picture)
    height, width = pictures[0].shape[:2]
    canvas: Image = np.full((_CAPTION + height + _GAP, 2 * width + _GAP, 3), _PAPER, np.uint8)
    canvas[_CAPTION : _CAPTION + height, :width] = pictures[0]
    canvas[_CAPTION : _CAPTION + height, width + _GAP :] = pictures[1]
    for partner, number in partners.items():
        start, end = _middle(boxes[0][number], 0), _middle(boxes[1][partner], width + _GAP)
        cv2.line(canvas, start, end, track_color(number), 1, cv2.LINE_AA)
        for point in (start, end):
            cv2.circle(canvas, point, 3, track_color(number), cv2.FILLED, cv2.LINE_AA)
    caption = (
        f"pair {batch.numbers[row]}: key, {len(boxes[0])} objects | reference, {len(boxes[1])} objects | "
        f"{len(partners)} in both"
    )
    cv2.putText(canvas, caption, (4, _CAPTION - 9), _FONT, 0.45, _INK, 1, cv2.LINE_AA)
    return canvas


def _draw_objects(
    picture: Image, boxes: npt.NDArray[np.float32], names: Sequence[str], numbers: dict[int, int]
) -> None:
    """Boxes of one picture; those without a number first, so that they hide none of the others."""
    for row in sorted(range(len(boxes)), key=lambda row: row in numbers):
        left, top, right, bottom = (round(float(v)) for v in boxes[row])
        if row not in numbers:
            cv2.rectangle(picture, (left, top), (right, bottom), _UNMATCHED, 1)
            continue
        color = track_color(numbers[row])
        cv2.rectangle(picture, (left, top), (right, bottom), (20, 20, 20), 4)
        cv2.rectangle(picture, (left, top), (right, bottom), color, 2)
        _write(picture, f"{numbers[row]} {names[row]}".rstrip(), (left, top), color)


def _write(picture: Image, text: str, corner: tuple[int, int], color: Color) -> None:
    """Text on a plate of the colour, above the corner where there is room."""
    (width, height), _ = cv2.getTextSize(text, _FONT, 0.4, 1)
    left = min(max(corner[0], 0), max(picture.shape[1] - width - 6, 0))
    top = max(corner[1] - height - 7, 0)
    cv2.rectangle(picture, (left, top), (left + width + 5, top + height + 6), color, cv2.FILLED)
    bright = 0.114 * color[0] + 0.587 * color[1] + 0.299 * color[2] > 110
    ink = (0, 0, 0) if bright else (255, 255, 255)
    cv2.putText(picture, text, (left + 3, top + height + 3), _FONT, 0.4, ink, 1, cv2.LINE_AA)


def _hatch(picture: Image, box: npt.NDArray[np.float32]) -> None:
    """Fill a region with slanted lines."""
    height, width = picture.shape[:2]
    left, right = (round(float(np.clip(v, 0, width))) for v in (box[0], box[2]))
    top, bottom = (round(float(np.clip(v, 0, height))) for v in (box[1], box[3]))
    rows, columns = np.mgrid[top:bottom, left:right]
    region = picture[top:bottom, left:right]
    region[(rows + columns) % 8 < 2] = _IGNORED
    cv2.rectangle(picture, (left, top), (right - 1, bottom - 1), _IGNORED, 1)


def _middle(box: npt.NDArray[np.float32], shift: int) -> tuple[int, int]:
    """Middle of a box on the canvas, its picture ``shift`` pixels to the right."""
    return round(float(box[0] + box[2]) / 2) + shift, round(float(box[1] + box[3]) / 2) + _CAPTION
