"""Formats by name, and ground truth recognised by what it is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from qdtrack_ros.data.formats import Location, read_sequences, recognise
from qdtrack_ros.data.types import DataError


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("gt.txt", "1,1,0,0,5,5,1,-1,-1,-1\n", "mot"),
        ("0000.txt", "0 1 Car 0 0 -1.57 1 2 3 4 1.5 1.6 3.5 1 1 20 -1.6\n", "kitti"),
        ("cut.txt", "0 1 Car 0\n0 1 Car 0 0 -1.57 1 2 3 4 1.5 1.6 3.5 1 1 20 -1.6\n", "kitti"),
        ("cut_gt.txt", "1\n1,1,0,0,5,5,1,-1,-1,-1\n", "mot"),
        ("empty.txt", "", "mot"),
        ("annotation_val.odgt", "", "crowdhuman"),
        ("video.json", "[]", "bdd100k"),
        ("all.json", '{"frames": []}', "bdd100k"),
        ("stills.json", '{"images": [], "annotations": [], "categories": []}', "coco"),
        ("videos.json", '{"images": [], "annotations": [], "categories": [], "videos": []}', "cocovid"),
        ("tasks.json", '[{"id": 1, "annotations": [], "data": {}}]', "label_studio"),
        ("tao.json", '{"images": [], "annotations": [], "categories": [], "videos": [], "tracks": []}', "tao"),
    ],
)
def test_files_are_recognised(tmp_path: Path, name: str, text: str, expected: str):
    (tmp_path / name).write_text(text)
    assert recognise(tmp_path / name) == expected


@pytest.mark.parametrize(
    ("inside", "expected"), [("camera_image/", "waymo"), ("gt/", "mot"), ("seqinfo.ini", "mot"), ("v.json", "bdd100k")]
)
def test_folders_are_recognised(tmp_path: Path, inside: str, expected: str):
    path = tmp_path / inside
    path.mkdir() if inside.endswith("/") else path.touch()
    assert recognise(tmp_path) == expected


def test_what_is_no_ground_truth_is_named(tmp_path: Path):
    with pytest.raises(DataError, match="no folder of annotations"):
        recognise(tmp_path)
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(DataError, match=r"a\.json: not JSON"):
        recognise(tmp_path / "a.json")
    with pytest.raises(DataError, match=r"a\.txt: cannot be read"):
        recognise(tmp_path / "a.txt")


def test_names_choose_sequences_and_must_match_one(tmp_path: Path):
    rows = [{"name": "a.jpg", "videoName": name, "frameIndex": 0} for name in ("street", "park")]
    path = tmp_path / "all.json"
    path.write_text(json.dumps(rows))
    assert [item.name for item in read_sequences("bdd100k", Location(tmp_path, path))] == ["park", "street"]
    assert [item.name for item in read_sequences("bdd100k", Location(tmp_path, path, "s*"))] == ["street"]
    with pytest.raises(DataError, match=r"all\.json: no sequence is named x"):
        read_sequences("bdd100k", Location(tmp_path, path, "x"))
