"""From annotations to the losses: classes keep their number, identity 0 its match, ignored regions never count."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import yaml

import qdtrack_ros.training.detector_loss as detector_loss
from qdtrack_ros.inference.presets import load_preset
from qdtrack_ros.models import QDTrack
from qdtrack_ros.training.config import LossConfig
from qdtrack_ros.training.data_module import pair_sampler
from qdtrack_ros.training.detector_loss import DetectorLoss
from qdtrack_ros.training.embedding_loss import EmbeddingLoss
from qdtrack_ros.training.module import QDTrackModule
from qdtrack_ros.training.stream import Objects, collate

BDD100K = ["pedestrian", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle"]
TRUCK = 3
PLAIN = {
    "pairs.mosaic": 0.0,
    "pairs.augmentation": {"size": [128, 192], "object_height": [56.0, 56.0], "pair_scale_jitter": 0.0, "flip": 0.0},
}


def generators(count):
    return [torch.Generator().manual_seed(n) for n in range(count)]


@pytest.fixture
def eight(training, tiny_preset, street):
    """A training with BDD100K's labels on a street of trucks whose identities begin with 0, and its first pair."""
    settings = yaml.safe_load(tiny_preset.read_text())
    settings["labels"], settings["model"]["num_classes"] = BDD100K, 8
    settings["model"]["proposals"] = {"per_level": 200, "nms_iou": 0.7, "total": 200}
    path = tiny_preset.with_name("eight.yaml")
    path.write_text(yaml.safe_dump(settings))
    rows = [row.split(",") for row in (street / "gt" / "gt.txt").read_text().split()]
    (street / "gt" / "gt.txt").write_text("\n".join(",".join([r[0], str(int(r[1]) - 1), *r[2:]]) for r in rows))
    source = {"format": "mot", "path": "street", "labels": {"pedestrian": "truck"}, "scope": 2}
    config = training(preset=str(path), sources=[source], **PLAIN)
    preset = load_preset(str(path))
    batch = collate([pair_sampler(config, preset, street.parent).draw(0)])
    torch.manual_seed(0)
    return config, preset, QDTrack(preset.model).train(), batch


def test_class_3_of_8_reaches_the_classification_loss_as_class_3(eight, monkeypatch):
    config, preset, model, batch = eight
    assert batch.objects[0].labels.tolist() == [TRUCK] * 3
    taught = []
    cross_entropy = torch.nn.functional.cross_entropy

    def noted(logits, labels, **settings):
        taught.append((logits.shape[1], labels))
        return cross_entropy(logits, labels, **settings)

    monkeypatch.setattr(detector_loss.F, "cross_entropy", noted)
    QDTrackModule(config, preset, model).losses(batch)
    ((columns, labels),) = taught
    assert columns == 9 and set(labels.tolist()) == {TRUCK, 8}  # and background, the last column
    assert int((labels == TRUCK).sum()) >= 3


def test_training_on_class_3_raises_class_3(eight):
    config, preset, model, batch = eight
    module = QDTrackModule(config, preset, model)
    optimizer = torch.optim.SGD(module.parameters(), 0.02, momentum=0.9)
    for _ in range(12):
        optimizer.zero_grad()
        torch.stack(list(module.losses(batch)[0].values())).sum().backward()
        optimizer.step()
    features = model.extract_features(module.normalise(batch.images, batch.sizes))
    logits, _ = model.box_head(model.pool(features.pyramid, [o.boxes for o in batch.objects]))
    assert (logits[:, :8].argmax(dim=1) == TRUCK).all()


def test_identity_0_is_an_identity(eight):
    config, _, model, batch = eight
    assert batch.matches[0].tolist() == [0, 1, 2]  # one of the three is identity 0
    features = model.extract_features(torch.zeros(2, 3, 128, 192))
    alone = [Objects(o.boxes[:1], o.labels[:1], o.ignore_boxes, o.named[:1]) for o in batch.objects]
    first = replace(batch, objects=alone, matches=[torch.tensor([0])])  # the match with row 0, too
    loss = EmbeddingLoss(config.loss)(model, features, [o.boxes for o in alone], first, generators(2))
    assert loss.positives > 0 and float(loss.contrastive.detach()) >= 0


def grid(step=8, side=24, width=192, height=128):
    """Boxes all over the picture."""
    x, y = np.meshgrid(np.arange(0, width - side, step), np.arange(0, height - side, step))
    corners = np.stack([x.ravel(), y.ravel()], axis=1).astype(np.float32)
    return torch.from_numpy(np.concatenate([corners, corners + side], axis=1))


def touches(boxes, region):
    """Whether more than half of a box [N, 4] lies in a region [4]."""
    low, high = torch.maximum(boxes[:, :2], region[:2]), torch.minimum(boxes[:, 2:], region[2:])
    inside = (high - low).clamp(min=0).prod(dim=1)
    return inside > 0.5 * (boxes[:, 2:] - boxes[:, :2]).prod(dim=1)


REGION = torch.tensor([100.0, 10.0, 180.0, 110.0])


def test_ignored_regions_are_never_negatives_of_the_rpn_and_the_box_head(eight):
    _, _, model, batch = eight
    everything = LossConfig(rpn_samples=10**6, box_samples=10**6)
    loss = DetectorLoss(everything)
    features = model.extract_features(torch.zeros(1, 3, 128, 192))
    output, anchors = model.rpn(features.pyramid), model.rpn.anchors(features.pyramid)
    plain = Objects(
        torch.tensor([[10.0, 10.0, 50.0, 90.0]]), torch.tensor([TRUCK]), torch.zeros(0, 4), torch.tensor([True])
    )
    for logits in output.logits:
        logits.retain_grad()
    for ignored in (torch.zeros(0, 4), REGION[None]):
        objects = [replace(plain, ignore_boxes=ignored)]
        for logits in output.logits:
            logits.grad = None
        loss.rpn(output, anchors, objects, generators(1)).classification.backward(retain_graph=True)
        taught = torch.cat([g.grad.permute(0, 2, 3, 1).reshape(-1) for g in output.logits]) != 0
        inside = touches(torch.cat(anchors), REGION)
        assert inside.sum() > 50 and taught[~inside].float().mean() > 0.9
        assert taught[inside].all() if not len(ignored) else not taught[inside].any()
    seen = []
    pool = model.pool
    model.pool = lambda pyramid, boxes, *size: seen.append(torch.cat(list(boxes))) or pool(pyramid, boxes, *size)
    for ignored in (torch.zeros(0, 4), REGION[None]):
        loss.boxes(model, features.pyramid, [grid()], [replace(plain, ignore_boxes=ignored)], generators(1))
    inside = [int(touches(boxes, REGION).sum()) for boxes in seen]
    assert inside[0] > 50 and inside[1] == 0 and len(seen[1]) > 50


@pytest.mark.parametrize("balanced", [True, False])
def test_ignored_regions_are_never_negatives_of_the_embedding(eight, balanced):
    config, _, model, batch = eight
    loss = EmbeddingLoss(replace(config.loss, reference_samples=10**6, iou_balanced_negatives=balanced))
    features = model.extract_features(torch.zeros(2, 3, 128, 192))
    seen = []
    embed = model.embed
    model.embed = lambda features, boxes: seen.append(boxes) or embed(features, boxes)
    for ignored in (torch.zeros(0, 4), REGION[None]):
        box = torch.tensor([[10.0, 10.0, 50.0, 90.0]])
        objects = [Objects(box, torch.tensor([TRUCK]), ignored, torch.tensor([True]))] * 2
        # Many regions of the object, so that the negatives are not cut off at three for every positive.
        many = torch.cat([grid(), box + torch.linspace(0, 3, 60)[:, None]])
        drawn = replace(batch, objects=objects, matches=[torch.tensor([0])])
        loss(model, features, [many, many], drawn, generators(2))
    inside = [int(touches(reference, REGION).sum()) for _, reference in seen]
    assert inside[0] > 30 and inside[1] == 0 and len(seen[1][1]) > 100
