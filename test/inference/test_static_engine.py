"""The static form behind each engine: what the reference form finds, whatever the picture's size, or an error."""

from __future__ import annotations

import dataclasses
import importlib.util
import logging
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from qdtrack_ros.data.synthetic import street
from qdtrack_ros.inference import engine as engine_module
from qdtrack_ros.inference import static_engine
from qdtrack_ros.inference.engine import EngineError, create_engine, load_network, opened
from qdtrack_ros.inference.openvino_backend import openvino_precisions
from qdtrack_ros.inference.preprocess import letterboxed_size
from qdtrack_ros.inference.presets import load_preset
from qdtrack_ros.inference.reference_engine import ReferenceEngine
from qdtrack_ros.inference.static_engine import Backend, StaticEngine, fault_on_trial, for_threads
from qdtrack_ros.inference.torch_backend import EagerGraph, torch_backend
from qdtrack_ros.inference.tracker import Tracker
from qdtrack_ros.models import QDTrack
from qdtrack_ros.models.checkpoint import save_weights
from qdtrack_ros.models.static import StaticQDTrack
from qdtrack_ros.ops.boxes import pairwise_iou

ENGINES = ["torch", "openvino", "onnxruntime"]


@pytest.fixture(params=ENGINES)
def engine_name(request):
    if request.param != "torch":
        pytest.importorskip("onnx")
        pytest.importorskip(request.param)
    return request.param


@pytest.fixture
def threads():
    """``threads(n)``: PyTorch's number, which the engines take theirs from."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.fixture
def pictures(synthetic_image):
    """Of three sizes; the second is taller than wide, the third far longer than the input."""
    return [synthetic_image(1, 96, 128), synthetic_image(2, 200, 150), synthetic_image(3, 33, 517)]


def assert_same(found, expected):
    np.testing.assert_array_equal(found.labels, expected.labels)
    np.testing.assert_allclose(found.boxes, expected.boxes, atol=1e-2)
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-4)
    np.testing.assert_allclose(found.embeddings, expected.embeddings, atol=1e-3)
    assert [(a.dtype, a.shape) for a in found] == [(a.dtype, a.shape) for a in expected]


def test_every_engine_finds_what_the_reference_form_finds(preset, weights, pictures, engine_name):
    with opened(create_engine(preset, weights, "cpu", engine_name, form="static")) as engine:
        engine.warmup()
        output = engine.detect(pictures)
        again = engine.detect(pictures)
    assert engine.name == f"{engine_name} cpu fp32 static" and engine.embedding_dim == 16
    assert min(output.preprocess_ms, output.inference_ms, output.postprocess_ms) >= 0
    with opened(create_engine(preset, weights, "cpu", "torch")) as reference:
        assert engine.model_id == reference.model_id
        for picture, found, second in zip(pictures, output.detections, again.detections, strict=True):
            (expected,) = reference.detect([picture]).detections
            assert len(expected.scores) > 3
            assert_same(found, expected)
            assert all(np.array_equal(a, b) for a, b in zip(found, second, strict=True))


def test_results_do_not_change_with_the_next_call(preset, weights, pictures, engine_name):
    with opened(create_engine(preset, weights, "cpu", engine_name, form="static")) as engine:
        (first,) = engine.detect(pictures[:1]).detections
        kept = [part.copy() for part in first]
        engine.detect([255 - pictures[0]])
    assert all(np.array_equal(a, b) for a, b in zip(first, kept, strict=True))


def test_a_fixed_input_takes_pictures_of_every_shape(preset, weights, pictures):
    with opened(create_engine(preset, weights, "cpu", "torch", "static", input_size=(128, 96))) as engine:
        found = engine.detect(pictures).detections
        assert list(engine._loaded) == [(96, 128)]
    for picture, one in zip(pictures, found, strict=True):
        assert len(one.scores) > 3
        assert one.boxes.min() >= 0 and (one.boxes.max(axis=0)[2:] <= np.array(picture.shape[1::-1]) + 1e-2).all()
        assert one.boxes[:, 2].max() > 0.5 * picture.shape[1] and one.boxes[:, 3].max() > 0.5 * picture.shape[0]
    with opened(create_engine(preset, weights, "cpu", "torch")) as reference:
        assert_same(found[0], reference.detect(pictures[:1]).detections[0])


def test_letterboxing_keeps_the_shape_of_a_picture(preset):
    config = preset.preprocess
    assert letterboxed_size(96, 128, config, (96, 128)) == (96, 128)
    height, width = letterboxed_size(200, 150, config, (96, 128))
    assert height == 96 and width == 72
    assert letterboxed_size(1, 5000, config, (96, 128)) == (1, 128)


def test_shapes_beyond_the_first_few_go_through_the_reference_form(preset, weights, pictures, monkeypatch, caplog):
    monkeypatch.setattr(static_engine, "MAX_GRAPHS", 2)
    with opened(create_engine(preset, weights, "cpu", "torch", "static")) as engine, caplog.at_level(logging.WARNING):
        found = engine.detect([*pictures, *pictures]).detections
        assert list(engine._loaded) == [(96, 128), (128, 96)]
    assert len(caplog.records) == 1 and "further sizes go through the reference form" in caplog.text
    with opened(create_engine(preset, weights, "cpu", "torch")) as reference:
        (expected,) = reference.detect(pictures[2:]).detections
    assert all(np.array_equal(a, b) for a, b in zip(found[2], expected, strict=True))
    assert_same(found[5], expected)


def test_a_picture_beyond_the_limits_goes_through_the_reference_form(preset, weights, pictures, monkeypatch, caplog):
    class Hasty(StaticQDTrack):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options, nms_steps=1)

    monkeypatch.setattr(static_engine, "StaticQDTrack", Hasty)
    with opened(create_engine(preset, weights, "cpu", "torch", "static")) as engine, caplog.at_level(logging.WARNING):
        found = engine.detect([pictures[0], pictures[0]]).detections
        assert isinstance(engine, StaticEngine) and engine.inexact_pictures == 2
    assert len(caplog.records) == 1 and "such pictures go through the reference form" in caplog.text
    with opened(create_engine(preset, weights, "cpu", "torch")) as reference:
        for one in found:
            assert_same(one, reference.detect(pictures[:1]).detections[0])


def test_a_network_that_overflows_does_not_look_like_an_empty_street(preset, tmp_path, pictures, engine_name):
    network = QDTrack(preset.model)
    for layer in (network.rpn.conv, network.rpn.deltas):
        layer.weight.data *= 1e25  # a file with infinite values would not be read
    save_weights(network, tmp_path / "broken.safetensors", half=False)
    with opened(create_engine(preset, tmp_path / "broken.safetensors", "cpu", engine_name, "static")) as engine:
        (found,) = engine.detect(pictures[:1]).detections
    assert not found.is_finite and len(found.scores) == 1 and found.embeddings.shape == (1, 16)


def test_a_closed_engine_says_so(preset, weights, pictures):
    engine = create_engine(preset, weights, "cpu", "torch", "static")
    engine.close()
    with pytest.raises(EngineError, match="closed"):
        engine.detect(pictures[:1])


def test_auto_takes_openvino_where_it_is_installed_and_its_name_says_so(preset, weights, monkeypatch):
    pytest.importorskip("openvino")
    assert create_engine(preset, weights, "cpu").name == "openvino cpu fp32 static"
    assert create_engine(preset, weights, "cpu", form="reference").name == "torch cpu fp32"
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert create_engine(preset, weights, "cpu").name == "torch cpu fp32"
    assert create_engine(preset, weights, "cpu", form="static").name == "torch cpu fp32 static"
    assert create_engine(preset, weights, "cpu", precision="fp32").name == "torch cpu fp32", "what auto is, named"
    assert create_engine(preset, weights, "cpu", precision="bf16").name == "torch cpu bf16 static"


@pytest.mark.parametrize("name", ["openvino", "onnxruntime"])
def test_a_missing_package_is_named_with_the_line_that_installs_it(preset, weights, name, monkeypatch):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(EngineError, match=rf"engine {name} needs a package that is not installed: pip install {name}"):
        create_engine(preset, weights, "cpu", name)


TWO_ENGINES = """
import gc, os, signal, sys
from pathlib import Path
import numpy as np
from qdtrack_ros.inference.engine import create_engine
from qdtrack_ros.inference.presets import load_preset

engines = [create_engine(load_preset(sys.argv[1]), sys.argv[2], "cpu", "openvino") for _ in range(2)]
for engine in engines:
    engine.detect([np.zeros((96, 128, 3), np.uint8)])
while engines:
    del engines[0], engine
    gc.collect()
    engine = None
handled = []
signal.signal(signal.SIGUSR1, lambda *_: handled.append(True))
os.kill(os.getpid(), signal.SIGUSR1)
sys.exit(0 if handled else 1)
"""


def test_signals_arrive_after_one_engine_has_followed_another(tiny_preset, weights):
    """Of two cores of OpenVINO the second leaves the stack of the first, which is gone, to the handlers of signals."""
    pytest.importorskip("openvino")
    command = [sys.executable, "-c", TWO_ENGINES, str(tiny_preset), str(weights)]
    assert subprocess.run(command, check=False).returncode == 0


def test_auto_does_without_openvino_where_onnx_is_missing(preset, weights, monkeypatch):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "onnx" else find_spec(name))
    assert create_engine(preset, weights, "cpu").name == "torch cpu fp32"


def no_graph(form, batches, streams):
    raise RuntimeError("operation not permitted when stream is capturing\nCompile with TORCH_USE_CUDA_DSA")


class OtherGraph(EagerGraph):
    def run(self, images, sizes):
        packed = super().run(images, sizes)
        packed[:, 1:, :4] += 20.0  # boxes
        return packed


def other_graph(form, batches, streams):
    return [OtherGraph(form, compiled=False)] * len(batches)


CPU = torch.device("cpu")
NO_GRAPH = "RuntimeError: operation not permitted when stream is capturing"
OTHER = "0% of the detections on a drawn street are those of the reference form"


@pytest.mark.parametrize(
    ("backend", "fault"),
    [(torch_backend(CPU), ""), (Backend("broken", no_graph), NO_GRAPH), (Backend("wrong", other_graph), OTHER)],
    ids=["works", "broken", "wrong"],
)
def test_a_trial_tells_whether_a_machine_can_do_with_the_static_form(preset, weights, backend, fault):
    assert fault_on_trial(load_network(preset, str(weights))[0], preset.preprocess, backend) == fault


def test_settings_without_a_static_form_fail_the_trial(preset, weights):
    """So that `auto` takes the reference form, which knows any padding."""
    config = dataclasses.replace(preset.preprocess, pad_multiple=16)
    fault = fault_on_trial(load_network(preset, str(weights))[0], config, torch_backend(CPU))
    assert fault == "EngineError: the static form pads to multiples of 32, the preset to 16"


@pytest.mark.parametrize(("build", "fault"), [(None, None), (no_graph, NO_GRAPH), (other_graph, OTHER)])
def test_auto_takes_the_static_form_on_a_gpu_if_it_passes_a_trial(preset, weights, monkeypatch, caplog, build, fault):
    """The choice alone: all that the GPU would do is done by the CPU."""
    backend = torch_backend(CPU) if build is None else Backend("torch cuda fp32", build)
    monkeypatch.setattr(engine_module, "choose_device", lambda device: torch.device("cuda"))
    monkeypatch.setattr(engine_module, "backend_of", lambda *asked: backend)
    monkeypatch.setattr(engine_module, "ReferenceEngine", lambda *asked: ReferenceEngine(*asked[:-1], CPU))
    engine = create_engine(preset, weights)
    if fault is None:
        assert isinstance(engine, StaticEngine) and not caplog.records
        return
    assert isinstance(engine, ReferenceEngine)
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    expected = f"torch cuda fp32 static does not work here, the reference form is taken: {fault}"
    assert record.getMessage() == expected


def test_the_static_form_that_was_asked_for_on_a_gpu_has_no_substitute(preset, weights, pictures, monkeypatch):
    monkeypatch.setattr(engine_module, "choose_device", lambda device: torch.device("cuda"))
    monkeypatch.setattr(engine_module, "backend_of", lambda *asked: Backend("torch cuda fp32", no_graph))
    engine = create_engine(preset, weights, form="static")
    with pytest.raises(RuntimeError, match="not permitted"):
        engine.detect(pictures[:1])


@pytest.mark.parametrize("name", ["openvino", "onnxruntime"])
def test_the_exporters_package_is_named_too(preset, weights, name, monkeypatch):
    pytest.importorskip(name)
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(EngineError, match="an ONNX graph needs a package that is not installed: pip install onnx"):
        create_engine(preset, weights, "cpu", name)


def test_combinations_that_cannot_be_had_are_refused(preset, weights):
    with pytest.raises(EngineError, match="precision 'int8' is unknown; use one of auto, fp32, fp16, bf16"):
        create_engine(preset, weights, "cpu", precision="int8")
    with pytest.raises(EngineError, match="form 'fast' is unknown; use one of auto, reference, static"):
        create_engine(preset, weights, "cpu", form="fast")
    with pytest.raises(EngineError, match="form reference runs in torch fp32 only, not in openvino fp32"):
        create_engine(preset, weights, "cpu", "openvino", "reference")
    with pytest.raises(EngineError, match="engine openvino runs in fp32 or bf16, not in fp16"):
        create_engine(preset, weights, "cpu", "openvino", precision="fp16")
    with pytest.raises(EngineError, match="every picture in its own size; leave input_size out"):
        create_engine(preset, weights, "cpu", "torch", "reference", input_size=(128, 96))


def test_half_precision_of_torch(preset, weights, pictures):
    with opened(create_engine(preset, weights, "cpu", "torch", precision="bf16")) as engine:
        assert engine.name == "torch cpu bf16 static"
        (found,) = engine.detect(pictures[:1]).detections
    assert found.is_finite and len(found.scores) > 3 and found.boxes.dtype == np.float32


def test_pictures_give_the_same_to_the_bit_side_by_side_as_alone(engine_name, threads):
    threads(2)
    frames = [frame.load() for frame in street(30, (320, 240)).frames]
    pictures = [np.zeros_like(frames[0]), frames[9], frames[29]] * 4
    with opened(create_engine(load_preset("pedestrian"), None, "cpu", engine_name, form="static")) as engine:
        engine.warmup(threads=2)
        assert engine.streams == 2
        alone = [engine.detect([picture]).detections[0] for picture in pictures]
        in_one_call = engine.detect(pictures).detections
        with ThreadPoolExecutor(engine.streams) as pool:
            side_by_side = [output.detections[0] for output in pool.map(lambda one: engine.detect([one]), pictures)]
    assert len({len(one.scores) for one in alone}) > 1
    for one, other, expected in zip(in_one_call, side_by_side, alone, strict=True):
        for found in (one, other):
            assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))


def test_graphs_in_a_pool_are_used_by_one_thread_each():
    together = threading.Barrier(2, timeout=60)
    made, taken_twice = [], []

    class Doubling:
        """Its result is overwritten by its next call, as that of a GPU's buffers."""

        def __init__(self):
            made.append(self)
            self.result, self.busy = np.zeros(1, np.float32), False

        def run(self, images, sizes):
            taken_twice.extend([self] if self.busy else [])
            self.busy = True
            together.wait()  # both are at work, or this never ends
            self.result[:] = 2 * sizes
            self.busy = False
            return self.result

    assert isinstance(for_threads(Doubling, 1), Doubling)
    made.clear()
    graph = for_threads(Doubling, 2)
    with ThreadPoolExecutor(4) as pool:  # more threads than graphs: the others wait for their turn
        results = list(pool.map(lambda value: graph.run(None, np.array([value], np.float32)), range(100)))
    assert [float(one[0]) for one in results] == [2.0 * value for value in range(100)]
    assert len(made) == 2 and not taken_twice


@pytest.mark.parametrize(
    ("at_once", "expected", "built", "ran"),
    [
        (None, 4, [([1, 4], 2)], [1, 4, 4, 1]),  # two or three share the graph of four
        (None, 1, [([1], 1), ([3], 1)], [1, 3, 3, 1]),
        (2, 4, [([1, 2], 2)], [1, 2, 1, 2, 1]),
        (1, 4, [([1], 2)], [1] * 7),
        (1, 1, [([1], 1)], [1] * 7),
    ],
)
def test_graphs_are_built_for_the_pictures_that_were_announced(
    preset, weights, synthetic_image, at_once, expected, built, ran, caplog
):
    batches, runs = [], []

    class Recording(EagerGraph):
        def run(self, images, sizes):
            runs.append(len(images))
            return super().run(images, sizes)

    def build(form, sizes, streams):
        batches.append((list(sizes), streams))
        return [Recording(form, compiled=False) for _ in sizes]

    network, model_id = load_network(preset, weights)
    engine = StaticEngine(network, model_id, preset.preprocess, Backend("recording", build, at_once=at_once, streams=2))
    engine.warmup(expected, expected)
    assert engine.at_once == at_once and engine.streams == min(2, expected)
    warm = len(runs)
    pictures = [synthetic_image(seed, 96, 128) for seed in range(3)]
    found = [engine.detect(pictures[:count]).detections for count in (1, 3, 2, 1)]
    assert batches == built and runs[warm:] == ran
    assert not caplog.records
    with caplog.at_level(logging.INFO):
        engine.detect([synthetic_image(0, 128, 96)])
    assert "recording static: the first picture for an input of 96 x 128, which takes seconds" in caplog.text
    for alone, several in zip(found[0], found[1], strict=False):
        assert_same(several, alone)
    for one, other in zip(found[2], found[1], strict=False):
        assert_same(one, other)


def test_while_a_graph_is_built_pictures_of_other_sizes_go_on(preset, weights, synthetic_image):
    building, go_on = threading.Event(), threading.Event()

    def build(form, sizes, streams):
        if engine._is_warm:
            building.set()
            assert go_on.wait(60)
        return [EagerGraph(form, compiled=False) for _ in sizes]

    engine = StaticEngine(*load_network(preset, weights), preset.preprocess, Backend("slow", build, streams=2))
    engine.detect([synthetic_image(0, 96, 128)])
    engine.warmup(2)
    with ThreadPoolExecutor(2) as pool:
        new = pool.submit(engine.detect, [synthetic_image(0, 128, 96)])
        assert building.wait(60)
        try:
            pool.submit(engine.detect, [synthetic_image(1, 96, 128)]).result(60)
            assert not new.done()
        finally:
            go_on.set()
        new.result(60)


def test_bfloat16_of_openvino_finds_nearly_the_same():
    pytest.importorskip("openvino")
    if "bf16" not in openvino_precisions():
        pytest.skip("this processor does not compute in bfloat16")
    preset = load_preset("pedestrian")
    picture = street(8, (640, 480)).frames[-1].load()
    with (
        opened(create_engine(preset, None, "cpu", "openvino")) as exact,
        opened(create_engine(preset, None, "cpu", "openvino", precision="bf16")) as rounded,
    ):
        assert rounded.name == "openvino cpu bf16 static"
        (expected,), (found,) = (engine.detect([picture]).detections for engine in (exact, rounded))
    assert [(a.dtype, a.shape[1:]) for a in found] == [(a.dtype, a.shape[1:]) for a in expected]
    sure = expected.scores > 0.7
    overlaps = pairwise_iou(*(torch.from_numpy(boxes) for boxes in (expected.boxes[sure], found.boxes))).numpy()
    assert sure.sum() >= 2 and (overlaps.max(axis=1) > 0.9).all()
    pairs = expected.embeddings[sure], found.embeddings[overlaps.argmax(axis=1)]
    cosines = (pairs[0] * pairs[1]).sum(1) / np.linalg.norm(pairs[0], axis=1) / np.linalg.norm(pairs[1], axis=1)
    assert (cosines > 0.98).all()
    # Weights and feature maps are rounded, coordinates are not: 8 bits would leave even numbers from 256 on.
    assert not np.array_equal(found.scores, expected.scores[: len(found.scores)])
    far = found.boxes[found.boxes > 256]
    assert len(far) and (far % 2 != 0).any()


def test_bfloat16_of_openvino_is_refused_where_it_would_be_emulated(preset, weights, monkeypatch):
    pytest.importorskip("openvino")
    monkeypatch.setattr("qdtrack_ros.inference.openvino_backend.openvino_precisions", lambda: ("fp32",))
    with pytest.raises(EngineError, match="engine openvino has no bf16 on this processor; use precision fp32"):
        create_engine(preset, weights, "cpu", "openvino", precision="bf16")


def test_tracks_of_the_shipped_model_are_those_of_the_reference_form(engine_name):
    frames = [frame.load() for frame in street(8, (320, 240)).frames]
    ids = []
    for engine, form in (("torch", "reference"), (engine_name, "static")):
        tracker = Tracker.from_preset("pedestrian", device="cpu", engine=engine, form=form)
        ids.append([tracker(frame) for frame in frames])
        tracker.engine.close()
    assert any(len(tracks.ids) for tracks in ids[0])
    for expected, found in zip(*ids, strict=True):
        np.testing.assert_array_equal(found.ids, expected.ids)
        np.testing.assert_allclose(found.boxes, expected.boxes, atol=0.05)
