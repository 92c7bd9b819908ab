"""Writing of bags."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from rosbags.interfaces import Connection, Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime
from rosbags.rosbag2 import StoragePlugin, Writer

from qdtrack_ros.data.rosbag.message_types import MessageTypes
from qdtrack_ros.data.types import DataError
from qdtrack_ros.files import sync

STORAGES = {"sqlite3": StoragePlugin.SQLITE3, "mcap": StoragePlugin.MCAP}
# Version 8 keeps QoS profiles as text, which Humble reads and Jazzy, Kilted and later convert; Humble fails on 9.
METADATA_VERSION: Literal[8] = 8
_INFINITE = QosTime(9223372036, 854775807)


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
