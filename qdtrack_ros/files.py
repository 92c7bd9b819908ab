"""Files on disk: written whole or not at all, refused before long work where they cannot be, told apart by a hash."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import secrets
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """Open a new file that takes the place of ``path`` when the ``with`` block ends.

    A crash, a full disk or an exception in the block leaves the old file or none, never half of one, and no other file
    beside it; a kill may leave the hidden file that was being written.

    Args:
        path: the file to write; its folder is made.

    Yields:
        The new file, open for writing.

    Raises:
        OSError: it cannot be written; the error names ``path``.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        _check_replaceable(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("xb") as stream:
                yield stream
            put_in_place(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        if error.errno is not None and str(error.filename or temporary) == str(temporary):
            raise OSError(error.errno, error.strerror, str(path)) from error  # a name that somebody knows
        raise


def remove_leftovers(path: Path) -> None:
    """Remove the hidden files that kills left where ``path`` was being written; for whoever writes it alone.

    Args:
        path: as it was given to :func:`replacing`. What cannot be removed stays.
    """
    leftover = re.compile(rf"\.{re.escape(path.name)}\.[0-9a-f]{{8}}\.part")
    with contextlib.suppress(OSError):
        for name in os.listdir(path.parent):
            if leftover.fullmatch(name):
                with contextlib.suppress(OSError):
                    (path.parent / name).unlink()


def put_in_place(temporary: Path, path: Path) -> None:
    """Give a finished file its name, once all of it is on the disk; both names are in one folder.

    Raises:
        OSError: the disk is full or fails; ``path`` is as it was.
    """
    sync(temporary)
    os.replace(temporary, path)
    with contextlib.suppress(OSError):  # not every file system can make the renaming itself durable
        sync(path.parent)


def sync(path: Path) -> None:
    """Have the disk hold what was written to a file or a folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def check_writable(path: Path) -> None:
    """Find out before long work whether a file can be written after it; leaves nothing behind.

    Raises:
        OSError: it cannot; the message says why, and is meant for the user.
    """
    _check_replaceable(path)
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    if not folder.is_dir():
        raise NotADirectoryError(f"{path} cannot be written: {folder} is a file, not a folder; name another place")
    try:
        # Permissions do not tell: root has them all, and a file system may still be read-only or full.
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        reason = "no files can be made in it" if isinstance(error, FileNotFoundError) else error.strerror
        raise OSError(f"{path} cannot be written: {folder}: {reason}; name another place") from error


def file_sha256(path: Path) -> str:
    """Hash of a file's bytes, 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _check_replaceable(path: Path) -> None:
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; name a file in it")
    if path.exists() and not path.is_file():
        raise OSError(f"{path} is a device or a pipe, which would be replaced by a file; name a file")


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write JSON for people to read, too; see :func:`replacing`."""
    with replacing(path) as file:
        file.write((json.dumps(content, indent=2) + "\n").encode())
