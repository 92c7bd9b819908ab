"""Plays a bag onto the ROS graph in real time, for where `ros2 bag` is not at hand."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import rclpy
from rclpy.node import Node
from rclpy.publisher import Publisher
from rosgraph_msgs.msg import Clock

from qdtrack_ros.data.rosbag import BagMessage, BagReader
from qdtrack_ros.node import messages, qos
from qdtrack_ros.node.message_types import message_class

_POLL_S = 0.02
_LINGER_S = 0.5  # the last message needs its readers to take it before its publisher goes


class PlayReport(NamedTuple):
    """What was played.

    Attributes:
        published: messages by topic, as it was published.
        seconds: from the first message to the last.
        late: messages that went out more than 10 ms after their time: the machine is too slow for this rate.
    """

    published: Mapping[str, int]
    seconds: float
    late: int


def play(
    path: str | Path,
    *,
    rate: float = 1.0,
    loops: int = 1,
    topics: Collection[str] | None = None,
    remap: Mapping[str, str] | None = None,
    publish_clock: bool = False,
    wait_for_subscribers_s: float = 0.0,
    stop: threading.Event | None = None,
) -> PlayReport:
    """Publish the messages of a bag as they were recorded, byte for byte.

    Args:
        path: a rosbag2 folder or file.
        rate: speed; 2 plays twice as fast.
        loops: how often, one after the other, with the same stamps; 0 plays until stopped.
        topics: names in the bag to play; None plays all.
        remap: name in the bag to name on the graph.
        publish_clock: publish the time of recording on /clock, for nodes with use_sim_time.
        wait_for_subscribers_s: how long to wait at most until each topic has a subscriber.
        stop: set it to end early.

    Raises:
        ValueError: a wrong rate, number of loops or topic; the message says what is in the bag.
        TimeoutError: a topic has no subscriber in time.
        LookupError: the bag holds a message type that is not installed here.
        DataError: the bag cannot be read.
    """
    if not rate > 0 or loops < 0:
        raise ValueError(f"rate must be above 0 and loops at least 0, got {rate} and {loops}")
    stop = stop if stop is not None else threading.Event()
    context = rclpy.Context()
    rclpy.init(args=[], context=context)
    node = Node("qdtrack_player", context=context, use_global_arguments=False, enable_rosout=False)
    try:
        with BagReader(path) as reader:
            publishers = _publishers(node, reader, topics, remap or {})
            clock = node.create_publisher(Clock, "/clock", qos.results()) if publish_clock else None
            _wait_for_subscribers(list(publishers.values()), wait_for_subscribers_s, stop)
            report = _play_all(reader, publishers, clock, rate, loops, stop)
        stop.wait(_LINGER_S)
        return report
    finally:
        node.destroy_node()
        rclpy.shutdown(context=context)


def _publishers(
    node: Node, reader: BagReader, topics: Collection[str] | None, remap: Mapping[str, str]
) -> dict[str, Publisher]:
    found = reader.topics
    unknown = sorted((set(topics or ()) | set(remap)) - set(found))
    if unknown:
        raise ValueError(f"the bag has no topic {', '.join(unknown)}; it has {', '.join(found) or 'none'}")
    publishers = {}
    for name, topic in found.items():
        if topics is None or name in topics:
            profile = qos.latched() if topic.latched else qos.results()
            publishers[name] = node.create_publisher(message_class(topic.type_name), remap.get(name, name), profile)
    return publishers


def _wait_for_subscribers(publishers: Sequence[Publisher], timeout_s: float, stop: threading.Event) -> None:
    deadline = time.monotonic() + timeout_s
    while timeout_s > 0 and not stop.is_set():
        lonely = [publisher.topic_name for publisher in publishers if publisher.get_subscription_count() == 0]
        if not lonely:
            return
        if time.monotonic() > deadline:
            raise TimeoutError(
                f"nobody subscribed to {', '.join(lonely)} within {timeout_s:g} s; start the subscriber, or check "
                "ROS_DOMAIN_ID and the topic's name"
            )
        stop.wait(_POLL_S)


def _play_all(
    reader: BagReader,
    publishers: Mapping[str, Publisher],
    clock: Publisher | None,
    rate: float,
    loops: int,
    stop: threading.Event,
) -> PlayReport:
    published: Counter[str] = Counter()
    late = 0
    began_s = time.monotonic()
    due_s = began_s
    while not stop.is_set():
        for message, offset_s in _with_offsets(reader, list(publishers)):
            due = due_s + offset_s / rate
            if stop.wait(max(0.0, due - time.monotonic())):
                break
            late += time.monotonic() - due > 0.01
            if clock is not None:
                clock.publish(Clock(clock=messages.time_message(message.stamp_ns)))
            publisher = publishers[message.topic]
            publisher.publish(message.data)
            published[publisher.topic_name] += 1
        loops -= 1
        if loops == 0 or not published:
            break
        due_s = time.monotonic()
    return PlayReport(dict(published), time.monotonic() - began_s, late)


def _with_offsets(reader: BagReader, topics: Collection[str]) -> Iterator[tuple[BagMessage, float]]:
    """The messages with their seconds since the first one."""
    first_ns: int | None = None
    for message in reader.messages(topics):
        first_ns = message.stamp_ns if first_ns is None else first_ns
        yield message, (message.stamp_ns - first_ns) / 1e9
