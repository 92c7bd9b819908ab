"""Tracking without ROS: the node's rules, and the network ahead of the association in as many streams as it has."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from qdtrack_ros.cli.offline import OfflineTracker, seen_ahead
from qdtrack_ros.data.types import DataError, Frame
from qdtrack_ros.inference.types import Detections, EngineOutput
from qdtrack_ros.tracking import AssociationConfig


class SteadyEngine:
    """Finds one object, always at the same place; NaN where it is told so."""

    name, model_id, embedding_dim = "steady", "0", 2
    at_once: int | None = 1
    streams = 1

    def __init__(self) -> None:
        self.broken = False

    def detect(self, images: object) -> EngineOutput:
        embedding = np.array([[np.nan if self.broken else 9.0, 0.0]], np.float32)
        box, score = np.array([[1, 1, 9, 9]], np.float32), np.array([0.9], np.float32)
        return EngineOutput([Detections(box, score, np.zeros(1, np.int64), embedding)], 0.0, 0.0, 0.0)

    def warmup(self, pictures: int = 1, threads: int = 1) -> None: ...

    def close(self) -> None: ...


def frame(index: int, stamp_s: float) -> Frame:
    return Frame(index, round(stamp_s * 1e9), 16, 16, (), lambda: np.zeros((16, 16, 3), np.uint8))


def test_offline_stamps_follow_the_rules_of_the_node() -> None:
    tracker = OfflineTracker(SteadyEngine(), AssociationConfig())
    first = tracker.step(frame(0, 10.0))
    assert first is not None and first.tracks.ids.tolist() == [0]
    assert tracker.step(frame(1, 9.5)) is None  # late
    assert tracker.dropped == {"out of order": 1}
    after = tracker.step(frame(2, 10.1))
    assert after is not None and after.tracks.ids.tolist() == [0] and after.skipped == 1
    jumped = tracker.step(frame(3, 2.0))  # a new session; its ids must not meet the old ones in a file
    assert jumped is not None and jumped.tracks.ids.tolist() == [1]
    assert jumped.session.session_id != after.session.session_id
    assert tracker.identities == 2 and tracker.processed == 3


def test_offline_treats_nan_as_an_empty_frame() -> None:
    engine = SteadyEngine()
    tracker = OfflineTracker(engine, AssociationConfig())
    tracker.step(frame(0, 0.0))
    engine.broken = True
    empty = tracker.step(frame(1, 0.1))
    assert empty is not None and len(empty.tracks.ids) == 0
    engine.broken = False
    back = tracker.step(frame(2, 0.2))
    assert back is not None and back.tracks.ids.tolist() == [0]


def test_offline_drops_what_cannot_be_decoded() -> None:
    def fail() -> np.ndarray:
        raise DataError("cut off")

    tracker = OfflineTracker(SteadyEngine(), AssociationConfig())
    assert tracker.step(Frame(0, 0, None, None, (), fail)) is None
    assert tracker.dropped == {"undecodable": 1}


class PairedEngine(SteadyEngine):
    """Has two streams, each of which waits for the other one."""

    streams = 2

    def __init__(self) -> None:
        super().__init__()
        self.pair = threading.Barrier(2, timeout=60)
        self.calls = 0

    def detect(self, images: Sequence[np.ndarray]) -> EngineOutput:
        self.pair.wait()
        self.calls += 1
        return super().detect(images)


def detection_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("qdtrack_detection")]


def test_the_streams_run_side_by_side_and_the_frames_stay_in_order() -> None:
    tracker = OfflineTracker(PairedEngine(), AssociationConfig())
    tracked = list(tracker.track(frame(index, 0.1 * index) for index in range(8)))
    assert [one.index for one, _ in tracked] == list(range(8))
    assert all(picture is not None and picture.tracks.ids.tolist() == [0] for _, picture in tracked)
    assert tracker.processed == 8 and not detection_threads()


def test_a_frame_has_its_share_of_the_time_in_the_network() -> None:
    class Slow(PairedEngine):
        def detect(self, images: Sequence[np.ndarray]) -> EngineOutput:
            return super().detect(images)._replace(preprocess_ms=1.0, inference_ms=30.0, postprocess_ms=10.0)

    (_, first), (_, second) = OfflineTracker(Slow(), AssociationConfig()).track([frame(0, 0.0), frame(1, 0.1)])
    assert first is not None and second is not None
    assert [one.times[:2] for one in (first, second)] == [(1.0, 20.0)] * 2


def test_a_fault_of_the_source_comes_after_the_frames_before_it() -> None:
    def cut_off() -> Iterator[Frame]:
        for index in range(4):
            yield frame(index, 0.1 * index)
        raise DataError("the file ends here")

    seen = []
    with pytest.raises(DataError, match="the file ends here"):
        for one in seen_ahead(PairedEngine(), cut_off()):
            seen.append(one.frame.index)
    assert seen == [0, 1, 2, 3] and not detection_threads()


def test_a_fault_of_the_engine_comes_at_its_frame() -> None:
    class Failing(SteadyEngine):
        def detect(self, images: Sequence[np.ndarray]) -> EngineOutput:
            if images[0].max():
                raise RuntimeError("no such shape")
            return super().detect(images)

    bad = Frame(2, 0, 16, 16, (), lambda: np.ones((16, 16, 3), np.uint8))
    seen = []
    with pytest.raises(RuntimeError, match="no such shape"):
        for one in seen_ahead(Failing(), [frame(0, 0.0), frame(1, 0.1), bad, frame(3, 0.3)]):
            seen.append(one.frame.index)
    assert seen == [0, 1] and not detection_threads()


def test_who_stops_reading_ends_the_threads_and_no_more_is_detected_than_is_ahead() -> None:
    loaded = []

    def load(index: int) -> np.ndarray:
        loaded.append(index)
        return np.zeros((16, 16, 3), np.uint8)

    frames = (Frame(index, 0, 16, 16, (), lambda index=index: load(index)) for index in range(100))
    stream = seen_ahead(SteadyEngine(), frames)
    assert next(stream).frame.index == 0
    stream.close()
    assert not detection_threads() and len(loaded) <= 2
