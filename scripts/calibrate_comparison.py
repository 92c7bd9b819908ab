"""How often `qdtrack compare` would take chance for a difference: two runs of one simulated tracker, many times.

    scripts/run.sh python scripts/calibrate_comparison.py --frames 400 --people 20

The table of docs/evaluation.md is from here. With --errors 0.5 the second tracker makes half the errors: then the table
tells how often that is seen.
"""

from __future__ import annotations

import argparse

import numpy as np

from qdtrack_ros.evaluation.comparison import ResamplingConfig, block_frames, draw_blocks, draw_people, interval
from qdtrack_ros.evaluation.overlaps import PreparedFrame
from qdtrack_ros.evaluation.tally import Figures, Tally, figures

SWITCHING, MISSING, FALSE = 0.01, 0.03, 0.05  # chance a frame that an id is lost, a miss begins, a false track begins
MISS_GOES_ON, FALSE_GOES_ON = 0.85, 0.9
WAYS = ("blocks", "people", "both")


def lives(rng: np.random.Generator, frames: int, people: int) -> list[tuple[int, int]]:
    """First frame and end of every person."""
    lengths = [int(np.clip(rng.exponential(frames / 3), 20, frames)) for _ in range(people)]
    starts = [int(rng.integers(0, frames - length + 1)) for length in lengths]
    return [(start, start + length) for start, length in zip(starts, lengths, strict=True)]


def run(rng: np.random.Generator, people: list[tuple[int, int]], frames: int, errors: float) -> Tally:
    """A tracker's run: it loses ids and people by chance, some people more easily than others."""
    there: list[list[tuple[int, int | None]]] = [[] for _ in range(frames)]
    last = 0
    for person, (start, end) in enumerate(people):
        track, missed = last, False
        last += 1
        switching, missing = errors * SWITCHING * rng.exponential(), errors * MISSING * rng.exponential()
        for frame in range(start, end):
            if rng.random() < switching:
                track, last = last, last + 1
            missed = bool(rng.random() < (MISS_GOES_ON if missed else missing))
            there[frame].append((person, None if missed else track))
    sequence, is_false = [], False
    for present in there:
        is_false = bool(rng.random() < (FALSE_GOES_ON if is_false else FALSE))
        last += not is_false
        found = [(row, track) for row, (_, track) in enumerate(present) if track is not None]
        tracks = [track for _, track in found] + [1_000_000 + last] * is_false
        ious = np.zeros((len(present), len(tracks)))
        for column, (row, _) in enumerate(found):
            ious[row, column] = rng.uniform(0.6, 0.95)
        truth = np.array([person for person, _ in present], np.int64)
        sequence.append(PreparedFrame(truth, np.array(tracks, np.int64), ious))
    return Tally(sequence)


def verdicts(first: Tally, second: Tally, config: ResamplingConfig) -> dict[str, np.ndarray]:
    """Which figures each way of drawing calls beyond noise: bool [figures]."""
    frames, people = first.frame_count, first.person_count
    blocks = frames // block_frames(frames, config)
    found = {}
    for way, units in zip(WAYS, (blocks, people, min(blocks, people)), strict=True):
        rng = np.random.default_rng(config.seed)
        changes = []
        for _ in range(config.resamples):
            of_frames = None if way == "people" else draw_blocks(frames, config, rng)
            of_people = None if way == "blocks" else draw_people(people, rng)
            one, two = (figures(tally.sums(of_frames, of_people)) for tally in (first, second))
            changes.append(np.subtract(two, one))
        low, high = interval(np.array(changes), units, config.confidence)
        found[way] = (low > 0) | (high < 0)
    return found


def main() -> None:
    """Simulate, and print a table in percent."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=400)
    parser.add_argument("--people", type=int, default=20)
    parser.add_argument("--pairs", type=int, default=60, help="pairs of runs (default: %(default)s)")
    parser.add_argument("--errors", type=float, default=1.0, help="of the second tracker (default: %(default)s)")
    arguments = parser.parse_args()
    config = ResamplingConfig(resamples=200)
    found: dict[str, list[np.ndarray]] = {way: [] for way in WAYS}
    for seed in range(arguments.pairs):
        rng = np.random.default_rng(seed)
        people = lives(rng, arguments.frames, arguments.people)
        first, second = (run(rng, people, arguments.frames, errors) for errors in (1.0, arguments.errors))
        for way, beyond in verdicts(first, second, config).items():
            found[way].append(beyond)
    print(f"{'drawn':8}" + "".join(f"{name:>10}" for name in Figures._fields))
    for way, each in found.items():
        print(f"{way:8}" + "".join(f"{100 * part:10.0f}" for part in np.mean(each, axis=0)))


if __name__ == "__main__":
    main()
