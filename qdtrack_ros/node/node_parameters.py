"""Declares the specified parameters on a node, keeps them valid, and reads them."""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy.node import Node
from rclpy.parameter import Parameter

from qdtrack_ros.node.parameters import STARTUP, UNCONFIGURED, ParameterSpec, ParameterSpecs, refuse_change

_ROS_TYPES: Mapping[str, Parameter.Type] = {
    "bool": Parameter.Type.BOOL,
    "int": Parameter.Type.INTEGER,
    "double": Parameter.Type.DOUBLE,
    "string": Parameter.Type.STRING,
    "string_array": Parameter.Type.STRING_ARRAY,
}

Values = Mapping[str, Any]


class NodeParameters:
    """The parameters of a node, declared from their specification.

    Args:
        node: to declare them on.
        specs: what to declare.
        remedy: what to do before parameters of the kind `unconfigured` can change; empty when they can now.
        refuse: further checks on the values as they would become; returns a reason, or None.
        apply: called after a change with the values as they are now.

    Raises:
        ValueError: a value given at the start is not allowed; names the parameter, the value and what is allowed.
    """

    def __init__(
        self,
        node: Node,
        specs: ParameterSpecs,
        remedy: Callable[[], str],
        refuse: Callable[[Values], str | None],
        apply: Callable[[Values], None],
    ) -> None:
        self._node = node
        self._specs = specs
        self._remedy = remedy
        self._refuse = refuse
        self._apply = apply
        self._declared: dict[str, ParameterSpec] = {}
        self._from_preset: dict[str, Any] = {}
        self._filling = False
        for spec in specs.node.values():
            self._declare(spec)
        for camera in self["cameras"]:
            self.declare_camera(camera)
        self._tell_unknown()
        node.add_on_set_parameters_callback(self._on_set)
        node.add_post_set_parameters_callback(self._on_changed)

    def __getitem__(self, name: str) -> Any:
        """The value of a parameter; None for one that waits for the preset."""
        return _plain(self._node.get_parameter_or(name, Parameter(name)).value)

    def values(self) -> dict[str, Any]:
        """All values by name."""
        return {name: self[name] for name in self._declared}

    def declare_camera(self, camera: str) -> None:
        """Declare the parameters of a camera, if that was not done before."""
        for spec in self._specs.of_camera(camera):
            if spec.name not in self._declared:
                self._declare(spec)

    def fill_from_preset(self, values: Values) -> None:
        """Give the parameters that the user left unset, or that an earlier preset filled, the values of this preset.

        They become visible to `ros2 param get`, and a later preset may replace them, unless the user set them since.
        What only an earlier preset had is unset again.
        """
        for name in [name for name in self._from_preset if name not in values]:
            if self._from_preset.pop(name) == self[name]:
                self._node.undeclare_parameter(name)
                self._declare(self._declared.pop(name))
        filled: list[Parameter] = []
        for name, value in values.items():
            if name in self._declared and (self[name] is None or self._from_preset.get(name) == self[name]):
                self._from_preset[name] = value
                filled.append(Parameter(name, _ROS_TYPES[self._declared[name].type], value))
        self._filling = True
        try:
            if filled:
                self._node.set_parameters_atomically(filled)
        finally:
            self._filling = False

    def _declare(self, spec: ParameterSpec) -> None:
        name = spec.name
        try:
            self._node.declare_parameter(name, spec.default, _descriptor(spec))
        except Exception as error:  # rclpy has a class of its own for each kind of wrong value
            expected = spec.type if not spec.allowed else f"{spec.type}, {spec.allowed}"
            raise ValueError(f"parameter {name} cannot be used: {error}; expected {expected}") from error
        value = self[name]
        if value is None and spec.default is not None:
            value = []  # so it was given: an empty list has no type, and ROS takes it for no value at all
        reason = spec.refuse(value) if value is not None else None
        if reason:
            raise ValueError(f"parameter {reason}")
        self._declared[name] = spec

    def _tell_unknown(self) -> None:
        """Warn of what the start gave that nothing reads: a slip of the pen, or a camera that is not in `cameras`."""
        given = getattr(self._node, "_parameter_overrides", {})  # rclpy has no public way to ask
        for name in sorted(set(given) - set(self._declared)):
            if not self._node.has_parameter(name):  # use_sim_time and the like are rclpy's own
                near = difflib.get_close_matches(name, self._declared, n=1)
                hint = f"; did you mean {near[0]}?" if near else ""
                self._node.get_logger().warning(f"parameter {name} is not known and has no effect{hint}")

    def _on_set(self, parameters: Sequence[Parameter]) -> SetParametersResult:
        if self._filling:
            return SetParametersResult(successful=True)
        changed = {}
        for parameter in parameters:
            spec = self._declared.get(parameter.name)
            if spec is None:
                continue
            value = _plain(parameter.value)
            reason = refuse_change(spec, value, self._remedy())
            if reason:
                return SetParametersResult(successful=False, reason=reason)
            changed[parameter.name] = value
        reason = self._refuse({**self.values(), **changed}) if changed else None
        return SetParametersResult(successful=reason is None, reason=reason or "")

    def _on_changed(self, parameters: Sequence[Parameter]) -> None:
        if self._filling:
            return
        if any(parameter.name == "cameras" for parameter in parameters):
            for camera in self["cameras"]:
                with contextlib.suppress(ValueError):  # given at the start, and told when the node is configured
                    self.declare_camera(camera)
        if any(parameter.name in self._declared for parameter in parameters):
            self._apply(self.values())


def _plain(value: Any) -> Any:
    """Arrays of strings come as lists or tuples."""
    return list(value) if isinstance(value, (list, tuple)) else value


def _descriptor(spec: ParameterSpec) -> ParameterDescriptor:
    # A fixed type would have rclpy refuse others in numbers of its own ("expected '3' got '2'"), without the name. And
    # rclpy answers nothing at all to who asks for several parameters of which one of a fixed type has no value, as
    # `ros2 param dump` and Foxglove do before a preset gave it one. So `refuse` checks the types.
    constraints = [spec.type]
    constraints += [spec.allowed] if spec.one_of or spec.pattern else []  # a range has fields of its own
    if spec.change == UNCONFIGURED:
        constraints.append("changes only while the node is unconfigured")
    descriptor = ParameterDescriptor(
        name=spec.name,
        description=" ".join(spec.description.split()),
        additional_constraints="; ".join(constraints),
        read_only=spec.change == STARTUP,
        dynamic_typing=True,
    )
    if spec.range is not None and spec.type == "int":
        descriptor.integer_range = [IntegerRange(from_value=int(spec.range[0]), to_value=int(spec.range[1]), step=0)]
    elif spec.range is not None:
        low, high = spec.range
        descriptor.floating_point_range = [FloatingPointRange(from_value=low, to_value=high, step=0.0)]
    return descriptor
