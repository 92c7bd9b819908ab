"""Downloads from a server on this machine that fails in every way we could think of."""

from __future__ import annotations

import fcntl
import hashlib
import os
import resource
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from file_server import FileServer, answer, cut_after, serving, status, without_ranges

from qdtrack_ros.download import DownloadError, DownloadOptions, _SafeRedirects, download

CONTENT = np.random.default_rng(0).bytes(1_500_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
FAST = DownloadOptions(attempts=3, timeout_s=5.0, pause_s=0.001)


@pytest.fixture(autouse=True)
def direct(monkeypatch):
    """Whatever proxy this machine has: the server is on it."""
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture
def server():
    with serving(CONTENT) as file:
        yield file


@pytest.fixture
def target(tmp_path) -> Path:
    return tmp_path / "cache" / "file.pth"


def fetch(server: FileServer, target: Path, sha256: str = SHA256, **options) -> str:
    return download(server.url, target, sha256, options=FAST, **options)


def left(target: Path) -> list[str]:
    return sorted(path.name for path in target.parent.iterdir())


def test_a_file_arrives_whole_and_nothing_else_is_left(server, target):
    told: list[tuple[int, int | None]] = []
    assert fetch(server, target, progress=lambda *step: told.append(step)) == SHA256
    assert target.read_bytes() == CONTENT
    assert left(target) == ["file.pth"]
    assert told[-1] == (len(CONTENT), len(CONTENT)) and [n for n, _ in told] == sorted(n for n, _ in told)
    assert "qdtrack_ros" in server.requests[0][1]["User-Agent"]


@pytest.mark.parametrize("known", ["", SHA256[:8], SHA256, SHA256.upper()])
def test_a_hash_may_be_unknown_or_known_by_its_beginning(server, target, known):
    assert fetch(server, target, known) == SHA256


def test_a_file_that_is_there_is_checked_and_not_fetched_again(server, target):
    fetch(server, target)
    assert fetch(server, target) == SHA256 and len(server.requests) == 1
    target.write_bytes(b"something else")
    with pytest.raises(DownloadError, match=r"is there already and is not the published file.*remove it"):
        fetch(server, target)
    assert target.read_bytes() == b"something else" and len(server.requests) == 1
    assert left(target) == ["file.pth"]


def test_a_wrong_hash_is_an_error_and_the_file_is_removed(server, target):
    with pytest.raises(DownloadError, match=rf"sha256 {SHA256}, expected 0{{64}}.*removed"):
        fetch(server, target, "0" * 64)
    assert left(target) == []


def test_broken_connections_are_taken_up_where_they_broke(server, target):
    server.faults = [cut_after(300_000), cut_after(500_000)]
    assert fetch(server, target) == SHA256
    assert target.read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=300000-", "bytes=800000-"]
    assert [headers.get("If-Range") for _, headers in server.requests] == [None, '"one"', '"one"']


def test_a_later_call_goes_on_where_an_earlier_one_gave_up(server, target):
    server.faults = [cut_after(400_000), status(503), status(503), status(503)]
    with pytest.raises(DownloadError, match=r"503.*gave up after 3 attempts.*what has arrived is kept"):
        fetch(server, target)
    assert left(target) == ["file.pth.part", "file.pth.part.tag"]
    assert (target.parent / "file.pth.part").read_bytes() == CONTENT[:400_000]
    assert fetch(server, target) == SHA256
    assert server.ranges[-1] == "bytes=400000-" and left(target) == ["file.pth"]


def test_a_file_that_changed_meanwhile_is_fetched_anew(server, target):
    server.faults = [cut_after(400_000), *[status(500)] * 3]
    with pytest.raises(DownloadError, match="500"):
        fetch(server, target, "")
    server.content, server.etag = CONTENT[::-1], '"two"'
    fetch(server, target, "")
    assert target.read_bytes() == CONTENT[::-1]


def test_without_hash_and_without_a_tag_nothing_is_taken_up(server, target):
    server.etag = ""
    server.faults = [cut_after(400_000)]
    fetch(server, target, "")
    assert target.read_bytes() == CONTENT and server.ranges == [None, None]


def test_with_a_hash_it_is_taken_up_without_a_tag_too(server, target):
    server.etag = ""
    server.faults = [cut_after(400_000)]
    assert fetch(server, target) == SHA256
    assert server.ranges == [None, "bytes=400000-"]


def test_a_weak_tag_does_not_count(server, target):
    server.etag = 'W/"one"'
    server.faults = [cut_after(400_000)]
    fetch(server, target, "")
    assert server.ranges == [None, None]


def test_a_server_that_ignores_ranges_is_read_from_the_start(server, target):
    server.faults = [cut_after(400_000), without_ranges]
    assert fetch(server, target) == SHA256
    assert target.read_bytes() == CONTENT and server.ranges == [None, "bytes=400000-"]


def test_a_server_that_sends_another_piece_is_asked_again(server, target):
    def another(handler, file):
        handler.headers.replace_header("Range", "bytes=100-")
        answer(handler, file)

    server.faults = [cut_after(400_000), another]
    assert fetch(server, target) == SHA256
    assert server.ranges == [None, "bytes=400000-", None]


def test_a_piece_that_does_not_say_where_it_begins_is_not_taken(server, target):
    def unlabelled(handler, file):
        handler.send_response(206)
        handler.end_headers()
        handler.wfile.write(file.content[400_000:])

    server.faults = [cut_after(400_000), unlabelled]
    assert fetch(server, target) == SHA256
    assert server.ranges == [None, "bytes=400000-", None]


def test_a_server_that_ignores_the_condition_does_not_mix_two_files(server, target):
    def unconditional(handler, file):
        del handler.headers["If-Range"]
        file.content, file.etag = CONTENT[::-1], '"two"'
        answer(handler, file)

    server.faults = [cut_after(400_000), unconditional]
    fetch(server, target, "")
    assert target.read_bytes() == CONTENT[::-1]


def test_nothing_at_all_is_no_file(server, target):
    server.faults = [status(200)] * 3
    with pytest.raises(DownloadError, match="the server sent nothing; gave up"):
        fetch(server, target, "")
    assert left(target) == []


def test_a_break_after_the_last_byte_is_no_loss(server, target):
    target.parent.mkdir()
    (target.parent / "file.pth.part").write_bytes(CONTENT)
    assert fetch(server, target) == SHA256
    assert server.ranges == [f"bytes={len(CONTENT)}-"]


def test_more_than_there_is_begins_anew(server, target):
    target.parent.mkdir()
    (target.parent / "file.pth.part").write_bytes(CONTENT + b"and more")
    assert fetch(server, target) == SHA256
    assert target.read_bytes() == CONTENT


def test_a_damaged_beginning_is_found_by_the_hash(server, target):
    target.parent.mkdir()
    (target.parent / "file.pth.part").write_bytes(b"x" * 1000)
    with pytest.raises(DownloadError, match="damaged or exchanged"):
        fetch(server, target)
    assert left(target) == []
    assert fetch(server, target) == SHA256


def test_a_length_that_is_too_large_ends_in_an_error(server, target):
    def liar(handler, file):
        del handler.headers["Range"]
        answer(handler, file, claim=len(CONTENT) + 5)

    server.faults = [liar] * 9
    with pytest.raises(DownloadError, match=rf"{len(CONTENT)} of {len(CONTENT) + 5} bytes; gave up after 3"):
        fetch(server, target, "")
    assert len(server.requests) == 3


def test_a_length_that_is_too_large_is_put_right_by_the_answer_to_a_range(server, target):
    server.faults = [lambda handler, file: answer(handler, file, claim=len(CONTENT) + 5)]
    assert fetch(server, target) == SHA256
    assert server.ranges == [None, f"bytes={len(CONTENT)}-"]


def test_a_length_that_is_too_small_is_found_by_the_hash_or_by_the_size(server, target):
    def liar(handler, file):
        answer(handler, file, claim=1000)

    server.faults = [liar, liar]
    with pytest.raises(DownloadError, match="damaged or exchanged"):
        fetch(server, target)
    with pytest.raises(DownloadError, match=f"the server has 1000 bytes, expected {len(CONTENT)}"):
        fetch(server, target, "", size=len(CONTENT))
    assert left(target) == []


def test_more_than_announced_by_the_catalogue_is_refused(server, target):
    def endless(handler, file):
        handler.send_response(200)
        handler.end_headers()  # no length: until the connection ends
        handler.wfile.write(file.content + b"!")

    server.faults = [endless]
    with pytest.raises(DownloadError, match="sends more than"):
        fetch(server, target, size=len(CONTENT))
    assert left(target) in ([], ["file.pth.part.tag"])


@pytest.mark.parametrize("code", [400, 401, 403, 404, 410])
def test_a_file_that_is_not_there_is_told_at_once(server, target, code):
    server.faults = [status(code)]
    with pytest.raises(DownloadError, match=rf"file\.pth: the server answers {code} .*may have moved"):
        fetch(server, target)
    assert len(server.requests) == 1 and left(target) == []


def test_a_busy_server_is_asked_again(server, target):
    server.faults = [status(503), status(429)]
    assert fetch(server, target) == SHA256


def test_no_network_is_one_clear_error(target):
    with serving(b"x") as gone:
        pass
    with pytest.raises(DownloadError, match=r"127\.0\.0\.1 cannot be reached .*is there a network connection"):
        fetch(gone, target)
    assert left(target) == []


def test_a_name_that_is_nowhere_is_one_clear_error(target):
    with pytest.raises(DownloadError, match=r"nowhere\.invalid cannot be reached"):
        download("https://nowhere.invalid/file.pth", target, options=FAST)


def test_a_silent_server_is_given_up(server, target):
    def silent_after(count):
        def fault(handler, file):
            answer(handler, file, cut=count)
            handler.rfile.read(1)  # until the client goes away

        return fault

    server.faults = [silent_after(200_000), *[silent_after(0)] * 9]
    with pytest.raises(DownloadError, match=r"gave up.*kept"):
        download(server.url, target, SHA256, options=DownloadOptions(3, 0.2, 0.001))
    assert (target.parent / "file.pth.part").stat().st_size == 200_000


def test_a_server_may_not_keep_us_busy_byte_by_byte(server, target):
    server.faults = [cut_after(10)] * 50
    with pytest.raises(DownloadError, match="gave up"):
        fetch(server, target)
    assert len(server.requests) == 3


def test_a_web_page_is_no_model(server, target):
    def page(handler, file):
        handler.send_response(200)
        handler.send_header("Content-Type", "text/html; charset=utf-8")
        handler.end_headers()
        handler.wfile.write(b"<html>confirm that you want this</html>")

    server.faults = [page]
    with pytest.raises(DownloadError, match="a web page instead of the file"):
        fetch(server, target, "")
    assert left(target) == []


def test_redirects_are_followed_but_not_in_circles(server, target):
    server.faults = [status(302, Location="/elsewhere/other.pth")]
    assert fetch(server, target) == SHA256
    assert left(target) == ["file.pth"], "the name is ours, not the server's"
    target.unlink()
    server.faults = [status(302, Location="/models/file.pth")] * 50
    with pytest.raises(DownloadError, match="302 .*infinite loop"):
        fetch(server, target)


@pytest.mark.parametrize("where", ["file:///etc/passwd", "ftp://127.0.0.1/x"])
def test_redirects_and_addresses_lead_nowhere_but_to_the_web(server, target, where):
    server.faults = [status(302, Location=where)]
    with pytest.raises(DownloadError, match="not followed|not allowed"):
        fetch(server, target)
    with pytest.raises(DownloadError, match="no address that files are fetched from"):
        download(where, target)


def test_no_redirect_leads_from_https_to_http():
    request = urllib.request.Request("https://example.org/a")
    with pytest.raises(DownloadError, match="not followed"):
        _SafeRedirects().redirect_request(request, None, 302, "", {}, "http://example.org/a")  # type: ignore[arg-type]
    followed = _SafeRedirects().redirect_request(request, None, 302, "", {}, "https://cdn.example.org/a")  # type: ignore[arg-type]
    assert followed is not None and followed.full_url == "https://cdn.example.org/a"


def test_two_processes_do_not_write_one_file(server, target):
    target.parent.mkdir()
    part = target.parent / "file.pth.part"
    with part.open("ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(DownloadError, match=r"another process is downloading .*cache/file\.pth; wait"):
            fetch(server, target)
    assert not server.requests
    assert fetch(server, target) == SHA256


def test_many_at_once_end_with_one_whole_file(server, target):
    code = (
        "import sys; from pathlib import Path; from qdtrack_ros.download import *\n"
        "try:\n    download(sys.argv[1], Path(sys.argv[2]), sys.argv[3])\n"
        "except DownloadError as error:\n    assert 'another process' in str(error), error; sys.exit(3)"
    )
    words = [sys.executable, "-c", code, server.url, str(target), SHA256]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    processes = [subprocess.Popen(words, env=environment) for _ in range(4)]
    codes = [process.wait() for process in processes]
    assert 0 in codes and set(codes) <= {0, 3}
    assert target.read_bytes() == CONTENT and left(target) == ["file.pth"]


def test_a_full_disk_keeps_what_has_arrived(server, target):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, before[1]))
        with pytest.raises(DownloadError, match=r"file\.pth cannot be written .*make room.*what has arrived is kept"):
            fetch(server, target)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert (target.parent / "file.pth.part").stat().st_size <= 600_000
    assert fetch(server, target) == SHA256
    assert server.ranges[1] is not None


def test_a_folder_that_cannot_be_written_is_told(server, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DownloadError, match="cannot be written"):
        fetch(server, tmp_path / "file" / "file.pth")
