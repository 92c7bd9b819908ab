"""CPU time of HOTA, CLEAR and Identity beside TrackEval's, in one process on the same crowds."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from qdtrack_ros.evaluation.boxes import ious
from qdtrack_ros.evaluation.clear import clear
from qdtrack_ros.evaluation.cross_check import check_against_trackeval, trackeval_fields
from qdtrack_ros.evaluation.hota import hota
from qdtrack_ros.evaluation.identity import identity
from qdtrack_ros.evaluation.overlaps import Overlaps, PreparedFrame

FRAMES, PEOPLE, REPEATS = 2000, 50, 3
SIZES = ((1920, 1080), (960, 540), (480, 300))  # the smaller the picture, the denser the crowd


def crowd(width: int, height: int) -> list[PreparedFrame]:
    """People who walk, seen in nine frames of ten and found in 85 of 100, with a new id every 500 frames or so."""
    random = np.random.default_rng(0)
    place = random.uniform((0, 0), (width, height), (PEOPLE, 2))
    speed = random.normal(0, 2, (PEOPLE, 2))
    size = random.uniform((30, 80), (90, 220), (PEOPLE, 2))
    ids = np.arange(PEOPLE)
    frames = []
    for _ in range(FRAMES):
        place = (place + speed) % (width, height)
        there, found, switched = (random.random(PEOPLE) < share for share in (0.9, 0.85, 0.002))
        ids[switched] = ids.max() + 1 + np.arange(switched.sum())
        boxes = np.concatenate([place, place + size], axis=1)
        tracked = boxes + random.normal(0, 6, boxes.shape)
        frames.append(PreparedFrame(np.flatnonzero(there), ids[found].copy(), ious(boxes[there], tracked[found])))
    return frames


def ours(frames: list[PreparedFrame]) -> dict[str, dict[str, object]]:
    """The three metrics by ``qdtrack_ros``."""
    overlaps = Overlaps.of(frames)
    return {"HOTA": hota(overlaps), "CLEAR": clear(overlaps), "Identity": identity(overlaps)}


def cpu_s(compute: Callable[[], object]) -> float:
    """The shortest of a few runs."""
    times = []
    for _ in range(REPEATS):
        began = time.process_time()
        compute()
        times.append(time.process_time() - began)
    return min(times)


def main() -> None:
    """Print a line for each density; stops where the figures disagree."""
    print(f"{FRAMES} frames, {PEOPLE} people; CPU seconds of HOTA, CLEAR and Identity together")
    for width, height in SIZES:
        frames = crowd(width, height)
        check_against_trackeval("crowd", frames, ours(frames))
        theirs, own = cpu_s(lambda: trackeval_fields("crowd", frames)), cpu_s(lambda: ours(frames))  # noqa: B023
        print(f"{width} x {height}: TrackEval {theirs:.2f}, ours {own:.2f}, {theirs / own:.1f} times faster")


if __name__ == "__main__":
    main()
