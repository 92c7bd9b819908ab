"""Checkpoints of a training: which are written, what goes on from one, and the weights that ship."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from qdtrack_ros.files import replacing
from qdtrack_ros.models.checkpoint import CheckpointError, convert_weights, read_torch_file, save_weights
from qdtrack_ros.models.conversion import FileFacts
from qdtrack_ros.models.qdtrack import QDTrack
from qdtrack_ros.models.weights_file import WeightsFile
from qdtrack_ros.training.config import TrainingConfig
from qdtrack_ros.training.module import PAIRS_PER_STEP, SETTINGS, L, TrainingError, lasting_settings

log = logging.getLogger(__name__)


class WholeFiles(L.pytorch.plugins.io.TorchCheckpointIO):  # type: ignore[name-defined]
    """Checkpoints that are there whole or not at all, whenever a training is killed.

    Lightning's own are written in the folder for temporary files first. Where that is on another disk they are copied
    from there, which a kill or a full disk cuts off in the middle, over the checkpoint that was there before.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write it beside ``path``, then give it its name; ``OSError`` when it cannot be written."""
        with replacing(Path(path)) as file:
            torch.save(checkpoint, file)


def is_validated(config: TrainingConfig, step: int) -> bool:
    """Whether a validation follows a step (counted from 1)."""
    return config.validation is not None and step % config.validate_every == 0


class TrainingCheckpoints(L.pytorch.callbacks.ModelCheckpoint):
    """The three best by validation, and the last: of every validation, or of every so many steps, and of the last step.

    Args:
        config: the training.
        folder: for ``best-step=N.ckpt`` and ``last.ckpt``.
        resume: checkpoint that the training goes on from.
    """

    def __init__(self, config: TrainingConfig, folder: Path, resume: Path | None = None) -> None:
        validated = config.validation is not None
        super().__init__(
            dirpath=folder,
            filename="best-{step}",
            monitor=monitored(config) if validated else None,
            mode="max",
            save_last=False,  # Lightning's would be that of the last validation among the best
            save_top_k=3 if validated else 0,
            enable_version_counter=False,
        )
        self._config = config
        self._resume = resume
        self.last = folder / "last.ckpt"

    def on_train_batch_end(self, trainer: Any, *rest: Any) -> None:
        """Save where no validation will; after the last step, too."""
        super().on_train_batch_end(trainer, *rest)
        step, config = trainer.global_step, self._config
        is_due = step == trainer.max_steps or (config.validation is None and step % config.validate_every == 0)
        # Before a validation it would be a checkpoint that never has its figure, should a kill come in between.
        if is_due and not is_validated(config, step):
            trainer.save_checkpoint(self.last)

    def on_validation_end(self, trainer: Any, module: Any) -> None:
        """Save, whether this is one of the best or not."""
        super().on_validation_end(trainer, module)
        trainer.save_checkpoint(self.last)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over the best so far that are still there: where they were written, or beside the one gone on from.

        Lightning forgets them where a resumed training has another folder, and would ship one deleted since.
        """
        models: dict[str, Tensor] = {}
        for path, score in state_dict["best_k_models"].items():
            places = [Path(path), *([self._resume.with_name(Path(path).name).resolve()] if self._resume else [])]
            models |= {str(place): score for place in [p for p in places if p.is_file()][:1]}
        best, worst = (pick(models, key=lambda path: models[path], default="") for pick in (max, min))
        state: dict[str, Any] = {"dirpath": self.dirpath, "best_k_models": models}
        state |= {"best_model_path": best, "best_model_score": models.get(best)}
        state |= {"kth_best_model_path": worst, "kth_value": models.get(worst, state_dict["kth_value"])}
        super().load_state_dict(state_dict | state)

    def chosen(self) -> Path:
        """The checkpoint that ships: the best by validation, else the last."""
        if self.monitor is None or not self.best_model_path:
            return self.last
        if not math.isfinite(float(self.best_model_score if self.best_model_score is not None else math.nan)):
            log.warning(
                "%s was never a number: no object is in two validated pictures in a row; "
                "the last step's weights are taken",
                self.monitor,
            )
            return self.last
        return Path(self.best_model_path)


def monitored(config: TrainingConfig) -> str:
    """What the best checkpoint is chosen by: detection, or where the detector is frozen the embedding's accuracy."""
    return "validation/nearest" if config.freeze_detector else "validation/ap50"


def check_resumable(path: Path, model: QDTrack, config: TrainingConfig, pairs: int) -> None:
    """Refuse what this training cannot go on from.

    Args:
        path: of the checkpoint.
        model: this training's network.
        config: this training.
        pairs: its pairs per step, over all processes.

    Raises:
        CheckpointError: the file cannot be read, or is no checkpoint of this network.
        TrainingError: it was written with another number of pairs a step, to which its learning rate and its place in
            the stream of pairs belong; or with settings that its optimizer's state belongs to.
    """
    content = checkpoint_model(path, model, averaged=False)
    before = content.get(PAIRS_PER_STEP, pairs)
    if before != pairs:
        raise TrainingError(
            f"{path} had {before} pairs per step and this training has {pairs}; "
            f"set batch_size so that batch_size x processes is {before}"
        )
    own = lasting_settings(config)
    changed = [f"{name}: {old}" for name, old in content.get(SETTINGS, own).items() if old != own.get(name)]
    if changed:
        raise TrainingError(f"{path} is of a training with {', '.join(changed)}, and can only go on so")


def checkpoint_model(path: Path, model: QDTrack, averaged: bool) -> dict[str, Any]:
    """Load the network of a training checkpoint: its averaged weights where it has them and ``averaged`` is set.

    Returns:
        All that the checkpoint holds.

    Raises:
        CheckpointError: the file cannot be read or is no checkpoint of this network; it lists the keys that do not fit.
    """
    content = read_torch_file(path)
    state = content.get("state_dict") if isinstance(content, dict) else None
    if not isinstance(content, dict) or not isinstance(state, dict):
        raise CheckpointError(f"{path} is no training checkpoint; expected one that `qdtrack train` wrote")
    if not averaged and isinstance(content.get("current_model_state"), dict):
        state = content["current_model_state"]
    own = {k.removeprefix("model."): v for k, v in state.items() if k.startswith("model.") and isinstance(v, Tensor)}
    model.load_state_dict(convert_weights(WeightsFile(path, own, FileFacts()), model).tensors)
    return content


def export_weights(checkpoint: Path, model: QDTrack, target: Path, averaged: bool) -> None:
    """Write the network of a training checkpoint as float16 safetensors."""
    checkpoint_model(checkpoint, model, averaged)
    save_weights(model, target)
    log.info("weights of %s written to %s", checkpoint.name, target)
