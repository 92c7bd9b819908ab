"""Video files: H.264, which browsers play, where PyAV is installed, else MPEG-4 by OpenCV. Only here is ``av`` used."""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import cv2
import numpy as np

from qdtrack_ros.data.types import DataError, Image
from qdtrack_ros.files import put_in_place

try:
    import av
except ImportError:  # OpenCV writes the video then; `VideoWriter.codec` tells
    av = None  # type: ignore[assignment]

WRITABLE_SUFFIXES = (".mp4", ".mkv", ".mov", ".avi")
H264, MPEG4 = "H.264", "MPEG-4 Part 2"


class _Encoder(Protocol):
    def add(self, picture: Image) -> None: ...

    def close(self) -> None: ...


class VideoWriter:
    """Writes a video; the file appears whole, under its name, when it is closed. A context manager.

    Leaving the context with an exception discards it, a ``KeyboardInterrupt`` excepted: that keeps the frames so far.

    Args:
        path: of the file: .mp4, .mkv, .mov or .avi.
        frame_rate: frames per second.

    Attributes:
        codec: ``H.264`` where PyAV with x264 is installed, else ``MPEG-4 Part 2``, which browsers do not play.
        count: frames written.

    Raises:
        DataError: another suffix, or the file cannot be written.
    """

    def __init__(self, path: str | os.PathLike[str], frame_rate: float) -> None:
        self.path = Path(path)
        if self.path.suffix.lower() not in WRITABLE_SUFFIXES:
            raise DataError(f"{self.path}: a video's name ends in {', '.join(WRITABLE_SUFFIXES)}")
        self.codec = H264 if av is not None and "libx264" in av.codecs_available else MPEG4
        self.count = 0
        self._rate = frame_rate
        self._size = (0, 0)
        self._encoder: _Encoder | None = None
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._temporary = self.path.with_name(f".{self.path.stem}.{os.getpid()}.part{self.path.suffix}")

    def __enter__(self) -> VideoWriter:
        """Nothing is opened before the first frame."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close, or discard after an exception."""
        if kind is None or kind is KeyboardInterrupt:
            self.close()
        else:
            self.discard()

    def add(self, picture: Image) -> None:
        """Append a picture, uint8 [H, W, 3] BGR; the first one gives the size, others are scaled to it."""
        if self._encoder is None:
            # Colour is stored at half the resolution, so sizes must be even.
            height, width = (max(2, size - size % 2) for size in picture.shape[:2])
            self._size = (width, height)
            make = _H264Encoder if self.codec == H264 else _OpenCvEncoder
            self._encoder = make(self._temporary, self._rate, self._size)
        height, width = picture.shape[:2]
        if (width - width % 2, height - height % 2) == self._size:
            picture = picture[: self._size[1], : self._size[0]]
        else:
            picture = np.asarray(cv2.resize(picture, self._size, interpolation=cv2.INTER_AREA), np.uint8)
        self._encoder.add(np.ascontiguousarray(picture))
        self.count += 1

    def close(self) -> None:
        """Finish the file and give it its name; without a frame there is none."""
        encoder, self._encoder = self._encoder, None
        if encoder is None:
            return
        try:
            encoder.close()
            put_in_place(self._temporary, self.path)
        finally:
            self._temporary.unlink(missing_ok=True)

    def discard(self) -> None:
        """Drop what was written."""
        encoder, self._encoder = self._encoder, None
        try:
            if encoder is not None:
                encoder.close()
        finally:
            self._temporary.unlink(missing_ok=True)


class _H264Encoder:
    def __init__(self, path: Path, rate: float, size: tuple[int, int]) -> None:
        # The index at the front lets a browser begin before it has the whole file.
        options = {"movflags": "faststart"} if path.suffix.lower() in (".mp4", ".mov") else {}
        self._container: Any = av.open(str(path), "w", options=options)
        self._stream = self._container.add_stream("libx264", rate=Fraction(rate).limit_denominator(1001))
        self._stream.width, self._stream.height = size
        self._stream.pix_fmt = "yuv420p"
        self._stream.options = {"preset": "veryfast", "crf": "21"}

    def add(self, picture: Image) -> None:
        frame = av.VideoFrame.from_ndarray(picture, format="bgr24")
        self._container.mux(self._stream.encode(frame))

    def close(self) -> None:
        try:
            self._container.mux(self._stream.encode())
        finally:
            self._container.close()


class _OpenCvEncoder:
    def __init__(self, path: Path, rate: float, size: tuple[int, int]) -> None:
        self._writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), rate, size)
        if not self._writer.isOpened():
            raise DataError(f"OpenCV cannot write a video in {path.parent}; is it writable? Else try: pip install av")

    def add(self, picture: Image) -> None:
        self._writer.write(picture)

    def close(self) -> None:
        self._writer.release()
