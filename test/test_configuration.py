"""YAML to dataclasses: whatever is not exactly right is an error that names its place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import pytest
import yaml

from qdtrack_ros.configuration import ConfigurationError, build, load_yaml, merge


@dataclass(frozen=True)
class Inner:
    size: tuple[int, int] = (1, 2)
    ratio: float = 0.5

    def __post_init__(self) -> None:
        if self.ratio < 0:
            raise ValueError(f"ratio is {self.ratio}; expected a positive number")


@dataclass(frozen=True)
class Round:
    kind: ClassVar[str] = "round"
    radius: float = 1.0


@dataclass(frozen=True)
class Square:
    kind: ClassVar[str] = "square"
    side: float = 2.0


@dataclass(frozen=True)
class Outer:
    name: str
    count: int = 1
    on: bool = False
    inner: Inner = field(default_factory=Inner)
    maybe: Inner | None = None
    many: tuple[Inner, ...] = ()
    words: tuple[str, ...] = ()
    table: Mapping[str, str] = field(default_factory=dict)
    shape: Round | Square = field(default_factory=Round)


def test_everything_is_converted():
    built = build(
        Outer,
        {
            "name": "a",
            "count": 3,
            "on": True,
            "inner": {"size": [3, 4], "ratio": 2},
            "maybe": {"ratio": 0.25},
            "many": [{"size": (5, 6)}, {}],
            "words": ["x", "y"],
            "table": {"k": "v"},
        },
        "settings",
    )
    assert built == Outer(
        "a", 3, True, Inner((3, 4), 2.0), Inner(ratio=0.25), (Inner((5, 6)), Inner()), ("x", "y"), {"k": "v"}
    )
    assert isinstance(built.inner.ratio, float)
    assert build(Outer, {"name": "a", "maybe": None}, "s") == Outer("a")


def test_the_kind_says_which_of_several_dataclasses_is_meant():
    shapes = [{}, {"radius": 3}, {"kind": "round", "radius": 3}, {"kind": "square"}, {"kind": "square", "side": 4}]
    built = [build(Outer, {"name": "a", "shape": shape}, "s").shape for shape in shapes]
    assert built == [Round(), Round(3.0), Round(3.0), Square(), Square(4.0)]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"name": "a", "shape": {"kind": "oval"}}, r"settings\.shape\.kind is 'oval'; expected one of round, square"),
        ({"name": "a", "shape": {"kind": ["square"]}}, r"shape\.kind is \['square'\]"),
        ({"name": "a", "shape": {"kind": "square", "radius": 1}}, r"shape has unknown key\(s\) radius; known: side"),
        ({"name": "a", "shape": {"side": 1}}, r"shape has unknown key\(s\) side; known: radius"),
        ({"name": "a", "shape": "square"}, r"shape is 'square'; expected a mapping"),
        ({"nam": "a"}, r"settings has unknown key\(s\) nam; known: name, count"),
        ({}, "settings: .*name"),
        ({"name": 5}, r"settings\.name is 5; expected str"),
        ({"name": "a", "count": 1.5}, r"settings\.count is 1\.5; expected int"),
        ({"name": "a", "count": True}, r"settings\.count is True; expected int"),
        ({"name": "a", "count": "3"}, r"settings\.count is '3'; expected int"),
        ({"name": "a", "count": None}, r"settings\.count is None"),
        ({"name": "a", "on": 1}, r"settings\.on is 1; expected bool"),
        ({"name": "a", "on": "yes"}, r"settings\.on is 'yes'"),
        ({"name": "a", "inner": []}, r"settings\.inner is \[\]; expected a mapping"),
        ({"name": "a", "inner": {"ratio": True}}, r"settings\.inner\.ratio is True; expected float"),
        ({"name": "a", "inner": {"ratio": float("nan")}}, r"settings\.inner\.ratio is nan; expected a finite number"),
        ({"name": "a", "inner": {"ratio": ".inf"}}, r"settings\.inner\.ratio is '\.inf'; expected float"),
        ({"name": "a", "inner": {"ratio": "0.5"}}, r"settings\.inner\.ratio is '0\.5'; expected float"),
        ({"name": "a", "inner": {"ratio": -1}}, r"settings\.inner: ratio is -1\.0; expected a positive"),
        ({"name": "a", "inner": {"size": [1, 2, 3]}}, r"settings\.inner\.size has 3 entries; expected 2"),
        ({"name": "a", "inner": {"size": [1, 2.5]}}, r"settings\.inner\.size\[1\] is 2\.5; expected int"),
        ({"name": "a", "inner": {"size": "12"}}, r"settings\.inner\.size is '12'; expected a list"),
        ({"name": "a", "many": [{}, {"rati": 1}]}, r"settings\.many\[1\] has unknown key"),
        ({"name": "a", "words": "xy"}, r"settings\.words is 'xy'; expected a list"),
        ({"name": "a", "table": ["k"]}, r"settings\.table is \['k'\]; expected a mapping"),
        ({"name": "a", "table": {"k": 1}}, r"settings\.table\.k is 1; expected str"),
        ({1: "a"}, "unknown key"),
        ("text", "settings is 'text'; expected a mapping"),
    ],
)
def test_what_is_wrong_is_named(values, message):
    with pytest.raises(ConfigurationError, match=message):
        build(Outer, values, "settings")


def test_powers_of_ten_that_yaml_takes_for_texts_are_numbers():
    for text, value in (("1e-3", 0.001), ("+2.5e1", 25.0), ("1.E2", 100.0)):
        assert build(Outer, {"name": "a", "inner": {"ratio": yaml.safe_load(text)}}, "settings").inner.ratio == value


def test_merge_goes_key_by_key_and_leaves_its_arguments_alone():
    base = {"a": {"b": 1, "c": {"d": 2}}, "e": [1, 2]}
    overrides = {"a.c.d": 3, "a": {"f": 4}, "e": [9], "g.h": 5}
    merged = merge(base, overrides)
    assert merged == {"a": {"b": 1, "c": {"d": 3}, "f": 4}, "e": [9], "g": {"h": 5}}
    assert base == {"a": {"b": 1, "c": {"d": 2}}, "e": [1, 2]}
    assert merge(base, {"a": None})["a"] is None
    assert merge({"a": 1}, {"a.b": 2}) == {"a": {"b": 2}}


def test_yaml_files(tmp_path):
    path = tmp_path / "x.yaml"
    with pytest.raises(ConfigurationError, match=r"x\.yaml cannot be read \(No such file.*give the path"):
        load_yaml(path)
    for text, message in (
        ("a: [1", "not valid YAML"),
        ("- 1\n- 2", "holds a list; expected a mapping"),
        ("", "holds a NoneType"),
        ("a: !!python/object/apply:os.getcwd []", "not valid YAML"),
    ):
        path.write_text(text)
        with pytest.raises(ConfigurationError, match=message):
            load_yaml(path)
    path.write_bytes(b"a: \xff\xfe")
    with pytest.raises(ConfigurationError, match=r"x\.yaml"):
        load_yaml(path)
    path.write_text("a: {b: 1}\n")
    assert load_yaml(path) == {"a": {"b": 1}}
