"""Pooling with fixed shapes against the pooling of the reference form, in the image and beyond its borders."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
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


@pytest.mark.parametrize("side", [112.0, 224.0, 448.0])
def test_sizes_within_a_few_roundings_of_a_level_are_on_the_level_of_the_reference(side):
    near = (np.float32(side).view(np.int32) + np.arange(-8, 9, dtype=np.int32)).view(np.float32)
    ends = torch.from_numpy(near)
    boxes = torch.stack([ends * 0, ends * 0, ends, ends], dim=1)
    levels = assign_levels(boxes, 4)
    assert len(set(levels.tolist())) == 2
    assert torch.equal(level_masks(boxes, 4, 56.0).int().argmax(dim=0), levels)


LENGTHS = st.sampled_from([0.0, 1e-4, 0.01, 1.0, 7.0, 28.0, 56.0, 111.9, 112.0, 192.0, 256.0, 448.0, 900.0])


@st.composite
def edges(draw, length: int) -> tuple[float, float]:
    """Start and end of a region that touches, crosses or misses a border of the image, by single pixels or by many."""
    size = draw(LENGTHS)
    border = draw(st.sampled_from([0.0, float(length)]))
    start = border - draw(st.sampled_from([0.0, 0.5, 1.0])) * size
    start += draw(st.sampled_from([-200.0, -33.0, -4.0, -1.0, -0.5, 0.0, 0.5, 1.0, 4.0, 40.0]))
    return start, start + size


BORDER_REGIONS = st.lists(st.tuples(edges(SIZE[1]), edges(SIZE[0])), max_size=12)


@pytest.mark.parametrize("size", [(7, 7), (24, 12)])
@settings(max_examples=40, deadline=None)
@given(BORDER_REGIONS)
def test_regions_at_every_border_are_pooled_as_in_the_reference(size, regions_there):
    rows = [[left, top, right, bottom] for (left, right), (top, bottom) in regions_there]
    boxes, features = torch.tensor(rows, dtype=torch.float32).reshape(1, -1, 4), pyramid(batch=1)
    expected = reference(features, boxes, STRIDES, size)
    assert torch.equal(pool_level_by_level(features, boxes, STRIDES, size), expected)
    sides = (boxes[0, :, 2:] - boxes[0, :, :2]) / torch.tensor(STRIDES)[assign_levels(boxes[0], 4)][:, None]
    enough = (sides <= 4 * torch.tensor(size).flip(0)).all(dim=1)
    pooled = pool_from_atlas(features, boxes, STRIDES, size, max_samples=4)
    torch.testing.assert_close(pooled[enough], expected[enough], atol=1e-4, rtol=0)


def test_the_atlas_samples_enough_for_what_is_said_of_it():
    """Squares below the limit of 896 pixels, and with twice the samples shapes 4 times as long as wide."""
    features = [torch.randn(1, 2, 1024 // s, 2048 // s, generator=torch.Generator().manual_seed(3)) for s in STRIDES]
    for longer, samples in ((1, 4), (4, 8)):
        sides = torch.linspace(1, 895, 60)
        boxes = torch.stack([sides * 0 + 9, sides * 0 + 5, 9 + sides * math.sqrt(longer), 5 + sides / longer**0.5], 1)
        pooled = pool_from_atlas(features, boxes[None], STRIDES, (7, 7), max_samples=samples)
        expected = reference(features, boxes[None], STRIDES, (7, 7))
        torch.testing.assert_close(pooled, expected, atol=2e-4, rtol=0)
    whole = torch.tensor([[[0.0, 0, 2048, 1024]]])
    away = pool_from_atlas(features, whole, STRIDES, (7, 7)) - reference(features, whole, STRIDES, (7, 7))
    assert away.abs().max() > 0.1


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
