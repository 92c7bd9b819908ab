"""What is left of damaged bag files (a killed recording, a full disk, a copy cut off), as readable files.

Works from the published layouts of MCAP and of rosbag2's SQLite storage. Reading a copy that is whole again is simpler,
and safer for the original, than reading around the damage.
"""

from __future__ import annotations

import shutil
import sqlite3
import struct
from pathlib import Path
from typing import BinaryIO

from qdtrack_ros.data.types import DataError

_MCAP_MAGIC = b"\x89MCAP0\r\n"
_MCAP_HEADER, _MCAP_FOOTER, _MCAP_DATA_END = 0x01, 0x02, 0x0F
_RECORD_HEADER = struct.Struct("<BQ")  # opcode, length of what follows
_COPY_BYTES = 1 << 20


def repair(path: Path, folder: Path) -> Path:
    """Copy what can be read of a ``.mcap`` or ``.db3`` file into ``folder``, as a file of the same name.

    Raises:
        DataError: nothing can be read, or the file is of another kind.
    """
    target = folder / path.name
    if path.suffix == ".mcap":
        _repair_mcap(path, target)
    elif path.suffix == ".db3":
        _repair_sqlite(path, target)
    else:
        raise DataError(f"{path}: damaged, and only .mcap and .db3 files can be repaired")
    return target


def _repair_mcap(path: Path, target: Path) -> None:
    """Keep the complete records before the damage; close the file without an index, which readers then do without."""
    size = path.stat().st_size
    with path.open("rb") as source, target.open("wb") as copy:
        if source.read(len(_MCAP_MAGIC)) != _MCAP_MAGIC:
            raise DataError(f"{path}: not an MCAP file; its first bytes are another format's")
        copy.write(_MCAP_MAGIC)
        records = 0
        while len(header := source.read(_RECORD_HEADER.size)) == _RECORD_HEADER.size:
            opcode, length = _RECORD_HEADER.unpack(header)
            at_end = opcode in (0, _MCAP_FOOTER, _MCAP_DATA_END)
            if at_end or source.tell() + length > size or (records == 0) != (opcode == _MCAP_HEADER):
                break
            copy.write(header)
            _copy_bytes(source, copy, length)
            records += 1
        if records == 0:
            raise DataError(f"{path}: damaged from its first record on; nothing can be read")
        copy.write(_RECORD_HEADER.pack(_MCAP_DATA_END, 4) + bytes(4))
        copy.write(_RECORD_HEADER.pack(_MCAP_FOOTER, 20) + bytes(20))
        copy.write(_MCAP_MAGIC)


def _copy_bytes(source: BinaryIO, copy: BinaryIO, length: int) -> None:
    while length > 0:
        block = source.read(min(length, _COPY_BYTES))
        copy.write(block)
        length -= len(block)


def _repair_sqlite(path: Path, target: Path) -> None:
    """Copy every table row by row up to the first unreadable one.

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
    try:
        for row in source.execute(f"SELECT * FROM {quoted} ORDER BY rowid"):
            copy.execute(f"INSERT INTO {quoted} VALUES ({','.join('?' * len(row))})", row)
    except sqlite3.DatabaseError:
        return  # the rows before the damage are copied
