"""One file over HTTP: taken up where it stopped, checked, and put in its place whole or not at all."""

from __future__ import annotations

import contextlib
import fcntl
import http.client
import os
import re
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import IO, Any, NoReturn

from qdtrack_ros import __version__
from qdtrack_ros.files import file_sha256, put_in_place

Progress = Callable[[int, int | None], None]

_CHUNK = 1 << 18
_PROGRESS_BYTES = 1 << 16  # fewer than this of a file are no progress: a server may not keep us busy byte by byte
_RETRIED_STATUS = (408, 425, 429, 500, 502, 503, 504)
_USER_AGENT = f"qdtrack_ros/{__version__}"


class DownloadError(RuntimeError):
    """A file that could not be had; the message says why and what to do."""


class _InterruptionError(Exception):
    """The connection broke, or the server was busy: worth another attempt."""


@dataclass(frozen=True)
class DownloadOptions:
    """How patient a download is.

    Args:
        attempts: attempts in a row that may bring nothing before it gives up.
        timeout_s: silence of the server that counts as a broken connection.
        pause_s: wait before the second attempt in a row; it doubles with each further one.
    """

    attempts: int = 5
    timeout_s: float = 30.0
    pause_s: float = 1.0


def download(
    url: str,
    target: Path,
    sha256: str = "",
    size: int = 0,
    progress: Progress | None = None,
    options: DownloadOptions | None = None,
) -> str:
    """Fetch a file.

    What has arrived lies beside the target as ``NAME.part`` until it is complete and checked; a broken download goes on
    from there, in this call or in a later one, if the server says that its file is still the same. A file of the wrong
    hash is removed.

    Args:
        url: ``https://`` or ``http://``.
        target: where the file goes; its folder is made. A file that is there already is checked and left alone.
        sha256: hash that it must have, in hexadecimal, or the beginning of it; empty where none is known.
        size: bytes that it must have; 0 where that is not known.
        progress: told (bytes so far, bytes in all or None) now and then.
        options: see :class:`DownloadOptions`.

    Returns:
        The file's sha256.

    Raises:
        DownloadError: no network, no such file, another process is at it, a wrong size or hash, a full disk.
    """
    if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
        raise DownloadError(f"{url} is no address that files are fetched from; expected https:// or http://")
    part = target.with_name(f"{target.name}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _locked(part) as stream:
            if target.exists():
                _discard(part)
                return _check_existing(target, sha256)
            transfer = _Transfer(url, part, stream, sha256, size, progress or _tell_nobody)
            transfer.run(options or DownloadOptions())
            digest = _check(part, sha256)
            put_in_place(part, target)
    except OSError as error:
        raise DownloadError(
            f"{target} cannot be written ({error.strerror or error}); make room or name another folder, then run it "
            "again: what has arrived is kept"
        ) from error
    _tag_of(part).unlink(missing_ok=True)
    return digest


def _tell_nobody(received: int, total: int | None) -> None:
    pass


class _Transfer:
    """Brings the bytes of one address into an open file.

    Args:
        url: the address.
        part: the file's name, for the tag beside it.
        stream: the file itself, open for appending.
        sha256: hash that the whole must have; empty where none is known.
        size: bytes that it must have; 0 where that is not known.
        progress: told how far it is.
    """

    def __init__(self, url: str, part: Path, stream: IO[bytes], sha256: str, size: int, progress: Progress) -> None:
        self._url = url
        self._host = urllib.parse.urlsplit(url).hostname or url
        self._stream = stream
        self._tag = _tag_of(part)
        self._sha256 = sha256
        self._expected = size
        self._progress = progress
        self._opener = urllib.request.build_opener(_SafeRedirects)
        self._began = False

    def run(self, options: DownloadOptions) -> None:
        """Fetch until it is complete, going on after each break."""
        failures, mark = 0, self._size()
        while True:
            try:
                return self._attempt(options.timeout_s)
            except _InterruptionError as error:
                if self._size() >= mark + _PROGRESS_BYTES:
                    failures, mark = 0, self._size()
                failures += 1
                if failures >= options.attempts:
                    raise DownloadError(
                        f"{self._url}: {error}; gave up after {failures} attempts in a row. Run it again "
                        "later: what has arrived is kept"
                    ) from error
                time.sleep(options.pause_s * 2 ** (failures - 1))

    def _attempt(self, timeout_s: float) -> None:
        start = self._resume_from()
        try:
            response = self._opener.open(self._request(start), timeout=timeout_s)
        except urllib.error.HTTPError as error:
            with error:
                return self._refused(error, start)
        except (OSError, http.client.HTTPException) as error:
            self._unreachable(error)
        with response:
            self._began = True
            self._receive(response, start)

    def _resume_from(self) -> int:
        """Bytes to go on from; 0 where nothing would tell that they are of the file that the server has now."""
        size = self._size()
        if size and not (self._sha256 or self._validator()):
            self._truncate()
            return 0
        return size

    def _request(self, start: int) -> urllib.request.Request:
        headers = {"User-Agent": _USER_AGENT, "Accept-Encoding": "identity"}
        if start:
            headers["Range"] = f"bytes={start}-"
            if self._validator():
                headers["If-Range"] = self._validator()
        return urllib.request.Request(self._url, headers=headers)

    def _refused(self, error: urllib.error.HTTPError, start: int) -> None:
        if error.code == 416 and start:
            if _range_of(error.headers) == (None, start):
                return  # the break came after the last byte
            self._truncate()
            raise _InterruptionError("the server has less of the file than had arrived; starting anew")
        if error.code in _RETRIED_STATUS:
            self._began = True
            raise _InterruptionError(f"the server answers {error.code} ({error.reason})")
        reason = " ".join(str(error.reason).split())
        raise DownloadError(f"{self._url}: the server answers {error.code} ({reason}); the file may have moved")

    def _unreachable(self, error: Exception) -> NoReturn:
        reason = getattr(error, "reason", None) or error
        text = f"{self._host} cannot be reached ({' '.join(str(reason).split())})"
        if not self._began:
            raise DownloadError(f"{text}; is there a network connection, or a proxy to set (https_proxy)?") from error
        raise _InterruptionError(text)

    def _receive(self, response: http.client.HTTPResponse, start: int) -> None:
        headers = response.headers
        if headers.get_content_type() == "text/html":
            raise DownloadError(f"{self._url}: the server sent a web page instead of the file; open it in a browser")
        first, total = _range_of(headers) if response.status == 206 else (0, _length_of(headers))
        if first != start or (start and self._validator() not in ("", _validator_of(headers))):
            # Asked for the rest, it sends the whole, which is as good, or some other piece, or one of another file.
            self._truncate()
            if first != 0:
                raise _InterruptionError("the server sends another piece than it was asked for; starting anew")
        if self._expected and total not in (None, self._expected):
            raise DownloadError(f"{self._url}: the server has {total} bytes, expected {self._expected}; do not use it")
        total = total or self._expected or None
        self._keep_validator(headers)
        while block := self._read(response):
            self._stream.write(block)
            self._stream.flush()
            self._progress(self._size(), total)
            if total is not None and self._size() > total:
                self._truncate()
                raise DownloadError(f"{self._url}: the server sends more than {total} bytes; do not use it")
        if not self._size():
            raise _InterruptionError("the server sent nothing")
        if total is not None and self._size() < total:
            raise _InterruptionError(f"the connection ended after {self._size()} of {total} bytes")

    @staticmethod
    def _read(response: http.client.HTTPResponse) -> bytes:
        try:
            return response.read1(_CHUNK)
        except (OSError, http.client.HTTPException) as error:
            raise _InterruptionError(f"the connection broke ({error or type(error).__name__})") from error

    def _size(self) -> int:
        return os.fstat(self._stream.fileno()).st_size

    def _truncate(self) -> None:
        self._stream.truncate(0)

    def _validator(self) -> str:
        try:
            return self._tag.read_text(encoding="latin-1")
        except FileNotFoundError:
            return ""

    def _keep_validator(self, headers: Message) -> None:
        validator = _validator_of(headers)
        if validator != self._validator():
            self._tag.write_text(validator, encoding="latin-1")


class _SafeRedirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to the web only, and never from https to http; loops end with urllib's own error."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        allowed = ("https",) if req.type == "https" else ("http", "https")
        if urllib.parse.urlsplit(newurl).scheme not in allowed:
            raise DownloadError(f"{req.full_url} redirects to {newurl}, which is not followed")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


@contextlib.contextmanager
def _locked(part: Path) -> Iterator[IO[bytes]]:
    """Open a file for appending, for this process alone."""
    while True:
        with part.open("ab") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise DownloadError(f"another process is downloading {part.with_suffix('')}; wait for it") from error
            # Between opening and locking, another process may have put the file in its place.
            if part.exists() and os.path.samestat(part.stat(), os.fstat(stream.fileno())):
                try:
                    yield stream
                finally:
                    if os.fstat(stream.fileno()).st_size == 0:
                        part.unlink(missing_ok=True)
                return


def _check(part: Path, sha256: str) -> str:
    digest = file_sha256(part)
    if not digest.startswith(sha256.lower()):
        _discard(part)
        raise DownloadError(
            f"the file that arrived has sha256 {digest}, expected {sha256}: it was damaged or exchanged, and is "
            "removed. Run it again; if that does not help, do not use it"
        )
    return digest


def _check_existing(target: Path, sha256: str) -> str:
    digest = file_sha256(target)
    if not digest.startswith(sha256.lower()):
        raise DownloadError(
            f"{target} is there already and is not the published file: sha256 {digest}, expected {sha256}; remove it, "
            "then run it again"
        )
    return digest


def _validator_of(headers: Message) -> str:
    """What tells this version of the server's file from others; a weak ETag does not."""
    etag = headers.get("ETag", "")
    return etag if etag and not etag.startswith("W/") else headers.get("Last-Modified", "")


def _length_of(headers: Message) -> int | None:
    text = headers.get("Content-Length", "")
    return int(text) if text.isdecimal() else None


def _range_of(headers: Message) -> tuple[int | None, int | None]:
    """First byte and size of the whole, of a Content-Range."""
    found = re.fullmatch(r"bytes (?:(\d+)-\d+|\*)/(?:(\d+)|\*)", headers.get("Content-Range", "").strip())
    first, total = found.groups() if found else (None, None)
    return int(first) if first else None, int(total) if total else None


def _tag_of(part: Path) -> Path:
    return part.with_name(f"{part.name}.tag")


def _discard(part: Path) -> None:
    part.unlink(missing_ok=True)
    _tag_of(part).unlink(missing_ok=True)
