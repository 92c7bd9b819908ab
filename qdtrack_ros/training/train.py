"""Run a training: from a configuration to checkpoints and the weights that ship."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader

from qdtrack_ros.data.pairs import PairSampler
from qdtrack_ros.data.types import Sequence
from qdtrack_ros.inference.presets import Preset, load_preset
from qdtrack_ros.models.backbones import EfficientNetLite0
from qdtrack_ros.models.checkpoint import (
    load_detector,
    load_efficientnet_lite0,
    load_torchvision_resnet,
    load_weights,
    save_weights,
)
from qdtrack_ros.models.embedding_head import TrunkEmbeddingHead
from qdtrack_ros.models.qdtrack import QDTrack
from qdtrack_ros.training.config import TrainingConfig
from qdtrack_ros.training.module import L, QDTrackModule, TrainingError, ValidationPicture, checkpoint_model
from qdtrack_ros.training.sources import (
    every,
    label_indices,
    open_pair_sources,
    open_sequence,
    weights_file,
)
from qdtrack_ros.training.stream import PairStream, loader

log = logging.getLogger(__name__)


class PairDataModule(L.LightningDataModule):
    """The pairs to learn from, and the pictures to choose checkpoints on.

    Args:
        config: the training.
        preset: its labels.
        root: folder that the sources' paths start from.
    """

    def __init__(self, config: TrainingConfig, preset: Preset, root: Path) -> None:
        super().__init__()
        self._config = config
        opened = [open_pair_sources(s, root, preset.labels, config.cache_frames) for s in config.sources]
        sources = [source for group in opened for source in group]
        try:
            self._sampler = PairSampler(sources, config.pairs)
        except ValueError as error:
            raise TrainingError(str(error)) from error
        self._validation = validation_pictures(config, preset, root)

    def train_dataloader(self) -> Any:
        """Pairs from the first that this training has not seen."""
        assert self.trainer is not None
        stream = PairStream(
            self._sampler,
            self._config.batch_size,
            self.trainer.global_step,
            self.trainer.global_rank,
            self.trainer.world_size,
        )
        return loader(stream, self._config.workers, pin=torch.cuda.is_available())

    def val_dataloader(self) -> Any:
        """Validation pictures, one at a time."""
        return DataLoader(self._validation, batch_size=None, collate_fn=_as_is)  # type: ignore[arg-type]


class SaveAtTheEnd(L.Callback):
    """Write a checkpoint of the very last step, whichever steps others are written at.

    Args:
        path: of the checkpoint.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def on_train_batch_end(self, trainer: Any, *_: object) -> None:
        """Save after the last step."""
        if trainer.global_step == trainer.max_steps:
            trainer.save_checkpoint(self._path)


def _as_is(picture: ValidationPicture) -> ValidationPicture:
    """Keep numpy: the default would make tensors of the picture."""
    return picture


def validation_pictures(config: TrainingConfig, preset: Preset, root: Path) -> list[ValidationPicture]:
    """Pictures and boxes of the validation sequence, thinned out; empty without one."""
    if config.validation is None:
        return []
    label_indices(config.validation, preset.labels)  # refuses a label that the preset has not
    sequence: Sequence = every(open_sequence(config.validation, root), config.validation_stride)
    return [ValidationPicture(frame.load(), frame.annotations) for frame in sequence.frames]


def build_model(config: TrainingConfig, preset: Preset, root: Path) -> QDTrack:
    """The network with the weights to start from.

    Raises:
        TrainingError: no weights are named. A training never starts from random weights unasked.
        CheckpointError: they cannot be used.
    """
    model = QDTrack(preset.model)
    others = [name for name in ("detector_weights", "backbone_weights") if getattr(config, name)]
    if config.initial_weights and others:
        raise TrainingError(f"initial_weights are of the whole network: leave out {' and '.join(others)}, or them")
    if config.initial_weights:
        load_weights(model, weights_file(config.initial_weights, root), preset.labels, initial=True)
        return model
    trunk_head = isinstance(model.embedding_head, TrunkEmbeddingHead)
    if config.detector_weights and trunk_head and not config.backbone_weights:
        raise TrainingError(
            "the embedding head starts from the backbone's blocks: name backbone_weights, too (or random)"
        )
    if config.backbone_weights or not config.detector_weights:
        _start_backbone(model, config, root)
    if config.detector_weights:
        load_detector(model, weights_file(config.detector_weights, root), preset.labels)
    return model


def _start_backbone(model: QDTrack, config: TrainingConfig, root: Path) -> None:
    if config.backbone_weights == "random":
        log.warning("the backbone starts from random weights, as the configuration asks")
    elif not config.backbone_weights:
        raise TrainingError("name backbone_weights, detector_weights or initial_weights (or backbone_weights: random)")
    elif isinstance(model.backbone, EfficientNetLite0):
        load_efficientnet_lite0(model.backbone, weights_file(config.backbone_weights, root))
        if isinstance(model.embedding_head, TrunkEmbeddingHead):
            model.embedding_head.start_from(model.backbone)
    else:
        load_torchvision_resnet(model.backbone, weights_file(config.backbone_weights, root))


def train(config: TrainingConfig, root: Path, output: Path, resume: Path | None = None) -> Path:
    """Train, and write the result as safetensors.

    Args:
        config: the training.
        root: folder that the sources' paths start from.
        output: folder for checkpoints (``last.ckpt``, ``best-*.ckpt``), TensorBoard events and ``model.safetensors``.
        resume: checkpoint to go on from: weights, optimizer, averaged weights, step and stream of pairs.

    Returns:
        Path of the weights: of the best checkpoint by validation, of the last step without a validation.

    Raises:
        TrainingError, CheckpointError, ConfigurationError, DataError: what cannot be used, before the first step; or
            training went wrong.
    """
    L.seed_everything(config.seed, verbose=False)
    preset = load_preset(config.preset)
    model = build_model(config, preset, root)
    if resume is not None:
        checkpoint_model(resume, model, averaged=False)  # refuses a file of another network, by name
    data = PairDataModule(config, preset, root)
    module = QDTrackModule(config, preset, model).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    validated, averaged, last = config.validation is not None, bool(config.optimizer.ema_decay), output / "last.ckpt"
    best = L.pytorch.callbacks.ModelCheckpoint(
        dirpath=output,
        filename="best-{step}",
        monitor=monitored(config) if validated else None,
        mode="max",
        save_last=True,
        save_top_k=3 if validated else 1,
        every_n_train_steps=None if validated else config.validate_every,
        enable_version_counter=False,
    )
    callbacks: list[Any] = [best, L.pytorch.callbacks.LearningRateMonitor("step")]
    if averaged:
        callbacks.append(L.pytorch.callbacks.EMAWeightAveraging(decay=config.optimizer.ema_decay, use_buffers=True))
    callbacks.append(SaveAtTheEnd(last))
    trainer = L.Trainer(
        max_steps=config.steps,
        max_epochs=-1,
        precision=config.precision,  # type: ignore[arg-type]
        gradient_clip_val=config.optimizer.clip_norm or None,
        callbacks=callbacks,
        logger=L.pytorch.loggers.TensorBoardLogger(str(output), name="", version="events"),
        val_check_interval=config.validate_every if validated else None,
        check_val_every_n_epoch=None,
        limit_val_batches=None if validated else 0,
        num_sanity_val_steps=0,
        log_every_n_steps=10,
        use_distributed_sampler=False,
        enable_model_summary=False,
    )
    trainer.fit(module, datamodule=data, ckpt_path=str(resume) if resume else None, weights_only=True)
    if not last.is_file():
        raise TrainingError(f"{resume} has gone through all {config.steps} steps already; raise `steps` to go on")
    chosen = Path(best.best_model_path) if validated and best.best_model_path else last
    if validated and not math.isfinite(float(best.best_model_score or math.nan)):
        log.warning(
            "%s was never a number: no object is in two validated pictures in a row; the last step's weights are taken",
            monitored(config),
        )
        chosen = last
    return export_weights(chosen, model, output / "model.safetensors", averaged)


def monitored(config: TrainingConfig) -> str:
    """What the best checkpoint is chosen by: detection, or where the detector is frozen the embedding's accuracy."""
    return "validation/nearest" if config.freeze_detector else "validation/ap50"


def export_weights(checkpoint: Path, model: QDTrack, target: Path, averaged: bool) -> Path:
    """Write the network of a training checkpoint as float16 safetensors."""
    checkpoint_model(checkpoint, model, averaged)
    save_weights(model, target)
    log.info("weights of %s written to %s", checkpoint.name, target)
    return target
