"""From the node's parameters to an engine that is ready for its first frame."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

from qdtrack_ros.inference.types import Engine
from qdtrack_ros.tracking import TrackerConfig


class NodePreset(Protocol):
    """What the node reads of a preset; see qdtrack_ros.inference.presets.Preset."""

    @property
    def name(self) -> str:
        """The preset's name."""
        ...

    @property
    def labels(self) -> tuple[str, ...]:
        """Name of every class."""
        ...

    @property
    def association(self) -> TrackerConfig:
        """The tracker's thresholds."""
        ...


class PresetLoader(Protocol):
    """Finds a preset by name or path."""

    def __call__(self, name_or_path: str, weights: str | None) -> NodePreset:
        """With the settings of public weights, where such are named.

        Raises ValueError or OSError, with what to do, when there is none or the weights are for another one.
        """
        ...


class EngineFactory(Protocol):
    """Builds an engine, as qdtrack_ros.inference.engine.create_engine does."""

    def __call__(self, preset: Any, weights: str | None, device: str, engine: str, precision: str) -> Engine:
        """Raises with what to do when the engine, the device or the weights cannot be had."""
        ...


class LoadingInterruptedError(RuntimeError):
    """The user ended the node while it loaded its model."""


class LoadedModel(NamedTuple):
    """An engine, warmed up, and the preset it was built from."""

    engine: Engine
    preset: NodePreset


ModelLoader = Callable[[Mapping[str, Any]], LoadedModel]
"""Loads what the node's parameters ask for; raises with what to do when it cannot be had."""


def default_preset_loader(name_or_path: str, weights: str | None) -> NodePreset:
    """Presets of the package, or YAML files."""
    # Imported when needed: it loads PyTorch, which takes seconds, and a node must be on the graph before that.
    from qdtrack_ros.inference.presets import load_preset

    return load_preset(name_or_path, weights=weights)


def default_engine_factory(preset: Any, weights: str | None, device: str, engine: str, precision: str) -> Engine:
    """The package's engines."""
    from qdtrack_ros.inference.engine import create_engine

    return create_engine(preset, weights=weights, device=device, engine=engine, precision=precision)


def load_model(values: Mapping[str, Any], preset_loader: PresetLoader, engine_factory: EngineFactory) -> LoadedModel:
    """Build the engine that the parameters preset, weights, device, engine and precision ask for, and run it once.

    It is made ready for pictures of all cameras, in one call or in one of a thread for each.

    Raises:
        Exception: whatever the factories raise; the engine is closed again when its first run fails.
    """
    weights = values["weights"] or None
    preset = preset_loader(values["preset"], weights)
    engine = engine_factory(preset, weights, values["device"], values["engine"], values["precision"])
    try:
        cameras = len(values["cameras"])
        engine.warmup(cameras, threads=cameras)
    except Exception:
        engine.close()
        raise
    return LoadedModel(engine, preset)
