"""One door to everything that gives frames."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

from qdtrack_ros.data.bag_repair import BAG_SUFFIXES
from qdtrack_ros.data.media import LazyFrames, is_image, is_stream, load_image, read_folder, read_video
from qdtrack_ros.data.mot import is_mot_folder, read_mot_sequence
from qdtrack_ros.data.types import DataError, Frame, Sequence


def open_source(source: str | int | os.PathLike[str], topic: str | None = None) -> Sequence:
    """Open whatever gives frames, recognised by what it is.

    - a MOTChallenge folder (``seqinfo.ini`` or ``gt/gt.txt``), with its annotations if there are any;
    - a rosbag2 folder (``metadata.yaml``, or ``.mcap`` or ``.db3`` files in it), or such a file;
    - a folder of pictures; a single picture;
    - a video file;
    - a camera: an index such as ``0``, or ``/dev/video0``;
    - a network stream: an address with ``://``, e.g. RTSP.

    Args:
        source: one of these.
        topic: which images of a bag; None takes its only image topic.

    Raises:
        DataError: it is none of these, or cannot be opened.
        ImportError: it is a bag, and rosbags is not installed.
    """
    text, path = str(source), Path(str(source))
    if not text:
        raise DataError("the source is empty; name a video, a folder, a bag, a camera index or the address of a stream")
    if isinstance(source, int) or (text.isdecimal() and not path.exists()):
        return read_video(int(text))
    if is_stream(text):
        return read_video(text)
    if path.is_dir():
        return _open_folder(path, topic)
    if not path.is_file():
        raise DataError(f"{path}: no such file or folder, and no camera index or address of a stream")
    if is_bag(path):
        return _open_bag(path, topic)
    if is_image(path):
        return Sequence(path.stem, LazyFrames(1, partial(_only_frame, path)), None, False)
    return read_video(path)


def _open_folder(path: Path, topic: str | None) -> Sequence:
    if is_mot_folder(path):
        return read_mot_sequence(path)
    if is_bag(path):
        return _open_bag(path, topic)
    return read_folder(path)


def is_bag(path: Path) -> bool:
    """Whether a file or folder is a rosbag2."""
    if path.is_dir():
        return (path / "metadata.yaml").is_file() or any(item.suffix in BAG_SUFFIXES for item in path.iterdir())
    return path.suffix in BAG_SUFFIXES


def _open_bag(path: Path, topic: str | None) -> Sequence:
    from qdtrack_ros.data.bag_images import read_bag  # needs rosbags, which other sources do without

    return read_bag(path, topic)


def _only_frame(path: Path, index: int) -> Frame:
    return Frame(index, None, None, None, (), partial(load_image, path), path)
