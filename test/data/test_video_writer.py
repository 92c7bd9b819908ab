from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from qdtrack_ros.data import video_writer
from qdtrack_ros.data.types import DataError
from qdtrack_ros.data.video_writer import H264, MPEG4, VideoWriter


def picture(level: int, size: tuple[int, int] = (48, 64)) -> np.ndarray:
    return np.full((*size, 3), level, np.uint8)


def read(path: Path) -> list[np.ndarray]:
    capture = cv2.VideoCapture(str(path))
    frames = []
    while True:
        done, frame = capture.read()
        if not done:
            return frames
        frames.append(np.asarray(frame))


@pytest.mark.parametrize("with_av", [True, False])
def test_frames_come_back_in_order(with_av: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not with_av:
        monkeypatch.setattr(video_writer, "av", None)
    elif video_writer.av is None:
        pytest.skip("PyAV is not installed")
    path = tmp_path / "new" / "video.mp4"
    with VideoWriter(path, 10.0) as writer:
        for level in range(0, 250, 50):
            writer.add(picture(level))
        assert not path.exists()  # only a finished file gets the name
    assert writer.codec == (H264 if with_av else MPEG4) and writer.count == 5
    frames = read(path)
    assert [frame.shape for frame in frames] == [(48, 64, 3)] * 5
    assert [int(np.abs(frame.mean() - level)) < 6 for frame, level in zip(frames, range(0, 250, 50), strict=True)] == [
        True
    ] * 5
    assert [item.name for item in path.parent.iterdir()] == ["video.mp4"]


def test_odd_and_changing_sizes(tmp_path: Path) -> None:
    path = tmp_path / "video.mp4"
    with VideoWriter(path, 29.97) as writer:
        writer.add(picture(10, (47, 65)))
        writer.add(picture(20, (100, 30)))
    assert [frame.shape for frame in read(path)] == [(46, 64, 3)] * 2


def test_exceptions_leave_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "video.mp4"
    path.write_bytes(b"old")
    with pytest.raises(RuntimeError), VideoWriter(path, 10.0) as writer:
        writer.add(picture(1))
        raise RuntimeError
    assert path.read_bytes() == b"old" and len(list(tmp_path.iterdir())) == 1


def test_interruption_keeps_the_frames(tmp_path: Path) -> None:
    path = tmp_path / "video.mp4"
    with pytest.raises(KeyboardInterrupt), VideoWriter(path, 10.0) as writer:
        writer.add(picture(1))
        raise KeyboardInterrupt
    assert len(read(path)) == 1


def test_other_suffixes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=".mp4"):
        VideoWriter(tmp_path / "video.gif", 10.0)
