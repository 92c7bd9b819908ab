"""The lifecycle node: parameters, transitions and services. What happens to a frame is in worker.py."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.clock import Clock, ClockType, JumpThreshold, TimeJump
from rclpy.duration import Duration
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.publisher import Publisher
from std_srvs.srv import Trigger
from vision_msgs.msg import LabelInfo

from qdtrack_ros.node import messages, qos
from qdtrack_ros.node.health_reporter import ACTIVE, HealthReporter
from qdtrack_ros.node.log_throttle import LogThrottle
from qdtrack_ros.node.model_loading import LoadAside, LoadingInterruptedError, ModelAhead, ModelLoader
from qdtrack_ros.node.node_parameters import NodeParameters
from qdtrack_ros.node.parameters import load_specs
from qdtrack_ros.node.pipeline import TrackingPipeline, preset_values, runtime_settings, tracker_config
from qdtrack_ros.node.state_file import StateFileError
from qdtrack_ros.node.worker import Severity

SUCCESS, FAILURE, ERROR = (
    TransitionCallbackReturn.SUCCESS,
    TransitionCallbackReturn.FAILURE,
    TransitionCallbackReturn.ERROR,
)


class TrackerNode(LifecycleNode):
    """The tracker on the ROS graph; see README.md for its topics, services and parameters.

    Loading a model takes seconds, building an engine minutes. With `aside`, the node answers all that it is asked in
    the meantime: the transition itself begins when the model is there.

    Args:
        load: loads preset and engine on configure.
        aside: has a model loaded by another thread than the executor's; without it, configure does it in its own.
        name: node name, unless remapped.

    Raises:
        ValueError: a parameter given at the start is not allowed.
    """

    def __init__(self, load: ModelLoader, aside: LoadAside | None = None, name: str = "qdtrack") -> None:
        super().__init__(name)
        self._model = ModelAhead(load, aside)
        self._pipeline: TrackingPipeline | None = None
        self._labels: Publisher[LabelInfo] | None = None
        self._active = False
        self._finalized = False
        self._fault = ""
        self._last_error = ""
        self._throttle = LogThrottle()
        self._severities: dict[str, Severity] = {}  # of the kinds of reports
        self._declared = NodeParameters(
            self, load_specs(), self._before_changing_the_model, self._refuse_values, self._apply_values
        )
        # The worker may not touch the lifecycle: it wakes the executor, which does.
        self._fault_signal = self.create_guard_condition(self._on_engine_fault)
        self._health = HealthReporter(self, lambda: self._pipeline, self._state_label, lambda: self._last_error)
        self.create_service(Trigger, "~/reset", self._serve(self._reset))
        self.create_service(Trigger, "~/save_state", self._serve(lambda pipeline: pipeline.save_state()))
        self.create_service(Trigger, "~/load_state", self._serve(lambda pipeline: pipeline.load_state()))
        backward = JumpThreshold(min_forward=None, min_backward=Duration(nanoseconds=-1), on_clock_change=False)
        self.create_timer(1.0, self._tell_held_back, clock=Clock(clock_type=ClockType.STEADY_TIME))
        self._jump_handle = self.get_clock().create_jump_callback(backward, post_callback=self._on_clock_jump)
        self._transition = self._service_change_state.callback
        self._service_change_state.callback = self._change_state
        # In a group of its own: what waits for a model holds up nothing else.
        self._service_change_state.callback_group = self._transitions = ReentrantCallbackGroup()
        self._transitions.add_entity(self._service_change_state)

    # Lifecycle. Transitions never raise: they log the reason and say how they ended.

    async def autostart(self) -> None:
        """Configure and activate, unless the parameter autostart is false."""
        if not self._declared["autostart"]:
            self.get_logger().info(f"autostart is off: waiting for `ros2 lifecycle set {self._full_name} configure`")
            return
        await self._load_ahead()
        if self._is_unconfigured() and self.trigger_configure() == SUCCESS:
            self.trigger_activate()

    async def _change_state(self, request: ChangeState.Request, response: ChangeState.Response) -> ChangeState.Response:
        """The service ~/change_state."""
        wanted = request.transition
        configure = wanted.label == "configure" if wanted.label else wanted.id == Transition.TRANSITION_CONFIGURE
        if configure and self._model.is_loading and not self._finalized:
            self.get_logger().warning("configure is refused: the model is being loaded already")
            return response
        if configure and self._is_unconfigured():
            await self._load_ahead()
            if not self._is_unconfigured():  # shut down meanwhile
                return response
        return self._transition(request, response)

    async def _load_ahead(self) -> None:
        """Have the model loaded, which `configure` takes up. How it ends is told there."""
        await self._model.load(self._values_to_load)
        if self._finalized:
            self._model.discard()

    async def loading_ended(self) -> None:
        """Wait until no model is being loaded."""
        await self._model.ended()

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the model, run it once, set up the cameras and take up a saved state."""
        result = self._guarded("configure", self._configure, FAILURE)
        if result != SUCCESS:  # nothing half configured may stay behind
            self._guarded("configure", self._release, FAILURE)
        return result

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Begin to track."""

        def activate() -> None:
            super(TrackerNode, self).on_activate(state)
            try:
                self._configured.start()
            except Exception:
                self._configured.stop()
                super(TrackerNode, self).on_deactivate(state)
                raise
            self._active = True
            self._last_error = ""  # of an activation that failed
            self.get_logger().info(f"active: waiting for images on {', '.join(self._configured.topics)}")

        return self._guarded("activate", activate, FAILURE)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop tracking; tracks stay, and are saved where a state file is configured."""

        def deactivate() -> None:
            self._stop()
            super(TrackerNode, self).on_deactivate(state)
            self.get_logger().info("deactivated: tracks are kept")

        result = self._guarded("deactivate", deactivate, ERROR)
        return ERROR if self._fault else result

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free the engine and all tracks."""

        def clean_up() -> None:
            self._release()
            self.get_logger().info("cleaned up: engine and tracks are gone")

        return self._guarded("cleanup", clean_up, ERROR)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop, save and free, from any state."""

        def shut_down() -> None:
            if self._active:
                self._stop()
            elif self._pipeline is not None and self._pipeline.started:
                self._save()  # the age of a state counts from the end of its node, not from its deactivation
            self._release()
            self._finalized = True
            self.get_logger().info("shut down: engine and tracks are gone")

        return self._guarded("shutdown", shut_down, ERROR)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Back to unconfigured, with the reason in the log and in the diagnostics."""
        reason, self._fault = self._fault or self._last_error, ""
        self._guarded("error processing", self._release, SUCCESS)
        self._last_error = reason
        self.get_logger().error(
            f"fell back to unconfigured: {reason}. To start again: "
            f"`ros2 lifecycle set {self._full_name} configure`, then `activate`"
        )
        return SUCCESS

    def close(self) -> None:
        """Shut down in order, as SIGINT and SIGTERM ask for."""
        if not self._finalized:
            self.trigger_shutdown()

    def _state_label(self) -> str:
        if self._finalized:
            return "finalized"
        if self._model.is_loading:
            return "configuring"
        return ACTIVE if self._active else "unconfigured" if self._pipeline is None else "inactive"

    @property
    def _full_name(self) -> str:
        return str(self.get_fully_qualified_name())

    @property
    def _configured(self) -> TrackingPipeline:
        if self._pipeline is None:
            raise RuntimeError("the node is not configured")
        return self._pipeline

    def _guarded(
        self, name: str, action: Callable[[], None], otherwise: TransitionCallbackReturn
    ) -> TransitionCallbackReturn:
        try:
            action()
        except LoadingInterruptedError as interruption:
            self.get_logger().info(f"{name}: {interruption}")
            return otherwise
        except Exception as error:
            expected = isinstance(error, (ValueError, OSError, RuntimeError, ImportError))
            reason = str(error) if expected and str(error) else f"{type(error).__name__}: {error}"
            self.get_logger().error(f"{name} failed: {reason}")
            first, _, _ = reason.partition("\n")
            self._last_error = f"{name} failed: {first}"  # names of tensors may follow
            return otherwise
        return SUCCESS

    def _values_to_load(self) -> dict[str, Any]:
        """All parameters, those of the cameras among them: a model is about to be loaded by them."""
        for camera in self._declared["cameras"]:
            self._declared.declare_camera(camera)
        values = self._declared.values()
        self.get_logger().info(
            f"loading preset {values['preset']}, engine {values['engine']} on {values['device']} ..."
        )
        return values

    def _configure(self) -> None:
        log = self.get_logger()
        try:
            model = self._model.take(self._values_to_load)
            try:
                self._declared.fill_from_preset(preset_values(model.preset.association))
                pipeline = TrackingPipeline(self, model, self._declared.values(), self._report, self._engine_failed)
            except Exception:
                model.engine.close()
                raise
        except LoadingInterruptedError:
            raise
        except Exception as error:
            remedy = f"correct it, then `ros2 lifecycle set {self._full_name} configure`"
            first, line_end, names = str(error).partition("\n")
            raise RuntimeError(f"{first or type(error).__name__} ({remedy}){line_end}{names}") from error
        self._pipeline = pipeline
        self._labels = self.create_publisher(LabelInfo, "~/labels", qos.latched())
        self._labels.publish(messages.labels_message(pipeline.labels))
        self._last_error = self._fault = ""
        self._throttle = LogThrottle()  # what was told of an earlier run is no reason to be silent now
        engine = model.engine
        log.info(
            f"configured: engine {engine.name}, model {engine.model_id[:12]}, preset {model.preset.name} "
            f"(classes: {len(pipeline.labels)}), images from {', '.join(pipeline.topics)}"
        )
        if self._declared["state.path"]:
            self._take_up_state(pipeline)

    def _take_up_state(self, pipeline: TrackingPipeline) -> None:
        try:
            self.get_logger().info(pipeline.load_state())
        except FileNotFoundError:
            self.get_logger().info("no saved state yet: starting without tracks")
        except Exception as error:  # whatever a file holds, it is no reason not to start
            reason = error if isinstance(error, (StateFileError, OSError)) else f"{type(error).__name__}: {error}"
            self.get_logger().warning(f"the saved state is not taken up, starting without tracks: {reason}")

    def _stop(self) -> None:
        """Stop serving and save the state; a state that cannot be written is no reason not to stop."""
        if self._pipeline is None or not self._active:
            return
        self._active = False
        self._pipeline.stop()
        self._save()

    def _save(self) -> None:
        try:
            written = self._configured.save_state()
            if written:
                self.get_logger().info(written)
        except OSError as error:
            self.get_logger().error(f"the state cannot be written: {error}")

    def _release(self) -> None:
        self._active = False
        pipeline, self._pipeline = self._pipeline, None
        if self._labels is not None:
            self.destroy_publisher(self._labels)
            self._labels = None
        try:
            if pipeline is not None:
                pipeline.close()
        finally:
            self._tell_held_back(all_held=True)

    # Faults and messages for the user.

    def _engine_failed(self, reason: str) -> None:
        self._fault = reason
        self._fault_signal.trigger()

    def _on_engine_fault(self) -> None:
        if self._fault and self._active:
            self.trigger_deactivate()  # on_deactivate answers ERROR, and on_error goes back to unconfigured

    def _report(self, severity: Severity, kind: str, text: str) -> None:
        self._severities[kind] = severity
        passed = self._throttle.pass_on(kind, text)
        if passed is not None:
            self._log(severity, passed)

    def _tell_held_back(self, all_held: bool = False) -> None:
        """What the throttle held back, and no later report of its kind told of."""
        for kind, text in self._throttle.overdue(all_held):
            self._log(self._severities[kind], text)

    def _log(self, severity: Severity, text: str) -> None:
        log = self.get_logger()
        # One call a line: rclpy remembers the severity of each call by its place in the source.
        if severity is Severity.ERROR:
            log.error(text)
        elif severity is Severity.WARNING:
            log.warning(text)
        else:
            log.info(text)

    def _on_clock_jump(self, jump: TimeJump) -> None:
        if self._pipeline is None:
            return
        jump_ns = int(jump.delta.nanoseconds)
        for name in self._pipeline.follow_clock_back(self.get_clock().now().nanoseconds, jump_ns):
            self.get_logger().warning(
                f"camera {name}: /clock jumped back by {-jump_ns / 1e9:.3f} s: new session, all tracks forgotten"
            )

    # Parameters.

    def _is_unconfigured(self) -> bool:
        return self._pipeline is None and not self._model.is_loading and not self._finalized

    def _before_changing_the_model(self) -> str:
        """What to do before model and cameras can change; empty when they can now."""
        if self._is_unconfigured():
            return ""
        if self._finalized:
            return "start the node anew"
        if self._model.is_loading:
            return "wait until the model is loaded, then run the lifecycle transition cleanup"
        return "run the lifecycle transition cleanup first"

    def _refuse_values(self, values: Mapping[str, Any]) -> str | None:
        if self._pipeline is None:
            return None
        try:
            runtime_settings(values, self._pipeline.labels)
            tracker_config(self._pipeline.model.preset.association, values)
        except ValueError as error:
            return str(error)
        return None

    def _apply_values(self, values: Mapping[str, Any]) -> None:
        if self._pipeline is not None:
            self._pipeline.reconfigure(values)

    # Services.

    def _serve(
        self, action: Callable[[TrackingPipeline], str]
    ) -> Callable[[Trigger.Request, Trigger.Response], Trigger.Response]:
        def answer(request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
            try:
                if self._finalized:
                    raise RuntimeError("the node is shut down: start it anew")
                if self._model.is_loading:
                    raise RuntimeError("the node is not configured yet: the model is being loaded")
                if self._pipeline is None:
                    raise RuntimeError(f"the node is not configured: `ros2 lifecycle set {self._full_name} configure`")
                response.message = action(self._pipeline)
                response.success = bool(response.message)
                response.message = response.message or "the parameter state.path is empty: there is no state file"
            except Exception as error:
                response.success, response.message = False, str(error) or type(error).__name__
            if response.success:
                self.get_logger().info(response.message)
            else:
                self.get_logger().warning(response.message)
            return response

        return answer

    def _reset(self, pipeline: TrackingPipeline) -> str:
        pipeline.reset()
        return f"all tracks forgotten, new session for {', '.join(pipeline.cameras)}"
