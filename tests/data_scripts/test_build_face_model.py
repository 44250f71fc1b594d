"""The artists' face model: the cut, the skin tones, and what of it ships again."""

import importlib.util

import numpy as np
import pytest
from makehuman import face_crop, skin_albedo
from safetensors.numpy import load_file

from facerecon_lib.files.weights import shipped_file


def test_the_border_is_even_and_inside_is_negative():
    points = np.array([[30.0, 690, 140], [-30.0, 690, 140], [0, 680, -100], [0, 800, 0]])
    distance = face_crop.border_distance(points)
    assert distance[0] == distance[1] < 0
    assert distance[2] > 0
    assert distance[3] > 0


def test_an_eyeball_cap_lies_on_the_sphere_and_moves_with_it():
    rng = np.random.default_rng(0)
    ball = rng.normal(size=(72, 3))
    ball = np.array([10.0, 20, 30]) + 14 * ball / np.linalg.norm(ball, axis=1, keepdims=True)
    weights, triangles = face_crop.eye_cap(ball, (0, 72))
    cap = weights @ ball
    distance = np.linalg.norm(cap - [10, 20, 30], axis=1)
    np.testing.assert_allclose(distance, 14 * face_crop.EYE_SIZE, rtol=1e-6)
    moved = ball * 1.2 + [1.0, -2, 3]
    np.testing.assert_allclose(weights @ moved, cap * 1.2 + [1.0, -2, 3], atol=1e-6)
    a, b, c = (cap[np.array(triangles)[:, i]] for i in range(3))
    assert (np.cross(b - a, c - a)[:, 2] > 0).all()  # they look out of the face
    assert face_crop.ring_angles()[:, 0].max() == face_crop.EYE_RINGS[-1]


def test_polygons_are_cut_into_triangles_alike_on_both_sides():
    points = np.array([[0.0, 0, 0], [2, 0, 0], [3, 1, 0], [0, 1, 0]])
    triangles = face_crop.triangulate([0, 1, 2, 3], points)
    mirrored = face_crop.triangulate([3, 2, 1, 0], points[::-1] * [-1, 1, 1])
    assert {frozenset(t) for t in triangles} == {frozenset(t) for t in mirrored}


def test_monk_tones_darken_from_one_to_ten():
    lightness = skin_albedo.skin_tone(np.arange(1, 11, dtype=float))[:, 0]
    assert (np.diff(lightness) < 2).all()
    assert lightness[0] > 90
    assert lightness[-1] < 20


def test_an_albedo_basis_gives_its_samples_back():
    rng = np.random.default_rng(0)
    samples = (rng.normal(size=(40, 3)) @ rng.normal(size=(3, 30))).reshape(40, 10, 3)
    mean, basis, coefficients, share = skin_albedo.albedo_basis(samples.astype(np.float32), 3)
    again = mean + np.einsum("nk,kvc->nvc", coefficients, basis)
    np.testing.assert_allclose(again, samples, atol=1e-4)
    assert share == pytest.approx(1, abs=1e-6)
    np.testing.assert_allclose(coefficients.std(0), 1, rtol=0.02)


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("anny") is None, reason="needs the extra model")
def test_rebuilding_gives_what_ships_of_the_artists_model_to_float16_rounding():
    """All but the skin, which is people's; the mean and modes with people's mean and spread."""
    from makehuman.model import build

    tensors, metadata = build(samples=3000, albedo_samples=1200, seed=0)
    shipped = load_file(shipped_file("face_model.safetensors"))
    learned = {"identity_shift", "identity_spread"}
    assert {name for name in shipped if not name.startswith("dense_")} == tensors.keys() | learned
    assert metadata["licence"] == "CC0-1.0"
    shift, spread = (shipped[name].astype(np.float64) for name in sorted(learned))
    modes = tensors["identity_basis"].astype(np.float64)
    moved = tensors["mean"] + np.einsum("k,kvc->vc", shift, modes)
    mirrored = moved[tensors["mirror"]] * [-1, 1, 1]
    tensors["mean"] = ((moved + mirrored) / 2).astype(np.float32)
    wide = modes * spread[:, None, None]
    order = np.argsort(-np.linalg.norm(wide.reshape(len(wide), -1), axis=1))
    tensors["identity_basis"] = wide[order].astype(np.float16)
    for name, built in tensors.items():
        assert built.shape == shipped[name].shape, name
        assert built.dtype == shipped[name].dtype, name
        if name.startswith("albedo_"):
            continue
        if built.dtype.kind != "f":
            assert (built == shipped[name]).all(), name
            continue
        a, b = built.astype(np.float64), shipped[name].astype(np.float64)
        rounding = 2.0**-9 * np.maximum(np.abs(b), 2.0**-10 * np.abs(b).max())
        assert (np.abs(a - b) <= np.maximum(rounding, 1e-3)).all(), name
