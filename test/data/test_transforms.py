"""Boxes follow their pixels through every view and mosaic; what is cut off or tiny is neither object nor background."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qdtrack_ros.data.appearance import apply_colour, degrade, random_colour
from qdtrack_ros.data.transforms import (
    AugmentationConfig,
    LabelledPicture,
    View,
    apply_view,
    clip_objects,
    follow_view,
    mosaic,
    random_view,
)

CONFIG = AugmentationConfig(size=(96, 160), min_height=1.0, min_visible=0.0)


def picture(boxes, size=(120, 200), ids=None, ignore=()):
    """White rectangles on black."""
    image = np.zeros((*size, 3), np.uint8)
    for x1, y1, x2, y2 in boxes:
        image[max(int(y1), 0) : int(y2), max(int(x1), 0) : int(x2)] = 255
    return LabelledPicture(
        image,
        np.array(boxes, np.float32).reshape(-1, 4),
        np.arange(len(boxes)),
        np.arange(len(boxes)) if ids is None else np.array(ids),
        np.array(ignore, np.float32).reshape(-1, 4),
    )


def white_box(image):
    """Bounds of what is brighter than half, None when nothing is."""
    rows, columns = (np.flatnonzero((image[..., 0] > 185).any(axis=axis)) for axis in (1, 0))
    if not len(rows):
        return None
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], np.float32)


@settings(max_examples=60, deadline=None)
@given(
    st.floats(0.25, 2.5),
    st.floats(-60, 60),
    st.floats(-60, 60),
    st.booleans(),
    st.tuples(st.integers(10, 120), st.integers(10, 60), st.integers(24, 70), st.integers(24, 50)),
)
def test_boxes_follow_their_pixels(scale, dx, dy, flip, place):
    x, y, w, h = place
    source = picture([(x, y, x + w, y + h)])
    before = source.image.copy()
    seen = apply_view(source, View(scale, (dx, dy), flip), CONFIG.size, CONFIG)
    assert seen.image.shape == (96, 160, 3) and seen.image.dtype == np.uint8
    assert np.array_equal(source.image, before)
    boxes = np.concatenate([seen.boxes, seen.ignore_boxes])
    bounds = white_box(seen.image)
    if bounds is None:
        assert not len(boxes) or (boxes[0, 2:] - boxes[0, :2]).min() < 2
    elif len(boxes):
        # A pixel of rounding, and the 1/32 pixel of the source to which OpenCV places its samples, enlarged.
        np.testing.assert_allclose(boxes[0], bounds, atol=1.1)
    else:
        assert (bounds[2:] - bounds[:2]).min() <= 2


def test_ignore_regions_move_with_the_picture_too():
    source = picture([], ignore=[(20, 20, 60, 80)])
    shown = apply_view(source, View(0.5, (10.0, 5.0), True), CONFIG.size, CONFIG)
    np.testing.assert_allclose(shown.ignore_boxes, [[160 - 40, 15, 160 - 20, 45]], atol=1e-4)


def test_objects_hardly_visible_or_tiny_become_ignore_regions():
    config = AugmentationConfig(size=(96, 160), min_visible=0.35, min_height=14.0)
    boxes = [(-30, 10, 10, 60), (-10, 10, 30, 60), (50, 50, 60, 60), (70, 20, 90, 80), (300, 0, 320, 50)]
    clipped = clip_objects(picture(boxes, (96, 160), ids=[5, 6, 7, 0, 9]), config)
    assert clipped.instance_ids.tolist() == [6, 0]  # a quarter seen; three quarters; ten pixels high; whole; outside
    assert clipped.boxes.tolist() == [[0, 10, 30, 60], [70, 20, 90, 80]]
    assert clipped.labels.tolist() == [1, 3]
    assert clipped.ignore_boxes.tolist() == [[0, 10, 10, 60], [50, 50, 60, 60]]


@pytest.mark.parametrize("seed", range(20))
def test_a_view_brings_its_object_to_the_height_asked_for(seed):
    config = AugmentationConfig(size=(96, 160), object_height=(30.0, 60.0), max_magnification=4.0)
    source = picture([(80, 40, 100, 80)], ids=[0])
    view, instance = random_view(source, config.size, config, np.random.default_rng(seed))
    assert instance == 0
    assert 30 - 1e-3 <= 40 * view.scale <= 60 + 1e-3
    assert len(apply_view(source, view, config.size, config).boxes) == 1


def test_a_picture_without_objects_has_views_too():
    view, instance = random_view(picture([]), CONFIG.size, CONFIG, np.random.default_rng(0))
    assert instance is None
    assert not (apply_view(picture([]), view, CONFIG.size, CONFIG).image == 114).all()


@pytest.mark.parametrize("seed", range(20))
def test_the_reference_view_follows_the_object(seed):
    rng = np.random.default_rng(seed)
    config = AugmentationConfig(size=(96, 160), pair_scale_jitter=0.1)
    view = View(1.0, (-100.0, -100.0), bool(seed % 2))
    key, reference = np.array([150.0, 140.0], np.float32), np.array([230.0, 170.0], np.float32)
    second = follow_view(view, (key, reference), (400, 600), config.size, config, rng)
    assert second.flip == view.flip
    assert abs(np.log(second.scale)) <= 0.1
    moved = reference * second.scale + second.offset
    np.testing.assert_allclose(moved, key + view.offset, atol=17)  # a tenth of the view


def test_views_show_no_border_where_the_picture_is_large_enough():
    source = picture([(0, 0, 30, 60), (170, 60, 200, 120)])
    source.image[:] = 200
    for seed in range(30):
        view, _ = random_view(source, (64, 96), CONFIG, np.random.default_rng(seed))
        shown = apply_view(source, view, (64, 96), CONFIG)
        if view.scale * 120 > 66 and view.scale * 200 > 98:
            assert (shown.image[2:-2, 2:-2] == 200).all()


def test_a_mosaic_shifts_each_quadrant_s_boxes():
    split, size = (40, 70), (96, 160)
    sizes = [(40, 70), (40, 90), (56, 70), (56, 90)]
    parts = [picture([(10, 8, 30, 32)], s, ids=[i], ignore=[(0, 0, 9, 9)]) for i, s in enumerate(sizes)]
    whole = mosaic(parts, split, size, CONFIG)
    assert whole.image.shape == (96, 160, 3)
    assert whole.instance_ids.tolist() == [0, 1, 2, 3]
    for box, (top, left) in zip(whole.boxes, [(0, 0), (0, 70), (40, 0), (40, 70)], strict=True):
        assert box.tolist() == [left + 10, top + 8, left + 30, top + 32]
        inside = whole.image[int(box[1]) : int(box[3]), int(box[0]) : int(box[2])]
        assert (inside == 255).all()
    assert (whole.image == 255).sum() == 4 * 20 * 24 * 3
    assert whole.ignore_boxes.tolist() == [[x, y, x + 9, y + 9] for y, x in ((0, 0), (0, 70), (40, 0), (40, 70))]


def test_colours_change_pixels_only_by_their_strength():
    image = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)
    before = image.copy()
    strong = apply_colour(image, random_colour(1.0, 0.0, np.random.default_rng(3)))
    weak = apply_colour(image, random_colour(0.0, 0.0, np.random.default_rng(3)))
    assert np.array_equal(image, before)
    assert strong.dtype == np.uint8 and strong.shape == image.shape
    assert np.abs(weak.astype(int) - image).mean() < 3 < np.abs(strong.astype(int) - image).mean()
    grey = apply_colour(image, random_colour(1.0, 1.0, np.random.default_rng(3)))
    assert (grey == grey[..., :1]).all()


def test_faults_of_cameras_keep_shape_and_content():
    image = np.zeros((60, 80, 3), np.uint8)
    image[20:40, 20:60] = 220
    kinds = set()
    for seed in range(20):
        rng = np.random.default_rng(seed)
        kinds.add(int(np.random.default_rng(seed).integers(4)))
        worse = degrade(image, rng)
        assert worse.shape == image.shape and worse.dtype == np.uint8
        assert not np.array_equal(worse, image)
        assert worse[24:36, 24:56].mean() > 180 and worse[:14].mean() < 40
    assert kinds == {0, 1, 2, 3}


@pytest.mark.parametrize(
    ("values", "word"), [({"size": (350, 608)}, "multiples of 32"), ({"object_height": (50.0, 20.0)}, "object_height")]
)
def test_bad_settings_are_refused(values, word):
    with pytest.raises(ValueError, match=word):
        AugmentationConfig(**values)
