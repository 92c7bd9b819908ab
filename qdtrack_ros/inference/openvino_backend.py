"""The static form in OpenVINO, on the CPU."""

from __future__ import annotations

import functools
import io
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from qdtrack_ros.inference.onnx_file import onnx_bytes, require_onnx
from qdtrack_ros.inference.static_engine import Backend, Graph, GraphPool
from qdtrack_ros.inference.torch_backend import PRECISIONS
from qdtrack_ros.inference.types import EngineError
from qdtrack_ros.models.static import StaticQDTrack

MAX_STREAMS = 4  # few vehicles have more cameras, and each stream has buffers of its own


def openvino_backend(precision: str = "fp32") -> Backend:
    """Run graphs on the threads that PyTorch would take: all of them for a picture alone, else shared among several.

    Several at a time are quicker than one after the other: threads of different pictures do not wait for each other,
    and while one picture is decoded or its tracks are published, the other one has the processor.

    Args:
        precision: ``fp32``, or ``bf16`` for weights and feature maps.

    Raises:
        EngineError: OpenVINO or onnx is not installed, or the processor cannot compute in bfloat16.
    """
    _core()
    require_onnx()
    if precision not in openvino_precisions():
        raise EngineError(f"engine openvino has no {precision} on this processor; use precision fp32")

    def build(form: StaticQDTrack, batches: Sequence[int], streams: int) -> list[OpenVinoGraph]:
        ways = compiled(onnx_bytes(form, 1), sorted({1, streams}))
        alone = GraphPool([OpenVinoRequest(ways[0])])
        beside = GraphPool([OpenVinoRequest(ways[-1]) for _ in range(streams)])
        return [OpenVinoGraph(alone, beside)] * len(batches)  # of one picture, as at_once says

    streams = min(torch.get_num_threads(), MAX_STREAMS)
    return Backend(f"openvino cpu {precision}", build, streams=streams, dtype=PRECISIONS[precision], trim=True)


def compiled(graph: bytes, streams: Sequence[int] = (1,)) -> list[Any]:
    """OpenVINO's models of an ONNX file's bytes, one for each number of threads that call at the same time.

    Raises:
        EngineError: OpenVINO is not installed.
    """
    core = _core()
    settings = {
        # What the graph says is bfloat16 stays so. Asked for bf16 here, OpenVINO would round coordinates to it, too.
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "ENABLE_CPU_PINNING": False,  # several processes would all be pinned to the same cores
    }
    model = core.read_model(io.BytesIO(graph))
    return [core.compile_model(model, "CPU", settings | {"NUM_STREAMS": count}) for count in streams]


def openvino_precisions() -> tuple[str, ...]:
    """Those that this processor computes in.

    Raises:
        EngineError: OpenVINO is not installed.
    """
    return ("fp32", "bf16") if "BF16" in _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES") else ("fp32",)


def _core() -> Any:
    try:
        import openvino
    except ImportError as error:
        raise EngineError("engine openvino needs a package that is not installed: pip install openvino") from error
    return _only_one(openvino.Core)


@functools.cache
def _only_one(make: Callable[[], Any]) -> Any:
    """OpenVINO's core, one for the process and for ever.

    A core gives the thread that made it a stack for signal handlers, and takes it away with itself. Of two cores the
    second puts the first one's back when it goes, which may be gone by then: the next signal is a segmentation fault.
    """
    return make()


class OpenVinoRequest:
    """A graph of one picture, for one thread at a time.

    Args:
        model: an ``openvino.CompiledModel``.
    """

    def __init__(self, model: Any) -> None:
        self._request = model.create_infer_request()

    def run(self, images: npt.NDArray[np.uint8], sizes: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """See :class:`Graph`."""
        self._request.infer([images, sizes], share_inputs=True)
        packed: npt.NDArray[np.float32] = self._request.get_output_tensor().data
        return packed


class OpenVinoGraph:
    """Chooses for each call between two ways to run the same, for several threads.

    Args:
        alone: has all threads of the processor, for a call that no other runs beside.
        beside: shares them out among several calls.
    """

    def __init__(self, alone: Graph, beside: Graph) -> None:
        self._alone, self._beside = alone, beside
        self._lock = threading.Lock()
        self._running = 0

    def run(self, images: npt.NDArray[np.uint8], sizes: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """See :class:`Graph`."""
        with self._lock:
            graph = self._beside if self._running else self._alone
            self._running += 1
        try:
            return graph.run(images, sizes)
        finally:
            with self._lock:
                self._running -= 1
