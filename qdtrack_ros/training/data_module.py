"""What a training sees: the pairs to learn from, and the pictures to choose checkpoints on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader

from qdtrack_ros.data.pair_sources import SequenceSource
from qdtrack_ros.data.pairs import PairSampler
from qdtrack_ros.inference.presets import Preset
from qdtrack_ros.training.config import TrainingConfig
from qdtrack_ros.training.interruption import leave_signals_to_parent
from qdtrack_ros.training.module import L, TrainingError, ValidationPicture
from qdtrack_ros.training.sources import every, label_indices, open_pair_sources, open_sequences
from qdtrack_ros.training.stream import PairStream, loader


class PairDataModule(L.LightningDataModule):
    """The data of a training, opened and checked.

    Args:
        config: the training.
        preset: its labels.
        root: folder that the sources' paths start from.

    Raises:
        TrainingError: there is nothing to learn from.
        ConfigurationError, DataError: a source cannot be used.
    """

    def __init__(self, config: TrainingConfig, preset: Preset, root: Path) -> None:
        super().__init__()
        self._config = config
        self._sampler = pair_sampler(config, preset, root)
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
        return loader(stream, self._config.workers, torch.cuda.is_available(), leave_signals_to_parent)

    def val_dataloader(self) -> Any:
        """Validation pictures, one at a time; every process sees all of them, in their order."""
        return DataLoader(self._validation, batch_size=None, collate_fn=_as_is)  # type: ignore[arg-type]


def _as_is(picture: ValidationPicture) -> ValidationPicture:
    """Keep numpy: the default would make tensors of the picture."""
    return picture


def pair_sampler(config: TrainingConfig, preset: Preset, root: Path) -> PairSampler:
    """What draws the pairs of a training; errors as in :class:`PairDataModule`."""
    opened = [open_pair_sources(s, root, preset.labels, config.cache_frames) for s in config.sources]
    for named, group in zip(config.sources, opened, strict=True):
        videos = [source for source in group if isinstance(source, SequenceSource) and source.has_objects]
        # Pairs of a frame with itself have positives whatever the ids, so that the watch over these would not see it.
        if videos and not any(source.has_partners for source in videos):
            raise TrainingError(
                f"source {named.path}: no identity is in two frames within scope {named.scope}; do the ids go on from "
                "frame to frame? `--check` tells more; scope: 0 takes each picture as a still"
            )
    sources = [source for group in opened for source in group]
    try:
        return PairSampler(sources, config.pairs)
    except ValueError as error:
        raise TrainingError(str(error)) from error


def validation_pictures(config: TrainingConfig, preset: Preset, root: Path) -> list[ValidationPicture]:
    """Pictures and boxes of the validation sequences, thinned out; empty without any."""
    pictures = []
    for place, source in enumerate(config.validation or ()):
        label_indices(source, preset.labels)  # refuses a label that the preset has not
        for number, sequence in enumerate(open_sequences(source, root)):
            frames = every(sequence, config.validation_stride).frames
            pictures += [ValidationPicture(frame.load(), frame.annotations, (place, number)) for frame in frames]
    return pictures
