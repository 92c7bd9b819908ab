"""The training step: detector and embedding, jointly, on pairs of frames. Lightning is the loop around it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

try:
    import lightning as L
except ImportError as error:
    raise ImportError("training needs Lightning; pip install 'qdtrack_ros[train]' (or lightning itself)") from error

from qdtrack_ros.data.types import Annotation
from qdtrack_ros.evaluation.detection import match_detections, precision_recall
from qdtrack_ros.evaluation.embedding import KnownObjects, nearest_accuracy
from qdtrack_ros.inference.preprocess import preprocess
from qdtrack_ros.inference.presets import Preset
from qdtrack_ros.models.config import ProposalConfig
from qdtrack_ros.models.qdtrack import QDTrack
from qdtrack_ros.models.rpn import RPNOutput
from qdtrack_ros.training.config import OptimizerConfig, TrainingConfig
from qdtrack_ros.training.detector_loss import DetectorLoss
from qdtrack_ros.training.embedding_loss import EmbeddingLoss
from qdtrack_ros.training.processes import mean_over_processes
from qdtrack_ros.training.samplers import Choice, random_choice
from qdtrack_ros.training.sources import truth_rules
from qdtrack_ros.training.stream import PairBatch

PAIRS_PER_STEP = "pairs_per_step"
"""Key of a checkpoint: over all processes. Learning rate and place in the stream of pairs belong to it."""

SETTINGS = "settings"
"""Key of a checkpoint: the settings by :func:`lasting_settings`."""


class TrainingError(RuntimeError):
    """A training that cannot go on; the message says why and what to look at."""


class ValidationPicture(NamedTuple):
    """A picture (uint8 BGR) with its annotations, and where it is from: numbers of the source and its sequence."""

    image: npt.NDArray[np.uint8]
    annotations: tuple[Annotation, ...]
    origin: tuple[int, int]


class Found(NamedTuple):
    """Boxes [N, 4] and scores [N] found in a validation picture."""

    boxes: npt.NDArray[np.float32]
    scores: npt.NDArray[np.float32]


class Validated(NamedTuple):
    """What was found in a validation picture, beside what is there."""

    origin: tuple[int, int]
    found: Found
    wanted: tuple[Annotation, ...]
    known: KnownObjects


class QDTrackModule(L.LightningModule):
    """Joint training of detector and embedding (paper, section 3.3).

    Args:
        config: the training.
        preset: network and input.
        model: the network, with the weights to start from.
        choose: picks some of many candidates wherever a loss samples.
    """

    _mean: Tensor
    _std: Tensor

    def __init__(self, config: TrainingConfig, preset: Preset, model: QDTrack, choose: Choice = random_choice) -> None:
        super().__init__()
        self.model = model
        if config.freeze_detector:
            model.requires_grad_(False)
            model.embedding_head.requires_grad_(True)
        if not config.optimizer.batch_norm:
            for layer in model.backbone.modules():
                if isinstance(layer, nn.BatchNorm2d):
                    layer.requires_grad_(False)
        self._config = config
        self._preset = preset
        self._detector_loss = DetectorLoss(config.loss, choose)
        self._embedding_loss = EmbeddingLoss(config.loss, choose)
        self._train_proposals = ProposalConfig(
            config.loss.train_proposals_per_level, preset.model.proposals.nms_iou, config.loss.train_proposals
        )
        self._steps_without_positives = 0
        self._validated: list[Validated] = []
        mean, std = preset.preprocess.mean, preset.preprocess.std
        self.register_buffer("_mean", torch.tensor(mean).reshape(1, 3, 1, 1), persistent=False)
        self.register_buffer("_std", torch.tensor(std).reshape(1, 3, 1, 1), persistent=False)

    def normalise(self, images: Tensor, sizes: Sequence[tuple[int, int]]) -> Tensor:
        """uint8 BGR [B, H, W, 3] of those (height, width) to the network's input [B, 3, H, W], padded with zeros."""
        if self._preset.preprocess.channel_order == "rgb":
            images = images.flip(-1)
        normalised = (images.permute(0, 3, 1, 2).float() - self._mean) / self._std
        for image, (height, width) in zip(normalised, sizes, strict=True):
            image[:, height:] = 0
            image[:, :, width:] = 0
        return normalised

    def losses(self, batch: PairBatch) -> tuple[dict[str, Tensor], dict[str, float]]:
        """All loss terms of a batch, and figures to watch.

        Args:
            batch: B pairs.

        Returns:
            Terms whose sum is minimised, and ``positives`` (pairs of regions of one object), ``box_accuracy`` (not with
            a frozen detector).
        """
        frozen = self._config.freeze_detector
        with torch.set_grad_enabled(not frozen and torch.is_grad_enabled()):
            features = self.model.extract_features(self.normalise(batch.images, batch.sizes))
            output = self.model.rpn(features.pyramid)
        anchors = self.model.rpn.anchors(features.pyramid)
        proposals = self._propose(output, anchors, batch)
        generators = picture_generators(self._config.seed, batch.numbers)
        terms: dict[str, Tensor] = {}
        figures: dict[str, float] = {}
        if not frozen:
            taught = len(proposals) if self._config.loss.detect_on_reference else len(batch.matches)
            objects, drawn = batch.objects[:taught], generators[:taught]
            rpn = self._detector_loss.rpn(_part(output, slice(0, taught)), anchors, objects, drawn)
            pyramid = [level[:taught] for level in features.pyramid]
            box = self._detector_loss.boxes(self.model, pyramid, proposals[:taught], objects, drawn)
            terms |= {"rpn_objectness": rpn.classification, "rpn_boxes": rpn.boxes}
            terms |= {"box_classification": box.classification, "box_regression": box.boxes}
            figures["box_accuracy"] = float(box.accuracy)
        track = self._embedding_loss(self.model, features, proposals, batch, generators)
        terms |= {"track": track.contrastive, "track_auxiliary": track.auxiliary}
        figures["positives"] = float(track.positives)
        return terms, figures

    def _propose(self, output: RPNOutput, anchors: list[Tensor], batch: PairBatch) -> list[Tensor]:
        """Proposals of the key pictures by the training setting, of the reference pictures by the test setting."""
        clip, pairs = self.model.config.clip_boxes, len(batch.matches)
        proposals: list[Tensor] = []
        for rows, config in (
            (slice(0, pairs), self._train_proposals),
            (slice(pairs, None), self.model.config.proposals),
        ):
            found = self.model.rpn.propose(_part(output, rows), anchors, batch.sizes[rows], config, clip)
            proposals += [p.boxes for p in found]
        return proposals

    def training_step(self, batch: PairBatch, batch_index: int) -> Tensor:
        """Loss of one batch, logged by term: means over all processes."""
        terms, figures = self.losses(batch)
        total = torch.stack(list(terms.values())).sum()
        own = [*terms.values(), total, *(total.new_tensor(value) for value in figures.values())]
        values = mean_over_processes(torch.stack([value.detach() for value in own])).tolist()
        named = dict(zip([*terms, "loss", *figures], values, strict=True))
        # Every process sees the same figures here, so all of them stop, or none.
        if not math.isfinite(named["loss"]):
            text = ", ".join(f"{name} {named[name]:g}" for name in terms)
            raise TrainingError(f"the loss is not finite at step {self.global_step} ({text}); lower the learning rate")
        self._watch_positives(named["positives"])
        size = len(batch.matches)
        self.log_dict({f"loss/{name}": named[name] for name in terms}, batch_size=size)
        self.log("loss", named["loss"], prog_bar=True, batch_size=size)
        self.log_dict({f"train/{name}": named[name] for name in figures}, batch_size=size)
        return total

    def _watch_positives(self, positives: float) -> None:
        self._steps_without_positives = 0 if positives else self._steps_without_positives + 1
        if self._steps_without_positives >= self._config.max_steps_without_positives:
            raise TrainingError(
                f"{self._steps_without_positives} steps without two regions of one object: the embedding learns "
                "nothing. Check that instance ids go on from frame to frame, and `scope`"
            )

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Move a pair batch; validation pictures stay on the host."""
        return batch.to(device) if isinstance(batch, PairBatch) else batch

    @torch.no_grad()
    def validation_step(self, batch: ValidationPicture, batch_index: int) -> None:
        """Detect in one picture, and embed the objects that are known to be there."""
        prepared = preprocess([batch.image], self._preset.preprocess)
        features = self.model.extract_features(torch.from_numpy(prepared.images).to(self.device))
        (found,) = self.model.detect(features, prepared.image_sizes, prepared.scale_factors)
        known = [a for a in batch.annotations if a.instance_id is not None and not (a.ignore or a.crowd)]
        boxes = torch.tensor([a.box for a in known], dtype=torch.float32, device=self.device).reshape(-1, 4)
        scale = boxes.new_tensor([*prepared.scale_factors[0]] * 2)
        embeddings = self.model.embed(features, [boxes * scale]).cpu().numpy()
        ids = np.array([a.instance_id for a in known], np.int64)
        boxes_found = Found(found.boxes.cpu().numpy(), found.scores.cpu().numpy())
        self._validated.append(Validated(batch.origin, boxes_found, batch.annotations, KnownObjects(embeddings, ids)))

    def on_validation_epoch_end(self) -> None:
        """Log AP at IoU 0.5, and how often an object's nearest neighbour in the next picture is the same object."""
        assert self._config.validation is not None
        matches = []
        for place, source in enumerate(self._config.validation):
            own = [one for one in self._validated if one.origin[0] == place]
            wanted, found = [one.wanted for one in own], [one.found for one in own]
            matches.append(match_detections(wanted, found, rules=truth_rules(source)))
        sequences = [
            [one.known for one in group] for _, group in itertools.groupby(self._validated, key=lambda one: one.origin)
        ]
        self.log("validation/ap50", precision_recall(matches).average, prog_bar=True, batch_size=1, sync_dist=True)
        self.log("validation/nearest", nearest_accuracy(*sequences), prog_bar=True, batch_size=1, sync_dist=True)
        self._validated.clear()

    @property
    def labels(self) -> tuple[str, ...]:
        """Name of every class."""
        return self._preset.labels

    @property
    def pairs_per_step(self) -> int:
        """Over all processes."""
        return self._config.batch_size * max(int(self.trainer.world_size), 1)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Note what a resumed training must have, too."""
        checkpoint[PAIRS_PER_STEP] = self.pairs_per_step
        checkpoint[SETTINGS] = lasting_settings(self._config)

    def on_train_start(self) -> None:
        """Take learning rates and weight decays from the configuration, not from the checkpoint of a resumed training.

        Who goes on with a lower learning rate, as the error of a loss that is not finite asks for, means it.
        """
        optimizer: Any = self.optimizers(use_pl_optimizer=False)
        schedule: Any = self.lr_schedulers()
        wanted = build_optimizer(self.model, self._config.optimizer, self.pairs_per_step).param_groups
        schedule.base_lrs = [group["lr"] for group in wanted]
        for group, new, factor in zip(optimizer.param_groups, wanted, schedule.lr_lambdas, strict=True):
            group["initial_lr"], group["weight_decay"] = new["lr"], new["weight_decay"]
            group["lr"] = new["lr"] * factor(self.global_step)

    def configure_optimizers(self) -> Any:
        """Optimizer and per-step schedule."""
        config = self._config.optimizer
        optimizer = build_optimizer(self.model, config, self.pairs_per_step)
        total = self._config.steps
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: learning_rate_factor(step, total, config))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def lasting_settings(config: TrainingConfig) -> dict[str, str | bool | int]:
    """What a resumed training cannot change: the optimizer's state, whose weights are which, or its place in the stream
    of pairs belong to it.
    """
    optimizer = config.optimizer
    return {
        "optimizer.kind": optimizer.kind,
        "optimizer.decay_biases": optimizer.decay_biases,
        "optimizer.batch_norm": optimizer.batch_norm,
        "optimizer.ema_decay > 0": optimizer.ema_decay > 0,
        "freeze_detector": config.freeze_detector,
        "seed": config.seed,
    }


def picture_generators(seed: int, numbers: Sequence[int]) -> list[torch.Generator]:
    """Randomness of every key picture, then of every reference picture, for what the losses draw in it.

    A function of the seed and the pair's number, not of what was drawn before: a resumed training samples as an
    uninterrupted one does, and several processes as one with all their pairs.
    """
    return [
        torch.Generator().manual_seed(int(np.random.SeedSequence([seed, number, view]).generate_state(1, np.uint64)[0]))
        for view in (0, 1)
        for number in numbers
    ]


def _part(output: Any, rows: slice) -> Any:
    return type(output)([m[rows] for m in output.logits], [m[rows] for m in output.deltas])


def learning_rate_factor(step: int, total: int, config: OptimizerConfig) -> float:
    """Learning rate at a step, relative to its peak: linear warm-up, then milestones or a cosine to zero."""
    warm = min(1.0, 0.001 + 0.999 * step / config.warmup_steps) if config.warmup_steps else 1.0
    if config.milestones:
        return warm * 0.1 ** sum(step >= milestone for milestone in config.milestones)
    return warm * 0.5 * (1 + math.cos(math.pi * min(step / total, 1.0)))


def build_optimizer(model: nn.Module, config: OptimizerConfig, pairs: int) -> torch.optim.Optimizer:
    """Optimizer over the trainable parameters, for steps of so many ``pairs`` over all processes."""
    rate = config.learning_rate
    if config.reference_batch:
        rate *= pairs / config.reference_batch
    groups = []
    for backbone in (True, False):
        for decay in (True, False):
            parameters = [
                p
                for name, p in model.named_parameters()
                if p.requires_grad
                and name.startswith("backbone.") == backbone
                and (p.dim() > 1 or config.decay_biases) == decay
            ]
            groups.append(
                {
                    "params": parameters,
                    "lr": rate * (config.backbone_factor if backbone else 1.0),
                    "weight_decay": config.weight_decay if decay else 0.0,
                }
            )
    groups = [group for group in groups if group["params"]]
    if config.kind == "adamw":
        return torch.optim.AdamW(groups, lr=rate)
    return torch.optim.SGD(groups, lr=rate, momentum=config.momentum)
