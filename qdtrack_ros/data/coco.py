"""COCO detection JSON (https://cocodataset.org/#format-data), and what its extensions to video share with it."""

from __future__ import annotations

import logging
import os
from collections import defaultdict
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from qdtrack_ros.data._rows import (
    IDENTITY_LIMIT,
    Faults,
    RowError,
    field,
    has_area,
    json_box,
    json_flag,
    json_integer,
    json_list,
    json_object,
    json_text,
    load_json,
)
from qdtrack_ros.data.media import load_image
from qdtrack_ros.data.types import Annotation, DataError, Frame, Sequence

logger = logging.getLogger(__name__)

Row = Mapping[str, Any]


class CocoFile(NamedTuple):
    """A file of the family, checked.

    Attributes:
        path: of the file.
        content: all of it.
        images: its images, each with ``id``, ``file_name`` and a sound size if any.
        labels: label of each category id; ids merged into another category (TAO) have the other's.
        annotations: of each image id, in the order of the file.
    """

    path: Path
    content: Row
    images: list[dict[str, Any]]
    labels: dict[int, str]
    annotations: dict[int, tuple[Annotation, ...]]

    def frame(self, index: int, image: Row, image_dir: Path) -> Frame:
        """An image of the file as frame ``index`` of a sequence."""
        path = _picture(image_dir, image["file_name"])
        annotations = self.annotations.get(image["id"], ())
        load = partial(load_image, path)
        return Frame(index, None, image.get("width"), image.get("height"), annotations, load, path)


def _picture(folder: Path, name: str) -> Path:
    """Path of a picture; in a file that Windows wrote, backslashes stand between folders."""
    path = folder / name
    return path if "\\" not in name or path.is_file() else folder / name.replace("\\", "/")


def read_coco(json_file: str | os.PathLike[str], image_dir: str | os.PathLike[str]) -> Sequence:
    """All pictures of a COCO file as one sequence of stills, in the order of the file.

    ``iscrowd`` becomes ``crowd``, ``ignore`` becomes ``ignore``. Boxes of no area, which published files do contain,
    are left out with a warning.

    Raises:
        DataError: the file is missing or is not COCO, or images or annotations are faulty (listed by id or place).
    """
    file = load_coco(Path(json_file))
    frames = tuple(file.frame(index, image, Path(image_dir)) for index, image in enumerate(file.images))
    return Sequence(file.path.stem, frames, None, False)


def load_coco(path: Path, is_labelled: bool = True) -> CocoFile:
    """Read and check a file; ``DataError`` as ``read_coco``. A test set may lack annotations and categories."""
    content = load_json(path, "a COCO annotation file")
    if not isinstance(content, dict):
        raise DataError(f"{path}: holds a JSON {type(content).__name__}, expected the object of a COCO annotation file")
    needed = ("images", "annotations", "categories") if is_labelled else ("images",)
    missing = [key for key in needed if not isinstance(content.get(key), list)]
    if missing:
        raise DataError(f"{path}: not a COCO annotation file; missing {', '.join(missing)}")
    if not is_labelled:
        return CocoFile(path, content, _images(path, content["images"]), {}, {})
    labels = _labels(path, content["categories"])
    images = _images(path, content["images"])
    return CocoFile(path, content, images, labels, _annotations(path, content["annotations"], images, labels))


def _labels(path: Path, categories: list[Any]) -> dict[int, str]:
    faults, labels = Faults(path, "categories"), {}
    for position, row in enumerate(categories):
        try:
            category = json_object(row, "category")
            name = field(category, "name", json_text)
            ids = [field(category, "id", json_integer)]
            for merged in json_list(category.get("merged", []), "merged"):
                ids.append(field(json_object(merged, "merged"), "id", json_integer))
            labels.update(dict.fromkeys(ids, name))
        except RowError as error:
            faults.add(f"categories[{position}]: {error}")
    faults.close()
    return labels


def _images(path: Path, images: list[Any]) -> list[dict[str, Any]]:
    faults = Faults(path, "images")
    first: dict[int, int] = {}
    for position, row in enumerate(images):
        try:
            image = json_object(row, "image")
            number = field(image, "id", json_integer)
            field(image, "file_name", json_text)
            for key in ("width", "height"):
                if image.get(key) is not None and json_integer(image[key], key) <= 0:
                    raise RowError(f"{key} is {image[key]}, expected more than 0")
            if first.setdefault(number, position) != position:
                raise RowError(f"id {number} is that of images[{first[number]}], too")
        except RowError as error:
            faults.add(f"images[{position}]: {error}")
    faults.close()
    return images


def _annotations(
    path: Path, rows: list[Any], images: list[dict[str, Any]], labels: Mapping[int, str]
) -> dict[int, tuple[Annotation, ...]]:
    known = {image["id"] for image in images}
    found: defaultdict[int, list[Annotation]] = defaultdict(list)
    seen: set[tuple[int, int]] = set()
    faults, empty = Faults(path, "annotations"), 0
    for position, row in enumerate(rows):
        try:
            image_id, annotation = _annotation(json_object(row, "annotation"), known, labels)
            if not has_area(annotation.box):
                empty += 1
                continue
            if annotation.instance_id is not None:
                if (image_id, annotation.instance_id) in seen:
                    raise RowError(f"identity {annotation.instance_id} appears twice in image {image_id}")
                seen.add((image_id, annotation.instance_id))
            found[image_id].append(annotation)
        except RowError as error:
            name = row.get("id", f"number {position}") if isinstance(row, dict) else f"number {position}"
            faults.add(f"annotation {name}: {error}")
    faults.close()
    if empty:
        logger.warning("%s: left out %d boxes without area", path, empty)
    return {image_id: tuple(annotations) for image_id, annotations in found.items()}


def _annotation(row: Row, known: set[int], labels: Mapping[int, str]) -> tuple[int, Annotation]:
    image_id = field(row, "image_id", json_integer)
    if image_id not in known:
        raise RowError(f"image_id is {image_id}, no such image")
    category_id = field(row, "category_id", json_integer)
    if category_id not in labels:
        raise RowError(f"category_id is {category_id}, no such category")
    box = field(row, "bbox", json_box)
    return image_id, Annotation(
        box,
        labels[category_id],
        _identity(row),
        json_flag(row.get("ignore", False), "ignore"),
        json_flag(row.get("iscrowd", False), "iscrowd"),
    )


def _identity(row: Row) -> int | None:
    """``instance_id`` of CocoVID or ``track_id`` of TAO; a negative one says that there is none."""
    key = "instance_id" if "instance_id" in row else "track_id"
    if row.get(key) is None:
        return None
    value = json_integer(row[key], key)
    if value >= IDENTITY_LIMIT:
        raise RowError(f"{key} is {value}, expected less than {IDENTITY_LIMIT}")
    return value if value >= 0 else None
