"""A street that is drawn, not filmed: figures like people walk over it; their boxes and identities are known."""

from __future__ import annotations

import math
from functools import lru_cache, partial
from typing import NamedTuple

import cv2
import numpy as np

from qdtrack_ros.data.media import LazyFrames, frame_timestamp_ns
from qdtrack_ros.data.types import Annotation, Frame, Image, Sequence

FRAME_RATE = 10.0
_HORIZON = 0.30  # of the picture's height: where the houses end and the ground begins
_SMALLEST, _LARGEST = 0.17, 0.42  # height of a person at the far and at the near edge of the ground, of the picture's


class Walker(NamedTuple):
    """A person who crosses the street.

    Attributes:
        depth: 0 at the far edge of the ground, 1 at the near one.
        start: where it is at the first frame, 0 at the left border and 1 at the right one.
        speed: picture widths a second, negative to the left.
        sway: how far it drifts to and fro in depth.
        shirt, trousers, skin, hair: colours, BGR.
        phase: of its steps, radians.
    """

    depth: float
    start: float
    speed: float
    sway: float
    shirt: tuple[int, int, int]
    trousers: tuple[int, int, int]
    skin: tuple[int, int, int]
    hair: tuple[int, int, int]
    phase: float


def street(
    frame_count: int = 300,
    size: tuple[int, int] = (768, 576),
    walkers: int = 8,
    frame_rate: float = FRAME_RATE,
    seed: int = 0,
) -> Sequence:
    """A video of people crossing a street, drawn frame by frame as it is read; the same seed gives the same pixels.

    Args:
        frame_count: length.
        size: width and height, pixels.
        walkers: people; whoever leaves the picture is gone.
        frame_rate: frames per second.
        seed: of looks and ways.

    Returns:
        A sequence with annotations of class ``pedestrian``, clipped to the picture; visibility is not computed.
    """
    people = tuple(_walker(np.random.default_rng((seed, number)), number) for number in range(walkers))
    make = partial(_frame, people, size, frame_rate, seed)
    return Sequence("synthetic_street", LazyFrames(frame_count, make), frame_rate, True)


def _walker(rng: np.random.Generator, number: int) -> Walker:
    def colour(low: int, high: int) -> tuple[int, int, int]:
        blue, green, red = (int(v) for v in rng.integers(low, high, 3))
        return blue, green, red

    tone = rng.uniform(0.45, 1.0)
    skin = (round(150 * tone), round(180 * tone), round(225 * tone))
    direction = -1.0 if number % 2 else 1.0
    return Walker(
        depth=(number * 0.618) % 1.0,
        start=float(rng.uniform(0.05, 0.6) if direction > 0 else rng.uniform(0.4, 0.95)),
        speed=direction * float(rng.uniform(0.02, 0.06)),
        sway=float(rng.uniform(0.0, 0.08)),
        shirt=colour(20, 235),
        trousers=colour(20, 110),
        skin=skin,
        hair=colour(10, 90),
        phase=float(rng.uniform(0, 2 * math.pi)),
    )


def _frame(people: tuple[Walker, ...], size: tuple[int, int], frame_rate: float, seed: int, index: int) -> Frame:
    time_s = index / frame_rate
    annotations = []
    for number, person in enumerate(people):
        box = _box(person, time_s, size)
        clipped = (max(box[0], 0.0), max(box[1], 0.0), min(box[2], float(size[0])), min(box[3], float(size[1])))
        if clipped[2] - clipped[0] > 0.5 * (box[2] - box[0]):
            annotations.append(Annotation(clipped, "pedestrian", number))
    load = partial(_draw, people, size, time_s, (seed, index))
    return Frame(index, frame_timestamp_ns(index, frame_rate), size[0], size[1], tuple(annotations), load)


def _box(person: Walker, time_s: float, size: tuple[int, int]) -> tuple[float, float, float, float]:
    """The place of a person, xyxy; may lie beyond the picture."""
    width, height = size
    depth = min(max(person.depth + person.sway * math.sin(0.4 * time_s + person.phase), 0.0), 1.0)
    tall = height * (_SMALLEST + (_LARGEST - _SMALLEST) * depth)
    foot = height * (_HORIZON + 0.18 + (0.5 - 0.02) * depth)
    middle = width * (person.start + person.speed * time_s)
    return middle - 0.19 * tall, foot - tall, middle + 0.19 * tall, foot


def _draw(people: tuple[Walker, ...], size: tuple[int, int], time_s: float, seed: tuple[int, int]) -> Image:
    picture = _background(size).copy()
    for person in sorted(people, key=lambda one: _box(one, time_s, size)[3]):
        _draw_person(picture, person, _box(person, time_s, size), time_s)
    picture = np.asarray(cv2.GaussianBlur(picture, (0, 0), 0.7), np.uint8)
    noise = np.random.default_rng(seed).integers(-5, 6, picture.shape[:2], np.int16)[..., None]
    return np.clip(picture + noise, 0, 255).astype(np.uint8)


@lru_cache(maxsize=4)
def _background(size: tuple[int, int]) -> Image:
    """Houses with windows, a pavement of slabs, a street with a kerb."""
    width, height = size
    horizon = round(height * _HORIZON)
    picture: Image = np.zeros((height, width, 3), np.uint8)
    picture[:horizon] = (205, 190, 175)
    rng = np.random.default_rng(7)
    left = 0
    while left < width:
        wide = int(rng.integers(width // 7, width // 4))
        top = int(rng.integers(0, max(horizon // 2, 1)))
        grey = int(rng.integers(100, 165))
        wall = tuple(grey + int(v) for v in rng.integers(-18, 19, 3))
        cv2.rectangle(picture, (left, top), (left + wide, horizon), wall, cv2.FILLED)
        step = max(wide // 5, 8)
        for x in range(left + step // 3, left + wide - step // 2, step):
            for y in range(top + step // 3, horizon - step // 2, step):
                cv2.rectangle(picture, (x, y), (x + step // 2, y + step // 2), (70, 60, 50), cv2.FILLED)
        left += wide
    shade = np.linspace(125, 165, height - horizon)[:, None, None]
    picture[horizon:] = np.broadcast_to(shade, (height - horizon, width, 3)).astype(np.uint8)
    for line in range(1, 9):  # slabs: seams closer together towards the horizon
        y = horizon + round((height - horizon) * (line / 8) ** 1.7)
        cv2.line(picture, (0, y), (width, y), (110, 112, 114), 1, cv2.LINE_AA)
    for line in range(-8, 17):
        ends = (round(width * (0.5 + (line - 4) * 0.07)), horizon), (round(width * (0.5 + (line - 4) * 0.28)), height)
        cv2.line(picture, *ends, (116, 118, 120), 1, cv2.LINE_AA)
    return picture


def _draw_person(picture: Image, person: Walker, box: tuple[float, float, float, float], time_s: float) -> None:
    left, top, right, bottom = box
    tall, middle = bottom - top, (left + right) / 2
    swing = math.sin(7.0 * time_s + person.phase)

    def point(x: float, y: float) -> tuple[int, int]:
        """Pixel of a place on the body: x from the middle, y from the top, in body heights."""
        return round(middle + x * tall), round(top + y * tall)

    def limb(start: tuple[float, float], end: tuple[float, float], thick: float, colour: tuple[int, int, int]) -> None:
        cv2.line(picture, point(*start), point(*end), colour, max(2, round(thick * tall)), cv2.LINE_AA)

    def oval(
        middle: tuple[float, float], radii: tuple[float, float], colour: tuple[int, int, int], start: int = 0
    ) -> None:
        axes = (round(radii[0] * tall), round(radii[1] * tall))
        cv2.ellipse(picture, point(*middle), axes, 0, start, 360, colour, cv2.FILLED)

    shadow = tuple(int(v) for v in picture[min(max(round(bottom) - 1, 0), len(picture) - 1), 0] * 0.6)
    oval((0.0, 1.0), (0.2, 0.035), (shadow[0], shadow[1], shadow[2]))
    dark = tuple(round(0.75 * v) for v in person.shirt)
    back = (dark[0], dark[1], dark[2])
    for side, colour in ((-1, person.trousers), (1, person.trousers)):
        foot = 0.13 * swing * side
        limb((0.0, 0.5), (foot * 0.6, 0.75), 0.105, colour)
        limb((foot * 0.6, 0.75), (foot, 0.96), 0.08, colour)
        limb((foot, 0.975), (foot + 0.05 * math.copysign(1, person.speed), 0.975), 0.04, (30, 30, 30))
    limb((0.0, 0.23), (-0.13 * swing, 0.5), 0.065, back)
    oval((0.0, 0.35), (0.105, 0.19), person.shirt)
    limb((0.0, 0.24), (0.13 * swing, 0.5), 0.065, back)
    limb((0.13 * swing, 0.5), (0.14 * swing, 0.52), 0.05, person.skin)
    limb((0.0, 0.13), (0.0, 0.2), 0.06, person.skin)
    oval((0.0, 0.085), (0.055, 0.075), person.skin)
    oval((0.0, 0.06), (0.06, 0.06), person.hair, 180)
