"""`qdtrack compare`: two evaluations of the same data, and which of their differences are beyond noise."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from qdtrack_ros.cli.options import positive

if TYPE_CHECKING:
    from qdtrack_ros.evaluation.comparison import Comparison, Difference

# Name in the table, factor to it, and whether more is better, of each of the compared figures.
COLUMNS = (
    ("HOTA", 100, True),
    ("DetA", 100, True),
    ("AssA", 100, True),
    ("MOTA", 100, True),
    ("IDF1", 100, True),
    ("IDs", 1, False),
)

_EPILOG = """Examples:
  qdtrack evaluate MOT17-09-FRCNN/ --json before.json
  qdtrack evaluate MOT17-09-FRCNN/ --set association.match_score=0.6 --json after.json
  qdtrack compare before.json after.json

Changes are those from the first file to the second. Both trackers are resampled together: whole sequences where there
are six or more, else blocks of frames and people of each sequence. docs/evaluation.md says how to read it.
exit codes: 0 done; 1 failed, with one line that says what to do; 2 wrong usage; 130 interrupted"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = _EPILOG
    parser.add_argument("first", type=Path, metavar="A.json", help="results of `qdtrack evaluate --json` or --report")
    parser.add_argument("second", type=Path, metavar="B.json", help="results on the same data, e.g. after a change")
    parser.add_argument("--resamples", type=positive, default=1000, help="draws (default: %(default)s)")
    block_help = "frames drawn together (default: a twentieth of a sequence, 10 to 100)"
    parser.add_argument("--block", type=positive, default=0, metavar="FRAMES", help=block_help)
    parser.add_argument("--seed", type=int, default=0, help="of the draws (default: %(default)s)")


def run(arguments: argparse.Namespace) -> int:
    """Compare two files."""
    from tqdm import tqdm

    from qdtrack_ros.evaluation.comparison import ResamplingConfig, compare
    from qdtrack_ros.evaluation.results import read_results

    config = ResamplingConfig(arguments.resamples, block_frames=arguments.block, seed=arguments.seed)
    first, second = read_results(arguments.first), read_results(arguments.second)

    def progress(draws: Iterable[int]) -> Iterable[int]:
        return tqdm(draws, unit="draw", desc="resampling", disable=None)

    comparisons = compare(first, second, config, progress)
    print(f"from {arguments.first} to {arguments.second}")
    if len(comparisons) > 1:
        print(overview(comparisons))
    print(details(comparisons[-1], config.confidence))
    return 0


def overview(comparisons: Sequence[Comparison]) -> str:
    """Changes of every sequence, one line each."""
    width = max(len("sequence"), *(len(one.name) for one in comparisons))
    lines = [f"{'sequence':{width}}" + "".join(f"{name:>9}" for name, _, _ in COLUMNS)]
    for one in comparisons:
        cells = [
            f"{factor * difference.change:+8.2f}{'*' if difference.is_beyond_noise else ' '}"
            for difference, (_, factor, _) in zip(one.differences, COLUMNS, strict=True)
        ]
        lines.append(f"{one.name:{width}}" + "".join(cells))
    lines.append("* beyond the noise of that sequence alone; of many such marks, one in twenty is chance")
    return "\n".join(lines)


def details(comparison: Comparison, confidence: float) -> str:
    """All figures of one comparison, and the verdict."""
    lines = [
        f"{comparison.name}, resampled by {comparison.units}",
        f"{'':5}{'first':>9}{'second':>9}{'change':>9}   {f'{confidence:.0%} interval':19}",
    ]
    for difference, (name, factor, _) in zip(comparison.differences, COLUMNS, strict=True):
        values = (difference.first, difference.second)
        numbers = "".join(f"{factor * value:9.2f}" for value in values) + f"{factor * difference.change:+9.2f}"
        interval = f"[{factor * difference.low:+.2f}, {factor * difference.high:+.2f}]" if difference.is_known else "-"
        lines.append(f"{name:5}{numbers}   {interval:19} {_judge(difference)}")
    return "\n".join([*lines, verdict(comparison)])


def _judge(difference: Difference) -> str:
    if not difference.is_known:
        return "cannot be told"
    if difference.is_beyond_noise:
        return "beyond noise"
    return "equal" if difference.low == difference.high == 0 else "within noise"


def verdict(comparison: Comparison) -> str:
    """One line: what got better, what got worse, or that nothing is known to have changed."""
    better: list[str] = []
    worse: list[str] = []
    for difference, (name, _, more_is_better) in zip(comparison.differences, COLUMNS, strict=True):
        if difference.is_beyond_noise:
            (better if (difference.change > 0) == more_is_better else worse).append(name)
    if not all(difference.is_known for difference in comparison.differences):
        return "too little data to tell a difference from noise: evaluate longer or more sequences"
    parts = [
        f"{what} beyond noise: {', '.join(names)}" for what, names in (("better", better), ("worse", worse)) if names
    ]
    return "; ".join(parts) or "no difference beyond noise"
