"""The ROS 2 installation that this Python sees."""

from __future__ import annotations

from rclpy.utilities import get_rmw_implementation_identifier


def middleware() -> str:
    """Name of the middleware in use, e.g. ``rmw_fastrtps_cpp``; loads it, and raises what its libraries raise."""
    return str(get_rmw_implementation_identifier())
