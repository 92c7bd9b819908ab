"""Statuses, sessions and their state."""

from __future__ import annotations

import numpy as np
import pytest

from qdtrack_ros.inference.types import Detections
from qdtrack_ros.node.session import TrackingSession, TrackStatus
from qdtrack_ros.tracking import AssociationConfig, TaoConfig

S = 1_000_000_000
CONFIG = AssociationConfig(memory_frames=3)


def detections(*axes, shift=0.0):
    """Objects told apart by the axis their embedding points along."""
    boxes = [[100.0 * a + shift, 50.0, 100.0 * a + 40 + shift, 150.0] for a in axes]
    return Detections(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array([0.9 - 0.01 * a for a in axes], np.float32),
        np.array([a % 2 for a in axes], np.int64),
        20 * np.eye(8, dtype=np.float32)[list(axes)],
    )


def test_a_track_from_its_first_box_to_its_removal():
    session = TrackingSession(CONFIG)
    seen = [
        session.step(detections(*axes), i * S, confirm_hits=2) for i, axes in enumerate([(0,), (0,), (), (), (), ()])
    ]
    statuses = [[(view.track.id, view.status, view.missed) for view in frame.tracks] for frame in seen]
    assert statuses == [
        [(0, TrackStatus.TENTATIVE, 0)],
        [(0, TrackStatus.CONFIRMED, 0)],
        [(0, TrackStatus.LOST, 1)],
        [(0, TrackStatus.LOST, 2)],
        [(0, TrackStatus.REMOVED, 3)],
        [],
    ]
    assert [frame.frame_index for frame in seen] == list(range(6))
    assert len({frame.session_id for frame in seen}) == 1
    assert np.isnan(seen[0].tracks[0].match_score) and seen[1].tracks[0].match_score > 0.5
    assert np.isnan(seen[2].tracks[0].match_score)
    assert [len(frame.visible) for frame in seen] == [1, 1, 0, 0, 0, 0]


def test_visible_tracks_come_by_falling_score_then_lost_then_removed():
    session = TrackingSession(AssociationConfig(memory_frames=2))
    session.step(detections(0, 1, 2), 0)
    session.step(detections(1, 2), 1 * S)
    frame = session.step(detections(2), 2 * S)
    assert [view.status for view in frame.tracks] == [TrackStatus.CONFIRMED, TrackStatus.LOST, TrackStatus.REMOVED]
    scores = [view.track.score for view in session.step(detections(3, 1, 2), 3 * S).visible]
    assert scores == sorted(scores, reverse=True) and len(scores) == 3


def test_trails_follow_the_feet():
    session = TrackingSession(CONFIG, trail_length=3)
    for i in range(5):
        frame = session.step(detections(0, shift=10.0 * i), i * S)
    np.testing.assert_array_equal(frame.trails[0], [[40, 150], [50, 150], [60, 150]])


def test_a_reset_begins_a_new_session():
    session = TrackingSession(CONFIG)
    before = session.step(detections(0, 1), 5 * S)
    session.reset()
    after = session.step(detections(2), 1 * S)
    assert after.session_id != before.session_id
    assert after.frame_index == 0 and [view.track.id for view in after.tracks] == [0]
    assert session.track_count == 1


def test_thresholds_change_without_losing_tracks():
    session = TrackingSession(CONFIG)
    session.step(detections(0), 0)
    session.reconfigure(AssociationConfig(memory_frames=3, init_score=0.99))
    frame = session.step(detections(0, 1), 1 * S)
    assert [view.track.id for view in frame.visible] == [0]
    with pytest.raises(ValueError, match="metric"):
        session.reconfigure(AssociationConfig(metric="cosine"))
    assert session.config.init_score == 0.99


def test_a_saved_session_goes_on_as_if_never_stopped():
    session = TrackingSession(CONFIG)
    session.step(detections(0, 1), 0)
    session.step(detections(0), 1 * S)
    other = TrackingSession(CONFIG)
    other.load_state_dict(session.state_dict())
    assert other.track_count == 2 and other.last_stamp_ns == 1 * S
    mine, theirs = session.step(detections(1, 2), 2 * S), other.step(detections(1, 2), 2 * S)
    assert theirs.session_id == mine.session_id and theirs.frame_index == mine.frame_index == 2
    assert [view.track.id for view in theirs.tracks] == [view.track.id for view in mine.tracks]


def test_the_tao_variant_is_a_session_like_any_other():
    session = TrackingSession(TaoConfig(memory_frames=3))
    first = session.step(detections(0, 1), 0)
    session.step(detections(), 1 * S)
    other = TrackingSession(TaoConfig(memory_frames=3))
    other.load_state_dict(session.state_dict())
    frame = other.step(detections(1, 2), 2 * S)
    assert [view.track.id for view in first.tracks] == [0, 1] and frame.session_id == first.session_id
    assert [(view.track.id, view.status) for view in frame.tracks] == [
        (1, TrackStatus.CONFIRMED),
        (2, TrackStatus.TENTATIVE),
        (0, TrackStatus.LOST),
    ]
    other.reconfigure(TaoConfig(memory_frames=1))
    assert [view.track.id for view in other.step(detections(1), 3 * S).visible] == [1]
    with pytest.raises(ValueError, match="kind 'tao', this tracker 'quasi_dense'"):
        TrackingSession(CONFIG).load_state_dict(session.state_dict())
    with pytest.raises(ValueError, match="kind 'tao', this tracker 'quasi_dense'"):
        other.reconfigure(CONFIG)
    assert other.config == TaoConfig(memory_frames=1)


@pytest.mark.parametrize("key", ["session_id", "frame_index", "tracker.next_id"])
@pytest.mark.parametrize("damage", ["missing", "wrong"])
def test_a_damaged_state_changes_nothing(key, damage):
    session = TrackingSession(CONFIG)
    session.step(detections(0), 0)
    state = session.state_dict()
    if damage == "missing":
        del state[key]
    else:
        state[key] = np.array("nonsense")
    other = TrackingSession(CONFIG)
    other.step(detections(3), 7 * S)
    before = other.session_id
    with pytest.raises(ValueError, match=r"\w"):
        other.load_state_dict(state)
    assert other.session_id == before and other.track_count == 1


def test_a_state_whose_frame_index_lags_is_refused():
    session = TrackingSession(CONFIG)
    for i in range(3):
        session.step(detections(0), i * S)
    state = session.state_dict() | {"frame_index": np.array(1, np.int64)}
    with pytest.raises(ValueError, match="behind"):
        TrackingSession(CONFIG).load_state_dict(state)
