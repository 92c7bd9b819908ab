"""The parameters on a node: descriptors say what the specification says, and nothing given is ignored in silence."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: no node to declare parameters on")

import rclpy
from rcl_interfaces.msg import ParameterType
from rclpy.node import Node
from rclpy.parameter import Parameter

from qdtrack_ros.node.node_parameters import NodeParameters
from qdtrack_ros.node.parameters import STARTUP, UNCONFIGURED, load_specs

ROOT = Path(__file__).resolve().parents[2]
SPECS = load_specs()
TYPES = {
    "bool": ParameterType.PARAMETER_BOOL,
    "int": ParameterType.PARAMETER_INTEGER,
    "double": ParameterType.PARAMETER_DOUBLE,
    "string": ParameterType.PARAMETER_STRING,
    "string_array": ParameterType.PARAMETER_STRING_ARRAY,
}


class Harness:
    """A node with the declared parameters; `remedy`, `reason` and `applied` stand for the tracker's."""

    def __init__(self, node):
        self.node = node
        self.remedy, self.reason, self.applied = "", None, []
        self.parameters = NodeParameters(
            node, SPECS, lambda: self.remedy, lambda values: self.reason, self.applied.append
        )

    def set(self, name, value):
        result = self.node.set_parameters([Parameter(name, value=value)])[0]
        return result.successful, result.reason


@pytest.fixture
def start():
    """``start(**{"a.b": 1})``: a node that was given these parameters."""
    context = rclpy.Context()
    rclpy.init(args=[], context=context)
    nodes = []

    def make(**given):
        overrides = [Parameter(name, value=value) for name, value in given.items()]
        nodes.append(Node("qdtrack", context=context, parameter_overrides=overrides, use_global_arguments=False))
        return Harness(nodes[-1])

    yield make
    for node in nodes:
        node.destroy_node()
    rclpy.shutdown(context=context)


def test_descriptors_say_what_the_specification_says(start):
    node = start(cameras=["front"]).node
    for spec in [*SPECS.node.values(), *SPECS.of_camera("front")]:
        found = node.describe_parameter(spec.name)
        assert found.description == " ".join(spec.description.split())
        assert spec.type in found.additional_constraints
        if spec.default is not None:
            assert found.type == TYPES[spec.type]
        assert found.read_only == (spec.change == STARTUP)
        assert ("unconfigured" in found.additional_constraints) == (spec.change == UNCONFIGURED)
        assert all(choice in found.additional_constraints for choice in spec.one_of)
        ranges = [(r.from_value, r.to_value) for r in [*found.integer_range, *found.floating_point_range]]
        assert ranges == ([spec.range] if spec.range else [])
        if spec.name != "cameras":
            assert node.get_parameter_or(spec.name, Parameter(spec.name)).value == spec.default


def test_all_parameters_can_be_asked_for_at_once_before_a_preset_gave_them_values(start):
    harness = start()
    names = list(harness.parameters.values())
    assert len(harness.node.get_parameters(names)) == len(names)
    assert harness.set("tracker.match_score", "high") == (
        False,
        "tracker.match_score is 'high'; expected double, 0 to 1",
    )
    assert harness.set("tracker.memory_frames", None)[0] is False
    assert harness.set("tracker.match_score", 0.7) == (True, "")


def test_a_value_of_another_type_is_refused_in_words(start):
    harness = start()
    for name, value, expected in (
        ("diagnostics.max_latency_ms", 200, "double, 0 to 1000000"),  # `ros2 param set` makes an int of it
        ("confirm_hits", 1.5, "int, 1 to 1000"),
        ("publish_embeddings", 1, "bool"),
        ("preset", 7, "string"),
        ("stale_after_s", None, "double, 0.1 to 3600"),  # `ros2 param delete`
    ):
        before = harness.parameters[name]
        assert harness.set(name, value) == (False, f"{name} is {value!r}; expected {expected}")
        assert harness.parameters[name] == before
    assert harness.set("classes", 2)[1].startswith("classes is 2; expected string_array")


def test_a_camera_that_is_added_has_parameters_at_once(start):
    harness = start(**{"rear.qos.depth": 0})
    assert harness.set("cameras", ["camera", "side/left", "rear"]) == (True, ""), "rear is told of on configure"
    assert harness.set("side/left.transport", "compressed") == (True, "")
    assert harness.parameters["side/left.transport"] == "compressed"


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"tracker.match_score": 1.5}, "tracker.match_score"),
        ({"tracker.match_score": "high"}, "expected double, 0 to 1"),
        ({"front.qos.depth": 0, "cameras": ["front"]}, "front.qos.depth"),
        ({"front.transport": "carrier pigeon", "cameras": ["front"]}, "front.transport is 'carrier pigeon'"),
        ({"cameras": ["a", "a"]}, "expected different names"),
        ({"cameras": None}, r"cameras is \[\]; expected at least one string"),  # what `[]` on the command line becomes
        ({"weights": None}, r"weights is \[\]; expected string"),
    ],
)
def test_a_wrong_value_ends_the_start_and_names_the_parameter(start, given, reason):
    with pytest.raises(ValueError, match=reason):
        start(**given)


def test_changes_are_refused_with_the_reason_or_applied_whole(start):
    harness = start()
    assert harness.set("confirm_hits", 3) == (True, "") and harness.applied[-1]["confirm_hits"] == 3
    assert harness.set("camera.transport", "pigeon") == (
        False,
        "camera.transport is 'pigeon'; expected one of raw, compressed",
    )
    harness.remedy = "run cleanup first"
    for name, value in (("camera.qos.depth", 5), ("preset", "mot17"), ("cameras", ["rear"])):
        successful, reason = harness.set(name, value)
        assert not successful and reason.startswith(f"{name} can only change while the node is unconfigured")
    harness.reason = "classes holds 'cow'; expected some of person"
    assert harness.set("classes", ["cow"]) == (False, harness.reason)
    assert len(harness.applied) == 1 and harness.parameters["classes"] == [""]


def test_the_default_file_is_taken_as_a_whole(capfd):
    context = rclpy.Context()
    rclpy.init(args=["--ros-args", "--params-file", str(ROOT / "config" / "tracker_node.yaml")], context=context)
    node = Node("qdtrack", context=context)
    try:
        values = Harness(node).parameters.values()
        assert values["camera.qos.reliability"] == "best_effort" and values["stale_after_s"] == 2.0
        assert {name for name in node._parameter_overrides if name != "use_sim_time"} <= set(values)
        assert "has no effect" not in "".join(capfd.readouterr())
    finally:
        node.destroy_node()
        rclpy.shutdown(context=context)


def test_a_parameter_that_nothing_reads_is_told_with_the_one_it_resembles(start, capfd):
    start(**{"tracker.match_scor": 0.6, "rear.transport": "compressed", "use_sim_time": False, "confirm_hits": 4})
    log = "".join(capfd.readouterr())
    assert "parameter tracker.match_scor is not known and has no effect; did you mean tracker.match_score?" in log
    assert "parameter rear.transport is not known and has no effect" in log
    assert "use_sim_time" not in log and "confirm_hits" not in log
