"""Checkpoints of every layout compute here what they compute at home, and those that cannot say why."""

from __future__ import annotations

import hashlib
import re

import foreign_checkpoints as foreign
import numpy as np
import pytest
import torch

from qdtrack_ros.models import ModelConfig, QDTrack
from qdtrack_ros.models.backbones import ResNet
from qdtrack_ros.models.checkpoint import CheckpointError, load_torchvision_resnet, load_weights
from qdtrack_ros.models.conversion import (
    OPENMMLAB,
    OWN,
    RESNET,
    SYSCV_NEW,
    SYSCV_OLD,
    VIS4D,
    ConversionError,
    FileFacts,
    Target,
    class_names,
    convert,
    foreign_name,
    network_of,
    recognise_layout,
)

REFERENCE_LABELS = ("pedestrian", "rider", "car", "bus", "truck", "bicycle", "motorcycle", "train")
VIS4D_LABELS = ("pedestrian", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle")


@pytest.fixture(scope="module")
def states(reference_state, new_names):
    return {SYSCV_OLD: reference_state, SYSCV_NEW: {new_names[k]: v for k, v in reference_state.items()}}


@pytest.fixture(scope="module")
def expected():
    with torch.device("meta"):
        return QDTrack(ModelConfig()).state_dict()


@pytest.fixture(scope="module")
def openmmlab():
    return foreign.checkpoint(foreign.OPENMMLAB, classes=8)


@pytest.fixture(scope="module")
def vis4d():
    return foreign.checkpoint(foreign.VIS4D, classes=8)


def network(state, config=None, **target):
    """The network that a checkpoint becomes."""
    model = QDTrack(config or ModelConfig()).eval()
    style = model.config.backbone_style
    model.load_state_dict(convert(state, Target(model.state_dict(), style, **target)).tensors)
    return model


def assert_same(model, wanted, images, pooled):
    pyramid = model.extract_features(images).pyramid
    rpn = model.rpn(pyramid)
    logits, deltas = model.box_head(pooled)
    found = foreign.Outputs(pyramid, rpn.logits, rpn.deltas, logits, deltas, model.embedding_head(pooled))
    for name, ours, theirs in zip(foreign.Outputs._fields, found, wanted, strict=True):
        assert torch.stack([t.std() for t in (theirs if isinstance(theirs, list) else [theirs])]).min() > 1e-3, name
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4, msg=lambda text, name=name: f"{name}: {text}")


# What every layout computes


@pytest.mark.parametrize(("names", "layout"), [(foreign.OPENMMLAB, OPENMMLAB), (foreign.VIS4D, VIS4D)])
@pytest.mark.parametrize("style", ["pytorch", "caffe"])
@torch.inference_mode()
def test_network_of_another_implementation_computes_the_same(names, layout, style, request):
    state = request.getfixturevalue("openmmlab" if layout is OPENMMLAB else "vis4d")
    assert recognise_layout(state) is layout
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(1, 3, 64, 96, generator=generator)
    pooled = torch.randn(3, 256, 7, 7, generator=generator)
    model = network(state, ModelConfig(backbone_style=style))
    assert_same(model, foreign.run(state, names, images, pooled, style), images, pooled)


def test_the_makers_spell_names_as_the_sources_do(openmmlab, vis4d):
    assert {
        "detector.backbone.layer1.0.downsample.1.running_var",
        "detector.neck.fpn_convs.3.conv.bias",
        "detector.rpn_head.rpn_reg.weight",
        "detector.roi_head.bbox_head.shared_fcs.1.weight",
        "track_head.embed_head.convs.0.gn.weight",
        "track_head.embed_head.fc_embed.bias",
    } <= set(openmmlab)
    assert {
        "basemodel.layer4.2.bn3.weight",
        "fpn.inner_blocks.0.0.weight",
        "faster_rcnn_head.rpn_head.rpn_box.bias",
        "qdtrack_head.similarity_head.convs.3.norm.bias",
        "qdtrack_head.similarity_head.fcs.0.0.weight",
    } <= set(vis4d)
    assert len(openmmlab) == len(vis4d) == 364


def test_the_random_checkpoint_is_the_reference_s(states):
    digest = hashlib.sha256()
    for name, tensor in sorted(states[SYSCV_NEW].items()):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(tensor.numpy()).tobytes())
    assert digest.hexdigest() == "15a8d351b1717370f1e5fa1e57e93be6a09329ce5a9475fd6569e6907ac90a81"


@pytest.mark.parametrize("layout", [SYSCV_OLD, SYSCV_NEW], ids=["old", "new"])
def test_every_key_of_the_reference_finds_its_place(states, expected, layout):
    state = states[layout]
    assert recognise_layout(state) is layout
    conversion = convert(state, Target(expected))
    converted = conversion.tensors
    assert (conversion.used, conversion.aside, conversion.untrained) == (364, {}, frozenset())
    assert list(converted) == list(expected)
    assert {name: t.shape for name, t in converted.items()} == {name: t.shape for name, t in expected.items()}
    assert sorted(t.data_ptr() for t in converted.values()) == sorted(t.data_ptr() for t in state.values())
    samples = {
        "backbone.layer3.5.bn2.running_var": "backbone.layer3.5.bn2.running_var",
        "neck.output_convs.2.bias": "neck.fpn_convs.2.conv.bias",
        "rpn.objectness.weight": "rpn_head.rpn_cls.weight",
        "rpn.deltas.weight": "rpn_head.rpn_reg.weight",
        "box_head.fcs.0.weight": "roi_head.bbox_head.shared_fcs.0.weight",
        "embedding_head.fcs.0.weight": "roi_head.track_head.fcs.0.weight",
        "embedding_head.convs.3.norm.weight": "roi_head.track_head.convs.3.gn.weight",
    }
    for own, old in samples.items():
        assert converted[own].data_ptr() == states[SYSCV_OLD][old].data_ptr()


def test_both_layouts_of_the_reference_give_the_same_network(states, expected):
    old, new = (convert(state, Target(expected)).tensors for state in states.values())
    assert all(torch.equal(old[name], new[name]) for name in expected)


# Spellings, wrappers and what is left aside


def older_vis4d(name):
    """As vis4d's older releases, on an older torchvision, spelled it."""
    for old, new in (("faster_rcnn_heads.", "faster_rcnn_head."), ("backbone.body.", "basemodel.")):
        name = name.replace(new, old)
    name = name.replace("qdtrack_head.", "qdtrack.")
    return re.sub(r"^fpn\.(inner|layer)_blocks\.(\d)\.0\.", r"fpn.\1_blocks.\2.", name)


@pytest.mark.parametrize(
    "rename",
    [
        older_vis4d,
        lambda name: f"module.{name}",
        lambda name: f"model.{name}",
        lambda name: f"model.module._orig_mod.{name}",
    ],
)
def test_older_spellings_and_wrappers_are_seen_through(vis4d, expected, rename):
    plain = convert(vis4d, Target(expected)).tensors
    renamed = convert({rename(name): tensor for name, tensor in vis4d.items()}, Target(expected))
    assert renamed.layout is VIS4D and renamed.used == 364
    assert all(renamed.tensors[name].data_ptr() == tensor.data_ptr() for name, tensor in plain.items())


def test_averaged_weights_are_preferred(vis4d, expected):
    averaged = {f"model.ema_model.{name}": tensor for name, tensor in vis4d.items()}
    raw = {f"model.model.{name}": tensor + 1 for name, tensor in vis4d.items()}
    conversion = convert({**raw, **averaged}, Target(expected))
    assert conversion.tensors["rpn.conv.bias"] is vis4d["faster_rcnn_head.rpn_head.rpn_conv.bias"]
    assert list(conversion.aside.values()) == [364]


def test_buffers_of_openmmlab_are_left_aside_with_the_reason(openmmlab, expected):
    state = {
        **openmmlab,
        "data_preprocessor.mean": torch.zeros(3),
        "data_preprocessor.std": torch.ones(3),
        "ema_detector_backbone_conv1_weight": torch.zeros(64, 3, 7, 7),
    }
    conversion = convert(state, Target(expected))
    assert sorted(conversion.aside.values()) == [1, 2]
    assert any("EMAHook" in why for why in conversion.aside) and conversion.used == 364


def test_absent_batch_counters_are_zero(openmmlab, expected):
    state = {name: tensor for name, tensor in openmmlab.items() if not name.endswith("num_batches_tracked")}
    conversion = convert(state, Target(expected))
    assert conversion.tensors["backbone.bn1.num_batches_tracked"] == 0
    assert conversion.used == len(state) < 364
    assert convert(openmmlab, Target(expected)).tensors["backbone.bn1.num_batches_tracked"] == 7


def test_our_own_names_are_no_foreign_layout(expected):
    assert recognise_layout(expected) is OWN and recognise_layout([]) is OWN
    assert not [name for name in expected if recognise_layout([name]) is not OWN]


# Classes


@torch.inference_mode()
def test_classes_are_put_into_the_labels_order(vis4d, expected):
    pooled = torch.randn(2, 256, 7, 7, generator=torch.Generator().manual_seed(2))
    wanted = foreign.run(vis4d, foreign.VIS4D, torch.zeros(1, 3, 64, 64), pooled)
    logits, deltas = network(vis4d, labels=REFERENCE_LABELS).box_head(pooled)
    for ours, label in enumerate(REFERENCE_LABELS):
        theirs = VIS4D_LABELS.index(label)
        torch.testing.assert_close(logits[:, ours], wanted.logits[:, theirs])
        torch.testing.assert_close(
            deltas[:, 4 * ours : 4 * ours + 4], wanted.deltas[:, 4 * theirs : 4 * theirs + 4], rtol=1e-4, atol=1e-4
        )
    torch.testing.assert_close(logits[:, 8], wanted.logits[:, 8])
    assert convert(vis4d, Target(expected, labels=REFERENCE_LABELS)).classes == [(n, n) for n in REFERENCE_LABELS]


def test_classes_stay_as_they_are_without_names_or_where_most_are_the_same(vis4d, openmmlab, expected):
    classifier = "box_head.classifier.weight"
    theirs = vis4d["faster_rcnn_head.roi_head.fc_cls.weight"]
    for labels in ((), VIS4D_LABELS, (VIS4D_LABELS[0], *"bcdefgh")):
        assert convert(vis4d, Target(expected, labels=labels)).tensors[classifier] is theirs
    with pytest.raises(ConversionError, match=r"has no class for 'lorry'.*--take lorry="):
        convert(vis4d, Target(expected, labels=("lorry", *VIS4D_LABELS[:3], *VIS4D_LABELS[4:])))
    with pytest.raises(ConversionError, match="has no class for 'a', 'b'"):
        convert(vis4d, Target(expected, labels=tuple("abcdefgh")))  # not one name in common
    conversion = convert(openmmlab, Target(expected, labels=REFERENCE_LABELS))
    assert conversion.tensors[classifier] is openmmlab["detector.roi_head.bbox_head.fc_cls.weight"]
    assert conversion.classes == []


def test_the_names_that_a_file_brings_decide(openmmlab, expected):
    facts = FileFacts(classes=VIS4D_LABELS)
    found = convert(openmmlab, Target(expected, labels=REFERENCE_LABELS), facts).tensors["box_head.classifier.bias"]
    theirs = openmmlab["detector.roi_head.bbox_head.fc_cls.bias"]
    assert found[3] == theirs[4] and found[4] == theirs[3] and found[8] == theirs[8]
    with pytest.raises(ConversionError, match="has 8 classes, but 2 names"):
        convert(openmmlab, Target(expected), FileFacts(classes=("a", "b")))


@pytest.mark.parametrize("labels", [(), ("pedestrian",)])
def test_another_number_of_classes_is_told_plainly(vis4d, labels):
    with torch.device("meta"):
        target = QDTrack(ModelConfig(num_classes=1)).state_dict()
    with pytest.raises(ConversionError) as error:
        convert(vis4d, Target(target, labels=labels))
    message = str(error.value)
    assert "The checkpoint has 8 classes, the preset 1." in message
    assert "4 mis-shaped" in message and "roi_head.fc_cls.bias is [9], expected [2]" in message


def test_one_class_of_many_is_taken_when_asked(vis4d):
    with torch.device("meta"):
        target = QDTrack(ModelConfig(num_classes=2)).state_dict()
    conversion = convert(vis4d, Target(target, labels=("vehicle", "person"), sources={"vehicle": "car"}))
    theirs = vis4d["faster_rcnn_head.roi_head.fc_cls.bias"]
    assert torch.equal(conversion.tensors["box_head.classifier.bias"], theirs[[2, 0, 8]])
    deltas = vis4d["faster_rcnn_head.roi_head.fc_reg.bias"]
    assert torch.equal(conversion.tensors["box_head.regressor.bias"], torch.cat([deltas[8:12], deltas[:4]]))
    assert conversion.classes == [("vehicle", "car"), ("person", "pedestrian")]


# What does not fit


@pytest.mark.parametrize("layout", [SYSCV_OLD, SYSCV_NEW], ids=["old", "new"])
def test_left_over_and_missing_keys_are_listed_together(states, expected, layout):
    state = dict(states[layout])
    gone = foreign_name("rpn.conv.weight", layout)
    del state[gone]
    state["roi_head.mask_head.conv.weight"] = torch.zeros(1)
    with pytest.raises(ConversionError) as error:
        convert(state, Target(expected))
    message = str(error.value)
    assert layout.name in message
    assert f"1 missing: {gone}" in message and "1 left over: roi_head.mask_head.conv.weight" in message


def test_names_in_errors_are_the_checkpoint_s_own(vis4d, expected):
    state = {f"module.{older_vis4d(name)}": tensor for name, tensor in vis4d.items()}
    state["module.fpn.inner_blocks.0.0.bias"] = torch.zeros(256)  # given twice, in two spellings
    state["module.backbone.body.conv1.weight"] = torch.zeros(64, 3, 3, 3)
    state["module.backbone.body.bn1.weight"] = torch.zeros(64, dtype=torch.int64)
    with pytest.raises(ConversionError) as error:
        convert(state, Target(expected))
    message = str(error.value)
    assert re.search(r"1 left over: module\.fpn\.inner_blocks\.0\.(0\.)?bias", message)
    assert "module.backbone.body.conv1.weight is [64, 3, 3, 3], expected [64, 3, 7, 7]" in message
    assert "module.backbone.body.bn1.weight is torch.int64, expected torch.float32" in message


def test_a_style_that_the_file_tells_must_be_the_preset_s(openmmlab, expected):
    facts = FileFacts(style="caffe")
    with pytest.raises(ConversionError, match=r"caffe style .*1x1.*set model\.backbone_style to caffe"):
        convert(openmmlab, Target(expected, "pytorch"), facts)
    assert convert(openmmlab, Target(expected, "caffe"), facts).used == 364


def test_vis4d_s_yolox_is_refused_by_name(vis4d, expected):
    with pytest.raises(ConversionError, match="YOLOX"):
        convert({**vis4d, "yolox_head.convs.0.weight": torch.zeros(1)}, Target(expected))


@pytest.mark.parametrize(
    ("name", "tensor"),
    [
        ("roi_heads.box_predictor.cls_score.weight", torch.tensor(0.0)),
        ("roi_heads.box_predictor.bbox_pred.bias", torch.tensor(0.0)),
        ("roi_heads.box_predictor.cls_score.bias", torch.zeros(0)),
        ("conv1.bias", torch.zeros(3, 3)),
    ],
)
def test_absurd_shapes_are_an_error_of_ours(expected, name, tensor):
    state = {name: tensor, **({"bn1.running_mean": torch.zeros(64)} if name.startswith("conv1") else {})}
    with pytest.raises(ConversionError, match=r"recognised as .*(go together|missing)"):
        convert(state, Target(expected, labels=REFERENCE_LABELS))
    assert class_names(state, FileFacts()) == ()


# The network read off a checkpoint


@pytest.mark.parametrize("names", [foreign.OPENMMLAB, foreign.VIS4D])
def test_the_network_is_read_off_the_shapes(names):
    state = {name: torch.empty(t.shape, device="meta") for name, t in foreign.checkpoint(names, 3, 101).items()}
    assert network_of(state) == ModelConfig(num_classes=3, backbone="resnet101")
    state[f"{names.reg}.weight"], state[f"{names.reg}.bias"] = torch.empty(4, 1024), torch.empty(4)
    state[f"{names.track_embed}.weight"] = torch.empty(64, 1024)
    assert network_of(state, FileFacts(style="caffe")) == ModelConfig(
        num_classes=3, backbone="resnet101", backbone_style="caffe", class_agnostic_boxes=True, embedding_dim=64
    )


def test_a_checkpoint_of_nothing_known_lists_its_tensors():
    with pytest.raises(ConversionError, match=r"is of no other implementation.* 1 tensors: decoder\.weight"):
        network_of({"decoder.weight": torch.zeros(1)})
    with pytest.raises(ConversionError, match=r"vis4d.*2 blocks in its third stage"):
        network_of({f"basemodel.layer3.{i}.conv1.weight": torch.zeros(1) for i in range(2)})


# Files


def test_load_weights_takes_an_official_file_as_it_is(tmp_path, states, reference_network):
    path = tmp_path / "official.pth"
    torch.save({"meta": {"epoch": 12}, "state_dict": states[SYSCV_NEW]}, path)
    model = QDTrack(ModelConfig())
    load_weights(model, path)
    wanted = reference_network.state_dict()
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in model.state_dict().items())


def test_official_file_of_another_network_names_the_file_and_its_own_keys(tmp_path, states):
    path = tmp_path / "official.pth"
    torch.save({"state_dict": {k: torch.zeros(0) for k in states[SYSCV_OLD] if "track_head" not in k}}, path)
    with torch.device("meta"):
        model = QDTrack(ModelConfig())
    keys = r"16 missing, 348 mis-shaped\nmissing:\n  roi_head\.track_head\.convs"
    with pytest.raises(CheckpointError, match=rf"{re.escape(str(path))}.*{keys}"):
        load_weights(model, path)


@pytest.mark.parametrize(
    ("text", "style"),
    [
        ("model = dict(backbone=dict(depth=50, style='caffe'))", "caffe"),
        ('{"style": "pytorch"}', "pytorch"),
        ("backbone=dict(style='caffe'), other=dict(style='pytorch')", ""),
        ("no word of it", ""),
    ],
)
def test_what_openmmlab_writes_beside_the_weights_is_used(tmp_path, openmmlab, text, style):
    path = tmp_path / "half.pth"
    half = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in openmmlab.items()}
    torch.save({"meta": {"config": text, "CLASSES": VIS4D_LABELS}, "state_dict": half, "optimizer": {}}, path)
    with torch.device("meta"):
        model = QDTrack(ModelConfig(backbone_style="caffe" if style == "pytorch" else "pytorch"))
    if style:
        with pytest.raises(CheckpointError, match=f"a ResNet of {style} style"):
            load_weights(model, path)
        return
    model = QDTrack(ModelConfig())
    load_weights(model, path, REFERENCE_LABELS)
    theirs = openmmlab["detector.roi_head.bbox_head.fc_cls.bias"].half().float()
    assert torch.equal(model.box_head.classifier.bias, theirs), "mmdet's CLASSES are not in the classifier's order"


# ImageNet


@torch.inference_mode()
def test_caffe_s_resnet_keeps_the_bias_of_its_first_convolution(tmp_path):
    maker = foreign.Maker(3)
    maker.resnet("", counters=False)
    maker.state["conv1.bias"] = torch.randn(64)
    path = tmp_path / "resnet50_msra.pth"
    torch.save({"state_dict": maker.state}, path)
    backbone = ResNet(50, "caffe").eval()
    load_torchvision_resnet(backbone, path)
    images = torch.randn(1, 3, 64, 64)
    for ours, theirs in zip(backbone(images), foreign.trunk(maker.state, "", images, "caffe"), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    with pytest.raises(CheckpointError, match=r"caffe style.*backbone_style"):
        load_torchvision_resnet(ResNet(50), path)


@pytest.mark.parametrize(("sha256", "style"), [("0676ba61" + "0" * 56, "pytorch"), ("788b5fa3" + "0" * 56, "caffe")])
def test_published_resnets_are_known_by_their_hash(sha256, style):
    maker = foreign.Maker(4)
    maker.resnet("")
    expected = {f"backbone.{name}": tensor for name, tensor in maker.state.items()}
    state = {**maker.state, "fc.weight": torch.zeros(1000, 2048), "fc.bias": torch.zeros(1000)}
    conversion = convert(state, Target(expected, style), FileFacts(sha256))
    assert conversion.layout is RESNET and conversion.aside == {"the ImageNet classifier": 2}
    with pytest.raises(ConversionError, match=f"of {style} style"):
        convert(state, Target(expected, {"pytorch": "caffe", "caffe": "pytorch"}[style]), FileFacts(sha256))


def test_a_resnet_is_wanted_where_a_detector_is_given(tmp_path, openmmlab):
    path = tmp_path / "detector.pth"
    torch.save({k: v for k, v in openmmlab.items() if v.numel() < 2000}, path)
    with pytest.raises(CheckpointError, match=r"is no ImageNet ResNet; recognised as mmtracking 0\.x"):
        load_torchvision_resnet(ResNet(50), path)
