"""KITTI tracking labels."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from qdtrack_ros.data.kitti import read_kitti_sequence
from qdtrack_ros.data.types import DataError

REST = "-1000 -1000 -1000 -10 -1 -1 -1"


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "0000"
    folder.mkdir()
    for index in range(2):
        cv2.imwrite(str(folder / f"{index:06d}.png"), np.full((4, 4, 3), index, np.uint8))
    return folder


def labels(folder: Path, *rows: str) -> Path:
    path = folder / "0000.txt"
    path.write_text("".join(f"{row} {REST}\n" for row in rows))
    return path


def test_rows(tmp_path: Path, pictures: Path):
    path = labels(
        tmp_path,
        "0 -1 DontCare -1 -1 -10 1 2 3.5 4",
        "0 -1 DontCare -1 -1 -10 5 2 9 4",
        "1 0 Car 0 2 1.5 10 20 30 40",
    )
    sequence = read_kitti_sequence(path, pictures)
    assert (sequence.name, sequence.frame_rate, len(sequence.frames)) == ("0000", 10.0, 2)
    region = sequence.frames[0].annotations[0]
    assert (region.box, region.ignore, region.crowd, region.instance_id) == ((1, 2, 3.5, 4), True, True, None)
    assert len(sequence.frames[0].annotations) == 2
    car = sequence.frames[1].annotations[0]
    assert (car.label, car.instance_id, car.ignore, car.visibility) == ("Car", 0, False, 0.2)
    assert car.difficulty == 1
    assert sequence.frames[1].timestamp_ns == 100_000_000
    assert int(sequence.frames[1].load()[0, 0, 0]) == 1


def test_boxes_that_the_benchmark_leaves_out_are_difficult(tmp_path: Path, pictures: Path):
    rows = [f"0 {index} Car {state} 1.5 10 20 30 40" for index, state in enumerate(("0 2", "1 0", "0 3"))]
    annotations = read_kitti_sequence(labels(tmp_path, *rows), pictures).frames[0].annotations
    assert [row.difficulty for row in annotations] == [1, 2, 2]


def test_faulty_rows_are_listed(tmp_path: Path, pictures: Path):
    path = labels(
        tmp_path,
        "0 1 Car 0 0 1 10 20 30 40",
        "0 1 Car 0 0 1 10 20 30 40",
        "2 1 Car 0 0 1 10 20 30 40",
        "0 2 Car 0 0 1 30 20 10 40",
        "0 3 Car 0 0 1 30 20",
    )
    path.write_text(path.read_text().replace(f"30 20 {REST}", "30 20"))
    with pytest.raises(DataError) as caught:
        read_kitti_sequence(path, pictures)
    assert [fault.line for fault in caught.value.faults] == [2, 3, 4, 5]
    assert "frames 0 to 1" in str(caught.value)


def test_missing_pictures_are_named(tmp_path: Path, pictures: Path):
    (pictures / "000001.png").rename(pictures / "000003.png")
    with pytest.raises(DataError, match="2 pictures with numbers from 0 to 3; there is no 1"):
        read_kitti_sequence(labels(tmp_path, "1 0 Car 0 0 1 10 20 30 40"), pictures)
    (pictures / "000000.png").rename(pictures / "1700000000123456789.png")  # time stamps have no numbers to miss
    (pictures / "000003.png").rename(pictures / "1700000000223456789.png")
    assert len(read_kitti_sequence(labels(tmp_path, "1 0 Car 0 0 1 10 20 30 40"), pictures).frames[1].annotations) == 1


def test_missing_files_are_named(tmp_path: Path, pictures: Path):
    with pytest.raises(DataError, match=r"0001\.txt: cannot be read"):
        read_kitti_sequence(tmp_path / "0001.txt", pictures)
    with pytest.raises(DataError, match="no such video file"):
        read_kitti_sequence(labels(tmp_path), tmp_path / "0000.mp4")
