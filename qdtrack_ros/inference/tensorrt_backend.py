"""The static form in TensorRT: engines built from the ONNX graph, here or for another GPU, and run.

`tensorrt` (10 and later) and TensorRT for RTX have one interface. The second one's builder needs no GPU, and builds for
the compute capability that it is told.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import logging
from collections.abc import Sequence
from functools import partial
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from qdtrack_ros.files import check_writable
from qdtrack_ros.inference.engine_file import EngineKey, engine_path, read_engine, write_engine
from qdtrack_ros.inference.onnx_file import INPUTS, OUTPUT, onnx_bytes, require_onnx
from qdtrack_ros.inference.static_engine import GPU_STREAMS, Backend, Graph, for_threads
from qdtrack_ros.inference.torch_backend import PRECISIONS
from qdtrack_ros.inference.types import EngineError
from qdtrack_ros.models.static import GRAPH_VERSION, StaticQDTrack

log = logging.getLogger(__name__)

POOLING = "atlas"  # TensorRT's own RoIAlign is a plugin, which wants a GPU to build and is not in TensorRT for RTX
_MODULES = ("tensorrt", "tensorrt_rtx", "tensorrt_rtx_bindings")
_TURING = "7.5"
_REMEDY = (
    "pip install tensorrt (on the GPU's machine), or pip install --only-binary=:all: --no-deps tensorrt-rtx-cu13-libs "
    "tensorrt-rtx-cu13-bindings (which builds without a GPU)"
)


def tensorrt_backend(device: torch.device, precision: str, model_id: str) -> Backend:
    """Run engines on a GPU; those that are not in the cache folder are built, which takes a while, and kept there.

    Raises:
        EngineError: TensorRT or onnx is not installed, or the device is none of CUDA's.
    """
    library = load_library()
    require_onnx()
    if device.type != "cuda":
        raise EngineError(f"engine tensorrt runs on CUDA, not on {device}; use device cuda, or another engine")
    major, minor = torch.cuda.get_device_capability(device)

    def build_one(form: StaticQDTrack, batch: int, streams: int) -> Graph:
        key = engine_key(library, form, batch, precision, model_id, f"{major}.{minor}")
        engine = cached_engine(key) or build_into_cache(library, key, form, None)
        return for_threads(partial(TensorRtGraph, library, engine, form.input_size, batch, device), streams)

    def build(form: StaticQDTrack, batches: Sequence[int], streams: int) -> list[Graph]:
        return [build_one(form, batch, streams) for batch in batches]

    name = f"{library_name(library)} {device} {precision}"
    return Backend(name, build, device, at_once=None, streams=GPU_STREAMS, pooling=POOLING, dtype=PRECISIONS[precision])


def cached_engine(key: EngineKey) -> bytes | None:
    """The engine that an earlier start built, if there is one and it is whole."""
    path = engine_path(key)
    try:
        return read_engine(path, key)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except EngineError as error:
        log.warning("%s; it is built anew", error)
        return None


def build_into_cache(library: Any, key: EngineKey, form: StaticQDTrack, compute_capability: str | None) -> bytes:
    """Build an engine, and keep it where :func:`cached_engine` looks; see :func:`build_engine`.

    Raises:
        EngineError: it cannot be built, or there is no place to keep it.
    """
    path = engine_path(key)
    try:
        check_writable(path)  # before minutes of work
    except OSError as error:
        raise EngineError(f"there is no place to keep TensorRT engines: {error} with QDTRACK_CACHE") from error
    log.warning("building the TensorRT engine %s; the next start will find it", path)
    engine = build_engine(library, onnx_bytes(form, key.batch), compute_capability)
    write_engine(path, key, engine)
    return engine


def load_library(offline: bool = False) -> ModuleType:
    """TensorRT's Python module.

    Args:
        offline: to build for a GPU that is not here, which only TensorRT for RTX can.

    Raises:
        EngineError: there is none.
    """
    for name in _MODULES[1:] if offline else _MODULES:
        try:
            return importlib.import_module(name)
        except (ImportError, OSError):
            continue
    what = "building for another GPU needs TensorRT for RTX" if offline else "engine tensorrt needs a package"
    raise EngineError(f"{what}, which is not installed: {_REMEDY}")


def library_name(library: ModuleType) -> str:
    """The product's name: both modules of TensorRT for RTX are one."""
    return "tensorrt_rtx" if library.__name__.startswith("tensorrt_rtx") else "tensorrt"


def engine_key(
    library: ModuleType, form: StaticQDTrack, batch: int, precision: str, model_id: str, compute_capability: str
) -> EngineKey:
    """What an engine of this form would be built for."""
    normalisation = [form.bgr, form.mean.tolist(), form.inverse_std.tolist()]
    constants = [form.config, form.nms_steps, form.candidates, *normalisation]
    return EngineKey(
        weights=model_id,
        graph_version=GRAPH_VERSION,
        height=form.input_size[0],
        width=form.input_size[1],
        batch=batch,
        precision=precision,
        settings=hashlib.sha256(repr(constants).encode()).hexdigest()[:16],
        library=f"{library_name(library)} {library.__version__}",
        compute_capability=compute_capability,
    )


def build_engine(library: Any, graph: bytes, compute_capability: str | None) -> bytes:
    """Build an engine from an ONNX graph, in the precisions that the graph itself has.

    Args:
        library: TensorRT's module.
        graph: bytes of an ONNX file.
        compute_capability: of the GPU it is for, e.g. ``8.6``; None is the one in this machine.

    Raises:
        EngineError: TensorRT cannot build it, or not for this GPU.
    """
    messages = _messages(library)
    messages.last_error = ""
    builder = library.Builder(messages)
    flags = getattr(library.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    network = builder.create_network(0 if flags is None else 1 << int(flags))
    parser = library.OnnxParser(network, messages)
    if not parser.parse(graph):
        faults = "; ".join(parser.get_error(i).desc().splitlines()[0] for i in range(parser.num_errors))
        raise EngineError(f"TensorRT cannot read the graph: {faults}")
    config = builder.create_builder_config()
    config.clear_flag(library.BuilderFlag.TF32)  # on by itself; see full_precision
    if compute_capability is not None:
        config.num_compute_capabilities = 1
        config.set_compute_capability(gpu_kind(library, compute_capability), 0)
    serialized = builder.build_serialized_network(network, config)
    if serialized is None:
        raise EngineError(f"TensorRT cannot build the engine: {messages.last_error or 'it does not say why'}")
    return bytes(serialized)


def check_buildable(library: Any, compute_capability: str, precision: str) -> None:
    """Find out before long work whether TensorRT builds for a GPU that is not here.

    Raises:
        EngineError: not for this one, or not in this precision.
    """
    gpu_kind(library, compute_capability)
    if compute_capability == _TURING and precision != "fp16":
        raise EngineError(
            f"{library_name(library)} builds for compute capability {_TURING} in fp16 only; use --precision fp16"
        )


def gpu_kind(library: Any, compute_capability: str) -> Any:
    """TensorRT's name for the GPUs of a compute capability, e.g. ``8.6``.

    Raises:
        EngineError: it builds for none of them.
    """
    names = getattr(getattr(library, "ComputeCapability", None), "__members__", {})
    known = {f"{name[2:-1]}.{name[-1]}": kind for name, kind in names.items() if name.startswith("SM")}
    if compute_capability not in known:
        raise EngineError(
            f"compute capability {compute_capability} cannot be built for by {library_name(library)} "
            f"{library.__version__}, which knows: {', '.join(known) or 'none'}"
        )
    return known[compute_capability]


@functools.cache
def _messages(library: Any) -> Any:
    """A logger that keeps the last error for an exception; one for the process: TensorRT holds on to the first."""

    class Messages(library.ILogger):  # type: ignore[misc]
        last_error = ""

        def __init__(self) -> None:
            library.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            if severity in (library.ILogger.ERROR, library.ILogger.INTERNAL_ERROR):
                self.last_error = message
                log.info("TensorRT: %s", message)  # told by an exception where it matters

    return Messages()


class TensorRtGraph:
    """An engine with its buffers, pinned on the host.

    Args:
        library: TensorRT's module.
        engine: serialized.
        input_size: (height, width).
        batch: pictures at once.
        device: a CUDA device.
    """

    def __init__(
        self, library: Any, engine: bytes, input_size: tuple[int, int], batch: int, device: torch.device
    ) -> None:
        self._runtime = library.Runtime(_messages(library))
        with torch.cuda.device(device):
            self._engine = self._runtime.deserialize_cuda_engine(engine)
            if self._engine is None:
                raise EngineError("TensorRT cannot load the engine on this GPU; remove it from the cache and try again")
            self._context = self._engine.create_execution_context()
        height, width = input_size
        self._host = (
            torch.zeros(batch, height, width, 3, dtype=torch.uint8).pin_memory(),
            torch.zeros(batch, 2, dtype=torch.float32).pin_memory(),
        )
        self._inputs = tuple(part.to(device) for part in self._host)
        self._packed = torch.zeros(tuple(self._engine.get_tensor_shape(OUTPUT)), dtype=torch.float32, device=device)
        self._result = torch.zeros_like(self._packed, device="cpu").pin_memory()
        self._stream = torch.cuda.Stream(device)
        self._stream.wait_stream(torch.cuda.current_stream(device))
        for name, tensor in zip((*INPUTS, OUTPUT), (*self._inputs, self._packed), strict=True):
            self._context.set_tensor_address(name, tensor.data_ptr())

    def run(self, images: npt.NDArray[np.uint8], sizes: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """See :class:`Graph`."""
        for host, values in zip(self._host, (images, sizes), strict=True):
            host.copy_(torch.from_numpy(values))
        with torch.cuda.stream(self._stream):
            for tensor, host in zip(self._inputs, self._host, strict=True):
                tensor.copy_(host, non_blocking=True)
            if not self._context.execute_async_v3(self._stream.cuda_stream):
                raise EngineError("TensorRT could not run the engine")
            self._result.copy_(self._packed, non_blocking=True)
        self._stream.synchronize()
        return self._result.numpy()
