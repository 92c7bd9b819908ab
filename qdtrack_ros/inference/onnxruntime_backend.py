"""The static form in ONNX Runtime."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from qdtrack_ros.inference.onnx_file import INPUTS, onnx_bytes, require_onnx
from qdtrack_ros.inference.reference_engine import cpu_streams
from qdtrack_ros.inference.static_engine import Backend
from qdtrack_ros.inference.types import EngineError
from qdtrack_ros.models.static import StaticQDTrack

_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


def onnxruntime_backend(device: torch.device) -> Backend:
    """Run graphs on the CPU, with the threads that PyTorch would take, or on a GPU.

    Raises:
        EngineError: ONNX Runtime or onnx is not installed, or not for this device.
    """
    _provider(device)
    require_onnx()

    def build(form: StaticQDTrack, batches: Sequence[int], streams: int) -> list[OnnxRuntimeGraph]:
        return [OnnxRuntimeGraph(open_session(onnx_bytes(form, batch), device)) for batch in batches]

    # For every number of slots, cuDNN would look for the quickest convolutions anew: it gets the whole of them always.
    on_cpu = device.type == "cpu"
    at_once, most_streams = (1, cpu_streams()) if on_cpu else (None, 1)
    return Backend(f"onnxruntime {device} fp32", build, device, at_once, most_streams, trim=on_cpu)


class OnnxRuntimeGraph:
    """A session.

    Args:
        session: see :func:`open_session`.
    """

    def __init__(self, session: Any) -> None:
        self._session = session

    def run(self, images: npt.NDArray[np.uint8], sizes: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """See :class:`Graph`."""
        packed: npt.NDArray[np.float32] = self._session.run(None, dict(zip(INPUTS, (images, sizes), strict=True)))[0]
        return packed


def open_session(graph: bytes, device: torch.device) -> Any:
    """An ``onnxruntime.InferenceSession`` of an ONNX file's bytes.

    Raises:
        EngineError: ONNX Runtime is not installed, or cannot use the device.
    """
    provider = _provider(device)
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    # Threads that wait in a loop take the cores from whatever else runs: the node, a player, another session.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # TensorFloat-32 is on by itself; see full_precision.
    choice = (provider, {"device_id": device.index or 0, "use_tf32": 0}) if device.type == "cuda" else provider
    session = onnxruntime.InferenceSession(graph, options, providers=[choice])
    if provider not in session.get_providers():
        raise EngineError(
            f"ONNX Runtime could not use {provider}: its log above says why. Install the CUDA and cuDNN that this "
            "onnxruntime-gpu wants, or choose device cpu"
        )
    return session


def _provider(device: torch.device) -> str:
    """The execution provider of a device, once it is known to be there."""
    try:
        import onnxruntime
    except ImportError as error:
        package = "onnxruntime-gpu" if device.type == "cuda" else "onnxruntime"
        raise EngineError(f"engine onnxruntime needs a package that is not installed: pip install {package}") from error
    provider = _PROVIDERS[device.type]
    if provider not in onnxruntime.get_available_providers():
        raise EngineError(
            f"this ONNX Runtime has no {provider} (it has {', '.join(onnxruntime.get_available_providers())}): "
            "pip install onnxruntime-gpu in place of onnxruntime"
        )
    return provider
