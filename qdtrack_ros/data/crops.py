"""Re-identification data: a folder of pictures that show one object each, the identity in the file's name.

Market-1501, CUHK03 and their like. For training they become *sheets*: pictures full of crops side by side, in which the
same identity has the same place in key and reference.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from qdtrack_ros.data.media import list_images, load_image
from qdtrack_ros.data.transforms import LabelledPicture
from qdtrack_ros.data.types import DataError, DataFault, Image, in_memory

CROP_LABEL = "object"
"""Label name of what a crop shows, as ``labels`` of a training configuration must map it."""
_STORED_HEIGHT = 160  # pixels; crops are kept no larger in memory


@dataclass(frozen=True)
class CropSet:
    """Pictures by identity.

    Attributes:
        name: of the folder.
        identities: the identities.
        pictures: for each of them its pictures, in natural order of their names; ``load()`` decodes one.
    """

    name: str
    identities: tuple[int, ...]
    pictures: tuple[tuple[Callable[[], Image], ...], ...]


def read_crops(folder: Path, identity: str, in_memory: bool = False) -> CropSet:
    """Read a folder of crops.

    Args:
        folder: pictures, one object each.
        identity: regular expression whose first group, searched in the file's name, is the identity: a number. Names
            that it does not match, and negative identities (junk in Market-1501), are left out.
        in_memory: decode everything now, and keep it.

    Raises:
        DataError: the folder is missing, the expression is none, or no name matches it.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; expected one of pictures")
    try:
        pattern = re.compile(identity)
    except re.error as error:
        raise DataError(f"identity is {identity!r}, no regular expression ({error})") from error
    if pattern.groups < 1:
        raise DataError(f"identity is {identity!r}; expected a group around the number, as in '^(-?[0-9]+)_'")
    by_identity: defaultdict[int, list[Path]] = defaultdict(list)
    faults = []
    for path in list_images(folder):
        match = pattern.search(path.name)
        if match is None:
            continue
        try:
            by_identity[int(match[1])].append(path)
        except (TypeError, ValueError):
            faults.append(DataFault(path, None, f"identity {match[1]!r} is no number"))
    if faults:
        raise DataError(f"{folder}: {len(faults)} file names without a number where {identity!r} finds one", faults)
    chosen = {number: paths for number, paths in sorted(by_identity.items()) if number >= 0}
    if not chosen:
        raise DataError(f"{folder}: no picture has an identity in its name by {identity!r}")
    loader = _loaded if in_memory else _lazy
    pictures = tuple(tuple(loader(path) for path in paths) for paths in chosen.values())
    return CropSet(folder.name, tuple(chosen), pictures)


def _lazy(path: Path) -> Callable[[], Image]:
    return partial(load_image, path)


def _loaded(path: Path) -> Callable[[], Image]:
    image = load_image(path)
    if image.shape[0] > _STORED_HEIGHT:
        image = _at_height(image, _STORED_HEIGHT)
    return in_memory(image)


@dataclass(frozen=True)
class SheetConfig:
    """How crops are laid out on a sheet.

    Attributes:
        size: (height, width) of a sheet, pixels.
        rows: smallest and largest height of a row of crops, pixels.
    """

    size: tuple[int, int] = (480, 832)
    rows: tuple[int, int] = (64, 160)

    def __post_init__(self) -> None:
        if not 0 < self.rows[0] <= self.rows[1] <= self.size[0]:
            raise ValueError(f"rows is {self.rows}; expected (smallest, largest), at most the height of {self.size}")


class _Place(NamedTuple):
    left: int
    top: int
    pair: tuple[Image, Image]
    identity: int


def draw_sheets(
    crops: CropSet, scope: int, config: SheetConfig, rng: np.random.Generator
) -> tuple[LabelledPicture, LabelledPicture]:
    """A key and a reference sheet with the same identities at the same places.

    Args:
        crops: what to show; labels of the result are 0.
        scope: the two pictures of an identity are at most so many places apart in its list.
        config: the layout.
        rng: source of randomness.
    """
    places = list(_lay_out(crops, scope, config, rng))
    return _paint(places, 0, config.size), _paint(places, 1, config.size)


def _lay_out(crops: CropSet, scope: int, config: SheetConfig, rng: np.random.Generator) -> Iterator[_Place]:
    """Row by row, each identity once at most, until the sheet is full."""
    order = iter(rng.permutation(len(crops.identities)))
    top = 0
    while (room := config.size[0] - top) >= config.rows[0]:
        height = min(int(np.exp(rng.uniform(*np.log(config.rows)))), room)
        left = 0
        while (index := next(order, None)) is not None:
            first, second = (_at_height(picture, height) for picture in _draw_pair(crops.pictures[index], scope, rng))
            width = max(first.shape[1], second.shape[1])
            if left + width > config.size[1]:
                break
            yield _Place(left, top, (first, second), crops.identities[index])
            left += width
        top += height


def _paint(places: Sequence[_Place], side: int, size: tuple[int, int]) -> LabelledPicture:
    image = np.full((*size, 3), 114, np.uint8)
    boxes = np.zeros((len(places), 4), np.float32)
    for row, place in enumerate(places):
        picture = place.pair[side]
        bottom, right = place.top + picture.shape[0], place.left + picture.shape[1]
        image[place.top : bottom, place.left : right] = picture
        boxes[row] = place.left, place.top, right, bottom
    return LabelledPicture(
        image,
        boxes,
        np.zeros(len(places), np.int64),
        np.array([place.identity for place in places], np.int64),
        np.zeros((0, 4), np.float32),
    )


def _draw_pair(pictures: tuple[Callable[[], Image], ...], scope: int, rng: np.random.Generator) -> tuple[Image, Image]:
    """Two pictures of one identity, different ones where there are two within the scope."""
    key = int(rng.integers(len(pictures)))
    near = [i for i in range(max(0, key - scope), min(len(pictures), key + scope + 1)) if i != key]
    return pictures[key](), pictures[int(rng.choice(near)) if near else key]()


def _at_height(image: Image, height: int) -> Image:
    width = max(1, round(image.shape[1] * height / image.shape[0]))
    interpolation = cv2.INTER_AREA if height < image.shape[0] else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, (width, height), interpolation=interpolation), np.uint8)
