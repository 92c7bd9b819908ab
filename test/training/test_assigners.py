"""Assignment against the reference's, ties and exact thresholds included, and against plain loops."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qdtrack_ros.ops.boxes import pairwise_iou
from qdtrack_ros.training.assigners import MaxIoUAssigner

ASSIGNERS = {
    "rpn": MaxIoUAssigner(0.7, 0.3, 0.3, match_low_quality=True),
    "rcnn": MaxIoUAssigner(0.5, 0.5, 0.5, match_low_quality=False),
    "track": MaxIoUAssigner(0.7, 0.3, 0.5, match_low_quality=False),
}


@pytest.mark.parametrize("kind", ASSIGNERS)
@pytest.mark.parametrize("case", range(6))
def test_matches_reference(golden, case, kind):
    arrays = golden("ops/assigner")
    boxes, gt, labels = (torch.from_numpy(arrays[f"c{case}_{k}"]) for k in ("boxes", "gt", "gt_labels"))
    result = ASSIGNERS[kind](boxes, gt, labels)
    np.testing.assert_array_equal(result.gt_inds.numpy(), arrays[f"c{case}_{kind}_gt_inds"])
    np.testing.assert_array_equal(result.labels.numpy(), arrays[f"c{case}_{kind}_labels"])
    np.testing.assert_allclose(result.max_overlaps.numpy(), arrays[f"c{case}_{kind}_max_overlaps"], atol=1e-6)


def plain(assigner: MaxIoUAssigner, overlaps: list[list[float]], num_boxes: int) -> list[int]:
    """Overlaps [G][N] to assignments, the rule read out loud."""
    result = []
    for j in range(num_boxes):
        column = [gt_row[j] for gt_row in overlaps]
        best = max(column)
        result.append(0 if best < assigner.negative_iou else -1)
        if best >= assigner.positive_iou:
            result[j] = column.index(best) + 1
    for i, gt_row in enumerate(overlaps):
        for j in range(num_boxes):
            if assigner.match_low_quality and max(gt_row) >= assigner.min_positive_iou and gt_row[j] == max(gt_row):
                result[j] = i + 1
    return result


small_box = st.tuples(*[st.integers(0, 6)] * 2, *[st.integers(1, 6)] * 2).map(
    lambda v: [float(x) for x in (v[0], v[1], v[0] + v[2], v[1] + v[3])]
)


@settings(max_examples=80, deadline=None)
@given(st.lists(small_box, min_size=1, max_size=12), st.lists(small_box, min_size=1, max_size=5))
def test_matches_plain_loops(rows, gt_rows):
    boxes, gt = torch.tensor(rows), torch.tensor(gt_rows)
    overlaps = pairwise_iou(gt, boxes).tolist()
    for assigner in ASSIGNERS.values():
        assert assigner(boxes, gt).gt_inds.tolist() == plain(assigner, overlaps, len(rows))


def test_boxes_in_ignore_regions_are_ignored_even_when_they_match():
    boxes = torch.tensor([[0.0, 0, 10, 10], [0.0, 0, 10, 9], [50.0, 50, 60, 60], [100.0, 0, 110, 10]])
    gt, region = torch.tensor([[0.0, 0, 10, 10]]), torch.tensor([[0.0, 0, 6, 10], [100.0, 0, 105, 10]])
    for assigner in ASSIGNERS.values():
        result = assigner(boxes, gt, torch.tensor([4]), region)
        assert result.gt_inds.tolist() == [-1, -1, 0, 0]  # covered by exactly half is not ignored
        assert result.labels is not None and result.labels.tolist() == [-1] * 4
    unlimited = ASSIGNERS["rcnn"](boxes, gt, ignore_boxes=region, ignore_iof=0)
    assert unlimited.gt_inds.tolist() == [1, 1, 0, 0] and unlimited.labels is None


def test_without_ground_truth_everything_is_negative():
    boxes = torch.tensor([[0.0, 0, 10, 10], [5.0, 5, 20, 20]])
    result = ASSIGNERS["rpn"](boxes, torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))
    assert result.gt_inds.tolist() == [0, 0] and result.max_overlaps.tolist() == [0.0, 0.0]


def test_added_ground_truth_stands_in_front():
    boxes, gt, labels = torch.tensor([[0.0, 0, 10, 10]]), torch.tensor([[0.0, 0, 10, 10]]), torch.tensor([3])
    added = ASSIGNERS["rcnn"](boxes, gt, labels).with_gt(1, labels)
    assert added.gt_inds.tolist() == [1, 1] and added.max_overlaps.tolist() == [1.0, 1.0]
    assert added.labels is not None and added.labels.tolist() == [3, 3]
    with pytest.raises(ValueError, match="gt_labels"):
        ASSIGNERS["rcnn"](boxes, gt, labels).with_gt(1, None)


def test_thresholds_in_the_wrong_order_are_refused():
    with pytest.raises(ValueError, match=r"0\.3 and|0\.7 and 0\.3"):
        MaxIoUAssigner(positive_iou=0.3, negative_iou=0.7)
