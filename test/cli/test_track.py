from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from qdtrack_ros.cli import main as cli
from qdtrack_ros.cli.offline import OfflineTracker, SeenFrame
from qdtrack_ros.inference.presets import load_preset
from qdtrack_ros.models.checkpoint import save_weights
from qdtrack_ros.models.qdtrack import QDTrack


def mot_rows(path: Path) -> np.ndarray:
    return np.loadtxt(path, delimiter=",", ndmin=2)


def frame_count(path: Path) -> int:
    capture = cv2.VideoCapture(str(path))
    count = 0
    while capture.grab():
        count += 1
    return count


@pytest.mark.usefixtures("colour_engine")
def test_track_writes_video_text_and_bag(crossing: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("rosbags")
    from qdtrack_ros.data.rosbag import BagReader

    video, text, bag = tmp_path / "out" / "a.mp4", tmp_path / "out" / "a.txt", tmp_path / "out" / "bag"
    words = ["track", str(crossing), "-o", str(video), "--mot", str(text), "--bag", str(bag)]
    assert cli.main(words) == 0
    assert "6 frames, 2 ids" in capsys.readouterr().out
    assert frame_count(video) == 6
    rows = mot_rows(text)
    for track_id, steps in ((1, 8), (2, -8)):  # each person keeps one id, and its box moves as it walks
        own = rows[rows[:, 1] == track_id]
        assert own[:, 0].tolist() == [1, 2, 3, 4, 5, 6]
        assert np.diff(own[:, 2]).tolist() == [steps] * 5
    with BagReader(bag) as reader:
        messages = [reader.types.deserialize(m.data, m.type_name) for m in reader.messages(["/camera/tracks"])]
        arrays = [reader.types.deserialize(m.data, m.type_name) for m in reader.messages(["/camera/detections"])]
    assert [message.frame_index for message in messages] == list(range(6))
    assert [sorted(track.track_id for track in message.tracks) for message in messages] == [[0, 1]] * 6
    assert messages[2].header.stamp.nanosec == 200_000_000 and messages[2].image_width == 96
    box = next(detection for detection in arrays[3].detections if detection.id == "0").bbox
    assert (box.center.position.x, box.center.position.y, box.size_x, box.size_y) == (35, 20, 12, 24)
    assert sorted(path.name for path in video.parent.iterdir()) == ["a.mp4", "a.txt", "bag"]  # nothing half is left


@pytest.mark.usefixtures("colour_engine")
def test_interrupted_run_keeps_what_it_has(
    crossing: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    original = OfflineTracker._step

    def step(self: OfflineTracker, seen: SeenFrame, side_by_side: int) -> object:
        if seen.frame.index == 4:
            raise KeyboardInterrupt
        return original(self, seen, side_by_side)

    monkeypatch.setattr(OfflineTracker, "_step", step)
    video, text = tmp_path / "a.mp4", tmp_path / "a.txt"
    assert cli.main(["track", str(crossing), "-o", str(video), "--mot", str(text)]) == 130
    assert "interrupted after 4 frames; the files hold the frames so far" in capsys.readouterr().err
    assert frame_count(video) == 4
    assert mot_rows(text)[:, 0].max() == 4


@pytest.mark.usefixtures("colour_engine")
def test_failed_run_leaves_the_old_files(crossing: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    video = tmp_path / "a.mp4"
    video.write_bytes(b"old")

    def step(self: OfflineTracker, seen: SeenFrame, side_by_side: int) -> object:
        raise OSError("the disk is full")

    monkeypatch.setattr(OfflineTracker, "_step", step)
    assert cli.main(["track", str(crossing), "-o", str(video)]) == 1
    assert video.read_bytes() == b"old"
    assert not list(tmp_path.glob(".*.part*"))


@pytest.mark.usefixtures("colour_engine")
def test_damaged_frames_are_counted_and_keep_their_place(
    crossing: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (crossing / "img1" / "000003.png").write_bytes(b"no picture")
    text = tmp_path / "a.txt"
    assert cli.main(["track", str(crossing), "--mot", str(text)]) == 0
    assert "6 frames, 1 undecodable, 2 ids" in capsys.readouterr().out
    assert sorted(set(mot_rows(text)[:, 0])) == [1, 2, 4, 5, 6]


@pytest.mark.usefixtures("colour_engine")
def test_nothing_tracked_is_a_failure(crossing: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for picture in (crossing / "img1").iterdir():
        picture.write_bytes(b"no picture")
    assert cli.main(["track", str(crossing)]) == 1
    assert "no frame could be tracked" in capsys.readouterr().err


def test_track_with_a_network(crossing: Path, preset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = tmp_path / "tiny.safetensors"
    save_weights(QDTrack(load_preset(str(preset)).model), weights)
    words = ["track", str(crossing), "--preset", str(preset), "--weights", str(weights), "--device", "cpu"]
    assert (
        cli.main([*words, "--max-frames", "2", "--set", "association.init_score=0.1", "association.momentum=0.5"]) == 0
    )
    assert capsys.readouterr().out.startswith("2 frames, ")


def test_missing_weights_and_sources_say_what_to_do(
    crossing: Path, preset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["track", str(crossing), "--preset", str(preset)]) == 1
    assert "give a file" in capsys.readouterr().err
    assert cli.main(["track", "nowhere.mp4"]) == 1
    assert "nowhere.mp4" in capsys.readouterr().err
    assert cli.main(["track", str(crossing), "--preset", str(preset), "--set", "association.nonsense=1"]) == 1
    assert "nonsense" in capsys.readouterr().err


@pytest.mark.usefixtures("colour_engine")
@pytest.mark.parametrize("option", ["-o", "--mot"])
def test_the_source_is_never_written_over(tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str) -> None:
    video, link = tmp_path / "street.mp4", tmp_path / "other_name.mp4"
    writer = cv2.VideoWriter(str(video), cv2.VideoWriter.fourcc(*"mp4v"), 10, (96, 64))
    for _ in range(3):
        writer.write(np.zeros((64, 96, 3), np.uint8))
    writer.release()
    before = video.read_bytes()
    link.symlink_to(video)
    for target in (video, link):
        assert cli.main(["track", str(video), option, str(target)]) == 1
        assert "is the source itself" in capsys.readouterr().err
    assert video.read_bytes() == before


def test_an_empty_source_is_not_the_current_folder(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["track", ""]) == 1
    assert "the source is empty" in capsys.readouterr().err
