"""Where the text of ROS message definitions is found on this machine."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from qdtrack_ros.data.types import DataError
from qdtrack_ros.resources import share_path

# Come with this package: vision_msgs for machines that have no released one.
_OWN = {"qdtrack_ros": "msg", "vision_msgs": "interfaces/vision_msgs/msg"}


def find_definition(type_name: str) -> str:
    """Text of the .msg file of a type such as ``sensor_msgs/msg/Image``.

    Looks at what comes with this package, then in ``share/PACKAGE/msg`` of every prefix of AMENT_PREFIX_PATH and of
    this Python.

    Raises:
        DataError: names the folders looked at.
    """
    parts = type_name.split("/")
    if len(parts) != 3 or parts[1] != "msg":
        raise DataError(f"{type_name!r} is not a message type; expected a name such as sensor_msgs/msg/Image")
    package, _, name = parts
    own = [path for path in [_own_definition(package, name)] if path is not None]
    prefixes = [*filter(None, os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep)), sys.prefix]
    candidates = own + [Path(prefix) / "share" / package / "msg" / f"{name}.msg" for prefix in prefixes]
    for candidate in candidates:
        if candidate.is_file():
            return candidate.read_text(encoding="utf-8")
    places = ", ".join(str(candidate.parent) for candidate in candidates)
    raise DataError(f"no definition of {type_name}; looked in {places}. Source the workspace that has {package}")


def _own_definition(package: str, name: str) -> Path | None:
    try:
        return share_path(f"{_OWN[package]}/{name}.msg")
    except (KeyError, FileNotFoundError):
        return None
