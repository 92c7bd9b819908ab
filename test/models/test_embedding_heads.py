"""Where embeddings come from: the pyramid, as in the paper, or the backbone's own finest map."""

from __future__ import annotations

import pytest
import torch

from qdtrack_ros.models import ModelConfig, QDTrack
from qdtrack_ros.models.backbones import EfficientNetLite0
from qdtrack_ros.models.embedding_head import EmbeddingHead, TrunkEmbeddingHead

SMALL = {
    "num_classes": 1,
    "backbone": "efficientnet_lite0",
    "fpn_channels": 32,
    "box_fc_channels": 16,
    "embedding_conv_channels": 32,
    "embedding_dim": 8,
}
TRUNK = ModelConfig(**SMALL, fpn_first_stride=8, fpn_levels=4, embedding_from="trunk", embedding_roi_size=(16, 8))


def random_network(config):
    torch.manual_seed(0)
    network = QDTrack(config).eval()
    torch.nn.init.normal_(network.embedding_head.embed.weight, std=0.1)
    return network


def test_the_trunk_head_is_the_backbone_continued():
    """On a box that covers the whole picture at its own resolution, the pooled map is C1, and the blocks give C4."""
    backbone = EfficientNetLite0()
    head = TrunkEmbeddingHead((16, 8), 32, 8)
    head.start_from(backbone)
    with torch.inference_mode():
        x, _, _, c4, _ = backbone(torch.randn(2, 3, 32, 32))
        for block in head.blocks:
            x = block(x)
    torch.testing.assert_close(x, c4)


def test_embeddings_see_nothing_beyond_c1_of_their_box():
    network = random_network(TRUNK)
    images = torch.randn(1, 3, 96, 128)
    box = torch.tensor([[48.0, 32.0, 64.0, 64.0]])
    with torch.inference_mode():
        features = network.extract_features(images)
        before = network.embed(features, [box])
        elsewhere = features.finest.clone()
        elsewhere[..., :14, :] = 5.0  # the box covers rows 16 to 32 and columns 24 to 32
        elsewhere[..., :, 36:] = 5.0
        pyramid = [torch.zeros_like(level) for level in features.pyramid]
        after = network.embed(features._replace(finest=elsewhere, pyramid=pyramid), [box])
        inside = features.finest.clone()
        inside[..., 20, 28] += 5.0
        changed = network.embed(features._replace(finest=inside), [box])
    torch.testing.assert_close(before, after)
    assert not torch.allclose(before, changed)


def test_boxes_of_each_image_are_embedded_from_their_image():
    network = random_network(TRUNK)
    images = torch.randn(2, 3, 64, 64)
    boxes = [torch.tensor([[0.0, 0.0, 16.0, 32.0]]), torch.tensor([[8.0, 8.0, 40.0, 60.0], [0.0, 0.0, 9.0, 20.0]])]
    with torch.inference_mode():
        together = network.embed(network.extract_features(images), boxes)
        apart = [network.embed(network.extract_features(images[i : i + 1]), [boxes[i]]) for i in range(2)]
        none = network.embed(network.extract_features(images), [boxes[0][:0], boxes[1][:0]])
    assert together.shape == (3, 8)
    torch.testing.assert_close(together, torch.cat(apart), atol=1e-5, rtol=1e-4)
    assert none.shape == (0, 8)


def test_the_pyramid_head_takes_other_shapes_of_regions():
    network = random_network(
        ModelConfig(**SMALL, embedding_fc_channels=0, embedding_convs=1, embedding_roi_size=(10, 5))
    )
    assert isinstance(network.embedding_head, EmbeddingHead)
    features = network.extract_features(torch.randn(1, 3, 64, 64))
    assert network.embed(features, [torch.tensor([[0.0, 0.0, 20.0, 40.0]])]).shape == (1, 8)


@pytest.mark.parametrize(("stride", "levels"), [(4, 5), (8, 4)])
def test_the_pyramid_begins_where_it_is_told(stride, levels):
    network = QDTrack(ModelConfig(**SMALL, embedding_convs=1, fpn_first_stride=stride, fpn_levels=levels))
    with torch.inference_mode():
        features = network.extract_features(torch.randn(1, 3, 128, 64))
    assert [tuple(level.shape[-2:]) for level in features.pyramid] == [
        (128 // stride // 2**i, 64 // stride // 2**i) for i in range(levels)
    ]
    assert features.finest.shape == (1, 16, 64, 32)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"embedding_from": "stem"}, "embedding_from is 'stem'; expected one of pyramid, trunk"),
        ({"embedding_from": "trunk", "backbone": "resnet50"}, "which backbone resnet50 has not"),
        (
            {"embedding_from": "trunk", "embedding_roi_size": (7, 7)},
            r"embedding_roi_size is \(7, 7\); expected multiples of 8",
        ),
        ({"embedding_roi_size": (0, 7)}, "expected multiples of 1"),
        ({"embedding_from": "trunk", "embedding_roi_size": (8, 8), "embedding_conv_channels": 48}, "a multiple of 32"),
        ({"fpn_first_stride": 16}, "fpn_first_stride is 16; expected 4 or 8"),
    ],
)
def test_what_does_not_go_together_is_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        ModelConfig(**SMALL | changes)
