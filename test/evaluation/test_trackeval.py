"""Figures of each benchmark against TrackEval's own way: its dataset classes over files, and its Evaluator.

Boxes lie on quarter pixels, so that every way to compute an overlap gives the same number.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from qdtrack_ros.data.coco_video import read_tao
from qdtrack_ros.data.kitti import read_kitti_annotations
from qdtrack_ros.data.mot import MOT_CLASSES, read_mot_annotations
from qdtrack_ros.data.types import Annotation
from qdtrack_ros.evaluation.bdd100k_writer import write_bdd100k
from qdtrack_ros.evaluation.clear import clear
from qdtrack_ros.evaluation.cross_check import DisagreementError, check_against_trackeval
from qdtrack_ros.evaluation.hota import hota
from qdtrack_ros.evaluation.identity import identity
from qdtrack_ros.evaluation.metrics import ALL_CLASSES, CLASS_MEAN, SequenceResult, combine_classes, evaluate_classes
from qdtrack_ros.evaluation.mot_writer import write_mot
from qdtrack_ros.evaluation.overlaps import Overlaps, PreparedFrame
from qdtrack_ros.evaluation.rules import BDD100K, KITTI, MOT, MOT20, Benchmark
from qdtrack_ros.evaluation.tao_writer import read_tao_numbers, write_tao
from qdtrack_ros.evaluation.track_ap import LabelledVideo, track_average_precision
from qdtrack_ros.evaluation.tracks import VideoTracks

trackeval = pytest.importorskip("trackeval")

FRAMES = 40
QUIET = dict.fromkeys(
    ("PRINT_RESULTS", "PRINT_CONFIG", "TIME_PROGRESS", "OUTPUT_SUMMARY", "OUTPUT_DETAILED", "PLOT_CURVES"), False
)


class Tracks(NamedTuple):
    ids: np.ndarray
    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray


class Seen(NamedTuple):
    """One box of a scene; ``identity`` is -1 for a region."""

    identity: int
    label: str
    box: tuple[float, float, float, float]


class Scene(NamedTuple):
    """What is there, frame by frame, and the output of a poor tracker."""

    truth: list[list[Seen]]
    tracks: list[Tracks]


def crowd(seed: int, labels: Sequence[str], tracked: Sequence[str], objects: int = 24, regions: str = "") -> Scene:
    """A crowd with gaps and an identity 0; the tracker jitters, misses, invents, switches ids and confuses classes.

    Args:
        seed: of the random numbers.
        labels: classes in the scene, as often as they are named.
        tracked: classes that the tracker knows; objects of others are taken for one of them.
        objects: how many.
        regions: label of regions that hold many boxes; empty for none.
    """
    random = np.random.default_rng(seed)
    start = random.integers(0, 1600, (objects, 2)) / 4
    speed = random.integers(-12, 13, (objects, 2)) / 4
    size = random.integers(60, 240, (objects, 2)) / 4
    names = [labels[index % len(labels)] for index in range(objects)]
    as_what = [tracked.index(name) if name in tracked else int(random.integers(len(tracked))) for name in names]
    truth: list[list[Seen]] = []
    tracks = []
    for frame in range(FRAMES):
        seen, found = [], []
        empty = frame in (3, 17)  # nothing there, nothing found
        for index in range(0 if empty else objects):
            left, top = start[index] + frame * speed[index]
            width, height = size[index]
            if random.random() > 0.1 and frame != 8:
                seen.append(Seen(index, names[index], (left, top, left + width, top + height)))
            if random.random() < 0.8 and frame != 12:
                dx, dy = random.integers(-30, 31, 2) / 4
                identity = index + objects * (int(frame > 20 and index % 3 == 0) + 2 * int(random.random() < 0.02))
                label = as_what[index] if random.random() > 0.05 else int(random.integers(len(tracked)))
                box = (left + dx, top + dy, left + dx + width, top + dy + height)
                found.append((identity, label, box))
                if len(tracked) > 1 and random.random() < 0.05:  # the same id again, of another class
                    found.append((identity, (label + 1) % len(tracked), box))
        if not empty:
            found.append((1000 + frame // 5, frame % len(tracked), (500.0, 5.0 + frame, 520.0, 60.0 + frame)))
        if regions and not empty:
            seen += [Seen(-1, regions, (x, 0.0, x + 120.0, 90.0 + frame)) for x in (60.0, 480.0)]
        truth.append(seen)
        tracks.append(
            Tracks(
                np.array([row[0] for row in found], np.int64),
                np.array([row[2] for row in found], np.float32).reshape(-1, 4),
                np.linspace(0.9, 0.3, len(found), dtype=np.float32),
                np.array([row[1] for row in found], np.int64),
            )
        )
    return Scene(truth, tracks)


def run_trackeval(dataset: Any, folder: Path) -> dict[str, Any]:
    """Results of the tracker "ours" by sequence, class, metric and field; COMBINED_SEQ is all sequences together."""
    evaluator = trackeval.Evaluator({**QUIET, "LOG_ON_ERROR": str(folder / "error_log.txt")})
    metrics = trackeval.metrics
    config = {"PRINT_CONFIG": False}
    results, _ = evaluator.evaluate([dataset], [metrics.HOTA(), metrics.CLEAR(config), metrics.Identity(config)])
    return results[dataset.get_name()]["ours"]


def assert_equal(result: SequenceResult, expected: Mapping[str, Mapping[str, Any]], where: str) -> None:
    assert set(result.fields) == set(expected)
    for metric, fields in expected.items():
        assert set(result.fields[metric]) == set(fields), f"{where}: {metric}"
        for field, value in fields.items():
            np.testing.assert_allclose(
                result.fields[metric][field], value, rtol=0, atol=1e-6, err_msg=f"{where}: {metric} {field}"
            )


def assert_all_equal(
    videos: Mapping[str, Mapping[str, SequenceResult]],
    benchmark: Benchmark,
    expected: Mapping[str, Any],
    means: Mapping[str, str],
) -> dict[str, SequenceResult]:
    """Compare every sequence, class and mean; ``means`` are our rows by TrackEval's names of them."""
    for video, classes in videos.items():
        for label, result in classes.items():
            assert_equal(result, expected[video][label], f"{video} {label}")
    rows = combine_classes(list(videos.values()), benchmark)
    assert set(rows) == {means.get(row, row) for row in expected["COMBINED_SEQ"]}
    for row, fields in expected["COMBINED_SEQ"].items():
        assert_equal(rows[means.get(row, row)], fields, row)
    return rows


def numbers(box: Iterable[float], separator: str) -> str:
    return separator.join(f"{value:.2f}" for value in box)


@pytest.mark.parametrize(
    ("name", "benchmark"), [("MOT15", MOT), ("MOT16", MOT), ("MOT17", MOT), ("MOT20", MOT20)], ids=lambda value: value
)
def test_motchallenge(tmp_path: Path, name: str, benchmark: Benchmark) -> None:
    numbers_of = {label: number for number, label in MOT_CLASSES.items()}
    labels = ["pedestrian"] * 5 + ["person_on_vehicle", "car", "static_person", "distractor", "reflection"]
    labels += ["non_mot_vehicle", "crowd"]
    videos = {}
    for seed, sequence in enumerate((f"{name}-01", f"{name}-02")):
        scene = crowd(seed, ["pedestrian"] if name == "MOT15" else labels, ["pedestrian"], regions="")
        rows = []
        for frame, seen in enumerate(scene.truth):
            for item in seen:
                left, top, right, bottom = item.box
                box = f"{left},{top},{right - left},{bottom - top}"
                flag = int(item.label == "pedestrian" and (item.identity + frame // 8) % 9 > 0)
                tail = "1,-1,-1" if name == "MOT15" else f"{numbers_of[item.label]},0.5"
                rows.append(f"{frame + 1},{item.identity},{box},{flag},{tail}\n")
        truth_file = tmp_path / "gt" / sequence / "gt" / "gt.txt"
        truth_file.parent.mkdir(parents=True)
        truth_file.write_text("".join(rows))
        write_mot(tmp_path / "trackers" / "ours" / "data" / f"{sequence}.txt", scene.tracks)
        videos[sequence] = evaluate_classes(
            read_mot_annotations(truth_file, FRAMES), scene.tracks, ["person"], benchmark, sequence, check=True
        )
    dataset = trackeval.datasets.MotChallenge2DBox(
        {
            "GT_FOLDER": str(tmp_path / "gt"),
            "TRACKERS_FOLDER": str(tmp_path / "trackers"),
            "BENCHMARK": name,
            "SKIP_SPLIT_FOL": True,
            "SEQ_INFO": dict.fromkeys(videos, FRAMES),
            "PRINT_CONFIG": False,
        }
    )
    rows_of = {"cls_comb_cls_av": "pedestrian", "cls_comb_det_av": "pedestrian"}  # there is one class
    found = assert_all_equal(videos, benchmark, run_trackeval(dataset, tmp_path), rows_of)
    assert 0.1 < found["pedestrian"].metrics.hota < 0.95  # the case is neither trivial nor hopeless
    assert found["pedestrian"].metrics.id_switches > 0 and found["pedestrian"].metrics.fragmentations > 0


KITTI_NAMES = ("Car", "Pedestrian")


def test_kitti(tmp_path: Path) -> None:
    labels = ["Car", "Pedestrian", "Car", "Van", "Pedestrian", "Person", "Cyclist", "Car", "Pedestrian", "Misc"]
    videos = {}
    for seed, sequence in enumerate(("0000", "0001")):
        scene = crowd(10 + seed, labels, ["car", "pedestrian"], objects=30, regions="DontCare")
        rows = []
        for frame, seen in enumerate(scene.truth):
            for item in seen:
                truncated = int(item.identity % 7 == 6)
                occluded = (item.identity + frame // 10) % 4
                state = "-1 -1" if item.identity < 0 else f"{truncated} {occluded}"
                rest = "-1000 -1000 -1000 -10 -1 -1 -1"
                rows.append(f"{frame} {item.identity} {item.label} {state} -10 {numbers(item.box, ' ')} {rest}\n")
        truth_file = tmp_path / "gt" / "label_02" / f"{sequence}.txt"
        truth_file.parent.mkdir(parents=True, exist_ok=True)
        truth_file.write_text("".join(rows))
        output = tmp_path / "trackers" / "ours" / "data" / f"{sequence}.txt"
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(
            "".join(
                f"{frame} {identity} {KITTI_NAMES[label]} -1 -1 -10 {numbers(box, ' ')} -1 -1 -1 -1 -1 -1 -1 1\n"
                for frame, found in enumerate(scene.tracks)
                for identity, label, box in zip(found.ids, found.labels, found.boxes, strict=True)
            )
        )
        videos[sequence] = evaluate_classes(
            read_kitti_annotations(truth_file, FRAMES), scene.tracks, ["car", "pedestrian"], KITTI, sequence
        )
    seqmap = "".join(f"{sequence} empty 000000 {FRAMES:06d}\n" for sequence in videos)
    (tmp_path / "gt" / "evaluate_tracking.seqmap.training").write_text(seqmap)
    dataset = trackeval.datasets.Kitti2DBox(
        {"GT_FOLDER": str(tmp_path / "gt"), "TRACKERS_FOLDER": str(tmp_path / "trackers"), "PRINT_CONFIG": False}
    )
    found = assert_all_equal(videos, KITTI, run_trackeval(dataset, tmp_path), {})
    assert all(0.1 < row.metrics.hota < 0.95 for row in found.values())


BDD_CLASSES = list(BDD100K.classes)
BDD_IGNORED = ["other person", "trailer", "other vehicle"]


def bdd_file(path: Path, frames: Sequence[Sequence[dict[str, Any]]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([{"index": index, "labels": list(labels)} for index, labels in enumerate(frames)]))


def bdd_label(identity: int, category: str, box: Iterable[float], **attributes: bool) -> dict[str, Any]:
    corners = dict(zip(("x1", "y1", "x2", "y2"), map(float, box), strict=True))
    label = {"id": str(identity), "category": category, "box2d": corners}
    return {**label, "attributes": attributes} if attributes else label


@pytest.mark.parametrize("labels", [BDD_CLASSES + BDD_IGNORED, ["car", "pedestrian", "other vehicle"]], ids=len)
def test_bdd100k(tmp_path: Path, labels: list[str]) -> None:
    """Every class; and few, so that classes without any truth take part in the mean."""
    videos = {}
    for seed, sequence in enumerate(("b1c66a42-6f7d68ca", "b1c81faa-3df17267")):
        scene = crowd(20 + seed, labels, BDD_CLASSES, objects=44)
        annotations, rows = [], []
        for frame, seen in enumerate(scene.truth):
            crowds = {item.identity for item in seen if (item.identity + frame // 10) % 11 == 0}
            regions = crowds | {item.identity for item in seen if item.label in BDD_IGNORED}
            rows.append(
                [bdd_label(item.identity, item.label, item.box, Crowd=item.identity in crowds) for item in seen]
            )
            annotations.append(
                [
                    Annotation(item.box, item.label, item.identity, ignore=region, crowd=region)
                    for item in seen
                    for region in [item.identity in regions]
                ]
            )
        bdd_file(tmp_path / "gt" / f"{sequence}.json", rows)
        pictures = [f"{sequence}-{frame + 1:07d}.jpg" for frame in range(FRAMES)]
        written = VideoTracks(sequence, pictures, scene.tracks)
        write_bdd100k(tmp_path / "trackers" / "ours" / "data", [written], BDD_CLASSES)
        videos[sequence] = evaluate_classes(annotations, scene.tracks, BDD_CLASSES, BDD100K, sequence, check=True)
    dataset = trackeval.datasets.BDD100K(
        {"GT_FOLDER": str(tmp_path / "gt"), "TRACKERS_FOLDER": str(tmp_path / "trackers"), "PRINT_CONFIG": False}
    )
    means = {"cls_comb_cls_av": CLASS_MEAN, "cls_comb_det_av": ALL_CLASSES}
    found = assert_all_equal(videos, BDD100K, run_trackeval(dataset, tmp_path), means)
    assert 0.05 < found[CLASS_MEAN].metrics.idf1 < 0.95 and found["VEHICLE"].metrics.truth_boxes > 0


# Category 4 is merged into 1: its boxes are cats.
TAO_CATEGORIES = {1: "cat", 2: "dog", 3: "bus", 5: "kite", 6: "yak"}
TAO_LABELS = ["dog", "kite", "cat", "bus"]
TAO_COVERAGE = (([3], [2]), ([5], [1, 2]), ([2, 6], []), ([], [3]))  # absent and partly labelled, video by video


@pytest.mark.parametrize("seed", range(4))
def test_tao(tmp_path: Path, seed: int) -> None:
    """Four videos of short and long, small and large tracks, of which not every class is labelled in each."""
    random = np.random.default_rng(seed)
    content: dict[str, list[dict[str, Any]]] = {"videos": [], "images": [], "tracks": [], "annotations": []}
    categories = [{"id": number, "name": name} for number, name in TAO_CATEGORIES.items()]
    categories[0]["merged"] = [{"id": 4, "name": "kitten"}]
    written = []
    for video, (absent, partial) in enumerate(TAO_COVERAGE):
        name = f"val/made/{video}"
        there = [number for number in (1, 4, 2, 3, 5) if number not in absent]
        labels = [TAO_CATEGORIES.get(number, "cat") for number in there]
        scene = crowd(40 + 10 * seed + video, labels, TAO_LABELS, objects=14)
        content["videos"].append(
            {"id": video, "name": name, "neg_category_ids": absent, "not_exhaustive_category_ids": partial}
        )
        lengths = random.choice([2, 3, 8, 10, 40], 14)
        scales = random.choice([0.2, 1.0, 3.0], 14)
        pictures, frames = [], []
        for frame, (seen, found) in enumerate(zip(scene.truth, scene.tracks, strict=True)):
            image_id = 1000 * video + frame
            pictures.append(f"{name}/frame{frame:04d}.jpg")
            content["images"].append(
                {"id": image_id, "video_id": video, "frame_index": 30 * frame, "file_name": pictures[-1]}
            )
            for item in seen:
                if frame - 5 < lengths[item.identity]:
                    left, top, right, bottom = scaled(item.box, scales[item.identity])
                    content["annotations"].append(
                        {
                            "id": len(content["annotations"]),
                            "image_id": image_id,
                            "video_id": video,
                            "category_id": there[item.identity % len(there)],
                            "track_id": 100 * video + item.identity,
                            "bbox": [left, top, right - left, bottom - top],
                        }
                    )
            # A track goes on a little longer than its object, and stays nearer to it than in the other tests.
            beyond = frame - 7 < lengths[found.ids % 14]
            kept = (found.ids < 100) & beyond & unrepeated(found.ids)
            ids = found.ids[kept]
            boxes = np.array(
                [scaled(box, scales[identity % 14]) for identity, box in zip(ids, found.boxes[kept], strict=True)]
            )
            for row, number in enumerate(ids % 14):
                true = [item.box for item in seen if item.identity == number]
                if true:
                    boxes[row] = 0.75 * np.array(scaled(true[0], scales[number])) + 0.25 * boxes[row]
            scores = np.round(random.random(len(ids)), 3)
            # A class for each identity: TAO has none that change. One in fourteen is taken for a bus.
            names = np.array([TAO_LABELS.index(labels[identity % len(labels)]) for identity in ids], np.int64)
            names = np.where(ids % 14 == 13, 3, names)
            frames.append(Tracks(ids, boxes.reshape(-1, 4), scores, names))
        written.append(VideoTracks(name, pictures, frames))
    for row in content["annotations"]:
        track = {"id": row["track_id"], "category_id": row["category_id"], "video_id": row["video_id"]}
        if track not in content["tracks"]:
            content["tracks"].append(track)
    truth_file = tmp_path / "gt" / "validation.json"
    truth_file.parent.mkdir()
    truth_file.write_text(json.dumps({**content, "categories": categories}))
    output = tmp_path / "trackers" / "ours" / "data" / "results.json"
    write_tao(output, written, TAO_LABELS, read_tao_numbers(truth_file))

    dataset = trackeval.datasets.TAO(
        {"GT_FOLDER": str(tmp_path / "gt"), "TRACKERS_FOLDER": str(tmp_path / "trackers"), "PRINT_CONFIG": False}
    )
    metric = trackeval.metrics.TrackMAP({"PRINT_CONFIG": False})
    evaluator = trackeval.Evaluator({**QUIET, "LOG_ON_ERROR": str(tmp_path / "error_log.txt")})
    expected = evaluator.evaluate([dataset], [metric])[0]["TAO"]["ours"]["COMBINED_SEQ"]

    truth = read_tao(truth_file, tmp_path)
    found = track_average_precision(
        [
            LabelledVideo([frame.annotations for frame in sequence.frames], video.frames, sequence.coverage)
            for sequence, video in zip(truth, written, strict=True)
        ],
        TAO_LABELS,
    )
    assert set(found.classes) == {"cat", "dog", "bus", "kite"}
    rows = {**found.classes, "cls_comb_cls_av": found.mean}
    for row, fields in rows.items():
        for field, value in fields.items():
            theirs = expected[row]["TrackMAP"][field]
            np.testing.assert_allclose(value, theirs, rtol=0, atol=1e-6, err_msg=f"{row} {field}")
    assert 0.02 < found.ap < found.ap50 < 0.95 and (found.mean["AP_area_s"] > -1).any()


def scaled(box: Iterable[float], scale: float) -> tuple[float, float, float, float]:
    left, top, right, bottom = (float(value) for value in box)
    return left, top, left + scale * (right - left), top + scale * (bottom - top)


def unrepeated(ids: np.ndarray) -> np.ndarray:
    return np.isin(np.arange(len(ids)), np.unique(ids, return_index=True)[1])


def test_class_names_are_those_of_trackeval(tmp_path: Path) -> None:
    truth_file = tmp_path / "gt" / "a" / "gt" / "gt.txt"
    truth_file.parent.mkdir(parents=True)
    truth_file.touch()
    (tmp_path / "trackers").mkdir()
    config = {"GT_FOLDER": str(tmp_path / "gt"), "TRACKERS_FOLDER": str(tmp_path / "trackers"), "SKIP_SPLIT_FOL": True}
    dataset = trackeval.datasets.MotChallenge2DBox({**config, "SEQ_INFO": {"a": 1}, "PRINT_CONFIG": False})
    assert {number: name for name, number in dataset.class_name_to_class_id.items()} == MOT_CLASSES


@pytest.mark.parametrize("levels", [2, 4, 1000])
def test_metrics_of_random_overlaps_with_many_ties(levels: int) -> None:
    """No two ways to break a tie: IoUs are multiples of 1 / levels, so that equally good matchings abound."""
    for seed in range(100):
        random = np.random.default_rng(seed)
        density = random.choice([0.2, 0.5, 0.9])
        frames = []
        for _ in range(random.integers(1, 15)):
            truths, tracks = random.integers(0, 7, 2)
            ious = (
                random.integers(0, levels + 1, (truths, tracks)) / levels * (random.random((truths, tracks)) < density)
            )
            frames.append(PreparedFrame(random.permutation(8)[:truths], random.permutation(9)[:tracks], ious))
        overlaps = Overlaps.of(frames)
        fields = {"HOTA": hota(overlaps), "CLEAR": clear(overlaps), "Identity": identity(overlaps)}
        counts = {key: sum(len(getattr(frame, key)) for frame in frames) for key in ("truth_ids", "track_ids")}
        assert (len(overlaps.truth_ids), len(overlaps.track_ids)) == tuple(counts.values())
        check_against_trackeval(str(seed), frames, fields)


def test_disagreement_is_reported() -> None:
    frames = [PreparedFrame(np.array([0]), np.array([4]), np.array([[0.75]]))]
    fields = {"HOTA": hota(Overlaps.of(frames)), "CLEAR": clear(Overlaps.of(frames)), "Identity": {}}
    with pytest.raises(DisagreementError, match="a: Identity IDF1 is nan, but TrackEval has 1.0"):
        check_against_trackeval("a", frames, fields)
