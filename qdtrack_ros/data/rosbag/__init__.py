"""Messages of rosbag2 bags (SQLite and MCAP), read and written without ROS. Only this package imports ``rosbags``."""

from __future__ import annotations

try:
    import rosbags  # noqa: F401
except ImportError as error:
    raise ImportError("reading and writing bags needs the package rosbags: pip install 'rosbags>=0.11'") from error

from qdtrack_ros.data.rosbag.message_types import MessageTypes
from qdtrack_ros.data.rosbag.reader import BagMessage, BagReader, BagTopic
from qdtrack_ros.data.rosbag.writer import BagWriter

__all__ = ["BagMessage", "BagReader", "BagTopic", "BagWriter", "MessageTypes"]
