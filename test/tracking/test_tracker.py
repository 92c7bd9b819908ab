"""The trackers against a plain loop, and their behaviour on what the golden streams don't cover."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qdtrack_ros.tracking import AssociationConfig, QuasiDenseTracker, StepResult, TaoConfig, TaoTracker, create_tracker
from qdtrack_ros.tracking.association import class_bisoftmax, pairwise_iou

Frame = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def iou_of(a: np.ndarray, b: np.ndarray) -> np.float32:
    """Overlap of two float32 boxes."""
    width, height = max(min(a[2], b[2]) - max(a[0], b[0]), 0), max(min(a[3], b[3]) - max(a[1], b[1]), 0)
    area = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])
    return np.float32(width * height) / np.maximum(np.float32(area - width * height), np.float32(1e-6))


class LoopTracker:
    """Quasi-dense association written out as DESIGN describes it, one box at a time."""

    def __init__(self, config: AssociationConfig) -> None:
        self.config, self.tracks, self.backdrops, self.next_id = config, {}, [], 0

    def step(self, boxes, scores, labels, embeds, frame):  # noqa: ANN001, ANN201
        c, ids, kept = self.config, [], []
        order = np.argsort(-scores, kind="stable")
        for place, i in enumerate(order):
            limit = np.float32(c.backdrop_nms_iou if scores[i] < np.float32(c.object_score) else c.class_nms_iou)
            if not any(iou_of(boxes[i], boxes[j]) > limit for j in order[:place]):
                kept.append(int(i))
        similar = self.similarity(embeds[kept], labels[kept]) if kept and self.tracks else None
        owners = list(self.tracks)
        for row, i in enumerate(kept):
            ids.append(-1)
            if similar is None:
                continue
            column = int(similar[row].argmax())
            if similar[row, column] > np.float32(c.match_score) and column < len(owners):
                if scores[i] > np.float32(c.object_score):
                    ids[row] = owners[column]
                    similar[:, column] = 0
                elif similar[row, column] > np.float32(c.nms_confidence):
                    ids[row] = -2
        for row, i in enumerate(kept):
            if ids[row] == -1 and scores[i] > np.float32(c.init_score):
                ids[row], self.next_id = self.next_id, self.next_id + 1
        self.remember(ids, kept, boxes, labels, embeds, frame)
        return kept, ids

    def similarity(self, embeds: np.ndarray, labels: np.ndarray) -> np.ndarray:
        entries = [(t["embed"], t["label"]) for t in self.tracks.values()]
        entries += [entry for block in self.backdrops for entry in block]
        memory, classes = np.stack([e for e, _ in entries]), np.array([label for _, label in entries])
        if self.config.metric == "cosine":
            unit, unit_memory = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (embeds, memory))
            result = unit @ unit_memory.T
        else:
            dots = embeds @ memory.T
            over_memory = np.exp(dots - dots.max(1, keepdims=True))
            over_boxes = np.exp(dots - dots.max(0, keepdims=True))
            result = over_memory / over_memory.sum(1, keepdims=True)
            if self.config.metric == "bisoftmax":
                result = (result + over_boxes / over_boxes.sum(0, keepdims=True)) / 2
        return result if self.config.match_across_classes else result * (labels[:, None] == classes)

    def remember(self, ids, kept, boxes, labels, embeds, frame) -> None:  # noqa: ANN001
        c, block, m = self.config, [], np.float32(self.config.momentum)
        for row, (identity, i) in enumerate(zip(ids, kept, strict=True)):
            if identity >= 0:
                old = self.tracks.get(identity)
                mean = np.float32(1 - c.momentum) * old["embed"] + m * embeds[i] if old else embeds[i]
                self.tracks[identity] = {"embed": mean, "label": labels[i], "last": frame, "box": boxes[i]}
                continue
            overlaps = any(iou_of(boxes[i], boxes[j]) > np.float32(c.backdrop_nms_iou) for j in kept[:row])
            if identity == -1 and not overlaps:
                block.append((embeds[i], labels[i]))
        self.tracks = {i: t for i, t in self.tracks.items() if frame - t["last"] < c.memory_frames}
        self.backdrops = [block, *self.backdrops][: c.backdrop_frames]


def crowd(seed: int, frames: int, objects: int, dim: int = 8, classes: int = 2) -> Iterator[Frame]:
    """Yield walking, overlapping, look-alike objects with doubles and clutter; some frames empty."""
    rng = np.random.default_rng(seed)
    centres = rng.uniform(0, 60, (objects, 2))
    looks = rng.normal(0, 1, (objects, dim)) * rng.uniform(0.5, 2.0)
    kinds = rng.integers(0, classes, objects)
    for _ in range(frames):
        centres += rng.normal(0, 2, centres.shape)
        who = np.flatnonzero(rng.random(objects) < rng.choice([0.0, 0.5, 0.9]))
        who = np.concatenate([who, rng.choice(who, len(who) // 3)]) if len(who) else who
        corner = centres[who] + rng.normal(0, 1, (len(who), 2))
        boxes = np.concatenate([corner, corner + rng.uniform(8, 25, (len(who), 2))], axis=1).astype(np.float32)
        embeds = looks[who] + rng.normal(0, 0.4, (len(who), dim))
        labels = np.where(rng.random(len(who)) < 0.9, kinds[who], rng.integers(0, classes, len(who)))
        # Scores on a coarse grid make ties and exact thresholds.
        scores = (rng.integers(1, 21, len(who)) / 20).astype(np.float32)
        yield boxes, scores, labels.astype(np.int64), embeds.astype(np.float32)


def one(x: float = 0.0, score: float = 0.9, embedding: tuple[float, ...] = (5.0, 0.0), label: int = 0) -> Frame:
    """Make a frame with one box, 20 px wide and 40 px high."""
    return (
        np.array([[x, 0, x + 20, 40]], np.float32),
        np.array([score], np.float32),
        np.array([label], np.int64),
        np.array([embedding], np.float32),
    )


def together(*frames: Frame) -> Frame:
    boxes, scores, labels, embeddings = (np.concatenate(parts) for parts in zip(*frames, strict=True))
    return boxes, scores, labels, embeddings


NOTHING: Frame = (
    np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64), np.zeros((0, 2), np.float32)
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    objects=st.integers(0, 25),
    metric=st.sampled_from(["bisoftmax", "softmax", "cosine"]),
    across=st.booleans(),
    init=st.sampled_from([0.25, 0.5, 0.7]),
    match=st.sampled_from([0.0, 0.3, 0.5]),
    memory=st.integers(0, 6),
    backdrops=st.integers(0, 3),
)
def test_equals_the_loop_on_random_crowds(seed, objects, metric, across, init, match, memory, backdrops) -> None:  # noqa: ANN001
    config = AssociationConfig(
        init_score=init, object_score=0.3, match_score=match, memory_frames=memory, backdrop_frames=backdrops,
        metric=metric, match_across_classes=across, nms_confidence=0.6,
    )  # fmt: skip
    tracker, loop, gaps = QuasiDenseTracker(config), LoopTracker(config), np.random.default_rng(seed)
    index = 0
    for frame in crowd(seed, 12, objects):
        index += int(gaps.integers(1, 3))
        result = tracker.step(*frame, index)
        kept, ids = loop.step(*frame, index)
        assert result.indices.tolist() == kept
        assert result.track_ids.tolist() == ids
        tracks = tracker.tracks
        assert [t.id for t in tracks] == list(loop.tracks)
        assert [len(b.boxes) for b in tracker.backdrops] == [len(b) for b in loop.backdrops]
        for track, expected in zip(tracks, loop.tracks.values(), strict=True):
            assert track.label == expected["label"] and track.last_frame == expected["last"]
            np.testing.assert_array_equal(track.box, expected["box"])
            np.testing.assert_allclose(track.embedding, expected["embed"], rtol=1e-6, atol=1e-6)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), tao=st.booleans())
def test_ids_rise_and_never_repeat_within_a_frame(seed: int, tao: bool) -> None:
    tracker = TaoTracker() if tao else QuasiDenseTracker(AssociationConfig(memory_frames=2))
    newest = -1
    for index, frame in enumerate(crowd(seed, 15, 12)):
        known = {track.id for track in tracker.tracks}
        result = tracker.step(*frame, index)
        ids = result.track_ids[result.track_ids >= 0].tolist()
        assert len(set(ids)) == len(ids)
        new = sorted(set(ids) - known)
        assert new == list(range(newest + 1, newest + 1 + len(new)))
        newest += len(new)
        assert np.isnan(result.match_scores[np.isin(result.track_ids, new)]).all()
        assert (result.match_scores[np.isin(result.track_ids, sorted(known))] > 0.5).all()


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), count=st.integers(0, 12))
def test_pairwise_iou_equals_the_loop(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    corner = rng.integers(0, 10, (count, 2))
    boxes = np.concatenate([corner, corner + rng.integers(0, 8, (count, 2))], axis=1).astype(np.float32)
    boxes *= np.float32(rng.choice([1.0, 0.004, 1e-5]))  # down to areas where the floor of the union counts
    expected = np.array([[iou_of(a, b) for b in boxes] for a in boxes], np.float32).reshape(count, count)
    np.testing.assert_array_equal(pairwise_iou(boxes), expected)


def test_zero_detections_age_memory_and_report_what_was_dropped() -> None:
    tracker = QuasiDenseTracker(AssociationConfig(memory_frames=3))
    tracker.step(*together(one(), one(100, score=0.5, embedding=(0, 5))), 0)
    assert (len(tracker.tracks), tracker.memory_size) == (1, 2)
    assert tracker.step(*NOTHING, 1).removed == ()
    assert tracker.memory_size == 1  # the backdrop lived one frame
    assert tracker.step(*NOTHING, 2).removed == ()
    result = tracker.step(*NOTHING, 3)
    assert [t.id for t in result.removed] == [0] and result.removed[0].last_frame == 0
    assert tracker.tracks == ()
    assert result.indices.shape == result.track_ids.shape == result.match_scores.shape == (0,)
    assert (result.indices.dtype, result.track_ids.dtype, result.match_scores.dtype) == (np.int64, np.int64, np.float32)


def test_a_track_is_dropped_after_matching_so_it_can_match_once_more_after_a_gap() -> None:
    tracker = QuasiDenseTracker(AssociationConfig(memory_frames=3))
    tracker.step(*one(), 0)
    result = tracker.step(*one(), 50)
    assert result.track_ids.tolist() == [0] and result.removed == ()
    assert result.match_scores.tolist() == [1.0]


def test_low_copies_of_a_track_are_suppressed_and_backdrops_take_no_id() -> None:
    tracker = QuasiDenseTracker(AssociationConfig(nms_confidence=0.4, match_score=0.4))
    tracker.step(*one(), 0)
    result = tracker.step(*together(one(), one(100, score=0.2, embedding=(4.9, 0))), 1)
    assert result.track_ids.tolist() == [0, -1]  # its column was taken by the better box
    result = tracker.step(*one(100, score=0.2), 2)
    assert result.track_ids.tolist() == [-2] and tracker.backdrops[0].boxes.shape == (0, 5)
    assert np.isnan(result.match_scores).all()


def test_the_track_takes_the_label_of_its_newest_box() -> None:
    tracker = QuasiDenseTracker(AssociationConfig(match_across_classes=True))
    tracker.step(*one(label=3), 0)
    assert tracker.step(*one(label=7), 1).track_ids.tolist() == [0]
    assert tracker.tracks[0].label == 7
    assert QuasiDenseTracker().config.match_across_classes is False


def test_track_values() -> None:
    tracker = QuasiDenseTracker()
    tracker.step(*one(0, score=0.9), 4, 1_000_000_000)
    tracker.step(*one(10, score=0.8, embedding=(4, 1)), 6, 1_500_000_000)
    (track,) = tracker.tracks
    assert (track.id, track.label, track.hits, track.first_frame, track.last_frame) == (0, 0, 2, 4, 6)
    assert (track.first_stamp_ns, track.last_stamp_ns) == (1_000_000_000, 1_500_000_000)
    assert track.score == pytest.approx(0.8) and track.match_score == 1.0
    np.testing.assert_array_equal(track.box, np.array([10, 0, 30, 40], np.float32))
    np.testing.assert_allclose(track.embedding, [0.2 * 5 + 0.8 * 4, 0.8], rtol=1e-6)
    np.testing.assert_allclose(track.velocity, [5, 0, 5, 0, -0.05], atol=1e-6)
    np.testing.assert_allclose(track.velocity_per_s, [20, 0, 0, 0])
    before = track.box.copy()
    tracker.step(*one(20), 7, 2_000_000_000)
    np.testing.assert_array_equal(track.box, before)  # values don't change behind the caller's back
    np.testing.assert_allclose(tracker.tracks[0].velocity_per_s, [20, 0, 0, 0])
    np.testing.assert_allclose(tracker.tracks[0].velocity[:4], [7.5, 0, 7.5, 0])
    grown = one(30)
    grown[0][0, 2] += 40
    tracker.step(*grown, 8, 2_000_000_000)  # the stamp repeats: no rate can be had from it
    np.testing.assert_allclose(tracker.tracks[0].velocity_per_s, [20, 0, 0, 0])


def test_rates_are_unknown_without_stamps() -> None:
    tracker = QuasiDenseTracker()
    for index, stamp in enumerate([None, None, 5]):
        tracker.step(*one(), index, stamp)
    assert np.isnan(tracker.tracks[0].velocity_per_s).all()
    assert tracker.tracks[0].first_stamp_ns is None and tracker.tracks[0].last_stamp_ns == 5


def test_rates_follow_recent_motion() -> None:
    tracker = QuasiDenseTracker()
    for index, x in enumerate([0, 10, 30]):
        tracker.step(*one(x), index, 1_000_000_000 * index)
    np.testing.assert_allclose(tracker.tracks[0].velocity_per_s, [15, 0, 0, 0])


def test_a_frame_without_a_stamp_leaves_the_clock_alone() -> None:
    tracker = QuasiDenseTracker()
    tracker.step(*one(), 0, 500)
    tracker.step(*one(), 1)
    assert tracker.last_stamp_ns == 500 and tracker.tracks[0].last_stamp_ns is None
    with pytest.raises(ValueError, match="before the last step's 500"):
        tracker.step(*one(), 2, 400)


def test_thresholds_are_strict() -> None:
    pair = one(), one(score=0.2, embedding=(0, 5))
    boxes, *rest = together(*pair)
    boxes[:] = [[0, 0, 6.5, 1], [3.5, 0, 10, 1]]  # IoU 3 / 10 exactly
    assert QuasiDenseTracker().step(boxes, *rest, 0).indices.tolist() == [0, 1]
    assert TaoTracker().step(boxes, *rest, 0).indices.tolist() == [0, 1]
    assert len(QuasiDenseTracker(AssociationConfig(backdrop_nms_iou=0.29)).step(boxes, *rest, 0).indices) == 1
    assert len(TaoTracker(TaoConfig(distractor_iou=0.29)).step(boxes, *rest, 0).indices) == 1
    rest[0][1] = 0.5  # no distractor: not below 0.5
    assert len(TaoTracker(TaoConfig(distractor_iou=0.29)).step(boxes, *rest, 0).indices) == 2

    tracker = QuasiDenseTracker(AssociationConfig(nms_confidence=1.0))
    tracker.step(*one(), 0)
    assert tracker.step(*one(score=0.2), 1).track_ids.tolist() == [-1]  # similarity 1 does not exceed 1

    tao = TaoTracker(TaoConfig(score_difference=0.5))
    tao.step(*one(score=0.25), 0)
    assert tao.step(*one(score=0.75), 1).track_ids.tolist() == [1]


def test_settings_may_be_replaced_between_steps() -> None:
    tracker = QuasiDenseTracker(AssociationConfig(match_across_classes=True, backdrop_frames=2))
    tracker.step(*together(one(label=3), one(100, 0.5, (0, 5))), 0)
    tracker.step(*one(label=7), 1)
    tracker.config = AssociationConfig(backdrop_frames=0)
    assert tracker.step(*one(label=7), 2).track_ids.tolist() == [0]
    assert tracker.backdrops == () and tracker.memory_size == 1
    assert tracker.step(*one(label=3), 3).track_ids.tolist() == [1]


def test_memory_seconds_counts_time_and_not_frames() -> None:
    ms = 1_000_000
    tracker = QuasiDenseTracker(AssociationConfig(memory_frames=2, memory_seconds=0.5))
    tracker.step(*one(), 0, 100 * ms)
    for index in range(1, 10):  # many frames, little time
        assert tracker.step(*NOTHING, index, (100 + index) * ms).removed == ()
    assert tracker.step(*NOTHING, 10, 599 * ms).removed == ()
    assert len(tracker.step(*NOTHING, 11, 600 * ms).removed) == 1


@pytest.mark.parametrize("stamp", [None, 0])
def test_memory_seconds_falls_back_to_frames_without_stamps(stamp: int | None) -> None:
    tracker = QuasiDenseTracker(AssociationConfig(memory_frames=2, memory_seconds=0.5))
    tracker.step(*one(), 0, stamp)
    assert tracker.step(*NOTHING, 1, stamp).removed == ()
    assert len(tracker.step(*NOTHING, 2, stamp).removed) == 1


def test_reset_starts_a_new_session() -> None:
    tracker = QuasiDenseTracker()
    tracker.step(*together(one(), one(100, 0.5, (0, 5))), 7, 10)
    tracker.reset()
    assert (tracker.tracks, tracker.backdrops, tracker.memory_size, tracker.next_id) == ((), (), 0, 0)
    assert (tracker.last_frame_index, tracker.last_stamp_ns) == (None, None)
    assert tracker.step(*one(embedding=(1, 2, 3)), 7, 3).track_ids.tolist() == [0]  # clock and D are free again


def test_meeting_a_track_at_its_own_frame_index_after_a_cut_gives_no_velocity() -> None:
    tracker = QuasiDenseTracker()
    tracker.step(*one(), 5)
    tracker.step(*NOTHING, 0)
    with np.errstate(all="raise"):
        tracker.step(*one(30), 5)
    assert tracker.tracks[0].hits == 2 and np.array_equal(tracker.tracks[0].velocity, np.zeros(5, np.float32))


def broken_calls() -> Iterator[tuple[str, tuple, str]]:
    boxes, scores, labels, embeddings = one()
    nan = np.float32("nan")
    yield "list", ([[0, 0, 1, 1]], scores, labels, embeddings, 1), "boxes must be a numpy array.*got list"
    yield "float64", (boxes.astype(float), scores, labels, embeddings, 1), "boxes must be float32, got float64"
    yield "int32", (boxes, scores, labels.astype(np.int32), embeddings, 1), "labels must be int64, got int32"
    yield "five", (np.zeros((1, 5), np.float32), scores, labels, embeddings, 1), r"shape \[N, 4\].*got \[1, 5\]"
    yield "flat", (boxes[0], scores, labels, embeddings, 1), r"shape \[N, 4\], got \[4\]"
    yield "two dims", (boxes, scores[:, None], labels, embeddings, 1), r"scores must have shape \[N\], got \[1, 1\]"
    yield "rows", (boxes, scores, np.zeros(2, np.int64), embeddings, 1), "got 1, 1, 2 and 1"
    yield "nan box", (boxes + nan, scores, labels, embeddings, 1), "boxes must be finite, row 0"
    yield "inf score", (boxes, scores + np.float32("inf"), labels, embeddings, 1), "scores must be finite, row 0"
    yield "nan embedding", (boxes, scores, labels, embeddings * nan, 1), "embeddings must be finite, row 0"
    yield "huge", (boxes, scores, labels, embeddings * np.float32(1e30), 1), "too large"
    yield "dim", (boxes, scores, labels, np.ones((1, 3), np.float32), 1), "must have 2 columns.*got 3"
    yield "no columns", (boxes, scores, labels, np.ones((1, 0), np.float32), 1), "at least one column"
    yield "xywh", (boxes[:, [2, 1, 0, 3]], scores, labels, embeddings, 1), "xyxy.*row 0"
    yield "float frame", (boxes, scores, labels, embeddings, 1.0), "frame_index must be an integer"
    yield "negative frame", (boxes, scores, labels, embeddings, -1), "frame_index must be at least 0"
    yield "huge frame", (boxes, scores, labels, embeddings, 2**63), "fit 64 bits"
    yield "same frame", (boxes, scores, labels, embeddings, 0), "frame_index 0 was given"
    yield "float stamp", (boxes, scores, labels, embeddings, 1, 2.5), "stamp_ns must be integer"
    yield "negative stamp", (boxes, scores, labels, embeddings, 1, -5), "stamp_ns must be at least 0"
    yield "stamp back", (boxes, scores, labels, embeddings, 1, 99), "before the last step's 1000"


@pytest.mark.parametrize(("args", "message"), [pytest.param(a, m, id=i) for i, a, m in broken_calls()])
@pytest.mark.parametrize("kind", [QuasiDenseTracker, TaoTracker])
def test_bad_input_is_refused_and_changes_nothing(kind: type, args: tuple, message: str) -> None:
    tracker = kind()
    tracker.step(*together(one(), one(100, 0.5, (0, 5))), 0, 1000)
    before = tracker.state_dict()
    with pytest.raises(ValueError, match=message):
        tracker.step(*args)
    after = tracker.state_dict()
    for key, value in before.items():
        np.testing.assert_array_equal(after[key], value, err_msg=key)
    assert tracker.step(*one(), 1, 2000).track_ids.tolist() == [0]


def test_inputs_are_not_written_to_and_may_be_views() -> None:
    frames = list(crowd(3, 6, 12))
    plain, strided = QuasiDenseTracker(), QuasiDenseTracker()
    for index, (boxes, scores, labels, embeddings) in enumerate(frames):
        packed = np.concatenate([boxes, scores[:, None]], axis=1)
        transposed = np.ascontiguousarray(embeddings.T).T
        for array in (packed, transposed, labels):
            array.setflags(write=False)
        a = plain.step(boxes, scores, labels, embeddings, index)
        b = strided.step(packed[:, :4], packed[:, 4], labels, transposed, index)
        np.testing.assert_array_equal(a.track_ids, b.track_ids)
        np.testing.assert_array_equal(a.indices, b.indices)


def test_tao_is_finite_where_the_reference_overflows() -> None:
    tracker = TaoTracker()
    tracker.step(*together(one(embedding=(20, 0)), one(100, embedding=(0, 20))), 0)
    result = tracker.step(*together(one(embedding=(21, 0)), one(100, embedding=(0, 21))), 1)
    assert result.track_ids.tolist() == [0, 1]
    np.testing.assert_allclose(result.match_scores, 1.0, atol=1e-5)


def test_tao_bisoftmax_has_the_reference_values_in_its_range() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 12, (9, 7)).astype(np.float32)
    logits[4] = -60
    same = rng.random((9, 7)) < 0.6
    same[2] = False
    exps = np.exp(logits.astype(float)) * same
    expected = exps / (exps.sum(1, keepdims=True) + 1e-6) / 2 + exps / (exps.sum(0, keepdims=True) + 1e-6) / 2
    np.testing.assert_allclose(class_bisoftmax(logits, same), expected, rtol=1e-4, atol=1e-7)
    assert class_bisoftmax(np.full((1, 1), 80, np.float32), np.ones((1, 1), bool)) == 1.0
    for shift in (-500, 500):
        assert np.isfinite(class_bisoftmax(logits + np.float32(shift), same)).all()


def test_tao_blends_scores_and_keeps_the_order_of_the_input() -> None:
    tracker = TaoTracker()
    tracker.step(*one(score=0.8), 0)
    result: StepResult = tracker.step(*together(one(100, 0.2, (0, 5)), one(score=0.4)), 1)
    assert result.indices.tolist() == [0, 1] and result.track_ids.tolist() == [1, 0]
    np.testing.assert_allclose(result.scores, [0.2, 0.6], rtol=1e-6)
    assert tracker.tracks[0].score == pytest.approx(0.6)


def test_create_tracker() -> None:
    assert isinstance(create_tracker(AssociationConfig()), QuasiDenseTracker)
    assert isinstance(create_tracker(TaoConfig()), TaoTracker)


def test_importing_the_layer_needs_numpy_only() -> None:
    code = (
        "import sys, qdtrack_ros.tracking\n"
        "heavy = {'torch', 'torchvision', 'scipy', 'cv2', 'rclpy', 'lightning', 'trackeval', 'yaml'}\n"
        "print(sorted(heavy & {name.split('.')[0] for name in sys.modules}))\n"
        "own = {name.split('.')[1] for name in sys.modules if name.startswith('qdtrack_ros.')}\n"
        "print(sorted(own - {'tracking'}))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split("\n")[:2] == ["[]", "[]"]


def _person(x: float, embedding: list[float], score: float = 0.95) -> tuple[np.ndarray, ...]:
    boxes = np.array([[x, 0, x + 40, 100]], np.float32)
    return boxes, np.array([score], np.float32), np.zeros(1, np.int64), np.array([embedding], np.float32)


def test_a_spatial_gate_keeps_a_look_alike_far_away_apart() -> None:
    far = _person(900.0, [5.0, 0.0])  # nine heights from the first
    for gate, same in ((0.0, True), (1.0, False)):
        tracker = QuasiDenseTracker(AssociationConfig(spatial_gate=gate, memory_frames=30))
        tracker.step(*_person(0.0, [5.0, 0.0]), 0)
        assert tracker.step(*far, 1).track_ids[0] == (0 if same else 1)


def test_a_spatial_gate_opens_with_the_frames_since_the_track_was_seen() -> None:
    for frame, same in ((8, False), (9, True)):
        tracker = QuasiDenseTracker(AssociationConfig(spatial_gate=1.0, memory_frames=30))
        tracker.step(*_person(0.0, [5.0, 0.0]), 0)
        assert tracker.step(*_person(900.0, [5.0, 0.0]), frame).track_ids[0] == (0 if same else 1)


def test_an_entry_out_of_reach_takes_no_share_of_the_similarity() -> None:
    def match_score(gate: float) -> float:
        tracker = QuasiDenseTracker(AssociationConfig(spatial_gate=gate, match_score=0.4))
        both = [np.concatenate(pair) for pair in zip(_person(0, [1.0, 0.0]), _person(900, [1.0, 0.0]), strict=True)]
        tracker.step(*both, 0)
        return float(tracker.step(*_person(1, [1.0, 0.0]), 1).match_scores[0])

    assert match_score(0.0) == pytest.approx(0.75)  # (1/2 over memory + 1 over detections) / 2
    assert match_score(1.0) == pytest.approx(1.0)
