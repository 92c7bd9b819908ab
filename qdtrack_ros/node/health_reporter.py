"""Publishes the node's health once a second, and tells the log when a camera falls silent or comes back."""

from __future__ import annotations

from collections.abc import Callable

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from std_msgs.msg import Header

from qdtrack_ros.node import qos
from qdtrack_ros.node.diagnostics import CameraHealth, EngineHealth, diagnostics_message
from qdtrack_ros.node.pipeline import TrackingPipeline
from qdtrack_ros.node.settings import DiagnosticLimits

ACTIVE = "active"
_PERIOD_S = 1.0


class HealthReporter:
    """Owns /diagnostics.

    Args:
        node: to publish with.
        pipeline: gives the configured part of the node, None while it is unconfigured.
        state: of the node's lifecycle; frames are expected while it is active.
        last_error: why the node is not running, empty otherwise.
    """

    def __init__(
        self,
        node: Node,
        pipeline: Callable[[], TrackingPipeline | None],
        state: Callable[[], str],
        last_error: Callable[[], str],
    ) -> None:
        self._node = node
        self._pipeline = pipeline
        self._state = state
        self._last_error = last_error
        self._silent: set[str] = set()
        self._publisher = node.create_publisher(DiagnosticArray, "/diagnostics", qos.diagnostics())
        # Not by simulation time: health is wanted while a simulation stands still, too.
        node.create_timer(_PERIOD_S, self._report, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def _report(self) -> None:
        pipeline, state = self._pipeline(), self._state()
        active = state == ACTIVE
        cameras = pipeline.health(active) if pipeline is not None else []
        engine = pipeline.model.engine if pipeline is not None else None
        health = EngineHealth(
            engine.name if engine else "",
            engine.model_id if engine else "",
            state,
            self._last_error(),
            pipeline.state_fault if pipeline is not None else "",
        )
        limits = pipeline.limits if pipeline is not None else DiagnosticLimits()
        header = Header(stamp=self._node.get_clock().now().to_msg())
        name = self._node.get_fully_qualified_name().lstrip("/")  # robots in namespaces share /diagnostics
        self._publisher.publish(diagnostics_message(header, name, health, cameras, limits))
        for camera in cameras:
            self._tell_silence(camera, active)

    def _tell_silence(self, camera: CameraHealth, active: bool) -> None:
        log = self._node.get_logger()
        if camera.stale and camera.name not in self._silent:
            self._silent.add(camera.name)
            log.error(f"camera {camera.name}: {camera.stale}")
        elif not camera.stale and camera.name in self._silent:
            self._silent.discard(camera.name)
            if active:
                log.info(f"camera {camera.name}: frames arrive again")
