"""`qdtrack play`: a bag onto the ROS graph, where `ros2 bag play` is not at hand."""

from __future__ import annotations

import argparse
import signal
import sys
import threading

from qdtrack_ros.cli.options import positive_number


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("bag", metavar="BAG", help="rosbag2 folder, or its .db3 or .mcap file")
    parser.add_argument("--rate", type=positive_number, default=1.0, help="speed; 2 plays twice as fast (default: 1)")
    parser.add_argument("--loop", action="store_true", help="begin again at the end, until interrupted")
    parser.add_argument("--topics", nargs="+", metavar="TOPIC", help="only these (default: all)")
    parser.add_argument(
        "--remap", nargs="+", type=remapping, default=[], metavar="A:=B", help="publish topic A of the bag as B"
    )
    parser.add_argument("--clock", action="store_true", help="publish the time of recording on /clock")
    parser.add_argument(
        "--wait-for-subscribers",
        nargs="?",
        type=positive_number,
        const=60.0,
        default=0.0,
        metavar="SECONDS",
        help="begin when each topic has a subscriber; give up after so long (default of the option: 60)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Play a bag until its end."""
    try:
        from qdtrack_ros.node.bag_player import play
    except ImportError as error:
        raise ImportError(
            f"playing needs ROS 2 and rosbags ({error}); source a ROS 2 install, or run `make setup`"
        ) from error
    stop = threading.Event()
    signal.signal(signal.SIGINT, lambda *_: stop.set())
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    try:
        report = play(
            arguments.bag,
            rate=arguments.rate,
            loops=0 if arguments.loop else 1,
            topics=arguments.topics,
            remap=dict(arguments.remap),
            publish_clock=arguments.clock,
            wait_for_subscribers_s=arguments.wait_for_subscribers,
            stop=stop,
        )
    except (ValueError, LookupError) as error:
        print(f"qdtrack play: error: {error}", file=sys.stderr)
        return 1
    counts = ", ".join(f"{count} on {topic}" for topic, count in report.published.items()) or "no messages"
    late = f"; {report.late} late by more than 10 ms" if report.late else ""
    print(f"played {counts} in {report.seconds:.1f} s{late}")
    if stop.is_set():
        print("qdtrack play: interrupted", file=sys.stderr)
        return 130
    return 0


def remapping(text: str) -> tuple[str, str]:
    """The two names of `a:=b`."""
    before, separator, after = text.partition(":=")
    if not separator or not before or not after:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form a:=b")
    return before, after
