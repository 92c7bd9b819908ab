"""`qdtrack benchmark tracking`: a frame to tracks with several engines, in turns on the same video."""

from __future__ import annotations

import argparse
import time
from itertools import islice
from typing import Any

from qdtrack_ros.cli.options import add_set_option, overrides, size
from qdtrack_ros.cli.timing import summary

WARMUP = 3


def add_tracking_arguments(parser: argparse.ArgumentParser) -> None:
    """The measurement's arguments, apart from those that all have."""
    parser.add_argument("--source", metavar="SOURCE", help="video, folder or bag (default: a drawn street)")
    parser.add_argument("--size", type=size, default=(640, 480), metavar="WxH", help="of the street (default: 640x480)")
    engines_help = "each with its form, e.g. torch:reference openvino:static (default: all that are installed)"
    parser.add_argument("--engines", nargs="+", type=engine_and_form, metavar="ENGINE:FORM", help=engines_help)
    parser.add_argument("--preset", help="name, or path of a YAML file (default: that of the weights, else pedestrian)")
    parser.add_argument(
        "--weights", metavar="FILE", help="file, or a name of `qdtrack weights` (default: the preset's)"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: %(default)s)")
    add_set_option(parser, "of the preset, e.g. preprocess.image_scale=[320,240]")


def engine_and_form(text: str) -> tuple[str, str]:
    """The two names of `engine:form`."""
    engine, separator, form = text.partition(":")
    if not (engine and separator and form):
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form ENGINE:FORM, e.g. openvino:static")
    return engine, form


def tracking_figures(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Time from a picture in memory to its tracks, by engine; every engine has a tracker of its own.

    One frame goes through all engines before the next, so that a busy machine is busy for all.
    """
    import torch

    from qdtrack_ros.data.sources import open_source
    from qdtrack_ros.data.synthetic import street
    from qdtrack_ros.inference.tracker import Tracker

    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)
    preset = arguments.preset or ("pedestrian" if not arguments.weights else "")
    trackers = [
        Tracker.from_preset(preset, arguments.weights, arguments.device, engine, form, overrides(arguments.set))
        for engine, form in arguments.engines or installed()
    ]
    count = arguments.repeats + WARMUP
    frames = open_source(arguments.source).frames if arguments.source else street(count, arguments.size).frames
    taken: list[list[float]] = [[] for _ in trackers]
    tracked = [0] * len(trackers)
    picture = None
    for index, frame in enumerate(islice(frames, count)):
        picture = frame.load()
        for which, tracker in enumerate(trackers):
            began = time.perf_counter()
            tracks = tracker(picture)
            if index >= WARMUP:
                taken[which].append(1e3 * (time.perf_counter() - began))
                tracked[which] += len(tracks.ids)
    if picture is None or not taken[0]:
        raise OSError(f"{arguments.source} has fewer than {WARMUP + 1} frames")
    results = []
    for tracker, times, boxes in zip(trackers, taken, tracked, strict=True):
        case = {
            "engine": tracker.engine.name,
            "size": f"{picture.shape[1]}x{picture.shape[0]}",
            "frames": len(times),
            "threads": torch.get_num_threads(),
            "boxes_tracked": boxes,
        }
        figures = summary(times)
        results.append({"case": case, "milliseconds": figures, "frames_per_second": 1e3 / figures["median"]})
        tracker.engine.close()
    return results


def installed() -> list[tuple[str, str]]:
    """Every engine for the CPU that this machine has."""
    from importlib.util import find_spec

    others = [(name, "static") for name in ("openvino", "onnxruntime") if find_spec(name) is not None]
    return [("torch", "reference"), ("torch", "static"), *others]
