"""Plays cameras at a fixed rate and collects what a node says about their frames: the other end of a measurement."""

from __future__ import annotations

import array
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from qdtrack_ros.msg import FrameTiming
from qdtrack_ros.node import messages, qos

_READY_S = 300.0  # a model may have to be built
_LINGER_S = 1.0
_PARTS = ("queue_wait", "preprocess", "inference", "postprocess", "association", "publish")


class CameraLoad(NamedTuple):
    """What became of one camera's frames.

    Attributes:
        sent: frames published since the node answered, the warm-up included.
        received: of them, those that the node counted.
        dropped: of those, the ones that gave no result.
        latency_ms: float64 [F], from arrival to published, of the measured frames that gave a result.
        parts_ms: median of the parts of it, by name.
        batch: mean number of images in a batch.
    """

    sent: int
    received: int
    dropped: int
    latency_ms: npt.NDArray[np.float64]
    parts_ms: Mapping[str, float]
    batch: float


class LoadGenerator:
    """A context manager: on the graph from entry to exit.

    Args:
        topics: prefix of the topics of each camera, with its namespace.
        picture: uint8 [H, W, 3] BGR, sent again and again.
        check: called while waiting; raises when the node is gone.
    """

    def __init__(self, topics: Sequence[str], picture: npt.NDArray[np.uint8], check: Callable[[], None]) -> None:
        self._topics = list(topics)
        self._check = check
        height, width = picture.shape[:2]
        data = array.array("B", picture.tobytes())
        self._message = Image(height=height, width=width, encoding="bgr8", step=3 * width, data=data)
        self._timings: dict[str, list[FrameTiming]] = {topic: [] for topic in topics}
        self._sent = dict.fromkeys(topics, 0)
        self._before = dict.fromkeys(topics, (0, 0))  # received and dropped when counting began

    def __enter__(self) -> LoadGenerator:
        self._context = rclpy.Context()
        rclpy.init(args=[], context=self._context)
        self._node = Node("load_generator", context=self._context, use_global_arguments=False, enable_rosout=False)
        self._publishers = {
            topic: self._node.create_publisher(Image, f"{topic}/image_raw", qos.image_input()) for topic in self._topics
        }
        for topic, timings in self._timings.items():
            self._node.create_subscription(FrameTiming, f"{topic}/timing", partial(_append, timings), qos.results())
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self._thread = threading.Thread(target=self._executor.spin, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._executor.shutdown()
        self._thread.join()
        self._node.destroy_node()
        rclpy.shutdown(context=self._context)

    def wait_until_answered(self) -> None:
        """Send until every camera's frames come back; all is counted from then on.

        Raises:
            TimeoutError: they do not.
        """
        deadline = time.monotonic() + _READY_S
        while not all(self._timings.values()):
            self._check()
            if time.monotonic() > deadline:
                raise TimeoutError(f"the node gave no result within {_READY_S:g} s")
            for topic in self._topics:
                self._send(topic)
            time.sleep(0.1)
        time.sleep(_LINGER_S)
        for topic, timings in self._timings.items():
            self._sent[topic] = 0
            self._before[topic] = timings[-1].frames_received, timings[-1].frames_dropped

    def send(self, frames: int, rate_hz: float) -> None:
        """Send so many frames of each camera; those of one moment follow each other at once."""
        began = time.monotonic()
        for index in range(frames):
            time.sleep(max(0.0, began + index / rate_hz - time.monotonic()))
            for topic in self._topics:
                self._send(topic)
            self._check()

    def collect(self, frames: int) -> dict[str, CameraLoad]:
        """What became of all frames sent so far; latencies of those among the last so many."""
        time.sleep(_LINGER_S)
        return {topic: self._load(topic, frames) for topic in self._topics}

    def _load(self, topic: str, frames: int) -> CameraLoad:
        timings = list(self._timings[topic])
        last = timings[-1]
        first = last.frames_received - frames
        measured = [timing for timing in timings if timing.frames_received > first]
        latency = np.array([timing.total for timing in measured], np.float64)
        parts = {part: float(np.median([getattr(timing, part) for timing in measured])) for part in _PARTS}
        batch = float(np.mean([timing.batch_size for timing in measured]))
        received, dropped = self._before[topic]
        return CameraLoad(
            self._sent[topic], last.frames_received - received, last.frames_dropped - dropped, latency, parts, batch
        )

    def _send(self, topic: str) -> None:
        stamp = messages.time_message(self._node.get_clock().now().nanoseconds)
        self._message.header = Header(stamp=stamp, frame_id=topic)
        self._publishers[topic].publish(self._message)
        self._sent[topic] += 1


def _append(timings: list[FrameTiming], message: FrameTiming) -> None:
    timings.append(message)
