"""Several photos of one person: one identity and albedo, nearer to the truth than of one photo."""

from dataclasses import replace

import pytest
import torch

from facerecon_lib.data.rendered.faces import RenderedFaces
from facerecon_lib.face.camera import ndc_to_pixels, pose, project_ndc
from facerecon_lib.face.measures import vertex_error_mm
from facerecon_lib.face.morphable_model import MorphableModel
from facerecon_lib.fitting.shading import refine_identity
from facerecon_lib.fitting.skin import refine_skin
from facerecon_lib.fitting.together import SCATTER, fit_together, one_identity
from facerecon_lib.rendering.synthesis import synthesise

PHOTOS = 4


@pytest.fixture(scope="module")
def model():
    return MorphableModel.load()


@pytest.fixture(scope="module")
def truth(model):
    """Photos of one person, in different poses, expressions and lights."""
    numbers = torch.arange(PHOTOS)
    batch = RenderedFaces(model, seed=5, clean=True).batch(numbers, 0.2 * torch.randn(PHOTOS, 3))
    c = batch.truth
    alike = {name: getattr(c, name)[:1].expand(PHOTOS, -1) for name in ("identity", "albedo")}
    return replace(c, **alike)


@pytest.fixture(scope="module")
def photos(model, truth):
    image, mask = synthesise(model, truth).render()
    vertices = model.shape(truth.identity, truth.expression)[:, model.dense.vertices]
    placed = pose(vertices + model.dense.offsets, truth.rotation, truth.scale, truth.translation)
    return ndc_to_pixels(project_ndc(placed)), image, (mask > 0).float()


@pytest.fixture(scope="module")
def answers(truth):
    """As an encoder's that misses a part of who it is, another one in each photo."""
    off = torch.randn(truth.identity.shape, generator=torch.Generator().manual_seed(1))
    identity = (truth.identity + SCATTER**0.5 * off) / (1 + SCATTER)
    return replace(truth, identity=identity, albedo=0.5 * truth.albedo)


def error_mm(model, c, truth):
    shapes = model.shape(c.identity)
    return vertex_error_mm(shapes, model.shape(truth.identity)).median(1).values


def test_one_answer_stays_and_many_are_moved_from_the_mean_face():
    answers = torch.randn(3, 80)
    torch.testing.assert_close(one_identity(answers[:1]), answers[:1])
    torch.testing.assert_close(
        one_identity(answers[[0, 0]]) / answers[0], torch.full((1, 80), 1.22), atol=0.01, rtol=0
    )
    order = one_identity(answers[[2, 0, 1]])
    torch.testing.assert_close(order, one_identity(answers))


def test_the_product_of_gaussians_is_the_least_squares_answer():
    """Of people from N(0, 1), seen with noise of variance SCATTER; an answer is of one photo."""
    generator = torch.Generator().manual_seed(0)
    people, count = torch.randn(5000, 1, generator=generator), 4
    seen = people + SCATTER**0.5 * torch.randn(5000, count, generator=generator)
    answers = seen / (1 + SCATTER)
    ours = one_identity(answers.T)[0]
    best = torch.linalg.lstsq(answers, people).solution[:, 0] * count
    torch.testing.assert_close(ours / answers.mean(1), best.mean().expand(5000), rtol=0.05, atol=0)


def test_one_identity_and_albedo_nearer_to_the_truth_than_each_answer(
    model, truth, photos, answers
):
    result = fit_together(model, answers, *photos)
    for name in ("identity", "albedo"):
        values = getattr(result, name)
        assert torch.equal(values, values[:1].expand_as(values))
    before, after = (error_mm(model, c, truth) for c in (answers, result))
    assert after.max() < 0.8 * before.mean()
    assert (result.expression - truth.expression).abs().mean() < 0.5
    assert not torch.equal(result.rotation[0], result.rotation[1])
    skins = [model.albedo(c.albedo[:1]) for c in (answers, result, truth)]
    assert (skins[1] - skins[2]).abs().mean() < 0.9 * (skins[0] - skins[2]).abs().mean()


def test_more_photos_tell_more_and_their_order_nothing(model, truth, photos, answers):
    def of(rows):
        return fit_together(model, answers[rows], *(part[rows] for part in photos))

    few, many = (error_mm(model, of(rows), truth[rows])[0] for rows in ([0], [0, 1, 2, 3]))
    assert many < 0.9 * few
    one, other = of([0, 1, 2, 3]), of([3, 1, 0, 2])
    torch.testing.assert_close(one.identity[:1], other.identity[:1], rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(one.expression[0], other.expression[2], rtol=1e-3, atol=1e-3)


def test_shading_and_skin_of_one_photo_are_as_alone(model, truth, photos, answers):
    _, image, valid = (part[:1] for part in photos)
    for refine in (refine_identity, refine_skin):
        one, alone = (refine(model, answers[0], image, valid, together=x) for x in (True, False))
        torch.testing.assert_close(one.to_vector(), alone.to_vector(), rtol=1e-4, atol=1e-4)


def test_a_photo_in_which_nothing_is_seen_changes_nothing(model, truth, photos, answers):
    _, image, valid = photos
    rows, blind = [0, 1], valid.clone()
    blind[1] = 0
    same = replace(
        answers, **{k: getattr(answers, k)[:1].expand(PHOTOS, -1) for k in ("identity", "albedo")}
    )
    for refine, name in ((refine_identity, "identity"), (refine_skin, "albedo")):
        both = getattr(refine(model, same[rows], image[rows], blind[rows], together=True), name)
        alone = getattr(refine(model, same[0], image[:1], valid[:1]), name)
        torch.testing.assert_close(both[:1], alone, rtol=1e-3, atol=1e-3)
