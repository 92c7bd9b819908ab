"""What the worker makes of frames, faults and failures, without a ROS graph."""

from __future__ import annotations

import threading
import time
import weakref
from types import SimpleNamespace

import numpy as np
import pytest

from qdtrack_ros.data.image_errors import ImageError, ImageFault
from qdtrack_ros.inference.types import Detections, EngineOutput
from qdtrack_ros.node import worker as worker_module
from qdtrack_ros.node.camera import Camera, DecodedImage, ReceivedFrame
from qdtrack_ros.node.clock_guard import ClockGuard
from qdtrack_ros.node.session import TrackingSession
from qdtrack_ros.node.settings import RuntimeSettings, class_indices
from qdtrack_ros.node.worker import FrameWorker, Severity
from qdtrack_ros.tracking import AssociationConfig

S = 1_000_000_000
IMAGE = np.zeros((8, 8, 3), np.uint8)


class Engine:
    name, model_id, embedding_dim, at_once, streams = "test", "id", 4, None, 1

    def __init__(self):
        self.answers = []
        self.batches = []
        self.tensors = []

    def detect(self, images):
        self.batches.append(len(images))
        answer = self.answers.pop(0) if self.answers else found(0)
        if isinstance(answer, Exception):
            tensor = np.zeros(4)  # stands for what a failed call still holds
            self.tensors.append(weakref.ref(tensor))
            raise type(answer)(*answer.args)
        return EngineOutput([answer] * len(images), 1.0, 2.0, 3.0)


def found(*labels, value=20.0):
    count = len(labels)
    boxes = np.array([[10 * i, 0, 10 * i + 5, 8] for i in range(count)], np.float32).reshape(-1, 4)
    embeddings = np.eye(4, dtype=np.float32)[:count]
    embeddings[embeddings > 0] = value
    return Detections(boxes, np.full(count, 0.9, np.float32), np.array(labels, np.int64), embeddings)


class Outputs:
    def __init__(self):
        self.results, self.times, self.reports, self.failures = [], [], [], []
        self.publish_error = None

    def publish(self, camera, result):
        if self.publish_error:
            raise self.publish_error
        self.results.append((camera.name, result))

    def publish_times(self, camera, result, times, counts):
        self.times.append((times, counts))

    def report(self, severity, kind, text):
        self.reports.append((severity, kind, text))

    def failed(self, reason):
        self.failures.append(reason)


def decode(payload, max_pixels):
    """Payloads are stamps in nanoseconds, or the fault to raise."""
    if isinstance(payload, Exception):
        raise payload
    return DecodedImage(SimpleNamespace(stamp=payload), payload, IMAGE, "bgr8")


@pytest.fixture
def rig():
    condition = threading.Condition()
    cameras = [
        Camera(name, decode, TrackingSession(AssociationConfig()), ClockGuard(), condition) for name in ("a", "b")
    ]
    engine, outputs = Engine(), Outputs()
    settings = [RuntimeSettings()]
    worker = FrameWorker(cameras, engine, outputs, lambda: settings[0], threading.Lock())

    def send(*payloads):
        """One batch: a payload per camera."""
        taken = []
        for camera, payload in zip(cameras, payloads, strict=False):
            camera.receive(ReceivedFrame(payload, 0.0, 5 * S))
            taken.append((camera, camera.mailbox.take()))
        worker.process(taken)

    return SimpleNamespace(
        camera=cameras[0], cameras=cameras, engine=engine, outputs=outputs, worker=worker, send=send, settings=settings
    )


def wait_until(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def counts_of(camera):
    counts = camera.mailbox.counts()
    assert counts.received == counts.processed + counts.dropped
    return counts.processed, counts.dropped


def test_one_result_per_frame_empty_ones_included(rig):
    rig.engine.answers = [found(), found(0, 1), found()]
    for i in range(3):
        rig.send(i * S + 1)
    assert [len(result.tracked.visible) for _, result in rig.outputs.results] == [0, 2, 0]
    assert [result.tracked.frame_index for _, result in rig.outputs.results] == [0, 1, 2]
    assert [result.image.header.stamp for _, result in rig.outputs.results] == [1, S + 1, 2 * S + 1]
    assert [(c.received, c.processed) for _, c in rig.outputs.times] == [(1, 1), (2, 2), (3, 3)]


def test_times_add_up(rig):
    rig.send(4 * S)
    times, _ = rig.outputs.times[0]
    assert times.transport == pytest.approx(1000.0)
    assert (times.inference, times.postprocess, times.batch_size) == (2.0, 3.0, 1)
    assert times.preprocess >= 1.0 and times.total >= times.publish >= 0
    rig.send(0)
    assert np.isnan(rig.outputs.times[1][0].transport)
    rig.camera.receive(ReceivedFrame(6 * S, 0.0, 0))  # use_sim_time, and no /clock yet
    rig.worker.process([(rig.camera, rig.camera.mailbox.take())])
    assert np.isnan(rig.outputs.times[2][0].transport)


@pytest.mark.parametrize("fault", list(ImageFault))
def test_bad_images_are_dropped_by_kind_and_leave_tracks_alone(rig, fault):
    rig.send(1 * S)
    rig.send(ImageError(fault, "no good"))
    rig.send(2 * S)
    assert counts_of(rig.camera) == (2, 1)
    assert rig.camera.mailbox.counts().reasons == {fault.value: 1}
    figures = rig.camera.figures()
    assert figures.faults == {fault.value: 1} and "no good" in figures.last_error
    assert [result.skipped for _, result in rig.outputs.results] == [0, 1]
    assert [view.track.id for view in rig.outputs.results[1][1].tracked.visible] == [0]


def test_a_decoder_may_raise_anything(rig):
    rig.send(MemoryError("no room"))
    assert counts_of(rig.camera) == (0, 1)


def test_cameras_share_a_batch_and_keep_their_own_tracks(rig):
    rig.send(1 * S, 7 * S)
    rig.send(2 * S)
    assert rig.engine.batches == [2, 1]
    assert [name for name, _ in rig.outputs.results] == ["a", "b", "a"]
    sessions = {name: result.tracked.session_id for name, result in rig.outputs.results}
    assert sessions["a"] != sessions["b"]
    assert rig.outputs.times[0][0].batch_size == 2


def test_a_bad_image_of_one_camera_does_not_hurt_the_other(rig):
    rig.send(ImageError(ImageFault.TRUNCATED, "cut"), 1 * S)
    assert counts_of(rig.cameras[0]) == (0, 1) and counts_of(rig.cameras[1]) == (1, 0)


def test_the_network_does_not_run_for_a_late_frame(rig):
    rig.send(10 * S, 10 * S)
    rig.send(10 * S - 1, 11 * S)
    rig.send(10 * S - 2)
    assert rig.engine.batches == [2, 1]
    assert [counts_of(camera) for camera in rig.cameras] == [(1, 2), (2, 0)]
    assert not rig.outputs.failures


def test_a_late_frame_is_dropped_and_a_jump_begins_a_session(rig):
    for stamp in (10 * S, 10 * S - 1, 11 * S, 2 * S):
        rig.send(stamp)
    assert counts_of(rig.camera) == (3, 1)
    frames = [result.tracked for _, result in rig.outputs.results]
    assert frames[0].session_id == frames[1].session_id != frames[2].session_id
    assert frames[2].frame_index == 0
    assert any("jumped back" in text for _, _, text in rig.outputs.reports)
    faults = rig.camera.figures().faults
    assert faults == {"out_of_order": 1, "time_jump": 1}, "a session that ended is counted, however busy the log is"
    assert rig.camera.mailbox.counts().reasons == {"out_of_order": 1}


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_network_gone_mad_gives_an_empty_frame_and_an_error(rig, value):
    rig.send(1 * S)
    rig.engine.answers = [found(0, value=value)]
    rig.send(2 * S)
    rig.send(3 * S)
    assert [len(result.tracked.visible) for _, result in rig.outputs.results] == [1, 0, 1]
    assert counts_of(rig.camera) == (3, 0)
    assert rig.camera.figures().faults == {"not_finite": 1}
    assert [kind for severity, kind, _ in rig.outputs.reports if severity is Severity.ERROR] == ["a:not_finite"]
    assert not rig.outputs.failures


def test_one_failure_of_the_engine_costs_a_frame_and_two_in_a_row_end_it(rig):
    rig.send(1 * S)
    rig.engine.answers = [RuntimeError("out of memory"), found(0), RuntimeError("lost"), RuntimeError("device lost")]
    for i in range(2, 4):
        rig.send(i * S)
    assert not rig.outputs.failures and counts_of(rig.camera) == (2, 1)
    assert [view.track.id for view in rig.outputs.results[-1][1].tracked.visible] == [0]
    rig.send(4 * S)
    rig.send(5 * S)
    assert len(rig.outputs.failures) == 1 and "device lost" in rig.outputs.failures[0]
    assert counts_of(rig.camera) == (2, 3)


def test_what_a_failed_call_held_is_gone_when_memory_is_freed(rig, monkeypatch):
    alive = []
    monkeypatch.setattr(
        worker_module, "free_device_cache", lambda: alive.append([one() is not None for one in rig.engine.tensors])
    )
    rig.engine.answers = [RuntimeError("out of memory"), found(0)]
    rig.send(1 * S)
    assert alive == [[False]]
    rig.send(2 * S)
    assert counts_of(rig.camera) == (1, 1) and not rig.outputs.failures


def test_a_picture_that_breaks_the_network_costs_its_own_camera_only(rig):
    broken = RuntimeError("no such shape")
    for stamp in range(1, 4):
        rig.engine.answers = [broken, broken, found(0)]  # together, then a alone, then b alone
        rig.send(stamp * S, stamp * S)
    assert counts_of(rig.cameras[0]) == (0, 3) and counts_of(rig.cameras[1]) == (3, 0)
    assert rig.engine.batches == [2, 1, 1] * 3
    assert rig.cameras[0].figures().faults == {"engine_failed": 3} and not rig.cameras[1].figures().faults
    assert not rig.outputs.failures
    assert any("2 cameras are tried one by one" in text for _, _, text in rig.outputs.reports)


def test_two_batches_of_which_nothing_comes_through_end_it(rig):
    rig.engine.answers = [RuntimeError("lost")] * 6
    rig.send(1 * S, 1 * S)
    assert not rig.outputs.failures
    rig.send(2 * S, 2 * S)
    assert len(rig.outputs.failures) == 1
    assert counts_of(rig.cameras[0]) == counts_of(rig.cameras[1]) == (0, 2)


def test_a_camera_whose_pictures_break_the_network_does_not_end_the_others(rig):
    """As on a CPU, where every picture goes by itself: of a quick camera several come between two of a slow one."""
    broken = RuntimeError("no such shape")
    for stamp in range(1, 4):
        rig.engine.answers = [found(0), broken, broken, broken]
        rig.worker.process([(rig.cameras[1], waiting(rig.cameras[1], stamp * S))])
        for part in range(3):
            rig.send(stamp * S + part)
    assert not rig.outputs.failures
    assert counts_of(rig.cameras[0]) == (0, 9) and counts_of(rig.cameras[1]) == (3, 0)
    rig.engine.answers = [broken]
    rig.worker.process([(rig.cameras[1], waiting(rig.cameras[1], 9 * S))])
    assert len(rig.outputs.failures) == 1, "nothing comes through any more"


def test_a_camera_that_is_silent_now_does_not_speak_for_the_engine(rig):
    rig.settings[0] = RuntimeSettings(stale_after_s=0.05)
    rig.worker.process([(rig.cameras[1], waiting(rig.cameras[1], 1 * S))])
    time.sleep(0.1)
    rig.engine.answers = [RuntimeError("lost")] * 2
    rig.send(1 * S)
    rig.send(2 * S)
    assert len(rig.outputs.failures) == 1


def waiting(camera, stamp):
    camera.receive(ReceivedFrame(stamp, 0.0, 5 * S))
    return camera.mailbox.take()


def test_a_worker_that_dies_says_so(rig):
    ended = threading.Event()
    rig.outputs.failed = lambda reason: (rig.outputs.failures.append(reason), ended.set())
    rig.worker._settings = None
    rig.worker.start()
    assert ended.wait(60)
    rig.worker.stop()
    assert len(rig.outputs.failures) == 1 and "the worker failed: TypeError" in rig.outputs.failures[0]


def test_a_death_in_the_second_half_ends_both(rig):
    ended = threading.Event()
    rig.outputs.failed = lambda reason: (rig.outputs.failures.append(reason), ended.set())
    rig.worker._finish_all = None
    rig.worker.start()
    rig.camera.receive(ReceivedFrame(1 * S, 0.0, 0))
    assert ended.wait(60)
    rig.worker.stop()
    assert len(rig.outputs.failures) == 1 and "the worker failed: TypeError" in rig.outputs.failures[0]


@pytest.mark.parametrize(
    "nonsense",
    [
        Detections(
            np.zeros((2, 4), np.float32), np.zeros(1, np.float32), np.zeros(2, np.int64), np.zeros((2, 4), np.float32)
        ),
        Detections(None, None, None, None),
    ],
)
def test_malformed_output_is_a_failure_of_the_engine(rig, nonsense):
    rig.send(1 * S)
    rig.engine.answers = [nonsense, nonsense]
    rig.send(2 * S)
    rig.send(3 * S)
    assert len(rig.outputs.failures) == 1
    assert counts_of(rig.camera) == (1, 2)


def test_a_failure_to_publish_is_told_and_survived(rig):
    rig.outputs.publish_error = RuntimeError("no context")
    rig.send(1 * S)
    rig.outputs.publish_error = None
    rig.send(2 * S)
    assert counts_of(rig.camera) == (2, 0)
    assert rig.camera.figures().faults == {"publish_failed": 1}
    assert len(rig.outputs.results) == 1


def test_the_class_filter_takes_only_the_wanted_labels(rig):
    rig.settings[0] = RuntimeSettings(class_indices=class_indices(["dog"], ("cat", "dog")))
    rig.engine.answers = [found(0, 1, 1)]
    rig.send(1 * S)
    assert [view.track.label for view in rig.outputs.results[0][1].tracked.visible] == [1, 1]
    assert class_indices([""], ("cat",)) is None
    with pytest.raises(ValueError, match="'cow'; expected some of cat, dog"):
        class_indices(["cow"], ("cat", "dog"))


def test_images_of_another_size_are_told_and_tracked(rig, monkeypatch):
    rig.send(1 * S)
    larger = DecodedImage(SimpleNamespace(stamp=0), 2 * S, np.zeros((9, 16, 3), np.uint8), "bgr8")
    rig.camera.decode = lambda payload, max_pixels: larger
    rig.send(2 * S)
    assert counts_of(rig.camera) == (2, 0)
    assert [kind for _, kind, _ in rig.outputs.reports] == ["a:first image", "a:size"]
    assert any("from 8 x 8 bgr8 to 16 x 9 bgr8" in text for _, _, text in rig.outputs.reports)
    assert rig.outputs.results[0][1].tracked.session_id == rig.outputs.results[1][1].tracked.session_id


def test_another_encoding_is_told_in_a_few_words(rig):
    rig.send(1 * S)
    other = DecodedImage(SimpleNamespace(stamp=0), 2 * S, IMAGE, "jpeg\nFATAL " + "x" * 10_000)
    rig.camera.decode = lambda payload, max_pixels: other
    rig.send(2 * S)
    rig.send(3 * S)
    (text,) = (text for _, _, text in rig.outputs.reports if "changed" in text)
    assert "from 8 x 8 bgr8 to 8 x 8 jpeg FATAL x" in text and len(text) < 200 and "\n" not in text
    assert rig.camera.figures().image.startswith("8 x 8 jpeg")
    assert counts_of(rig.camera) == (3, 0)


def test_the_thread_serves_and_stops(rig):
    done = threading.Event()
    publish_times = rig.outputs.publish_times
    rig.outputs.publish_times = lambda *arguments: (publish_times(*arguments), done.set())
    rig.worker.start()
    rig.camera.receive(ReceivedFrame(1 * S, 0.0, 0))
    assert done.wait(30)
    rig.worker.stop()
    rig.camera.receive(ReceivedFrame(2 * S, 0.0, 0))
    rig.worker.stop()
    assert counts_of(rig.camera) == (1, 1)
    assert not {"qdtrack_detection", "qdtrack_tracking"} & {thread.name for thread in threading.enumerate()}


def test_a_batch_is_published_while_the_next_one_is_in_the_network(rig):
    second_in_network = threading.Event()
    overlapped, all_done = [], threading.Event()
    detect, publish = rig.engine.detect, rig.outputs.publish

    def detect_and_tell(images):
        if rig.engine.batches:
            second_in_network.set()
        return detect(images)

    def publish_slowly(camera, result):
        if not overlapped:
            rig.camera.receive(ReceivedFrame(2 * S, 0.0, 0))
            overlapped.append(second_in_network.wait(60))
        publish(camera, result)
        if len(rig.outputs.results) == 2:
            all_done.set()

    rig.engine.detect, rig.outputs.publish = detect_and_tell, publish_slowly
    rig.worker.start()
    rig.camera.receive(ReceivedFrame(1 * S, 0.0, 0))
    assert all_done.wait(60)
    rig.worker.stop()
    assert overlapped == [True]
    assert [result.image.stamp_ns for _, result in rig.outputs.results] == [1 * S, 2 * S]
    assert counts_of(rig.camera) == (2, 0)


def test_streams_work_side_by_side_and_the_frames_of_a_camera_stay_in_order(rig):
    """Each stream waits for the other one: cameras must be in the network together, and one of them never twice."""
    together = threading.Barrier(2)
    cameras_inside, twice, done = [], [], threading.Event()
    rig.engine.at_once, rig.engine.streams = 1, 2
    worker = FrameWorker(rig.cameras, rig.engine, rig.outputs, lambda: rig.settings[0], threading.Lock())

    def decode_and_enter(name):
        def inner(payload, max_pixels):
            twice.extend([name] if name in cameras_inside else [])
            cameras_inside.append(name)
            return decode(payload, max_pixels)

        return inner

    for camera in rig.cameras:
        camera.decode = decode_and_enter(camera.name)

    def detect(images):
        together.wait(60)
        cameras_inside.clear()
        together.wait(60)
        return EngineOutput([found(0)], 1.0, 2.0, 3.0)

    def publish(camera, result):
        rig.outputs.results.append((camera.name, result))
        stamp = result.image.stamp_ns + S
        if stamp <= 20 * S:
            camera.receive(ReceivedFrame(stamp, 0.0, 0))
        elif len(rig.outputs.results) == 40:
            done.set()

    rig.engine.detect, rig.outputs.publish = detect, publish
    worker.start()
    for camera in rig.cameras:
        camera.receive(ReceivedFrame(1 * S, 0.0, 0))
    assert done.wait(60)
    worker.stop()
    assert not twice
    for camera in rig.cameras:
        stamps = [result.image.stamp_ns for name, result in rig.outputs.results if name == camera.name]
        assert stamps == [i * S for i in range(1, 21)]
        assert counts_of(camera) == (20, 0)


def test_a_camera_that_fails_fast_does_not_outvote_one_that_is_in_the_network(rig):
    rig.engine.at_once, rig.engine.streams = 1, 2
    a, b = rig.cameras
    b_inside, b_may_end, gave_up = threading.Event(), threading.Event(), threading.Event()
    everything_fails = []
    a.decode = lambda payload, _: DecodedImage(None, payload, np.ones((8, 8, 3), np.uint8), "bgr8")

    def detect(images):
        if images[0].any() or everything_fails:
            raise RuntimeError("no such shape")
        b_inside.set()
        assert b_may_end.wait(60)
        return EngineOutput([found(0)], 1.0, 2.0, 3.0)

    rig.engine.detect = detect
    rig.outputs.failed = lambda reason: (rig.outputs.failures.append(reason), gave_up.set())
    worker = FrameWorker(rig.cameras, rig.engine, rig.outputs, lambda: rig.settings[0], threading.Lock())
    worker.start()
    b.receive(ReceivedFrame(1 * S, 0.0, 0))
    assert b_inside.wait(60)
    for count in range(1, 6):
        a.receive(ReceivedFrame(count * S, 0.0, 0))
        wait_until(lambda count=count: a.mailbox.counts().dropped >= count)
    assert not rig.outputs.failures
    b_may_end.set()
    wait_until(lambda: rig.outputs.results)
    assert not rig.outputs.failures and counts_of(b) == (1, 0) and counts_of(a) == (0, 5)
    everything_fails.append(True)
    for stamp in (10, 11):
        for camera in (a, b):
            camera.receive(ReceivedFrame(stamp * S, 0.0, 0))
    assert gave_up.wait(60)
    worker.stop()
    assert len(rig.outputs.failures) == 1 and "no such shape" in rig.outputs.failures[0]


def test_no_more_frames_are_taken_than_the_engine_gains_from(rig):
    rig.engine.at_once = 1
    for camera in reversed(rig.cameras):
        camera.receive(ReceivedFrame(1 * S, 0.0, 0))
    done = threading.Event()
    rig.outputs.publish_times = lambda *_: len(rig.outputs.results) == 2 and done.set()
    rig.worker.start()
    assert done.wait(60)
    rig.worker.stop()
    assert rig.engine.batches == [1, 1]
    assert [name for name, _ in rig.outputs.results] == ["b", "a"]
