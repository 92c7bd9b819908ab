"""`qdtrack benchmark`: association, engines, tracking, the node, and loading for a training, on this machine."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qdtrack_ros.cli.loader_benchmark import add_loader_arguments, loader_figures
from qdtrack_ros.cli.node_benchmark import add_node_arguments, node_figures
from qdtrack_ros.cli.options import add_model_options, overrides, positive, positive_number, size
from qdtrack_ros.cli.timing import summary
from qdtrack_ros.cli.tracking_benchmark import add_tracking_arguments
from qdtrack_ros.files import check_writable, write_json

if TYPE_CHECKING:
    import numpy as np

    from qdtrack_ros.inference.presets import Preset
    from qdtrack_ros.inference.types import Detections

WARMUP = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    what = parser.add_subparsers(title="what", dest="what", metavar="WHAT", required=True)
    association = what.add_parser("association", help="one step of the tracker against a full memory")
    association.add_argument("--detections", type=positive, nargs="+", default=[100, 300], metavar="N")
    association.add_argument("--memory", type=positive, default=223, help="entries of the memory (default: 223)")
    association.add_argument("--dim", type=positive, default=256, help="length of an embedding (default: 256)")
    engine = what.add_parser("engine", help="a picture to detections with embeddings")
    engine.add_argument("--size", type=size, default=(768, 576), metavar="WxH", help="of a picture (default: 768x576)")
    engine.add_argument("--batch", type=positive, default=1, help="pictures at once (default: 1)")
    add_model_options(engine)
    engine.add_argument("--form", default="auto", help="auto, reference or static (default: %(default)s)")
    engine.add_argument("--precision", default="auto", help="auto, fp32, fp16 or bf16 (default: %(default)s)")
    roofline_help = "the device's 10^12 operations and 10^9 bytes a second: print work, least time and the ratio to it"
    engine.add_argument("--roofline", type=positive_number, nargs=2, metavar=("TFLOPS", "GB/S"), help=roofline_help)
    tracking = what.add_parser("tracking", help="a picture to tracks, by several engines in turns")
    add_tracking_arguments(tracking)
    detector = what.add_parser("torchvision", help="R50-FPN beside torchvision's Faster R-CNN, in turns")
    detector.add_argument(
        "--size", type=size, default=(640, 352), metavar="WxH", help="of a picture (default: 640x352)"
    )
    loading = what.add_parser("loader", help="pairs for a training, prepared by 0, 1, 2 workers")
    add_loader_arguments(loading)
    node = what.add_parser(
        "node", help="what the node adds to its engine: latency, processor time, many cameras, overload"
    )
    node.add_argument("--size", type=size, default=(1280, 720), metavar="WxH", help="of a picture (default: 1280x720)")
    add_node_arguments(node)
    for sub, repeats in ((association, 200), (engine, 50), (tracking, 100), (detector, 10), (loading, 50), (node, 600)):
        sub.add_argument("--repeats", type=positive, default=repeats, help="measured calls (default: %(default)s)")
        sub.add_argument("--threads", type=positive, help="threads of PyTorch and of numpy's BLAS (default: all cores)")
        sub.add_argument("--json", type=Path, metavar="FILE", help="write the figures to this file, too")


def run(arguments: argparse.Namespace) -> int:
    """Measure, print, and write the figures."""
    from qdtrack_ros.cli.machine import describe_machine

    if arguments.json is not None:
        check_writable(arguments.json)
    limit_threads(arguments.threads)
    machine = describe_machine()  # before the measurement adds to the load
    results = MEASUREMENTS[arguments.what](arguments)
    gpu = machine["gpu"] or "none"
    print(f"{machine['processor']}, {machine['cores']} cores, load {machine['load_average']}, GPU {gpu}")
    for result in results:
        name = ", ".join(f"{key} {value}" for key, value in result["case"].items())
        figures = ", ".join(f"{key} {value:.3f}" for key, value in result["milliseconds"].items())
        print(f"{name}: {figures} ms")
        for key, value in result.get("figures", {}).items():
            print(f"    {key} {value:.4g}")
    if arguments.json is not None:
        facts = {"benchmark": arguments.what, "machine": machine, "threads": arguments.threads}
        write_json(arguments.json, {**facts, "results": results})
        print(f"figures: {arguments.json}")
    return 0


def limit_threads(threads: int | None) -> None:
    """Run on so many threads: libraries read this when they are first imported, which has not happened yet."""
    if threads is not None:
        for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
            os.environ[name] = str(threads)


def association_figures(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Time of a step by number of detections."""
    return [
        {
            "case": {"detections": count, "memory": arguments.memory, "dim": arguments.dim},
            "milliseconds": association_times(count, arguments.memory, arguments.dim, arguments.repeats),
        }
        for count in arguments.detections
    ]


def association_times(count: int, memory: int, dim: int, repeats: int) -> dict[str, float]:
    """Measure one step of `count` detections against `memory` tracklets, always from the same memory.

    The detections are the tracklets seen again where there are enough of those, else also new objects.
    """
    import numpy as np

    from qdtrack_ros.tracking import AssociationConfig, QuasiDenseTracker

    rng = np.random.default_rng(0)
    config = AssociationConfig(init_score=0.7, object_score=0.3, match_score=0.5, memory_frames=10)
    objects = scattered(rng, max(count, memory), dim)
    known, seen = rows(objects, memory), rows(objects, count)
    tracker = QuasiDenseTracker(config)
    tracker.step(*known, frame_index=0)
    if len(tracker.tracks) != memory:
        raise AssertionError(f"the memory holds {len(tracker.tracks)} entries instead of {memory}")
    state = tracker.state_dict()
    embeddings = seen.embeddings + rng.normal(0, 0.1, seen.embeddings.shape).astype(np.float32)
    seen = seen._replace(boxes=seen.boxes + np.float32(1), embeddings=embeddings)
    return percentiles(lambda: tracker.step(*seen, frame_index=1), repeats, lambda: tracker.load_state_dict(state))


def rows(detections: Detections, count: int) -> Detections:
    """The first ones."""
    boxes, scores, labels, embeddings = detections
    return type(detections)(boxes[:count], scores[:count], labels[:count], embeddings[:count])


def scattered(rng: np.random.Generator, count: int, dim: int) -> Detections:
    """Detections that do not overlap, each with an appearance of its own."""
    import numpy as np

    from qdtrack_ros.inference.types import Detections

    columns = 40
    corners = np.stack([np.arange(count) % columns, np.arange(count) // columns], axis=1) * 50.0
    boxes = np.concatenate([corners, corners + (30.0, 45.0)], axis=1).astype(np.float32)
    scores = np.sort(rng.uniform(0.75, 1.0, count).astype(np.float32))[::-1].copy()
    embeddings = rng.normal(size=(count, dim)).astype(np.float32)
    return Detections(boxes, scores, np.zeros(count, np.int64), embeddings)


def engine_figures(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Time of a call by its parts, on pictures of a synthetic street."""
    from qdtrack_ros.data.synthetic import street
    from qdtrack_ros.inference.engine import create_engine, opened
    from qdtrack_ros.inference.presets import load_preset

    if arguments.threads is not None:
        import torch

        torch.set_num_threads(arguments.threads)
    preset = load_preset(arguments.preset, overrides(arguments.set), arguments.weights)
    pictures = [frame.load() for frame in street(arguments.batch, arguments.size).frames]
    model = (arguments.weights, arguments.device, arguments.engine, arguments.form, arguments.precision)
    with opened(create_engine(preset, *model)) as engine:
        engine.warmup()
        found = engine.detect(pictures)
        times = percentiles(lambda: engine.detect(pictures), arguments.repeats)
        case = {
            "engine": engine.name,
            "preset": preset.name,
            "size": "x".join(map(str, arguments.size)),
            "batch": arguments.batch,
            "detections": sum(len(one.boxes) for one in found.detections),
        }
    result: dict[str, Any] = {"case": case, "milliseconds": times}
    if arguments.roofline is not None:
        result["roofline"] = roofline_figures(preset, pictures, arguments.roofline, times["median"])
        figures = ", ".join(f"{key} {value:.3f}" for key, value in result["roofline"].items())
        print(f"roofline of a batch in half precision: {figures}")
    return [result]


def roofline_figures(
    preset: Preset, pictures: Sequence[np.ndarray], device: Sequence[float], median: float
) -> dict[str, float]:
    """Work of a call in half precision, the least time for it on a device, and how many times that was taken."""
    import torch

    from qdtrack_ros.cli.roofline import work_of
    from qdtrack_ros.inference.preprocess import padded_size, resized_size
    from qdtrack_ros.inference.static_engine import static_form
    from qdtrack_ros.models import QDTrack

    config = preset.preprocess
    height, width = resized_size(pictures[0].shape[0], pictures[0].shape[1], config.image_scale)
    canvas = padded_size(height, width, config.pad_multiple)
    work = work_of(static_form(QDTrack(preset.model), config, canvas, dtype=torch.float16), len(pictures))
    floor = work.floor_ms(*device)
    return {"gflop": work.flops / 1e9, "megabytes": work.moved / 1e6, "floor_ms": floor, "times_floor": median / floor}


def torchvision_figures(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Time of a picture in our reference form and in torchvision's detector."""
    import torch

    from qdtrack_ros.cli.torchvision_comparison import comparison_figures

    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)
    return comparison_figures(arguments)


def tracking_figures(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Time of a picture to its tracks, by engine."""
    from qdtrack_ros.cli import tracking_benchmark

    return tracking_benchmark.tracking_figures(arguments)


MEASUREMENTS: dict[str, Callable[[argparse.Namespace], list[dict[str, Any]]]] = {
    "association": association_figures,
    "engine": engine_figures,
    "tracking": tracking_figures,
    "torchvision": torchvision_figures,
    "loader": loader_figures,
    "node": node_figures,
}


def percentiles(
    call: Callable[[], object], repeats: int, before: Callable[[], object] | None = None
) -> dict[str, float]:
    """Milliseconds of a call after a warm-up; what `before` does each time is not measured."""
    taken = []
    for turn in range(repeats + WARMUP):
        if before is not None:
            before()
        began = time.perf_counter()
        call()
        if turn >= WARMUP:
            taken.append(1e3 * (time.perf_counter() - began))
    return summary(taken)
