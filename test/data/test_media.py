"""Folders, video files and what opens them."""

from __future__ import annotations

import multiprocessing
import pickle
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from qdtrack_ros.data.media import VideoFrames, VideoSource, read_folder, read_video
from qdtrack_ros.data.sources import open_source
from qdtrack_ros.data.types import DataError, Sequence

FRAMES = 60


def barcode(index: int) -> np.ndarray:
    """A picture that says which frame it is, in six bars, whatever a codec does to it."""
    bars = [255 if index >> bit & 1 else 0 for bit in range(6)]
    return np.repeat(np.repeat(np.array(bars, np.uint8)[None, :, None], 16, axis=1), 48, axis=0).repeat(3, axis=2)


def level(image: np.ndarray) -> int:
    """Which frame a picture of the test video is."""
    return sum(1 << bit for bit in range(6) if image[:, 16 * bit : 16 * bit + 16].mean() > 128)


@pytest.fixture(params=[("MJPG", "avi"), ("mp4v", "mp4"), ("XVID", "avi")], ids="-".join)
def video(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    codec, suffix = request.param
    path = tmp_path / f"street.{suffix}"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*codec), 10.0, (96, 48))
    assert writer.isOpened()
    for index in range(FRAMES):
        writer.write(barcode(index))
    writer.release()
    return path


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for index in (1, 2, 10):
        cv2.imwrite(str(folder / f"{index}.png"), np.full((4, 6, 3), index, np.uint8))
    (folder / "notes.txt").write_text("no picture")
    return folder


def test_folder_is_in_natural_order_and_stamped(pictures: Path):
    sequence = read_folder(pictures, frame_rate=4.0)
    assert [int(frame.load()[0, 0, 0]) for frame in sequence.frames] == [1, 2, 10]
    assert [frame.index for frame in sequence.frames] == [0, 1, 2]
    assert [frame.timestamp_ns for frame in sequence.frames] == [0, 250_000_000, 500_000_000]
    assert sequence.frames[-1].index == 2
    assert [frame.index for frame in sequence.frames[1:]] == [1, 2]
    with pytest.raises(IndexError):
        sequence.frames[3]


def test_hidden_files_are_no_pictures(pictures: Path):
    (pictures / "._1.png").write_bytes(b"what a Mac keeps beside a file")
    assert [int(frame.load()[0, 0, 0]) for frame in read_folder(pictures).frames] == [1, 2, 10]


def test_undecodable_picture_is_named(pictures: Path):
    (pictures / "2.png").write_bytes(b"nothing")
    frame = read_folder(pictures).frames[1]
    with pytest.raises(DataError, match=r"2\.png: an undecodable picture"):
        frame.load()


def test_folder_without_pictures(tmp_path: Path):
    with pytest.raises(DataError, match="no picture in this folder"):
        read_folder(tmp_path)


def test_video_forward_backward_and_jumping(video: Path):
    sequence = read_video(video)
    assert (len(sequence.frames), sequence.frame_rate, sequence.is_video) == (FRAMES, 10.0, True)
    assert [level(frame.load()) for frame in sequence.frames] == list(range(FRAMES))
    assert sequence.frames[7].timestamp_ns == 700_000_000
    order = [59, 0, 30, 29, 31, 1, 58, 2, 2]
    assert [level(sequence.frames[index].load()) for index in order] == order


def test_frames_load_in_any_order_after_iteration(video: Path):
    frames = list(read_video(video).frames)
    assert [level(frames[index].load()) for index in (50, 3, 4)] == [50, 3, 4]


def test_seek_to_a_neighbour_is_noticed(video: Path, monkeypatch: pytest.MonkeyPatch):

    class Careless:
        """A capture whose seeks land one frame late, as in containers with a broken index."""

        def __init__(self, *arguments: object) -> None:
            self._real = capture(*arguments)

        def set(self, what: int, value: float) -> bool:
            return bool(self._real.set(what, value + (what == cv2.CAP_PROP_POS_FRAMES)))

        def __getattr__(self, name: str) -> object:
            return getattr(self._real, name)

    capture = cv2.VideoCapture
    monkeypatch.setattr(cv2, "VideoCapture", Careless)
    source = VideoSource(video)
    assert [level(source.read(index)) for index in (55, 5, 40)] == [55, 5, 40]


def test_video_is_picklable_after_use(video: Path):
    sequence = read_video(video)
    sequence.frames[5].load()
    copy: Sequence = pickle.loads(pickle.dumps(sequence))
    assert level(copy.frames[6].load()) == 6
    frame = pickle.loads(pickle.dumps(sequence.frames[9]))
    assert level(frame.load()) == 9


def load_level(load: Callable[[], np.ndarray]) -> int:
    return level(load())


def test_video_across_a_fork(video: Path):
    sequence = read_video(video)
    sequence.frames[20].load()
    with multiprocessing.get_context("fork").Pool(2) as pool:
        levels = pool.map(load_level, [sequence.frames[index].load for index in (21, 3, 40, 0)])
    assert levels == [21, 3, 40, 0]
    assert level(sequence.frames[21].load()) == 21


def test_cut_off_video_ends_with_a_warning(video: Path, caplog: pytest.LogCaptureFixture):
    source = VideoSource(video)
    source.count = FRAMES + 5  # a header that promises more than the file holds
    frames = VideoFrames(source)
    assert [level(frame.load()) for frame in frames] == list(range(FRAMES))
    assert f"ends after {FRAMES} frames" in caplog.text
    with pytest.raises(DataError, match="cannot be decoded"):
        frames[FRAMES + 1].load()


def test_what_is_no_video_is_named(tmp_path: Path):
    (tmp_path / "a.mp4").write_bytes(b"no video at all")
    with pytest.raises(DataError, match=r"a\.mp4: not a video"):
        read_video(tmp_path / "a.mp4")
    with pytest.raises(DataError, match="no such video file"):
        read_video(tmp_path / "b.mp4")


def test_live_source_has_no_length():
    sequence = read_video("rtsp://localhost:1/nothing")
    with pytest.raises(TypeError, match="no length"):
        len(sequence.frames)
    with pytest.raises(TypeError, match="iterate"):
        sequence.frames[0]


def test_missing_camera_is_named():
    with pytest.raises(DataError, match="camera 97 cannot be opened"):
        next(iter(open_source("97").frames))


def test_open_source_knows_kinds(pictures: Path, video: Path):
    assert len(open_source(pictures).frames) == 3
    assert len(open_source(str(video)).frames) == FRAMES
    single = open_source(pictures / "10.png")
    assert (len(single.frames), single.is_video) == (1, False)
    assert int(single.frames[0].load()[0, 0, 0]) == 10
    with pytest.raises(DataError, match="no such file or folder"):
        open_source(pictures / "missing")
