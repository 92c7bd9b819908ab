"""`qdtrack tune`: association settings for one's own data; the network runs once, its detections are kept."""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from qdtrack_ros.cli.evaluate import add_truth_options
from qdtrack_ros.cli.options import add_model_options, make_engine, overrides, positive

if TYPE_CHECKING:
    from qdtrack_ros.cli.ground_truth import Job
    from qdtrack_ros.cli.offline import FrameTracks
    from qdtrack_ros.data.types import Frame, Image
    from qdtrack_ros.evaluation.metrics import SequenceResult
    from qdtrack_ros.evaluation.tuning import Outcome
    from qdtrack_ros.inference.presets import Preset
    from qdtrack_ros.inference.types import Detections, Engine
    from qdtrack_ros.tracking import TrackerConfig

OBJECTIVES = ("HOTA", "IDF1", "MOTA", "AssA")

_EPILOG = """Examples:
  qdtrack tune MOT17-09-FRCNN/ MOT17-11-FRCNN/
  qdtrack tune recording/ --gt gt.txt --objective IDF1 --trials 200
  qdtrack tune MOT17-09-FRCNN/ --search match_score memory_frames spatial_gate

Tune on other sequences than those that you measure on. Detections are kept in the cache folder ($QDTRACK_CACHE): a
second search starts at once. Ctrl-C ends the search with the best settings so far.
exit codes: 0 done; 1 failed, with one line that says what to do; 2 wrong usage; 130 interrupted"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = _EPILOG
    add_truth_options(parser)
    parser.add_argument("--objective", choices=OBJECTIVES, default="HOTA", help="what to raise (default: %(default)s)")
    parser.add_argument("--trials", type=positive, default=100, help="settings to try (default: %(default)s)")
    search_help = "settings to search (default: all of the paper's method)"
    parser.add_argument("--search", nargs="+", metavar="NAME", help=search_help)
    parser.add_argument("--seed", type=int, default=0, help="of the search (default: %(default)s)")
    add_model_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Search, and print what was found."""
    from tqdm import tqdm

    from qdtrack_ros.cli.evaluate import sources_of
    from qdtrack_ros.cli.ground_truth import open_jobs
    from qdtrack_ros.cli.main import EXIT_INTERRUPTED, EXIT_OK
    from qdtrack_ros.cli.protocols import check_boxes, check_truths, table
    from qdtrack_ros.cli.record import label_indices
    from qdtrack_ros.evaluation.tuning import search, searched_settings
    from qdtrack_ros.inference.presets import load_preset

    preset = load_preset(arguments.preset, overrides(arguments.set), arguments.weights)
    ranges = searched_settings(preset.association, arguments.search)
    jobs = [job for source in sources_of(arguments) for job in open_jobs(source)]
    check_boxes(jobs, "tuning")
    check_truths(jobs)
    label_indices([job.benchmark for job in jobs], preset.labels, f"preset {preset.name}")
    material = record_material(arguments, preset, jobs)

    def score(config: TrackerConfig) -> float:
        return float(getattr(result_of(material, config, preset.labels).metrics, arguments.objective.lower()))

    with tqdm(total=arguments.trials, unit="trial", desc="searching", disable=None) as bar:

        def report(best: float) -> None:
            bar.set_postfix_str(f"{arguments.objective} {100 * best:.2f}")
            bar.update()

        outcome = search(preset.association, ranges, score, arguments.trials, arguments.seed, report)
    best = replace(preset.association, **outcome.settings)
    rows = {"baseline": result_of(material, preset.association, preset.labels).metrics}
    if outcome.settings:
        rows["best"] = result_of(material, best, preset.labels).metrics
    print(table("settings", rows))
    print(advice(outcome, arguments.objective))
    if outcome.is_interrupted:
        done = f"after {outcome.trials} of {arguments.trials} trials"
        print(f"qdtrack tune: interrupted {done}: above is the best of these", file=sys.stderr)
        return EXIT_INTERRUPTED
    return EXIT_OK


class Material(NamedTuple):
    """A source whose pictures have been looked at.

    Attributes:
        job: source and ground truth.
        detections: of all labels; None for frames that were left out.
        frames: those that were not, without pictures.
        places: of these frames among all.
    """

    job: Job
    detections: list[Detections | None]
    frames: list[Frame]
    places: list[int]


def record_material(arguments: argparse.Namespace, preset: Preset, jobs: Sequence[Job]) -> list[Material]:
    """Detections of every source: from the cache, or found now and put there."""
    from qdtrack_ros.catalogue import cache_folder
    from qdtrack_ros.inference.engine import opened
    from qdtrack_ros.inference.recorded import load_detections, save_detections

    material = []
    with opened(make_engine(preset, arguments)) as engine:
        for job in jobs:
            path = cache_folder() / "detections" / f"{detections_key(engine, preset, job, arguments.topic)}.npz"
            detections = load_detections(path)
            if detections is None:
                detections = _detect(engine, preset, job)
                save_detections(path, detections)
            material.append(_material(job, detections))
    return material


def detections_key(engine: Engine, preset: Preset, job: Job, topic: str | None) -> str:
    """Name of the cached detections: another one for other weights, network, picture size, engine or files."""
    source = Path(job.source.path)
    files = sorted(source.rglob("*")) if source.is_dir() else [source]
    stamps = [f"{path} {stat.st_size} {stat.st_mtime_ns}" for path in files if path.is_file() and (stat := path.stat())]
    parts = [engine.name, engine.model_id, preset.labels, preset.model, preset.preprocess]
    text = "\n".join(map(str, [*parts, source.resolve(), topic, job.sequence.name, job.count, *stamps]))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _detect(engine: Engine, preset: Preset, job: Job) -> list[Detections | None]:
    from qdtrack_ros.cli.offline import first_frames, track_frames

    frames = first_frames(job.sequence, job.count)
    labels = range(len(preset.labels))
    recording = track_frames(engine, preset.association, frames, job.count, labels, with_embeddings=True)
    found = zip(recording.detections or (), recording.times, strict=True)
    return [detections if times is not None else None for detections, times in found]


def _material(job: Job, detections: list[Detections | None]) -> Material:
    places = [place for place, found in enumerate(detections) if found is not None]
    frames = [replace(job.sequence.frames[place], load=_no_picture, annotations=()) for place in places]
    return Material(job, detections, frames, places)


def _no_picture() -> Image:
    import numpy as np

    return np.zeros((1, 1, 3), np.uint8)


def result_of(material: Sequence[Material], config: TrackerConfig, labels: Sequence[str]) -> SequenceResult:
    """Metrics over all sources and classes with these settings, those that `qdtrack evaluate` gives."""
    from qdtrack_ros.evaluation.metrics import combine, evaluate_sequence

    results = []
    for one in material:
        tracks = one.job.of_labelled(retrack(one, config, len(labels)))
        for rules in one.job.benchmark.known_to(labels).classes.values():
            own = [frame.of_labels(rules.indices(labels)) for frame in tracks]
            results.append(evaluate_sequence(one.job.annotations, own, rules))
    return combine(results)


def retrack(material: Material, config: TrackerConfig, labels: int) -> list[FrameTracks]:
    """Tracks of every frame with other settings: the same session and clock rules as ever, without the network.

    Args:
        material: what the network found.
        config: the settings.
        labels: how many there are.
    """
    from qdtrack_ros.cli.offline import FrameTracks, track_frames
    from qdtrack_ros.inference.recorded import RecordedEngine

    found = [one for one in material.detections if one is not None]
    dim = found[0].embeddings.shape[1] if found else 1
    engine = RecordedEngine(found, dim, "recorded")
    tracks = [FrameTracks.empty()] * material.job.count
    recording = track_frames(engine, config, material.frames, len(found), range(labels))
    for place, frame_tracks in zip(material.places, recording.tracks, strict=True):
        tracks[place] = frame_tracks
    return tracks


def advice(outcome: Outcome, objective: str) -> str:
    """What to do with what was found."""
    if not outcome.settings:
        return f"nothing in {outcome.trials} trials was better than the settings that were given: keep them"
    settings = sorted(outcome.settings.items())
    words = " ".join(f"association.{name}={value}" for name, value in settings)
    lines = [
        f"{objective} {100 * outcome.baseline:.2f} -> {100 * outcome.score:.2f} with",
        f"  --set {words}",
        "or, in a preset's YAML file,",
        "association:",
        *(f"  {name}: {value}" for name, value in settings),
        "These settings were chosen on this very data: on other data expect less, or nothing. Measure sequences that",
        "were not searched, with and without --set, and let `qdtrack compare` tell whether the difference is noise.",
    ]
    return "\n".join(lines)
