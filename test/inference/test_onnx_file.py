"""The exported R50-FPN with embeddings, read by other tools: valid, and the same results in each."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from qdtrack_ros.inference.agreement import share_matched
from qdtrack_ros.inference.engine import load_network
from qdtrack_ros.inference.onnx_file import OPSET, GraphFacts, onnx_bytes, read_facts, write_onnx
from qdtrack_ros.inference.presets import load_preset
from qdtrack_ros.inference.static_engine import static_form
from qdtrack_ros.inference.types import Detections
from qdtrack_ros.models.static import StaticQDTrack, unpack

onnx = pytest.importorskip("onnx", reason="pip install onnx")

HEIGHT, WIDTH = 96, 160
POOLINGS = ("atlas", "roi_align")


@pytest.fixture(scope="module")
def forms(reference_state, tmp_path_factory) -> dict[str, StaticQDTrack]:
    """The static form of preset bdd100k with the seeded weights, by pooling."""
    checkpoint = tmp_path_factory.mktemp("checkpoint") / "seeded.pth"
    torch.save({"state_dict": reference_state}, checkpoint)
    preset = load_preset("bdd100k")
    network, _ = load_network(preset, checkpoint)
    return {pooling: static_form(network, preset.preprocess, (HEIGHT, WIDTH), pooling) for pooling in POOLINGS}


@pytest.fixture(scope="module")
def files(forms, tmp_path_factory) -> dict[str, Path]:
    """Their files, as `qdtrack export` writes them."""
    folder = tmp_path_factory.mktemp("files")
    labels = load_preset("bdd100k").labels
    for pooling, form in forms.items():
        facts = GraphFacts("bdd100k", "0", WIDTH, HEIGHT, 1, "fp32", pooling, labels, (WIDTH, HEIGHT), 100, 256)
        write_onnx(folder / f"{pooling}.onnx", onnx_bytes(form, 1), facts)
    return {pooling: folder / f"{pooling}.onnx" for pooling in forms}


@pytest.fixture(scope="module")
def picture(synthetic_image) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32]]:
    """Input of the graph."""
    return synthetic_image(1, HEIGHT, WIDTH)[None], np.array([[HEIGHT, WIDTH]], np.float32)


def detections(packed: npt.NDArray[np.float32]) -> Detections:
    (one,) = unpack(torch.from_numpy(packed))
    assert one.exact and one.finite
    used = one.scores > 0
    parts = (one.boxes, one.scores, one.labels.long(), one.embeddings)
    return Detections(*(part[used].numpy() for part in parts))


def assert_agrees(packed, form, picture) -> None:
    with torch.inference_mode():
        expected = detections(form(*(torch.from_numpy(part) for part in picture)).numpy())
    found = detections(packed)
    assert len(expected.scores) > 10
    assert share_matched(found, expected, 1e-3) >= 0.995
    np.testing.assert_allclose(found.embeddings[0], expected.embeddings[0], atol=1e-2)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_the_checker_finds_no_fault(files, pooling):
    model = onnx.load(files[pooling])
    onnx.checker.check_model(model, full_check=True)
    assert {entry.domain: entry.version for entry in model.opset_import} == {"": OPSET}
    assert {node.domain for node in model.graph.node} == {""}, "an operator that is not ONNX's own"
    inferred = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    shapes = {one.name: [dim.dim_value for dim in one.type.tensor_type.shape.dim] for one in inferred.graph.input}
    assert shapes == {"images": [1, HEIGHT, WIDTH, 3], "sizes": [1, 2]}
    (packed,) = inferred.graph.output
    assert packed.name == "packed" and "score 0 marks a free row" in packed.doc_string
    assert [dim.dim_value for dim in packed.type.tensor_type.shape.dim] == [1, 101, 262]
    assert read_facts(files[pooling]).labels == load_preset("bdd100k").labels


@pytest.mark.parametrize("pooling", POOLINGS)
def test_paddings_are_constants(files, pooling):
    """Computed from shapes, onnxslim 0.1.98 folds them into others, and the graph finds other boxes."""
    nodes = onnx.load(files[pooling]).graph.node
    makers = {name: node for node in nodes for name in node.output}
    names = [node.input[1] for node in nodes if node.op_type == "Pad"]
    assert names
    for name in names:
        if name in makers:
            assert makers[name].op_type != "Shape"
            names += makers[name].input


@pytest.mark.parametrize("pooling", POOLINGS)
def test_onnx_runtime_reads_the_file_and_finds_the_same(files, forms, picture, pooling):
    onnxruntime = pytest.importorskip("onnxruntime", reason="pip install onnxruntime")
    session = onnxruntime.InferenceSession(str(files[pooling]), providers=["CPUExecutionProvider"])
    assert [(one.name, one.type, one.shape) for one in session.get_inputs()] == [
        ("images", "tensor(uint8)", [1, HEIGHT, WIDTH, 3]),
        ("sizes", "tensor(float)", [1, 2]),
    ]
    (packed,) = session.run(None, dict(zip(("images", "sizes"), picture, strict=True)))
    assert_agrees(packed, forms[pooling], picture)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_openvino_reads_the_file_and_finds_the_same(files, forms, picture, pooling):
    openvino = pytest.importorskip("openvino", reason="pip install openvino")
    model = openvino.Core().read_model(files[pooling])
    assert not model.is_dynamic() and [list(one.shape) for one in model.outputs] == [[1, 101, 262]]
    compiled = openvino.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    assert_agrees(compiled(list(picture))[0], forms[pooling], picture)
