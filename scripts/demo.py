"""The live node, shown: a street video is played into it as a rosbag2 over Fast DDS, and what comes out is recorded.

    make demo                        vtest.avi from Debian's or Ubuntu's package opencv-doc
    make demo VIDEO=street.mp4       a video of your own

Leaves in demo/: tracked.mp4, contact_sheet.png, tracks.txt (MOTChallenge), recording/ (rosbag2: detections, tracks,
timing), node.log, figures.txt. Exit codes: 0 done; 1 failed, with one line that says why; 130 interrupted.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # the demo shows the code beside it, whatever is installed

from demo_results import DemoError, draw_contact_sheet, draw_video, figures, read_recording, write_tracks  # noqa: E402
from demo_video import cached_bag, find_video  # noqa: E402

from qdtrack_ros.data.bag_images import read_bag  # noqa: E402
from qdtrack_ros.data.types import DataError, Sequence  # noqa: E402

CAMERA = "camera"
IMAGES = f"/{CAMERA}/image_raw"
RECORDED = {
    "detections": "vision_msgs/msg/Detection2DArray",
    "tracks": "qdtrack_ros/msg/TrackArray",
    "timing": "qdtrack_ros/msg/FrameTiming",
}
ACTIVE = "active: waiting for images"
START_TIMEOUT_S = 300.0
STOP_TIMEOUT_S = 20.0
LEFT_BY_US = ("tracked.mp4", "contact_sheet.png", "tracks.txt", "node.log", "figures.txt")


def main() -> int:
    """Run the demo."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("video", nargs="?", type=Path, metavar="VIDEO", help="video file, folder of pictures or bag")
    parser.add_argument("--output", type=Path, default=ROOT / "demo", help="folder for the results (default: demo/)")
    parser.add_argument("--cache", type=Path, default=ROOT / "build" / "demo", help="for video and bag")
    parser.add_argument("--max-frames", type=int, metavar="N", help="only the first N frames")
    parser.add_argument("--param", action="append", default=[], metavar="NAME:=VALUE", help="parameter of the node")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # whatever ends the demo also ends its node
    prepare_environment()
    try:
        run(arguments)
    except KeyboardInterrupt:
        print("demo: interrupted; the node is stopped", file=sys.stderr)
        return 130
    except (DemoError, DataError, OSError, ImportError, LookupError) as error:
        print(f"demo: error: {error}", file=sys.stderr)
        return 1
    return 0


def prepare_environment() -> None:
    """What scripts/run.sh sets, for those who start this file without it; our processes inherit it."""
    os.environ.setdefault("FASTDDS_DEFAULT_PROFILES_FILE", str(ROOT / "config" / "fastdds_profile.xml"))
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    os.environ.setdefault("ROS_DOMAIN_ID", str(random.randint(1, 100)))
    os.environ.setdefault("RMW_IMPLEMENTATION", "rmw_fastrtps_cpp")


def run(arguments: argparse.Namespace) -> None:
    """From the video to the results.

    Raises:
        DemoError: the node did not start, processed nothing, or its counts do not add up.
    """
    output: Path = arguments.output
    clear(output)
    sequence = find_video(arguments.video, arguments.cache)
    bag = cached_bag(sequence, arguments.video, arguments.cache, IMAGES, arguments.max_frames)
    with running_node(output / "node.log", arguments.param) as node:
        played = play_and_record(bag, output / "recording", node)
    recording = read_recording(output / "recording", CAMERA)
    result = figures(recording, played)
    print("demo: drawing ...", flush=True)
    video = read_bag(bag, IMAGES)
    frames = Sequence(sequence.name, tuple(video.frames), sequence.frame_rate, True)
    write_tracks(output / "tracks.txt", frames, recording.tracks)
    codec = draw_video(output / "tracked.mp4", frames, recording.tracks)
    title = f"qdtrack_ros: {sequence.name} through the live ROS 2 node"
    draw_contact_sheet(output / "contact_sheet.png", frames, recording.tracks, title, str(result))
    (output / "figures.txt").write_text(f"{result}\n", encoding="utf-8")
    print(f"demo: {output}/: tracked.mp4 ({codec}), contact_sheet.png, tracks.txt, recording/, node.log")
    print(f"demo: {result}")


def clear(output: Path) -> None:
    """Delete the results of the run before; other files stay."""
    output.mkdir(parents=True, exist_ok=True)
    for name in LEFT_BY_US:
        (output / name).unlink(missing_ok=True)
    if (output / "recording" / "metadata.yaml").is_file():
        shutil.rmtree(output / "recording")


@contextlib.contextmanager
def running_node(log: Path, parameters: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    """The node as a process of its own, active; stopped in order at the end.

    Raises:
        DemoError: it ends, or does not become active in time.
    """
    command = [sys.executable, "-m", "qdtrack_ros.cli.main", "node", "--ros-args", "-p", f"cameras:=[{CAMERA}]"]
    for parameter in parameters:
        command += ["-p", parameter]
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    print("demo: starting the node ...", flush=True)
    with log.open("wb") as file:
        # A session of its own: Ctrl-C reaches the demo only, which then stops the node in order.
        node = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=environment,
        )
    try:
        wait_until_active(node, log)
        yield node
    finally:
        stop(node)


def wait_until_active(node: subprocess.Popen[bytes], log: Path) -> None:
    """Read the node's log until it says that it waits for images."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        text = log.read_text(encoding="utf-8", errors="replace")
        if ACTIVE in text:
            return
        if node.poll() is not None or "configure failed" in text:
            last = next((line for line in reversed(text.splitlines()) if line.strip()), "it said nothing")
            raise DemoError(f"the node did not start: {last} (all of it: {log})")
        time.sleep(0.2)
    raise DemoError(f"the node is not active after {START_TIMEOUT_S:g} s; look at {log}")


def stop(node: subprocess.Popen[bytes]) -> None:
    """End the node as Ctrl-C would; by force when it does not listen."""
    if node.poll() is None:
        node.send_signal(signal.SIGINT)
        try:
            node.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            node.kill()
            node.wait()


def play_and_record(bag: Path, recording: Path, node: subprocess.Popen[bytes]) -> int:
    """Play the bag in real time and record what the node says; gives the number of frames played."""
    from qdtrack_ros.node.bag_player import play
    from qdtrack_ros.node.bag_recorder import BagRecorder, RecordedTopic

    topics = [RecordedTopic(f"/{CAMERA}/{name}", type_name) for name, type_name in RECORDED.items()]
    with BagRecorder(recording, topics) as recorder:
        if not recorder.wait_for_publishers(30.0):
            raise DemoError(f"the topics {', '.join(topic.name for topic in topics)} do not appear; see node.log")
        print("demo: playing in real time ...", flush=True)
        report = play(bag, wait_for_subscribers_s=30.0)
        recorder.wait_until_quiet(2.0, 30.0)
        if node.poll() is not None:
            raise DemoError(f"the node ended while frames came in, with code {node.returncode}; see node.log")
    return sum(report.published.values())


if __name__ == "__main__":
    sys.exit(main())
