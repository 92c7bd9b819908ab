"""Samplers: exact where nothing is left to chance, by statistics elsewhere, and their promises in general."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from qdtrack_ros.training.assigners import Assignment, MaxIoUAssigner
from qdtrack_ros.training.samplers import (
    CombinedSampler,
    InstanceBalancedPositiveSampler,
    IoUBalancedNegativeSampler,
    RandomNegativeSampler,
    RandomSampler,
    random_choice,
)

BALANCED = InstanceBalancedPositiveSampler()
SAMPLERS = {
    "rpn": RandomSampler(256, 0.5, add_gt=False),
    "rcnn": RandomSampler(512, 0.25),
    "track_rand": CombinedSampler(256, 0.5, 3, positives=BALANCED, negatives=RandomNegativeSampler()),
    "track_iou": CombinedSampler(256, 0.5, 3, positives=BALANCED, negatives=IoUBalancedNegativeSampler()),
}
ASSIGNERS = {
    "rpn": MaxIoUAssigner(0.7, 0.3, 0.3, True),
    "rcnn": MaxIoUAssigner(0.5, 0.5, 0.5, False),
    "track": MaxIoUAssigner(0.7, 0.3, 0.5, False),
}
DRAWS = 200


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def assigned(golden, case: int, kind: str) -> tuple[Assignment, Tensor, Tensor, Tensor]:
    boxes, gt, labels = (torch.from_numpy(golden("ops/samplers")[f"c{case}_{k}"]) for k in ("boxes", "gt", "gt_labels"))
    return ASSIGNERS[kind.split("_")[0]](boxes, gt, labels), boxes, gt, labels


@pytest.mark.parametrize("kind", SAMPLERS)
def test_everything_fits(golden, kind):
    sample = SAMPLERS[kind](*assigned(golden, 0, kind), seeded())
    expected = {k.removeprefix(f"c0_{kind}_"): v for k, v in golden("ops/samplers").items()}
    np.testing.assert_array_equal(sample.positive_indices.numpy(), expected["pos_inds"])
    np.testing.assert_array_equal(sample.negative_indices.numpy(), expected["neg_inds"])
    np.testing.assert_array_equal(sample.positive_gt_indices.numpy(), expected["pos_assigned_gt_inds"])
    np.testing.assert_array_equal(sample.positive_is_gt.numpy(), expected["pos_is_gt"].astype(bool))
    np.testing.assert_array_equal(sample.boxes.numpy(), expected["bboxes"])
    labels = torch.from_numpy(golden("ops/samplers")["c0_gt_labels"])
    assert torch.equal(sample.positive_labels, labels[sample.positive_gt_indices])
    assert torch.equal(torch.cat([sample.positive_boxes, sample.negative_boxes]), sample.boxes)


@pytest.mark.parametrize("kind", SAMPLERS)
def test_statistics_match_reference(golden, kind):
    assignment, boxes, gt, labels = assigned(golden, 1, kind)
    sampler, generator = SAMPLERS[kind], seeded()
    expected = {k.removeprefix(f"c1_{kind}_"): v for k, v in golden("ops/samplers").items()}
    samples = [sampler(assignment, boxes, gt, labels, generator) for _ in range(DRAWS)]
    full = assignment.with_gt(len(gt), labels) if sampler.add_gt else assignment
    np.testing.assert_array_equal(full.gt_inds.numpy(), expected["gt_inds_after_add"])
    for name, counts in (
        ("n_pos", [len(s.positive_indices) for s in samples]),
        ("n_neg", [len(s.negative_indices) for s in samples]),
    ):
        assert np.mean(counts) == pytest.approx(expected[name].mean(), abs=0.6)
        assert np.std(counts) == pytest.approx(expected[name].std(), abs=0.5)
    per_gt = torch.cat([s.positive_gt_indices for s in samples]).bincount(minlength=len(gt)) / DRAWS
    np.testing.assert_allclose(per_gt.numpy(), expected["pos_per_gt_mean"], atol=1.6)
    apart = np.mean([int((full.max_overlaps[s.negative_indices] == 0).sum()) for s in samples])
    assert apart == pytest.approx(expected["n_neg_zero_iou_mean"].item(), abs=2.0)
    rows = torch.cat([torch.cat([s.positive_indices, s.negative_indices]) for s in samples])
    frequency = rows.bincount(minlength=len(full.gt_inds)).numpy() / DRAWS
    # Two estimates of the same probability from 300 and 200 draws differ by less than 0.25 nearly always.
    np.testing.assert_allclose(frequency, expected["freq"], atol=0.25)
    assert np.array_equal(frequency == 0, expected["freq"] == 0)


@pytest.mark.parametrize("kind", SAMPLERS)
def test_without_ground_truth_only_negatives(golden, kind):
    sample = SAMPLERS[kind](*assigned(golden, 2, kind), seeded())
    expected = golden("ops/samplers")
    assert len(sample.positive_indices) == 0
    assert len(sample.negative_indices) == expected[f"c2_{kind}_n_neg"].item()
    assert sample.boxes.shape == (len(sample.negative_indices), 4)


overlap_value = st.sampled_from([0.0, 0.05, 0.1, 0.2, 0.29, 0.5])
candidate = st.tuples(st.integers(-1, 3), overlap_value)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(candidate, min_size=1, max_size=60),
    st.sampled_from([4, 10, 32]),
    st.sampled_from([0.25, 0.5, 1.0]),
    st.sampled_from([-1, 0, 1, 3]),
    st.booleans(),
    st.integers(0, 999),
)
def test_promises(candidates, num, fraction, ub, balanced, seed):
    gt_inds = torch.tensor([c[0] for c in candidates])
    assignment = Assignment(gt_inds, torch.tensor([c[1] for c in candidates]), None)
    boxes = torch.arange(len(candidates) * 4, dtype=torch.float32).reshape(-1, 4)
    sampler = (
        CombinedSampler(num, fraction, ub, False, positives=BALANCED, negatives=IoUBalancedNegativeSampler())
        if balanced
        else RandomSampler(num, fraction, ub, False)
    )
    sample = sampler(assignment, boxes, torch.zeros(3, 4), generator=seeded(seed))
    positive, negative = sample.positive_indices, sample.negative_indices
    assert (gt_inds[positive] > 0).all() and (gt_inds[negative] == 0).all()
    assert positive.tolist() == sorted(set(positive.tolist())) and negative.tolist() == sorted(set(negative.tolist()))
    quota = num - len(positive)
    if ub >= 0:
        quota = min(quota, ub * max(1, len(positive)))
    assert len(negative) == min(quota, int((gt_inds == 0).sum()))
    assert len(positive) <= int(num * fraction)
    if not balanced:
        assert len(positive) == min(int(num * fraction), int((gt_inds > 0).sum()))
    assert torch.equal(sample.boxes, boxes[torch.cat([positive, negative])])
    assert torch.equal(sample.positive_gt_indices, gt_inds[positive] - 1)


def test_instance_balance_serves_rare_objects_whole():
    gt_inds = torch.cat([torch.full((500,), 1), torch.full((3,), 2), torch.zeros(50, dtype=torch.int64)])
    assignment = Assignment(gt_inds, torch.ones(len(gt_inds)), None)
    rows = InstanceBalancedPositiveSampler()(assignment, 20, seeded())
    assert (gt_inds[rows] == 2).sum() >= 3 and len(rows) == 20


def test_iou_balance_takes_bins_in_equal_parts_and_fills_up():
    overlaps = torch.cat([torch.full((100,), 0.1), torch.full((100,), 0.5), torch.full((3,), 0.8), torch.tensor([0.9])])
    gt_inds = torch.cat([torch.zeros(203, dtype=torch.int64), torch.tensor([1])])
    rows = IoUBalancedNegativeSampler()(Assignment(gt_inds, overlaps, None), 30, seeded())
    assert len(rows.unique()) == 30
    assert (overlaps[rows] == 0.8).sum() == 3
    assert (overlaps[rows] == 0.1).sum() >= 10 and (overlaps[rows] == 0.5).sum() >= 10


def test_the_same_seed_gives_the_same_sample(golden):
    arguments = assigned(golden, 1, "rcnn")
    first, second, other = (SAMPLERS["rcnn"](*arguments, seeded(s)) for s in (7, 7, 8))
    assert torch.equal(first.boxes, second.boxes)
    assert not torch.equal(first.negative_indices, other.negative_indices)


def test_a_choice_can_be_injected(golden):
    def first(candidates: Tensor, count: int, generator: torch.Generator | None) -> Tensor:
        return candidates[:count]

    assignment, boxes, gt, labels = assigned(golden, 1, "rcnn")
    sampler = RandomSampler(512, 0.25, negatives=RandomNegativeSampler(choose=first))
    negatives = (assignment.with_gt(len(gt), labels).gt_inds == 0).nonzero().squeeze(1)
    assert torch.equal(sampler(assignment, boxes, gt, labels).negative_indices, negatives[:384])


def test_choice_is_without_repetition():
    chosen = random_choice(torch.arange(50) * 2, 20, seeded())
    assert len(chosen.unique()) == 20 and not (chosen % 2).any()
    assert len(random_choice(torch.arange(3), 20, None)) == 3


def test_bad_budgets_are_refused():
    with pytest.raises(ValueError, match=r"num >= 1.*got 0 and 0\.5"):
        RandomSampler(0, 0.5)
    with pytest.raises(ValueError, match="num_bins is 0"):
        IoUBalancedNegativeSampler(num_bins=0)
