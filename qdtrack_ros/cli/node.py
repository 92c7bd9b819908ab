"""`qdtrack node`: the ROS 2 node, where `ros2 run` is not at hand."""

from __future__ import annotations

import argparse

from qdtrack_ros.node.parameters import load_specs

_EPILOG = """Everything after `node` goes to ROS:
  qdtrack node --ros-args -p device:=cpu -p cameras:="[front]" -r front/image_raw:=/cam0/image
  qdtrack node --ros-args --params-file config/tracker_node.yaml

parameters:
{parameters}

exit codes: 0 ended by SIGINT or SIGTERM; 2 cannot start"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command takes ROS arguments only; they do not pass through argparse."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.usage = "qdtrack node [--ros-args ...]"
    specs = load_specs()
    rows = {**specs.node, **{f"NAME.{name}": spec for name, spec in specs.camera.items()}}
    lines = [f"  {name:28} {_default(spec.default)}" for name, spec in rows.items()]
    parser.epilog = _EPILOG.format(parameters="\n".join(lines))


def run(arguments: argparse.Namespace) -> int:
    """Run the node until SIGINT or SIGTERM."""
    from qdtrack_ros.node.main import main

    return main(arguments.ros_arguments)


def _default(value: object) -> str:
    if value is None:
        return "(preset)"
    return "[" + ", ".join(map(repr, value)) + "]" if isinstance(value, list) else repr(value)
