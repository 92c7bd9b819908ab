"""Files of `qdtrack export`: they say what they are, run by themselves, and are refused where they do not fit."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from qdtrack_ros.cli import export as command
from qdtrack_ros.cli import main as cli
from qdtrack_ros.inference.engine import create_engine, opened
from qdtrack_ros.inference.engine_file import EngineKey, engine_path, read_engine, write_engine
from qdtrack_ros.inference.onnx_file import read_facts
from qdtrack_ros.inference.presets import load_preset
from qdtrack_ros.inference.types import Detections, EngineError
from qdtrack_ros.models import QDTrack
from qdtrack_ros.models.checkpoint import save_weights
from qdtrack_ros.models.static import GRAPH_VERSION

onnx = pytest.importorskip("onnx", reason="pip install onnx")
onnxruntime = pytest.importorskip("onnxruntime", reason="pip install onnxruntime")


@pytest.fixture
def weights(tiny_preset, tmp_path):
    torch.manual_seed(0)
    network = QDTrack(load_preset(str(tiny_preset)).model)
    torch.nn.init.normal_(network.box_head.classifier.weight, std=0.3)
    save_weights(network, tmp_path / "model.safetensors", half=False)
    return tmp_path / "model.safetensors"


def export(tiny_preset, weights, *more: object) -> int:
    words = ["export", "--preset", tiny_preset, "--weights", weights, *more]
    return cli.main([str(word) for word in words])


@pytest.mark.parametrize("pooling", ["atlas", "roi_align"])
def test_an_onnx_file_runs_by_itself_and_says_what_it_is(
    tiny_preset, weights, tmp_path, pooling, synthetic_image, capsys
):
    path = tmp_path / "tiny.onnx"
    assert export(tiny_preset, weights, "--format", "onnx", "-o", path, "--pooling", pooling, "--batch", 2) == 0
    assert "100.0% equal" in capsys.readouterr().out
    facts = read_facts(path)
    assert (facts.width, facts.height, facts.batch, facts.pooling) == (128, 96, 2, pooling)
    assert facts.labels == ("person", "car") and facts.preset == "tiny" and facts.image_scale == (128, 96)
    images = np.stack([synthetic_image(seed, 96, 128) for seed in (1, 2)])
    sizes = np.array([[96, 128], [96, 128]], np.float32)
    session = onnxruntime.InferenceSession(str(path))
    (packed,) = session.run(None, {"images": images, "sizes": sizes})
    assert packed.shape == (2, 21, 6 + facts.embedding_dim)
    preset = load_preset(str(tiny_preset))
    with opened(create_engine(preset, weights, "cpu", "torch")) as engine:
        assert engine.model_id == facts.model_id
        for rows, expected in zip(packed[:, 1:], engine.detect(list(images)).detections, strict=True):
            used = rows[rows[:, 4] > 0]
            if pooling == "roi_align":
                np.testing.assert_allclose(used[:, :4], expected.boxes, atol=1e-2)
                np.testing.assert_allclose(used[:, 6:], expected.embeddings, atol=1e-3)


def test_the_default_file_has_nothing_that_tensorrt_cannot_build(tiny_preset, weights, tmp_path):
    assert export(tiny_preset, weights, "--format", "onnx", "-o", tmp_path / "tiny.onnx") == 0
    nodes = onnx.load(tmp_path / "tiny.onnx").graph.node
    assert not {"NonMaxSuppression", "NonZero", "RoiAlign", "Loop", "If"} & {node.op_type for node in nodes}


def test_a_graph_that_disagrees_is_not_written(tiny_preset, weights, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(command, "in_graph", lambda *_: Detections.empty(16))
    assert export(tiny_preset, weights, "--format", "onnx", "-o", tmp_path / "tiny.onnx") == 1
    assert "0.0% of the detections are the same, expected 99.5%" in capsys.readouterr().err
    assert not (tmp_path / "tiny.onnx").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--format", "onnx"], "an ONNX file needs a name"),
        (["--format", "onnx", "-o", "x.onnx", "--compute-capability", "8.6"], "an ONNX file is for any GPU"),
        (["--format", "tensorrt", "--pooling", "roi_align"], "use --pooling atlas"),
        (["--format", "tensorrt", "--set", "preprocess.image_scale=[0,0]"], "no GPU here"),
        (["--format", "onnx", "-o", "x.onnx", "--picture", "x.jpg"], "x.jpg: no such file; expected a picture"),
        (["--format", "onnx", "-o", "x.onnx", "--picture", "."], ".: a folder; expected a picture"),
        (["--format", "onnx", "-o", "x.onnx", "--set", "preprocess.pad_multiple=16"], "pads to multiples of 32"),
        (["--format", "onnx", "-o", "x.onnx", "--batch", "1000000"], "make --batch or --size smaller"),
    ],
)
def test_what_does_not_go_together_is_told_first(tiny_preset, weights, words, message, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where a file that is written all the same is in nobody's way
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert export(tiny_preset, weights, *words) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "x.onnx").exists()


@pytest.mark.parametrize("text", ["", "86", "8.6.", "sm86", "8,6"])
def test_a_compute_capability_is_two_numbers(text, capsys):
    with pytest.raises(SystemExit):
        cli.main(["export", "--format", "tensorrt", "--compute-capability", text])
    assert f"{text!r} is not of the form X.Y, e.g. 8.6" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("capability", "message"),
    [("8.7", "cannot be built for by tensorrt_rtx"), ("7.5", "compute capability 7.5 in fp16 only")],
)
def test_a_gpu_that_is_not_built_for_is_refused_at_once(capability, message, monkeypatch, capsys):
    pytest.importorskip("tensorrt_rtx_bindings")
    monkeypatch.setattr(command, "export", None)
    assert cli.main(["export", "--format", "tensorrt", "--compute-capability", capability]) == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("pooling", ["atlas", "roi_align"])
def test_a_bfloat16_file_is_compared_too(tiny_preset, weights, tmp_path, pooling, capsys):
    """On a CPU ONNX Runtime has no convolution in bfloat16."""
    pytest.importorskip("openvino")
    path = tmp_path / "tiny.onnx"
    words = ["--format", "onnx", "-o", path, "--precision", "bf16", "--pooling", pooling]
    assert export(tiny_preset, weights, *words) == 0
    assert "compared with PyTorch on a drawn street" in capsys.readouterr().out
    kinds = {tensor.data_type for tensor in onnx.load(path).graph.initializer}
    assert onnx.TensorProto.BFLOAT16 in kinds and read_facts(path).precision == "bf16"


def test_files_of_others_and_of_other_versions_are_refused(tmp_path):
    (tmp_path / "damaged.onnx").write_bytes(b"\x08\x07 not all of it")
    with pytest.raises(EngineError, match=r"damaged\.onnx is not a file of `qdtrack export`, or is damaged"):
        read_facts(tmp_path / "damaged.onnx")
    graph = onnx.helper.make_graph([], "foreign", [], [])
    foreign = onnx.helper.make_model(graph)
    onnx.save(foreign, tmp_path / "foreign.onnx")
    with pytest.raises(EngineError, match="is not a file of `qdtrack export`"):
        read_facts(tmp_path / "foreign.onnx")
    values = {
        "preset": "tiny", "model_id": "0", "width": 32, "height": 32, "batch": 1, "precision": "fp32",
        "pooling": "atlas", "labels": ["a"], "image_scale": [32, 32], "max_detections": 10, "embedding_dim": 4,
        "graph_version": GRAPH_VERSION + 1,
    }  # fmt: skip
    onnx.helper.set_model_props(foreign, {"qdtrack_ros": json.dumps(values)})
    onnx.save(foreign, tmp_path / "newer.onnx")
    with pytest.raises(EngineError, match=rf"version {GRAPH_VERSION + 1} of the graph, this qdtrack_ros wants"):
        read_facts(tmp_path / "newer.onnx")


KEY = EngineKey("0123", GRAPH_VERSION, 96, 128, 1, "fp16", "abcd", "tensorrt_rtx 1.7", "8.6")


@pytest.mark.parametrize(
    "other",
    [
        {"weights": "4567"},
        {"graph_version": 0},
        {"height": 64},
        {"batch": 2},
        {"precision": "fp32"},
        {"settings": "ef01"},
        {"library": "tensorrt 10.9"},
        {"compute_capability": "8.9"},
    ],
)
def test_an_engine_for_anything_else_is_never_loaded(tmp_path, other):
    changed = EngineKey(**{**vars(KEY), **other})
    assert engine_path(changed) != engine_path(KEY)
    write_engine(tmp_path / "engine", changed, b"engine")
    with pytest.raises(EngineError, match=f"was built for {next(iter(other))}"):
        read_engine(tmp_path / "engine", KEY)


def test_an_engine_comes_back_whole_or_not_at_all(tmp_path):
    write_engine(tmp_path / "engine", KEY, b"line\nline")
    assert read_engine(tmp_path / "engine", KEY) == b"line\nline"
    content = (tmp_path / "engine").read_bytes()
    for damaged in (content[:-1], content[:40], content.replace(b"line\n", b"lime\n")):
        (tmp_path / "engine").write_bytes(damaged)
        with pytest.raises(EngineError, match="is damaged; remove it"):
            read_engine(tmp_path / "engine", KEY)
    (tmp_path / "engine").write_bytes(b"foreign")
    with pytest.raises(EngineError, match="not an engine of `qdtrack export`"):
        read_engine(tmp_path / "engine", KEY)
