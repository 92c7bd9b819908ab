"""Sequences with tracks of known quality, for tests of everything that is made of them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from qdtrack_ros.data.synthetic import street
from qdtrack_ros.data.types import Sequence
from qdtrack_ros.evaluation.detection import match_detections
from qdtrack_ros.evaluation.metrics import evaluate_frames, prepare_frames
from qdtrack_ros.evaluation.overlaps import PreparedFrame
from qdtrack_ros.evaluation.report.page import Scene
from qdtrack_ros.evaluation.results import EvaluatedSequence, truth_fingerprint
from qdtrack_ros.evaluation.rules import MOT_RULES


class Tracks(NamedTuple):
    """As the report takes them."""

    ids: np.ndarray
    boxes: np.ndarray
    scores: np.ndarray


def follow(
    sequence: Sequence, switching: float = 0.0, missing: float = 0.0, false: bool = False, seed: int = 0
) -> list:
    """Tracks of every frame: new ids and missing boxes come by chance, a false track stands in a corner or not."""
    rng = np.random.default_rng(seed)
    ids: dict[int, int] = {}
    frames = []
    for frame in sequence.frames:
        rows = []
        for row in frame.annotations:
            if row.instance_id not in ids or rng.random() < switching:
                ids[row.instance_id] = 100 + len(ids) + int(rng.integers(1, 1 << 30))
            if rng.random() >= missing:
                rows.append((ids[row.instance_id], row.box))
        if false:
            rows.append((7, (2.0, 2.0, 12.0, 22.0)))
        boxes = np.array([box for _, box in rows], np.float32).reshape(-1, 4)
        frames.append(Tracks(np.array([one for one, _ in rows], np.int64), boxes, np.full(len(rows), 0.9, np.float32)))
    return frames


def scene(sequence: Sequence, tracks: list, from_file: bool = False) -> Scene:
    """The scene of a report; with times and detections unless the tracks come from a file."""
    truth = [frame.annotations for frame in sequence.frames]
    frames = prepare_frames(truth, tracks, MOT_RULES, sequence.name)
    detections, times = None, {}
    if not from_file:
        detections = match_detections(truth, tracks, rules=MOT_RULES)
        times = {stage: np.linspace(1.0, 2.0, len(truth)) for stage in ("preprocess", "inference", "association")}
    result = evaluate_frames(frames, sequence.name)
    fingerprint = truth_fingerprint(truth, MOT_RULES)
    evaluated = EvaluatedSequence("street", sequence.name, fingerprint, frames, result, detections, times)
    return Scene(evaluated, sequence, truth, tracks)


def small_street(frames: int = 24, seed: int = 0) -> Sequence:
    """Five people; small pictures, quickly drawn."""
    return street(frames, (160, 120), walkers=5, seed=seed)


def walk(rng: np.random.Generator, frames: int, people: int, switching: float, missing: float) -> list[PreparedFrame]:
    """People who are all there all the time, and a tracker that loses ids and people by chance."""
    ids, last = list(range(people)), people
    sequence = []
    for _ in range(frames):
        found = np.flatnonzero(rng.random(people) >= missing)
        for person in range(people):
            if rng.random() < switching:
                ids[person], last = last, last + 1
        similarity = np.zeros((people, len(found)))
        similarity[found, np.arange(len(found))] = rng.uniform(0.6, 0.95, len(found))
        sequence.append(PreparedFrame(np.arange(people), np.array([ids[one] for one in found], np.int64), similarity))
    return sequence
