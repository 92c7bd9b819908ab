"""The `qdtrack` command."""

from __future__ import annotations

import argparse
import importlib
import logging
import sys
from collections.abc import Sequence

from qdtrack_ros import __version__

# Each name is a module of this package with `add_arguments(parser)` and `run(arguments) -> int`.
COMMANDS = {
    "track": "find and follow objects in a video, pictures, a bag, a camera or a stream",
    "evaluate": "compare tracks with ground truth: MOTA, IDF1, HOTA",
    "submit": "track a test set, and write the file that its server takes",
    "compare": "tell which differences between two evaluations are beyond noise",
    "tune": "search for association settings on your own data",
    "train": "train a model on pairs of frames",
    "weights": "list the public model files, and fetch one",
    "export": "write the network as ONNX, or as a TensorRT engine",
    "convert": "turn a checkpoint of another QDTrack, or of torchvision, into weights of ours",
    "play": "play a rosbag2 onto the ROS graph, in real time",
    "node": "run the ROS 2 node",
    "doctor": "tell what is installed and what works, and what to install",
    "benchmark": "measure what is quick on this machine: association, engines, bags, the node",
}
EXIT_OK, EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 0, 1, 2, 130
# Errors whose message tells the user what to do. By name, because importing their modules would load PyTorch: a class
# whose module has not been imported cannot have been raised.
EXPECTED_ERRORS = {
    "qdtrack_ros.configuration": "ConfigurationError",
    "qdtrack_ros.data.types": "DataError",
    "qdtrack_ros.download": "DownloadError",
    "qdtrack_ros.inference.types": "EngineError",
    "qdtrack_ros.models.weights_file": "CheckpointError",
    "qdtrack_ros.training.module": "TrainingError",
}
_EXIT_CODES = "exit codes: 0 done; 1 failed, with one line that says what to do; 2 wrong usage; 130 interrupted"


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        argv: arguments without the program's name; None takes the program's own.

    Returns:
        0 done; 1 failed, after one line on standard error that says what to do; 130 interrupted. Wrong usage ends the
        program with 2, as argparse does.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    set_up_logging()
    ros_arguments: list[str] = []
    if words[:1] == ["node"] and words[1:2] not in (["-h"], ["--help"]):
        words, ros_arguments = words[:1], words[1:]  # argparse would take --ros-args for an option of its own
    arguments = build_parser(words[0] if words else None).parse_args(words)
    arguments.ros_arguments = ros_arguments
    try:
        return int(arguments.run(arguments))
    except KeyboardInterrupt as interruption:
        print(f"qdtrack {arguments.command}: {str(interruption) or 'interrupted'}", file=sys.stderr)
        return EXIT_INTERRUPTED
    except Exception as error:
        if not is_expected(error):
            raise
        print(f"qdtrack {arguments.command}: error: {error or type(error).__name__}", file=sys.stderr)
        return EXIT_FAILED


def set_up_logging() -> None:
    """Warnings and errors go to standard error; every process of a command calls it."""
    logging.basicConfig(level=logging.WARNING, format="qdtrack: %(levelname)s: %(message)s")


def build_parser(command: str | None = None) -> argparse.ArgumentParser:
    """The parser of the whole command; only `command` gets its arguments, so that no other module is loaded."""
    parser = argparse.ArgumentParser(
        prog="qdtrack", description="Multi-object tracking by appearance, for ROS 2 and without.", epilog=_EXIT_CODES
    )
    parser.add_argument("--version", action="version", version=f"qdtrack {__version__}")
    commands = parser.add_subparsers(title="commands", dest="command", metavar="COMMAND", required=True)
    for name, summary in COMMANDS.items():
        description = f"{summary[0].upper()}{summary[1:]}."
        sub = commands.add_parser(name, help=summary, description=description, epilog=_EXIT_CODES)
        if name == command:
            module = importlib.import_module(f"qdtrack_ros.cli.{name}")
            module.add_arguments(sub)
            sub.set_defaults(run=module.run)
    return parser


def is_expected(error: Exception) -> bool:
    """Whether the message is meant for the user; anything else is a fault of ours and deserves its traceback."""
    if isinstance(error, (ImportError, OSError)):
        return True
    modules = ((sys.modules.get(module), name) for module, name in EXPECTED_ERRORS.items())
    return any(module is not None and isinstance(error, getattr(module, name)) for module, name in modules)


if __name__ == "__main__":
    sys.exit(main())
