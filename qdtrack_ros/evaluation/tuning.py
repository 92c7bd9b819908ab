"""The search for association settings; Optuna proposes them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from qdtrack_ros.configuration import ConfigurationError
from qdtrack_ros.tracking import AssociationConfig, TaoConfig, TrackerConfig

Setting = float | int


@dataclass(frozen=True)
class Range:
    """Where a setting is looked for: ``low`` to ``high``, ``whole`` numbers or not, ``wide`` on a logarithmic scale."""

    low: float
    high: float
    whole: bool = False
    wide: bool = False


_SHARE = Range(0.05, 0.95)
RANGES: Mapping[type[TrackerConfig], Mapping[str, Range]] = {
    AssociationConfig: {
        "init_score": _SHARE,
        "object_score": _SHARE,
        "match_score": _SHARE,
        "memory_frames": Range(1, 150, whole=True, wide=True),
        "backdrop_frames": Range(0, 5, whole=True),
        "momentum": Range(0.05, 1.0),
        "nms_confidence": _SHARE,
        "backdrop_nms_iou": _SHARE,
        "class_nms_iou": _SHARE,
        "memory_seconds": Range(0.1, 10.0, wide=True),
        "spatial_gate": Range(0.2, 5.0, wide=True),
    },
    TaoConfig: {
        "init_score": Range(0.0001, 0.95),
        "object_score": Range(0.0001, 0.95),
        "match_score": _SHARE,
        "memory_frames": Range(1, 150, whole=True, wide=True),
        "momentum": Range(0.05, 1.0),
        "score_momentum": Range(0.05, 1.0),
        "score_difference": _SHARE,
        "distractor_iou": _SHARE,
        "distractor_score": _SHARE,
        "memory_seconds": Range(0.1, 10.0, wide=True),
    },
}
# Off in the presets; they are looked for only when they are named, so that a result stays the paper's method.
OPTIONAL = frozenset({"memory_seconds", "spatial_gate"})


class Outcome(NamedTuple):
    """What a search found.

    Attributes:
        settings: what to change; empty when nothing was better than the baseline.
        score: with them.
        baseline: without.
        trials: settings that were tried.
        is_interrupted: by Ctrl-C, before all trials.
    """

    settings: dict[str, Any]
    score: float
    baseline: float
    trials: int
    is_interrupted: bool = False


def searched_settings(config: TrackerConfig, names: Sequence[str] | None) -> dict[str, Range]:
    """The ranges to look in.

    Args:
        config: its kind decides which settings there are.
        names: of the settings; None takes all that the paper's method has.

    Raises:
        ConfigurationError: a name is none of them.
    """
    ranges = RANGES[type(config)]
    if names is None:
        return {name: where for name, where in ranges.items() if name not in OPTIONAL}
    unknown = [name for name in names if name not in ranges]
    if unknown:
        raise ConfigurationError(f"cannot search for {', '.join(unknown)}; known settings: {', '.join(ranges)}")
    return {name: ranges[name] for name in names}


def search(
    config: TrackerConfig,
    ranges: Mapping[str, Range],
    score: Callable[[TrackerConfig], float],
    trials: int,
    seed: int = 0,
    report: Callable[[float], None] = lambda best: None,
) -> Outcome:
    """Look for the settings with the highest score, by Optuna's tree-structured Parzen estimator.

    Ctrl-C ends the search with what was found so far; during the baseline it is passed on.

    Args:
        config: the baseline, from which the search starts, and the source of all settings that are not searched.
        ranges: settings to search.
        score: of a configuration; more is better.
        trials: tries besides the baseline, at least 1.
        seed: of the proposals; the same one gives the same trials.
        report: called after each trial with the best score so far, the baseline's included.

    Raises:
        ImportError: Optuna is not installed.
    """
    try:
        import optuna
    except ImportError as error:
        raise ImportError("tuning needs Optuna: pip install optuna") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    baseline = score(config)
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed))
    own = {name: getattr(config, name) for name in ranges}
    # What is turned off lies outside its range: there, Optuna chooses.
    study.enqueue_trial({name: value for name, value in own.items() if ranges[name].low <= value <= ranges[name].high})

    def objective(trial: Any) -> float:
        proposed: dict[str, Any] = {name: _proposed(trial, name, where) for name, where in ranges.items()}
        return score(replace(config, **proposed))

    is_interrupted = False
    try:
        study.optimize(objective, trials, callbacks=[lambda study, _: report(max(study.best_value, baseline))])
    except KeyboardInterrupt:
        is_interrupted = True
    done = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,))
    if not done or study.best_value <= baseline:
        return Outcome({}, baseline, baseline, len(done), is_interrupted)
    best = {name: _short(study.best_params[name]) for name in ranges}
    changed = {name: value for name, value in best.items() if value != own[name]}
    return Outcome(changed, study.best_value, baseline, len(done), is_interrupted)


def _proposed(trial: Any, name: str, where: Range) -> Setting:
    if where.whole:
        return int(trial.suggest_int(name, int(where.low), int(where.high), log=where.wide))
    return _short(trial.suggest_float(name, where.low, where.high, log=where.wide))


def _short(value: Setting) -> Setting:
    """Three figures are enough for a threshold, and can be typed."""
    return value if isinstance(value, int) else float(f"{value:.3g}")
