"""sensor_msgs/CompressedImage (JPEG, PNG) -> uint8 BGR; the header tells the size before anything is unpacked."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Protocol

import cv2
import numpy as np
import numpy.typing as npt

from qdtrack_ros.data.image_codec import DEFAULT_MAX_PIXELS
from qdtrack_ros.data.image_errors import ImageError, ImageFault, check_size

_JPEG_START, _JPEG_END = b"\xff\xd8\xff", b"\xff\xd9"
_PNG_START, _PNG_END = b"\x89PNG\r\n\x1a\n", b"IEND"
# Markers that carry the picture's size: all kinds of start-of-frame (C4, C8 and CC lie between them and are not).
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_WITHOUT_LENGTH = frozenset({0x01, *range(0xD0, 0xD9)})
_JPEG_SCAN, _JPEG_LAST = 0xDA, 0xD9
_JPEG_AFTER_SCAN = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")


class CompressedMessage(Protocol):
    """The fields of sensor_msgs/CompressedImage that are read here."""

    format: str
    data: Any


def decode_compressed(message: CompressedMessage, max_pixels: int = DEFAULT_MAX_PIXELS) -> npt.NDArray[np.uint8]:
    """Unpack a JPEG or PNG message, known by its first bytes; the format text is not relied on.

    Args:
        message: sensor_msgs/CompressedImage.
        max_pixels: larger pictures are refused from their header, before they are unpacked.

    Returns:
        uint8 [H, W, 3], BGR, contiguous.

    Raises:
        ImageError: with the kind of fault; nothing else is raised, whatever the message holds.
    """
    data = bytes(message.data)
    if not data:
        raise ImageError(ImageFault.ZERO_SIZE, "the compressed image is empty; check the camera driver")
    # A cut JPEG unpacks into a picture with a grey lower part, without an error: look for the end ourselves. Mostly it
    # is where the message ends, or where a camera begins to fill its buffer up with zeros.
    end = data.rstrip(b"\0")[-64:]
    if data.startswith(_JPEG_START):
        complete = _JPEG_END in end or any(marker == _JPEG_LAST for marker, _ in _jpeg_segments(data))
    elif data.startswith(_PNG_START):
        complete = _PNG_END in end or any(kind == _PNG_END for kind in _png_chunks(data))
    else:
        raise ImageError(
            ImageFault.UNKNOWN_ENCODING,
            f"compressed format {message.format[:40]!r} is neither JPEG nor PNG (first bytes {data[:8].hex()})",
        )
    if not complete:
        raise ImageError(ImageFault.TRUNCATED, f"the compressed image ends early, after {len(data)} bytes")
    check_size(*_size_of(data), max_pixels)
    try:
        flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        reason = " ".join(str(error).split())
        raise ImageError(ImageFault.UNDECODABLE, f"OpenCV cannot unpack the image: {reason}") from error
    if picture is None:
        raise ImageError(ImageFault.UNDECODABLE, f"the compressed image ({len(data)} bytes) is damaged")
    return np.ascontiguousarray(picture, np.uint8)


def _size_of(data: bytes) -> tuple[int, int]:
    """Width and height as a JPEG or PNG header gives them."""
    if data.startswith(_PNG_START):
        if len(data) < 24:
            raise ImageError(ImageFault.UNDECODABLE, "the PNG header is damaged")
        return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
    for marker, position in _jpeg_segments(data):
        if marker in _JPEG_FRAMES and position + 9 <= len(data):
            height = int.from_bytes(data[position + 5 : position + 7], "big")
            return int.from_bytes(data[position + 7 : position + 9], "big"), height
    raise ImageError(ImageFault.UNDECODABLE, "the JPEG header is damaged: it gives no size")


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, int]]:
    """Marker and position of each segment, up to the end of the picture or to where the data are cut or damaged."""
    position = 2
    while position + 2 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker == 0xFF:  # fill byte
            position += 1
            continue
        yield marker, position
        if marker == _JPEG_LAST:
            return
        position += 2
        if marker not in _JPEG_WITHOUT_LENGTH:
            position += int.from_bytes(data[position : position + 2], "big")
        if marker == _JPEG_SCAN:
            after = _JPEG_AFTER_SCAN.search(data, position)
            if after is None:
                return
            position = after.start()


def _png_chunks(data: bytes) -> Iterator[bytes]:
    """Type of each chunk, as far as they go."""
    position = len(_PNG_START)
    while position + 8 <= len(data):
        yield data[position + 4 : position + 8]
        position += 12 + int.from_bytes(data[position : position + 4], "big")
