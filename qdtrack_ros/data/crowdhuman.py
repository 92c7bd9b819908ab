"""CrowdHuman: stills full of people, one JSON object a line (``.odgt``), https://www.crowdhuman.org/download.html."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from qdtrack_ros.data._rows import (
    Faults,
    RowError,
    field,
    has_area,
    json_box,
    json_flag,
    json_list,
    json_object,
    json_text,
    text_lines,
)
from qdtrack_ros.data.media import is_image, load_image
from qdtrack_ros.data.types import Annotation, Frame, Sequence

logger = logging.getLogger(__name__)

PERSON, MASK = "person", "mask"


def read_crowdhuman(odgt_file: str | os.PathLike[str], image_dir: str | os.PathLike[str]) -> Sequence:
    """All pictures of an ``annotation_*.odgt`` as one sequence of stills, in the order of the file.

    Boxes are those of the full body (``fbox``), which may reach beyond the picture; visibility is the share of it in
    the visible box (``vbox``). ``mask`` boxes (crowds, reflections, statues) become regions: ``ignore`` and ``crowd``.
    Persons with ``ignore`` in ``extra`` are to be ignored. Boxes without area are left out with a warning.

    Args:
        odgt_file: the annotations.
        image_dir: the folder ``Images``; a picture's file is its ``ID`` and ``.jpg``.

    Raises:
        DataError: the file is missing, or lines or boxes are faulty (listed by line).
    """
    path = Path(odgt_file)
    faults, empty = Faults(path, "rows"), 0
    frames: list[Frame] = []
    seen: dict[str, int] = {}
    for line, text in text_lines(path):
        try:
            row = json_object(json.loads(text), "row")
            name = field(row, "ID", json_text)
            if seen.setdefault(name, line) != line:
                raise RowError(f"picture {name} is that of line {seen[name]}, too")
            boxes = field(row, "gtboxes", json_list)
        except json.JSONDecodeError as error:
            faults.add(f"not JSON ({error.msg} in column {error.colno}), expected an object with ID and gtboxes", line)
            continue
        except RowError as error:
            faults.add(str(error), line)
            continue
        annotations = []
        for position, box in enumerate(boxes):
            try:
                annotations.append(_annotation(json_object(box, "box")))
            except RowError as error:
                faults.add(f"gtboxes[{position}]: {error}", line)
        kept = tuple(annotation for annotation in annotations if has_area(annotation.box))
        empty += len(annotations) - len(kept)
        picture = Path(image_dir) / (name if is_image(Path(name)) else f"{name}.jpg")
        frames.append(Frame(len(frames), None, None, None, kept, partial(load_image, picture), picture))
    faults.close()
    if empty:
        logger.warning("%s: left out %d boxes without area", path, empty)
    return Sequence(path.stem, tuple(frames), None, False)


def _annotation(row: Mapping[str, Any]) -> Annotation:
    tag = field(row, "tag", json_text)
    if tag not in (PERSON, MASK):
        raise RowError(f"tag is {tag!r}, expected {PERSON} or {MASK}")
    full = field(row, "fbox", json_box)
    visible = json_box(row["vbox"], "vbox") if "vbox" in row else full
    extra = json_object(row.get("extra", {}), "extra")
    region = tag == MASK
    ignore = region or json_flag(extra.get("ignore", 0), "extra.ignore")
    return Annotation(full, tag, None, ignore, region, _share(visible, full))


def _share(part: tuple[float, float, float, float], whole: tuple[float, float, float, float]) -> float:
    """Area of a box that lies in ``part``, of its whole area."""
    width = min(part[2], whole[2]) - max(part[0], whole[0])
    height = min(part[3], whole[3]) - max(part[1], whole[1])
    area = (whole[2] - whole[0]) * (whole[3] - whole[1])
    return max(width, 0.0) * max(height, 0.0) / area if area > 0 else 1.0
