"""Frames that were published and never arrived: publishers number their messages, and gaps in the numbers tell."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_MAX_PUBLISHERS = 64  # a driver that restarts for ever must not fill the memory


class PublicationGaps:
    """Watches the numbers of one subscription. Not thread-safe."""

    def __init__(self) -> None:
        self._last: dict[object, int] = {}

    def missed(self, info: Mapping[str, Any]) -> int:
        """How many messages of this publisher are missing before this one.

        Args:
            info: rclpy's MessageInfo. Some middlewares number nothing: then the answer is always 0.
        """
        number = info.get("publication_sequence_number")
        if number is None:
            return 0
        publisher = str(info.get("publisher_gid"))
        before = self._last.get(publisher)
        if before is None and len(self._last) >= _MAX_PUBLISHERS:
            self._last.clear()
        self._last[publisher] = number
        return max(0, number - before - 1) if before is not None else 0
