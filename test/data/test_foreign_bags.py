"""Bags that other tools wrote: every container, compression and version of the metadata."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from qdtrack_ros.data.types import DataError, Frame, Sequence

pytest.importorskip("rosbags")

from foreign_bags import QOS, write_mcap, write_metadata, write_sqlite, zstd  # noqa: E402

from qdtrack_ros.data.bag_images import write_video_as_bag  # noqa: E402
from qdtrack_ros.data.rosbag import BagMessage, BagReader  # noqa: E402
from qdtrack_ros.data.sources import open_source  # noqa: E402

FRAMES = 12
ALL = list(range(FRAMES))


@pytest.fixture
def messages(tmp_path: Path) -> list[BagMessage]:
    """The messages of twelve pictures."""
    frames = [
        Frame(index, None, 8, 6, (), lambda index=index: np.full((6, 8, 3), index, np.uint8)) for index in range(FRAMES)
    ]
    write_video_as_bag(Sequence("video", frames, 10.0, True), tmp_path / "ours")
    with BagReader(tmp_path / "ours") as reader:
        return list(reader.messages())


def seen(path: Path) -> list[int]:
    """Pictures of a bag in order, each both while reading on and by its number."""
    sequence = open_source(path)
    found = [int(frame.load()[0, 0, 0]) for frame in sequence.frames]
    assert len(sequence.frames) == len(found) == len(set(found))
    backwards = [sequence.frames[index] for index in reversed(range(len(found)))]
    assert [int(frame.load()[0, 0, 0]) for frame in backwards] == found[::-1]
    return found


@pytest.mark.parametrize("compression", ["", "lz4", "zstd", None])
@pytest.mark.parametrize("indexed", [True, False])
@pytest.mark.parametrize("in_folder", [True, False])
def test_mcap(
    tmp_path: Path,
    messages: list[BagMessage],
    compression: str | None,
    indexed: bool,
    in_folder: bool,
    caplog: pytest.LogCaptureFixture,
) -> None:
    folder = tmp_path / "bag"
    folder.mkdir()
    write_mcap(folder / "bag_0.mcap", messages, compression, indexed)
    write_metadata(folder, messages, ["bag_0.mcap"], 8, "mcap")
    assert seen(folder if in_folder else folder / "bag_0.mcap") == ALL
    assert caplog.messages == []


@pytest.mark.parametrize("compression", ["zstd", None])
@pytest.mark.parametrize("count", range(1, 5))
def test_mcap_with_a_partial_summary(
    tmp_path: Path, messages: list[BagMessage], compression: str | None, count: int, caplog: pytest.LogCaptureFixture
) -> None:
    """All of a summary is optional; rosbag2 has an option for each part of it."""
    for left_out in combinations(("schemas", "channels", "statistics", "message indexes"), count):
        path = tmp_path / f"without {' '.join(left_out)}.mcap"
        write_mcap(path, messages, compression, left_out=left_out)
        assert seen(path) == ALL, left_out
    assert caplog.messages == []


def test_an_index_is_not_needed_to_mix_topics(
    tmp_path: Path, messages: list[BagMessage], caplog: pytest.LogCaptureFixture
) -> None:
    # Two recorders of one process: messages of another topic may come a moment late.
    late = [message._replace(topic="/late", stamp_ns=message.stamp_ns - 5) for message in messages]
    mixed = [one for pair in zip(messages, late, strict=True) for one in pair]
    write_mcap(tmp_path / "a.mcap", mixed, None, False)
    with BagReader(tmp_path / "a.mcap") as reader:
        found = list(reader.messages())
    assert found == [one for pair in zip(late, messages, strict=True) for one in pair]
    assert caplog.messages == []


@pytest.mark.parametrize("compression", ["zstd", None])
@pytest.mark.parametrize("indexed", [True, False])
@pytest.mark.parametrize("foreign", [True, False])  # then it is read from a copy, in which chunks are taken apart
def test_messages_come_by_time_whatever_their_order_in_the_file(
    tmp_path: Path,
    messages: list[BagMessage],
    compression: str | None,
    indexed: bool,
    foreign: bool,
    caplog: pytest.LogCaptureFixture,
) -> None:
    mixed = [messages[place] for place in (5, 0, 11, 3, 1, 2, 10, 4, 8, 9, 7, 6)]
    write_mcap(tmp_path / "a.mcap", mixed, compression, indexed, foreign_channel=foreign)
    assert seen(tmp_path / "a.mcap") == ALL
    with BagReader(tmp_path / "a.mcap") as reader:
        some = list(reader.messages(start_ns=messages[3].stamp_ns, stop_ns=messages[9].stamp_ns))
        both = zip(reader.messages(), reader.messages(), strict=True)
        assert some == messages[3:9] and all(one == other for one, other in both)
    assert caplog.messages == []


@pytest.mark.parametrize("version", range(1, 10))
def test_every_version_of_the_metadata(
    tmp_path: Path, messages: list[BagMessage], version: int, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "bag"
    folder.mkdir()
    write_sqlite(folder / "bag_0.db3", messages, with_qos=version >= 4)
    write_metadata(folder, messages, ["bag_0.db3"], version, "sqlite3")
    assert seen(folder) == ALL
    assert caplog.messages == []


@pytest.mark.parametrize("mode", ["file", "FILE", "message", "MESSAGE"])
def test_compressed_sqlite(
    tmp_path: Path, messages: list[BagMessage], mode: str, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "bag"
    folder.mkdir()
    by_file = mode.lower() == "file"
    write_sqlite(folder / "bag_0.db3", messages, packed=not by_file)
    name = "bag_0.db3"
    if by_file:
        name = "bag_0.db3.zstd"
        (folder / name).write_bytes(zstd.compress((folder / "bag_0.db3").read_bytes()))
        (folder / "bag_0.db3").unlink()
    more = {"compression_format": "zstd", "compression_mode": mode}
    write_metadata(folder, messages, [name], 5, "sqlite3", **more)
    assert seen(folder) == ALL
    assert caplog.messages == []


@pytest.mark.parametrize("storage", ["sqlite3", "mcap"])
@pytest.mark.parametrize("metadata", ["there", "missing"])
def test_split(tmp_path: Path, messages: list[BagMessage], storage: str, metadata: str) -> None:
    folder = tmp_path / "bag"
    folder.mkdir()
    suffix = "db3" if storage == "sqlite3" else "mcap"
    write: Any = write_sqlite if storage == "sqlite3" else write_mcap
    names = [f"bag_{number}.{suffix}" for number in range(FRAMES)]
    for name, message in zip(names, messages, strict=True):
        write(folder / name, [message])
    if metadata == "there":
        write_metadata(folder, messages, names, 6, storage)
    assert seen(folder) == ALL


@pytest.mark.parametrize("storage", ["sqlite3", "mcap"])
def test_metadata_that_was_made_anew(
    tmp_path: Path, messages: list[BagMessage], storage: str, caplog: pytest.LogCaptureFixture
) -> None:
    """`ros2 bag reindex` knows no QoS profiles; a filter that leaves messages out may leave the metadata alone."""
    folder = tmp_path / "bag"
    folder.mkdir()
    file = "bag_0.db3" if storage == "sqlite3" else "bag_0.mcap"
    (write_sqlite if storage == "sqlite3" else write_mcap)(folder / file, messages[:5])
    write_metadata(folder, messages, [file], 3, storage)
    assert seen(folder) == ALL[:5]
    assert caplog.messages == []


@pytest.mark.parametrize(("profile", "foreign"), [("", False), ("ros2", True), ("", True)])
@pytest.mark.parametrize("compression", ["zstd", None])
@pytest.mark.parametrize("indexed", [True, False])
@pytest.mark.parametrize("in_folder", [True, False])
def test_mcap_that_is_not_of_ros_alone(
    tmp_path: Path,
    messages: list[BagMessage],
    profile: str,
    foreign: bool,
    compression: str | None,
    indexed: bool,
    in_folder: bool,
    caplog: pytest.LogCaptureFixture,
) -> None:
    write_mcap(tmp_path / "a.mcap", messages, compression, indexed, profile, foreign)
    write_metadata(tmp_path, messages, ["a.mcap"], 8, "mcap")
    path = tmp_path if in_folder else tmp_path / "a.mcap"
    assert seen(path) == ALL
    assert caplog.messages == [] and not open_source(path).is_cut


@pytest.mark.parametrize("storage", ["mcap", "sqlite3", "mcap in a folder", "sqlite3 in a folder"])
def test_short_names_of_types(
    tmp_path: Path, messages: list[BagMessage], storage: str, caplog: pytest.LogCaptureFixture
) -> None:
    short = [message._replace(type_name="sensor_msgs/Image") for message in messages]
    kind, _, in_folder = storage.partition(" ")
    file = "a.mcap" if kind == "mcap" else "a.db3"
    (write_mcap if kind == "mcap" else write_sqlite)(tmp_path / file, short)
    if in_folder:
        write_metadata(tmp_path, short, [file], 8, kind)
    path = tmp_path if in_folder else tmp_path / file
    assert seen(path) == ALL and caplog.messages == []
    with BagReader(path) as reader:
        assert {message.type_name for message in reader.messages()} == {"sensor_msgs/msg/Image"}


def test_short_names_of_ros_1_are_another_format(tmp_path: Path, messages: list[BagMessage]) -> None:
    short = [message._replace(type_name="sensor_msgs/Image") for message in messages]
    write_mcap(tmp_path / "a.mcap", short, encoding="ros1")
    with pytest.raises(DataError, match=r"its topics: /camera/image_raw \(sensor_msgs/Image\)"):
        open_source(tmp_path / "a.mcap")


@pytest.mark.parametrize("lacking", ["depth", "deadline", "nsec", "avoid_ros_namespace_conventions", "durability"])
@pytest.mark.parametrize("compression", ["zstd", None])
@pytest.mark.parametrize("indexed", [True, False])
def test_qos_without_a_field(
    tmp_path: Path,
    messages: list[BagMessage],
    lacking: str,
    compression: str | None,
    indexed: bool,
    caplog: pytest.LogCaptureFixture,
) -> None:
    profile = yaml.safe_load(QOS)[0] | {"durability": 1}  # transient local
    del (profile if lacking in profile else profile["lifespan"])[lacking]
    write_mcap(tmp_path / "a.mcap", messages, compression, indexed, qos=yaml.safe_dump([profile]))
    assert seen(tmp_path / "a.mcap") == ALL and caplog.messages == []
    with BagReader(tmp_path / "a.mcap") as reader:
        assert reader.topics["/camera/image_raw"].latched == (lacking != "durability")


def test_qos_without_a_field_in_sqlite(tmp_path: Path, messages: list[BagMessage]) -> None:
    write_sqlite(tmp_path / "a.db3", messages, qos="[{durability: 1}]")
    assert seen(tmp_path / "a.db3") == ALL
    with BagReader(tmp_path / "a.db3") as reader:
        assert reader.topics["/camera/image_raw"].latched


@pytest.mark.parametrize("qos", ["reliable", "- best effort", "history: 1", "[", "3"])
def test_qos_that_is_none(
    tmp_path: Path, messages: list[BagMessage], qos: str, caplog: pytest.LogCaptureFixture
) -> None:
    write_mcap(tmp_path / "a.mcap", messages, qos=qos)
    assert seen(tmp_path / "a.mcap") == ALL and caplog.messages == []


@pytest.mark.parametrize("end", [-1, -40, -200])
def test_damage_is_told_of_an_mcap_that_is_not_of_ros_alone(
    tmp_path: Path, messages: list[BagMessage], end: int, caplog: pytest.LogCaptureFixture
) -> None:
    write_mcap(tmp_path / "a.mcap", messages, "zstd", True, "")
    (tmp_path / "a.mcap").write_bytes((tmp_path / "a.mcap").read_bytes()[:end])
    assert seen(tmp_path / "a.mcap") == ALL
    assert "damaged" in caplog.text and open_source(tmp_path / "a.mcap").is_cut


@pytest.mark.parametrize("indexed", [True, False])
def test_a_damaged_chunk_costs_its_own_messages_only(
    tmp_path: Path, messages: list[BagMessage], indexed: bool, caplog: pytest.LogCaptureFixture
) -> None:
    write_mcap(tmp_path / "a.mcap", messages, "zstd", indexed)
    content = bytearray((tmp_path / "a.mcap").read_bytes())
    second = content.index(b"zstd", content.index(b"zstd") + 1)
    content[second + 20 : second + 40] = bytes(20)
    (tmp_path / "a.mcap").write_bytes(content)
    frames = list(open_source(tmp_path / "a.mcap").frames)
    lost = [frame.index for frame in frames if frame.timestamp_ns is None]
    assert lost == ([4, 5, 6, 7] if indexed else [])  # the index says how many there were
    found = [int(frame.load()[0, 0, 0]) for frame in frames if frame.timestamp_ns is not None]
    assert found == [*range(4), *range(8, 12)]
    assert "a damaged chunk is left out" in caplog.text


@pytest.mark.parametrize(
    ("place", "lost"),
    [
        (20, [0, 1, 2, 3]),  # the topics stand in this chunk
        (-50, [4, 5, 6, 7]),  # the record of the second chunk itself, and what is before it
    ],
)
def test_what_the_summary_repeats_is_not_lost(
    tmp_path: Path, messages: list[BagMessage], place: int, lost: list[int]
) -> None:
    write_mcap(tmp_path / "a.mcap", messages, "zstd")
    content = bytearray((tmp_path / "a.mcap").read_bytes())
    first = content.index(b"zstd")
    place += first if place > 0 else content.index(b"zstd", first + 1)
    content[place : place + 100] = b"\xff" * 100
    (tmp_path / "a.mcap").write_bytes(content)
    frames = list(open_source(tmp_path / "a.mcap").frames)
    assert [frame.index for frame in frames if frame.timestamp_ns is None] == lost
    found = [int(frame.load()[0, 0, 0]) for frame in frames if frame.timestamp_ns is not None]
    assert found == [index for index in ALL if index not in lost]


def test_a_damaged_page_costs_its_own_messages_only(
    tmp_path: Path, messages: list[BagMessage], caplog: pytest.LogCaptureFixture
) -> None:
    many = [
        message._replace(stamp_ns=message.stamp_ns + 10**10 * turn, data=message.data + bytes(600))
        for turn in range(10)
        for message in messages
    ]
    write_sqlite(tmp_path / "a.db3", many)
    content = bytearray((tmp_path / "a.db3").read_bytes())
    middle = len(content) // 2 // 4096 * 4096
    content[middle : middle + 4096] = b"\xff" * 4096
    (tmp_path / "a.db3").write_bytes(content)
    with BagReader(tmp_path / "a.db3") as reader:
        stamps = [message.stamp_ns for message in reader.messages()]
    known = [message.stamp_ns for message in many]
    assert stamps == sorted(stamps) and set(stamps) < set(known) and len(stamps) > len(many) - 12
    assert stamps[0] == known[0] and stamps[-1] == known[-1]
    assert "damaged" in caplog.text
