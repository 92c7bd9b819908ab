"""Files are replaced whole or left alone, and places that cannot be written to are found before the work."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

import pytest

from qdtrack_ros.files import check_writable, file_sha256, put_in_place, replacing


def write(path: Path, content: bytes) -> None:
    with replacing(path) as stream:
        stream.write(content)


def test_a_file_is_made_with_its_folder_and_then_replaced(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file.txt"
    write(path, b"old")
    with replacing(path) as stream:
        stream.write(b"new")
        stream.flush()
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new" and os.listdir(path.parent) == ["file.txt"]
    assert file_sha256(path) == hashlib.sha256(b"new").hexdigest()


def test_others_may_read_what_the_umask_lets_them(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write(tmp_path / "file.txt", b"")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file.txt").stat().st_mode) == 0o640


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_exception_in_the_block_leaves_the_old_file_alone(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "file.txt"
    path.write_bytes(b"old")
    with pytest.raises(error), replacing(path) as stream:
        stream.write(b"half")
        raise error
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["file.txt"]


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_disk_that_fails_is_told_with_the_file_s_own_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    path = tmp_path / "file.txt"
    path.write_bytes(b"old")

    def full(*names: object) -> None:
        raise OSError(28, "No space left on device", *names[:1] if call == "replace" else ())

    monkeypatch.setattr(os, call, full)
    with pytest.raises(OSError, match=r"No space left on device: '.*/file\.txt'$"):
        write(path, b"new")
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["file.txt"]


def test_the_content_is_on_the_disk_before_it_gets_its_name_and_the_name_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary, path = tmp_path / "file.part", tmp_path / "file.txt"
    temporary.write_bytes(b"new")
    synced, real = [], os.fsync

    def noted(descriptor: int) -> None:
        synced.append((os.readlink(f"/proc/self/fd/{descriptor}"), path.exists()))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    put_in_place(temporary, path)
    assert synced == [(str(temporary), False), (str(tmp_path), True)] and path.read_bytes() == b"new"


def test_a_place_that_can_be_written_to_is_left_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_writable(tmp_path / "a" / "b" / "file.txt")
    monkeypatch.chdir(tmp_path)
    check_writable(Path("file.txt"))
    assert os.listdir(tmp_path) == []
    (tmp_path / "file.txt").write_bytes(b"old")
    check_writable(tmp_path / "file.txt")
    assert (tmp_path / "file.txt").read_bytes() == b"old"


def test_places_that_cannot_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"old")
    with pytest.raises(IsADirectoryError, match="is a folder; name a file in it"):
        check_writable(tmp_path)
    with pytest.raises(OSError, match=r"below/x\.txt cannot be written: .*/file is a file, not a folder; name another"):
        check_writable(tmp_path / "file" / "below" / "x.txt")
    for folder in ("/proc", "/sys"):  # not even for root
        with pytest.raises(OSError, match=rf"x\.txt cannot be written: {folder}: .*; name another place"):
            check_writable(Path(folder) / "new" / "x.txt")


def test_a_device_or_a_pipe_is_never_replaced_by_a_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (Path("/dev/null"), tmp_path / "pipe"):
        for attempt in (check_writable, lambda path: write(path, b"")):
            with pytest.raises(OSError, match="is a device or a pipe"):
                attempt(path)
