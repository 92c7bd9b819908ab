"""Official checkpoints, old and new layout: every key finds its place, and those that do not are named."""

from __future__ import annotations

import hashlib
import re

import numpy as np
import pytest
import torch

from qdtrack_ros.models import ModelConfig, QDTrack
from qdtrack_ros.models.checkpoint import CheckpointError, load_weights
from qdtrack_ros.models.conversion import (
    SYSCV_NEW,
    SYSCV_OLD,
    ConversionError,
    convert_syscv,
    foreign_name,
    recognise_layout,
)


@pytest.fixture(scope="module")
def states(reference_state, new_names):
    return {SYSCV_OLD: reference_state, SYSCV_NEW: {new_names[k]: v for k, v in reference_state.items()}}


@pytest.fixture(scope="module")
def expected():
    with torch.device("meta"):
        return QDTrack(ModelConfig()).state_dict()


def test_the_random_checkpoint_is_the_reference_s(states):
    digest = hashlib.sha256()
    for name, tensor in sorted(states[SYSCV_NEW].items()):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(tensor.numpy()).tobytes())
    assert digest.hexdigest() == "15a8d351b1717370f1e5fa1e57e93be6a09329ce5a9475fd6569e6907ac90a81"


@pytest.mark.parametrize("layout", [SYSCV_OLD, SYSCV_NEW])
def test_every_key_finds_its_place(states, expected, layout):
    state = states[layout]
    assert recognise_layout(state) == layout
    converted = convert_syscv(state, expected, layout)
    assert list(converted) == list(expected)
    assert {name: t.shape for name, t in converted.items()} == {name: t.shape for name, t in expected.items()}
    assert sorted(t.data_ptr() for t in converted.values()) == sorted(t.data_ptr() for t in state.values())
    samples = {
        "backbone.layer3.5.bn2.running_var": "backbone.layer3.5.bn2.running_var",
        "neck.output_convs.2.bias": "neck.fpn_convs.2.conv.bias",
        "rpn.objectness.weight": "rpn_head.rpn_cls.weight",
        "rpn.deltas.weight": "rpn_head.rpn_reg.weight",
        "box_head.fcs.0.weight": "roi_head.bbox_head.shared_fcs.0.weight",
        "embedding_head.fcs.0.weight": "roi_head.track_head.fcs.0.weight",
        "embedding_head.convs.3.norm.weight": "roi_head.track_head.convs.3.gn.weight",
    }
    for own, old in samples.items():
        assert converted[own].data_ptr() == states[SYSCV_OLD][old].data_ptr()


def test_both_layouts_give_the_same_network(states, expected):
    old, new = (convert_syscv(state, expected, layout) for layout, state in states.items())
    assert all(torch.equal(old[name], new[name]) for name in expected)


@pytest.mark.parametrize("layout", [SYSCV_OLD, SYSCV_NEW])
def test_left_over_and_missing_keys_are_listed_together(states, expected, layout):
    state = dict(states[layout])
    gone = foreign_name("rpn.conv.weight", layout)
    del state[gone]
    state["roi_head.mask_head.conv.weight"] = torch.zeros(1)
    with pytest.raises(ConversionError) as error:
        convert_syscv(state, expected, layout)
    message = str(error.value)
    assert layout in message
    assert f"1 missing: {gone}" in message and "1 left over: roi_head.mask_head.conv.weight" in message


def test_absent_batch_counters_are_zero(states):
    state = {k: v for k, v in states[SYSCV_OLD].items() if not k.endswith("num_batches_tracked")}
    own = QDTrack(ModelConfig(backbone="efficientnet_lite0")).state_dict()  # small: only the names matter here
    counters = {"backbone.bn1.num_batches_tracked": torch.tensor(7)}
    wanted = {**counters, "rpn.conv.bias": own["rpn.conv.bias"]}
    kept = {"rpn_head.rpn_conv.bias": state["rpn_head.rpn_conv.bias"]}
    assert convert_syscv(kept, wanted, SYSCV_OLD)["backbone.bn1.num_batches_tracked"] == 0


def test_our_own_names_are_no_foreign_layout(expected):
    assert recognise_layout(expected) is None
    assert recognise_layout([]) is None
    assert not [name for name in expected if recognise_layout([name]) is not None]


def test_load_weights_takes_an_official_file_as_it_is(tmp_path, states, reference_network):
    path = tmp_path / "official.pth"
    torch.save({"meta": {"epoch": 12}, "state_dict": states[SYSCV_NEW]}, path)
    network = QDTrack(ModelConfig())
    load_weights(network, path)
    wanted = reference_network.state_dict()
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in network.state_dict().items())


def test_official_file_of_another_network_names_the_file_and_its_own_keys(tmp_path, states):
    path = tmp_path / "official.pth"
    torch.save({"state_dict": {k: torch.zeros(0) for k in states[SYSCV_OLD] if "track_head" not in k}}, path)
    with torch.device("meta"):
        network = QDTrack(ModelConfig())
    with pytest.raises(CheckpointError, match=re.escape(str(path)) + r".*16 missing: roi_head\.track_head\.convs"):
        load_weights(network, path)
