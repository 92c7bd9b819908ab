"""`qdtrack evaluate`: tracks against ground truth."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from qdtrack_ros import __version__
from qdtrack_ros.cli.options import add_model_options, overrides, positive, share
from qdtrack_ros.files import check_writable

if TYPE_CHECKING:
    from qdtrack_ros.cli.ground_truth import Job, Source
    from qdtrack_ros.cli.offline import Recording
    from qdtrack_ros.cli.protocols import Figures
    from qdtrack_ros.cli.record import Model, Recorded
    from qdtrack_ros.evaluation.report.page import Scene
    from qdtrack_ros.inference.presets import Preset

RESULTS, PAGE = "results.json", "report.html"  # in the folder of --report

_EPILOG = """Examples:
  qdtrack evaluate MOT17-09-FRCNN/                         a MOTChallenge folder brings its ground truth
  qdtrack evaluate MOT17-02-FRCNN/ MOT17-04-FRCNN/ --report report/
  qdtrack evaluate recording/ --gt gt.txt --json results.json
  qdtrack evaluate MOT17-09-FRCNN/ --mot tracks.txt        tracks made earlier, by any tracker
  qdtrack evaluate drive1/ drive2/ --gt-topic /truth --jobs 2
  qdtrack evaluate images/track/val --gt labels/box_track_20/val --weights bdd100k-r50
  qdtrack evaluate waymo/validation --sequences '*/FRONT' --preset waymo --weights waymo.safetensors
  qdtrack evaluate TAO/frames --gt TAO/annotations/validation.json --weights tao-r101

Ground truth: MOTChallenge (gt.txt, or the folder of a sequence), a KITTI label file, BDD100K (a JSON file, or a folder
of them), TAO, CocoVID or Label Studio JSON, Waymo (Perception v2, brings its own), or a bag with
vision_msgs/Detection2DArray. For BDD100K, TAO, CocoVID and Waymo, SOURCE is the folder that the pictures' names start
from, for Label Studio that of the videos. Evaluated are the classes of the ground truth that the preset has.
Figures are TrackEval's (Waymo's: Waymo's own): docs/evaluation.md.
Ctrl-C ends the tracking; figures are then of the sequences that were finished.
exit codes: 0 done; 1 failed, with one line that says what to do; 2 wrong usage; 130 interrupted"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = _EPILOG
    add_truth_options(parser)
    mot_help = "evaluate these tracks, of pedestrians, instead of tracking; once for each sequence"
    parser.add_argument("--mot", type=Path, action="append", metavar="FILE", help=mot_help)
    report_help = "write report.html, to be looked at, and results.json to this folder"
    parser.add_argument("--report", type=Path, metavar="FOLDER", help=report_help)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write results.json, under this name")
    parser.add_argument("--trackeval", action="store_true", help="compute the figures with TrackEval, too, and compare")
    add_parallel_options(parser)
    add_model_options(parser)


def add_parallel_options(parser: argparse.ArgumentParser) -> None:
    """How many sources at a time, and where."""
    jobs_help = "sequences tracked at a time, each in a process of its own (default: %(default)s)"
    parser.add_argument("--jobs", type=positive, default=1, metavar="N", help=jobs_help)
    ray_help = "track each sequence as a task of a Ray cluster: HOST:PORT, ray://HOST:PORT, or auto"
    parser.add_argument("--ray", metavar="ADDRESS", help=ray_help)
    gpus_help = "GPUs that a Ray task claims; 0.5 lets two share one (default: 1 where the cluster has any)"
    parser.add_argument("--ray-gpus", type=share, metavar="N", help=gpus_help)
    threads_help = "cores for each sequence (default: all of this machine's, divided by --jobs)"
    parser.add_argument("--threads", type=positive, metavar="N", help=threads_help)


def add_truth_options(parser: argparse.ArgumentParser) -> None:
    """Sources and their ground truth."""
    source_help = "as for `qdtrack track`, not a live one; or the folder of a benchmark's pictures"
    parser.add_argument("sources", nargs="+", metavar="SOURCE", help=source_help)
    gt_help = (
        "ground truth: file, folder or bag, see `qdtrack evaluate --help` (default: the source's own); once for each "
        "source, in their order"
    )
    parser.add_argument("--gt", type=Path, action="append", help=gt_help)
    topic_help = "ground truth is this topic of boxes, in the bag of --gt or else in SOURCE (default: the only one)"
    parser.add_argument("--gt-topic", metavar="TOPIC", help=topic_help)
    names_help = "of ground truth of many videos, those named like this"
    parser.add_argument("--sequences", default="*", metavar="PATTERN", help=names_help)
    parser.add_argument("--topic", help="images of a bag (default: its only image topic)")
    parser.add_argument(
        "--max-frames", type=positive, metavar="N", help="take the first N frames of each sequence only"
    )


class Failure(NamedTuple):
    """A source that could not be evaluated, and why, in one line."""

    source: str
    error: str


def run(arguments: argparse.Namespace) -> int:
    """Evaluate sources."""
    from qdtrack_ros.cli.main import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_OK
    from qdtrack_ros.cli.protocols import measure_of
    from qdtrack_ros.cli.record import read_result_files

    for path in output_files(arguments):
        check_writable(path)
    sources = sources_of(arguments)
    jobs, failures = open_all(sources, strict=len(sources) == 1 or arguments.mot is not None)
    is_right, is_interrupted = True, False
    if jobs:
        measure = measure_of(jobs)
        check_options(arguments, jobs)
        if arguments.mot is not None:
            recorded = read_result_files(arguments.mot, jobs)
        else:
            recorded = record_all(arguments, jobs, failures)
        is_interrupted = recorded.is_interrupted
        if recorded.jobs:
            figures = measure(recorded.jobs, recorded.recordings, recorded.labels)
            is_right = show(arguments, recorded, figures, failures)
    for failure in failures:
        print(f"qdtrack evaluate: error: {failure.source} is left out: {failure.error}", file=sys.stderr)
    if is_interrupted:
        return EXIT_INTERRUPTED
    return EXIT_OK if is_right and not failures else EXIT_FAILED


def output_files(arguments: argparse.Namespace) -> list[Path]:
    """The files that will be written."""
    report = [] if arguments.report is None else [arguments.report / RESULTS, arguments.report / PAGE]
    return report if arguments.json is None else [arguments.json, *report]


def sources_of(arguments: argparse.Namespace) -> list[Source]:
    """The sources, each with its ground truth.

    Raises:
        DataError: `--gt` is neither given once for each nor never.
    """
    from qdtrack_ros.cli.ground_truth import Source

    check_one_each("--gt", arguments.gt, len(arguments.sources), "sources")
    truths = arguments.gt or [None] * len(arguments.sources)
    options = (arguments.topic, arguments.gt_topic, arguments.sequences, arguments.max_frames)
    return [Source(source, truth, *options) for source, truth in zip(arguments.sources, truths, strict=True)]


def check_one_each(option: str, values: Sequence[Path] | None, count: int, what: str) -> None:
    """Raise DataError unless the option was given once for each, or never."""
    from qdtrack_ros.data.types import DataError

    if values is not None and len(values) != count:
        raise DataError(f"{option} is given {len(values)} times for {count} {what}; give it once for each, or never")


def open_all(sources: Sequence[Source], strict: bool) -> tuple[list[Job], list[Failure]]:
    """Open sources; errors are gathered where there are several sources, and raised if ``strict``."""
    from qdtrack_ros.cli.ground_truth import numbered, open_jobs
    from qdtrack_ros.cli.main import is_expected

    jobs, failures = [], []
    for source in sources:
        try:
            jobs += open_jobs(source)
        except Exception as error:
            if strict or not is_expected(error):
                raise
            failures.append(failure_of(source, str(error)))
    return numbered(jobs), failures


def failure_of(source: Source, error: str) -> Failure:
    """A failure; of a long error the first line."""
    return Failure(str(source), error.partition("\n")[0])


def check_options(arguments: argparse.Namespace, jobs: Sequence[Job]) -> None:
    """Refuse, before the work, what these sources or this machine cannot give.

    Raises:
        DataError: options and sources do not fit, or ground truth lacks identities.
        ImportError: what the report or TrackEval's check needs is not installed.
    """
    from qdtrack_ros.cli.protocols import check_boxes, check_truths
    from qdtrack_ros.evaluation.cross_check import require_trackeval
    from qdtrack_ros.evaluation.report.page import require_page_packages

    check_one_each("--mot", arguments.mot, len(jobs), "sequences")
    check_truths(jobs)
    if arguments.report is not None:
        check_boxes(jobs, "--report")
        require_page_packages()
    if arguments.trackeval:
        check_boxes(jobs, "--trackeval")
        require_trackeval()


def record_all(arguments: argparse.Namespace, jobs: Sequence[Job], failures: list[Failure]) -> Recorded:
    """Track every sequence; adds those that fail, and those that Ctrl-C came before, to ``failures``."""
    from qdtrack_ros.cli.ground_truth import open_jobs
    from qdtrack_ros.cli.record import Recorded, gather, label_indices
    from qdtrack_ros.inference.presets import load_preset

    preset = load_preset(arguments.preset, overrides(arguments.set), arguments.weights)
    wanted = label_indices([job.benchmark for job in jobs], preset.labels, f"preset {preset.name}")
    model = model_of(arguments, preset)
    found = gather(jobs, open_jobs, model, wanted, arguments.jobs, arguments.ray)
    for place, job in enumerate(jobs):
        if place not in found.recordings:
            failures.append(failure_of(job.source, found.errors.get(place, "interrupted")))
    recordings = [recording for _, recording in sorted(found.recordings.items())]
    made_by: dict[str, Any] = {
        "preset": preset.name,
        "weights": arguments.weights or preset.weights,
        "settings": overrides(arguments.set),
        "threads": model.threads,
        "engine": found.engine,
        "model_id": found.model_id,
        "frames_dropped": dict(sum((one.dropped for one in recordings), Counter())),
        "frames_per_second": round(frames_per_second(recordings), 2),
    }
    tracked = [jobs[place] for place in sorted(found.recordings)]
    return Recorded(tracked, recordings, preset.labels, made_by, found.is_interrupted)


def model_of(arguments: argparse.Namespace, preset: Preset) -> Model:
    """What tracks, as the options have it."""
    import torch

    from qdtrack_ros.cli.record import Model

    threads = arguments.threads or max(1, torch.get_num_threads() // arguments.jobs)
    where = (arguments.device, arguments.engine, arguments.precision)
    return Model(preset, arguments.weights, *where, threads, arguments.ray_gpus)


def frames_per_second(recordings: Sequence[Recording]) -> float:
    """Frames tracked per second of work, of one process."""
    processed = sum(one is not None for recording in recordings for one in recording.times)
    return processed / max(sum(recording.seconds for recording in recordings), 1e-9)


def show(arguments: argparse.Namespace, recorded: Recorded, figures: Figures, failures: Sequence[Failure]) -> bool:
    """Print the figures and write the files; False when TrackEval has others."""
    from qdtrack_ros.evaluation.results import results_head, write_results

    for job in recorded.jobs:
        if len(job.labelled) < job.count:
            left_out = f"{job.count - len(job.labelled)} of {job.count} pictures are not labelled"
            print(f"{job.sequence.name}: {left_out}: they are tracked, but left out of the figures")
    print(figures.table)
    faults = trackeval_faults(figures.scenes) if arguments.trackeval else []
    if arguments.trackeval:
        rows = "1 row" if len(figures.scenes) == 1 else f"{len(figures.scenes)} rows"
        print("\n".join(faults) or f"TrackEval agrees in every field of {rows}")
    facts = {
        "qdtrack_ros": __version__,
        "benchmark": ", ".join(dict.fromkeys(job.benchmark.name for job in recorded.jobs)),
        **recorded.made_by,
        "frames": sum(len(job.labelled) for job in recorded.jobs),
        "frames_not_labelled": sum(job.count - len(job.labelled) for job in recorded.jobs),
        "failed": [failure._asdict() for failure in failures],
        "trackeval": ("disagrees" if faults else "agrees") if arguments.trackeval else None,
        **figures.content,
    }
    evaluated = [scene.evaluated for scene in figures.scenes]
    head = results_head(evaluated, facts)
    if arguments.json is not None:
        write_results(arguments.json, head, evaluated)
        print(f"figures: {arguments.json}")
    if arguments.report is not None:
        from qdtrack_ros.evaluation.report.page import write_report

        write_results(arguments.report / RESULTS, head, evaluated)
        write_report(arguments.report / PAGE, figures.scenes, head)
        print(f"report: {arguments.report / PAGE}")
    return not faults


def trackeval_faults(scenes: Sequence[Scene]) -> list[str]:
    """Where TrackEval's figures are others than ours, a line for each sequence or class."""
    from qdtrack_ros.evaluation.cross_check import DisagreementError, check_against_trackeval

    faults = []
    for scene in scenes:
        one = scene.evaluated
        try:
            check_against_trackeval(one.name, one.frames, one.result.fields)
        except DisagreementError as error:
            faults.append(f"TrackEval disagrees: {error}")
    return faults
