"""The state file is ours, sound and young, or it is refused; and never half written."""

from __future__ import annotations

import os
import pickle
import random
import subprocess
import sys
import time

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qdtrack_ros.node.state_file import StateFileError, load_state, save_state

STATE = {"front": {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "name": np.array("x")}, "rear/left": {}}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "new folder" / "state.npz"


def test_what_was_saved_comes_back(path):
    save_state(path, "model", STATE)
    saved = load_state(path, "model", 60.0)
    assert set(saved.cameras) == {"front"}
    np.testing.assert_array_equal(saved.cameras["front"]["a"], STATE["front"]["a"])
    assert str(saved.cameras["front"]["name"]) == "x"
    assert saved.age_s >= 0
    assert [item.name for item in path.parent.iterdir()] == ["state.npz"]


def test_a_missing_file_is_no_damage(path):
    with pytest.raises(FileNotFoundError):
        load_state(path, "model", 60.0)


def test_other_weights_and_old_files_are_refused(path, monkeypatch):
    save_state(path, "model", STATE)
    with pytest.raises(StateFileError, match="weights model, but other"):
        load_state(path, "other", 60.0)
    now = time.time_ns()
    monkeypatch.setattr(time, "time_ns", lambda: now + 61 * 10**9)
    with pytest.raises(StateFileError, match=r"61\.\d s old"):
        load_state(path, "model", 60.0)
    monkeypatch.setattr(time, "time_ns", lambda: now - 10**12)
    with pytest.raises(StateFileError, match=r"written (1000|999)\.\d s after what the clock says now"):
        load_state(path, "model", 60.0)


def test_a_file_of_another_kind_is_refused_without_advice_to_load_it_unsafely(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("hello", encoding="utf-8")
    with pytest.raises(FileExistsError, match="is not a tracker state, and is kept; name another file in state.path"):
        save_state(path, "model", {})
    assert path.read_text(encoding="utf-8") == "hello"
    with pytest.raises(StateFileError, match="damaged or not a tracker state") as refusal:
        load_state(path, "model", 60.0)
    assert "pickle" not in str(refusal.value)


def test_an_entry_that_names_a_camera_and_no_more_is_harmless(path):
    save_state(path, "model", STATE)
    with np.load(path) as archive:
        arrays = dict(archive)
    np.savez(path, **arrays, **{"camera:rear": np.zeros(1)})
    assert "front" in load_state(path, "model", 60.0).cameras


def test_a_pickle_is_never_executed(path):
    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(path.parent / "boom"),)

    path.parent.mkdir()
    path.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(StateFileError):
        load_state(path, "model", 60.0)
    np.savez(path, format=np.array([Bomb()], object))
    with pytest.raises(StateFileError):
        load_state(path, "model", 60.0)
    assert not (path.parent / "boom").exists()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damage_is_refused_or_harmless(path, data):
    path.unlink(missing_ok=True)  # of the example before
    save_state(path, "model", STATE)
    raw = bytearray(path.read_bytes())
    if data.draw(st.booleans()):
        raw = raw[: data.draw(st.integers(0, len(raw) - 1))]
    else:
        for _ in range(data.draw(st.integers(1, 8))):
            raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(raw)
    try:
        load_state(path, "model", 60.0)
    except StateFileError as error:
        assert str(path) in str(error)


@pytest.mark.parametrize("content", [b"", b"PK", b"PK\3\4 nothing"])
def test_half_a_state_is_replaced(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    save_state(path, "model", {})
    half = path.read_bytes()[:60]
    path.write_bytes(half)
    save_state(path, "model", {})
    assert load_state(path, "model", 1e9).cameras == {}


def test_a_full_disk_leaves_the_old_file(path, monkeypatch):
    save_state(path, "model", STATE)
    before = path.read_bytes()

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        save_state(path, "model", {"front": {"a": np.zeros(5)}})
    assert path.read_bytes() == before
    assert [item.name for item in path.parent.iterdir()] == ["state.npz"]


WRITER = """
import sys, time
from pathlib import Path
import numpy as np
from qdtrack_ros.node.state_file import save_state
path = Path(sys.argv[1])
save_state(path, "model", {"front": {"a": np.zeros(1000), "b": np.zeros(1000)}})
print("begun", flush=True)
for turn in range(1, 1_000_000):
    save_state(path, "model", {"front": {"a": np.full(turn % 5000 + 1, turn), "b": np.full(turn % 5000 + 1, turn)}})
"""


def test_a_kill_while_writing_leaves_one_state_or_the_other(path):
    dice = random.Random(0)
    for _ in range(6):
        process = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE)
        assert process.stdout.readline() == b"begun\n"
        time.sleep(dice.uniform(0, 0.1))
        process.kill()
        process.wait()
        process.stdout.close()
        state = load_state(path, "model", 60.0).cameras["front"]
        np.testing.assert_array_equal(state["a"], state["b"])
        assert len(set(state["a"].tolist())) == 1
