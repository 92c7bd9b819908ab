"""MOTChallenge folders."""

from __future__ import annotations

import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest

from qdtrack_ros.data.formats import recognise
from qdtrack_ros.data.mot import read_mot_results, read_mot_sequence
from qdtrack_ros.data.sources import open_source
from qdtrack_ros.data.types import DataError


def make(root: Path, rows: str, count: int = 3, pictures: str = "{:06d}.png", info: str = "") -> Path:
    (root / "img1").mkdir(parents=True)
    (root / "gt").mkdir()
    for number in range(1, count + 1):
        cv2.imwrite(str(root / "img1" / pictures.format(number)), np.full((8, 10, 3), 10 * number, np.uint8))
    (root / "gt" / "gt.txt").write_text(rows)
    header = f"[Sequence]\nname=street\nimDir=img1\nframeRate=5\nseqLength={count}\nimWidth=10\nimHeight=8\n"
    (root / "seqinfo.ini").write_text(header + info)
    return root


def test_mot15_rows(tmp_path: Path):
    rows = "1,0,10,20,30,40.5,1,-5.0,2.0,0.3\n3,7,1,2,3,4,0,-1,-1,-1\n\n1,-1,0,0,5,5,1,-1,-1,-1\n"
    sequence = read_mot_sequence(make(tmp_path / "a", rows))
    assert (sequence.name, sequence.frame_rate, sequence.is_video, len(sequence.frames)) == ("street", 5.0, True, 3)
    first, second, third = sequence.frames
    assert first.annotations[0].box == (10.0, 20.0, 40.0, 60.5)
    assert first.annotations[0].instance_id == 0  # identity 0 is an identity
    assert first.annotations[1].instance_id is None
    assert (first.annotations[0].label, first.annotations[0].ignore) == ("pedestrian", False)
    assert second.annotations == ()
    assert third.annotations[0].ignore
    assert (third.timestamp_ns, third.width, third.height) == (400_000_000, 10, 8)
    assert [int(frame.load()[0, 0, 0]) for frame in sequence.frames] == [10, 20, 30]
    assert int(pickle.loads(pickle.dumps(sequence)).frames[1].load()[0, 0, 0]) == 20


def test_mot17_rows_carry_class_and_visibility(tmp_path: Path):
    rows = "1,1,0,0,5,5,1,1,0.25\n1,2,0,0,5,5,0,7,1\n1,3,0,0,5,5,0,13,0\n"
    found = read_mot_sequence(make(tmp_path / "a", rows)).frames[0].annotations
    assert [row.label for row in found] == ["pedestrian", "static_person", "crowd"]
    assert [row.ignore for row in found] == [False, True, True]
    assert [row.crowd for row in found] == [False, False, True]
    assert found[0].visibility == 0.25


def test_a_comma_at_the_end_of_a_row_is_no_column(tmp_path: Path) -> None:
    rows = "1,2,0,0,5,5,0,7,1,\n1,3,0,0,5,5,1,-1,-1,-1,\n"
    found = read_mot_sequence(make(tmp_path / "a", rows)).frames[0].annotations
    assert [row.label for row in found] == ["static_person", "pedestrian"]


def test_faulty_rows_are_listed_by_line(tmp_path: Path):
    rows = "\n".join(
        [
            "1,1,0,0,5,5,1,-1,-1,-1",
            "1,1,9,9,5,5,1,-1,-1,-1",
            "4,1,0,0,5,5,1,-1,-1,-1",
            "1,2,0,0,-5,5,1,-1,-1,-1",
            "1,3,nan,0,5,5,1,-1,-1,-1",
            "1,x,0,0,5,5,1,-1,-1,-1",
            "1,4,0,0",
            "1,5,0,0,5,5,1,14,1",
            "1,1.5,0,0,5,5,1,-1,-1,-1",
            "1,-2,0,0,5,5,1,-1,-1,-1",
            "1,99999999999999999999,0,0,5,5,1,-1,-1,-1",
        ]
    )
    with pytest.raises(DataError) as caught:
        read_mot_sequence(make(tmp_path / "a", rows))
    assert [fault.line for fault in caught.value.faults] == list(range(2, 12))
    message = str(caught.value)
    assert "gt.txt:2: identity 1 appears twice in frame 1 (first in line 1)" in message
    assert "gt.txt:3: frame is 4, the sequence has frames 1 to 3" in message
    assert "gt.txt:4: box is -5 wide and 5 high" in message
    assert "gt.txt:5: box is 'nan', expected a finite number" in message
    assert "gt.txt:7: 4 columns, expected at least 7" in message
    assert "gt.txt:8: class is 14" in message
    assert "gt.txt:11: identity is 99999999999999999999, expected less than" in message


def test_many_faults_are_counted(tmp_path: Path):
    with pytest.raises(DataError, match="and 15 more") as caught:
        read_mot_sequence(make(tmp_path / "a", "9,1,0,0,1,1,1\n" * 25))
    assert len(caught.value.faults) == 25
    assert pickle.loads(pickle.dumps(caught.value)).faults == caught.value.faults


def test_a_row_of_eight_columns_ends_with_its_class(tmp_path: Path):
    """As the benchmark's own tools take it; in rows of ten columns world coordinates follow the flag (MOT15)."""
    sequence = read_mot_sequence(make(tmp_path / "a", "1,1,0,0,5,5,1,3\n1,2,0,0,5,5,1,3,2.5,0\n"))
    assert [(row.label, row.visibility) for row in sequence.frames[0].annotations] == [
        ("car", 1.0),
        ("pedestrian", 1.0),
    ]


@pytest.mark.parametrize(
    "rows", ["1,1,0,0,5,5,1,4,0,0\n1,2,0,0,5,5,1,4,1,2\n", "1,1,0,0,5,5,0,0,0,0\n1,2,0,0,5,5,1,1,0,1\n"]
)
def test_rows_of_visdrone_are_not_taken_for_pedestrians(tmp_path: Path, rows: str) -> None:
    with pytest.raises(DataError, match=r"gt\.txt: rows end with VisDrone's category, .*labels\.txt, a line each"):
        read_mot_sequence(make(tmp_path / "a", rows))
    assert len(read_mot_results(tmp_path / "a" / "gt" / "gt.txt", 3)[0]) == 2  # in tracks nobody looks there


@pytest.mark.parametrize(
    "ends", [["-1,-1,-1"] * 2, ["0,0,0"] * 2, ["4.5,1,0", "4,0,0"], ["-4,1,0", "4,0,0"], ["1,0,0", "1,1,2"]]
)
def test_rows_that_may_end_with_world_coordinates_are_of_pedestrians(tmp_path: Path, ends: list[str]) -> None:
    rows = "".join(f"1,{number},0,0,5,5,1,{end}\n" for number, end in enumerate(ends))
    found = read_mot_sequence(make(tmp_path / "a", rows)).frames[0].annotations
    assert [row.label for row in found] == ["pedestrian"] * 2


def test_pictures_with_any_names_count_by_position(tmp_path: Path):
    sequence = read_mot_sequence(make(tmp_path / "a", "", pictures="street-{}.bmp"))
    assert [int(frame.load()[0, 0, 0]) for frame in sequence.frames] == [10, 20, 30]


def exported_by_cvat(root: Path, rows: str, labels: str = "person\nrider\n") -> Path:
    """The layout of CVAT's export "MOT 1.1" of a video task."""
    for index in range(3):
        (root / "img1").mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(root / "img1" / f"frame_{index:06d}.PNG"), np.full((8, 10, 3), 10 * index, np.uint8))
    (root / "gt").mkdir()
    (root / "gt" / "gt.txt").write_text(rows)
    (root / "gt" / "labels.txt").write_text(labels)
    return root


def test_export_of_cvat_has_classes_of_its_own_and_no_seqinfo(tmp_path: Path):
    root = exported_by_cvat(tmp_path / "street", "1,1,0,0,5,5,1,1,1\n3,1,1,0,5,5,1,1,0.5\n3,2,0,0,4,4,0,2,1\n")
    for sequence in (read_mot_sequence(root), open_source(root)):
        assert (sequence.name, sequence.frame_rate, len(sequence.frames)) == ("street", None, 3)
        labels = [[row.label for row in frame.annotations] for frame in sequence.frames]
        assert labels == [["person"], [], ["person", "rider"]]
    assert [row.ignore for row in sequence.frames[2].annotations] == [False, True]
    assert [int(frame.load()[0, 0, 0]) for frame in sequence.frames] == [0, 10, 20]  # frame_000000 is frame 1


@pytest.mark.parametrize("has_info", [True, False])
def test_truth_may_lie_in_the_folder_itself(tmp_path: Path, has_info: bool):
    root = exported_by_cvat(tmp_path / "street", "2,7,0,0,5,5,1,2,1\n")
    for name in ("gt.txt", "labels.txt"):
        (root / "gt" / name).rename(root / name)
    (root / "gt").rmdir()
    if has_info:
        (root / "seqinfo.ini").write_text("[Sequence]\nname=street\n")
    for sequence in (read_mot_sequence(root), open_source(root)):
        assert [[row.label for row in frame.annotations] for frame in sequence.frames] == [[], ["rider"], []]
    assert recognise(root) == "mot"


def test_a_text_beside_pictures_makes_no_sequence_of_them(tmp_path: Path):
    (tmp_path / "gt.txt").write_text("anything")
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((4, 4, 3), np.uint8))
    assert len(open_source(tmp_path).frames) == 1


def test_own_classes_are_counted_from_one_and_named_once(tmp_path: Path):
    with pytest.raises(DataError, match=r"gt\.txt:1: 7 columns, expected 9 .* for there is a labels\.txt"):
        read_mot_sequence(exported_by_cvat(tmp_path / "d", "1,1,0,0,5,5,1\n"))
    with pytest.raises(DataError, match=r"gt\.txt:1: class is 3, expected 1 to 2"):
        read_mot_sequence(exported_by_cvat(tmp_path / "a", "1,1,0,0,5,5,1,3,1\n"))
    for name, labels in (("b", "\n"), ("c", "person\nperson\n")):
        with pytest.raises(DataError, match=r"labels\.txt: .* expected a class a line"):
            read_mot_sequence(exported_by_cvat(tmp_path / name, "", labels))


def test_numbers_from_zero_count_by_position(tmp_path: Path):
    root = make(tmp_path / "a", "")
    for number in (1, 2, 3):
        (root / "img1" / f"{number:06d}.png").rename(root / "img1" / f"{number - 1:06d}.png")
    assert [int(frame.load()[0, 0, 0]) for frame in read_mot_sequence(root).frames] == [10, 20, 30]


def test_missing_pictures_are_named(tmp_path: Path):
    root = make(tmp_path / "a", "")
    (root / "img1" / "000002.png").unlink()
    with pytest.raises(DataError, match="2 pictures, expected frames 1 to 3; missing: 2"):
        read_mot_sequence(root)


def test_video_beside_seqinfo(tmp_path: Path):
    root = make(tmp_path / "a", "2,1,0,0,5,5,1,-1,-1,-1\n", info="")
    for picture in (root / "img1").iterdir():
        picture.unlink()
    (root / "img1").rmdir()
    with pytest.raises(DataError, match="no folder img1 and 0 video files"):
        read_mot_sequence(root)
    writer = cv2.VideoWriter(str(root / "v.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 25.0, (32, 32))
    for index in range(3):
        writer.write(np.full((32, 32, 3), 50 * index, np.uint8))
    writer.release()
    sequence = read_mot_sequence(root)
    assert [frame.timestamp_ns for frame in sequence.frames] == [0, 200_000_000, 400_000_000]  # seqinfo's rate
    assert [round(float(frame.load().mean()) / 50) for frame in sequence.frames] == [0, 1, 2]
    assert len(sequence.frames[1].annotations) == 1


def test_without_truth_and_as_stills(tmp_path: Path):
    root = make(tmp_path / "a", "")
    (root / "gt" / "gt.txt").unlink()
    sequence = read_mot_sequence(root, is_video=False)
    assert not sequence.is_video
    assert all(frame.annotations == () and frame.timestamp_ns is None for frame in sequence.frames)
    assert open_source(root).name == "street"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name=x", "not a seqinfo.ini"),
        ("[Sequence]\nframeRate=0\n", "frameRate is 0, expected more than 0"),
        ("[Sequence]\nseqLength=many\n", "seqLength is 'many', expected a number"),
    ],
)
def test_bad_seqinfo(tmp_path: Path, text: str, message: str):
    root = make(tmp_path / "a", "")
    (root / "seqinfo.ini").write_text(text)
    with pytest.raises(DataError, match=message):
        read_mot_sequence(root)


def test_no_sequence(tmp_path: Path):
    with pytest.raises(DataError, match=r"seqinfo\.ini: no such file"):
        read_mot_sequence(tmp_path)


def test_what_follows_the_score_of_a_track_is_not_looked_at(tmp_path: Path):
    path = tmp_path / "tracks.txt"
    path.write_text("1,0,0,0,5,5,0.9\n1,1,0,0,5,5,0.9,-1,-1\n2,1,0,0,5,5,0.9,17,-1\n2,2,0,0,5,5,0,-1,-1,-1\n")
    found = read_mot_results(path, 2)
    assert [[row.instance_id for row in rows] for rows in found] == [[0, 1], [1, 2]]


def test_detections_are_no_tracks(tmp_path: Path):
    path = tmp_path / "det.txt"
    path.write_text("1,3,0,0,5,5,0.9,-1,-1,-1\n1,-1,0,0,5,5,0.9,-1,-1,-1\n")
    with pytest.raises(DataError, match=r"det.txt:2: identity is -1, expected 0 or more: these are detections"):
        read_mot_results(path, 2)
