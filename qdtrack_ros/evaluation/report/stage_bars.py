"""A picture of where the time goes: a bar for each case, its parts one after the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from qdtrack_ros.files import replacing

try:
    from matplotlib.figure import Figure
except ImportError as error:
    raise ImportError(f"a plot needs matplotlib: pip install matplotlib ({error})") from error

_BAR_INCHES, _MARGIN_INCHES, _WIDTH_INCHES = 0.7, 1.6, 9.0


def write_stage_bars(path: Path, title: str, cases: Sequence[tuple[str, Mapping[str, float]]]) -> None:
    """Write a PNG file.

    Args:
        path: of the file.
        title: above the bars.
        cases: what to write above the bar, and milliseconds by stage; a stage has one colour in all of them.
    """
    figure = Figure((_WIDTH_INCHES, _MARGIN_INCHES + _BAR_INCHES * len(cases)), layout="constrained")
    axes = figure.subplots()
    names = list(dict.fromkeys(name for _, stages in cases for name in stages))
    places = range(len(cases))
    left = [0.0] * len(cases)
    for name in names:
        widths = [stages.get(name, 0.0) for _, stages in cases]
        axes.barh(places, widths, left=left, height=0.5, label=name)
        left = [start + width for start, width in zip(left, widths, strict=True)]
    for place, (text, _) in enumerate(cases):
        axes.text(0, place - 0.32, text, va="bottom", fontsize=8)
    axes.set(title=title, xlabel="milliseconds, median of each stage", yticks=[], ylim=(len(cases) - 0.4, -0.8))
    figure.legend(loc="outside lower center", ncols=len(names), frameon=False)
    with replacing(path) as file:
        figure.savefig(file, format="png", dpi=150)
