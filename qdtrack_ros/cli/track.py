"""`qdtrack track`: objects of a video, pictures, a bag, a camera or a stream, into a video, a text file or a bag."""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from collections.abc import Iterable
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING

from qdtrack_ros.cli.options import add_model_options, make_engine, overrides, positive, positive_number
from qdtrack_ros.files import check_writable

if TYPE_CHECKING:
    from qdtrack_ros.cli.offline import FrameTracks, OfflineTracker, TrackedPicture
    from qdtrack_ros.data.types import Frame, Sequence

DEFAULT_RATE = 10.0  # of a video made of pictures, which have no rate of their own

_EPILOG = """Examples:
  qdtrack track street.mp4 -o tracked.mp4
  qdtrack track recording/ --topic /front/image_raw --mot tracks.txt --bag tracks_bag/
  qdtrack track rtsp://camera.local/stream -o seen.mp4 --max-frames 600
  qdtrack track 0 --set association.match_score=0.6 --mot tracks.txt

Files appear whole, when the run ends. Ctrl-C ends it early and keeps what there is.
exit codes: 0 done; 1 failed, with one line that says what to do; 2 wrong usage; 130 interrupted"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = _EPILOG
    parser.add_argument(
        "source",
        metavar="SOURCE",
        help="video file, folder of pictures, MOTChallenge folder, rosbag2, camera index, or address such as rtsp://...",
    )
    parser.add_argument("-o", "--output", type=Path, metavar="FILE.mp4", help="video with boxes, ids and trails")
    parser.add_argument("--mot", type=Path, metavar="FILE.txt", help="tracks in MOTChallenge format")
    parser.add_argument("--bag", type=Path, metavar="FOLDER", help="rosbag2 with the messages the node would publish")
    parser.add_argument("--topic", help="images of a bag (default: its only image topic)")
    parser.add_argument("--rate", type=positive_number, help="frames a second of the video (default: the source's)")
    parser.add_argument("--max-frames", type=positive, metavar="N", help="stop after N frames")
    add_model_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Track a source."""
    from tqdm import tqdm

    from qdtrack_ros.cli.offline import OfflineTracker
    from qdtrack_ros.data.prefetch import prefetched
    from qdtrack_ros.data.sources import open_source
    from qdtrack_ros.inference.engine import opened
    from qdtrack_ros.inference.presets import load_preset

    keep_source(arguments.source, arguments.output, arguments.mot, arguments.bag)
    for output in (arguments.output, arguments.mot):
        if output is not None:
            check_writable(output)
    sequence = open_source(arguments.source, arguments.topic)
    preset = load_preset(arguments.preset, overrides(arguments.set), arguments.weights)
    with opened(make_engine(preset, arguments)) as engine:
        engine.warmup(threads=engine.streams)
        tracker = OfflineTracker(engine, preset.association)
        with ExitStack() as stack:
            # Interrupted or not, leaving the stack puts the files in their places; other exceptions discard them.
            outputs = Outputs(arguments, sequence, preset.labels, stack)
            frames: Iterable[Frame] = itertools.islice(sequence.frames, arguments.max_frames)
            total = frame_count(sequence, arguments.max_frames)
            if frame_count(sequence, None) is not None:
                frames = stack.enter_context(closing(prefetched(frames)))
                tracked = stack.enter_context(closing(tracker.track(frames)))
            else:  # a live source: what is prepared ahead would only grow old
                tracked = ((frame, tracker.step(frame)) for frame in frames)
            began_s = time.perf_counter()
            interrupted = False
            try:
                for frame, picture in tqdm(tracked, total=total, unit="frame", desc=sequence.name, disable=None):
                    outputs.add(frame.index, picture)
            except KeyboardInterrupt:
                interrupted = True
            seconds = time.perf_counter() - began_s
            outputs.finish()
    return report(arguments.source, tracker, outputs, seconds, interrupted)


def report(source: str, tracker: OfflineTracker, outputs: Outputs, seconds: float, interrupted: bool) -> int:
    """Print the last lines and give the exit code."""
    dropped = sum(tracker.dropped.values())
    reasons = "".join(f", {count} {reason}" for reason, count in tracker.dropped.items())
    print(
        f"{tracker.processed + dropped} frames{reasons}, {tracker.identities} ids, "
        f"{tracker.processed / max(seconds, 1e-9):.1f} frames/s"
    )
    for line in outputs.written:
        print(line)
    if interrupted:
        kept = "; the files hold the frames so far" if outputs.written else ""
        print(f"qdtrack track: interrupted after {tracker.processed + dropped} frames{kept}", file=sys.stderr)
        return 130
    if tracker.processed == 0:
        print(f"qdtrack track: error: {source}: no frame could be tracked", file=sys.stderr)
        return 1
    return 0


def keep_source(source: str, *outputs: Path | None) -> None:
    """Refuse to write over what is read.

    Raises:
        FileExistsError: an output is the source itself, by whatever name.
    """
    for output in outputs:
        if output is not None and output.exists() and Path(source).exists() and output.samefile(source):
            raise FileExistsError(f"{output} is the source itself and would be overwritten; name another file")


def frame_count(sequence: Sequence, limit: int | None) -> int | None:
    """How many frames there will be; None for a live source without a limit."""
    try:
        length = len(sequence.frames)
    except TypeError:
        return limit
    return length if limit is None else min(length, limit)


class Outputs:
    """The files that were asked for.

    Args:
        arguments: of the command.
        sequence: the source.
        labels: class names.
        stack: closes the video and the bag.

    Attributes:
        written: one line on each file, after ``finish``.
    """

    def __init__(
        self, arguments: argparse.Namespace, sequence: Sequence, labels: tuple[str, ...], stack: ExitStack
    ) -> None:
        self.written: list[str] = []
        self._mot: Path | None = arguments.mot
        self._labels = labels
        self._frames: list[FrameTracks] = []
        self._video = self._bag = None
        if arguments.output:
            from qdtrack_ros.data.video_writer import VideoWriter

            rate = arguments.rate or sequence.frame_rate or DEFAULT_RATE
            self._video = stack.enter_context(VideoWriter(arguments.output, rate))
        if arguments.bag:
            from qdtrack_ros.cli.result_bag import ResultBag

            self._bag = stack.enter_context(ResultBag(arguments.bag, labels))
            self._bag_path = arguments.bag

    def add(self, index: int, picture: TrackedPicture | None) -> None:
        """Take up frame `index`; None stands for one that could not be processed."""
        from qdtrack_ros.cli.offline import FrameTracks
        from qdtrack_ros.inference.drawing import draw_tracks

        if self._mot is not None:
            # Row numbers are frame numbers: frames that gave nothing keep their place.
            self._frames += [FrameTracks.empty()] * (index + 1 - len(self._frames))
            if picture is not None:
                self._frames[index] = picture.tracks
        if picture is None:
            return
        if self._video is not None:
            ids, boxes, scores, labels = picture.tracks
            trails = {key + picture.first_id: points for key, points in picture.session.trails.items()}
            names = [self._labels[label] for label in labels]
            self._video.add(draw_tracks(picture.image, ids, boxes, names, scores, trails))
        if self._bag is not None:
            self._bag.add(picture)

    def finish(self) -> None:
        """Write the text file, and say what there is."""
        from qdtrack_ros.evaluation.mot_writer import write_mot

        if self._mot is not None:
            write_mot(self._mot, self._frames)
            self.written.append(f"tracks: {self._mot}")
        if self._video is not None and self._video.count:
            note = "" if self._video.codec == "H.264" else f" ({self._video.codec}; for browsers: pip install av)"
            self.written.append(f"video: {self._video.path}{note}")
        if self._bag is not None:
            self.written.append(f"bag: {self._bag_path}")
