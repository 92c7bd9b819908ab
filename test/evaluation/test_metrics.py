"""Tracking metrics against hand-computed cases and against TrackEval's own way over files."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from qdtrack_ros.data.mot import MOT_CLASSES, read_mot_annotations
from qdtrack_ros.data.types import Annotation, DataError
from qdtrack_ros.evaluation.metrics import Metrics, combine, evaluate_sequence
from qdtrack_ros.evaluation.mot_writer import write_mot
from qdtrack_ros.evaluation.rules import KITTI_PEDESTRIAN_RULES, MOT20_RULES, MOT_RULES, TruthRules, mot_rules

trackeval = pytest.importorskip("trackeval")

BOX = (10.0, 10.0, 30.0, 50.0)
OTHER = (100.0, 10.0, 120.0, 50.0)


class Tracks(NamedTuple):
    ids: np.ndarray
    boxes: np.ndarray
    scores: np.ndarray


def tracks(*rows: tuple[int, tuple[float, ...]]) -> Tracks:
    return Tracks(
        np.array([row[0] for row in rows], np.int64),
        np.array([row[1] for row in rows], np.float32).reshape(-1, 4),
        np.ones(len(rows), np.float32),
    )


def person(instance_id: int | None, box: tuple[float, ...] = BOX, **flags: object) -> Annotation:
    return Annotation(box, "pedestrian", instance_id, **flags)


def evaluate(truth: list[list[Annotation]], found: list[Tracks], rules: TruthRules = MOT_RULES) -> Metrics:
    return evaluate_sequence(truth, found, rules).metrics


def test_perfect_tracks_score_one_and_identity_zero_counts():
    found = evaluate([[person(0)], [person(0)]], [tracks((7, BOX)), tracks((7, BOX))])
    assert (found.mota, found.motp, found.idf1, found.hota, found.loca) == pytest.approx((1, 1, 1, 1, 1))
    assert (found.mostly_tracked, found.mostly_lost, found.truth_ids, found.truth_boxes) == (1, 0, 1, 2)


def test_switch_halfway_by_hand():
    # Four frames, one person, ids 1 1 2 2: one switch of four boxes; the best identity explains two of four.
    found = evaluate([[person(5)]] * 4, [tracks((1, BOX))] * 2 + [tracks((2, BOX))] * 2)
    assert found.id_switches == 1
    assert found.mota == pytest.approx(1 - 1 / 4)
    assert found.idf1 == pytest.approx(0.5)
    assert found.deta == pytest.approx(1.0)
    # AssA: each match shares 2 frames with its track, of 4 of the person and 2 of the track: 2 / 4.
    assert found.assa == pytest.approx(0.5)
    assert found.hota == pytest.approx(np.sqrt(0.5))


def test_miss_and_false_positive_by_hand():
    # Three frames, two persons; one is never found, one false box.
    truth = [[person(1), person(2, OTHER)]] * 3
    found = evaluate(truth, [tracks((4, BOX), (9, (300, 300, 320, 340))), tracks((4, BOX)), tracks((4, BOX))])
    assert (found.false_positives, found.false_negatives, found.id_switches) == (1, 3, 0)
    assert found.mota == pytest.approx(1 - 4 / 6)
    assert found.idp == pytest.approx(3 / 4)
    assert found.idr == pytest.approx(3 / 6)
    assert (found.mostly_tracked, found.mostly_lost) == (1, 1)


def test_gap_is_a_fragmentation():
    # A frame without any track at all would not do: TrackEval takes no notice of those when it counts fragmentations.
    truth = [[person(1), person(2, OTHER)]] * 3
    both = tracks((0, BOX), (1, OTHER))
    found = evaluate(truth, [both, tracks((1, OTHER)), both])
    assert (found.fragmentations, found.id_switches, found.false_negatives) == (1, 0, 1)


def test_flag_zero_is_not_missed_and_a_box_on_it_counts_as_motchallenge_counts_it():
    truth = [[person(1), person(2, OTHER, ignore=True)]]
    assert evaluate(truth, [tracks((1, BOX))]).mota == pytest.approx(1.0)
    assert evaluate(truth, [tracks((1, BOX), (2, OTHER))]).false_positives == 1
    lenient = TruthRules(MOT_RULES.labels, MOT_RULES.distractors, forgive_ignored=True)
    assert evaluate(truth, [tracks((1, BOX), (2, OTHER))], lenient).false_positives == 0


def test_box_on_a_distractor_is_removed():
    truth = [[person(1), Annotation(OTHER, "static_person", 2, ignore=True)]]
    assert evaluate(truth, [tracks((1, BOX), (2, OTHER))]).false_positives == 0
    vehicle = [[person(1), Annotation(OTHER, "non_mot_vehicle", 2, ignore=True)]]
    assert evaluate(vehicle, [tracks((1, BOX), (2, OTHER))]).false_positives == 1
    assert evaluate(vehicle, [tracks((1, BOX), (2, OTHER))], MOT20_RULES).false_positives == 0


def test_kitti_region_swallows_what_lies_in_it():
    region = Annotation((90, 0, 200, 100), "DontCare", None, ignore=True, crowd=True)
    truth = [[Annotation(BOX, "Pedestrian", 1), region]]
    inside, outside = tracks((1, BOX), (2, OTHER)), tracks((1, BOX), (2, (300, 0, 320, 40)))
    assert evaluate(truth, [inside], KITTI_PEDESTRIAN_RULES).false_positives == 0
    assert evaluate(truth, [outside], KITTI_PEDESTRIAN_RULES).false_positives == 1


def test_empty_tracks_and_empty_truth():
    nothing = evaluate([[person(1)], []], [tracks(), tracks()])
    assert (nothing.false_negatives, nothing.mota, nothing.hota) == (1, 0, 0)
    assert evaluate([[]], [tracks((1, BOX))]).false_positives == 1


def test_combine_sums_before_it_divides():
    good = evaluate_sequence([[person(1)]] * 3, [tracks((1, BOX))] * 3, name="a")
    bad = evaluate_sequence([[person(1)]], [tracks((1, OTHER))], name="b")
    both = combine([good, bad]).metrics
    assert (both.false_positives, both.false_negatives, both.truth_boxes) == (1, 1, 4)
    assert both.mota == pytest.approx(1 - 2 / 4)


@pytest.mark.parametrize(
    ("truth", "found", "message"),
    [
        ([[person(1)]], [], "1 frames but tracks of 0"),
        ([[person(None)]], [tracks()], "frame 0: ground truth has a box without identity"),
        ([[person(1), person(1, OTHER)]], [tracks()], "ground truth has identity 1 more than once"),
        ([[]], [tracks((3, BOX), (3, OTHER))], "tracks has identity 3 more than once"),
        ([[]], [tracks((3, (0, 0, np.nan, 1)))], "finite boxes"),
    ],
)
def test_unusable_input_is_named(truth, found, message):
    with pytest.raises(DataError, match=message):
        evaluate_sequence(truth, found)


def test_rules_by_benchmark():
    assert mot_rules("MOT20-01") is MOT20_RULES
    assert mot_rules("PETS09-S2L1") is MOT_RULES


def crowded(seed: int, frames: int = 60, people: int = 25) -> tuple[list[str], list[Tracks]]:
    """A crowd on quarter-pixel boxes (exact in any precision): rows of gt.txt, and the output of a poor tracker."""
    random = np.random.default_rng(seed)
    start = random.integers(0, 1200, (people, 2)) / 4
    speed = random.integers(-12, 13, (people, 2)) / 4
    size = random.integers(80, 200, (people, 2)) / 4
    classes = random.choice([1, 1, 1, 1, 2, 3, 7, 8, 12], people)
    rows, output = [], []
    for frame in range(frames):
        found = []
        for index in range(people):
            if random.random() < 0.1:
                continue
            left, top = start[index] + frame * speed[index]
            width, height = size[index]
            flag = int(classes[index] == 1 and random.random() > 0.1)
            rows.append(f"{frame + 1},{index + 1},{left},{top},{width},{height},{flag},{classes[index]},0.5")
            if random.random() < 0.8:
                dx, dy = random.integers(-30, 31, 2) / 4
                box = (left + dx, top + dy, left + dx + width, top + dy + height)
                found.append((index + people * int(frame > 30 and index % 3 == 0), box))
        output.append(tracks(*found))
    return rows, output


@pytest.mark.parametrize(("benchmark", "seed"), [("MOT15", 1), ("MOT17", 2), ("MOT20", 3)])
def test_equal_to_trackeval_over_files(tmp_path: Path, benchmark: str, seed: int):
    rows, output = crowded(seed)
    name, text = f"{benchmark}-01", "\n".join(rows) + "\n"
    truth_file = tmp_path / "gt" / name / "gt" / "gt.txt"
    truth_file.parent.mkdir(parents=True)
    truth_file.write_text(text)
    write_mot(tmp_path / "trackers" / "ours" / "data" / f"{name}.txt", output)
    dataset = trackeval.datasets.MotChallenge2DBox(
        {
            "GT_FOLDER": str(tmp_path / "gt"),
            "TRACKERS_FOLDER": str(tmp_path / "trackers"),
            "BENCHMARK": benchmark,
            "SKIP_SPLIT_FOL": True,
            "SEQ_INFO": {name: len(output)},
            "PRINT_CONFIG": False,
        }
    )
    data = dataset.get_preprocessed_seq_data(dataset.get_raw_seq_data("ours", name), "pedestrian")

    annotations = read_mot_annotations(truth_file, len(output))
    if benchmark == "MOT15":  # there are no classes in MOT15: only the flag counts
        annotations = [
            tuple(Annotation(row.box, "pedestrian", row.instance_id, row.ignore) for row in frame)
            for frame in annotations
        ]
    result = evaluate_sequence(annotations, output, mot_rules(name), name)
    for key, metric in (
        ("HOTA", trackeval.metrics.HOTA()),
        ("CLEAR", trackeval.metrics.CLEAR({"PRINT_CONFIG": False})),
        ("Identity", trackeval.metrics.Identity({"PRINT_CONFIG": False})),
    ):
        expected = metric.eval_sequence(data)
        assert set(expected) == set(result.fields[key])
        for field, value in expected.items():
            np.testing.assert_allclose(result.fields[key][field], value, atol=1e-6, err_msg=f"{key} {field}")
    assert 0.1 < result.metrics.hota < 0.95  # the case is neither trivial nor hopeless
    assert result.metrics.id_switches > 0


def test_class_names_are_those_of_trackeval(tmp_path: Path):
    truth_file = tmp_path / "gt" / "a" / "gt" / "gt.txt"
    truth_file.parent.mkdir(parents=True)
    truth_file.touch()
    (tmp_path / "trackers").mkdir()
    config = {"GT_FOLDER": str(tmp_path / "gt"), "TRACKERS_FOLDER": str(tmp_path / "trackers"), "SKIP_SPLIT_FOL": True}
    dataset = trackeval.datasets.MotChallenge2DBox({**config, "SEQ_INFO": {"a": 1}, "PRINT_CONFIG": False})
    assert {number: name for name, number in dataset.class_name_to_class_id.items()} == MOT_CLASSES
