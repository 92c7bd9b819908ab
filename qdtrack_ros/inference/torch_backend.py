"""The static form in PyTorch: eager, compiled, or as a CUDA graph."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from qdtrack_ros.inference.reference_engine import cpu_streams, full_precision
from qdtrack_ros.inference.static_engine import GPU_STREAMS, Backend, Graph, for_threads
from qdtrack_ros.models.static import StaticQDTrack

PRECISIONS = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def torch_backend(device: torch.device, precision: str = "fp32", compiled: bool = False) -> Backend:
    """Run graphs on a device: eagerly on the CPU, as CUDA graphs on a GPU, and compiled first where asked for."""

    def build(form: StaticQDTrack, batches: Sequence[int], streams: int) -> Sequence[Graph]:
        if device.type == "cuda":
            return [for_threads(partial(CudaGraph, form, batch, device, compiled), streams) for batch in batches]
        return [EagerGraph(form, compiled)] * len(batches)

    name = f"torch {device} {precision}{' compiled' if compiled else ''}"
    at_once, most_streams = (None, GPU_STREAMS) if device.type == "cuda" else (1, cpu_streams())
    return Backend(name, build, device, at_once, most_streams, dtype=PRECISIONS[precision])


class EagerGraph:
    """Operator by operator on the CPU."""

    def __init__(self, form: StaticQDTrack, compiled: bool) -> None:
        self._form = torch.compile(form, fullgraph=True) if compiled else form

    @torch.inference_mode()
    def run(self, images: npt.NDArray[np.uint8], sizes: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """See :class:`Graph`."""
        packed: Tensor = self._form(torch.from_numpy(images), torch.from_numpy(sizes))
        return packed.numpy()


_CAPTURES = threading.Lock()
"""A capture begins by waiting for the whole device, which no thread may while another one captures."""


class CudaGraph:
    """One launch for the whole network, from pinned memory to pinned memory.

    All of it in one stream, which is this graph's own: PyTorch gives cuBLAS its scratch memory by stream, so that
    graphs captured in one stream would write to the same when two threads run them.

    Args:
        form: the static form.
        batch: pictures at once.
        device: a CUDA device.
        compiled: compile before capturing.
    """

    def __init__(self, form: StaticQDTrack, batch: int, device: torch.device, compiled: bool) -> None:
        height, width = form.input_size
        self._host_images = torch.zeros(batch, height, width, 3, dtype=torch.uint8).pin_memory()
        self._host_sizes = torch.tensor([[height, width]] * batch, dtype=torch.float32).pin_memory()
        self._images, self._sizes = self._host_images.to(device), self._host_sizes.to(device)
        self._device = device
        form.to(device)
        module = torch.compile(form, fullgraph=True, dynamic=False) if compiled else form
        # By itself PyTorch captures in a stream of the first device.
        with torch.cuda.device(device):
            self._stream = torch.cuda.Stream()
            self._stream.wait_stream(torch.cuda.current_stream())
            self._done = torch.cuda.Event()
            self.graph = torch.cuda.CUDAGraph()
            with torch.inference_mode(), full_precision(device), torch.cuda.stream(self._stream):
                for _ in range(3):  # choose kernels and allocate before the capture
                    module(self._images, self._sizes)
                # What other threads do meanwhile, with graphs that are there already, is no part of the capture.
                with _CAPTURES, torch.cuda.graph(self.graph, stream=self._stream, capture_error_mode="thread_local"):
                    self._packed = module(self._images, self._sizes)
        self._result = torch.empty_like(self._packed, device="cpu").pin_memory()

    @torch.inference_mode()
    def run(self, images: npt.NDArray[np.uint8], sizes: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """See :class:`Graph`."""
        self._host_images.copy_(torch.from_numpy(images))
        self._host_sizes.copy_(torch.from_numpy(sizes))
        self.launch()
        self._done.synchronize()
        return self._result.numpy()

    def launch(self) -> None:
        """Copy in, run, copy out, without waiting for any of it."""
        with torch.cuda.device(self._device), torch.cuda.stream(self._stream):
            self._images.copy_(self._host_images, non_blocking=True)
            self._sizes.copy_(self._host_sizes, non_blocking=True)
            self.graph.replay()
            self._result.copy_(self._packed, non_blocking=True)
            self._done.record()
