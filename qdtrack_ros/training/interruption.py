"""A training that is asked to stop, by Ctrl-C or by a cluster's SIGTERM, saves where it is."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from qdtrack_ros.training.checkpoints import is_validated
from qdtrack_ros.training.config import TrainingConfig
from qdtrack_ros.training.module import L, TrainingError
from qdtrack_ros.training.processes import mean_over_processes

SIGNALS = (signal.SIGINT, signal.SIGTERM)


def leave_signals_to_parent(_: int) -> None:
    """Start of a process that prepares pairs: what Ctrl-C and SIGTERM mean is for the training to say.

    A terminal, torchrun and a cluster signal all processes of a training. One that ended by it would end the training
    by an error, before the checkpoint is written. Lightning ends these processes when the training ends, however it
    does; after a kill they see by themselves that they are alone.
    """
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


@contextlib.contextmanager
def signals_given_back() -> Iterator[None]:
    """Leave the handlers of signals, at the end, as they were: a caller that Lightning's stay with ignores SIGTERM.

    Lightning puts back what it found before it tells its callbacks that all is over.
    """
    before = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in before.items():
                signal.signal(number, handler)


class StopRequestedError(TrainingError):
    """The training was asked to stop, and can go on from the checkpoint that the message names."""

    def __init__(self, number: int, step: int, checkpoint: Path) -> None:
        self.signal = signal.Signals(number)
        super().__init__(f"stopped by {self.signal.name} after step {step}; go on with --resume {checkpoint}")


class StopOnSignal(L.pytorch.callbacks.Checkpoint):
    """Ends the training after the step in which any of its processes was asked to stop, and the validation it is due.

    A resumed training does not make up for a validation that was left out, and could choose other weights in the end.

    A second signal of the kind ends the process at once. Lightning's own handler would talk to the other processes in
    the middle of whatever they are doing.

    Lightning calls this class of callbacks last, in the order they are named: name it after the other checkpoints.

    Args:
        config: the training.
        checkpoint: what is written before the end.
    """

    def __init__(self, config: TrainingConfig, checkpoint: Path) -> None:
        self._config = config
        self._checkpoint = checkpoint
        self._asked = 0

    def on_train_start(self, trainer: Any, module: Any) -> None:
        """Listen, after Lightning has installed its own handlers."""
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                signal.signal(number, self._ask)

    def _ask(self, number: int, _: object) -> None:
        self._asked = number
        signal.signal(number, signal.SIG_DFL)

    def on_train_batch_end(self, trainer: Any, module: Any, *_: object) -> None:
        """Stop, unless a validation follows.

        Raises:
            StopRequestedError: one of the processes was asked to stop.
        """
        if not is_validated(self._config, trainer.global_step):
            self._stop_if_asked(trainer, module)

    def on_validation_end(self, trainer: Any, module: Any) -> None:
        """Stop; errors as above."""
        self._stop_if_asked(trainer, module)

    def _stop_if_asked(self, trainer: Any, module: Any) -> None:
        """Agree with the other processes, all of which come here after the same step, and stop."""
        wishes = torch.tensor([float(self._asked == number) for number in SIGNALS], device=module.device)
        asked = mean_over_processes(wishes).tolist()
        if any(asked):
            trainer.save_checkpoint(self._checkpoint)
            raise StopRequestedError(SIGNALS[asked.index(max(asked))], trainer.global_step, self._checkpoint)
