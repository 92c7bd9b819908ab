"""`qdtrack evaluate`: tracks against ground truth."""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from qdtrack_ros import __version__
from qdtrack_ros.cli.options import add_model_options, overrides, positive
from qdtrack_ros.files import check_writable, replacing

if TYPE_CHECKING:
    from qdtrack_ros.cli.offline import FrameTracks
    from qdtrack_ros.data.types import Annotation
    from qdtrack_ros.data.types import Sequence as FrameSequence
    from qdtrack_ros.evaluation.metrics import Metrics
    from qdtrack_ros.evaluation.rules import TruthRules

# Labels of ours that mean what the ground truth's classes mean.
PEDESTRIAN_LABELS = ("pedestrian", "person")
_KITTI_COLUMNS = 17
RATES = ("MOTA", "IDF1", "HOTA", "DetA", "AssA", "MOTP", "IDP", "IDR")
COUNTS = ("IDs", "Frag", "FP", "FN", "MT", "ML", "GT")

_EPILOG = """Examples:
  qdtrack evaluate MOT17-09-FRCNN/                         a MOTChallenge folder brings its ground truth
  qdtrack evaluate recording/ --gt gt.txt --json report.json
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
    parser.add_argument("source", metavar="SOURCE", help="as for `qdtrack track`; not a live one")
    parser.add_argument("--gt", type=Path, help="ground truth file or MOTChallenge folder (default: the source's own)")
    parser.add_argument("--mot", type=Path, metavar="FILE", help="evaluate these tracks instead of tracking")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to this file, too")
    parser.add_argument("--topic", help="images of a bag (default: its only image topic)")
    parser.add_argument("--max-frames", type=positive, metavar="N", help="evaluate the first N frames only")
    add_model_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Evaluate a source."""
    from qdtrack_ros.cli.track import frame_count
    from qdtrack_ros.data.sources import open_source
    from qdtrack_ros.data.types import DataError
    from qdtrack_ros.evaluation.metrics import evaluate_sequence

    if arguments.json is not None:
        check_writable(arguments.json)
    sequence = open_source(arguments.source, arguments.topic)
    if frame_count(sequence, None) is None:
        raise DataError(f"{arguments.source} is live; record it first, then evaluate the recording")
    count = frame_count(sequence, arguments.max_frames) or 0
    truth = read_truth(arguments.gt, sequence)
    if arguments.mot is not None:
        tracks, made_by = read_tracks(arguments.mot, len(truth.annotations)), {"tracks": str(arguments.mot)}
    else:
        tracks, made_by = track(arguments, sequence, count)
    result = evaluate_sequence(truth.annotations[:count], tracks[:count], truth.rules, sequence.name)
    print(table([(result.name, result.metrics)]))
    if arguments.json is not None:
        facts = {"source": arguments.source, "frames": count, "qdtrack_ros": __version__, **made_by}
        write_json(arguments.json, {**facts, "metrics": result.metrics._asdict()})
        print(f"figures: {arguments.json}")
    return 0


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


def track(
    arguments: argparse.Namespace, sequence: FrameSequence, count: int
) -> tuple[list[FrameTracks], dict[str, Any]]:
    """Track the first `count` frames; gives the tracks of pedestrians and what made them."""
    from tqdm import tqdm

    from qdtrack_ros.cli.offline import FrameTracks, OfflineTracker
    from qdtrack_ros.data.prefetch import prefetched
    from qdtrack_ros.inference.engine import create_engine, opened
    from qdtrack_ros.inference.presets import load_preset

    preset = load_preset(arguments.preset, overrides(arguments.set), arguments.weights)
    wanted = pedestrian_labels(preset.name, preset.labels)
    with opened(create_engine(preset, arguments.weights, arguments.device, arguments.engine)) as engine:
        engine.warmup()
        tracker = OfflineTracker(engine, preset.association, trail_length=0)
        frames: list[FrameTracks] = []
        began_s = time.perf_counter()
        source = prefetched(itertools.islice(sequence.frames, count))
        for frame in tqdm(source, total=count, unit="frame", desc=sequence.name, disable=None):
            picture = tracker.step(frame)
            frames.append(only(picture.tracks, wanted) if picture is not None else FrameTracks.empty())
        frames += [FrameTracks.empty()] * (count - len(frames))  # a damaged file ends before its header says
        seconds = time.perf_counter() - began_s
        made_by = {
            "preset": preset.name,
            "weights": arguments.weights or preset.weights,
            "settings": overrides(arguments.set),
            "engine": engine.name,
            "model_id": engine.model_id,
            "frames_dropped": dict(tracker.dropped),
            "frames_per_second": round(tracker.processed / max(seconds, 1e-9), 2),
        }
    return frames, made_by


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


def only(tracks: FrameTracks, labels: Iterable[int]) -> FrameTracks:
    """The tracks of some labels."""
    import numpy as np

    keep = np.isin(tracks.labels, list(labels))
    return type(tracks)(tracks.ids[keep], tracks.boxes[keep], tracks.scores[keep], tracks.labels[keep])


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
