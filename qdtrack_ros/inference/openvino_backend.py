"""The static form in OpenVINO, on the CPU."""

from __future__ import annotations

import functools
import io
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from qdtrack_ros.inference.onnx_file import onnx_bytes, require_onnx
from qdtrack_ros.inference.static_engine import Backend
from qdtrack_ros.inference.torch_backend import PRECISIONS
from qdtrack_ros.inference.types import EngineError
from qdtrack_ros.models.static import StaticQDTrack


def openvino_backend(precision: str = "fp32") -> Backend:
    """Run graphs on the threads that PyTorch would take.

    Args:
        precision: ``fp32``, or ``bf16`` for weights and feature maps.

    Raises:
        EngineError: OpenVINO or onnx is not installed, or the processor cannot compute in bfloat16.
    """
    core = _core()
    require_onnx()
    if precision not in openvino_precisions():
        raise EngineError(f"engine openvino has no {precision} on this processor; use precision fp32")
    settings = {
        # What the graph says is bfloat16 stays so. Asked for bf16 here, OpenVINO would round coordinates to it, too.
        "INFERENCE_PRECISION_HINT": "f32",
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "ENABLE_CPU_PINNING": False,  # several processes would all be pinned to the same cores
    }

    def build(form: StaticQDTrack, batch: int) -> OpenVinoGraph:
        model = core.read_model(io.BytesIO(onnx_bytes(form, batch)))
        return OpenVinoGraph(core.compile_model(model, "CPU", settings).create_infer_request())

    return Backend(f"openvino cpu {precision}", build, dtype=PRECISIONS[precision], trim=True)


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
    """A compiled graph.

    Args:
        request: of the compiled model.
    """

    def __init__(self, request: openvino.InferRequest) -> None:  # type: ignore[name-defined] # noqa: F821
        self._request = request

    def run(self, images: npt.NDArray[np.uint8], sizes: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """See :class:`Graph`."""
        packed: npt.NDArray[np.float32] = self._request.infer([images, sizes], share_inputs=True)[0]
        return packed
