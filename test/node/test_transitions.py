"""Every transition of the lifecycle and its failure, in this process: here, what must not happen can be made to."""

from __future__ import annotations

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: no node to move")

import rclpy
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter
from scripted_node import ColourEngine, ScriptedPreset

from qdtrack_ros.node.model_loading import LoadedModel, LoadingInterruptedError
from qdtrack_ros.node.pipeline import TrackingPipeline
from qdtrack_ros.node.tracker_node import TrackerNode
from qdtrack_ros.node.worker import Severity

SUCCESS, FAILURE, ERROR = (
    TransitionCallbackReturn.SUCCESS,
    TransitionCallbackReturn.FAILURE,
    TransitionCallbackReturn.ERROR,
)
UNCONFIGURED, INACTIVE, ACTIVE, FINALIZED = "unconfigured", "inactive", "active", "finalized"


class Rig:
    """A node, the engines it has loaded, and what loading raises."""

    def __init__(self):
        self.engines = []
        self.error = None
        self.node = TrackerNode(self.load)

    def load(self, values):
        if self.error is not None:
            raise self.error
        self.engines.append(ClosingEngine())
        return LoadedModel(self.engines[-1], ScriptedPreset())

    @property
    def state(self):
        return self.node._state_machine.current_state[1]

    def go(self, *names):
        return [getattr(self.node, f"trigger_{name}")() for name in names]

    def bring_to(self, state):
        self.go(*{UNCONFIGURED: (), INACTIVE: ("configure",), ACTIVE: ("configure", "activate")}[state])
        assert self.state == state


class ClosingEngine(ColourEngine):
    closed = 0
    error: Exception | None = None

    def close(self):
        self.closed += 1
        if self.error is not None:
            raise self.error


@pytest.fixture
def rig():
    rclpy.init(args=[])
    rig = Rig()
    yield rig
    rig.node.close()
    rig.node.destroy_node()
    rclpy.shutdown()


def fail(*arguments):
    raise RuntimeError("told to fail")


@pytest.mark.parametrize(
    ("start", "transition", "end"),
    [
        (UNCONFIGURED, "configure", INACTIVE),
        (UNCONFIGURED, "shutdown", FINALIZED),
        (INACTIVE, "activate", ACTIVE),
        (INACTIVE, "cleanup", UNCONFIGURED),
        (INACTIVE, "shutdown", FINALIZED),
        (ACTIVE, "deactivate", INACTIVE),
        (ACTIVE, "shutdown", FINALIZED),
    ],
)
def test_every_transition(rig, start, transition, end):
    rig.bring_to(start)
    assert rig.go(transition) == [SUCCESS]
    assert rig.state == end
    assert [engine.closed for engine in rig.engines] == [int(end in (UNCONFIGURED, FINALIZED))] * len(rig.engines)


@pytest.mark.parametrize(
    ("start", "transition"),
    [
        (UNCONFIGURED, "activate"),
        (UNCONFIGURED, "deactivate"),
        (UNCONFIGURED, "cleanup"),
        (INACTIVE, "configure"),
        (INACTIVE, "deactivate"),
        (ACTIVE, "configure"),
        (ACTIVE, "activate"),
        (ACTIVE, "cleanup"),
    ],
)
def test_transitions_that_do_not_exist_change_nothing(rig, start, transition):
    rig.bring_to(start)
    assert rig.go(transition) == [ERROR]
    assert rig.state == start
    assert not any(engine.closed for engine in rig.engines)


def test_a_failing_configure_leaves_nothing_and_can_be_repeated(rig, monkeypatch):
    for error in (ValueError("no such preset"), OSError("no file"), MemoryError(), KeyError("x")):
        rig.error = error
        assert rig.go("configure") == [FAILURE] and rig.state == UNCONFIGURED
    rig.error = None
    monkeypatch.setattr(TrackingPipeline, "__init__", fail)
    assert rig.go("configure") == [FAILURE] and rig.state == UNCONFIGURED
    assert rig.engines[0].closed == 1, "loaded, and of no use"
    monkeypatch.undo()
    assert rig.go("configure", "activate") == [SUCCESS, SUCCESS]


def test_an_interrupted_load_is_no_error(rig):
    rig.error = LoadingInterruptedError("loading was ended by SIGINT")
    assert rig.go("configure") == [FAILURE] and rig.state == UNCONFIGURED
    assert rig.node._last_error == ""


def test_a_failing_activate_stays_inactive_and_stops_what_began(rig, monkeypatch):
    rig.bring_to(INACTIVE)
    start = TrackingPipeline.start
    monkeypatch.setattr(TrackingPipeline, "start", lambda pipeline: (start(pipeline), fail()))
    assert rig.go("activate") == [FAILURE] and rig.state == INACTIVE
    assert rig.node._pipeline._worker is None and not rig.node._active
    assert rig.node.get_publishers_info_by_topic("camera/tracks") and not list(rig.node.subscriptions)[2:]
    assert rig.node._last_error == "activate failed: told to fail"
    monkeypatch.undo()
    assert rig.go("activate", "deactivate", "activate") == [SUCCESS] * 3
    assert not rig.node._last_error, "the diagnostics would call a node that works broken"


@pytest.mark.parametrize("where", ["deactivate", "cleanup", "shutdown"])
def test_a_failure_on_the_way_down_is_processed_and_the_node_works_again(rig, monkeypatch, where):
    rig.bring_to(INACTIVE if where == "cleanup" else ACTIVE)
    pipeline = rig.node._pipeline
    monkeypatch.setattr(TrackingPipeline, "stop", fail)
    assert rig.go(where) == [ERROR]
    assert rig.state == UNCONFIGURED and "told to fail" in rig.node._last_error
    assert rig.engines[0].closed == 1
    monkeypatch.undo()
    pipeline.stop()
    assert rig.go("configure", "activate") == [SUCCESS, SUCCESS] and rig.node._last_error == ""


def test_an_engine_that_cannot_be_freed_does_not_hide_why_it_failed(rig):
    rig.bring_to(ACTIVE)
    rig.engines[0].error = RuntimeError("the device is lost")
    rig.node._engine_failed("CUDA error: an illegal memory access")
    rig.node._on_engine_fault()
    assert rig.state == UNCONFIGURED and "illegal memory access" in rig.node._last_error
    assert rig.go("configure", "activate") == [SUCCESS, SUCCESS]
    rig.node._on_engine_fault()
    assert rig.state == ACTIVE, "the old fault is over"


def test_what_was_told_of_an_earlier_run_is_told_again(rig, capfd):
    rig.bring_to(INACTIVE)
    for _ in range(3):
        rig.node._report(Severity.WARNING, "front:truncated", "cut off")
    rig.go("cleanup", "configure")
    rig.node._report(Severity.WARNING, "front:truncated", "cut off")
    told = capfd.readouterr().err
    assert told.count("cut off") == 3 and told.count("cut off (and 1 more like it)") == 1, "held back, told at the end"


def test_a_configure_that_fails_after_loading_leaves_nothing_behind(rig, monkeypatch):
    with monkeypatch.context() as broken:
        broken.setattr("qdtrack_ros.node.messages.labels_message", fail)
        assert rig.go("configure") == [FAILURE] and rig.state == UNCONFIGURED
    assert rig.engines[-1].closed == 1 and rig.node._is_unconfigured(), "parameters of the model may change again"
    rig.bring_to(INACTIVE)


def test_a_state_that_breaks_the_reader_is_no_reason_not_to_start(rig, monkeypatch, capfd, tmp_path):
    rig.node.set_parameters([Parameter("state.path", value=str(tmp_path / "state.npz"))])

    def fail_oddly(self):
        raise KeyError("tracker.boxes")

    monkeypatch.setattr(TrackingPipeline, "load_state", fail_oddly)
    rig.bring_to(INACTIVE)
    assert "not taken up, starting without tracks: KeyError" in capfd.readouterr().err


def test_a_camera_may_be_called_tracker(rig):
    rig.node.set_parameters([Parameter("cameras", value=["tracker"])])
    rig.bring_to(ACTIVE)
    assert rig.node.set_parameters([Parameter("tracker.match_score", value=0.7)])[0].successful
    assert rig.node._configured.cameras["tracker"].session.config.match_score == 0.7


def test_every_change_of_state_is_told(rig, capfd):
    rig.go("configure", "activate", "deactivate", "cleanup", "configure", "shutdown")
    log = capfd.readouterr().err
    places = [log.rindex(word) for word in ("active:", "deactivated:", "cleaned up:", "configured:", "shut down:")]
    assert places == sorted(places)


def test_rates_count_from_each_activation(rig):
    rig.bring_to(INACTIVE)
    latency = rig.node._configured.cameras["camera"].latency
    latency.add(5.0)
    began = latency._began_s = latency._began_s - 3600  # so long ago was it configured
    rig.go("activate")
    assert latency._began_s >= began + 3600 and latency.summary().rate_hz == 0.0
