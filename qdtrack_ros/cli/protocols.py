"""How tracks are measured for each format of ground truth: which classes there are, and which figures come out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from qdtrack_ros.cli.offline import Recording, StageTimes
from qdtrack_ros.data.types import DataError
from qdtrack_ros.evaluation.detection import match_detections
from qdtrack_ros.evaluation.metrics import (
    Metrics,
    check_truth,
    combine,
    combine_classes,
    evaluate_frames,
    prepare_frames,
)
from qdtrack_ros.evaluation.report.page import Scene
from qdtrack_ros.evaluation.results import EvaluatedSequence, truth_fingerprint
from qdtrack_ros.evaluation.rules import BDD100K, KITTI, Benchmark, TruthRules, mot_benchmark, open_benchmark, together
from qdtrack_ros.evaluation.track_ap import LabelledVideo, track_average_precision
from qdtrack_ros.evaluation.waymo import WAYMO, CameraVideo, waymo_metrics

if TYPE_CHECKING:
    from qdtrack_ros.cli.ground_truth import Job

BAG = "bag"  # ground truth that is a topic of boxes
RATES = ("MOTA", "IDF1", "HOTA", "DetA", "AssA", "MOTP", "IDP", "IDR")
COUNTS = ("IDs", "Frag", "FP", "FN", "MT", "ML", "GT")
_AREAS = ("all", "area_s", "area_m", "area_l")


class Figures(NamedTuple):
    """What came of an evaluation.

    Attributes:
        table: for the terminal.
        content: for results.json, beside what is there for each scene.
        scenes: every sequence, and of several classes every sequence and class; none where HOTA, CLEAR and Identity are
            not what the benchmark measures.
    """

    table: str
    content: dict[str, Any]
    scenes: list[Scene]


Measure = Callable[[Sequence["Job"], Sequence[Recording], Sequence[str]], Figures]


class Protocol(NamedTuple):
    """How a format is evaluated.

    Attributes:
        benchmark: its classes, given the name of the ground truth and the labels that occur in it.
        measure: figures of sequences, their recordings and the labels of these.
    """

    benchmark: Callable[[str, Iterable[str]], Benchmark]
    measure: Measure


def measure_boxes(jobs: Sequence[Job], recordings: Sequence[Recording], labels: Sequence[str]) -> Figures:
    """HOTA, CLEAR and Identity: a row a sequence, or, where there are several classes, a row a class."""
    known = [job.benchmark.known_to(labels) for job in jobs]
    benchmark = together(known)
    videos: list[dict[str, Scene]] = [{} for _ in jobs]
    for scenes, job, recording, own in zip(videos, jobs, recordings, known, strict=True):
        for name, rules in own.classes.items():
            title = job.sequence.name if len(benchmark.classes) == 1 else f"{job.sequence.name}, {name}"
            part = recording.part(job.labelled, rules.indices(labels))
            if scenes:  # times are of the sequence, not of a class
                part = part._replace(times=[])
            scenes[name] = evaluate(job, part, rules, title)
    scenes_of_all = [scene for scenes in videos for scene in scenes.values()]
    if len(benchmark.classes) == 1:
        results = [scene.evaluated.result for scene in scenes_of_all]
        rows = {result.name: result.metrics for result in results}
        if len(results) > 1:
            rows["combined"] = combine(results).metrics
        return Figures(table("sequence", rows), {}, scenes_of_all)
    found = [{name: scene.evaluated.result for name, scene in scenes.items()} for scenes in videos]
    rows = {name: result.metrics for name, result in combine_classes(found, benchmark).items()}
    classes = {name: metrics._asdict() for name, metrics in rows.items()}
    return Figures(table("class", rows), {"classes": classes}, scenes_of_all)


def evaluate(job: Job, recording: Recording, rules: TruthRules, name: str) -> Scene:
    """Hold tracks of one class in the labelled pictures against the ground truth."""
    frames = prepare_frames(job.annotations, recording.tracks, rules, name)
    detections, times = None, {}
    if recording.detections is not None:
        detections = match_detections(job.annotations, recording.detections, rules=rules)
    if recording.detections is not None and recording.times:
        left_out = [np.nan] * len(StageTimes._fields)
        milliseconds = np.array([left_out if one is None else one for one in recording.times], np.float64)
        times = dict(zip(StageTimes._fields, milliseconds.reshape(-1, len(left_out)).T, strict=True))
    truth = truth_fingerprint(job.annotations, rules)
    evaluated = EvaluatedSequence(
        job.source.path, job.sequence.name, truth, frames, evaluate_frames(frames, name), detections, times
    )
    return Scene(evaluated, job.labelled_sequence, job.annotations, recording.tracks)


def measure_track_ap(jobs: Sequence[Job], recordings: Sequence[Recording], labels: Sequence[str]) -> Figures:
    """TAO's track AP: a row a class that has true tracks, and their mean."""
    names = names_of_classes(together([job.benchmark for job in jobs]), labels)
    videos = [
        LabelledVideo(job.annotations, job.of_labelled(recording.tracks), job.sequence.coverage)
        for job, recording in zip(jobs, recordings, strict=True)
    ]
    found = track_average_precision(videos, names)
    rows = {**found.classes, "mean": found.mean}
    columns = ("AP50", "AP75", *(f"AP {area}" for area in _AREAS), "AR all")
    cells = {}
    for name, fields in rows.items():
        means = [fields[f"AP_{area}"].mean() for area in _AREAS]
        values = (fields["AP_all"][0], fields["AP_all"][5], *means, fields["AR_all"].mean())
        cells[name] = ["-" if value < 0 else _percent(value) for value in values]
    content = {name: {field: values.tolist() for field, values in fields.items()} for name, fields in rows.items()}
    return Figures(_table("class", columns, cells), {"track_ap": content}, [])


def measure_waymo(jobs: Sequence[Job], recordings: Sequence[Recording], labels: Sequence[str]) -> Figures:
    """Waymo's figures: a row a class and level."""
    names = names_of_classes(WAYMO, labels)
    videos = [
        CameraVideo(job.annotations, job.of_labelled(recording.tracks))
        for job, recording in zip(jobs, recordings, strict=True)
    ]
    found = waymo_metrics(videos, names)
    kept = {name: found[name] for name in WAYMO.known_to(labels).classes}
    columns = ("MOTA", "MOTP", "miss", "mismatch", "FP", "cutoff", "objects")
    cells = {}
    for name, levels in kept.items():
        for level, row in levels.items():
            rates = (row.mota, row.motp, row.miss, row.mismatch, row.false_positive)
            cells[f"{name} L{level}"] = [*map(_percent, rates), f"{row.score_cutoff:.2f}", str(row.objects)]
    content = {
        name: {f"level {level}": row._asdict() for level, row in levels.items()} for name, levels in kept.items()
    }
    return Figures(_table("class", columns, cells), {"waymo": content}, [])


def names_of_classes(benchmark: Benchmark, labels: Sequence[str]) -> list[str]:
    """The labels, by the benchmark's names where they mean one of its classes."""
    names = list(labels)
    for name, rules in benchmark.classes.items():
        for index in rules.indices(labels):
            names[index] = name
    return names


# The one place where a format of ground truth (data/formats.py, or BAG) meets how it is evaluated.
PROTOCOLS: Mapping[str, Protocol] = {
    "mot": Protocol(
        lambda name, labels: open_benchmark(name, own) if (own := set(labels)) else mot_benchmark(name), measure_boxes
    ),
    "kitti": Protocol(lambda *_: KITTI, measure_boxes),
    "bdd100k": Protocol(lambda *_: BDD100K, measure_boxes),
    "cocovid": Protocol(open_benchmark, measure_boxes),
    "label_studio": Protocol(open_benchmark, measure_boxes),
    BAG: Protocol(lambda _, labels: open_benchmark("boxes of a bag", labels), measure_boxes),
    "tao": Protocol(lambda _, labels: open_benchmark("TAO", labels), measure_track_ap),
    "waymo": Protocol(lambda *_: WAYMO, measure_waymo),
}


def measure_of(jobs: Sequence[Job]) -> Measure:
    """How all of these are measured.

    Raises:
        DataError: they are measured in different ways.
    """
    measures = {PROTOCOLS[job.format].measure for job in jobs}
    if len(measures) > 1:
        formats = ", ".join(sorted({job.format for job in jobs}))
        raise DataError(f"the sources are of {formats}, which have no figures in common; evaluate them one by one")
    return measures.pop()


def check_truths(jobs: Sequence[Job]) -> None:
    """Refuse ground truth that HOTA, CLEAR and Identity cannot be computed of, before anything is tracked.

    Raises:
        DataError: a counted box without identity, or an identity twice in a picture.
    """
    if measure_of(jobs) is measure_boxes:
        for job in jobs:
            for rules in job.benchmark.classes.values():
                check_truth(job.annotations, rules, job.sequence.name)


def check_boxes(jobs: Sequence[Job], what: str) -> None:
    """Refuse sources without HOTA, CLEAR and Identity, which `what` is about."""
    if measure_of(jobs) is not measure_boxes:
        name = jobs[0].benchmark.name
        raise DataError(f"{what} is about HOTA, CLEAR and Identity, by which {name} is not measured; see --json")


def table(heading: str, rows: Mapping[str, Metrics]) -> str:
    """The figures as text, one line a row; rates in percent."""
    cells = {}
    for name, m in rows.items():
        rates = (m.mota, m.idf1, m.hota, m.deta, m.assa, m.motp, m.idp, m.idr)
        counts = (m.id_switches, m.fragmentations, m.false_positives, m.false_negatives)
        ends = (m.mostly_tracked, m.mostly_lost, m.truth_boxes)
        cells[name] = [*map(_percent, rates), *map(str, (*counts, *ends))]
    return _table(heading, (*RATES, *COUNTS), cells)


def _percent(rate: float) -> str:
    return f"{100 * rate:.2f}"


def _table(heading: str, columns: Sequence[str], rows: Mapping[str, Sequence[str]]) -> str:
    first = max(len(name) for name in (heading, *rows))
    widths = [max(6, *map(len, column)) + 1 for column in zip(columns, *rows.values(), strict=True)]
    return "\n".join(
        f"{name:{first}}" + "".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True))
        for name, cells in {heading: columns, **rows}.items()
    )
