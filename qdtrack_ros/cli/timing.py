"""What is told of measured times."""

from __future__ import annotations

from collections.abc import Sequence


def summary(taken: Sequence[float]) -> dict[str, float]:
    """Percentiles of measured times."""
    import numpy as np

    p50, p90, p99 = np.percentile(taken, [50, 90, 99])
    return {"median": float(p50), "p90": float(p90), "p99": float(p99), "minimum": float(min(taken))}
