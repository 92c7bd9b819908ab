from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from qdtrack_ros.data.synthetic import street

pytest.importorskip("rclpy")
pytest.importorskip("rosbags")


@pytest.fixture(scope="module")
def bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from qdtrack_ros.data.bag_images import write_video_as_bag

    path = tmp_path_factory.mktemp("play") / "bag"
    write_video_as_bag(street(3, (96, 64)), path, "/camera/image_raw")
    return path


def play(*words: str) -> subprocess.CompletedProcess[str]:
    environment = {"ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST", **os.environ}
    command = [sys.executable, "-m", "qdtrack_ros.cli.main", "play", *words]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, check=False)


def test_play_tells_what_went_out(bag: Path) -> None:
    done = play(str(bag), "--remap", "/camera/image_raw:=/front/image")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("played 3 on /front/image in ")


@pytest.mark.parametrize(
    ("more", "text"),
    [
        (("--topics", "/rear/image_raw"), "/rear/image_raw"),
        (("--wait-for-subscribers", "0.3"), "nobody subscribed to /camera/image_raw"),
    ],
)
def test_play_says_what_is_wrong(bag: Path, more: tuple[str, ...], text: str) -> None:
    done = play(str(bag), *more)
    assert done.returncode == 1
    assert done.stderr.startswith("qdtrack play: error: ") and text in done.stderr
    assert len(done.stderr.splitlines()) == 1
