"""The Python interface against what the reference gave, from the file of the weights to boxes in source pixels."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from qdtrack_ros import Tracker
from qdtrack_ros.tracking import AssociationConfig, QuasiDenseTracker

PIXELS, SCORES, EMBEDDINGS = 5e-3, 1e-4, 1e-3  # ten times the noise between two correct implementations


@pytest.fixture(scope="module")
def checkpoints(reference_state, new_names, tmp_path_factory):
    """The seeded checkpoint in both official layouts, as files."""
    folder = tmp_path_factory.mktemp("checkpoints")
    states = {"old": reference_state, "new": {new_names[name]: tensor for name, tensor in reference_state.items()}}
    for layout, state in states.items():
        torch.save({"meta": {}, "state_dict": state}, folder / f"{layout}.pth")
    return {layout: folder / f"{layout}.pth" for layout in states}


@pytest.fixture(scope="module")
def build(checkpoints):
    """``build(layout, scale)``: a tracker of the preset bdd100k with the seeded weights."""

    def make(layout: str = "old", scale: tuple[int, int] = (0, 0), **overrides) -> Tracker:
        values = {"preprocess.image_scale": list(scale), **overrides}
        return Tracker.from_preset("bdd100k", weights=checkpoints[layout], device="cpu", overrides=values)

    return make


def same_detections(found, boxes, scores, labels, embeddings, pixels=PIXELS):
    """Compare as sets: each expected detection has one found next to it, of its class."""
    assert len(found.boxes) == len(boxes)
    distances = np.abs(found.boxes[:, None] - boxes[None]).max(axis=2) + 1e3 * (found.labels[:, None] != labels[None])
    rows = distances.argmin(axis=0)
    assert distances.min(axis=0).max() <= pixels and len(set(rows.tolist())) == len(rows)
    np.testing.assert_allclose(found.scores[rows], scores, rtol=0, atol=SCORES)
    np.testing.assert_allclose(found.embeddings[rows], embeddings, rtol=0, atol=EMBEDDINGS)


@pytest.mark.parametrize("name", ["img_A", "img_B"])
@pytest.mark.parametrize("layout", ["old", "new"])
def test_detections_are_those_of_the_reference(golden, synthetic_image, build, layout, name):
    expected = golden(f"model/{name}")
    picture = synthetic_image(int(expected["seed"]), *(int(side) for side in expected["hw"]))
    found = build(layout).detect(picture)
    assert (np.diff(found.scores) <= 0).all()
    dets = expected["dets"]
    same_detections(found, dets[:, :4], dets[:, 4], expected["labels"], expected["embeds"])


@pytest.mark.parametrize(("shape", "scale"), [((101, 157), (0, 0)), ((200, 90), (128, 96)), ((97, 333), (256, 128))])
def test_odd_sizes_are_padded_clipped_and_scaled_back(build, reference_network, synthetic_image, shape, scale):
    picture = synthetic_image(5, *shape)
    found = build("old", scale).detect(picture)
    # The same by hand: resize, normalise, pad; the network is told the size without padding.
    height, width = shape
    factor = min(max(scale) / max(shape), min(scale) / min(shape)) if any(scale) else 1.0
    new_w, new_h = int(width * factor + 0.5), int(height * factor + 0.5)
    rgb = cv2.cvtColor(cv2.resize(picture, (new_w, new_h)), cv2.COLOR_BGR2RGB).astype(np.float32)
    normal = (rgb - np.float32([123.675, 116.28, 103.53])) / np.float32([58.395, 57.12, 57.375])
    padded = np.zeros((-(-new_h // 32) * 32, -(-new_w // 32) * 32, 3), np.float32)
    padded[:new_h, :new_w] = normal
    images = torch.from_numpy(padded).permute(2, 0, 1)[None]
    with torch.inference_mode():
        (raw,) = reference_network(images, [(new_h, new_w)], [(new_w / width, new_h / height)])
    same_detections(found, *(part.numpy() for part in raw))
    assert found.boxes[:, ::2].max() <= width + 1e-3 and found.boxes[:, 1::2].max() <= height + 1e-3
    assert found.boxes.min() >= 0


def test_a_sequence_is_detection_then_association(build, synthetic_image):
    overrides = {"association.init_score": 0.3, "association.object_score": 0.2}
    tracker = build(**overrides)
    by_hand = QuasiDenseTracker(AssociationConfig(init_score=0.3, object_score=0.2))
    seen: set[int] = set()
    for index in range(3):
        frame = synthetic_image(1, 96, 160, (4 * index, 2 * index))
        tracks = tracker(frame, stamp_ns=index * 100_000_000)
        found = tracker.engine.detect([frame]).detections[0]
        result = by_hand.step(*found, frame_index=index)
        kept = result.track_ids >= 0
        np.testing.assert_array_equal(tracks.ids, result.track_ids[kept])
        np.testing.assert_array_equal(tracks.boxes, found.boxes[result.indices[kept]])
        np.testing.assert_array_equal(tracks.scores, found.scores[result.indices[kept]])
        np.testing.assert_array_equal(tracks.labels, found.labels[result.indices[kept]])
        again = set(tracks.ids.tolist()) & seen
        assert index == 0 or again, "some track goes on"
        seen |= set(tracks.ids.tolist())
