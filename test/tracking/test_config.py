"""Settings are checked when they are built, and say what is wrong with them."""

from __future__ import annotations

import dataclasses

import pytest

from qdtrack_ros.tracking import AssociationConfig, TaoConfig, TaoTracker


def test_defaults_are_those_of_bdd100k_and_tao() -> None:
    assert dataclasses.asdict(AssociationConfig()) == {
        "init_score": 0.7,
        "object_score": 0.3,
        "match_score": 0.5,
        "memory_frames": 10,
        "backdrop_frames": 1,
        "momentum": 0.8,
        "nms_confidence": 0.5,
        "backdrop_nms_iou": 0.3,
        "class_nms_iou": 0.7,
        "match_across_classes": False,
        "metric": "bisoftmax",
        "memory_seconds": 0.0,
        "spatial_gate": 0.0,
    }
    assert dataclasses.asdict(TaoTracker().config) == {
        "init_score": 0.0001,
        "object_score": 0.0001,
        "match_score": 0.5,
        "memory_frames": 10,
        "momentum": 0.8,
        "score_momentum": 0.5,
        "score_difference": 1.0,
        "distractor_iou": 0.3,
        "distractor_score": 0.5,
        "metric": "bisoftmax",
        "with_cosine": True,
        "memory_seconds": 0.0,
    }


@pytest.mark.parametrize("kind", [AssociationConfig, TaoConfig])
def test_every_field_is_documented_and_checked(kind: type) -> None:
    for field in dataclasses.fields(kind):
        assert f"{field.name}: " in (kind.__doc__ or ""), field.name
        with pytest.raises(ValueError, match=field.name):
            kind(**{field.name: "nonsense"})
        with pytest.raises(ValueError, match=field.name):
            kind(**{field.name: None})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"init_score": 1.5}, "init_score must be a number from 0 to 1, got 1.5"),
        ({"match_score": -0.1}, "match_score must be a number from 0 to 1, got -0.1"),
        ({"momentum": float("nan")}, "momentum must be a number from 0 to 1, got nan"),
        ({"object_score": True}, "object_score must be .* got True of type bool"),
        ({"memory_frames": -1}, "memory_frames must be at least 0, got -1"),
        ({"memory_frames": 2.0}, "memory_frames must be a whole number of frames, got 2.0 of type float"),
        ({"memory_frames": True}, "memory_frames must be a whole number"),
        ({"spatial_gate": -1.0}, "spatial_gate must be a finite number of at least 0, got -1.0"),
        ({"memory_seconds": float("inf")}, "memory_seconds must be a finite number of at least 0, got inf"),
        ({"metric": "euclid"}, "metric must be one of bisoftmax, softmax, cosine, got 'euclid'"),
        ({"match_across_classes": 1}, "match_across_classes must be true or false, got 1"),
    ],
)
def test_bad_values_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AssociationConfig(**settings)  # type: ignore[arg-type]


def test_limits_are_allowed_and_the_result_is_frozen() -> None:
    config = AssociationConfig(init_score=1, object_score=0, memory_frames=0, backdrop_frames=0, momentum=1)
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.init_score = 0.5  # type: ignore[misc]
    with pytest.raises(ValueError, match="metric must be one of bisoftmax, cosine, got 'softmax'"):
        TaoConfig(metric="softmax")
