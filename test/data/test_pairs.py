"""Pairs of frames: a function of seed and number, matched by identity within a source and nowhere else."""

from __future__ import annotations

import dataclasses
from functools import partial

import numpy as np
import pytest

from qdtrack_ros.data.pair_sources import SequenceSource, repeats
from qdtrack_ros.data.pairs import PairConfig, PairSampler
from qdtrack_ros.data.transforms import AugmentationConfig
from qdtrack_ros.data.types import Annotation, Frame, Sequence

LABELS = {"person": 0, "car": 1, "shade": None}
PLAIN = AugmentationConfig(
    size=(96, 160),
    object_height=(40.0, 40.0),
    pair_scale_jitter=0.0,
    flip=0.0,
    colour=0.0,
    pair_colour=0.0,
    grey=0.0,
    degrade=0.0,
    min_height=4.0,
)
COLOURS = {0: (40, 40, 250), 1: (40, 250, 40), 2: (250, 40, 40)}


def draw(size, annotations):
    image = np.full((*size, 3), 90, np.uint8)
    for a in annotations:
        x1, y1, x2, y2 = (int(v) for v in a.box)
        image[y1:y2, x1:x2] = COLOURS.get(a.instance_id, (10, 10, 10))
    return image


def video(frames=12, name="video", first_id=0, with_ids=True, label="person", size=(240, 400)):
    """Objects of ids ``first_id`` to ``first_id + 2``, each of its colour, moving right by 4 pixels a frame."""
    result = []
    for index in range(frames):
        annotations = tuple(
            Annotation((x, 60.0, x + 30.0, 140.0), label, first_id + row if with_ids else None)
            for row, x in enumerate((20.0 + 4 * index, 140.0 + 4 * index, 260.0 + 4 * index))
        )
        result.append(Frame(index, None, size[1], size[0], annotations, partial(draw, size, annotations)))
    return Sequence(name, tuple(result), 10.0, True)


def source(sequence, scope=3, weight=1.0):
    return SequenceSource(sequence, weight, scope, LABELS)


def sampler(*sources, **settings):
    settings = {"augmentation": PLAIN, "mosaic": 0.0, "background": 0.0} | settings
    return PairSampler(sources, PairConfig(**settings))


def same(a, b):
    parts = [
        (x, y)
        for p, q in ((a.key, b.key), (a.reference, b.reference))
        for x, y in zip(vars(p).values(), vars(q).values(), strict=True)
    ]
    return all(np.array_equal(x, y) for x, y in [*parts, (a.matches, b.matches)])


def colour_at(picture, row):
    x1, y1, x2, y2 = picture.boxes[row]
    return picture.image[int((y1 + y2) / 2), int((x1 + x2) / 2)].astype(int)


@pytest.mark.parametrize("mosaic", [0.0, 1.0])
def test_a_pair_is_a_function_of_seed_and_number(mosaic):
    augmentation = AugmentationConfig(size=(96, 160))
    settings = {"augmentation": augmentation, "mosaic": mosaic, "background": 0.2}
    one, two = (sampler(source(video()), source(video(name="b"), 0), **settings) for _ in range(2))
    forward = [one.draw(n) for n in range(6)]
    backward = [two.draw(n) for n in reversed(range(6))][::-1]
    assert all(same(a, b) for a, b in zip(forward, backward, strict=True))
    assert not any(same(a, b) for a, b in zip(forward[:-1], forward[1:], strict=True))
    other = sampler(source(video()), source(video(name="b"), 0), seed=1, **settings)
    assert not same(one.draw(0), other.draw(0))


def test_matches_show_the_same_person_and_zero_is_an_identity():
    pairs = [sampler(source(video())).draw(n) for n in range(12)]
    seen = set()
    for pair in pairs:
        assert pair.matches.dtype == np.int64 and len(pair.matches) == len(pair.key.boxes)
        for row, partner in enumerate(pair.matches):
            instance = int(pair.key.instance_ids[row])
            assert (partner >= 0) == (instance in pair.reference.instance_ids)
            if partner >= 0:
                seen.add(instance)
                assert pair.reference.instance_ids[partner] == instance
                assert np.abs(colour_at(pair.key, row) - COLOURS[instance]).max() < 40
                assert np.abs(colour_at(pair.reference, partner) - COLOURS[instance]).max() < 40
    assert seen == {0, 1, 2}


def test_unknown_identities_never_match():
    for n in range(5):
        pair = sampler(source(video(with_ids=False))).draw(n)
        assert (pair.key.instance_ids == -1).all() and (pair.matches == -1).all() and len(pair.matches)


def test_a_still_is_two_views_of_one_picture_and_every_object_its_own_identity():
    stills = dataclasses.replace(video(with_ids=False), is_video=False)
    drawn = sampler(source(stills, scope=0), augmentation=dataclasses.replace(PLAIN, pair_scale_jitter=0.2))
    ids = set()
    for n in range(12):
        pair = drawn.draw(n)
        assert len(set(pair.key.instance_ids.tolist())) == len(pair.key.instance_ids)
        assert (pair.matches >= 0).any()
        ids |= set(pair.key.instance_ids.tolist())
    assert len(ids) > 6  # the same row of another picture is another identity


@pytest.mark.parametrize("scope", [1, 4])
def test_frames_lie_within_the_scope(scope):
    loaded = []

    def noted(index, load):
        loaded.append(index)
        return load()

    plain = video(frames=30)
    frames = tuple(dataclasses.replace(f, load=partial(noted, f.index, f.load)) for f in plain.frames)
    drawn = sampler(source(dataclasses.replace(plain, frames=frames), scope))
    distances = set()
    for n in range(60):
        loaded.clear()
        drawn.draw(n)
        distances.add(loaded[-1] - loaded[0])
    assert max(distances) == scope and min(distances) == -scope and 0 in distances


def test_ignored_crowds_and_shades_are_regions_and_other_labels_background():
    annotations = (
        Annotation((20, 60, 50, 140), "person", 0),
        Annotation((100, 60, 130, 140), "person", 1, ignore=True),
        Annotation((160, 60, 190, 140), "person", None, crowd=True),
        Annotation((220, 60, 250, 140), "shade", 3),
        Annotation((280, 60, 310, 140), "tree", 4),
        Annotation((340, 60, 370, 140), "car", 5),
    )
    frame = Frame(0, None, 400, 240, annotations, partial(draw, (240, 400), annotations))
    config = dataclasses.replace(PLAIN, size=(256, 416), object_height=(80.0, 80.0))
    pair = sampler(source(Sequence("one", (frame,), None, True)), augmentation=config).draw(0)
    assert pair.key.labels.tolist() == [0, 1] and pair.key.instance_ids.tolist() == [0, 5]
    widths = pair.key.ignore_boxes[:, 2] - pair.key.ignore_boxes[:, 0]
    assert len(widths) == 3
    gaps = np.diff(np.sort(pair.key.ignore_boxes[:, 0]))
    np.testing.assert_allclose(gaps, [60, 60], atol=0.1)


def test_sources_are_drawn_by_weight_and_their_identities_never_meet():
    drawn = sampler(source(video(), weight=3.0), source(video(name="b", label="car"), weight=1.0))
    labels = [int(drawn.draw(n).key.labels[0]) for n in range(200)]
    assert 25 <= sum(labels) <= 75
    ids = {0: set(), 1: set()}
    for n in range(20):
        pair = drawn.draw(n)
        ids[int(pair.key.labels[0])] |= set(pair.key.instance_ids.tolist())
    assert not ids[0] & ids[1]


@pytest.mark.parametrize(
    ("threshold", "expected"),
    [
        (0.0, [1] * 10),
        (0.1, [1] * 10),  # the rare class is in a tenth of the pictures
        (0.2, [1] * 9 + [2]),  # sqrt(2), rounded up
        (0.9, [1] * 9 + [3]),
        (1.0, [1] * 9 + [4]),
    ],
)
def test_pictures_with_rare_classes_are_repeated(threshold, expected):
    assert repeats([{0}] * 9 + [{0, 1}], threshold) == expected


def test_stills_with_rare_classes_are_drawn_more_often():
    stills = [video(1, label="person").frames[0]] * 9 + [video(1, label="car").frames[0]]
    stills = Sequence("stills", tuple(dataclasses.replace(f, index=i) for i, f in enumerate(stills)), None, False)
    counts = []
    for threshold in (0.0, 0.9):
        drawn = sampler(SequenceSource(stills, 1.0, 0, LABELS, oversample=threshold))
        counts.append(sum(int(drawn.draw(n).key.labels[0]) for n in range(400)))
    assert 20 <= counts[0] <= 60  # one in ten
    assert 75 <= counts[1] <= 125  # three in twelve


def test_matches_are_right_in_mosaics():
    drawn = sampler(source(video()), source(video(name="b")), mosaic=1.0)
    matched = doubles = 0
    for n in range(40):
        pair = drawn.draw(n)
        for side in (pair.key, pair.reference):
            assert side.image.shape == (96, 160, 3)
            assert len(set(side.instance_ids.tolist())) == len(side.instance_ids)
        doubles += len(pair.key.ignore_boxes)
        for row, partner in enumerate(pair.matches):
            instance = int(pair.key.instance_ids[row])
            assert (partner >= 0) == (instance in pair.reference.instance_ids)
            if partner >= 0:
                matched += 1
                assert pair.reference.instance_ids[partner] == instance
                assert pair.reference.labels[partner] == pair.key.labels[row]
    assert matched > 40 and doubles


def test_unknown_identities_survive_in_mosaics():
    pair = sampler(source(video(with_ids=False)), mosaic=1.0).draw(0)
    assert len(pair.key.instance_ids) > 1 and (pair.key.instance_ids == -1).all()


def test_background_frames_are_drawn_too():
    sequence = video(frames=20)
    empty = tuple(dataclasses.replace(f, annotations=()) for f in sequence.frames[1:])
    mixed = dataclasses.replace(sequence, frames=(sequence.frames[0], *empty))
    never = sampler(source(mixed, scope=0))
    always = sampler(source(mixed, scope=0), background=1.0)
    assert all(len(never.draw(n).key.boxes) for n in range(10))
    assert any(not len(always.draw(n).key.boxes) for n in range(10))
    pair = next(p for p in map(always.draw, range(10)) if not len(p.key.boxes))
    assert pair.matches.shape == (0,) and pair.key.boxes.shape == (0, 4)


def test_grey_pictures_become_colour():
    frame = video().frames[0]
    grey = dataclasses.replace(frame, load=lambda: np.full((240, 400), 77, np.uint8))
    pair = sampler(source(Sequence("grey", (grey,), None, True))).draw(0)
    assert pair.key.image.shape == (96, 160, 3)


def test_nothing_to_learn_from_is_an_error_that_names_the_sources():
    empty = Sequence("empty street", (Frame(0, None, 9, 9, (), lambda: np.zeros((9, 9, 3), np.uint8)),), None, True)
    with pytest.raises(ValueError, match="no object to learn from in empty street: check the label names"):
        sampler(source(empty))
    with pytest.raises(ValueError, match="no source at all"):
        sampler()
