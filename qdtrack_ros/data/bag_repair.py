"""What is left of damaged bag files (a killed recording, a full disk, a copy cut off), as readable files.

Files that are sound, but not as rosbag2 writes them, are made readable, too: rosbags refuses them for a topic of JSON,
or for a QoS profile without one of its fields.

Works from the published layouts of MCAP and of rosbag2's SQLite storage. Reading a copy that is whole again is simpler,
and safer for the original, than reading around the damage.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
import sqlite3
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import yaml

from qdtrack_ros.data.types import DataError

BAG_SUFFIXES = frozenset({".mcap", ".db3"})

_MCAP_MAGIC = b"\x89MCAP0\r\n"
_MCAP_HEADER, _MCAP_FOOTER, _MCAP_SCHEMA, _MCAP_CHANNEL = 0x01, 0x02, 0x03, 0x04
_MCAP_CHUNK, _MCAP_CHUNK_INDEX, _MCAP_DATA_END = 0x06, 0x08, 0x0F
_FOOTER_BYTES = 37  # with the magic that follows it
_ROS_SCHEMAS = (b"ros2msg", b"ros2idl", b"omgidl", b"")
_RECORD_HEADER = struct.Struct("<BQ")  # opcode, length of what follows
_COPY_BYTES = 1 << 20
_QOS_KEY = b"offered_qos_profiles"
_NO_TIME = {"sec": 0, "nsec": 0}
_QOS_TIMES = ("deadline", "lifespan", "liveliness_lease_duration")
_QOS_DEFAULTS = {"depth": 0, "avoid_ros_namespace_conventions": False}  # enumerations that lack, rosbags takes itself

logger = logging.getLogger(__name__)

Decompress = Callable[[bytes, str, int, int], bytes]
"""Content of an MCAP chunk from what is stored, name of the compression, size and checksum; raises when damaged."""


class Repaired(NamedTuple):
    """A readable copy; ``is_whole`` says that nothing is missing from it: the file was sound, if not of ROS alone."""

    path: Path
    is_whole: bool


def repair(path: Path, folder: Path, decompress: Decompress) -> Repaired:
    """Copy what can be read of a ``.mcap`` or ``.db3`` file into ``folder``, as a file of the same name.

    Args:
        path: of the file.
        folder: for the copy.
        decompress: unpacks the chunks of MCAP files.

    Raises:
        DataError: nothing can be read, or the file is of another kind.
    """
    target = folder / path.name
    if path.suffix == ".mcap":
        return Repaired(target, _repair_mcap(path, target, decompress))
    if path.suffix == ".db3":
        _repair_sqlite(path, target)
        return Repaired(target, False)
    raise DataError(f"{path}: damaged, and only .mcap and .db3 files can be repaired")


def _repair_mcap(path: Path, target: Path, decompress: Decompress) -> bool:
    """Keep the complete records before the damage, less the chunks that are damaged inside; whether there was none.

    What the summary repeats helps where the file has one: topics stand in the first chunk alone, and with the places of
    the chunks those behind damaged records are found. The copy is closed without an index, which readers then do
    without.
    """
    size = path.stat().st_size
    with path.open("rb") as source, target.open("wb") as copy:
        if source.read(len(_MCAP_MAGIC)) != _MCAP_MAGIC:
            raise DataError(f"{path}: not an MCAP file; its first bytes are another format's")
        summary = _summary(source, size)
        definitions, chunks = summary or (b"", [])
        copy.write(_MCAP_MAGIC + _record(_MCAP_HEADER, _text(b"ros2") + _text(b"")) + definitions)
        source.seek(len(_MCAP_MAGIC))
        records, is_whole = 0, summary is not None
        while len(header := source.read(_RECORD_HEADER.size)) == _RECORD_HEADER.size:
            opcode, length = _RECORD_HEADER.unpack(header)
            start = source.tell() - _RECORD_HEADER.size
            next_chunk = next((place for place in chunks if place > start), size)
            at_end = opcode in (0, _MCAP_FOOTER, _MCAP_DATA_END) or (records == 0) != (opcode == _MCAP_HEADER)
            if at_end or source.tell() + length > next_chunk:
                if next_chunk == size:
                    is_whole = is_whole and opcode in (_MCAP_FOOTER, _MCAP_DATA_END)
                    break
                is_whole = False
                logger.warning("%s: damaged records are left out: bytes %d to %d", path, start, next_chunk)
                source.seek(next_chunk)
            elif opcode == _MCAP_HEADER:
                source.seek(length, 1)
            elif opcode in (_MCAP_SCHEMA, _MCAP_CHANNEL):
                copy.write(_record(opcode, _readable(opcode, source.read(length))))
            elif opcode == _MCAP_CHUNK:
                chunk = _sound_chunk(path, source.read(length), decompress)
                is_whole = is_whole and chunk is not None
                copy.write(chunk or b"")
            else:
                copy.write(header)
                _copy_bytes(source, copy, length)
            records += 1
        if records == 0:
            raise DataError(f"{path}: damaged from its first record on; nothing can be read")
        copy.write(_RECORD_HEADER.pack(_MCAP_DATA_END, 4) + bytes(4))
        copy.write(_RECORD_HEADER.pack(_MCAP_FOOTER, 20) + bytes(20))
        copy.write(_MCAP_MAGIC)
    return is_whole


def _summary(source: BinaryIO, size: int) -> tuple[bytes, list[int]] | None:
    """Records of schemas and channels in the summary of an MCAP file, and where chunks begin, in order; none of a file
    without a summary. None where the file was not closed, or its summary is damaged.
    """
    source.seek(max(0, size - _FOOTER_BYTES))
    end = source.read()
    footer = _RECORD_HEADER.pack(_MCAP_FOOTER, 20)
    if not (end.startswith(footer) and end.endswith(_MCAP_MAGIC)):
        return None
    start, _, checksum = struct.unpack_from("<QQI", end, len(footer))
    if start == 0:
        return b"", []
    if not len(_MCAP_MAGIC) <= start <= size - _FOOTER_BYTES:
        return None
    source.seek(start)
    content = source.read(size - _FOOTER_BYTES - start)
    if checksum not in (0, zlib.crc32(content + end[: len(footer) + 16])):
        return None
    definitions, chunks = b"", []
    try:
        for opcode, record in _records(content):
            if opcode in (_MCAP_SCHEMA, _MCAP_CHANNEL):
                definitions += _record(opcode, _readable(opcode, record))
            elif opcode == _MCAP_CHUNK_INDEX:
                chunks.append(int(struct.unpack_from("<QQQ", record)[2]))
    except struct.error:
        return None
    return definitions, sorted(chunks)


def _sound_chunk(path: Path, content: bytes, decompress: Decompress) -> bytes | None:
    """A chunk as it is; its records one by one where rosbags refuses some; None where it is damaged."""
    try:
        _, _, size, checksum = struct.unpack_from("<QQQI", content)
        compression, place = _text_at(content, 28)
        unpacked = decompress(content[place + 8 :], compression.decode(), size, checksum)
        records = [(opcode, _readable(opcode, record)) for opcode, record in _records(unpacked)]
    except Exception as error:  # whatever the damage leads to
        logger.warning("%s: a damaged chunk is left out: %s", path, error)
        return None
    rewritten = b"".join(_record(opcode, record) for opcode, record in records)
    return _record(_MCAP_CHUNK, content) if rewritten == unpacked else rewritten


def _records(content: bytes) -> Iterator[tuple[int, bytes]]:
    place = 0
    while place < len(content):
        opcode, length = _RECORD_HEADER.unpack_from(content, place)
        place += _RECORD_HEADER.size
        yield opcode, content[place : place + length]
        place += length


def _without_foreign(schema: bytes) -> bytes:
    """The record of a schema; of one that ROS does not write only number and name, so that nobody tries to parse it."""
    name, place = _text_at(schema, 2)
    encoding, _ = _text_at(schema, place)
    return schema if encoding in _ROS_SCHEMAS else schema[:2] + _text(name) + _text(b"") + _text(b"")


def _readable(opcode: int, record: bytes) -> bytes:
    """The content of a record as rosbags takes it."""
    if opcode == _MCAP_SCHEMA:
        return _without_foreign(record)
    return _with_whole_qos(record) if opcode == _MCAP_CHANNEL else record


def _with_whole_qos(channel: bytes) -> bytes:
    """The record of a channel with all fields of its QoS profiles."""
    _, start = _text_at(channel, 4)  # its topic
    _, start = _text_at(channel, start)  # and the encoding of its messages
    pairs, _ = _text_at(channel, start)
    place, metadata = 0, b""
    while place < len(pairs):
        key, place = _text_at(pairs, place)
        value, place = _text_at(pairs, place)
        metadata += _text(key) + _text(_whole_qos(value) if key == _QOS_KEY else value)
    return channel[:start] + _text(metadata)


def _whole_qos(profiles: bytes) -> bytes:
    """QoS profiles (YAML) with all fields; as they are where they have them, none where they are something else."""
    try:
        found = yaml.safe_load(profiles)
        whole = [_QOS_DEFAULTS | one | {key: _NO_TIME | (one.get(key) or {}) for key in _QOS_TIMES} for one in found]
    except (yaml.YAMLError, TypeError, AttributeError):
        return b""
    return profiles if whole == found else yaml.safe_dump(whole).encode()


def _record(opcode: int, content: bytes) -> bytes:
    return _RECORD_HEADER.pack(opcode, len(content)) + content


def _text(content: bytes) -> bytes:
    return struct.pack("<I", len(content)) + content


def _text_at(content: bytes, place: int) -> tuple[bytes, int]:
    """A text and the place after it."""
    (length,) = struct.unpack_from("<I", content, place)
    return content[place + 4 : place + 4 + length], place + 4 + length


def _copy_bytes(source: BinaryIO, copy: BinaryIO, length: int) -> None:
    while length > 0:
        block = source.read(min(length, _COPY_BYTES))
        copy.write(block)
        length -= len(block)


def _repair_sqlite(path: Path, target: Path) -> None:
    """Copy every table row by row, up to the first unreadable one, and from the end back to the last.

    The database is opened in a copy together with its ``-wal`` or ``-journal``, so that SQLite itself takes up what a
    killed recording had not merged yet.
    """
    working = target.with_name(f"damaged-{path.name}")
    for suffix in ("", "-wal", "-journal"):
        part = path.with_name(path.name + suffix)
        if part.is_file():
            shutil.copyfile(part, working.with_name(working.name + suffix))
    source, copy = sqlite3.connect(working), sqlite3.connect(target)
    try:
        source.execute("PRAGMA writable_schema = ON")  # otherwise SQLite refuses a file shorter than its header says
        tables = source.execute(
            "SELECT name, sql FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
        ).fetchall()
        for name, statement in tables:
            copy.execute(statement)
            _copy_rows(source, copy, str(name))
        with contextlib.suppress(sqlite3.OperationalError):  # older than QoS profiles
            for row, profiles in copy.execute("SELECT rowid, offered_qos_profiles FROM topics").fetchall():
                whole = _whole_qos(str(profiles).encode()).decode()
                copy.execute("UPDATE topics SET offered_qos_profiles = ? WHERE rowid = ?", (whole, row))
        copy.commit()
    except sqlite3.DatabaseError as error:
        raise DataError(f"{path}: damaged ({error}); nothing can be read") from error
    finally:
        source.close()
        copy.close()
        working.unlink()
    if not {"topics", "messages"} <= {name for name, _ in tables}:
        raise DataError(f"{path}: not a rosbag2 database, or cut off before its tables; nothing can be read")


def _copy_rows(source: sqlite3.Connection, copy: sqlite3.Connection, table: str) -> None:
    quoted = '"' + table.replace('"', '""') + '"'
    for order in ("ASC", "DESC"):
        query = f"SELECT * FROM {quoted} ORDER BY rowid {order}"
        copied = 0
        try:
            for row in source.execute(query):
                _insert(copy, quoted, row)
                copied += 1
            return
        except sqlite3.DatabaseError:
            pass  # the rows on this side of the damage are copied
        # But for the one next to it: Python reads a row ahead, and drops the row in its hands when that fails.
        with contextlib.suppress(sqlite3.DatabaseError):
            for row in source.execute(f"{query} LIMIT 1 OFFSET {copied}"):
                _insert(copy, quoted, row)


def _insert(copy: sqlite3.Connection, quoted: str, row: tuple[Any, ...]) -> None:
    copy.execute(f"INSERT OR IGNORE INTO {quoted} VALUES ({','.join('?' * len(row))})", row)
