"""The reference form of the network, run eagerly by PyTorch."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from qdtrack_ros.inference.preprocess import PreprocessConfig, preprocess
from qdtrack_ros.inference.types import Detections, EngineError, EngineOutput
from qdtrack_ros.models.qdtrack import QDTrack, RawDetections


def cpu_streams() -> int:
    """Calls at the same time on a CPU: what one does on a single core leaves the others to a second one."""
    return min(2, torch.get_num_threads())


class ReferenceEngine:
    """The reference form: any picture size, exact operators.

    Args:
        network: with its weights.
        model_id: hash of the weights.
        config: input.
        device: device to run on.
    """

    def __init__(self, network: QDTrack, model_id: str, config: PreprocessConfig, device: torch.device) -> None:
        self._model: QDTrack | None = network.eval().requires_grad_(False)
        self._model.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._config = config
        self._device = device
        self.model_id = model_id
        self.embedding_dim = network.config.embedding_dim
        self.at_once: int | None = None if device.type == "cuda" else 1
        self.streams = 1 if device.type == "cuda" else cpu_streams()
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
        with full_precision(self._device):
            raw = self._model(tensor, batch.image_sizes, batch.scale_factors)
        if self._device.type == "cuda":
            # For the whole device one may not wait while another thread captures a graph.
            torch.cuda.current_stream(self._device).synchronize()
        inferred = time.perf_counter()
        detections = [_to_host(one) for one in raw]
        done = time.perf_counter()
        return EngineOutput(detections, 1e3 * (prepared - start), 1e3 * (inferred - prepared), 1e3 * (done - inferred))

    def warmup(self, pictures: int = 1, threads: int = 1) -> None:
        """Run on blank pictures; the first calls choose kernels and allocate memory."""
        for _ in range(2):
            self.detect([np.zeros((480, 640, 3), np.uint8)] * min(pictures, self.at_once or pictures))
        self.streams = min(self.streams, threads)

    def close(self) -> None:
        """Drop the model and free the device's cache."""
        self._model = None
        if self._device.type == "cuda":
            torch.cuda.empty_cache()


class _WithoutTensorFloat:
    """PyTorch's switch is the process's, not the thread's: it goes back when the last thread in here leaves."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._before = True

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._before = torch.backends.cudnn.allow_tf32
                torch.backends.cudnn.allow_tf32 = False
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                torch.backends.cudnn.allow_tf32 = self._before


_WITHOUT_TENSOR_FLOAT = _WithoutTensorFloat()


def full_precision(device: torch.device) -> contextlib.AbstractContextManager[None]:
    """No TensorFloat-32 in convolutions, which PyTorch allows by itself: ten bits of mantissa move boxes and scores."""
    return _WITHOUT_TENSOR_FLOAT if device.type == "cuda" else contextlib.nullcontext()


def _to_host(raw: RawDetections) -> Detections:
    order = raw.scores.argsort(descending=True, stable=True)
    boxes, scores, labels, embeddings = (tensor[order].cpu().numpy() for tensor in raw)
    return Detections(boxes, scores, labels, embeddings)
