"""Pictures in folders, video files, cameras and network streams as sequences of BGR frames."""

from __future__ import annotations

import logging
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from collections.abc import Sequence as AbstractSequence
from functools import partial
from pathlib import Path
from typing import Any, overload

import cv2
import numpy as np
import numpy.typing as npt

from qdtrack_ros.data.types import Annotation, DataError, Frame, Image, Sequence, in_memory

logger = logging.getLogger(__name__)

# fmt: off
IMAGE_SUFFIXES = frozenset((
    ".avif", ".bmp", ".dib", ".exr", ".hdr", ".jp2", ".jpe", ".jpeg", ".jpg", ".pbm", ".pfm", ".pgm", ".pic", ".png",
    ".pnm", ".ppm", ".ras", ".sr", ".tif", ".tiff", ".webp",
))
VIDEO_SUFFIXES = frozenset((
    ".264", ".265", ".3gp", ".asf", ".avi", ".flv", ".h264", ".h265", ".hevc", ".m2ts", ".m4v", ".mjpeg", ".mjpg",
    ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".ogv", ".ts", ".webm", ".wmv",
))
# fmt: on
FORWARD_FRAMES = 24  # decoding this many frames forward costs about as much as a seek to the key frame before them


def is_image(path: Path) -> bool:
    """Whether the name is that of a picture OpenCV reads."""
    return path.suffix.lower() in IMAGE_SUFFIXES


def is_video(path: Path) -> bool:
    """Whether the name is that of a video container."""
    return path.suffix.lower() in VIDEO_SUFFIXES


def is_stream(address: str) -> bool:
    """Whether this is the address of a network stream or a camera device, and no file."""
    return "://" in address or address.startswith("/dev/")


def load_image(path: Path) -> Image:
    """Decode a picture file as uint8 [H, W, 3] BGR; ``DataError`` when it is missing or damaged."""
    if not path.is_file():  # OpenCV would print a warning of its own
        found = "a folder" if path.is_dir() else "no such file"
        raise DataError(f"{path}: {found}; expected a picture that OpenCV reads")
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise DataError(f"{path}: an undecodable picture; expected a picture that OpenCV reads")
    return np.asarray(image, dtype=np.uint8)


def decode_picture(data: bytes | npt.NDArray[np.uint8], place: str) -> Image:
    """Decode a picture in memory as uint8 [H, W, 3] BGR; ``DataError``, which names its place, when it is damaged."""
    buffer = np.frombuffer(data, np.uint8)
    image = cv2.imdecode(buffer, cv2.IMREAD_COLOR) if len(buffer) else None
    if image is None:
        raise DataError(f"{place}: an undecodable picture; expected one that OpenCV reads, such as JPEG")
    return np.asarray(image, dtype=np.uint8)


def list_images(folder: Path) -> list[Path]:
    """The pictures directly in ``folder`` in natural order (2 before 10), without hidden files.

    A Mac puts ``._000001.jpg`` beside each picture of an archive: as a picture it would shift all that follow.
    """
    pictures = (path for path in folder.iterdir() if is_image(path) and not path.name.startswith("."))
    return sorted((path for path in pictures if path.is_file()), key=_natural_key)


def _natural_key(path: Path) -> tuple[list[tuple[int, int, str]], str]:
    parts = re.findall(r"\d+|\D+", path.name)
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts], path.name


def frame_timestamp_ns(index: int, frame_rate: float | None) -> int | None:
    """Nanoseconds from the first frame to frame ``index`` at ``frame_rate`` frames a second; None without a rate."""
    return None if frame_rate is None else round(index * 1e9 / frame_rate)


class VideoSource:
    """Frames of a video file by 0-based index: reading on is plain decoding, jumps seek and check where they landed.

    May be pickled and may cross a fork: each process opens the file for itself on its first read. Reads of several
    threads take turns.

    Raises:
        DataError: the file is missing, is no video, or holds no frame.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._capture: cv2.VideoCapture | None = None
        self._reset()
        capture = self._open()
        self.width = int(capture.get(cv2.CAP_PROP_FRAME_WIDTH))
        self.height = int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT))
        rate = float(capture.get(cv2.CAP_PROP_FPS))
        self.frame_rate = rate if 0 < rate < 1000 else None
        self.count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        if self.count <= 0:  # raw streams and files cut off while being written carry no count
            self.count = 0
            while capture.grab():
                self.count += 1
            capture = self._open()
        if self.count == 0:
            raise DataError(f"{self.path}: a video without frames")
        if not capture.grab():
            raise DataError(f"{self.path}: the first video frame cannot be decoded")
        self._start_ms = float(capture.get(cv2.CAP_PROP_POS_MSEC))
        self._capture, self._next = capture, 1

    def _reset(self) -> None:
        self._capture = None
        self._next = 0  # index of the frame that the next grab() decodes
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._inherited: list[cv2.VideoCapture] = []

    def __getstate__(self) -> dict[str, Any]:
        private = {"_capture", "_next", "_pid", "_lock", "_inherited"}
        return {name: value for name, value in self.__dict__.items() if name not in private}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._reset()

    def _open(self) -> cv2.VideoCapture:
        if not self.path.is_file():
            raise DataError(f"{self.path}: no such video file")
        capture = cv2.VideoCapture(str(self.path), cv2.CAP_FFMPEG)
        if not capture.isOpened():
            raise DataError(
                f"{self.path}: not a video that OpenCV's FFmpeg can read; re-encode it, e.g. as H.264 in MP4"
            )
        return capture

    def read(self, index: int) -> Image:
        """Frame ``index`` as uint8 [H, W, 3] BGR; ``DataError`` when undecodable, ``IndexError`` outside the video."""
        if not 0 <= index < self.count:
            raise IndexError(f"{self.path}: frame {index} asked for, the video has {self.count}")
        with self._exclusive():
            if self._grab(index):
                assert self._capture is not None
                done, image = self._capture.retrieve()
                if done:
                    return np.asarray(image, dtype=np.uint8)
        raise DataError(f"{self.path}: frame {index} of {self.count} cannot be decoded; the file is damaged or cut off")

    def has(self, index: int) -> bool:
        """Whether frame ``index`` can be decoded; a following ``read`` of it does not decode again."""
        if not 0 <= index < self.count:
            return False
        with self._exclusive():
            return self._grab(index)

    def _exclusive(self) -> threading.Lock:
        if self._pid != os.getpid():
            # Releasing a capture made before the fork would wait for decoder threads that do not exist here: keep it.
            kept = [*self._inherited, *([self._capture] if self._capture is not None else [])]
            self._reset()
            self._inherited = kept
        return self._lock

    def _grab(self, index: int) -> bool:
        """Make frame ``index`` the grabbed one."""
        if self._capture is None:
            self._capture, self._next = self._open(), 0
        if index == self._next - 1:
            return True
        if not self._next <= index <= self._next + FORWARD_FRAMES and self._seek(index):
            return True
        if index < self._next:
            self._capture, self._next = self._open(), 0
        while self._next <= index:
            if not self._capture.grab():
                self._capture = None
                return False
            self._next += 1
        return True

    def _seek(self, index: int) -> bool:
        """Seek and accept the result only if the decoded frame's own time stamp is that of ``index``.

        Some containers (variable frame rate, broken indexes) seek to a neighbour; those are decoded from the start.
        """
        assert self._capture is not None
        if self.frame_rate is None:
            return False
        self._capture.set(cv2.CAP_PROP_POS_FRAMES, index)
        if self._capture.grab():
            wanted_ms = self._start_ms + index * 1000.0 / self.frame_rate
            if abs(self._capture.get(cv2.CAP_PROP_POS_MSEC) - wanted_ms) < 250.0 / self.frame_rate:
                self._next = index + 1
                return True
        self._capture, self._next = self._open(), 0
        return False


class LazyFrames(AbstractSequence[Frame]):
    """Frames made when asked for: ``make(index)`` gives one. Picklable when ``make`` is."""

    def __init__(self, count: int, make: Callable[[int], Frame]) -> None:
        self._count = count
        self._make = make

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> Frame: ...
    @overload
    def __getitem__(self, index: slice) -> AbstractSequence[Frame]: ...
    def __getitem__(self, index: int | slice) -> Frame | AbstractSequence[Frame]:
        if isinstance(index, slice):
            return [self._make(i) for i in range(*index.indices(self._count))]
        position = index + self._count if index < 0 else index
        if not 0 <= position < self._count:
            raise IndexError(f"frame {index} asked for, the sequence has {self._count}")
        return self._make(position)


class VideoFrames(LazyFrames):
    """Frames of a video file; iteration ends, with a warning, where a damaged file stops giving frames."""

    def __init__(self, source: VideoSource) -> None:
        super().__init__(source.count, partial(video_frame, source))
        self._source = source

    def __iter__(self) -> Iterator[Frame]:
        for index in range(len(self)):
            if not self._source.has(index):
                logger.warning("%s: ends after %d frames, its header promises %d", self._source.path, index, len(self))
                return
            yield self[index]


def video_frame(
    source: VideoSource, index: int, annotations: tuple[Annotation, ...] = (), frame_rate: float | None = None
) -> Frame:
    """Frame ``index`` of ``source``; ``frame_rate`` replaces the container's for the time stamp."""
    stamp_ns = frame_timestamp_ns(index, frame_rate or source.frame_rate)
    return Frame(index, stamp_ns, source.width, source.height, annotations, partial(source.read, index))


def is_of_video(frame: Frame) -> bool:
    """Whether a frame is decoded from a video file, in which jumping about is slow."""
    return isinstance(frame.load, partial) and isinstance(getattr(frame.load.func, "__self__", None), VideoSource)


def _image_frame(paths: AbstractSequence[Path], frame_rate: float | None, index: int) -> Frame:
    path = paths[index]
    return Frame(index, frame_timestamp_ns(index, frame_rate), None, None, (), partial(load_image, path), path)


class LiveFrames(AbstractSequence[Frame]):
    """Frames of a camera or a network stream as they come, stamped with the wall clock; ends when the stream does."""

    def __init__(self, address: int | str) -> None:
        self._address = address

    def __len__(self) -> int:
        raise TypeError(f"live source {self._address} has no length; iterate over it")

    @overload
    def __getitem__(self, index: int) -> Frame: ...
    @overload
    def __getitem__(self, index: slice) -> AbstractSequence[Frame]: ...
    def __getitem__(self, index: int | slice) -> Frame | AbstractSequence[Frame]:
        raise TypeError(f"live source {self._address} has no frame {index}; iterate over it")

    def __iter__(self) -> Iterator[Frame]:
        capture = open_live(self._address)
        try:
            index = 0
            while True:
                done, image = capture.read()
                if not done:
                    logger.warning("live source %s ended after %d frames", self._address, index)
                    return
                yield Frame(
                    index,
                    time.time_ns(),
                    image.shape[1],
                    image.shape[0],
                    (),
                    in_memory(np.asarray(image, dtype=np.uint8)),
                )
                index += 1
        finally:
            capture.release()


def open_live(address: int | str) -> cv2.VideoCapture:
    """Open a camera by index or a stream by address; ``DataError`` when it does not answer."""
    capture = cv2.VideoCapture(address)
    if not capture.isOpened():
        if isinstance(address, int):
            raise DataError(
                f"camera {address} cannot be opened; is /dev/video{address} there, readable and not in use?"
            )
        raise DataError(f"stream {address} cannot be opened; does the address answer?")
    return capture


def read_folder(folder: str | os.PathLike[str], frame_rate: float | None = None, is_video: bool = True) -> Sequence:
    """The pictures of a folder in natural order of their names, without annotations.

    Args:
        folder: holds the pictures directly.
        frame_rate: frames per second; None leaves the frames without time stamps.
        is_video: False when the pictures are unrelated stills.

    Raises:
        DataError: no such folder, or no picture in it.
    """
    path = Path(folder)
    if not path.is_dir():
        raise DataError(f"{path}: no such folder of pictures")
    images = list_images(path)
    if not images:
        raise DataError(f"{path}: no picture in this folder; expected files such as 000001.jpg")
    frames = LazyFrames(len(images), partial(_image_frame, images, frame_rate))
    return Sequence(path.resolve().name, frames, frame_rate, is_video)


def read_video(source: str | int | os.PathLike[str]) -> Sequence:
    """A video file, a camera (index or ``/dev/video0``) or a network stream (address with ``://``), no annotations.

    Raises:
        DataError: the source cannot be opened.
    """
    if isinstance(source, int):
        return Sequence(f"camera{source}", LiveFrames(source), None, True)
    if is_stream(str(source)):
        return Sequence(str(source), LiveFrames(str(source)), None, True)
    video = VideoSource(source)
    return Sequence(video.path.stem, VideoFrames(video), video.frame_rate, True)
