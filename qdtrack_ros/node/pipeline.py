"""All that exists between configure and cleanup: engine, cameras, their topics, and the worker that serves them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any

from rclpy.lifecycle import LifecycleNode

from qdtrack_ros.node.camera import Camera, CameraFigures, FrameResult
from qdtrack_ros.node.camera_io import CameraIo, CameraOptions, ModelFacts, decoder
from qdtrack_ros.node.clock_guard import ClockGuard
from qdtrack_ros.node.diagnostics import CameraHealth
from qdtrack_ros.node.frame_timing import FrameTimes
from qdtrack_ros.node.mailbox import MailboxCounts
from qdtrack_ros.node.model_loading import LoadedModel
from qdtrack_ros.node.session import TrackingSession
from qdtrack_ros.node.settings import DiagnosticLimits, RuntimeSettings, class_indices
from qdtrack_ros.node.state_keeper import StateKeeper
from qdtrack_ros.node.worker import FrameWorker, Severity
from qdtrack_ros.tracking import AssociationConfig, TrackerConfig

Report = Callable[[Severity, str, str], None]

_TRACKER_PREFIX = "tracker."
# Not all that begins so: a camera may have this name, and parameters of its own.
_THRESHOLDS = frozenset(f"{_TRACKER_PREFIX}{field.name}" for field in fields(AssociationConfig))


def tracker_config(preset: TrackerConfig, values: Mapping[str, Any]) -> TrackerConfig:
    """The preset's thresholds with the parameters ``tracker.*`` laid over them.

    Raises:
        ValueError: a value is not allowed, or the preset's tracker has no such threshold.
    """
    known = {field.name for field in fields(preset)}
    given = {
        name.removeprefix(_TRACKER_PREFIX): value
        for name, value in values.items()
        if name in _THRESHOLDS and value is not None
    }
    foreign = [f"{_TRACKER_PREFIX}{name}" for name in given if name not in known]
    if foreign:
        have = ", ".join(name for name in sorted(known) if f"{_TRACKER_PREFIX}{name}" in values)
        raise ValueError(
            f"{', '.join(foreign)} cannot be set: the preset's tracker is of kind {preset.kind}, which has no such "
            f"threshold; of tracker.* it has {have}"
        )
    return replace(preset, **given)


def preset_values(preset: TrackerConfig) -> dict[str, Any]:
    """The preset's thresholds as parameters ``tracker.*``."""
    return {f"{_TRACKER_PREFIX}{field.name}": getattr(preset, field.name) for field in fields(preset)}


def runtime_settings(values: Mapping[str, Any], labels: tuple[str, ...]) -> RuntimeSettings:
    """The settings that the parameters ask for.

    Raises:
        ValueError: a class name is not among `labels`.
    """
    return RuntimeSettings(
        batch_wait_s=values["batch_wait_ms"] / 1e3,
        stale_after_s=values["stale_after_s"],
        max_image_pixels=values["max_image_pixels"],
        confirm_hits=values["confirm_hits"],
        marker_depth_m=values["markers.depth"],
        state_max_age_s=values["state.max_age_s"],
        state_save_period_s=values["state.save_period_s"],
        class_indices=class_indices(values["classes"], labels),
        limits=DiagnosticLimits(
            values["diagnostics.min_rate_hz"],
            values["diagnostics.max_drop_ratio"],
            values["diagnostics.max_latency_ms"],
        ),
    )


class TrackingPipeline:
    """The configured node.

    Args:
        node: its topics belong to.
        model: engine, labels and thresholds; closed with the pipeline.
        values: all parameters.
        report: tells the user.
        failed: told once, from the worker's thread, when the worker has stopped for good.

    Attributes:
        model: engine and preset.
        labels: class names.
        cameras: by name.
        started: whether it ever served.

    Raises:
        ValueError: the parameters do not fit the model.
    """

    def __init__(
        self,
        node: LifecycleNode,
        model: LoadedModel,
        values: Mapping[str, Any],
        report: Report,
        failed: Callable[[str], None],
    ) -> None:
        self.model = model
        self.labels = model.preset.labels
        self._report = report
        self._failed = failed
        self._state_lock = threading.Lock()
        self._settings = runtime_settings(values, self.labels)
        self._worker: FrameWorker | None = None
        self.started = False
        self._before: dict[str, CameraFigures] = {}
        config = tracker_config(model.preset.association, values)
        facts = ModelFacts(self.labels, model.engine.model_id, model.engine.embedding_dim)
        condition = threading.Condition()
        self.cameras: dict[str, Camera] = {}
        self._io: dict[str, CameraIo] = {}
        for name in values["cameras"]:
            options = CameraOptions(
                values[f"{name}.transport"],
                values[f"{name}.qos.reliability"],
                values[f"{name}.qos.depth"],
                values["publish_embeddings"],
            )
            session = TrackingSession(config, values["trail_length"])
            guard = ClockGuard(values["reset_on_jump_s"])
            self.cameras[name] = Camera(name, decoder(options.transport), session, guard, condition)
            self._io[name] = CameraIo(
                node,
                self.cameras[name],
                options,
                facts,
                on_incompatible=partial(report, Severity.ERROR, f"{name}:qos"),
                on_lost=partial(report, Severity.WARNING, f"{name}:lost"),
            )
        self._keeper: StateKeeper | None = None
        if values["state.path"]:
            self._keeper = StateKeeper(
                Path(values["state.path"]).expanduser(),
                model.engine.model_id,
                self.cameras,
                self._state_lock,
                lambda: self._settings,
                partial(report, Severity.ERROR, "state"),
            )

    @property
    def topics(self) -> list[str]:
        """The image topics."""
        return [io.topic for io in self._io.values()]

    def start(self) -> None:
        """Subscribe and serve."""
        self.started = True
        if self._keeper is not None:
            self._keeper.start()
        self._worker = FrameWorker(
            list(self.cameras.values()), self.model.engine, self, lambda: self._settings, self._state_lock
        )
        self._worker.start()
        for io in self._io.values():
            io.subscribe()

    def stop(self) -> None:
        """Unsubscribe and finish the frame in work; tracks stay. Does nothing when stopped."""
        for io in self._io.values():
            io.unsubscribe()
        if self._worker is not None:
            self._worker.stop()
            self._worker = None
        if self._keeper is not None:
            self._keeper.stop()

    def close(self) -> None:
        """Stop, leave the graph and free the engine's memory."""
        try:
            self.stop()
            for io in self._io.values():
                io.destroy()
        finally:
            if self._keeper is not None:
                self._keeper.release()
            self.model.engine.close()

    def reset(self) -> None:
        """Forget all tracks of all cameras and begin new sessions."""
        with self._state_lock:
            for camera in self.cameras.values():
                camera.reset()

    def follow_clock_back(self, now_ns: int, jump_ns: int) -> list[str]:
        """Start new sessions where a backward jump of /clock asks for it; names of those cameras."""
        with self._state_lock:
            return [name for name, camera in self.cameras.items() if camera.follow_clock_back(now_ns, jump_ns)]

    def reconfigure(self, values: Mapping[str, Any]) -> None:
        """Take up changed run-time parameters, all at once, between two frames."""
        config = tracker_config(self.model.preset.association, values)
        settings = runtime_settings(values, self.labels)
        with self._state_lock:
            self._settings = settings
            for camera in self.cameras.values():
                if camera.session.config != config:
                    camera.reconfigure(config)

    def save_state(self) -> str:
        """Write the state file; says what was written, empty when no file is configured.

        Raises:
            OSError: it cannot be written, or is another node's.
        """
        return self._keeper.save() if self._keeper is not None else ""

    def load_state(self) -> str:
        """Take up the state file; says what was taken up, empty when no file is configured.

        Raises:
            StateFileError: it is damaged, foreign or too old; nothing has changed.
            FileNotFoundError: it does not exist.
            OSError: it is another node's.
        """
        return self._keeper.load() if self._keeper is not None else ""

    def health(self, active: bool) -> list[CameraHealth]:
        """What the diagnostics need to know about each camera; frames since the last call are compared."""
        result = []
        for name, camera in self.cameras.items():
            figures = camera.figures()
            io, stale = self._io[name], ""
            if active and figures.silent_s > self._settings.stale_after_s:
                stale = f"no frame on {io.topic} for {figures.silent_s:.1f} s; {io.publishers_found()}"
            before = self._before.get(name)
            latency = camera.latency.summary()
            result.append(CameraHealth(name, io.topic, figures, before, latency, stale, io.mismatches(), active))
            self._before[name] = figures
        return result

    @property
    def state_fault(self) -> str:
        """Why the state could not be saved the last time; empty when it could, or no file is configured."""
        return self._keeper.fault if self._keeper is not None else ""

    @property
    def limits(self) -> DiagnosticLimits:
        """Thresholds of the diagnostics now."""
        return self._settings.limits

    def publish(self, camera: Camera, result: FrameResult) -> None:
        """Of WorkerOutputs."""
        self._io[camera.name].publish(result, self._settings.marker_depth_m)

    def publish_times(self, camera: Camera, result: FrameResult, times: FrameTimes, counts: MailboxCounts) -> None:
        """Of WorkerOutputs."""
        self._io[camera.name].publish_times(result, times, counts)

    def report(self, severity: Severity, kind: str, text: str) -> None:
        """Of WorkerOutputs."""
        self._report(severity, kind, text)

    def failed(self, reason: str) -> None:
        """Of WorkerOutputs."""
        self._failed(reason)
