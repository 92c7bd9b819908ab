"""What the embedding learns from: sampled regions or the ground truth alone, many positives or one."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from qdtrack_ros.ops.losses import l2_auxiliary_loss, multi_positive_cross_entropy
from qdtrack_ros.ops.similarity import dot_similarity
from qdtrack_ros.training.config import LossConfig
from qdtrack_ros.training.embedding_loss import EmbeddingLoss
from qdtrack_ros.training.stream import Objects, PairBatch

CONFIG = LossConfig(track_weight=1.0, key_positives=8, reference_samples=16, iou_balanced_negatives=False)
BOXES = torch.tensor([[0.0, 0.0, 40.0, 80.0], [100.0, 0.0, 140.0, 80.0], [200.0, 0.0, 240.0, 80.0]])
# Two proposals on each object, and two on background.
PROPOSALS = torch.cat([BOXES + 1, BOXES - 2, torch.tensor([[300.0, 0.0, 340.0, 80.0], [300.0, 90.0, 340.0, 170.0]])])


class BoxEmbedder:
    """Embeds a box by its corners, turned and scaled; remembers what it was asked for."""

    def embed(self, features: object, boxes: list[torch.Tensor]) -> torch.Tensor:
        self.boxes = boxes
        turn = torch.linspace(-1, 1, 12).sin().reshape(4, 3)
        return torch.cat(boxes) / 100 @ turn


def pair(matches: list[int], named: list[bool]) -> PairBatch:
    """The same three objects in both pictures; which is which in the reference is given."""
    objects = Objects(BOXES, torch.zeros(3, dtype=torch.int64), torch.zeros(0, 4), torch.tensor(named))
    return PairBatch(
        torch.zeros(2, 1, 1, 3, dtype=torch.uint8), [(1, 1)] * 2, [objects, objects], [torch.tensor(matches)], [0]
    )


def compare(config: LossConfig, matches: list[int], named: tuple[bool, ...] = (True, True, True)):
    model = BoxEmbedder()
    generators = [torch.Generator().manual_seed(picture) for picture in range(2)]
    loss = EmbeddingLoss(config)(model, None, [PROPOSALS, PROPOSALS], pair(matches, list(named)), generators)  # type: ignore[arg-type]
    key, reference = model.boxes
    return loss, key, reference, model.embed(None, [key]), model.embed(None, [reference])


def test_sparse_regions_are_the_ground_truth_and_one_of_them_is_the_partner():
    loss, key_boxes, reference_boxes, key, reference = compare(replace(CONFIG, regions="sparse"), [0, 2, -1])
    assert torch.equal(key_boxes, BOXES) and torch.equal(reference_boxes, BOXES)
    assert loss.positives == 2
    similarity = dot_similarity(key, reference)[:2]  # the third object is gone
    torch.testing.assert_close(loss.contrastive, F.cross_entropy(similarity, torch.tensor([0, 2])))


def test_many_positives_and_one_are_the_same_for_sparse_regions():
    many = compare(replace(CONFIG, regions="sparse"), [0, 2, -1])[0]
    assert many == compare(replace(CONFIG, regions="sparse", positives="one"), [0, 2, -1])[0]


def test_one_positive_is_the_plain_softmax_cross_entropy_and_the_other_regions_of_the_object_take_no_part():
    loss, key_boxes, reference_boxes, key, reference = compare(replace(CONFIG, positives="one"), [0, 1, 2])
    assert len(key_boxes) > len(BOXES) and len(reference_boxes) > len(key_boxes)  # regions as for many positives
    owner, reference_owner = (boxes[:, 0].add(50).div(100).long() for boxes in (key_boxes, reference_boxes))
    assert loss.positives == len(key_boxes)
    similarity = dot_similarity(key, reference)
    expected = []
    for row, instance in zip(similarity, owner, strict=True):
        own = (reference_owner == instance).nonzero().squeeze(1)
        assert len(own) > 1
        others = row[reference_owner != instance]
        expected.append(F.cross_entropy(torch.cat([row[own[:1]], others])[None], torch.tensor([0])))
    torch.testing.assert_close(loss.contrastive, torch.stack(expected).mean())
    assert loss.contrastive < compare(CONFIG, [0, 1, 2])[0].contrastive  # fewer pairs to tell apart


def test_the_auxiliary_loss_leaves_out_the_same_regions():
    loss, key_boxes, reference_boxes, key, reference = compare(replace(CONFIG, positives="one"), [0, 1, 2])
    owner, reference_owner = (boxes[:, 0].add(50).div(100).long() for boxes in (key_boxes, reference_boxes))
    target = (owner[:, None] == reference_owner).long()
    for row in target:
        row[row.nonzero().squeeze(1)[1:]] = -1
    cosine = dot_similarity(key, reference, cosine=True)
    torch.testing.assert_close(loss.auxiliary, l2_auxiliary_loss(cosine, target))
    assert loss.auxiliary != pytest.approx(float(l2_auxiliary_loss(cosine, target.clamp(min=0))))


def test_objects_without_identity_are_neither_alike_nor_different():
    """Nobody knows whether the second object of the key picture is the second of the reference: it has no name."""
    loss, key_boxes, reference_boxes, key, reference = compare(CONFIG, [0, -1, 2], (True, False, True))
    owner, reference_owner = (boxes[:, 0].add(50).div(100).long() for boxes in (key_boxes, reference_boxes))
    target = (owner[:, None] == reference_owner).long()
    target[owner == 1] = -1
    target[:, reference_owner == 1] = -1
    cosine = dot_similarity(key, reference, cosine=True)
    torch.testing.assert_close(loss.auxiliary, l2_auxiliary_loss(cosine, target))
    known = owner != 1
    similarity, targets = dot_similarity(key, reference)[known][:, reference_owner != 1], target[known]
    expected = multi_positive_cross_entropy(similarity, targets[:, reference_owner != 1], loss_weight=1.0)
    torch.testing.assert_close(loss.contrastive, expected)
