"""Tracks as markers for RViz: boxes, ids and trails on a plane in front of the camera."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from geometry_msgs.msg import Point
from std_msgs.msg import ColorRGBA, Header
from visualization_msgs.msg import Marker, MarkerArray

from qdtrack_ros.inference.drawing import picture_scale, track_color, trail_brightness
from qdtrack_ros.node.camera import FrameResult

_TEXT_PX = 16  # height of a label's letters in a picture of 640 x 480
_BORDER = ColorRGBA(r=0.6, g=0.6, b=0.6, a=1.0)


class PinholeModel(NamedTuple):
    """Focal lengths and principal point, pixels, of a picture of `width` x `height`; 0 stands for any size."""

    fx: float
    fy: float
    cx: float
    cy: float
    width: int = 0
    height: int = 0

    @classmethod
    def of_image(cls, width: int, height: int) -> PinholeModel:
        """A stand-in while no camera_info is known: a field of view of 53 degrees, looking through the middle."""
        return cls(float(width), float(width), width / 2, height / 2)

    @classmethod
    def of_camera_matrix(cls, k: Sequence[float], width: int = 0, height: int = 0) -> PinholeModel | None:
        """From CameraInfo.k (9 values, row-major), width and height; None when the camera is not calibrated."""
        values = [float(v) for v in k]
        if len(values) != 9 or not np.isfinite(values).all() or values[0] <= 0 or values[4] <= 0:
            return None
        return cls(values[0], values[4], values[2], values[5], width, height)

    def for_image(self, width: int, height: int) -> PinholeModel:
        """The same camera for a picture of another size, as drivers send that calibrate at full size."""
        if not (self.width and self.height):
            return self
        x, y = width / self.width, height / self.height
        return PinholeModel(self.fx * x, self.fy * y, self.cx * x, self.cy * y, width, height)

    def point(self, x: float, y: float, depth_m: float) -> Point:
        """The point at `depth_m` seen at a pixel, in the camera's optical frame."""
        return Point(x=(x - self.cx) / self.fx * depth_m, y=(y - self.cy) / self.fy * depth_m, z=depth_m)


def marker_message(
    result: FrameResult, labels: Sequence[str], model: PinholeModel | None, depth_m: float
) -> MarkerArray:
    """Markers of one frame, which replace those of the frame before.

    Namespaces: `image` (the picture's border), `boxes`, `trails`, and `labels` (id, class and score).

    Args:
        result: the frame's tracks.
        labels: class names.
        model: of the camera; None takes a stand-in from the image's size.
        depth_m: distance of the plane in which the image is drawn, metres.
    """
    height, width = result.image.pixels.shape[:2]
    model = model.for_image(width, height) if model else PinholeModel.of_image(width, height)
    header = result.image.header
    unit = depth_m / model.fx * picture_scale(height, width)  # metres that a pixel of a 640 x 480 picture takes up

    def around(left: float, top: float, right: float, bottom: float) -> list[Point]:
        corners = ((left, top), (right, top), (right, bottom), (left, bottom), (left, top))
        return [model.point(float(x), float(y), depth_m) for x, y in corners]

    border, boxes, trails = _Segments(), _Segments(), _Segments()
    border.add(around(0, 0, width, height), [_BORDER] * 5)
    texts = []
    for view in result.tracked.visible:
        track, color = view.track, _color(view.track.id)
        boxes.add(around(*track.box), [color] * 5)
        trail = result.tracked.trails.get(track.id)
        if trail is not None:
            points = [model.point(float(x), float(y), depth_m) for x, y in trail]
            last = max(len(trail) - 1, 1)
            trails.add(points, [_color(track.id, trail_brightness(step / last)) for step in range(len(trail))])
        text = f"{track.id} {labels[track.label]} {track.score:.2f}"
        position = model.point(float(track.box[0] + track.box[2]) / 2, float(track.box[1]), depth_m)
        position.y -= 0.7 * _TEXT_PX * unit  # the text's middle, a little above the box
        texts.append(_text(header, track.id, text, position, _TEXT_PX * unit))
    markers = [Marker(header=header, action=Marker.DELETEALL), border.marker(header, "image", unit)]
    if texts:
        markers += [boxes.marker(header, "boxes", 2.5 * unit), trails.marker(header, "trails", 2 * unit), *texts]
    return MarkerArray(markers=markers)


class _Segments:
    """Line segments collected for one marker; assigning the lists once spares a check of all of them each time."""

    def __init__(self) -> None:
        self._points: list[Point] = []
        self._colors: list[ColorRGBA] = []

    def add(self, chain: Sequence[Point], colors: Sequence[ColorRGBA]) -> None:
        """Append a chain of points, each with its colour."""
        for (start, start_color), (end, end_color) in itertools.pairwise(zip(chain, colors, strict=True)):
            self._points += [start, end]
            self._colors += [start_color, end_color]

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


def _color(track_id: int, brightness: float = 1.0) -> ColorRGBA:
    blue, green, red = (brightness * value / 255 for value in track_color(track_id))
    return ColorRGBA(r=red, g=green, b=blue, a=1.0)
