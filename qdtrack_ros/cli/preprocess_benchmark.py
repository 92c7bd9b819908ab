"""`qdtrack benchmark preprocess`: from pictures in memory to the network's input."""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from qdtrack_ros.cli.options import add_set_option, overrides, positive, size
from qdtrack_ros.cli.timing import in_turns

if TYPE_CHECKING:
    from qdtrack_ros.data.types import Image

WARMUP = 5


def add_preprocess_arguments(parser: argparse.ArgumentParser) -> None:
    """The measurement's arguments, apart from those that all have."""
    sizes = [(640, 480), (1280, 720), (1920, 1080)]
    sizes_help = "of a picture (default: 640x480 1280x720 1920x1080)"
    parser.add_argument("--size", type=size, nargs="+", default=sizes, metavar="WxH", help=sizes_help)
    parser.add_argument("--batch", type=positive, nargs="+", default=[1], metavar="N", help="at once (default: 1)")
    preset_help = "whose input is prepared: a name, or path of a YAML file (default: %(default)s)"
    parser.add_argument("--preset", default="pedestrian", help=preset_help)
    add_set_option(parser, "of the preset, e.g. preprocess.image_scale=[1296,720]")


def preprocess_figures(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Time of a batch by step: resizing, normalising with padding, and both, in turns.

    The static form does the second step in its graph: there the host only resizes.
    """
    from qdtrack_ros.data.synthetic import street
    from qdtrack_ros.inference.preprocess import preprocess, resized_size
    from qdtrack_ros.inference.presets import load_preset

    config = load_preset(arguments.preset, overrides(arguments.set)).preprocess
    as_it_is = replace(config, image_scale=(0, 0))
    results = []
    for (width, height), batch in itertools.product(arguments.size, arguments.batch):
        pictures = [frame.load() for frame in street(batch, (width, height)).frames]
        target = resized_size(height, width, config.image_scale)
        small = _resize(pictures, target)
        runs: dict[str, Callable[[], object]] = {
            "resize": partial(_resize, pictures, target),
            "normalise, pad": partial(preprocess, small, as_it_is),
            "all": partial(preprocess, pictures, config),
        }
        shape = preprocess(pictures, config).images.shape
        case = {"size": f"{width}x{height}", "input": f"{shape[3]}x{shape[2]}", "batch": batch}
        for step, times in in_turns(runs, arguments.repeats, WARMUP).items():
            figures = {"per_picture_ms": times["median"] / batch}
            results.append({"case": {"step": step, **case}, "milliseconds": times, "figures": figures})
    return results


def _resize(pictures: Sequence[Image], target: tuple[int, int]) -> list[Image]:
    from qdtrack_ros.inference.preprocess import resized

    return [resized(picture, target) for picture in pictures]
