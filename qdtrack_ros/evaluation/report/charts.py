"""Charts as SVG that takes its colours from the page around it, so that they suit a light and a dark one."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FormatStrFormatter

from qdtrack_ros.evaluation.detection import RECALL_POINTS, PrecisionRecall

# matplotlib knows fixed colours only: each of these stands for a variable of the page's style sheet.
_INK, _GRID, _FAINT = "#010101", "#010102", "#010103"
_SERIES = ("#010104", "#010105", "#010106")
_VARIABLES = {
    _INK: "var(--muted)",
    _GRID: "var(--grid)",
    _FAINT: "var(--faint)",
    **{color: f"var(--series-{number})" for number, color in enumerate(_SERIES, start=1)},
}
_SIZE = (4.7, 3.1)  # inches of 72 points
_SHOWN_PART = 99.5  # percentile of the latencies at which the histogram ends
_BINS = 60


def hota_chart(alphas: npt.NDArray[np.floating], together: Mapping[str, Any], each: Sequence[Mapping[str, Any]]) -> str:
    """HOTA, DetA and AssA over alpha, and HOTA of each sequence as a faint line.

    Args:
        alphas: of HOTA, [19].
        together: the fields of HOTA of all sequences together.
        each: those of every sequence.

    Returns:
        An SVG element.
    """
    figure, axes = _new("localisation threshold alpha", "percent")
    if len(each) > 1:
        for fields in each:
            axes.plot(alphas, 100 * np.asarray(fields["HOTA"]), color=_FAINT, linewidth=0.8)
    for name, color in zip(("HOTA", "DetA", "AssA"), _SERIES, strict=True):
        values = 100 * np.asarray(together[name])
        width = 2.2 if name == "HOTA" else 1.4
        axes.plot(alphas, values, color=color, linewidth=width, label=f"{name}  {values.mean():.1f}")
    axes.set(xlim=(0, 1), ylim=(0, 100))
    _legend(axes, loc="lower left")
    return _svg(figure, "HOTA, DetA and AssA over alpha")


def detector_chart(together: PrecisionRecall, each: Sequence[PrecisionRecall]) -> str:
    """Precision over recall; faint lines are the single sequences, dots give score thresholds. An SVG element."""
    figure, axes = _new("recall, percent", "precision, percent")
    if len(each) > 1:
        for curve in each:
            axes.plot(100 * RECALL_POINTS, 100 * curve.precision, color=_FAINT, linewidth=0.8)
    label = f"AP  {100 * together.average:.1f}"
    axes.plot(100 * RECALL_POINTS, 100 * together.precision, color=_SERIES[0], linewidth=2.2, label=label)
    for threshold in (0.9, 0.7, 0.5, 0.3, 0.1):
        reached = np.flatnonzero(together.score >= threshold)  # NaN is not
        if len(reached) and reached[-1] < len(RECALL_POINTS) - 1 and np.nanmin(together.score) < threshold:
            place = 100 * RECALL_POINTS[reached[-1]], 100 * together.precision[reached[-1]]
            axes.plot(*place, "o", color=_SERIES[0], markersize=4)
            axes.annotate(
                f"{threshold:g}", place, (-5, -5), textcoords="offset points", ha="right", va="top", color=_INK
            )
    axes.set(xlim=(0, 100), ylim=(0, 101))
    _legend(axes, loc="lower left")
    return _svg(figure, "Precision of the detector over its recall")


def latency_chart(times: Mapping[str, npt.NDArray[np.float64]]) -> str:
    """Frames by the milliseconds they took, stage by stage. An SVG element.

    Args:
        times: stage to milliseconds, without NaN.
    """
    figure, axes = _new("milliseconds", "frames")
    longest = max(float(np.percentile(values, _SHOWN_PART)) for values in times.values())
    edges = np.linspace(0.0, max(longest, 1e-3), _BINS + 1)
    for (stage, values), color in zip(times.items(), (_SERIES[1], _SERIES[0], _SERIES[2]), strict=True):
        counts, _ = np.histogram(np.minimum(values, edges[-1]), edges)
        axes.stairs(counts, edges, color=color, linewidth=1.4, label=stage)
        axes.stairs(counts, edges, color=color, fill=True, alpha=0.18)
    axes.set(xlim=(0, edges[-1]), yscale="symlog", ylim=(0, None))
    axes.yaxis.set_major_formatter(FormatStrFormatter("%d"))
    _legend(axes, loc="upper right")
    return _svg(figure, "Histogram of the time that frames took")


def _new(x_label: str, y_label: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=_SIZE, layout="constrained")
    axes = figure.add_subplot()
    axes.set_xlabel(x_label, color=_INK, fontsize=9)
    axes.set_ylabel(y_label, color=_INK, fontsize=9)
    axes.tick_params(colors=_INK, labelsize=8, length=0)
    axes.grid(color=_GRID, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.patch.set_visible(False)
    for side, spine in axes.spines.items():
        spine.set(color=_GRID, visible=side in ("left", "bottom"))
    return figure, axes


def _legend(axes: Axes, loc: Any) -> None:
    axes.legend(loc=loc, frameon=False, fontsize=9, labelcolor=_INK)


def _svg(figure: Figure, title: str) -> str:
    """The figure as an element that scales with its place; ``title`` is what screen readers say."""
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": title, "font.family": "sans-serif"}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    for color, variable in _VARIABLES.items():
        text = text.replace(color, variable)
    return text.replace("<svg ", f'<svg role="img" aria-label="{title}" ', 1)
