"""Play a bag into the tracker and look at it in RViz.

    ros2 launch qdtrack_ros replay.launch.py bag:=street image_topic:=/front_camera/image_raw
    ros2 launch qdtrack_ros replay.launch.py --show-args

The tracker and RViz follow the bag's clock. Playing ends with the bag; the tracker stays until Ctrl-C.
"""

from __future__ import annotations

import os

from ament_index_python.packages import get_package_share_directory
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, ExecuteProcess, IncludeLaunchDescription, TimerAction
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration

SHARE = get_package_share_directory("qdtrack_ros")


def generate_launch_description() -> LaunchDescription:
    """The bag's player, and everything of qdtrack.launch.py, whose arguments work here too."""
    return LaunchDescription(
        [
            DeclareLaunchArgument("bag", description="Folder of the bag, or its .mcap or .db3 file."),
            DeclareLaunchArgument("rate", default_value="1.0", description="Speed; 0.5 plays at half the speed."),
            DeclareLaunchArgument(
                "start_delay",
                default_value="10.0",
                description="Seconds before playing starts: the tracker loads its network first.",
            ),
            DeclareLaunchArgument("rviz", default_value="true", description="Open RViz.", choices=["true", "false"]),
            # Before the player, so that it gets the Fast DDS profile too.
            IncludeLaunchDescription(
                PythonLaunchDescriptionSource(os.path.join(SHARE, "launch", "qdtrack.launch.py")),
                launch_arguments={"use_sim_time": "true", "rviz": LaunchConfiguration("rviz")}.items(),
            ),
            TimerAction(
                period=LaunchConfiguration("start_delay"),
                actions=[
                    ExecuteProcess(
                        cmd=[
                            *["ros2", "bag", "play", LaunchConfiguration("bag")],
                            *["--clock", "--rate", LaunchConfiguration("rate")],
                        ],
                        output="screen",
                    )
                ],
            ),
        ]
    )
