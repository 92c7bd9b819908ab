"""The Python interface: frames in, tracks out."""

from __future__ import annotations

import inspect
import logging

import numpy as np
import pytest
import torch

import qdtrack_ros
from qdtrack_ros.inference.engine import EngineError
from qdtrack_ros.inference.presets import load_preset
from qdtrack_ros.inference.tracker import Tracker
from qdtrack_ros.inference.types import Detections, EngineOutput
from qdtrack_ros.models import QDTrack
from qdtrack_ros.models.checkpoint import save_weights
from qdtrack_ros.tracking import AssociationConfig, TaoConfig


class Scripted:
    """Engine that gives prepared detections, frame by frame."""

    name, model_id, embedding_dim = "scripted", "none", 2
    at_once = streams = 1

    def __init__(self, *frames: Detections) -> None:
        self.frames = list(frames)

    def detect(self, images):
        return EngineOutput([self.frames.pop(0) for _ in images], 0.0, 0.0, 0.0)

    def warmup(self, pictures=1, threads=1):
        pass

    def close(self):
        pass


def detections(*rows):
    """Rows of (x, score, embedding)."""
    boxes = np.array([[x, 10, x + 20, 60] for x, _, _ in rows], np.float32).reshape(-1, 4)
    return Detections(
        boxes,
        np.array([score for _, score, _ in rows], np.float32),
        np.zeros(len(rows), np.int64),
        np.array([embedding for _, _, embedding in rows], np.float32).reshape(-1, 2),
    )


FRAME = np.zeros((80, 200, 3), np.uint8)
ANNA, BEN = (8.0, 0.0), (0.0, 8.0)


def tracker(*frames):
    return Tracker(Scripted(*frames), AssociationConfig(init_score=0.7, object_score=0.3), ("person",))


def test_identities_follow_appearance_not_place():
    follow = tracker(
        detections((0, 0.9, ANNA), (100, 0.8, BEN)), detections(), detections((100, 0.9, ANNA), (0, 0.85, BEN))
    )
    first, nobody, second = (follow(FRAME) for _ in range(3))
    assert first.ids.tolist() == [0, 1] and second.ids.tolist() == [0, 1]
    assert second.boxes[:, 0].tolist() == [100.0, 0.0]
    np.testing.assert_allclose(second.scores, [0.9, 0.85])
    assert [(a.dtype.name, a.shape) for a in nobody] == [
        ("int64", (0,)),
        ("float32", (0, 4)),
        ("float32", (0,)),
        ("int64", (0,)),
    ]


def test_only_tracked_detections_come_out():
    follow = tracker(detections((0, 0.9, ANNA), (100, 0.4, BEN)))
    assert follow(FRAME).ids.tolist() == [0]


def test_the_tao_variant_gives_blended_scores_by_falling_score():
    frames = [detections((0, 0.5, ANNA), (100, 0.9, BEN)), detections((0, 0.95, ANNA), (100, 0.1, BEN))]
    follow = Tracker(Scripted(*frames), TaoConfig(score_momentum=0.5), ("person",))
    first, second = (follow(FRAME) for _ in range(2))
    assert first.ids.tolist() == [1, 0] and first.boxes[:, 0].tolist() == [100.0, 0.0]
    # (0.95 + 0.5) / 2 and (0.1 + 0.9) / 2
    np.testing.assert_allclose(second.scores, [0.725, 0.5], rtol=1e-6)
    assert second.ids.tolist() == [0, 1] and second.boxes[:, 0].tolist() == [0.0, 100.0]


@pytest.mark.parametrize(
    ("form", "message"),
    [
        ("fast", "form 'fast' is unknown"),
    ],
)
def test_forms_that_are_not_there_are_refused(tiny_preset, form, message):
    with pytest.raises(EngineError, match=message):
        Tracker.from_preset(str(tiny_preset), form=form, engine="noop")


def test_the_signature_is_the_documented_one():
    parameters = inspect.signature(Tracker.from_preset).parameters
    assert {name: parameter.default for name, parameter in parameters.items()} == {
        "name_or_path": inspect.Parameter.empty,
        "weights": None,
        "device": "auto",
        "engine": "auto",
        "form": "auto",
        "overrides": None,
        "precision": "auto",
    }
    for form in ("auto", "reference"):
        assert Tracker.from_preset("pedestrian", engine="noop", form=form).labels == ("person",)


def test_reset_forgets():
    follow = tracker(detections((0, 0.9, ANNA)), detections((0, 0.9, ANNA)), detections((0, 0.9, ANNA)))
    assert follow(FRAME).ids.tolist() == follow(FRAME).ids.tolist() == [0]
    follow.reset()
    assert follow.frame_index == 0 and not follow.association.tracks
    assert len(follow(FRAME).ids) == 1


def test_not_a_number_counts_as_an_empty_frame(caplog):
    bad = detections((0, np.nan, ANNA))
    follow = tracker(detections((0, 0.9, ANNA)), bad, detections((5, 0.9, ANNA)))
    with caplog.at_level(logging.ERROR):
        ids = [follow(FRAME).ids.tolist() for _ in range(3)]
    assert ids == [[0], [], [0]]
    assert "NaN or infinite values; frame 1 counts as empty" in caplog.text


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (np.zeros((4, 4), np.uint8), r"frame is uint8 \[4, 4\]; expected a uint8 BGR picture"),
        (np.zeros((4, 4, 4), np.uint8), r"\[4, 4, 4\]"),
        (np.zeros((4, 4, 3), np.float32), "float32"),
        (np.zeros((0, 4, 3), np.uint8), "at least one pixel"),
        (None, "NoneType"),
        ([[1, 2, 3]], "list"),
    ],
)
def test_frames_that_are_none_are_refused(frame, message):
    with pytest.raises(ValueError, match=message):
        tracker()(frame)


def test_from_preset_runs_end_to_end(tiny_preset, tmp_path, synthetic_image):
    torch.manual_seed(0)
    network = QDTrack(load_preset(str(tiny_preset)).model)
    save_weights(network, tmp_path / "w.safetensors")
    follow = qdtrack_ros.Tracker.from_preset(
        str(tiny_preset), weights=tmp_path / "w.safetensors", device="cpu", overrides={"association.init_score": 0.0}
    )
    assert follow.labels == ("person", "car")
    tracks = follow(synthetic_image(1, 96, 128), stamp_ns=10)
    assert len(tracks.ids) and (tracks.ids >= 0).all() and len(set(tracks.ids.tolist())) == len(tracks.ids)
    assert len(follow.detect(synthetic_image(1, 96, 128)).boxes) >= len(tracks.ids)
    assert follow.frame_index == 1
