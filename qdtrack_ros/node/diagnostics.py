"""The node's health as /diagnostics shows it: engine and cameras, each with its figures and its verdict."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Sequence
from typing import NamedTuple

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from std_msgs.msg import Header

from qdtrack_ros.node.camera import CameraFigures
from qdtrack_ros.node.frame_timing import LatencySummary
from qdtrack_ros.node.settings import DiagnosticLimits
from qdtrack_ros.node.worker import ENGINE_FAILED, NOT_FINITE, PUBLISH_FAILED

OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR
_SERIOUS = (ENGINE_FAILED, NOT_FINITE, PUBLISH_FAILED)


class CameraHealth(NamedTuple):
    """What the verdict on one camera rests on.

    Attributes:
        name: of the camera.
        topic: it is subscribed to.
        figures: now.
        before: at the last report, None for the first.
        latency: of the last seconds.
        stale: why no frame comes, in words; empty while frames come.
        mismatches: nodes whose QoS does not fit, in words.
        active: whether frames are expected at all.
    """

    name: str
    topic: str
    figures: CameraFigures
    before: CameraFigures | None
    latency: LatencySummary
    stale: str
    mismatches: Sequence[str] = ()
    active: bool = True


class EngineHealth(NamedTuple):
    """The engine in use.

    Attributes:
        name: engine, device and precision; empty without one.
        model_id: hash of the weights.
        state: of the node's lifecycle.
        last_error: why the node fell back to unconfigured, or the last configure failed; empty otherwise.
        state_fault: why the tracker's state could not be saved; empty otherwise.
    """

    name: str
    model_id: str
    state: str
    last_error: str
    state_fault: str = ""


def diagnostics_message(
    header: Header, node: str, engine: EngineHealth, cameras: Sequence[CameraHealth], limits: DiagnosticLimits
) -> DiagnosticArray:
    """The report of one moment."""
    statuses = [_engine_status(node, engine)]
    statuses += [camera_status(node, camera, limits) for camera in cameras]
    return DiagnosticArray(header=header, status=statuses)


def camera_status(node: str, camera: CameraHealth, limits: DiagnosticLimits) -> DiagnosticStatus:
    """The verdict on one camera: the gravest finding gives the level, and all findings stand in the message."""
    findings = _findings(camera, limits)
    counts, latency = camera.figures.counts, camera.latency
    values = {
        "topic": camera.topic,
        "rate_hz": f"{latency.rate_hz:.2f}",
        "latency_p50_ms": f"{latency.p50_ms:.1f}",
        "latency_p99_ms": f"{latency.p99_ms:.1f}",
        "frames_received": str(counts.received),
        "frames_processed": str(counts.processed),
        "frames_dropped": str(counts.dropped),
        "frames_lost": str(camera.figures.lost),
        "tracks": str(camera.figures.tracks),
        "image": camera.figures.image,
        "seconds_since_last_frame": f"{camera.figures.silent_s:.1f}",
        **{f"dropped.{reason}": str(count) for reason, count in sorted(counts.reasons.items())},
        **{f"faults.{kind}": str(count) for kind, count in sorted(camera.figures.faults.items())},
        "last_error": camera.figures.last_error,
    }
    return DiagnosticStatus(
        level=max((level for level, _ in findings), default=OK),
        name=f"{node}: camera {camera.name}",
        message="; ".join(text for _, text in findings) or ("tracking" if camera.active else "not tracking: inactive"),
        hardware_id=camera.name,
        values=_pairs(values),
    )


def _findings(camera: CameraHealth, limits: DiagnosticLimits) -> list[tuple[bytes, str]]:
    findings: list[tuple[bytes, str]] = []
    if camera.stale:
        findings.append((ERROR, camera.stale))
    findings += [(ERROR, mismatch) for mismatch in camera.mismatches]
    before = camera.before.faults if camera.before else {}
    new = {kind: count - before.get(kind, 0) for kind, count in camera.figures.faults.items()}
    for kind, count in sorted(new.items()):
        if count:
            findings.append((ERROR if kind in _SERIOUS else WARN, f"{count} x {kind}"))
    old_counts, counts = camera.before.counts if camera.before else None, camera.figures.counts
    received = counts.received - (old_counts.received if old_counts else 0)
    dropped = counts.dropped - (old_counts.dropped if old_counts else 0)
    if received and dropped / received > limits.max_drop_ratio:
        findings.append((WARN, f"{dropped} of {received} frames dropped"))
    lost = camera.figures.lost - (camera.before.lost if camera.before else 0)
    if lost:
        findings.append((WARN, f"{lost} frames never arrived"))
    latency = camera.latency
    if limits.max_latency_ms and not math.isnan(latency.p99_ms) and latency.p99_ms > limits.max_latency_ms:
        findings.append((WARN, f"latency p99 {latency.p99_ms:.0f} ms, limit {limits.max_latency_ms:g} ms"))
    if camera.active and limits.min_rate_hz and latency.rate_hz < limits.min_rate_hz:
        findings.append((WARN, f"{latency.rate_hz:.1f} frames/s, limit {limits.min_rate_hz:g}"))
    return findings


def _engine_status(node: str, engine: EngineHealth) -> DiagnosticStatus:
    device = device_memory_mib()
    values = {
        "state": engine.state,
        "engine": engine.name,
        "model_id": engine.model_id,
        "resident_memory_mib": f"{resident_memory_mib():.0f}",
        "device_memory_mib": f"{device.held:.0f}",
        "device_free_mib": f"{device.free:.0f}",
        "last_error": engine.last_error or engine.state_fault,
    }
    running = engine.state in ("active", "inactive")
    level = ERROR if engine.last_error else OK if running and not engine.state_fault else WARN
    text = engine.last_error or (f"{engine.state}: {engine.name}" if running else f"the node is {engine.state}")
    if engine.state_fault:
        text = f"{text}; {engine.state_fault}"
    return DiagnosticStatus(
        level=level, name=f"{node}: engine", message=text, hardware_id=engine.name, values=_pairs(values)
    )


def resident_memory_mib() -> float:
    """Memory of this process that lies in RAM, MiB; NaN where the system does not tell."""
    try:
        with open("/proc/self/statm", encoding="ascii") as stream:
            return int(stream.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
    except (OSError, ValueError, IndexError):
        return float("nan")


class DeviceMemory(NamedTuple):
    """GPU memory, MiB; 0 without PyTorch or a GPU, NaN where the device does not answer.

    Attributes:
        held: by PyTorch; that of TensorRT is not in it.
        free: to all processes, whoever holds the rest.
    """

    held: float
    free: float


def device_memory_mib() -> DeviceMemory:
    """Of the device in use."""
    torch = sys.modules.get("torch")
    cuda = getattr(torch, "cuda", None)  # another thread may be importing PyTorch right now
    try:
        if cuda is None or not cuda.is_initialized():
            return DeviceMemory(0.0, 0.0)
        return DeviceMemory(cuda.memory_reserved() / 2**20, cuda.mem_get_info()[0] / 2**20)
    except Exception:
        return DeviceMemory(math.nan, math.nan)


def _pairs(values: dict[str, str]) -> list[KeyValue]:
    return [KeyValue(key=key, value=value) for key, value in values.items()]
