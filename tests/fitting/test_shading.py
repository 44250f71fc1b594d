"""Shading tells who it is: on rendered faces the identity comes nearer to the true one."""

from dataclasses import replace

import pytest
import torch

from facerecon_lib.data.rendered.faces import RenderedFaces
from facerecon_lib.face.measures import vertex_error_mm
from facerecon_lib.face.morphable_model import MorphableModel
from facerecon_lib.fitting.shading import MODES, refine_identity


@pytest.fixture(scope="module")
def model():
    return MorphableModel.load()


@pytest.fixture(scope="module")
def batch(model):
    numbers = torch.arange(12)
    return RenderedFaces(model, seed=5, clean=True).batch(numbers, torch.zeros(12, 3))


def halved(c):
    return replace(c, identity=c.identity / 2)


def test_most_faces_come_nearer_none_goes_far_and_the_rest_stays(model, batch):
    start = halved(batch.truth)
    result = refine_identity(model, start, batch.image, batch.valid)
    truth = model.shape(batch.truth.identity, batch.truth.expression)
    before, after = (
        vertex_error_mm(model.shape(c.identity, c.expression), truth).median(1).values
        for c in (start, result)
    )
    assert (after < before).sum() >= 9
    assert (after < 1.05 * before).all()
    assert after.mean() < 0.96 * before.mean()
    back = replace(result, identity=start.identity)
    assert torch.equal(back.to_vector(), start.to_vector())
    assert torch.equal(result.identity[:, MODES:], start.identity[:, MODES:])


def test_a_face_that_is_not_seen_stays(model, batch):
    start = halved(batch.truth)[:2]
    result = refine_identity(model, start, batch.image[:2], torch.zeros_like(batch.valid[:2]))
    torch.testing.assert_close(result.identity, start.identity)


def test_faces_are_refined_one_by_one(model, batch):
    start = halved(batch.truth)
    together = refine_identity(model, start, batch.image, batch.valid).identity[3:4]
    alone = refine_identity(model, start[3], batch.image[3:4], batch.valid[3:4]).identity
    torch.testing.assert_close(together, alone, rtol=1e-3, atol=1e-3)
