"""Pictures of tracks: readable, steady in colour, never outside the picture, never changing their source."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qdtrack_ros.inference.drawing import draw_tracks, track_color
from qdtrack_ros.inference.trails import TrailHistory

GREY = np.full((240, 320, 3), 90, np.uint8)


def draw(boxes, ids=None, image=GREY, trails=None):
    count = len(boxes)
    ids = np.arange(count) if ids is None else np.array(ids)
    return draw_tracks(
        image, ids, np.array(boxes, np.float32).reshape(-1, 4), ["person"] * count, np.full(count, 0.87), trails
    )


def has_colour(picture, colour):
    return bool((picture == np.array(colour, np.uint8)).all(axis=2).any())


def test_a_box_is_drawn_in_the_colour_of_its_id():
    picture = draw([[100, 80, 160, 200]], ids=[7])
    colour = track_color(7)
    assert tuple(picture[140, 100]) == colour and tuple(picture[140, 160]) == colour
    assert (picture[100:190, 110:150] == 90).all(), "the inside stays visible"
    assert has_colour(picture[60:80], colour), "the label's plate lies above the box"
    assert (GREY == 90).all() and picture is not GREY


def test_colours_are_steady_and_neighbours_differ():
    colours = [track_color(i) for i in range(60)]
    assert colours == [track_color(i) for i in range(60)]
    assert len(set(colours)) == 60

    lab = cv2.cvtColor(np.array([colours], np.float32) / 255, cv2.COLOR_BGR2LAB)[0]
    for a in range(60):
        for b in range(a + 1, min(a + 40, 60)):
            assert np.linalg.norm(lab[a] - lab[b]) > 13, f"ids {a} and {b} look alike"
    assert track_color(-1) == track_color(-2) and len(set(track_color(-1))) == 1


def test_no_tracks_leave_the_picture_as_it_is():
    np.testing.assert_array_equal(draw([]), GREY)


@pytest.mark.parametrize("box", [[0, 0, 30, 60], [300, 2, 330, 60], [280, 200, 319, 239], [-50, -50, 400, 400]])
def test_labels_stay_inside_the_picture(box):
    picture = draw([box], ids=[3])
    plate = (picture == np.array(track_color(3), np.uint8)).all(axis=2)
    full = draw([[120, 100, 150, 160]], ids=[3])
    whole = (full == np.array(track_color(3), np.uint8)).all(axis=2)
    rows = plate[:, 1:-1].sum(axis=1).max()
    assert rows >= 0.9 * whole.sum(axis=1).max(), "the plate is cut off"


def test_labels_of_neighbours_do_not_hide_each_other():
    boxes = [[100, 80, 130, 200], [112, 82, 142, 202]]
    together = draw(boxes, ids=[0, 1])
    for track_id, box in enumerate(boxes):
        alone = draw([box], ids=[track_id])
        ink = (alone == np.array(track_color(track_id), np.uint8)).all(axis=2).sum()
        still = (together == np.array(track_color(track_id), np.uint8)).all(axis=2).sum()
        assert still > 0.75 * ink


def test_a_label_hides_nobody_where_there_is_room():
    person, behind = [100, 100, 140, 200], [110, 60, 138, 97]  # who stands where the label of the first would go
    picture = draw([person, behind], ids=[3, 4])
    assert (picture[65:93, 115:133] == 90).all(), "the label of one lies on the other"
    assert has_colour(picture[203:], track_color(3)), "it goes below instead"


def test_trails_of_drawn_tracks_are_drawn():
    trail = {0: np.array([[20, 200], [60, 200], [100, 200]], np.float32), 9: np.array([[5, 5], [300, 5]], np.float32)}
    picture = draw([[90, 100, 110, 200]], ids=[0], trails=trail)
    assert (picture[196:204, 30:90] != 90).any()
    assert (picture[3:8] == 90).all(), "a trail of a track that is not there"


def test_larger_pictures_get_larger_labels():
    small = draw([[50, 100, 90, 200]], ids=[2])
    large = draw([[200, 400, 360, 800]], ids=[2], image=np.full((960, 1280, 3), 90, np.uint8))
    colour = np.array(track_color(2), np.uint8)
    assert (large == colour).all(axis=2).sum() > 4 * (small == colour).all(axis=2).sum()


coordinates = st.one_of(st.floats(-1e9, 1e9, width=32), st.just(float("nan")), st.just(float("inf")))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(coordinates, coordinates, coordinates, coordinates), max_size=4),
    st.integers(1, 60),
    st.integers(1, 60),
)
def test_any_boxes_on_any_picture_can_be_drawn(boxes, height, width):
    image = np.zeros((height, width, 3), np.uint8)
    trails = {0: np.array([[1e9, -1e9], [np.nan, 1.0], [3.0, 3.0]], np.float32)}
    assert draw(boxes, image=image, trails=trails).shape == image.shape


def test_trails_hold_the_last_points_and_forget_lost_tracks():
    history = TrailHistory(length=2, forget_after=1)
    for i in range(3):
        history.update([5, -1], np.array([[i, 0, i + 2, 10], [0, 0, 1, 1]], np.float32))
    assert set(history.snapshot()) == {5}
    np.testing.assert_array_equal(history.snapshot()[5], [[2, 10], [3, 10]])
    history.update([], np.zeros((0, 4), np.float32))
    assert 5 in history.snapshot()
    history.update([], np.zeros((0, 4), np.float32))
    assert not history.snapshot()
    with pytest.raises(ValueError, match="negative"):
        TrailHistory(length=-1)
