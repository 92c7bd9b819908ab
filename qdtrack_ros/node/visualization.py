"""Tracks as markers for RViz: boxes, ids and trails on a plane in front of the camera."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from geometry_msgs.msg import Point
from std_msgs.msg import ColorRGBA, Header
from visualization_msgs.msg import Marker, MarkerArray

from qdtrack_ros.inference.drawing import track_color
from qdtrack_ros.node.camera import FrameResult

_CORNERS = ((0, 1), (2, 1), (2, 3), (0, 3))  # columns of x and y in xyxy, around the box


class PinholeModel(NamedTuple):
    """Focal lengths and principal point, pixels."""

    fx: float
    fy: float
    cx: float
    cy: float

    @classmethod
    def of_image(cls, width: int, height: int) -> PinholeModel:
        """A stand-in while no camera_info is known: a field of view of 53 degrees, looking through the middle."""
        return cls(float(width), float(width), width / 2, height / 2)

    @classmethod
    def of_camera_matrix(cls, k: Sequence[float]) -> PinholeModel | None:
        """From CameraInfo.k (9 values, row-major); None when the camera is not calibrated."""
        values = [float(v) for v in k]
        if len(values) != 9 or not np.isfinite(values).all() or values[0] <= 0 or values[4] <= 0:
            return None
        return cls(values[0], values[4], values[2], values[5])

    def point(self, x: float, y: float, depth_m: float) -> Point:
        """The point at `depth_m` seen at a pixel, in the camera's optical frame."""
        return Point(x=(x - self.cx) / self.fx * depth_m, y=(y - self.cy) / self.fy * depth_m, z=depth_m)


def marker_message(
    result: FrameResult, labels: Sequence[str], model: PinholeModel | None, depth_m: float
) -> MarkerArray:
    """Markers of one frame, which replace those of the frame before.

    Args:
        result: the frame's tracks.
        labels: class names.
        model: of the camera; None takes a stand-in from the image's size.
        depth_m: distance of the plane in which the image is drawn, metres.
    """
    height, width = result.image.pixels.shape[:2]
    model = model or PinholeModel.of_image(width, height)
    header = result.image.header
    unit = depth_m / model.fx  # metres that a pixel takes up in the plane
    markers = [Marker(header=header, action=Marker.DELETEALL)]
    visible = result.tracked.visible
    if visible:
        boxes, trails = _Segments(), _Segments()
        for view in visible:
            color = _color(view.track.id)
            corners = [model.point(float(view.track.box[x]), float(view.track.box[y]), depth_m) for x, y in _CORNERS]
            boxes.add([*corners, corners[0]], color)
            trail: npt.NDArray[np.float32] | None = result.tracked.trails.get(view.track.id)
            if trail is not None:
                trails.add([model.point(float(x), float(y), depth_m) for x, y in trail], color)
        markers += [boxes.marker(header, "boxes", 2.5 * unit), trails.marker(header, "trails", 1.5 * unit)]
        for view in visible:
            text = f"{view.track.id} {labels[view.track.label]} {view.track.score:.2f}"
            position = model.point(
                float(view.track.box[0] + view.track.box[2]) / 2, float(view.track.box[1]) - 10, depth_m
            )
            markers.append(_text(header, view.track.id, text, position, 16 * unit))
    return MarkerArray(markers=markers)


class _Segments:
    """Line segments collected for one marker; assigning the lists once spares a check of all of them each time."""

    def __init__(self) -> None:
        self._points: list[Point] = []
        self._colors: list[ColorRGBA] = []

    def add(self, chain: Sequence[Point], color: ColorRGBA) -> None:
        for start, end in itertools.pairwise(chain):
            self._points += [start, end]
            self._colors += [color, color]

    def marker(self, header: Header, namespace: str, width_m: float) -> Marker:
        marker = Marker(header=header, ns=namespace, id=0, type=Marker.LINE_LIST, action=Marker.ADD)
        marker.pose.orientation.w = 1.0
        marker.scale.x = width_m
        marker.color.a = 1.0
        marker.points = self._points
        marker.colors = self._colors
        return marker


def _text(header: Header, track_id: int, text: str, position: Point, height_m: float) -> Marker:
    # Marker ids are 32 bits wide; only uniqueness within the frame matters.
    marker = Marker(
        header=header, ns="labels", id=track_id % (1 << 31), type=Marker.TEXT_VIEW_FACING, action=Marker.ADD
    )
    marker.pose.position = position
    marker.pose.orientation.w = 1.0
    marker.scale.z = height_m
    marker.color = _color(track_id)
    marker.text = text
    return marker


def _color(track_id: int) -> ColorRGBA:
    blue, green, red = track_color(track_id)
    return ColorRGBA(r=red / 255, g=green / 255, b=blue / 255, a=1.0)
