"""Trainings under torchrun, through the command: two processes are one with twice the pairs."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from qdtrack_ros.configuration import merge
from qdtrack_ros.training.module import TrainingError
from qdtrack_ros.training.train import train

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning", "ignore:.*treespec")

ENVIRONMENT = os.environ | {"GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
# SGD without weight decay: after one step its momentum is the gradient.
PLAIN_SGD = {"optimizer": {"kind": "sgd", "weight_decay": 0.0, "clip_norm": 0.0, "learning_rate": 0.02}}


@pytest.fixture
def command(training_settings, street):
    """``command(folder, processes=2, steps=1)``: the arguments of a training and its file of settings."""

    def make(folder: Path, processes: int, *options: str, **changes: Any) -> list[str]:
        folder.mkdir(exist_ok=True)
        settings = folder / "training.yaml"
        settings.write_text(yaml.safe_dump(merge(training_settings, changes)))
        words = ["-m", "qdtrack_ros.cli.main", "train", str(settings), "--data", str(street.parent)]
        words += ["--output", str(folder), *options]
        return [*TORCHRUN, *words] if processes > 1 else [sys.executable, *words]

    return make


def run(words: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, env=ENVIRONMENT, capture_output=True, text=True, timeout=240)


def checkpoint(folder: Path, name: str = "last.ckpt") -> dict[str, Any]:
    return torch.load(folder / name, map_location="cpu", weights_only=True)


def same_weights(one: Path, other: Path, tolerance: float) -> None:
    first, second = checkpoint(one)["state_dict"], checkpoint(other)["state_dict"]
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        if tensor.is_floating_point():
            torch.testing.assert_close(tensor, second[name], atol=tolerance, rtol=tolerance, msg=name)


def test_two_processes_have_the_gradients_of_one_with_twice_the_pairs(command, training, street, tmp_path):
    # One of these pairs has three objects in its key picture, the other two. All candidates are taken in
    # the detector's losses, so that the processes divide by different counts; few in the embedding's, by chance.
    changes = PLAIN_SGD | {"steps": 1, "pairs.seed": 7, "optimizer.reference_batch": 16}
    changes |= {
        "loss.rpn_samples": 5000,
        "loss.box_samples": 400,
        "loss.key_positives": 4,
        "loss.reference_samples": 20,
    }
    for folder, processes, batch_size in (("two", 2, 1), ("one", 1, 2)):
        done = run(command(tmp_path / folder, processes, batch_size=batch_size, **changes))
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("weights: ") == 1  # one process speaks for all
    (two,), (one,) = (checkpoint(tmp_path / folder)["optimizer_states"] for folder in ("two", "one"))
    assert two["state"].keys() == one["state"].keys() and len(one["state"]) > 50
    for row, state in one["state"].items():
        gradient, other = state["momentum_buffer"], two["state"][row]["momentum_buffer"]
        assert float((gradient - other).norm()) <= 1e-5 * float(gradient.norm()), row
    for group, other in zip(one["param_groups"], two["param_groups"], strict=True):
        assert group["initial_lr"] == other["initial_lr"] == pytest.approx(0.02 * 2 / 16)
    # The same number of pairs a step in another number of processes is the same training.
    for folder in ("two", "one"):
        config = training(batch_size=2, **changes | {"steps": 2})
        train(config, street.parent, tmp_path / f"{folder}_more", resume=tmp_path / folder / "last.ckpt")
    same_weights(tmp_path / "two_more", tmp_path / "one_more", 1e-5)
    with pytest.raises(TrainingError, match=r"had 2 pairs per step and this training has 3; set batch_size so that"):
        train(training(batch_size=3), street.parent, tmp_path / "no", resume=tmp_path / "two" / "last.ckpt")


def terminate_after_a_checkpoint(words: list[str], folder: Path) -> str:
    """Run until ``last.ckpt`` is there, send SIGTERM to torchrun, which passes it on, and return standard error."""
    process = subprocess.Popen(words, env=ENVIRONMENT, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    try:
        patience = time.monotonic() + 120
        while not (folder / "last.ckpt").is_file():
            assert process.poll() is None and time.monotonic() < patience, "no checkpoint was written"
            time.sleep(0.05)
    finally:
        process.terminate()
        error = process.communicate(timeout=60)[1]
    return error


def test_a_training_that_was_stopped_equals_one_that_was_not(command, tmp_path):
    # With a worker: torchrun's SIGTERM is for the whole group of processes, and must not end the worker first.
    changes = PLAIN_SGD | {"batch_size": 1, "workers": 1, "optimizer.milestones": [10**6], "optimizer.ema_decay": 0.9}
    stopped, resumed, whole = (tmp_path / name for name in ("stopped", "resumed", "whole"))
    error = terminate_after_a_checkpoint(command(stopped, 2, **changes, steps=10**5), stopped)
    step = checkpoint(stopped)["global_step"]
    assert f"qdtrack train: error: stopped by SIGTERM after step {step}; go on with --resume {stopped}/last" in error
    for words in (
        command(resumed, 2, "--resume", str(stopped / "last.ckpt"), **changes, steps=step + 1),
        command(whole, 2, **changes, steps=step + 1),
    ):
        done = run(words)
        assert done.returncode == 0, done.stderr
    same_weights(resumed, whole, 0.0)
    assert checkpoint(whole)["global_step"] == step + 1
