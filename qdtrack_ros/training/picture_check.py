"""The pictures of a source, looked at: missing ones, damaged ones, those of another size, and boxes beside them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from qdtrack_ros.data.crops import CropSet
from qdtrack_ros.data.types import REPORTED_FAULTS, DataError, Frame
from qdtrack_ros.data.types import Sequence as FrameSequence

SAMPLED_PICTURES = 12  # of a source are decoded where not all are; at least one of each sequence

_Size = tuple[int, int]  # width, height


class PictureReport(NamedTuple):
    """How many pictures were decoded, and what is wrong with them: what keeps from training, and what does not."""

    decoded: int
    errors: list[str]
    warnings: list[str]


def look_at_crops(crops: CropSet, all_pictures: bool) -> PictureReport:
    """Decode some crops, or all."""
    pictures = [load for loads in crops.pictures for load in loads]
    chosen = range(len(pictures)) if all_pictures else _spread(len(pictures), SAMPLED_PICTURES)
    damaged: list[str] = []
    for index in chosen:
        try:
            pictures[index]()
        except DataError as error:
            damaged.append(str(error))
    return PictureReport(len(chosen) - len(damaged), _told(damaged, "pictures cannot be decoded"), [])


def look_at_sequences(sequences: Sequence[FrameSequence], all_pictures: bool) -> PictureReport:
    """Look for all files, decode some pictures of every sequence, or all, and compare them with the annotations."""
    missing: list[str] = []
    damaged: list[str] = []
    resized: list[str] = []
    outside: list[str] = []
    count = 0
    for sequence in sequences:
        frames = sequence.frames
        # By place in the list: of a part of a sequence, a frame's index is another number.
        gone = {place for place, frame in enumerate(frames) if frame.path is not None and not frame.path.is_file()}
        missing += [str(frames[place].path) for place in sorted(gone)]
        share = len(frames) if all_pictures else max(1, SAMPLED_PICTURES // len(sequences))
        sizes: dict[int, _Size] = {}
        for place in _spread(len(frames), share):
            if place in gone:
                continue
            frame = frames[place]
            try:
                height, width = frame.load().shape[:2]
            except DataError as error:
                damaged.append(str(error))
                continue
            sizes[frame.index] = (width, height)
            stated = _stated(frame)
            if stated is not None and stated != (width, height):
                told = f"{width}x{height}, annotated as {stated[0]}x{stated[1]}"
                resized.append(f"{_place(sequence, frame)}: {told}")
        count += len(sizes)
        outside += _beside(sequence, sizes)
    errors = [
        *_told(missing, "pictures are missing"),
        *_told(damaged, "pictures cannot be decoded"),
        *_told(resized, "pictures are not of the size that the annotations say"),
    ]
    return PictureReport(count, errors, _told(outside, "boxes lie wholly outside their picture, and will be left out"))


def _beside(sequence: FrameSequence, sizes: Mapping[int, _Size]) -> Iterator[str]:
    """Boxes without a pixel in their picture, where its size is known: decoded, stated, or that of its video."""
    common = next(iter(sizes.values()), None) if sequence.is_video else None
    for frame in sequence.frames:
        size = sizes.get(frame.index) or _stated(frame) or common
        if size is None:
            continue
        for annotation in frame.annotations:
            x1, y1, x2, y2 = annotation.box
            if x1 >= size[0] or y1 >= size[1] or x2 <= 0 or y2 <= 0:
                box = f"{x1:g} {y1:g} {x2:g} {y2:g}"
                yield f"{_place(sequence, frame)}: {annotation.label} at {box}, the picture is {size[0]}x{size[1]}"


def _stated(frame: Frame) -> _Size | None:
    return None if frame.width is None or frame.height is None else (frame.width, frame.height)


def _place(sequence: FrameSequence, frame: Frame) -> str:
    return str(frame.path) if frame.path is not None else f"{sequence.name}, frame {frame.index}"


def _spread(count: int, wanted: int) -> list[int]:
    """Up to ``wanted`` of ``count`` indices, evenly spread."""
    chosen = min(count, wanted)
    return [(2 * step + 1) * count // (2 * chosen) for step in range(chosen)]


def _told(places: Sequence[str], what: str) -> list[str]:
    """A message with the kind of fault and its first places; none where there are no places."""
    if not places:
        return []
    lines = [f"{len(places)} {what}", *(f"  {place}" for place in places[:REPORTED_FAULTS])]
    if len(places) > REPORTED_FAULTS:
        lines.append(f"  ... and {len(places) - REPORTED_FAULTS} more")
    return ["\n".join(lines)]
