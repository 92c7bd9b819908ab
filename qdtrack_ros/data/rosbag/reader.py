"""Reading of bags, damaged ones included."""

from __future__ import annotations

import heapq
import logging
import os
import shutil
import tempfile
import weakref
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack
from operator import itemgetter
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import yaml
from rosbags.interfaces import Connection, ConnectionExtRosbag2, QosDurability
from rosbags.rosbag2 import Reader
from rosbags.rosbag2.reader import DirectoryReader
from rosbags.rosbag2.storage_mcap import MAXSIZE, McapReader, decompress

from qdtrack_ros.data.bag_repair import BAG_SUFFIXES, repair
from qdtrack_ros.data.rosbag.mcap_index import LooseMessages
from qdtrack_ros.data.rosbag.message_types import MessageTypes
from qdtrack_ros.data.types import DataError

logger = logging.getLogger(__name__)

METADATA = "metadata.yaml"
_WITHOUT_SCHEMA = "__schemaless__"  # rosbags' name for the type of a channel whose schema it does not find


class BagMessage(NamedTuple):
    """A message as it lies in the bag.

    ``data`` is CDR with its four bytes of encapsulation, ``stamp_ns`` the time of recording.
    """

    topic: str
    stamp_ns: int
    type_name: str
    data: bytes


class BagTopic(NamedTuple):
    """A topic of a bag; ``latched`` says that its publisher offered transient-local durability."""

    type_name: str
    message_count: int
    latched: bool


class BagReader:
    """A bag: a rosbag2 folder, or one of its ``.mcap`` or ``.db3`` files. A context manager.

    Of a damaged bag what can be read is read; a warning says what is wrong. A sound MCAP file that rosbags refuses, as
    one with topics of JSON beside those of ROS, is read without a warning.

    Attributes:
        path: of the bag.
        types: definitions of its messages.
        lost: of the topics that are being read, messages known to be lost in the damage before the last one given.

    Raises:
        DataError: there is no such bag, or nothing of it can be read.
    """

    def __init__(self, path: str | os.PathLike[str], definitions: Mapping[str, str] | None = None) -> None:
        self.path = Path(path)
        self.types = MessageTypes(definitions)
        self._stack = ExitStack()
        weakref.finalize(self, _close_in_process, os.getpid(), self._stack)
        if not self.path.exists():
            raise DataError(f"{self.path}: no such bag")
        self._copies: list[Any] = []  # storages that ``repair`` made
        self._loose: dict[Any, LooseMessages] = {}  # by storage, of MCAP files without an index
        self._is_damaged = False
        self.lost = 0
        try:
            self._storages = self._open()
            for storage in self._storages:
                for connection in storage.connections:
                    self.types.add_from_bag(connection)
            if self.is_damaged:
                self._tell_losses()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> BagReader:
        """The reader is open from its construction on."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()

    def close(self) -> None:
        """Close the files; repaired copies are deleted."""
        self._stack.close()

    def _tell_losses(self) -> None:
        there = self.topics
        for topic, promised in _promised(self.path).items():
            left = there[topic].message_count if topic in there else 0
            if left < promised:
                text = "%s: %d of the %d messages of %s are lost, by the count of %s"
                logger.warning(text, self.path, promised - left, promised, topic, METADATA)

    @property
    def is_damaged(self) -> bool:
        """Whether files were repaired in which messages may be missing."""
        return self._is_damaged

    @property
    def topics(self) -> dict[str, BagTopic]:
        """Topics by name, with their type and the number of messages."""
        found: dict[str, BagTopic] = {}
        for storage in self._storages:
            for connection in storage.connections:
                before = found.get(connection.topic, BagTopic(connection.msgtype, 0, False))
                latched = before.latched or _is_latched(connection)
                found[connection.topic] = BagTopic(
                    before.type_name, before.message_count + connection.msgcount, latched
                )
        return found

    def messages(
        self, topics: Collection[str] | None = None, start_ns: int | None = None, stop_ns: int | None = None
    ) -> Iterator[BagMessage]:
        """Messages in the order of recording.

        Args:
            topics: only these; None gives all.
            start_ns: the first time of recording to give.
            stop_ns: the first time of recording not to give.
        """
        self.lost = 0
        for place in range(len(self._storages)):
            yield from self._messages_of(place, topics, start_ns, stop_ns)

    def _messages_of(
        self, place: int, topics: Collection[str] | None, start_ns: int | None, stop_ns: int | None
    ) -> Iterator[BagMessage]:
        """Messages of one file; after damage in its middle goes on with what a repaired copy has beyond that."""
        storage = self._storages[place]
        wanted = [item for item in storage.connections if topics is None or item.topic in topics]
        if not wanted:
            return
        given, is_whole = 0, start_ns is None and stop_ns is None
        try:
            for connection, stamp_ns, data in self._stream(storage, wanted, start_ns, stop_ns):
                given += 1
                start_ns = stamp_ns + 1
                yield BagMessage(connection.topic, stamp_ns, connection.msgtype, bytes(data))
            return
        except Exception as error:  # rosbags raises whatever the damage leads to
            logger.warning("%s: damaged after %d messages: %s", storage.path, given, error)
        path = Path(storage.path)
        if storage in self._copies or path.suffix not in BAG_SUFFIXES:
            return
        try:
            (self._storages[place],), _ = self._open_repaired(path)
        except Exception as error:
            logger.warning("%s: nothing beyond the damage can be read: %s", path, error)
            return
        if is_whole:
            promised = sum(item.msgcount for item in wanted)
            left = sum(1 for _ in self._messages_of(place, topics, start_ns, stop_ns))
            lost = max(0, promised - given - left)
            self.lost += lost
            logger.warning("%s: %d of its %d messages are lost there", path, lost, promised)
        yield from self._messages_of(place, topics, start_ns, stop_ns)

    def _stream(
        self, storage: Any, wanted: list[Connection], start_ns: int | None, stop_ns: int | None
    ) -> Iterator[tuple[Connection, int, bytes]]:
        """Messages by time of recording."""
        if storage not in self._loose:
            return iter(storage.messages(wanted, start_ns, stop_ns))
        loose = self._loose[storage].read(wanted, start_ns, stop_ns)
        if not storage.chunks:
            return loose
        # Without limits, rosbags would leave out what is not of the times that its chunk says.
        limits = (start_ns or 0, MAXSIZE if stop_ns is None else stop_ns)
        return heapq.merge(storage.messages(wanted, *limits), loose, key=itemgetter(1))

    def _open(self) -> list[Any]:
        try:
            return self._open_one(self.path)
        except Exception as error:
            fault = str(error)  # the error itself would keep the reader, and its files, from being let go
        if self.path.is_file():
            files = [self.path]
        else:
            files = sorted((item for item in self.path.iterdir() if item.suffix in BAG_SUFFIXES), key=_file_order)
        if not files:
            raise DataError(f"{self.path}: not a bag; expected a folder with {METADATA}, or .mcap or .db3 files")
        storages, faults, is_explained = [], [], False
        for file in files:
            try:
                found, is_foreign = self._open_damaged(file, fault)
                storages += found
                is_explained = is_explained or is_foreign
            except Exception as error:
                faults.append(str(error))
                logger.warning("%s: left out: %s", file, error)
        if self.path.is_dir() and not is_explained:
            logger.warning("%s: damaged (%s); reading what is left", self.path, fault)
        if not storages:
            raise DataError(f"{self.path}: nothing can be read: {'; '.join(faults)}")
        return storages

    def _open_one(self, path: Path) -> list[Any]:
        """The files of a bag. What they hold is asked of themselves: a metadata.yaml that was made anew (``ros2 bag
        reindex``) or is older than they are may have other counts and QoS profiles.
        """
        journals = [path.with_name(path.name + suffix) for suffix in ("-wal", "-journal")]
        if any(journal.is_file() and journal.stat().st_size > 0 for journal in journals):
            raise DataError("its recording was not closed")
        reader = Reader(path)
        reader.open()
        self._stack.callback(reader.close)
        whole: Any = reader.storage
        for storage in getattr(whole, "storages", [whole]):
            if isinstance(storage, McapReader) and _is_summary_partial(storage):
                _scan(storage)
            if isinstance(storage, McapReader) and not storage.chunks:
                self._loose[storage] = LooseMessages(storage)
        for storage in (whole, *getattr(whole, "storages", ())):
            storage.connections = [_with_full_type(connection) for connection in storage.connections]
        if isinstance(whole, DirectoryReader) and whole.metadata.compression_mode != "message":
            return list(whole.storages)
        return [whole]

    def _open_damaged(self, file: Path, fault: str) -> tuple[list[Any], bool]:
        """A file of a bag that cannot be opened as it is for ``fault``; and whether it is only not of ROS alone."""
        if file != self.path:  # the folder may be all that is damaged
            try:
                return self._open_one(file), False
            except Exception as error:
                fault = str(error)
        storages, is_whole = self._open_repaired(file)
        if not is_whole:
            logger.warning("%s: damaged (%s); reading what is left", file, fault)
        return storages, is_whole

    def _open_repaired(self, file: Path) -> tuple[list[Any], bool]:
        """The storages of a readable copy, and whether it is whole."""
        folder = tempfile.mkdtemp(prefix="qdtrack-bag-")
        self._stack.callback(shutil.rmtree, folder, ignore_errors=True)
        copy, is_whole = repair(file, Path(folder), decompress)
        copies = self._open_one(copy)
        self._copies += copies
        self._is_damaged = self._is_damaged or not is_whole
        return copies, is_whole


def _promised(folder: Path) -> dict[str, int]:
    """Messages by topic that the metadata of a bag count; none where they are missing, or damaged."""
    try:
        content = yaml.safe_load((folder / METADATA).read_text(encoding="utf-8"))
        topics = content["rosbag2_bagfile_information"]["topics_with_message_count"]
        return {str(topic["topic_metadata"]["name"]): int(topic["message_count"]) for topic in topics}
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError):
        return {}


def _with_full_type(connection: Connection) -> Connection:
    """With ``sensor_msgs/msg/Image`` where the file says ``sensor_msgs/Image``, as some tools write: one type.

    Not of messages that are no CDR: ROS 1 has the short names, and other bytes.
    """
    assert isinstance(connection.ext, ConnectionExtRosbag2)
    package, _, name = connection.msgtype.partition("/")
    if connection.ext.serialization_format != "cdr" or not package or not name or "/" in name:
        return connection
    return connection._replace(msgtype=f"{package}/msg/{name}")


def _is_summary_partial(storage: McapReader) -> bool:
    """Whether a sound MCAP file leaves out of its summary what rosbags takes from there alone.

    All of it is optional: rosbag2's storage options have ``noRepeatedSchemas``, ``noMessageIndex``, ``noStatistics``
    and more. rosbags then finds no topics, or topics without messages, and says nothing.
    """
    known = storage.statistics
    assert known is not None
    return (
        any(not chunk.channel_count for chunk in storage.chunks)
        or any(connection.msgtype == _WITHOUT_SCHEMA for connection in storage.connections)
        or len(storage.channels) < max(known.channel_count, len(known.channel_message_counts))
        or sum(known.channel_message_counts.values()) < known.message_count
    )


def _scan(storage: McapReader) -> None:
    """Learn topics and numbers of messages from the messages themselves; an index of chunks stays in use."""
    storage.schemas.clear()
    storage.channels.clear()
    storage.connections.clear()
    storage.meta_scan()
    assert storage.statistics is not None
    counts = storage.statistics.channel_message_counts
    storage.connections = [item._replace(msgcount=counts.get(item.id, 0)) for item in storage.connections]
    for chunk in storage.chunks:
        if not chunk.channel_count:  # rosbags passes over a chunk in which it counts none of the wanted channels
            chunk.channel_count.update(counts)


def _close_in_process(pid: int, stack: ExitStack) -> None:
    if pid == os.getpid():  # a forked worker must not delete the repaired files of its parent
        stack.close()


def _file_order(path: Path) -> tuple[int, str]:
    """rosbag2 numbers the files of a split bag: NAME_0, NAME_1, ... NAME_10."""
    number = path.stem.rpartition("_")[2]
    return (int(number) if number.isdecimal() else 0), path.name


def _is_latched(connection: Connection) -> bool:
    assert isinstance(connection.ext, ConnectionExtRosbag2)
    return any(profile.durability is QosDurability.TRANSIENT_LOCAL for profile in connection.ext.offered_qos_profiles)
