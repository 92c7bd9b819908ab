"""`qdtrack evaluate`: tracks against ground truth."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from qdtrack_ros import __version__
from qdtrack_ros.cli.options import add_model_options, overrides, positive
from qdtrack_ros.files import check_writable, replacing

if TYPE_CHECKING:
    from qdtrack_ros.cli.offline import FrameTracks, Recording
    from qdtrack_ros.data.types import Annotation
    from qdtrack_ros.data.types import Sequence as FrameSequence
    from qdtrack_ros.evaluation.metrics import Metrics
    from qdtrack_ros.evaluation.results import EvaluatedSequence
    from qdtrack_ros.evaluation.rules import TruthRules

# Labels of ours that mean what the ground truth's classes mean.
PEDESTRIAN_LABELS = ("pedestrian", "person")
_KITTI_COLUMNS = 17
RATES = ("MOTA", "IDF1", "HOTA", "DetA", "AssA", "MOTP", "IDP", "IDR")
RESULTS, PAGE = "results.json", "report.html"  # in the folder of --report
COUNTS = ("IDs", "Frag", "FP", "FN", "MT", "ML", "GT")

_EPILOG = """Examples:
  qdtrack evaluate MOT17-09-FRCNN/                         a MOTChallenge folder brings its ground truth
  qdtrack evaluate MOT17-02-FRCNN/ MOT17-04-FRCNN/ --report report/
  qdtrack evaluate recording/ --gt gt.txt --json results.json
  qdtrack evaluate MOT17-09-FRCNN/ --mot tracks.txt        tracks made earlier, by any tracker

Ground truth: MOTChallenge gt.txt (or the folder of a sequence), or a KITTI label file (class Pedestrian).
Figures are TrackEval's: IoU 0.5, MOTChallenge's rules for distractors; HOTA is a mean over 19 thresholds.
exit codes: 0 done; 1 failed, with one line that says what to do; 2 wrong usage; 130 interrupted"""


class Truth(NamedTuple):
    """Ground truth: annotations of every frame, and what of them counts."""

    annotations: Sequence[Sequence[Annotation]]
    rules: TruthRules


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = _EPILOG
    parser.add_argument("sources", nargs="+", metavar="SOURCE", help="as for `qdtrack track`; not a live one")
    gt_help = (
        "ground truth file or MOTChallenge folder (default: the source's own); once for each source, in their order"
    )
    parser.add_argument("--gt", type=Path, action="append", help=gt_help)
    mot_help = "evaluate these tracks instead of tracking; once for each source"
    parser.add_argument("--mot", type=Path, action="append", metavar="FILE", help=mot_help)
    report_help = "write report.html, to be looked at, and results.json to this folder"
    parser.add_argument("--report", type=Path, metavar="FOLDER", help=report_help)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write results.json, under this name")
    parser.add_argument("--topic", help="images of a bag (default: its only image topic)")
    parser.add_argument("--max-frames", type=positive, metavar="N", help="evaluate the first N frames only")
    add_model_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Evaluate sources."""
    from qdtrack_ros.evaluation.metrics import combine
    from qdtrack_ros.evaluation.results import results_content, write_results

    for path in output_files(arguments):
        check_writable(path)
    jobs = open_jobs(arguments.sources, arguments.gt, arguments.topic, arguments.max_frames)
    if arguments.mot is not None:
        recordings, made_by = read_recordings(arguments.mot, jobs)
    else:
        recordings, made_by = record(arguments, jobs)
    evaluated = [evaluate(job, recording) for job, recording in zip(jobs, recordings, strict=True)]
    rows = [(one.name, one.result.metrics) for one in evaluated]
    if len(evaluated) > 1:
        rows.append(("combined", combine([one.result for one in evaluated]).metrics))
    print(table(rows))
    content = results_content(evaluated, {"qdtrack_ros": __version__, **made_by})
    if arguments.json is not None:
        write_results(arguments.json, content)
        print(f"figures: {arguments.json}")
    if arguments.report is not None:
        from qdtrack_ros.evaluation.report.page import Scene, write_report

        scenes = [
            Scene(one, job.sequence, job.truth.annotations, recording.tracks)
            for one, job, recording in zip(evaluated, jobs, recordings, strict=True)
        ]
        write_results(arguments.report / RESULTS, content)
        write_report(arguments.report / PAGE, scenes, content)
        print(f"report: {arguments.report / PAGE}")
    return 0


@dataclass(frozen=True)
class Job:
    """A source to be evaluated: its first ``count`` frames."""

    source: str
    sequence: FrameSequence
    truth: Truth
    count: int


def output_files(arguments: argparse.Namespace) -> list[Path]:
    """The files that will be written."""
    report = [] if arguments.report is None else [arguments.report / RESULTS, arguments.report / PAGE]
    return report if arguments.json is None else [arguments.json, *report]


def open_jobs(sources: Sequence[str], truths: Sequence[Path] | None, topic: str | None, limit: int | None) -> list[Job]:
    """Open sources with their ground truth; sequences of one name are numbered.

    Args:
        sources: whatever ``open_source`` takes.
        truths: one for each source; None takes the annotations that they bring.
        topic: images of bags.
        limit: frames of each source; None takes all.

    Raises:
        DataError: one of them cannot be had.
    """
    from qdtrack_ros.cli.track import frame_count
    from qdtrack_ros.data.sources import open_source
    from qdtrack_ros.data.types import DataError

    check_one_each("--gt", truths, len(sources))
    jobs: list[Job] = []
    names: Counter[str] = Counter()
    for place, source in enumerate(sources):
        sequence = open_source(source, topic)
        if frame_count(sequence, None) is None:
            raise DataError(f"{source} is live; record it first, then evaluate the recording")
        count = frame_count(sequence, limit) or 0
        truth = read_truth(truths[place] if truths else None, sequence)
        names[sequence.name] += 1
        if names[sequence.name] > 1:
            sequence = replace(sequence, name=f"{sequence.name} ({names[sequence.name]})")
        jobs.append(Job(source, sequence, Truth(truth.annotations[:count], truth.rules), count))
    return jobs


def check_one_each(option: str, values: Sequence[Path] | None, count: int) -> None:
    """Raise DataError unless the option was given once for each source, or never."""
    from qdtrack_ros.data.types import DataError

    if values is not None and len(values) != count:
        raise DataError(f"{option} is given {len(values)} times for {count} sources; give it once for each, or never")


def evaluate(job: Job, recording: Recording) -> EvaluatedSequence:
    """Hold a recording against its ground truth."""
    import numpy as np

    from qdtrack_ros.cli.offline import StageTimes
    from qdtrack_ros.evaluation.detection import match_detections
    from qdtrack_ros.evaluation.metrics import evaluate_frames, prepare_frames
    from qdtrack_ros.evaluation.results import EvaluatedSequence, truth_fingerprint

    annotations, rules = job.truth.annotations, job.truth.rules
    frames = prepare_frames(annotations, recording.tracks, rules, job.sequence.name)
    detections, times = None, {}
    if recording.detections is not None:
        detections = match_detections(annotations, recording.detections, rules=rules)
        left_out = [np.nan] * len(StageTimes._fields)
        milliseconds = np.array([left_out if one is None else one for one in recording.times], np.float64)
        times = dict(zip(StageTimes._fields, milliseconds.reshape(-1, len(left_out)).T, strict=True))
    truth = truth_fingerprint(annotations, rules)
    return EvaluatedSequence(job.source, truth, frames, evaluate_frames(frames, job.sequence.name), detections, times)


def read_truth(path: Path | None, sequence: FrameSequence) -> Truth:
    """Ground truth of a sequence.

    Args:
        path: file, or MOTChallenge folder; None takes the annotations that the sequence brings.
        sequence: the source.

    Raises:
        DataError: there is none, or it is faulty.
    """
    from qdtrack_ros.data.kitti import read_kitti_annotations
    from qdtrack_ros.data.mot import read_mot_annotations
    from qdtrack_ros.data.types import DataError
    from qdtrack_ros.evaluation.rules import KITTI_PEDESTRIAN_RULES, mot_rules

    count = len(sequence.frames)
    if path is None:
        own = [frame.annotations for frame in sequence.frames]
        if not any(own):
            raise DataError(f"{sequence.name} brings no ground truth; name a gt.txt or label file with --gt")
        return Truth(own, mot_rules(sequence.name))
    if path.is_dir():
        path = path / "gt" / "gt.txt"
    if not path.is_file():
        raise DataError(f"{path}: no such file; expected MOTChallenge ground truth or a KITTI label file")
    first = path.read_text(encoding="utf-8", errors="replace").partition("\n")[0]
    if "," not in first and len(first.split()) >= _KITTI_COLUMNS:
        return Truth(read_kitti_annotations(path, count), KITTI_PEDESTRIAN_RULES)
    benchmark = next((name for name in path.resolve().parts if name.upper().startswith("MOT20")), sequence.name)
    return Truth(read_mot_annotations(path, count), mot_rules(benchmark))


def read_tracks(path: Path, count: int) -> list[FrameTracks]:
    """Tracks of `count` frames from a result file in MOTChallenge format.

    Raises:
        DataError: the file is missing or has faulty rows.
    """
    import numpy as np

    from qdtrack_ros.cli.offline import FrameTracks
    from qdtrack_ros.data.mot import read_mot_annotations

    frames = []
    for rows in read_mot_annotations(path, count):
        ids = np.array([row.instance_id for row in rows], np.int64)
        boxes = np.array([row.box for row in rows], np.float32).reshape(-1, 4)
        frames.append(FrameTracks(ids, boxes, np.ones(len(rows), np.float32), np.zeros(len(rows), np.int64)))
    return frames


def read_recordings(paths: Sequence[Path], jobs: Sequence[Job]) -> tuple[list[Recording], dict[str, Any]]:
    """Tracks of every source from its result file, and where they came from."""
    from qdtrack_ros.cli.offline import Recording

    check_one_each("--mot", paths, len(jobs))
    recordings = []
    for path, job in zip(paths, jobs, strict=True):
        tracks = read_tracks(path, len(job.sequence.frames))[: job.count]
        recordings.append(Recording(tracks, None, [None] * job.count, Counter(), 0.0))
    return recordings, {"tracks": [str(path) for path in paths]}


def record(arguments: argparse.Namespace, jobs: Sequence[Job]) -> tuple[list[Recording], dict[str, Any]]:
    """Track every source; gives the tracks of pedestrians and what made them."""
    from qdtrack_ros.cli.offline import first_frames, track_frames
    from qdtrack_ros.inference.engine import create_engine, opened
    from qdtrack_ros.inference.presets import load_preset

    preset = load_preset(arguments.preset, overrides(arguments.set), arguments.weights)
    wanted = pedestrian_labels(preset.name, preset.labels)
    with opened(create_engine(preset, arguments.weights, arguments.device, arguments.engine)) as engine:
        engine.warmup()
        recordings = [
            track_frames(engine, preset.association, first_frames(job.sequence, job.count), job.count, wanted)
            for job in jobs
        ]
        made_by = {
            "preset": preset.name,
            "weights": arguments.weights or preset.weights,
            "settings": overrides(arguments.set),
            "engine": engine.name,
            "model_id": engine.model_id,
            "frames_dropped": dict(sum((one.dropped for one in recordings), Counter())),
            "frames_per_second": round(frames_per_second(recordings), 2),
        }
    return recordings, made_by


def frames_per_second(recordings: Sequence[Recording]) -> float:
    """Frames tracked per second of work."""
    processed = sum(one is not None for recording in recordings for one in recording.times)
    return processed / max(sum(recording.seconds for recording in recordings), 1e-9)


def pedestrian_labels(name: str, labels: Sequence[str]) -> list[int]:
    """Indices of the labels that ground truth of pedestrians is about.

    Raises:
        ConfigurationError: the preset has none.
    """
    from qdtrack_ros.configuration import ConfigurationError

    wanted = [index for index, label in enumerate(labels) if label.lower() in PEDESTRIAN_LABELS]
    if not wanted:
        found, known = ", ".join(labels), " or ".join(PEDESTRIAN_LABELS)
        raise ConfigurationError(f"preset {name} has the labels {found}; to evaluate pedestrians it needs {known}")
    return wanted


def table(rows: Sequence[tuple[str, Metrics]]) -> str:
    """The figures as text, one line a sequence; rates in percent."""
    columns = (*RATES, *COUNTS)
    width = max([len("sequence"), *(len(name) for name, _ in rows)])
    lines = [f"{'sequence':{width}}" + "".join(f"{column:>7}" for column in columns)]
    for name, m in rows:
        rates = (m.mota, m.idf1, m.hota, m.deta, m.assa, m.motp, m.idp, m.idr)
        counts = (m.id_switches, m.fragmentations, m.false_positives, m.false_negatives)
        ends = (m.mostly_tracked, m.mostly_lost, m.truth_boxes)
        cells = [f"{100 * rate:7.2f}" for rate in rates] + [f"{number:7d}" for number in (*counts, *ends)]
        lines.append(f"{name:{width}}" + "".join(cells))
    return "\n".join(lines)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON file; it holds the old content or the new one, never half."""
    text = json.dumps(content, indent=2) + "\n"
    with replacing(path) as file:
        file.write(text.encode())
