"""Bilinear models: mode products, the HOSVD, faces made and fitted, files."""

import pytest
import torch

from facerecon_lib.face.bilinear import BilinearModel, hosvd, mode_product
from facerecon_lib.face.model_file import ModelError


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture(scope="module")
def tensor():
    """30 people in 6 poses of 40 vertices: what a pose moves depends on the person, exactly."""
    person, pose = random(30, 4), torch.cat([torch.zeros(1, 5), torch.eye(5)]).double()
    rest = 9 * torch.einsum("pk,kvc->pvc", person, random(4, 40, 3, seed=1))
    both = torch.einsum("pk,ej,kjvc->pevc", person, pose, random(4, 5, 40, 3, seed=2))
    moved = 5 * torch.einsum("ej,jvc->evc", pose, random(5, 40, 3, seed=3))
    return 60 * random(40, 3, seed=4) + rest[:, None] + both + moved


def test_a_mode_product_sends_one_axis_through_a_matrix():
    tensor, matrix = random(3, 4, 5), random(2, 4, seed=1)
    expected = torch.einsum("imk,jm->ijk", tensor, matrix)
    assert torch.allclose(mode_product(tensor, matrix, 1), expected)


def test_the_hosvd_is_exact_at_full_ranks_with_orthonormal_factors(tensor):
    core, factors = hosvd(tensor, (30, 6))
    back = core
    for mode, factor in enumerate(factors):
        assert torch.allclose(factor.T @ factor, torch.eye(factor.shape[1]).double(), atol=1e-8)
        back = mode_product(back, factor, mode)
    assert torch.allclose(back, tensor, atol=1e-8)
    slices = core.flatten(1).norm(dim=1)
    assert (slices.diff() <= 1e-6).all()  # the first weights hold the most


def test_smaller_ranks_are_the_first_columns(tensor):
    core, factors = hosvd(tensor, (3, 2))
    every, others = hosvd(tensor, (30, 6))
    assert torch.allclose(core.abs(), every[:3, :2].abs(), atol=1e-7)
    assert factors[0].shape == (30, 3)
    assert torch.allclose(factors[0].abs(), others[0][:, :3].abs(), atol=1e-7)


@pytest.mark.parametrize("ranks", [(0, 2), (31, 2), (3, 7)])
def test_ranks_beyond_the_axes_are_refused(tensor, ranks):
    with pytest.raises(ValueError, match="expected 1 to"):
        hosvd(tensor, ranks)


def test_a_person_seen_at_rest_acts_as_they_do_where_the_tensor_is_a_product(tensor):
    model = BilinearModel.learn(tensor[:25], (6, 6))
    rest = model.expressions[:1].expand(5, -1)
    identity, given = model.fit(tensor[25:, 0], 1e-4, rest)
    assert torch.equal(given, rest)
    for pose in range(6):
        shape = model.shape(identity, model.expressions[pose : pose + 1].expand(5, -1))
        assert torch.allclose(shape, tensor[25:, pose], atol=1e-2)


def test_a_fit_of_both_comes_near_faces_that_nobody_named(tensor):
    model = BilinearModel.learn(tensor[:25], (6, 6))
    for pose in (0, 3):
        identity, expression = model.fit(tensor[25:, pose], 1e-3)
        off = (model.shape(identity, expression) - tensor[25:, pose]).norm(dim=-1).mean()
        assert off < 0.1


def test_without_evidence_a_fit_is_the_mean_person(tensor):
    model = BilinearModel.learn(tensor, (6, 6))
    identity, _ = model.fit(tensor[:2, 0], 1e6, model.expressions[:1].expand(2, -1))
    assert torch.allclose(identity, model.people.mean(0).expand(2, -1), atol=1e-4)


def test_a_file_comes_back_and_another_is_refused(tensor, tmp_path):
    model = BilinearModel.learn(tensor, (6, 6))
    model.save(tmp_path / "b.safetensors", {"licence": "CC0-1.0"})
    again = BilinearModel.load(tmp_path / "b.safetensors")
    assert torch.allclose(again.core, model.core.float(), rtol=1e-3, atol=0.1)
    with pytest.raises(ModelError, match="no such bilinear model"):
        BilinearModel.load(tmp_path / "missing.safetensors")
    broken = BilinearModel(model.mean, model.core[:, :5], model.people, model.expressions)
    broken.save(tmp_path / "c.safetensors", {})
    with pytest.raises(ModelError, match=r"c\.safetensors"):
        BilinearModel.load(tmp_path / "c.safetensors")
