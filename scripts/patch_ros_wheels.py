"""Make the ROS wheels' exported CMake files name this machine's Python and numpy headers.

They name folders of the machine the wheels were built on, and CMake refuses include folders that do not exist.

    python scripts/patch_ros_wheels.py ENVIRONMENT
"""

from __future__ import annotations

import re
import sys
import sysconfig
from pathlib import Path

import numpy

BUILD_MACHINE_NUMPY = re.compile(r"/opt/python/[^;\"]*/numpy/(?:_core|core)/include")
BUILD_MACHINE_PYTHON = re.compile(r"/opt/python/[^;\"/]*/include/python3\.\d+")


def patch(text: str, python_headers: str, numpy_headers: str) -> str:
    """Exported CMake code with the build machine's header folders replaced by this machine's."""
    text = BUILD_MACHINE_NUMPY.sub(lambda _: numpy_headers, text)
    return BUILD_MACHINE_PYTHON.sub(lambda _: python_headers, text)


def main() -> None:
    """Patch every exported CMake file of the environment in place; patched ones stay as they are."""
    environment = Path(sys.argv[1])
    for path in sorted(environment.glob("share/*/cmake/*.cmake")):
        before = path.read_text(encoding="utf-8")
        after = patch(before, sysconfig.get_path("include"), numpy.get_include())
        if after != before:
            path.write_text(after, encoding="utf-8")
            print(f"patched {path}")


if __name__ == "__main__":
    main()
