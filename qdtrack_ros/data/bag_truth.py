"""Ground truth that lies in a bag: boxes with identities as vision_msgs/Detection2DArray."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Mapping
from typing import Any

from qdtrack_ros.data._rows import IDENTITY_LIMIT
from qdtrack_ros.data.bag_images import header_stamp_ns
from qdtrack_ros.data.rosbag import BagReader
from qdtrack_ros.data.types import Annotation, DataError, DataFault

logger = logging.getLogger(__name__)

DETECTIONS_TYPE = "vision_msgs/msg/Detection2DArray"


def read_bag_annotations(
    path: str | os.PathLike[str], topic: str | None = None
) -> Mapping[int, tuple[Annotation, ...]]:
    """Labelled boxes by the stamp of their headers, nanoseconds; that of the picture they belong to.

    The label is the class of the best hypothesis. ``id`` is the identity: decimal numbers are taken as they are, other
    texts are numbered in the order in which they come, an empty one is none. A stamp with an empty array is a picture
    without objects; a stamp that does not occur was not labelled.

    Args:
        path: a rosbag2 folder or file.
        topic: of type vision_msgs/Detection2DArray; None takes the only one there is.

    Raises:
        DataError: no such bag or topic, several topics to choose from, or faulty boxes; ``faults`` names them all.
    """
    with BagReader(path) as reader:
        name = _choose_topic(reader, topic)
        identities = _Identities()
        found: dict[int, tuple[Annotation, ...]] = {}
        faults: list[DataFault] = []
        for index, message in enumerate(reader.messages([name])):
            place = f"{name}, message {index}"
            stamp_ns = header_stamp_ns(message.data)
            try:
                detections = reader.types.deserialize(message.data, message.type_name).detections
            except DataError as error:
                logger.warning("%s: %s is left out: %s", path, place, error)
                continue
            assert stamp_ns is not None
            if stamp_ns in found:
                faults.append(DataFault(reader.path, None, f"{place}: a second array with the stamp {stamp_ns} ns"))
                continue
            boxes: list[Annotation] = []
            for row, detection in enumerate(detections):
                try:
                    box = _annotation(detection, identities)
                    if box.instance_id is not None and any(box.instance_id == one.instance_id for one in boxes):
                        raise ValueError(f"identity {detection.id} is that of another box, too")
                    boxes.append(box)
                except ValueError as error:
                    faults.append(DataFault(reader.path, None, f"{place}, box {row}: {error}"))
                except AttributeError as error:
                    raise DataError(
                        f"{path}: {name} is of another version of vision_msgs ({error}); expected 4.0 or later, with "
                        "id, results[].hypothesis and bbox.center.position"
                    ) from error
            found[stamp_ns] = tuple(boxes)
    if faults:
        raise DataError(f"{path}: {len(faults)} faulty places in the ground truth of {name}", faults)
    return found


def _choose_topic(reader: BagReader, topic: str | None) -> str:
    known = [name for name, item in reader.topics.items() if item.type_name == DETECTIONS_TYPE]
    if topic is None and len(known) == 1:
        return known[0]
    if topic in known:
        assert topic is not None
        return topic
    wanted = "name one of its topics with boxes" if topic is None else f"{topic} is none of its topics with boxes"
    raise DataError(f"{reader.path}: {wanted} ({DETECTIONS_TYPE}): {', '.join(known) or 'it has none'}")


def _annotation(detection: Any, identities: _Identities) -> Annotation:
    box = detection.bbox
    x, y, width, height = box.center.position.x, box.center.position.y, box.size_x, box.size_y
    if not all(map(math.isfinite, (x, y, width, height))) or width <= 0 or height <= 0:
        raise ValueError(f"centre ({x:g}, {y:g}) and size ({width:g}, {height:g}) are no box")
    if not detection.results:
        raise ValueError("no hypothesis, so no class; expected one in `results`")
    best = max(detection.results, key=lambda result: float(result.hypothesis.score))
    corners = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
    return Annotation(corners, str(best.hypothesis.class_id), identities.number(detection.id))


class _Identities:
    """Numbers for identities that are texts."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def number(self, text: str) -> int | None:
        """The identity's number; None for no identity.

        Raises:
            ValueError: the number is too large, or numbers and other texts are mixed, so that two identities could get
                one number.
        """
        if not text:
            return None
        if text not in self._numbers:
            is_number = text.isdecimal()
            if self._numbers and is_number != next(iter(self._numbers)).isdecimal():
                first = next(iter(self._numbers))
                raise ValueError(f"identity {text!r} beside {first!r}; expected numbers only, or texts only")
            if is_number and int(text) >= IDENTITY_LIMIT:
                raise ValueError(f"identity is {text}, expected less than {IDENTITY_LIMIT}")
            self._numbers[text] = int(text) if is_number else len(self._numbers)
        return self._numbers[text]
