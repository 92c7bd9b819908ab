"""Box geometry and delta coder against the reference's numbers and against plain loops."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from qdtrack_ros.ops.boxes import box_area, clip_boxes, decode_deltas, encode_deltas, pairwise_iof, pairwise_iou

coordinate = st.integers(-40, 200)
box = st.tuples(coordinate, coordinate, st.integers(0, 120), st.integers(0, 120)).map(
    lambda v: (v[0], v[1], v[0] + v[2], v[1] + v[3])
)


def as_boxes(rows: list[tuple[int, int, int, int]]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float32).reshape(-1, 4)


def overlap_of_two(a: tuple[int, ...], b: tuple[int, ...], foreground: bool) -> float:
    width = max(min(a[2], b[2]) - max(a[0], b[0]), 0)
    height = max(min(a[3], b[3]) - max(a[1], b[1]), 0)
    area_a, area_b = (a[2] - a[0]) * (a[3] - a[1]), (b[2] - b[0]) * (b[3] - b[1])
    whole = area_a if foreground else area_a + area_b - width * height
    return width * height / whole if whole else 0.0


def test_overlaps_match_reference(golden):
    arrays = {k: torch.from_numpy(v) for k, v in golden("ops/overlaps").items()}
    torch.testing.assert_close(pairwise_iou(arrays["a"], arrays["b"]), arrays["iou"], rtol=0, atol=1e-7)
    torch.testing.assert_close(pairwise_iof(arrays["a"], arrays["b"]), arrays["iof"], rtol=0, atol=1e-7)


@settings(max_examples=60, deadline=None)
@given(st.lists(box, max_size=5), st.lists(box, max_size=5))
def test_overlaps_match_plain_loops(a, b):
    for function, foreground in ((pairwise_iou, False), (pairwise_iof, True)):
        result = function(as_boxes(a), as_boxes(b))
        assert result.shape == (len(a), len(b))
        expected = [[overlap_of_two(x, y, foreground) for y in b] for x in a]
        np.testing.assert_allclose(result.numpy(), np.array(expected).reshape(len(a), len(b)), atol=1e-6)


def test_overlaps_leave_their_input_alone():
    a, b = as_boxes([(0, 0, 10, 10)]), as_boxes([(20, 20, 30, 30), (5, 5, 9, 9)])
    before = a.clone(), b.clone()
    pairwise_iou(a, b)
    assert torch.equal(a, before[0]) and torch.equal(b, before[1])


def test_area_is_width_times_height_without_plus_one():
    assert box_area(as_boxes([(1, 2, 4, 8), (3, 3, 3, 9)])).tolist() == [18.0, 0.0]


def test_clip_handles_several_boxes_in_a_row():
    row = torch.tensor([[-5.0, -6.0, 700.0, 400.0, 10.0, 20.0, 30.0, 999.0]])
    assert clip_boxes(row, (352, 640)).tolist() == [[0.0, 0.0, 640.0, 352.0, 10.0, 20.0, 30.0, 352.0]]
    assert row[0, 0] == -5


@pytest.mark.parametrize("kind", ["rpn", "rcnn"])
def test_coder_matches_reference(golden, kind):
    arrays = golden("ops/coder")
    boxes, targets, deltas, deltas8 = (torch.from_numpy(arrays[k]) for k in ("boxes", "targets", "deltas", "deltas8"))
    stds, (height, width) = arrays[f"{kind}_stds"].tolist(), arrays["max_hw"].tolist()
    size = (height, width)
    results = {
        "encode": (encode_deltas(boxes, targets, stds), 1e-5),
        "decode": (decode_deltas(boxes, deltas, stds, size), 5e-4),
        "decode_noclip": (decode_deltas(boxes, deltas, stds), 5e-4),
        "decode8": (decode_deltas(boxes, deltas8, stds, size), 5e-4),
    }
    for name, (result, tolerance) in results.items():
        np.testing.assert_allclose(result.numpy(), arrays[f"{kind}_{name}"], rtol=1e-6, atol=tolerance, err_msg=name)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(box, box), min_size=1, max_size=6))
def test_decode_inverts_encode(pairs):
    grow = torch.tensor([0.0, 0.0, 10.0, 10.0])  # no empty boxes; ratios stay below the limit of 62.5
    boxes, targets = as_boxes([a for a, _ in pairs]) + grow, as_boxes([b for _, b in pairs]) + grow
    stds = (0.1, 0.1, 0.2, 0.2)
    decoded = decode_deltas(boxes, encode_deltas(boxes, targets, stds), stds)
    torch.testing.assert_close(decoded, targets, rtol=0, atol=2e-3)


def test_decode_limits_growth_and_shrinkage():
    boxes = as_boxes([(0, 0, 10, 10)])
    huge = decode_deltas(boxes, torch.tensor([[0.0, 0.0, 1e6, -1e6]]))
    torch.testing.assert_close(huge[0, 2] - huge[0, 0], torch.tensor(625.0))
    torch.testing.assert_close(huge[0, 3] - huge[0, 1], torch.tensor(0.16))


def test_empty_input_gives_empty_output():
    none = torch.zeros(0, 4)
    assert encode_deltas(none, none).shape == (0, 4)
    assert decode_deltas(none, torch.zeros(0, 12), max_shape=(9, 9)).shape == (0, 12)
    assert pairwise_iou(none, torch.zeros(3, 4)).shape == (0, 3)
