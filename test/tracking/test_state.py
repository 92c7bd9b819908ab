"""A tracker saved and loaded goes on as if it had never stopped; a foreign or damaged state changes nothing."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qdtrack_ros.tracking import AssociationConfig, MemoryTracker, QuasiDenseTracker, TaoConfig, TaoTracker

State = dict[str, np.ndarray]


def random_frame(rng: np.random.Generator, dim: int = 6) -> tuple[np.ndarray, ...]:
    """Up to eight boxes that look like one of five objects; now and then none, with embeddings of no width."""
    count = int(rng.integers(0, 9))
    if count == 0:
        dim = 0
    corner = rng.uniform(0, 80, (count, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(5, 40, (count, 2))], axis=1).astype(np.float32)
    looks = np.eye(5, 6)[rng.integers(0, 5, count)][:, :dim] * 3
    embeds = (looks + rng.normal(0, 0.5, (count, dim))).astype(np.float32)
    return boxes, rng.uniform(0.1, 1, count).astype(np.float32), rng.integers(0, 2, count).astype(np.int64), embeds


def used(make: Callable[[], MemoryTracker], steps: int = 12, seed: int = 0) -> MemoryTracker:
    tracker, rng = make(), np.random.default_rng(seed)
    for index in range(steps):
        tracker.step(*random_frame(rng), index, 10 * index)
    return tracker


def through_a_file(state: State) -> State:
    buffer = io.BytesIO()
    np.savez(buffer, **state)
    buffer.seek(0)
    with np.load(buffer, allow_pickle=False) as file:
        return dict(file)


def assert_same_state(a: State, b: State) -> None:
    assert set(a) == set(b)
    for key in a:
        assert a[key].dtype == b[key].dtype, key
        np.testing.assert_array_equal(a[key], b[key], err_msg=key)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    stop=st.integers(0, 15),
    tao=st.booleans(),
    backdrops=st.integers(0, 3),
    stamped=st.booleans(),
)
def test_going_on_after_load_equals_never_having_stopped(
    seed: int, stop: int, tao: bool, backdrops: int, stamped: bool
) -> None:
    def make() -> MemoryTracker:
        if tao:
            return TaoTracker(TaoConfig(memory_frames=3))
        return QuasiDenseTracker(AssociationConfig(memory_frames=3, memory_seconds=0.5, backdrop_frames=backdrops))

    whole, part, rng = make(), make(), np.random.default_rng(seed)
    for index in range(25):
        if index == stop:
            state = through_a_file(part.state_dict())
            part = make()
            part.load_state_dict(state)
        frame, stamp = random_frame(rng), 100_000_000 * (index + 1) if stamped else None
        a, b = whole.step(*frame, index, stamp), part.step(*frame, index, stamp)
        np.testing.assert_array_equal(a.indices, b.indices)
        np.testing.assert_array_equal(a.track_ids, b.track_ids)
        np.testing.assert_array_equal(a.match_scores, b.match_scores)
        assert [t.id for t in a.removed] == [t.id for t in b.removed]
    assert_same_state(whole.state_dict(), part.state_dict())


def test_the_state_holds_copies() -> None:
    tracker = used(QuasiDenseTracker)
    state = tracker.state_dict()
    before = {key: value.copy() for key, value in state.items()}
    tracker.step(*random_frame(np.random.default_rng(5)), 12, 1000)
    assert_same_state(state, before)
    successor = QuasiDenseTracker()
    successor.load_state_dict(state)
    for value in state.values():
        if value.dtype.kind in "if":
            value[...] = 0
    assert_same_state(successor.state_dict(), before)


def test_ids_are_not_given_out_again_after_loading_an_older_state() -> None:
    tracker = used(QuasiDenseTracker, steps=3)
    older = tracker.state_dict()
    for index in range(3, 40):
        tracker.step(*random_frame(np.random.default_rng(index)), index, 10 * index)
    given_out = tracker.next_id
    assert given_out > int(older["next_id"])
    tracker.load_state_dict(older)
    assert tracker.next_id == given_out
    assert [t.id for t in tracker.tracks] == older["track_id"].tolist()
    tracker.reset()
    tracker.load_state_dict(older)
    assert tracker.next_id == int(older["next_id"])


def test_the_clock_is_restored() -> None:
    successor = QuasiDenseTracker()
    successor.load_state_dict(used(QuasiDenseTracker).state_dict())
    assert (successor.last_frame_index, successor.last_stamp_ns) == (11, 110)
    with pytest.raises(ValueError, match="before the last step's 110"):
        successor.step(*random_frame(np.random.default_rng(0)), 12, 109)


def test_fewer_backdrop_frames_than_the_state_has() -> None:
    saved = used(lambda: QuasiDenseTracker(AssociationConfig(backdrop_frames=3)))
    single, without = QuasiDenseTracker(), QuasiDenseTracker(AssociationConfig(backdrop_frames=0))
    single.load_state_dict(saved.state_dict())
    without.load_state_dict(saved.state_dict())
    assert len(saved.backdrops) == 3 and len(single.backdrops) == 1 and without.backdrops == ()
    np.testing.assert_array_equal(single.backdrops[0].boxes, saved.backdrops[0].boxes)


def changed(key: str, change: Callable[[np.ndarray], object]) -> Callable[[State], State]:
    return lambda state: {**state, key: np.asarray(change(state[key].copy()))}


def with_first(value: float) -> Callable[[np.ndarray], np.ndarray]:
    def change(array: np.ndarray) -> np.ndarray:
        array.flat[0] = value
        return array

    return change


DAMAGES: dict[str, tuple[Callable[[State], State], str]] = {
    "empty": (lambda _: {}, "missing keys backdrop_box"),
    "missing": (lambda s: {k: v for k, v in s.items() if k != "track_id"}, "missing keys track_id; unknown keys none"),
    "unknown": (lambda s: {**s, "extra": np.zeros(1)}, "missing keys none; unknown keys extra"),
    "version": (changed("version", lambda v: v + 1), "has version 2, this release reads version 1"),
    "kind": (lambda _: used(TaoTracker).state_dict(), "has kind 'tao', this tracker 'quasi_dense'"),
    "metric": (changed("metric", lambda _: "cosine"), "has metric 'cosine', this tracker 'bisoftmax'"),
    "dim": (changed("backdrop_embedding", lambda v: v[:, :-1]), "backdrop_embedding must be float32 of shape"),
    "flat": (changed("track_embedding", lambda v: v.ravel()), "track_embedding must have two dimensions"),
    "rows": (changed("track_box", lambda v: v[:-1]), "track_box must be float32 of shape"),
    "dtype": (changed("track_label", lambda v: v.astype(float)), "track_label must be int64 .* got float64"),
    "nan": (changed("track_embedding", with_first(np.nan)), "track_embedding holds values that are not finite"),
    "inf": (changed("track_match_score", with_first(np.inf)), "track_match_score holds values that are not finite"),
    "order": (changed("track_id", lambda v: v[::-1]), "ids must rise"),
    "counter": (changed("next_id", lambda v: v * 0), "stay below next_id 0"),
    "hits": (changed("track_hits", with_first(0)), "track_hits must be at least 1, got 0"),
    "clock": (changed("last_stamp_ns", lambda v: v * 0 - 7), "negative clock"),
    "stamps": (changed("track_last_stamp_ns", with_first(-9)), "track_last_stamp_ns must be at least -1, got -9"),
    "number": (changed("next_id", lambda v: v.astype(float)), "next_id must be one integer, got float64"),
    "counts": (changed("backdrop_counts", lambda v: v + 1), "backdrop_box must be float32 of shape"),
    "text": (changed("version", lambda _: "one"), "version must be one integer"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_state_that_does_not_fit_is_refused_and_nothing_is_lost(damage: str) -> None:
    change, message = DAMAGES[damage]
    tracker = used(QuasiDenseTracker)
    before = tracker.state_dict()
    assert len(before["track_id"]) > 1 and len(before["backdrop_label"]) > 0
    with pytest.raises(ValueError, match=message):
        tracker.load_state_dict(change(tracker.state_dict()))
    assert_same_state(tracker.state_dict(), before)


def test_the_buffers_stay_as_they_are_however_many_tracks_come_and_go() -> None:
    tracker = QuasiDenseTracker(AssociationConfig(memory_frames=2))
    rng, sizes = np.random.default_rng(0), []
    for index in range(0, 3000, 3):  # every gap forgets all tracks but for one last match
        tracker.step(*random_frame(rng), index)
        sizes.append(tracker._memory._records.nbytes + tracker._memory._embeddings.nbytes)
    assert tracker.next_id > 1000 and sizes[-1] == sizes[20]
    assert int(tracker.state_dict()["next_id"]) == tracker.next_id
