"""Engines: what runs the network. ``create_engine`` picks one by name and says which it picked."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from qdtrack_ros.catalogue import WeightsEntry, cached, load_catalogue, public_weights
from qdtrack_ros.configuration import ConfigurationError
from qdtrack_ros.files import file_sha256
from qdtrack_ros.inference.preprocess import preprocess
from qdtrack_ros.inference.presets import Preset
from qdtrack_ros.inference.types import Detections, Engine, EngineOutput
from qdtrack_ros.models.checkpoint import CheckpointError, load_weights
from qdtrack_ros.models.qdtrack import QDTrack, RawDetections
from qdtrack_ros.resources import share_path

ENGINES = ("auto", "torch", "noop")
FORMS = ("auto", "reference")
DEVICES = ("auto", "cpu", "cuda")


class EngineError(RuntimeError):
    """An engine that cannot be built as asked; the message says what to do."""


class TorchEngine:
    """The reference form, run eagerly by PyTorch.

    Args:
        preset: network, input and labels.
        weights: file of the weights.
        device: device to run on.

    Raises:
        CheckpointError: the weights cannot be used.
    """

    def __init__(self, preset: Preset, weights: Path, device: torch.device) -> None:
        self._model: QDTrack | None = QDTrack(preset.model)
        self.model_id = load_weights(self._model, weights, preset.labels)
        self._model.eval().requires_grad_(False)
        self._model.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._config = preset.preprocess
        self._device = device
        self.embedding_dim = preset.model.embedding_dim
        self.name = f"torch {device} fp32"

    @torch.inference_mode()
    def detect(self, images: Sequence[npt.NDArray[np.uint8]]) -> EngineOutput:
        """See :class:`Engine`."""
        if self._model is None:
            raise EngineError("the engine is closed; create a new one")
        start = time.perf_counter()
        batch = preprocess(images, self._config)
        tensor = torch.from_numpy(batch.images).to(self._device)
        prepared = time.perf_counter()
        with _full_precision(self._device):
            raw = self._model(tensor, batch.image_sizes, batch.scale_factors)
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        inferred = time.perf_counter()
        detections = [_to_host(one) for one in raw]
        done = time.perf_counter()
        return EngineOutput(detections, 1e3 * (prepared - start), 1e3 * (inferred - prepared), 1e3 * (done - inferred))

    def warmup(self) -> None:
        """Run on blank pictures; the first calls choose kernels and allocate memory."""
        for _ in range(2):
            self.detect([np.zeros((480, 640, 3), np.uint8)])

    def close(self) -> None:
        """Drop the model and free the device's cache."""
        self._model = None
        if self._device.type == "cuda":
            torch.cuda.empty_cache()


@contextlib.contextmanager
def _full_precision(device: torch.device) -> Iterator[None]:
    """No TensorFloat-32 in convolutions, which PyTorch allows by itself: ten bits of mantissa move boxes and scores."""
    if device.type != "cuda":
        yield
        return
    cudnn = torch.backends.cudnn
    with cudnn.flags(
        enabled=cudnn.enabled, benchmark=cudnn.benchmark, deterministic=cudnn.deterministic, allow_tf32=False
    ):
        yield


class NoopEngine:
    """Finds nothing, at once: what is left of a frame's time is the node's own."""

    name = "noop"
    model_id = "noop"

    def __init__(self, embedding_dim: int) -> None:
        self.embedding_dim = embedding_dim

    def detect(self, images: Sequence[npt.NDArray[np.uint8]]) -> EngineOutput:
        """No detections for every image."""
        return EngineOutput([Detections.empty(self.embedding_dim) for _ in images], 0.0, 0.0, 0.0)

    def warmup(self) -> None:
        """Nothing to warm up."""

    def close(self) -> None:
        """Nothing to free."""


def _to_host(raw: RawDetections) -> Detections:
    order = raw.scores.argsort(descending=True, stable=True)
    boxes, scores, labels, embeddings = (tensor[order].cpu().numpy() for tensor in raw)
    return Detections(boxes, scores, labels, embeddings)


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
        return _fetched(entry)
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


def _fetched(entry: WeightsEntry) -> Path:
    """The downloaded file of public weights, compared with the published hash where there is one."""
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
) -> Engine:
    """Build an engine, ready for :meth:`Engine.warmup`.

    Args:
        preset: what to run.
        weights: file of the weights, or the name of one that `qdtrack weights get` fetched; None or empty takes the
            preset's own.
        device: ``auto`` (CUDA if there is one), ``cpu``, ``cuda`` or ``cuda:N``.
        engine: ``auto`` (the quickest that works, today ``torch``), ``torch``, or ``noop``, which finds nothing and
            measures everything around the network.
        form: ``auto`` or ``reference``: eager, any picture size. The ``static`` form is not in this version.

    Raises:
        EngineError: the engine, the form or the device cannot be had.
        CheckpointError: the weights cannot be used.
    """
    if form == "static":
        raise EngineError("form 'static' is not available in this version; use auto or reference")
    if form not in FORMS:
        raise EngineError(f"form {form!r} is unknown; use one of {', '.join(FORMS)}")
    if engine not in ENGINES:
        raise EngineError(f"engine {engine!r} is unknown; use one of {', '.join(ENGINES)}")
    if engine == "noop":
        return NoopEngine(preset.model.embedding_dim)
    return TorchEngine(preset, resolve_weights(preset, weights), choose_device(device))


@contextlib.contextmanager
def opened(engine: Engine) -> Iterator[Engine]:
    """Close an engine at the end of a ``with`` block."""
    try:
        yield engine
    finally:
        engine.close()
