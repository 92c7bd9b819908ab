"""Crops by identity: how the folder is read, and what the sheets show."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from qdtrack_ros.data.crops import SheetConfig, draw_sheets, read_crops
from qdtrack_ros.data.pair_sources import CropSource
from qdtrack_ros.data.pairs import PairConfig, PairSampler
from qdtrack_ros.data.transforms import AugmentationConfig
from qdtrack_ros.data.types import DataError

MARKET = "^(-?[0-9]+)_"
SIZE = (120, 160)
LAYOUT = SheetConfig(SIZE, rows=(30, 60))


@pytest.fixture
def folder(tmp_path):
    """Twelve identities (0 to 11) of one brightness each, four pictures an identity, a step of 2 brighter each."""
    for identity in range(12):
        for number in range(4):
            image = np.full((80, 32, 3), 20 * identity + 2 * number, np.uint8)
            cv2.imwrite(str(tmp_path / f"{identity:04d}_c1s1_{number:06d}_00.png"), image)
    cv2.imwrite(str(tmp_path / "-1_c1s1_000001_00.png"), np.full((80, 32, 3), 255, np.uint8))
    cv2.imwrite(str(tmp_path / "cover.png"), np.full((80, 32, 3), 255, np.uint8))
    return tmp_path


def brightness(picture, row):
    x1, y1, x2, y2 = picture.boxes[row].astype(int)
    return int(picture.image[(y1 + y2) // 2, (x1 + x2) // 2, 0])


def test_identities_come_from_the_names(folder):
    crops = read_crops(folder, MARKET)
    assert crops.identities == tuple(range(12))
    assert [len(pictures) for pictures in crops.pictures] == [4] * 12
    assert crops.pictures[3][1]()[0, 0, 0] == 62


@pytest.mark.parametrize("in_memory", [False, True])
def test_large_pictures_in_memory_are_made_smaller_and_look_the_same(folder, in_memory):
    cv2.imwrite(str(folder / "0050_a.png"), np.full((400, 200, 3), 77, np.uint8))
    crops = read_crops(folder, MARKET, in_memory)
    image = crops.pictures[-1][0]()
    assert image.shape == ((160, 80, 3) if in_memory else (400, 200, 3))
    assert (image == 77).all()


def test_a_sheet_shows_each_identity_once_at_the_same_place_in_both(folder):
    crops = read_crops(folder, MARKET)
    key, reference = draw_sheets(crops, 3, LAYOUT, np.random.default_rng(1))
    assert key.image.shape == reference.image.shape == (*SIZE, 3)
    assert len(key.boxes) > 5
    np.testing.assert_array_equal(key.instance_ids, reference.instance_ids)
    assert len(set(key.instance_ids.tolist())) == len(key.instance_ids)
    np.testing.assert_array_equal(key.boxes, reference.boxes)  # all crops here have one shape
    assert (key.boxes >= 0).all() and (key.boxes <= [SIZE[1], SIZE[0]] * 2).all()
    for picture in (key, reference):
        for row, identity in enumerate(picture.instance_ids):
            assert brightness(picture, row) in range(20 * identity, 20 * identity + 7, 2)
    different = [brightness(key, row) != brightness(reference, row) for row in range(len(key.boxes))]
    assert all(different), "the two pictures of an identity differ"


def test_scope_bounds_how_far_apart_the_two_pictures_are(folder):
    crops = read_crops(folder, MARKET)
    for seed in range(5):
        key, reference = draw_sheets(crops, 1, LAYOUT, np.random.default_rng(seed))
        for row in range(len(key.boxes)):
            assert abs(brightness(key, row) - brightness(reference, row)) == 2


@pytest.mark.parametrize("settings", [{"rows": (90, 60)}, {"rows": (0, 60)}, {"rows": (64, 900)}])
def test_layouts_that_cannot_be_are_refused(settings):
    with pytest.raises(ValueError, match="expected"):
        SheetConfig(**settings)


def test_an_identity_with_one_picture_is_its_own_partner(tmp_path):
    cv2.imwrite(str(tmp_path / "0_a.png"), np.full((80, 32, 3), 50, np.uint8))
    key, reference = draw_sheets(read_crops(tmp_path, MARKET), 3, LAYOUT, np.random.default_rng(0))
    assert len(key.boxes) == len(reference.boxes) == 1
    assert brightness(key, 0) == brightness(reference, 0) == 50


def test_pairs_of_crops_mix_with_others_and_keep_identities_apart(folder):
    crops = read_crops(folder, MARKET)
    sources = [CropSource(crops, 1.0, 3, 1), CropSource(crops, 1.0, 3, 1)]
    settings = PairConfig(AugmentationConfig(size=(96, 160), object_height=(30.0, 60.0)), mosaic=0.5)
    sampler = PairSampler(sources, settings)
    pairs = [sampler.draw(number) for number in range(12)]
    matched = sum(int((pair.matches >= 0).sum()) for pair in pairs)
    assert matched > 30
    for pair in pairs:
        assert set(pair.key.labels.tolist()) <= {1}
        for row, match in enumerate(pair.matches):
            if match >= 0:
                assert pair.key.instance_ids[row] == pair.reference.instance_ids[match]
    ids = np.concatenate([pair.key.instance_ids for pair in pairs])
    assert {0, 1} == set((ids // 1_000_000_000).tolist()), "identity 3 of one source is not identity 3 of the other"
    again = sampler.draw(3)
    assert np.array_equal(again.key.image, pairs[3].key.image)


@pytest.mark.parametrize(
    ("identity", "words"),
    [
        ("^([0-9+_", "no regular expression"),
        ("^[0-9]+_", "expected a group around the number"),
        ("^(cam)_", "no picture has an identity"),
        ("^[0-9]+_(c)", "'c' is no number"),
    ],
)
def test_a_pattern_that_finds_no_number_is_refused(folder, identity, words):
    with pytest.raises(DataError, match=words):
        read_crops(folder, identity)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(DataError, match="nowhere: no such folder"):
        read_crops(tmp_path / "nowhere", MARKET)
