"""COCO detection JSON, and its video extensions (CocoVID: ``videos``, ``video_id``, ``frame_id``, ``instance_id``)."""

from __future__ import annotations

import json
import logging
import math
import os
from collections import defaultdict
from functools import partial
from pathlib import Path
from typing import Any

from qdtrack_ros.data.media import load_image
from qdtrack_ros.data.types import Annotation, DataError, DataFault, Frame, Sequence

logger = logging.getLogger(__name__)


def read_coco(json_file: str | os.PathLike[str], image_dir: str | os.PathLike[str]) -> Sequence:
    """All pictures of a COCO file as one sequence of stills, in the order of the file.

    ``iscrowd`` becomes ``crowd``, ``ignore`` becomes ``ignore``. Boxes of no area, which published files do contain,
    are left out with a warning.

    Raises:
        DataError: the file is missing or is not COCO, or annotations are faulty (listed by their id).
    """
    path = Path(json_file)
    content = _load(path)
    annotations = _annotations(path, content)
    frames = tuple(_frame(index, image, annotations, Path(image_dir)) for index, image in enumerate(content["images"]))
    return Sequence(path.stem, frames, None, False)


def read_coco_videos(json_file: str | os.PathLike[str], image_dir: str | os.PathLike[str]) -> tuple[Sequence, ...]:
    """The videos of a CocoVID file, one sequence each, frames in the order of ``frame_id``.

    Raises:
        DataError: as ``read_coco``; also when the file lists no videos or an identity appears twice in a picture.
    """
    path = Path(json_file)
    content = _load(path)
    if not content.get("videos"):
        raise DataError(f'{path}: no "videos"; expected a CocoVID file (read_coco reads plain COCO ones)')
    annotations = _annotations(path, content)
    images: defaultdict[Any, list[dict[str, Any]]] = defaultdict(list)
    for image in content["images"]:
        images[image.get("video_id")].append(image)
    sequences = []
    for video in content["videos"]:
        members = sorted(images[video["id"]], key=_frame_order)
        frames = tuple(_frame(index, image, annotations, Path(image_dir)) for index, image in enumerate(members))
        rate = video.get("fps")
        sequences.append(Sequence(str(video.get("name", video["id"])), frames, float(rate) if rate else None, True))
    return tuple(sequences)


def _frame_order(image: dict[str, Any]) -> float:
    return float(image.get("frame_id", image.get("frame_index", image["id"])))


def _load(path: Path) -> dict[str, Any]:
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); expected a COCO annotation file") from error
    except ValueError as error:
        raise DataError(f"{path}: not JSON ({error}); expected a COCO annotation file") from error
    if not isinstance(content, dict):
        raise DataError(f"{path}: holds a JSON {type(content).__name__}, expected the object of a COCO annotation file")
    missing = [key for key in ("images", "annotations", "categories") if key not in content]
    if missing:
        raise DataError(f"{path}: not a COCO annotation file; missing {', '.join(missing)}")
    faults = [
        DataFault(path, None, f"images[{position}] has no {key}")
        for position, image in enumerate(content["images"])
        for key in ("id", "file_name")
        if key not in image
    ]
    if faults:
        raise DataError(f"{path}: {len(faults)} faulty images", faults)
    return content


def _annotations(path: Path, content: dict[str, Any]) -> dict[Any, tuple[Annotation, ...]]:
    labels = {category["id"]: str(category["name"]) for category in content["categories"]}
    known = {image["id"] for image in content["images"]}
    found: defaultdict[Any, list[Annotation]] = defaultdict(list)
    seen: set[tuple[Any, int]] = set()
    faults, empty = [], 0
    for position, row in enumerate(content["annotations"]):
        reason = _row_fault(row, known, labels)
        if reason is None and 0 not in row["bbox"][2:]:
            annotation = _annotation(row, labels[row["category_id"]])
            place = (row["image_id"], annotation.instance_id)
            if annotation.instance_id is not None and place in seen:
                reason = f"identity {annotation.instance_id} appears twice in image {row['image_id']}"
            elif annotation.instance_id is not None:
                seen.add((row["image_id"], annotation.instance_id))
            found[row["image_id"]].append(annotation)
        elif reason is None:
            empty += 1
        if reason is not None:
            faults.append(DataFault(path, None, f"annotation {row.get('id', f'number {position}')}: {reason}"))
    if faults:
        raise DataError(f"{path}: {len(faults)} faulty annotations", faults)
    if empty:
        logger.warning("%s: left out %d boxes without area", path, empty)
    return {image_id: tuple(rows) for image_id, rows in found.items()}


def _row_fault(row: dict[str, Any], known: set[Any], labels: dict[Any, str]) -> str | None:
    if row.get("image_id") not in known:
        return f"image_id is {row.get('image_id')!r}, no such image"
    if row.get("category_id") not in labels:
        return f"category_id is {row.get('category_id')!r}, no such category"
    box = row.get("bbox")
    if not isinstance(box, list) or len(box) != 4 or not all(_is_finite(value) for value in box):
        return f"bbox is {box!r}, expected four finite numbers (left, top, width, height)"
    if box[2] < 0 or box[3] < 0:
        return f"box is {box[2]:g} wide and {box[3]:g} high, expected 0 or more"
    return None


def _is_finite(value: object) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)


def _annotation(row: dict[str, Any], label: str) -> Annotation:
    left, top, width, height = (float(value) for value in row["bbox"])
    instance_id = row.get("instance_id", row.get("track_id"))
    return Annotation(
        (left, top, left + width, top + height),
        label,
        None if instance_id is None else int(instance_id),
        bool(row.get("ignore", False)),
        bool(row.get("iscrowd", False)),
    )


def _frame(index: int, image: dict[str, Any], annotations: dict[Any, tuple[Annotation, ...]], image_dir: Path) -> Frame:
    load = partial(load_image, image_dir / image["file_name"])
    return Frame(index, None, image.get("width"), image.get("height"), annotations.get(image["id"], ()), load)
