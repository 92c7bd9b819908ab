"""`qdtrack benchmark torchvision`: R50-FPN beside torchvision's Faster R-CNN."""

from __future__ import annotations

import argparse
from typing import Any

from qdtrack_ros.cli.options import size


def add_torchvision_arguments(parser: argparse.ArgumentParser) -> None:
    """The measurement's arguments, apart from those that all have."""
    size_help = "of a picture; several are measured one after the other (default: 640x352)"
    parser.add_argument("--size", type=size, nargs="+", default=[(640, 352)], metavar="WxH", help=size_help)


def torchvision_figures(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Time of a picture in both forms and in torchvision's detector."""
    from qdtrack_ros.cli.torchvision_comparison import comparison_figures  # loads torchvision

    return [result for one in arguments.size for result in comparison_figures(one, arguments.repeats)]
