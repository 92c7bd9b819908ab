"""Bags written, read, damaged and repaired; images of a bag as a sequence."""

from __future__ import annotations

import multiprocessing
import pickle
import shutil
import sqlite3
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
import yaml

from qdtrack_ros.data.types import DataError, Frame, Sequence

pytest.importorskip("rosbags")

from qdtrack_ros.data.bag_images import read_bag, write_video_as_bag  # noqa: E402
from qdtrack_ros.data.rosbag import BagReader, BagWriter, MessageTypes  # noqa: E402
from qdtrack_ros.data.sources import open_source  # noqa: E402

STORAGES = ("sqlite3", "mcap")
SUFFIXES = {"sqlite3": ".db3", "mcap": ".mcap"}
START_NS = 1_700_000_000_123_456_789
FRAMES = 12


def picture(index: int) -> np.ndarray:
    image = np.random.default_rng(index).integers(0, 256, (60, 80, 3)).astype(np.uint8)
    image[0, 0] = index % 256
    return image


def video(count: int = FRAMES) -> Sequence:
    frames = [Frame(index, None, 80, 60, (), lambda index=index: picture(index)) for index in range(count)]
    return Sequence("street", frames, 10.0, True)


@pytest.fixture(params=STORAGES)
def storage(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def bag(tmp_path: Path, storage: str) -> Path:
    path = tmp_path / "street"
    assert write_video_as_bag(video(), path, start_stamp_ns=START_NS, storage=storage) == FRAMES
    return path


def storage_file(bag: Path) -> Path:
    (file,) = (item for item in bag.iterdir() if item.name != "metadata.yaml")
    return file


def first_pixels(frames: Iterable[Frame]) -> list[int]:
    return [int(frame.load()[0, 0, 0]) for frame in frames]


def test_images_come_back_bit_for_bit(bag: Path):
    sequence = read_bag(bag)
    assert (len(sequence.frames), sequence.frame_rate, sequence.is_video) == (FRAMES, 10.0, True)
    for index, frame in enumerate(sequence.frames):
        assert frame.index == index
        assert frame.timestamp_ns == START_NS + index * 100_000_000
        np.testing.assert_array_equal(frame.load(), picture(index))
    assert first_pixels([sequence.frames[7], sequence.frames[0], sequence.frames[-1]]) == [7, 0, FRAMES - 1]


@pytest.mark.parametrize(("encoding", "exact"), [("rgb8", True), ("png", True), ("jpeg", False), ("mono8", False)])
def test_encodings(tmp_path: Path, encoding: str, exact: bool):
    smooth = np.full((60, 80, 3), 90, np.uint8)
    still = Sequence("a", [Frame(0, None, 80, 60, (), lambda: smooth)], 5.0, True)
    write_video_as_bag(still, tmp_path / "a", encoding=encoding)
    found = read_bag(tmp_path / "a").frames[0].load()
    np.testing.assert_allclose(found.astype(int), smooth.astype(int), atol=0 if exact else 2)


def test_frames_cross_processes(bag: Path):
    sequence = read_bag(bag)
    sequence.frames[3].load()
    copy = pickle.loads(pickle.dumps(sequence))
    assert int(copy.frames[4].load()[0, 0, 0]) == 4
    with multiprocessing.get_context("fork").Pool(1) as pool:
        assert pool.map(load_from, [(sequence, 5), (sequence, 2)]) == [5, 2]


def load_from(task: tuple[Sequence, int]) -> int:
    sequence, index = task
    return int(sequence.frames[index].load()[0, 0, 0])


def test_source_is_recognised(bag: Path):
    assert len(open_source(bag).frames) == FRAMES
    assert len(open_source(storage_file(bag), "/camera/image_raw").frames) == FRAMES


def test_metadata_is_what_ros2_bag_reads(bag: Path, storage: str):
    content = yaml.safe_load((bag / "metadata.yaml").read_text())["rosbag2_bagfile_information"]
    assert content["version"] == 8  # QoS as text: read by Humble and by everything after it
    assert content["storage_identifier"] == storage
    assert content["relative_file_paths"] == [f"street{SUFFIXES[storage]}"] == [storage_file(bag).name]
    assert content["message_count"] == FRAMES
    assert content["starting_time"]["nanoseconds_since_epoch"] == START_NS
    assert content["duration"]["nanoseconds"] == (FRAMES - 1) * 100_000_000
    (topic,) = content["topics_with_message_count"]
    assert topic["topic_metadata"]["name"] == "/camera/image_raw"
    assert topic["topic_metadata"]["type"] == "sensor_msgs/msg/Image"
    assert topic["topic_metadata"]["serialization_format"] == "cdr"
    # The hash that ROS 2 itself gives for sensor_msgs/msg/Image.
    assert topic["topic_metadata"]["type_description_hash"] == (
        "RIHS01_d31d41a9a4c4bc8eae9be757b0beed306564f7526c88ea6a4588fb9582527d47"
    )
    (qos,) = yaml.safe_load(topic["topic_metadata"]["offered_qos_profiles"])
    assert (qos["reliability"], qos["durability"], qos["history"], qos["liveliness"]) == (1, 2, 1, 1)
    assert qos["deadline"] == {"sec": 9223372036, "nsec": 854775807}


def test_our_own_messages(tmp_path: Path, storage: str):
    with BagWriter(tmp_path / "a", storage) as writer:
        stamp = writer.types.new("builtin_interfaces/msg/Time", sec=1, nanosec=2)
        header = writer.types.new("std_msgs/msg/Header", stamp=stamp, frame_id="cam")
        kind = "qdtrack_ros/msg/EmbeddingArray"
        message = writer.types.new(
            kind,
            header=header,
            session_id=writer.types.new("unique_identifier_msgs/msg/UUID", uuid=np.arange(16, dtype=np.uint8)),
            model_id="m",
            track_ids=np.array([4, 0], np.uint64),
            dim=3,
            data=np.arange(6, dtype=np.float32),
        )
        writer.add("/cam/embeddings", kind, message, 5)
        writer.add_topic("/labels", "vision_msgs/msg/LabelInfo", latched=True)
        writer.add_topic("/cam/tracks", "qdtrack_ros/msg/TrackArray")
    with BagReader(tmp_path / "a") as reader:
        assert {name: topic.latched for name, topic in reader.topics.items()} == {
            "/cam/embeddings": False,
            "/labels": True,
            "/cam/tracks": False,
        }
        (found,) = reader.messages(["/cam/embeddings"])
        assert (found.stamp_ns, found.type_name) == (5, kind)
        content = reader.types.deserialize(found.data, kind)
        assert content.track_ids.tolist() == [4, 0]
        assert content.header.frame_id == "cam"


def test_raw_bytes_pass_through_and_time_selects(bag: Path, tmp_path: Path, storage: str):
    with BagReader(bag) as reader, BagWriter(tmp_path / "copy", storage) as writer:
        for message in reader.messages(start_ns=START_NS + 100_000_000, stop_ns=START_NS + 300_000_000):
            writer.add(message.topic, message.type_name, message.data, message.stamp_ns)
    assert first_pixels(read_bag(tmp_path / "copy").frames) == [1, 2]


def test_messages_at_the_same_time_are_told_apart(bag: Path, tmp_path: Path):
    with BagReader(bag) as reader, BagWriter(tmp_path / "same") as writer:
        for message in reader.messages():
            writer.add(message.topic, message.type_name, message.data, 7)
    frames = read_bag(tmp_path / "same").frames
    assert first_pixels(frames[index] for index in range(FRAMES)) == list(range(FRAMES))


def test_definitions_handed_in_and_carried_by_the_bag(tmp_path: Path, storage: str):
    definitions = {"own_msgs/msg/Outer": "own_msgs/Inner[] parts", "own_msgs/msg/Inner": "uint8 x"}
    with BagWriter(tmp_path / "a", storage, definitions) as writer:
        outer = writer.types.new("own_msgs/msg/Outer", parts=[])
        outer.parts.append(writer.types.new("own_msgs/msg/Inner", x=9))
        writer.add("/t", "own_msgs/msg/Outer", outer, 1)
    with BagReader(tmp_path / "a") as reader:
        (message,) = reader.messages()
        assert reader.types.deserialize(message.data, message.type_name).parts[0].x == 9
        with pytest.raises(DataError, match="is not a own_msgs/msg/Outer"):
            reader.types.deserialize(message.data[:6], message.type_name)


def test_unknown_type_names_the_package():
    with pytest.raises(DataError, match="Source the workspace that has no_such_msgs"):
        MessageTypes().ensure("no_such_msgs/msg/Thing")
    with pytest.raises(DataError, match="expected a name such as"):
        MessageTypes().ensure("Image")


def test_topics_to_choose_from_are_named(bag: Path, tmp_path: Path):
    with BagReader(bag) as reader, BagWriter(tmp_path / "two") as writer:
        for message in reader.messages():
            writer.add("/left", message.type_name, message.data, message.stamp_ns)
            writer.add("/right", message.type_name, message.data, message.stamp_ns)
    with pytest.raises(DataError, match="/left, /right; name one"):
        read_bag(tmp_path / "two")
    assert len(read_bag(tmp_path / "two", "/right").frames) == FRAMES
    with pytest.raises(DataError, match="topic /up is not there; topics with images: /left, /right"):
        read_bag(tmp_path / "two", "/up")


def test_topics_that_hold_no_images_are_named_with_their_types(tmp_path: Path) -> None:
    with BagWriter(tmp_path / "bag") as writer:
        writer.add_topic("/chatter", "std_msgs/msg/String")
    with pytest.raises(DataError, match=r"no topic of .*; its topics: /chatter \(std_msgs/msg/String\)$"):
        read_bag(tmp_path / "bag")


def test_a_topic_that_nothing_was_recorded_of_is_named(tmp_path: Path, storage: str) -> None:
    with BagWriter(tmp_path / "bag", storage) as writer:
        writer.add_topic("/front", "sensor_msgs/msg/Image")
        writer.add("/chatter", "std_msgs/msg/String", writer.types.new("std_msgs/msg/String", data="x"), START_NS)
    message = r"topic /front has 0 messages, expected at least one image; topics with messages: /chatter \(1\)\. Record"
    with pytest.raises(DataError, match=message):
        open_source(tmp_path / "bag")


def test_bag_appears_whole_or_not_at_all(tmp_path: Path, storage: str):
    def frames() -> Iterable[Frame]:
        yield video().frames[0]
        raise RuntimeError("camera gone")

    with pytest.raises(RuntimeError, match="camera gone"):
        write_video_as_bag(Sequence("a", frames(), 10.0, True), tmp_path / "a", storage=storage)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="has no frames"):
        write_video_as_bag(video(0), tmp_path / "a", storage=storage)
    assert list(tmp_path.iterdir()) == []


def test_existing_path_is_refused(bag: Path):
    before = sorted(item.name for item in bag.iterdir())
    with pytest.raises(DataError, match="exists already"):
        write_video_as_bag(video(), bag)
    assert sorted(item.name for item in bag.iterdir()) == before


@pytest.mark.parametrize(
    ("change", "message"),
    [({"storage": "rosbag1"}, "storage is 'rosbag1'"), ({"encoding": "yuv"}, "image encoding is 'yuv'")],
)
def test_bad_arguments_are_refused(tmp_path: Path, change: dict[str, str], message: str):
    with pytest.raises(DataError, match=message):
        write_video_as_bag(video(), tmp_path / "a", **change)
    with pytest.raises(DataError, match="has no frame rate"):
        write_video_as_bag(Sequence("a", video().frames, None, False), tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


def test_missing_metadata_is_survived(bag: Path, caplog: pytest.LogCaptureFixture):
    (bag / "metadata.yaml").unlink()
    assert first_pixels(read_bag(bag).frames) == list(range(FRAMES))
    assert "damaged" in caplog.text


def test_damaged_metadata_is_survived(bag: Path, caplog: pytest.LogCaptureFixture):
    (bag / "metadata.yaml").write_text("rosbag2_bagfile_information:\n  version: [")
    assert first_pixels(read_bag(bag).frames) == list(range(FRAMES))
    assert "damaged" in caplog.text


@pytest.mark.parametrize("with_metadata", [True, False])
def test_cut_off_file_gives_what_is_left(
    tmp_path: Path, storage: str, with_metadata: bool, caplog: pytest.LogCaptureFixture
):
    path = tmp_path / "long"
    write_video_as_bag(video(300), path, storage=storage)  # 4 MB: several chunks, several pages
    file = storage_file(path)
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) * 6 // 10])
    if not with_metadata:
        (path / "metadata.yaml").unlink()
    sequence = read_bag(path)
    found = first_pixels(sequence.frames)
    assert 100 <= len(found) < 200
    assert found == [index % 256 for index in range(len(found))]
    assert len(sequence.frames) == len(found)
    assert int(sequence.frames[50].load()[0, 0, 0]) == 50
    assert "reading what is left" in caplog.text
    told = f"{300 - len(found)} of the 300 messages of /camera/image_raw are lost, by the count of metadata.yaml"
    assert (told in caplog.text) == with_metadata
    assert file.read_bytes() == whole[: len(whole) * 6 // 10]  # the original stays as it is


def test_killed_recording_is_read_up_to_its_last_commit(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    write_video_as_bag(video(), tmp_path / "a")
    folder = tmp_path / "killed"
    folder.mkdir()
    # The newest changes stay in the write-ahead log until a recorder closes; a kill leaves both files as they are.
    live = sqlite3.connect(shutil.copyfile(storage_file(tmp_path / "a"), tmp_path / "live.db3"))
    live.execute("PRAGMA journal_mode = WAL")
    live.execute("DELETE FROM messages WHERE id > 5")
    live.commit()
    for suffix in ("", "-wal"):
        shutil.copyfile(tmp_path / f"live.db3{suffix}", folder / f"live.db3{suffix}")
    live.close()
    assert first_pixels(read_bag(folder).frames) == [0, 1, 2, 3, 4]
    assert "not closed" in caplog.text


def test_garbage_in_the_middle_ends_the_bag_with_a_warning(bag: Path, caplog: pytest.LogCaptureFixture):
    file = storage_file(bag)
    content = bytearray(file.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 4096] = b"\xff" * 4096
    file.write_bytes(content)
    with BagReader(bag) as reader:
        messages = list(reader.messages())
    assert len(messages) <= FRAMES  # pixels may be wrong, and messages lost, but nothing breaks


def test_images_behind_a_loss_keep_their_places(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    path = tmp_path / "long"
    write_video_as_bag(video(300), path, start_stamp_ns=START_NS)
    file = storage_file(path)
    content = bytearray(file.read_bytes())
    page = content.index(picture(150).tobytes()[5000:5050]) // 4096 * 4096  # of the middle of this picture alone
    content[page : page + 4096] = b"\xff" * 4096
    file.write_bytes(content)
    sequence = read_bag(path)
    frames = list(sequence.frames)
    lost = [frame.index for frame in frames if frame.timestamp_ns is None]
    assert len(frames) == 300 and lost == [150]
    for place in (0, 149, 151, 299):
        assert int(frames[place].load()[0, 0, 0]) == place % 256
        assert int(sequence.frames[place].load()[0, 0, 0]) == place % 256
    for frame in (frames[150], sequence.frames[150]):
        with pytest.raises(DataError, match="image 150 is lost"):
            frame.load()
    assert "1 of its 300 messages are lost there" in caplog.text


@pytest.mark.parametrize("suffix", [".mcap", ".db3"])
@pytest.mark.parametrize("content", [b"", b"nothing of a bag, " * 100, b"\x89MCAP0\r\n", b"SQLite format 3\x00"])
def test_what_is_no_bag_is_named(tmp_path: Path, suffix: str, content: bytes):
    (tmp_path / f"a{suffix}").write_bytes(content)
    with pytest.raises(DataError, match=r"nothing can be read"):
        BagReader(tmp_path / f"a{suffix}")


def test_no_bag_at_all(tmp_path: Path):
    with pytest.raises(DataError, match="no such bag"):
        read_bag(tmp_path / "missing")
    with pytest.raises(DataError, match="not a bag"):
        BagReader(tmp_path)


def test_unusable_image_is_an_error_of_its_frame_only(tmp_path: Path):
    types = MessageTypes()
    stamp = types.new("builtin_interfaces/msg/Time", sec=3, nanosec=0)
    header = types.new("std_msgs/msg/Header", stamp=stamp, frame_id="c")
    kind = "sensor_msgs/msg/Image"
    short = np.zeros(5, np.uint8)
    fields = {"header": header, "height": 4, "width": 4, "encoding": "bgr8", "is_bigendian": 0, "step": 12}
    with BagWriter(tmp_path / "a") as writer:
        writer.add("/c", kind, types.new(kind, **fields, data=short), 1)
        writer.add("/c", kind, types.new(kind, **fields, data=np.zeros(48, np.uint8)), 2)
        writer.add("/c", kind, b"\x00\x01\x00\x00", 3)
    frames = list(read_bag(tmp_path / "a").frames)
    assert [frame.timestamp_ns for frame in frames] == [3_000_000_000, 3_000_000_000, None]
    with pytest.raises(DataError, match="unusable image"):
        frames[0].load()
    assert frames[1].load().shape == (4, 4, 3)
    with pytest.raises(DataError, match="4 bytes is not a sensor_msgs/msg/Image"):
        frames[2].load()
