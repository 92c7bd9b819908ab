"""What an evaluation leaves behind, and the file it is kept in: ``results.json``, described in docs/evaluation.md."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from qdtrack_ros.data.types import Annotation, DataError
from qdtrack_ros.evaluation.detection import RECALL_POINTS, DetectionMatches, precision_recall
from qdtrack_ros.evaluation.hota import ALPHAS
from qdtrack_ros.evaluation.matching import (
    FrameCounts,
    FrameMatch,
    History,
    count_frames,
    histories,
    match_frames,
)
from qdtrack_ros.evaluation.metrics import SequenceResult, combine
from qdtrack_ros.evaluation.overlaps import PreparedFrame
from qdtrack_ros.evaluation.rules import TruthRules
from qdtrack_ros.files import replacing

FORMAT = "qdtrack results 1"
_OVER_ALPHA = ("HOTA", "DetA", "AssA", "LocA", "DetRe", "DetPr", "AssRe", "AssPr")


@dataclass(frozen=True)
class EvaluatedSequence:
    """A sequence with all that was measured on it.

    Attributes:
        source: what was read, as the user named it.
        video: name of the sequence, the same for all classes that are measured on its pictures.
        truth: fingerprint of the ground truth and its rules: figures can be compared only when it is equal.
        frames: what was compared, frame by frame.
        result: metrics.
        detections: matches of the detector's boxes; None when tracks came without them.
        times: stage to milliseconds, float64 [F], NaN for frames left out; empty when nothing was timed.
    """

    source: str
    video: str
    truth: str
    frames: Sequence[PreparedFrame]
    result: SequenceResult
    detections: DetectionMatches | None = None
    times: Mapping[str, npt.NDArray[np.float64]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Name of the sequence."""
        return self.result.name

    @cached_property
    def matches(self) -> list[FrameMatch]:
        """CLEAR matches of every frame."""
        return match_frames(self.frames)

    @cached_property
    def counts(self) -> FrameCounts:
        """CLEAR counts of every frame."""
        return count_frames(self.frames, self.matches)

    @cached_property
    def histories(self) -> list[History]:
        """What happened to every identity."""
        return histories(self.frames, self.matches)


class RecordedSequence(NamedTuple):
    """What of a sequence is read back from a file; attributes as in ``EvaluatedSequence``."""

    name: str
    video: str
    truth: str
    frames: list[PreparedFrame]


def truth_fingerprint(truth: Sequence[Sequence[Annotation]], rules: TruthRules) -> str:
    """Hash of the ground truth and of what of it counts, 16 hexadecimal digits."""
    digest = hashlib.sha256()
    for part in fields(rules):
        value = getattr(rules, part.name)
        digest.update(f"{part.name} {sorted(value) if isinstance(value, frozenset) else value}\n".encode())
    for frame in truth:
        rows = [
            f"{row.label} {row.instance_id} {row.ignore} {row.crowd} {' '.join(f'{edge:.3f}' for edge in row.box)}"
            for row in frame
        ]
        digest.update("\n".join(["", *rows, ""]).encode())
    return digest.hexdigest()[:16]


def results_head(sequences: Sequence[EvaluatedSequence], facts: Mapping[str, Any]) -> dict[str, Any]:
    """The content of ``results.json`` but for what is there for each sequence.

    Args:
        sequences: in the order of the report; none where a benchmark measures something else.
        facts: what made the tracks and what was measured besides, JSON values.
    """
    together = combine([sequence.result for sequence in sequences]) if sequences else None
    return {
        "format": FORMAT,
        "frames": sum(len(sequence.frames) for sequence in sequences),
        **facts,
        "metrics": together and together.metrics._asdict(),
        "hota": together and _over_alpha(together),
    }


def _over_alpha(result: SequenceResult) -> dict[str, Any]:
    hota = result.fields["HOTA"]
    return {"alpha": np.round(ALPHAS, 2).tolist(), **{name: np.asarray(hota[name]).tolist() for name in _OVER_ALPHA}}


def _sequence_content(sequence: EvaluatedSequence) -> dict[str, Any]:
    """Values that are iterators have an item for each frame; of many frames they would be large as Python's lists."""
    switches = [
        {"truth_id": story.truth_id, **switch._asdict()} for story in sequence.histories for switch in story.switches
    ]
    return {
        "name": sequence.name,
        "video": sequence.video,
        "source": sequence.source,
        "truth": sequence.truth,
        "frames": len(sequence.frames),
        "metrics": sequence.result.metrics._asdict(),
        "hota": _over_alpha(sequence.result),
        "detector": None if sequence.detections is None else _detector_content(sequence.detections),
        "milliseconds": {stage: _numbers(values) for stage, values in sequence.times.items()},
        "switches": sorted(switches, key=lambda switch: switch["frame"]),
        "per_frame": {name: values.tolist() for name, values in sequence.counts._asdict().items()},
        "truth_ids": (frame.truth_ids.tolist() for frame in sequence.frames),
        "track_ids": (frame.track_ids.tolist() for frame in sequence.frames),
        "overlaps": (_overlaps(frame) for frame in sequence.frames),
    }


def _detector_content(matches: DetectionMatches) -> dict[str, Any]:
    curve = precision_recall([matches])
    return {
        "average_precision": _numbers(np.array([curve.average]))[0],
        "recall": RECALL_POINTS.tolist(),
        "precision": curve.precision.tolist(),
        "score": _numbers(curve.score),
    }


def _overlaps(frame: PreparedFrame) -> list[list[float]]:
    """[row, column, overlap] of the pairs that overlap; full precision, so that a reader gets the same metrics."""
    rows, columns = np.nonzero(frame.ious)
    return [
        [row, column, float(frame.ious[row, column])]
        for row, column in zip(rows.tolist(), columns.tolist(), strict=True)
    ]


def _numbers(values: npt.NDArray[np.float64]) -> list[float | None]:
    """JSON has no NaN."""
    return [round(value, 4) if np.isfinite(value) else None for value in values.tolist()]


def write_results(path: Path, head: Mapping[str, Any], sequences: Sequence[EvaluatedSequence]) -> None:
    """Write ``results.json``: one line a key, one line a sequence, so that its head can be read by a person.

    Args:
        path: of the file; it appears whole or not at all.
        head: as ``results_head`` gives it.
        sequences: in the order of the report.
    """
    with replacing(path) as file:
        file.write(b"{\n")
        for key, value in head.items():
            file.write(f"  {json.dumps(key)}: {_json(value)},\n".encode())
        file.write(b'  "sequences": [\n')
        for place, sequence in enumerate(sequences):
            file.write(b",\n" if place else b"")
            file.writelines(part.encode() for part in _line(sequence))
        file.write(b"\n  ]\n}\n")


def _line(sequence: EvaluatedSequence) -> Iterator[str]:
    """The object of a sequence, in parts."""
    for place, (key, value) in enumerate(_sequence_content(sequence).items()):
        yield f"{', ' if place else '    {'}{json.dumps(key)}: "
        if isinstance(value, Iterator):
            for frame, item in enumerate(value):
                yield f"{', ' if frame else '['}{_json(item)}"
            yield "]" if sequence.frames else "[]"
        else:
            yield _json(value)
    yield "}"


def _json(value: Any) -> str:
    return json.dumps(value, allow_nan=False)


def read_results(path: Path) -> list[RecordedSequence]:
    """Read what ``write_results`` wrote.

    Raises:
        DataError: it cannot be read, is no such file, or is damaged.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        found = content.get("format") if isinstance(content, dict) else None
    except OSError as error:
        what = f"cannot be read ({error.strerror}); expected a results.json of `qdtrack evaluate --json`"
        raise DataError(f"{path}: {what}") from error
    except ValueError as error:
        raise DataError(f"{path}: not JSON ({error}); expected a results.json of `qdtrack evaluate`") from error
    if found != FORMAT:
        what = f"format {found!r}" if found else "no format named"
        raise DataError(f"{path}: {what}, expected {FORMAT!r}; make it with this version's `qdtrack evaluate --json`")
    try:
        recorded = [_recorded(sequence) for sequence in content["sequences"]]
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise DataError(f"{path}: damaged ({type(error).__name__}: {error}); evaluate again") from error
    if not recorded:
        raise DataError(f"{path}: of {content.get('benchmark')}, which is not measured by HOTA, CLEAR and Identity")
    return recorded


def _recorded(content: Mapping[str, Any]) -> RecordedSequence:
    frames = []
    parts = zip(content["truth_ids"], content["track_ids"], content["overlaps"], strict=True)
    for truth_ids, track_ids, overlaps in parts:
        ious = np.zeros((len(truth_ids), len(track_ids)))
        for row, column, overlap in overlaps:
            ious[row, column] = overlap
        frames.append(PreparedFrame(np.array(truth_ids, np.int64), np.array(track_ids, np.int64), ious))
    name = str(content["name"])
    return RecordedSequence(name, str(content.get("video", name)), str(content["truth"]), frames)
