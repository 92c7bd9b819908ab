"""Tracks for an evaluation: made here one source after the other, in processes or on a cluster, or read from files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from tqdm import tqdm

from qdtrack_ros.cli.ground_truth import Job, OpenedSource, Source, open_jobs
from qdtrack_ros.cli.main import is_expected
from qdtrack_ros.cli.offline import FrameTracks, Recording, first_frames, track_frames
from qdtrack_ros.cli.parallel import Outcome, run_in_processes, run_on_ray
from qdtrack_ros.configuration import ConfigurationError
from qdtrack_ros.data.mot import read_mot_annotations
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
    """

    jobs: list[Job]
    recordings: list[Recording]
    labels: Sequence[str]
    made_by: dict[str, Any]


class Model(NamedTuple):
    """What tracks, and on how many cores.

    Attributes:
        preset: network, labels and association.
        weights: file or name; None takes the preset's own.
        device, engine: as for ``create_engine``.
        threads: cores of each source.
    """

    preset: Preset
    weights: str | None
    device: str
    engine: str
    threads: int


class Task(NamedTuple):
    """A source to track; what carries none of ``labels`` is not kept."""

    source: Source
    model: Model
    labels: tuple[int, ...]


class Tracked(NamedTuple):
    """Recordings of the sequences of a source, and the engine that made them."""

    recordings: list[Recording]
    engine: str
    model_id: str


def record(
    sources: Sequence[OpenedSource], model: Model, labels: Sequence[int], jobs: int, address: str | None
) -> Iterator[Outcome]:
    """Track every source; outcomes with ``Tracked`` as they come, by the place of the source.

    Args:
        sources: as this process opened them; workers open them again.
        model: what tracks.
        labels: indices of those that are kept.
        jobs: processes; 1 tracks in this one.
        address: of a Ray cluster; None stays on this machine.
    """
    tasks = [Task(opened.source, model, tuple(labels)) for opened in sources]
    if address is None and jobs == 1:
        yield from _record_here(tasks, [opened.jobs for opened in sources])
        return
    if address is None:
        outcomes = run_in_processes(track_source, tasks, jobs)
    else:
        outcomes = run_on_ray(track_source, tasks, address, model.threads)
    yield from tqdm(outcomes, total=len(tasks), unit="source", disable=None)


def track_source(task: Task) -> Tracked:
    """Open a source and an engine, and track; the work of one worker."""
    jobs = open_jobs(task.source)
    with engines.opened(_engine(task.model)) as engine:
        return _track(engine, task, jobs, quiet=True)


def _record_here(tasks: Sequence[Task], opened_jobs: Sequence[Sequence[Job]]) -> Iterator[Outcome]:
    """One engine serves all sources; an error of the only one is raised, as is what nobody expects."""
    with engines.opened(_engine(tasks[0].model)) as engine:
        for place, (task, jobs) in enumerate(zip(tasks, opened_jobs, strict=True)):
            try:
                outcome = Outcome(place, _track(engine, task, jobs), "", 1)
            except Exception as error:
                if len(tasks) == 1 or not is_expected(error):
                    raise
                outcome = Outcome(place, None, str(error), 1)
            yield outcome


def _engine(model: Model) -> Engine:
    torch.set_num_threads(model.threads)
    engine = engines.create_engine(model.preset, model.weights, model.device, model.engine)
    engine.warmup()
    return engine


def _track(engine: Engine, task: Task, jobs: Sequence[Job], quiet: bool = False) -> Tracked:
    config = task.model.preset.association
    recordings = [
        track_frames(engine, config, first_frames(job.sequence, job.count, quiet), job.count, task.labels)
        for job in jobs
    ]
    return Tracked(recordings, engine.name, engine.model_id)


def label_indices(jobs: Sequence[Job], labels: Sequence[str], whose: str) -> list[int]:
    """Indices of the labels that mean a class of the ground truth; says which classes have none.

    Raises:
        ConfigurationError: all of them.
    """
    benchmarks = list({id(job.benchmark): job.benchmark for job in jobs}.values())
    found = {name: rules.indices(labels) for benchmark in benchmarks for name, rules in benchmark.classes.items()}
    lacking = _listed([name for name, indices in found.items() if not indices])
    if not any(found.values()):
        raise ConfigurationError(
            f"{whose} has the labels {_listed(labels)}; the ground truth's classes are {lacking or 'none'}"
        )
    if lacking:
        print(f"not evaluated, for want of such a label in {whose}: {lacking}")
    return sorted({index for indices in found.values() for index in indices})


def _listed(names: Sequence[str]) -> str:
    """The first of many names."""
    rest = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + rest


def read_result_files(paths: Sequence[Path], jobs: Sequence[Job]) -> Recorded:
    """Tracks of every sequence from its result file, which knows no classes: they are taken for pedestrians."""
    label_indices(jobs, RESULT_FILE_LABELS, "a result file")
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
    for rows in read_mot_annotations(path, count):
        ids = np.array([row.instance_id for row in rows], np.int64)
        boxes = np.array([row.box for row in rows], np.float32).reshape(-1, 4)
        frames.append(FrameTracks(ids, boxes, np.ones(len(rows), np.float32), np.zeros(len(rows), np.int64)))
    return frames
