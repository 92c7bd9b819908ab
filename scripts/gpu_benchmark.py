"""All that has to be measured on a GPU, in one run of a few minutes without network: one JSON file and one table.

    scripts/run.sh python scripts/gpu_benchmark.py              on a machine with a CUDA device
    scripts/run.sh python scripts/gpu_benchmark.py --smoke      small inputs on the CPU: whether the script works

What is found: whether the static form in float16 gives the detections of the reference form in float32 (the shipped
model, a drawn street or --source); whether its CUDA graph runs without the host waiting for anything (PyTorch's
profiler); and the time from a frame in host memory to the packed detections on the host, beside torchvision's Faster
R-CNN on the same card, and of calls by two threads, of which one copies while the other computes. What no time is left
for is named in the results.
"""

from __future__ import annotations

import argparse
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torchvision

from qdtrack_ros.cli.association_benchmark import association_times
from qdtrack_ros.cli.machine import describe_machine
from qdtrack_ros.cli.timing import summary
from qdtrack_ros.data.sources import open_source
from qdtrack_ros.data.synthetic import street
from qdtrack_ros.files import replacing, write_json
from qdtrack_ros.inference.agreement import share_matched
from qdtrack_ros.inference.engine import create_engine, load_network, opened
from qdtrack_ros.inference.preprocess import PreprocessConfig
from qdtrack_ros.inference.presets import load_preset
from qdtrack_ros.inference.static_engine import Backend, static_form
from qdtrack_ros.inference.torch_backend import torch_backend
from qdtrack_ros.inference.types import EngineError
from qdtrack_ros.models import ModelConfig, QDTrack

THREADS = 2

# Operators and calls by which the host waits for the device.
WAITS = (
    "aten::item", "aten::_local_scalar_dense", "aten::nonzero", "cudaStreamSynchronize", "cudaDeviceSynchronize",
    "cudaEventSynchronize",
)  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """What is measured.

    Attributes:
        device: where.
        shapes: (height, width) of the R50-FPN's input; the first one in every way, the others in the quickest.
        batches: pictures at once.
        frames: pictures for the comparison of precisions.
        repeats: measured calls.
        calls: by each of two threads, in one measurement.
        seconds: after so many, what is left is left out.
    """

    device: torch.device
    shapes: tuple[tuple[int, int], ...] = ((736, 1312), (608, 1088))  # 1296x736 padded to a multiple of 32
    batches: tuple[int, ...] = (1, 4, 8)
    frames: int = 40
    repeats: int = 50
    calls: int = 10
    seconds: float = 400.0
    began: float = field(default_factory=time.monotonic)

    def is_late(self) -> bool:
        """Whether nothing more should be begun."""
        return time.monotonic() - self.began > self.seconds


def main() -> int:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="tiny and on the CPU")
    parser.add_argument("--source", help="video or folder for the comparison of precisions (default: a drawn street)")
    parser.add_argument("--output", type=Path, default=Path("docs/benchmarks"), metavar="FOLDER")
    arguments = parser.parse_args()
    if not arguments.smoke and not torch.cuda.is_available():
        parser.error("PyTorch sees no CUDA device; --smoke tries the script on the CPU")
    plan = Plan(torch.device("cuda"))
    if arguments.smoke:
        plan = Plan(torch.device("cpu"), ((64, 96),), (1, 2), frames=2, repeats=2, calls=1)
    machine = describe_machine()
    results = {
        "machine": machine,
        "precision": precision_figures(plan, arguments.source),
        "host_waits": wait_figures(plan),
        "association_ms": association_times(100, 223, 256, plan.repeats),
        "milliseconds": list(time_figures(plan)),
    }
    name = re.sub(r"\W+", "-", str(machine["gpu"] or "cpu")).strip("-").lower()
    text = table(results)
    print(text)
    write_json(arguments.output / f"{name}.json", results)
    with replacing(arguments.output / f"{name}.md") as file:
        file.write(text.encode())
    return 0


def precision_figures(plan: Plan, source: str | None) -> list[dict[str, Any]]:
    """How far the shipped model's static form agrees with its reference form in float32, by precision."""
    frames = open_source(source).frames if source else street(plan.frames, (640, 480)).frames
    pictures = [frame.load() for frame in islice(frames, plan.frames)]
    preset, device = load_preset("pedestrian"), str(plan.device)
    with opened(create_engine(preset, device=device, engine="torch", form="reference")) as engine:
        expected = [engine.detect([picture]).detections[0] for picture in pictures]
    figures = []
    for precision, tolerance in (("fp32", 1e-3), ("fp16", 1e-2), ("bf16", 5e-2)):
        if plan.device.type == "cpu" and precision == "fp16":
            continue  # a CPU takes seconds a picture for it
        with opened(create_engine(preset, None, device, "torch", "static", precision)) as engine:
            found = [engine.detect([picture]).detections[0] for picture in pictures]
        shares = [share_matched(a, b, tolerance) for a, b in zip(found, expected, strict=True)]
        figures.append(
            {
                "precision": precision,
                "score_tolerance": tolerance,
                "equal": float(np.mean(shares)),
                "least": min(shares),
            }
        )
    return figures


def wait_figures(plan: Plan) -> dict[str, int]:
    """How often the host waits while one frame is launched: by operator or call of CUDA."""
    preset = load_preset("pedestrian")
    network, _ = load_network(preset, None)
    form = static_form(network, preset.preprocess, (480, 640))
    (graph,) = torch_backend(plan.device).build(form, [1], 1)
    images, sizes = np.zeros((1, 480, 640, 3), np.uint8), np.array([[480, 640]], np.float32)
    launch = getattr(graph, "launch", lambda: graph.run(images, sizes))
    launch()
    activities = [torch.profiler.ProfilerActivity.CPU]
    if plan.device.type == "cuda":
        torch.cuda.synchronize()
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    with torch.profiler.profile(activities=activities) as profile:
        launch()
        # The profiler itself waits for the device when it stops: that is outside what is counted.
        with torch.profiler.record_function("after the launch"):
            pass
    events = profile.events()
    end = next(event.time_range.start for event in events if event.name == "after the launch")
    counted = Counter(event.name for event in events if event.time_range.start < end)
    return {name: counted[name] for name in WAITS}


def time_figures(plan: Plan) -> Iterator[dict[str, Any]]:
    """Milliseconds of a call by network, way to run it, shape and batch."""
    large = "R50-FPN, 8 classes, random weights"
    for which, shape in enumerate(plan.shapes):
        for batch in plan.batches:
            for name, make in ways(plan, shape, batch, all_of_them=which == 0 and batch == 1):
                yield timed(plan, large, name, shape, batch, make)
    network, shape = QDTrack(ModelConfig()).eval(), plan.shapes[0]
    for backend in backends(plan.device):
        make = threads_call(backend, network, PreprocessConfig(), shape, THREADS * plan.calls)
        yield timed(plan, large, f"static, {backend.name}, two threads", shape, 1, make, THREADS * plan.calls)
    preset = load_preset("pedestrian")
    network, _ = load_network(preset, None)
    shape = (480, 640) if plan.device.type == "cuda" else (96, 128)
    for backend in backends(plan.device):
        make = graph_call(backend, network, preset.preprocess, shape, 1)
        yield timed(plan, "pedestrian", backend.name, shape, 1, make)
        make = threads_call(backend, network, preset.preprocess, shape, THREADS * plan.calls)
        yield timed(plan, "pedestrian", f"{backend.name}, two threads", shape, 1, make, THREADS * plan.calls)


def ways(
    plan: Plan, shape: tuple[int, int], batch: int, all_of_them: bool
) -> Iterator[tuple[str, Callable[[], Callable[[], object]]]]:
    """The R50-FPN in each way to run it; each is made only when its turn comes, and dropped after it."""
    torch.manual_seed(0)
    network = QDTrack(ModelConfig()).eval()
    yield "torchvision eager fp32", lambda: torchvision_call(plan.device, shape, batch, compiled=False)
    for backend in backends(plan.device):
        yield f"static, {backend.name}", graph_call(backend, network, PreprocessConfig(), shape, batch)
    if all_of_them and plan.device.type == "cuda":
        compiled = torch_backend(plan.device, "fp16", compiled=True)
        yield f"static, {compiled.name}", graph_call(compiled, network, PreprocessConfig(), shape, batch)
        yield "torchvision compiled fp32", lambda: torchvision_call(plan.device, shape, batch, compiled=True)


def backends(device: torch.device) -> Iterator[Backend]:
    """What can run the static form on a device."""
    yield torch_backend(device, "fp32")
    if device.type == "cuda":
        yield torch_backend(device, "fp16")
        try:
            from qdtrack_ros.inference.tensorrt_backend import tensorrt_backend

            yield tensorrt_backend(device, "fp16", "benchmark")
        except EngineError as error:
            print(f"without TensorRT: {error}")


def graph_call(
    backend: Backend, network: QDTrack, config: PreprocessConfig, shape: tuple[int, int], batch: int
) -> Callable[[], Callable[[], object]]:
    """What makes a call from bytes in host memory to packed detections in host memory."""

    def make() -> Callable[[], object]:
        form = static_form(network, config, shape, backend.pooling, backend.dtype)
        (graph,) = backend.build(form, [batch], 1)
        images: npt.NDArray[np.uint8] = np.random.default_rng(0).integers(0, 255, (batch, *shape, 3), np.uint8)
        sizes = np.array([shape] * batch, np.float32)
        return lambda: graph.run(images, sizes)

    return make


def threads_call(
    backend: Backend, network: QDTrack, config: PreprocessConfig, shape: tuple[int, int], calls: int
) -> Callable[[], Callable[[], object]]:
    """What makes calls by two threads at the same time, each from host memory to host memory."""

    def make() -> Callable[[], object]:
        form = static_form(network, config, shape, backend.pooling, backend.dtype)
        (graph,) = backend.build(form, [1], THREADS)
        images: npt.NDArray[np.uint8] = np.random.default_rng(0).integers(0, 255, (1, *shape, 3), np.uint8)
        sizes = np.array([shape], np.float32)
        pool = ThreadPoolExecutor(THREADS)
        return lambda: list(pool.map(lambda _: graph.run(images, sizes), range(calls)))

    return make


def torchvision_call(device: torch.device, shape: tuple[int, int], batch: int, compiled: bool) -> Callable[[], object]:
    """Torchvision's detector with as many proposals, from bytes in host memory to boxes there; no embeddings."""
    network: Any = torchvision.models.detection.fasterrcnn_resnet50_fpn(
        weights=None, weights_backbone=None, num_classes=9, min_size=min(shape), max_size=max(shape)
    )
    network = network.eval().to(device)
    network = torch.compile(network) if compiled else network
    pictures = [torch.randint(0, 255, (3, *shape), dtype=torch.uint8) for _ in range(batch)]

    def call() -> object:
        with torch.inference_mode():
            found = network([picture.to(device).float() / 255 for picture in pictures])
            return [{name: part.cpu() for name, part in one.items()} for one in found]

    return call


def timed(
    plan: Plan,
    network: str,
    way: str,
    shape: tuple[int, int],
    batch: int,
    make: Callable[[], Callable[[], object]],
    calls: int = 1,
) -> dict[str, Any]:
    """Times of a call, of which one of `make` may be several; what fails or comes too late says so in its place."""
    case: dict[str, Any] = {"network": network, "way": way, "size": f"{shape[1]}x{shape[0]}", "batch": batch}
    if plan.is_late():
        return {**case, "left_out": f"{plan.seconds:.0f} s were over"}
    try:
        call = make()
        for _ in range(5 if plan.device.type == "cuda" else 1):
            call()
        taken = []
        for _ in range(plan.repeats):
            began = time.perf_counter()
            call()
            taken.append(1e3 * (time.perf_counter() - began) / calls)
    except (RuntimeError, EngineError) as error:  # out of memory, an operator that a compiler does not know
        return {**case, "left_out": str(error).splitlines()[0]}
    finally:
        if plan.device.type == "cuda":
            torch.cuda.empty_cache()
    return {**case, **summary(taken), "per_picture": summary(taken)["median"] / batch}


def table(results: dict[str, Any]) -> str:
    """The figures as Markdown."""
    machine = results["machine"]
    lines = [
        f"# {machine['gpu'] or machine['processor']}",
        "",
        f"Made by `scripts/gpu_benchmark.py`. torch {machine['versions'].get('torch')}, {machine['processor']}, "
        f"{machine['cores']} cores. Times in ms from bytes in host memory to detections there; association of 100 "
        f"detections (median {results['association_ms']['median']:.2f} ms, one core) not included.",
        "",
        "| network | way | size | batch | median | p90 | p99 | minimum | iqr | per picture |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for one in results["milliseconds"]:
        columns = ("median", "p90", "p99", "minimum", "iqr", "per_picture")
        if "left_out" in one:
            figures = f"left out: {one['left_out']}{' |' * (len(columns) - 1)}"
        else:
            figures = " | ".join(f"{one[name]:.2f}" for name in columns)
        lines.append(f"| {one['network']} | {one['way']} | {one['size']} | {one['batch']} | {figures} |")
    lines += ["", "| static form in | scores within | detections of the reference form | in the worst picture |"]
    lines += ["|---|---|---|---|"]
    lines += [
        f"| {one['precision']} | {one['score_tolerance']:g} | {one['equal']:.2%} | {one['least']:.2%} |"
        for one in results["precision"]
    ]
    waits = {name: count for name, count in results["host_waits"].items() if count}
    lines += ["", f"Host waits during a launch: {waits or 'none'}.", ""]
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(main())
