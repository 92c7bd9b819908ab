"""The reference form against what the reference gave for the same random weights and pictures, stage by stage.

The noise between two correct implementations is 2e-5 on features, 5e-4 px on boxes, 1e-5 on scores and 1e-4 on
embeddings; tolerances are ten times that.
"""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from qdtrack_ros.inference.preprocess import PreprocessConfig, preprocess
from qdtrack_ros.ops.roi import assign_levels

FEATURES, PIXELS, SCORES, EMBEDDINGS = 2e-4, 5e-3, 1e-4, 1e-3


@pytest.fixture(scope="module", params=["img_A", "img_B"])
def run(request, golden, reference_network, synthetic_image):
    """One pass of the whole network, with what its parts gave on the way."""
    expected = golden(f"model/{request.param}")
    height, width = (int(v) for v in expected["hw"])
    picture = synthetic_image(int(expected["seed"]), height, width)
    scale = tuple(int(v) for v in expected["scale"])  # (0, 0): the reference did not resize
    batch = preprocess([picture], PreprocessConfig(image_scale=scale))
    seen = {}
    parts = ("backbone", "neck", "rpn", "box_head")
    hooks = [
        getattr(reference_network, part).register_forward_hook(
            lambda _, inputs, output, part=part: seen.__setitem__(part, output)
        )
        for part in parts
    ]
    with torch.inference_mode():
        (detections,) = reference_network(torch.from_numpy(batch.images), batch.image_sizes, batch.scale_factors)
        (proposals,) = reference_network.rpn.propose(
            seen["rpn"],
            reference_network.rpn.anchors(seen["neck"]),
            batch.image_sizes,
            reference_network.config.proposals,
        )
    for hook in hooks:
        hook.remove()
    return SimpleNamespace(
        picture=picture,
        expected=expected,
        batch=batch,
        detections=detections,
        proposals=proposals,
        network=reference_network,
        **seen,
    )


def close(found, expected, tolerance):
    np.testing.assert_allclose(np.asarray(found), expected, rtol=0, atol=tolerance)


def match_rows(found, expected, tolerance):
    """For every expected row the found row next to it, which must be within the tolerance; none is taken twice."""
    assert found.shape == expected.shape
    distances = np.abs(found[:, None] - expected[None]).max(axis=2)
    rows = distances.argmin(axis=0)
    assert distances.min(axis=0).max() <= tolerance
    assert len(np.unique(rows)) == len(rows)
    return rows


def test_picture(run):
    np.testing.assert_array_equal(run.picture[::16, ::16], run.expected["bgr_crop"])
    np.testing.assert_array_equal(run.picture.sum(axis=(0, 1)), run.expected["bgr_sum"])


def test_input(run):
    np.testing.assert_array_equal([*run.batch.scale_factors[0]] * 2, run.expected["scale_factor"])
    assert run.batch.image_sizes == [tuple(run.expected["img_hw"])]
    assert run.batch.images.shape[2:] == tuple(run.expected["pad_hw"])
    close(run.batch.images[0].mean(axis=(1, 2), dtype=np.float64), run.expected["input_mean"], 1e-4)
    close(run.batch.images[0][:, ::16, ::16], run.expected["input_slice"], 1e-5)


def test_backbone(run):
    for level, feature in enumerate(run.backbone, start=2):
        close(feature[0].mean(dim=(1, 2)), run.expected[f"C{level}_mean"], FEATURES)
        close(feature[0, ::64, ::4, ::4], run.expected[f"C{level}_slice"], FEATURES)


def test_pyramid_and_rpn(run):
    assert len(run.neck) == 5
    for level, feature in enumerate(run.neck):
        step = int(run.expected[f"stride_of_slice{level}"])
        close(feature[0].mean(dim=(1, 2)), run.expected[f"P{level + 2}_mean"], FEATURES)
        close(feature[0].std(dim=(1, 2)), run.expected[f"P{level + 2}_std"], FEATURES)
        close(feature[0, ::32, ::step, ::step], run.expected[f"P{level + 2}_slice"], FEATURES)
        close(run.rpn.logits[level][0, :, ::step, ::step], run.expected[f"rpn_cls{level}_slice"], FEATURES)
        close(run.rpn.deltas[level][0, :, ::step, ::step], run.expected[f"rpn_reg{level}_slice"], FEATURES)


def test_proposals(run):
    boxes, scores = run.proposals
    assert len(boxes) == 1000
    assert (scores[:-1] >= scores[1:]).all()
    rows = match_rows(boxes.numpy(), run.expected["proposals"][:, :4], PIXELS)
    close(scores[rows], run.expected["proposals"][:, 4], SCORES)


def test_regions_and_box_head(run):
    boxes = torch.from_numpy(run.expected["proposals"][:, :4])
    np.testing.assert_array_equal(assign_levels(boxes, 4), run.expected["roi_levels"])
    with torch.inference_mode():
        pooled = run.network.pool(run.neck, [boxes[:200]])
        logits, deltas = run.network.box_head(pooled)
    close(pooled[:24, ::16], run.expected["roi_feat_slice"], FEATURES)
    close(logits, run.expected["cls_score"], FEATURES)
    close(deltas, run.expected["bbox_pred"], FEATURES)
    close(logits.softmax(dim=1), run.expected["cls_prob_top"], SCORES)


def test_regions_of_the_embedding_head(run):
    boxes = torch.from_numpy(run.expected["dets"][:, :4])
    with torch.inference_mode():
        pooled = run.network.pool(run.neck, [boxes])
        embeddings = run.network.embedding_head(pooled)
    close(pooled[:12, ::16], run.expected["embed_roi_feat_slice"], FEATURES)
    close(embeddings, run.expected["embeds"], EMBEDDINGS)


def test_detections_and_embeddings(run):
    boxes, scores, labels, embeddings = run.detections
    assert len(boxes) == run.network.config.max_detections
    assert (scores[:-1] >= scores[1:]).all()
    # The label counts as a fifth coordinate, so that boxes of two classes are never taken for one another.
    found = np.column_stack([boxes, 1e3 * labels])
    expected = np.column_stack([run.expected["dets"][:, :4], 1e3 * run.expected["labels"]])
    rows = match_rows(found, expected.astype(np.float32), PIXELS)
    close(scores[rows], run.expected["dets"][:, 4], SCORES)
    close(embeddings[rows], run.expected["embeds"], EMBEDDINGS)
