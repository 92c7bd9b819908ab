"""A node in a process of its own and a client in this one, on a ROS graph that nobody else shares."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from node_process import NodeProcess
    from ros_client import RosClient

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session", autouse=True)
def ros_environment() -> Iterator[None]:
    """A domain of this test run alone, on this machine alone, with the shipped shared-memory profile."""
    wanted = {
        "ROS_DOMAIN_ID": str(os.getpid() % 100 + 1),
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
        "FASTDDS_DEFAULT_PROFILES_FILE": str(ROOT / "config" / "fastdds_profile.xml"),
    }
    if "AMENT_PREFIX_PATH" not in os.environ:
        wanted["AMENT_PREFIX_PATH"] = sys.prefix
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    yield
    for name, value in before.items():
        if value is None:
            del os.environ[name]
        else:
            os.environ[name] = value


@pytest.fixture(scope="module")
def start_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., NodeProcess]]:
    """``start_node("-p", "name:=value", ...)``: the scripted node as a process; ended with the module at the latest."""
    pytest.importorskip("rclpy", reason="rclpy is not installed: no ROS graph to test on")
    from node_process import NodeProcess

    started: list[NodeProcess] = []

    def start(*arguments: str, script: Path | None = None) -> NodeProcess:
        log = tmp_path_factory.mktemp("node") / "log.txt"
        started.append(NodeProcess(log, arguments, script))
        return started[-1]

    yield start
    for process in started:
        process.kill()


@pytest.fixture(scope="module")
def connect() -> Iterator[Callable[..., RosClient]]:
    """``connect("camera")``: a client of that camera; ended with the module."""
    pytest.importorskip("rclpy", reason="rclpy is not installed: no ROS graph to test on")
    from ros_client import RosClient

    clients: list[RosClient] = []

    def make(camera: str = "camera", **options: object) -> RosClient:
        clients.append(RosClient(camera, **options))  # type: ignore[arg-type]
        return clients[-1]

    yield make
    for client in clients:
        client.close()
