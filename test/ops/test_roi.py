"""Pooling from a pyramid against the reference's outputs and gradients."""

import numpy as np
import pytest
import torch
import torchvision

from qdtrack_ros.ops.roi import assign_levels, multilevel_roi_align

STRIDES = (4, 8, 16, 32)


def test_levels_match_reference(golden):
    arrays = golden("ops/roi")
    for rois, levels in (("map_rois", "map_levels"), ("rois", "levels")):
        result = assign_levels(torch.from_numpy(arrays[rois])[:, 1:], 4)
        np.testing.assert_array_equal(result.numpy(), arrays[levels])


def test_level_boundaries_and_finest_size():
    side = torch.tensor([0.0, 1.0, 111.9, 112.0, 223.9, 224.0, 448.0, 5000.0])
    boxes = torch.stack([side * 0, side * 0, side, side], dim=1)
    assert assign_levels(boxes, 4).tolist() == [0, 0, 0, 1, 1, 2, 3, 3]
    assert assign_levels(boxes, 4, finest_size=28.0).tolist() == [0, 0, 1, 2, 2, 3, 3, 3]
    assert assign_levels(boxes, 2).tolist() == [0, 0, 0, 1, 1, 1, 1, 1]


def test_boxes_that_are_no_number_go_to_the_first_level():
    boxes = torch.tensor([[0.0, 0, torch.nan, 300], [0, 0, torch.inf, 300]])
    assert assign_levels(boxes, 4).tolist() == [0, 3]


def test_a_side_a_hair_below_a_boundary_counts_as_on_it():
    side = torch.tensor([111.9999, 111.99999])
    assert assign_levels(torch.stack([side * 0, side * 0, side, side], dim=1), 4).tolist() == [0, 1]


def test_output_and_gradients_match_reference(golden):
    arrays = golden("ops/roi")
    features = [torch.from_numpy(arrays[f"feat{i}"]).requires_grad_() for i in range(4)]
    pooled = multilevel_roi_align(features, torch.from_numpy(arrays["rois"]), STRIDES)
    np.testing.assert_allclose(pooled.detach().numpy(), arrays["out"], atol=1e-5)
    pooled.backward(torch.from_numpy(arrays["upstream"]))
    for i, feature in enumerate(features):
        assert feature.grad is not None
        np.testing.assert_allclose(feature.grad.numpy(), arrays[f"grad{i}"], atol=1e-4)


def test_no_regions_keep_the_graph():
    features = [torch.rand(1, 3, 32 // s, 32 // s, requires_grad=True) for s in (1, 2)]
    pooled = multilevel_roi_align(features, torch.zeros(0, 5), (4, 8), output_size=5)
    assert pooled.shape == (0, 3, 5, 5)
    pooled.sum().backward()
    assert all(f.grad is not None and not f.grad.any() for f in features)


def test_regions_keep_their_order_across_levels_and_images():
    features = [torch.full((2, 1, 64 >> i, 64 >> i), float(i)) for i in range(3)]
    for feature in features:
        feature[1] += 10
    rois = torch.tensor([[1.0, 0, 0, 200, 200], [0.0, 0, 0, 20, 20], [0.0, 0, 0, 130, 130], [1.0, 0, 0, 20, 20]])
    pooled = multilevel_roi_align(features, rois, (4, 8, 16), output_size=1)
    assert pooled.flatten().tolist() == [11.0, 0.0, 1.0, 10.0]


def test_maps_without_strides_are_refused():
    with pytest.raises(ValueError, match="1 feature maps and 2 strides"):
        multilevel_roi_align([torch.zeros(1, 1, 4, 4)], torch.zeros(1, 5), (4, 8))


def random_rois(count: int, largest: float, generator: torch.Generator) -> torch.Tensor:
    """Regions [count, 5] of two images that begin inside and outside a picture of 240x160."""
    corners = torch.rand(count, 2, generator=generator) * torch.tensor([300.0, 200.0]) - 30
    sizes = largest ** torch.rand(count, 2, generator=generator)
    return torch.cat([torch.arange(count).remainder(2).unsqueeze(1), corners, corners + sizes], dim=1)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("largest", [20.0, 400.0, 30000.0])
def test_pooling_without_gradients_equals_torchvisions(memory_format, largest):
    generator = torch.Generator().manual_seed(0)
    feature = torch.rand(2, 5, 40, 60, generator=generator).contiguous(memory_format=memory_format)
    rois = random_rois(151, largest, generator)
    wanted = torchvision.ops.roi_align(feature, rois, (6, 3), 0.25, 0, aligned=True)
    with torch.inference_mode():
        torch.testing.assert_close(multilevel_roi_align([feature], rois, (4,), (6, 3)), wanted, rtol=0, atol=2e-6)
        half = feature[..., ::2, ::2]
        pooled = multilevel_roi_align([feature, half], rois, (4, 8), finest_size=20.0)
    with_gradients = multilevel_roi_align([feature, half], rois, (4, 8), finest_size=20.0)
    torch.testing.assert_close(pooled, with_gradients, rtol=0, atol=2e-6)


def test_empty_inverted_and_faraway_regions_pool_zeros():
    feature = torch.ones(1, 2, 40, 60)
    rois = torch.tensor([[0, 5, 5, 5, 5], [0, 50, 50, 20, 20], [0, 900, 900, 950, 950], [0, -99, -99, -50, -50]])
    rois = torch.cat([rois, torch.tensor([[0, torch.nan, 0, 9, 9], [0, 0, 0, torch.inf, 9]])])
    with torch.inference_mode():
        assert not multilevel_roi_align([feature], rois, (4,)).any()
        assert multilevel_roi_align([feature], rois[:0], (4,)).shape == (0, 2, 7, 7)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_boxes_of_other_precision_are_taken(dtype):
    feature = torch.rand(1, 2, 20, 30, generator=torch.Generator().manual_seed(0))
    rois = torch.tensor([[0, 8, 8, 40, 60], [0, 0, 16, 80, 32]], dtype=dtype)
    wanted = torchvision.ops.roi_align(feature, rois.float(), 7, 0.25, 0, aligned=True)
    with torch.inference_mode():
        torch.testing.assert_close(multilevel_roi_align([feature], rois, (4,)), wanted, rtol=0, atol=2e-6)


def test_an_inverted_box_beside_others_pools_zeros_and_leaves_them_alone():
    feature = torch.rand(1, 2, 80, 100, generator=torch.Generator().manual_seed(0))
    good = [0, 20.0, 30.0, 90.0, 200.0]
    rois = torch.tensor([[0, 213.7, 92.1, 66.9, 176.5], good, [0, 223.4, 188.3, 317.7, 145.3]])
    with torch.inference_mode():
        pooled = multilevel_roi_align([feature], rois, (4,))
        assert torch.equal(pooled[1:2], multilevel_roi_align([feature], torch.tensor([good]), (4,)))
    assert not pooled[[0, 2]].any()


def test_a_part_that_sticks_out_of_the_map_counts_as_zero():
    feature = torch.ones(1, 1, 40, 60)
    with torch.inference_mode():
        (pooled,) = multilevel_roi_align([feature], torch.tensor([[0.0, -80, 0, 80, 80]]), (4,), (2, 2))
    torch.testing.assert_close(pooled, torch.tensor([[[0.0, 1.0], [0.0, 1.0]]]), rtol=0, atol=0.06)


@pytest.mark.parametrize("most_pixels", [1, 5000])
def test_threads_and_portions_do_not_change_a_bit(most_pixels, monkeypatch):
    generator = torch.Generator().manual_seed(0)
    feature = torch.rand(2, 5, 40, 60, generator=generator)
    rois = random_rois(101, 400.0, generator)
    before = torch.get_num_threads()
    try:
        with torch.inference_mode():
            torch.set_num_threads(1)
            wanted = multilevel_roi_align([feature], rois, (4,))
            monkeypatch.setattr("qdtrack_ros.ops.roi._AT_A_TIME", most_pixels)
            torch.set_num_threads(3)
            assert torch.equal(multilevel_roi_align([feature], rois, (4,)), wanted)
    finally:
        torch.set_num_threads(before)
