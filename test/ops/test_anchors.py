"""Anchors against the reference's numbers."""

import numpy as np
import pytest
import torch

from qdtrack_ros.ops.anchors import base_anchors, grid_anchors, inside_flags, valid_flags

SCALES, RATIOS = (8.0,), (0.5, 1.0, 2.0)


@pytest.mark.parametrize("level", range(5))
def test_level_matches_reference(golden, level):
    arrays = golden("ops/anchors")
    stride = 4 * 2**level
    height, width = arrays["feat_sizes"][level].tolist()
    padded_height, padded_width = arrays["pad_hw"].tolist()
    base = base_anchors(stride, SCALES, RATIOS)
    np.testing.assert_allclose(base.numpy(), arrays[f"base_{level}"], rtol=1e-6)
    anchors = grid_anchors(base, (height, width), stride)
    np.testing.assert_allclose(anchors.numpy(), arrays[f"grid_{level}"], atol=1e-4)
    valid = valid_flags((height, width), (padded_height, padded_width), stride, len(base))
    np.testing.assert_array_equal(valid.numpy(), arrays[f"valid_{level}"])
    for border in (0, -1):
        inside = inside_flags(anchors, valid, (padded_height, padded_width), border)
        np.testing.assert_array_equal(inside.numpy(), arrays[f"inside_border{border}_{level}"])


def test_several_scales_vary_fastest():
    base = base_anchors(16, (1.0, 4.0), (0.25, 1.0))
    sizes = (base[:, 2:] - base[:, :2]).tolist()
    assert sizes == [[32.0, 8.0], [128.0, 32.0], [16.0, 16.0], [64.0, 64.0]]
    assert torch.equal(base[:, :2], -base[:, 2:])


def test_grid_runs_along_rows_with_the_anchors_of_a_cell_together():
    base = torch.tensor([[-1.0, -1.0, 1.0, 1.0], [-2.0, -2.0, 2.0, 2.0]])
    grid = grid_anchors(base, (2, 3), 8)
    centres = ((grid[:, :2] + grid[:, 2:]) / 2).tolist()
    expected = [[x, y] for y in (0.0, 8.0) for x in (0.0, 8.0, 16.0) for _ in range(2)]
    assert centres == expected
    assert torch.equal(grid[1::2, 2] - grid[1::2, 0], torch.full((6,), 4.0))


def test_border_widens_the_image():
    anchors = torch.tensor([[-3.0, 0.0, 5.0, 5.0], [0.0, 0.0, 12.0, 5.0], [1.0, 1.0, 5.0, 5.0]])
    valid = torch.tensor([True, True, False])
    assert inside_flags(anchors, valid, (10, 10), 0).tolist() == [False, False, False]
    assert inside_flags(anchors, valid, (10, 10), 3).tolist() == [True, True, False]
    assert inside_flags(anchors, valid, (10, 10), 2).tolist() == [False, False, False]
