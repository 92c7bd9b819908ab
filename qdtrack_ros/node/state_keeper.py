"""Keeps the sessions of all cameras on disk, so that ids persist across a restart, orderly or not."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from qdtrack_ros.files import remove_leftovers
from qdtrack_ros.node.camera import Camera
from qdtrack_ros.node.settings import RuntimeSettings
from qdtrack_ros.node.state_file import StateClaim, StateFileError, load_state, save_state

# A file written while tracking goes on must not give ids out again that were given out between it and a kill: in the
# file the counter of ids is ahead by this much, and it is written anew before half of them are used up.
_RESERVED_IDS = 10_000
_POLL_S = 1.0
_NEXT_ID = "tracker.next_id"


class StateKeeper:
    """Saves and takes up. `save` and `load` may be called from any thread.

    From the first of them until `release` the file is claimed: a second node that is given the same one is refused.
    What kills left of earlier saves is removed once the claim is sure.

    Args:
        path: the state file.
        model_id: hash of the weights.
        cameras: by name.
        state_lock: held while a tracker steps.
        settings: gives the current settings.
        on_failure: told in words when a save in the background failed.

    Attributes:
        fault: why the last save failed, empty when it did not.
    """

    def __init__(
        self,
        path: Path,
        model_id: str,
        cameras: Mapping[str, Camera],
        state_lock: threading.Lock,
        settings: Callable[[], RuntimeSettings],
        on_failure: Callable[[str], None],
    ) -> None:
        self._path = path
        self._model_id = model_id
        self._cameras = cameras
        self._state_lock = state_lock
        self._settings = settings
        self._on_failure = on_failure
        self.fault = ""
        self._claim = StateClaim(path)
        self._has_tidied = False
        self._file_lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._reserved: dict[str, int] = {}

    def start(self) -> None:
        """Tracking begins: save now, and from now on in the background."""
        self._stop.clear()
        self._thread = threading.Thread(target=self._run, name="qdtrack_state", daemon=True)
        self._save_or_tell()
        self._thread.start()

    def stop(self) -> None:
        """Tracking has ended; the state is not saved by this."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def release(self) -> None:
        """Leave the file to other nodes."""
        with self._file_lock:
            self._claim.release()

    def save(self) -> str:
        """Write the file; says what was written.

        Raises:
            OSError: it cannot be written, or is another node's.
        """
        try:
            text = self._save()
        except OSError as error:
            self.fault = f"the state cannot be written: {error}"
            raise
        self.fault = ""
        return text

    def _save(self) -> str:
        reserve = _RESERVED_IDS if self._thread is not None else 0
        with self._file_lock:
            self._claim.take()
            with self._state_lock:
                states = {name: camera.session.state_dict() for name, camera in self._cameras.items()}
                # After a reset the counter is lower than before, so what was reserved is taken anew each time.
                self._reserved = {name: camera.session.next_id + reserve for name, camera in self._cameras.items()}
            for state in states.values():
                state[_NEXT_ID] = state[_NEXT_ID] + np.int64(reserve)
            save_state(self._path, self._model_id, states)
            self._claim.take()  # another file has the name now
            self._tidy_up()
        return f"state of {len(states)} camera(s) written to {self._path}"

    def load(self) -> str:
        """Take up the file; says what was taken up.

        Raises:
            StateFileError: it is damaged, foreign or too old; nothing has changed.
            FileNotFoundError: it does not exist.
            OSError: it is another node's.
        """
        with self._file_lock:
            self._claim.take()
            self._tidy_up()
        saved = load_state(self._path, self._model_id, self._settings().state_max_age_s)
        known = {name: state for name, state in saved.cameras.items() if name in self._cameras}
        if not known:
            raise StateFileError(f"{self._path} is of other cameras ({', '.join(saved.cameras) or 'none'})")
        with self._state_lock:
            before = {name: self._cameras[name].session.state_dict() for name in known}
            try:
                for name, state in known.items():
                    self._cameras[name].load_state(state)
            except ValueError as error:
                for name, state in before.items():
                    self._cameras[name].load_state(state)
                raise StateFileError(f"{self._path} cannot be taken up: {error}") from error
        tracks = sum(self._cameras[name].session.track_count for name in known)
        return f"{tracks} track(s) of {', '.join(known)} taken up from {self._path}, {saved.age_s:.1f} s old"

    def _tidy_up(self) -> None:
        """Not before it is sure that no other node is writing one of these files right now."""
        if self._claim.is_sure and not self._has_tidied:
            self._has_tidied = True
            remove_leftovers(self._path)

    def _run(self) -> None:
        saved_s = time.monotonic()
        while not self._stop.wait(_POLL_S):
            if time.monotonic() - saved_s >= self._settings().state_save_period_s or self._is_reserve_low():
                self._save_or_tell()
                saved_s = time.monotonic()

    def _is_reserve_low(self) -> bool:
        left = (self._reserved.get(name, 0) - camera.session.next_id for name, camera in self._cameras.items())
        return min(left) < _RESERVED_IDS // 2

    def _save_or_tell(self) -> None:
        try:
            self.save()
        except OSError as error:
            self._on_failure(f"the state cannot be written, ids would not survive a kill: {error}")
