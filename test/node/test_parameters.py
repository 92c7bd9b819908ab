"""One specification: the node, the default file and the table agree with it."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest
import yaml

from qdtrack_ros.configuration import ConfigurationError
from qdtrack_ros.node.parameter_docs import defaults_file, derived_files
from qdtrack_ros.node.parameters import load_specs, refuse_change
from qdtrack_ros.tracking import AssociationConfig

ROOT = Path(__file__).resolve().parents[2]
SPECS = load_specs()


@pytest.mark.parametrize(("name", "text"), derived_files(ROOT, SPECS).items())
def test_derived_files_are_up_to_date(name, text):
    found = (ROOT / name).read_text(encoding="utf-8")
    assert found == text, f"{name} is stale: run `python -m qdtrack_ros.node.parameter_docs`"


def flatten(tree, prefix=""):
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def test_the_default_file_holds_every_default():
    tree = yaml.safe_load(defaults_file(SPECS))
    found = dict(flatten(tree["/**"]["ros__parameters"]))
    expected = {spec.name: spec.default for spec in SPECS.node.values() if spec.default is not None}
    expected |= {f"camera.{spec.name}": spec.default for spec in SPECS.camera.values()}
    assert found == expected


def test_every_threshold_of_the_association_is_a_parameter():
    declared = {name.removeprefix("tracker.") for name in SPECS.node if name.startswith("tracker.")}
    assert declared == {field.name for field in fields(AssociationConfig)}


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("tracker.match_score", 1.5, "expected 0 to 1"),
        ("tracker.match_score", float("nan"), "expected 0 to 1"),
        ("tracker.match_score", 1, "expected double"),
        ("tracker.memory_frames", True, "expected int"),
        ("tracker.memory_frames", 0, "expected 1 to 1000000"),  # a track would not outlive its first frame
        ("engine", "abacus", "one of auto"),
        ("cameras", [], "at least one"),
        ("cameras", ["a", "a"], "different"),
        ("cameras", ["front left"], "names that match"),
        ("cameras", ["../etc"], "names that match"),
    ],
)
def test_wrong_values_are_refused_with_name_value_and_remedy(name, value, reason):
    text = SPECS.node[name].refuse(value)
    assert text is not None
    assert name in text and reason in text and repr(value) in text or "holds" in text


def test_right_values_are_taken():
    assert SPECS.node["tracker.match_score"].refuse(0.5) is None
    assert SPECS.node["cameras"].refuse(["front", "rear/left"]) is None


def test_what_may_change_depends_on_the_state():
    assert "starts" in refuse_change(SPECS.node["autostart"], False, "")
    assert "run cleanup" in refuse_change(SPECS.node["weights"], "a.safetensors", "run cleanup")
    assert refuse_change(SPECS.node["weights"], "a.safetensors", "") is None
    assert refuse_change(SPECS.node["tracker.init_score"], 0.4, "run cleanup") is None


def test_parameters_of_a_camera_go_by_their_full_names():
    names = [spec.name for spec in SPECS.of_camera("rear/left")]
    assert names == [f"rear/left.{name}" for name in SPECS.camera]
    depth = next(spec for spec in SPECS.of_camera("rear") if spec.name == "rear.qos.depth")
    assert depth.refuse(0) == "rear.qos.depth is 0; expected 1 to 1000"


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ("{type: double, default: 2.0, range: [0, 1], change: runtime, description: x}", "default of"),
        ("{type: float, default: 2.0, change: runtime, description: x}", "unknown type"),
        ("{type: int, change: sometimes, description: x}", "change"),
        ("{type: int, change: runtime, description: x, colour: red}", "colour"),
        ("{type: int, change: runtime, description: ' '}", "description"),
    ],
)
def test_a_faulty_specification_is_refused(tmp_path, entry, reason):
    path = tmp_path / "specification.yaml"
    path.write_text(f"node: {{thing: {entry}}}\ncamera: {{}}\n")
    with pytest.raises(ConfigurationError, match=reason):
        load_specs(path)
