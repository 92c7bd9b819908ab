"""Whole trainings of a few steps: what they write, how they go on, and what they refuse."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import tempfile
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tqdm import tqdm

from qdtrack_ros.configuration import ConfigurationError
from qdtrack_ros.data.types import DataError
from qdtrack_ros.inference.engine import create_engine
from qdtrack_ros.inference.presets import load_preset
from qdtrack_ros.models import QDTrack
from qdtrack_ros.models.checkpoint import CheckpointError, save_weights
from qdtrack_ros.training.interruption import SIGNALS
from qdtrack_ros.training.module import QDTrackModule, TrainingError
from qdtrack_ros.training.train import train

# Lightning and PyTorch warn of folders that exist and of more workers than cores.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning", "ignore:.*treespec")


@pytest.fixture(autouse=True)
def handlers_as_before():
    """Whoever calls `train` can be ended as before, however it went."""
    before = [signal.getsignal(number) for number in SIGNALS]
    yield
    assert [signal.getsignal(number) for number in SIGNALS] == before


def network(path):
    """Network's tensors of a Lightning checkpoint, without their prefix."""
    state = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
    return {name.removeprefix("model."): tensor for name, tensor in state.items() if name.startswith("model.")}


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_a_resumed_training_equals_one_in_a_single_run(training, street, tmp_path, ema):
    config = training(validated=True, **{"optimizer.ema_decay": ema})
    whole = train(config, street.parent, tmp_path / "whole")
    halfway = tmp_path / "whole" / "best-step=2.ckpt"
    train(config, street.parent, tmp_path / "resumed", resume=halfway)
    first, half = network(tmp_path / "whole" / "last.ckpt"), network(halfway)
    second = network(tmp_path / "resumed" / "last.ckpt")
    assert first.keys() == second.keys()
    different = [name for name in first if not torch.equal(first[name], second[name])]
    assert not different
    assert any(not torch.equal(first[name], half[name]) for name in first)
    assert whole == tmp_path / "whole" / "model.safetensors"


@pytest.mark.parametrize("validated", [True, False])
def test_the_weights_it_writes_run(training, street, tmp_path, validated):
    config = training(validated=validated, steps=3)
    path = train(config, street.parent, tmp_path / "out")
    written = load_file(path)
    assert {t.dtype for t in written.values()} == {torch.float16}
    last = network(tmp_path / "out" / "last.ckpt")
    assert torch.load(tmp_path / "out" / "last.ckpt", weights_only=True)["global_step"] == 3
    if not validated:  # without a validation the last step ships
        assert all(torch.equal(written[name], last[name].half()) for name in written)
    engine = create_engine(load_preset(config.preset), path, "cpu")
    assert np.isfinite(engine.detect([np.zeros((128, 192, 3), np.uint8)]).detections[0].scores).all()
    assert list((tmp_path / "out" / "events").glob("events.out.tfevents*"))


def test_several_sequences_are_validated_together(training, street, tmp_path):
    shutil.copytree(street, street.parent / "again")
    source = {"format": "mot", "path": "street", "labels": {"pedestrian": "person"}}
    figures = []
    for number, validation in enumerate((source, [source, {**source, "path": "again"}])):
        train(training(validation=validation, validation_stride=2, steps=2), street.parent, tmp_path / str(number))
        scores = torch.load(tmp_path / str(number) / "last.ckpt", weights_only=True)["callbacks"]
        figures.append([value["best_model_score"] for key, value in scores.items() if "ModelCheckpoint" in key][:1])
    assert figures[0] == figures[1]  # the same pictures twice have the same figures


def test_averaged_weights_ship_where_they_are_kept(training, street, tmp_path):
    config = training(steps=2, **{"optimizer.ema_decay": 0.5})
    written = load_file(train(config, street.parent, tmp_path / "out"))
    content = torch.load(tmp_path / "out" / "last.ckpt", map_location="cpu", weights_only=True)
    averaged, current = content["state_dict"], content["current_model_state"]
    name = "rpn.conv.weight"
    assert not torch.equal(averaged[f"model.{name}"], current[f"model.{name}"])
    assert torch.equal(written[name], averaged[f"model.{name}"].half())


def test_workers_and_caching_change_nothing(training, street, tmp_path):
    results = [
        train(training(steps=2, workers=workers, cache_frames=cache), street.parent, tmp_path / f"{workers}{cache}")
        for workers, cache in ((0, False), (2, True))
    ]
    first, second = (load_file(path) for path in results)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_fine_tuning_starts_from_the_weights_named(training, street, tmp_path):
    torch.manual_seed(5)
    start = QDTrack(load_preset(training().preset).model)
    save_weights(start, tmp_path / "start.safetensors", half=False)
    config = training(
        steps=1, backbone_weights="", initial_weights="start.safetensors", **{"optimizer.learning_rate": 1e-9}
    )
    written = load_file(train(config, tmp_path, tmp_path / "out"))
    for name, tensor in start.state_dict().items():
        torch.testing.assert_close(written[name].float(), tensor, atol=1e-3, rtol=1e-3)


def trunk_preset(tiny_preset):
    """The tiny preset with an embedding head that goes on from the backbone."""
    text = tiny_preset.read_text().replace("embedding_convs: 1", "embedding_from: trunk\n  embedding_roi_size: [16, 8]")
    path = tiny_preset.with_name("trunk.yaml")
    path.write_text(text)
    return str(path)


def test_an_embedding_head_of_its_own_on_the_detector_of_another_training(training, tiny_preset, street, tmp_path):
    torch.manual_seed(5)
    detector = QDTrack(load_preset(training().preset).model)
    save_weights(detector, tmp_path / "detector.safetensors", half=False)
    config = training(
        steps=2,
        preset=trunk_preset(tiny_preset),
        detector_weights="detector.safetensors",
        freeze_detector=True,
        validated=True,
    )
    written = load_file(train(config, tmp_path, tmp_path / "out"))
    for name, tensor in detector.state_dict().items():
        if not name.startswith("embedding_head."):
            torch.testing.assert_close(written[name].float(), tensor, atol=1e-3, rtol=1e-3)
    last = network(tmp_path / "out" / "last.ckpt")
    assert any(name.startswith("embedding_head.blocks.7.") for name in last)
    scores = [
        key for key in torch.load(tmp_path / "out" / "last.ckpt", weights_only=True)["callbacks"] if "nearest" in key
    ]
    assert scores, "the embedding's accuracy chooses the checkpoint where the detector is frozen"


def test_a_head_that_starts_from_the_backbone_needs_its_weights(training, tiny_preset, street, tmp_path):
    preset = trunk_preset(tiny_preset)
    save_weights(QDTrack(load_preset(preset).model), tmp_path / "detector.safetensors")
    config = training(preset=preset, detector_weights="detector.safetensors", backbone_weights="")
    with pytest.raises(TrainingError, match="name backbone_weights, too"):
        train(config, tmp_path, tmp_path / "out")


def test_a_detector_that_is_none_is_refused(training, street, tmp_path):
    preset = load_preset(training().preset)
    model = QDTrack(preset.model)
    foreign = {f"backbone.{k}": v for k, v in model.backbone.state_dict().items()} | {
        "roi_head.a.weight": torch.ones(1)
    }
    torch.save(foreign, tmp_path / "foreign.pth")
    save_weights(model, tmp_path / "start.safetensors", {"untrained": "box_head,embedding_head,neck,rpn"})
    headless = {name: t for name, t in model.state_dict().items() if not name.startswith(("neck.", "embedding_head."))}
    torch.save(headless, tmp_path / "headless.pth")
    for name, words in (
        ("foreign.pth", "is not of our own layout; make it so with `qdtrack convert"),
        ("start.safetensors", "has no trained detector, untrained are its box_head, neck and rpn"),
        ("headless.pth", r"missing:\n  neck\."),
    ):
        with pytest.raises(CheckpointError, match=words):
            train(training(detector_weights=name, freeze_detector=True), tmp_path, tmp_path / "out")
    save_weights(model, tmp_path / "good.safetensors", {"untrained": "embedding_head"})
    assert train(
        training(detector_weights="good.safetensors", freeze_detector=True, steps=1), tmp_path, tmp_path / "out"
    )


def test_a_validation_that_is_never_a_number_ships_the_last_step(training, street, tmp_path, caplog):
    source = {"format": "mot", "path": "street", "labels": {"pedestrian": "person"}}
    config = training(freeze_detector=True, validation=source, validation_stride=100, steps=4)  # one picture
    path = train(config, street.parent, tmp_path / "out")
    last = network(tmp_path / "out" / "last.ckpt")
    assert all(torch.equal(tensor, last[name].half()) for name, tensor in load_file(path).items())
    assert "validation/nearest was never a number" in caplog.text


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"validation": {"format": "crops", "path": "street"}}, ConfigurationError, "no frames to validate on"),
        ({"initial_weights": "a.safetensors"}, TrainingError, "leave out backbone_weights, or them"),
        ({"backbone_weights": ""}, TrainingError, "name backbone_weights, detector_weights or initial_weights"),
        ({"backbone_weights": "none.pth"}, CheckpointError, r"none\.pth does not exist"),
        ({"backbone_weights": "no_such_package:a.pth"}, ConfigurationError, "pip install no-such-package"),
        (
            {"backbone_weights": "yaml:a.pth"},
            ConfigurationError,
            r"yaml:a\.pth: the installed package has no file a\.pth",
        ),
        (
            {"initial_weights": "none.safetensors", "backbone_weights": ""},
            CheckpointError,
            r"none\.safetensors does not exist",
        ),
        ({"preset": "none"}, ConfigurationError, "no preset 'none'"),
        ({"sources": []}, TrainingError, "no source at all"),
        ({"sources": [{"format": "mot", "path": "nowhere"}]}, DataError, "nowhere"),
        (
            {"sources": [{"format": "mot", "path": "street", "labels": {"pedestrian": "dog"}}]},
            ConfigurationError,
            "maps 'pedestrian' to 'dog'; expected one of person, car, ignore",
        ),
        (
            {"sources": [{"format": "crops", "path": "street", "labels": {"pedestrian": "person"}}]},
            ConfigurationError,
            r"crops have one label: \{object: NAME\}",
        ),
        (
            {"sources": [{"format": "mot", "path": "street", "labels": {"cyclist": "person"}}]},
            TrainingError,
            "no object to learn from in street",
        ),
    ],
)
def test_what_cannot_be_trained_is_an_error_before_the_first_step(training, street, tmp_path, changes, error, message):
    with pytest.raises(error, match=message):
        train(training(**changes), street.parent, tmp_path / "out")
    assert not (tmp_path / "out" / "model.safetensors").exists()


def test_ids_that_do_not_go_on_are_an_error_though_a_frame_may_be_its_own_reference(training, street, tmp_path):
    truth = street / "gt" / "gt.txt"
    rows = [row.split(",") for row in truth.read_text().splitlines()]
    truth.write_text("\n".join(",".join([row[0], str(n), *row[2:]]) for n, row in enumerate(rows)))
    with pytest.raises(TrainingError, match="source street: no identity is in two frames within scope 2"):
        train(training(), street.parent, tmp_path / "out")
    source = {"format": "mot", "path": "street", "labels": {"pedestrian": "person"}, "scope": 0}
    train(training(steps=1, sources=[source]), street.parent, tmp_path / "out")


def test_fewer_steps_than_one_validation_ship_the_last(training, street, tmp_path):
    path = train(training(validated=True, steps=1), street.parent, tmp_path / "out")
    last = network(tmp_path / "out" / "last.ckpt")
    assert all(torch.equal(tensor, last[name].half()) for name, tensor in load_file(path).items())


def test_a_folder_can_be_used_again(training, street, tmp_path):
    for steps in (2, 4):
        train(training(validated=True, steps=steps), street.parent, tmp_path / "out")
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["best-step=2.ckpt", "best-step=4.ckpt", "events", "last.ckpt", "model.safetensors"]
    assert torch.load(tmp_path / "out" / "last.ckpt", weights_only=True)["global_step"] == 4


@pytest.mark.parametrize(("number", "error"), [(signal.SIGTERM, TrainingError), (signal.SIGINT, KeyboardInterrupt)])
def test_a_signal_ends_the_training_after_its_step(training, street, tmp_path, monkeypatch, number, error):
    losses = QDTrackModule.losses

    def signalled(self, batch):
        if batch.numbers[0] == 2:  # in the second step
            os.kill(os.getpid(), number)
        return losses(self, batch)

    bars = set(tqdm._instances)
    monkeypatch.setattr(QDTrackModule, "losses", signalled)
    with pytest.raises(error, match=rf"stopped by {number.name} after step 2; go on with --resume .*last\.ckpt"):
        train(training(steps=4), street.parent, tmp_path / "out")
    assert not set(tqdm._instances) - bars, "an open progress bar would be drawn again below the message"
    monkeypatch.undo()
    train(training(steps=4), street.parent, tmp_path / "resumed", resume=tmp_path / "out" / "last.ckpt")
    train(training(steps=4), street.parent, tmp_path / "whole")
    first, second = (network(tmp_path / name / "last.ckpt") for name in ("resumed", "whole"))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_signal_before_a_validation_waits_for_it(training, street, tmp_path, monkeypatch):
    losses = QDTrackModule.losses

    def signalled(self, batch):
        if batch.numbers[0] == 2:  # in the second step, after which a validation is due
            os.kill(os.getpid(), signal.SIGTERM)
        return losses(self, batch)

    config = training(validated=True)
    train(config, street.parent, tmp_path / "whole")
    monkeypatch.setattr(QDTrackModule, "losses", signalled)
    with pytest.raises(TrainingError, match="stopped by SIGTERM after step 2"):
        train(config, street.parent, tmp_path / "out")
    monkeypatch.undo()
    assert_goes_on_to_the_same(config, street, tmp_path)
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == (
        tmp_path / "whole" / "model.safetensors"
    ).read_bytes()


def assert_goes_on_to_the_same(config, street, tmp_path):
    """The interrupted training in ``out``, gone on with, has the best checkpoints of the ``whole`` one."""
    train(config, street.parent, tmp_path / "out", resume=tmp_path / "out" / "last.ckpt")
    assert best(tmp_path / "out") == best(tmp_path / "whole")


def best(folder):
    """Names of the best checkpoints with their figures, as ``last.ckpt`` notes them."""
    states = torch.load(folder / "last.ckpt", weights_only=True)["callbacks"]
    (models,) = [state["best_k_models"] for state in states.values() if "best_k_models" in state]
    return {path.rpartition("/")[2]: float(score) for path, score in models.items()}


def test_a_killed_training_goes_on_from_its_last_validation_and_not_from_one_of_the_best(
    training, street, tmp_path, monkeypatch
):
    losses, figures = QDTrackModule.losses, iter([0.9, 0.8, 0.7, 0.1])

    def killed(self, batch):
        if batch.numbers[0] == 16:
            raise RuntimeError("the machine fails in the ninth step")
        return losses(self, batch)

    monkeypatch.setattr(QDTrackModule, "losses", killed)
    monkeypatch.setattr(
        "qdtrack_ros.training.module.precision_recall", lambda _: SimpleNamespace(average=next(figures))
    )
    with pytest.raises(RuntimeError, match="ninth step"):
        train(training(validated=True, steps=20), street.parent, tmp_path / "out")
    assert torch.load(tmp_path / "out" / "last.ckpt", weights_only=True)["global_step"] == 8
    assert sorted(best(tmp_path / "out")) == ["best-step=2.ckpt", "best-step=4.ckpt", "best-step=6.ckpt"]


@pytest.mark.parametrize("moved", [False, True])
def test_a_training_that_goes_on_in_another_folder_ships_the_best_of_before(
    training, street, tmp_path, monkeypatch, moved
):
    figures = iter([0.9, 0.8, 0.7])
    monkeypatch.setattr(
        "qdtrack_ros.training.module.precision_recall", lambda _: SimpleNamespace(average=next(figures))
    )
    whole = train(training(validated=True, steps=4), street.parent, tmp_path / "out").read_bytes()
    out, resumed = tmp_path / "out", tmp_path / "resumed"
    if moved:
        resumed = out = out.rename(tmp_path / "moved")
    config = training(validated=True, steps=6)
    assert train(config, street.parent, resumed, resume=out / "best-step=4.ckpt").read_bytes() == whole
    assert len(best(resumed)) == 3
    (out / "best-step=2.ckpt").unlink()
    figures = iter([0.6])
    train(config, street.parent, tmp_path / "third", resume=out / "best-step=4.ckpt")
    assert sorted(best(tmp_path / "third")) == ["best-step=4.ckpt", "best-step=6.ckpt"]


def test_a_kill_while_the_last_step_is_validated_leaves_that_to_be_done_again(training, street, tmp_path, monkeypatch):
    config = training(validated=True)
    train(config, street.parent, tmp_path / "whole")
    validation_step = QDTrackModule.validation_step

    def killed(self, batch, batch_index):
        if self.global_step == 4:
            raise RuntimeError("killed")
        return validation_step(self, batch, batch_index)

    monkeypatch.setattr(QDTrackModule, "validation_step", killed)
    with pytest.raises(RuntimeError, match="killed"):
        train(config, street.parent, tmp_path / "out")
    monkeypatch.undo()
    assert_goes_on_to_the_same(config, street, tmp_path)


def test_a_checkpoint_is_written_where_it_stays_and_never_half(training, street, tmp_path, monkeypatch):
    # Lightning's way is through the folder for temporary files, which may be small, and is on another disk.
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    train(training(steps=1), street.parent, tmp_path / "out")
    before = (tmp_path / "out" / "last.ckpt").read_bytes()

    def full(checkpoint, file):
        file.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match=r"No space left on device: .*last\.ckpt"):
        train(training(steps=1), street.parent, tmp_path / "out")
    assert (tmp_path / "out" / "last.ckpt").read_bytes() == before
    assert not list((tmp_path / "out").glob("*.part")) and not list((tmp_path / "out").glob(".*"))


def test_a_resumed_training_takes_a_new_learning_rate_and_no_other_optimizer(training, street, tmp_path):
    train(training(steps=2), street.parent, tmp_path / "out")
    last = tmp_path / "out" / "last.ckpt"
    train(
        training(steps=4, **{"optimizer.learning_rate": 2e-3, "optimizer.weight_decay": 0.5}),
        street.parent,
        tmp_path / "higher",
        resume=last,
    )
    first, second = (
        torch.load(tmp_path / name / "last.ckpt", weights_only=True)["optimizer_states"][0]["param_groups"]
        for name in ("out", "higher")
    )
    assert [group["initial_lr"] for group in second] == [2 * group["initial_lr"] for group in first]
    assert {group["weight_decay"] for group in second} == {0.0, 0.5}
    for change, named in (
        ({"optimizer.kind": "sgd"}, "optimizer.kind: adamw"),
        ({"freeze_detector": True}, "freeze_detector: False"),
        ({"optimizer.ema_decay": 0.9}, "optimizer.ema_decay > 0: False"),
        ({"seed": 1}, "seed: 0"),
    ):
        with pytest.raises(TrainingError, match=rf"last\.ckpt is of a training with {named}, and can only go on so"):
            train(training(steps=4, **change), street.parent, tmp_path / "other", resume=last)


def test_what_cannot_be_resumed_is_an_error_that_names_the_file(training, street, tmp_path):
    train(training(steps=2), street.parent, tmp_path / "out")
    last = tmp_path / "out" / "last.ckpt"
    with pytest.raises(TrainingError, match=r"last\.ckpt has gone through all 2 steps already; raise `steps`"):
        train(training(steps=2), street.parent, tmp_path / "again", resume=last)
    wider = (street.parent / "tiny.yaml").read_text().replace("fpn_channels: 32", "fpn_channels: 64")
    (street.parent / "wider.yaml").write_text(wider)
    other = training(steps=4, preset=str(street.parent / "wider.yaml"))
    with pytest.raises(CheckpointError, match=r"last\.ckpt is of another model"):
        train(other, street.parent, tmp_path / "other", resume=last)
    last.write_bytes(last.read_bytes()[:5000])
    with pytest.raises(CheckpointError, match=r"last\.ckpt is damaged"):
        train(training(steps=4), street.parent, tmp_path / "other", resume=last)
