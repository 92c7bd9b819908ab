"""The parts of the demo, and the whole of it, as `make demo` runs it, with an engine that finds nothing."""

from __future__ import annotations

import importlib
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest

from qdtrack_ros.data.synthetic import street
from qdtrack_ros.data.types import DataError, Sequence

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


@pytest.fixture
def results(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    return importlib.import_module("demo_results")


@pytest.fixture
def video(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    return importlib.import_module("demo_video")


def tracks_of(results: ModuleType, sequence: Sequence) -> dict:  # type: ignore[type-arg]
    found = {}
    for frame in sequence.frames:
        boxes = np.array([a.box for a in frame.annotations], np.float32).reshape(-1, 4)
        ids = np.array([a.instance_id for a in frame.annotations], np.int64)
        labels = ("person",) * len(ids)
        found[frame.timestamp_ns] = results.FrameTracks(ids, boxes, np.ones(len(ids), np.float32), labels)
    return found


def test_figures_add_up(results: ModuleType) -> None:
    tracks = tracks_of(results, street(11, (192, 144), walkers=3))
    summary = results.figures(results.Recording(tracks, [float(v) for v in range(11)], (14, 11, 3)), 15)
    assert (summary.played, summary.received, summary.processed, summary.dropped) == (15, 14, 11, 3)
    assert (summary.p50_ms, summary.seconds, summary.ids) == (5.0, 1.0, 3)
    assert "15 frames in (1 lost on the way), 11 processed (11.0/s), 3 dropped" in str(summary)


@pytest.mark.parametrize(
    ("counts", "latencies", "text"),
    [((0, 0, 0), 0, "none was processed"), ((9, 3, 5), 3, "received 9"), ((3, 3, 0), 2, "were recorded")],
)
def test_figures_that_do_not_add_up_fail(
    counts: tuple[int, int, int], latencies: int, text: str, results: ModuleType
) -> None:
    tracks = tracks_of(results, street(3, (96, 64), walkers=1))
    with pytest.raises(results.DemoError, match=text):
        results.figures(results.Recording(tracks, [1.0] * latencies, counts), 9)


def test_dropped_frames_are_in_the_video_but_not_in_the_text(results: ModuleType, tmp_path: Path) -> None:
    sequence = street(4, (192, 144), walkers=2)
    tracks = tracks_of(results, sequence)
    del tracks[sequence.frames[2].timestamp_ns]
    results.write_tracks(tmp_path / "tracks.txt", sequence, tracks)
    rows = np.loadtxt(tmp_path / "tracks.txt", delimiter=",")
    assert sorted(set(rows[:, 0])) == [1, 2, 4]
    results.draw_video(tmp_path / "tracked.mp4", sequence, tracks)
    capture = cv2.VideoCapture(str(tmp_path / "tracked.mp4"))
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == 4


@pytest.mark.parametrize(("frames", "rows"), [(30, 3), (2, 1)])
def test_contact_sheet_shows_frames_over_the_whole_video(
    frames: int, rows: int, results: ModuleType, tmp_path: Path
) -> None:
    sequence = street(frames, (160, 120))
    path = tmp_path / "sheet.png"
    results.draw_contact_sheet(path, sequence, tracks_of(results, sequence), "title", "a line that is long " * 20)
    sheet = cv2.imread(str(path))
    cell = results.TILE[1] + results.CAPTION_HEIGHT + results.MARGIN
    assert sheet.shape[:2] == (results.TITLE_HEIGHT + rows * cell, 3 * results.TILE[0] + 4 * results.MARGIN)
    assert (sheet[:, -results.MARGIN :] == results.PAPER).all()  # nothing runs over the edge


@pytest.mark.parametrize(("rate", "kept"), [(10.0, list(range(7))), (30.0, [0, 3, 6]), (5.0, list(range(7)))])
def test_videos_are_thinned_to_ten_frames_a_second(rate: float, kept: list[int], video: ModuleType) -> None:
    source = street(7, (96, 64), frame_rate=rate)
    thinned = video.sampled(source)
    assert [frame.index for frame in thinned.frames] == kept
    assert thinned.frame_rate == min(rate, 10.0)


def test_long_videos_are_cut_to_what_a_bag_may_take(video: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video, "MAX_BAG_BYTES", 4 * 96 * 64 * 3)
    assert len(video.sampled(street(9, (96, 64))).frames) == 4


def test_without_apt_there_is_a_drawn_street(
    video: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(video, "INSTALLED", tmp_path / "none.avi")
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert video.find_video(None, tmp_path).name == "synthetic_street"
    assert "drawn street" in capsys.readouterr().out


def test_failing_downloads_leave_nothing(video: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[list[str]] = []

    def fail(arguments: list[str], folder: Path) -> bool:
        tried.append(arguments)
        return False

    monkeypatch.setattr(video, "INSTALLED", tmp_path / "none.avi")
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(video, "run_apt", fail)
    assert video.cached_vtest(tmp_path / "cache") is None
    assert tried[0] == ["download", "opencv-doc"] and tried[1][-1] == "update"
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="dpkg-deb is not installed")
@pytest.mark.parametrize("name", ["vtest.avi", "vtest.avi.gz"])
def test_unpack_finds_the_video(name: str, video: ModuleType, tmp_path: Path) -> None:
    import gzip

    tree = tmp_path / "tree"
    (tree / "DEBIAN").mkdir(parents=True)
    control = "Package: opencv-doc\nVersion: 1\nArchitecture: all\nMaintainer: a <a@b.c>\nDescription: test\n"
    (tree / "DEBIAN" / "control").write_text(control, encoding="ascii")
    data = tree / "usr" / "share" / "data"
    data.mkdir(parents=True)
    (data / name).write_bytes(gzip.compress(b"video") if name.endswith(".gz") else b"video")
    subprocess.run(["dpkg-deb", "--build", str(tree), str(tmp_path / "p.deb")], check=True, capture_output=True)
    assert video.unpack(tmp_path / "p.deb", tmp_path / "vtest.avi")
    assert (tmp_path / "vtest.avi").read_bytes() == b"video"


def test_the_bag_is_written_once(video: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("rosbags")
    first = video.cached_bag(street(3, (96, 64)), None, tmp_path, "/camera/image_raw", None)
    made = first.stat().st_mtime_ns
    assert video.cached_bag(street(3, (96, 64)), None, tmp_path, "/camera/image_raw", None) == first
    assert first.stat().st_mtime_ns == made
    other = video.cached_bag(street(3, (96, 64)), None, tmp_path, "/camera/image_raw", 2)
    assert other.is_dir() and not first.exists()  # one at a time: bags are large
    usage = shutil._ntuple_diskusage(10, 10, 0)  # type: ignore[attr-defined]
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(DataError, match="free"):
        video.cached_bag(street(4, (96, 64)), None, tmp_path, "/camera/image_raw", None)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for frame in street(20, (96, 64)).frames:
        cv2.imwrite(str(folder / f"{frame.index:03d}.png"), frame.load())
    return folder


def demo_command(pictures: Path, tmp_path: Path, *more: str) -> list[str]:
    pytest.importorskip("rclpy")
    pytest.importorskip("qdtrack_ros.msg")
    words = [str(pictures), "--output", str(tmp_path / "out"), "--cache", str(tmp_path / "cache")]
    return [sys.executable, str(SCRIPTS / "demo.py"), *words, "--param", "engine:=noop", *more]


def test_demo_leaves_its_results(pictures: Path, tmp_path: Path) -> None:
    done = subprocess.run(demo_command(pictures, tmp_path), capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    out = tmp_path / "out"
    names = ["contact_sheet.png", "figures.txt", "node.log", "recording", "tracked.mp4", "tracks.txt"]
    assert sorted(path.name for path in out.iterdir()) == names
    line = (out / "figures.txt").read_text(encoding="utf-8")
    assert line.startswith("20 frames in") and done.stdout.rstrip().endswith(line.strip())
    assert "shutting down" in (out / "node.log").read_text(encoding="utf-8")


def test_demo_says_why_the_node_does_not_start(pictures: Path, tmp_path: Path) -> None:
    command = demo_command(pictures, tmp_path, "--param", "preset:=nonsense")
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 1
    assert "nonsense" in done.stderr and "node.log" in done.stderr


def test_interrupted_demo_ends_its_node(pictures: Path, tmp_path: Path) -> None:
    demo = subprocess.Popen(demo_command(pictures, tmp_path), stderr=subprocess.PIPE, text=True)
    log = tmp_path / "out" / "node.log"
    deadline = time.monotonic() + 240
    while not (log.is_file() and "active: waiting" in log.read_text(encoding="utf-8")):
        assert demo.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    nodes = children_of(demo.pid)
    assert nodes
    demo.send_signal(signal.SIGINT)
    assert demo.wait(60) == 130
    assert demo.stderr is not None and "interrupted" in demo.stderr.read()
    assert not any(Path(f"/proc/{pid}").exists() for pid in nodes)


def children_of(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return [int(child) for task in tasks for child in (task / "children").read_text().split()]
