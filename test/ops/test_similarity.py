"""Similarities against the reference's outputs and gradients."""

import numpy as np
import pytest
import torch

from qdtrack_ros.ops.similarity import bisoftmax, dot_similarity


@pytest.mark.parametrize("case", range(7))
def test_matches_reference(golden, case):
    arrays = {k[3:]: v for k, v in golden("losses/similarity").items() if k.startswith(f"c{case}_")}
    key, reference = (torch.from_numpy(arrays[k]).requires_grad_() for k in ("key", "ref"))
    result = dot_similarity(key, reference, arrays["temperature"].item(), bool(arrays["cosine"]))
    np.testing.assert_allclose(result.detach().numpy(), arrays["out"], atol=1e-5)
    result.backward(torch.from_numpy(arrays["upstream"]))
    if "gkey" in arrays:
        # The gradient at a zero vector is of the order 1e12 in the reference too: compare relatively.
        np.testing.assert_allclose(key.grad.numpy(), arrays["gkey"], rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(reference.grad.numpy(), arrays["gref"], rtol=1e-5, atol=1e-5)


def test_bisoftmax_is_high_only_where_both_agree():
    similarity = torch.tensor([[9.0, 0.0, 0.0], [9.0, 8.0, 0.0]])
    result = bisoftmax(similarity)
    rows, columns = similarity.exp() / similarity.exp().sum(1, True), similarity.exp() / similarity.exp().sum(0, True)
    torch.testing.assert_close(result, (rows + columns) / 2)
    assert result.argmax(dim=0)[1] == 1 and result[0, 0] > result[1, 0]


def test_bisoftmax_does_not_overflow_and_gives_one_to_a_lone_pair():
    assert bisoftmax(torch.tensor([[500.0, -500.0], [-500.0, 900.0]])).tolist() == [[1.0, 0.0], [0.0, 1.0]]
    assert bisoftmax(torch.tensor([[-3.0]])).tolist() == [[1.0]]
