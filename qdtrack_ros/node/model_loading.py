"""From the node's parameters to an engine that is ready for its first frame."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias

from qdtrack_ros.inference.types import Engine
from qdtrack_ros.tracking import TrackerConfig

if TYPE_CHECKING:  # without ROS, main.py tells how to get it
    from rclpy.task import Future


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

LoadAside: TypeAlias = "Callable[[Callable[[], LoadedModel]], Future[LoadedModel]]"
"""Has a call made by another thread, and wakes the executor when it is done."""


class ModelAhead:
    """A model that is loaded before the transition that takes it, so that the node answers what it is asked meanwhile.

    For the executor's thread alone.

    Args:
        load: loads a model.
        aside: has it loaded by another thread than the executor's; None: it is loaded when it is taken.
    """

    def __init__(self, load: ModelLoader, aside: LoadAside | None) -> None:
        self._load = load
        self._aside = aside
        self._loading: Future[LoadedModel] | None = None
        self._loaded: Future[LoadedModel] | None = None

    @property
    def is_loading(self) -> bool:
        """Whether a model is on its way, until :meth:`load` has returned."""
        return self._loading is not None

    async def load(self, values: Callable[[], Mapping[str, Any]]) -> None:
        """Have a model loaded for the next :meth:`take`, which raises whatever goes wrong here."""
        if self._aside is None:
            return
        try:
            call = partial(self._load, values())
        except Exception:  # comes again when the model is taken
            return
        self._loading = self._aside(call)
        await self.ended()
        self._loaded, self._loading = self._loading, None

    async def ended(self) -> None:
        """Wait until no model is being loaded."""
        if self._loading is not None:
            with contextlib.suppress(Exception):
                await self._loading

    def take(self, values: Callable[[], Mapping[str, Any]]) -> LoadedModel:
        """The model that was loaded ahead, or else one that is loaded now.

        Raises:
            Exception: whatever loading it raised.
        """
        loaded, self._loaded = self._loaded, None
        model = loaded.result() if loaded is not None else None
        return self._load(values()) if model is None else model

    def discard(self) -> None:
        """Close the engine of a model that nobody will take."""
        loaded, self._loaded = self._loaded, None
        model = loaded.result() if loaded is not None and loaded.exception() is None else None
        if model is not None:
            model.engine.close()


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
