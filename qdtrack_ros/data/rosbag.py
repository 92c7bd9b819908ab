"""Messages of rosbag2 bags (SQLite and MCAP), read and written without ROS. Only this module imports ``rosbags``."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
import weakref
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, NamedTuple

from qdtrack_ros.data.bag_repair import repair
from qdtrack_ros.data.message_definitions import find_definition
from qdtrack_ros.data.types import DataError
from qdtrack_ros.files import sync

try:
    from rosbags.interfaces import (
        Connection,
        ConnectionExtRosbag2,
        MessageDefinitionFormat,
        Qos,
        QosDurability,
        QosHistory,
        QosLiveliness,
        QosReliability,
        QosTime,
    )
    from rosbags.rosbag2 import Reader, StoragePlugin, Writer
    from rosbags.rosbag2.reader import DirectoryReader
    from rosbags.rosbag2.storage_mcap import McapReader, decompress
    from rosbags.typesys import Stores, get_types_from_idl, get_types_from_msg, get_typestore
except ImportError as error:
    raise ImportError("reading and writing bags needs the package rosbags: pip install 'rosbags>=0.11'") from error

logger = logging.getLogger(__name__)

BAG_SUFFIXES = frozenset({".mcap", ".db3"})
STORAGES = {"sqlite3": StoragePlugin.SQLITE3, "mcap": StoragePlugin.MCAP}
METADATA = "metadata.yaml"
# Version 8 keeps QoS profiles as text, which Humble reads and Jazzy, Kilted and later convert; Humble fails on 9.
METADATA_VERSION: Literal[8] = 8
_INFINITE = QosTime(9223372036, 854775807)


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


class MessageTypes:
    """Message definitions: those of ROS 2, the given ones, and those found where packages install theirs.

    Args:
        definitions: text of .msg files by type, e.g. ``{"my_msgs/msg/Thing": "uint8 x"}``; they come first.
    """

    def __init__(self, definitions: Mapping[str, str] | None = None) -> None:
        self.store = get_typestore(Stores.ROS2_KILTED)
        self._definitions = dict(definitions or {})

    def ensure(self, type_name: str) -> None:
        """Make a type and all that it is made of known.

        Raises:
            DataError: its definition is found nowhere, or cannot be parsed.
        """
        if type_name in self.store.fielddefs:
            return
        text = self._definitions.get(type_name)
        if text is None:
            text = find_definition(type_name)
        try:
            found = get_types_from_msg(text, type_name)
            for _, fields in found.values():
                for _, description in fields:
                    for needed in _named_types(description):
                        if needed not in found:
                            self.ensure(needed)
            self.store.register({name: value for name, value in found.items() if name not in self.store.fielddefs})
        except DataError:
            raise
        except Exception as error:  # the parser's own kinds are not published
            raise DataError(f"the definition of {type_name} cannot be parsed: {error}") from error

    def add_from_bag(self, connection: Connection) -> None:
        """Take up a definition that the bag itself carries; it is left to ``ensure`` when that one cannot be parsed."""
        text = connection.msgdef.data
        is_given = bool(text.strip()) and connection.msgdef.format is not MessageDefinitionFormat.NONE
        if connection.msgtype in self.store.fielddefs or not is_given:
            return
        parse = get_types_from_msg if connection.msgdef.format is MessageDefinitionFormat.MSG else None
        try:
            found = parse(text, connection.msgtype) if parse else get_types_from_idl(text)
            self.store.register({name: value for name, value in found.items() if name not in self.store.fielddefs})
        except Exception as error:
            logger.warning("the bag's definition of %s cannot be parsed: %s", connection.msgtype, error)

    def new(self, type_name: str, **fields: Any) -> Any:
        """A message object of the type; all fields must be given, arrays of numbers as numpy arrays."""
        self.ensure(type_name)
        return self.store.types[type_name](**fields)

    def deserialize(self, data: bytes, type_name: str) -> Any:
        """Message object of CDR bytes; ``DataError`` when they are damaged."""
        self.ensure(type_name)
        try:
            return self.store.deserialize_cdr(data, type_name)
        except Exception as error:
            raise DataError(f"a message of {len(data)} bytes is not a {type_name}: {error}") from error


def _named_types(description: Any) -> Iterator[str]:
    """Message types in a field description of rosbags: (kind, name or element description, ...)."""
    for part in description:
        if isinstance(part, tuple):
            yield from _named_types(part)
        elif isinstance(part, str) and "/msg/" in part:
            yield part


class BagReader:
    """A bag: a rosbag2 folder, or one of its ``.mcap`` or ``.db3`` files. A context manager.

    Of a damaged bag what can be read is read; a warning says what is wrong.

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
        self._copies: list[Any] = []  # repaired storages
        self.lost = 0
        try:
            self._storages = self._open()
            for storage in self._storages:
                for connection in storage.connections:
                    self.types.add_from_bag(connection)
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

    @property
    def is_damaged(self) -> bool:
        """Whether files were repaired, so that messages may be missing."""
        return bool(self._copies)

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
            for connection, stamp_ns, data in _stream(storage, wanted, start_ns, stop_ns):
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
            (self._storages[place],) = self._open_repaired(path)
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

    def _open(self) -> list[Any]:
        try:
            return self._open_one(self.path)
        except Exception as error:
            logger.warning("%s: damaged (%s); reading what is left", self.path, error)
        if self.path.is_file():
            files = [self.path]
        else:
            files = sorted((item for item in self.path.iterdir() if item.suffix in BAG_SUFFIXES), key=_file_order)
        if not files:
            raise DataError(f"{self.path}: not a bag; expected a folder with {METADATA}, or .mcap or .db3 files")
        storages, faults = [], []
        for file in files:
            try:
                storages += self._open_damaged(file)
            except Exception as error:
                faults.append(str(error))
                logger.warning("%s: left out: %s", file, error)
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
        if isinstance(whole, DirectoryReader) and whole.metadata.compression_mode != "message":
            return list(whole.storages)
        return [whole]

    def _open_damaged(self, file: Path) -> list[Any]:
        if file != self.path:  # the folder may be all that is damaged
            try:
                return self._open_one(file)
            except Exception as error:
                logger.warning("%s: damaged (%s); reading what is left", file, error)
        return self._open_repaired(file)

    def _open_repaired(self, file: Path) -> list[Any]:
        folder = tempfile.mkdtemp(prefix="qdtrack-bag-")
        self._stack.callback(shutil.rmtree, folder, ignore_errors=True)
        copies = self._open_one(repair(file, Path(folder), decompress))
        self._copies += copies
        return copies


def _stream(
    storage: Any, wanted: list[Connection], start_ns: int | None, stop_ns: int | None
) -> Iterator[tuple[Connection, int, bytes]]:
    if isinstance(storage, McapReader) and not storage.chunks:
        # Without an index, rosbags gives up at the first message that is older than the one before it.
        return storage.messages_scan(wanted, start_ns, stop_ns)
    return storage.messages(wanted, start_ns, stop_ns)


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


class BagWriter:
    """Writes a rosbag2 folder that ``ros2 bag`` of Humble and later reads. A context manager.

    The bag is written beside its place, under a hidden name, and moved there by ``close``: it appears whole or not at
    all. Leaving the context with an exception discards it.

    Args:
        path: the new folder.
        storage: "sqlite3" or "mcap".
        definitions: see MessageTypes.

    Raises:
        DataError: the path is taken, or the storage is unknown.
    """

    def __init__(
        self, path: str | os.PathLike[str], storage: str = "sqlite3", definitions: Mapping[str, str] | None = None
    ) -> None:
        self.path = Path(path)
        if storage not in STORAGES:
            raise DataError(f"bag storage is {storage!r}, expected one of {', '.join(STORAGES)}")
        if self.path.exists():
            raise DataError(f"{self.path} exists already; choose another name for the bag, or delete it")
        self.types = MessageTypes(definitions)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._folder = Path(tempfile.mkdtemp(prefix=f".{self.path.name}.", dir=self.path.parent))
        self._connections: dict[str, Connection] = {}
        self._writer = Writer(self._folder / self.path.name, version=METADATA_VERSION, storage_plugin=STORAGES[storage])
        self._writer.open()

    def __enter__(self) -> BagWriter:
        """The writer is open from its construction on."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close, or discard after an exception."""
        if kind is None:
            self.close()
        else:
            self.discard()

    def add_topic(self, topic: str, type_name: str, latched: bool = False) -> None:
        """Announce a topic; ``add`` does so by itself for topics that are not latched.

        Raises:
            DataError: the type is not known, or the topic is there with another one.
        """
        known = self._connections.get(topic)
        if known is None:
            self.types.ensure(type_name)
            durability = QosDurability.TRANSIENT_LOCAL if latched else QosDurability.VOLATILE
            self._connections[topic] = self._writer.add_connection(
                topic, type_name, typestore=self.types.store, offered_qos_profiles=[_qos(durability)]
            )
        elif known.msgtype != type_name:
            raise DataError(f"{self.path}: topic {topic} has type {known.msgtype}, got a {type_name}")

    def add(self, topic: str, type_name: str, message: Any, stamp_ns: int) -> None:
        """Append a message.

        Args:
            topic: full name, e.g. "/camera/image_raw".
            type_name: e.g. "sensor_msgs/msg/Image".
            message: CDR bytes, as a raw subscription gives them, or a message object of ``types.new``.
            stamp_ns: time of recording, nanoseconds.
        """
        self.add_topic(topic, type_name)
        if not isinstance(message, (bytes, bytearray, memoryview)):
            message = self.types.store.serialize_cdr(message, type_name)
        self._writer.write(self._connections[topic], stamp_ns, message)

    def close(self) -> None:
        """Finish the bag and put it in its place."""
        try:
            self._writer.close()
            bag = self._folder / self.path.name
            for file in bag.iterdir():
                sync(file)
            sync(bag)
            if self.path.exists():
                raise DataError(f"{self.path} was made by somebody else meanwhile; the new bag is discarded")
            bag.rename(self.path)
            sync(self.path.parent)
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)

    def discard(self) -> None:
        """Drop what was written."""
        try:
            self._writer.abort()
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)


def _qos(durability: QosDurability) -> Qos:
    """A reliable publisher's offer; both reliable and best-effort subscribers match it."""
    return Qos(
        QosHistory.KEEP_LAST,
        10,
        QosReliability.RELIABLE,
        durability,
        _INFINITE,
        _INFINITE,
        QosLiveliness.AUTOMATIC,
        _INFINITE,
        False,
    )
