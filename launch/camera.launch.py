"""A camera, the tracker and a consumer of its tracks: the whole chain of a vehicle, to start from.

    ros2 launch qdtrack_ros camera.launch.py
    ros2 launch qdtrack_ros camera.launch.py camera:=front video_device:=/dev/video2 rectify:=true
    ros2 launch qdtrack_ros camera.launch.py --show-args

The driver runs in a container of components, with a second one that straightens the images where `rectify` asks for it;
other components of yours that work on the images belong there too. The tracker is a process of its own; images reach it
through shared memory. The packages v4l2_camera and image_proc are not installed with this one. The arguments of
qdtrack.launch.py work here too, but for `cameras` and `image_topic`, which follow from `camera`.
"""

from __future__ import annotations

import os

from ament_index_python.packages import get_package_share_directory
from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription, OpaqueFunction
from launch.conditions import IfCondition
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import ComposableNodeContainer, Node
from launch_ros.descriptions import ComposableNode

SHARE = get_package_share_directory("qdtrack_ros")


def arguments() -> list[DeclareLaunchArgument]:
    """What the caller may set."""

    def argument(name: str, default: str, description: str, choices: list[str] | None = None) -> DeclareLaunchArgument:
        return DeclareLaunchArgument(name, default_value=default, description=description, choices=choices)

    return [
        argument("camera", "camera", "Name of the camera: prefix of its topics."),
        argument("namespace", "", "Namespace of camera, tracker and consumer."),
        argument("driver_package", "v4l2_camera", "Package of the driver component."),
        argument("driver_plugin", "v4l2_camera::V4L2Camera", "Class of the driver component."),
        argument("video_device", "/dev/video0", "The driver's parameter of that name."),
        argument("rectify", "false", "Track in straightened images; the camera must be calibrated.", ["true", "false"]),
        argument("consumer", "true", "Start an example node that tells who comes and goes.", ["true", "false"]),
    ]


def components(context: LaunchContext) -> list[ComposableNode]:
    """The driver, and what straightens its images where that is asked for."""

    def value(name: str) -> str:
        return LaunchConfiguration(name).perform(context)

    namespace = "/".join(filter(None, [value("namespace"), value("camera")]))
    shared = [{"use_intra_process_comms": True}]
    result = [
        ComposableNode(
            package=value("driver_package"),
            plugin=value("driver_plugin"),
            name="driver",
            namespace=namespace,
            parameters=[{"video_device": value("video_device")}],
            extra_arguments=shared,
        )
    ]
    if value("rectify") == "true":
        result.append(
            ComposableNode(
                package="image_proc",
                plugin="image_proc::RectifyNode",
                name="rectify",
                namespace=namespace,
                remappings=[("image", "image_raw")],
                extra_arguments=shared,
            )
        )
    return result


def tracker(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """qdtrack.launch.py with the images of this camera."""
    camera = LaunchConfiguration("camera").perform(context)
    rectified = LaunchConfiguration("rectify").perform(context) == "true"
    given = {"cameras": camera, "image_topic": f"{camera}/image_rect" if rectified else ""}
    source = PythonLaunchDescriptionSource(os.path.join(SHARE, "launch", "qdtrack.launch.py"))
    return [IncludeLaunchDescription(source, launch_arguments=given.items())]


def container(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """The process of the components."""
    return [
        ComposableNodeContainer(
            name="camera_container",
            namespace=LaunchConfiguration("namespace"),
            package="rclcpp_components",
            executable="component_container",
            composable_node_descriptions=components(context),
            output="screen",
        )
    ]


def generate_launch_description() -> LaunchDescription:
    """All three."""
    return LaunchDescription(
        [
            *arguments(),
            OpaqueFunction(function=tracker),  # first, so that the others get the Fast DDS profile that it sets
            OpaqueFunction(function=container),
            Node(
                package="qdtrack_ros",
                executable="track_listener.py",
                namespace=LaunchConfiguration("namespace"),
                remappings=[("tracks", [LaunchConfiguration("camera"), "/tracks"])],
                condition=IfCondition(LaunchConfiguration("consumer")),
                output="screen",
            ),
        ]
    )
