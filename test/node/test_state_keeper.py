"""Ids persist across an end in order and across a kill, and are never given out twice."""

from __future__ import annotations

import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from qdtrack_ros.inference.types import Detections
from qdtrack_ros.node import state_file, state_keeper
from qdtrack_ros.node.camera import Camera
from qdtrack_ros.node.clock_guard import ClockGuard
from qdtrack_ros.node.session import TrackingSession
from qdtrack_ros.node.settings import RuntimeSettings
from qdtrack_ros.node.state_keeper import StateKeeper
from qdtrack_ros.tracking import AssociationConfig

PATIENCE_S = 60.0
RESERVED = 10_000


class Rig:
    """A camera with a tracker, as one process has it, and the keeper of its state."""

    def __init__(self, path, period_s=3600.0):
        session = TrackingSession(AssociationConfig(memory_frames=1000))
        self.camera = Camera("front", None, session, ClockGuard(), threading.Condition())
        self.failures = []
        settings = RuntimeSettings(state_save_period_s=period_s)
        self.keeper = StateKeeper(
            path, "model", {"front": self.camera}, threading.Lock(), lambda: settings, self.failures.append
        )

    def vanish(self):
        """Be gone, as an end or a kill of the process leaves it."""
        self.keeper.stop()
        self.keeper.release()

    def see(self, *appearances):
        """A frame with such objects; the ids of all live tracks."""
        count = len(appearances)
        boxes = np.array([[20 * i, 0, 20 * i + 10, 20] for i in range(count)], np.float32).reshape(-1, 4)
        embeddings = 20 * np.eye(16, dtype=np.float32)[list(appearances)].reshape(-1, 16)
        found = Detections(boxes, np.full(count, 0.9, np.float32), np.zeros(count, np.int64), embeddings)
        frame = self.camera.session.step(found, self.camera.session.frame_index)
        return sorted(view.track.id for view in frame.tracks)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state.npz"


@pytest.fixture
def rig(path):
    rig = Rig(path)
    yield rig
    rig.vanish()


def until(condition):
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_an_end_in_order_leaves_no_gap(rig, path):
    rig.keeper.start()
    rig.see(0, 1)
    rig.keeper.stop()
    rig.keeper.save()
    rig.vanish()
    second = Rig(path)
    assert "2 track(s) of front taken up" in second.keeper.load()
    assert second.see(0, 1, 2) == [0, 1, 2]
    assert second.camera.session.session_id == rig.camera.session.session_id


def test_after_a_kill_no_id_is_given_out_twice(rig, path):
    rig.see(0)
    rig.keeper.start()  # saves
    assert rig.see(0, 1, 2) == [0, 1, 2]
    rig.vanish()
    second = Rig(path)
    second.keeper.load()
    assert second.see(0, 3) == [0, RESERVED + 1]


def test_taking_up_an_earlier_state_of_the_same_session_goes_on_counting(rig):
    rig.see(0)
    rig.keeper.save()
    rig.see(0, 1, 2)
    rig.keeper.load()
    assert rig.see(0, 3) == [0, 3]
    rig.keeper.start()
    rig.keeper.load()
    assert rig.see(0, 3, 4) == [0, 3, 4], "what is reserved in the file is for another process"


def test_the_file_is_written_anew_now_and_then_and_before_the_reserve_is_used_up(path, monkeypatch):
    monkeypatch.setattr(state_keeper, "_POLL_S", 0.01)
    for rig, happens in [(Rig(path, period_s=0.01), lambda rig: None), (Rig(path), lambda rig: use_up_half(rig))]:
        rig.keeper.start()
        try:
            before = path.stat().st_ino
            happens(rig)
            until(lambda before=before: path.stat().st_ino != before)
        finally:
            rig.vanish()
    second = Rig(path)
    second.keeper.load()
    assert second.camera.session.next_id > RESERVED + RESERVED // 2


def use_up_half(rig):
    rig.camera.session._tracker.continue_ids(RESERVED // 2 + 1)


def test_a_file_that_cannot_be_written_is_told_and_tracking_goes_on(tmp_path):
    (tmp_path / "file").write_text("no folder")
    rig = Rig(tmp_path / "file" / "state.npz")
    rig.keeper.start()
    rig.keeper.stop()
    assert rig.failures and "ids would not survive a kill" in rig.failures[0] and str(tmp_path) in rig.failures[0]
    with pytest.raises(OSError, match=str(tmp_path)):
        rig.keeper.save()
    assert rig.see(0) == [0]


def test_an_id_that_a_live_track_has_cannot_be_the_next(rig):
    rig.see(0, 1)
    with pytest.raises(ValueError, match="next_id 1 is not above the live track 1"):
        rig.camera.session._tracker.continue_ids(1)


def test_a_second_node_on_the_same_file_is_refused_while_the_first_is_there(rig, path):
    second = Rig(path)
    rig.see(0)
    for _ in range(2):  # the first save makes the file, the second one replaces it
        rig.keeper.save()
        before = path.read_bytes()
        for refused in (second.keeper.load, second.keeper.save):
            with pytest.raises(OSError, match=f"{path} is in use by another node"):
                refused()
        assert path.read_bytes() == before and "in use by another node" in second.keeper.fault
    rig.vanish()
    assert "1 track(s) of front taken up" in second.keeper.load()
    second.keeper.save()
    assert not second.keeper.fault
    second.vanish()


def leave(path):
    """What a kill leaves of a save."""
    leftover = path.with_name(f".{path.name}.0123abcd.part")
    leftover.write_bytes(b"half a state")
    return leftover


@pytest.mark.parametrize("is_first", [True, False])
def test_what_kills_left_is_removed_and_nothing_else(rig, path, is_first):
    others = [path.with_name(name) for name in (".other.npz.0123abcd.part", f".{path.name}.mine.part", "0123abcd.part")]
    for other in others:
        other.touch()
    if is_first:
        leftover = leave(path)
        rig.keeper.save()
    else:
        rig.keeper.save()
        rig.vanish()
        leftover = leave(path)
        rig.keeper = Rig(path).keeper
        rig.keeper.load()
    assert not leftover.exists() and sorted(path.parent.iterdir()) == sorted([path, *others])


def test_what_another_node_may_be_writing_stays(rig, path, monkeypatch):
    rig.keeper.save()
    leftover = leave(path)
    second = Rig(path)
    for refused in (second.keeper.load, second.keeper.save):
        with pytest.raises(OSError, match="in use by another node"):
            refused()
    assert leftover.exists()
    rig.vanish()

    def no_locks(*arguments):
        raise OSError("no locks here")

    monkeypatch.setattr(state_file.fcntl, "flock", no_locks)
    second.keeper.load()
    second.keeper.save()
    assert leftover.exists() and not second.keeper.fault
    second.vanish()


def test_a_killed_node_leaves_the_file_to_the_next_one(rig, path):
    rig.keeper.save()
    rig.vanish()
    holder = subprocess.Popen(
        [
            *(sys.executable, "-c"),
            "import pathlib, sys, time; from qdtrack_ros.node.state_file import StateClaim\n"
            "claim = StateClaim(pathlib.Path(sys.argv[1])); claim.take(); print('taken', flush=True); time.sleep(600)",
            str(path),
        ],
        stdout=subprocess.PIPE,
    )
    try:
        assert holder.stdout is not None and holder.stdout.readline() == b"taken\n"
        with pytest.raises(OSError, match="in use by another node"):
            rig.keeper.load()
    finally:
        holder.kill()
        holder.wait()
    rig.keeper.load()
