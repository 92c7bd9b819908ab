"""`qdtrack benchmark node`: what the node adds to its engine, what many cameras cost, and what overload does."""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qdtrack_ros.cli.options import positive, size
from qdtrack_ros.cli.timing import summary
from qdtrack_ros.configuration import ConfigurationError
from qdtrack_ros.resources import share_path

if TYPE_CHECKING:
    from qdtrack_ros.node.load_generator import CameraLoad

_WARMUP_FRAMES = 60
_OVERLOAD = 2.0


def add_node_arguments(parser: argparse.ArgumentParser) -> None:
    """The measurement's arguments, apart from those that all have."""
    size_help = "of a picture (default: 1280x720)"
    parser.add_argument("--size", type=size, default=(1280, 720), metavar="WxH", help=size_help)
    parser.add_argument("--rate", type=float, default=30.0, metavar="HZ", help="of a camera (default: 30)")
    parser.add_argument("--cameras", type=positive, default=1, metavar="N", help="one node for N, then N nodes")
    parser.add_argument("--engine", default="noop", help="of the node (default: noop)")
    parser.add_argument("--precision", default="auto", help="of the node (default: %(default)s)")
    parser.add_argument("--preset", default="pedestrian", help="of the node (default: %(default)s)")
    parser.add_argument("--device", default="auto", help="of the node (default: %(default)s)")
    overload_help = "an engine that takes two frame periods: twice as many frames as it can take"
    parser.add_argument("--overload", action="store_true", help=overload_help)


def node_figures(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Latency, frames a second, drops, processor time and memory of the node, in a process of its own."""
    if not arguments.rate > 0:
        raise ConfigurationError(f"--rate must be above 0, got {arguments.rate:g}")
    names = [f"camera{index}" for index in range(arguments.cameras)]
    measure = partial(measure_nodes, arguments=arguments)
    if len(names) == 1:
        return [measure([names])]
    return [measure([names]), measure([[name] for name in names])]


def measure_nodes(groups: Sequence[Sequence[str]], arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure nodes that run at the same time, one for each group of cameras."""
    from qdtrack_ros.data.synthetic import street
    from qdtrack_ros.node.load_generator import LoadGenerator

    os.environ.setdefault("FASTDDS_DEFAULT_PROFILES_FILE", str(share_path("config/fastdds_profile.xml")))
    namespace = f"/qdtrack_benchmark_{os.getpid()}_{len(groups)}"
    engine_ms = 1e3 * _OVERLOAD / arguments.rate if arguments.overload else 0.0
    picture = street(1, arguments.size).frames[0].load()
    topics = [f"{namespace}/{name}" for group in groups for name in group]
    frames = arguments.repeats
    with contextlib.ExitStack() as stack:
        nodes = [stack.enter_context(_node(group, namespace, engine_ms, arguments)) for group in groups]
        load = stack.enter_context(LoadGenerator(topics, picture, partial(_check, nodes)))
        load.wait_until_answered()
        load.send(_WARMUP_FRAMES, arguments.rate)
        processes = [process.pid for process, _ in nodes]
        used, began = sum(map(_processor_s, processes)), time.monotonic()
        load.send(frames, arguments.rate)
        seconds = time.monotonic() - began
        cores = (sum(map(_processor_s, processes)) - used) / seconds
        memory = sum(map(_memory_mib, processes))
        cameras = load.collect(frames)
    case = {
        "engine": f"fixed {engine_ms:.1f} ms" if arguments.overload else arguments.engine,
        "precision": arguments.precision,
        "size": "x".join(map(str, arguments.size)),
        "rate": arguments.rate,
        "nodes": len(groups),
        "cameras": len(topics),
    }
    return {"case": case, **_figures(list(cameras.values()), seconds, cores, memory, engine_ms)}


def _figures(
    cameras: Sequence[CameraLoad], seconds: float, cores: float, memory_mib: float, engine_ms: float
) -> dict[str, Any]:
    import numpy as np

    latency = np.concatenate([camera.latency_ms for camera in cameras])
    figures = {
        "frames_per_second": len(latency) / seconds,
        "batch": float(np.mean([camera.batch for camera in cameras])),
        "dropped": sum(camera.dropped for camera in cameras),
        "never_arrived": sum(camera.sent - camera.received for camera in cameras),
        "cores": cores,
        "memory_mib": memory_mib,
    }
    for part in cameras[0].parts_ms:
        figures[f"median_{part}_ms"] = float(np.median([camera.parts_ms[part] for camera in cameras]))
    if engine_ms:
        figures["latency_in_engine_periods"] = float(latency.max()) / engine_ms
    return {"milliseconds": {**summary(latency.tolist()), "maximum": float(latency.max())}, "figures": figures}


@contextlib.contextmanager
def _node(
    cameras: Sequence[str], namespace: str, engine_ms: float, arguments: argparse.Namespace
) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """A node as a process of its own, and the file of its log."""
    settings: Mapping[str, object] = {
        "cameras": f"[{', '.join(cameras)}]",
        "engine": arguments.engine,
        "precision": arguments.precision,
        "preset": arguments.preset,
        "device": arguments.device,
    }
    ros = [word for name, value in settings.items() for word in ("-p", f"{name}:={value}")]
    ros += ["-r", f"__ns:={namespace}", "-r", f"__node:=tracker_of_{cameras[0]}"]
    command = [sys.executable, "-m", "qdtrack_ros.cli.timed_node", str(engine_ms), "--ros-args", *ros]
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log.txt"
        with log.open("wb") as stream:
            process = subprocess.Popen(command, stdout=stream, stderr=subprocess.STDOUT)
        try:
            yield process, log
        finally:
            process.terminate()
            process.wait()


def _check(nodes: Sequence[tuple[subprocess.Popen[bytes], Path]]) -> None:
    """Raise where a node has ended, or did not come to life."""
    for process, log in nodes:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
        failed = [line for line in lines if "configure failed" in line or "cannot start" in line]
        if failed or process.poll() is not None:
            reason = (failed or lines or ["it said nothing"])[-1]
            raise ConfigurationError(f"the measured node does not run: {reason}")


def _processor_s(pid: int) -> float:
    """Processor time that a process has used, seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _memory_mib(pid: int) -> float:
    """Memory of a process in RAM, its share of what it has in common with others, MiB."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024
