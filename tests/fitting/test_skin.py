"""The pattern of the skin from the photo, at the tone that was there before."""

from dataclasses import replace

import pytest
import torch

from facerecon_lib.data.rendered.faces import RenderedFaces
from facerecon_lib.fitting.skin import refine_skin
from facerecon_lib.rendering.synthesis import synthesise


@pytest.fixture(scope="module")
def faces(model):
    """Rendered faces, and what another face of the same tone would have for skin."""
    batch = RenderedFaces(model, 6, clean=True).batch(torch.arange(12))
    start = batch.truth.clone()
    start.albedo = start.albedo.flip(0)
    shift = torch.linalg.lstsq(mean_of(model), (tone(model, batch.truth) - tone(model, start)).mT)
    start.albedo = start.albedo + shift.solution.mT
    photo, _ = synthesise(model, batch.truth).render(background=0.5)
    return replace(batch, image=photo.clamp(0, 1)), start


def mean_of(model) -> torch.Tensor:
    skin = model.regions["skin"] * (1 - model.regions["border"])
    return torch.einsum("v,kvc->ck", skin / skin.sum(), model.albedo_basis)


def tone(model, c) -> torch.Tensor:
    return c.albedo @ mean_of(model).mT


def away(model, c, batch) -> torch.Tensor:
    skin = (model.regions["skin"] + model.regions["brows"] + model.regions["lips"])[:, None]
    return ((model.albedo(c.albedo) - batch.true_albedo).abs() * skin).sum((1, 2)) / skin.sum()


def test_the_skin_comes_nearer_to_the_truth_and_keeps_its_tone(model, faces):
    batch, start = faces
    found = refine_skin(model, start, batch.image, batch.valid)
    assert away(model, found, batch).mean() < 0.75 * away(model, start, batch).mean()
    assert (tone(model, found) - tone(model, start)).abs().max() < 0.01
    for name in ("identity", "expression", "rotation", "translation", "scale", "lighting"):
        assert torch.equal(getattr(found, name), getattr(start, name))


def test_a_darker_photo_has_the_same_skin(model, faces):
    batch, start = faces
    found = refine_skin(model, start, batch.image, batch.valid)
    dim = replace(start, lighting=0.6 * start.lighting)
    again = refine_skin(model, dim, 0.6 * batch.image, batch.valid)
    moved = (model.albedo(found.albedo) - model.albedo(start.albedo)).abs().mean()
    between = (model.albedo(found.albedo) - model.albedo(again.albedo)).abs().mean()
    assert between < 0.5 * moved


def test_a_face_that_is_not_seen_keeps_its_skin(model, faces):
    batch, start = faces
    hidden = refine_skin(model, start[:2], batch.image[:2], torch.zeros_like(batch.valid[:2]))
    torch.testing.assert_close(hidden.albedo, start.albedo[:2])
