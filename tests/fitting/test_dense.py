"""Fitting 478 points: exact points give the face back, and errors move no identity."""

import math
from dataclasses import replace

import pytest
import torch

from facerecon_lib.data.rendered.counted_random import CountedRandom
from facerecon_lib.data.rendered.random_faces import random_coefficients
from facerecon_lib.face.camera import axis_angle_to_matrix, ndc_to_pixels, pose, project_ndc
from facerecon_lib.face.measures import vertex_error_mm
from facerecon_lib.face.morphable_model import MorphableModel
from facerecon_lib.fitting.dense import (
    CHUNK,
    FROM_MEAN,
    GAPS,
    DenseSettings,
    _Linear,
    _project,
    fit_points,
)
from facerecon_lib.networks.encoder import load_encoder
from facerecon_lib.photos.crop import align, photo_to_crop
from facerecon_lib.photos.detection import sample_detection, sample_photo
from facerecon_lib.photos.landmarks import landmarks_from

EXACT = DenseSettings(
    evidence=1e4, identity=1, expression=1.5, rotation=1, relief=(1.0, 1e-4), rounds=8
)


@pytest.fixture(scope="module")
def model():
    return MorphableModel.load()


@pytest.fixture(scope="module")
def faces(model):
    numbers = CountedRandom(3, torch.arange(6))
    c = random_coefficients(model, numbers, "train")
    turned = numbers.uniform("turned", 3, low=-1, high=1) * numbers.fixed(0.3, 0.6, 0.2)
    return replace(c, rotation=turned)


def points_of(model, c):
    vertices = model.shape(c.identity, c.expression)[:, model.dense.vertices]
    turned = pose(vertices + model.dense.offsets, c.rotation, c.scale, c.translation)
    return ndc_to_pixels(project_ndc(turned))


def near(c):
    """A start: the mean face, near the pose."""
    rotation = c.rotation + 0.1
    zero = replace(c, identity=0 * c.identity, expression=0 * c.expression, rotation=rotation)
    return replace(zero, translation=1.05 * c.translation)


def error_mm(model, one, other):
    shapes = [model.shape(c.identity, c.expression) for c in (one, other)]
    return vertex_error_mm(*shapes).median(1).values


def test_the_model_that_ships_is_bound_to_skin_alone(model):
    dense = model.dense
    mesh = slice(468)  # the irises are unbound
    assert dense.offsets[mesh].norm(dim=1).median() < 3  # mm
    assert (dense.noise[mesh] < 0.1).all()
    assert (dense.noise[468:] > 100).all()
    inside = model.regions["eyeballs"] + model.regions["mouth_interior"]
    assert (inside[dense.vertices[mesh]] <= 0.5).all()
    mirrored = dense.offsets[[33, 263]] + model.mean[dense.vertices[[33, 263]]]
    assert abs(mirrored[0, 0] + mirrored[1, 0]) < 3  # outer eye corners
    coarse = MorphableModel.load(subdivision=0)
    assert dense.vertices.max() < len(coarse.mean)


def test_exact_points_give_the_face_back(model, faces):
    result = fit_points(model, points_of(model, faces), near(faces), EXACT)
    assert error_mm(model, near(faces), faces).min() > 1
    assert error_mm(model, result, faces).max() < 0.08
    turn = axis_angle_to_matrix(result.rotation).mT @ axis_angle_to_matrix(faces.rotation)
    assert torch.rad2deg((turn.diagonal(dim1=1, dim2=2).sum(1) / 2 - 0.5).arccos()).max() < 0.3


@pytest.mark.parametrize("named", [0, 1])
def test_modes_without_a_name_are_fitted_too(model, faces, named):
    """As of a Basel Face Model, and of FLAME, whose one named mode opens the jaw."""
    modes = torch.eye(model.sizes.expression)[:named]
    bare = replace(model, controls={f"action {i}": 2 * mode for i, mode in enumerate(modes)})
    expression = torch.cat([torch.ones(6, named), faces.expression[:, named:]], 1)
    c = replace(faces, expression=expression)
    result = fit_points(bare, points_of(bare, c), near(c), EXACT)
    assert error_mm(bare, result, c).max() < 0.1
    torch.testing.assert_close(result.expression[:, 0], expression[:, 0], atol=0.1, rtol=0)
    assert result.expression.min() < -1  # no bound of an action
    result = fit_points(bare, points_of(bare, c), near(c), FROM_MEAN)
    assert (error_mm(bare, result, c) < 0.9 * error_mm(bare, near(c), c)).all()


def test_skin_stays_near_the_start_and_lids_and_lips_follow(model):
    """Points of the lower face 5 pixels too low, and open lips: those need little movement."""
    start, parted = model.neutral(), model.expression_from_controls({"mouthLowerDownLeft": 0.5})
    points = points_of(model, replace(start, expression=parted))
    points[:, points[0, :, 1] > points[0, 2, 1]] += torch.tensor([0.0, 5.0])  # below the nose
    moved, gaps = [], []
    for mm in (0.2, math.inf):
        c = fit_points(model, points, start, DenseSettings(expression_mm=mm))
        moved.append(float(error_mm(model, c, start)))
        gap = (points_of(model, c) - points)[:, GAPS]
        gaps.append(float((gap[:, 0] - gap[:, 1])[..., 1].abs().mean()))
    assert moved[0] < 0.5 * moved[1]
    assert gaps[0] < 1.2 * gaps[1] + 0.1  # pixels


def test_a_wink_closes_one_eye(model):
    wink = replace(model.neutral(), expression=model.expression_from_controls({"eyeBlinkLeft": 1}))
    result = fit_points(model, points_of(model, wink), model.neutral())
    actions = dict(zip(model.controls, model.actions(result.expression)[0].tolist(), strict=True))
    assert actions["eyeBlinkLeft"] > 0.3  # the prior pulls to the start's open eyes
    assert actions["eyeBlinkRight"] < 0.1


def test_a_real_photo_is_met_better_than_by_the_encoder(model):
    photo, seen = sample_photo(), sample_detection()
    crop = align(photo.pixels, landmarks_from(seen.points))
    points = photo_to_crop(torch.from_numpy(seen.points), crop.matrix)[None]
    with torch.no_grad():
        start = load_encoder(model=model)(crop.image)
    upper, lower = GAPS
    without = fit_points(model, points, start, DenseSettings(gaps=0.0))
    off, gaps = [], []
    for c in (start, without, fit_points(model, points, start)):
        away = points_of(model, c) - points
        off.append(float(away[:, :468].norm(dim=-1).mean()))
        gaps.append(float((away[:, upper] - away[:, lower])[..., 1].abs().mean()))
    assert off[2] < 0.95 * off[0]
    assert gaps[2] < 0.8 * min(gaps[:2])


def test_actions_stay_between_rest_and_full_and_identity_at_the_start(model, faces):
    noise = 3 * torch.randn(6, 478, 2, generator=torch.Generator().manual_seed(0))
    result = fit_points(model, points_of(model, faces) + noise, near(faces))
    actions = model.actions(result.expression)
    assert actions.min() > -1e-3
    assert actions.max() < 1 + 1e-3
    assert result.identity.abs().max() < 0.1


def test_a_point_far_off_moves_little(model, faces):
    points = points_of(model, faces)
    wrong = points.clone()
    wrong[:, 61] += 100  # a corner of the mouth
    right, off = (fit_points(model, p, near(faces), EXACT) for p in (points, wrong))
    assert error_mm(model, right, off).max() < 1
    assert error_mm(model, right, off).median() < 0.3 * error_mm(model, near(faces), faces).median()


def test_derivatives_are_those_of_the_projection(model, faces):
    c, linear = faces[:1].to(torch.float64), _Linear(model)
    for name in ("mean", "basis", "normals"):
        setattr(linear, name, getattr(linear, name).double())
    moves = model.actions(faces[:1].expression).double()
    relief = torch.full_like(c.scale, 0.7)
    x, turn = (
        torch.cat([c.identity, moves, c.translation, relief], 1),
        axis_angle_to_matrix(c.rotation),
    )

    def project(x, swing):
        return _project(linear, x, axis_angle_to_matrix(swing) @ turn, c.scale, 30.0)[0]

    swing = torch.zeros(1, 3, dtype=torch.float64)
    by_x, by_turn = torch.autograd.functional.jacobian(project, (x, swing))
    expected = torch.cat([by_x[:, :, :, 0], by_turn[:, :, :, 0]], -1).permute(0, 3, 1, 2)
    rows = _project(linear, x, turn, c.scale, 30.0)[1]
    torch.testing.assert_close(rows, expected, rtol=1e-6, atol=1e-8)


def test_many_faces_are_fitted_as_one_by_one(model, faces):
    many = faces[torch.arange(CHUNK + 1) % 6]
    points = points_of(model, many)
    together, alone = (
        fit_points(model, points, near(many)),
        fit_points(model, points[3:4], near(many[3])),
    )
    torch.testing.assert_close(together[3].to_vector(), alone.to_vector(), rtol=1e-3, atol=1e-3)


def test_what_is_missing_is_told(model, faces):
    with pytest.raises(ValueError, match="not bound to the 478 points"):
        fit_points(replace(model, dense=None), points_of(model, faces), faces)
    with pytest.raises(ValueError, match="points: expected"):
        fit_points(model, points_of(model, faces)[:, :68], faces)
