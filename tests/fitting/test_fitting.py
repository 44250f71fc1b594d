"""Analysis by synthesis, on faces rendered from the model itself."""

import os
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import pytest
import torch
from small_faces import model

from facerecon_lib.face.batch import FaceBatch
from facerecon_lib.face.camera import axis_angle_to_matrix
from facerecon_lib.face.measures import landmark_error, vertex_error_mm
from facerecon_lib.fitting import fit as fitting
from facerecon_lib.fitting.fit import FitSettings, fit
from facerecon_lib.fitting.photo_light import region_weights, sample_photo_colours
from facerecon_lib.fitting.pose_start import start_from_landmarks
from facerecon_lib.fitting.weights import FIT_WEIGHTS, REPORT_WEIGHTS
from facerecon_lib.networks.face_networks import load_network
from facerecon_lib.networks.recognition import face_features, feature_distance
from facerecon_lib.photos.crop import align
from facerecon_lib.photos.detection import detect, sample_detection, sample_photo
from facerecon_lib.photos.reading import load_image
from facerecon_lib.rendering.synthesis import synthesise

QUICK = FitSettings(landmark_steps=80, coarse_steps=50, fine_steps=20)
NO_STEPS = FitSettings(landmark_steps=0, coarse_steps=0, fine_steps=0)


@lru_cache
def rendered(count: int = 3, seed: int = 4):
    """Faces with known truth, no pixel cut off at white: (coefficients, face, image, mask,
    landmarks)."""
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


def photos(part: slice = slice(None)) -> tuple[torch.Tensor, ...]:
    """What `fit` takes of them: image, valid, landmarks."""
    _, _, image, mask, points = rendered()
    return image[part], torch.ones_like(mask)[part], points[part]


FIRST = slice(0, 1)


@lru_cache
def fitted():
    return fit(model(), *photos(), kind="2d", settings=QUICK)


def test_pose_from_landmarks_alone_is_right_to_a_few_degrees():
    truth, _, _, _, points = rendered()
    start = start_from_landmarks(model(), points)
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


def test_coefficients_from_elsewhere_are_judged_as_those_of_a_fit():
    batch = FaceBatch(*photos(), "2d", [""] * 3)
    again = fitting.judge(model(), batch, fitted().coefficients)
    for ours, theirs in zip(again.losses, fitted().losses, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-5)
    torch.testing.assert_close(again.landmark_error, fitted().landmark_error)
    still = [[why for why in r if "falling" not in why] for r in fitted().reasons]
    assert again.reasons == still
    assert (again.history, again.seconds) == ([], {})
    away = fitted().coefficients.clone()
    away.translation = away.translation + torch.tensor([40.0, 0.0, 0.0])
    away.rotation = away.rotation + torch.tensor([0.0, 2.0, 0.0])
    for why in fitting.judge(model(), batch, away).reasons:
        assert any("outer eye distance off" in line for line in why)
        assert any("degrees away" in line for line in why)
    with pytest.raises(ValueError, match="landmarks: expected finite"):
        fitting.judge(model(), replace(batch, landmarks=batch.landmarks * torch.nan), away)


def test_a_fit_reprojects_the_landmarks_and_takes_much_off_the_vertex_error_of_the_mean_face():
    _, face, _, _, points = rendered()
    found = synthesise(model(), fitted().coefficients)
    assert (landmark_error(found.landmarks("2d"), points) < 0.03).all()
    assert not any("landmarks" in reason for why in fitted().reasons for reason in why)
    error = vertex_error_mm(found.vertices, face.vertices).median(1).values
    mean = model().mean.expand_as(face.vertices)
    start = vertex_error_mm(mean, face.vertices).median(1).values
    assert error.median() < 0.6 * start.median()


def test_the_unlit_skin_is_nearer_the_truth_than_the_mean_skin_is():
    _, face, *_ = rendered()
    skin = model().regions["skin"] > 0.8
    true = face.albedo[:, skin].mean(1)
    found = synthesise(model(), fitted().coefficients).albedo[:, skin].mean(1)
    difference = (found - true).abs().mean(-1)
    mean_skin = (true - model().albedo_mean[skin].mean(0)).abs().mean(-1)
    assert (difference < 0.75 * mean_skin.clamp(min=0.12)).all()
    assert difference.median() < 0.5 * mean_skin.median()


def test_the_loss_falls_and_every_stage_is_in_the_history():
    stages = {}
    for name, _, loss in fitted().history:
        stages.setdefault(name, []).append(loss)
    assert list(stages) == ["landmarks", "coarse", "fine"] == list(fitted().seconds)
    assert stages["landmarks"][-1] < 0.5 * stages["landmarks"][0]
    assert stages["coarse"][-1] < stages["coarse"][0]
    assert stages["fine"][-1] < max(stages["fine"])  # Adam starts anew, and first steps too far


def test_the_same_photo_gives_the_same_numbers():
    short = FitSettings(landmark_steps=10, coarse_steps=5, fine_steps=3)
    fits = (fit(model(), *photos(FIRST), settings=short) for _ in range(2))
    a, b = (result.coefficients.to_vector() for result in fits)
    torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-5)


def test_a_fit_can_start_from_given_coefficients():
    truth, *_ = rendered()
    found = fit(model(), *photos(), settings=NO_STEPS, init=truth)
    vector = found.coefficients.to_vector()
    torch.testing.assert_close(vector, truth.to_vector(), atol=1e-4, rtol=1e-5)
    assert all(terms["pixel"] < 1e-4 for terms in found.losses)
    assert all(terms["landmark"] < 1e-3 for terms in found.losses)


def test_a_photo_that_is_not_of_the_landmarks_face_is_reported_as_not_converged():
    image, valid, points = photos(FIRST)
    scrambled = points.clone()
    scrambled[:, 17:] = points[:, 17:].flip(1)  # brows at the mouth, mouth at the brows
    found = fit(model(), image, valid, scrambled, settings=QUICK)
    assert found.converged == [False]
    assert "outer eye distance" in found.reasons[0][0]


def test_hidden_vertices_take_no_colour_from_the_photo():
    _, face, image, mask, _ = rendered()
    colours, weight = sample_photo_colours(face, image, torch.ones_like(mask))
    assert (weight >= 0).all()
    assert (weight[face.normals[..., 2] < 0] == 0).all()
    inside, skin = (model().regions[name] > 0.9 for name in ("mouth_interior", "skin"))
    assert weight[:, inside].mean() < 0.2 * weight[:, skin].mean()
    assert (colours[0] - face.colours[0]).abs()[weight[0] > 0.7].mean() < 0.05


def test_what_hair_and_mouth_hide_counts_less():
    weights = region_weights(model())
    assert ((weights >= 0) & (weights <= 1)).all()
    cheeks = weights[model().regions["cheeks"] > 0.8].mean()
    for region in ("border", "mouth_interior", "eyeballs"):
        assert weights[model().regions[region] > 0.9].mean() < 0.6 * cheeks


def test_progress_is_told_at_every_step():
    reports = []
    short = FitSettings(landmark_steps=4, coarse_steps=3, fine_steps=2)
    fit(model(), *photos(FIRST), settings=short, progress=lambda *a: reports.append(a[:3]))
    stages = {"landmarks": 4, "coarse": 3, "fine": 2}
    assert reports == [(name, i + 1, n) for name, n in stages.items() for i in range(n)]


def test_wrong_input_is_one_clear_line():
    image, valid, points = photos()
    with pytest.raises(ValueError, match=r"image: expected \(batch, 3, 224, 224\)"):
        fit(model(), image[:, :, :200], valid, points)
    with pytest.raises(ValueError, match="landmarks: expected finite numbers"):
        fit(model(), image, valid, points * torch.nan)


@pytest.mark.parametrize(
    ("group", "column", "value", "reason"),
    [
        ("rotation", 2, 1.6, None),  # a head on its side
        ("rotation", 1, 1.4, "80 degrees away"),
        ("identity", slice(None), 3.0, "standard deviations from the mean"),
        ("translation", 2, 3000.0, "covers"),
    ],
)
def test_an_odd_face_is_a_reason_for_doubt_but_not_its_roll(group, column, value, reason):
    """The fit starts, and stays, at that face."""
    c = model().neutral()
    getattr(c, group)[:, column] = value
    with torch.no_grad():
        face = synthesise(model(), c)
        image, mask = face.render()
        inputs = image.clamp(0, 1), torch.ones_like(mask), face.landmarks("3d")
    reasons = fit(model(), *inputs, kind="3d", settings=NO_STEPS, init=c).reasons[0]
    assert reasons == [] if reason is None else any(reason in line for line in reasons)


def test_a_loss_that_still_falls_is_a_reason_for_doubt(monkeypatch):
    monkeypatch.setattr(fitting, "MAX_STILL_FALLING", 1e-3)
    few = replace(NO_STEPS, fine_steps=30)
    found = fit(model(), *photos(FIRST), settings=few, init=model().neutral())
    assert any("still falling" in reason for reason in found.reasons[0])


def test_a_batch_finds_what_each_face_finds_alone():
    short = FitSettings(landmark_steps=60, coarse_steps=20, fine_steps=0)
    together = fit(model(), *photos(), settings=short)
    alone = fit(model(), *photos(slice(1, 2)), settings=short)
    a = synthesise(model(), together.coefficients[1]).vertices
    b = synthesise(model(), alone.coefficients).vertices
    assert vertex_error_mm(a, b).median() < 0.2
    assert len(together.losses) == 3


def test_the_reports_weights_can_be_fitted_with():
    report = FitSettings(3, 2, fine_steps=1, weights=REPORT_WEIGHTS)
    coefficients = fit(model(), *photos(FIRST), settings=report).coefficients
    assert torch.isfinite(coefficients.to_vector()).all()


# Eq. 6 ------------------------------------------------------------------------------------------


@torch.no_grad()
def both_features(coefficients, network, crop) -> list[torch.Tensor]:
    """Of the rendering and of the photo, under the rendering's mask."""
    rendered, mask = synthesise(model(), coefficients).render()
    mask = mask * crop.valid
    return [face_features(network, x, crop.landmarks, mask) for x in (rendered, crop.image)]


def test_eq_6_brings_the_rendering_nearer_to_who_is_in_the_photo():
    network = load_network("dlib")
    crop = align(sample_photo().pixels, sample_detection().landmarks)
    photo = (crop.image, crop.valid, crop.landmarks)
    begun = fit(model(), *photo, settings=replace(QUICK, fine_steps=0)).coefficients
    fine = replace(QUICK, coarse_steps=0)
    plain = fit(model(), *photo, settings=fine, init=begun)
    known = fit(model(), *photo, settings=fine, init=begun, recognition=network)
    before, after = (
        feature_distance(*both_features(x.coefficients, network, crop)).item()
        for x in (plain, known)
    )
    assert after < 0.95 * before
    assert (known.landmark_error < 1.15 * plain.landmark_error).all()
    assert "recognition" not in plain.losses[0]
    # its L1 distance over 128 numbers of a Gaussian's shape: sqrt(128 · 2 / pi) = 9.0 times that
    assert known.losses[0]["recognition"] == pytest.approx(9 * after, rel=0.15)
    assert known.converged == plain.converged == [True]


def test_eq_6_counts_in_the_fine_stage_alone_and_as_much_as_its_weight():
    network = load_network("dlib")
    settings = FitSettings(landmark_steps=5, coarse_steps=1, fine_steps=1)
    none = replace(settings, weights={**FIT_WEIGHTS, "recognition": 0.0})

    def history(**options):
        return [loss for *_, loss in fit(model(), *photos(slice(0, 2)), **options).history]

    plain = history(settings=settings)
    weighed = history(settings=settings, recognition=network)
    weightless = history(settings=none, recognition=network)
    assert weighed[:-1] == pytest.approx(plain[:-1], rel=1e-4)
    assert weightless == pytest.approx(plain, rel=1e-4)
    assert weighed[-1] > plain[-1] + 0.5


@pytest.mark.slow
@pytest.mark.skipif(
    not os.environ.get("FACERECON_TEST_PHOTOS"), reason="FACERECON_TEST_PHOTOS names no folder"
)
def test_with_eq_6_most_renderings_are_nearest_to_their_own_photo():
    network = load_network("dlib")
    folder = Path(os.environ["FACERECON_TEST_PHOTOS"])
    paths = [p for p in sorted(folder.iterdir()) if p.suffix.lower() in (".jpg", ".jpeg", ".png")]
    pairs = []
    for path in paths:
        photo = load_image(path)
        found = detect(photo)
        crop = align(photo.pixels, found.landmarks)
        inputs = (crop.image, crop.valid, crop.landmarks)
        c = fit(model(), *inputs, kind=found.kind, recognition=network).coefficients
        pairs.append(torch.cat(both_features(c, network, crop)))
    renderings, photos = torch.stack(pairs, 1)
    distance = feature_distance(renderings[:, None], photos)
    nearest = distance.argmin(1) == torch.arange(len(paths))
    assert nearest.float().mean() > 0.7  # 11 of 13; without Eq. 6 4
