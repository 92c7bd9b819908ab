#!/usr/bin/env python3
"""A consumer of tracks, to copy from: says who comes, who goes, and how long each was there.

ros2 run qdtrack_ros track_listener.py --ros-args -r tracks:=front/tracks
"""

from __future__ import annotations

import sys

import rclpy
from qdtrack_ros.msg import Track, TrackArray
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.time import Time


class TrackListener(Node):
    """Follows one camera's tracks."""

    def __init__(self) -> None:
        super().__init__("track_listener")
        self._session = b""
        self._present: set[int] = set()
        self.create_subscription(TrackArray, "tracks", self._on_tracks, 10)

    def _on_tracks(self, message: TrackArray) -> None:
        session = bytes(message.session_id.uuid)
        if session != self._session:  # ids are unique within a session: those of another mean nothing now
            self._session, self._present = session, set()
            self.get_logger().info("new session: ids begin anew")
        for track in message.tracks:
            name = f"{track.detection.results[0].hypothesis.class_id} {track.track_id}"
            if track.status == Track.CONFIRMED and track.track_id not in self._present:
                self._present.add(track.track_id)
                self.get_logger().info(f"{name} has come; {len(self._present)} here")
            elif track.status == Track.REMOVED and track.track_id in self._present:
                self._present.discard(track.track_id)
                stay = Time.from_msg(track.last_seen) - Time.from_msg(track.first_seen)
                seconds = stay.nanoseconds / 1e9
                self.get_logger().info(f"{name} is gone after {seconds:.1f} s; {len(self._present)} here")


def main() -> int:
    """Run until interrupted."""
    try:
        with rclpy.init(args=sys.argv):
            rclpy.spin(TrackListener())
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    return 0


if __name__ == "__main__":
    sys.exit(main())
