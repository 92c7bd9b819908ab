"""The video of the demo: the user's, or vtest.avi of Debian's and Ubuntu's package opencv-doc, or a drawn street."""

from __future__ import annotations

import gzip
import os
import re
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

from qdtrack_ros.data.bag_images import write_video_as_bag
from qdtrack_ros.data.sources import open_source
from qdtrack_ros.data.synthetic import street
from qdtrack_ros.data.types import DataError, Sequence

PACKAGE = "opencv-doc"
NAME = "vtest.avi"
INSTALLED = Path("/usr/share/doc/opencv-doc/examples/data") / NAME
APT_TIMEOUT_S = 300
RATE = 10.0  # frames a second into the node
# A bag holds pictures as they come from a camera, uncompressed: of a long video only the beginning is taken.
MAX_BAG_BYTES = 3 << 30


def find_video(given: Path | None, cache: Path) -> Sequence:
    """The sequence to track, about RATE frames a second.

    Args:
        given: a video that the user names; None looks for vtest.avi.
        cache: folder for downloads.

    Raises:
        DataError: the user's video cannot be read.
    """
    if given is not None:
        return sampled(open_source(given))
    path = cached_vtest(cache)
    if path is not None:
        return sampled(open_source(path))
    print(f"demo: {NAME} cannot be had (no apt, no network?): using a drawn street with drawn people.", flush=True)
    print("demo: for a real picture: make demo VIDEO=/path/to/street.mp4", flush=True)
    return street(300)


def sampled(sequence: Sequence) -> Sequence:
    """Every n-th frame of a sequence: about RATE a second where it has more, and no more than fit into the bag."""
    rate = sequence.frame_rate or RATE
    try:
        count = len(sequence.frames)
    except TypeError:
        raise DataError(f"{sequence.name} is live; the demo needs a video file (live: `qdtrack track`)") from None
    step = max(1, round(rate / RATE))
    height, width = sequence.frames[0].load().shape[:2]
    most = max(1, MAX_BAG_BYTES // (height * width * 3))
    frames = sequence.frames[: min(count, most * step) : step]
    which = {1: "", 2: "every 2nd frame, ", 3: "every 3rd frame, "}.get(step, f"every {step}th frame, ")
    print(f"demo: {sequence.name}: {which}{len(frames)} frames, {width}x{height}, {rate / step:g} frames/s", flush=True)
    return Sequence(sequence.name, frames, rate / step, True)


def cached_vtest(cache: Path) -> Path | None:
    """vtest.avi: cached, installed, or out of the package, which is only unpacked. None where apt does not help."""
    target = cache / NAME
    if target.is_file():
        return target
    if INSTALLED.is_file():
        return INSTALLED
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        return None
    cache.mkdir(parents=True, exist_ok=True)
    package = download(cache)
    if package is None:
        return None
    try:
        return target if unpack(package, target) else None
    finally:
        package.unlink()


def download(folder: Path) -> Path | None:
    """The package file; with package lists of our own where the system has none. Needs no root."""
    print(f"demo: fetching {NAME} from the package {PACKAGE} (96 MB) ...", flush=True)
    private = folder.resolve() / "apt"
    for options in ([], list(private_lists(private))):
        if options and not run_apt([*options, "update"], folder):
            break
        if run_apt([*options, "download", PACKAGE], folder):
            break
    shutil.rmtree(private, ignore_errors=True)
    return next(iter(folder.glob(f"{PACKAGE}_*.deb")), None)


def private_lists(folder: Path) -> Iterator[str]:
    """Options that make apt keep its lists and caches in a folder of the user's."""
    for key, name in (("Dir::State", "state"), ("Dir::State::lists", "state/lists"), ("Dir::Cache", "cache")):
        (folder / name / "partial").mkdir(parents=True, exist_ok=True)
        yield from ("-o", f"{key}={folder / name}")
    (folder / "cache/archives/partial").mkdir(parents=True, exist_ok=True)


def run_apt(arguments: list[str], folder: Path) -> bool:
    """Run apt-get in a folder; False when it fails or takes too long."""
    command = ["apt-get", "-q", "-o", "Acquire::Retries=1", *arguments]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, stdin=subprocess.DEVNULL, timeout=APT_TIMEOUT_S)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def unpack(package: Path, target: Path) -> bool:
    """Take the video out of the package, whole or not at all; False when it is not in there."""
    partial = target.with_suffix(".part")
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(package)], stdout=subprocess.PIPE) as process:
        found = False
        with tarfile.open(fileobj=process.stdout, mode="r|") as archive:
            for member in archive:
                content = archive.extractfile(member) if Path(member.name).name in (NAME, f"{NAME}.gz") else None
                if content is None:
                    continue
                with partial.open("wb") as file:
                    packed = member.name.endswith(".gz")
                    shutil.copyfileobj(gzip.GzipFile(fileobj=content) if packed else content, file)
                found = True
                break
        process.kill()
    if found:
        os.replace(partial, target)
    return found


def cached_bag(sequence: Sequence, given: Path | None, cache: Path, topic: str, max_frames: int | None) -> Path:
    """The sequence as a rosbag2, written once; bags of other videos are deleted, because they are large.

    Raises:
        DataError: the disk is too full, or a frame cannot be decoded.
    """
    frames = sequence.frames[:max_frames] if max_frames else sequence.frames
    stamp = f"-{given.stat().st_mtime_ns}" if given is not None else ""
    name = re.sub(r"\W+", "_", sequence.name)
    bag = cache / f"{name}{stamp}-{len(frames)}-{sequence.frame_rate:g}.bag"
    if (bag / "metadata.yaml").is_file():
        return bag
    for other in cache.glob("*.bag"):
        shutil.rmtree(other)
    cache.mkdir(parents=True, exist_ok=True)
    picture = sequence.frames[0].load()
    needed, free = picture.nbytes * len(frames), shutil.disk_usage(cache).free
    if needed * 1.1 > free:
        found = f"the bag takes {needed >> 20} MiB, {cache} has {free >> 20} MiB free"
        raise DataError(f"{found}; free some, or use --max-frames")
    print(f"demo: writing it as a rosbag2 ({needed >> 20} MiB, kept in {cache}) ...", flush=True)
    write_video_as_bag(Sequence(sequence.name, frames, sequence.frame_rate, True), bag, topic)
    return bag
