"""`qdtrack submit` on test sets without ground truth; the network finds coloured rectangles."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import cv2
import pytest

from qdtrack_ros.cli import main as cli
from qdtrack_ros.cli import record
from qdtrack_ros.cli.servers import SERVERS
from qdtrack_ros.cli.submit import SERVER_NAMES
from qdtrack_ros.data.types import DataError

pytest.importorskip("scipy", reason="the classes of benchmarks need scipy")
pytestmark = pytest.mark.usefixtures("colour_engine")


@pytest.fixture
def bare(crossing: Path) -> Path:
    """The crossing as of a test set: no ground truth."""
    shutil.rmtree(crossing / "gt")
    return crossing


def submit(server: str, source: Path, output: Path, *more: str) -> int:
    return cli.main(["submit", server, str(source), "-o", str(output), *more])


def test_the_choices_are_the_servers() -> None:
    assert tuple(SERVERS) == SERVER_NAMES


@pytest.mark.parametrize("folder", ["crossing", "."])
def test_motchallenge(bare: Path, tmp_path: Path, folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "new" / "mot.zip"
    assert submit("mot", tmp_path / folder, output) == 0
    assert f"{output}: tracks of 1 sequence, 6 frames" in capsys.readouterr().out
    with zipfile.ZipFile(output) as archive:
        assert archive.namelist() == ["crossing.txt"]
        rows = [row.split(",") for row in archive.read("crossing.txt").decode().splitlines()]
    assert len(rows) == 12 and {row[1] for row in rows} == {"1", "2"}
    assert rows[0][:6] == ["1", "1", "5.000", "8.000", "12.000", "24.000"]


def test_bdd100k(bare: Path, tmp_path: Path) -> None:
    for number in (1, 2):
        folder = tmp_path / "test" / f"b1c-{number}"
        folder.mkdir(parents=True)
        for index in range(6):
            picture = cv2.imread(str(bare / "img1" / f"{index + 1:06d}.png"))
            cv2.imwrite(str(folder / f"b1c-{number}-{index + 1:07d}.png"), picture)
    output = tmp_path / "bdd.zip"
    assert submit("bdd100k", tmp_path / "test", output) == 0
    with zipfile.ZipFile(output) as archive:
        assert archive.namelist() == ["tracks/b1c-1.json", "tracks/b1c-2.json"]
        frames = json.loads(archive.read("tracks/b1c-2.json"))
    assert [(row["videoName"], row["name"], row["frameIndex"], len(row["labels"])) for row in frames[:2]] == [
        ("b1c-2", "b1c-2-0000001.png", 0, 2),
        ("b1c-2", "b1c-2-0000002.png", 1, 2),
    ]
    assert frames[0]["labels"][0]["category"] == "pedestrian"
    assert submit("bdd100k", tmp_path / "test", output, "--sequences", "*-1") == 0
    with zipfile.ZipFile(output) as archive:
        assert archive.namelist() == ["tracks/b1c-1.json"]


def tao_files(folder: Path) -> tuple[Path, Path]:
    """What TAO's test set has: pictures and videos in one file, categories in another."""
    images = [
        {"id": 70 + frame, "video_id": 3, "frame_index": 30 * frame, "file_name": f"test/v/{frame + 1:06d}.png"}
        for frame in range(6)
    ]
    listing, categories = folder / "test_without_annotations.json", folder / "test_categories.json"
    listing.write_text(json.dumps({"videos": [{"id": 3, "name": "test/v"}], "images": images}), encoding="utf-8")
    categories.write_text(json.dumps([{"id": 805, "name": "person"}, {"id": 4, "name": "cat"}]), encoding="utf-8")
    return listing, categories


def test_tao(bare: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "frames" / "test").mkdir(parents=True)
    shutil.move(bare / "img1", tmp_path / "frames" / "test" / "v")
    listing, categories = tao_files(tmp_path)
    output = tmp_path / "tao.json"
    words = ["--annotations", str(listing), "--categories", str(categories)]
    assert submit("tao", tmp_path / "frames", output, *words) == 0
    assert "left out, for want of such a label in preset pedestrian: cat" in capsys.readouterr().out
    rows = json.loads(output.read_text(encoding="utf-8"))
    assert len(rows) == 12 and {row["track_id"] for row in rows} == {1, 2}
    assert {(row["video_id"], row["category_id"]) for row in rows} == {(3, 805)}
    assert [row["image_id"] for row in rows[:3]] == [70, 70, 71] and rows[0]["bbox"] == [5.0, 8.0, 12.0, 24.0]
    assert submit("tao", tmp_path / "frames", output) == 1
    assert "name their file with --annotations" in capsys.readouterr().err
    assert submit("tao", tmp_path / "frames", output, *words[:2]) == 1
    assert "expected categories with id and name" in capsys.readouterr().err


def test_waymo(bare: Path, tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow", reason="Waymo's files are parquet; pip install pyarrow")
    from pyarrow import parquet

    from qdtrack_ros.evaluation.waymo_writer import _number, _text

    rows = [
        {
            "key.segment_context_name": "1024_1120",
            "key.frame_timestamp_micros": 1_500_000 + 100_000 * frame,
            "key.camera_name": camera,
            "[CameraImageComponent].image": (bare / "img1" / f"{frame + 1:06d}.png").read_bytes(),
        }
        for frame in range(6)
        for camera in (1, 4)
    ]
    (tmp_path / "testing" / "camera_image").mkdir(parents=True)
    table = pyarrow.Table.from_pylist(rows)
    parquet.write_table(table, tmp_path / "testing" / "camera_image" / "1024_1120.parquet")
    output = tmp_path / "waymo.bin"
    assert submit("waymo", tmp_path / "testing", output) == 0
    content = output.read_bytes()
    for frame in range(6):
        for camera in (1, 4):
            place = _text(4, "1024_1120") + _number(5, 1_500_000 + 100_000 * frame) + _number(6, camera)
            assert content.count(place) == 2  # two people; test/evaluation/test_writers.py reads such files back


def test_names_that_the_server_could_not_tell_apart(
    bare: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["submit", "mot", str(bare), str(bare), "-o", str(tmp_path / "mot.zip")]
    assert cli.main(words) == 1
    assert "sequence crossing is there twice" in capsys.readouterr().err
    assert not (tmp_path / "mot.zip").exists()


@pytest.mark.parametrize(
    ("server", "more", "said"),
    [
        ("mot", ["--annotations", "x.json"], "mot knows sequences and classes by name"),
        ("mot", ["--sequences", "MOT17*"], "no sequence of mot is named MOT17*"),
        ("bdd100k", ["--sequences", "b1c*"], "no folder named b1c* in it"),
        ("waymo", [], "no parquet file"),
        ("mot", ["--set", "labels=[car]"], "has the labels car; the classes are pedestrian"),
    ],
)
def test_what_is_missing_is_said_before_the_work(
    bare: Path, tmp_path: Path, server: str, more: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert submit(server, bare, tmp_path / "out", *more) == 1
    captured = capsys.readouterr()
    assert said in captured.err and captured.err.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("error", "code", "word"), [(DataError("gone"), 1, "error"), (KeyboardInterrupt(), 130, "interrupted")]
)
def test_a_file_that_lacks_sequences_is_not_to_be_uploaded(
    bare: Path,
    tmp_path: Path,
    error: BaseException,
    code: int,
    word: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shutil.copytree(bare, tmp_path / "second")
    info = tmp_path / "second" / "seqinfo.ini"
    info.write_text(info.read_text().replace("crossing", "second"))
    real, calls = record.track_frames, []

    def fail_later(*arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) == 2:
            raise error
        return real(*arguments)

    monkeypatch.setattr(record, "track_frames", fail_later)
    assert submit("mot", tmp_path, tmp_path / "mot.zip") == code
    last = capsys.readouterr().err.splitlines()[-1]
    assert last == f"qdtrack submit: {word}: 1 of 2 sequences are not in the file: do not upload it"
    with zipfile.ZipFile(tmp_path / "mot.zip") as archive:
        assert archive.namelist() == ["crossing.txt"]
