"""Servers of benchmarks: how the pictures of their test sets are found, and which file they take."""

from __future__ import annotations

import glob
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

from qdtrack_ros.cli.offline import FrameTracks
from qdtrack_ros.cli.protocols import names_of_classes
from qdtrack_ros.data.bdd100k import read_bdd100k_pictures
from qdtrack_ros.data.coco_video import read_tao_pictures
from qdtrack_ros.data.mot import read_mot_sequence
from qdtrack_ros.data.types import DataError
from qdtrack_ros.data.types import Sequence as FrameSequence
from qdtrack_ros.data.waymo import read_waymo
from qdtrack_ros.evaluation.bdd100k_writer import write_bdd100k_zip
from qdtrack_ros.evaluation.mot_writer import write_mot_zip
from qdtrack_ros.evaluation.rules import BDD100K, MOT, Benchmark, open_benchmark
from qdtrack_ros.evaluation.tao_writer import read_tao_numbers, write_tao
from qdtrack_ros.evaluation.tracks import VideoTracks
from qdtrack_ros.evaluation.waymo import WAYMO
from qdtrack_ros.evaluation.waymo_writer import CameraTracks, write_waymo


class Listing(NamedTuple):
    """Files that say by which numbers a server knows videos, pictures and categories; only TAO's has any."""

    annotations: Path | None = None
    categories: Path | None = None

    @property
    def file(self) -> Path:
        """The annotations.

        Raises:
            DataError: there are none.
        """
        if self.annotations is None:
            raise DataError("tao knows videos, pictures and categories by numbers; name their file with --annotations")
        return self.annotations


class Unlabelled(NamedTuple):
    """Pictures of a test set, as the user names them; worker processes open them for themselves.

    Attributes:
        server: a key of ``SERVERS``.
        path: file or folder.
        listing: of the server's numbers.
        names: which sequences, by a pattern of their names.
        only: the one sequence that a worker is to track, by its name.
    """

    server: str
    path: Path
    listing: Listing = Listing()
    names: str = "*"
    only: str | None = None


@dataclass(frozen=True)
class UnlabelledVideo:
    """A sequence of a test set; ``source``, opened again, gives this one."""

    source: Unlabelled
    sequence: FrameSequence

    @property
    def count(self) -> int:
        """How many frames it has."""
        return len(self.sequence.frames)


class TrackedVideo(NamedTuple):
    """A sequence of a test set and its tracks, frame by frame."""

    video: UnlabelledVideo
    tracks: Sequence[FrameTracks]

    @property
    def name(self) -> str:
        """By which the server knows it."""
        return self.video.sequence.name


class Server(NamedTuple):
    """A server.

    Attributes:
        read: sequences of a path whose names match a pattern, or more.
        benchmark: classes that it knows.
        write: the file that it takes, of tracks with these labels.
    """

    read: Callable[[Unlabelled, str], Sequence[FrameSequence]]
    benchmark: Callable[[Listing], Benchmark]
    write: Callable[[Path, Sequence[TrackedVideo], Sequence[str], Listing], None]


def open_videos(source: Unlabelled) -> list[UnlabelledVideo]:
    """The sequences of a test set, at least one.

    Raises:
        DataError: there are none, or something is missing or faulty.
        ImportError: their format needs a package that is not installed.
    """
    names = source.names if source.only is None else glob.escape(source.only)
    found = SERVERS[source.server].read(source, names)
    videos = [UnlabelledVideo(source._replace(only=one.name), one) for one in found if fnmatchcase(one.name, names)]
    if not videos:
        raise DataError(f"{source.path}: no sequence of {source.server} is named {names}")
    return videos


def check_listing(server: str, listing: Listing) -> None:
    """Raise DataError when a server is given numbers that it does not have."""
    if server != "tao" and listing != Listing():
        raise DataError(f"{server} knows sequences and classes by name; --annotations and --categories are for tao")


def _read_mot(source: Unlabelled, names: str) -> list[FrameSequence]:
    path = source.path
    if not path.is_dir():
        raise DataError(f"{path}: no such folder; expected a MOTChallenge sequence, or a folder of them")
    folders = sorted(file.parent for file in (*path.glob("seqinfo.ini"), *path.glob("*/seqinfo.ini")))
    if not folders:
        raise DataError(f"{path}: no MOTChallenge sequence; expected seqinfo.ini in it, or in its folders")
    return [read_mot_sequence(folder) for folder in folders]


def _write_mot(path: Path, videos: Sequence[TrackedVideo], labels: Sequence[str], listing: Listing) -> None:
    pedestrians = MOT.classes["pedestrian"].indices(labels)
    write_mot_zip(path, {one.name: [frame.of_labels(pedestrians) for frame in one.tracks] for one in videos})


def _write_bdd100k(path: Path, videos: Sequence[TrackedVideo], labels: Sequence[str], listing: Listing) -> None:
    named = [VideoTracks(one.name, [_file(one, index).name for index in _places(one)], one.tracks) for one in videos]
    write_bdd100k_zip(path, named, names_of_classes(BDD100K, labels))


def _read_tao(source: Unlabelled, names: str) -> Sequence[FrameSequence]:
    return read_tao_pictures(source.listing.file, source.path, names)


def _tao(listing: Listing) -> Benchmark:
    return open_benchmark("TAO", read_tao_numbers(listing.file, listing.categories).categories)


def _write_tao(path: Path, videos: Sequence[TrackedVideo], labels: Sequence[str], listing: Listing) -> None:
    named = []
    for one in videos:
        pictures = [_file(one, index).relative_to(one.video.source.path).as_posix() for index in _places(one)]
        named.append(VideoTracks(one.name, pictures, one.tracks))
    write_tao(path, named, names_of_classes(_tao(listing), labels), read_tao_numbers(listing.file, listing.categories))


def _write_waymo(path: Path, videos: Sequence[TrackedVideo], labels: Sequence[str], listing: Listing) -> None:
    cameras = []
    for one in videos:
        stamps = [frame.timestamp_ns or 0 for frame in one.video.sequence.frames]
        cameras.append(CameraTracks(one.name, stamps, one.tracks))
    write_waymo(path, cameras, names_of_classes(WAYMO, labels))


def _places(video: TrackedVideo) -> range:
    return range(video.video.count)


def _file(video: TrackedVideo, index: int) -> Path:
    path = video.video.sequence.frames[index].path
    assert path is not None, "its pictures are files"
    return path


SERVERS: Mapping[str, Server] = {
    "mot": Server(_read_mot, lambda _: MOT, _write_mot),
    "bdd100k": Server(
        lambda source, names: read_bdd100k_pictures(source.path, names), lambda _: BDD100K, _write_bdd100k
    ),
    "tao": Server(_read_tao, _tao, _write_tao),
    "waymo": Server(lambda source, names: read_waymo(source.path, names), lambda _: WAYMO, _write_waymo),
}
