"""The layouts for RViz and Foxglove show topics, fields and namespaces that there are, with a QoS that fits."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
CODE = (ROOT / "qdtrack_ros" / "node" / "camera_io.py").read_text(encoding="utf-8")
PUBLISHED = {f"/camera/{name}" for name in re.findall(r'f"\{name\}/(\w+)", qos', CODE)} | {"/diagnostics"}


def texts(value: Any) -> Iterator[str]:
    """Every text in a tree, keys included."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from (key, *texts(item))
    elif isinstance(value, list):
        for item in value:
            yield from texts(item)
    elif isinstance(value, str):
        yield value


def fields(message: str) -> set[str]:
    """Names of a message's fields."""
    text = (ROOT / "msg" / f"{message}.msg").read_text(encoding="utf-8")
    return set(re.findall(r"^[\w/\[\]]+ (\w+)(?: *#.*)?$", text, re.MULTILINE))


def test_what_the_node_publishes_is_known_here() -> None:
    assert {"/camera/image_annotated", "/camera/markers", "/camera/timing"} <= PUBLISHED


def test_rviz_shows_our_topics_and_asks_for_what_is_offered() -> None:
    layout = yaml.safe_load((ROOT / "config" / "qdtrack.rviz").read_text(encoding="utf-8"))
    displays = {display["Name"]: display for display in layout["Visualization Manager"]["Displays"]}
    topics = {name: display["Topic"] for name, display in displays.items() if "Topic" in display}
    assert {topic["Value"] for topic in topics.values()} == {"/camera/image_annotated", "/camera/markers"}
    for topic in topics.values():  # offered: reliable, volatile
        assert topic["Durability Policy"] == "Volatile" and topic["Reliability Policy"] in ("Reliable", "Best Effort")
    marker_code = (ROOT / "qdtrack_ros" / "node" / "visualization.py").read_text(encoding="utf-8")
    namespaces = set(re.findall(r'\.marker\(header, "(\w+)"', marker_code)) | set(
        re.findall(r'ns="(\w+)"', marker_code)
    )
    assert set(displays["Tracks in space"]["Namespaces"]) == namespaces


def test_the_launch_file_remaps_every_topic_of_the_layout() -> None:
    launch = (ROOT / "launch" / "qdtrack.launch.py").read_text(encoding="utf-8")
    names = re.search(r'for topic in \(("\w+"(?:, "\w+")*)\)', launch)
    assert names is not None
    layout = (ROOT / "config" / "qdtrack.rviz").read_text(encoding="utf-8")
    assert set(re.findall(r'"(\w+)"', names.group(1))) == set(re.findall(r"Value: /camera/(\w+)", layout))


def test_foxglove_shows_our_topics_and_fields() -> None:
    layout = json.loads((ROOT / "config" / "foxglove_layout.json").read_text(encoding="utf-8"))
    assert set(layout) == {"configById", "globalVariables", "userNodes", "playbackConfig", "layout"}
    named = {text for text in texts(layout["configById"]) if text.startswith("/")}
    assert {text.partition(".")[0] for text in named} <= PUBLISHED
    timing = {text.partition(".")[2] for text in named if text.startswith("/camera/timing.")}
    assert timing and timing <= fields("FrameTiming")
    panels = {text for text in texts(layout["layout"]) if "!" in text}
    assert panels == set(layout["configById"])
