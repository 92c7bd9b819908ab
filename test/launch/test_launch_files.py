"""The launch files: they compile, name only what is there, and do with their arguments what they say.

`launch` comes with a ROS install only; without it, what needs it is skipped.
"""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
FILES = sorted((ROOT / "launch").glob("*.launch.py"))
PROFILE_VARIABLE = "FASTDDS_DEFAULT_PROFILES_FILE"

# Stands in for the node: writes down how it was started.
SPY = """#!{python}
import json, os, sys
parameters = [open(value).read() for option, value in zip(sys.argv, sys.argv[1:]) if option == "--params-file"]
with open({report!r}, "w") as file:
    json.dump({{"arguments": sys.argv[1:], "parameters": parameters, "profile": os.environ.get({variable!r})}}, file)
"""

Start = Callable[..., dict[str, Any]]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Install prefix with our launch files and a spy in place of the node."""
    pytest.importorskip("launch_ros", reason="launch comes with a ROS install only")
    prefix = tmp_path / "install"
    marker = prefix / "share" / "ament_index" / "resource_index" / "packages" / "qdtrack_ros"
    share = prefix / "share" / "qdtrack_ros"
    executable = prefix / "lib" / "qdtrack_ros" / "tracker_node"
    for folder in (marker.parent, share, executable.parent):
        folder.mkdir(parents=True)
    marker.touch()
    for name in ("config", "launch"):
        (share / name).symlink_to(ROOT / name)
    executable.write_text(
        SPY.format(python=sys.executable, report=str(tmp_path / "report.json"), variable=PROFILE_VARIABLE)
    )
    executable.chmod(0o755)
    monkeypatch.setenv("AMENT_PREFIX_PATH", f"{prefix}{os.pathsep}{os.environ.get('AMENT_PREFIX_PATH', '')}")
    monkeypatch.setenv("ROS_LOG_DIR", str(tmp_path / "log"))
    return prefix


@pytest.fixture
def start(install: Path, tmp_path: Path) -> Start:
    """``start(cameras="front")`` launches qdtrack.launch.py with these arguments; returns what the spy saw."""
    from launch import LaunchDescription, LaunchService
    from launch.actions import IncludeLaunchDescription
    from launch.launch_description_sources import PythonLaunchDescriptionSource

    def run(**arguments: str) -> dict[str, Any]:
        source = PythonLaunchDescriptionSource(str(install / "share" / "qdtrack_ros" / "launch" / "qdtrack.launch.py"))
        service = LaunchService(noninteractive=True)
        service.include_launch_description(
            LaunchDescription([IncludeLaunchDescription(source, launch_arguments=arguments.items())])
        )
        assert service.run() == 0
        report: dict[str, Any] = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
        return report

    return run


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_it_compiles_and_has_an_entry_point(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert "generate_launch_description" in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    assert ast.get_docstring(tree)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_files_it_names_are_there(path: Path) -> None:
    named = re.findall(r'os\.path\.join\(SHARE, "(\w+)", "([\w.]+)"\)', path.read_text(encoding="utf-8"))
    assert named
    for folder, name in named:
        assert (ROOT / folder / name).is_file(), f"{folder}/{name}"


def test_the_executable_is_installed_under_the_name_the_launch_file_uses() -> None:
    assert 'executable="tracker_node"' in (ROOT / "launch" / "qdtrack.launch.py").read_text(encoding="utf-8")
    script = ROOT / "scripts" / "tracker_node"
    assert script.stat().st_mode & 0o111
    assert script.read_text(encoding="utf-8").startswith("#!/usr/bin/env python3\n")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_argument_is_described(path: Path, install: Path) -> None:
    spec = importlib.util.spec_from_file_location(path.stem.replace(".", "_"), path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    arguments = module.generate_launch_description().get_launch_arguments()
    assert arguments
    for argument in arguments:
        assert argument.description not in ("", "no description given"), argument.name


@pytest.mark.parametrize("mine", [None, "/mine.xml"])
def test_the_fastdds_profile_is_set_only_where_none_is(
    start: Start, install: Path, monkeypatch: pytest.MonkeyPatch, mine: str | None
) -> None:
    monkeypatch.delenv(PROFILE_VARIABLE, raising=False)
    if mine is not None:
        monkeypatch.setenv(PROFILE_VARIABLE, mine)
    expected = mine or str(install / "share" / "qdtrack_ros" / "config" / "fastdds_profile.xml")
    assert start()["profile"] == expected


def test_arguments_reach_the_node(start: Start, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("/**:\n  ros__parameters:\n    confirm_hits: 3\n", encoding="utf-8")
    seen = start(
        params_file=str(file),
        cameras="front, rear",
        image_topic="/driver/image",
        autostart="false",
        namespace="robot",
        log_level="warn",
    )
    assert "front/image_raw:=/driver/image" in seen["arguments"]
    assert "front/image_raw/compressed:=/driver/image/compressed" in seen["arguments"]
    assert "__ns:=/robot" in seen["arguments"]
    assert seen["arguments"][seen["arguments"].index("--log-level") + 1] == "warn"
    assert "confirm_hits: 3" in seen["parameters"][0]
    overrides = seen["parameters"][-1]  # later files win
    assert re.search(r"cameras:.*\s+- front\s+- rear", overrides)
    assert "autostart: false" in overrides


def test_empty_arguments_leave_the_parameter_file_alone(start: Start, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("/**:\n  ros__parameters:\n    confirm_hits: 3\n", encoding="utf-8")
    seen = start(params_file=str(file))
    assert not any("image_raw" in word for word in seen["arguments"])
    assert "cameras" not in seen["parameters"][-1]
    assert "autostart" not in seen["parameters"][-1]
