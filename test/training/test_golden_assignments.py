"""What the samplers start from: assignments with the ground truth added, against the reference's."""

import numpy as np
import pytest
import torch

from qdtrack_ros.training.assigners import MaxIoUAssigner

ASSIGNERS = {
    "rpn": (MaxIoUAssigner(0.7, 0.3, 0.3, True), False),
    "rcnn": (MaxIoUAssigner(0.5, 0.5, 0.5, False), True),
    "track_rand": (MaxIoUAssigner(0.7, 0.3, 0.5, False), True),
    "track_iou": (MaxIoUAssigner(0.7, 0.3, 0.5, False), True),
}


@pytest.mark.parametrize("kind", ASSIGNERS)
@pytest.mark.parametrize("case", [0, 1, 2])
def test_assignment_with_ground_truth_added(golden, case, kind):
    arrays = golden("ops/samplers")
    boxes, gt, labels = (torch.from_numpy(arrays[f"c{case}_{k}"]) for k in ("boxes", "gt", "gt_labels"))
    assigner, added = ASSIGNERS[kind]
    assignment = assigner(boxes, gt, labels)
    if added and len(gt):
        assignment = assignment.with_gt(len(gt), labels)
    prefix = f"c{case}_{kind}_"
    np.testing.assert_array_equal(assignment.gt_inds.numpy(), arrays[f"{prefix}gt_inds_after_add"])
    np.testing.assert_allclose(assignment.max_overlaps.numpy(), arrays[f"{prefix}max_overlaps_after_add"], atol=1e-6)
