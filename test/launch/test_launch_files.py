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
import yaml

ROOT = Path(__file__).resolve().parent.parent.parent
FILES = sorted((ROOT / "launch").glob("*.launch.py"))
PROFILE_VARIABLE = "FASTDDS_DEFAULT_PROFILES_FILE"

# Stands in for a program: writes down how it was started.
SPY = """#!{python}
import json, os, sys
parameters = [open(value).read() for option, value in zip(sys.argv, sys.argv[1:]) if option == "--params-file"]
with open({report!r}, "a") as file:
    json.dump({{"arguments": sys.argv[1:], "parameters": parameters, "profile": os.environ.get({variable!r})}}, file)
    file.write("\\n")
sys.exit({code})
"""

Start = Callable[..., dict[str, Any]]


def put_spy(prefix: Path, package: str, executable: str, code: int = 0) -> None:
    """An executable of a package that reports to ``<prefix>/<executable>.json``."""
    marker = prefix / "share" / "ament_index" / "resource_index" / "packages" / package
    path = prefix / "lib" / package / executable
    for folder in (marker.parent, prefix / "share" / package, path.parent):
        folder.mkdir(parents=True, exist_ok=True)
    marker.touch()
    report = str(prefix / f"{executable}.json")
    path.write_text(SPY.format(python=sys.executable, report=report, variable=PROFILE_VARIABLE, code=code))
    path.chmod(0o755)


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Install prefix with our launch files and spies in place of all programs."""
    pytest.importorskip("launch_ros", reason="launch comes with a ROS install only")
    prefix = tmp_path / "install"
    put_spy(prefix, "qdtrack_ros", "tracker_node")
    put_spy(prefix, "qdtrack_ros", "track_listener.py")
    put_spy(prefix, "rviz2", "rviz2")
    for name in ("config", "launch"):
        (prefix / "share" / "qdtrack_ros" / name).symlink_to(ROOT / name)
    monkeypatch.setenv("AMENT_PREFIX_PATH", f"{prefix}{os.pathsep}{os.environ.get('AMENT_PREFIX_PATH', '')}")
    monkeypatch.setenv("ROS_LOG_DIR", str(tmp_path / "log"))
    return prefix


@pytest.fixture
def launch(install: Path) -> Callable[..., dict[str, list[dict[str, Any]]]]:
    """``launch("qdtrack.launch.py", cameras="front")``: runs it to its end; how each program was started, each time."""
    from launch import LaunchDescription, LaunchService
    from launch.actions import IncludeLaunchDescription
    from launch.launch_description_sources import PythonLaunchDescriptionSource

    def run(file: str, **arguments: str) -> dict[str, list[dict[str, Any]]]:
        source = PythonLaunchDescriptionSource(str(install / "share" / "qdtrack_ros" / "launch" / file))
        service = LaunchService(noninteractive=True)
        service.include_launch_description(
            LaunchDescription([IncludeLaunchDescription(source, launch_arguments=arguments.items())])
        )
        assert service.run() == 0
        reports = {path.stem: path.read_text(encoding="utf-8").splitlines() for path in install.glob("*.json")}
        return {name: [json.loads(line) for line in lines] for name, lines in reports.items()}

    return run


@pytest.fixture
def start(launch: Callable[..., dict[str, list[dict[str, Any]]]]) -> Start:
    """``start(cameras="front")`` launches qdtrack.launch.py with these arguments; how the node was started."""
    return lambda **arguments: launch("qdtrack.launch.py", **arguments)["tracker_node"][0]


def load(path: Path) -> Any:
    """A launch file as a module."""
    spec = importlib.util.spec_from_file_location(path.stem.replace(".", "_"), path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


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


@pytest.mark.parametrize(
    ("file", "executable"), [("qdtrack.launch.py", "tracker_node"), ("camera.launch.py", "track_listener.py")]
)
def test_the_executables_are_installed_under_the_names_the_launch_files_use(file: str, executable: str) -> None:
    assert f'executable="{executable}"' in (ROOT / "launch" / file).read_text(encoding="utf-8")
    script = ROOT / "scripts" / executable
    assert script.stat().st_mode & 0o111
    assert script.read_text(encoding="utf-8").startswith("#!/usr/bin/env python3\n")
    assert f"scripts/{executable}" in (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_argument_is_described(path: Path, install: Path) -> None:
    arguments = load(path).generate_launch_description().get_launch_arguments()
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
    assert "front/camera_info:=/driver/camera_info" in seen["arguments"]
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


def test_the_first_camera_may_come_from_the_parameter_file(launch: Callable[..., Any], tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("/**:\n  ros__parameters:\n    cameras: [front, rear]\n", encoding="utf-8")
    seen = launch("qdtrack.launch.py", params_file=str(file), image_topic="/driver/image", rviz="true")
    assert "front/image_raw:=/driver/image" in seen["tracker_node"][0]["arguments"]
    assert "/camera/markers:=/front/markers" in seen["rviz2"][0]["arguments"]


@pytest.mark.parametrize(
    ("text", "cameras"),
    [
        ("/**:\n  ros__parameters:\n    cameras: [front, rear]\n", ["front", "rear"]),
        ("/robot:\n  qdtrack:\n    ros__parameters: {confirm_hits: 3, cameras: [front]}\n", ["front"]),
        ("a:\n  ros__parameters: {confirm_hits: 3}\nb:\n  ros__parameters: {cameras: [rear]}\n", ["rear"]),
        ("/**:\n  ros__parameters:\n    confirm_hits: 3\n", []),
        ("", []),
    ],
)
def test_cameras_are_found_in_a_parameter_file(text: str, cameras: list[str]) -> None:
    assert function_of_the_launch_file("cameras_in")(yaml.safe_load(text)) == cameras


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "No such file or directory"),
        (b"a: [1\nb: 2", "no YAML, while parsing"),
        (b"\xff\xfe\xff", "no YAML, 'utf-8'"),
    ],
)
def test_a_parameter_file_that_cannot_be_read_is_named_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None, reason: str
) -> None:
    monkeypatch.chdir(tmp_path)
    if content is not None:
        (tmp_path / "mine.yaml").write_bytes(content)
    with pytest.raises(RuntimeError) as error:
        function_of_the_launch_file("parameters_in")("mine.yaml")
    text = str(error.value)
    assert text.startswith(f"params_file {tmp_path}/mine.yaml cannot be read: {reason}") and "\n" not in text
    assert text.endswith("give the path of a YAML file of parameters, or leave params_file out")


def test_nothing_is_started_without_the_parameter_file_that_was_asked_for(install: Path) -> None:
    from launch import LaunchContext

    module = load(ROOT / "launch" / "qdtrack.launch.py")
    context = LaunchContext()
    for argument in module.arguments():
        argument.execute(context)
    context.launch_configurations.update(cameras="front", params_file="missing.yaml")
    with pytest.raises(RuntimeError, match="missing.yaml cannot be read: No such file"):
        module.nodes(context)


def function_of_the_launch_file(name: str) -> Callable[..., Any]:
    """A function of qdtrack.launch.py, without the rest, which needs a ROS install."""
    source = (ROOT / "launch" / "qdtrack.launch.py").read_text(encoding="utf-8")
    (function,) = (node for node in ast.parse(source).body if getattr(node, "name", "") == name)
    names: dict[str, Any] = {"Any": Any, "Path": Path, "yaml": yaml}
    exec(ast.unparse(function), names)
    found: Callable[..., Any] = names[name]
    return found


def test_rviz_shows_the_first_camera_of_this_namespace(launch: Callable[..., Any]) -> None:
    seen = launch("qdtrack.launch.py", cameras="front,rear", namespace="robot", rviz="true", fixed_frame="lens")
    arguments = seen["rviz2"][0]["arguments"]
    assert "/camera/image_annotated:=/robot/front/image_annotated" in arguments
    assert "/camera/markers:=/robot/front/markers" in arguments
    assert arguments[arguments.index("-f") + 1] == "lens"
    assert Path(arguments[arguments.index("-d") + 1]).name == "qdtrack.rviz"
    assert seen["rviz2"][0]["profile"] == seen["tracker_node"][0]["profile"] is not None


def test_rviz_stays_closed_unless_asked_for(launch: Callable[..., Any]) -> None:
    assert set(launch("qdtrack.launch.py")) == {"tracker_node"}


def test_a_node_that_ends_is_started_again_where_that_is_asked_for(launch: Callable[..., Any], install: Path) -> None:
    path = install / "lib" / "qdtrack_ros" / "tracker_node"
    body = path.read_text(encoding="utf-8").replace("sys.exit(0)", "lines = sum(1 for _ in open(report))\n")
    report = str(install / "tracker_node.json")
    # The second start interrupts the launch file, which would go on for ever.
    path.write_text(
        body.replace("import json", f"report = {report!r}\nimport signal, json")
        + "if lines == 2: os.kill(os.getppid(), signal.SIGINT)\n"
    )
    assert len(launch("qdtrack.launch.py", respawn="true")["tracker_node"]) == 2


@pytest.mark.parametrize("rectify", ["true", "false"])
def test_the_whole_chain_fits_together(install: Path, rectify: str) -> None:
    from launch import LaunchContext

    module = load(ROOT / "launch" / "camera.launch.py")
    context = LaunchContext()
    for argument in module.arguments():
        argument.execute(context)
    context.launch_configurations.update(namespace="robot", camera="front", rectify=rectify)
    components = module.components(context)

    def text(substitutions: Any) -> str:
        return "".join(part.perform(context) for part in substitutions)

    assert [text(component.package) for component in components] == ["v4l2_camera", "image_proc"][: len(components)]
    assert len(components) == (2 if rectify == "true" else 1)
    assert {text(component.node_namespace) for component in components} == {"robot/front"}
    (include,) = module.tracker(context)
    given = dict(include.launch_arguments)
    assert given["cameras"] == "front"
    assert given["image_topic"] == ("front/image_rect" if rectify == "true" else "")


def test_camera_launch_starts_tracker_and_consumer_with_one_profile(
    launch: Callable[..., Any], install: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(PROFILE_VARIABLE, raising=False)
    put_spy(install, "rclcpp_components", "component_container")
    file = install / "share" / "qdtrack_ros" / "launch"
    copy = install / "launch_copy"
    copy.mkdir()
    for path in file.glob("*.launch.py"):
        # A spy answers no request to load a component, which would be waited for: leave them out here.
        text = path.read_text(encoding="utf-8").replace(
            "components(context),\n            output", "[],\n            output"
        )
        (copy / path.name).write_text(text, encoding="utf-8")
    file.unlink()
    copy.rename(file)
    seen = launch("camera.launch.py", namespace="robot", camera="front")
    assert set(seen) == {"tracker_node", "track_listener.py", "component_container"}
    assert "tracks:=front/tracks" in seen["track_listener.py"][0]["arguments"]
    assert "__ns:=/robot" in seen["track_listener.py"][0]["arguments"]
    assert re.search(r"cameras:.*\s+- front", seen["tracker_node"][0]["parameters"][-1])
    assert len({seen[name][0]["profile"] for name in seen}) == 1 and seen["component_container"][0]["profile"]


def test_replay_plays_the_bag_with_its_clock_beside_a_tracker_that_follows_it(
    launch: Callable[..., Any], install: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(PROFILE_VARIABLE, raising=False)
    put_spy(install, "ros2cli", "ros2")
    monkeypatch.setenv("PATH", f"{install / 'lib' / 'ros2cli'}{os.pathsep}{os.environ['PATH']}")
    seen = launch("replay.launch.py", bag="street", rate="0.5", start_delay="0.1", image_topic="/driver/image")
    assert seen["ros2"][0]["arguments"] == ["bag", "play", "street", "--clock", "--rate", "0.5"]
    assert "camera/image_raw:=/driver/image" in seen["tracker_node"][0]["arguments"]
    for program in ("tracker_node", "rviz2"):
        assert "use_sim_time: true" in seen[program][0]["parameters"][-1]
    assert seen["ros2"][0]["profile"] == seen["tracker_node"][0]["profile"] is not None
