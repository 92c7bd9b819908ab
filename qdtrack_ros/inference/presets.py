"""Presets: everything that makes a tracker, in one YAML file each (``config/presets``)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qdtrack_ros.configuration import ConfigurationError, build, load_yaml, merge
from qdtrack_ros.inference.preprocess import PreprocessConfig
from qdtrack_ros.models.config import ModelConfig
from qdtrack_ros.resources import share_path
from qdtrack_ros.tracking import AssociationConfig, TrackerConfig


@dataclass(frozen=True)
class Preset:
    """A network with its input, its labels and its association.

    Attributes:
        name: the preset's name.
        labels: name of every class, in the order of the classifier.
        weights: file of the weights, below the installation's share folder; empty where weights must be given.
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


def load_preset(name_or_path: str, overrides: Mapping[str, Any] | None = None) -> Preset:
    """Read a preset.

    Args:
        name_or_path: name of a preset that comes with the package, or path of a YAML file.
        overrides: values laid over it; keys may be dotted, e.g. ``{"association.match_score": 0.6}``.

    Raises:
        ConfigurationError: there is no such preset, or a value in it is wrong.
    """
    path = Path(name_or_path)
    if path.suffix not in (".yaml", ".yml"):
        if name_or_path not in preset_names():
            known = ", ".join(preset_names())
            raise ConfigurationError(
                f"there is no preset {name_or_path!r}; use one of {known}, or the path of a YAML file"
            )
        path = share_path(f"config/presets/{name_or_path}.yaml")
    values = merge(load_yaml(path), overrides or {})
    return build(Preset, {"name": path.stem, **values}, f"preset {path.stem}")
