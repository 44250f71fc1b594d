"""Crops are exact similarities: every pixel shows what the matrix says."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from facerecon_lib.photos import detection
from facerecon_lib.photos.crop import align, crop_to_photo, photo_to_crop


def coordinate_photo(height, width):
    """Each pixel holds (x, y) of its own centre, as levels of at most 255."""
    y, x = np.mgrid[:height, :width] + 0.5
    return np.stack([x, y, np.zeros_like(x)], -1)


def spread_landmarks(low, high):
    points = np.tile(np.asarray(low, np.float32), (68, 1))
    points[0] = high
    return points


def test_the_crop_is_the_landmark_box_with_its_margin_and_landmarks_come_back_from_it():
    points = detection.sample_detection().landmarks
    crop = align(detection.sample_photo().pixels, points)
    np.testing.assert_allclose(crop_to_photo(crop.landmarks[0], crop.matrix), points, atol=1e-3)
    shapes = [tuple(x.shape) for x in (crop.image, crop.valid, crop.matrix)]
    assert shapes == [(1, 3, 224, 224), (1, 1, 224, 224), (2, 3)]
    low, high = crop.landmarks[0].amin(0), crop.landmarks[0].amax(0)
    assert torch.allclose((low + high) / 2, torch.tensor(112.0), atol=1e-3)
    assert (high - low).max().item() == pytest.approx(224 / 1.3, abs=1e-3)
    assert crop.matrix[0, 0] == crop.matrix[1, 1]
    assert crop.matrix[0, 1] == crop.matrix[1, 0] == 0
    assert crop.valid.all()
    assert 0 <= crop.image.min() < crop.image.max() <= 1


@pytest.mark.parametrize("side", [20.0, 61.7, 200.0])
def test_every_crop_pixel_shows_the_photo_where_the_matrix_says(side):
    """Enlarged and shrunk alike: half a pixel off would fail by a hundred times the tolerance."""
    photo = coordinate_photo(240, 250)
    landmarks = spread_landmarks((20.3, 17.9), (20.3 + side, 17.9 + side))
    crop = align(photo, landmarks, size=64, margin=1.05)
    centres = torch.cartesian_prod(torch.arange(64) + 0.5, torch.arange(64) + 0.5).flip(-1)
    expected = crop_to_photo(centres.double(), crop.matrix).reshape(64, 64, 2)
    inner = (expected > 5).all(-1) & (expected[..., 0] < 245) & (expected[..., 1] < 235)
    seen = crop.image[0, :2].permute(1, 2, 0).double() * 255
    assert inner.sum() > 2000
    assert (seen - expected)[inner].abs().max() < 5e-3


def test_shrinking_averages_instead_of_aliasing():
    stripes = np.zeros((640, 640, 3), np.uint8)
    stripes[:, ::2] = 255
    crop = align(stripes, spread_landmarks((70, 70), (570, 570)), size=64)
    inside = crop.image[0, 0][4:-4, 4:-4][crop.valid[0, 0][4:-4, 4:-4] > 0]
    assert (inside - 0.5).abs().max() < 0.02


def test_outside_the_photo_the_edge_repeats_and_is_not_valid():
    pixels = np.full((50, 40, 3), 255, np.uint8)
    crop = align(pixels, spread_landmarks((-10, -10), (50, 60)), size=70, margin=1.0)
    assert torch.allclose(crop.image, torch.ones(()))
    np.testing.assert_allclose(crop.valid.sum().item(), 40 * 50, atol=40)
    assert crop.valid[0, 0, 30, 2] == 0
    assert crop.valid[0, 0, 35, 35] == 1


def test_a_crop_wholly_outside_the_photo_is_all_padding():
    crop = align(coordinate_photo(20, 20), spread_landmarks((100, 100), (150, 150)), size=32)
    assert crop.valid.sum() == 0
    assert torch.allclose(crop.image[0, :2] * 255, torch.tensor(19.5))


def test_a_crop_of_one_tone_keeps_it_at_every_size():
    pixels = np.full((90, 70, 3), 37, np.uint8)
    for size in (16, 97, 224):
        crop = align(pixels, spread_landmarks((5, 5), (66, 70)), size=size)
        assert torch.allclose(crop.image, torch.tensor(37 / 255), atol=1e-6)


finite = st.floats(-9000, 9000, allow_nan=False, width=32)


@settings(deadline=None, max_examples=40)
@given(left=finite, top=finite, side=st.floats(5, 8000, width=32), seed=st.integers(0, 2**31))
def test_crop_and_photo_coordinates_undo_each_other(left, top, side, seed):
    landmarks = spread_landmarks((left, top), (left + side, top))
    matrix = align(np.zeros((8, 8, 3), np.uint8), landmarks, 16).matrix
    points = torch.from_numpy(np.random.default_rng(seed).uniform(-9000, 9000, (5, 2)))
    assert torch.allclose(crop_to_photo(photo_to_crop(points, matrix), matrix), points, atol=1e-6)
    assert crop_to_photo(photo_to_crop(points.float(), matrix), matrix).dtype == torch.float32


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf])
def test_landmarks_without_extent_are_refused(value):
    with pytest.raises(ValueError, match="expected 68 finite points"):
        align(np.zeros((8, 8, 3), np.uint8), np.full((68, 2), value, np.float32))
