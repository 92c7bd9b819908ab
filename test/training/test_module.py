"""The training step: it teaches, it reaches every parameter, and it stops when it cannot go on."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

import qdtrack_ros.training.embedding_loss as embedding_loss
from qdtrack_ros.data.pairs import PairSampler
from qdtrack_ros.inference.preprocess import preprocess
from qdtrack_ros.inference.presets import load_preset
from qdtrack_ros.models import QDTrack
from qdtrack_ros.models.checkpoint import CheckpointError
from qdtrack_ros.training.checkpoints import checkpoint_model
from qdtrack_ros.training.config import OptimizerConfig
from qdtrack_ros.training.module import (
    QDTrackModule,
    TrainingError,
    build_optimizer,
    learning_rate_factor,
)
from qdtrack_ros.training.sources import open_pair_sources
from qdtrack_ros.training.stream import Objects, collate
from qdtrack_ros.training.train import train


def make_module(config):
    torch.manual_seed(0)
    preset = load_preset(config.preset)
    module = QDTrackModule(config, preset, QDTrack(preset.model)).train()
    module.trainer = SimpleNamespace(world_size=1, global_step=0, global_rank=0)
    module.log = module.log_dict = lambda *_, **__: None
    return module


def make_batch(config, street, pairs=2):
    preset = load_preset(config.preset)
    (sources,) = (open_pair_sources(s, street.parent, preset.labels, cache=False) for s in config.sources)
    sampler = PairSampler(sources, config.pairs)
    return collate([sampler.draw(n) for n in range(pairs)])


def without_objects(batch):
    empty = Objects(
        torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), torch.zeros(0, 4), torch.zeros(0, dtype=torch.bool)
    )
    matches = [torch.zeros(0, dtype=torch.int64)] * len(batch.matches)
    return replace(batch, objects=[empty] * len(batch.objects), matches=matches)


def test_gradients_reach_every_trainable_parameter(training, street):
    module = make_module(training())
    loss = module.training_step(make_batch(training(), street), 0)
    loss.backward()
    frozen = {name for name, p in module.model.named_parameters() if not p.requires_grad}
    assert frozen and all(
        name.startswith(("backbone.stem", "backbone.blocks.0.", "backbone.blocks.1.", "backbone.blocks.2."))
        for name in frozen
    )
    for name, parameter in module.model.named_parameters():
        if name in frozen:
            assert parameter.grad is None, name
        else:
            assert parameter.grad is not None and parameter.grad.isfinite().all(), name
            assert parameter.grad.any() or name.startswith("neck.output_convs.2"), name


def test_it_learns_a_toy_problem(training, street):
    config = training()
    module, batch = make_module(config), make_batch(config, street)
    optimizer = build_optimizer(module.model, config.optimizer, 2)
    sums = []
    for _ in range(25):
        optimizer.zero_grad()
        terms, figures = module.losses(batch)
        sum(terms.values()).backward()
        optimizer.step()
        sums.append({name: float(term.detach()) for name, term in terms.items()})
    assert figures["positives"] > 0
    assert sum(sums[-1].values()) < 0.6 * sum(sums[0].values())
    assert sums[-1]["box_classification"] < 0.6 * sums[0]["box_classification"]
    assert sums[-1]["rpn_objectness"] < 0.7 * sums[0]["rpn_objectness"]


def test_a_batch_without_objects_has_losses_and_gradients(training, street):
    module = make_module(training())
    terms, figures = module.losses(without_objects(make_batch(training(), street)))
    assert figures["positives"] == 0
    assert all(math.isfinite(float(term.detach())) for term in terms.values())
    assert terms["track"] == terms["track_auxiliary"] == terms["rpn_boxes"] == terms["box_regression"] == 0
    sum(terms.values()).backward()
    assert all(p.grad is not None for p in module.model.parameters() if p.requires_grad)


def test_padding_is_zero_after_normalisation(training, street):
    module, batch = make_module(training()), make_batch(training(), street)
    padded = module.normalise(batch.images, [(90, 100)] + batch.sizes[1:])
    whole = module.normalise(batch.images, batch.sizes)
    assert not padded[0, :, 90:].any() and not padded[0, :, :, 100:].any()
    assert torch.equal(padded[0, :, :90, :100], whole[0, :, :90, :100]) and torch.equal(padded[1:], whole[1:])


@pytest.mark.parametrize("count", [0, 1])
def test_ignore_regions_are_neither_objects_nor_background(training, street, count):
    module, batch = make_module(training()), make_batch(training(), street)
    boxes, labels = torch.tensor([[10.0, 10.0, 40.0, 70.0]])[:count], torch.zeros(count, dtype=torch.int64)
    matches = [torch.zeros(count, dtype=torch.int64) for _ in batch.matches]
    everywhere = torch.tensor([[-999.0, -999.0, 999.0, 999.0]])
    classified = []
    for ignored in (torch.zeros(0, 4), everywhere):
        objects = [Objects(boxes, labels, ignored, torch.ones(len(boxes), dtype=torch.bool)) for _ in batch.objects]
        terms, _ = module.losses(replace(batch, objects=objects, matches=matches))
        classified.append([float(terms[name].detach()) for name in ("rpn_objectness", "box_classification")])
    assert all(ordinary > 0 for ordinary in classified[0])
    if count == 0:
        assert classified[1] == [0.0, 0.0]
    else:  # only the object's own regions are left
        assert classified[1][0] != classified[0][0] and classified[1][1] != classified[0][1]


def test_the_pair_decides_the_sampling_not_what_was_drawn_before(training, street):
    module, batch = make_module(training()), make_batch(training(), street)
    first, second = (float(module.training_step(batch, 0).detach()) for _ in range(2))
    assert first == second
    assert float(module.training_step(replace(batch, numbers=[2, 3]), 1).detach()) != first


def test_a_loss_that_is_not_finite_stops_and_names_its_terms(training, street):
    module, batch = make_module(training()), make_batch(training(), street)
    with torch.no_grad():
        module.model.box_head.classifier.bias[0] = math.nan
    with pytest.raises(
        TrainingError, match=r"not finite at step 0 \(.*box_classification nan.*lower the learning rate"
    ):
        module.training_step(batch, 0)


def test_steps_without_positives_stop_in_the_end(training, street):
    config = training(max_steps_without_positives=3)
    module = make_module(config)
    good, bad = make_batch(config, street), without_objects(make_batch(config, street))
    for batch in (bad, bad, good, bad, bad):  # a good step starts the count again
        module.training_step(batch, 0)
    with pytest.raises(TrainingError, match="3 steps without two regions of one object.*instance ids"):
        module.training_step(bad, 0)


def test_input_is_normalised_as_for_inference(training, street):
    module, batch = make_module(training()), make_batch(training(), street)
    config = load_preset(str(training().preset), {"preprocess.image_scale": [0, 0]}).preprocess
    expected = torch.from_numpy(preprocess(list(batch.images.numpy()), config).images)
    torch.testing.assert_close(module.normalise(batch.images, batch.sizes), expected, atol=1e-5, rtol=0)


def test_learning_rate():
    config = OptimizerConfig(warmup_steps=10, milestones=(50, 80))
    factors = [learning_rate_factor(step, 100, config) for step in range(100)]
    assert factors[0] == pytest.approx(0.001) and factors[5] == pytest.approx(0.5, abs=0.01)
    assert factors[10:50] == [1.0] * 40
    assert factors[50] == pytest.approx(0.1) and factors[80] == pytest.approx(0.01)
    cosine = [learning_rate_factor(step, 100, OptimizerConfig(warmup_steps=0)) for step in (0, 50, 100, 120)]
    assert cosine == pytest.approx([1.0, 0.5, 0.0, 0.0])


@pytest.mark.parametrize("kind", ["sgd", "adamw"])
def test_optimizer_groups(training, kind):
    module = make_module(training())
    config = OptimizerConfig(kind, 0.02, reference_batch=16, backbone_factor=0.5, weight_decay=0.1)
    groups = build_optimizer(module.model, config, pairs=4).param_groups
    rates = {id(p): (g["lr"], g["weight_decay"]) for g in groups for p in g["params"]}
    trained = {name: p for name, p in module.model.named_parameters() if p.requires_grad}
    assert set(rates) == {id(p) for p in trained.values()}
    assert rates[id(trained["rpn.conv.weight"])] == pytest.approx((0.005, 0.1))
    assert rates[id(trained["rpn.conv.bias"])] == pytest.approx((0.005, 0.0))
    assert rates[id(trained["embedding_head.convs.0.norm.weight"])] == pytest.approx((0.005, 0.0))
    assert rates[id(trained["backbone.blocks.5.project.weight"])] == pytest.approx((0.0025, 0.1))
    groups = build_optimizer(module.model, replace(config, decay_biases=True), pairs=4).param_groups
    assert {group["weight_decay"] for group in groups} == {0.1}


def test_a_file_that_is_no_checkpoint_of_this_network(training, tmp_path):
    model = make_module(training()).model
    torch.save({"a": torch.zeros(1)}, tmp_path / "a.ckpt")
    with pytest.raises(CheckpointError, match=r"a\.ckpt is no training checkpoint"):
        checkpoint_model(tmp_path / "a.ckpt", model, averaged=False)
    torch.save({"state_dict": {"model.rpn.conv.bias": torch.zeros(1)}}, tmp_path / "b.ckpt")
    with pytest.raises(CheckpointError, match=r"b\.ckpt is of another model") as error:
        checkpoint_model(tmp_path / "b.ckpt", model, averaged=False)
    assert "  neck.lateral_convs.0.bias\n" in str(error.value)
    assert "  rpn.conv.bias is [1], expected [32]" in str(error.value)
    (tmp_path / "c.ckpt").write_bytes(b"half of a checkpoint")
    with pytest.raises(CheckpointError, match=r"c\.ckpt"):
        checkpoint_model(tmp_path / "c.ckpt", model, averaged=False)


def test_a_frozen_detector_stays_as_it_is(training, street):
    config = training(freeze_detector=True)
    module, batch = make_module(config), make_batch(config, street)
    for current in (batch, without_objects(batch)):
        module.zero_grad()
        module.training_step(current, 0).backward()
        reached = {name for name, p in module.model.named_parameters() if p.grad is not None}
        assert reached == {name for name, _ in module.model.named_parameters() if name.startswith("embedding_head.")}
    terms, _ = module.losses(batch)
    assert set(terms) == {"track", "track_auxiliary"}
    trained = {
        id(p) for group in build_optimizer(module.model, config.optimizer, 2).param_groups for p in group["params"]
    }
    assert trained == {id(p) for p in module.model.embedding_head.parameters()}


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning", "ignore:.*treespec")
def test_half_precision_keeps_losses_and_weights_in_float32(training, street, tmp_path, monkeypatch):
    compared, losses = [], QDTrackModule.losses
    dot_similarity = embedding_loss.dot_similarity

    def noted(key, reference, **settings):
        result = dot_similarity(key, reference, **settings)
        compared.append((key.dtype, result.dtype))
        return result

    def with_precision(self, batch):
        terms, figures = losses(self, batch)
        assert self.model.rpn.conv(torch.zeros(1, 32, 4, 4)).dtype == torch.bfloat16
        assert all(term.dtype == torch.float32 and term.isfinite() for term in terms.values())
        return terms, figures

    monkeypatch.setattr(embedding_loss, "dot_similarity", noted)
    monkeypatch.setattr(QDTrackModule, "losses", with_precision)
    train(training(precision="bf16-mixed", steps=2), street.parent, tmp_path / "out")
    assert set(compared) == {(torch.float32, torch.float32)}
    state = torch.load(tmp_path / "out" / "last.ckpt", weights_only=True)["state_dict"]
    assert {tensor.dtype for tensor in state.values() if tensor.is_floating_point()} == {torch.float32}
