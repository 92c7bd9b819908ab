"""`qdtrack evaluate` on ground truth of many videos and classes; the network finds coloured rectangles."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from qdtrack_ros.cli import main as cli

pytest.importorskip("scipy", reason="metrics need scipy")
pytestmark = pytest.mark.usefixtures("colour_engine")


def boxes(crossing: Path) -> list[tuple[int, int, list[int]]]:
    """Frame from 0, identity and left, top, width, height of all boxes of the crossing."""
    rows = [row.split(",") for row in (crossing / "gt" / "gt.txt").read_text(encoding="ascii").splitlines()]
    return [(int(row[0]) - 1, int(row[1]), [int(value) for value in row[2:6]]) for row in rows]


def write_bdd100k(crossing: Path, category: str = "pedestrian", video: str = "img1") -> Path:
    """The crossing's ground truth as BDD100K has it; the video is named as the folder of its pictures."""
    frames = [
        {
            "name": f"{frame + 1:06d}.png",
            "videoName": video,
            "frameIndex": frame,
            "labels": [
                {"id": str(who), "category": category, "box2d": {"x1": x, "y1": y, "x2": x + w, "y2": y + h}}
                for index, who, (x, y, w, h) in boxes(crossing)
                if index == frame
            ],
        }
        for frame in range(6)
    ]
    path = crossing.parent / "bdd100k" / f"{video}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(frames), encoding="utf-8")
    return path


def write_two_videos(crossing: Path, category: str = "pedestrian") -> Path:
    """Ground truth of the crossing twice, the second time of this category; the folder of the files."""
    write_bdd100k(crossing)
    shutil.copytree(crossing / "img1", crossing / "other")
    return write_bdd100k(crossing, category, "other").parent


@pytest.mark.parametrize("source", ["", "img1"])
def test_a_video_of_bdd100k(crossing: Path, source: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["evaluate", str(crossing / source), "--gt", str(write_bdd100k(crossing))]) == 0
    note, header, row = capsys.readouterr().out.splitlines()[:3]
    assert note.startswith("left out, for want of such a label in preset pedestrian: rider, car, bus, truck")
    assert header.split()[0] == "sequence" and row.split()[:4] == ["img1", "100.00", "100.00", "100.00"]


def test_several_videos_are_summed_up(crossing: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_two_videos(crossing)
    words = ["evaluate", str(crossing), "--gt", str(folder), "--max-frames", "4"]
    assert cli.main([*words, "--json", str(tmp_path / "results.json")]) == 0
    assert [row.split()[0] for row in capsys.readouterr().out.splitlines()[2:5]] == ["img1", "other", "combined"]
    content = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert content["frames"] == 8 and content["metrics"]["truth_boxes"] == 16 and "classes" not in content
    assert cli.main([*words, "--sequences", "oth*"]) == 0
    assert "combined" not in capsys.readouterr().out


def test_sources_of_different_formats_share_their_classes(crossing: Path, capsys: pytest.CaptureFixture[str]) -> None:
    truths = ["--gt", str(crossing), "--gt", str(write_bdd100k(crossing))]
    assert cli.main(["evaluate", str(crossing), str(crossing), *truths]) == 0
    rows = [row.split() for row in capsys.readouterr().out.splitlines()[2:5]]
    assert [(row[0], row[-1]) for row in rows] == [("crossing", "12"), ("img1", "12"), ("combined", "24")]


def test_classes_are_evaluated_one_by_one(
    crossing: Path, preset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # Ground truth of the other class in a second video: the engine finds the first class alone.
    folder = write_two_videos(crossing, category="rider")
    words = ["evaluate", str(crossing), "--gt", str(folder), "--preset", str(preset)]
    words += ["--set", "labels=[pedestrian,rider]", "model.num_classes=2"]
    report = tmp_path / "report"
    assert cli.main([*words, "--report", str(report), "--json", str(tmp_path / "a.json")]) == 0
    rows = {row.split()[0]: row.split() for row in capsys.readouterr().out.splitlines()}
    assert list(rows)[1:7] == ["class", "pedestrian", "rider", "HUMAN", "mean", "overall"]
    assert float(rows["pedestrian"][1]) == 0.0  # 12 found, and 12 invented in the other video
    assert rows["rider"][1] == "0.00" and rows["overall"][-1] == "24"
    content = json.loads((report / "results.json").read_text(encoding="utf-8"))
    names = ["img1, pedestrian", "img1, rider", "other, pedestrian", "other, rider"]
    assert [one["name"] for one in content["sequences"]] == names and content["frames"] == 12
    assert [len(one["milliseconds"]) for one in content["sequences"]] == [3, 0, 3, 0]
    assert content["classes"]["rider"]["false_negatives"] == 12
    assert content["metrics"] == content["classes"]["overall"]
    assert "other, rider" in (report / "report.html").read_text(encoding="utf-8")
    files = [str(report / "results.json"), str(tmp_path / "a.json")]
    assert cli.main(["compare", *files, "--resamples", "20"]) == 0
    assert "img1, rider" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["cocovid", "tao"])
def test_videos_of_coco_s_family(crossing: Path, tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    order, identity = ("frame_id", "instance_id") if kind == "cocovid" else ("frame_index", "track_id")
    content: dict[str, Any] = {
        "videos": [{"id": 1, "name": "v", "neg_category_ids": [2], "not_exhaustive_category_ids": []}],
        "images": [
            {"id": frame, "video_id": 1, order: 30 * frame, "file_name": f"{frame + 1:06d}.png"} for frame in range(6)
        ],
        "annotations": [
            {"id": row, "image_id": frame, "category_id": 1, identity: who, "bbox": box}
            for row, (frame, who, box) in enumerate(boxes(crossing))
        ],
        "categories": [{"id": 1, "name": "pedestrian"}, {"id": 2, "name": "cat"}],
    }
    if kind == "tao":
        content["tracks"] = [{"id": who, "category_id": 1, "video_id": 1} for who in (1, 2)]
    path, results = tmp_path / "truth.json", tmp_path / "results.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    words = ["evaluate", str(crossing / "img1"), "--gt", str(path), "--json", str(results)]
    assert cli.main(words) == 0
    out = capsys.readouterr().out
    if kind == "cocovid":
        assert out.splitlines()[1].split()[:4] == ["v", "100.00", "100.00", "100.00"]
        return
    assert out.splitlines()[0].endswith("preset pedestrian: cat")
    assert out.splitlines()[1].split()[:3] == ["class", "AP50", "AP75"]
    assert [row.split()[:4] for row in out.splitlines()[2:4]] == [
        [name, "100.00", "100.00", "100.00"] for name in ("pedestrian", "mean")
    ]
    figures = json.loads(results.read_text(encoding="utf-8"))
    assert figures["track_ap"]["mean"]["AP_all"] == [1.0] * 10 and figures["benchmark"] == "TAO"
    assert cli.main(["compare", str(results), str(results)]) == 1
    assert "of TAO, which is not measured by HOTA" in capsys.readouterr().err
    assert cli.main([*words, "--report", str(tmp_path / "report")]) == 1
    assert "--report is about HOTA" in capsys.readouterr().err
    assert cli.main(["evaluate", str(crossing), str(crossing), "--gt", str(path), "--gt", str(crossing)]) == 1
    assert "of mot, tao, which have no figures in common" in capsys.readouterr().err


def test_waymo_brings_its_ground_truth(crossing: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pyarrow = pytest.importorskip("pyarrow", reason="Waymo's files are parquet; pip install pyarrow")
    from pyarrow import parquet

    def key(frame: int) -> dict[str, object]:
        return {
            "key.segment_context_name": "s",
            "key.frame_timestamp_micros": 100_000 * frame,
            "key.camera_name": 1,
        }

    pictures = [
        {**key(frame), "[CameraImageComponent].image": (crossing / "img1" / f"{frame + 1:06d}.png").read_bytes()}
        for frame in range(6)
    ]
    truth = []
    for frame, who, (x, y, w, h) in boxes(crossing):
        row = {**key(frame), "key.camera_object_id": f"id-{who}", "[CameraBoxComponent].type": 2}
        places = {"center.x": x + w / 2, "center.y": y + h / 2, "size.x": float(w), "size.y": float(h)}
        truth.append(row | {f"[CameraBoxComponent].box.{name}": value for name, value in places.items()})
    for component, rows in (("camera_image", pictures), ("camera_box", truth)):
        (tmp_path / "waymo" / component).mkdir(parents=True)
        parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "waymo" / component / "s.parquet")
    results = tmp_path / "results.json"
    assert cli.main(["evaluate", str(tmp_path / "waymo"), "--json", str(results)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("preset pedestrian: vehicle, cyclist")
    assert [line.split()[:3] for line in lines[2:4]] == [["pedestrian", f"L{level}", "100.00"] for level in (1, 2)]
    content = json.loads(results.read_text(encoding="utf-8"))
    assert content["waymo"]["pedestrian"]["level 2"]["objects"] == 12 and content["sequences"] == []
    (tmp_path / "waymo" / "camera_box").rename(tmp_path / "elsewhere")
    assert cli.main(["evaluate", str(tmp_path / "waymo")]) == 1
    assert "no folder camera_box, so no ground truth" in capsys.readouterr().err


def test_what_cannot_be_evaluated_is_named(crossing: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stills = tmp_path / "stills.json"
    stills.write_text('{"images": [], "annotations": [], "categories": []}', encoding="utf-8")
    assert cli.main(["evaluate", str(crossing), "--gt", str(stills)]) == 1
    assert "stills.json holds stills (coco)" in capsys.readouterr().err
    truth = write_bdd100k(crossing)
    results = ["--mot", str(crossing / "gt" / "gt.txt")]
    assert cli.main(["evaluate", str(crossing), "--gt", str(truth), *results]) == 0
    assert "img1     100.00" in capsys.readouterr().out
    assert cli.main(["evaluate", str(crossing), "--gt", str(write_two_videos(crossing)), *results]) == 1
    assert "--mot is given 1 times for 2 sequences" in capsys.readouterr().err
    assert cli.main(["evaluate", str(crossing), "--gt-topic", "/truth"]) == 1
    assert "is no bag, so it has no topic /truth" in capsys.readouterr().err
