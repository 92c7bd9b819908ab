"""How calls are timed, and what is told of measured times."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

WARMUP = 20  # calls before those that count


def summary(taken: Sequence[float]) -> dict[str, float]:
    """Percentiles of measured times, the least one, and the spread: the range of the middle half (``iqr``)."""
    import numpy as np

    p25, p50, p75, p90, p99 = np.percentile(taken, [25, 50, 75, 90, 99])
    return {
        "median": float(p50),
        "p90": float(p90),
        "p99": float(p99),
        "minimum": float(min(taken)),
        "iqr": float(p75 - p25),
    }


def repeated(call: Callable[[], object], repeats: int, before: Callable[[], object] | None = None) -> dict[str, float]:
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


def in_turns(runs: Mapping[str, Callable[[], object]], repeats: int, warmup: int) -> dict[str, dict[str, float]]:
    """Milliseconds of each; one call of every run after the other, so that a busy machine is busy for all."""
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(repeats + warmup):
        for name, call in runs.items():
            began = time.perf_counter()
            call()
            if turn >= warmup:
                taken[name].append(1e3 * (time.perf_counter() - began))
    return {name: summary(values) for name, values in taken.items()}


def medians(parts: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Median of every part of the calls, e.g. milliseconds by stage."""
    import numpy as np

    return {name: float(np.median([one[name] for one in parts])) for name in parts[0]}
