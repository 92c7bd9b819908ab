"""What the messages, markers and diagnostics say, and that nothing is drawn for nobody."""

from __future__ import annotations

import threading

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: no message types")

import cv2
import numpy as np
from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.serialization import serialize_message
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header
from visualization_msgs.msg import Marker

from qdtrack_ros.data.image_errors import ImageError, ImageFault
from qdtrack_ros.inference.types import Detections
from qdtrack_ros.node import camera_io, messages
from qdtrack_ros.node.camera import Camera, CameraFigures, DecodedImage, FrameResult
from qdtrack_ros.node.camera_io import CameraIo, CameraOptions, ModelFacts, decoder
from qdtrack_ros.node.clock_guard import ClockGuard
from qdtrack_ros.node.diagnostics import CameraHealth, EngineHealth, camera_status, diagnostics_message
from qdtrack_ros.node.frame_timing import LatencySummary
from qdtrack_ros.node.mailbox import MailboxCounts
from qdtrack_ros.node.session import TrackingSession
from qdtrack_ros.node.settings import DiagnosticLimits
from qdtrack_ros.node.visualization import PinholeModel, marker_message
from qdtrack_ros.tracking import AssociationConfig

LABELS = ("person", "car")


def frame(objects=2, stamps=2):
    """A frame 640 x 480 with some tracks, seen so many times."""
    session = TrackingSession(AssociationConfig())
    boxes = np.array([[100 * i, 50, 100 * i + 40, 150] for i in range(objects)], np.float32).reshape(-1, 4)
    scores = np.linspace(0.95, 0.9, objects).astype(np.float32)
    labels = np.arange(objects, dtype=np.int64) % 2
    found = Detections(boxes, scores, labels, 20 * np.eye(4, dtype=np.float32)[:objects])
    for index in range(stamps):
        tracked = session.step(found, index * 10**9, confirm_hits=2)
    header = Header(stamp=messages.time_message(123), frame_id="lens")
    return FrameResult(DecodedImage(header, 123, np.full((480, 640, 3), 9, np.uint8), "bgr8"), tracked, 3)


def test_times_round_trip():
    stamp = 1_700_000_000_123_456_789
    assert messages.stamp_nanoseconds(Header(stamp=messages.time_message(stamp))) == stamp
    negative = Header()
    negative.stamp.sec = -5
    assert messages.stamp_nanoseconds(negative) == 0


def test_an_empty_frame_is_a_whole_message():
    detections, tracks = messages.frame_messages(frame(objects=0), LABELS)
    assert list(detections.detections) == [] and list(tracks.tracks) == []
    assert (tracks.image_width, tracks.image_height, tracks.skipped_frames) == (640, 480, 3)
    embeddings = messages.embeddings_message(frame(objects=0), "id", 4)
    assert len(embeddings.data) == 0 and embeddings.dim == 4


def test_markers_lie_where_the_camera_sees_the_boxes():
    result = frame(objects=1)
    markers = marker_message(result, LABELS, PinholeModel(500.0, 400.0, 320.0, 240.0), 2.0).markers
    assert markers[0].action == Marker.DELETEALL
    boxes = next(marker for marker in markers if marker.ns == "boxes")
    assert len(boxes.points) == len(boxes.colors) == 8
    corner = boxes.points[0]
    assert (corner.x, corner.y, corner.z) == pytest.approx(((0 - 320) / 500 * 2, (50 - 240) / 400 * 2, 2.0))
    text = next(marker for marker in markers if marker.ns == "labels")
    assert text.text == "0 person 0.95" and text.header == result.image.header
    trail = next(marker for marker in markers if marker.ns == "trails")
    assert [p.y for p in trail.points] == pytest.approx([(150 - 240) / 400 * 2] * 2), "at the feet"
    assert trail.colors[0].r < trail.colors[1].r, "the old end is darker"
    border = next(marker for marker in markers if marker.ns == "image")
    assert (border.points[3].x, border.points[3].y) == pytest.approx(((640 - 320) / 250, (480 - 240) / 200))
    assert text.pose.position.y < corner.y, "above the box: y points down in an optical frame"
    assert [marker.ns for marker in marker_message(frame(objects=0), LABELS, None, 2.0).markers] == ["", "image"]


def test_a_calibration_of_another_size_is_scaled_to_the_image():
    full = PinholeModel.of_camera_matrix([1000.0, 0, 640, 0, 800, 480, 0, 0, 1], 1280, 960)
    half = PinholeModel(500.0, 400.0, 320.0, 240.0)
    result = frame(objects=1)
    assert marker_message(result, LABELS, full, 2.0) == marker_message(result, LABELS, half, 2.0)


def test_marker_text_grows_with_the_picture_as_drawn_labels_do():
    def letters(width, height):
        result = frame(objects=1)
        image = result.image._replace(pixels=np.zeros((height, width, 3), np.uint8))
        markers = marker_message(result._replace(image=image), LABELS, None, 1.0).markers
        plane = next(marker for marker in markers if marker.ns == "image").points
        text = next(marker for marker in markers if marker.ns == "labels")
        return text.scale.z / (plane[3].y - plane[0].y)

    assert letters(640, 480) == pytest.approx(16 / 480) == letters(1280, 960) == letters(1707, 960)


@pytest.mark.parametrize("k", [[0.0] * 9, [500.0, 0, 320, 0, np.nan, 240, 0, 0, 1], [1.0] * 8])
def test_an_uncalibrated_camera_has_no_pinhole_model(k):
    assert PinholeModel.of_camera_matrix(k) is None


class FakePublisher:
    def __init__(self, kind, topic):
        self.kind, self.topic, self.sent, self.subscribers = kind, topic, [], 0

    def publish(self, message):
        assert isinstance(message, self.kind)
        self.sent.append(message)

    def get_subscription_count(self):
        return self.subscribers


class FakeNode:
    def __init__(self):
        self.publishers = {}

    def create_lifecycle_publisher(self, kind, topic, profile, **options):
        self.publishers[topic] = FakePublisher(kind, topic)
        return self.publishers[topic]

    def resolve_topic_name(self, topic):
        return f"/{topic}"


@pytest.fixture
def drawn(monkeypatch):
    """What was made for viewers: the names of the functions that drew."""
    calls = []
    for name in ("draw_tracks", "marker_message"):
        draw = getattr(camera_io, name)
        spy = lambda *arguments, name=name, draw=draw: calls.append(name) or draw(*arguments)  # noqa: E731
        monkeypatch.setattr(camera_io, name, spy)
    return calls


def test_nothing_is_drawn_for_nobody(drawn):
    node = FakeNode()
    session = TrackingSession(AssociationConfig())
    camera = Camera("front", lambda payload, limit: None, session, ClockGuard(), threading.Condition())
    options = CameraOptions("raw", "best_effort", 1, False)
    topics = CameraIo(node, camera, options, ModelFacts(LABELS, "id", 4), pytest.fail, pytest.fail)
    topics.publish(frame(), 5.0)
    assert not drawn
    assert {topic: len(publisher.sent) for topic, publisher in node.publishers.items()} == {
        "front/detections": 1,
        "front/tracks": 1,
        "front/timing": 0,
        "front/image_annotated": 0,
        "front/markers": 0,
    }
    node.publishers["front/image_annotated"].subscribers = 1
    topics.publish(frame(), 5.0)
    assert drawn == ["draw_tracks"] and len(node.publishers["front/image_annotated"].sent) == 1
    picture = node.publishers["front/image_annotated"].sent[0]
    assert (picture.height, picture.width, picture.step, len(picture.data)) == (480, 640, 1920, 480 * 1920)
    node.publishers["front/image_annotated"].subscribers, node.publishers["front/markers"].subscribers = 0, 1
    topics.publish(frame(), 5.0)
    assert drawn == ["draw_tracks", "marker_message"] and len(node.publishers["front/markers"].sent) == 1


@pytest.mark.parametrize("transport", ["raw", "compressed"])
def test_a_frame_id_that_would_swell_every_track_is_refused(transport):
    def message(length):
        header = Header(frame_id="f" * length)
        if transport == "raw":
            return Image(header=header, height=1, width=1, step=3, encoding="bgr8", data=[1, 2, 3])
        jpeg = cv2.imencode(".jpg", np.zeros((4, 4, 3), np.uint8))[1]
        return CompressedImage(header=header, format="jpeg", data=jpeg.tobytes())

    decode = decoder(transport)
    assert len(decode(serialize_message(message(1024)), 100).header.frame_id) == 1024
    with pytest.raises(ImageError, match="frame_id has 1025 characters, more than 1024") as refused:
        decode(serialize_message(message(1025)), 100)
    assert refused.value.kind is ImageFault.BAD_HEADER


def health(received=100, dropped=0, before=(0, 0), faults=None, faults_before=None, p99=20.0, rate=30.0, **more):
    def figures(received, dropped, faults, lost=0):
        counts = MailboxCounts(received, received - dropped, dropped, {"overwritten": dropped} if dropped else {})
        return CameraFigures(counts, lost, faults or {}, 0.1, "cut off", 4, "640 x 480 bgr8")

    lost = more.pop("lost", 0)
    now, past = figures(received, dropped, faults, lost), figures(*before, faults_before)
    details = {"stale": "", **more}
    return CameraHealth("front", "/front/image_raw", now, past, LatencySummary(rate, 10.0, p99), **details)


@pytest.mark.parametrize(
    ("camera", "level", "text"),
    [
        (health(), DiagnosticStatus.OK, "tracking"),
        (health(dropped=60), DiagnosticStatus.WARN, "60 of 100 frames dropped"),
        (health(dropped=60, before=(50, 60)), DiagnosticStatus.OK, "tracking"),
        (health(p99=600.0), DiagnosticStatus.WARN, "latency p99 600 ms"),
        (health(p99=float("nan"), rate=0.0, received=0), DiagnosticStatus.OK, "tracking"),
        (health(faults={"truncated": 2}), DiagnosticStatus.WARN, "2 x truncated"),
        (health(faults={"truncated": 2}, faults_before={"truncated": 2}), DiagnosticStatus.OK, "tracking"),
        (health(faults={"not_finite": 1}), DiagnosticStatus.ERROR, "not_finite"),
        (health(stale="no frame on /front/image_raw", dropped=99), DiagnosticStatus.ERROR, "no frame"),
        (health(lost=3), DiagnosticStatus.WARN, "3 frames never arrived"),
        (health(mismatches=["incompatible QoS: x"], lost=3), DiagnosticStatus.ERROR, "incompatible QoS: x"),
    ],
)
def test_the_verdict_on_a_camera(camera, level, text):
    status = camera_status("qdtrack", camera, DiagnosticLimits())
    assert status.level == level and text in status.message


def test_a_low_rate_warns_when_a_limit_is_set():
    limits = DiagnosticLimits(min_rate_hz=20.0)
    assert camera_status("qdtrack", health(rate=19.0), limits).level == DiagnosticStatus.WARN
    assert camera_status("qdtrack", health(rate=21.0), limits).level == DiagnosticStatus.OK


def test_a_camera_of_an_inactive_node_is_neither_tracking_nor_slow():
    status = camera_status("qdtrack", health(rate=0.0, active=False), DiagnosticLimits(min_rate_hz=20.0))
    assert status.level == DiagnosticStatus.OK and status.message == "not tracking: inactive"


@pytest.mark.parametrize(
    ("state", "error", "level"),
    [
        ("active", "", DiagnosticStatus.OK),
        ("unconfigured", "", DiagnosticStatus.WARN),
        ("unconfigured", "device lost", DiagnosticStatus.ERROR),
    ],
)
def test_the_report_names_engine_and_cameras(state, error, level):
    engine = EngineHealth("torch cpu fp32", "abc", state, error)
    report = diagnostics_message(Header(), "qdtrack", engine, [health()], DiagnosticLimits())
    assert [status.name for status in report.status] == ["qdtrack: engine", "qdtrack: camera front"]
    assert report.status[0].level == level
    values = {pair.key: pair.value for pair in report.status[0].values}
    assert values["engine"] == "torch cpu fp32" and float(values["resident_memory_mib"]) > 1
    camera = {pair.key: pair.value for pair in report.status[1].values}
    assert camera["image"] == "640 x 480 bgr8" and camera["topic"] == "/front/image_raw"
    assert camera["frames_received"] == "100" and camera["frames_lost"] == "0"


def test_a_state_that_cannot_be_saved_is_a_warning_while_tracking_goes_on():
    engine = EngineHealth("noop", "abc", "active", "", "the state cannot be written: no space left")
    (status,) = diagnostics_message(Header(), "qdtrack", engine, [], DiagnosticLimits()).status
    assert status.level == DiagnosticStatus.WARN
    assert status.message == "active: noop; the state cannot be written: no space left"
    assert {pair.key: pair.value for pair in status.values}["last_error"] == engine.state_fault


def test_a_format_that_would_steer_the_terminal_is_told_harmlessly():
    camera = Camera("front", lambda payload, limit: None, TrackingSession(AssociationConfig()), ClockGuard(), None)
    text = "jpeg\n\x1b[2J\x1b[31mERROR \u202e" + "x" * 1000
    news = camera.note_image(DecodedImage(Header(), 0, np.zeros((4, 6, 3), np.uint8), text))
    assert news.startswith("first image, 6 x 4 jpeg ?[2J") and news.isprintable() and len(news) < 80
