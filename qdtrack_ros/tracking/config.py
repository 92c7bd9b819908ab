"""Settings of the two association variants: frozen, validated when built, documented for the person who tunes them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

METRICS = ("bisoftmax", "softmax", "cosine")
TAO_METRICS = ("bisoftmax", "cosine")


@dataclass(frozen=True, kw_only=True)
class AssociationConfig:
    """Settings of `QuasiDenseTracker`; the defaults are the official ones for BDD100K.

    Source: paper section 3.3, and the reference's ``QuasiDenseEmbedTracker``. Presets for MOT17: ``init_score`` 0.9,
    ``object_score`` 0.5, ``memory_frames`` 30.

    Attributes:
        init_score: float in [0, 1]. An unmatched box above it starts a track. Raising it starts fewer tracks: fewer
            false ones, but objects are picked up later.
        object_score: float in [0, 1]. Only a box above it may continue a track, and only a box below it is held to
            the stricter ``backdrop_nms_iou``. Raising it leaves faint boxes out: fewer drifts, more gaps.
        match_score: float in [0, 1]. Similarity that a match must exceed. Raising it breaks tracks into more
            ids; lowering it mixes identities up.
        memory_frames: int >= 0, frames. A track lives while ``frame_index - last seen < memory_frames``; it is dropped
            after matching, so it has one more chance at the end of a gap. Raising it bridges longer occlusions, at
            the price of older, more easily confused appearances.
        backdrop_frames: int >= 0, frames. For how many frames unmatched low boxes are kept as competitors
            (backdrops), which soak up similarity that would else go to a track. Raising it makes matching warier.
        momentum: float in [0, 1]. Weight of the newest embedding in a track's embedding. Raising it follows changes
            of appearance faster and forgets faster; 1 keeps the newest only.
        nms_confidence: float in [0, 1]. A box not above ``object_score`` whose similarity with a track exceeds this is
            suppressed as a copy of it (id -2): neither output nor backdrop. Raising it suppresses less.
        backdrop_nms_iou: float in [0, 1]. Overlap beyond which a low box, or a backdrop, counts as a copy of a better
            box. Raising it keeps more low boxes and backdrops.
        class_nms_iou: float in [0, 1]. The same for boxes at or above ``object_score``, whatever their classes. Raising
            it keeps more boxes in dense crowds, and more double detections.
        match_across_classes: bool. True lets a track continue with a box of another class (the track takes over the
            class of its newest box). The reference calls the opposite ``with_cats``.
        metric: ``bisoftmax`` (the paper's), ``softmax`` (over memory only) or ``cosine``.
        memory_seconds: float >= 0, seconds; 0 turns it off. When positive, it replaces ``memory_frames`` by the time
            between stamps, so that dropped frames don't stretch memory. Frames without a stamp (None, or 0 as in the
            header of an unstamped image) are still judged by ``memory_frames``. Ours, not in the paper.
        spatial_gate: float >= 0, box heights per frame; 0 turns it off. When positive, a box and a track whose centres
            are further apart than this, times the frames since the track was seen, neither match nor compete. Raising
            it allows faster motion, lower frame rates and camera shake; lowering it keeps look-alikes apart. Ours, not
            in the paper, whose tracker knows appearance alone.
        kind: the variant's name, in presets and in saved states.
    """

    kind: ClassVar[str] = "quasi_dense"

    init_score: float = 0.7
    object_score: float = 0.3
    match_score: float = 0.5
    memory_frames: int = 10
    backdrop_frames: int = 1
    momentum: float = 0.8
    nms_confidence: float = 0.5
    backdrop_nms_iou: float = 0.3
    class_nms_iou: float = 0.7
    match_across_classes: bool = False
    metric: str = "bisoftmax"
    memory_seconds: float = 0.0
    spatial_gate: float = 0.0

    def __post_init__(self) -> None:
        for name in (
            "init_score",
            "object_score",
            "match_score",
            "momentum",
            "nms_confidence",
            "backdrop_nms_iou",
            "class_nms_iou",
        ):
            _check_number(self, name, 1.0)
        _check_number(self, "memory_seconds", math.inf)
        _check_number(self, "spatial_gate", math.inf)
        _check_count(self, "memory_frames")
        _check_count(self, "backdrop_frames")
        _check_bool(self, "match_across_classes")
        _check_choice(self, "metric", METRICS)


@dataclass(frozen=True, kw_only=True)
class TaoConfig:
    """Settings of `TaoTracker`; the defaults are the official ones for TAO.

    Source: the reference's ``TaoTracker``. Made for hundreds of classes with low scores: nearly every box is tracked.

    Attributes:
        init_score: float in [0, 1]. An unmatched box above it starts a track. Raising it starts fewer tracks.
        object_score: float in [0, 1]. A box below it is not matched. Raising it leaves faint boxes out.
        match_score: float in [0, 1]. Similarity that a match must exceed. Raising it breaks tracks into more ids.
        memory_frames: int >= 0, frames. As in `AssociationConfig`.
        momentum: float in [0, 1]. Weight of the newest embedding in a track's embedding.
        score_momentum: float in [0, 1]. Weight of a matched box's own score; the rest comes from the track's score.
            Raising it smooths scores less.
        score_difference: float in [0, 1]. A match needs scores of box and track closer than this; 1 allows all but
            0 against 1. Raising it matches across larger changes of confidence.
        distractor_iou: float in [0, 1]. A box below ``distractor_score`` is dropped when it overlaps an earlier box of
            its class by more. Raising it keeps more of them.
        distractor_score: float in [0, 1]. See ``distractor_iou``. Raising it puts more boxes to that test.
        metric: ``bisoftmax`` or ``cosine``.
        with_cosine: bool. True averages bi-softmax with the cosine (``metric`` ``bisoftmax`` only).
        memory_seconds: float >= 0, seconds; 0 turns it off. As in `AssociationConfig`.
        kind: the variant's name, in presets and in saved states.
    """

    kind: ClassVar[str] = "tao"

    init_score: float = 0.0001
    object_score: float = 0.0001
    match_score: float = 0.5
    memory_frames: int = 10
    momentum: float = 0.8
    score_momentum: float = 0.5
    score_difference: float = 1.0
    distractor_iou: float = 0.3
    distractor_score: float = 0.5
    metric: str = "bisoftmax"
    with_cosine: bool = True
    memory_seconds: float = 0.0

    def __post_init__(self) -> None:
        for name in (
            "init_score",
            "object_score",
            "match_score",
            "momentum",
            "score_momentum",
            "score_difference",
            "distractor_iou",
            "distractor_score",
        ):
            _check_number(self, name, 1.0)
        _check_number(self, "memory_seconds", math.inf)
        _check_count(self, "memory_frames")
        _check_bool(self, "with_cosine")
        _check_choice(self, "metric", TAO_METRICS)


TrackerConfig = AssociationConfig | TaoConfig
"""Settings of either variant; ``create_tracker`` builds the tracker they belong to."""


def _check_number(config: object, name: str, upper: float) -> None:
    value = getattr(config, name)
    expected = f"a number from 0 to {upper:g}" if math.isfinite(upper) else "a finite number of at least 0"
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{name} must be {expected}, got {value!r} of type {type(value).__name__}")
    if not (math.isfinite(value) and 0.0 <= value <= upper):
        raise ValueError(f"{name} must be {expected}, got {value!r}")


def _check_count(config: object, name: str) -> None:
    value = getattr(config, name)
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{name} must be a whole number of frames, got {value!r} of type {type(value).__name__}")
    if value < 0:
        raise ValueError(f"{name} must be at least 0, got {value}")


def _check_bool(config: object, name: str) -> None:
    value = getattr(config, name)
    if not isinstance(value, bool):
        raise ValueError(f"{name} must be true or false, got {value!r} of type {type(value).__name__}")


def _check_choice(config: object, name: str, choices: tuple[str, ...]) -> None:
    value = getattr(config, name)
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, got {value!r}")
