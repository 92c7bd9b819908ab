"""Sources with the ground truth that their tracks are compared with, found by what the given files are."""

from __future__ import annotations

import glob
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple, TypeVar

from qdtrack_ros.cli.protocols import BAG, PROTOCOLS
from qdtrack_ros.data.formats import Location, read_sequences, recognise
from qdtrack_ros.data.kitti import read_kitti_annotations
from qdtrack_ros.data.media import LazyFrames
from qdtrack_ros.data.mot import own_classes, read_mot_annotations, truth_file
from qdtrack_ros.data.sources import is_bag, open_source
from qdtrack_ros.data.types import Annotation, DataError
from qdtrack_ros.data.types import Sequence as FrameSequence
from qdtrack_ros.evaluation.rules import Benchmark

logger = logging.getLogger(__name__)

Annotations = Sequence[tuple[Annotation, ...]]
_Item = TypeVar("_Item")
_LONGEST = 1_000_000  # pictures that ground truth may go on for where the recording is cut


class Source(NamedTuple):
    """What is to be evaluated, as the user names it; worker processes open it for themselves.

    Attributes:
        path: as for ``open_source``; where the ground truth names the pictures' files, the folder that they start from.
        truth: file, folder or bag; None takes the annotations that the source brings.
        topic: which images of a bag.
        truth_topic: which boxes of a bag.
        names: which sequences, by a pattern of their names.
        limit: frames of each sequence; None takes all.
        only: the one sequence of several that a worker is to track, by its name.
    """

    path: str
    truth: Path | None = None
    topic: str | None = None
    truth_topic: str | None = None
    names: str = "*"
    limit: int | None = None
    only: str | None = None

    def __str__(self) -> str:
        return self.path if self.only is None else f"{self.path}, {self.only}"


@dataclass(frozen=True)
class Job:
    """A sequence to be evaluated.

    Attributes:
        source: where it is from; opened again, it gives this one job.
        sequence: its pictures, of which the first ``count`` are tracked.
        count: how many.
        labelled: places of the pictures that have ground truth; figures are of these.
        annotations: of each labelled picture.
        format: of the ground truth, a key of ``PROTOCOLS``.
        benchmark: its classes.
    """

    source: Source
    sequence: FrameSequence
    count: int
    labelled: Sequence[int]
    annotations: Annotations
    format: str
    benchmark: Benchmark

    def of_labelled(self, items: Sequence[_Item]) -> list[_Item]:
        """Of one item a picture those of labelled ones."""
        return [items[place] for place in self.labelled]

    @property
    def labelled_sequence(self) -> FrameSequence:
        """The labelled pictures."""
        if len(self.labelled) == self.count:
            return self.sequence
        frames = LazyFrames(len(self.labelled), lambda index: self.sequence.frames[self.labelled[index]])
        return replace(self.sequence, frames=frames)


def open_jobs(source: Source) -> list[Job]:
    """The sequences of a source with their ground truth, at least one.

    Raises:
        DataError: there is no ground truth, it is faulty or of stills, or the source is live or cannot be opened.
    """
    path = source.truth
    if path is None and (source.truth_topic is not None or (Path(source.path) / "camera_image").is_dir()):
        path = Path(source.path)
    if path is None:
        return [_own_truth(source)]
    if not path.exists():
        raise DataError(f"{path}: no such file or folder; expected ground truth, see `qdtrack evaluate --help`")
    if is_bag(path):
        return [_truth_of_bag(source, path)]
    if source.truth_topic is not None:
        raise DataError(f"{path} is no bag, so it has no topic {source.truth_topic}; name a bag with --gt")
    found = recognise(path)
    if found not in PROTOCOLS:
        raise DataError(f"{path} holds stills ({found}); tracks are evaluated on videos")
    if found in ("mot", "kitti"):
        return [_truth_of_file(source, path, found)]
    if found == "waymo" and not (Path(source.path) / "camera_box").is_dir():
        # The reader takes such a folder, for its pictures; figures of it would be zeros that look like figures.
        raise DataError(f"{source.path}: no folder camera_box, so no ground truth; a test set is for `qdtrack submit`")
    names = source.names if source.only is None else glob.escape(source.only)
    sequences = read_sequences(found, Location(Path(source.path), path, names))
    benchmark = PROTOCOLS[found].benchmark(path.stem, _labels(sequences))
    return [
        _job(source._replace(only=sequence.name), sequence, _annotations(sequence), found, benchmark)
        for sequence in sequences
    ]


def numbered(jobs: Sequence[Job]) -> list[Job]:
    """The same with names that differ: sequences of one name are numbered."""
    names: Counter[str] = Counter()

    def renamed(job: Job) -> Job:
        name = job.sequence.name
        names[name] += 1
        if names[name] == 1:
            return job
        return replace(job, sequence=replace(job.sequence, name=f"{name} ({names[name]})"))

    return [renamed(job) for job in jobs]


def _own_truth(source: Source) -> Job:
    sequence = _open(source)
    annotations = _annotations(sequence)
    if not any(annotations):
        raise DataError(
            f"{sequence.name} brings no ground truth; name a file, folder or bag with --gt, or boxes of this bag with "
            "--gt-topic"
        )
    benchmark = _mot_benchmark(_mot_truth(Path(source.path)).parent, sequence.name)
    return _job(source, sequence, annotations, "mot", benchmark)


def _truth_of_file(source: Source, path: Path, found: str) -> Job:
    sequence = _open(source)
    if found == "kitti":
        annotations = _whole(sequence, path, read_kitti_annotations)
        return _job(source, sequence, annotations, found, PROTOCOLS[found].benchmark(path.stem, ()))
    file = _mot_truth(path) if path.is_dir() else path
    annotations = _whole(sequence, file, read_mot_annotations)
    name = next((part for part in file.resolve().parts if part.upper().startswith("MOT20")), sequence.name)
    return _job(source, sequence, annotations, found, _mot_benchmark(file.parent, name))


def _whole(sequence: FrameSequence, path: Path, read: Callable[[Path, int], Annotations]) -> Annotations:
    """Annotations of all pictures; of a damaged file, those of the pictures that it lost at its end are left out."""
    count = len(sequence.frames)
    if not sequence.is_cut:
        return read(path, count)
    text = "%s is damaged, and %s counts pictures: figures are right only if none is missing before the last one"
    logger.warning(text, sequence.name, path)
    annotations = read(path, max(count, _LONGEST))
    lost = [place for place, boxes in enumerate(annotations[count:], start=count) if boxes]
    if lost:
        text = "%s has %d pictures: ground truth of those after them, up to picture %d, is left out"
        logger.warning(text, sequence.name, count, lost[-1] + 1)
    return annotations[:count]


def _mot_truth(folder: Path) -> Path:
    return truth_file(folder) or folder / "gt" / "gt.txt"


def _mot_benchmark(folder: Path, name: str) -> Benchmark:
    """MOTChallenge's, or that of the classes that somebody labelled in this format."""
    return PROTOCOLS["mot"].benchmark(name, own_classes(folder) or ())


def _truth_of_bag(source: Source, path: Path) -> Job:
    """Boxes belong to the picture with the same stamp; a picture without such a message was not labelled."""
    from qdtrack_ros.data.bag_truth import read_bag_annotations  # needs rosbags, which other sources do without

    sequence = _open(source)
    truth = read_bag_annotations(path, source.truth_topic)
    stamps = [frame.timestamp_ns for frame in sequence.frames]
    labelled = [place for place, stamp in enumerate(stamps) if stamp is not None and stamp in truth]
    if not labelled:
        raise DataError(
            f"none of the {len(truth)} messages with ground truth in {path} has the stamp of one of the {len(stamps)} "
            f"pictures of {sequence.name}; expected equal stamps in their headers"
        )
    lost = len(truth.keys() - set(stamps))
    if lost:
        logger.warning("%d of the %d ground truth messages in %s match no picture by stamp", lost, len(truth), path)
    annotations = [None if stamp is None else truth.get(stamp) for stamp in stamps]
    labels = {row.label for rows in truth.values() for row in rows}
    return _job(source, sequence, annotations, BAG, PROTOCOLS[BAG].benchmark(sequence.name, labels))


def _open(source: Source) -> FrameSequence:
    sequence = open_source(source.path, source.topic)
    try:
        len(sequence.frames)
    except TypeError:
        raise DataError(f"{source.path} is live; record it first, then evaluate the recording") from None
    return sequence


def _annotations(sequence: FrameSequence) -> Annotations:
    return [frame.annotations for frame in sequence.frames]


def _labels(sequences: Sequence[FrameSequence]) -> set[str]:
    """Classes that somebody looked for."""
    absent = (sequence.coverage.absent for sequence in sequences if sequence.coverage is not None)
    there = {row.label for sequence in sequences for frame in sequence.frames for row in frame.annotations}
    return there.union(*absent)


def _job(
    source: Source,
    sequence: FrameSequence,
    annotations: Sequence[tuple[Annotation, ...] | None],
    found: str,
    benchmark: Benchmark,
) -> Job:
    """A job of the first frames; annotations of None are of pictures that were not labelled."""
    rows = list(annotations[: source.limit])
    labelled = [place for place, boxes in enumerate(rows) if boxes is not None]
    counted = [boxes for boxes in rows if boxes is not None]
    if not any(counted):
        logger.warning("%s: the ground truth has no box; every track counts as false", sequence.name)
    return Job(source, sequence, len(rows), labelled, counted, found, benchmark)
