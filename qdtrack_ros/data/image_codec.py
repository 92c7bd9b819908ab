"""sensor_msgs/Image -> uint8 BGR, for every encoding that cameras commonly send.

The hot path needs no cv_bridge: it honours padded rows (`step`) and `is_bigendian`, and gives a view of the message's
own memory where the encoding is bgr8 already. Rare encodings are handed to cv_bridge where that is installed.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

import cv2
import numpy as np
import numpy.typing as npt

from qdtrack_ros.data.image_errors import ImageError, ImageFault, check_size

BgrImage = npt.NDArray[np.uint8]

DEFAULT_MAX_PIXELS = 8192 * 4096


class ImageMessage(Protocol):
    """The fields of sensor_msgs/Image that are read here."""

    height: int
    width: int
    encoding: str
    is_bigendian: int
    step: int
    data: Any


class _Layout(NamedTuple):
    """How an encoding lies in memory: items per pixel and their size, and what turns them into BGR."""

    channels: int
    item_bytes: int
    to_bgr: Callable[[npt.NDArray[Any]], npt.NDArray[Any]]


def _cv(code: int) -> Callable[[npt.NDArray[Any]], npt.NDArray[Any]]:
    return lambda pixels: cv2.cvtColor(np.ascontiguousarray(pixels), code)


def _eight_bits(pixels: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Round 16-bit values to 8 bits: v / 257 to nearest, so that 65535 becomes 255."""
    half, top = np.uint16(128), np.uint16(65535 - 128)  # from `top` on it is 255 anyway, and adding does not overflow
    return ((np.minimum(pixels.astype(np.uint16), top) + half) // np.uint16(257)).astype(np.uint8)


def _wide(code: int | None) -> Callable[[npt.NDArray[Any]], npt.NDArray[Any]]:
    return lambda pixels: _eight_bits(pixels) if code is None else cv2.cvtColor(_eight_bits(pixels), code)


def _wide_bayer(code: int) -> Callable[[npt.NDArray[Any]], npt.NDArray[Any]]:
    """Interpolate at 16 bits, and round once, at the end."""
    return lambda pixels: _eight_bits(cv2.cvtColor(pixels.astype(np.uint16), code))


_UYVY = _Layout(2, 1, _cv(cv2.COLOR_YUV2BGR_UYVY))
_YUYV = _Layout(2, 1, _cv(cv2.COLOR_YUV2BGR_YUYV))
_BGR8 = _Layout(3, 1, np.ascontiguousarray)

# OpenCV names Bayer patterns by the second row: its "BG" is the pattern that starts with red, ROS's rggb.
_LAYOUTS: Mapping[str, _Layout] = MappingProxyType(
    {
        "bgr8": _BGR8,
        "8UC3": _BGR8,
        "rgb8": _Layout(3, 1, _cv(cv2.COLOR_RGB2BGR)),
        "bgra8": _Layout(4, 1, _cv(cv2.COLOR_BGRA2BGR)),
        "8UC4": _Layout(4, 1, _cv(cv2.COLOR_BGRA2BGR)),
        "rgba8": _Layout(4, 1, _cv(cv2.COLOR_RGBA2BGR)),
        "mono8": _Layout(1, 1, _cv(cv2.COLOR_GRAY2BGR)),
        "8UC1": _Layout(1, 1, _cv(cv2.COLOR_GRAY2BGR)),
        "bgr16": _Layout(3, 2, _wide(None)),
        "rgb16": _Layout(3, 2, _wide(cv2.COLOR_RGB2BGR)),
        "bgra16": _Layout(4, 2, _wide(cv2.COLOR_BGRA2BGR)),
        "rgba16": _Layout(4, 2, _wide(cv2.COLOR_RGBA2BGR)),
        "mono16": _Layout(1, 2, _wide(cv2.COLOR_GRAY2BGR)),
        "bayer_rggb8": _Layout(1, 1, _cv(cv2.COLOR_BayerBG2BGR)),
        "bayer_bggr8": _Layout(1, 1, _cv(cv2.COLOR_BayerRG2BGR)),
        "bayer_gbrg8": _Layout(1, 1, _cv(cv2.COLOR_BayerGR2BGR)),
        "bayer_grbg8": _Layout(1, 1, _cv(cv2.COLOR_BayerGB2BGR)),
        "bayer_rggb16": _Layout(1, 2, _wide_bayer(cv2.COLOR_BayerBG2BGR)),
        "bayer_bggr16": _Layout(1, 2, _wide_bayer(cv2.COLOR_BayerRG2BGR)),
        "bayer_gbrg16": _Layout(1, 2, _wide_bayer(cv2.COLOR_BayerGR2BGR)),
        "bayer_grbg16": _Layout(1, 2, _wide_bayer(cv2.COLOR_BayerGB2BGR)),
        "yuv422": _UYVY,
        "uyvy": _UYVY,
        "yuv422_yuy2": _YUYV,
        "yuyv": _YUYV,
    }
)
_SEMI_PLANAR = MappingProxyType({"nv12": cv2.COLOR_YUV2BGR_NV12, "nv21": cv2.COLOR_YUV2BGR_NV21})
_NUMBERS = re.compile(r"\d+[USF]C\d+")  # OpenCV's types; those of 8 bits that can only be pictures are in the table
_BAYER_MIN_SIDE = 3  # the demosaicing needs a neighbour on either side


def decode_image(message: ImageMessage, max_pixels: int = DEFAULT_MAX_PIXELS) -> BgrImage:
    """Turn an image message into a picture.

    Args:
        message: sensor_msgs/Image.
        max_pixels: larger pictures are refused before memory is taken for them.

    Returns:
        uint8 [H, W, 3], BGR, contiguous. For bgr8 it shares the memory of the message.

    Raises:
        ImageError: with the kind of fault. Nothing else is raised, whatever the message holds.
    """
    width, height = int(message.width), int(message.height)
    check_size(width, height, max_pixels)
    try:
        if message.encoding in _SEMI_PLANAR:
            return _decode_semi_planar(message)
        layout = _LAYOUTS.get(message.encoding)
        if layout is None:
            return _decode_with_cv_bridge(message)
        _check_geometry(message, layout)
        return np.ascontiguousarray(layout.to_bgr(_pixels(message, height, width, layout)))
    except cv2.error as error:
        reason = " ".join(str(error).split())
        raise ImageError(
            ImageFault.UNDECODABLE, f"OpenCV cannot convert {width} x {height} {message.encoding}: {reason}"
        ) from error


def _check_geometry(message: ImageMessage, layout: _Layout) -> None:
    if layout in (_UYVY, _YUYV) and message.width % 2:
        raise ImageError(ImageFault.UNDECODABLE, f"{message.encoding} needs an even width, got {message.width}")
    if message.encoding.startswith("bayer_") and min(message.width, message.height) < _BAYER_MIN_SIDE:
        raise ImageError(
            ImageFault.UNDECODABLE,
            f"{message.encoding} needs {_BAYER_MIN_SIDE} pixels a side or more, got {message.width} x {message.height}",
        )


def _pixels(message: ImageMessage, rows: int, columns: int, layout: _Layout) -> npt.NDArray[Any]:
    """A view of the message's memory, [rows, columns] or [rows, columns, channels], padding skipped."""
    row_bytes = columns * layout.channels * layout.item_bytes
    step = int(message.step)
    if step < row_bytes:
        raise ImageError(
            ImageFault.BAD_STEP,
            f"step is {step} bytes, but a row of {columns} {message.encoding} pixels takes {row_bytes}; "
            "the camera driver fills the message wrongly",
        )
    available = memoryview(message.data).nbytes
    needed = step * (rows - 1) + row_bytes  # the last row may come without its padding
    if available < needed:
        raise ImageError(
            ImageFault.TRUNCATED,
            f"the image holds {available} bytes, but {columns} x {rows} {message.encoding} with step {step} "
            f"takes {needed}; the camera driver or the link cuts it",
        )
    order = ">" if message.is_bigendian else "<"
    dtype = np.dtype(f"{order}u{layout.item_bytes}")
    shape: tuple[int, ...] = (rows, columns, layout.channels)
    strides: tuple[int, ...] = (step, layout.channels * layout.item_bytes, layout.item_bytes)
    if layout.channels == 1:
        shape, strides = shape[:2], strides[:2]
    return np.ndarray(shape, dtype, buffer=message.data, strides=strides)


def _decode_semi_planar(message: ImageMessage) -> BgrImage:
    """Full-size luma, then half-size interleaved chroma, rows of `step` bytes throughout."""
    width, height = int(message.width), int(message.height)
    if width % 2 or height % 2:
        text = f"{message.encoding} needs even width and height, got {width} x {height}"
        raise ImageError(ImageFault.UNDECODABLE, text)
    planes = np.ascontiguousarray(_pixels(message, height * 3 // 2, width, _Layout(1, 1, np.asarray)))
    return np.ascontiguousarray(cv2.cvtColor(planes, _SEMI_PLANAR[message.encoding]), np.uint8)


def _decode_with_cv_bridge(message: ImageMessage) -> BgrImage:
    encoding = message.encoding[:40]  # it comes from the network and goes to the log
    if _NUMBERS.fullmatch(encoding):
        raise ImageError(
            ImageFault.UNKNOWN_ENCODING,
            f"encoding {encoding!r} says how numbers are stored, not which colours they are (a depth image?); "
            "choose the camera's colour image, or let its driver say bgr8, rgb8 or mono16",
        )
    try:
        bridge = importlib.import_module("cv_bridge").CvBridge()
    except ImportError:
        known = ", ".join([*_LAYOUTS, *_SEMI_PLANAR])
        raise ImageError(
            ImageFault.UNKNOWN_ENCODING,
            f"encoding {encoding!r} is not known and cv_bridge is not installed (known without it: {known})",
        ) from None
    try:
        dtype, channels = bridge.encoding_to_dtype_with_channels(message.encoding)
        row_bytes = int(message.width) * int(channels) * np.dtype(dtype).itemsize
    except Exception as error:  # cv_bridge raises whatever it meets: KeyError, CvBridgeError, RuntimeError
        text = f"encoding {encoding!r} is not known, to cv_bridge neither"
        raise ImageError(ImageFault.UNKNOWN_ENCODING, text) from error
    # cv_bridge ignores padding and would shear the picture.
    if int(message.step) != row_bytes:
        raise ImageError(
            ImageFault.BAD_STEP, f"step is {message.step} bytes, cv_bridge needs {row_bytes} for encoding {encoding!r}"
        )
    if memoryview(message.data).nbytes < row_bytes * int(message.height):
        raise ImageError(ImageFault.TRUNCATED, f"the {encoding!r} image holds {memoryview(message.data).nbytes} bytes")
    try:
        picture = np.asarray(bridge.imgmsg_to_cv2(message, desired_encoding="bgr8"))
    except Exception as error:
        raise ImageError(
            ImageFault.UNDECODABLE, f"cv_bridge cannot convert {encoding!r} to bgr8: {' '.join(str(error).split())}"
        ) from error
    if picture.dtype != np.uint8 or picture.shape != (int(message.height), int(message.width), 3):
        raise ImageError(
            ImageFault.UNDECODABLE, f"cv_bridge turned {encoding!r} into {picture.dtype} {picture.shape}, not into bgr8"
        )
    return np.ascontiguousarray(picture)
