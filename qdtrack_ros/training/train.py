"""Run a training: from a configuration to checkpoints and the weights that ship."""

from __future__ import annotations

import contextlib
import signal
from pathlib import Path
from typing import Any

import torch

from qdtrack_ros.inference.presets import load_preset
from qdtrack_ros.training.checkpoints import TrainingCheckpoints, WholeFiles, check_resumable, export_weights
from qdtrack_ros.training.config import TrainingConfig
from qdtrack_ros.training.data_module import PairDataModule
from qdtrack_ros.training.interruption import StopOnSignal, StopRequestedError, signals_given_back
from qdtrack_ros.training.module import L, QDTrackModule, TrainingError
from qdtrack_ros.training.pictures import PairPictures
from qdtrack_ros.training.processes import launch
from qdtrack_ros.training.starting_weights import build_model


def train(config: TrainingConfig, root: Path, output: Path, resume: Path | None = None) -> Path:
    """Train, and write the result as safetensors. Under torchrun, every process calls this.

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
        KeyboardInterrupt: it was interrupted, and ``last.ckpt`` is written.
    """
    L.seed_everything(config.seed, verbose=False)
    preset = load_preset(config.preset)
    config = config.with_labels(preset.labels)
    model = build_model(config, preset, root)
    processes = launch()
    if resume is not None:
        check_resumable(resume, model, config, config.batch_size * processes.processes * processes.machines)
    data = PairDataModule(config, preset, root)
    module = QDTrackModule(config, preset, model).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    checkpoints = TrainingCheckpoints(config, output, resume)
    trainer = build_trainer(config, output, checkpoints)
    try:
        with signals_given_back():
            trainer.fit(module, datamodule=data, ckpt_path=str(resume) if resume else None, weights_only=True)
    except StopRequestedError as stop:
        if stop.signal is signal.SIGINT:
            raise KeyboardInterrupt(str(stop)) from stop
        raise
    if not checkpoints.last.is_file():
        raise TrainingError(f"{resume} has gone through all {config.steps} steps already; raise `steps` to go on")
    weights = output / "model.safetensors"
    if trainer.is_global_zero:
        export_weights(checkpoints.chosen(), model, weights, averaged=bool(config.optimizer.ema_decay))
    return weights


class ProgressBar(L.pytorch.callbacks.TQDMProgressBar):
    """Lightning's, closed when a training ends by an error: an open one is drawn once more below the message."""

    def on_exception(self, *_: Any) -> None:
        """Close the bar, if the training has come so far."""
        with contextlib.suppress(TypeError):  # what Lightning raises where there is none yet
            self.train_progress_bar.close()


def build_trainer(config: TrainingConfig, output: Path, checkpoints: TrainingCheckpoints) -> Any:
    """Lightning's trainer: one process alone, or one of those that torchrun started."""
    validated, (processes, machines, _) = config.validation is not None, launch()
    callbacks: list[Any] = [checkpoints, L.pytorch.callbacks.LearningRateMonitor("step")]
    if config.optimizer.ema_decay:
        callbacks.append(L.pytorch.callbacks.EMAWeightAveraging(decay=config.optimizer.ema_decay, use_buffers=True))
    if config.pictures_every:
        callbacks.append(PairPictures(config.pictures_every))
    callbacks += [StopOnSignal(config, checkpoints.last), ProgressBar()]
    return L.Trainer(
        devices=processes,
        num_nodes=machines,
        strategy="ddp" if processes * machines > 1 else "auto",
        max_steps=config.steps,
        max_epochs=-1,
        precision=config.precision,  # type: ignore[arg-type]
        deterministic=config.deterministic,
        gradient_clip_val=config.optimizer.clip_norm or None,
        callbacks=callbacks,
        plugins=[WholeFiles()],
        logger=L.pytorch.loggers.TensorBoardLogger(str(output), name="", version="events"),
        val_check_interval=config.validate_every if validated else None,
        check_val_every_n_epoch=None,
        limit_val_batches=None if validated else 0,
        num_sanity_val_steps=0,
        log_every_n_steps=min(10, config.steps),
        use_distributed_sampler=False,
        enable_model_summary=False,
    )
