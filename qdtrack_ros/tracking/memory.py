"""The tracks and backdrops of one tracker, one row of an array each, so that a step is a few array operations."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from qdtrack_ros.tracking.types import AnyArray, Backdrops, BoolArray, FloatArray, IntArray, Track

NO_STAMP = -1
_RATE_WEIGHT = np.float32(0.5)  # of the newest box in velocity_per_s

RECORD = np.dtype(
    [
        ("id", np.int64),
        ("label", np.int64),
        ("box", np.float32, 5),
        ("hits", np.int64),
        ("first_frame", np.int64),
        ("last_frame", np.int64),
        ("first_stamp_ns", np.int64),
        ("last_stamp_ns", np.int64),
        ("match_score", np.float32),
        ("velocity", np.float32, 5),
        ("velocity_per_s", np.float32, 4),
    ]
)


class TrackMemory:
    """Live tracks in the order they started, followed by the backdrops, newest frame first.

    The buffers grow by doubling and are never given back, so a step allocates nothing for the memory itself.
    Rows 0..T-1 are tracks, rows T..T+B-1 backdrops, so a matched row below `count` is a track.
    """

    def __init__(self) -> None:
        self.count = 0
        self.next_id = 0
        self.backdrops: list[Backdrops] = []
        self._records: AnyArray = np.zeros(64, RECORD)
        self._embeddings: FloatArray = np.zeros((64, 0), np.float32)
        self._labels: IntArray = np.zeros(64, np.int64)
        self._entries = 0

    @property
    def embedding_dim(self) -> int | None:
        """D, fixed by the first box that was remembered; None before."""
        return self._embeddings.shape[1] or None

    @property
    def records(self) -> AnyArray:
        """The tracks' rows, a view of dtype `RECORD` [T]."""
        return self._records[: self.count]

    @property
    def track_embeddings(self) -> FloatArray:
        """float32 [T, D], a view."""
        return self._embeddings[: self.count]

    @property
    def embeddings(self) -> FloatArray:
        """float32 [T + B, D], a view."""
        return self._embeddings[: self._entries]

    @property
    def labels(self) -> IntArray:
        """int64 [T + B], a view."""
        return self._labels[: self._entries]

    def update(
        self,
        rows: IntArray,
        boxes: FloatArray,
        labels: IntArray,
        embeddings: FloatArray,
        match_scores: FloatArray,
        frame_index: int,
        stamp_ns: int,
        momentum: float,
    ) -> None:
        """Give tracks their new boxes.

        Args:
            rows: int64 [K], distinct rows of tracks.
            boxes: float32 [K, 5], xyxy and score.
            labels: int64 [K].
            embeddings: float32 [K, D].
            match_scores: float32 [K].
            frame_index: index of this frame.
            stamp_ns: its time, `NO_STAMP` when unknown.
            momentum: weight of the new embedding.
        """
        records = self._records[rows]
        change = boxes - records["box"]
        elapsed = (frame_index - records["last_frame"]).astype(np.float32)[:, None]
        updates = (records["hits"] - 1).astype(np.float32)[:, None]
        # Only after a cut without reset can a track be met again at its own frame index: then there is no velocity.
        per_frame = np.divide(change, elapsed, out=records["velocity"].copy(), where=elapsed != 0)
        records["velocity"] = (records["velocity"] * updates + per_frame) / (updates + 1)
        _update_rates(records, boxes, stamp_ns)
        records["box"] = boxes
        records["label"] = labels
        records["hits"] += 1
        records["last_frame"] = frame_index
        records["last_stamp_ns"] = stamp_ns
        records["match_score"] = match_scores
        self._records[rows] = records
        self._labels[rows] = labels
        mean = self._embeddings[rows]
        mean *= np.float32(1 - momentum)
        mean += np.float32(momentum) * embeddings
        self._embeddings[rows] = mean

    def add(
        self, boxes: FloatArray, labels: IntArray, embeddings: FloatArray, frame_index: int, stamp_ns: int
    ) -> IntArray:
        """Start tracks, return their ids, int64 [K]. Overwrites the backdrops: `replace_backdrops` must follow."""
        ids = np.arange(self.next_id, self.next_id + len(boxes), dtype=np.int64)
        end = self.count + len(boxes)
        self._reserve(end, embeddings.shape[1])
        new = self._records[self.count : end]
        new["id"] = ids
        new["label"] = labels
        new["box"] = boxes
        new["hits"] = 1
        new["first_frame"] = new["last_frame"] = frame_index
        new["first_stamp_ns"] = new["last_stamp_ns"] = stamp_ns
        new["match_score"] = np.nan
        new["velocity"] = 0.0
        new["velocity_per_s"] = np.nan
        self._embeddings[self.count : end] = embeddings
        self._labels[self.count : end] = labels
        self.count = self._entries = end
        self.next_id += len(boxes)
        return ids

    def expired(self, frame_index: int, stamp_ns: int, memory_frames: int, memory_seconds: float) -> BoolArray:
        """Which tracks have gone unseen for too long, bool [T].

        By time when ``memory_seconds`` is positive and both this frame and the track's last one have a stamp; else by
        frames. A stamp of 0 now tells nothing: ROS headers of unstamped images hold 0.
        """
        by_frames = frame_index - self.records["last_frame"] >= memory_frames
        if memory_seconds <= 0 or stamp_ns <= 0:
            return by_frames
        last = self.records["last_stamp_ns"]
        return np.where(last == NO_STAMP, by_frames, stamp_ns - last >= round(memory_seconds * 1e9))

    def remove(self, gone: BoolArray) -> tuple[Track, ...]:
        """Drop tracks (bool [T]) and return them. Overwrites the backdrops: `replace_backdrops` must follow."""
        removed = tuple(self.track(int(row)) for row in np.flatnonzero(gone))
        if removed:
            kept = np.flatnonzero(~gone)
            self._records[: len(kept)] = self._records[kept]
            self._embeddings[: len(kept)] = self._embeddings[kept]
            self._labels[: len(kept)] = self._labels[kept]
            self.count = self._entries = len(kept)
        return removed

    def replace_backdrops(self, backdrops: Iterable[Backdrops]) -> None:
        """Make these, newest frame first, the backdrops that follow the tracks."""
        self.backdrops = list(backdrops)
        self._entries = self.count
        for block in self.backdrops:
            end = self._entries + len(block.boxes)
            if end > self._entries:
                self._reserve(end, block.embeddings.shape[1])
                self._embeddings[self._entries : end] = block.embeddings
                self._labels[self._entries : end] = block.labels
                self._entries = end

    def restore(self, records: AnyArray, embeddings: FloatArray, backdrops: Iterable[Backdrops]) -> None:
        """Fill an empty memory with tracks (`RECORD` [T], float32 [T, D]) and backdrops; `next_id` stays as it is."""
        self._reserve(len(records), embeddings.shape[1])
        self.count = len(records)
        self._records[: self.count] = records
        self._embeddings[: self.count] = embeddings
        self._labels[: self.count] = records["label"]
        self.replace_backdrops(backdrops)

    def track(self, row: int) -> Track:
        """One track as a value of its own."""
        record = self._records[row]
        first, last = int(record["first_stamp_ns"]), int(record["last_stamp_ns"])
        return Track(
            id=int(record["id"]),
            label=int(record["label"]),
            box=record["box"][:4].copy(),
            score=float(record["box"][4]),
            embedding=self._embeddings[row].copy(),
            hits=int(record["hits"]),
            first_frame=int(record["first_frame"]),
            last_frame=int(record["last_frame"]),
            first_stamp_ns=None if first == NO_STAMP else first,
            last_stamp_ns=None if last == NO_STAMP else last,
            match_score=float(record["match_score"]),
            velocity=record["velocity"].copy(),
            velocity_per_s=record["velocity_per_s"].copy(),
        )

    def _reserve(self, rows: int, dim: int) -> None:
        if self.embedding_dim is None and dim:
            self._embeddings = np.zeros((len(self._records), dim), np.float32)
        if rows <= len(self._records):
            return
        more = max(rows, 2 * len(self._records)) - len(self._records)
        self._records = np.concatenate([self._records, np.zeros(more, RECORD)])
        self._labels = np.concatenate([self._labels, np.zeros(more, np.int64)])
        self._embeddings = np.concatenate([self._embeddings, np.zeros((more, self._embeddings.shape[1]), np.float32)])


def _update_rates(records: AnyArray, boxes: FloatArray, stamp_ns: int) -> None:
    """Blend the newest change of centre and size per second into ``velocity_per_s``, where time has passed."""
    last = records["last_stamp_ns"]
    timed = np.flatnonzero((last != NO_STAMP) & (stamp_ns > last))
    if len(timed) == 0:
        return
    seconds = ((stamp_ns - last[timed]) / 1e9).astype(np.float32)[:, None]
    old, new = records["box"][timed], boxes[timed]
    change = np.empty((len(timed), 4), np.float32)
    corners = new[:, :4] - old[:, :4]
    change[:, :2] = (corners[:, :2] + corners[:, 2:]) * np.float32(0.5)
    change[:, 2:] = corners[:, 2:] - corners[:, :2]
    change /= seconds
    known = records["velocity_per_s"][timed]
    blended = known + _RATE_WEIGHT * (change - known)
    records["velocity_per_s"][timed] = np.where(np.isnan(known), change, blended)
