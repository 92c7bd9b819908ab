"""The node's parameters as config/tracker_node.parameters.yaml describes them: types, defaults, limits, changes."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from qdtrack_ros.configuration import ConfigurationError, load_yaml
from qdtrack_ros.resources import share_path

SPECIFICATION = "config/tracker_node.parameters.yaml"

STARTUP, UNCONFIGURED, RUNTIME = "startup", "unconfigured", "runtime"
_CHANGES = (STARTUP, UNCONFIGURED, RUNTIME)
_PYTHON_TYPES: Mapping[str, type] = {"bool": bool, "int": int, "double": float, "string": str, "string_array": list}

Value = bool | int | float | str | list[str]


@dataclass(frozen=True)
class ParameterSpec:
    """One parameter.

    Attributes:
        name: as ROS knows it; for a camera's parameter without the camera's name.
        type: bool, int, double, string or string_array.
        description: for people, one sentence or two.
        change: startup, unconfigured or runtime: when it may change.
        default: None where the preset gives the value.
        range: smallest and largest allowed number.
        one_of: allowed values.
        pattern: regular expression that each item of an array must match whole.
        unique: whether the items of an array must differ.
    """

    name: str
    type: str
    description: str
    change: str
    default: Value | None = None
    range: tuple[float, float] | None = None
    one_of: tuple[str, ...] = ()
    pattern: str = ""
    unique: bool = False

    def __post_init__(self) -> None:
        if self.type not in _PYTHON_TYPES or self.change not in _CHANGES:
            raise ConfigurationError(f"parameter {self.name}: unknown type {self.type!r} or change {self.change!r}")
        if not self.description.strip():
            raise ConfigurationError(f"parameter {self.name} has no description")
        reason = self.refuse(self.default) if self.default is not None else None
        if reason:
            raise ConfigurationError(f"the default of {reason}")

    @property
    def allowed(self) -> str:
        """The allowed values in words; empty where the type says it all."""
        if self.range is not None:
            return " to ".join(f"{limit:.15g}" for limit in self.range)
        if self.one_of:
            return f"one of {', '.join(self.one_of)}"
        if self.pattern:
            return f"names that match {self.pattern}"
        return ""

    def refuse(self, value: Any) -> str | None:
        """Why `value` is not allowed, naming the parameter, the value and what is allowed; None when it is."""
        if not _is_of_type(value, self.type):
            expected = f"{self.type}, {self.allowed}" if self.allowed else self.type
            return f"{self.name} is {value!r}; expected {expected}"
        if self.range is not None and not (math.isfinite(value) and self.range[0] <= value <= self.range[1]):
            return f"{self.name} is {value!r}; expected {self.allowed}"
        if self.one_of and value not in self.one_of:
            return f"{self.name} is {value!r}; expected {self.allowed}"
        if self.type == "string_array":
            return self._refuse_items(value)
        return None

    def _refuse_items(self, items: Sequence[Any]) -> str | None:
        if not items or not all(isinstance(item, str) for item in items):
            return f"{self.name} is {list(items)!r}; expected at least one string"
        wrong = [item for item in items if self.pattern and not re.fullmatch(self.pattern, item)]
        if wrong:
            return f"{self.name} holds {wrong[0]!r}; expected {self.allowed}"
        if self.unique and len(set(items)) != len(items):
            return f"{self.name} is {list(items)!r}; expected different names"
        return None


def _is_of_type(value: Any, name: str) -> bool:
    return type(value) is _PYTHON_TYPES[name]  # not isinstance: True is no int


@dataclass(frozen=True)
class ParameterSpecs:
    """All parameters.

    Attributes:
        node: by name.
        camera: those that each camera has, by the name that follows ``NAME.``.
    """

    node: Mapping[str, ParameterSpec]
    camera: Mapping[str, ParameterSpec]

    def of_camera(self, camera: str) -> list[ParameterSpec]:
        """The parameters of a camera, under their full names."""
        return [replace(spec, name=f"{camera}.{spec.name}") for spec in self.camera.values()]


def load_specs(path: Path | None = None) -> ParameterSpecs:
    """Read the specification file, by default the package's own.

    Raises:
        ConfigurationError: an unknown or missing key, or a default outside its own limits.
        FileNotFoundError: the installation lacks the file.
    """
    content = load_yaml(path if path is not None else share_path(SPECIFICATION))
    if set(content) != {"node", "camera"}:
        found = ", ".join(sorted(content))
        raise ConfigurationError(f"the parameter specification has the sections {found}; expected node and camera")
    return ParameterSpecs(**{section: _section(content[section]) for section in ("node", "camera")})


def refuse_change(spec: ParameterSpec, value: Any, remedy: str) -> str | None:
    """Why a running node cannot take `value` for this parameter now; None when it can.

    Args:
        spec: of the parameter.
        value: it would take.
        remedy: what to do before parameters of the kind `unconfigured` can change; empty when they can now.
    """
    if spec.change == STARTUP:
        return f"{spec.name} can only be given when the node starts"
    if spec.change == UNCONFIGURED and remedy:
        return f"{spec.name} can only change while the node is unconfigured; {remedy}"
    return spec.refuse(value)


def _section(entries: Mapping[str, Mapping[str, Any]]) -> dict[str, ParameterSpec]:
    specs = {}
    for name, entry in entries.items():
        values = dict(entry)
        for key in ("range", "one_of"):
            if key in values:
                values[key] = tuple(values[key])
        try:
            specs[name] = ParameterSpec(name=name, **values)
        except TypeError as error:
            raise ConfigurationError(f"parameter {name}: {error}") from error
    return specs
