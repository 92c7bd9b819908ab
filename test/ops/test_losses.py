"""Losses against the reference's values and gradients, and against the paper's double sum."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qdtrack_ros.ops.losses import (
    hardest_negatives,
    l2_auxiliary_loss,
    multi_positive_cross_entropy,
    multi_positive_terms,
)


def case_of(arrays, prefix):
    return {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}


@pytest.mark.parametrize("case", range(13))
def test_multi_positive_matches_reference(golden, case):
    arrays = case_of(golden("losses/multipos_ce"), f"c{case:02d}_")
    pred, label = torch.from_numpy(arrays["pred"]).requires_grad_(), torch.from_numpy(arrays["label"])
    weight, average = (
        torch.from_numpy(np.asarray(arrays[k])) if k in arrays else None for k in ("weight", "avg_factor")
    )
    terms = multi_positive_terms(pred, label)
    np.testing.assert_allclose(terms.detach().numpy(), arrays["elementwise"], rtol=1e-5, atol=1e-5)
    loss = multi_positive_cross_entropy(pred, label, weight, average)
    loss.backward()
    assert loss.item() == pytest.approx(arrays["loss"].item(), rel=1e-5, abs=1e-6)
    np.testing.assert_allclose(pred.grad.numpy(), arrays["grad"], rtol=1e-4, atol=1e-6)


row = st.lists(st.tuples(st.floats(-8, 8, width=32), st.integers(0, 1)), min_size=1, max_size=8)


@settings(max_examples=60, deadline=None)
@given(row)
def test_multi_positive_matches_double_sum(pairs):
    positives = [score for score, label in pairs if label == 1]
    negatives = [score for score, label in pairs if label == 0]
    expected = math.log(1 + sum(math.exp(n - p) for n in negatives for p in positives))
    pred, label = torch.tensor([[s for s, _ in pairs]]), torch.tensor([[k for _, k in pairs]])
    assert multi_positive_terms(pred, label).item() == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_multi_positive_stays_finite_where_the_reference_would_overflow():
    pred = torch.tensor([[900.0, -900.0, 0.0], [5.0, 5.0, 5.0]], requires_grad=True)
    label = torch.tensor([[0, 1, 1], [1, 1, 1]])
    with torch.autograd.set_detect_anomaly(True):  # no NaN on the way back either
        terms = multi_positive_terms(pred, label)
        terms.sum().backward()
    assert terms.tolist() == [1800.0, 0.0]
    assert pred.grad is not None and pred.grad.tolist() == [[1.0, -1.0, 0.0], [0.0, 0.0, 0.0]]


@pytest.mark.parametrize("shape", [(0, 5), (3, 0), (0, 0)])
def test_losses_of_nothing_are_zero_with_a_graph(shape):
    pred, target = torch.zeros(shape, requires_grad=True), torch.zeros(shape, dtype=torch.int64)
    loss = multi_positive_cross_entropy(pred, target) + l2_auxiliary_loss(pred, target)
    loss.backward()
    assert loss.item() == 0


@pytest.mark.parametrize("case", range(10))
def test_l2_matches_reference(golden, case):
    arrays = case_of(golden("losses/l2_aux"), f"c{case:02d}_")
    pred, target = torch.from_numpy(arrays["pred"]).requires_grad_(), torch.from_numpy(arrays["target"])
    settings_ = [arrays[k].item() for k in ("neg_pos_ub", "pos_margin", "neg_margin", "loss_weight")]
    loss = l2_auxiliary_loss(pred, target, *settings_)
    loss.backward()
    assert loss.item() == pytest.approx(arrays["loss"].item(), rel=1e-5, abs=1e-7)
    np.testing.assert_allclose(pred.grad.numpy(), arrays["grad"], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("case", range(10))
def test_mining_keeps_the_pairs_that_the_reference_keeps(golden, case):
    arrays = case_of(golden("losses/l2_aux"), f"c{case:02d}_")
    assert arrays["hard_mining"] == 1
    pred, target = torch.from_numpy(arrays["pred"]), torch.from_numpy(arrays["target"])
    positive = target == 1
    margins = torch.where(positive, arrays["pos_margin"].item(), arrays["neg_margin"].item())
    costs = ((pred - margins).clamp(0, 1) - target) ** 2
    ratio = arrays["neg_pos_ub"].item()
    limit = ratio * int(positive.sum()) if ratio > 0 else int((~positive).sum())
    kept, expected = hardest_negatives(costs, target, limit), torch.from_numpy(arrays["kept"])
    assert (kept == expected)[positive].all() and kept.sum() == expected.sum()
    # Among negatives of equal cost, zero for most, the choice is free.
    torch.testing.assert_close(costs[kept].sort().values, costs[expected].sort().values, rtol=0, atol=1e-7)


def test_mining_keeps_all_positives_and_the_dearest_negatives():
    costs = torch.tensor([[0.0, 0.9, 0.1], [0.5, 0.7, 0.2]])
    target = torch.tensor([[1, 0, 0], [0, 0, 0]])
    assert hardest_negatives(costs, target, 2).tolist() == [[True, True, False], [False, True, False]]
    assert hardest_negatives(costs, target, 99).all()


def test_l2_without_a_positive_pair_is_zero_with_a_graph():
    pred = torch.full((4, 6), 0.8, requires_grad=True)
    loss = l2_auxiliary_loss(pred, torch.zeros(4, 6, dtype=torch.int64))
    loss.backward()
    assert loss.item() == 0 and pred.grad is not None and not pred.grad.any()


def test_l2_leaves_its_input_alone():
    pred, target = torch.full((2, 2), 0.6), torch.eye(2, dtype=torch.int64)
    l2_auxiliary_loss(pred, target, positive_margin=0.3)
    assert torch.equal(pred, torch.full((2, 2), 0.6)) and torch.equal(target, torch.eye(2, dtype=torch.int64))
