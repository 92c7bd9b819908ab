"""Suppression against the reference's choices and against a plain greedy loop."""

import functools
import io
import math
import warnings
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchvision.ops import nms as torchvision_nms

from qdtrack_ros.inference import openvino_backend
from qdtrack_ros.ops import nms as nms_module
from qdtrack_ros.ops.boxes import pairwise_iou
from qdtrack_ros.ops.nms import fixed_point_nms, multiclass_nms, per_level_nms


def greedy(boxes: Tensor, scores: Tensor, groups: Tensor, threshold: float) -> list[int]:
    overlaps, kept = pairwise_iou(boxes, boxes), []
    for i in scores.sort(descending=True, stable=True).indices.tolist():
        if all(groups[i] != groups[j] or overlaps[i, j] <= threshold for j in kept):
            kept.append(i)
    return kept


def random_boxes(seed: int, count: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    corners = torch.rand(count, 2, generator=generator) * 60
    sizes = torch.rand(count, 2, generator=generator) * 40 + 1
    scores = torch.rand(count, generator=generator)
    return torch.cat([corners, corners + sizes], dim=1), scores, torch.randint(0, 4, (count,), generator=generator)


@pytest.mark.parametrize("case", range(8))
def test_multiclass_matches_reference(golden, case):
    arrays = golden("ops/nms")
    boxes, scores = (torch.from_numpy(arrays[f"c{case}_{k}"]) for k in ("boxes", "scores"))
    score_threshold, iou_threshold, maximum = (arrays[f"c{case}_{k}"].item() for k in ("score_thr", "iou_thr", "max"))
    result = multiclass_nms(boxes, scores, score_threshold, iou_threshold, maximum)
    np.testing.assert_array_equal(result.indices.numpy(), arrays[f"c{case}_inds"])
    np.testing.assert_array_equal(result.labels.numpy(), arrays[f"c{case}_labels"])
    np.testing.assert_allclose(result.boxes.numpy(), arrays[f"c{case}_dets"][:, :4], atol=5e-4)
    np.testing.assert_allclose(result.scores.numpy(), arrays[f"c{case}_dets"][:, 4], atol=1e-6)


def test_duplicates_match_reference(golden):
    arrays = {k: torch.from_numpy(v) for k, v in golden("ops/nms").items() if k.startswith("dup")}
    keep = per_level_nms(arrays["dup_boxes"], arrays["dup_scores"], arrays["dup_idxs"], 0.5)
    assert keep.tolist() == arrays["dup_keep"].tolist()
    kept = torch.cat([arrays["dup_boxes"][keep], arrays["dup_scores"][keep, None]], dim=1)
    torch.testing.assert_close(kept, arrays["dup_dets"], rtol=0, atol=0)


def test_an_overlap_of_exactly_the_threshold_is_kept(golden):
    arrays = golden("ops/nms")
    boxes = torch.from_numpy(arrays["thr_boxes"])
    scores = torch.linspace(0.9, 0.7, len(boxes))
    keep = per_level_nms(boxes, scores, torch.zeros(len(boxes), dtype=torch.int64), 0.5)
    assert sorted(keep.tolist()) == arrays["thr_keep"].tolist()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 40), st.sampled_from([0.3, 0.5, 0.7]))
def test_matches_greedy_loop(seed, count, threshold):
    boxes, scores, groups = random_boxes(seed, count)
    assert per_level_nms(boxes, scores, groups, threshold).tolist() == greedy(boxes, scores, groups, threshold)


def test_many_boxes_go_group_by_group_with_the_same_result(monkeypatch):
    boxes, scores, groups = random_boxes(3, 200)
    scores = (scores * 20).round() / 20  # ties
    at_once = per_level_nms(boxes, scores, groups, 0.5)
    monkeypatch.setattr(nms_module, "_SPLIT_FROM_CPU", 100)
    assert per_level_nms(boxes, scores, groups, 0.5).tolist() == at_once.tolist()


def test_background_never_becomes_a_detection_and_shared_boxes_serve_all_classes():
    boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0], [50.0, 50.0, 60.0, 60.0]])
    scores = torch.tensor([[0.3, 0.4, 0.3], [0.01, 0.02, 0.97]])
    result = multiclass_nms(boxes, scores, 0.05, 0.5, 100)
    assert result.labels.tolist() == [1, 0]
    assert result.indices.tolist() == [1, 0]
    assert torch.equal(result.boxes, boxes[[0, 0]])


def test_limit_keeps_the_best():
    boxes, scores, _ = random_boxes(5, 30)
    table = torch.stack([scores, 1 - scores], dim=1)
    everything = multiclass_nms(boxes, table, 0.0, 0.9, -1)
    assert len(everything.scores) > 3
    assert multiclass_nms(boxes, table, 0.0, 0.9, 3).scores.tolist() == everything.scores[:3].tolist()
    assert len(multiclass_nms(boxes, table, 0.0, 0.9, 0).scores) == 0


def test_no_input_gives_no_output():
    result = multiclass_nms(torch.zeros(0, 8), torch.zeros(0, 3), 0.05, 0.5, 100)
    assert result.boxes.shape == (0, 4) and result.labels.dtype == torch.int64


def fixed_point(boxes: Tensor, labels: Tensor | None, threshold: float, steps: int) -> tuple[list[int], bool]:
    valid = torch.ones(len(boxes), dtype=torch.bool)
    full, half, brain = (
        fixed_point_nms(boxes, valid, threshold, steps, labels, dtype)
        for dtype in (torch.float32, torch.float16, torch.bfloat16)
    )
    assert torch.equal(full.keep, half.keep) and torch.equal(full.keep, brain.keep)
    assert full.converged == half.converged == brain.converged
    return full.keep.nonzero().squeeze(1).tolist(), bool(full.converged)


def by_falling_score(count: int) -> Tensor:
    return torch.arange(count, 0, -1, dtype=torch.float32)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 60), st.sampled_from([0.0, 0.3, 0.5, 0.7, 1.0]), st.integers(1, 8))
def test_a_fixed_point_is_what_greedy_keeps(seed, count, threshold, steps):
    boxes, _, groups = random_boxes(seed, count)
    kept, converged = fixed_point(boxes, groups, threshold, steps)
    expected = greedy(boxes, by_falling_score(count), groups, threshold)
    if converged:
        assert kept == expected
    complete, converged = fixed_point(boxes, groups, threshold, count + 1)
    assert converged and complete == expected


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(*[st.integers(0, 6)] * 4), min_size=1, max_size=25), st.sampled_from([0.25, 0.5]))
def test_a_fixed_point_on_boxes_that_repeat_touch_and_are_empty(corners, threshold):
    boxes = torch.tensor([[x, y, x + w, y + h] for x, y, w, h in corners], dtype=torch.float32)
    kept, converged = fixed_point(boxes, None, threshold, len(boxes) + 1)
    assert converged
    assert kept == greedy(boxes, by_falling_score(len(boxes)), torch.zeros(len(boxes)), threshold)


SIDES = st.one_of(
    st.integers(0, 4).map(float),
    st.sampled_from([0.0, 1e-45, 3e-23, 1e-20, 1e-4, 3e-4, 1e-30, 1e12, 1e25, 3e38, math.inf, math.nan, -2.0]),
)
ROWS = st.lists(st.tuples(SIDES, SIDES, SIDES, SIDES), min_size=1, max_size=20)
THRESHOLDS = st.sampled_from([0.0, 0.1, 0.25, 0.3, 0.4, 0.5, 0.6, 0.65, 0.7, 0.8, 0.9, 1.0])  # half above in float32


def boxes_of_all_kinds(rows: list[tuple[float, ...]]) -> Tensor:
    return torch.tensor([[x, y, x + w, y + h] for x, y, w, h in rows], dtype=torch.float32)


@settings(max_examples=200, deadline=None)
@given(ROWS, THRESHOLDS, st.booleans(), st.integers(1, 21))
def test_boxes_of_all_kinds_stay_as_in_torchvision(rows, threshold, tied, steps):
    """Empty, tiny, huge, inverted, infinite and NaN boxes, scores that differ and scores that are all the same."""
    boxes = boxes_of_all_kinds(rows)
    scores = torch.full((len(boxes),), 0.5) if tied else by_falling_score(len(boxes))
    expected = torchvision_nms(boxes, scores, threshold).tolist()
    kept, converged = fixed_point(boxes, None, threshold, steps)
    assert kept == expected or not converged
    assert fixed_point(boxes, None, threshold, len(boxes) + 1) == (expected, True)


@pytest.mark.parametrize("threshold", [0.1, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9])
def test_overlaps_of_the_threshold_and_an_ulp_beside_it_fall_as_in_torchvision(threshold):
    """Pairs moved apart until they overlap by about the threshold, the second one's end moved by single ulps."""
    generator = torch.Generator().manual_seed(int(10 * threshold))
    sides = torch.rand(200, 2, generator=generator) * 100 + 10
    corners = torch.rand(200, 2, generator=generator) * 500
    first = torch.cat([corners, corners + sides], dim=1)
    second = first.clone()
    second[:, 0::2] += sides[:, :1] * (1 - threshold) / (1 + threshold)
    ends = second[:, 2].numpy().view(np.int32) + torch.randint(-3, 4, (200,), generator=generator).int().numpy()
    second[:, 2] = torch.from_numpy(ends.view(np.float32))
    exact = torch.tensor([[[0.0, 0, 10, 1], [0, 0, round(10 * threshold), 1]]])
    pairs = torch.cat([exact, torch.stack([first, second], dim=1)])
    scores, group = torch.tensor([0.9, 0.8]), torch.zeros(2, dtype=torch.int64)
    found = fixed_point_nms(pairs, torch.ones(len(pairs), 2, dtype=torch.bool), threshold, 3)
    expected = [torchvision_nms(pair, scores, threshold).tolist() for pair in pairs]
    assert found.converged.all() and {len(one) for one in expected} == {1, 2}
    assert [keep.nonzero().flatten().tolist() for keep in found.keep] == expected
    assert [per_level_nms(pair, scores, group, threshold).tolist() for pair in pairs] == expected


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 40), st.integers(1, 9)), min_size=1, max_size=5),
    st.randoms(use_true_random=False),
    st.integers(1, 24),
)
def test_chains_that_branch_and_cross_are_right_or_told(chains, random, steps):
    """Chains of boxes side by side, each as far from the next as `gap`, in falling or in shuffled order of score."""
    rows = [(gap * place, 6.0 * lane) for lane, (length, gap) in enumerate(chains) for place in range(length)]
    if random.random() < 0.5:
        random.shuffle(rows)
    boxes = torch.tensor([[x, y, x + 10, y + 10] for x, y in rows], dtype=torch.float32)
    expected = torchvision_nms(boxes, by_falling_score(len(boxes)), 0.25).tolist()
    kept, converged = fixed_point(boxes, None, 0.25, steps)
    assert kept == expected or not converged
    assert fixed_point(boxes, None, 0.25, len(boxes) + 1) == (expected, True)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_boxes_of_other_precisions_stay_as_torchvision_finds_them_in_full(dtype):
    """Areas of 300 x 300 pixels are infinite in half precision."""
    boxes, _, _ = random_boxes(7, 80)
    boxes = (boxes * 30).to(dtype)
    full = boxes.double() if dtype == torch.float64 else boxes.float()
    for threshold in (0.3, 0.5, 0.6):
        expected = torchvision_nms(full, by_falling_score(80).to(full.dtype), threshold).tolist()
        assert len(expected) < 80 and fixed_point(boxes, None, threshold, 81) == (expected, True)


@pytest.mark.parametrize("scale", [1e-25, 1e-23, 1e-22, 1e-20, 1e7, 1e17, 1e18])
def test_areas_next_to_zero_and_to_infinity_stay_as_in_torchvision(scale):
    boxes = random_boxes(7, 80)[0] * scale
    expected = torchvision_nms(boxes, by_falling_score(80), 0.4).tolist()
    assert fixed_point(boxes, None, 0.4, 81) == (expected, True)


def test_pictures_of_a_batch_converge_each_for_itself():
    chain = torch.arange(40) * 4.0
    long = torch.stack([chain, chain * 0, chain + 10, chain * 0 + 10], dim=1)
    short = long.clone()
    short[8:] += 1000.0 * torch.arange(32)[:, None]
    found = fixed_point_nms(torch.stack([long, short, long]), torch.ones(3, 40, dtype=torch.bool), 0.3, 16)
    assert found.converged.tolist() == [False, True, False]
    assert found.keep[1].nonzero().flatten().tolist() == [0, 2, 4, 6, *range(8, 40)]


@functools.cache
def exported(engine: str, threshold: float, slots: int = 20) -> Callable[[Tensor, Tensor], tuple[np.ndarray, bool]]:
    """Suppression in another engine: (boxes [slots, 4], valid [slots]) to (keep, converged)."""

    class Suppression(torch.nn.Module):
        def forward(self, boxes: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
            return fixed_point_nms(boxes, valid, threshold, 12)

    file = io.BytesIO()
    arguments = (torch.zeros(slots, 4), torch.ones(slots, dtype=torch.bool))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(Suppression(), arguments, file, input_names=["b", "v"], opset_version=18, dynamo=False)
    if engine == "onnxruntime":
        session = pytest.importorskip("onnxruntime").InferenceSession(file.getvalue())
        return lambda boxes, valid: session.run(None, {"b": boxes.numpy(), "v": valid.numpy()})
    core = openvino_backend._core()
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    model = core.compile_model(core.read_model(io.BytesIO(file.getvalue())), "CPU", settings)
    return lambda boxes, valid: tuple(model([boxes.numpy(), valid.numpy()]).values())


PLAIN_SIDES = st.one_of(st.integers(0, 4).map(float), st.sampled_from([0.0, 1e25, math.inf, math.nan, -2.0]))
OF_ENGINES = {
    "onnxruntime": (ROWS, 0.6),
    # OpenVINO multiplies by the inverse of a union, fuses products and sums, and rounds what is subnormal to 0.
    "openvino": (st.lists(st.tuples(*[PLAIN_SIDES] * 4), min_size=1, max_size=20), 0.5),
}


@pytest.mark.parametrize("engine", OF_ENGINES)
@settings(max_examples=100, deadline=None)
@given(st.data())
def test_other_engines_suppress_boxes_of_all_kinds_as_torchvision(engine, data):
    pytest.importorskip("onnx")
    pytest.importorskip(engine)
    kinds, threshold = OF_ENGINES[engine]
    boxes = boxes_of_all_kinds(data.draw(kinds))
    slots = torch.cat([boxes, torch.zeros(20 - len(boxes), 4)])
    keep, converged = exported(engine, threshold)(slots, torch.arange(20) < len(boxes))
    expected = torchvision_nms(boxes, by_falling_score(len(boxes)), threshold).tolist()
    assert np.flatnonzero(keep).tolist() == expected or not converged


@pytest.mark.parametrize("length", [2, 15, 16, 17, 40])
def test_a_chain_longer_than_the_steps_is_told_not_hidden(length):
    # Each box overlaps the next alone: whether one stays depends on all before it.
    x = torch.arange(length) * 4.0
    boxes = torch.stack([x, x * 0, x + 10, x * 0 + 10], dim=1)
    kept, converged = fixed_point(boxes, None, 0.3, 16)
    expected = greedy(boxes, by_falling_score(length), torch.zeros(length), 0.3)
    assert expected == list(range(0, length, 2))
    assert converged == (length <= 16)
    assert (kept == expected) or not converged


def test_empty_slots_neither_stay_nor_suppress():
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 10], [1, 0, 11, 10], [50, 50, 60, 60]]).expand(2, 4, 4)
    valid = torch.tensor([[False, True, True, True], [True, False, False, False]])
    result = fixed_point_nms(boxes, valid, 0.5, 4)
    assert result.keep.tolist() == [[False, True, False, True], [True, False, False, False]]
    assert result.converged.tolist() == [True, True]
