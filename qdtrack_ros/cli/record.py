"""Tracks for an evaluation: made here one source after the other, in processes or on a cluster, or read from files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from tqdm import tqdm

from qdtrack_ros.cli.ground_truth import Job
from qdtrack_ros.cli.main import is_expected
from qdtrack_ros.cli.offline import FrameTracks, Recording, first_frames, track_frames
from qdtrack_ros.cli.parallel import Outcome, run_in_processes, run_on_ray
from qdtrack_ros.configuration import ConfigurationError
from qdtrack_ros.data.mot import read_mot_results
from qdtrack_ros.data.types import DataError
from qdtrack_ros.data.types import Sequence as FrameSequence
from qdtrack_ros.evaluation.rules import Benchmark
from qdtrack_ros.inference import engine as engines
from qdtrack_ros.inference.presets import Preset
from qdtrack_ros.inference.types import Engine

RESULT_FILE_LABELS = ("pedestrian",)
_SHOWN = 8  # classes that a message names


class Recorded(NamedTuple):
    """Sequences and what was tracked in them.

    Attributes:
        jobs: sequences with ground truth.
        recordings: one for each of them.
        labels: names of the tracks' labels.
        made_by: what made the tracks, for results.json.
        is_interrupted: there were more sequences.
    """

    jobs: list[Job]
    recordings: list[Recording]
    labels: Sequence[str]
    made_by: dict[str, Any]
    is_interrupted: bool = False


class Model(NamedTuple):
    """What tracks, and what of a machine it takes.

    Attributes:
        preset: network, labels and association.
        weights: file or name; None takes the preset's own.
        device, engine, precision: as for ``create_engine``.
        threads: cores of each source.
        gpus: that each source claims of a Ray cluster; None claims one where the device may be one and the cluster has
            any.
    """

    preset: Preset
    weights: str | None
    device: str
    engine: str
    precision: str
    threads: int
    gpus: float | None = None

    @property
    def claimed_gpus(self) -> float | None:
        """As ``run_on_ray`` takes it.

        Raises:
            ConfigurationError: the device is a GPU by number; Ray numbers those that a task may use from 0.
        """
        if self.device.startswith("cuda:"):
            raise ConfigurationError(
                f"device is {self.device!r}, but Ray chooses the GPU of each task; use --device cuda or auto"
            )
        needs_none = self.device == "cpu" or self.engine == "noop"
        return 0.0 if self.gpus is None and needs_none else self.gpus


class Video(Protocol):
    """A sequence to track, of which the first ``count`` frames are taken; a worker opens ``source`` to get it."""

    @property
    def source(self) -> Any:
        """Where it is from; picklable, and opened again it gives this one sequence."""

    @property
    def sequence(self) -> FrameSequence:
        """Its frames."""

    @property
    def count(self) -> int:
        """How many."""


class Task(NamedTuple):
    """A sequence to track, as a worker gets it; what carries none of ``labels`` is not kept."""

    source: Any
    open: Callable[[Any], Sequence[Video]]
    model: Model
    labels: tuple[int, ...]


class Tracked(NamedTuple):
    """The recording of a sequence, and the engine that made it."""

    recording: Recording
    engine: str
    model_id: str


class Gathered(NamedTuple):
    """What came of all sequences.

    Attributes:
        recordings: of those that were tracked, by their place.
        errors: of those that failed, by their place.
        is_interrupted: the others were not finished.
        engine, model_id: what made the tracks.
    """

    recordings: dict[int, Recording]
    errors: dict[int, str]
    is_interrupted: bool
    engine: str
    model_id: str


def gather(
    videos: Sequence[Video],
    open_source: Callable[[Any], Sequence[Video]],
    model: Model,
    labels: Sequence[int],
    jobs: int,
    address: str | None,
) -> Gathered:
    """Track every sequence. Ctrl-C ends it with what is finished; where nothing is, it is passed on.

    Args:
        videos: as this process opened them.
        open_source: opens them again, in a worker; picklable.
        model: what tracks.
        labels: indices of those that are kept.
        jobs: processes; 1 tracks in this one.
        address: of a Ray cluster; None stays on this machine.
    """
    tasks = [Task(video.source, open_source, model, tuple(labels)) for video in videos]
    recordings, errors, made_by, is_interrupted = {}, {}, ("", ""), False
    try:
        with closing(_record(tasks, videos, jobs, address)) as outcomes:
            for outcome in outcomes:
                if outcome.error:
                    errors[outcome.place] = outcome.error
                else:
                    recordings[outcome.place] = outcome.result.recording
                    made_by = (outcome.result.engine, outcome.result.model_id)
    except KeyboardInterrupt:
        if not recordings:
            raise
        is_interrupted = True
    return Gathered(recordings, errors, is_interrupted, *made_by)


def _record(
    tasks: Sequence[Task], videos: Sequence[Video], jobs: int, address: str | None
) -> Generator[Outcome, None, None]:
    """Outcomes with ``Tracked`` as they come."""
    model = tasks[0].model
    if address is None and jobs == 1:
        yield from _record_here(tasks, videos)
        return
    if address is None:
        outcomes = run_in_processes(track_source, tasks, jobs)
    else:
        outcomes = run_on_ray(track_source, tasks, address, model.threads, model.claimed_gpus)
    yield from tqdm(outcomes, total=len(tasks), unit="sequence", disable=None)


def track_source(task: Task) -> Tracked:
    """Open a sequence and an engine, and track; the work of one worker.

    Raises:
        DataError: several sequences of the source have the name of this one.
    """
    video, *others = task.open(task.source)
    if others:
        raise DataError(f"{len(others) + 1} sequences are named {video.sequence.name}: track them with one job")
    with engines.opened(_engine(task.model)) as engine:
        return Tracked(_track(engine, task, video, quiet=True), engine.name, engine.model_id)


def _record_here(tasks: Sequence[Task], videos: Sequence[Video]) -> Iterator[Outcome]:
    """One engine serves all sequences; an error of the only one is raised, as is what nobody expects."""
    with engines.opened(_engine(tasks[0].model)) as engine:
        for place, (task, video) in enumerate(zip(tasks, videos, strict=True)):
            try:
                outcome = Outcome(place, Tracked(_track(engine, task, video), engine.name, engine.model_id), "", 1)
            except Exception as error:
                if len(tasks) == 1 or not is_expected(error):
                    raise
                outcome = Outcome(place, None, str(error), 1)
            yield outcome


def _engine(model: Model) -> Engine:
    torch.set_num_threads(model.threads)
    preset, weights, device, name, precision, *_ = model
    engine = engines.create_engine(preset, weights, device, name, precision=precision)
    engine.warmup(threads=engine.streams)
    return engine


def _track(engine: Engine, task: Task, video: Video, quiet: bool = False) -> Recording:
    frames = first_frames(video.sequence, video.count, quiet)
    return track_frames(engine, task.model.preset.association, frames, video.count, task.labels)


def label_indices(benchmarks: Iterable[Benchmark], labels: Sequence[str], whose: str) -> list[int]:
    """Indices of the labels that mean a class of the benchmarks; says which classes have none.

    Raises:
        ConfigurationError: all of them.
    """
    different = {id(benchmark): benchmark for benchmark in benchmarks}.values()
    found = {name: rules.indices(labels) for benchmark in different for name, rules in benchmark.classes.items()}
    lacking = _listed([name for name, indices in found.items() if not indices])
    if not any(found.values()):
        raise ConfigurationError(f"{whose} has the labels {_listed(labels)}; the classes are {lacking or 'none'}")
    if lacking:
        print(f"left out, for want of such a label in {whose}: {lacking}")
    return sorted({index for indices in found.values() for index in indices})


def _listed(names: Sequence[str]) -> str:
    """The first of many names."""
    rest = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + rest


def read_result_files(paths: Sequence[Path], jobs: Sequence[Job]) -> Recorded:
    """Tracks of every sequence from its result file, which knows no classes: they are taken for pedestrians."""
    label_indices([job.benchmark for job in jobs], RESULT_FILE_LABELS, "a result file")
    recordings = []
    for path, job in zip(paths, jobs, strict=True):
        tracks = read_tracks(path, len(job.sequence.frames))[: job.count]
        recordings.append(Recording(tracks, None, [None] * job.count, Counter(), 0.0))
    return Recorded(list(jobs), recordings, RESULT_FILE_LABELS, {"tracks": [str(path) for path in paths]})


def read_tracks(path: Path, count: int) -> list[FrameTracks]:
    """Tracks of `count` frames from a result file in MOTChallenge format.

    Raises:
        DataError: the file is missing or has faulty rows.
    """
    frames = []
    for rows in read_mot_results(path, count):
        ids = np.array([row.instance_id for row in rows], np.int64)
        # As exact as the ground truth, so that a box that is found by exactly half is found.
        boxes = np.array([row.box for row in rows], np.float64).reshape(-1, 4)
        frames.append(FrameTracks(ids, boxes, np.ones(len(rows), np.float32), np.zeros(len(rows), np.int64)))
    return frames
