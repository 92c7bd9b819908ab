"""torchvision's own Faster R-CNN beside what it becomes here: equal where the rules are, close where they differ."""

from __future__ import annotations

import re

import pytest
import torch
import torchvision
from torchvision.models.detection import FasterRCNN, fasterrcnn_resnet50_fpn
from torchvision.models.detection.backbone_utils import _resnet_fpn_extractor
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import box_iou
from torchvision.ops.misc import FrozenBatchNorm2d

from qdtrack_ros.inference.preprocess import PreprocessConfig, preprocess
from qdtrack_ros.models import ModelConfig, QDTrack
from qdtrack_ros.models.conversion import TORCHVISION_DETECTOR, ConversionError, FileFacts, Target, convert, network_of

CATEGORIES = torchvision.models.detection.FasterRCNN_ResNet50_FPN_Weights.COCO_V1.meta["categories"]
STEM = "backbone.body.bn1.running_var"
PUBLISHED = FileFacts(sha256="258fb6c6" + "0" * 56)


def seeded(model):
    """Random statistics of BatchNorm, and heads that have something to say."""
    generator = torch.Generator().manual_seed(0)
    for name, tensor in model.state_dict().items():
        if name.endswith(("running_var", "running_mean")):
            low = 0.5 if name.endswith("running_var") else -0.1
            tensor.copy_(torch.rand(tensor.shape, generator=generator) + low)
        elif "box_predictor" in name or "rpn.head" in name:
            tensor.copy_(torch.randn(tensor.shape, generator=generator) * 0.05)
    return model.eval()


@pytest.fixture(scope="module")
def detector():
    """As torchvision builds it for COCO: 91 entries, background first."""
    return seeded(fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None))


@pytest.fixture(scope="module")
def frozen():
    """With the BatchNorm that pretrained detectors have: constants, no counters, and its epsilon can be set."""
    trunk = torchvision.models.resnet50(weights=None, norm_layer=FrozenBatchNorm2d)
    return seeded(FasterRCNN(_resnet_fpn_extractor(trunk, 3), 91))


def converted(state, facts=None, **target):
    count = len(target.get("labels", ())) or 90
    model = QDTrack(ModelConfig(num_classes=count)).eval()
    conversion = convert(state, Target(model.state_dict(), "pytorch", **target), facts)
    model.load_state_dict({**model.state_dict(), **conversion.tensors})
    return model, conversion


def old_spelling(name):
    name = re.sub(r"(inner|layer)_blocks\.(\d)\.0\.", r"\1_blocks.\2.", name)
    return name.replace("rpn.head.conv.0.0.", "rpn.head.conv.")


@pytest.mark.parametrize("spelling", [str, old_spelling], ids=["today", "as in the published file"])
@torch.inference_mode()
def test_features_and_heads_are_equal(detector, spelling):
    model, conversion = converted({spelling(name): tensor for name, tensor in detector.state_dict().items()})
    assert conversion.layout is TORCHVISION_DETECTOR
    assert conversion.untrained == {"embedding_head"}
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(1, 3, 64, 96, generator=generator)
    features = list(detector.backbone(images).values())
    found = model.extract_features(images).pyramid
    for ours, theirs in zip(found, features, strict=True):
        torch.testing.assert_close(ours, theirs)
    rpn = model.rpn(found)
    for ours, theirs in zip((rpn.logits, rpn.deltas), detector.rpn.head(features), strict=True):
        for level, wanted in zip(ours, theirs, strict=True):
            torch.testing.assert_close(level, wanted)
    pooled = torch.randn(4, 256, 7, 7, generator=generator)
    scores, deltas = detector.roi_heads.box_predictor(detector.roi_heads.box_head(pooled))
    logits, ours = model.box_head(pooled)
    torch.testing.assert_close(logits[:, :90], scores[:, 1:])  # background is first there, and last here
    torch.testing.assert_close(logits[:, 90], scores[:, 0])
    torch.testing.assert_close(ours, deltas[:, 4:])


@torch.inference_mode()
def test_labels_pick_their_categories(detector):
    labels = ("bicycle", "pedestrian", "rider", "train")
    model, conversion = converted(detector.state_dict(), labels=labels, sources={"rider": "person"})
    assert conversion.classes == [
        ("bicycle", "bicycle"),
        ("pedestrian", "person"),
        ("rider", "person"),
        ("train", "train"),
    ]
    pooled = torch.randn(2, 256, 7, 7)
    scores, deltas = detector.roi_heads.box_predictor(detector.roi_heads.box_head(pooled))
    logits, ours = model.box_head(pooled)
    for index, category in enumerate(("bicycle", "person", "person", "train")):
        row = CATEGORIES.index(category)
        torch.testing.assert_close(logits[:, index], scores[:, row])
        torch.testing.assert_close(ours[:, 4 * index : 4 * index + 4], deltas[:, 4 * row : 4 * row + 4])
    torch.testing.assert_close(logits[:, 4], scores[:, 0])


def test_a_label_that_coco_has_not_is_named_with_the_categories(detector):
    with pytest.raises(ConversionError, match=r"has no class for 'rider'; it has person; bicycle;.*toothbrush\. Say"):
        converted(detector.state_dict(), labels=("person", "rider"))
    with pytest.raises(ConversionError, match=r"has no class for 'rider'"):
        converted(detector.state_dict(), labels=("rider",), sources={"rider": "horseman"})


@pytest.mark.parametrize(("facts", "epsilon"), [(FileFacts(), 1e-5), (PUBLISHED, 0.0)], ids=["own", "published"])
@torch.inference_mode()
def test_the_published_file_has_no_epsilon(frozen, facts, epsilon):
    """The epsilon of the COCO file is set to 0 by torchvision; with small variances that shows."""
    state = {name: t * 1e-5 if name == STEM else t for name, t in frozen.state_dict().items()}
    frozen.load_state_dict(state)
    for module in frozen.modules():
        if isinstance(module, FrozenBatchNorm2d):
            module.eps = epsilon
    images = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    wanted = list(frozen.backbone(images).values())
    right, _ = converted(state, facts)
    wrong, _ = converted(state, PUBLISHED if facts is not PUBLISHED else FileFacts())
    frozen.load_state_dict({n: t * 1e5 if n == STEM else t for n, t in state.items()})

    def distance(model):
        features = model.extract_features(images).pyramid
        return max(float((a - b).norm() / b.norm()) for a, b in zip(features, wanted, strict=True))

    assert distance(right) < 1e-4 < 1e-2 < distance(wrong)


def test_the_newer_detector_is_refused_by_name(detector):
    state = {**detector.state_dict(), "backbone.fpn.inner_blocks.0.1.weight": torch.ones(256)}
    with pytest.raises(ConversionError, match="fasterrcnn_resnet50_fpn_v2"):
        converted(state)


def test_its_network_is_read_off(detector):
    assert network_of(detector.state_dict()) == ModelConfig(num_classes=90)


@pytest.fixture(scope="module")
def both(reference_network):
    """A detector of torchvision with the weights of the reference's random checkpoint, and ours made from it."""
    theirs = fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=9).eval()
    ours = reference_network.state_dict()
    state = {}
    for name in theirs.state_dict():
        own = next(
            own for own in ours if TORCHVISION_DETECTOR.foreign_name(own) == name
        )  # the table is what the tests above are about
        state[name] = ours[own]
    predictor = "roi_heads.box_predictor"
    for part in ("weight", "bias"):
        rows, deltas = state[f"{predictor}.cls_score.{part}"], state[f"{predictor}.bbox_pred.{part}"]
        state[f"{predictor}.cls_score.{part}"] = torch.cat([rows[-1:], rows[:-1]])
        state[f"{predictor}.bbox_pred.{part}"] = torch.cat([torch.zeros_like(deltas[:4]), deltas])
    theirs.load_state_dict(state)
    model = QDTrack(ModelConfig()).eval()
    conversion = convert(theirs.state_dict(), Target(model.state_dict()))
    model.load_state_dict({**model.state_dict(), **conversion.tensors})
    return theirs, model


def detections(theirs, ours, image):
    """What both find in a picture: torchvision's dictionary, and ours."""
    batch = preprocess([image], PreprocessConfig(image_scale=(0, 0)))
    images, (size,) = torch.from_numpy(batch.images), batch.image_sizes
    features = theirs.backbone(images)
    proposals, _ = theirs.rpn(ImageList(images, [size]), features)
    (wanted,), _ = theirs.roi_heads(features, proposals, [size])
    (found,) = ours(images, [size], [(1.0, 1.0)])
    return wanted, found


def matches(wanted, found):
    """For every detection of torchvision's the IoU with ours of the same class that is nearest, and its row."""
    same = wanted["labels"][:, None] - 1 == found.labels[None]
    return torch.where(same, box_iou(wanted["boxes"], found.boxes), 0.0).max(dim=1)


@torch.inference_mode()
def test_detections_differ_little(both, synthetic_image):
    wanted, found = detections(*both, synthetic_image(5, 192, 320))
    overlap, row = matches(wanted, found)
    strong = wanted["scores"] > wanted["scores"].median()
    again = overlap > 0.5
    difference = (wanted["scores"] - found.scores[row]).abs()[strong & again]
    # The weights are random, and more sensitive to half a pixel than trained ones.
    assert int(strong.sum()) > 20
    assert again[strong].float().mean() > 0.7
    assert difference.mean() < 0.1


@torch.inference_mode()
def test_nothing_but_anchors_and_pooling_differs(both, synthetic_image, monkeypatch):
    theirs, ours = both
    ratios = torch.tensor([0.5, 1.0, 2.0]).sqrt()
    sizes = [torch.stack([size / ratios, size * ratios], dim=1) / 2 for size in (32, 64, 128, 256, 512)]
    exact = [torch.cat([-half, half], dim=1) for half in sizes]
    monkeypatch.setattr(theirs.rpn.anchor_generator, "cell_anchors", exact)
    pool = OurPooling(ours)
    monkeypatch.setitem(theirs.roi_heads._modules, "box_roi_pool", pool)
    wanted, found = detections(theirs, ours, synthetic_image(5, 192, 320))
    overlap, row = matches(wanted, found)
    assert len(wanted["boxes"]) == len(found.boxes) and len(row.unique()) == len(row)
    torch.testing.assert_close(found.boxes[row], wanted["boxes"], rtol=0, atol=5e-3)
    torch.testing.assert_close(found.scores[row], wanted["scores"], rtol=0, atol=1e-4)


class OurPooling(torch.nn.Module):
    """Takes the place of torchvision's pooling."""

    def __init__(self, ours):
        super().__init__()
        self._pool = ours.pool

    def forward(self, features, boxes, image_shapes):
        return self._pool(list(features.values()), boxes)
