"""Real TensorRT engines, built without a GPU: the whole network, for the GPUs that TensorRT for RTX knows."""

from __future__ import annotations

import logging

import pytest
import torch

from qdtrack_ros.inference import tensorrt_backend
from qdtrack_ros.inference.engine import EngineError, create_engine
from qdtrack_ros.inference.engine_file import engine_path, read_engine
from qdtrack_ros.inference.onnx_file import onnx_bytes
from qdtrack_ros.inference.presets import load_preset
from qdtrack_ros.inference.static_engine import static_form
from qdtrack_ros.inference.tensorrt_backend import build_engine, cached_engine, engine_key, load_library
from qdtrack_ros.models import QDTrack

REASON = "pip install --only-binary=:all: --no-deps tensorrt-rtx-cu13-libs tensorrt-rtx-cu13-bindings"


@pytest.fixture(scope="module")
def library():
    return pytest.importorskip("tensorrt_rtx_bindings", reason=REASON)


@pytest.fixture(scope="module")
def graph():
    """R50-FPN with embeddings, at the size of the paper."""
    preset = load_preset("bdd100k")
    form = static_form(QDTrack(preset.model), preset.preprocess, (736, 1312), tensorrt_backend.POOLING)
    return onnx_bytes(form, 1)


@pytest.mark.parametrize("compute_capability", ["8.0", "8.6", "8.9"])
def test_the_whole_network_becomes_an_engine(library, graph, compute_capability):
    assert len(build_engine(library, graph, compute_capability)) > 10_000_000


@pytest.mark.parametrize(
    ("name", "batch", "dtype"),
    [("pedestrian", 2, torch.float16), ("mot17", 1, torch.float32), ("tao", 1, torch.float32)],
)
def test_every_architecture_becomes_an_engine(library, name, batch, dtype):
    preset = load_preset(name)
    network, pooling = QDTrack(preset.model), tensorrt_backend.POOLING
    form = static_form(network, preset.preprocess, (160, 256), pooling, dtype)
    assert len(build_engine(library, onnx_bytes(form, batch), "8.6")) > 1_000_000


def test_a_turing_gpu_gets_an_engine_in_half_precision(library):
    """TensorRT for RTX has no products of float32 matrices for it, which NMS would be one of."""
    preset = load_preset("pedestrian")
    network, pooling = QDTrack(preset.model), tensorrt_backend.POOLING
    form = static_form(network, preset.preprocess, (160, 256), pooling, torch.float16)
    assert len(build_engine(library, onnx_bytes(form, 1), "7.5")) > 1_000_000


def test_float32_is_not_rounded_to_tensorfloat(library, tiny_preset, monkeypatch):
    configs = []

    class Builder(library.Builder):
        def create_builder_config(self):
            configs.append(super().create_builder_config())
            return configs[-1]

    preset = load_preset(str(tiny_preset))
    form = static_form(QDTrack(preset.model), preset.preprocess, (96, 128), tensorrt_backend.POOLING)
    monkeypatch.setattr(library, "Builder", Builder)
    assert build_engine(library, onnx_bytes(form, 1), "8.6")
    assert not configs[0].get_flag(library.BuilderFlag.TF32)


def test_what_cannot_be_built_is_told(library, graph):
    with pytest.raises(EngineError, match=r"compute capability 5\.0 cannot be built for by tensorrt_rtx .*8\.6"):
        build_engine(library, graph, "5.0")
    with pytest.raises(EngineError, match="TensorRT cannot read the graph"):
        build_engine(library, b"no graph", "8.6")


def test_a_cached_engine_is_found_and_a_damaged_one_is_not(library, tiny_preset, tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("QDTRACK_CACHE", str(tmp_path))
    preset = load_preset(str(tiny_preset))
    form = static_form(QDTrack(preset.model), preset.preprocess, (96, 128), tensorrt_backend.POOLING)
    key = engine_key(library, form, 1, "fp32", "0123", "8.6")
    assert cached_engine(key) is None
    built = tensorrt_backend.build_into_cache(library, key, form, "8.6")
    assert cached_engine(key) == built == read_engine(engine_path(key), key)
    engine_path(key).write_bytes(engine_path(key).read_bytes()[:-1])
    with caplog.at_level(logging.WARNING):
        assert cached_engine(key) is None
    assert "it is built anew" in caplog.text


def test_a_key_tells_the_order_of_channels(library, tiny_preset):
    """With mean and deviation the same for all channels nothing else would."""
    grey = {"preprocess": {"mean": [127.0] * 3, "std": [128.0] * 3}}
    keys = []
    for order in ("rgb", "bgr"):
        preset = load_preset(str(tiny_preset), grey | {"preprocess.channel_order": order})
        form = static_form(QDTrack(preset.model), preset.preprocess, (96, 128), tensorrt_backend.POOLING)
        keys.append(engine_key(library, form, 1, "fp32", "0123", "8.6"))
    assert engine_path(keys[0]) != engine_path(keys[1])


def test_an_engine_that_cannot_be_kept_is_not_built(library, tiny_preset, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("QDTRACK_CACHE", str(tmp_path / "file"))
    monkeypatch.setattr(tensorrt_backend, "build_engine", None)
    preset = load_preset(str(tiny_preset))
    form = static_form(QDTrack(preset.model), preset.preprocess, (96, 128), tensorrt_backend.POOLING)
    key = engine_key(library, form, 1, "fp32", "0123", "8.6")
    assert cached_engine(key) is None
    with pytest.raises(EngineError, match="no place to keep TensorRT engines: .* another place with QDTRACK_CACHE"):
        tensorrt_backend.build_into_cache(library, key, form, "8.6")


def test_a_missing_library_is_named_with_the_lines_that_install_it(monkeypatch):
    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr(tensorrt_backend.importlib, "import_module", missing)
    with pytest.raises(EngineError, match="engine tensorrt needs a package, which is not installed: pip install"):
        load_library()
    with pytest.raises(EngineError, match="another GPU needs TensorRT for RTX, which is not installed"):
        load_library(offline=True)


def test_it_does_not_run_on_a_cpu(library):
    with pytest.raises(EngineError, match="engine tensorrt runs on CUDA, not on cpu"):
        create_engine(load_preset("pedestrian"), device="cpu", engine="tensorrt")
