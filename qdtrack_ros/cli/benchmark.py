"""`qdtrack benchmark`: how quick the parts of this package are here; docs/benchmarks.md tells what is what."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from qdtrack_ros.cli.association_benchmark import add_association_arguments, association_figures
from qdtrack_ros.cli.bag_benchmark import add_bag_arguments, bag_figures
from qdtrack_ros.cli.engine_benchmark import add_engine_arguments, engine_figures
from qdtrack_ros.cli.loader_benchmark import add_loader_arguments, loader_figures
from qdtrack_ros.cli.node_benchmark import add_node_arguments, node_figures
from qdtrack_ros.cli.options import positive
from qdtrack_ros.cli.preprocess_benchmark import add_preprocess_arguments, preprocess_figures
from qdtrack_ros.cli.torchvision_benchmark import add_torchvision_arguments, torchvision_figures
from qdtrack_ros.cli.tracking_benchmark import add_tracking_arguments, tracking_figures
from qdtrack_ros.files import check_writable, write_json


class Measurement(NamedTuple):
    """What can be measured.

    Attributes:
        help: one line.
        add_arguments: those that only this one has.
        figures: measures; a dictionary for each case, with ``case`` and ``milliseconds`` (names to values), and where
            there is more ``figures`` of other units and ``stages``, the medians of the parts of a call.
        repeats: measured calls, unless told otherwise.
        has_stages: whether ``stages`` are among it.
    """

    help: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    figures: Callable[[argparse.Namespace], list[dict[str, Any]]]
    repeats: int
    has_stages: bool = False


MEASUREMENTS = {
    "association": Measurement(
        "one step of the tracker against a full memory", add_association_arguments, association_figures, 200
    ),
    "preprocess": Measurement(
        "resizing, normalising and padding of pictures", add_preprocess_arguments, preprocess_figures, 100
    ),
    "engine": Measurement(
        "a picture to detections with embeddings, by stage", add_engine_arguments, engine_figures, 50, True
    ),
    "tracking": Measurement(
        "a picture to tracks, by several engines in turns", add_tracking_arguments, tracking_figures, 100, True
    ),
    "bag": Measurement("decoding of bags, and what a bag adds to the engine alone", add_bag_arguments, bag_figures, 60),
    "torchvision": Measurement(
        "R50-FPN beside torchvision's Faster R-CNN, in turns", add_torchvision_arguments, torchvision_figures, 10
    ),
    "loader": Measurement(
        "pairs for a training, prepared by 0, 1, 2 workers", add_loader_arguments, loader_figures, 50
    ),
    "node": Measurement(
        "what the node adds to its engine: latency, processor time, many cameras, overload",
        add_node_arguments,
        node_figures,
        600,
    ),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    what = parser.add_subparsers(title="what", dest="what", metavar="WHAT", required=True)
    for name, measurement in MEASUREMENTS.items():
        sub = what.add_parser(name, help=measurement.help)
        measurement.add_arguments(sub)
        repeats_help = "measured calls (default: %(default)s)"
        sub.add_argument("--repeats", type=positive, default=measurement.repeats, help=repeats_help)
        threads_help = "threads of PyTorch, OpenCV and numpy's BLAS (default: all cores)"
        sub.add_argument("--threads", type=positive, help=threads_help)
        sub.add_argument("--json", type=Path, metavar="FILE", help="write the figures to this file, too")
        if measurement.has_stages:
            sub.add_argument("--plot", type=Path, metavar="FILE.png", help="draw the time by stage to this file")


def run(arguments: argparse.Namespace) -> int:
    """Measure, print, and write the figures."""
    from qdtrack_ros.cli.machine import describe_machine

    measurement = MEASUREMENTS[arguments.what]
    plot: Path | None = arguments.plot if measurement.has_stages else None
    for file in (arguments.json, plot):
        if file is not None:
            check_writable(file)
    if plot is not None:
        from qdtrack_ros.evaluation.report.stage_bars import write_stage_bars  # fails now, not after the measurement
    limit_threads(arguments.threads)
    machine = describe_machine()  # before the measurement adds to the load
    results = measurement.figures(arguments)
    print(table(machine, arguments.repeats, results))
    if arguments.json is not None:
        facts = {
            "benchmark": arguments.what,
            "date": time.strftime("%Y-%m-%d %H:%M"),
            "machine": machine,
            "threads": arguments.threads,
            "repeats": arguments.repeats,
        }
        write_json(arguments.json, {**facts, "results": results})
        print(f"figures: {arguments.json}")
    if plot is not None:
        title = f"qdtrack benchmark {arguments.what}, {machine['gpu'] or machine['processor']}"
        write_stage_bars(plot, title, [bar(result) for result in results])
        print(f"plot: {plot}")
    return 0


def limit_threads(threads: int | None) -> None:
    """Run on so many threads: numpy's BLAS reads this when it is first imported, which has not happened yet."""
    if threads is None:
        return
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(threads)
    import cv2
    import torch

    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)


def label(case: Mapping[str, object]) -> str:
    """A case in one line."""
    return ", ".join(f"{key} {value}" for key, value in case.items())


def bar(result: Mapping[str, Any]) -> tuple[str, Mapping[str, float]]:
    """A case with its median, as the table has it, and the medians of its stages."""
    return f"{label(result['case'])}: {result['milliseconds']['median']:.3f} ms", result["stages"]


def table(machine: Mapping[str, Any], repeats: int, results: Sequence[Mapping[str, Any]]) -> str:
    """The figures for a terminal: milliseconds in columns, everything else below its row."""
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    lines = [
        f"{machine['processor']}, {machine['cores']} cores, load {machine['load_average']}, "
        f"GPU {machine['gpu'] or 'none'}, repeats {repeats}",
        versions,
        "",
    ]
    names = list(results[0]["milliseconds"])
    width = max(len(label(result["case"])) for result in results)
    lines.append(" ".join([" " * width, *(f"{name:>9}" for name in names), "ms"]))
    for result in results:
        values = (f"{result['milliseconds'][name]:9.3f}" for name in names)
        lines.append(" ".join([label(result["case"]).ljust(width), *values]))
        lines += [f"    {name} {value:.4g} ms" for name, value in result.get("stages", {}).items()]
        lines += [f"    {name} {value:.4g}" for name, value in result.get("figures", {}).items()]
    return "\n".join(lines)
