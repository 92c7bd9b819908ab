#!/usr/bin/env python3
"""Run the node for a very long time, as fast as it goes, and look for what grows, repeats or stays behind.

    scripts/run.sh python scripts/soak_node.py --frames 200000 --bad 10000

The node runs in a process of its own, with an engine that costs nothing and shows a new object every 50 frames. Looked
at are: ids only rise, frame indices have no gaps, received = processed + dropped, memory is flat after the first fifth,
threads and open files do not become more, bad images are counted by their kind, the end is orderly. Exit code 1 if not.
"""

from __future__ import annotations

import argparse
import array
import random
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from qdtrack_ros.inference.types import Detections, EngineOutput
from qdtrack_ros.tracking import AssociationConfig

LIFE, EVERY, AXES = 100, 50, 8  # frames of an object, frames between two new ones, appearances in turn
WIDTH, HEIGHT, DEPTH = 64, 48, 100
PATIENCE_S = 60.0
MAX_GROWTH_MIB = 8.0
BAD: dict[str, dict[str, Any]] = {
    "truncated": {"data": bytes(100)},
    "zero_size": {"width": 0, "height": 0, "data": b""},
    "bad_step": {"step": WIDTH},
    "unknown_encoding": {"encoding": "no such encoding"},
    "oversized": {"width": 70_000, "height": 70_000, "step": 210_000},
    "undecodable": {"encoding": "yuv422", "width": 5, "step": 10},
}


class Usage(NamedTuple):
    """What the node's process holds."""

    resident_mib: float
    threads: int
    files: int

    @classmethod
    def of(cls, pid: int) -> Usage:
        """Of a process."""
        proc = Path(f"/proc/{pid}")
        pages = int((proc / "statm").read_text().split()[1])
        return cls(
            pages * resource.getpagesize() / 2**20,
            len(list((proc / "task").iterdir())),
            len(list((proc / "fd").iterdir())),
        )


class EveryFiftyFrames:
    """An engine: objects come and go, each with the look of none that is remembered."""

    name, model_id, embedding_dim = "soak", "soak", AXES
    at_once: int | None = None
    streams = 1

    def __init__(self) -> None:
        self._frame = 0

    def detect(self, images: Sequence[np.ndarray]) -> EngineOutput:
        """The objects of now, for every image."""
        newest = self._frame // EVERY
        alive = [number for number in range(max(0, newest - LIFE // EVERY + 1), newest + 1)]
        boxes = np.array([[5 * (n % AXES), 5, 5 * (n % AXES) + 4, 40] for n in alive], np.float32)
        embeddings = 20 * np.eye(AXES, dtype=np.float32)[[n % AXES for n in alive]]
        self._frame += len(images)
        found = Detections(boxes, np.full(len(alive), 0.9, np.float32), np.zeros(len(alive), np.int64), embeddings)
        return EngineOutput([found] * len(images), 0.0, 0.0, 0.0)

    def warmup(self, pictures: int = 1, threads: int = 1) -> None:
        """Nothing to warm up."""

    def close(self) -> None:
        """Nothing to free."""


class Preset(NamedTuple):
    """What the node reads of a preset."""

    name: str = "soak"
    labels: tuple[str, ...] = ("object",)
    association: AssociationConfig = AssociationConfig()


class Client:
    """Sends images and keeps what the soak looks at."""

    def __init__(self) -> None:
        import rclpy
        from diagnostic_msgs.msg import DiagnosticArray
        from qdtrack_ros.msg import FrameTiming, TrackArray
        from rclpy.executors import SingleThreadedExecutor
        from rclpy.qos import QoSProfile
        from sensor_msgs.msg import Image

        rclpy.init(args=[])
        self._image = Image
        self.node = rclpy.create_node("soak_client", use_global_arguments=False)
        self._publisher = self.node.create_publisher(Image, "camera/image_raw", QoSProfile(depth=DEPTH))
        self.node.create_subscription(FrameTiming, "camera/timing", self._take_timing, 100)
        self.node.create_subscription(TrackArray, "camera/tracks", self._take_tracks, 100)
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self._take_diagnostics, 10)
        self._answered = threading.Event()
        self._stamp_ns = 1_000_000_000
        self.timing: Any = None
        self.diagnostics: dict[str, str] = {}
        self.diagnostics_count = 0
        self.highest_id = -1
        self.next_index = 0
        self.sessions: set[bytes] = set()
        self.sent = 0
        self.faults: list[str] = []
        self._known: set[int] = set()
        executor = SingleThreadedExecutor()
        executor.add_node(self.node)
        threading.Thread(target=executor.spin, daemon=True).start()

    def send(self, **fields: Any) -> None:
        """Publish an image; `fields` spoil it."""
        values = {"width": WIDTH, "height": HEIGHT, "encoding": "bgr8", "step": 3 * WIDTH, **fields}
        data = values.pop("data", bytes(3 * WIDTH * HEIGHT))
        message = self._image(**values, data=array.array("B", data))
        self._stamp_ns += 33_333_333
        message.header.stamp.sec, message.header.stamp.nanosec = divmod(self._stamp_ns, 1_000_000_000)
        self._publisher.publish(message)
        self.sent += 1

    def process(self) -> Any:
        """Send a good image and wait for its timing; sends again where one was lost."""
        self._answered.clear()
        deadline = time.monotonic() + PATIENCE_S
        self.send()
        while not self._answered.wait(1.0):
            if time.monotonic() > deadline:
                raise TimeoutError("the node does not answer")
            self.send()
        return self.timing

    def reported(self) -> dict[str, str]:
        """The next report on the camera."""
        seen = self.diagnostics_count
        deadline = time.monotonic() + PATIENCE_S
        while self.diagnostics_count < seen + 2:  # the next one may have been under way
            if time.monotonic() > deadline:
                raise TimeoutError("no diagnostics")
            time.sleep(0.05)
        return self.diagnostics

    def _take_timing(self, message: Any) -> None:
        if message.frames_received != message.frames_processed + message.frames_dropped:
            self.faults.append(f"received is not processed + dropped: {message}")
        self.timing = message
        self._answered.set()

    def _take_tracks(self, message: Any) -> None:
        self.sessions.add(bytes(message.session_id.uuid))
        if message.frame_index < self.next_index:
            self.faults.append(f"frame index {message.frame_index} after {self.next_index - 1}")
        self.next_index = message.frame_index + 1
        ids = {track.track_id for track in message.tracks}
        new = sorted(ids - self._known)
        if new and new[0] <= self.highest_id:
            self.faults.append(f"new id {new[0]}, though {self.highest_id} was given out")
        self.highest_id = max([self.highest_id, *new])
        self._known = ids

    def _take_diagnostics(self, message: Any) -> None:
        for status in message.status:
            if status.name.endswith("camera camera"):
                self.diagnostics = {pair.key: pair.value for pair in status.values}
                self.diagnostics_count += 1


def soak(client: Client, pid: int, frames: int) -> list[str]:
    """Process so many frames; what was wrong."""
    usages, began = [], time.monotonic()
    for index in range(frames):
        client.process()
        if index % max(1, frames // 20) == 0:
            usages.append(Usage.of(pid))
            rate = (index + 1) / (time.monotonic() - began)
            print(f"{index:>8} frames, {rate:6.0f}/s, ids to {client.highest_id}, {usages[-1]}", flush=True)
    usages.append(Usage.of(pid))
    settled = usages[len(usages) // 5 :]
    wrong = []
    if settled[-1].resident_mib - settled[0].resident_mib > MAX_GROWTH_MIB:
        wrong.append(f"memory grew from {settled[0].resident_mib:.1f} to {settled[-1].resident_mib:.1f} MiB")
    if settled[-1].threads > settled[0].threads or settled[-1].files > settled[0].files:
        wrong.append(f"threads or files became more: {settled[0]} to {settled[-1]}")
    if frames > LIFE and client.highest_id < frames // EVERY - 1:
        wrong.append(f"only {client.highest_id + 1} ids in {frames} frames")
    return wrong


def bad_images(client: Client, count: int) -> list[str]:
    """Send bad images until the node has counted so many by their kind; what was wrong."""
    dice = random.Random(0)
    dropped, sent = client.process().frames_dropped, Counter[str]()
    before, all_before = client.reported(), client.sent
    while True:
        for _ in range(min(500, count)):
            kind = dice.choice(list(BAD))
            sent[kind] += 1
            client.send(**BAD[kind])
            time.sleep(0.002)  # quicker, and the next image would replace it in the mailbox, counted as that
        timing = client.process()
        now = client.reported()
        counted = {kind: _difference(now, before, f"dropped.{kind}") for kind in BAD}
        replaced = _difference(now, before, "dropped.overwritten")
        print(f"bad images sent {sent.total()}, counted by kind {counted}, replaced unread {replaced}", flush=True)
        if sum(counted.values()) >= count:
            break
    wrong = []
    if any(counted[kind] > sent[kind] for kind in BAD):
        wrong.append(f"counted more than was sent: {dict(sent)}")
    if timing.frames_dropped - dropped != sum(counted.values()) + replaced:
        wrong.append(f"{timing.frames_dropped - dropped} dropped in all, but {counted} and {replaced} replaced")
    came = sum(_difference(now, before, f"frames_{fate}") for fate in ("received", "lost"))
    if came != client.sent - all_before:
        wrong.append(f"{client.sent - all_before} sent, but {came} received or known to be lost")
    return wrong


def _difference(now: dict[str, str], before: dict[str, str], key: str) -> int:
    return int(now.get(key, 0)) - int(before.get(key, 0))


def run(frames: int, bad: int) -> int:
    """Start a node, let it work, look at it, end it."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log.txt"
        settings = ("camera.qos.reliability:=reliable", f"camera.qos.depth:={DEPTH}", f"state.path:={folder}/state.npz")
        words = [word for setting in settings for word in ("-p", setting)]
        with log.open("wb") as stream:
            command = [sys.executable, __file__, "node", "--ros-args", *words]
            node = subprocess.Popen(command, stdout=stream, stderr=subprocess.STDOUT)
        try:
            client = Client()
            client.process()
            wrong = soak(client, node.pid, frames)
            wrong += bad_images(client, bad) if bad else []
            if len(client.sessions) != 1:
                wrong.append(f"{len(client.sessions)} sessions")
            node.send_signal(signal.SIGINT)
            if node.wait(PATIENCE_S) != 0:
                wrong.append(f"the node ended with {node.returncode}")
        finally:
            if node.poll() is None:
                node.kill()
                node.wait()
        text = log.read_text(encoding="utf-8", errors="replace")
        if "Traceback" in text:
            wrong.append("the log holds a traceback")
        if "SIGINT: shutting down" not in text:
            wrong.append("the node does not say that it shuts down")
        # Every kind of bad image may still tell of some that went unsaid, after the word of the end.
        ending = text.splitlines()[-5 - len(BAD) :]
        print(f"the node's log, {len(text.splitlines())} lines, ends with:\n" + "\n".join(ending))
    for line in [*client.faults[:10], *wrong]:
        print(f"WRONG: {line}")
    print("passed" if not wrong and not client.faults else "FAILED")
    return 1 if wrong or client.faults else 0


def main() -> int:
    """Read the arguments; as `soak_node.py node` be the node."""
    if sys.argv[1:2] == ["node"]:
        from qdtrack_ros.node.main import main as node_main

        return node_main(
            sys.argv[2:],
            engine_factory=lambda preset, weights, device, engine, precision: EveryFiftyFrames(),
            preset_loader=lambda name_or_path, weights: Preset(),
        )
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--frames", type=int, default=200_000, help="good images (default: %(default)s)")
    parser.add_argument("--bad", type=int, default=10_000, help="bad images after them (default: %(default)s)")
    arguments = parser.parse_args()
    return run(arguments.frames, arguments.bad)


if __name__ == "__main__":
    sys.exit(main())
