"""Pooling with fixed shapes against the pooling of the reference form, in the image and beyond its borders."""

import pytest
import torch
from torch import Tensor

from qdtrack_ros.ops.fixed_roi import build_atlas, level_masks, pool_from_atlas, pool_level_by_level
from qdtrack_ros.ops.roi import assign_levels, multilevel_roi_align

STRIDES = (4, 8, 16, 32)
SIZE = (192, 256)


def pyramid(batch: int = 2, channels: int = 5) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(batch, channels, SIZE[0] // s, SIZE[1] // s, generator=generator) for s in STRIDES]


def regions(count: int, largest: float, margin: float, longest: float = 1.5) -> Tensor:
    """Boxes [2, count, 4] up to ``margin`` pixels outside; sides up to ``largest``, one ``longest`` times the other."""
    generator = torch.Generator().manual_seed(2)
    span = torch.tensor([SIZE[1], SIZE[0]]) + 2 * margin
    corners = torch.rand(2, count, 2, generator=generator) * span - margin
    sides = largest ** torch.rand(2, count, 1, generator=generator)
    stretch = longest ** (torch.rand(2, count, 1, generator=generator) - 0.5)
    return torch.cat([corners, corners + torch.cat([sides * stretch, sides / stretch], dim=2)], dim=2)


def reference(features: list[Tensor], boxes: Tensor, strides: tuple[int, ...], size: tuple[int, int]) -> Tensor:
    index = torch.arange(len(boxes)).repeat_interleave(boxes.shape[1])[:, None]
    with torch.enable_grad():  # torchvision's kernel, not ours for the CPU
        return multilevel_roi_align(features, torch.cat([index, boxes.flatten(0, 1)], dim=1), strides, size)


def test_every_region_is_on_its_level_and_an_empty_one_on_none():
    boxes = torch.cat([regions(200, 1000.0, 100.0), torch.zeros(2, 1, 4)], dim=1)
    masks = level_masks(boxes, 4, 56.0)
    assert masks.sum(dim=0)[:, :-1].eq(1).all() and not masks[:, :, -1].any()
    levels = assign_levels(boxes[:, :-1].flatten(0, 1), 4)
    assert torch.equal(masks[:, :, :-1].flatten(1).int().argmax(dim=0), levels)


@pytest.mark.parametrize("margin", [0.0, 150.0])
def test_level_by_level_equals_the_reference_for_every_region(margin):
    features, boxes = pyramid(), regions(150, 3000.0, margin, longest=100.0)
    pooled = pool_level_by_level(features, boxes, STRIDES, (7, 7))
    torch.testing.assert_close(pooled, reference(features, boxes, STRIDES, (7, 7)), atol=1e-5, rtol=0)


@pytest.mark.parametrize("margin", [0.0, 150.0])
def test_the_atlas_equals_the_reference_where_its_samples_suffice(margin):
    features, boxes = pyramid(), regions(150, 400.0, margin)
    pooled = pool_from_atlas(features, boxes, STRIDES, (7, 7), max_samples=5)
    torch.testing.assert_close(pooled, reference(features, boxes, STRIDES, (7, 7)), atol=2e-4, rtol=0)


def test_the_atlas_reads_the_border_of_each_level_and_nothing_of_its_neighbours():
    features = [torch.full((1, 1, SIZE[0] // s, SIZE[1] // s), float(s)) for s in STRIDES]
    width, height = float(SIZE[1]), float(SIZE[0])
    sides = torch.tensor([60.0, 120.0, 230.0])
    corners = torch.tensor([[0, 0], [width, 0], [0, height], [width, height]])
    boxes = torch.stack(
        [
            torch.cat([torch.minimum(c, c - c.sign() * side), c + (1 - c.sign()) * side])
            for side in sides
            for c in corners
        ]
    )
    boxes = torch.cat([boxes, torch.tensor([[0.0, 0, width, height]])])[None]
    boxes[..., 0::2].clamp_(0, width)
    boxes[..., 1::2].clamp_(0, height)
    pooled = pool_from_atlas(features, boxes, STRIDES, (7, 7), max_samples=8)
    torch.testing.assert_close(pooled, reference(features, boxes, STRIDES, (7, 7)), atol=1e-4, rtol=0)
    assert set(pooled.flatten().round(decimals=3).tolist()) <= {4.0, 8.0, 16.0, 32.0}


def test_one_level_of_tall_cells():
    features, boxes = pyramid()[:1], regions(60, 150.0, 0.0)
    for pooled in (
        pool_level_by_level(features, boxes, STRIDES[:1], (24, 12)),
        pool_from_atlas(features, boxes, STRIDES[:1], (24, 12), max_samples=4),
    ):
        torch.testing.assert_close(pooled, reference(features, boxes, STRIDES[:1], (24, 12)), atol=2e-4, rtol=0)


@pytest.mark.parametrize("pool", [pool_level_by_level, pool_from_atlas])
def test_empty_slots_pool_nothing(pool):
    boxes = torch.zeros(2, 3, 4)
    boxes[0, 1] = torch.tensor([10.0, 10, 10, 60])
    assert not pool(pyramid(), boxes, STRIDES, (7, 7)).any()


def test_levels_lie_beside_each_other_whole():
    features = pyramid()
    atlas, corners = build_atlas(features)
    for feature, (row, column) in zip(features, corners, strict=True):
        height, width = feature.shape[2:]
        assert torch.equal(atlas[:, :, row : row + height, column : column + width], feature)


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("pool", [pool_level_by_level, pool_from_atlas])
def test_a_traced_graph_pools_from_every_level(pool):
    features, boxes = pyramid(), regions(150, 3000.0, 50.0)
    assert level_masks(boxes, 4, 56.0).any(dim=2).all()

    def graph(boxes: Tensor, *features: Tensor) -> Tensor:
        return pool(list(features), boxes, STRIDES, (7, 7))

    traced = torch.jit.trace(graph, (torch.zeros_like(boxes), *features), check_trace=False)
    torch.testing.assert_close(traced(boxes, *features), graph(boxes, *features))
