"""What the demo makes of the recorded messages: figures, a text file of the tracks, a video and a contact sheet."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from qdtrack_ros.data.bag_images import header_stamp_ns
from qdtrack_ros.data.rosbag import BagReader
from qdtrack_ros.data.types import Image, Sequence
from qdtrack_ros.data.video_writer import VideoWriter
from qdtrack_ros.evaluation.mot_writer import write_mot
from qdtrack_ros.inference.drawing import draw_tracks
from qdtrack_ros.inference.trails import TrailHistory

VISIBLE = (0, 1)  # TENTATIVE and CONFIRMED of Track.msg: matched in this frame
TILE = (640, 480)  # a picture of the contact sheet fits into this
ROWS = COLUMNS = 3
MARGIN, TITLE_HEIGHT, CAPTION_HEIGHT = 16, 92, 30
DROPPED = "dropped by the node: boxes of the frame before"
FONT = cv2.FONT_HERSHEY_SIMPLEX
PAPER, INK, FAINT = (250, 250, 250), (30, 30, 30), (110, 110, 110)


class DemoError(RuntimeError):
    """The demo did not do what it shows; the message says what to look at."""


class FrameTracks(NamedTuple):
    """Objects seen in one frame: ``ids`` int64 [K], ``boxes`` float32 [K, 4] xyxy, ``scores`` [K], ``labels``."""

    ids: npt.NDArray[np.int64]
    boxes: npt.NDArray[np.float32]
    scores: npt.NDArray[np.float32]
    labels: tuple[str, ...]


class Figures(NamedTuple):
    """What the demo measured.

    Attributes:
        played: frames sent.
        received, processed, dropped: as the node counted them.
        seconds: from the first to the last processed frame, by the frames' own time.
        p50_ms, p99_ms: latency from arrival in the node to its last message.
        ids: identities.
    """

    played: int
    received: int
    processed: int
    dropped: int
    seconds: float
    p50_ms: float
    p99_ms: float
    ids: int

    def __str__(self) -> str:
        rate = self.processed / self.seconds if self.seconds else float("nan")
        lost = f" ({self.played - self.received} lost on the way)" if self.played != self.received else ""
        return (
            f"{self.played} frames in{lost}, {self.processed} processed ({rate:.1f}/s), {self.dropped} dropped; "
            f"latency p50 {self.p50_ms:.0f} ms, p99 {self.p99_ms:.0f} ms; {self.ids} ids"
        )


class Recording(NamedTuple):
    """What the node said: tracks by header stamp, latencies, and its last counts."""

    tracks: dict[int, FrameTracks]
    latencies_ms: list[float]
    counts: tuple[int, int, int]


def read_recording(path: Path, camera: str) -> Recording:
    """Read the recorded messages of a camera."""
    tracks: dict[int, FrameTracks] = {}
    latencies, counts = [], (0, 0, 0)
    with BagReader(path) as reader:
        for item in reader.messages([f"/{camera}/tracks", f"/{camera}/timing"]):
            message = reader.types.deserialize(item.data, item.type_name)
            if item.topic.endswith("/tracks"):
                tracks[header_stamp_ns(item.data) or 0] = _frame_tracks(message.tracks)
            else:
                latencies.append(float(message.total))
                counts = (message.frames_received, message.frames_processed, message.frames_dropped)
    return Recording(tracks, latencies, counts)


def _frame_tracks(messages: list) -> FrameTracks:  # type: ignore[type-arg]
    seen = [message for message in messages if message.status in VISIBLE]
    boxes = []
    for message in seen:
        box = message.detection.bbox
        x, y = box.center.position.x, box.center.position.y
        boxes.append((x - box.size_x / 2, y - box.size_y / 2, x + box.size_x / 2, y + box.size_y / 2))
    best = [message.detection.results[0].hypothesis for message in seen]
    return FrameTracks(
        np.array([message.track_id for message in seen], np.int64),
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array([hypothesis.score for hypothesis in best], np.float32),
        tuple(hypothesis.class_id for hypothesis in best),
    )


def figures(recording: Recording, played: int) -> Figures:
    """Sum a run up.

    Raises:
        DemoError: nothing was processed, or the node's counts and messages do not add up.
    """
    received, processed, dropped = recording.counts
    if processed == 0 or not recording.tracks:
        raise DemoError(f"{played} frames were played and none was processed; look at node.log")
    if received != processed + dropped:
        raise DemoError(f"the node received {received} frames, but processed {processed} and dropped {dropped}")
    if not len(recording.latencies_ms) == len(recording.tracks) == processed:
        found = f"{len(recording.tracks)} on tracks and {len(recording.latencies_ms)} on timing"
        raise DemoError(f"the node processed {processed} frames, and {found} were recorded; expected one message each")
    p50, p99 = np.percentile(recording.latencies_ms, [50, 99])
    stamps = sorted(recording.tracks)
    ids = {int(track_id) for tracks in recording.tracks.values() for track_id in tracks.ids}
    seconds = (stamps[-1] - stamps[0]) / 1e9
    return Figures(played, received, processed, dropped, seconds, float(p50), float(p99), len(ids))


def write_tracks(path: Path, video: Sequence, tracks: Mapping[int, FrameTracks]) -> None:
    """Tracks as a MOTChallenge file; frames that were dropped have no rows."""
    empty = _frame_tracks([])
    write_mot(path, (tracks.get(frame.timestamp_ns or 0, empty) for frame in video.frames))


def draw_video(path: Path, video: Sequence, tracks: Mapping[int, FrameTracks]) -> str:
    """Draw the tracks on the frames they belong to; a dropped frame shows those of the frame before, and says so.

    Returns:
        The codec.
    """
    history, shown = TrailHistory(), _frame_tracks([])
    with VideoWriter(path, video.frame_rate or 10.0) as writer:
        for frame in video.frames:
            found = tracks.get(frame.timestamp_ns or 0)
            if found is not None:
                shown = found
                history.update(found.ids.tolist(), found.boxes)
            picture = _annotated(frame.load(), shown, history.snapshot())
            if found is None:
                _write(picture, DROPPED, (10, 24), 0.55, PAPER, 3, over=INK)
            writer.add(picture)
    return writer.codec


def draw_contact_sheet(path: Path, video: Sequence, tracks: Mapping[int, FrameTracks], title: str, line: str) -> None:
    """Nine processed frames, spread over the video, under a title and the line of figures."""
    tiles = list(_tiles(video, tracks))
    height, width = tiles[0][0].shape[:2]
    sheet_width = COLUMNS * width + (COLUMNS + 1) * MARGIN
    cell = height + CAPTION_HEIGHT + MARGIN
    rows = -(-len(tiles) // COLUMNS)
    sheet: Image = np.full((TITLE_HEIGHT + rows * cell, sheet_width, 3), PAPER, np.uint8)
    _write(sheet, title, (MARGIN, 42), _fitting(title, 1.1, sheet_width - 2 * MARGIN), INK, 2)
    _write(sheet, line, (MARGIN, 76), _fitting(line, 0.75, sheet_width - 2 * MARGIN), FAINT, 1)
    for place, (picture, caption) in enumerate(tiles):
        x = MARGIN + place % COLUMNS * (width + MARGIN)
        y = TITLE_HEIGHT + place // COLUMNS * cell
        sheet[y : y + height, x : x + width] = picture
        _write(sheet, caption, (x, y + height + 22), 0.6, INK, 1)
    if not cv2.imwrite(str(path), sheet):
        raise DemoError(f"{path} cannot be written; is the disk full?")


def _tiles(video: Sequence, tracks: Mapping[int, FrameTracks]) -> Iterator[tuple[Image, str]]:
    """Pictures, drawn on at their size on the sheet so that the labels stay sharp, and what is written below them."""
    processed = [frame for frame in video.frames if (frame.timestamp_ns or 0) in tracks]
    chosen = {round(place) for place in np.linspace(0, len(processed) - 1, ROWS * COLUMNS + 2)[1:-1]}
    first_ns = video.frames[0].timestamp_ns or 0
    history = TrailHistory()
    for index, frame in enumerate(processed):
        stamp_ns = frame.timestamp_ns or 0
        found = tracks[stamp_ns]
        history.update(found.ids.tolist(), found.boxes)
        if index not in chosen:
            continue
        picture = frame.load()
        scale = min(TILE[0] / picture.shape[1], TILE[1] / picture.shape[0])
        size = (round(picture.shape[1] * scale), round(picture.shape[0] * scale))
        method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        small = np.asarray(cv2.resize(picture, size, interpolation=method), np.uint8)
        trails = {key: points * np.float32(scale) for key, points in history.snapshot().items()}
        scaled = found._replace(boxes=found.boxes * np.float32(scale))
        yield _annotated(small, scaled, trails), f"{(stamp_ns - first_ns) / 1e9:.1f} s    {len(found.ids)} tracked"


def _annotated(picture: Image, tracks: FrameTracks, trails: Mapping[int, npt.NDArray[np.float32]]) -> Image:
    return draw_tracks(picture, tracks.ids, tracks.boxes, tracks.labels, tracks.scores, trails)


def _fitting(text: str, scale: float, width: int) -> float:
    """The scale at which a line fits into a width."""
    return min(scale, scale * width / max(cv2.getTextSize(text, FONT, scale, 2)[0][0], 1))


def _write(
    picture: Image,
    text: str,
    place: tuple[int, int],
    scale: float,
    ink: tuple[int, int, int],
    stroke: int,
    over: tuple[int, int, int] | None = None,
) -> None:
    """A line of text; with `over`, thin in that colour on a thick outline of `ink`."""
    cv2.putText(picture, text, place, FONT, scale, ink, stroke, cv2.LINE_AA)
    if over is not None:
        cv2.putText(picture, text, place, FONT, scale, over, 1, cv2.LINE_AA)
