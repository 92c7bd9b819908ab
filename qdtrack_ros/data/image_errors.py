"""Why an image of a camera could not be used, by kind, so that faults can be counted."""

from __future__ import annotations

import enum


class ImageFault(str, enum.Enum):
    """Kinds of unusable images; the value is the reason under which the frame is counted as dropped."""

    TRUNCATED = "truncated"
    ZERO_SIZE = "zero_size"
    BAD_STEP = "bad_step"
    UNKNOWN_ENCODING = "unknown_encoding"
    OVERSIZED = "oversized"
    UNDECODABLE = "undecodable"
    BAD_HEADER = "bad_header"


class ImageError(ValueError):
    """An image message that cannot be turned into a picture.

    Attributes:
        kind: what is wrong with it.
    """

    def __init__(self, kind: ImageFault, message: str) -> None:
        super().__init__(message)
        self.kind = kind


def check_size(width: int, height: int, max_pixels: int) -> None:
    """Refuse empty and oversized pictures before any memory is taken for them.

    Raises:
        ImageError: ZERO_SIZE or OVERSIZED.
    """
    if width <= 0 or height <= 0:
        text = f"the image is empty ({width} x {height} pixels); check the camera driver"
        raise ImageError(ImageFault.ZERO_SIZE, text)
    if width * height > max_pixels:
        raise ImageError(
            ImageFault.OVERSIZED,
            f"the image has {width} x {height} pixels, more than max_image_pixels = {max_pixels}; "
            "send smaller images or raise the parameter",
        )
