"""`qdtrack evaluate` on bags, on every kind of source, and on many sources at a time."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from qdtrack_ros.cli import main as cli
from qdtrack_ros.cli import record
from qdtrack_ros.data.sources import open_source
from qdtrack_ros.data.types import DataError
from qdtrack_ros.inference.presets import load_preset
from qdtrack_ros.models.checkpoint import save_weights
from qdtrack_ros.models.qdtrack import QDTrack

pytest.importorskip("scipy", reason="metrics need scipy")
pytest.importorskip("rosbags", reason="rosbags is not installed: no bags to read")

from truth_bags import S, add_boxes  # noqa: E402

from qdtrack_ros.data.bag_images import image_message, write_video_as_bag  # noqa: E402
from qdtrack_ros.data.rosbag import BagWriter  # noqa: E402

FRAMES = 6


def write_truth(writer: BagWriter, crossing: Path, frames: list[int], late_ns: int = 0) -> None:
    """Ground truth of some frames, counted from 0; frame i is stamped 1 s + i / 10 s."""
    rows = [row.split(",") for row in (crossing / "gt" / "gt.txt").read_text(encoding="ascii").splitlines()]
    for frame in frames:
        own = [[float(value) for value in row[1:6]] for row in rows if int(row[0]) == frame + 1]
        found = [(x + w / 2, y + h / 2, w, h, "pedestrian", str(int(who))) for who, x, y, w, h in own]
        add_boxes(writer, "/truth", S + frame * S // 10 + late_ns, found)


def write_bag(crossing: Path, path: Path, labelled: list[int], late_ns: int = 0) -> Path:
    """The crossing's pictures and ground truth in one bag."""
    with BagWriter(path) as writer:
        for frame in open_source(crossing).frames:
            stamp_ns = S + frame.index * S // 10
            writer.add("/image", *image_message(writer.types, frame.load(), "bgr8", stamp_ns, "camera"), stamp_ns)
        write_truth(writer, crossing, labelled, late_ns)
    return path


def read(path: Path) -> dict[str, Any]:
    content = json.loads(path.read_text(encoding="utf-8"))
    assert isinstance(content, dict)
    return content


@pytest.mark.usefixtures("colour_engine")
def test_every_kind_of_source_gives_the_same_figures(
    crossing: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (crossing / "img1" / "000003.png").unlink()  # a gap that costs something, in all of them
    cv2.imwrite(str(crossing / "img1" / "000003.png"), np.zeros((64, 96, 3), np.uint8))
    sequence = open_source(crossing)
    video = cv2.VideoWriter(str(tmp_path / "v.avi"), cv2.VideoWriter.fourcc(*"FFV1"), 10.0, (96, 64))  # lossless
    for frame in sequence.frames:
        video.write(frame.load())
    video.release()
    for storage in ("sqlite3", "mcap"):
        write_video_as_bag(sequence, tmp_path / storage, storage=storage)
    found = {}
    for source in (crossing, tmp_path / "v.avi", crossing / "img1", tmp_path / "sqlite3", tmp_path / "mcap"):
        words = ["evaluate", str(source), "--gt", str(crossing / "gt" / "gt.txt"), "--json", str(tmp_path / "r.json")]
        assert cli.main(words) == 0
        (one,) = read(tmp_path / "r.json")["sequences"]
        found[source.name] = [one[key] for key in ("truth", "metrics", "hota", "track_ids", "overlaps")]
    assert found["crossing"][1]["false_negatives"] == 2 and found["crossing"][1]["mota"] == pytest.approx(10 / 12)
    assert all(figures == found["crossing"] for figures in found.values())


@pytest.mark.usefixtures("colour_engine")
@pytest.mark.parametrize("apart", [False, True])
def test_ground_truth_of_a_bag_belongs_to_pictures_by_stamp(
    crossing: Path, tmp_path: Path, apart: bool, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    labelled = [0, 2, 5]
    source = write_bag(crossing, tmp_path / "drive", [] if apart else [*labelled, 9])
    words = ["evaluate", str(source), "--gt-topic", "/truth"]
    if apart:
        with BagWriter(tmp_path / "truth") as writer:
            write_truth(writer, crossing, labelled)
            add_boxes(writer, "/truth", 99 * S, [])
        words = ["evaluate", str(source), "--gt", str(tmp_path / "truth")]
    assert cli.main([*words, "--report", str(tmp_path / "report")]) == 0
    out = capsys.readouterr().out
    assert "drive/image: 3 of 6 pictures are not labelled: they are tracked, but left out of the figures" in out
    assert "1 of the 4 ground truth messages" in caplog.text and "match no picture by stamp" in caplog.text
    content = read(tmp_path / "report" / "results.json")
    assert (content["frames"], content["frames_not_labelled"]) == (3, 3)
    assert content["metrics"]["truth_boxes"] == 6 and content["metrics"]["mota"] == 1.0
    (one,) = content["sequences"]
    assert len(one["milliseconds"]["inference"]) == len(one["overlaps"]) == 3


@pytest.mark.usefixtures("colour_engine")
def test_ground_truth_without_a_box_is_told(crossing: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "gt.txt").write_text("", encoding="utf-8")
    words = ["evaluate", str(crossing), "--gt", str(tmp_path / "gt.txt"), "--json", str(tmp_path / "r.json")]
    assert cli.main(words) == 0
    assert "the ground truth has no box; every track counts as false" in caplog.text
    metrics = read(tmp_path / "r.json")["metrics"]
    assert metrics["truth_boxes"] == 0 and metrics["false_positives"] > 0


@pytest.mark.usefixtures("colour_engine")
def test_pictures_that_are_not_labelled_are_tracked(crossing: Path, tmp_path: Path) -> None:
    """Nobody is there in two pictures without labels; a tracker that sees them forgets everybody meanwhile."""
    for number in (3, 4):
        cv2.imwrite(str(crossing / "img1" / f"{number:06d}.png"), np.zeros((64, 96, 3), np.uint8))
    source = write_bag(crossing, tmp_path / "drive", [0, 1, 4, 5])
    words = ["evaluate", str(source), "--gt-topic", "/truth", "--json", str(tmp_path / "r.json")]
    for memory, switches in ((30, 0), (1, 2)):
        assert cli.main([*words, "--set", f"association.memory_frames={memory}"]) == 0
        metrics = read(tmp_path / "r.json")["metrics"]
        assert (metrics["id_switches"], metrics["mota"]) == (switches, 1 - switches / 8)


@pytest.mark.usefixtures("colour_engine")
@pytest.mark.parametrize("kind", ["mot", "kitti"])
def test_ground_truth_may_go_on_where_a_bag_is_cut(
    crossing: Path, tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    write_video_as_bag(open_source(crossing), tmp_path / "whole", storage="mcap")
    truth = crossing / "gt" / "gt.txt"
    if kind == "kitti":
        rows = [[float(value) for value in row.split(",")[:6]] for row in truth.read_text("ascii").splitlines()]
        truth = tmp_path / "0000.txt"
        boxes = [
            f"{frame - 1:.0f} {who:.0f} Pedestrian 0 0 0 {x} {y} {x + w} {y + h}{' 0' * 7}\n"
            for frame, who, x, y, w, h in rows
        ]
        truth.write_text("".join(boxes), encoding="ascii")
    words = ["evaluate", str(tmp_path / "whole"), "--gt", str(truth), "--json", str(tmp_path / "r.json")]
    assert cli.main(words) == 0
    assert read(tmp_path / "r.json")["frames"] == 6 and "is left out" not in caplog.text
    intact = write_bag(crossing, tmp_path / "intact", [])
    (file,) = (tmp_path / "whole").glob("*.mcap")
    file.write_bytes(file.read_bytes()[:-100])  # the end of the index: all pictures are there
    assert cli.main(words) == 0
    assert read(tmp_path / "r.json")["frames"] == 6 and "is left out" not in caplog.text
    assert "counts pictures: figures are right only if none is missing" in caplog.text
    with truth.open("a", encoding="ascii") as rows_of_lost:
        rows_of_lost.write("9,1,1,1,9,30,1,1,1\n" if kind == "mot" else f"8 1 Pedestrian 0 0 0 1 1 9 30{' 0' * 7}\n")
    assert cli.main(words) == 0
    assert "has 6 pictures: ground truth of those after them, up to picture 9, is left out" in caplog.text
    metrics = read(tmp_path / "r.json")["metrics"]
    assert (metrics["truth_boxes"], metrics["mota"]) == (12, 1.0)
    assert cli.main(["evaluate", str(intact), "--gt", str(truth)]) == 1  # of a whole bag it is another's ground truth


def test_ground_truth_without_a_picture_is_an_error(
    crossing: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_bag(crossing, tmp_path / "drive", [0, 1], late_ns=7)
    assert cli.main(["evaluate", str(source), "--gt-topic", "/truth"]) == 1
    assert "none of the 2 messages with ground truth" in capsys.readouterr().err
    assert cli.main(["evaluate", str(source)]) == 1
    assert "--gt-topic" in capsys.readouterr().err


@pytest.fixture
def model(tiny_preset: Path) -> list[str]:
    """Options of a small network of random weights, which finds this and that everywhere."""
    torch.manual_seed(0)
    weights = tiny_preset.with_name("tiny.safetensors")
    save_weights(QDTrack(load_preset(str(tiny_preset)).model), weights)
    return ["--preset", str(tiny_preset), "--weights", str(weights)]


@pytest.fixture
def drives(crossing: Path, tmp_path: Path) -> list[str]:
    """A bag, a folder, and a bag whose pictures are gone."""
    good = write_bag(crossing, tmp_path / "good", list(range(FRAMES)))
    with BagWriter(tmp_path / "bad") as writer:
        write_truth(writer, crossing, [0])
    return [str(good), str(tmp_path / "bad"), str(good)]


@pytest.mark.parametrize("how", ["two jobs", "ray"])
def test_workers_give_the_same_figures(
    drives: list[str],
    model: list[str],
    how: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    options = ["--jobs", "2"]
    if how == "ray":
        pytest.importorskip("ray", reason="ray is not installed")
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
        options = ["--ray", "auto"]
    words = ["evaluate", *drives, "--gt-topic", "/truth", "--threads", "1", "--device", "cpu", *model]
    found = []
    for name, more in (("one.json", []), ("many.json", options)):
        assert cli.main([*words, *more, "--json", str(tmp_path / name)]) == 1
        captured = capsys.readouterr()
        assert f"{drives[1]} is left out: " in captured.err and len(captured.err.splitlines()) == 1
        content = read(tmp_path / name)
        assert [failure["source"] for failure in content["failed"]] == [drives[1]]
        keys = ("name", "truth", "metrics", "hota", "detector", "track_ids", "overlaps")
        found.append([[one[key] for key in keys] for one in content["sequences"]])
    assert found[0] == found[1] and len(found[0]) == 2
    assert found[0][0][2]["false_positives"] > 0, "the network found nothing: this test would compare nothing"


def test_sequences_of_one_source_are_shared_out(
    crossing: Path, model: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "labels").mkdir()
    for video in ("a [1]", "b"):  # a name that a pattern would read otherwise
        shutil.copytree(crossing / "img1", tmp_path / "images" / video)
        box = {"x1": 5, "y1": 8, "x2": 17, "y2": 32}
        label = {"id": "1", "category": "pedestrian", "box2d": box}
        frames = [
            {"name": f"{index + 1:06d}.png", "videoName": video, "frameIndex": index, "labels": [label]}
            for index in range(FRAMES)
        ]
        (tmp_path / "labels" / f"{video}.json").write_text(json.dumps(frames), encoding="utf-8")
    words = ["evaluate", str(tmp_path / "images"), "--gt", str(tmp_path / "labels"), "--threads", "1", *model]
    found = []
    for jobs in ("1", "2"):
        assert cli.main([*words, "--device", "cpu", "--jobs", jobs, "--json", str(tmp_path / f"{jobs}.json")]) == 0
        keys = ("name", "video", "truth", "metrics", "track_ids", "overlaps")
        found.append([[one[key] for key in keys] for one in read(tmp_path / f"{jobs}.json")["sequences"]])
    assert found[0] == found[1] and {one[1] for one in found[0]} == {"a [1]", "b"}


def test_a_source_that_fails_while_it_is_tracked_is_left_out(
    crossing: Path,
    tmp_path: Path,
    colour_engine: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    real = record.track_frames
    calls: list[int] = []

    def fail_first(*arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 1:
            raise DataError("the disk is gone\nreally")
        return real(*arguments)

    monkeypatch.setattr(record, "track_frames", fail_first)
    words = ["evaluate", str(crossing), str(crossing), "--json", str(tmp_path / "r.json")]
    assert cli.main(words) == 1
    captured = capsys.readouterr()
    assert captured.err == f"qdtrack evaluate: error: {crossing} is left out: the disk is gone\n"
    content = read(tmp_path / "r.json")
    assert [one["name"] for one in content["sequences"]] == ["crossing (2)"] and content["metrics"]["mota"] == 1.0
    assert content["failed"] == [{"source": str(crossing), "error": "the disk is gone"}]


def test_when_all_workers_fail_there_are_no_figures(
    crossing: Path, tmp_path: Path, model: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    Path(model[-1]).write_bytes(b"no weights")
    words = ["evaluate", str(crossing), str(crossing), "--jobs", "2", *model, "--json", str(tmp_path / "r.json")]
    assert cli.main(words) == 1
    captured = capsys.readouterr()
    assert captured.out == "" and not (tmp_path / "r.json").exists()
    assert captured.err.count("is left out: ") == 2 and "Traceback" not in captured.err


@pytest.mark.usefixtures("colour_engine")
@pytest.mark.parametrize("finished", [0, 1])
def test_ctrl_c_keeps_the_sequences_that_are_finished(
    crossing: Path,
    tmp_path: Path,
    finished: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    real, calls = record.track_frames, []

    def interrupted(*arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) > finished:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(record, "track_frames", interrupted)
    words = ["evaluate", *[str(crossing)] * 3, "--json", str(tmp_path / "r.json")]
    assert cli.main(words) == 130
    errors = capsys.readouterr().err.splitlines()
    if not finished:
        assert errors == ["qdtrack evaluate: interrupted"] and not (tmp_path / "r.json").exists()
        return
    assert errors == [f"qdtrack evaluate: error: {crossing} is left out: interrupted"] * 2
    content = read(tmp_path / "r.json")
    assert [one["name"] for one in content["sequences"]] == ["crossing"] and content["metrics"]["mota"] == 1.0
    assert content["failed"] == [{"source": str(crossing), "error": "interrupted"}] * 2
