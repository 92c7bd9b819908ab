"""Images of a bag's topic as a sequence, and a sequence as a bag of images."""

from __future__ import annotations

import logging
import os
import statistics
import struct
from collections.abc import Iterator
from functools import partial
from itertools import islice
from typing import Any

import cv2
import numpy as np

from qdtrack_ros.data.compressed_codec import decode_compressed
from qdtrack_ros.data.image_codec import decode_image
from qdtrack_ros.data.image_errors import ImageError
from qdtrack_ros.data.media import LazyFrames
from qdtrack_ros.data.rosbag import BagMessage, BagReader, BagWriter, MessageTypes
from qdtrack_ros.data.types import DataError, Frame, Image, Sequence

logger = logging.getLogger(__name__)

RAW_TYPE, COMPRESSED_TYPE = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"
RATE_SAMPLE = 30  # frames that the frame rate is estimated from


def read_bag(path: str | os.PathLike[str], topic: str | None = None) -> Sequence:
    """The images of one topic of a bag, raw or compressed, in the order of recording.

    Time stamps are those of the headers. An image that cannot be decoded raises ``DataError`` when it is loaded; of a
    damaged bag the part that can be read is given, with a warning.

    Args:
        path: a rosbag2 folder, or one of its ``.mcap`` or ``.db3`` files.
        topic: of type sensor_msgs/Image or CompressedImage; None takes the only one there is.

    Raises:
        DataError: no such bag or topic, several topics to choose from, or none with images, or without any message.
    """
    with BagReader(path) as reader:
        name = _choose_topic(reader, topic)
        count = reader.topics[name].message_count
        if count == 0:
            raise DataError(_without_messages(reader, name))
        stamps = [header_stamp_ns(item.data) for item in islice(reader.messages([name]), RATE_SAMPLE)]
        label = f"{reader.path.stem}{name}"
        is_cut = reader.is_damaged
    return Sequence(label, BagFrames(BagImages(path, name), count), _frame_rate(stamps), True, is_cut=is_cut)


def _choose_topic(reader: BagReader, topic: str | None) -> str:
    images = [name for name, item in reader.topics.items() if item.type_name in (RAW_TYPE, COMPRESSED_TYPE)]
    if topic is not None:
        if topic in images:
            return topic
        found = reader.topics[topic].type_name if topic in reader.topics else "not there"
        raise DataError(f"{reader.path}: topic {topic} is {found}; topics with images: {', '.join(images) or 'none'}")
    if not images:
        there = ", ".join(f"{name} ({item.type_name})" for name, item in reader.topics.items()) or "none"
        raise DataError(f"{reader.path}: no topic of {RAW_TYPE} or CompressedImage; its topics: {there}")
    if len(images) > 1:
        raise DataError(f"{reader.path}: topics with images: {', '.join(images)}; name one")
    return images[0]


def _without_messages(reader: BagReader, name: str) -> str:
    filled = [f"{other} ({item.message_count})" for other, item in reader.topics.items() if item.message_count]
    return (
        f"{reader.path}: topic {name} has 0 messages, expected at least one image; topics with messages: "
        f"{', '.join(filled) or 'none'}. Record it while the camera publishes, or name another topic"
    )


def _frame_rate(stamps: list[int | None]) -> float | None:
    known = [stamp for stamp in stamps if stamp is not None]
    steps = [later - earlier for earlier, later in zip(known, known[1:], strict=False) if later > earlier]
    return 1e9 / statistics.median(steps) if steps else None


def header_stamp_ns(data: bytes) -> int | None:
    """Stamp of a message that begins with a std_msgs/Header, from its CDR bytes; None when they are too short."""
    if len(data) < 12:
        return None
    sec, nanosec = struct.unpack_from("<iI" if data[1] & 1 else ">iI", data, 4)
    return int(sec) * 1_000_000_000 + int(nanosec)


def decode_message(types: MessageTypes, type_name: str, data: bytes) -> Image:
    """Picture of a serialized Image or CompressedImage, uint8 [H, W, 3] BGR; ``DataError`` when it is unusable."""
    message = types.deserialize(data, type_name)
    try:
        return decode_image(message) if type_name == RAW_TYPE else decode_compressed(message)
    except ImageError as error:
        raise DataError(f"unusable image: {error}") from error


class BagImages:
    """Images of a topic by index. Picklable; each process opens the bag for itself on its first read."""

    def __init__(self, path: str | os.PathLike[str], topic: str) -> None:
        self.path = path
        self.topic = topic
        self._reset()

    def _reset(self) -> None:
        self._types = MessageTypes()
        self._reader: BagReader | None = None
        self._stamps: list[int | None] = []  # of recording; None for images that are lost
        self._pid = os.getpid()  # of the process that the reader belongs to

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "topic": self.topic}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    def stream(self) -> Iterator[Frame]:
        """All frames in turn; each holds its message until it is let go."""
        with BagReader(self.path) as reader:
            for index, message in enumerate(self._places(reader)):
                yield self._lost(index) if message is None else self._frame(index, message)

    def _places(self, reader: BagReader) -> Iterator[BagMessage | None]:
        """Messages in turn; None in the place of each that is lost in the middle, so that the others keep theirs."""
        filled = 0
        for message in reader.messages([self.topic]):
            while filled < reader.lost:
                filled += 1
                yield None
            yield message

    def frame(self, index: int) -> Frame:
        """Frame ``index``; the first call goes once through the topic for the times of recording."""
        if self._pid != os.getpid():
            self._reset()
        if self._reader is None:
            self._reader = BagReader(self.path)
            self._stamps = [None if item is None else item.stamp_ns for item in self._places(self._reader)]
        if index >= len(self._stamps):
            raise DataError(f"{self.path}: image {index} is lost; {len(self._stamps)} of the topic can be read")
        stamp_ns = self._stamps[index]
        if stamp_ns is None:
            return self._lost(index)
        same_time = index - self._stamps.index(stamp_ns)
        messages = self._reader.messages([self.topic], stamp_ns, stamp_ns + 1)
        return self._frame(index, next(islice(messages, same_time, None)))

    def _lost(self, index: int) -> Frame:
        return Frame(index, None, None, None, (), partial(_raise_lost, self.path, index))

    def _frame(self, index: int, message: BagMessage) -> Frame:
        load = partial(decode_message, self._types, message.type_name, message.data)
        return Frame(index, header_stamp_ns(message.data), None, None, (), load)


def _raise_lost(path: str | os.PathLike[str], index: int) -> Image:
    raise DataError(f"{path}: image {index} is lost in the damage")


class BagFrames(LazyFrames):
    """Frames of a topic; iterating reads the bag once through, indexing looks a message up."""

    def __init__(self, images: BagImages, count: int) -> None:
        super().__init__(count, images.frame)
        self._images = images

    def __iter__(self) -> Iterator[Frame]:
        return self._images.stream()


def write_video_as_bag(
    sequence: Sequence,
    path: str | os.PathLike[str],
    topic: str = "/camera/image_raw",
    frame_id: str = "camera",
    frame_rate: float | None = None,
    start_stamp_ns: int = 1_000_000_000,
    encoding: str = "bgr8",
    storage: str = "sqlite3",
) -> int:
    """Write the frames of a sequence as images of a bag, stamped evenly.

    Args:
        sequence: iterated once; a live source is recorded until it ends.
        path: of the new bag.
        topic: full name.
        frame_id: of the headers.
        frame_rate: frames per second; None takes the sequence's own.
        start_stamp_ns: stamp of the first frame, header and time of recording alike.
        encoding: "bgr8", "rgb8" or "mono8" for sensor_msgs/Image; "jpeg" or "png" for CompressedImage.
        storage: "sqlite3" or "mcap".

    Returns:
        Number of frames written.

    Raises:
        DataError: no frame rate, an unknown encoding, the path is taken, or a frame cannot be decoded; no bag is left
            behind.
    """
    rate = frame_rate or sequence.frame_rate
    if not rate:
        raise DataError(f"{sequence.name} has no frame rate; give one for the time stamps of the bag")
    if encoding not in ("bgr8", "rgb8", "mono8", "jpeg", "png"):
        raise DataError(f"image encoding is {encoding!r}, expected bgr8, rgb8, mono8, jpeg or png")
    count = 0
    with BagWriter(path, storage) as writer:
        for count, frame in enumerate(sequence.frames, start=1):
            stamp_ns = start_stamp_ns + round((count - 1) * 1e9 / rate)
            type_name, message = image_message(writer.types, frame.load(), encoding, stamp_ns, frame_id)
            writer.add(topic, type_name, message, stamp_ns)
        if count == 0:
            raise DataError(f"{sequence.name} has no frames; no bag is written")
    return count


def image_message(types: MessageTypes, picture: Image, encoding: str, stamp_ns: int, frame_id: str) -> tuple[str, Any]:
    """Type and message object of a picture (uint8 [H, W, 3] BGR) in one of the encodings of ``write_video_as_bag``."""
    sec, nanosec = divmod(stamp_ns, 1_000_000_000)
    stamp = types.new("builtin_interfaces/msg/Time", sec=sec, nanosec=nanosec)
    header = types.new("std_msgs/msg/Header", stamp=stamp, frame_id=frame_id)
    if encoding in ("jpeg", "png"):
        done, packed = cv2.imencode(f".{encoding}", picture)
        if not done:
            raise DataError(
                f"a picture of {picture.shape[1]} x {picture.shape[0]} pixels cannot be packed as {encoding}"
            )
        return COMPRESSED_TYPE, types.new(COMPRESSED_TYPE, header=header, format=encoding, data=packed.ravel())
    if encoding == "rgb8":
        pixels = cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)
    elif encoding == "mono8":
        pixels = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)
    else:
        pixels = np.ascontiguousarray(picture)
    message = types.new(
        RAW_TYPE,
        header=header,
        height=pixels.shape[0],
        width=pixels.shape[1],
        encoding=encoding,
        is_bigendian=0,
        step=pixels.strides[0],
        data=np.asarray(pixels).ravel(),
    )
    return RAW_TYPE, message
