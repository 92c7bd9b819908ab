"""The saved form of a tracker: plain arrays, versioned, checked as a whole before anything is taken from them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from qdtrack_ros.tracking.memory import NO_STAMP, RECORD, TrackMemory
from qdtrack_ros.tracking.types import AnyArray, Backdrops, FloatArray

STATE_VERSION = 1
_NONE = -1
_TEXTS = ("kind", "metric")
_NUMBERS = ("version", "next_id", "last_frame_index", "last_stamp_ns")
_COLUMNS = tuple(f"track_{name}" for name in RECORD.names or ())
_ARRAYS = ("track_embedding", "backdrop_box", "backdrop_label", "backdrop_embedding", "backdrop_counts")
_LEAST = {"hits": 1, "first_frame": 0, "last_frame": 0, "first_stamp_ns": NO_STAMP, "last_stamp_ns": NO_STAMP}
_MAY_BE_NAN = ("track_match_score", "track_velocity_per_s")


class LoadedState(NamedTuple):
    """A checked state.

    Attributes:
        next_id: the counter of ids.
        last_frame, last_stamp: the clock, None where unset.
        records: `RECORD` [T].
        embeddings: float32 [T, D].
        backdrops: newest frame first.
    """

    next_id: int
    last_frame: int | None
    last_stamp: int | None
    records: AnyArray
    embeddings: FloatArray
    backdrops: list[Backdrops]


def pack(
    kind: str, metric: str, memory: TrackMemory, last_frame: int | None, last_stamp: int | None
) -> dict[str, AnyArray]:
    """Copy a tracker's memory and clock into plain arrays."""
    dim = memory.embedding_dim or 0
    blocks = memory.backdrops
    boxes = [np.zeros((0, 5), np.float32), *(block.boxes for block in blocks)]
    labels = [np.zeros(0, np.int64), *(block.labels for block in blocks)]
    # A frame without detections may hand over embeddings with any number of columns, even none.
    embeddings = [np.zeros((0, dim), np.float32), *(block.embeddings for block in blocks if len(block.boxes))]
    return {
        "version": np.array(STATE_VERSION, np.int64),
        "kind": np.array(kind),
        "metric": np.array(metric),
        "next_id": np.array(memory.next_id, np.int64),
        "last_frame_index": np.array(_NONE if last_frame is None else last_frame, np.int64),
        "last_stamp_ns": np.array(NO_STAMP if last_stamp is None else last_stamp, np.int64),
        **{f"track_{name}": memory.records[name].copy() for name in RECORD.names or ()},
        "track_embedding": memory.track_embeddings.copy(),
        "backdrop_counts": np.array([len(block.boxes) for block in blocks], np.int64),
        "backdrop_box": np.concatenate(boxes),
        "backdrop_label": np.concatenate(labels),
        "backdrop_embedding": np.concatenate(embeddings),
    }


def unpack(state: Mapping[str, AnyArray], kind: str, metric: str) -> LoadedState:
    """Check a state made by `pack` and turn it into arrays of its own.

    Raises:
        ValueError: the state is not one of this version, kind and metric, or is damaged.
    """
    expected = {*_TEXTS, *_NUMBERS, *_COLUMNS, *_ARRAYS}
    if "version" in state:
        version = _number(state, "version")
        if version != STATE_VERSION:
            raise ValueError(f"tracker state has version {version}, this release reads version {STATE_VERSION}")
    missing, unknown = sorted(expected - set(state)), sorted(set(state) - expected)
    if missing or unknown:
        lists = (", ".join(names) or "none" for names in (missing, unknown))
        raise ValueError("not a tracker state: missing keys {}; unknown keys {}".format(*lists))
    for name, own in (("kind", kind), ("metric", metric)):
        found = str(np.asarray(state[name]))
        if found != own:
            raise ValueError(
                f"tracker state has {name} '{found}', this tracker '{own}'; configure it alike or start anew"
            )

    count, dim = _columns(state, "track_embedding")
    records = np.zeros(count, RECORD)
    for name in RECORD.names or ():
        field = RECORD[name]
        records[name] = _array(state, f"track_{name}", field.base, (count, *field.shape))
    embeddings = _array(state, "track_embedding", np.dtype(np.float32), (count, dim))
    next_id = _number(state, "next_id")
    last_frame, last_stamp = _number(state, "last_frame_index"), _number(state, "last_stamp_ns")
    _check_records(records, next_id)
    if min(last_frame, last_stamp) < _NONE:
        raise ValueError(f"tracker state has a negative clock: frame {last_frame}, stamp {last_stamp}")
    return LoadedState(
        next_id,
        None if last_frame == _NONE else last_frame,
        None if last_stamp == NO_STAMP else last_stamp,
        records,
        embeddings,
        _backdrops(state, dim),
    )


def _backdrops(state: Mapping[str, AnyArray], dim: int) -> list[Backdrops]:
    frames = len(np.atleast_1d(np.asarray(state["backdrop_counts"])))
    counts = _array(state, "backdrop_counts", np.dtype(np.int64), (frames,))
    total = int(counts.sum())
    if (counts < 0).any():
        raise ValueError(f"tracker state: backdrop_counts must not be negative, got {counts.tolist()}")
    boxes = _array(state, "backdrop_box", np.dtype(np.float32), (total, 5))
    labels = _array(state, "backdrop_label", np.dtype(np.int64), (total,))
    embeddings = _array(state, "backdrop_embedding", np.dtype(np.float32), (total, dim))
    ends = np.cumsum(counts)
    return [
        Backdrops(boxes[end - size : end], labels[end - size : end], embeddings[end - size : end])
        for size, end in zip(counts.tolist(), ends.tolist(), strict=True)
    ]


def _check_records(records: AnyArray, next_id: int) -> None:
    ids = records["id"]
    if (np.diff(ids) <= 0).any() or (len(ids) and (ids[0] < 0 or ids[-1] >= next_id)):
        raise ValueError(f"tracker state: ids must rise from 0 and stay below next_id {next_id}, got {ids.tolist()}")
    if next_id < 0:
        raise ValueError(f"tracker state: next_id must not be negative, got {next_id}")
    for name, least in _LEAST.items():
        lowest = records[name].min(initial=least)
        if lowest < least:
            raise ValueError(f"tracker state: track_{name} must be at least {least}, got {lowest}")


def _columns(state: Mapping[str, AnyArray], key: str) -> tuple[int, int]:
    value = np.asarray(state[key])
    if value.ndim != 2:
        raise ValueError(f"tracker state: {key} must have two dimensions, got shape {list(value.shape)}")
    return value.shape[0], value.shape[1]


def _number(state: Mapping[str, AnyArray], key: str) -> int:
    value = np.asarray(state[key])
    if value.shape != () or value.dtype.kind not in "iu":
        raise ValueError(f"tracker state: {key} must be one integer, got {value.dtype} of shape {list(value.shape)}")
    return int(value)


def _array(state: Mapping[str, AnyArray], key: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> AnyArray:
    """Copy an entry that must have just this dtype and shape, and be finite unless it may be NaN."""
    value = np.asarray(state[key])
    if value.dtype != dtype or value.shape != shape:
        found = f"{value.dtype} of shape {list(value.shape)}"
        raise ValueError(f"tracker state: {key} must be {dtype} of shape {list(shape)}, got {found}")
    bad = np.isinf(value) if key in _MAY_BE_NAN else ~np.isfinite(value)
    if bad.any():
        raise ValueError(f"tracker state: {key} holds values that are not finite")
    return value.copy()
