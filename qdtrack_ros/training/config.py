"""What a training is made of, read from one YAML file (``config/training``)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path

from qdtrack_ros.configuration import build, load_yaml, merge, within
from qdtrack_ros.data.crops import SheetConfig
from qdtrack_ros.data.formats import FORMATS
from qdtrack_ros.data.pairs import PairConfig

PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")
_OTHERS = "*"
CROPS = "crops"
"""The one format that gives no sequences: a folder of pictures of one object each."""

REGIONS = ("quasi_dense", "sparse")
POSITIVES = ("many", "one")


@dataclass(frozen=True)
class SourceConfig:
    """Sequences to learn from, or to validate on; paths are relative to the data folder.

    Attributes:
        format: one of ``data/formats.py``, or ``crops``; docs/training.md shows an example of each.
        path: MOT folder; pictures or video of KITTI; folder of crops; Waymo's folder of components; else the folder
            that the pictures' names start from.
        annotations: label file of KITTI, JSON file of COCO, CocoVID, TAO and Label Studio, ``.odgt`` of CrowdHuman,
            JSON file or folder of BDD100K; none where they lie with the pictures.
        sequences: which sequences of a source that holds many, by a pattern of their names, such as ``*/FRONT``.
        weight: how often it is drawn, relative to the others; many sequences share it by their frames.
        scope: largest distance in frames between key and reference (paper: 3 on BDD100K, 10 on MOT17); 0 makes pairs
            of one picture. For crops: largest distance between two pictures of an identity in the list of its pictures.
        other_frame: the reference frame is never the key frame itself, as in the paper's code.
        oversample: stills only: pictures with a class that is in fewer than this share of them are drawn more often, as
            for LVIS (0.001); 0 draws all alike.
        part: (begin, end) of every sequence that is taken, as fractions; (0.0, 0.5) is the first half.
        min_aspect: objects whose height / width is below this become ignore regions; 0 takes all. Stills are full of
            close-ups and people sitting, whom a small model for the street need not learn.
        identity: for crops: regular expression whose group is the identity in a file's name.
        sheets: for crops: how they are laid out, see :class:`SheetConfig`.
        labels: label of the source -> label of the preset, or ``ignore`` for objects neither taught nor punished; left
            out, the preset's own names; with an entry ``"*": "*"`` these, and what else is said. Crops have one label,
            ``object``, which must be mapped.
    """

    format: str
    path: str
    annotations: str = ""
    sequences: str = "*"
    weight: float = 1.0
    scope: int = 3
    other_frame: bool = False
    oversample: float = 0.0
    part: tuple[float, float] = (0.0, 1.0)
    min_aspect: float = 0.0
    identity: str = "^(-?[0-9]+)_"
    sheets: SheetConfig = field(default_factory=SheetConfig)
    labels: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.format not in (*FORMATS, CROPS):
            raise ValueError(f"format is {self.format!r}; expected one of {', '.join([*FORMATS, CROPS])}")
        needed = "" if self.format == CROPS else FORMATS[self.format].annotations
        if needed and not self.annotations:
            raise ValueError(f"source {self.path} has no annotations; format {self.format} needs {needed}")
        if self.annotations and not needed:
            raise ValueError(f"source {self.path}: format {self.format} has no annotations apart from its path")
        if self.weight <= 0 or self.scope < 0:
            raise ValueError(f"weight {self.weight} must be positive and scope {self.scope} not negative")
        within(self, 0, math.inf, "min_aspect")
        if not 0 <= self.oversample <= 1 or (self.oversample and self.scope):
            raise ValueError(
                f"oversample is {self.oversample} and scope {self.scope}; expected 0 to 1, for stills (scope: 0)"
            )
        if self.labels.get(_OTHERS, _OTHERS) != _OTHERS:
            raise ValueError(f"source {self.path} maps '*' to {self.labels[_OTHERS]!r}; expected '*': the same names")
        if not 0 <= self.part[0] < self.part[1] <= 1:
            raise ValueError(f"part is {self.part}; expected (begin, end) with 0 <= begin < end <= 1")

    def with_labels(self, names: Sequence[str]) -> SourceConfig:
        """The same source, with these labels where it leaves them out or asks for the others by ``*``."""
        if self.format == CROPS or (self.labels and _OTHERS not in self.labels):
            return self
        said = {source: target for source, target in self.labels.items() if source != _OTHERS}
        return replace(self, labels={name: name for name in names} | said)


@dataclass(frozen=True)
class LossConfig:
    """Assignment, sampling and weights of the losses.

    The defaults are the paper's BDD100K recipe (section 4.2, and the official configuration on mmdet 2.x).

    Attributes:
        rpn_positive_iou, rpn_negative_iou: an anchor above the first is an object, below the second background.
        rpn_samples: anchors per picture in the RPN's loss, at most half of them positive.
        rpn_beta: where the RPN's smooth L1 turns linear.
        train_proposals_per_level, train_proposals: proposals per picture that the heads are trained on.
        box_iou: a proposal above it is an object.
        box_samples, box_positive_fraction: proposals per picture in the box head's loss.
        box_beta: where the box head's smooth L1 turns linear; 0 is plain L1.
        regions: what the embedding learns from: ``quasi_dense``, samples of the proposals with the ground truth among
            them (the paper's method), or ``sparse``, the ground truth boxes alone (what the paper compares with).
        positives: what a key region is drawn to: ``many``, all regions of its object in the reference picture, or
            ``one``, the first of them (the ground truth where it was sampled, else the likeliest proposal), while the
            others take no part: the plain softmax cross entropy. Sparse regions have one in either case.
        track_positive_iou, track_negative_iou: a proposal above the first is a region of its object, below the second
            background.
        key_positives: regions of the key picture, spread evenly over its objects.
        reference_samples: regions of the reference picture.
        reference_negative_ratio: negatives per positive at most.
        iou_balanced_negatives: draw reference negatives evenly over overlap (BDD100K), else at random.
        track_weight, auxiliary_weight: weights of the multi-positive cross entropy and of the auxiliary loss.
        detect_on_reference: train the detector on reference pictures too (beyond the paper: twice the pictures for the
            price of one backbone pass).
    """

    rpn_positive_iou: float = 0.7
    rpn_negative_iou: float = 0.3
    rpn_samples: int = 256
    rpn_beta: float = 1.0 / 9.0
    train_proposals_per_level: int = 2000
    train_proposals: int = 1000
    box_iou: float = 0.5
    box_samples: int = 512
    box_positive_fraction: float = 0.25
    box_beta: float = 0.0
    regions: str = "quasi_dense"
    positives: str = "many"
    track_positive_iou: float = 0.7
    track_negative_iou: float = 0.3
    key_positives: int = 128
    reference_samples: int = 256
    reference_negative_ratio: float = 3.0
    iou_balanced_negatives: bool = True
    track_weight: float = 0.25
    auxiliary_weight: float = 1.0
    detect_on_reference: bool = False

    def __post_init__(self) -> None:
        for name, choices in (("regions", REGIONS), ("positives", POSITIVES)):
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} is {getattr(self, name)!r}; expected {' or '.join(choices)}")
        within(self, 1, math.inf, "rpn_samples", "box_samples", "key_positives", "reference_samples")
        within(self, 1, math.inf, "train_proposals_per_level", "train_proposals")
        within(self, 0, math.inf, "rpn_beta", "box_beta", "reference_negative_ratio")
        within(self, 0, math.inf, "track_weight", "auxiliary_weight")
        within(self, 0, 1, "box_positive_fraction", "box_iou", "rpn_positive_iou", "track_positive_iou")
        within(self, 0, self.rpn_positive_iou, "rpn_negative_iou")
        within(self, 0, self.track_positive_iou, "track_negative_iou")


@dataclass(frozen=True)
class OptimizerConfig:
    """Optimizer and schedule.

    Attributes:
        kind: ``sgd`` (the paper) or ``adamw``.
        learning_rate: for ``reference_batch`` pictures; scaled in proportion to the batch.
        reference_batch: see above; 0 takes the learning rate as it is.
        backbone_factor: learning rate of the backbone, relative.
        weight_decay: for weights; biases and norms have none, unless ``decay_biases``, as in the paper's code.
        batch_norm: let scales and shifts of the backbone's BatchNorm learn; its statistics never change.
        momentum: for SGD.
        warmup_steps: linear from a thousandth.
        milestones: steps at which the learning rate falls to a tenth; empty: cosine to zero at the end.
        clip_norm: gradients are scaled down to this norm.
        ema_decay: decay of the averaged weights that are validated and shipped; 0 does without.
    """

    kind: str = "sgd"
    learning_rate: float = 0.02
    reference_batch: int = 16
    backbone_factor: float = 1.0
    weight_decay: float = 1e-4
    decay_biases: bool = False
    batch_norm: bool = True
    momentum: float = 0.9
    warmup_steps: int = 1000
    milestones: tuple[int, ...] = ()
    clip_norm: float = 35.0
    ema_decay: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in ("sgd", "adamw"):
            raise ValueError(f"kind is {self.kind!r}; expected sgd or adamw")
        within(self, 0, math.inf, "reference_batch", "backbone_factor", "weight_decay", "warmup_steps", "clip_norm")
        within(self, 0, 1, "momentum")
        for name, allowed, expected in (
            ("learning_rate", self.learning_rate > 0, "more than 0"),
            ("ema_decay", 0 <= self.ema_decay < 1, "0 or more and less than 1"),
            ("milestones", all(a < b for a, b in pairwise((0, *self.milestones))), "rising steps, from 1"),
        ):
            if not allowed:
                raise ValueError(f"{name} is {getattr(self, name)}; expected {expected}")


@dataclass(frozen=True)
class TrainingConfig:
    """A training.

    Attributes:
        preset: network, labels and input: name or path.
        sources: what to learn from.
        validation: what to choose checkpoints on, one source or a list; None trains without.
        validation_stride: every how many-th frame is validated.
        backbone_weights: ImageNet file to start from: a path, ``package:file`` inside an installed Python package, or
            a name of ``qdtrack weights list``.
        initial_weights: weights of the whole network to start from instead (fine-tuning).
        detector_weights: weights of the detector to start from; the embedding head starts anew (from those of
            ``backbone_weights`` where it goes on from the backbone's blocks).
        freeze_detector: train the embedding head alone, and leave the detector as it is.
        pairs, loss, optimizer: see there.
        batch_size: pairs per step and process.
        steps: optimizer steps.
        validate_every: steps between validations.
        precision: ``32-true``, ``bf16-mixed`` or ``16-mixed`` (Lightning's names).
        deterministic: on a GPU, refuse whatever does not give the same bits twice, at a price in speed; on the CPU a
            training with the same seed always does.
        pictures_every: steps between pictures of pairs in TensorBoard; 0 draws none.
        workers: processes that prepare pairs.
        cache_frames: keep decoded frames of videos in memory as JPEG, so that seeking costs nothing.
        max_steps_without_positives: stop with an error after so many steps without a pair of the same object.
        seed: seed of everything random.
    """

    preset: str
    sources: tuple[SourceConfig, ...]
    validation: tuple[SourceConfig, ...] | None = None
    validation_stride: int = 25
    backbone_weights: str = ""
    initial_weights: str = ""
    detector_weights: str = ""
    freeze_detector: bool = False
    pairs: PairConfig = field(default_factory=PairConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    batch_size: int = 2
    steps: int = 10000
    validate_every: int = 500
    precision: str = "32-true"
    deterministic: bool = False
    pictures_every: int = 500
    workers: int = 2
    cache_frames: bool = True
    max_steps_without_positives: int = 200
    seed: int = 0

    def __post_init__(self) -> None:
        within(self, 1, math.inf, "validation_stride", "batch_size", "steps", "validate_every")
        within(self, 1, math.inf, "max_steps_without_positives")
        within(self, 0, 2**32 - 1, "seed")
        if self.validation == ():
            raise ValueError("validation is an empty list; name a source, or leave it out to train without")
        within(self, 0, math.inf, "workers", "pictures_every")
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision is {self.precision!r}; expected one of {', '.join(PRECISIONS)}")

    def with_labels(self, names: Sequence[str]) -> TrainingConfig:
        """The same training, where sources without labels have those of the preset."""

        def of(sources: Sequence[SourceConfig]) -> tuple[SourceConfig, ...]:
            return tuple(source.with_labels(names) for source in sources)

        return replace(self, sources=of(self.sources), validation=self.validation and of(self.validation))


def load_training_config(path: Path, overrides: Mapping[str, object] | None = None) -> TrainingConfig:
    """Read a training's YAML file.

    Raises:
        ConfigurationError: it cannot be read, or a value in it is wrong.
    """
    return build(TrainingConfig, merge(load_yaml(path), overrides or {}), path.name)
