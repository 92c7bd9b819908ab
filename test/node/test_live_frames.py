"""One running node: what comes back for good images, bad images, odd stamps and changed parameters."""

from __future__ import annotations

import itertools
import time

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: no ROS graph to test on")

import cv2
import numpy as np
from qdtrack_ros.msg import EmbeddingArray, Track
from ros_client import BLUE, GREEN, HEIGHT, RED, RELIABLE, WIDTH, YELLOW, S, image, picture
from scripted_node import POISON
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header
from vision_msgs.msg import LabelInfo
from visualization_msgs.msg import Marker, MarkerArray

from qdtrack_ros.node.messages import time_message

ONE = {RED: (10, 20, 30, 50)}
TWO = {**ONE, BLUE: (50, 5, 70, 45)}


@pytest.fixture(scope="module")
def node(start_node):
    process = start_node(
        *("-p", "cameras:=[camera, side/left]", "-p", "side/left.transport:=compressed"),
        *("-p", "publish_embeddings:=true", "-p", "max_image_pixels:=100000"),
    )
    process.wait_for("active:")
    return process


@pytest.fixture(scope="module")
def connected(node, connect):
    client = connect("camera")
    client.connect(image(1 * S))
    return client


@pytest.fixture
def client(connected):
    """Each test begins with a new session and may use any stamps."""
    assert connected.trigger("reset").success
    return connected


def ids(tracks):
    return [track.track_id for track in tracks.tracks if track.status != Track.REMOVED]


def test_header_verbatim_and_one_message_per_topic_for_every_frame(client):
    for index, objects in enumerate([{}, ONE, TWO, {}, ONE]):
        sent = image(1_700_000_000 * S + index * 33_333_333 + 7, picture(objects))
        for message in client.process(sent):
            assert message.header == sent.header
    tracks = client.of("tracks")[-5:]
    assert [message.frame_index for message in tracks] == list(range(5))
    assert len({bytes(message.session_id.uuid) for message in tracks}) == 1
    assert [(message.image_width, message.image_height) for message in tracks] == [(WIDTH, HEIGHT)] * 5
    assert [message.skipped_frames for message in tracks] == [0] * 5


def test_detections_and_tracks_tell_the_same_story(client):
    client.process(image(10 * S, picture(TWO)))
    moved = {RED: (14, 20, 34, 50), BLUE: TWO[BLUE]}
    detections, tracks, _ = client.process(image(11 * S, picture(moved)))
    found = {detection.id: detection for detection in detections.detections}
    assert set(found) == {"0", "1"}
    red, blue = found["0"], found["1"]
    assert (red.bbox.center.position.x, red.bbox.center.position.y) == (24.0, 35.0)
    assert (red.bbox.size_x, red.bbox.size_y, red.bbox.center.theta) == (20.0, 30.0, 0.0)
    assert (red.results[0].hypothesis.class_id, blue.results[0].hypothesis.class_id) == ("box", "circle")
    assert red.results[0].hypothesis.score == pytest.approx(0.99)
    assert red.header == detections.header
    by_id = {track.track_id: track for track in tracks.tracks}
    assert by_id[0].detection == red and by_id[1].detection == blue
    track = by_id[0]
    assert (track.class_index, track.status, track.hits, track.missed) == (0, Track.CONFIRMED, 2, 0)
    assert (track.first_seen.sec, track.last_seen.sec) == (10, 11)
    assert track.match_score > 0.5
    np.testing.assert_allclose(track.velocity, [4.0, 0.0, 0.0, 0.0], atol=1e-4)


def test_a_track_is_new_then_lost_then_removed_once(client):
    _, first, _ = client.process(image(10 * S, picture(ONE)))
    assert first.tracks[0].status == Track.TENTATIVE and np.isnan(first.tracks[0].match_score)
    assert np.isnan(first.tracks[0].velocity).all()
    statuses = []
    for index in range(1, 13):
        detections, tracks, _ = client.process(image(10 * S + index * S // 10))
        assert not detections.detections
        statuses.append([(track.status, track.missed, track.last_seen.sec) for track in tracks.tracks])
    assert statuses[:9] == [[(Track.LOST, missed, 10)] for missed in range(1, 10)]
    assert statuses[9:] == [[(Track.REMOVED, 10, 10)], [], []]


def test_every_frame_of_a_burst_is_accounted_for(client):
    start = client.process(image(19 * S)).timing
    lost = int(client.diagnosis("camera camera", lambda status, values: True)["frames_lost"])
    already = len(client.of("timing"))
    for index in range(30):
        client.send(image(20 * S + index, picture(ONE)))
    client.settle()
    client.process(image(21 * S))
    timings = client.of("timing")[already:]
    for timing in timings:
        assert timing.frames_received == timing.frames_processed + timing.frames_dropped
    assert timings[-1].frames_processed - start.frames_processed == len(timings)
    assert len(client.of("tracks")) == len(client.of("timing")) == len(client.of("detections"))
    skipped = sum(tracks.skipped_frames for tracks in client.of("tracks")[already:])
    assert skipped == timings[-1].frames_dropped - start.frames_dropped
    now = client.diagnosis(
        "camera camera", lambda status, values: int(values["frames_processed"]) == timings[-1].frames_processed
    )
    arrived = timings[-1].frames_received - start.frames_received
    assert arrived + int(now["frames_lost"]) - lost == 31, "what the transport lost is known, too"
    stamps = [(t.header.stamp.sec, t.header.stamp.nanosec) for t in timings]
    assert stamps == sorted(set(stamps)), "frames keep their order and come once"


BAD = {
    "truncated": {"data": bytes(100)},
    "zero_size": {"width": 0, "height": 0, "data": b""},
    "bad_step": {"step": WIDTH},
    "unknown_encoding": {"encoding": "no such encoding"},
    "oversized": {"width": 1000, "height": 1000, "step": 3000},
    "undecodable": {"encoding": "yuv422", "width": 5, "step": 10},
    "bad_header": {"frame_id": "f" * 1025},
}


def test_bad_images_are_counted_by_kind_and_leave_the_tracks_alone(client, node):
    before = client.process(image(30 * S, picture(ONE)))

    def send_all_and_look():
        for spoiled in BAD.values():
            client.send(image(31 * S, **spoiled))
            time.sleep(0.05)  # a quicker pace would overwrite some in the mailbox
        values = client.diagnosis("camera camera", lambda status, values: True)
        return values if all(int(values.get(f"dropped.{kind}", 0)) >= 2 for kind in BAD) else None

    values = client.until(send_all_and_look, "every kind of bad image in the diagnostics")
    reasons = {name: int(value) for name, value in values.items() if name.startswith("dropped.")}
    assert sum(reasons.values()) == int(values["frames_dropped"])
    assert all(int(values[f"faults.{kind}"]) == reasons[f"dropped.{kind}"] for kind in BAD)
    after = client.process(image(32 * S, picture(ONE)))
    assert after.tracks.skipped_frames == after.timing.frames_dropped - before.timing.frames_dropped >= 2 * len(BAD)
    assert ids(after.tracks) == ids(before.tracks) and after.tracks.session_id == before.tracks.session_id
    assert node.is_alive
    assert node.log.count("no such encoding") == 1, "told once, not with every frame"


def test_padded_rows_are_read_rightly(client):
    pixels = picture(ONE)
    rows = np.concatenate([pixels.reshape(HEIGHT, -1), np.full((HEIGHT, 17), 255, np.uint8)], axis=1)
    detections, _, _ = client.process(image(1 * S, step=3 * WIDTH + 17, data=rows.tobytes()))
    box = detections.detections[0].bbox
    assert (box.center.position.x, box.size_x) == (20.0, 20.0)


def test_a_network_gone_mad_is_an_empty_frame_and_an_error(client):
    client.process(image(1 * S, picture(ONE)))
    detections, tracks, _ = client.process(image(2 * S, picture(ONE, corner=POISON)))
    assert not detections.detections
    assert [track.status for track in tracks.tracks] == [Track.LOST]
    client.diagnosis("camera camera", lambda status, values: values.get("faults.not_finite") == "1")
    assert ids(client.process(image(3 * S, picture(ONE))).tracks) == [0]


def test_stamps_back_a_little_are_dropped_and_far_back_begin_a_session(client):
    first = client.process(image(50 * S, picture(ONE)))
    client.send_to_be_dropped(image(50 * S - S // 2, picture(TWO)))
    second = client.process(image(51 * S, picture(ONE)))
    assert second.timing.frames_dropped == first.timing.frames_dropped + 1
    assert second.tracks.session_id == first.tracks.session_id and second.tracks.skipped_frames == 1
    third = client.process(image(40 * S, picture(ONE)))
    assert third.tracks.session_id != first.tracks.session_id
    assert third.tracks.frame_index == 0 and ids(third.tracks) == [0]
    assert third.tracks.tracks[0].hits == 1


def test_zero_and_repeated_stamps_work(client, node):
    results = [client.process(image(stamp, picture(ONE))) for stamp in (0, 0, 0)]
    assert [ids(result.tracks) for result in results] == [[0]] * 3
    assert results[-1].tracks.tracks[0].hits == 3
    assert np.isnan(results[-1].timing.transport)
    assert node.log.count("carry no stamp") == 1


def test_reset_begins_a_new_session(client):
    before = client.process(image(60 * S, picture(TWO)))
    answer = client.trigger("reset")
    assert answer.success and "camera" in answer.message
    after = client.process(image(1 * S, picture({GREEN: (5, 5, 20, 20)})))
    assert after.tracks.session_id != before.tracks.session_id
    assert ids(after.tracks) == [0] and after.tracks.frame_index == 0


def test_saving_without_a_file_is_refused_with_the_parameter(client):
    for service in ("save_state", "load_state"):
        answer = client.trigger(service)
        assert not answer.success and "state.path" in answer.message


def test_parameters_are_refused_with_the_reason(client):
    for name, value, reason in [
        ("tracker.match_score", 1.5, "range"),
        ("tracker.match_score", 1, "expected"),
        ("classes", ["cow"], "box, circle"),
        ("weights", "other.safetensors", "unconfigured"),
        ("cameras", ["a"], "unconfigured"),
        ("side/left.transport", "raw", "unconfigured"),
        ("tracker.metric", "cosine", "unconfigured"),
        ("autostart", False, "read-only"),
    ]:
        successful, found = client.set(name, value)
        assert not successful, name
        assert reason in found, (name, found)
    assert client.get("tracker.match_score") == 0.5, "filled from the preset, unchanged"


def test_thresholds_and_classes_change_while_it_runs(client):
    client.process(image(1 * S, picture(ONE)))
    assert client.set("tracker.init_score", 0.99) == (True, "")
    _, tracks, _ = client.process(image(2 * S, picture(TWO)))
    assert ids(tracks) == [0], "the track goes on, and no new one starts"
    assert client.set("tracker.init_score", 0.7)[0]
    assert client.set("classes", ["circle"])[0]
    detections, _, _ = client.process(image(3 * S, picture({**TWO, YELLOW: (72, 50, 79, 58)})))
    assert {d.results[0].hypothesis.class_id for d in detections.detections} == {"circle"}
    assert client.set("classes", [""])[0]
    detections, _, _ = client.process(image(4 * S, picture(TWO)))
    assert len(detections.detections) == 2


def test_pictures_markers_and_embeddings_for_those_who_look(client):
    subscriptions = [
        client.subscribe(Image, "camera/image_annotated"),
        client.subscribe(MarkerArray, "camera/markers"),
        client.subscribe(EmbeddingArray, "camera/embeddings"),
        client.subscribe(LabelInfo, "/qdtrack/labels", latched=True),
    ]
    stamp = iter(range(70 * S, 90 * S, S // 10))
    received = client.received

    def all_there():
        client.process(image(next(stamp), picture(TWO)))
        return all(received[f"camera/{topic}"] for topic in ("image_annotated", "markers", "embeddings"))

    client.until(all_there, "annotated image, markers and embeddings")
    client.until(lambda: received["/qdtrack/labels"], "latched labels")
    sent = image(95 * S, picture(TWO))
    client.process(sent)
    client.until(lambda: received["camera/image_annotated"][-1].header == sent.header, "the annotated image")
    client.until(lambda: received["camera/markers"][-1].markers[0].header == sent.header, "its markers")
    client.until(lambda: received["camera/embeddings"][-1].header == sent.header, "its embeddings")
    drawn = received["camera/image_annotated"][-1]
    assert drawn.header == sent.header and (drawn.width, drawn.height, drawn.encoding) == (WIDTH, HEIGHT, "bgr8")
    assert bytes(drawn.data) != bytes(sent.data)
    markers = received["camera/markers"][-1].markers
    assert markers[0].action == Marker.DELETEALL
    assert {marker.ns for marker in markers[1:]} == {"image", "boxes", "trails", "labels"}
    assert all(marker.header == sent.header for marker in markers)
    embeddings = received["camera/embeddings"][-1]
    assert embeddings.header == sent.header and embeddings.model_id == "0123456789abcdef"
    assert list(embeddings.track_ids) == [0, 1] and embeddings.dim == 8 and len(embeddings.data) == 16
    assert embeddings.data[0] == pytest.approx(20.0)
    labels = received["/qdtrack/labels"]
    assert [(item.class_id, item.class_name) for item in labels[0].class_map] == [(0, "box"), (1, "circle")]
    for subscription in subscriptions:
        client.node.destroy_subscription(subscription)


def test_markers_follow_the_calibration(client):
    seen = client.subscribe(MarkerArray, "camera/markers")
    infos = client.node.create_publisher(CameraInfo, "camera/camera_info", RELIABLE)
    markers, stamps = client.received["camera/markers"], itertools.count(100 * S, S // 10)

    def width_of_the_plane():
        client.process(image(next(stamps)))
        border = (
            next((marker.points for marker in markers[-1].markers if marker.ns == "image"), None) if markers else None
        )
        return border and border[1].x - border[0].x

    client.until(lambda: width_of_the_plane() == pytest.approx(5.0), "the stand-in: as wide as it is far away")
    calibrated = CameraInfo(width=WIDTH, height=HEIGHT, k=[2.0 * WIDTH, 0, 40, 0, 2.0 * WIDTH, 30, 0, 0, 1])

    def narrower():
        infos.publish(calibrated)
        return width_of_the_plane() == pytest.approx(2.5)

    client.until(narrower, "markers by the camera's calibration")
    client.node.destroy_publisher(infos)
    client.node.destroy_subscription(seen)


def test_a_second_camera_with_jpegs_has_its_own_ids_and_session(client, connect):
    other = connect("side/left", compressed=True)

    def packed(stamp_ns, pixels):
        data = cv2.imencode(".png", pixels)[1].tobytes()
        return CompressedImage(header=Header(stamp=time_message(stamp_ns), frame_id="left"), format="png", data=data)

    other.connect(packed(1 * S, picture({})))
    result = other.process(packed(2 * S, picture(TWO)))
    mine = client.process(image(2 * S, picture({YELLOW: (5, 5, 30, 30)})))
    assert ids(result.tracks) == [0, 1] and ids(mine.tracks) == [0]
    assert result.tracks.session_id != mine.tracks.session_id
    dropped = result.timing.frames_dropped
    spoiled = packed(3 * S, picture(TWO))
    spoiled.data = spoiled.data[:60]
    other.send_to_be_dropped(spoiled)
    result = other.process(packed(4 * S, picture(TWO)))
    assert result.timing.frames_dropped == dropped + 1 and ids(result.tracks) == [0, 1]


def test_it_ends_in_order(node):
    assert node.end() == 0
    assert "shutting down" in node.log
    assert "Traceback" not in node.log
