"""Nearest-neighbour accuracy of embeddings: right, wrong, gone, and nobody at all."""

from __future__ import annotations

import math

import numpy as np
import pytest

from qdtrack_ros.evaluation.embedding import KnownObjects, nearest_accuracy


def picture(*objects):
    ids = np.array([number for number, _ in objects], np.int64)
    return KnownObjects(np.array([vector for _, vector in objects], np.float32).reshape(-1, 2), ids)


A, B, BETWEEN = (1.0, 0.0), (0.0, 1.0), (0.9, 1.0)


def test_right_and_wrong_neighbours_are_counted():
    assert nearest_accuracy([picture((0, A), (1, B)), picture((1, B), (0, A))]) == 1.0
    assert nearest_accuracy([picture((0, A), (1, B)), picture((0, B), (1, A))]) == 0.0
    assert nearest_accuracy([picture((0, A), (1, B)), picture((0, BETWEEN), (1, B))]) == 0.5


def test_objects_that_have_gone_do_not_count_but_newcomers_compete():
    assert nearest_accuracy([picture((0, A), (7, B)), picture((0, A))]) == 1.0
    assert nearest_accuracy([picture((0, A)), picture((0, BETWEEN), (5, (2.0, 0.0)))]) == 0.0


@pytest.mark.parametrize("step", [1, 2])
def test_step_is_the_distance_in_pictures(step):
    pictures = [picture((0, A), (1, B)), picture((0, B), (1, A)), picture((0, A), (1, B))]
    assert nearest_accuracy(pictures, step=step) == (0.0 if step == 1 else 1.0)


def test_sequences_are_counted_together_but_not_compared():
    right, wrong = [picture((0, A), (1, B))] * 2, [picture((0, A), (1, B)), picture((0, B), (1, A))]
    assert nearest_accuracy(right, wrong) == 0.5
    assert math.isnan(nearest_accuracy([picture((0, A))], [picture((0, A))]))


@pytest.mark.parametrize(
    "pictures", [[], [picture((0, A))], [picture((0, A)), picture((1, A))], [picture(), picture()]]
)
def test_nothing_to_compare_is_not_a_number(pictures):
    assert math.isnan(nearest_accuracy(pictures))
