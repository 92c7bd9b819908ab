"""Results of a tracked source as a rosbag2 with the messages that the node would publish; needs no ROS."""

from __future__ import annotations

import os
from collections.abc import Sequence
from types import TracebackType
from typing import Any

import numpy as np

from qdtrack_ros.cli.offline import TrackedPicture
from qdtrack_ros.data.rosbag import BagWriter
from qdtrack_ros.node.session import TrackView

DETECTIONS_TYPE, TRACKS_TYPE = "vision_msgs/msg/Detection2DArray", "qdtrack_ros/msg/TrackArray"
_NANOSECONDS = 1_000_000_000


class ResultBag:
    """Writes CAMERA/detections and CAMERA/tracks, one message a processed frame. A context manager, as BagWriter is.

    Leaving the context with a ``KeyboardInterrupt`` keeps what was written.

    Args:
        path: the new bag.
        labels: class names.
        camera: prefix of the topics, and frame_id of the headers.

    Raises:
        DataError: the path is taken.
    """

    def __init__(self, path: str | os.PathLike[str], labels: Sequence[str], camera: str = "camera") -> None:
        self._writer = BagWriter(path)
        self._labels = labels
        self._camera = camera

    def __enter__(self) -> ResultBag:
        """Open from its construction on."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Put the bag in its place, or discard it after an error."""
        if kind is None or kind is KeyboardInterrupt:
            self._writer.close()
        else:
            self._writer.discard()

    def add(self, picture: TrackedPicture) -> None:
        """Append the two messages of a frame, recorded at the time of its stamp."""
        stamp_ns = picture.frame.timestamp_ns or 0
        header = self._new("std_msgs/msg/Header", stamp=self._time(stamp_ns), frame_id=self._camera)
        views = picture.session.tracks
        detections = [self._detection(header, view, picture.first_id) for view in views]
        visible = [message for message, view in zip(detections, views, strict=True) if view.is_visible]
        tracks = self._new(
            TRACKS_TYPE,
            header=header,
            session_id=self._new(
                "unique_identifier_msgs/msg/UUID", uuid=np.frombuffer(picture.session.session_id, np.uint8)
            ),
            frame_index=picture.session.frame_index,
            skipped_frames=picture.skipped,
            image_width=picture.image.shape[1],
            image_height=picture.image.shape[0],
            tracks=[
                self._track(view, message, picture.first_id) for view, message in zip(views, detections, strict=True)
            ],
        )
        array = self._new(DETECTIONS_TYPE, header=header, detections=visible)
        self._writer.add(f"/{self._camera}/detections", DETECTIONS_TYPE, array, stamp_ns)
        self._writer.add(f"/{self._camera}/tracks", TRACKS_TYPE, tracks, stamp_ns)

    def _detection(self, header: Any, view: TrackView, first_id: int) -> Any:
        left, top, right, bottom = (float(v) for v in view.track.box)
        position = self._new("vision_msgs/msg/Point2D", x=(left + right) / 2, y=(top + bottom) / 2)
        center = self._new("vision_msgs/msg/Pose2D", position=position, theta=0.0)
        hypothesis = self._new(
            "vision_msgs/msg/ObjectHypothesis", class_id=self._labels[view.track.label], score=float(view.track.score)
        )
        pose = self._new(
            "geometry_msgs/msg/PoseWithCovariance",
            pose=self._new(
                "geometry_msgs/msg/Pose",
                position=self._new("geometry_msgs/msg/Point", x=0.0, y=0.0, z=0.0),
                orientation=self._new("geometry_msgs/msg/Quaternion", x=0.0, y=0.0, z=0.0, w=1.0),
            ),
            covariance=np.zeros(36),
        )
        return self._new(
            "vision_msgs/msg/Detection2D",
            header=header,
            results=[self._new("vision_msgs/msg/ObjectHypothesisWithPose", hypothesis=hypothesis, pose=pose)],
            bbox=self._new("vision_msgs/msg/BoundingBox2D", center=center, size_x=right - left, size_y=bottom - top),
            id=str(view.track.id + first_id),
        )

    def _track(self, view: TrackView, detection: Any, first_id: int) -> Any:
        track = view.track
        return self._new(
            "qdtrack_ros/msg/Track",
            detection=detection,
            track_id=track.id + first_id,
            class_index=track.label,
            status=int(view.status),
            hits=track.hits,
            missed=view.missed,
            first_seen=self._time(track.first_stamp_ns or 0),
            last_seen=self._time(track.last_stamp_ns or 0),
            match_score=float(view.match_score),
            velocity=np.asarray(track.velocity_per_s, np.float32),
        )

    def _time(self, stamp_ns: int) -> Any:
        seconds, nanoseconds = divmod(stamp_ns, _NANOSECONDS)
        return self._new("builtin_interfaces/msg/Time", sec=seconds, nanosec=nanoseconds)

    def _new(self, type_name: str, **fields: Any) -> Any:
        return self._writer.types.new(type_name, **fields)
