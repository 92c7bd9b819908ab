"""`qdtrack benchmark tracking`: a frame to tracks with several engines, in turns on the same video."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable
from itertools import islice
from typing import TYPE_CHECKING, Any

from qdtrack_ros.cli.engine_benchmark import stage_times
from qdtrack_ros.cli.options import add_preset_options, add_set_option, overrides, size, two_names
from qdtrack_ros.cli.timing import medians, summary

if TYPE_CHECKING:
    from qdtrack_ros.data.types import Frame

WARMUP = 3


def add_tracking_arguments(parser: argparse.ArgumentParser) -> None:
    """The measurement's arguments, apart from those that all have."""
    parser.add_argument("--source", metavar="SOURCE", help="video, folder or bag (default: a drawn street)")
    size_help = "of the street; several are measured one after the other (default: 640x480)"
    parser.add_argument("--size", type=size, nargs="+", default=[(640, 480)], metavar="WxH", help=size_help)
    engines_help = (
        "each with its form, and its precision where that is not fp32, e.g. torch:reference openvino:static:bf16 "
        "(default: all that are installed)"
    )
    parser.add_argument("--engines", nargs="+", type=engine_choice, metavar="ENGINE:FORM", help=engines_help)
    add_preset_options(parser)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: %(default)s)")
    add_set_option(parser, "of the preset, e.g. preprocess.image_scale=[320,240]")


def engine_choice(text: str) -> tuple[str, str, str]:
    """Engine, form and precision of `engine:form` or `engine:form:precision`."""
    engine, rest = two_names(text, ":", "ENGINE:FORM or ENGINE:FORM:PRECISION, e.g. openvino:static")
    form, _, precision = rest.partition(":")
    return engine, form, precision or "auto"


def tracking_figures(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Time from a picture in memory to its tracks, by engine; every engine has a tracker of its own.

    One frame goes through all engines before the next, so that a busy machine is busy for all.
    """
    from qdtrack_ros.data.sources import open_source
    from qdtrack_ros.data.synthetic import street

    count = arguments.repeats + WARMUP
    if arguments.source:
        return _figures_of(arguments, islice(open_source(arguments.source).frames, count))
    return [result for one in arguments.size for result in _figures_of(arguments, street(count, one).frames)]


def _figures_of(arguments: argparse.Namespace, frames: Iterable[Frame]) -> list[dict[str, Any]]:
    import torch

    from qdtrack_ros.inference.tracker import Tracker

    preset = arguments.preset or ("pedestrian" if not arguments.weights else "")
    trackers = [
        Tracker.from_preset(
            preset, arguments.weights, arguments.device, engine, form, overrides(arguments.set), precision
        )
        for engine, form, precision in arguments.engines or installed()
    ]
    taken: list[list[float]] = [[] for _ in trackers]
    stages: list[list[dict[str, float]]] = [[] for _ in trackers]
    tracked = [0] * len(trackers)
    picture = None
    for index, frame in enumerate(frames):
        picture = frame.load()
        for which, tracker in enumerate(trackers):
            began = time.perf_counter()
            output = tracker.engine.detect([picture])
            detected = time.perf_counter()
            tracks = tracker.associate(output.detections[0])
            done = time.perf_counter()
            if index >= WARMUP:
                taken[which].append(1e3 * (done - began))
                stages[which].append({**stage_times(output), "association": 1e3 * (done - detected)})
                tracked[which] += len(tracks.ids)
    if picture is None or not taken[0]:
        raise OSError(f"{arguments.source} has fewer than {WARMUP + 1} frames")
    results = []
    for tracker, times, parts, boxes in zip(trackers, taken, stages, tracked, strict=True):
        case = {
            "engine": tracker.engine.name,
            "size": f"{picture.shape[1]}x{picture.shape[0]}",
            "frames": len(times),
            "threads": torch.get_num_threads(),
            "boxes_tracked": boxes,
        }
        figures = summary(times)
        rate = {"frames_per_second": 1e3 / figures["median"]}
        results.append({"case": case, "milliseconds": figures, "stages": medians(parts), "figures": rate})
        tracker.engine.close()
    return results


def installed() -> list[tuple[str, str, str]]:
    """Every engine for the CPU that this machine has."""
    from qdtrack_ros.inference.engine import cpu_graph_backends

    graphs = [(name, "static", precision) for name, precision in cpu_graph_backends()]
    return [("torch", "reference", "auto"), ("torch", "static", "auto"), *graphs]
