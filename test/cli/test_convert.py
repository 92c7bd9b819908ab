from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import foreign_checkpoints as foreign
import pytest
import torch
import torchvision
import yaml
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from qdtrack_ros.cli import main as cli
from qdtrack_ros.inference.presets import load_preset
from qdtrack_ros.models import ModelConfig, QDTrack, weights_file
from qdtrack_ros.models.checkpoint import load_weights

# What mmcv and mmengine write beside the weights; the order of CLASSES means nothing.
META = {"epoch": 12, "CLASSES": ("car", "pedestrian"), "config": "model = dict(backbone=dict(style='caffe'))"}


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    return foreign.checkpoint(foreign.OPENMMLAB, classes=2)


@pytest.fixture(scope="module")
def checkpoint(state: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As mmtracking leaves it after a training on several GPUs, with averaged weights and an optimizer."""
    path = tmp_path_factory.mktemp("checkpoint") / "epoch_12.pth"
    tensors = {**state, "ema_detector_backbone_conv1_weight": torch.zeros(1)}
    optimizer = {"state": {0: {"momentum_buffer": torch.zeros(2)}}}
    torch.save({"meta": META, "state_dict": tensors, "optimizer": optimizer}, path)
    return path


@pytest.fixture
def street(tmp_path: Path) -> Path:
    """A preset of the checkpoint's network, with labels in another order."""
    return preset(tmp_path / "street.yaml", ["car", "person"], backbone_style="caffe")


def preset(path: Path, labels: list[str], **model: Any) -> Path:
    path.write_text(yaml.safe_dump({"labels": labels, "model": {"num_classes": len(labels), **model}}))
    return path


def header(path: Path) -> dict[str, str]:
    with safe_open(str(path), framework="pt") as file:
        return file.metadata()


def failure(words: list[Any], capsys: pytest.CaptureFixture[str]) -> str:
    assert cli.main(["convert", *map(str, words)]) == cli.EXIT_FAILED
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.startswith("qdtrack convert: error: ")
    assert captured.err.count("\n") == 1 or "Listed below: " in captured.err.splitlines()[0]
    return captured.err


def test_checkpoint_by_itself(
    checkpoint: Path, state: dict[str, Tensor], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "new" / "model.safetensors"
    assert cli.main(["convert", str(checkpoint), "-o", str(output), "--classes", "pedestrian", "car"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == [
        "layout: mmtracking 0.x or mmdetection 3",
        "network: resnet50 (caffe style), 2 classes, embedding of 256",
        "tensors: 364 of 365 used",
    ]
    assert lines[3].startswith("left aside: 1 tensors: copies kept by mmcv's EMAHook")
    assert lines[4] == "left aside: meta, optimizer: not weights of the network"
    assert lines[5] == "classes: pedestrian, car"
    assert lines[6] == f"weights: {output}"
    found = header(output)
    assert found["source_layout"] == "mmtracking 0.x or mmdetection 3" and len(found["source_sha256"]) == 64
    assert found["backbone_style"] == "caffe" and json.loads(found["labels"]) == ["pedestrian", "car"]
    network = QDTrack(ModelConfig(num_classes=2, backbone_style="caffe"))
    load_weights(network, output)
    name = "detector.backbone.layer3.1.bn2.running_var"
    assert torch.equal(network.backbone.layer3[1].bn2.running_var, state[name])  # in full precision
    assert torch.equal(network.box_head.fcs[1].weight, state["detector.roi_head.bbox_head.shared_fcs.1.weight"])


def test_labels_of_a_preset_decide_the_order(
    checkpoint: Path, street: Path, state: dict[str, Tensor], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "model.safetensors"
    words = ["convert", str(checkpoint), "-o", str(output), "--preset", str(street)]
    theirs = state["detector.roi_head.bbox_head.fc_cls.bias"]
    network = QDTrack(load_preset(str(street)).model)

    assert cli.main(words) == 0  # nobody knows the names: position decides
    assert "classes: 2, in the checkpoint's order; it does not tell their names" in capsys.readouterr().out
    load_weights(network, output, ("car", "person"))
    assert torch.equal(network.box_head.classifier.bias, theirs)

    words += ["--classes", "pedestrian", "car"]
    assert cli.main(words) == 0
    assert "classes: car, person (there: pedestrian)" in capsys.readouterr().out
    assert header(output)["preset"] == "street"
    load_weights(network, output, ("car", "person"))
    assert torch.equal(network.box_head.classifier.bias, theirs[[1, 0, 2]])

    assert cli.main([*words, "--take", "car=pedestrian", "person=car"]) == 0
    load_weights(network, output, ("car", "person"))
    assert torch.equal(network.box_head.classifier.bias, theirs)


def test_detector_becomes_a_start_for_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    source, outputs = tmp_path / "coco.pth", [tmp_path / f"{n}.safetensors" for n in "ab"]
    torch.save(torchvision.models.detection.fasterrcnn_resnet50_fpn(weights_backbone=None).state_dict(), source)
    street = preset(tmp_path / "street.yaml", ["rider", "car"])
    words = ["convert", str(source), "--preset", str(street), "--take", "rider=person", "-o"]
    for output in outputs:
        assert cli.main([*words, str(output)]) == 0
    out = capsys.readouterr().out
    assert "classes: rider (there: person), car\n" in out
    assert "not in this layout: embedding_head; left at initial values" in out
    assert header(outputs[0])["untrained"] == "embedding_head"
    first, second = (load_file(output) for output in outputs)
    assert all(torch.equal(second[name], tensor) for name, tensor in first.items())  # the same whenever it is made
    load_weights(QDTrack(load_preset(str(street)).model), outputs[0], ("rider", "car"))
    assert "embedding head is untrained" in caplog.text


def test_trunk_becomes_a_start_for_training(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, output = tmp_path / "resnet50.pth", tmp_path / "model.safetensors"
    torch.save(torchvision.models.resnet50(weights=None).state_dict(), source)
    assert cli.main(["convert", str(source), "-o", str(output)]) == 0
    out = capsys.readouterr().out
    assert "layout: ImageNet ResNet" in out and "left aside: 2 tensors: the ImageNet classifier" in out
    assert "classes:" not in out
    assert "network: resnet50 (the file does not tell its style)" in out
    assert header(output)["untrained"] == "box_head,embedding_head,neck,rpn"
    assert "backbone_style" not in header(output)  # a preset of either style may take it


def test_what_cannot_be_converted_is_told_in_one_line(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "model.safetensors"
    assert "does not exist" in failure([tmp_path / "none.pth", "-o", output], capsys)
    strange = tmp_path / "strange.pth"
    torch.save({"decoder.weight": torch.zeros(1)}, strange)
    assert "1 tensors: decoder.weight" in failure([strange, "-o", output], capsys)
    decoder = [f"decoder.{i}.weight" for i in range(300)]
    torch.save(dict.fromkeys(decoder, torch.zeros(1)), strange)
    lines = failure([strange, "-o", output], capsys).splitlines()
    assert lines[0].endswith("name its preset. Listed below: 300 tensors") and len(lines) == 302
    assert {f"  {name}" for name in decoder} <= set(lines)
    strange.write_bytes(checkpoint.read_bytes()[:5000])
    assert "is damaged" in failure([strange, "-o", output], capsys)
    one = preset(tmp_path / "one.yaml", ["person"], backbone_style="caffe")
    message = failure([checkpoint, "-o", output, "--preset", one], capsys)
    assert "The checkpoint has 2 classes, the preset 1." in message
    two = preset(tmp_path / "two.yaml", ["person", "car"])
    message = failure([checkpoint, "-o", output, "--preset", two], capsys)
    assert "set model.backbone_style to caffe" in message
    message = failure(
        [checkpoint, "-o", output, "--preset", two, "--set", "model.backbone_style=caffe", "model.embedding_dim=64"],
        capsys,
    )
    assert "track_head.embed_head.fc_embed.bias is [256], expected [64]" in message
    assert not output.exists()


def test_options_that_make_no_sense_are_refused(
    checkpoint: Path, street: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "model.safetensors"
    assert "name it with --preset" in failure([checkpoint, "-o", output, "--take", "a=b"], capsys)
    assert "name it with --preset" in failure([checkpoint, "-o", output, "--set", "model.embedding_dim=1"], capsys)
    message = failure([checkpoint, "-o", output, "--preset", street, "--take", "bus=car"], capsys)
    assert "--take names bus; preset street has the labels car, person" in message
    assert "does not end in .safetensors" in failure([checkpoint, "-o", tmp_path / "model.pth"], capsys)
    with pytest.raises(SystemExit) as end:
        cli.main(["convert", str(checkpoint), "-o", str(output), "--take", "bus"])
    assert end.value.code == cli.EXIT_USAGE


def test_an_output_that_cannot_be_written_is_refused_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(weights_file, "read_weights_file", lambda path: pytest.fail("the work has begun"))
    folder, file = tmp_path / "folder.safetensors", tmp_path / "file"
    folder.mkdir()
    file.write_bytes(b"precious")
    words = {
        folder: f"{folder} is a folder; name a file, such as {folder}/model.safetensors",
        tmp_path: f"{tmp_path} is a folder; name a file, such as {tmp_path}/model.safetensors",
        file / "a" / "b.safetensors": f"b.safetensors cannot be written: {file} is a file, not a folder",
        Path("/sys/b.safetensors"): "/sys/b.safetensors cannot be written: /sys: ",  # not even by root
    }
    for output, message in words.items():
        assert message in failure(["checkpoint.pth", "-o", output], capsys)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder.safetensors"]


def test_the_checkpoint_is_never_written_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, link = tmp_path / "model.safetensors", tmp_path / "link.safetensors"
    source.write_bytes(b"precious")
    os.link(source, link)
    for output in (source, link, tmp_path / "." / "model.safetensors"):
        assert "is the checkpoint itself" in failure([source, "-o", output], capsys)
    assert source.read_bytes() == b"precious"
