from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("scipy")

from tracked_scenes import follow, scene, small_street

from qdtrack_ros.data.types import Annotation, DataError
from qdtrack_ros.evaluation.metrics import evaluate_frames
from qdtrack_ros.evaluation.results import (
    EvaluatedSequence,
    read_results,
    results_head,
    truth_fingerprint,
    write_results,
)
from qdtrack_ros.evaluation.rules import MOT20_RULES, MOT_RULES


def evaluated(**quality: float):
    street = small_street()
    return scene(street, follow(street, **quality)).evaluated


def write(path: Path, sequences: list[EvaluatedSequence]) -> None:
    write_results(path, results_head(sequences, {"preset": "pedestrian"}), sequences)


def test_what_is_read_back_gives_the_same_metrics(tmp_path: Path) -> None:
    one = evaluated(switching=0.1, missing=0.2, false=True)
    path = tmp_path / "new" / "results.json"
    write(path, [one])
    (back,) = read_results(path)
    assert (back.name, back.truth) == ("synthetic_street", one.truth)
    assert evaluate_frames(back.frames).metrics == one.result.metrics


def test_the_file_holds_what_its_description_says(tmp_path: Path) -> None:
    one = evaluated(switching=0.2, missing=0.1)
    times = {"inference": np.array([1.5, np.nan, *[2.0] * 22])}
    path = tmp_path / "results.json"
    write(path, [replace(one, times=times)])
    content = json.loads(path.read_text(encoding="utf-8"))
    assert content["format"] == "qdtrack results 1" and content["preset"] == "pedestrian" and content["frames"] == 24
    assert len(content["hota"]["alpha"]) == len(content["hota"]["AssA"]) == 19
    (sequence,) = content["sequences"]
    assert sequence["metrics"] == content["metrics"]
    assert sequence["milliseconds"]["inference"][:3] == [1.5, None, 2.0]
    assert 0 < sequence["detector"]["average_precision"] < 1 and len(sequence["detector"]["precision"]) == 101
    for name, total in (("switches", "id_switches"), ("false_negatives", "false_negatives")):
        assert sum(sequence["per_frame"][name]) == sequence["metrics"][total]
    assert len(sequence["switches"]) == sequence["metrics"]["id_switches"] > 0
    assert {"truth_id", "frame", "last_seen", "old_track", "new_track"} == set(sequence["switches"][0])


def test_a_person_can_read_the_head_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    write(path, [evaluated(), evaluated()])
    lines = path.read_text(encoding="utf-8").splitlines()
    assert lines[1] == '  "format": "qdtrack results 1",' and len(lines) < 15


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("tracks", "not JSON"),
        ("[1]", "no format named"),
        ('{"metrics": {}}', "no format named"),
        ('{"format": "qdtrack results 99"}', "'qdtrack results 99'"),
        ('{"format": "qdtrack results 1"}', "damaged"),
        ('{"format": "qdtrack results 1", "sequences": [{"name": "a"}]}', "damaged"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "results.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=said) as raised:
        read_results(path)
    assert str(path) in str(raised.value) and "\n" not in str(raised.value)


def test_the_fingerprint_sees_boxes_identities_flags_and_rules() -> None:
    row = Annotation((1.0, 2.0, 3.0, 4.0), "pedestrian", 0)
    others = [
        Annotation((1.0, 2.0, 3.0, 4.5), "pedestrian", 0),
        Annotation((1.0, 2.0, 3.0, 4.0), "pedestrian", 1),
        Annotation((1.0, 2.0, 3.0, 4.0), "pedestrian", 0, ignore=True),
        Annotation((1.0, 2.0, 3.0, 4.0), "car", 0),
    ]
    prints = {truth_fingerprint([[one], []], MOT_RULES) for one in (row, *others)}
    prints |= {truth_fingerprint([[row], []], MOT20_RULES), truth_fingerprint([[], [row]], MOT_RULES)}
    assert len(prints) == 7
    assert truth_fingerprint([[row], []], MOT_RULES) in prints
