"""Whole pictures: boxes follow their pixels, and a pair shares what the configuration says."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from qdtrack_ros.data.appearance import Distortion, apply_distortion, random_distortion
from qdtrack_ros.data.pair_sources import SequenceSource
from qdtrack_ros.data.pairs import PairConfig, PairSampler
from qdtrack_ros.data.scene import SceneAugmentation, apply_change, random_change, vary_scene
from qdtrack_ros.data.transforms import LabelledPicture
from qdtrack_ros.data.types import Annotation, Frame, Sequence

PLAIN = SceneAugmentation(scales=((160, 96),), flip=0.0)
BOX = (40.0, 20.0, 80.0, 60.0)


def picture(box=BOX, size=(120, 200), ignore=((150.0, 80.0, 190.0, 110.0),)):
    """A white rectangle on grey."""
    image = np.full((*size, 3), 90, np.uint8)
    x1, y1, x2, y2 = (max(int(v), 0) for v in box)
    image[y1:y2, x1:x2] = 255
    ids = np.array([0], np.int64)
    return LabelledPicture(image, np.array([box], np.float32), ids + 3, ids, np.array(ignore, np.float32))


def white_box(image):
    rows, columns = (np.flatnonzero((image[..., 0] > 172).any(axis=axis)) for axis in (1, 0))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], np.float32)


@pytest.mark.parametrize("seed", range(10))
def test_boxes_follow_their_pixels(seed):
    config = replace(PLAIN, scales=((160, 96), (320, 200)), scale_range=(0.8, 1.2), flip=0.5, crop=(80, 120))
    rng = np.random.default_rng(seed)
    changed = apply_change(picture(), random_change(config, rng), config)
    assert changed.image.shape[0] <= 80 and changed.image.shape[1] <= 120
    if len(changed.boxes):
        np.testing.assert_allclose(changed.boxes[0], white_box(changed.image), atol=1.5)
        assert changed.labels.tolist() == [3] and changed.instance_ids.tolist() == [0]


def test_a_picture_is_fitted_into_the_sides_whichever_way_it_stands():
    change = random_change(PLAIN, np.random.default_rng(0))
    assert apply_change(picture(), change, PLAIN).image.shape == (96, 160, 3)
    assert apply_change(picture(size=(200, 100)), change, PLAIN).image.shape == (160, 80, 3)


def test_ignore_regions_are_mirrored_too():
    config = replace(PLAIN, scales=((200, 120),), flip=1.0)
    changed = apply_change(picture(), random_change(config, np.random.default_rng(0)), config)
    assert changed.ignore_boxes.tolist() == [[10, 80, 50, 110]] and changed.boxes.tolist() == [[120, 20, 160, 60]]


def test_boxes_keep_their_whole_size_where_asked_and_what_is_outside_goes():
    over = picture(box=(-20.0, 20.0, 80.0, 60.0))
    outside = picture(box=(-30.0, 20.0, -1.0, 60.0))
    change = random_change(PLAIN, np.random.default_rng(0))
    for clip, left in ((True, 0.0), (False, -16.0)):
        config = replace(PLAIN, clip_boxes=clip)
        assert apply_change(over, change, config).boxes[0, 0] == left
        assert len(apply_change(outside, change, config).boxes) == 0


@pytest.mark.parametrize("shared", [(), ("scale",), ("colour",), ("crop",), ("flip",)])
def test_a_pair_shares_what_the_configuration_says(shared):
    config = SceneAugmentation(
        scales=((200, 120),), scale_range=(0.7, 1.3), colour=True, crop=(64, 96), flip=0.5, shared=shared
    )
    together = dict.fromkeys(("scale", "colour", "crop", "flip"), 0)
    for seed in range(20):
        rng = np.random.default_rng(seed)
        first, second = random_change(config, rng), random_change(config, rng)
        second = replace(second, **{name: getattr(first, name) for name in shared})
        key, reference = vary_scene(picture(), picture(), config, np.random.default_rng(seed))
        for side, change in ((key, first), (reference, second)):
            assert np.array_equal(side.image, apply_change(picture(), change, config).image)
        for name in together:
            together[name] += getattr(first, name) == getattr(second, name)
    assert {name for name, count in together.items() if count == 20} == set(shared)


def test_colours_are_distorted_in_every_way():
    image = np.random.default_rng(0).integers(40, 200, (20, 30, 3), np.uint8)
    nothing = Distortion(0.0, 1.0, True, 1.0, 0.0, (0, 1, 2))
    assert np.array_equal(apply_distortion(image, nothing), image)
    brighter = apply_distortion(image, replace(nothing, brightness=20.0))
    assert np.array_equal(brighter, image + 20)
    swapped = apply_distortion(image, replace(nothing, channels=(2, 1, 0)))
    assert np.array_equal(swapped, image[..., ::-1])
    orders = {
        first: apply_distortion(image, replace(nothing, brightness=20.0, contrast=1.2, contrast_first=first))
        for first in (True, False)
    }
    assert np.array_equal(orders[False], np.rint((image.astype(float) + 20) * 1.2).clip(0, 255))
    grey = apply_distortion(image, replace(nothing, saturation=0.0))
    assert (np.ptp(grey, axis=2) <= 1).all()
    red = np.full((2, 2, 3), (0, 0, 200), np.uint8)
    assert apply_distortion(red, replace(nothing, hue=120.0))[0, 0].tolist() == [0, 200, 0]
    drawn = [random_distortion(np.random.default_rng(seed)) for seed in range(60)]
    for name, plain in vars(nothing).items():
        assert 10 < sum(getattr(one, name) == plain for one in drawn) < 50, name


def video(frames=8, objects=True):
    def load():
        return picture().image

    shown = (Annotation(BOX, "person", 0),) if objects else ()
    found = tuple(Frame(i, None, 200, 120, shown, load) for i in range(frames))
    return Sequence("video", found, 10.0, True)


def test_pairs_of_whole_pictures_are_a_function_of_seed_and_number():
    config = PairConfig(SceneAugmentation(((160, 96),), crop=(64, 96)), mosaic=0.0)
    one, two = (PairSampler([SequenceSource(video(), 1.0, 2, {"person": 0})], config) for _ in range(2))
    first, second = one.draw(5), two.draw(5)
    assert np.array_equal(first.key.image, second.key.image) and first.key.boxes.tolist() == second.key.boxes.tolist()
    assert any(one.draw(n).key.boxes.tolist() != first.key.boxes.tolist() for n in range(5))


def test_frames_that_share_no_object_are_drawn_again_where_asked():
    frames = tuple(
        replace(f, index=i, annotations=(replace(f.annotations[0], instance_id=i // 4),))
        for i, f in enumerate(video().frames)
    )
    source = SequenceSource(replace(video(), frames=frames), 1.0, 3, {"person": 0})
    for matched in (False, True):
        drawn = PairSampler([source], PairConfig(PLAIN, mosaic=0.0, background=0.0, matched=matched))
        without = sum(bool((drawn.draw(n).matches < 0).all()) for n in range(60))
        assert (without == 0) if matched else (without > 5)


def test_the_reference_is_another_frame_where_asked():
    loaded = []

    def note(index):
        loaded.append(index)
        return picture().image

    frames = tuple(replace(f, index=i, load=lambda i=i: note(i)) for i, f in enumerate(video().frames))
    for scope in (1, 3):
        source = SequenceSource(replace(video(), frames=frames), 1.0, scope, {"person": 0}, other_frame=True)
        drawn = PairSampler([source], PairConfig(PLAIN, mosaic=0.0))
        distances = set()
        for n in range(60):
            loaded.clear()
            drawn.draw(n)
            distances.add(loaded[-1] - loaded[0])
        assert distances == {d for d in range(-scope, scope + 1) if d}
    alone = SequenceSource(replace(video(), frames=frames[:1]), 1.0, 3, {"person": 0}, other_frame=True)
    assert len(PairSampler([alone], PairConfig(PLAIN, mosaic=0.0)).draw(0).matches) == 1


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"scales": ()}, "long, short"),
        ({"scales": ((100, 200),)}, "long, short"),
        ({"scale_range": (1.2, 0.8)}, "smallest, largest"),
        ({"shared": ("size",)}, "expected some of scale, colour, crop, flip"),
    ],
)
def test_bad_settings_are_refused(values, words):
    with pytest.raises(ValueError, match=words):
        SceneAugmentation(**values)
    with pytest.raises(ValueError, match="make none: set it to 0.0"):
        PairConfig(SceneAugmentation(), mosaic=0.3)
