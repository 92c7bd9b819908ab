"""Presets: everything that makes a tracker, in one YAML file each (``config/presets``)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qdtrack_ros.catalogue import WeightsEntry, public_weights
from qdtrack_ros.configuration import ConfigurationError, build, load_yaml, merge
from qdtrack_ros.inference.preprocess import PreprocessConfig
from qdtrack_ros.models.config import ModelConfig
from qdtrack_ros.resources import share_path
from qdtrack_ros.tracking import AssociationConfig, TrackerConfig

DEFAULT_PRESET = "pedestrian"
_NODE_PREFIX = "tracker."  # of the same thresholds in the node's parameters
_SUFFIXES = (".yaml", ".yml")


@dataclass(frozen=True)
class Preset:
    """A network with its input, its labels and its association.

    Attributes:
        name: the preset's name.
        labels: name of every class, in the order of the classifier.
        weights: file of the weights, below the installation's share folder, or the name of public weights, whose
            settings are in the other values; empty where weights must be given.
        model: architecture.
        preprocess: input.
        association: the tracker's thresholds. In a file, the key ``kind`` picks the tracker: ``quasi_dense``, which is
            meant where it is left out, or ``tao``.
    """

    name: str
    labels: tuple[str, ...]
    weights: str = ""
    model: ModelConfig = field(default_factory=ModelConfig)
    preprocess: PreprocessConfig = field(default_factory=PreprocessConfig)
    association: TrackerConfig = field(default_factory=AssociationConfig)

    def __post_init__(self) -> None:
        if len(self.labels) != self.model.num_classes:
            raise ValueError(f"{len(self.labels)} labels for a model of {self.model.num_classes} classes")


def preset_names() -> list[str]:
    """Names of the presets that come with the package."""
    return sorted(path.stem for path in share_path("config/presets").glob("*.yaml"))


def load_preset(
    name_or_path: str | None, overrides: Mapping[str, Any] | None = None, weights: str | Path | None = None
) -> Preset:
    """Read a preset.

    Args:
        name_or_path: name of a preset that comes with the package, or path of a YAML file; None or empty takes that of
            the public weights, where such are named, else ``pedestrian``.
        overrides: values laid over it; keys may be dotted, e.g. ``{"association.match_score": 0.6}``, which may also be
            called ``tracker.match_score``, as in the node.
        weights: what it is to run with. The name of public weights brings the settings that they were made with: they
            are laid over the preset, and ``overrides`` over them. A file brings none.

    Raises:
        ConfigurationError: there is no such preset, a value in it is wrong, or the public weights are for another one.
    """
    overrides = _own_names(overrides or {})
    entry = public_weights(weights)
    name = name_or_path or (entry.preset if entry else "") or DEFAULT_PRESET
    path = Path(name)
    if path.suffix not in _SUFFIXES:
        if name not in preset_names():
            known = ", ".join(preset_names())
            raise ConfigurationError(f"there is no preset {name!r}; use one of {known}, or the path of a YAML file")
        path = share_path(f"config/presets/{name}.yaml")
    values = load_yaml(path)
    if not weights:  # the preset itself may name some
        entry = public_weights(str(merge(values, overrides).get("weights") or ""))
    if entry is not None:
        _check_fit(entry, name)
        values = {**merge(values, entry.overrides()), "weights": entry.name}
    return build(Preset, {"name": path.stem, **merge(values, overrides)}, f"preset {path.stem}")


def _own_names(overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Overrides with the node's names of thresholds, ``tracker.*``, turned into the preset's; the last of two wins."""
    own: dict[str, Any] = {}
    for name, value in overrides.items():
        key = f"association.{name.removeprefix(_NODE_PREFIX)}" if name.startswith(_NODE_PREFIX) else name
        own.pop(key, None)  # the order is that in which values are laid over each other
        own[key] = value
    return own


def _check_fit(entry: WeightsEntry, preset: str) -> None:
    """Refuse public weights for another preset; whether they fit a user's own is seen when they are loaded."""
    if not entry.preset:
        raise ConfigurationError(
            f"the weights {entry.name} track nothing by themselves: they are for a training to start from; "
            "`qdtrack weights list` shows those of a whole tracker"
        )
    if preset != entry.preset and Path(preset).suffix not in _SUFFIXES:
        raise ConfigurationError(
            f"the weights {entry.name} are for preset {entry.preset}, not for {preset}; use preset {entry.preset} "
            "with them"
        )
