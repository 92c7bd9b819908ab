"""Tracking without ROS: the frames of a source through the same session, clock rules and checks as in the node."""

from __future__ import annotations

import contextlib
import itertools
import logging
import time
from collections import Counter, deque
from collections.abc import Collection, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from qdtrack_ros.cli.packed_frames import PackedFrames
from qdtrack_ros.data.prefetch import prefetched
from qdtrack_ros.data.types import DataError, Frame, Image
from qdtrack_ros.data.types import Sequence as FrameSequence
from qdtrack_ros.inference.types import Detections, Engine, EngineOutput
from qdtrack_ros.node.clock_guard import ClockGuard, Verdict
from qdtrack_ros.node.session import TrackedFrame, TrackingSession
from qdtrack_ros.tracking import TrackerConfig

logger = logging.getLogger(__name__)


class FrameTracks(NamedTuple):
    """Tracked objects of one frame, by falling score.

    Attributes:
        ids: int64 [K], unique over the whole source, sessions included.
        boxes: float32 [K, 4], xyxy, source pixels; float64 where they come from a result file.
        scores: float32 [K].
        labels: int64 [K], index into the preset's labels.
    """

    ids: npt.NDArray[np.int64]
    boxes: npt.NDArray[np.floating[Any]]
    scores: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]

    @classmethod
    def empty(cls) -> FrameTracks:
        """No tracks."""
        return cls(np.zeros(0, np.int64), np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64))

    def of_labels(self, labels: Collection[int]) -> FrameTracks:
        """Those that carry one of the labels."""
        return FrameTracks(*_rows_of(self, self.labels, labels))


class StageTimes(NamedTuple):
    """Milliseconds of one frame; ``inference`` includes the copy to the host. Decoding is not among them.

    Of what several frames spend at the same time in the network, a frame has its share.
    """

    preprocess: float
    inference: float
    association: float


class TrackedPicture(NamedTuple):
    """A processed frame.

    Attributes:
        frame: as the source gave it.
        image: uint8 [H, W, 3] BGR.
        tracks: what was found in it.
        session: the same with everything the tracker knows; ids are those of the session.
        skipped: frames dropped since the processed frame before this one.
        first_id: what was added to the session's ids in ``tracks``.
        detections: what the tracker was given.
        times: where the frame's time went.
    """

    frame: Frame
    image: Image
    tracks: FrameTracks
    session: TrackedFrame
    skipped: int
    first_id: int
    detections: Detections
    times: StageTimes


class Recording(NamedTuple):
    """What tracking a sequence gave, one entry a frame.

    Attributes:
        tracks: of the labels asked for.
        detections: of the same labels, without embeddings ([N, 0]) unless they were asked for; None when the tracks
            come from a file.
        times: None for frames left out.
        dropped: frames left out, by reason.
        seconds: of all of it, decoding included.
    """

    tracks: Sequence[FrameTracks]
    detections: Sequence[Detections] | None
    times: list[StageTimes | None]
    dropped: Counter[str]
    seconds: float

    def part(self, places: Sequence[int], labels: Collection[int]) -> Recording:
        """Some of the frames, and of their tracks and detections those with one of the labels."""
        detections = None
        if self.detections is not None:
            found = (self.detections[place] for place in places)
            detections = PackedFrames(Detections, (Detections(*_rows_of(one, one.labels, labels)) for one in found))
        return self._replace(
            tracks=PackedFrames(FrameTracks, (self.tracks[place].of_labels(labels) for place in places)),
            detections=detections,
            times=[self.times[place] for place in places],
        )


class SeenFrame(NamedTuple):
    """A frame on its way from the network to the tracker.

    Attributes:
        frame: as the source gave it.
        image: uint8 [H, W, 3] BGR; None where it cannot be decoded.
        output: of the engine; None where there is no image.
        fault: why there is none.
    """

    frame: Frame
    image: Image | None
    output: EngineOutput | None
    fault: DataError | None


def seen_by(engine: Engine, frame: Frame) -> SeenFrame:
    """Decode a frame and put it through the network."""
    try:
        image = frame.load()
    except DataError as error:
        return SeenFrame(frame, None, None, error)
    return SeenFrame(frame, image, engine.detect([image]), None)


def seen_ahead(engine: Engine, frames: Iterable[Frame]) -> Generator[SeenFrame, None, None]:
    """Put frames through the network ahead of whoever reads them: as many at the same time as it has streams, in order.

    What the source itself raises between two frames is raised at that place. Closing the iterator ends the threads.
    """
    waiting: deque[Future[SeenFrame]] = deque()
    fault: Exception | None = None
    iterator = iter(frames)
    with ThreadPoolExecutor(engine.streams, "qdtrack_detection") as pool:
        try:
            while fault is None:
                try:
                    waiting.append(pool.submit(seen_by, engine, next(iterator)))
                except StopIteration:
                    break
                except Exception as error:  # raised when the frames before it are through
                    fault = error
                if len(waiting) > engine.streams:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
            if fault is not None:
                raise fault
        finally:
            for future in waiting:
                future.cancel()


class OfflineTracker:
    """Tracks the frames of one source, in order.

    Args:
        engine: runs the network.
        config: thresholds of the association.
        trail_length: points kept for drawing.

    Attributes:
        processed: frames tracked.
        dropped: frames left out, by reason.
    """

    def __init__(self, engine: Engine, config: TrackerConfig, trail_length: int = 30) -> None:
        self._engine = engine
        self._session = TrackingSession(config, trail_length)
        self._guard = ClockGuard()
        self._first_id = 0
        self._skipped = 0
        self.processed = 0
        self.dropped: Counter[str] = Counter()

    @property
    def identities(self) -> int:
        """Ids given so far."""
        return self._first_id + self._session.next_id

    def track(self, frames: Iterable[Frame]) -> Generator[tuple[Frame, TrackedPicture | None], None, None]:
        """Track frames of a source that waits for nobody's reading, with the network ahead; see :meth:`step`."""
        with contextlib.closing(seen_ahead(self._engine, frames)) as all_seen:
            for seen in all_seen:
                yield seen.frame, self._step(seen, self._engine.streams)

    def step(self, frame: Frame) -> TrackedPicture | None:
        """Track the next frame; None when it cannot be decoded or its stamp is late, as the node would drop it."""
        return self._step(seen_by(self._engine, frame), 1)

    def _step(self, seen: SeenFrame, side_by_side: int) -> TrackedPicture | None:
        frame, image, output, fault = seen
        if image is None or output is None:
            self._drop("undecodable", f"frame {frame.index} is left out: {fault}")
            return None
        check = self._guard.check(frame.timestamp_ns or 0)
        if check.verdict is Verdict.DROP:
            self._drop("out of order", f"frame {frame.index} is left out: its stamp is before the last one's")
            return None
        if check.verdict is Verdict.RESET:
            logger.warning("frame %d: %s", frame.index, check.warning)
            self._first_id = self.identities
            self._session.reset()
        detections = self._finite(frame.index, output.detections[0])
        began_s = time.perf_counter()
        session = self._session.step(detections, check.tracker_ns)
        association_ms = 1e3 * (time.perf_counter() - began_s)
        inference_ms = (output.inference_ms + output.postprocess_ms) / side_by_side
        times = StageTimes(output.preprocess_ms, inference_ms, association_ms)
        self.processed += 1
        skipped, self._skipped = self._skipped, 0
        tracks = _frame_tracks(session, self._first_id)
        return TrackedPicture(frame, image, tracks, session, skipped, self._first_id, detections, times)

    def _finite(self, index: int, found: Detections) -> Detections:
        if found.is_finite:
            return found
        logger.error("frame %d: the network gave NaN or infinite values; the frame counts as empty", index)
        return Detections.empty(self._engine.embedding_dim)

    def _drop(self, reason: str, text: str) -> None:
        if reason not in self.dropped:
            logger.warning("%s (told once)", text)
        self.dropped[reason] += 1
        self._skipped += 1


def track_frames(
    engine: Engine,
    config: TrackerConfig,
    frames: Iterable[Frame],
    count: int,
    labels: Collection[int],
    with_embeddings: bool = False,
) -> Recording:
    """Track ``count`` frames, or as many of them as there are.

    Args:
        engine: runs the network.
        config: thresholds of the association.
        frames: in order.
        count: entries of the recording.
        labels: what carries none of them is not kept.
        with_embeddings: keep the embeddings, too, which are most of the memory: 100 kB a frame of 100 detections.
    """
    tracker = OfflineTracker(engine, config, trail_length=0)
    nothing = Detections.empty(engine.embedding_dim if with_embeddings else 0)
    tracks, detections = PackedFrames(FrameTracks), PackedFrames(Detections)
    times: list[StageTimes | None] = []

    def add(own: FrameTracks, found: Detections, milliseconds: StageTimes | None) -> None:
        tracks.append(own)
        detections.append(found)
        times.append(milliseconds)

    began_s = time.perf_counter()
    with contextlib.closing(tracker.track(frames)) as tracked:
        for _, picture in tracked:
            if picture is None:
                add(FrameTracks.empty(), nothing, None)
                continue
            found = picture.detections
            if not with_embeddings:
                found = found._replace(embeddings=np.zeros((len(found.scores), 0), np.float32))
            kept = Detections(*_rows_of(found, found.labels, labels))
            add(picture.tracks.of_labels(labels), kept, picture.times)
    while len(tracks) < count:  # a damaged file lacks them
        add(FrameTracks.empty(), nothing, None)
    return Recording(tracks, detections, times, tracker.dropped, time.perf_counter() - began_s)


def first_frames(sequence: FrameSequence, count: int, quiet: bool = False) -> Iterable[Frame]:
    """The first ``count`` frames of a sequence, decoded ahead, with a progress bar unless ``quiet``."""
    frames = prefetched(itertools.islice(sequence.frames, count))
    return tqdm(frames, total=count, unit="frame", desc=sequence.name, disable=quiet or None)


def _rows_of(arrays: Iterable[Any], labels: npt.NDArray[np.int64], wanted: Collection[int]) -> list[Any]:
    keep = np.isin(labels, list(wanted))
    return [array[keep] for array in arrays]


def _frame_tracks(session: TrackedFrame, first_id: int) -> FrameTracks:
    tracks = [view.track for view in session.visible]
    return FrameTracks(
        np.array([track.id + first_id for track in tracks], np.int64),
        np.array([track.box for track in tracks], np.float32).reshape(-1, 4),
        np.array([track.score for track in tracks], np.float32),
        np.array([track.label for track in tracks], np.int64),
    )
