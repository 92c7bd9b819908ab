"""An HTTP server on this machine that gives one file, and misbehaves as told."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class FileServer:
    """What the server does with the next requests.

    Attributes:
        content: the file.
        etag: of the file; empty for none.
        faults: what to do instead of answering well, one for each request, first to last; None answers well.
        requests: (path, headers) of what came.
        url: address of the file.
    """

    content: bytes
    etag: str = '"one"'
    faults: list[Callable[[BaseHTTPRequestHandler, FileServer], None] | None] = field(default_factory=list)
    requests: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    url: str = ""

    @property
    def ranges(self) -> list[str | None]:
        """The Range of each request."""
        return [headers.get("Range") for _, headers in self.requests]


class _Handler(BaseHTTPRequestHandler):
    file: FileServer

    def do_GET(self) -> None:  # noqa: N802 (the name that http.server calls)
        self.file.requests.append((self.path, dict(self.headers)))
        fault = self.file.faults.pop(0) if self.file.faults else None
        if fault is not None:
            fault(self, self.file)
        else:
            answer(self, self.file)

    def log_message(self, *arguments: object) -> None:
        pass


def answer(handler: BaseHTTPRequestHandler, file: FileServer, cut: int | None = None, claim: int | None = None) -> None:
    """Answer as a good server does, Range and If-Range included.

    Args:
        handler: of the request.
        file: what to give.
        cut: end the connection after this many bytes.
        claim: announce this length instead of the true one.
    """
    asked, condition = handler.headers.get("Range"), handler.headers.get("If-Range")
    start = 0
    if asked and (condition is None or condition == file.etag):
        start = int(asked.removeprefix("bytes=").rstrip("-"))
    if start and start >= len(file.content):
        handler.send_response(416)
        handler.send_header("Content-Range", f"bytes */{len(file.content)}")
        handler.end_headers()
        return
    body = file.content[start:]
    handler.send_response(206 if start else 200)
    if start:
        handler.send_header("Content-Range", f"bytes {start}-{len(file.content) - 1}/{len(file.content)}")
    if file.etag:
        handler.send_header("ETag", file.etag)
    handler.send_header("Content-Type", "application/octet-stream")
    handler.send_header("Content-Length", str(len(body) if claim is None else claim))
    handler.end_headers()
    handler.wfile.write(body[:cut])


def cut_after(count: int) -> Callable[[BaseHTTPRequestHandler, FileServer], None]:
    """The connection ends early."""
    return lambda handler, file: answer(handler, file, cut=count)


def status(code: int, **headers: str) -> Callable[[BaseHTTPRequestHandler, FileServer], None]:
    """An answer without a file."""

    def fault(handler: BaseHTTPRequestHandler, file: FileServer) -> None:
        handler.send_response(code)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return fault


def without_ranges(handler: BaseHTTPRequestHandler, file: FileServer) -> None:
    """The whole file, whatever was asked for."""
    del handler.headers["Range"]
    answer(handler, file)


@contextmanager
def serving(content: bytes) -> Iterator[FileServer]:
    """Serve a file for the time of a ``with`` block."""
    file = FileServer(content)
    handler = type("Handler", (_Handler,), {"file": file})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    file.url = f"http://127.0.0.1:{server.server_port}/models/file.pth"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield file
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
