"""The tracker's state on disk: written whole or not at all, and taken up only when it is ours, sound and young."""

from __future__ import annotations

import fcntl
import io
import os
import time
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from qdtrack_ros.files import replacing

_FORMAT = "qdtrack_ros tracker state 1"
_MAX_BYTES = 1 << 30
_MAGIC, _FIRST_ENTRY = b"PK\3\4", b"format.npy"  # of a state file: at its beginning, and from byte 30 on
_ARCHIVE_TIME = (2020, 1, 1, 0, 0, 0)  # fixed: equal states give equal files

CameraStates = Mapping[str, Mapping[str, np.ndarray]]


class StateFileError(ValueError):
    """A state file that is not taken up; the message says why."""


class StateClaim:
    """Tells one node from another: two that keep their state in one file would give out the same ids.

    The claim is a lock on the file itself, which ends with the process, however that ends. It is none on a file system
    that knows no locks. Not thread-safe.

    Args:
        path: the state file.

    Attributes:
        is_sure: whether a lock keeps all other nodes from the file now.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None
        self.is_sure = False

    def take(self) -> None:
        """Claim the file as it is now, if there is one; to be called again when another has taken its place.

        Raises:
            OSError: another node has claimed it; says what to do.
        """
        try:
            if not self._path.is_file() or self._has(self._path.stat()):
                return
            descriptor = os.open(self._path, os.O_RDWR)
        except OSError:  # whoever reads or writes the file says better what is wrong with it
            return
        locked = False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            locked = True
        except BlockingIOError as error:
            os.close(descriptor)
            raise OSError(
                f"{self._path} is in use by another node, and both would give out the same ids; give each a state.path "
                "of its own"
            ) from error
        except OSError:
            pass  # no locks here
        self.release()
        self._descriptor, self.is_sure = descriptor, locked

    def release(self) -> None:
        """Leave the file to others."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor, self.is_sure = None, False

    def _has(self, found: os.stat_result) -> bool:
        return self._descriptor is not None and os.path.samestat(os.fstat(self._descriptor), found)


class SavedState(NamedTuple):
    """Content of a state file.

    Attributes:
        cameras: camera name to the state of its session.
        age_s: seconds since it was written, by the wall clock.
    """

    cameras: dict[str, dict[str, np.ndarray]]
    age_s: float


def save_state(path: Path, model_id: str, cameras: CameraStates) -> None:
    """Write the state so that a crash or a full disk leaves the old file or the new one, never half of one.

    Args:
        path: file to replace; its folder is made if it does not exist.
        model_id: hash of the weights, by which a later reader knows whether the embeddings are comparable.
        cameras: camera name to the state of its session.

    Raises:
        OSError: the file cannot be written, or is something else than a tracker state.
    """
    if _is_foreign(path):
        raise FileExistsError(f"{path} is not a tracker state, and is kept; name another file in state.path")
    arrays: dict[str, np.ndarray] = {
        "format": np.array(_FORMAT),
        "model_id": np.array(model_id),
        "saved_ns": np.array(time.time_ns(), np.int64),
    }
    for name, state in cameras.items():
        arrays |= {f"camera:{name}:{key}": value for key, value in state.items()}
    with replacing(path) as stream:
        _write_archive(stream, arrays)


def load_state(path: Path, model_id: str, max_age_s: float) -> SavedState:
    """Read a state file. Nothing in it is ever executed (no pickle).

    Raises:
        FileNotFoundError: there is none.
        StateFileError: it is damaged, foreign, of other weights, or too old.
    """
    if path.stat().st_size > _MAX_BYTES:
        raise StateFileError(f"{path} is larger than {_MAX_BYTES >> 20} MiB; it is not a tracker state")
    try:
        if path.is_file() and not zipfile.is_zipfile(path):  # numpy would speak of pickles, and how to load them
            raise ValueError("no archive, or half of one")
        with np.load(path, allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in archive.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, KeyError, NotImplementedError) as error:
        raise StateFileError(f"{path} is damaged or not a tracker state ({error})") from error
    except Exception as error:  # zlib.error and whatever else a damaged archive can provoke
        raise StateFileError(f"{path} is damaged ({type(error).__name__}: {error})") from error
    if str(arrays.get("format", "")) != _FORMAT:
        raise StateFileError(f"{path} is not a state file of this release (expected {_FORMAT!r})")
    found_model = str(arrays.get("model_id", ""))
    if found_model != model_id:
        raise StateFileError(
            f"{path} is of weights {found_model}, but {model_id} are loaded: embeddings do not compare"
        )
    saved = arrays.get("saved_ns", np.array(0))
    age_s = (time.time_ns() - int(saved)) / 1e9 if saved.shape == () and saved.dtype.kind == "i" else float("inf")
    if age_s < 0.0:
        raise StateFileError(
            f"{path} was written {-age_s:.1f} s after what the clock says now: it was set back, or is not set yet, "
            "and the state's age is not known"
        )
    if age_s > max_age_s:
        raise StateFileError(f"{path} is {age_s:.1f} s old, state.max_age_s is {max_age_s:g}")
    cameras: dict[str, dict[str, np.ndarray]] = {}
    for key, value in arrays.items():
        if key.startswith("camera:"):
            name, _, entry = key.removeprefix("camera:").partition(":")
            cameras.setdefault(name, {})[entry] = value
    return SavedState(cameras, age_s)


def _is_foreign(path: Path) -> bool:
    """Whether there is a file that was never a state: not empty, and not even the beginning of one."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        head = file.read(40)
    return not (_MAGIC.startswith(head[:4]) and _FIRST_ENTRY.startswith(head[30:]))


def _write_archive(stream: IO[bytes], arrays: Mapping[str, np.ndarray]) -> None:
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        for key, value in arrays.items():
            buffer = io.BytesIO()
            np.lib.format.write_array(buffer, np.asanyarray(value), allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{key}.npy", _ARCHIVE_TIME), buffer.getvalue())
