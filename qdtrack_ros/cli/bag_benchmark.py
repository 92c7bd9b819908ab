"""`qdtrack benchmark bag`: what decoding a bag costs, and what of it is left when it is tracked."""

from __future__ import annotations

import argparse
import itertools
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from qdtrack_ros.cli.options import add_model_options, make_engine, overrides, size
from qdtrack_ros.cli.timing import summary
from qdtrack_ros.configuration import ConfigurationError

if TYPE_CHECKING:
    from qdtrack_ros.data.types import Frame
    from qdtrack_ros.inference.presets import Preset
    from qdtrack_ros.inference.types import Engine

T = TypeVar("T")

ROUNDS = 5  # of the engine alone and the bag tracked, in turns: other work on the machine comes and goes
STORAGES = ("sqlite3", "mcap")
ENCODINGS = ("bgr8", "jpeg")


def add_bag_arguments(parser: argparse.ArgumentParser) -> None:
    """The measurement's arguments, apart from those that all have."""
    source_help = "bag to read (default: bags of a drawn street, written to a temporary folder)"
    parser.add_argument("--source", metavar="BAG", help=source_help)
    parser.add_argument("--topic", help="images of --source (default: its only image topic)")
    storage_help = "of the bags written (default: both)"
    parser.add_argument("--storage", nargs="+", choices=STORAGES, default=STORAGES, help=storage_help)
    encoding_help = "of their images; jpeg and png are compressed ones (default: bgr8 jpeg)"
    encodings = ("bgr8", "rgb8", "mono8", "jpeg", "png")
    parser.add_argument("--encoding", nargs="+", choices=encodings, default=ENCODINGS, help=encoding_help)
    parser.add_argument("--size", type=size, default=(1280, 720), metavar="WxH", help="of them (default: 1280x720)")
    add_model_options(parser)


def bag_figures(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Time of a frame by bag: decoded alone, through the engine alone, and tracked out of the bag.

    `repeats` frames of each bag, five times in turns: the engine gets the decoded pictures, then the bag is tracked.
    """
    from qdtrack_ros.inference.engine import opened
    from qdtrack_ros.inference.presets import load_preset

    preset = load_preset(arguments.preset, overrides(arguments.set), arguments.weights)
    with opened(make_engine(preset, arguments)) as engine:
        engine.warmup(threads=engine.streams)
        return [
            result
            for name, path in _bags(arguments)
            for result in _measured(name, path, engine, preset, arguments.topic, arguments.repeats)
        ]


def _bags(arguments: argparse.Namespace) -> Iterator[tuple[str, Path]]:
    """Name and path of the bags to read; each of those written is gone when the next one is asked for."""
    from qdtrack_ros.data.bag_images import write_video_as_bag
    from qdtrack_ros.data.sources import is_bag
    from qdtrack_ros.data.synthetic import street

    if arguments.source is not None:
        path = Path(arguments.source)
        if not path.exists() or not is_bag(path):
            raise ConfigurationError(f"--source is {path}, which is no bag; give a rosbag2 folder, .mcap or .db3 file")
        yield path.name, path
        return
    for storage, encoding in itertools.product(arguments.storage, arguments.encoding):
        with tempfile.TemporaryDirectory(prefix="qdtrack-benchmark-") as folder:
            path = Path(folder) / "street"
            write_video_as_bag(street(arguments.repeats, arguments.size), path, encoding=encoding, storage=storage)
            yield f"{storage} {encoding}", path


def _measured(
    name: str, path: Path, engine: Engine, preset: Preset, topic: str | None, count: int
) -> list[dict[str, Any]]:
    from qdtrack_ros.cli.offline import OfflineTracker
    from qdtrack_ros.data.bag_images import read_bag
    from qdtrack_ros.data.prefetch import prefetched
    from qdtrack_ros.data.types import DataError, in_memory

    frames = read_bag(path, topic).frames
    decoded: list[Frame] = []

    def decode(frame: Frame) -> None:
        decoded.append(replace(frame, load=in_memory(frame.load())))

    decoding = _frame_times(islice(frames, count), decode)
    if not decoded:
        raise DataError(f"{path}: the topic has no images to measure with")
    picture = decoded[0].load()
    engine.detect([picture])  # builds the graph for pictures of this size
    alone, tracking = [], []
    for _ in range(ROUNDS):
        alone.append(_frame_times(decoded, lambda frame: engine.detect([frame.load()])))
        tracker = OfflineTracker(engine, preset.association)
        tracking.append(_frame_times(tracker.track(prefetched(islice(frames, count))), lambda tracked: tracked))
    case = {"bag": name, "size": f"{picture.shape[1]}x{picture.shape[0]}", "frames": len(decoded)}
    ratios = [sum(tracked) / sum(engine_only) for tracked, engine_only in zip(tracking, alone, strict=True)]
    return [
        _result("decoding", case, [decoding], {}),
        _result(f"engine alone: {engine.name}", case, alone, {}),
        _result("tracked from the bag", case, tracking, {"times_engine": statistics.median(ratios)}),
    ]


def _frame_times(frames: Iterable[T], use: Callable[[T], object]) -> list[float]:
    """Milliseconds of every frame, from the end of the one before: reading and waiting included."""
    taken = []
    began = time.perf_counter()
    for frame in frames:
        use(frame)
        done = time.perf_counter()
        taken.append(1e3 * (done - began))
        began = done
    return taken


def _result(what: str, case: dict[str, Any], rounds: list[list[float]], figures: dict[str, float]) -> dict[str, Any]:
    taken = [one for round_ in rounds for one in round_]
    rate = {"frames_per_second": 1e3 * len(taken) / sum(taken)}
    return {"case": {"measured": what, **case}, "milliseconds": summary(taken), "figures": {**rate, **figures}}
