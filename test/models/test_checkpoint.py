"""Weights files: what was written is read, and a bad file is refused with its name, the reason and the remedy."""

from __future__ import annotations

import os
import pickle
import re
import tracemalloc
import zipfile

import numpy as np
import pytest
import torch
import torchvision
from safetensors.torch import load_file, save_file

from qdtrack_ros.models import ModelConfig, QDTrack
from qdtrack_ros.models.backbones import EfficientNetLite0, ResNet
from qdtrack_ros.models.checkpoint import (
    CheckpointError,
    load_efficientnet_lite0,
    load_torchvision_resnet,
    load_weights,
    read_torch_file,
    read_weights,
    save_weights,
    weights_hash,
)

TINY = ModelConfig(
    num_classes=2,
    backbone="efficientnet_lite0",
    fpn_channels=32,
    fpn_levels=4,
    box_fc_channels=16,
    embedding_convs=1,
    embedding_conv_channels=32,
    embedding_fc_channels=0,
    embedding_dim=8,
)


@pytest.fixture
def saved(tmp_path):
    model = QDTrack(TINY)
    path = tmp_path / "deep" / "model.safetensors"
    save_weights(model, path, {"trained": "on nothing"}, half=False)
    return model, path


def test_round_trip(saved):
    model, path = saved
    other = QDTrack(TINY)
    assert weights_hash(other) != weights_hash(model)
    assert load_weights(other, path) == weights_hash(model) == weights_hash(other)
    assert all(torch.equal(a, b) for a, b in zip(other.state_dict().values(), model.state_dict().values(), strict=True))
    assert os.listdir(path.parent) == [path.name]
    assert path.stat().st_mode & 0o777 == 0o644


def test_half_precision_is_read_back_as_float32(tmp_path):
    model, path = QDTrack(TINY), tmp_path / "half.safetensors"
    save_weights(model, path)
    assert {t.dtype for t in load_file(path).values()} == {torch.float16}
    other = QDTrack(TINY)
    load_weights(other, path)
    for found, wanted in zip(other.state_dict().values(), model.state_dict().values(), strict=True):
        assert found.dtype == torch.float32
        assert torch.equal(found, wanted.half().float())


def test_a_failed_write_leaves_the_old_file(saved, monkeypatch):
    model, path = saved
    before = path.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        save_weights(QDTrack(TINY), path)
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


def refused(path, *words):
    with pytest.raises(CheckpointError) as error:
        load_weights(QDTrack(TINY), path)
    message = str(error.value)
    assert str(path) in message
    for word in words:
        assert re.search(word, message), message


def test_missing(tmp_path):
    refused(tmp_path / "none.safetensors", "does not exist", "check the path")
    refused(tmp_path, "is a folder")
    os.mkfifo(tmp_path / "pipe")
    refused(tmp_path / "pipe", "is no regular file")


def test_a_file_is_read_by_what_it_is_whatever_it_is_called(saved):
    model, path = saved
    other = path.rename(path.with_suffix(".pth"))
    assert load_weights(QDTrack(TINY), other) == weights_hash(model)
    torch.save(model.state_dict(), path)
    assert load_weights(QDTrack(TINY), path) == weights_hash(model)


@pytest.mark.parametrize("keep", [0, 5, 1000])
def test_truncated_safetensors(saved, keep):
    _, path = saved
    path.write_bytes(path.read_bytes()[:keep])
    refused(path, "damaged", "get it again")


@pytest.mark.parametrize("keep", [0, 5, 1000])
def test_truncated_torch_file(tmp_path, keep):
    path = tmp_path / "model.pth"
    torch.save(QDTrack(TINY).state_dict(), path)
    path.write_bytes(path.read_bytes()[:keep])
    refused(path, "damaged", "get it again")


def test_any_damage_is_an_error_of_ours(tmp_path):
    path, rng = tmp_path / "model.pth", np.random.default_rng(0)
    torch.save({"a": torch.zeros(3), "b": {"c": [1, "text", torch.ones(2)]}}, path)
    whole = np.frombuffer(path.read_bytes(), np.uint8)
    for kept in (*range(0, len(whole), 97), None):
        damaged = whole[:kept].copy()
        if kept is None:
            damaged[rng.integers(len(damaged), size=200)] = rng.integers(256, size=200)
        path.write_bytes(damaged.tobytes())
        with pytest.raises(CheckpointError, match=r"model\.pth"):
            read_weights(path)


def test_not_weights_at_all(tmp_path):
    for name, content in (("a.safetensors", b"\x89PNG" * 99), ("a.pth", b"hello\n" * 99), ("b.pth", b"\x00" * 99)):
        (tmp_path / name).write_bytes(content)
        refused(tmp_path / name, "damaged", "get it again")


@pytest.mark.parametrize("content", [[1, 2], {"a": 1}, {"state_dict": {"a": "text"}}, torch.zeros(3)])
def test_torch_file_without_a_state_dict(tmp_path, content):
    torch.save(content, tmp_path / "other.pt")
    refused(tmp_path / "other.pt", "no state dict of tensors")


class Malicious:
    """Unpickling this runs a command."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return os.system, (f"touch {self.trace}",)


@pytest.mark.parametrize("plain", [True, False])
@pytest.mark.filterwarnings("error")  # on a terminal, a warning would stand before the one line of the error
def test_a_pickle_that_wants_to_run_code_is_refused_and_nothing_runs(tmp_path, plain):
    path, trace = tmp_path / "evil.pth", tmp_path / "trace"
    content = {"state_dict": {"backbone.stem.weight": torch.zeros(1)}, "meta": Malicious(trace)}
    if plain:
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path)
    refused(path, "refused", "source you trust")
    with pytest.raises(CheckpointError) as caught:
        read_weights(path)
    assert "weights_only" not in str(caught.value)  # torch's own advice would run the code
    assert not trace.exists()
    torch.load(path, weights_only=False) if not plain else pickle.loads(path.read_bytes())
    assert trace.exists()  # the file was armed indeed


def torch_file(path, instructions):
    """A torch archive whose pickle is written by hand."""
    plain = path.with_suffix(".plain")
    torch.save({}, plain)
    with zipfile.ZipFile(plain) as source, zipfile.ZipFile(path, "w") as target:
        for entry in source.infolist():
            content = source.read(entry)
            target.writestr(entry.filename, instructions if entry.filename.endswith("data.pkl") else content)


def name_and_call(module, name, *texts):
    """Instructions of a pickle that take a name and call it."""
    arguments = b"".join(b"X" + len(text).to_bytes(4, "little") + text.encode() for text in texts)
    return f"c{module}\n{name}\n".encode() + b"(" + arguments + b"tR"


@pytest.mark.parametrize("wanted", ["builtins.eval", "os.system", "subprocess.Popen", "numpy.load", "torch.load"])
def test_any_name_that_is_not_known_to_be_harmless_refuses_the_file(tmp_path, wanted):
    module, name = wanted.rsplit(".", 1)
    path, trace = tmp_path / "evil.pth", tmp_path / "trace"
    torch_file(path, b"\x80\x02" + name_and_call(module, name, f"open({str(trace)!r}, 'w')") + b".")
    refused(path, rf"run code \(\S*{name}\)", "source you trust")
    assert not trace.exists()


def test_what_frameworks_store_beside_the_weights_is_neither_built_nor_in_the_way(saved):
    model, path = saved
    content = {
        "state_dict": model.state_dict(),
        "meta": {"score": np.float64(0.5), "history": np.arange(9), "type": np.dtype("int8")},
        "message_hub": {"loss": np.float32(1.0)},
    }
    path = path.with_suffix(".pth")
    torch.save(content, path)
    other = QDTrack(TINY)
    assert load_weights(other, path) == weights_hash(model)
    meta = read_torch_file(path)["meta"]
    assert {type(value).__module__ for value in meta.values()} == {"qdtrack_ros.models.weights_file"}


def test_a_known_name_yields_its_stand_in_whatever_it_is_used_for(tmp_path):
    path = tmp_path / "getattr.pth"
    torch_file(path, b"\x80\x02}X\x01\x00\x00\x00a" + name_and_call("builtins", "getattr", "text", "upper") + b"s.")
    assert type(read_torch_file(path)["a"]).__module__ == "qdtrack_ros.models.weights_file"


@pytest.mark.parametrize("claim", [10 * 2**30, 2**63, 2**64 - 1])
def test_a_header_that_claims_more_than_the_file_is_refused(tmp_path, claim):
    path = tmp_path / "huge.safetensors"
    path.write_bytes(claim.to_bytes(8, "little") + b"{}")
    tracemalloc.start()
    refused(path, "damaged", f"header claims {claim} bytes, the file has 10", "get it again")
    assert tracemalloc.get_traced_memory()[1] < 50e6
    tracemalloc.stop()


def test_a_tensor_that_claims_more_than_the_file_is_refused(tmp_path):
    path = tmp_path / "huge.safetensors"
    header = b'{"a":{"dtype":"F32","shape":[2684354560],"data_offsets":[0,10737418240]}}'
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(16))
    refused(path, "damaged or not safetensors", "get it again")


def test_a_compressed_archive_is_refused_before_it_is_unpacked(tmp_path):
    plain, bomb = tmp_path / "plain.pth", tmp_path / "bomb.pth"
    torch.save({"a": torch.zeros(1 << 20)}, plain)
    with zipfile.ZipFile(plain) as source, zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as target:
        for entry in source.infolist():
            target.writestr(entry.filename, source.read(entry))
    assert bomb.stat().st_size < plain.stat().st_size / 100
    refused(bomb, "compressed archive", r"unpack to 4\d{6} bytes")


def test_one_value_spread_over_a_huge_tensor_is_refused(tmp_path):
    path = tmp_path / "spread.pth"
    torch.save(
        {"state_dict": {"roi_heads.box_predictor.cls_score.weight": torch.zeros(1).expand(1 << 20, 1 << 20)}}, path
    )
    assert path.stat().st_size < 10_000
    refused(path, "no state dict of tensors")


def test_another_model_lists_missing_unknown_and_mis_shaped(saved):
    model, path = saved
    state = dict(model.state_dict())
    state["something.else"] = torch.zeros(1)
    del state["rpn.conv.bias"]
    state["box_head.classifier.bias"] = torch.zeros(9)
    save_file(state, path)
    refused(
        path,
        "another model",
        r"1 missing: rpn\.conv\.bias",
        r"1 unknown: something\.else",
        r"1 mis-shaped: box_head\.classifier\.bias is \[9\], expected \[3\]",
    )


def test_many_names_follow_the_first_line_each_in_one_of_its_own(saved):
    model, path = saved
    strange = [f"strange.{i:02d}" for i in range(20)]
    save_file({name: torch.zeros(1) for name in strange}, path)
    with pytest.raises(CheckpointError) as error:
        load_weights(QDTrack(TINY), path)
    first, *rest = str(error.value).splitlines()
    missing = sorted(name for name in model.state_dict() if not name.endswith("num_batches_tracked"))
    assert first.endswith(
        f"is of another model, or not whole; take the preset that it was made for, or get the file again. "
        f"Listed below: {len(missing)} missing, 20 unknown"
    )
    assert rest == ["missing:", *(f"  {name}" for name in missing), "unknown:", *(f"  {name}" for name in strange)]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers(saved, value):
    model, path = saved
    model.state_dict()["rpn.conv.bias"][3] = value
    save_weights(model, path)
    refused(path, r"NaN or infinite values; get it again\. 1 with such values: rpn\.conv\.bias")


def test_values_that_the_networks_precision_cannot_hold(saved):
    model, path = saved
    save_file({**model.state_dict(), "rpn.conv.bias": torch.full((32,), 1e300, dtype=torch.float64)}, path)
    refused(path, "NaN or infinite values")
    small = {**model.state_dict(), "rpn.conv.bias": torch.full((32,), 0.5).to(torch.float8_e4m3fn)}
    torch.save(small, path)
    load_weights(model, path)
    assert (model.rpn.conv.bias == 0.5).all()


def test_variances_below_zero(tmp_path):
    model = QDTrack(ModelConfig(num_classes=1))
    assert isinstance(model.backbone, ResNet)
    model.backbone.bn1.running_var[2] = -1.0
    save_weights(model, tmp_path / "negative.safetensors")
    with pytest.raises(CheckpointError, match=r"variances below 0; .* backbone\.bn1\.running_var"):
        load_weights(model, tmp_path / "negative.safetensors")


def test_classes_taken_by_position_against_their_names_are_told(saved, caplog):
    model, path = saved
    save_weights(model, path, {"labels": '["person", "car"]'})
    load_weights(QDTrack(TINY), path, ("pedestrian", "car"))
    assert not caplog.records
    load_weights(QDTrack(TINY), path, ("person", "vehicle"))
    assert "vehicle from car" in caplog.text and "--take LABEL=CLASS" in caplog.text


def test_a_refused_file_leaves_the_model_alone(saved):
    model, path = saved
    before = weights_hash(model)
    save_file({"rpn.conv.bias": torch.ones(32)}, path)
    with pytest.raises(CheckpointError):
        load_weights(model, path)
    assert weights_hash(model) == before


def lite0_file(path, backbone):
    """A file in the layout of the ImageNet weights, for which the folded weights are known."""
    generator = torch.Generator().manual_seed(0)
    state, folded = {}, {}

    def add(conv, norm, name, module):
        weight = torch.randn(module.weight.shape, generator=generator)
        parts = {k: torch.rand(len(weight), generator=generator) + 0.5 for k in ("weight", "bias", "running_mean")}
        parts["running_var"] = torch.rand(len(weight), generator=generator) + 0.5
        state[f"{conv}.weight"] = weight
        state.update({f"{norm}.{k}": v for k, v in parts.items()}, **{f"{norm}.num_batches_tracked": torch.tensor(5)})
        folded[name] = (weight, parts)

    add("_conv_stem", "_bn0", "stem", backbone.stem)
    for i, block in enumerate(backbone.blocks):
        if block.expand is not None:
            add(f"_blocks.{i}._expand_conv", f"_blocks.{i}._bn0", f"blocks.{i}.expand", block.expand)
        add(f"_blocks.{i}._depthwise_conv", f"_blocks.{i}._bn1", f"blocks.{i}.depthwise", block.depthwise)
        add(f"_blocks.{i}._project_conv", f"_blocks.{i}._bn2", f"blocks.{i}.project", block.project)
    state.update({"_conv_head.weight": torch.zeros(1), "_bn1.weight": torch.zeros(1), "_fc.bias": torch.zeros(1)})
    torch.save(state, path)
    return state, folded


def test_efficientnet_weights_are_folded(tmp_path):
    backbone, path = EfficientNetLite0(), tmp_path / "lite0.pth"
    _, folded = lite0_file(path, backbone)
    load_efficientnet_lite0(backbone, path)
    modules = dict(backbone.named_modules())
    for name, (weight, norm) in folded.items():
        x = torch.randn(1, weight.shape[1] * modules[name].groups, 8, 8)
        plain = torch.nn.functional.conv2d(x, weight, groups=modules[name].groups)
        wanted = torch.nn.functional.batch_norm(
            plain, norm["running_mean"], norm["running_var"], norm["weight"], norm["bias"], eps=1e-3
        )
        found = torch.nn.functional.conv2d(x, modules[name].weight, modules[name].bias, groups=modules[name].groups)
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-3)


def test_efficientnet_file_with_a_key_too_few_or_too_many(tmp_path):
    backbone, path = EfficientNetLite0(), tmp_path / "lite0.pth"
    state, _ = lite0_file(path, backbone)
    torch.save({k: v for k, v in state.items() if k != "_blocks.3._bn1.bias"}, path)
    with pytest.raises(CheckpointError, match=r"lite0\.pth is of another model.* 1 missing: _blocks\.3\._bn1\.bias"):
        load_efficientnet_lite0(backbone, path)
    torch.save({**state, "_blocks.16._bn0.bias": torch.zeros(3)}, path)
    with pytest.raises(CheckpointError, match=r"lite0\.pth is of another model.* 1 unknown: _blocks\.16\._bn0\.bias"):
        load_efficientnet_lite0(backbone, path)


def test_torchvision_resnet(tmp_path):
    source, path = torchvision.models.resnet50(weights=None), tmp_path / "resnet50.pth"
    # As in the file that torchvision offers: with a classifier, without batch counters.
    state = {k: v for k, v in source.state_dict().items() if not k.endswith("num_batches_tracked")}
    torch.save(state, path)
    backbone = ResNet(50)
    load_torchvision_resnet(backbone, path)
    assert torch.equal(backbone.layer4[2].conv3.weight, source.layer4[2].conv3.weight)
    with torch.device("meta"):
        deeper = ResNet(101)
    with pytest.raises(CheckpointError, match=r"ImageNet ResNet.* 255 missing\nmissing:\n  layer3\.10"):
        load_torchvision_resnet(deeper, path)


def test_read_weights_takes_bare_and_wrapped_state_dicts(tmp_path):
    for number, content in enumerate(({"a": torch.ones(2)}, {"epoch": 3, "state_dict": {"a": torch.ones(2)}})):
        torch.save(content, tmp_path / f"{number}.pth")
        assert read_weights(tmp_path / f"{number}.pth")["a"].tolist() == [1.0, 1.0]


def test_weights_with_an_untrained_embedding_load_with_a_warning(saved, caplog):
    model, path = saved
    save_weights(model, path, {"untrained": "embedding_head"}, half=False)
    load_weights(QDTrack(TINY), path, initial=True)
    assert not caplog.records
    assert load_weights(QDTrack(TINY), path) == weights_hash(model)
    assert "the embedding head is untrained" in caplog.text


def test_weights_with_an_untrained_detector_are_for_a_training_only(saved):
    model, path = saved
    save_weights(model, path, {"untrained": "box_head,embedding_head"}, half=False)
    refused(path, "untrained are its box_head and embedding_head", "initial_weights")
    assert load_weights(QDTrack(TINY), path, initial=True) == weights_hash(model)


def test_the_labels_of_the_header_decide_the_order_of_classes(saved):
    model, path = saved
    save_weights(model, path, {"labels": '["car", "person"]'}, half=False)
    other = QDTrack(TINY)
    load_weights(other, path, ("person", "car"))
    assert torch.equal(other.box_head.classifier.bias, model.box_head.classifier.bias[[1, 0, 2]])
    assert torch.equal(other.box_head.regressor.weight[:4], model.box_head.regressor.weight[4:])
    for damaged in ("not JSON", "[1, 2]", '{"car": 1}'):
        save_weights(model, path, {"labels": damaged}, half=False)
        assert load_weights(QDTrack(TINY), path, ("person", "car")) == weights_hash(model)


def test_a_detector_alone_is_refused_with_the_way_to_use_it(tmp_path):
    path, network = tmp_path / "detector.pth", QDTrack(ModelConfig(num_classes=90))
    torch.save(torchvision.models.detection.fasterrcnn_resnet50_fpn(weights_backbone=None).state_dict(), path)
    before = weights_hash(network)
    with pytest.raises(CheckpointError, match=r"has no embedding_head; `qdtrack convert .*detector\.pth -o "):
        load_weights(network, path)
    assert weights_hash(network) == before
