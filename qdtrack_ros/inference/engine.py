"""Engines: what runs the network. ``create_engine`` picks one by name and says which it picked."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from qdtrack_ros.catalogue import WeightsEntry, cached, load_catalogue, public_weights
from qdtrack_ros.configuration import ConfigurationError
from qdtrack_ros.files import file_sha256
from qdtrack_ros.inference.presets import Preset
from qdtrack_ros.inference.reference_engine import ReferenceEngine
from qdtrack_ros.inference.static_engine import Backend, StaticEngine, fault_on_trial
from qdtrack_ros.inference.types import Detections, Engine, EngineError, EngineOutput
from qdtrack_ros.models.checkpoint import CheckpointError, load_weights
from qdtrack_ros.models.qdtrack import QDTrack
from qdtrack_ros.resources import share_path

__all__ = ["EngineError", "NoopEngine", "choose_device", "create_engine", "load_network", "opened", "resolve_weights"]

ENGINES = ("auto", "torch", "openvino", "onnxruntime", "tensorrt", "noop")
FORMS = ("auto", "reference", "static")
DEVICES = ("auto", "cpu", "cuda")
PRECISIONS = ("auto", "fp32", "fp16", "bf16")
_OFFERED = {"openvino": ("fp32", "bf16"), "onnxruntime": ("fp32",)}  # the others take all

log = logging.getLogger(__name__)


class NoopEngine:
    """Finds nothing, at once: what is left of a frame's time is the node's own.

    Args:
        embedding_dim: D.
        takes_s: how long a batch takes all the same.
    """

    name = "noop"
    model_id = "noop"
    at_once: int | None = None
    streams = 1

    def __init__(self, embedding_dim: int, takes_s: float = 0.0) -> None:
        self.embedding_dim = embedding_dim
        self._takes_s = takes_s

    def detect(self, images: Sequence[npt.NDArray[np.uint8]]) -> EngineOutput:
        """No detections for every image."""
        if self._takes_s:
            time.sleep(self._takes_s)
        return EngineOutput([Detections.empty(self.embedding_dim) for _ in images], 0.0, 1e3 * self._takes_s, 0.0)

    def warmup(self, pictures: int = 1, threads: int = 1) -> None:
        """Nothing to warm up."""

    def close(self) -> None:
        """Nothing to free."""


def choose_device(device: str) -> torch.device:
    """Resolve ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        EngineError: CUDA was asked for and is not there, or the name is unknown. There is no silent fallback.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise EngineError(f"device {device!r} is unknown; use one of {', '.join(DEVICES)} or cuda:N") from error
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise EngineError(
            f"device {device!r} was asked for, but PyTorch sees no CUDA device; check `qdtrack doctor`, or use cpu"
        )
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        raise EngineError(f"device {device!r} was asked for, but there are {torch.cuda.device_count()} CUDA device(s)")
    if chosen.type not in ("cpu", "cuda"):
        raise EngineError(f"device {device!r} is not supported; use one of {', '.join(DEVICES)} or cuda:N")
    return chosen


def resolve_weights(preset: Preset, weights: str | Path | None) -> Path:
    """The file given, the downloaded file of that name, or the preset's own. Nothing is ever downloaded here.

    Raises:
        CheckpointError: there is none, or the downloaded file is not the published one.
        ConfigurationError: the preset was loaded without the settings that public weights want.
    """
    entry = public_weights(weights or preset.weights)
    if entry is not None:
        if entry.settings and preset.weights != entry.name:
            raise ConfigurationError(
                f"the weights {entry.name} want settings ({', '.join(entry.settings)}) that preset {preset.name} was "
                f"loaded without; load it with load_preset({preset.name!r}, weights={entry.name!r})"
            )
        return fetched_weights(entry)
    if weights:
        path = Path(weights).expanduser()
        if not path.suffix and path.name == str(weights) and not path.exists():
            raise CheckpointError(f"the weights {weights} are neither a file nor a name of `qdtrack weights list`")
        return path
    if not preset.weights:
        public = [entry.name for entry in load_catalogue() if entry.preset == preset.name]
        others = f", or `qdtrack weights get` one of {', '.join(public)}" if public else ""
        raise CheckpointError(f"preset {preset.name} comes without weights; give a file with `weights`{others}")
    try:
        return share_path(preset.weights)
    except FileNotFoundError as error:
        raise CheckpointError(f"{error}; give a file with `weights`") from error


def fetched_weights(entry: WeightsEntry) -> Path:
    """The downloaded file of public weights, compared with the published hash where there is one.

    Raises:
        CheckpointError: it is not there, or is not the published one.
    """
    path, get = cached(entry), f"`qdtrack weights get {entry.name}`"
    if path is None:
        raise CheckpointError(f"the weights {entry.name} are not on this machine; get them with {get}")
    if entry.sha256 and not (digest := file_sha256(path)).startswith(entry.sha256):
        raise CheckpointError(
            f"weights file {path} is not the published {entry.name}: its sha256 is {digest}, expected {entry.sha256}"
            f"{'...' if len(entry.sha256) < len(digest) else ''}; remove it, then run {get}"
        )
    return path


def create_engine(
    preset: Preset,
    weights: str | Path | None = None,
    device: str = "auto",
    engine: str = "auto",
    form: str = "auto",
    precision: str = "auto",
    input_size: tuple[int, int] | None = None,
) -> Engine:
    """Build an engine, ready for :meth:`Engine.warmup`. Its name, which is logged, says what it is.

    Args:
        preset: what to run.
        weights: file of the weights, or the name of one that `qdtrack weights get` fetched; None or empty takes the
            preset's own.
        device: ``auto`` (CUDA if there is one), ``cpu``, ``cuda`` or ``cuda:N``.
        engine: ``torch``; ``openvino``, ``onnxruntime`` or ``tensorrt``, which run the static form; ``noop``, which
            finds nothing and measures everything around the network; or ``auto``: on the CPU ``openvino`` where it
            and onnx are installed, else ``torch``; on CUDA ``torch``.
        form: ``reference``: eager, any picture size. ``static``: fixed shapes, a graph for each size of input.
            ``auto``: the static one; the reference form for ``torch`` in fp32 without an `input_size` on the CPU, where
            it is quicker, and on CUDA where a trial finds that the static one does not work, with a warning.
        precision: of weights and feature maps: ``fp32``, which ``auto`` is; ``fp16`` or ``bf16`` for ``torch``'s static
            form and ``tensorrt``; ``bf16`` for ``openvino`` where the processor has it.
        input_size: (width, height) that all pictures are fitted into, static form only; None takes each picture's own.

    Raises:
        EngineError: the engine, the form, the precision or the device cannot be had. There is no silent fallback.
        CheckpointError: the weights cannot be used.
    """
    for what, value, known in (
        ("form", form, FORMS),
        ("engine", engine, ENGINES),
        ("precision", precision, PRECISIONS),
    ):
        if value not in known:
            raise EngineError(f"{what} {value!r} is unknown; use one of {', '.join(known)}")
    if engine == "noop":
        return NoopEngine(preset.model.embedding_dim)
    chosen = choose_device(device)
    if engine == "auto":
        engine = _best_engine(chosen, form)
    precision = "fp32" if precision == "auto" else precision
    on_trial = form == "auto" and engine == "torch" and precision == "fp32" and input_size is None
    if form == "auto":
        form = "reference" if on_trial and chosen.type == "cpu" else "static"
    _check(engine, form, chosen, precision, input_size)
    network, model_id = load_network(preset, weights)
    backend = backend_of(engine, chosen, precision, model_id) if form == "static" else None
    if backend is not None and on_trial and (fault := fault_on_trial(network, preset.preprocess, backend)):
        log.warning("%s static does not work here, the reference form is taken: %s", backend.name, fault)
        backend = None
    built: Engine = (
        ReferenceEngine(network, model_id, preset.preprocess, chosen)
        if backend is None
        else StaticEngine(network, model_id, preset.preprocess, backend, input_size)
    )
    log.info("engine: %s", built.name)
    return built


def load_network(preset: Preset, weights: str | Path | None) -> tuple[QDTrack, str]:
    """A preset's network with its weights, on the CPU, and their hash; see :func:`resolve_weights`.

    Raises:
        CheckpointError: the weights cannot be used.
    """
    network = QDTrack(preset.model)
    model_id = load_weights(network, resolve_weights(preset, weights), preset.labels)
    return network.eval(), model_id


def cpu_graph_engines() -> tuple[str, ...]:
    """The engines that run the static form's ONNX graph on a CPU, of those that are installed, the quickest first."""
    if importlib.util.find_spec("onnx") is None:
        return ()
    return tuple(name for name in ("openvino", "onnxruntime") if importlib.util.find_spec(name) is not None)


def cpu_graph_backends() -> list[tuple[str, str]]:
    """These engines with every precision that this processor has."""
    from qdtrack_ros.inference.openvino_backend import openvino_precisions

    names = cpu_graph_engines()
    return [(name, one) for name in names for one in (openvino_precisions() if name == "openvino" else ("fp32",))]


def _best_engine(device: torch.device, form: str) -> str:
    """The quickest one that is installed, by docs/deployment.md."""
    if device.type == "cpu" and form != "reference" and "openvino" in cpu_graph_engines():
        return "openvino"
    return "torch"


def _check(engine: str, form: str, device: torch.device, precision: str, input_size: tuple[int, int] | None) -> None:
    """Refuse what does not go together, before anything is loaded."""
    if form == "reference" and (engine != "torch" or precision != "fp32"):
        raise EngineError(f"form reference runs in torch fp32 only, not in {engine} {precision}; use form static")
    if form == "reference" and input_size is not None:
        raise EngineError("form reference takes every picture in its own size; leave input_size out, or use static")
    offered = _OFFERED.get(engine, PRECISIONS)
    if precision not in offered:
        raise EngineError(
            f"engine {engine} runs in {' or '.join(offered)}, not in {precision}; engine torch has fp16 and bf16"
        )
    if engine == "openvino" and device.type != "cpu":
        raise EngineError(f"engine openvino runs on the CPU, not on {device}; use device cpu, or engine torch")


def backend_of(engine: str, device: torch.device, precision: str, model_id: str) -> Backend:
    """What runs the static form. Each library is imported where it is asked for."""
    if engine == "tensorrt":
        from qdtrack_ros.inference.tensorrt_backend import tensorrt_backend

        return tensorrt_backend(device, precision, model_id)
    if engine == "onnxruntime":
        from qdtrack_ros.inference.onnxruntime_backend import onnxruntime_backend

        return onnxruntime_backend(device)
    if engine == "openvino":
        from qdtrack_ros.inference.openvino_backend import openvino_backend

        return openvino_backend(precision)
    from qdtrack_ros.inference.torch_backend import torch_backend

    return torch_backend(device, precision)


@contextlib.contextmanager
def opened(engine: Engine) -> Iterator[Engine]:
    """Close an engine at the end of a ``with`` block."""
    try:
        yield engine
    finally:
        engine.close()
