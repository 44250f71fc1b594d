"""Analysis by synthesis, on faces rendered from the model itself."""

from functools import lru_cache

import pytest
import torch

from facerecon_lib import fitting
from facerecon_lib.evaluation import landmark_error, vertex_error_mm
from facerecon_lib.fitting import FitSettings, fit, sample_photo_colours, start_from_landmarks
from facerecon_lib.morphable_model import MorphableModel
from facerecon_lib.synthesis import synthesise

QUICK = FitSettings(landmark_steps=80, coarse_steps=50, fine_steps=20)


@lru_cache
def model() -> MorphableModel:
    return MorphableModel.load(subdivision=0)


@lru_cache
def rendered(count: int = 3, seed: int = 0):
    """Faces with known truth: (coefficients, face, image, mask, landmarks)."""
    generator = torch.Generator().manual_seed(seed)
    c = model().neutral(count)
    c.identity, c.expression, c.albedo = model().random(count, generator)
    c.rotation = 0.2 * torch.randn(count, 3, generator=generator)
    c.translation = c.translation + 8 * torch.randn(count, 3, generator=generator)
    c.lighting = c.lighting * 0.85
    c.lighting[:, 1:4] += 0.2 * torch.randn(count, 3, 1, generator=generator)
    with torch.no_grad():
        face = synthesise(model(), c)
        image, mask = face.render(background=0.4)
        return c, face, image.clamp(0, 1), mask, face.landmarks("2d")


@lru_cache
def fitted():
    _, _, image, mask, points = rendered()
    return fit(model(), image, torch.ones_like(mask), points, kind="2d", settings=QUICK)


def test_pose_from_landmarks_alone_is_right_to_a_few_degrees():
    truth, _, _, _, points = rendered()
    start = start_from_landmarks(model(), points)
    from facerecon_lib.camera import axis_angle_to_matrix

    a, b = (axis_angle_to_matrix(x.rotation) for x in (truth, start))
    cosine = ((a.transpose(1, 2) @ b).diagonal(dim1=1, dim2=2).sum(-1) - 1) / 2
    assert torch.rad2deg(torch.arccos(cosine.clamp(-1, 1))).max() < 15
    assert ((start.translation - truth.translation)[:, 2].abs() < 60).all()


def test_pose_from_landmarks_is_exact_to_a_degree_for_the_mean_face_far_away():
    c = model().neutral()
    c.rotation = torch.tensor([[0.1, -0.3, 0.2]])
    c.translation = torch.tensor([[10.0, -5.0, 4000.0]])
    points = synthesise(model(), c, fov_deg=3.0).landmarks("3d")
    start = start_from_landmarks(model(), points, fov_deg=3.0)
    assert torch.rad2deg((start.rotation - c.rotation).norm()) < 1.5
    assert abs(start.translation[0, 2] / 4000 - 1) < 0.03


def test_a_fit_more_than_halves_the_vertex_error_of_the_mean_face():
    _, face, *_ = rendered()
    found = synthesise(model(), fitted().coefficients)
    error = vertex_error_mm(found.vertices, face.vertices).median(1).values
    mean = model().mean.expand_as(face.vertices)
    start = vertex_error_mm(mean, face.vertices).median(1).values
    assert error.median() < 0.6 * start.median()


def test_a_fit_reprojects_the_landmarks():
    *_, points = rendered()
    found = synthesise(model(), fitted().coefficients).landmarks("2d")
    assert (landmark_error(found, points) < 0.03).all()
    assert not any("landmarks" in reason for why in fitted().reasons for reason in why)


def test_the_unlit_skin_is_that_of_the_truth():
    _, face, *_ = rendered()
    skin = model().regions["skin"] > 0.8
    found = synthesise(model(), fitted().coefficients)
    difference = (found.albedo - face.albedo)[:, skin].mean(1).abs().mean(-1)
    spread = (face.albedo[:, skin].mean(1) - model().albedo_mean[skin].mean(0)).abs().mean(-1)
    assert difference.median() < 0.12
    assert difference.median() < spread.max()


def test_the_loss_falls_and_every_stage_is_in_the_history():
    history = fitted().history
    for stage in ("landmarks", "coarse", "fine"):
        values = [loss for name, _, loss in history if name == stage]
        assert values[-1] < values[0]
    assert set(fitted().seconds) == {"landmarks", "coarse", "fine"}


def test_the_same_photo_gives_the_same_numbers():
    _, _, image, mask, points = rendered()
    short = FitSettings(landmark_steps=10, coarse_steps=5, fine_steps=3)
    inputs = (image[:1], torch.ones_like(mask)[:1], points[:1])
    a = fit(model(), *inputs, settings=short).coefficients.to_vector()
    b = fit(model(), *inputs, settings=short).coefficients.to_vector()
    torch.testing.assert_close(a, b, atol=1e-5, rtol=0)


def test_a_fit_can_start_from_given_coefficients():
    truth, _, image, mask, points = rendered()
    none = FitSettings(landmark_steps=0, coarse_steps=0, fine_steps=0)
    found = fit(model(), image, torch.ones_like(mask), points, settings=none, init=truth)
    torch.testing.assert_close(found.coefficients.to_vector(), truth.to_vector(), atol=1e-5, rtol=0)


def test_a_photo_that_is_not_of_the_landmarks_face_is_reported_as_not_converged():
    _, _, image, mask, points = rendered()
    scrambled = points[:1].clone()
    scrambled[:, 17:] = points[:1, 17:].flip(1)  # brows at the mouth, mouth at the brows
    found = fit(model(), image[:1], torch.ones_like(mask)[:1], scrambled, settings=QUICK)
    assert found.converged == [False]
    assert "outer eye distance" in found.reasons[0][0]


def test_hidden_vertices_take_no_colour_from_the_photo():
    _, face, image, mask, _ = rendered()
    colours, weight = sample_photo_colours(face, image, torch.ones_like(mask))
    assert (weight >= 0).all()
    assert (weight[face.normals[..., 2] < 0] == 0).all()
    inside = model().regions["mouth_interior"] > 0.9
    skin = model().regions["skin"] > 0.9
    assert weight[:, inside].mean() < 0.2 * weight[:, skin].mean()
    seen = weight[0] > 0.7
    assert (colours[0] - face.colours[0]).abs()[seen].mean() < 0.05


def test_what_hair_and_mouth_hide_counts_less():
    weights = fitting.region_weights(model())
    assert ((weights >= 0) & (weights <= 1)).all()
    cheeks = weights[model().regions["cheeks"] > 0.8].mean()
    for region in ("border", "mouth_interior", "eyeballs"):
        assert weights[model().regions[region] > 0.9].mean() < 0.6 * cheeks


def test_progress_is_told_at_every_step():
    told = []
    _, _, image, mask, points = rendered()
    short = FitSettings(landmark_steps=4, coarse_steps=3, fine_steps=2)
    inputs = (image[:1], torch.ones_like(mask)[:1], points[:1])
    fit(model(), *inputs, settings=short, progress=lambda *a: told.append(a[:3]))
    assert told == [
        *(("landmarks", i, 4) for i in range(1, 5)),
        *(("coarse", i, 3) for i in range(1, 4)),
        *(("fine", i, 2) for i in range(1, 3)),
    ]


def test_wrong_input_is_one_clear_line():
    _, _, image, mask, points = rendered()
    with pytest.raises(ValueError, match=r"image: expected shape \(3, 3, 224, 224\)"):
        fit(model(), image[:, :, :200], mask, points)
    with pytest.raises(ValueError, match="landmarks: expected finite numbers"):
        fit(model(), image, mask, points * float("nan"))
