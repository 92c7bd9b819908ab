"""Association against recorded streams of the reference implementation: id for id, final memory included."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from qdtrack_ros.tracking import AssociationConfig, MemoryTracker, QuasiDenseTracker, TaoConfig, TaoTracker

FOLDER = Path(__file__).parents[1] / "golden" / "tracker"
NAMES = sorted(path.stem for path in FOLDER.glob("*.npz"))
METRICS = ("bisoftmax", "softmax", "cosine")

QUASI_DENSE_FIELDS = {
    "init_score": "init_score_thr",
    "object_score": "obj_score_thr",
    "match_score": "match_score_thr",
    "memory_frames": "memo_tracklet_frames",
    "backdrop_frames": "memo_backdrop_frames",
    "momentum": "memo_momentum",
    "nms_confidence": "nms_conf_thr",
    "backdrop_nms_iou": "nms_backdrop_iou_thr",
    "class_nms_iou": "nms_class_iou_thr",
}
TAO_FIELDS = {
    "init_score": "init_score_thr",
    "object_score": "obj_score_thr",
    "match_score": "match_score_thr",
    "memory_frames": "memo_frames",
    "momentum": "momentum_embed",
    "score_momentum": "momentum_obj_score",
    "score_difference": "obj_score_diff_thr",
    "distractor_iou": "distractor_nms_thr",
    "distractor_score": "distractor_score_thr",
}


def load(name: str) -> dict[str, np.ndarray]:
    with np.load(FOLDER / f"{name}.npz") as file:
        return dict(file)


def build(name: str, stream: dict[str, np.ndarray]) -> MemoryTracker:
    """Build the tracker with the settings that the stream was recorded with."""
    metric = METRICS[int(stream["cfg_match_metric"])]
    assert stream["cfg_temperature"] == -1  # none: ours has no such setting
    if name.startswith("tao_"):
        settings = {ours: stream[f"cfg_{theirs}"].item() for ours, theirs in TAO_FIELDS.items()}
        return TaoTracker(TaoConfig(metric=metric, with_cosine=bool(stream["cfg_match_with_cosine"]), **settings))
    settings = {ours: stream[f"cfg_{theirs}"].item() for ours, theirs in QUASI_DENSE_FIELDS.items()}
    across = not stream["cfg_with_cats"]
    return QuasiDenseTracker(AssociationConfig(metric=metric, match_across_classes=across, **settings))


def replay(tracker: MemoryTracker, stream: dict[str, np.ndarray], embeds: np.ndarray, restart_every: int = 0) -> None:
    """Step through the stream and compare each frame's output; optionally through a new object now and then."""
    ends_in, ends_out = np.cumsum(stream["in_count"]), np.cumsum(stream["out_count"])
    for frame, called in enumerate(stream["called"]):
        if not called:
            continue
        if restart_every and frame % restart_every == 0:
            successor = type(tracker)(tracker.config)
            successor.load_state_dict(tracker.state_dict())
            tracker = successor
        rows = slice(ends_in[frame] - stream["in_count"][frame], ends_in[frame])
        out = slice(ends_out[frame] - stream["out_count"][frame], ends_out[frame])
        boxes, labels = stream["in_boxes"][rows], stream["in_labels"][rows]
        result = tracker.step(boxes[:, :4], boxes[:, 4], labels, embeds[rows], int(stream["frame_ids"][frame]))
        where = f"frame {frame}"
        np.testing.assert_array_equal(result.indices, stream["out_src"][out], err_msg=where)
        np.testing.assert_array_equal(result.track_ids, stream["out_ids"][out], err_msg=where)
        np.testing.assert_array_equal(labels[result.indices], stream["out_labels"][out], err_msg=where)
        np.testing.assert_array_equal(boxes[result.indices, :4], stream["out_boxes"][out, :4], err_msg=where)
        np.testing.assert_allclose(result.scores, stream["out_boxes"][out, 4], atol=1e-6, err_msg=where)
        assert len(tracker.tracks) == stream["n_tracklets"][frame], where
        assert sum(len(block.boxes) for block in tracker.backdrops) == stream["n_backdrops"][frame], where
    compare_memory(tracker, stream, atol=1e-6 if embeds is stream["in_embeds"] else 1e-4)


def compare_memory(tracker: MemoryTracker, stream: dict[str, np.ndarray], atol: float) -> None:
    tracks = tracker.tracks
    assert [track.id for track in tracks] == stream["final_ids"].tolist()
    assert [track.label for track in tracks] == stream["final_labels"].tolist()
    assert [track.last_frame for track in tracks] == stream["final_last_frame"].tolist()
    assert tracker.next_id == stream["final_num_tracklets"]
    for row, track in enumerate(tracks):
        np.testing.assert_allclose([*track.box, track.score], stream["final_boxes"][row], atol=1e-6)
        np.testing.assert_allclose(track.embedding, stream["final_embeds"][row], atol=atol)
        if "final_velocity" in stream:
            np.testing.assert_allclose(track.velocity, stream["final_velocity"][row], atol=1e-5)
            assert track.hits == stream["final_acc_frame"][row] + 1
    if "final_backdrop_count" in stream:
        assert [len(block.boxes) for block in tracker.backdrops] == stream["final_backdrop_count"].tolist()
        boxes = [block.boxes for block in tracker.backdrops]
        np.testing.assert_array_equal(np.concatenate([*boxes, np.zeros((0, 5))]), stream["final_backdrop_boxes"])


def test_all_streams_are_here() -> None:
    assert sum(name.startswith("qd_") for name in NAMES) == 12 and sum(name.startswith("tao_") for name in NAMES) == 2


@pytest.mark.parametrize("name", NAMES)
def test_stream(name: str) -> None:
    stream = load(name)
    replay(build(name, stream), stream, stream["in_embeds"])


@pytest.mark.parametrize("name", NAMES)
def test_stream_with_embeddings_off_by_network_noise(name: str) -> None:
    stream = load(name)
    noise = np.random.default_rng(1).uniform(-2e-5, 2e-5, stream["in_embeds"].shape).astype(np.float32)
    replay(build(name, stream), stream, stream["in_embeds"] + noise)


@pytest.mark.parametrize("name", NAMES)
def test_stream_through_saved_states(name: str) -> None:
    stream = load(name)
    replay(build(name, stream), stream, stream["in_embeds"], restart_every=7)
