"""The ablation of the paper (Pang et al., CVPR 2021, table 5) on real video, at a scale that two CPU cores can afford.

    scripts/run.sh python scripts/ablation.py --data DATA --output runs/ablation

Trains the embedding head of the shipped detector once for every arm and seed (config/training/ablation.yaml), embeds
the same detections with every head, tracks them with every setting of the association, and writes results.json and
table.md. What is done already is not done again: stop it when you like, and start it again. Exit codes: 0 done;
1 failed, with one line that says why; 130 interrupted.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from tqdm import tqdm

from qdtrack_ros.configuration import ConfigurationError
from qdtrack_ros.data.kitti import read_kitti_sequence
from qdtrack_ros.data.mot import read_mot_sequence
from qdtrack_ros.data.types import DataError
from qdtrack_ros.data.types import Sequence as Video
from qdtrack_ros.evaluation.embedding import KnownObjects, nearest_accuracy
from qdtrack_ros.evaluation.metrics import SequenceResult, combine, evaluate_sequence
from qdtrack_ros.evaluation.rules import KITTI_PEDESTRIAN_RULES, MOT_RULES, TruthRules
from qdtrack_ros.files import write_json
from qdtrack_ros.inference.engine import NoopEngine
from qdtrack_ros.inference.preprocess import preprocess
from qdtrack_ros.inference.presets import Preset, load_preset
from qdtrack_ros.inference.tracker import Tracker, Tracks
from qdtrack_ros.inference.types import Detections
from qdtrack_ros.models.checkpoint import CheckpointError, load_weights
from qdtrack_ros.models.qdtrack import QDTrack
from qdtrack_ros.resources import share_path
from qdtrack_ros.tracking import AssociationConfig
from qdtrack_ros.tracking.association import pairwise_iou
from qdtrack_ros.tracking.types import FloatArray
from qdtrack_ros.training.config import load_training_config
from qdtrack_ros.training.module import TrainingError
from qdtrack_ros.training.train import train

ARMS: Mapping[str, Mapping[str, str]] = {
    "sparse": {"loss.regions": "sparse"},
    "quasi-dense, one positive": {"loss.positives": "one"},
    "quasi-dense, many positives": {},
}
SHIPPED = "shipped"
TESTED = ("PETS09-S2L1", "TUD-Campus", "KITTI-0015")
TUNED_ON = ("TUD-Campus", "ETH-Sunnyday")  # for the threshold of the IoU baseline; ETH-Sunnyday is a training sequence
THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5)
NEAREST_STEPS = (1, 10, 20)  # frames between two pictures in which the same object is looked for
TABLE_STEP = 10  # the one of them that the tables show
NAMES = {"mota": "MOTA", "idf1": "IDF1", "hota": "HOTA", "id_switches": "IDs"}  # figures that are kept
COLUMNS = (
    ("PETS09-S2L1", "idf1"), ("PETS09-S2L1", "mota"), ("PETS09-S2L1", "id_switches"),
    ("TUD-Campus", "idf1"), ("KITTI-0015", "idf1"), ("all", "idf1"),
)  # fmt: skip


class Setting(NamedTuple):
    """An association: similarity, and the two ways to keep false candidates out (paper, section 3.3)."""

    metric: str
    duplicate_removal: bool
    backdrops: bool

    @property
    def name(self) -> str:
        """As in the tables."""
        extras = [name for name, on in (("D.R.", self.duplicate_removal), ("backdrops", self.backdrops)) if on]
        return " + ".join([self.metric, *extras])

    def overrides(self) -> dict[str, Any]:
        """The same as values laid over a preset. No overlap exceeds 1, so nothing is a duplicate."""
        values: dict[str, Any] = {"association.metric": self.metric}
        if not self.duplicate_removal:
            values |= {"association.backdrop_nms_iou": 1.0, "association.class_nms_iou": 1.0}
        if not self.backdrops:
            values |= {"association.backdrop_frames": 0}
        return values


# The paper's steps from the plainest to the full association, and what each part does alone.
SETTINGS = (
    Setting("cosine", False, False),
    Setting("softmax", False, False),
    Setting("bisoftmax", False, False),
    Setting("bisoftmax", True, False),
    Setting("bisoftmax", False, True),
    Setting("cosine", True, True),
    Setting("softmax", True, True),
    Setting("bisoftmax", True, True),
)


class Truth(NamedTuple):
    """A sequence and what of its ground truth counts."""

    video: Video
    rules: TruthRules


class Embedded(NamedTuple):
    """Detections of every frame with the embeddings of one head, and that head's embeddings of the true boxes."""

    detections: list[Detections]
    known: list[KnownObjects]


def main() -> int:
    """Run the ablation."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with mot/ and kitti_tracking/")
    parser.add_argument("--output", type=Path, default=Path("runs/ablation"), help="folder for runs and results")
    parser.add_argument("--seeds", type=int, default=3, help="trainings of every arm (default: 3)")
    steps_help = "of every training, into OUTPUT/N_steps (default: those of config/training/ablation.yaml, into OUTPUT)"
    parser.add_argument("--steps", type=int, metavar="N", help=steps_help)
    arguments = parser.parse_args()
    try:
        run(arguments.data, arguments.output, arguments.seeds, arguments.steps)
    except KeyboardInterrupt:
        print("ablation: interrupted; start it again to go on", file=sys.stderr)
        return 130
    except (ConfigurationError, CheckpointError, DataError, TrainingError, OSError, ImportError) as error:
        print(f"ablation: error: {error}", file=sys.stderr)
        return 1
    return 0


def run(data: Path, output: Path, seeds: int, steps: int | None = None) -> None:
    """Train, measure, and write what came out."""
    output = output if steps is None else output / f"{steps}_steps"
    truths(data, (*TESTED, *TUNED_ON))  # what is missing for the end is told before the hours of training
    weights = {SHIPPED: share_path("weights/pedestrian.safetensors")}
    for seed, arm in itertools.product(range(seeds), ARMS):
        weights[f"{arm}, seed {seed}"] = trained(arm, seed, data, output, steps)
    folder = output / "figures"
    missing = {name: path for name, path in weights.items() if not (folder / f"{name}.json").is_file()}
    for name, figures in measured(missing, data):
        write_json(folder / f"{name}.json", figures)
    overlap = folder / "overlap.json"
    if not overlap.is_file():
        write_json(overlap, overlap_figures(data))
    results = {name: json.loads((folder / f"{name}.json").read_text()) for name in (*weights, "overlap")}
    write_json(output / "results.json", results)
    (output / "table.md").write_text(report(results, seeds))
    print(f"{output / 'results.json'}, {output / 'table.md'}")


def trained(arm: str, seed: int, data: Path, output: Path, steps: int | None) -> Path:
    """Weights of one arm and seed; all arms of a seed start from the same head and see the same pairs."""
    folder = output / arm.replace(", ", "-").replace(" ", "_") / f"seed_{seed}"
    weights = folder / "model.safetensors"
    if not weights.is_file():
        detector = {"detector_weights": str(share_path("weights/pedestrian.safetensors").resolve())}
        length = {} if steps is None else {"steps": steps, "validate_every": steps}
        overrides = {**detector, **ARMS[arm], **length, "seed": seed, "pairs.seed": seed}
        train(load_training_config(share_path("config/training/ablation.yaml"), overrides), data, folder)
    return weights


def truths(data: Path, names: Iterable[str]) -> dict[str, Truth]:
    """The sequences of these names."""
    kitti = data / "kitti_tracking"
    found = {}
    for name in names:
        if name.startswith("KITTI-"):
            number = name.removeprefix("KITTI-")
            video = read_kitti_sequence(kitti / "label_02" / f"{number}.txt", kitti / "video" / f"{number}.mp4")
            found[name] = Truth(video, KITTI_PEDESTRIAN_RULES)
        else:
            found[name] = Truth(read_mot_sequence(data / "mot" / name), MOT_RULES)
    return found


def measured(weights: Mapping[str, Path], data: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Figures of every head."""
    if not weights:
        return
    preset = load_preset("pedestrian")
    models = [load_model(preset, path) for path in weights.values()]
    sequences = truths(data, TESTED)
    embedded = {name: embed(models, truth.video, preset) for name, truth in sequences.items()}
    for place, name in enumerate(weights):
        heads = {sequence: runs[place] for sequence, runs in embedded.items()}
        nearest = {s: {step: nearest_accuracy(heads[s].known, step=step) for step in NEAREST_STEPS} for s in TESTED}
        tracked = {s.name: tracking(s, heads, sequences) for s in tqdm(SETTINGS, desc=name, disable=None)}
        yield name, {"nearest": nearest, "tracking": tracked}


def overlap_figures(data: Path) -> dict[str, Any]:
    """Figures of :func:`iou_tracks` on the same detections, with the threshold that is best where it may be chosen."""
    preset = load_preset("pedestrian")
    config = preset.association
    assert isinstance(config, AssociationConfig)
    sequences = truths(data, dict.fromkeys((*TESTED, *TUNED_ON)))
    model = load_model(preset, share_path("weights/pedestrian.safetensors"))
    found = {name: embed([model], truth.video, preset)[0].detections for name, truth in sequences.items()}

    def results(names: Sequence[str], threshold: float, predict: bool) -> list[SequenceResult]:
        return [score(iou_tracks(found[n], config, threshold, predict), sequences[n], n) for n in names]

    figures = {}
    for kind, predict in (("IoU", False), ("IoU, constant velocity", True)):
        chosen = {t: statistics.mean(r.metrics.idf1 for r in results(TUNED_ON, t, predict)) for t in THRESHOLDS}
        threshold = max(THRESHOLDS, key=lambda t: chosen[t])
        tested = summary(results(TESTED, threshold, predict))
        figures[kind] = {"threshold": threshold, "idf1 where chosen": chosen, **tested}
    return figures


def load_model(preset: Preset, weights: Path) -> QDTrack:
    """A network with its weights, ready to run."""
    model = QDTrack(preset.model)
    load_weights(model, weights, preset.labels)
    return model.eval().requires_grad_(False).to(memory_format=torch.channels_last)  # type: ignore[call-overload]


@torch.inference_mode()
def embed(models: Sequence[QDTrack], video: Video, preset: Preset) -> list[Embedded]:
    """Detect with the first network, whose detector is that of all, and embed what it finds with every head."""
    runs = [Embedded([], []) for _ in models]
    for frame in tqdm(video.frames, desc=f"embedding {video.name}", unit="frame", disable=None):
        prepared = preprocess([frame.load()], preset.preprocess)
        features = models[0].extract_features(torch.from_numpy(prepared.images))
        (found,) = models[0].detect(features, prepared.image_sizes, prepared.scale_factors)
        known = [a for a in frame.annotations if a.instance_id is not None and not (a.ignore or a.crowd)]
        ids = np.array([a.instance_id for a in known], np.int64)
        true_boxes = torch.tensor([a.box for a in known]).reshape(-1, 4)
        boxes = torch.cat([found.boxes, true_boxes]) * torch.tensor([*prepared.scale_factors[0]] * 2)
        for model, run_ in zip(models, runs, strict=True):
            embeddings = model.embed(features, [boxes]).numpy()
            count = len(found.boxes)
            run_.detections.append(
                Detections(found.boxes.numpy(), found.scores.numpy(), found.labels.numpy(), embeddings[:count])
            )
            run_.known.append(KnownObjects(embeddings[count:], ids))
    return runs


def tracking(setting: Setting, heads: Mapping[str, Embedded], sequences: Mapping[str, Truth]) -> dict[str, Any]:
    """Figures of one association on every tested sequence, and on all together."""
    preset = load_preset("pedestrian", setting.overrides())
    engine = NoopEngine(preset.model.embedding_dim)
    results = []
    for name in TESTED:
        tracker = Tracker(engine, preset.association, preset.labels)
        tracks = [tracker.associate(detections) for detections in heads[name].detections]
        results.append(score(tracks, sequences[name], name))
    return summary(results)


def score(tracks: Sequence[Tracks], truth: Truth, name: str) -> SequenceResult:
    """Tracks of a sequence against its ground truth."""
    return evaluate_sequence([frame.annotations for frame in truth.video.frames], tracks, truth.rules, name)


def summary(results: Sequence[SequenceResult]) -> dict[str, Any]:
    """Figures by sequence, and of all together."""
    return {
        result.name: {figure: getattr(result.metrics, figure) for figure in NAMES}
        for result in (*results, combine(results, "all"))
    }


@dataclass
class BoxTrack:
    """A track of :func:`iou_tracks`: its last box, the mean velocity in pixels per frame, and when it was last seen."""

    track_id: int
    box: FloatArray
    seen: int
    velocity: FloatArray | None = None

    def at(self, index: int, predict: bool) -> FloatArray:
        """Where it is expected in a frame."""
        return self.box if self.velocity is None or not predict else self.box + (index - self.seen) * self.velocity

    def follow(self, box: FloatArray, index: int) -> None:
        """Go on with a box; each step counts half of the one after it."""
        step = (box - self.box) / np.float32(index - self.seen)
        self.velocity = step if self.velocity is None else np.float32(0.5) * (self.velocity + step)
        self.box, self.seen = box, index


def iou_tracks(
    frames: Sequence[Detections], config: AssociationConfig, threshold: float, predict: bool
) -> list[Tracks]:
    """Tracks by overlap alone: what appearance has to beat.

    The largest overlap of a box with a track is a match, then the next, down to the threshold. Memory and the scores
    that continue and start tracks are those of the association.

    Args:
        frames: detections of every frame.
        config: of the association.
        threshold: IoU that a match must exceed.
        predict: compare with where a track should be by now, rather than with its last box.
    """
    live: list[BoxTrack] = []
    tracked, next_id = [], 0
    for index, found in enumerate(frames):
        live = [track for track in live if index - track.seen <= config.memory_frames]
        rows = np.flatnonzero(found.scores > config.object_score)
        boxes = found.boxes[rows]
        expected = [track.at(index, predict) for track in live]
        overlap = pairwise_iou(np.array([*boxes, *expected], np.float32).reshape(-1, 4))[: len(boxes), len(boxes) :]
        ids = np.full(len(boxes), -1, np.int64)
        while overlap.size and overlap.max() > threshold:
            row, column = divmod(int(overlap.argmax()), overlap.shape[1])
            live[column].follow(boxes[row], index)
            ids[row] = live[column].track_id
            overlap[row], overlap[:, column] = 0, 0
        for row in np.flatnonzero((ids < 0) & (found.scores[rows] > config.init_score)):
            ids[row], next_id = next_id, next_id + 1
            live.append(BoxTrack(int(ids[row]), boxes[row], index))
        kept = rows[ids >= 0]
        tracked.append(Tracks(ids[ids >= 0], found.boxes[kept], found.scores[kept], found.labels[kept]))
    return tracked


class Row(NamedTuple):
    """What runs of one kind reached: figures by sequence, and the nearest neighbours' accuracy; empty for none."""

    tracked: list[Mapping[str, Any]]
    nearest: list[float]


def report(results: Mapping[str, Any], seeds: int) -> str:
    """Tables of the results: mean and standard deviation over seeds, in per cent but for the id switches."""
    runs = {arm: [results[f"{arm}, seed {seed}"] for seed in range(seeds)] for arm in ARMS}
    runs[SHIPPED] = [results[SHIPPED]]
    full = SETTINGS[-1].name
    parts = [
        table(f"Training arms, {name}", {arm: row(of_arm, name) for arm, of_arm in runs.items()})
        for name in (SETTINGS[0].name, Setting("cosine", True, True).name, full)
    ]
    for arm in (list(ARMS)[-1], SHIPPED):
        parts.append(table(f"Inference arms, {arm}", {s.name: row(runs[arm], s.name) for s in SETTINGS}))
    baselines = {name: Row([figures], []) for name, figures in results["overlap"].items()}
    parts.append(table("Overlap or appearance", {**baselines, SHIPPED: row(runs[SHIPPED], full)}))
    return "\n".join(parts)


def row(runs: Sequence[Mapping[str, Any]], setting: str) -> Row:
    """Runs of one kind, tracked with one setting."""
    nearest = [statistics.mean(run_["nearest"][name][str(TABLE_STEP)] for name in TESTED) for run_ in runs]
    return Row([run_["tracking"][setting] for run_ in runs], nearest)


def table(title: str, rows: Mapping[str, Row]) -> str:
    """A table in markdown."""
    lines = [[title, "nearest", *(f"{sequence} {NAMES[figure]}" for sequence, figure in COLUMNS)]]
    lines.append(["---"] * len(lines[0]))
    for label, (tracked, nearest) in rows.items():
        cells = [spread([of_run[sequence][figure] for of_run in tracked]) for sequence, figure in COLUMNS]
        lines.append([label, spread(nearest), *cells])
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def spread(values: Sequence[float | int]) -> str:
    """Mean and standard deviation: of fractions in per cent, of counts as they are; of one value the value."""
    if not values:
        return ""
    scale, digits = (1, 0) if isinstance(values[0], int) else (100, 1)
    mean = f"{scale * statistics.mean(values):.{digits}f}"
    return mean if len(values) == 1 else f"{mean} ± {scale * statistics.stdev(values):.{digits}f}"


if __name__ == "__main__":
    sys.exit(main())
