"""What of the ground truth counts, class by class, and on which boxes a track is neither right nor wrong."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from qdtrack_ros.data.bdd100k import BDD100K_IGNORED
from qdtrack_ros.data.types import Annotation
from qdtrack_ros.evaluation.boxes import Boxes

REGION_LABELS = frozenset({"DontCare", "crowd"})  # KITTI's and MOT20's names for regions of any content
# What data sets call the same thing.
_SYNONYMS = (
    frozenset({"pedestrian", "person"}),
    frozenset({"motorcycle", "motor", "motorbike"}),
    frozenset({"bicycle", "bike"}),
)


@dataclass(frozen=True)
class TruthRules:
    """Roles of ground truth boxes by label and flag, for one evaluated class.

    Attributes:
        labels: what the ground truth calls the class; boxes of it flagged ``ignore`` or ``crowd`` need not be found.
        distractors: classes that look like it: a track matched with such a box is removed before counting.
        forgive_ignored: also remove tracks matched with an ``ignore`` box of these classes, and unmatched tracks that
            lie more than half in a ``crowd`` region. MOTChallenge does not: there a track on a box flagged 0 is a
            false positive.
        regions: further classes whose ``crowd`` boxes are such regions.
        all_compete: boxes of other classes keep tracks from being matched with a distractor, as in MOTChallenge;
            elsewhere there is no telling what they are.
        max_difficulty: boxes of a higher ``difficulty`` are as if flagged ``ignore``; None lets all count.
        min_height: unmatched tracks no higher than this are removed, in pixels.
        track_labels: what trackers call the class, where that differs from ``labels``.
    """

    labels: frozenset[str]
    distractors: frozenset[str] = frozenset()
    forgive_ignored: bool = False
    regions: frozenset[str] = REGION_LABELS
    all_compete: bool = False
    max_difficulty: int | None = None
    min_height: float = 0.0
    track_labels: frozenset[str] = frozenset()

    @property
    def tracked_as(self) -> frozenset[str]:
        """Labels of tracks that are meant for this class."""
        return self.track_labels or self.labels

    def indices(self, labels: Iterable[str]) -> list[int]:
        """Which of a tracker's labels mean this class, in any case; synonyms do where ``tracked_as`` is not there."""
        found = [label.lower() for label in labels]
        names = {name.lower() for name in self.tracked_as}
        if names.isdisjoint(found):
            names = names.union(*(synonyms for synonyms in _SYNONYMS if not synonyms.isdisjoint(names)))
        return [index for index, label in enumerate(found) if label in names]


@dataclass(frozen=True)
class Benchmark:
    """The classes of a benchmark, each evaluated by its own rules.

    Attributes:
        name: for reports.
        classes: rules by the name of the class, in the order of the benchmark's tables.
        groups: classes whose boxes are also counted together, by the name of the group.
        means: the benchmark reports means over its classes.
    """

    name: str
    classes: Mapping[str, TruthRules]
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    means: bool = False

    def of(self, classes: Iterable[str]) -> Benchmark:
        """The part of it that consists of these classes; groups stay that have all of theirs."""
        kept = {name: rules for name, rules in self.classes.items() if name in set(classes)}
        groups = {name: members for name, members in self.groups.items() if set(members) <= set(kept)}
        return replace(self, classes=kept, groups=groups)

    def known_to(self, labels: Iterable[str]) -> Benchmark:
        """The part of it that a tracker with these labels has classes for."""
        names = list(labels)
        return self.of([name for name, rules in self.classes.items() if rules.indices(names)])


PERSON_LABELS = frozenset({"pedestrian", "person"})  # of our presets

MOT_RULES = TruthRules(
    frozenset({"pedestrian"}),
    frozenset({"person_on_vehicle", "static_person", "distractor", "reflection"}),
    all_compete=True,
    track_labels=PERSON_LABELS,
)
MOT20_RULES = TruthRules(
    MOT_RULES.labels, MOT_RULES.distractors | {"non_mot_vehicle"}, all_compete=True, track_labels=PERSON_LABELS
)
MOT = Benchmark("MOTChallenge", {"pedestrian": MOT_RULES})
MOT20 = Benchmark("MOT20", {"pedestrian": MOT20_RULES})

# Of KITTI's boxes, those that reach beyond the picture or are hidden to an unknown part have a difficulty of 2.
KITTI_CAR_RULES = TruthRules(
    frozenset({"Car"}),
    frozenset({"Van"}),
    forgive_ignored=True,
    max_difficulty=1,
    min_height=25.0,
    track_labels=frozenset({"Car", "car", "vehicle"}),
)
KITTI_PEDESTRIAN_RULES = TruthRules(
    frozenset({"Pedestrian"}),
    frozenset({"Person"}),  # a person sitting
    forgive_ignored=True,
    max_difficulty=1,
    min_height=25.0,
    track_labels=PERSON_LABELS | {"Pedestrian"},
)
KITTI = Benchmark("KITTI", {"car": KITTI_CAR_RULES, "pedestrian": KITTI_PEDESTRIAN_RULES})

COCO_PERSON_RULES = TruthRules(frozenset({"person"}), forgive_ignored=True)

# The names of the first release (2020) beside today's, as the toolkit's configs/box_track.toml maps them.
_BDD100K_NAMES = {
    "pedestrian": ("pedestrian", "person"),
    "rider": ("rider",),
    "car": ("car", "caravan", "van"),
    "bus": ("bus",),
    "truck": ("truck",),
    "train": ("train",),
    "motorcycle": ("motorcycle", "motor"),
    "bicycle": ("bicycle", "bike"),
}
_BDD100K_REGIONS = frozenset(BDD100K_IGNORED).union(*_BDD100K_NAMES.values())
BDD100K = Benchmark(
    "BDD100K",
    {
        name: TruthRules(frozenset(names), forgive_ignored=True, regions=_BDD100K_REGIONS)
        for name, names in _BDD100K_NAMES.items()
    },
    {
        "HUMAN": ("pedestrian", "rider"),
        "VEHICLE": ("car", "truck", "bus", "train"),
        "BIKE": ("motorcycle", "bicycle"),
    },
    means=True,
)


def mot_benchmark(name: str) -> Benchmark:
    """A benchmark of MOTChallenge by its name, or by the name of one of its sequences ("MOT20-01")."""
    return MOT20 if name.upper().startswith("MOT20") else MOT


def open_benchmark(name: str, labels: Iterable[str]) -> Benchmark:
    """Every label is a class; tracks on ignored boxes and in crowds of it are neither right nor wrong."""
    classes = {label: TruthRules(frozenset({label}), forgive_ignored=True) for label in sorted(set(labels))}
    return Benchmark(name, classes, means=True)


def together(benchmarks: Sequence[Benchmark]) -> Benchmark:
    """The classes and groups of several benchmarks, each of a name once; means where one of them has them."""
    names = dict.fromkeys(benchmark.name for benchmark in benchmarks)
    return Benchmark(
        ", ".join(names),
        {name: rules for benchmark in benchmarks for name, rules in benchmark.classes.items()},
        {name: members for benchmark in benchmarks for name, members in benchmark.groups.items()},
        any(benchmark.means for benchmark in benchmarks),
    )


class FrameTruth:
    """Boxes of one frame sorted by role; float64 [N, 4] xyxy.

    Attributes:
        counted: rows of ``boxes`` that tracks must find.
        neutral: rows of ``boxes`` whose tracks are removed.
        regions: crowd regions, [R, 4].
        ids: identities of ``boxes``, -1 for none.
    """

    def __init__(self, annotations: Sequence[Annotation], rules: TruthRules) -> None:
        own = rules.labels | rules.distractors
        forgive = rules.forgive_ignored
        regions, singles = [], []
        for row in annotations:
            if forgive and row.crowd and (row.label in own or row.label in rules.regions):
                regions.append(row.box)
            elif rules.all_compete or row.label in own:
                singles.append(row)
        hard = rules.max_difficulty
        ignored = [row.ignore or (hard is not None and row.difficulty > hard) for row in singles]
        self.boxes: Boxes = np.array([row.box for row in singles], np.float64).reshape(-1, 4)
        self.ids = np.array([-1 if row.instance_id is None else row.instance_id for row in singles], np.int64)
        self.counted = np.array(
            [
                row.label in rules.labels and not row.crowd and not ignore
                for row, ignore in zip(singles, ignored, strict=True)
            ],
            np.bool_,
        )
        self.neutral = np.array(
            [
                row.label in rules.distractors or (forgive and ignore and row.label in own)
                for row, ignore in zip(singles, ignored, strict=True)
            ],
            np.bool_,
        )
        self.regions: Boxes = np.array(regions, np.float64).reshape(-1, 4)
