"""Bags as other tools write them, from the published layouts of MCAP (https://mcap.dev/spec) and rosbag2."""

from __future__ import annotations

import sqlite3
import struct
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import lz4.frame
import yaml
from rosbags.rosbag2.reader import zstd

from qdtrack_ros.data.rosbag import BagMessage

MAGIC = b"\x89MCAP0\r\n"
COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {"": bytes, "lz4": lz4.frame.compress, "zstd": zstd.compress}
QOS = """
- history: 1
  depth: 10
  reliability: 1
  durability: 2
  deadline: {sec: 0, nsec: 0}
  lifespan: {sec: 0, nsec: 0}
  liveliness: 1
  liveliness_lease_duration: {sec: 0, nsec: 0}
  avoid_ros_namespace_conventions: false
"""


def _text(text: str) -> bytes:
    return _sized(text.encode())


def _sized(content: bytes) -> bytes:
    return struct.pack("<I", len(content)) + content


def _record(opcode: int, content: bytes) -> bytes:
    return struct.pack("<BQ", opcode, len(content)) + content


def write_mcap(
    path: Path,
    messages: Sequence[BagMessage],
    compression: str | None = "",
    indexed: bool = True,
    profile: str = "ros2",
    foreign_channel: bool = False,
    left_out: Collection[str] = (),
    qos: str = QOS,
    encoding: str = "cdr",
) -> None:
    """One MCAP file; schemas and channels stand before the first message, and again in the summary.

    Args:
        path: of the file.
        messages: as they follow one another.
        compression: of its chunks, of four messages each; None writes no chunks, as rosbag2's profile ``fastwrite``.
        indexed: with a summary: statistics, and an index of the chunks.
        profile: in the header.
        foreign_channel: a topic of JSON beside those of ROS.
        left_out: what the summary lacks: "schemas", "channels", "statistics"; and "message indexes" of the chunks.
        qos: profiles of every channel.
        encoding: of the messages, as the channels name it.
    """
    topics = {message.topic: message.type_name for message in messages}
    schemas, topic_records, channels = b"", b"", {}
    for number, (topic, kind) in enumerate(topics.items(), start=1):
        channels[topic] = number
        schemas += _record(3, struct.pack("<H", number) + _text(kind) + _text("ros2msg") + _text(""))
        pairs = _text("note") + _text("") + _text("offered_qos_profiles") + _text(qos)
        topic_records += _record(4, struct.pack("<HH", number, number) + _text(topic) + _text(encoding) + _sized(pairs))
    if foreign_channel:
        schemas += _record(3, struct.pack("<H", 99) + _text("foxglove.Log") + _text("jsonschema") + _text("{}"))
        topic_records += _record(4, struct.pack("<HH", 99, 99) + _text("/log") + _text("json") + _sized(b""))
    definitions = schemas + topic_records
    out = bytearray(MAGIC + _record(1, _text(profile) + _text("another tool")))
    groups = [messages] if compression is None else [messages[i : i + 4] for i in range(0, len(messages), 4)]
    index = b""
    for group in groups:
        content, places = definitions if group is groups[0] else b"", []
        for message in group:
            places.append((channels[message.topic], message.stamp_ns, len(content)))
            head = struct.pack("<HIQQ", channels[message.topic], 0, message.stamp_ns, message.stamp_ns)
            content += _record(5, head + message.data)
        if compression is None:
            out += content
            continue
        stamps = [message.stamp_ns for message in group]
        packed = COMPRESSORS[compression](content)
        head = struct.pack("<QQQI", min(stamps), max(stamps), len(content), 0) + _text(compression)
        start = len(out)
        out += _record(6, head + struct.pack("<Q", len(packed)) + packed)
        length, offsets, index_start = len(out) - start, b"", len(out)
        for channel in () if "message indexes" in left_out else channels.values():
            own = b"".join(struct.pack("<QQ", stamp, place) for number, stamp, place in places if number == channel)
            offsets += struct.pack("<HQ", channel, len(out))
            out += _record(7, struct.pack("<H", channel) + _sized(own))
        entry = struct.pack("<QQQQ", min(stamps), max(stamps), start, length) + _sized(offsets)
        entry += struct.pack("<Q", len(out) - index_start) + _text(compression)
        index += _record(8, entry + struct.pack("<QQ", len(packed), len(content)))
    out += _record(15, bytes(4))
    summary = len(out) if indexed else 0
    if indexed:
        stamps = [message.stamp_ns for message in messages]
        counts = b"".join(
            struct.pack("<HQ", number, sum(one.topic == topic for one in messages))
            for topic, number in channels.items()
        )
        chunks = 0 if compression is None else len(groups)
        numbers = struct.pack(
            "<QHIIIIQQ", len(messages), len(topics), len(topics), 0, 0, chunks, min(stamps), max(stamps)
        )
        out += b"" if "schemas" in left_out else schemas
        out += b"" if "channels" in left_out else topic_records
        out += b"" if "statistics" in left_out else _record(11, numbers + _sized(counts))
        out += index
    out += _record(2, struct.pack("<QQI", summary, 0, 0)) + MAGIC
    path.write_bytes(out)


def write_sqlite(
    path: Path, messages: Sequence[BagMessage], with_qos: bool = True, packed: bool = False, qos: str = QOS
) -> None:
    """One SQLite file in the schema of Foxy to Humble; without QoS profiles that of Dashing and Eloquent."""
    topics = {message.topic: message.type_name for message in messages}
    database = sqlite3.connect(path)
    column = ", offered_qos_profiles TEXT NOT NULL" if with_qos else ""
    database.execute(
        f"CREATE TABLE topics(id INTEGER PRIMARY KEY, name TEXT, type TEXT, serialization_format TEXT{column})"
    )
    database.execute("CREATE TABLE messages(id INTEGER PRIMARY KEY, topic_id INTEGER, timestamp INTEGER, data BLOB)")
    numbers = {topic: number for number, topic in enumerate(topics, start=1)}
    for topic, number in numbers.items():
        row = (number, topic, topics[topic], "cdr", *([qos] if with_qos else []))
        database.execute(f"INSERT INTO topics VALUES ({','.join('?' * len(row))})", row)
    for message in messages:
        data = zstd.compress(message.data) if packed else message.data
        row = (numbers[message.topic], message.stamp_ns, data)
        database.execute("INSERT INTO messages(topic_id, timestamp, data) VALUES (?, ?, ?)", row)
    database.commit()
    database.close()


def write_metadata(
    folder: Path, messages: Sequence[BagMessage], files: Sequence[str], version: int, storage: str, **more: Any
) -> None:
    """``metadata.yaml`` of a version of the format."""
    topics = {message.topic: message.type_name for message in messages}
    qos: Any = yaml.safe_load(QOS) if version >= 9 else QOS
    content: dict[str, Any] = {
        "version": version,
        "storage_identifier": storage,
        "relative_file_paths": [name if version >= 4 else f"{folder.name}/{name}" for name in files],
        "duration": {"nanoseconds": messages[-1].stamp_ns - messages[0].stamp_ns},
        "starting_time": {"nanoseconds_since_epoch": messages[0].stamp_ns},
        "message_count": len(messages),
        "topics_with_message_count": [
            {
                "topic_metadata": {
                    "name": topic,
                    "type": kind,
                    "serialization_format": "cdr",
                    **({"offered_qos_profiles": qos} if version >= 4 else {}),
                },
                "message_count": sum(message.topic == topic for message in messages),
            }
            for topic, kind in topics.items()
        ],
        **more,
    }
    if version >= 3:
        content = {"compression_format": "", "compression_mode": ""} | content
    (folder / "metadata.yaml").write_text(yaml.safe_dump({"rosbag2_bagfile_information": content}), encoding="utf-8")
