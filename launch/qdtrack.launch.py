"""Start the tracker beside a camera driver.

ros2 launch qdtrack_ros qdtrack.launch.py
ros2 launch qdtrack_ros qdtrack.launch.py cameras:=front image_topic:=/front_camera/image_raw
ros2 launch qdtrack_ros qdtrack.launch.py --show-args
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import yaml
from ament_index_python.packages import get_package_share_directory
from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import DeclareLaunchArgument, OpaqueFunction, SetEnvironmentVariable
from launch.conditions import IfCondition
from launch.substitutions import EnvironmentVariable, LaunchConfiguration
from launch_ros.actions import Node

SHARE = get_package_share_directory("qdtrack_ros")
PROFILE_VARIABLE = "FASTDDS_DEFAULT_PROFILES_FILE"


def arguments() -> list[DeclareLaunchArgument]:
    """What the caller may set."""

    def argument(name: str, default: str, description: str, choices: list[str] | None = None) -> DeclareLaunchArgument:
        return DeclareLaunchArgument(name, default_value=default, description=description, choices=choices)

    return [
        argument("namespace", "", "Namespace of the node and of all its relative topics."),
        argument("node_name", "qdtrack", "Name of the node."),
        argument(
            "params_file",
            os.path.join(SHARE, "config", "tracker_node.yaml"),
            "Parameters of the node (YAML). The arguments below come on top of it.",
        ),
        argument("cameras", "", "Names of the cameras, separated by commas. Empty: those of params_file."),
        argument(
            "image_topic",
            "",
            "Topic that the first camera's images come from, with camera_info beside it. Empty: CAMERA/image_raw.",
        ),
        argument("autostart", "", "Configure and activate at once. Empty: as in params_file.", ["", "true", "false"]),
        argument("use_sim_time", "false", "Take the time from /clock.", ["true", "false"]),
        argument("log_level", "info", "Level of the node's log.", ["debug", "info", "warn", "error", "fatal"]),
        argument(
            "respawn",
            "false",
            "Start the node again when it ends by itself; with the parameter state.path its ids go on.",
            ["true", "false"],
        ),
        argument("rviz", "false", "Open RViz with the first camera's picture and markers.", ["true", "false"]),
        argument("rviz_config", os.path.join(SHARE, "config", "qdtrack.rviz"), "Layout for RViz."),
        argument(
            "fixed_frame",
            "camera",
            "RViz's fixed frame: the frame_id of the images, or a frame that tf leads to from there.",
        ),
        argument(
            "fastdds_profile",
            os.path.join(SHARE, "config", "fastdds_profile.xml"),
            f"Fast DDS profile for large images, unless {PROFILE_VARIABLE} is set. Give it to the camera driver too.",
        ),
    ]


def cameras_in(tree: Any) -> list[str]:
    """The parameter `cameras` of a parameter file's content, under whatever node or namespace; empty without one."""
    if not isinstance(tree, dict):
        return []
    parameters = tree.get("ros__parameters")
    if isinstance(parameters, dict) and parameters.get("cameras"):
        return [str(name) for name in parameters["cameras"]]
    return next(filter(None, map(cameras_in, tree.values())), [])


def parameters_in(file: str) -> Any:
    """The content of a parameter file.

    Raises:
        RuntimeError: it cannot be read; says why, and what to do.
    """
    try:
        return yaml.safe_load(Path(file).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = error.strerror if isinstance(error, OSError) else " ".join(f"no YAML, {error}".split())
        raise RuntimeError(
            f"params_file {Path(file).absolute()} cannot be read: {reason}; give the path of a YAML file of "
            "parameters, or leave params_file out"
        ) from error


def nodes(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """The tracker and RViz. Arguments left empty leave the parameter file's value alone."""

    def value(name: str) -> str:
        return LaunchConfiguration(name).perform(context)

    cameras = [name.strip() for name in value("cameras").split(",") if name.strip()]
    in_file = cameras_in(parameters_in(value("params_file")))  # read in any case: launch_ros would start without it
    camera = [*cameras, *in_file, "camera"][0]  # the node's default is `camera`, too
    overrides: dict[str, object] = {"use_sim_time": value("use_sim_time") == "true"}
    if cameras:
        overrides["cameras"] = cameras
    if value("autostart"):
        overrides["autostart"] = value("autostart") == "true"
    remappings = []
    if value("image_topic"):
        source = value("image_topic")
        folder, slash, _ = source.rpartition("/")
        remappings = [
            (f"{camera}/image_raw", source),
            (f"{camera}/image_raw/compressed", f"{source}/compressed"),
            (f"{camera}/camera_info", f"{folder}{slash}camera_info"),  # beside the image, as image_transport has it
        ]
    prefix = "/".join(["", *filter(None, value("namespace").split("/"))])
    shown = [(f"/camera/{topic}", f"{prefix}/{camera}/{topic}") for topic in ("image_annotated", "markers")]
    return [
        Node(
            package="qdtrack_ros",
            executable="tracker_node",
            name=LaunchConfiguration("node_name"),
            namespace=LaunchConfiguration("namespace"),
            parameters=[LaunchConfiguration("params_file"), overrides],
            remappings=remappings,
            arguments=["--ros-args", "--log-level", LaunchConfiguration("log_level")],
            output="screen",
            emulate_tty=True,
            respawn=value("respawn") == "true",
            respawn_delay=2.0,
        ),
        Node(
            package="rviz2",
            executable="rviz2",
            parameters=[{"use_sim_time": value("use_sim_time") == "true"}],
            remappings=shown,  # the layout names the topics of a camera named `camera`
            arguments=["-d", LaunchConfiguration("rviz_config"), "-f", LaunchConfiguration("fixed_frame")],
            condition=IfCondition(LaunchConfiguration("rviz")),
            output="screen",
        ),
    ]


def generate_launch_description() -> LaunchDescription:
    """The tracker, and RViz where asked for."""
    return LaunchDescription(
        [
            *arguments(),
            SetEnvironmentVariable(
                PROFILE_VARIABLE,
                EnvironmentVariable(PROFILE_VARIABLE, default_value=LaunchConfiguration("fastdds_profile")),
            ),
            OpaqueFunction(function=nodes),
        ]
    )
