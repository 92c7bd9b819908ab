"""`qdtrack train --check`: what it counts, and what it finds wrong, over all sources at once."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml

from qdtrack_ros.cli import main as cli
from qdtrack_ros.training.check import CheckReport, LabelUse, SourceReport, check_training, table
from qdtrack_ros.training.config import TrainingConfig

Training = Callable[..., TrainingConfig]
STREET = {"format": "mot", "path": "street", "labels": {"pedestrian": "person"}, "scope": 2}


def check(config: TrainingConfig, folder: Path, all_pictures: bool = False) -> tuple[CheckReport, SourceReport]:
    """The report, and its first source."""
    report = check_training(config, folder, all_pictures)
    return report, report.sources[0]


def edit(path: Path, change: Callable[[list[list[str]]], list[list[str]]]) -> None:
    """Rewrite the rows of a gt.txt."""
    rows = change([row.split(",") for row in path.read_text().splitlines()])
    path.write_text("\n".join(",".join(row) for row in rows) + "\n")


def coco(folder: Path, annotations: list[dict[str, Any]], **image: Any) -> dict[str, Any]:
    """A source of stills: one picture of 40 x 30."""
    folder.mkdir()
    cv2.imwrite(str(folder / "a.png"), np.zeros((30, 40, 3), np.uint8))
    content = {
        "images": [{"id": 1, "file_name": "a.png", **image}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 9, 9], **row} for row in annotations],
        "categories": [{"id": 1, "name": "person"}, {"id": 2, "name": "dog"}],
    }
    (folder / "truth.json").write_text(json.dumps(content))
    source = {"format": "coco", "path": folder.name, "annotations": f"{folder.name}/truth.json", "scope": 0}
    return {**source, "labels": {"person": "person"}}


def test_a_sequence_without_annotations_is_none_to_learn_from(training: Training, street: Path):
    (street / "gt" / "gt.txt").rename(street / "gt" / "truth.txt")
    report, source = check(training(validated=True), street.parent)
    for part in report.sources:  # the one to learn from, and the one to validate on
        assert [f"{street}: no gt/gt.txt and no gt.txt" in error for error in part.errors] == [True]


def test_missing_pictures_of_a_part_are_named(training: Training, tmp_path: Path):
    source = coco(tmp_path / "video", [], video_id=1, frame_id=0)
    truth = tmp_path / "video" / "truth.json"
    content = json.loads(truth.read_text())
    image = content["images"][0]
    content["images"] = [{**image, "id": n, "frame_id": n, "file_name": f"{n}.png"} for n in range(4)]
    content["annotations"] = [
        {"id": n, "image_id": n, "category_id": 1, "instance_id": 0, "bbox": [1, 1, 9, 9]} for n in range(4)
    ]
    for n in (0, 1, 2):
        cv2.imwrite(str(tmp_path / "video" / f"{n}.png"), np.zeros((30, 40, 3), np.uint8))
    truth.write_text(json.dumps(content | {"videos": [{"id": 1, "name": "v"}]}))
    source |= {"format": "cocovid", "scope": 1, "part": [0.5, 1.0]}
    _, report = check(training(sources=[source]), tmp_path)
    assert report.pictures == 1 and ["3.png" in error for error in report.errors] == [True]


def test_a_sound_training_is_counted(training: Training, street: Path):
    rows = street / "gt" / "gt.txt"
    edit(rows, lambda rows: [[*row[:6], "0", *row[7:]] if row[:2] == ["8", "3"] else row for row in rows])
    report, source = check(training(validated=True), street.parent)
    assert report.ok and not source.warnings
    # Eight frames of three people, the last sight of one of whom is to be ignored.
    assert (source.sequences, source.frames, source.boxes, source.ignored) == (1, 8, 23, 1)
    # Within two frames: 7 + 6 pairs of eight sights, 6 + 5 of seven.
    assert (source.identities, source.lone, source.pairs) == (3, 0, 13 + 13 + 11)
    assert source.labels == (LabelUse("pedestrian", 24, "person"),) and source.pictures == 8
    assert [part.name for part in report.sources] == ["street", "street (validation)"]
    assert "the training can begin" in table(report)


def test_faulty_rows_of_all_sources_are_named_at_once(training: Training, street: Path):
    (street.parent / "bad").mkdir()
    truth = street / "gt" / "gt.txt"
    truth.write_text(truth.read_text() + "9,1,0,0,5,5,1\n1,x,0,0,5,5,1\n")
    stills = coco(street.parent / "stills", [{"category_id": 7}])
    kitti = {"format": "kitti", "path": "none.mp4", "annotations": "none.txt"}
    crops = {"format": "crops", "path": "bad", "labels": {"object": "person"}}
    report, _ = check(training(sources=[STREET, stills, kitti, crops], validation=stills), street.parent)
    text = table(report)
    assert not report.ok and [len(source.errors) for source in report.sources] == [1, 1, 1, 1, 1]
    assert f"{truth}:25: frame is 9" in text and f"{truth}:26: identity is 'x'" in text
    assert text.count("annotation 1: category_id is 7, no such category") == 2
    assert "none.mp4: no such video file" in text and "no picture has an identity in its name" in text
    assert text.splitlines()[-1] == "the training cannot begin: 5 errors"


def test_a_label_that_the_preset_has_not_does_not_hide_faulty_rows(training: Training, street: Path):
    truth = street / "gt" / "gt.txt"
    truth.write_text("1,1,0,0,-5,5,1\n")
    source = {**STREET, "labels": {"pedestrian": "cat"}}
    _, found = check(training(sources=[source]), street.parent)
    mapping, rows = found.errors
    assert "maps 'pedestrian' to 'cat'" in mapping and f"{truth}:1: box is -5 wide" in rows


def test_missing_and_damaged_pictures_are_named(training: Training, street: Path):
    for frame in (2, 4):
        (street / "img1" / f"{frame:06d}.png").write_bytes(b"no picture")
    report, source = check(training(), street.parent)
    assert source.pictures == 6
    (error,) = source.errors
    assert error.startswith("2 pictures cannot be decoded\n") and "img1/000002.png: an undecodable picture" in error


def test_missing_pictures_are_named(training: Training, tmp_path: Path, street: Path):
    source = coco(tmp_path / "stills", [{}])
    (tmp_path / "stills" / "a.png").unlink()
    _, found = check(training(sources=[source]), tmp_path)
    assert found.errors == [f"1 pictures are missing\n  {tmp_path / 'stills' / 'a.png'}"]


def test_only_some_pictures_are_decoded_unless_all_are_asked_for(training: Training, street: Path):
    folder = street.parent / "crops"
    folder.mkdir()
    for number in range(30):
        cv2.imwrite(str(folder / f"{number // 2:04d}_{number}.png"), np.zeros((20, 10, 3), np.uint8))
    crops = {"format": "crops", "path": "crops", "labels": {"object": "person"}}
    _, some = check(training(sources=[crops]), street.parent)
    assert (some.frames, some.identities, some.pairs, some.pictures, some.errors) == (30, 15, 15, 12, [])
    (folder / "0000_0.png").write_bytes(b"")
    _, still = check(training(sources=[crops]), street.parent)
    _, every = check(training(sources=[crops]), street.parent, all_pictures=True)
    assert still.errors == [] and every.pictures == 29 and "0000_0.png" in every.errors[0]


def test_a_picture_of_another_size_is_an_error(training: Training, tmp_path: Path, street: Path):
    source = coco(tmp_path / "stills", [{}], width=80, height=60)
    _, found = check(training(sources=[source]), tmp_path)
    assert found.errors[0].splitlines()[1].endswith("a.png: 40x30, annotated as 80x60")


def test_boxes_beside_the_picture_are_pointed_out(training: Training, tmp_path: Path, street: Path):
    boxes = [[40, 0, 5, 5], [-5, 0, 5, 5], [0, 30, 5, 5], [-4, -4, 5, 5]]  # the last has a pixel in it
    source = coco(tmp_path / "stills", [{"bbox": box} for box in boxes])
    report, found = check(training(sources=[source]), tmp_path)
    (warning,) = found.warnings
    assert report.ok and warning.startswith("3 boxes lie wholly outside") and "person at 40 0 45 5" in warning


def test_ids_that_do_not_go_on_are_an_error(training: Training, street: Path):
    edit(street / "gt" / "gt.txt", lambda rows: [[row[0], str(place), *row[2:]] for place, row in enumerate(rows)])
    _, found = check(training(), street.parent)
    assert (found.identities, found.lone, found.pairs) == (24, 24, 0)
    assert "no identity is in two frames within scope 2" in found.errors[0]
    _, stills = check(training(sources=[{**STREET, "scope": 0}]), street.parent)
    assert (stills.pairs, stills.errors) == (24, [])


def test_an_identity_that_comes_back_too_late_has_no_partner(training: Training, street: Path):
    edit(street / "gt" / "gt.txt", lambda rows: [row for row in rows if row[1] == "1" or row[0] in ("1", "4")])
    _, found = check(training(), street.parent)
    assert (found.identities, found.lone, found.pairs, found.errors) == (3, 2, 13, [])


def test_objects_without_identity_are_counted(training: Training, street: Path):
    edit(street / "gt" / "gt.txt", lambda rows: [[row[0], "-1", *row[2:]] if row[1] == "3" else row for row in rows])
    _, found = check(training(), street.parent)
    assert (found.boxes, found.identities) == (24, 2)
    assert found.warnings == ["8 objects have no identity: they teach the detector alone"]


def test_labels_are_listed_with_what_they_become(training: Training, tmp_path: Path, street: Path):
    source = coco(tmp_path / "stills", [{}, {"category_id": 2}, {"category_id": 2}])
    source["labels"] = {"person": "person", "bird": "person", "cow": "ignore"}
    report, found = check(training(sources=[source]), tmp_path)
    assert found.labels == (
        LabelUse("bird", 0, "person"),
        LabelUse("cow", 0, "ignore"),
        LabelUse("dog", 2, None),
        LabelUse("person", 1, "person"),
    )
    assert found.warnings == ["labels are mapped that never occur: bird"] and found.boxes == 1
    assert "dog 2 -> background (not mapped); person 1 -> person" in table(report)


def test_a_source_none_of_whose_labels_is_mapped_is_an_error(training: Training, street: Path):
    source = {**STREET, "labels": {"Pedestrian": "person"}}
    report, found = check(training(sources=[STREET, source]), street.parent)
    assert not found.errors
    assert report.sources[1].errors == ["none of its labels is mapped under `labels`; it has pedestrian"]


def test_background_is_allowed_beside_objects_but_not_alone(training: Training, tmp_path: Path, street: Path):
    source = coco(tmp_path / "stills", [])
    report, _ = check(training(sources=[STREET, source]), tmp_path)
    assert report.ok and "it gives background alone" in report.sources[1].warnings[0]
    alone, _ = check(training(sources=[source]), tmp_path)
    assert alone.errors == ("no source has an object to learn from",)


def test_missing_weights_are_named(training: Training, street: Path):
    report, source = check(training(backbone_weights="no_such.pth"), street.parent)
    assert not source.errors and len(report.errors) == 1 and "no_such.pth" in report.errors[0]


def test_the_command_prints_the_report_and_trains_nothing(
    training: Training, tiny_preset: Path, street: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    path = tmp_path / "training.yaml"
    settings = {"preset": str(tiny_preset), "backbone_weights": "random", "sources": [STREET]}
    path.write_text(yaml.safe_dump(settings))
    words = ["train", str(path), "--data", str(street.parent), "--output", str(tmp_path / "out"), "--check"]
    assert cli.main(words) == 0
    assert "street  mot" in capsys.readouterr().out and not (tmp_path / "out").exists()
    (street / "img1" / "000003.png").write_bytes(b"")
    assert cli.main([*words, "--all-pictures"]) == 1
    assert "ERROR: 1 pictures cannot be decoded" in capsys.readouterr().out
