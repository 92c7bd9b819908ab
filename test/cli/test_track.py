from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from qdtrack_ros.cli import main as cli
from qdtrack_ros.cli.offline import OfflineTracker
from qdtrack_ros.data.types import DataError, Frame
from qdtrack_ros.inference.presets import load_preset
from qdtrack_ros.inference.types import Detections, EngineOutput
from qdtrack_ros.models.checkpoint import save_weights
from qdtrack_ros.models.qdtrack import QDTrack
from qdtrack_ros.tracking import AssociationConfig


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
    original = OfflineTracker.step

    def step(self: OfflineTracker, frame: Frame) -> object:
        if frame.index == 4:
            raise KeyboardInterrupt
        return original(self, frame)

    monkeypatch.setattr(OfflineTracker, "step", step)
    video, text = tmp_path / "a.mp4", tmp_path / "a.txt"
    assert cli.main(["track", str(crossing), "-o", str(video), "--mot", str(text)]) == 130
    assert "interrupted after 4 frames; the files hold the frames so far" in capsys.readouterr().err
    assert frame_count(video) == 4
    assert mot_rows(text)[:, 0].max() == 4


@pytest.mark.usefixtures("colour_engine")
def test_failed_run_leaves_the_old_files(crossing: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    video = tmp_path / "a.mp4"
    video.write_bytes(b"old")

    def step(self: OfflineTracker, frame: Frame) -> object:
        raise OSError("the disk is full")

    monkeypatch.setattr(OfflineTracker, "step", step)
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


class SteadyEngine:
    """Finds one object, always at the same place; NaN where it is told so."""

    name, model_id, embedding_dim = "steady", "0", 2

    def __init__(self) -> None:
        self.broken = False

    def detect(self, images: object) -> EngineOutput:
        embedding = np.array([[np.nan if self.broken else 9.0, 0.0]], np.float32)
        box, score = np.array([[1, 1, 9, 9]], np.float32), np.array([0.9], np.float32)
        return EngineOutput([Detections(box, score, np.zeros(1, np.int64), embedding)], 0.0, 0.0, 0.0)

    def warmup(self) -> None: ...

    def close(self) -> None: ...


def frame(index: int, stamp_s: float) -> Frame:
    return Frame(index, round(stamp_s * 1e9), 16, 16, (), lambda: np.zeros((16, 16, 3), np.uint8))


def test_offline_stamps_follow_the_rules_of_the_node() -> None:
    tracker = OfflineTracker(SteadyEngine(), AssociationConfig())
    first = tracker.step(frame(0, 10.0))
    assert first is not None and first.tracks.ids.tolist() == [0]
    assert tracker.step(frame(1, 9.5)) is None  # late
    assert tracker.dropped == {"out of order": 1}
    after = tracker.step(frame(2, 10.1))
    assert after is not None and after.tracks.ids.tolist() == [0] and after.skipped == 1
    jumped = tracker.step(frame(3, 2.0))  # a new session; its ids must not meet the old ones in a file
    assert jumped is not None and jumped.tracks.ids.tolist() == [1]
    assert jumped.session.session_id != after.session.session_id
    assert tracker.identities == 2 and tracker.processed == 3


def test_offline_treats_nan_as_an_empty_frame() -> None:
    engine = SteadyEngine()
    tracker = OfflineTracker(engine, AssociationConfig())
    tracker.step(frame(0, 0.0))
    engine.broken = True
    empty = tracker.step(frame(1, 0.1))
    assert empty is not None and len(empty.tracks.ids) == 0
    engine.broken = False
    back = tracker.step(frame(2, 0.2))
    assert back is not None and back.tracks.ids.tolist() == [0]


def test_offline_drops_what_cannot_be_decoded() -> None:
    def fail() -> np.ndarray:
        raise DataError("cut off")

    tracker = OfflineTracker(SteadyEngine(), AssociationConfig())
    assert tracker.step(Frame(0, 0, None, None, (), fail)) is None
    assert tracker.dropped == {"undecodable": 1}


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
