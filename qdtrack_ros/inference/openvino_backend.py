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
from qdtrack_ros.inference.static_engine import Backend
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
    core = _core()
    require_onnx()
    if precision not in openvino_precisions():
        raise EngineError(f"engine openvino has no {precision} on this processor; use precision fp32")
    threads = torch.get_num_threads()
    settings = {
        # What the graph says is bfloat16 stays so. Asked for bf16 here, OpenVINO would round coordinates to it, too.
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": threads,
        "ENABLE_CPU_PINNING": False,  # several processes would all be pinned to the same cores
    }

    def build(form: StaticQDTrack, batches: Sequence[int], streams: int) -> list[OpenVinoGraph]:
        model = core.read_model(io.BytesIO(onnx_bytes(form, 1)))
        ways = [core.compile_model(model, "CPU", settings | {"NUM_STREAMS": count}) for count in sorted({1, streams})]
        return [OpenVinoGraph(ways[0], ways[-1])] * len(batches)  # of one picture, as at_once says

    streams = min(threads, MAX_STREAMS)
    return Backend(f"openvino cpu {precision}", build, streams=streams, dtype=PRECISIONS[precision], trim=True)


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


class OpenVinoGraph:
    """A graph of one picture. May be run by several threads at the same time.

    Args:
        alone: compiled for one call at a time, which has all threads.
        beside: compiled for several calls at a time, among which the threads are shared out.
    """

    def __init__(self, alone: CompiledModel, beside: CompiledModel) -> None:  # type: ignore[name-defined] # noqa: F821
        self._ways = (alone, beside)
        self._idle: tuple[list[Any], list[Any]] = ([], [])  # requests for inference, by way
        self._lock = threading.Lock()
        self._running = 0

    def run(self, images: npt.NDArray[np.uint8], sizes: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """See :class:`Graph`."""
        with self._lock:
            way = int(self._running > 0)
            self._running += 1
        try:
            idle = self._idle[way]
            try:
                request = idle.pop()
            except IndexError:
                request = self._ways[way].create_infer_request()
            request.infer([images, sizes], share_inputs=True)
            packed: npt.NDArray[np.float32] = request.get_output_tensor().data.copy()
            idle.append(request)
            return packed
        finally:
            with self._lock:
                self._running -= 1
