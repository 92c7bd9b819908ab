"""The page: what is gathered for it, and how it is filled in (``page.html.jinja``)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from qdtrack_ros.data.types import Annotation, DataError
from qdtrack_ros.data.types import Sequence as FrameSequence
from qdtrack_ros.evaluation.detection import PrecisionRecall, precision_recall
from qdtrack_ros.evaluation.hota import ALPHAS
from qdtrack_ros.evaluation.metrics import SequenceResult, combine
from qdtrack_ros.evaluation.report.moments import (
    Moment,
    false_track_moments,
    missed_moments,
    switch_moments,
    worst,
)
from qdtrack_ros.evaluation.report.pictures import LANDSCAPE, PORTRAIT, picture, window
from qdtrack_ros.evaluation.report.timeline import Timeline, timeline
from qdtrack_ros.evaluation.results import EvaluatedSequence
from qdtrack_ros.evaluation.tracks import ScoredTracks
from qdtrack_ros.files import replacing

MOST_SWITCHES, MOST_MISSED, MOST_FALSE = 8, 3, 3  # pictures keep the page at a few megabytes
OPEN_TIMELINES = 3  # of the sequences, those with most switches; the others are folded
_PERCENTILES = (50, 95, 99, 100)


class Scene(NamedTuple):
    """A sequence with what is needed to show it.

    Attributes:
        evaluated: its figures.
        sequence: its pictures.
        truth: annotations of every frame.
        tracks: of every frame.
    """

    evaluated: EvaluatedSequence
    sequence: FrameSequence
    truth: Sequence[Sequence[Annotation]]
    tracks: Sequence[ScoredTracks]


class Shot(NamedTuple):
    """A moment as the page shows it; ``pictures`` are addresses of JPEGs, empty when no frame could be decoded."""

    sequence: str
    moment: Moment
    pictures: list[str]


class LatencyRow(NamedTuple):
    """Milliseconds of a stage: percentiles 50, 95, 99 and the longest."""

    stage: str
    milliseconds: list[float]


def write_report(path: Path, scenes: Sequence[Scene], facts: Mapping[str, Any]) -> None:
    """Write the report of an evaluation as one HTML file; it needs no other file and no network.

    Args:
        path: of the file; it appears whole or not at all.
        scenes: the sequences, at least one.
        facts: the head of ``results.json``.

    Raises:
        ImportError: Jinja2 or matplotlib is not installed.
        OSError: the file cannot be written.
    """
    text = render(scenes, facts)
    with replacing(path) as file:
        file.write(text.encode())


def require_page_packages() -> None:
    """Raise ImportError, with what to do, unless Jinja2 and matplotlib are installed."""
    try:
        import jinja2  # noqa: F401
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise ImportError(f"the report needs Jinja2 and matplotlib: pip install jinja2 matplotlib ({error})") from error


def render(scenes: Sequence[Scene], facts: Mapping[str, Any]) -> str:
    """The text of the page; arguments as for ``write_report``."""
    require_page_packages()
    from jinja2 import Environment, PackageLoader, StrictUndefined

    from qdtrack_ros.evaluation.report.charts import detector_chart, hota_chart, latency_chart

    evaluated = [scene.evaluated for scene in scenes]
    results = [one.result for one in evaluated]
    together = combine(results)
    curves = _curves(evaluated)
    times = _times(evaluated)
    environment = Environment(
        loader=PackageLoader("qdtrack_ros.evaluation.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html.jinja").render(
        facts={key: value for key, value in facts.items() if isinstance(value, (str, int, float, list, dict))},
        together=together,
        results=results,
        videos=len({one.video for one in evaluated}),
        together_ap=curves[0].average,
        average_precisions=[curve.average for curve in curves[1]],
        hota=hota_chart(ALPHAS, together.fields["HOTA"], [result.fields["HOTA"] for result in results]),
        detector=detector_chart(*curves) if curves[1] else None,
        latency=latency_chart(times) if times else None,
        latency_rows=[
            LatencyRow(stage, np.percentile(values, _PERCENTILES).tolist()) for stage, values in times.items()
        ],
        shots=_shots(scenes),
        timelines=_timelines(evaluated),
    )


def _curves(evaluated: Sequence[EvaluatedSequence]) -> tuple[PrecisionRecall, list[PrecisionRecall]]:
    matches = [one.detections for one in evaluated if one.detections is not None]
    return precision_recall(matches), [precision_recall([one]) for one in matches]


def _times(evaluated: Sequence[EvaluatedSequence]) -> dict[str, npt.NDArray[np.float64]]:
    """Milliseconds by stage of all frames that were processed."""
    stages = {stage: [one.times[stage] for one in evaluated if one.times] for stage in evaluated[0].times}
    times = {stage: np.concatenate(values) for stage, values in stages.items()}
    times = {stage: values[np.isfinite(values)] for stage, values in times.items()}
    return {stage: values for stage, values in times.items() if len(values)}


def _shots(scenes: Sequence[Scene]) -> list[Shot]:
    switches, missed, false_tracks = [], [], []
    for place, scene in enumerate(scenes):
        one = scene.evaluated
        switches += [(place, moment) for moment in switch_moments(one.histories)]
        missed += [(place, moment) for moment in missed_moments(one.histories)]
        false_tracks += [(place, moment) for moment in false_track_moments(one.frames, one.matches)]
    chosen = worst(switches, MOST_SWITCHES) + worst(missed, MOST_MISSED) + worst(false_tracks, MOST_FALSE)
    return [_shot(scenes[place], moment) for place, moment in chosen]


def _shot(scene: Scene, moment: Moment) -> Shot:
    marked = [_box_of_interest(scene, frame, moment) for frame in moment.frames]
    shape = PORTRAIT if len(moment.frames) > 1 else LANDSCAPE
    pictures = []
    for frame, mark in zip(moment.frames, marked, strict=True):
        try:
            image = scene.sequence.frames[frame].load()
        except DataError:
            continue
        part = window(np.array(marked), (image.shape[1], image.shape[0]), shape)
        pictures.append(picture(image, scene.tracks[frame], part, np.array(mark)))
    return Shot(scene.evaluated.name, moment, pictures)


def _box_of_interest(scene: Scene, frame: int, moment: Moment) -> tuple[float, ...]:
    """The ground truth's box of the identity, or the box of the false track."""
    if moment.truth_id is not None:
        return next(row.box for row in scene.truth[frame] if row.instance_id == moment.truth_id)
    tracks = scene.tracks[frame]
    return tuple(tracks.boxes[tracks.ids == moment.tracks[0]][0].tolist())


class SequenceTimeline(NamedTuple):
    """A timeline and how it is shown."""

    result: SequenceResult
    timeline: Timeline
    is_open: bool


def _timelines(evaluated: Sequence[EvaluatedSequence]) -> list[SequenceTimeline]:
    by_trouble = sorted(range(len(evaluated)), key=lambda place: -evaluated[place].result.metrics.id_switches)
    unfolded = set(by_trouble[:OPEN_TIMELINES])
    return [
        SequenceTimeline(one.result, timeline(one.histories, len(one.frames)), place in unfolded)
        for place, one in enumerate(evaluated)
    ]
