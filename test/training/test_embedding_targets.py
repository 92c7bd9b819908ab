"""Targets and the losses built on them against the reference's embedding head."""

import numpy as np
import pytest
import torch

from qdtrack_ros.ops.losses import l2_auxiliary_loss, multi_positive_cross_entropy
from qdtrack_ros.ops.similarity import dot_similarity
from qdtrack_ros.training.embedding_targets import first_positives, match_targets, of_named


@pytest.mark.parametrize("case", range(7))
def test_head_losses_match_reference(golden, case):
    arrays = {k[3:]: torch.from_numpy(np.asarray(v)) for k, v in golden("losses/head").items() if k[:3] == f"h{case}_"}
    images = int(arrays["n_imgs"])
    key, reference = arrays["key_embeds"].requires_grad_(), arrays["ref_embeds"].requires_grad_()
    keys = key.split(arrays["n_key"].tolist())
    references = reference.split([int(arrays[f"img{i}_n_ref"]) for i in range(images)])
    loss, auxiliary = torch.zeros(()), torch.zeros(())
    for i in range(images):
        image = {k.removeprefix(f"img{i}_"): v for k, v in arrays.items() if k.startswith(f"img{i}_")}
        targets, weights = match_targets(
            image["key_pos_gt"], image["ref_pos_gt"], int(image["n_ref"]), image["gt_match_indices"]
        )
        assert torch.equal(targets, image["targets"].long())
        assert torch.equal(weights, image["weights"])
        similarity = dot_similarity(keys[i], references[i], float(arrays["softmax_temp"]))
        torch.testing.assert_close(similarity, image["dists"], rtol=1e-5, atol=1e-5)
        loss = loss + multi_positive_cross_entropy(similarity, targets, weights, weights.sum()) / images
        if "cos" in image:
            cosine = dot_similarity(keys[i], references[i], cosine=True)
            torch.testing.assert_close(cosine, image["cos"], rtol=1e-5, atol=1e-6)
            auxiliary = auxiliary + l2_auxiliary_loss(cosine, targets) / images
    torch.testing.assert_close(loss, arrays["loss_track"], rtol=1e-5, atol=1e-6)
    if "loss_track_aux" in arrays:
        torch.testing.assert_close(auxiliary, arrays["loss_track_aux"], rtol=1e-5, atol=1e-6)
    (loss + auxiliary).backward()
    torch.testing.assert_close(key.grad, arrays["grad_key"], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(reference.grad, arrays["grad_ref"], rtol=1e-4, atol=1e-6)


def test_absent_objects_and_negatives_have_no_partner():
    targets, weights = match_targets(torch.tensor([0, 1, 2]), torch.tensor([1, 1]), 4, torch.tensor([1, -1, 0]))
    assert targets.tolist() == [[1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    assert weights.tolist() == [1.0, 0.0, 0.0]


def test_nothing_to_match():
    none = torch.zeros(0, dtype=torch.int64)
    targets, weights = match_targets(none, none, 3, none)
    assert targets.shape == (0, 3) and weights.shape == (0,)


def test_rows_and_columns_of_objects_without_identity_take_no_part():
    rows, columns = torch.tensor([0, 1]), torch.tensor([0, 1, 1])
    targets = torch.tensor([[1, 0, 0, 0], [0, 0, 0, 0]])
    every, second = torch.tensor([True, True]), torch.tensor([True, False])
    assert torch.equal(of_named(targets, rows, columns, every, every), targets)
    assert of_named(targets, rows, columns, second, every).tolist() == [[1, 0, 0, 0], [-1, -1, -1, -1]]
    assert of_named(targets, rows, columns, every, second).tolist() == [[1, -1, -1, 0], [0, -1, -1, 0]]


def test_all_positives_of_a_row_but_the_first_take_no_part():
    targets = torch.tensor([[0, 1, 1, 0, 1], [0, 0, 0, 0, 0], [1, 0, 0, 0, 0]])
    assert first_positives(targets).tolist() == [[0, 1, -1, 0, -1], [0, 0, 0, 0, 0], [1, 0, 0, 0, 0]]
