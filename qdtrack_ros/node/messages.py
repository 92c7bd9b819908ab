"""Tracks of one frame as ROS messages. The image's header goes into each of them as it came."""

from __future__ import annotations

import array
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from builtin_interfaces.msg import Time
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from unique_identifier_msgs.msg import UUID
from vision_msgs.msg import Detection2D, Detection2DArray, LabelInfo, ObjectHypothesisWithPose, VisionClass

from qdtrack_ros.msg import EmbeddingArray, FrameTiming, TrackArray
from qdtrack_ros.msg import Track as TrackMessage
from qdtrack_ros.node.camera import FrameResult
from qdtrack_ros.node.frame_timing import FrameTimes
from qdtrack_ros.node.mailbox import MailboxCounts
from qdtrack_ros.node.session import TrackView
from qdtrack_ros.tracking import Track

_NANOSECONDS = 1_000_000_000
_MAX_UINT16 = 65535


def detection_message(header: Header, track: Track, labels: Sequence[str]) -> Detection2D:
    """One track as vision_msgs sees it: id in decimal, label name, score, box in pixels of the source image."""
    left, top, right, bottom = (float(v) for v in track.box)
    message = Detection2D(header=header, id=str(track.id))
    result = ObjectHypothesisWithPose()
    result.hypothesis.class_id = labels[track.label]
    result.hypothesis.score = float(track.score)
    message.results = [result]
    message.bbox.center.position.x = (left + right) / 2
    message.bbox.center.position.y = (top + bottom) / 2
    message.bbox.size_x = right - left
    message.bbox.size_y = bottom - top
    return message


def track_message(view: TrackView, detection: Detection2D) -> TrackMessage:
    """One track with all that vision_msgs cannot say; `detection` is its detection_message."""
    track = view.track
    return TrackMessage(
        detection=detection,
        track_id=track.id,
        class_index=min(track.label, _MAX_UINT16),
        status=int(view.status),
        hits=track.hits,
        missed=view.missed,
        first_seen=time_message(track.first_stamp_ns),
        last_seen=time_message(track.last_stamp_ns),
        match_score=float(view.match_score),
        velocity=np.asarray(track.velocity_per_s, np.float32),
    )


def frame_messages(result: FrameResult, labels: Sequence[str]) -> tuple[Detection2DArray, TrackArray]:
    """The two messages of one processed frame; both may be empty."""
    header, tracked = result.image.header, result.tracked
    height, width = result.image.pixels.shape[:2]
    built = [detection_message(header, view.track, labels) for view in tracked.tracks]
    visible = [message for message, view in zip(built, tracked.tracks, strict=True) if view.is_visible]
    tracks = TrackArray(
        header=header,
        session_id=session_message(tracked.session_id),
        frame_index=tracked.frame_index,
        skipped_frames=result.skipped,
        image_width=width,
        image_height=height,
        tracks=[track_message(view, message) for view, message in zip(tracked.tracks, built, strict=True)],
    )
    return Detection2DArray(header=header, detections=visible), tracks


def embeddings_message(result: FrameResult, model_id: str, embedding_dim: int) -> EmbeddingArray:
    """Appearance vectors of the tracks that have a detection in this frame, in the order of TrackArray."""
    visible = result.tracked.visible
    rows = np.concatenate([view.track.embedding for view in visible]) if visible else np.zeros(0, np.float32)
    return EmbeddingArray(
        header=result.image.header,
        session_id=session_message(result.tracked.session_id),
        model_id=model_id,
        track_ids=[view.track.id for view in visible],
        dim=embedding_dim,
        data=array.array("f", rows.astype(np.float32).tobytes()),
    )


def timing_message(header: Header, times: FrameTimes, counts: MailboxCounts) -> FrameTiming:
    """Where the time of a frame went, and the camera's counts with this frame in them."""
    return FrameTiming(
        header=header,
        **times._asdict(),
        frames_received=counts.received,
        frames_processed=counts.processed,
        frames_dropped=counts.dropped,
    )


def labels_message(labels: Sequence[str]) -> LabelInfo:
    """Class index and name of every label."""
    return LabelInfo(class_map=[VisionClass(class_id=index, class_name=name) for index, name in enumerate(labels)])


def image_message(header: Header, picture: npt.NDArray[np.uint8]) -> Image:
    """A BGR picture uint8 [H, W, 3] as an image message."""
    height, width = picture.shape[:2]
    data = array.array("B")
    data.frombytes(np.ascontiguousarray(picture).data)
    return Image(header=header, height=height, width=width, encoding="bgr8", step=3 * width, data=data)


def type_name(kind: Any) -> str:
    """Name of a message class as the graph shows it, e.g. ``sensor_msgs/msg/Image``."""
    package, _, _ = kind.__module__.partition(".")
    return f"{package}/msg/{kind.__name__}"


def session_message(session_id: bytes) -> UUID:
    """A session's id, 16 bytes."""
    return UUID(uuid=np.frombuffer(session_id, np.uint8))


def time_message(stamp_ns: int | None) -> Time:
    """Nanoseconds as a time; zero when unknown."""
    seconds, nanoseconds = divmod(stamp_ns or 0, _NANOSECONDS)
    return Time(sec=seconds, nanosec=nanoseconds)


def stamp_nanoseconds(header: Header) -> int:
    """A header's stamp as integer nanoseconds; a negative stamp reads as zero, which stands for no stamp."""
    return max(0, int(header.stamp.sec) * _NANOSECONDS + int(header.stamp.nanosec))
