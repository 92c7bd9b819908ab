"""The static form in OpenVINO, on the CPU."""

from __future__ import annotations

import contextlib
import functools
import io
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

MAX_STREAMS = 4  # no vehicle's batch is much larger, and a batch that is smaller runs one by one


def openvino_backend(precision: str = "fp32") -> Backend:
    """Run graphs on the threads that PyTorch would take: all of them for a picture, or shared out among several.

    Several at a time take less than one after the other: threads of different pictures do not wait for each other.

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

    def build(form: StaticQDTrack, batch: int) -> OpenVinoGraph:
        model = core.read_model(io.BytesIO(onnx_bytes(form, 1)))
        return OpenVinoGraph(core.compile_model(model, "CPU", settings | {"NUM_STREAMS": batch}), batch)

    at_once = min(threads, MAX_STREAMS)
    return Backend(f"openvino cpu {precision}", build, at_once=at_once, dtype=PRECISIONS[precision], trim=True)


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
    """A compiled graph of one picture, run for several at a time.

    Args:
        model: compiled for as many streams as pictures.
        batch: pictures at a time.
    """

    def __init__(self, model: openvino.CompiledModel, batch: int) -> None:  # type: ignore[name-defined] # noqa: F821
        self._requests = [model.create_infer_request() for _ in range(batch)]

    def run(self, images: npt.NDArray[np.uint8], sizes: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """See :class:`Graph`."""
        with contextlib.ExitStack() as running:  # none is left running when one fails
            for request, image, size in zip(self._requests, images[:, None], sizes[:, None], strict=True):
                request.start_async([image, size], share_inputs=True)
                running.callback(request.wait)
        return _stacked([request.get_output_tensor().data for request in self._requests])


def _stacked(pictures: Sequence[npt.NDArray[np.float32]]) -> npt.NDArray[np.float32]:
    """One array of the pictures' packed tensors [1, 1 + slots, C], which have trimmed their slots each for itself."""
    if len(pictures) == 1:
        return pictures[0]
    rows = max(picture.shape[1] for picture in pictures)
    stacked = np.zeros((len(pictures), rows, pictures[0].shape[2]), np.float32)  # a slot of zeros is not in use
    for place, picture in zip(stacked, pictures, strict=True):
        place[: picture.shape[1]] = picture[0]
    return stacked
