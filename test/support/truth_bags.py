"""Ground truth as messages of a bag."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from qdtrack_ros.data.bag_truth import DETECTIONS_TYPE
from qdtrack_ros.data.rosbag import BagWriter

S = 1_000_000_000
Box = tuple[float, float, float, float, str, str]  # centre x, y, width, height, class, id


def add_boxes(
    writer: BagWriter, topic: str, stamp_ns: int, boxes: Iterable[Box], extra_class: str | None = None
) -> None:
    """Add the boxes of one picture; each gets a hypothesis less likely than its class, if there is an extra one."""
    time = writer.types.new("builtin_interfaces/msg/Time", sec=stamp_ns // S, nanosec=stamp_ns % S)
    header = writer.types.new("std_msgs/msg/Header", stamp=time, frame_id="camera")
    found = [_detection(writer, header, box, extra_class) for box in boxes]
    array = writer.types.new(DETECTIONS_TYPE, header=header, detections=found)
    writer.add(topic, DETECTIONS_TYPE, array, stamp_ns + 5)  # recorded a little later


def _detection(writer: BagWriter, header: Any, box: Box, extra_class: str | None) -> Any:
    new = writer.types.new
    x, y, width, height, label, identity = box
    pose = new(
        "geometry_msgs/msg/PoseWithCovariance",
        pose=new(
            "geometry_msgs/msg/Pose",
            position=new("geometry_msgs/msg/Point", x=0.0, y=0.0, z=0.0),
            orientation=new("geometry_msgs/msg/Quaternion", x=0.0, y=0.0, z=0.0, w=1.0),
        ),
        covariance=np.zeros(36),
    )
    results = [
        new(
            "vision_msgs/msg/ObjectHypothesisWithPose",
            hypothesis=new("vision_msgs/msg/ObjectHypothesis", class_id=name, score=score),
            pose=pose,
        )
        for name, score in ((extra_class, 0.2), (label, 0.8))
        if name
    ]
    center = new("vision_msgs/msg/Pose2D", position=new("vision_msgs/msg/Point2D", x=x, y=y), theta=0.0)
    bbox = new("vision_msgs/msg/BoundingBox2D", center=center, size_x=width, size_y=height)
    return new("vision_msgs/msg/Detection2D", header=header, results=results, bbox=bbox, id=identity)
