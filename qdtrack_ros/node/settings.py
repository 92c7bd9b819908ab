"""What may change while the node runs, as one immutable value that is swapped whole."""

from __future__ import annotations

from dataclasses import dataclass

from qdtrack_ros.data.image_codec import DEFAULT_MAX_PIXELS
from qdtrack_ros.node.session import CONFIRM_HITS


@dataclass(frozen=True)
class DiagnosticLimits:
    """When a camera's diagnostics warn; 0 (for the ratio: 1) turns a limit off.

    Attributes:
        min_rate_hz: processed frames a second.
        max_drop_ratio: dropped part of the frames since the last report.
        max_latency_ms: 99th percentile of the latency.
    """

    min_rate_hz: float = 0.0
    max_drop_ratio: float = 0.5
    max_latency_ms: float = 500.0


@dataclass(frozen=True)
class RuntimeSettings:
    """Parameters of the same names in config/tracker_node.parameters.yaml.

    Attributes:
        batch_wait_s: how long a frame waits for the other cameras.
        stale_after_s: silence of a camera that counts as a fault.
        max_image_pixels: larger images are dropped.
        confirm_hits: matched frames that confirm a track.
        marker_depth_m: distance of the plane in which markers are drawn.
        state_max_age_s: older state files are not taken up.
        state_save_period_s: how often the state is saved while tracking.
        class_indices: labels to track, None for all.
        limits: thresholds of the diagnostics.
    """

    batch_wait_s: float = 0.005
    stale_after_s: float = 2.0
    max_image_pixels: int = DEFAULT_MAX_PIXELS
    confirm_hits: int = CONFIRM_HITS
    marker_depth_m: float = 5.0
    state_max_age_s: float = 60.0
    state_save_period_s: float = 5.0
    class_indices: frozenset[int] | None = None
    limits: DiagnosticLimits = DiagnosticLimits()


def class_indices(classes: list[str], labels: tuple[str, ...]) -> frozenset[int] | None:
    """Turn the parameter `classes` into label indices; None stands for all.

    Raises:
        ValueError: a name is not among the labels.
    """
    wanted = [name for name in classes if name]
    unknown = [name for name in wanted if name not in labels]
    if unknown:
        raise ValueError(f"classes holds {unknown[0]!r}; expected some of {', '.join(labels)}")
    return frozenset(labels.index(name) for name in wanted) if wanted else None
