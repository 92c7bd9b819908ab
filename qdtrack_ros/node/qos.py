"""The quality-of-service profiles of the node, by what they are for."""

from __future__ import annotations

from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy

_RELIABILITY = {"best_effort": ReliabilityPolicy.BEST_EFFORT, "reliable": ReliabilityPolicy.RELIABLE}


def _profile(depth: int, reliability: ReliabilityPolicy, durability: DurabilityPolicy) -> QoSProfile:
    return QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=depth, reliability=reliability, durability=durability)


def image_input(reliability: str = "best_effort", depth: int = 1) -> QoSProfile:
    """Camera images: by default best effort, the newest only, so that any camera driver fits and nothing queues up."""
    return _profile(depth, _RELIABILITY[reliability], DurabilityPolicy.VOLATILE)


def results() -> QoSProfile:
    """Tracks, detections and timing: reliable, so that reliable and best-effort subscribers fit."""
    return _profile(10, ReliabilityPolicy.RELIABLE, DurabilityPolicy.VOLATILE)


def pictures() -> QoSProfile:
    """Annotated images and markers: reliable, as viewers ask for, with a short queue, because they are large."""
    return _profile(2, ReliabilityPolicy.RELIABLE, DurabilityPolicy.VOLATILE)


def latched() -> QoSProfile:
    """Labels: late subscribers get the last message too."""
    return _profile(1, ReliabilityPolicy.RELIABLE, DurabilityPolicy.TRANSIENT_LOCAL)


def diagnostics() -> QoSProfile:
    """What diagnostic aggregators expect on /diagnostics."""
    return _profile(10, ReliabilityPolicy.RELIABLE, DurabilityPolicy.VOLATILE)
