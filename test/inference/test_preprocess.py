"""Preprocessing against the reference's sizes and pixels, and against its order of steps."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import pytest

from qdtrack_ros.inference.preprocess import PreprocessConfig, preprocess, resized_size
from qdtrack_ros.inference.presets import load_preset


@pytest.mark.parametrize("row", range(24))
def test_sizes_match_reference(golden, row):
    scale_w, scale_h, width, height, new_w, new_h, pad_w, pad_h, factor_x, factor_y = golden("ops/preprocess")["sizes"][
        row
    ]
    scale = (int(scale_w), int(scale_h))
    assert resized_size(int(height), int(width), scale) == (new_h, new_w)
    batch = preprocess([np.zeros((int(height), int(width), 3), np.uint8)], PreprocessConfig(image_scale=scale))
    assert batch.images.shape == (1, 3, pad_h, pad_w)
    assert batch.image_sizes == [(new_h, new_w)]
    np.testing.assert_allclose(batch.scale_factors[0], (factor_x, factor_y), rtol=1e-6)


def test_pixels_match_reference(golden):
    arrays = golden("ops/preprocess")
    config = PreprocessConfig((180, 120), "rgb", tuple(arrays["mean"].tolist()), tuple(arrays["std"].tolist()))
    batch = preprocess([arrays["bgr"]], config)
    assert batch.images.dtype == np.float32
    assert batch.images.shape[2:] == tuple(arrays["padded_hw"])
    np.testing.assert_allclose(batch.images[0, :, :120, :180].transpose(1, 2, 0), arrays["normalised"], atol=1e-5)
    assert not batch.images[0, :, 120:].any() and not batch.images[0, :, :, 180:].any()
    plain = PreprocessConfig((180, 120), "bgr", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    resized = preprocess([arrays["bgr"]], plain).images[0, :, :120, :180].transpose(1, 2, 0)
    np.testing.assert_array_equal(resized, arrays["resized"])


def test_shrinking_matches_reference(golden):
    arrays = golden("ops/preprocess")
    plain = PreprocessConfig((0, 0), "bgr", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    (height, width), expected = arrays["downsized"].shape[:2], arrays["downsized"]
    # 90x60 to 47x33 keeps no aspect ratio: the resize alone is compared.
    resized = cv2.resize(arrays["bgr"], (width, height), interpolation=cv2.INTER_LINEAR)
    np.testing.assert_array_equal(resized, expected)
    batch = preprocess([expected], plain)
    np.testing.assert_array_equal(batch.images[0, :, :height, :width].transpose(1, 2, 0), expected)


SHAPES = [(1, 7), (7, 1), (1, 1), (2, 3), (333, 517), (517, 333), (480, 640), (640, 480), (1080, 1920), (1920, 1080)]
SHAPES += [(720, 1280), (721, 1297), (31, 33), (32, 32), (33, 31), (96, 1500), (1500, 96), (1088, 1088), (150, 1)]
SCALES = [(0, 0), (1296, 720), (1088, 1088), (1333, 800), (1920, 1080), (64, 48)]


def plain_preprocess(picture, scale, mean, std, rgb):
    """The reference's steps in its order: resize uint8, swap channels, normalise, pad with zeros."""
    height, width = picture.shape[:2]
    factor = min(max(scale) / max(height, width), min(scale) / min(height, width)) if any(scale) else 1.0
    new_w, new_h = (max(int(side * factor + 0.5), 1) for side in (width, height))
    resized = cv2.resize(picture, (new_w, new_h), interpolation=cv2.INTER_LINEAR)
    channels = cv2.cvtColor(resized, cv2.COLOR_BGR2RGB) if rgb else resized
    normal = (channels.astype(np.float64) - np.array(mean)) / np.array(std)
    padded = np.zeros((-(-new_h // 32) * 32, -(-new_w // 32) * 32, 3))
    padded[:new_h, :new_w] = normal
    return padded.transpose(2, 0, 1), (new_h, new_w), (new_w / width, new_h / height)


@pytest.mark.parametrize("scale", SCALES, ids=str)
@pytest.mark.parametrize("name", ["bdd100k", "mot17"])
def test_odd_pictures_match_the_steps_of_the_reference(name, scale):
    config = dataclasses.replace(load_preset(name).preprocess, image_scale=scale)
    rng = np.random.default_rng(0)
    for shape in SHAPES:
        picture = rng.integers(0, 256, (*shape, 3), np.uint8)
        expected, size, factors = plain_preprocess(
            picture, scale, config.mean, config.std, config.channel_order == "rgb"
        )
        if max(size) > 3000:
            continue  # a sliver blown up: its size is compared elsewhere
        batch = preprocess([picture], config)
        assert batch.images.shape == (1, *expected.shape) and batch.image_sizes == [size], shape
        np.testing.assert_allclose(batch.scale_factors[0], factors, rtol=1e-12)
        np.testing.assert_allclose(batch.images[0], expected, rtol=0, atol=2e-5, err_msg=str(shape))


def test_channel_order_and_its_mean():
    image = np.zeros((32, 32, 3), np.uint8)
    image[:] = (10, 20, 30)  # blue, green, red
    for order, mean, expected in (("rgb", (30, 20, 8), (0, 0, 2)), ("bgr", (8, 20, 30), (2, 0, 0))):
        config = PreprocessConfig((0, 0), order, mean, (1.0, 1.0, 1.0))
        assert preprocess([image], config).images[0, :, 5, 5].tolist() == list(expected)


def test_pictures_of_different_sizes_share_a_batch():
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (h, w, 3), np.uint8) for h, w in ((40, 100), (90, 31))]
    config = PreprocessConfig((0, 0))
    batch = preprocess(pictures, config)
    assert batch.images.shape == (2, 3, 96, 128)
    for i, picture in enumerate(pictures):
        alone = preprocess([picture], config)
        h, w = picture.shape[:2]
        assert batch.image_sizes[i] == (h, w) and batch.scale_factors[i] == (1.0, 1.0)
        np.testing.assert_array_equal(batch.images[i, :, :h, :w], alone.images[0, :, :h, :w])
        assert not batch.images[i, :, h:].any() and not batch.images[i, :, :, w:].any()


def test_input_is_left_alone_and_need_not_be_contiguous():
    picture = np.random.default_rng(1).integers(0, 256, (64, 48, 3), np.uint8)
    before = picture.copy()
    mirrored = preprocess([picture[:, ::-1]], PreprocessConfig((24, 24)))
    np.testing.assert_array_equal(picture, before)
    copied = preprocess([np.ascontiguousarray(picture[:, ::-1])], PreprocessConfig((24, 24)))
    np.testing.assert_array_equal(mirrored.images, copied.images)
    resized = cv2.resize(np.ascontiguousarray(picture[:, ::-1]), (18, 24))
    assert resized.shape[:2] == mirrored.image_sizes[0]


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ({"channel_order": "gbr"}, "channel_order is 'gbr'"),
        ({"image_scale": (0, 5)}, "image_scale"),
        ({"image_scale": (-1, -1)}, "image_scale"),
        ({"std": (1.0, 0.0, 1.0)}, "std"),
        ({"std": (1.0, float("inf"), 1.0)}, "std"),
        ({"mean": (0.0, float("nan"), 0.0)}, "mean"),
        ({"pad_multiple": 0}, "pad_multiple"),
    ],
)
def test_bad_settings_are_refused(values, word):
    with pytest.raises(ValueError, match=word):
        PreprocessConfig(**values)


@pytest.mark.parametrize("shape", [(1, 5000), (5000, 1), (1, 1)])
def test_a_sliver_keeps_at_least_a_pixel(shape):
    batch = preprocess([np.zeros((*shape, 3), np.uint8)], PreprocessConfig(image_scale=(640, 480)))
    assert min(batch.image_sizes[0]) >= 1 and batch.images.shape[0] == 1
    assert np.isfinite(batch.images).all()
