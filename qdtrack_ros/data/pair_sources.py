"""What pairs of pictures are drawn from: videos, still pictures, and crops by identity."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Set
from collections.abc import Sequence as Seq
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import ClassVar, Protocol

import cv2
import numpy as np
import numpy.typing as npt

from qdtrack_ros.data.crops import CropSet, SheetConfig, draw_sheets
from qdtrack_ros.data.transforms import LabelledPicture
from qdtrack_ros.data.types import Annotation, Frame, Sequence


class PairSource(Protocol):
    """A source of pairs.

    ``weight`` is how often it is drawn, relative to others; a source without objects can only give background.
    """

    @property
    def name(self) -> str: ...

    @property
    def weight(self) -> float: ...

    @property
    def has_objects(self) -> bool: ...

    def draw(
        self, first_id: int, background: float, rng: np.random.Generator
    ) -> tuple[LabelledPicture, LabelledPicture]:
        """Key and reference picture as the source has them.

        Args:
            first_id: added to the source's instance ids.
            background: probability of drawing any picture, rather than one with an object.
            rng: source of randomness.
        """


@dataclass(frozen=True)
class SequenceSource:
    """One sequence as a source of pairs.

    Attributes:
        sequence: frames with annotations.
        weight: how often it is drawn, relative to the others.
        scope: largest distance in frames between key and reference; 0 makes still pairs.
        labels: class index of each label name of the source; names that are mapped to None are ignore regions, other
            names are background.
        other_frame: the reference is never the key frame itself, where there is another within the scope.
        oversample: pictures with a class that is in fewer than this share of them are drawn more often; 0 draws all
            alike. See :func:`repeats`.
    """

    sequence: Sequence
    weight: float
    scope: int
    labels: Mapping[str, int | None]
    other_frame: bool = False
    oversample: float = 0.0

    @property
    def name(self) -> str:
        return self.sequence.name

    @property
    def has_objects(self) -> bool:
        return bool(len(self._populated))

    @property
    def has_partners(self) -> bool:
        """Whether an object to learn is seen again in another frame within the scope; in stills, each has a partner."""
        last: dict[int, int] = {}
        for frame in self.sequence.frames:
            for annotation in frame.annotations:
                identity = annotation.instance_id
                if identity is None or self.class_of(annotation) is None:
                    continue
                if frame.index - last.get(identity, -self.scope - 1) <= self.scope:
                    return True
                last[identity] = frame.index
        return self.scope == 0

    @cached_property
    def _populated(self) -> npt.NDArray[np.int64]:
        """Frames to draw a key from: those with an object to learn, as often as they are to be repeated."""
        classes = [
            {found for a in frame.annotations if (found := self.class_of(a)) is not None}
            for frame in self.sequence.frames
        ]
        rows = np.array([row for row, found in enumerate(classes) if found], np.int64)
        return np.repeat(rows, repeats([classes[row] for row in rows], self.oversample))

    def draw(
        self, first_id: int, background: float, rng: np.random.Generator
    ) -> tuple[LabelledPicture, LabelledPicture]:
        """See :class:`PairSource`."""
        frames = self.sequence.frames
        anywhere = not self.has_objects or rng.random() < background
        key = int(rng.integers(len(frames))) if anywhere else int(rng.choice(self._populated))
        low, high = max(0, key - self.scope), min(len(frames) - 1, key + self.scope)
        other = int(rng.integers(low, high + 1))
        if self.other_frame and high > low:
            other = int(rng.choice([index for index in range(low, high + 1) if index != key]))
        first = self._load(frames[key], first_id)
        return first, first if other == key else self._load(frames[other], first_id)

    def class_of(self, annotation: Annotation) -> int | None:
        """Class index of an object to learn; None for ignore regions and background."""
        if annotation.ignore or annotation.crowd:
            return None
        return self.labels.get(annotation.label)

    def is_ignored(self, annotation: Annotation) -> bool:
        """Whether an annotation is a region neither taught nor punished."""
        unwanted = annotation.label in self.labels and self.labels[annotation.label] is None
        return annotation.ignore or annotation.crowd or unwanted

    def _load(self, frame: Frame, first_id: int) -> LabelledPicture:
        """Decode a frame. In a still picture every object is its own identity."""
        objects = [a for a in frame.annotations if self.class_of(a) is not None]
        ids = [
            first_id + frame.index * 1000 + row
            if self.scope == 0
            else -1
            if a.instance_id is None
            else first_id + a.instance_id
            for row, a in enumerate(objects)
        ]
        ignored = [a.box for a in frame.annotations if self.is_ignored(a)]
        image = frame.load()
        if image.ndim == 2:
            image = np.asarray(cv2.cvtColor(image, cv2.COLOR_GRAY2BGR), np.uint8)
        return LabelledPicture(
            image,
            np.array([a.box for a in objects], np.float32).reshape(-1, 4),
            np.array([self.labels[a.label] for a in objects], np.int64),
            np.array(ids, np.int64),
            np.array(ignored, np.float32).reshape(-1, 4),
        )


def repeats(classes: Seq[Set[int]], threshold: float) -> list[int]:
    """How often pictures with rare classes are to be repeated: LVIS's repeat factors, rounded up as mmdet does it.

    A class in a share f of the pictures asks for max(1, sqrt(threshold / f)), a picture for the most of its classes.

    Args:
        classes: of every picture, at least one.
        threshold: 0 repeats none.
    """
    counts = Counter(label for found in classes for label in found)
    wanted = {label: math.sqrt(threshold * len(classes) / count) for label, count in counts.items()}
    return [max(1, math.ceil(max(wanted[label] for label in found))) for found in classes]


@dataclass(frozen=True)
class CropSource:
    """Crops by identity as a source of pairs: see :func:`draw_sheets`.

    Attributes:
        crops: the pictures.
        weight: how often it is drawn, relative to the others.
        scope: the two pictures of an identity are at most so many places apart in its list.
        label: class index of what the crops show.
        sheets: how they are laid out.
    """

    crops: CropSet
    weight: float
    scope: int
    label: int
    sheets: SheetConfig = field(default_factory=SheetConfig)
    has_objects: ClassVar[bool] = True

    @property
    def name(self) -> str:
        return self.crops.name

    def draw(
        self, first_id: int, background: float, rng: np.random.Generator
    ) -> tuple[LabelledPicture, LabelledPicture]:
        """See :class:`PairSource`; there is no background to draw."""
        key, reference = draw_sheets(self.crops, self.scope, self.sheets, rng)
        return self._as_object(key, first_id), self._as_object(reference, first_id)

    def _as_object(self, sheet: LabelledPicture, first_id: int) -> LabelledPicture:
        return replace(sheet, labels=np.full_like(sheet.labels, self.label), instance_ids=sheet.instance_ids + first_id)
