"""Engines: what is asked for or an error, and detections that mean the same whatever the picture's size or batch."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from qdtrack_ros.inference.engine import (
    EngineError,
    NoopEngine,
    choose_device,
    create_engine,
    opened,
    resolve_weights,
)
from qdtrack_ros.inference.presets import load_preset
from qdtrack_ros.models import QDTrack
from qdtrack_ros.models.checkpoint import CheckpointError, save_weights, weights_hash


@pytest.fixture
def pictures(synthetic_image):
    return [synthetic_image(1, 96, 128), synthetic_image(2, 200, 150), synthetic_image(3, 33, 517)]


def test_detections_have_their_shapes_and_lie_in_the_source_picture(preset, weights, model, pictures):
    with opened(create_engine(preset, weights, "cpu", "torch")) as engine:
        engine.warmup()
        output = engine.detect(pictures)
    assert engine.name == "torch cpu fp32" and engine.embedding_dim == 16
    assert engine.model_id == weights_hash(model)
    assert min(output.preprocess_ms, output.inference_ms, output.postprocess_ms) >= 0
    assert len(output.detections) == len(pictures)
    for picture, found in zip(pictures, output.detections, strict=True):
        n = len(found.scores)
        assert 0 < n <= 20
        assert [(a.dtype, a.shape) for a in found] == [
            (np.float32, (n, 4)),
            (np.float32, (n,)),
            (np.int64, (n,)),
            (np.float32, (n, 16)),
        ]
        assert (np.diff(found.scores) <= 0).all() and found.scores[-1] > 0.05
        assert set(found.labels) <= {0, 1}
        assert found.boxes.min() >= 0 and (found.boxes.max(axis=0)[2:] <= np.array(picture.shape[1::-1]) + 1e-3).all()
        assert found.boxes[:, 2].max() > 0.3 * picture.shape[1]  # in source pixels, not in those of the small input


def test_a_batch_gives_what_each_picture_gives(preset, weights, pictures):
    same_size = [pictures[0], np.ascontiguousarray(pictures[0][::-1])]
    with opened(create_engine(preset, weights, "cpu", "torch")) as engine:
        together = engine.detect(same_size).detections
        for picture, found in zip(same_size, together, strict=True):
            (alone,) = engine.detect([picture]).detections
            np.testing.assert_allclose(found.boxes, alone.boxes, atol=1e-2)
            np.testing.assert_allclose(found.scores, alone.scores, atol=1e-4)
            np.testing.assert_allclose(found.embeddings, alone.embeddings, atol=1e-3)


def test_two_runs_are_the_same_bit_for_bit(preset, weights, pictures):
    with opened(create_engine(preset, weights, "cpu", "torch")) as engine:
        first, second = (engine.detect(pictures[:1]).detections[0] for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def test_nothing_found_is_empty_with_the_right_shapes(preset, tmp_path):
    network = QDTrack(preset.model)
    torch.nn.init.constant_(network.box_head.classifier.bias[2:], 50.0)  # all background
    save_weights(network, tmp_path / "blind.safetensors")
    with opened(create_engine(preset, tmp_path / "blind.safetensors", "cpu", "torch")) as engine:
        (found,) = engine.detect([np.zeros((48, 64, 3), np.uint8)]).detections
    assert found.boxes.shape == (0, 4) and found.embeddings.shape == (0, 16)
    assert found.scores.dtype == np.float32 and found.labels.dtype == np.int64


@pytest.mark.parametrize(
    "part", ["neck.lateral_convs.0.bias", "rpn.deltas.bias", "box_head.fcs.1.bias", "box_head.regressor.bias"]
)
def test_a_network_that_overflows_does_not_look_like_an_empty_street(model, pictures, part):
    model.eval()
    tensor = dict(model.named_parameters())[part]
    size, factor = [(96, 128)], [(1.0, 1.0)]
    images = torch.from_numpy(pictures[0]).permute(2, 0, 1)[None].float() / 64
    with torch.inference_mode():
        tensor[0] = float("inf")
        (found,) = model(images, size, factor)
    assert len(found.boxes) == 1 and not found.boxes.isfinite().any() and not found.scores.isfinite().any()
    assert found.embeddings.shape == (1, 16) and not found.embeddings.isfinite().any()


def test_one_bad_picture_leaves_the_others_of_its_batch_alone(model, pictures):
    model.eval()
    good = torch.from_numpy(pictures[0]).permute(2, 0, 1)[None].float() / 64
    bad = good.clone()
    bad[0, 0, 40, 60] = float("nan")
    with torch.inference_mode():
        alone = model(good, [(96, 128)], [(1.0, 1.0)])[0]
        found = model(torch.cat([bad, good]), [(96, 128)] * 2, [(1.0, 1.0)] * 2)
    assert not found[0].scores.isfinite().any()
    assert len(found[1].scores) == len(alone.scores)
    torch.testing.assert_close(found[1].boxes, alone.boxes, atol=1e-2, rtol=0)


def test_a_closed_engine_says_so(preset, weights, pictures):
    engine = create_engine(preset, weights, "cpu", "torch")
    engine.close()
    with pytest.raises(EngineError, match="closed"):
        engine.detect(pictures[:1])


def test_noop_finds_nothing_and_needs_no_weights(preset, pictures):
    engine = create_engine(preset, engine="noop")
    assert isinstance(engine, NoopEngine)
    engine.warmup()
    output = engine.detect(pictures)
    assert [len(found.boxes) for found in output.detections] == [0, 0, 0]
    assert output.detections[0].embeddings.shape == (0, 16)


def test_unknown_engines_and_devices_are_named(preset, weights):
    with pytest.raises(
        EngineError, match=r"engine 'tensort' is unknown; use one of auto, torch, openvino, onnxruntime, tensorrt, noop"
    ):
        create_engine(preset, weights, engine="tensort")
    with pytest.raises(EngineError, match=r"device 'gpu' is unknown; use one of"):
        create_engine(preset, weights, device="gpu")
    with pytest.raises(EngineError, match="not supported"):
        choose_device("meta")


def test_there_is_no_silent_fallback_from_cuda(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto") == torch.device("cpu")
    with pytest.raises(EngineError, match="no CUDA device"):
        choose_device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert choose_device("auto") == torch.device("cuda")
    assert choose_device("cuda:1").index == 1
    with pytest.raises(EngineError, match=r"'cuda:2' was asked for, but there are 2"):
        choose_device("cuda:2")


def test_weights_are_found_or_asked_for(preset, tiny_preset, weights):
    assert resolve_weights(preset, str(weights)) == weights
    with pytest.raises(CheckpointError, match="preset tiny comes without weights; give a file"):
        resolve_weights(preset, None)
    elsewhere = load_preset(str(tiny_preset), {"weights": "weights/none.safetensors"})
    with pytest.raises(CheckpointError, match=r"weights/none\.safetensors does not come with.*give a file"):
        resolve_weights(elsewhere, "")


def test_foreign_weights_are_refused(preset, tiny_preset, tmp_path):
    other = load_preset(str(tiny_preset), {"model.embedding_dim": 8})
    save_weights(QDTrack(other.model), tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match=r"embedding_head\.embed\.weight is \[8, 1568\], expected \[16, 1568\]"):
        create_engine(preset, tmp_path / "other.safetensors", "cpu")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_gpu_agrees_with_the_cpu(preset, weights, pictures):
    found = []
    for device in ("cpu", "cuda"):
        with opened(create_engine(preset, weights, device)) as engine:
            found.append(engine.detect(pictures[:1]).detections[0])
    np.testing.assert_allclose(found[0].scores, found[1].scores, atol=1e-4)  # TensorFloat-32 would miss it


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_two_threads_on_a_gpu_get_what_one_gets(preset, weights, pictures):
    with opened(create_engine(preset, weights, "cuda", form="static")) as engine:
        engine.warmup(threads=2)
        assert engine.streams == 2
        many = [pictures[0], 255 - pictures[0]] * 20
        alone = [engine.detect([picture]).detections[0] for picture in many]
        with ThreadPoolExecutor(2) as pool:
            beside = [output.detections[0] for output in pool.map(lambda one: engine.detect([one]), many)]
    for one, expected in zip(beside, alone, strict=True):
        np.testing.assert_allclose(one.boxes, expected.boxes, atol=1e-3)
        np.testing.assert_allclose(one.scores, expected.scores, atol=1e-5)
