"""The static form against the reference form: the same detections for every preset's architecture, or a flag."""

from __future__ import annotations

import io
import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functional_call
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from qdtrack_ros.inference.presets import load_preset, preset_names
from qdtrack_ros.inference.static_engine import static_form as form_of
from qdtrack_ros.models import ModelConfig, ProposalConfig, QDTrack, RawDetections
from qdtrack_ros.models.static import POOLINGS, StaticQDTrack, Unpacked, _best, unpack
from qdtrack_ros.ops.boxes import pairwise_iou

MEAN, STD = (120.0, 115.0, 100.0), (60.0, 58.0, 57.0)
SIZE = (96, 128)

SMALL = ModelConfig(
    num_classes=2,
    backbone="efficientnet_lite0",
    fpn_channels=32,
    fpn_first_stride=8,
    fpn_levels=4,
    anchor_scales=(4.0,),
    proposals=ProposalConfig(50, 0.7, 40),
    box_fc_channels=32,
    max_detections=20,
    embedding_convs=1,
    embedding_conv_channels=32,
    embedding_fc_channels=0,
    embedding_dim=16,
)
ARCHITECTURES = {
    "small": SMALL,
    "trunk": replace(SMALL, embedding_from="trunk", embedding_roi_size=(48, 24), num_classes=1),
    "unclipped": replace(SMALL, clip_boxes=False),
    "many classes": replace(SMALL, num_classes=40, score_threshold=0.0001, max_detections=60),
    "one set of deltas": replace(SMALL, num_classes=5, class_agnostic_boxes=True),
    "resnet": replace(SMALL, backbone="resnet50", fpn_first_stride=4, fpn_levels=5, embedding_fc_channels=32),
    "caffe": replace(SMALL, backbone="resnet50", backbone_style="caffe", fpn_first_stride=4, clip_boxes=False),
}


def random_network(config: ModelConfig) -> QDTrack:
    """With scores and boxes that vary, and BatchNorm statistics that are not those of a fresh one."""
    torch.manual_seed(3)
    network = QDTrack(config).eval()
    torch.nn.init.normal_(network.box_head.classifier.weight, std=0.3)
    torch.nn.init.normal_(network.box_head.regressor.weight, std=0.2)
    torch.nn.init.normal_(network.rpn.deltas.weight, std=0.02)
    torch.nn.init.normal_(network.embedding_head.embed.weight, std=0.1)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_mean, -0.2, 0.2)
            torch.nn.init.uniform_(module.running_var, 0.6, 1.6)
            torch.nn.init.uniform_(module.weight, 0.5, 0.8)
    return network


def static_form(network: QDTrack, **options: object) -> StaticQDTrack:
    return StaticQDTrack(network, SIZE, MEAN, STD, bgr=False, **options)


def detect(network: QDTrack, pictures: Tensor, sizes: Tensor) -> list[RawDetections]:
    """The reference form on the same pictures, prepared by hand."""
    images = (pictures.flip(3).permute(0, 3, 1, 2).float() - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[
        :, None, None
    ]
    for image, (height, width) in zip(images, sizes.int().tolist(), strict=True):
        image[:, height:] = 0
        image[:, :, width:] = 0
    with torch.inference_mode():
        return network(images, [(int(h), int(w)) for h, w in sizes], [(1.0, 1.0)] * len(images))


def run(form: StaticQDTrack, pictures: Tensor, sizes: Tensor) -> list[Unpacked]:
    with torch.inference_mode():
        return unpack(form(pictures, sizes))


def share_found(static: Unpacked, reference: RawDetections) -> float:
    """The part of the reference's detections that the static form has: IoU > 0.95, same label, score and embedding."""
    used = static.scores > 0
    assert used.sum() == used.int().cumprod(0).sum(), "a free slot before one in use"
    if not len(reference.boxes):
        return float(used.sum() == 0)
    same = pairwise_iou(reference.boxes, static.boxes[used]) > 0.95
    same &= reference.labels[:, None] == static.labels[used].long()
    same &= (reference.scores[:, None] - static.scores[used]).abs() < 1e-3
    same &= (reference.embeddings[:, None] - static.embeddings[used]).abs().amax(dim=2) < 1e-2
    return float(same.any(dim=1).float().mean()) if used.sum() == len(reference.boxes) else 0.0


@pytest.fixture
def pictures(synthetic_image) -> Tensor:
    return torch.from_numpy(np.stack([synthetic_image(seed, *SIZE) for seed in (1, 2, 3)]))


SIZES = torch.tensor([[96.0, 128.0], [96.0, 128.0], [70.0, 101.0]])


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_detections_are_those_of_the_reference_form(name, pictures):
    network = random_network(ARCHITECTURES[name])
    expected = detect(network, pictures, SIZES)
    assert min(len(one.boxes) for one in expected) > 5
    found = run(static_form(network), pictures, SIZES)
    assert all(one.exact and one.finite for one in found)
    assert [share_found(a, b) for a, b in zip(found, expected, strict=True)] == [1.0] * 3


@pytest.mark.parametrize("name", ["small", "trunk", "resnet"])
def test_the_atlas_finds_the_same(name, pictures):
    network = random_network(ARCHITECTURES[name])
    # Boxes of ordinary shapes: what the atlas samples less often than RoIAlign is tested in test_fixed_roi.py.
    torch.nn.init.normal_(network.box_head.regressor.weight, std=0.01)
    torch.nn.init.normal_(network.rpn.deltas.weight, std=0.001)
    expected = detect(network, pictures, SIZES)
    found = run(static_form(network, pooling="atlas"), pictures, SIZES)
    assert min(share_found(a, b) for a, b in zip(found, expected, strict=True)) >= 0.95


@pytest.mark.parametrize("name", ["small", "trunk"])
def test_trimmed_slots_hold_the_same_detections(name, pictures):
    network = random_network(ARCHITECTURES[name])
    whole = run(static_form(network), pictures, SIZES)
    most = max(int((one.scores > 0).sum()) for one in whole)
    trimmed = run(static_form(network, trim=True), pictures, SIZES)
    slots = min(-(-most // 8) * 8, network.config.max_detections)
    assert [len(one.boxes) for one in trimmed] == [slots] * 3
    for one, other in zip(whole, trimmed, strict=True):
        torch.testing.assert_close(other.boxes, one.boxes[:slots])
        torch.testing.assert_close(other.embeddings, one.embeddings[:slots], atol=1e-4, rtol=1e-4)
    network.config = replace(network.config, score_threshold=1.0)
    assert [len(one.boxes) for one in run(static_form(network, trim=True), pictures, SIZES)] == [8] * 3


def test_what_lies_in_the_padding_does_not_matter(pictures):
    form = static_form(random_network(SMALL))
    dirty = pictures.clone()
    dirty[2, 70:] = 255
    dirty[2, :, 101:] = 17
    assert torch.equal(run(form, dirty, SIZES)[2].boxes, run(form, pictures, SIZES)[2].boxes)


def test_blue_first_networks_read_the_picture_as_it_is(pictures):
    network = random_network(SMALL)
    rgb = run(static_form(network), pictures.flip(3), SIZES)[0]
    bgr = run(StaticQDTrack(network, SIZE, MEAN, STD, bgr=True), pictures, SIZES)[0]
    torch.testing.assert_close(rgb.boxes, bgr.boxes, atol=1e-3, rtol=0)


def test_too_few_steps_of_suppression_are_flagged(pictures):
    form = static_form(random_network(SMALL), nms_steps=1)
    assert not all(one.exact for one in run(form, pictures, SIZES))


def test_candidates_without_a_slot_are_flagged_unless_all_detections_are_found(pictures):
    network = random_network(ARCHITECTURES["many classes"])
    form = static_form(network)
    form.candidates = 60
    assert not any(one.exact for one in run(form, pictures, SIZES))
    few = static_form(random_network(replace(ARCHITECTURES["many classes"], max_detections=3)))
    few.candidates = 400
    found = run(few, pictures, SIZES)
    expected = detect(few_network(few), pictures, SIZES)
    assert all(one.exact for one in found)
    assert [share_found(a, b) for a, b in zip(found, expected, strict=True)] == [1.0] * 3


def few_network(form: StaticQDTrack) -> QDTrack:
    return random_network(form.config)


@pytest.mark.parametrize("part", ["neck.lateral_convs.0.bias", "rpn.deltas.bias", "box_head.regressor.bias"])
@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_a_network_that_overflows_is_flagged(part, value, pictures):
    network = random_network(SMALL)
    dict(network.named_parameters())[part].data[0] = value
    assert not any(one.finite for one in run(static_form(network), pictures, SIZES))


@pytest.mark.parametrize("count", [1, 40, 300])
@pytest.mark.parametrize("levels", [1, 3, 20, 10_000])
def test_of_equal_scores_the_first_are_the_best(levels, count):
    scores = (torch.rand(3, 300, generator=torch.Generator().manual_seed(levels)) * levels).floor() / levels
    scores[0, ::3], scores[1] = -1.0, 1.0
    expected = scores.sort(dim=1, descending=True, stable=True)
    best, order = _best(scores, count)
    assert torch.equal(best, expected.values[:, :count]) and torch.equal(order, expected.indices[:, :count])


@pytest.mark.filterwarnings("ignore")
def test_of_equal_scores_the_first_are_the_best_in_onnxruntime():
    pytest.importorskip("onnx")
    onnxruntime = pytest.importorskip("onnxruntime")

    class Best(torch.nn.Module):
        def forward(self, scores: Tensor) -> tuple[Tensor, Tensor]:
            return _best(scores, 40)

    file, scores = io.BytesIO(), (torch.rand(2, 300) * 20).floor() / 20
    torch.onnx.export(Best(), (scores,), file, input_names=["scores"], opset_version=18, dynamo=False)
    order = onnxruntime.InferenceSession(file.getvalue()).run(None, {"scores": scores.numpy()})[1]
    np.testing.assert_array_equal(order, scores.sort(dim=1, descending=True, stable=True).indices[:, :40])


@pytest.mark.parametrize("part", ["rpn.objectness.bias", "box_head.classifier.bias"])
def test_scores_that_are_all_1_leave_the_order_of_the_reference_form(part, pictures):
    network = random_network(SMALL)
    dict(network.named_parameters())[part].data[0] = 200
    expected = detect(network, pictures, SIZES)
    found = run(static_form(network), pictures, SIZES)
    assert all(one.exact for one in found)
    assert [share_found(a, b) for a, b in zip(found, expected, strict=True)] == [1.0] * 3


@pytest.mark.parametrize("name", ["small", "unclipped"])
def test_finite_offsets_that_lead_to_infinity_give_what_the_reference_form_gives(name, pictures):
    network = random_network(ARCHITECTURES[name])
    network.box_head.regressor.bias.data[0] = 3e38
    expected = detect(network, pictures, SIZES)
    found = run(static_form(network), pictures, SIZES)
    assert [int((one.scores > 0).sum()) for one in found] == [len(one.scores) for one in expected]
    assert all(bool(one.boxes.isfinite().all()) for one in found)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.boxes[: len(other.boxes)], other.boxes, atol=1e-2, rtol=0)


def test_half_precision_keeps_boxes_and_scores_in_float32(pictures):
    network = random_network(SMALL)
    form = static_form(network, dtype=torch.bfloat16)
    (packed,) = {one.boxes.dtype for one in run(form, pictures, SIZES)}
    assert packed == torch.float32
    assert all(one.finite and (one.scores > 0).any() for one in run(form, pictures, SIZES))


def test_wrong_shapes_and_poolings_are_named():
    network = QDTrack(SMALL)
    with pytest.raises(ValueError, match=r"input_size is \(90, 128\); expected \(height, width\), multiples of 32"):
        StaticQDTrack(network, (90, 128), MEAN, STD, False)
    with pytest.raises(ValueError, match="pooling is 'roi'; expected one of roi_align, atlas"):
        static_form(network, pooling="roi")


class Operators(TorchDispatchMode):
    """Names of the operators that run while it is entered."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.add(func.name())
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("pooling", ["roi_align", "atlas"])
def test_nothing_waits_for_a_device(name, pooling, pictures):
    form = static_form(random_network(ARCHITECTURES[name]), pooling=pooling)
    with torch.inference_mode(), Operators() as operators:
        form(pictures, SIZES)
    # Values that Python asks for, shapes that depend on data, and tensors made of Python numbers: a GPU's graph cannot
    # be captured with any of them.
    waits = ("aten::item", "aten::_local_scalar_dense", "aten::nonzero", "aten::lift_fresh", "aten::masked_select")
    assert not [one for one in operators.names if one.startswith(waits)]
    assert "aten::topk" in operators.names


ON_A_GPU = ((torch.float32, 1), (torch.float16, 4), (torch.bfloat16, 8))


class Hosted(TorchDispatchMode):
    """Names of the operators that have to do with a tensor outside the GPU."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        tensors = [leaf for leaf in tree_leaves((args, kwargs, result)) if isinstance(leaf, Tensor)]
        if not all(tensor.device.type == "cuda" for tensor in tensors):
            self.names.add(func.name())
        return result


@pytest.mark.skipif(not torch.backends.cuda.is_built(), reason="needs a PyTorch that knows CUDA; a device it needs not")
@pytest.mark.parametrize("name", preset_names())
def test_no_operator_waits_for_the_host_or_leaves_the_device(name):
    preset = load_preset(name)
    network = QDTrack(preset.model)
    # Tensors without values, which say that they lie on a GPU: asked for a value, or for a shape that depends on one,
    # they raise, and so does an operator on two devices.
    mode = FakeTensorMode()
    for pooling, (dtype, batch) in itertools.product(POOLINGS, ON_A_GPU):
        form = form_of(network, preset.preprocess, SIZE, pooling, dtype)
        with mode, torch.device("cuda"):
            parts = {**dict(form.named_parameters()), **dict(form.named_buffers())}
            there = {key: torch.empty_strided(one.shape, one.stride(), dtype=one.dtype) for key, one in parts.items()}
            arguments = torch.empty(batch, *SIZE, 3, dtype=torch.uint8), torch.empty(batch, 2)
        with mode, torch.no_grad(), Hosted() as hosted:
            packed = functional_call(form, there, arguments)
        assert packed.device.type == "cuda" and packed.dtype == torch.float32
        assert packed.shape == (batch, 1 + preset.model.max_detections, 6 + preset.model.embedding_dim)
        assert not hosted.names
