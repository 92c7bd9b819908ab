from __future__ import annotations

import pytest

from qdtrack_ros.configuration import ConfigurationError
from qdtrack_ros.evaluation.tuning import RANGES, search, searched_settings
from qdtrack_ros.tracking import AssociationConfig, TaoConfig, TrackerConfig

pytest.importorskip("optuna")

CONFIG = AssociationConfig(init_score=0.7, match_score=0.5)


def hill(config: TrackerConfig) -> float:
    """Best at a match score of 0.2 and a memory of 40 frames."""
    return 1.0 - abs(config.match_score - 0.2) - abs(config.memory_frames - 40) / 100


def test_the_search_climbs() -> None:
    seen: list[float] = []
    ranges = searched_settings(CONFIG, ["match_score", "memory_frames"])
    outcome = search(CONFIG, ranges, hill, 40, report=seen.append)
    assert outcome.baseline == pytest.approx(hill(CONFIG)) and outcome.score > 0.9
    assert outcome.settings["match_score"] == pytest.approx(0.2, abs=0.1)
    assert hill(AssociationConfig(**outcome.settings)) == pytest.approx(outcome.score)
    assert len(seen) == 40 and seen == sorted(seen)


def test_nothing_better_changes_nothing() -> None:
    outcome = search(CONFIG, searched_settings(CONFIG, None), lambda config: -float(config != CONFIG), 5)
    assert outcome.settings == {} and outcome.score == outcome.baseline == 0


def test_the_baseline_is_where_the_search_starts() -> None:
    tried: list[TrackerConfig] = []
    search(CONFIG, searched_settings(CONFIG, ["init_score"]), lambda config: tried.append(config) or 0.0, 3)
    assert tried[0] == tried[1] == CONFIG and len(tried) == 4


def test_what_the_paper_does_not_know_is_searched_only_when_named() -> None:
    assert "spatial_gate" not in searched_settings(CONFIG, None)
    ranges = searched_settings(CONFIG, ["spatial_gate"])
    outcome = search(CONFIG, ranges, lambda config: config.spatial_gate, 3)
    assert 0.2 <= outcome.settings["spatial_gate"] <= 5.0


@pytest.mark.parametrize(("good", "improved"), [(6, True), (0, False)])
def test_what_was_found_before_an_interruption_is_kept(good: int, improved: bool) -> None:
    calls: list[TrackerConfig] = []

    def score(config: TrackerConfig) -> float:
        calls.append(config)
        if len(calls) > 1 + good:  # the first is the baseline
            raise KeyboardInterrupt
        return hill(config)

    outcome = search(CONFIG, searched_settings(CONFIG, ["match_score"]), score, 40)
    assert outcome.is_interrupted and outcome.trials == good
    assert bool(outcome.settings) is (outcome.score > outcome.baseline) is improved
    if improved:
        assert outcome.score == max(map(hill, calls[:-1]))


def test_unknown_settings_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="cannot search for matchscore; known settings: init_score"):
        searched_settings(CONFIG, ["matchscore"])
    assert "distractor_iou" in searched_settings(TaoConfig(), None)


@pytest.mark.parametrize("kind", list(RANGES))
def test_every_proposal_is_a_valid_configuration(kind: type[TrackerConfig]) -> None:
    for name, where in RANGES[kind].items():
        for edge in (where.low, where.high):
            value = int(edge) if where.whole else edge
            assert getattr(kind(**{name: value}), name) == value
