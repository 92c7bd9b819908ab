"""All that has to be measured on a GPU, in one run of less than eight minutes without network: a JSON file and a table.

    scripts/run.sh python scripts/gpu_benchmark.py              in the environment of `make setup`
    PYTHONPATH=. python3 scripts/gpu_benchmark.py               without ROS: torch, torchvision, numpy, opencv,
                                                                safetensors and pyyaml are enough
    scripts/run.sh python scripts/gpu_benchmark.py --smoke      small inputs on the CPU: whether the script works

What is found: whether the static form in half precision gives the detections and tracks of the reference form in
float32 (the shipped model, a drawn street or --source); whether the host waits for anything while its CUDA graph is
launched (PyTorch's profiler); and the time from a frame in host memory to tracks on the host, beside torchvision's
Faster R-CNN on the same card and beside the least time that the card could take. What matters most comes first, and
both files are written after every part. What fails, or has no time left, is named in its place; when a failure has
broken the device for this process, another one goes on.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import functools
import gc
import json
import os
import re
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.autograd import DeviceType

from qdtrack_ros.cli.association_benchmark import FullMemory, association_times
from qdtrack_ros.cli.engine_benchmark import stage_times
from qdtrack_ros.cli.machine import describe_machine
from qdtrack_ros.cli.roofline import work_of
from qdtrack_ros.cli.timing import medians, summary
from qdtrack_ros.cli.torchvision_comparison import detector_call
from qdtrack_ros.data.sources import open_source
from qdtrack_ros.data.synthetic import street
from qdtrack_ros.files import replacing, write_json
from qdtrack_ros.inference.agreement import share_matched
from qdtrack_ros.inference.engine import create_engine, load_network, opened
from qdtrack_ros.inference.preprocess import PreprocessConfig, padded_size
from qdtrack_ros.inference.presets import load_preset
from qdtrack_ros.inference.static_engine import Backend, StaticEngine, static_form
from qdtrack_ros.inference.torch_backend import torch_backend
from qdtrack_ros.inference.tracker import Tracker
from qdtrack_ros.inference.types import Detections
from qdtrack_ros.models import ModelConfig, QDTrack

DETECTIONS, MEMORY = 100, 223  # of the association: random weights find no objects, so that it has some of its own
THREADS = 2
TORCHVISION = "torchvision eager fp32"
TOLERANCES = {"fp32": 1e-3, "fp16": 1e-2, "bf16": 5e-2}  # of scores

# Operators and calls by which the host waits for the device.
WAITS = (
    "aten::item", "aten::_local_scalar_dense", "aten::nonzero", "cudaStreamSynchronize", "cudaDeviceSynchronize",
    "cudaEventSynchronize", "cudaMemcpy", "cuStreamSynchronize", "cuCtxSynchronize", "cuEventSynchronize",
)  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """What is measured.

    Attributes:
        device: where.
        sizes: (width, height) of the R50-FPN's pictures; the first one in every way, the others in the quickest.
        small: (width, height) of the shipped model's pictures.
        batches: pictures at once.
        frames: pictures for the comparison of precisions.
        source: of those; None for a drawn street.
        repeats: measured calls.
        calls: by each of two threads, in one measurement; at most 10.
        seconds: after so many the run ends, whatever it is doing.
    """

    device: torch.device
    sizes: tuple[tuple[int, int], ...] = ((1296, 736), (1088, 608))
    small: tuple[int, int] = (640, 480)
    batches: tuple[int, ...] = (1, 4, 8)
    frames: int = 40
    source: str | None = None
    repeats: int = 50
    calls: int = 10
    seconds: float = 465.0

    @property
    def on_gpu(self) -> bool:
        """Whether this is the real thing."""
        return self.device.type == "cuda"

    @property
    def quickest(self) -> str:
        """The precision that matters most; a CPU takes seconds a picture for half of one."""
        return "fp16" if self.on_gpu else "fp32"


class Model(NamedTuple):
    """A network with its pictures.

    Attributes:
        name: as in the results.
        load: makes it, on the CPU.
        config: of its input.
        size: (width, height) of the pictures, which are not resized.
    """

    name: str
    load: Callable[[], QDTrack]
    config: PreprocessConfig
    size: tuple[int, int]

    @property
    def canvas(self) -> tuple[int, int]:
        """(height, width) of the network's input."""
        return padded_size(self.size[1], self.size[0], self.config.pad_multiple)


class Part(NamedTuple):
    """Something to measure.

    Attributes:
        name: where its figures are in the results.
        measure: gives them.
        seconds: that it may take; it is not begun where fewer are left.
    """

    name: str
    measure: Callable[[], dict[str, Any]]
    seconds: float = 15.0


class Report:
    """The results, on disk after every part.

    Args:
        folder: for both files, which are named by the device.
        resume: go on with what is there already.
    """

    def __init__(self, folder: Path, resume: bool) -> None:
        machine = describe_machine()
        name = re.sub(r"\W+", "-", str(machine["gpu"] or "cpu")).strip("-").lower()
        self._file = folder / f"{name}.json"
        self.results: dict[str, Any] = {"machine": machine, "took_s": 0.0, "parts": {}}
        if resume:
            self.results = json.loads(self._file.read_text(encoding="utf-8"))
        self._began = time.monotonic() - self.results["took_s"]
        self._writing = threading.Lock()

    @property
    def took_s(self) -> float:
        """Seconds since the run began, those of an earlier process included."""
        return time.monotonic() - self._began

    def has(self, name: str) -> bool:
        """Whether a part is there already."""
        return name in self.results["parts"]

    def add(self, name: str, figures: dict[str, Any]) -> None:
        """Take in a part's figures and write everything."""
        with self._writing:
            self.results["parts"][name] = figures
            self.results["took_s"] = round(self.took_s, 1)
            compare(self.results["parts"])
            write_json(self._file, self.results)
            with replacing(self._file.with_suffix(".md")) as file:
                file.write(table(self.results).encode())


def main() -> int:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="tiny and on the CPU")
    parser.add_argument("--source", help="video or folder for the comparison of precisions (default: a drawn street)")
    output_help = "of the files (default: docs/benchmarks; with --smoke, whose figures mean nothing, runs/smoke)"
    parser.add_argument("--output", type=Path, metavar="FOLDER", help=output_help)
    parser.add_argument("--resume", action="store_true", help="measure what the files of an earlier run lack")
    arguments = parser.parse_args()
    if not arguments.smoke and not torch.cuda.is_available():
        parser.error("PyTorch sees no CUDA device; --smoke tries the script on the CPU")
    plan = Plan(torch.device("cuda"), source=arguments.source)
    if arguments.smoke:
        plan = Plan(torch.device("cpu"), ((96, 64),), (128, 96), (1, 2), frames=2, repeats=2, calls=1)
    folder = arguments.output or Path("runs/smoke" if arguments.smoke else "docs/benchmarks")
    report = Report(folder, arguments.resume)
    for part in parts(plan):
        if report.has(part.name):
            continue
        with ending_in_time(plan, report, part):
            report.add(part.name, figures_of(part, plan.seconds - report.took_s))
        if is_lost(plan.device):
            others = [word for word in sys.argv if word != "--resume"]
            os.execv(sys.executable, [sys.executable, *others, "--resume"])
    print(table(report.results))
    return 0


def figures_of(part: Part, left_s: float) -> dict[str, Any]:
    """What a part finds, or why it finds nothing."""
    if left_s < part.seconds:
        return {"left_out": f"it may take {part.seconds:.0f} s, and {max(left_s, 0):.0f} were left"}
    print(f"{part.name} ...", flush=True)
    try:
        return part.measure()
    except Exception as error:  # one way that fails, in whatever manner, takes no other with it
        traceback.print_exc()
        return {"left_out": f"{type(error).__name__}: {' '.join(str(error).split())[:300] or 'no reason given'}"}
    finally:
        gc.collect()
        with contextlib.suppress(Exception):  # a lost device answers every call with an error
            torch.cuda.empty_cache()


@contextlib.contextmanager
def ending_in_time(plan: Plan, report: Report, part: Part) -> Iterator[None]:
    """End the process when its time is up, even in the midst of a part that hangs."""

    def end() -> None:
        report.add(part.name, {"left_out": f"cut off after {plan.seconds:.0f} s of the whole run"})
        print(table(report.results), flush=True)
        os._exit(0)

    timer = threading.Timer(max(plan.seconds - report.took_s, 1.0), end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def is_lost(device: torch.device) -> bool:
    """Whether the device answers this process with errors only, as after an access to memory that is not there."""
    if device.type != "cuda":
        return False
    try:
        torch.cuda.synchronize(device)
    except Exception:
        return True
    return False


def parts(plan: Plan) -> Iterator[Part]:
    """Everything, what matters most first; what takes minutes to compile or build, last."""
    large = [Model("R50-FPN", r50_fpn, PreprocessConfig(image_scale=size), size) for size in plan.sizes]
    preset = load_preset("pedestrian")
    config = dataclasses.replace(preset.preprocess, image_scale=plan.small)
    small = Model("pedestrian", lambda: load_network(preset, None)[0], config, plan.small)
    first, most = large[0], plan.batches[-1]
    half, exact = torch_backend(plan.device, plan.quickest), torch_backend(plan.device, "fp32")

    for precision in dict.fromkeys((plan.quickest, "fp32", "bf16")):
        yield Part(f"precision torch {precision}", functools.partial(precision_figures, plan, precision))
    yield Part("host waits", lambda: wait_figures(plan))
    yield Part("device", lambda: device_figures(plan))
    for model in (*large, small):
        yield Part(f"work {label(model)}", functools.partial(work_figures, model))
    yield tracks_part(plan, first, half, 1)
    yield torchvision_part(plan, first, 1)
    yield Part("kernels", lambda: kernel_figures(plan, first))
    yield Part("association", lambda: association_times(DETECTIONS, MEMORY, 256, plan.repeats))
    yield tracks_part(plan, small, half, 1)
    for batch in plan.batches[1:]:
        yield tracks_part(plan, first, half, batch)
        yield torchvision_part(plan, first, batch)
    yield tracks_part(plan, first, half, 1, threads=THREADS)
    yield tracks_part(plan, small, half, 1, threads=THREADS)
    for model in large[1:]:
        for batch in plan.batches:
            yield tracks_part(plan, model, half, batch)
            yield torchvision_part(plan, model, batch)
    if not plan.on_gpu:
        return
    yield tracks_part(plan, first, exact, 1)
    yield tracks_part(plan, small, exact, 1)
    for batch in (1, most):
        yield tracks_part(plan, first, half, batch, search=True)
    for model, batch, seconds in ((small, 1, 60.0), (first, 1, 120.0)):
        yield tracks_part(plan, model, functools.partial(tensorrt, plan.device), batch, seconds)
    yield Part("precision tensorrt fp16", lambda: precision_figures(plan, "fp16", "tensorrt"), 60.0)
    compiled = torch_backend(plan.device, "fp16", compiled=True)
    yield tracks_part(plan, first, compiled, 1, 100.0)
    yield torchvision_part(plan, first, 1, compiled=True)
    yield tracks_part(plan, first, functools.partial(tensorrt, plan.device), most, 120.0)


@functools.cache
def r50_fpn() -> QDTrack:
    """The paper's network with 8 classes and random weights."""
    torch.manual_seed(0)
    return QDTrack(ModelConfig()).eval()


def tensorrt(device: torch.device) -> Backend:
    """TensorRT in half precision; what it lacks, it says when its turn comes."""
    from qdtrack_ros.inference.tensorrt_backend import tensorrt_backend

    return tensorrt_backend(device, "fp16", "benchmark")


def label(model: Model) -> str:
    """A network with the size of its pictures."""
    return f"{model.name} {model.size[0]}x{model.size[1]}"


@functools.cache
def expected_figures(plan: Plan) -> tuple[list[np.ndarray], list[Detections], list[np.ndarray]]:
    """Pictures, and what the shipped model's reference form finds in them: detections and identities."""
    frames = open_source(plan.source).frames if plan.source else street(plan.frames, plan.small).frames
    pictures = [frame.load() for frame in islice(frames, plan.frames)]
    return pictures, *followed(plan, pictures, "torch", "reference", "fp32")


def followed(
    plan: Plan, pictures: list[np.ndarray], engine: str, form: str, precision: str
) -> tuple[list[Detections], list[np.ndarray]]:
    """The shipped model's detections and identities in a video."""
    preset = load_preset("pedestrian")
    with opened(create_engine(preset, None, str(plan.device), engine, form, precision)) as made:
        tracker = Tracker(made, preset.association, preset.labels)
        found = [made.detect([picture]).detections[0] for picture in pictures]
        return found, [tracker.associate(one).ids for one in found]


def precision_figures(plan: Plan, precision: str, engine: str = "torch") -> dict[str, Any]:
    """How far the shipped model's static form agrees with its reference form in float32."""
    pictures, expected, expected_ids = expected_figures(plan)
    found, ids = followed(plan, pictures, engine, "static", precision)
    shares = [share_matched(a, b, TOLERANCES[precision]) for a, b in zip(found, expected, strict=True)]
    same_ids = [np.array_equal(a, b) for a, b in zip(ids, expected_ids, strict=True)]
    return {
        "engine": engine,
        "precision": precision,
        "score_tolerance": TOLERANCES[precision],
        "detections": sum(len(one.scores) for one in expected),
        "equal": float(np.mean(shares)),
        "least": min(shares),
        "frames_with_the_same_ids": float(np.mean(same_ids)),
    }


def launching(plan: Plan, model: Model) -> Callable[[], object]:
    """What launches a network for one picture; on a GPU it does not wait for the end."""
    form = static_form(model.load(), model.config, model.canvas, dtype=torch_backend(plan.device, plan.quickest).dtype)
    (graph,) = torch_backend(plan.device, plan.quickest).build(form, [1], 1)
    images, sizes = np.zeros((1, *model.canvas, 3), np.uint8), np.array([model.canvas], np.float32)
    return getattr(graph, "launch", lambda: graph.run(images, sizes))


def profiled(plan: Plan, launch: Callable[[], object]) -> tuple[list[Any], float]:
    """Events of the profiler during a launch, and when it was over for the host."""
    launch()
    activities = [torch.profiler.ProfilerActivity.CPU]
    if plan.on_gpu:
        torch.cuda.synchronize()
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    with torch.profiler.profile(activities=activities) as profile:
        launch()
        # The profiler itself waits for the device when it stops: that is outside what is counted.
        with torch.profiler.record_function("after the launch"):
            pass
    events = list(profile.events())
    return events, next(event.time_range.start for event in events if event.name == "after the launch")


def wait_figures(plan: Plan) -> dict[str, Any]:
    """How often the host waits while one frame is launched, by operator or call of CUDA, and how many graphs run."""
    preset = load_preset("pedestrian")
    config = dataclasses.replace(preset.preprocess, image_scale=plan.small)
    launch = launching(plan, Model("pedestrian", lambda: load_network(preset, None)[0], config, plan.small))
    events, end = profiled(plan, launch)
    counted = Counter(event.name for event in events if event.time_range.start < end)
    figures: dict[str, Any] = {name: counted[name] for name in WAITS}
    if plan.on_gpu:
        figures["launches of a graph"] = counted["cudaGraphLaunch"]
        torch.cuda.set_sync_debug_mode("error")  # a second opinion: what PyTorch knows to wait raises
        try:
            launch()
        finally:
            torch.cuda.set_sync_debug_mode("default")
        torch.cuda.synchronize()
    return figures


def kernel_figures(plan: Plan, model: Model) -> dict[str, Any]:
    """What runs on the device for one picture: how many kernels and copies, their time, the longest kinds of them."""
    events, _ = profiled(plan, launching(plan, model))
    kind = DeviceType.CUDA if plan.on_gpu else DeviceType.CPU
    taken: Counter[str] = Counter()
    runs: Counter[str] = Counter()
    for event in events:
        if event.device_type == kind and event.name != "after the launch":
            taken[event.name] += event.time_range.elapsed_us() / 1e3
            runs[event.name] += 1
    longest = [{"name": name[:120], "ms": ms, "runs": runs[name]} for name, ms in taken.most_common(15)]
    return {"case": label(model), "kernels": runs.total(), "ms": taken.total(), "longest": longest}


def device_figures(plan: Plan) -> dict[str, Any]:
    """What the device reaches in a large product in half precision and in a large copy: 10^12/s and 10^9 bytes/s."""
    side, numbers = (8192, 2**28) if plan.on_gpu else (256, 2**20)
    dtype = torch.float16 if plan.on_gpu else torch.float32
    a, b = torch.randn(2, side, side, device=plan.device).to(dtype)
    source = torch.zeros(numbers, device=plan.device)
    target = torch.empty_like(source)
    product_s = device_seconds(plan, lambda: a @ b)
    copy_s = device_seconds(plan, lambda: target.copy_(source))
    return {"tflops": 2 * side**3 / product_s / 1e12, "gigabytes": 2 * 4 * numbers / copy_s / 1e9}


def device_seconds(plan: Plan, call: Callable[[], object], runs: int = 20) -> float:
    """Mean time of a call that keeps the device busy."""
    for timed_runs in (runs, runs):  # the first time to warm up
        began = time.perf_counter()
        for _ in range(timed_runs):
            call()
        if plan.on_gpu:
            torch.cuda.synchronize()
    return (time.perf_counter() - began) / runs


def work_figures(model: Model) -> dict[str, Any]:
    """What a picture takes in half precision, whoever computes it."""
    work = work_of(static_form(model.load(), model.config, model.canvas, dtype=torch.float16), 1)
    return {"gflop": work.flops / 1e9, "megabytes": work.moved / 1e6}


def tracks_part(
    plan: Plan,
    model: Model,
    backend: Backend | Callable[[], Backend],
    batch: int,
    seconds: float = 15.0,
    threads: int = 1,
    search: bool = False,
) -> Part:
    """Frames in host memory to tracks on the host; each frame has a camera, and a tracker, of its own."""
    way = f"static, {backend.name}" if isinstance(backend, Backend) else "static, tensorrt fp16"
    way += ", two threads" if threads > 1 else ""
    way += ", kernels searched" if search else ""

    def measure() -> dict[str, Any]:
        made = backend if isinstance(backend, Backend) else backend()
        torch.backends.cudnn.benchmark = search
        try:
            engine = StaticEngine(model.load(), "benchmark", model.config, made)
            with opened(engine):
                engine.warmup(batch, threads)
                before = engine.inexact_pictures
                figures = tracks_figures(plan, engine, model, batch, threads)
                if engine.inexact_pictures != before:
                    raise ValueError("pictures went through the reference form")
        finally:
            torch.backends.cudnn.benchmark = False
        return {**case(model, way, batch), **figures}

    return Part(f"ms {way}, {label(model)}, batch {batch}", measure, seconds)


def tracks_figures(plan: Plan, engine: StaticEngine, model: Model, batch: int, threads: int) -> dict[str, Any]:
    """Times of a call, and of its stages where it is alone."""
    pictures = [frame.load() for frame in street(batch, model.size).frames]
    memories = [FullMemory(DETECTIONS, MEMORY, engine.embedding_dim) for _ in range(max(batch, threads))]
    stages = []

    def alone() -> None:
        output = engine.detect(pictures)
        detected = time.perf_counter()
        for memory in memories:
            memory.step()
        stages.append({**stage_times(output), "association": 1e3 * (time.perf_counter() - detected)})

    def one_of_several(memory: FullMemory) -> None:
        for call in range(plan.calls):
            engine.detect(pictures)
            memory.step(1 + call)

    def restore() -> None:
        for memory in memories:
            memory.restore()

    if threads == 1:
        figures = call_figures(plan, alone, batch, restore)
        return {**figures, "stages": medians(stages[-plan.repeats :])}
    with ThreadPoolExecutor(threads) as pool:
        return call_figures(
            plan, lambda: list(pool.map(one_of_several, memories)), batch, restore, calls=threads * plan.calls
        )


def torchvision_part(plan: Plan, model: Model, batch: int, compiled: bool = False) -> Part:
    """Torchvision's detector with as many proposals; no embeddings."""
    way = "torchvision compiled fp32" if compiled else TORCHVISION

    def measure() -> dict[str, Any]:
        call = detector_call(model.canvas, batch, plan.device, compiled)
        return {**case(model, way, batch), **call_figures(plan, call, batch)}

    return Part(f"ms {way}, {label(model)}, batch {batch}", measure, 100.0 if compiled else 15.0)


def case(model: Model, way: str, batch: int) -> dict[str, Any]:
    """What a row of the table is about."""
    return {"network": model.name, "way": way, "size": f"{model.size[0]}x{model.size[1]}", "batch": batch}


def call_figures(
    plan: Plan, call: Callable[[], object], batch: int, before: Callable[[], object] = lambda: None, calls: int = 1
) -> dict[str, Any]:
    """Milliseconds of a call, of which one of `call` may be several; what `before` does each time is not measured."""
    taken = []
    for _ in range(plan.repeats + (5 if plan.on_gpu else 1)):
        before()
        began = time.perf_counter()
        call()
        taken.append(1e3 * (time.perf_counter() - began) / calls)
    figures = summary(taken[-plan.repeats :])
    return {**figures, "per_picture": figures["median"] / batch}


def timed(results: dict[str, Any]) -> list[dict[str, Any]]:
    """The parts that are rows of the table."""
    return [part for part in results.values() if "way" in part]


def compare(results: dict[str, Any]) -> None:
    """Say of each time how many times quicker than torchvision it is, and how many times slower than the device."""
    eager = {(one["size"], one["batch"]): one["per_picture"] for one in timed(results) if one["way"] == TORCHVISION}
    device = results.get("device", {})
    for one in timed(results):
        beside = eager.get((one["size"], one["batch"])) if one["network"] == "R50-FPN" else None
        if beside is not None:
            one["quicker_than_torchvision"] = beside / one["per_picture"]
        work = results.get(f"work {one['network']} {one['size']}", {})
        # Not of torchvision's: its network has no embeddings, and less to do where it has few regions.
        if one["way"].startswith("static") and "gflop" in work and "tflops" in device:
            one["floor"] = max(work["gflop"] / device["tflops"], work["megabytes"] / device["gigabytes"])
            one["times_floor"] = one["per_picture"] / one["floor"]


COLUMNS = {
    "median": "median", "p99": "p99", "minimum": "minimum", "iqr": "iqr", "per picture": "per_picture",
    "x torchvision eager": "quicker_than_torchvision", "floor": "floor", "x floor": "times_floor",
}  # fmt: skip
STAGES = ("preprocess", "inference", "postprocess", "association")


def table(results: dict[str, Any]) -> str:
    """The figures as Markdown."""
    machine, found = results["machine"], results["parts"]
    lines = [
        f"# {machine['gpu'] or machine['processor']}",
        "",
        f"Made by `scripts/gpu_benchmark.py` in {results['took_s']:.0f} s. torch {machine['versions'].get('torch')}, "
        f"{machine['processor']}, {machine['cores']} cores. Times in ms, of the static form from frames in host memory "
        f"to tracks there with an association of {DETECTIONS} detections against {MEMORY} tracklets for each, of "
        "torchvision (which computes convolutions in TensorFloat-32, PyTorch's default) to boxes there. The floor is "
        "the static form's work for a picture in half precision over what this device reached in a large product and a "
        "large copy.",
        "",
        f"| network | way | size | batch | {' | '.join(COLUMNS)} | {' | '.join(STAGES)} |",
        f"|{'---|' * (4 + len(COLUMNS) + len(STAGES))}",
    ]
    for one in timed(found):
        figures = [one.get(key) for key in COLUMNS.values()] + [one.get("stages", {}).get(stage) for stage in STAGES]
        cells = " | ".join("" if value is None else f"{value:.2f}" for value in figures)
        lines.append(f"| {one['network']} | {one['way']} | {one['size']} | {one['batch']} | {cells} |")
    lines += [
        "",
        "| static form | scores within | detections equal | in the worst picture | frames with the same ids |",
    ]
    lines += ["|---|---|---|---|---|"]
    lines += [
        f"| {one['engine']} {one['precision']} | {one['score_tolerance']:g} | {one['equal']:.2%} | "
        f"{one['least']:.2%} | {one['frames_with_the_same_ids']:.2%} |"
        for one in found.values()
        if "score_tolerance" in one
    ]
    waits = found.get("host waits", {})
    if waits and "left_out" not in waits:
        counted = {name: waits[name] for name in WAITS if waits[name]}
        lines += ["", f"Host waits during a launch: {counted or 'none'}."]
        if "launches of a graph" in waits:
            lines[-1] += f" Graphs launched, by the same profiler: {waits['launches of a graph']}."
    if "tflops" in found.get("device", {}):
        lines += [
            "",
            "The device: {tflops:.1f} x 10^12 operations/s, {gigabytes:.0f} x 10^9 bytes/s.".format(**found["device"]),
        ]
    if "median" in found.get("association", {}):
        lines += ["", f"Association alone: {found['association']['median']:.2f} ms, one core."]
    if "longest" in found.get("kernels", {}):
        lines += ["", "{case}: {kernels} kernels and copies, {ms:.2f} ms by themselves.".format(**found["kernels"]), ""]
        lines += ["| kernel | ms | runs |", "|---|---|---|"]
        lines += [f"| `{one['name']}` | {one['ms']:.3f} | {one['runs']} |" for one in found["kernels"]["longest"]]
    left_out = [f"- {name}: {part['left_out']}" for name, part in found.items() if "left_out" in part]
    return "\n".join([*lines, *(["", "Left out:", "", *left_out] if left_out else []), ""])


if __name__ == "__main__":
    raise SystemExit(main())
