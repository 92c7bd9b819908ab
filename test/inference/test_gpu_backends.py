"""What the engines ask of a GPU: on one where there is one, else of a stand-in that has streams and no device."""

from __future__ import annotations

import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from unittest.mock import MagicMock

import numpy as np
import pytest
import torch

from qdtrack_ros.inference import tensorrt_backend
from qdtrack_ros.inference.engine import create_engine, load_network, opened
from qdtrack_ros.inference.reference_engine import full_precision
from qdtrack_ros.inference.static_engine import Backend, StaticEngine, static_form
from qdtrack_ros.inference.torch_backend import CudaGraph, EagerGraph

CPU = torch.device("cpu")
on_a_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@pytest.fixture
def form(preset, weights):
    return static_form(load_network(preset, weights)[0], preset.preprocess, (96, 128))


class Stream:
    def __init__(self, device=None):
        self.waited_for = []
        self.cuda_stream = id(self)

    def wait_stream(self, other):
        self.waited_for.append(other)

    def synchronize(self):
        pass


@pytest.fixture
def gpu(monkeypatch):
    """Streams, events and captures of CUDA as names, on the CPU; ``captures`` are (stream, error mode) of each."""
    there = SimpleNamespace(default=Stream(), current=[], captures=[], devices=[], freed=0)
    there.current.append(there.default)

    @contextlib.contextmanager
    def stream(one):
        before = list(there.current)
        there.current.append(one)
        try:
            yield
        finally:
            there.current[:] = before

    @contextlib.contextmanager
    def graph(cuda_graph, pool=None, stream=None, capture_error_mode="global"):
        there.captures.append((stream, capture_error_mode))
        assert there.devices, "PyTorch waits for the device that is current, and captures there"
        there.current.append(stream)
        yield
        there.current.pop()  # PyTorch, too, stays in the stream when a capture fails

    @contextlib.contextmanager
    def device(one):
        there.devices.append(one)
        yield
        there.devices.pop()

    def empty_cache():
        there.freed += 1

    names = {
        "Stream": Stream, "stream": stream, "current_stream": lambda device=None: there.current[-1], "graph": graph,
        "device": device, "Event": MagicMock, "CUDAGraph": MagicMock, "empty_cache": empty_cache,
    }  # fmt: skip
    for name, value in names.items():
        monkeypatch.setattr(torch.cuda, name, value)
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor)
    return there


def picture_of(synthetic_image, seed=1):
    return synthetic_image(seed, 96, 128)[None], np.array([[96, 128]], np.float32)


def test_a_cuda_graph_warms_up_is_captured_and_runs_in_one_stream_of_its_own(gpu, form, synthetic_image):
    seen = []

    def computed(images, sizes):
        seen.append(gpu.current[-1])
        return form(images, sizes)

    module = SimpleNamespace(input_size=form.input_size, to=form.to)
    module = type("Form", (), {"__call__": staticmethod(computed), **vars(module)})()
    graphs = [CudaGraph(module, 1, CPU, compiled=False) for _ in range(2)]
    assert seen == [graphs[0]._stream] * 4 + [graphs[1]._stream] * 4  # three times for warming up, once captured
    assert gpu.captures == [(graph._stream, "thread_local") for graph in graphs]
    assert graphs[0]._stream is not graphs[1]._stream, "graphs captured in one stream share cuBLAS's scratch memory"
    assert all(graph._stream.waited_for == [gpu.default] for graph in graphs)
    graph = graphs[0]
    graph.graph.replay.side_effect = lambda: graph._packed.copy_(module(graph._images, graph._sizes))
    images, sizes = picture_of(synthetic_image)
    found = graph.run(images, sizes)
    assert seen[8:] == [graph._stream] and gpu.current == [gpu.default]
    np.testing.assert_array_equal(found, EagerGraph(form, compiled=False).run(images, sizes))


def test_a_capture_that_fails_leaves_its_stream(gpu, form):
    class Failing:
        input_size, calls = form.input_size, 0

        def to(self, device):
            pass

        def __call__(self, images, sizes):
            self.calls += 1
            if self.calls == 4:
                raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        CudaGraph(Failing(), 1, CPU, compiled=False)
    assert gpu.captures and gpu.current == [gpu.default]


def test_an_engine_of_tensorrt_writes_after_its_memory_is_there(gpu, form, synthetic_image):
    addresses, ran = {}, []
    shape = (1, 1 + form.config.max_detections, 6 + form.config.embedding_dim)
    library, context = MagicMock(), MagicMock()
    library.ILogger = type("ILogger", (), {"ERROR": 0, "INTERNAL_ERROR": 1})
    engine = library.Runtime.return_value.deserialize_cuda_engine.return_value
    engine.create_execution_context.return_value = context
    engine.get_tensor_shape.return_value = shape
    context.set_tensor_address.side_effect = addresses.__setitem__
    graph = tensorrt_backend.TensorRtGraph(library, b"engine", form.input_size, 1, CPU)
    assert graph._stream.waited_for == [gpu.default]

    def execute(stream):
        ran.append(stream)
        graph._packed.copy_(form(*graph._inputs))
        return True

    context.execute_async_v3.side_effect = execute
    images, sizes = picture_of(synthetic_image)
    np.testing.assert_array_equal(graph.run(images, sizes), EagerGraph(form, compiled=False).run(images, sizes))
    assert ran == [graph._stream.cuda_stream]
    inputs = dict(zip(("images", "sizes"), graph._inputs, strict=True))
    assert addresses == {name: part.data_ptr() for name, part in {**inputs, "packed": graph._packed}.items()}


def test_onnxruntime_computes_in_float32_on_a_gpu_and_gets_one_shape_only(form, monkeypatch):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    from qdtrack_ros.inference.onnxruntime_backend import onnxruntime_backend, open_session

    session = MagicMock()
    session.return_value.get_providers.return_value = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    backend = onnxruntime_backend(torch.device("cuda", 1))
    assert not backend.trim and backend.streams == 1 and backend.at_once is None
    open_session(b"graph", torch.device("cuda", 1))
    assert session.call_args.kwargs["providers"] == [("CUDAExecutionProvider", {"device_id": 1, "use_tf32": 0})]


def test_convolutions_stay_exact_until_the_last_thread_is_done():
    cuda, cudnn = torch.device("cuda"), torch.backends.cudnn
    inside, leave = threading.Event(), threading.Event()

    def first():
        with full_precision(cuda):
            inside.set()
            assert leave.wait(60)

    assert cudnn.allow_tf32
    with ThreadPoolExecutor(1) as pool:
        thread = pool.submit(first)
        assert inside.wait(60)
        with full_precision(cuda):
            leave.set()
            thread.result(60)
            assert not cudnn.allow_tf32, "the first thread is done, this one is not"
        assert cudnn.allow_tf32
    with full_precision(CPU):
        assert cudnn.allow_tf32


def test_a_closed_engine_gives_the_gpus_memory_back(gpu, preset, weights):
    engine = StaticEngine(*load_network(preset, weights), preset.preprocess, Backend("cuda", MagicMock()))
    engine.close()
    assert gpu.freed == 0, "nothing to free on the CPU"
    engine = StaticEngine(
        *load_network(preset, weights), preset.preprocess, Backend("cuda", MagicMock(), torch.device("cuda"))
    )
    engine.close()
    assert gpu.freed == 1


@on_a_gpu
@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_the_static_form_runs_in_every_precision_on_a_gpu(preset, weights, synthetic_image, precision):
    pictures = [synthetic_image(seed, 96, 128) for seed in range(3)]
    with opened(create_engine(preset, weights, "cuda", "torch", "static", precision)) as engine:
        engine.warmup(3)
        found = engine.detect(pictures).detections
        again = engine.detect(pictures).detections
    assert all(one.is_finite and len(one.scores) > 3 for one in found)
    for one, other in zip(found, again, strict=True):
        np.testing.assert_allclose(one.boxes, other.boxes, atol=1e-3)


@on_a_gpu
def test_a_graph_is_captured_while_other_threads_use_the_gpu(preset, weights, synthetic_image):
    stop, picture = threading.Event(), synthetic_image(1, 96, 128)
    with (
        opened(create_engine(preset, weights, "cuda", "torch", "reference")) as reference,
        opened(create_engine(preset, weights, "cuda", "torch", "static")) as ready,
        opened(create_engine(preset, weights, "cuda", "torch", "static")) as new,
        ThreadPoolExecutor(2) as pool,
    ):
        ready.warmup()

        def busy(engine):
            expected, count = engine.detect([picture]).detections[0].scores, 0
            while not stop.is_set():
                np.testing.assert_allclose(engine.detect([picture]).detections[0].scores, expected, atol=1e-5)
                count += 1
            return count

        threads = [pool.submit(busy, engine) for engine in (reference, ready)]
        try:
            for height, width in ((96, 128), (128, 96), (64, 160)):
                assert new.detect([synthetic_image(2, height, width)]).detections[0].is_finite
        finally:
            stop.set()
        assert all(thread.result(60) for thread in threads)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")
def test_a_graph_runs_on_the_second_gpu(preset, weights, synthetic_image):
    picture = synthetic_image(1, 96, 128)
    found = []
    for device in ("cuda:0", "cuda:1"):
        with opened(create_engine(preset, weights, device, "torch", "static")) as engine:
            found.append(engine.detect([picture]).detections[0])
    np.testing.assert_allclose(found[1].boxes, found[0].boxes, atol=1e-3)
