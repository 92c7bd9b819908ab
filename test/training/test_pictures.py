"""Pairs drawn for a person: the same object has the same colour on both sides, and TensorBoard receives them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from qdtrack_ros.inference.drawing import track_color
from qdtrack_ros.training.pictures import draw_pairs
from qdtrack_ros.training.stream import Objects, PairBatch
from qdtrack_ros.training.train import train


def pair(matches, ignore=()):
    """Grey pictures of 480 x 320, boxes of two objects each; the reference's are 200 pixels further right."""
    boxes = torch.tensor([[30.0, 60.0, 90.0, 240.0], [130.0, 60.0, 190.0, 240.0]])
    regions = torch.tensor(ignore).reshape(-1, 4)
    labels = torch.tensor([0, 1])
    named = torch.tensor([True, True])
    shifted = boxes + torch.tensor([200.0, 0, 200, 0])
    objects = [Objects(found, labels, regions, named) for found in (boxes, shifted)]
    images = torch.full((2, 320, 480, 3), 120, dtype=torch.uint8)
    return PairBatch(images, [(320, 480)] * 2, objects, [torch.tensor(matches)], [7])


def has(region, color):
    return bool((region == np.array(color, np.uint8)).all(axis=-1).any())


def test_what_matches_has_one_colour_and_what_does_not_has_none():
    drawn = draw_pairs(pair([1, -1]), ["person", "car"])  # the first is the reference's second
    key, reference = drawn[:, :480], drawn[:, 480 + 12 :]
    assert has(key[:, :95], track_color(0)) and has(reference[:, 325:], track_color(0))
    assert not has(drawn, track_color(1))
    caption = slice(0, 26)
    assert (drawn[caption] < 100).any()  # it says something
    middle = drawn[26:, 480 : 480 + 12]
    assert (middle != 255).any(), "a line goes from one picture to the other"


def test_no_matches_are_no_lines():
    drawn = draw_pairs(pair([-1, -1]), ["person", "car"])
    assert (drawn[26:, 480 : 480 + 12] == 255).all()


def test_ignore_regions_are_hatched_and_nothing_is_changed_in_place():
    batch = pair([-1, -1], [[250.0, 10.0, 320.0, 80.0]])
    drawn = draw_pairs(batch, ["person", "car"])
    region = drawn[26 + 12 : 26 + 78, 252:318]
    hatched = (region == 90).all(axis=-1).mean()
    assert 0.15 < hatched < 0.4
    assert (batch.images == 120).all()


def test_small_pictures_are_enlarged_and_only_two_pairs_shown():
    one = pair([0, 1])
    objects = one.objects[:1] * 3 + one.objects[1:] * 3
    images = one.images[:, ::4, ::4].repeat(3, 1, 1, 1)
    small = PairBatch(images, [(80, 120)] * 6, objects, one.matches * 3, [1, 2, 3])
    drawn = draw_pairs(small, ["person", "car"])
    assert drawn.shape == (2 * (26 + 320 + 12), 2 * 480 + 12, 3)


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning", "ignore:.*treespec")
@pytest.mark.parametrize(("every", "steps"), [(2, [1, 2, 4]), (0, [])])
def test_tensorboard_receives_pictures_losses_positives_and_learning_rate(training, street, tmp_path, every, steps):
    train(training(pictures_every=every, steps=4 if every else 1), street.parent, tmp_path / "out")
    events = EventAccumulator(str(tmp_path / "out" / "events"), size_guidance={"images": 0})
    events.Reload()
    assert [image.step for image in (events.Images("pairs") if every else [])] == steps
    assert bool(events.Tags()["images"]) == bool(every)
    if every:
        scalars = set(events.Tags()["scalars"])
        assert {"loss", "loss/rpn_objectness", "loss/track", "train/positives"} <= scalars
        assert any(tag.startswith("lr-AdamW") for tag in scalars)
