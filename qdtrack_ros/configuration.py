"""YAML to frozen dataclasses, strictly: an unknown key or a value of another kind is an error that names its place."""

from __future__ import annotations

import dataclasses
import math
import re
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml

T = TypeVar("T")

_POWER_OF_TEN = re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+")
"""What YAML 1.1 takes for a text, for want of a point or of a sign: 1e-3, 1.0e3."""


class ConfigurationError(ValueError):
    """A configuration file or override that cannot be used; the message names the key."""


def load_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping.

    Raises:
        ConfigurationError: the file is missing, is not YAML, or is not a mapping.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read ({error.strerror}); give the path of a YAML file") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} is not valid YAML: {error}") from error
    if not isinstance(content, dict):
        raise ConfigurationError(f"{path} holds a {type(content).__name__}; expected a mapping of settings")
    return content


def merge(base: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """``base`` with ``overrides`` laid over it, mappings merged key by key; ``a.b`` in an override means key b of a."""
    result = dict(base)
    for key, value in overrides.items():
        head, _, rest = key.partition(".")
        nested: Any = {rest: value} if rest else value
        if isinstance(nested, Mapping) and isinstance(result.get(head), Mapping):
            result[head] = merge(result[head], nested)
        else:
            result[head] = merge({}, nested) if rest else nested
    return result


def setting(text: str) -> tuple[str, Any]:
    """Key and value of ``key=value``; the value is YAML: a number, true, a word, or a list such as [640, 480].

    Raises:
        ConfigurationError: the text is not of that form.
    """
    key, separator, value = text.partition("=")
    if not separator or not key:
        raise ConfigurationError(f"{text!r} is not of the form key=value")
    try:
        return key, yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ConfigurationError(f"the value of {text!r} is not valid YAML") from error


def build(kind: type[T], values: Mapping[str, Any], where: str) -> T:
    """Build a dataclass from a mapping, nested dataclasses and tuples included.

    Where a field may be one of several dataclasses, which tell themselves apart by a class variable ``kind``, the key
    ``kind`` of its mapping says which; without it, the first is meant.

    Args:
        kind: a dataclass.
        values: its fields; those left out keep their defaults.
        where: what the values are, for error messages.

    Raises:
        ConfigurationError: an unknown or missing key, or a value of another kind.
    """
    if not isinstance(values, Mapping):
        raise ConfigurationError(f"{where} is {values!r}; expected a mapping of settings")
    hints = typing.get_type_hints(kind)
    fields = {f.name: f for f in dataclasses.fields(kind)}  # type: ignore[arg-type]
    unknown = sorted(str(key) for key in values if key not in fields)
    if unknown:
        raise ConfigurationError(f"{where} has unknown key(s) {', '.join(unknown)}; known: {', '.join(fields)}")
    missing = [name for name, f in fields.items() if name not in values and _is_needed(f)]
    if missing:
        raise ConfigurationError(f"{where}: missing {' and '.join(missing)}")
    arguments = {name: _convert(hints[name], value, f"{where}.{name}") for name, value in values.items()}
    try:
        return kind(**arguments)
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"{where}: {error}") from error


def _is_needed(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def within(values: object, least: float, most: float, *names: str) -> None:
    """``ValueError``, which names it, for an attribute that is not in ``least .. most``; infinite ones do not bound."""
    for name in names:
        value = getattr(values, name)
        if not least <= value <= most:
            expected = f"at least {least:g}" if math.isinf(most) else f"{least:g} to {most:g}"
            raise ValueError(f"{name} is {value}; expected {expected}")


def _build_one_of(choices: Sequence[Any], value: Any, where: str) -> Any:
    if not isinstance(value, Mapping):
        raise ConfigurationError(f"{where} is {value!r}; expected a mapping of settings")
    by_kind = {choice.kind: choice for choice in choices}
    kind = value.get("kind", choices[0].kind)
    if not isinstance(kind, str) or kind not in by_kind:
        raise ConfigurationError(f"{where}.kind is {kind!r}; expected one of {', '.join(by_kind)}")
    return build(by_kind[kind], {key: v for key, v in value.items() if key != "kind"}, where)


def _convert(hint: Any, value: Any, where: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        choices = [argument for argument in arguments if argument is not type(None)]
        return _build_one_of(choices, value, where) if len(choices) > 1 else _convert(choices[0], value, where)
    if dataclasses.is_dataclass(hint):
        return build(typing.cast(type[Any], hint), value, where)
    if origin is tuple:
        if isinstance(value, Mapping) and dataclasses.is_dataclass(arguments[0]):
            value = [value]  # one need not be a list
        if not isinstance(value, (list, tuple)):
            raise ConfigurationError(f"{where} is {value!r}; expected a list")
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            return tuple(_convert(arguments[0], item, f"{where}[{i}]") for i, item in enumerate(value))
        if len(value) != len(arguments):
            raise ConfigurationError(f"{where} has {len(value)} entries; expected {len(arguments)}")
        typed = enumerate(zip(arguments, value, strict=True))
        return tuple(_convert(argument, item, f"{where}[{i}]") for i, (argument, item) in typed)
    if origin in (dict, Mapping):
        if not isinstance(value, Mapping):
            raise ConfigurationError(f"{where} is {value!r}; expected a mapping")
        return {k: _convert(arguments[1], v, f"{where}.{k}") for k, v in value.items()}
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint is float and isinstance(value, str) and _POWER_OF_TEN.fullmatch(value):
        value = float(value)
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigurationError(f"{where} is {value}; expected a finite number")
    if hint is bool and isinstance(value, bool):
        return value
    if isinstance(hint, type) and isinstance(value, hint) and not (isinstance(value, bool) and hint is not bool):
        return value
    name = getattr(hint, "__name__", str(hint))
    raise ConfigurationError(f"{where} is {value!r}; expected {name}")
