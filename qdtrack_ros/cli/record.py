"""Tracking of sources for an evaluation: here one after the other, in processes, or on a cluster."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from tqdm import tqdm

from qdtrack_ros.cli.ground_truth import Job, OpenedSource, Source, open_jobs
from qdtrack_ros.cli.main import is_expected
from qdtrack_ros.cli.offline import Recording, first_frames, track_frames
from qdtrack_ros.cli.parallel import Outcome, run_in_processes, run_on_ray
from qdtrack_ros.inference import engine as engines
from qdtrack_ros.inference.presets import Preset
from qdtrack_ros.inference.types import Engine


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
