"""`qdtrack benchmark engine`: pictures to detections with embeddings, by stage."""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from qdtrack_ros.cli.options import add_model_options, overrides, positive, positive_number, size
from qdtrack_ros.cli.timing import medians, repeated

if TYPE_CHECKING:
    import numpy as np

    from qdtrack_ros.inference.presets import Preset
    from qdtrack_ros.inference.types import Engine, EngineOutput


def add_engine_arguments(parser: argparse.ArgumentParser) -> None:
    """The measurement's arguments, apart from those that all have."""
    sizes_help = "of a picture; several are measured one after the other (default: 768x576)"
    parser.add_argument("--size", type=size, nargs="+", default=[(768, 576)], metavar="WxH", help=sizes_help)
    batch_help = "pictures at once; several are measured one after the other (default: 1)"
    parser.add_argument("--batch", type=positive, nargs="+", default=[1], metavar="N", help=batch_help)
    add_model_options(parser, several_engines=True)
    parser.add_argument("--form", nargs="+", default=["auto"], help="auto, reference or static (default: auto)")
    vs_help = "measure its Faster R-CNN R50-FPN with random weights, too, on inputs of the same size"
    parser.add_argument("--vs", choices=("torchvision",), help=vs_help)
    roofline_help = "the device's 10^12 operations and 10^9 bytes a second: print work, least time and the ratio to it"
    parser.add_argument("--roofline", type=positive_number, nargs=2, metavar=("TFLOPS", "GB/S"), help=roofline_help)


def engine_figures(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Time of a call by its parts, on pictures of a synthetic street: every engine, form, precision, size and batch.

    Each engine is made anew for each size, so that no size finds the graphs of another.
    """
    from qdtrack_ros.inference.engine import create_engine, opened
    from qdtrack_ros.inference.presets import load_preset

    preset = load_preset(arguments.preset, overrides(arguments.set), arguments.weights)
    results = []
    ways = itertools.product(arguments.engine, arguments.form, arguments.precision, arguments.size)
    for name, form, precision, picture_size in ways:
        model = (arguments.weights, arguments.device, name, form, precision)
        with opened(create_engine(preset, *model)) as engine:
            engine.warmup(max(arguments.batch))
            for batch in arguments.batch:
                results.append(_measured(engine, preset, picture_size, batch, arguments))
    if arguments.vs is not None:
        from qdtrack_ros.cli.torchvision_comparison import detector_figures  # loads torchvision
        from qdtrack_ros.inference.engine import choose_device

        device = choose_device(arguments.device)
        for picture_size, batch in itertools.product(arguments.size, arguments.batch):
            canvas = _canvas(preset, picture_size[1], picture_size[0])
            results.append(detector_figures(picture_size, canvas, batch, device, arguments.repeats))
    return results


def _canvas(preset: Preset, height: int, width: int) -> tuple[int, int]:
    """(height, width) of the network's input for pictures of one size."""
    from qdtrack_ros.inference.preprocess import padded_size, resized_size

    config = preset.preprocess
    return padded_size(*resized_size(height, width, config.image_scale), config.pad_multiple)


def _measured(
    engine: Engine, preset: Preset, picture_size: tuple[int, int], batch: int, arguments: argparse.Namespace
) -> dict[str, Any]:
    from qdtrack_ros.data.synthetic import street

    pictures = [frame.load() for frame in street(batch, picture_size).frames]
    outputs: list[EngineOutput] = []
    times = repeated(lambda: outputs.append(engine.detect(pictures)), arguments.repeats)
    case = {
        "engine": engine.name,
        "preset": preset.name,
        "size": "x".join(map(str, picture_size)),
        "batch": batch,
        "detections": sum(len(one.boxes) for one in outputs[0].detections),
    }
    stages = medians([stage_times(output) for output in outputs[-arguments.repeats :]])
    figures = {"per_picture_ms": times["median"] / batch}
    if arguments.roofline is not None:
        figures |= roofline_figures(preset, pictures, arguments.roofline, times["median"])
    return {"case": case, "milliseconds": times, "stages": stages, "figures": figures}


def stage_times(output: EngineOutput) -> dict[str, float]:
    """Milliseconds of a call by stage, as the engine itself takes them."""
    return {
        "preprocess": output.preprocess_ms,
        "inference": output.inference_ms,
        "postprocess": output.postprocess_ms,
    }


def roofline_figures(
    preset: Preset, pictures: Sequence[np.ndarray], device: Sequence[float], median: float
) -> dict[str, float]:
    """Work of a call in half precision, the least time for it on a device, and how many times that was taken."""
    import torch

    from qdtrack_ros.cli.roofline import work_of
    from qdtrack_ros.inference.static_engine import static_form
    from qdtrack_ros.models import QDTrack

    canvas = _canvas(preset, pictures[0].shape[0], pictures[0].shape[1])
    form = static_form(QDTrack(preset.model), preset.preprocess, canvas, dtype=torch.float16)
    work = work_of(form, len(pictures))
    floor = work.floor_ms(*device)
    return {"gflop": work.flops / 1e9, "megabytes": work.moved / 1e6, "floor_ms": floor, "times_floor": median / floor}
