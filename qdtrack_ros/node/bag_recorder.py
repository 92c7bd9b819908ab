"""Records topics into a bag, for where `ros2 bag` is not at hand."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy

from qdtrack_ros.data.rosbag import BagWriter
from qdtrack_ros.node.message_types import message_class

_POLL_S = 0.02


class RecordedTopic(NamedTuple):
    """A topic to record.

    Attributes:
        name: full name.
        type_name: e.g. ``sensor_msgs/msg/Image``.
        reliable: False takes best-effort publishers too, and may lose messages.
        latched: True takes the message that was published before the recorder came.
    """

    name: str
    type_name: str
    reliable: bool = True
    latched: bool = False


class BagRecorder:
    """Records from construction until `close`, in a thread of its own. A context manager.

    Args:
        path: of the new bag; it appears when the recorder is closed, whole.
        topics: what to record.
        storage: sqlite3 or mcap.

    Raises:
        LookupError: a message type is not installed here.
        DataError: the path is taken.
    """

    def __init__(self, path: str | Path, topics: Sequence[RecordedTopic], storage: str = "sqlite3") -> None:
        self._topics = list(topics)
        self._kinds = [message_class(topic.type_name) for topic in topics]
        self._counts: Counter[str] = Counter()
        self._error: Exception | None = None
        self._closed = self._discard = False
        self._context = rclpy.Context()
        rclpy.init(args=[], context=self._context)
        self._node = Node("qdtrack_recorder", context=self._context, use_global_arguments=False, enable_rosout=False)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self._ready, self._stop = threading.Event(), threading.Event()
        # One thread opens, writes and closes the bag: SQLite allows no other way.
        self._thread = threading.Thread(target=self._run, args=(path, storage), name="qdtrack_recorder", daemon=True)
        self._thread.start()
        self._ready.wait()
        if self._error is not None:
            self.close()

    def __enter__(self) -> BagRecorder:
        """It records from its construction on."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close, or discard the bag after an exception."""
        self._discard = kind is not None
        try:
            self.close()
        except Exception:
            if kind is None:  # else the exception that is under way says more
                raise

    @property
    def counts(self) -> Mapping[str, int]:
        """Messages recorded so far, by topic."""
        return dict(self._counts)

    def wait_for_publishers(self, timeout_s: float) -> bool:
        """Wait until every topic has a publisher; False when that took too long."""
        deadline = time.monotonic() + timeout_s
        while any(self._node.count_publishers(item.topic_name) == 0 for item in self._node.subscriptions):
            if time.monotonic() > deadline:
                return False
            time.sleep(_POLL_S)
        return True

    def wait_until_quiet(self, quiet_s: float, timeout_s: float) -> bool:
        """Wait until nothing has come for `quiet_s`; False when that took too long."""
        deadline = time.monotonic() + timeout_s
        before, since = self._counts.total(), time.monotonic()
        while time.monotonic() < deadline:
            time.sleep(_POLL_S)
            now = self._counts.total()
            if now != before:
                before, since = now, time.monotonic()
            elif time.monotonic() - since >= quiet_s:
                return True
        return False

    def close(self) -> None:
        """Stop recording and put the bag in its place.

        Raises:
            Exception: what kept a message from being written, e.g. a full disk; no bag is left then.
        """
        if not self._closed:
            self._closed = True
            self._stop.set()
            self._executor.wake()
            self._thread.join()
            self._executor.remove_node(self._node)
            self._node.destroy_node()
            rclpy.shutdown(context=self._context)
        if self._error is not None:
            raise self._error

    def _run(self, path: str | Path, storage: str) -> None:
        try:
            writer = BagWriter(path, storage)
            try:
                self._record(writer)
            except Exception:
                writer.discard()
                raise
            if self._discard:
                writer.discard()
            else:
                writer.close()
        except Exception as error:  # handed on by close
            self._error = error
        finally:
            self._ready.set()

    def _record(self, writer: BagWriter) -> None:
        for topic, kind in zip(self._topics, self._kinds, strict=True):
            writer.add_topic(topic.name, topic.type_name, topic.latched)
            write = partial(self._write, writer, topic)
            self._node.create_subscription(kind, topic.name, write, _profile(topic), raw=True)
        self._ready.set()
        while not self._stop.is_set():
            self._executor.spin_once(timeout_sec=0.1)

    def _write(self, writer: BagWriter, topic: RecordedTopic, payload: bytes) -> None:
        writer.add(topic.name, topic.type_name, payload, time.time_ns())
        self._counts[topic.name] += 1


def _profile(topic: RecordedTopic) -> QoSProfile:
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=200,
        reliability=ReliabilityPolicy.RELIABLE if topic.reliable else ReliabilityPolicy.BEST_EFFORT,
        durability=DurabilityPolicy.TRANSIENT_LOCAL if topic.latched else DurabilityPolicy.VOLATILE,
    )
