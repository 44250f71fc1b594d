"""Spherical harmonics and Eq. 3."""

import math

import numpy as np
import pytest
import scipy.special
import torch
from hypothesis import given
from hypothesis import strategies as st

from facerecon_lib.face.camera import axis_angle_to_matrix
from facerecon_lib.face.lighting import ambient_lighting, sh_basis, shade, solve_lighting

ORDER = [(0, 0), (1, -1), (1, 0), (1, 1), (2, -2), (2, -1), (2, 0), (2, 1), (2, 2)]


def random_normals(n: int, seed: int = 0, *, front: bool = False) -> torch.Tensor:
    """(1, n, 3) unit vectors in double, on the sphere or on the half that faces the viewer."""
    normals = torch.from_numpy(np.random.default_rng(seed).normal(size=(1, n, 3)))
    normals = torch.nn.functional.normalize(normals, dim=-1)
    if front:
        normals[..., 2] = normals[..., 2].abs()
    return normals


def sphere_quadrature() -> tuple[torch.Tensor, torch.Tensor]:
    """Normals and weights that integrate polynomials up to degree 9 over the sphere exactly."""
    z, along_z = np.polynomial.legendre.leggauss(8)
    around = np.arange(16) * 2 * np.pi / 16
    z, around = np.meshgrid(z, around, indexing="ij")
    ring = np.sqrt(1 - z**2)
    normals = np.stack([ring * np.cos(around), ring * np.sin(around), z], -1).reshape(-1, 3)
    return torch.from_numpy(normals), torch.from_numpy(np.repeat(along_z, 16) * 2 * np.pi / 16)


def test_the_nine_functions_are_orthonormal():
    normals, weights = sphere_quadrature()
    basis = sh_basis(normals)
    gram = basis.T @ (weights[:, None] * basis)
    torch.testing.assert_close(gram, torch.eye(9, dtype=torch.float64), rtol=0, atol=1e-13)


@pytest.mark.parametrize(("row", "degree", "order"), [(k, *lm) for k, lm in enumerate(ORDER)])
def test_each_function_is_scipy_s_without_the_condon_shortley_sign(row, degree, order):
    normals = random_normals(50)[0]
    x, y, z = normals.numpy().T
    polar, around = np.arccos(z), np.arctan2(y, x)
    if hasattr(scipy.special, "sph_harm_y"):
        value = scipy.special.sph_harm_y(degree, abs(order), polar, around)
    else:
        value = scipy.special.sph_harm(abs(order), degree, around, polar)
    real = value.real if order >= 0 else value.imag
    expected = real * (1 if order == 0 else math.sqrt(2)) * (-1) ** order
    np.testing.assert_allclose(sh_basis(normals)[:, row].numpy(), expected, atol=1e-14)


def test_band_one_is_y_z_x():
    normals = random_normals(10)
    expected = math.sqrt(3 / (4 * math.pi)) * normals[..., [1, 2, 0]]
    torch.testing.assert_close(sh_basis(normals)[..., 1:4], expected)


def test_turning_the_normals_keeps_the_power_of_each_band():
    normals = random_normals(20)
    turn = axis_angle_to_matrix(torch.tensor([0.3, -1.1, 0.7], dtype=torch.float64))
    for band in (slice(0, 1), slice(1, 4), slice(4, 9)):
        before, after = (sh_basis(n)[..., band].square().sum(-1) for n in (normals, normals @ turn))
        torch.testing.assert_close(before, after)


colour = st.floats(0, 1, width=32)


@given(st.tuples(colour, colour, colour))
def test_a_face_relit_with_ambient_light_alone_is_its_albedo(rgb):
    normals = random_normals(30).float()
    albedo = torch.tensor(rgb).expand(1, 30, 3)
    shaded = shade(albedo, normals, ambient_lighting(1))
    torch.testing.assert_close(shaded, albedo, rtol=1e-6, atol=0)


@pytest.mark.parametrize(
    ("row", "axis"),
    [(1, (0.0, 1, 0)), (2, (0.0, 0, 1)), (3, (1.0, 0, 0))],
    ids=["up", "to", "right"],
)
def test_a_light_of_band_one_brightens_the_side_that_it_comes_from(row, axis):
    lighting = ambient_lighting(1)
    lighting[:, row] = 0.5
    normals = torch.tensor([[axis, tuple(-a for a in axis)]])
    lit, dark = shade(torch.full((1, 2, 3), 0.5), normals, lighting)[0, :, 0].tolist()
    assert lit > 0.5 > dark


def test_shading_is_linear_in_the_light_and_not_clamped():
    normals, albedo = random_normals(12), torch.rand(1, 12, 3, dtype=torch.float64)
    one, other = torch.randn(2, 1, 9, 3, dtype=torch.float64)
    joined = shade(albedo, normals, 5 * one - 2 * other)
    torch.testing.assert_close(
        joined, 5 * shade(albedo, normals, one) - 2 * shade(albedo, normals, other)
    )
    assert joined.min() < 0
    assert joined.max() > 1


def test_each_channel_has_its_own_light():
    lighting = ambient_lighting(1)
    lighting[..., 1:] = 0
    shaded = shade(torch.ones(1, 5, 3), random_normals(5).float(), lighting)
    torch.testing.assert_close(shaded, torch.tensor([1.0, 0, 0]).expand(1, 5, 3))


def test_a_permuted_batch_is_shaded_permuted():
    albedo, lighting = torch.rand(3, 6, 3), torch.randn(3, 9, 3)
    normals = random_normals(18).float().view(3, 6, 3)
    order = torch.tensor([2, 0, 1])
    once = shade(albedo, normals, lighting)[order]
    torch.testing.assert_close(once, shade(albedo[order], normals[order], lighting[order]))


@given(st.integers(0, 10_000))
def test_the_light_of_a_whole_sphere_is_found_again(seed):
    rng = torch.Generator().manual_seed(seed)
    normals = random_normals(200, seed)
    albedo = 0.2 + 0.8 * torch.rand(1, 200, 3, generator=rng, dtype=torch.float64)
    light = ambient_lighting(1, dtype=torch.float64)
    light = light + torch.randn(1, 9, 3, generator=rng, dtype=torch.float64)
    found = solve_lighting(albedo, normals, shade(albedo, normals, light), ridge=0.0)
    torch.testing.assert_close(found, light, rtol=0, atol=1e-8)


def test_half_a_sphere_is_explained_though_its_light_is_not_told_apart():
    normals, albedo = random_normals(500, front=True), torch.full((1, 500, 3), 0.6).double()
    light = ambient_lighting(1, 0.8, dtype=torch.float64)
    light[:, 1:4] += 0.4
    colours = shade(albedo, normals, light)
    found = solve_lighting(albedo, normals, colours)
    assert (shade(albedo, normals, found) - colours).abs().max() < 0.02


def test_a_few_vertices_do_not_blow_the_light_up():
    normals = torch.nn.functional.normalize(
        torch.tensor([[[0.0, 0, 1], [0.1, 0, 1], [0, 0.1, 1]]]), dim=-1
    )
    albedo = torch.full((1, 3, 3), 0.5)
    colours = torch.tensor([[[0.5] * 3, [0.6] * 3, [0.4] * 3]])
    found = solve_lighting(albedo, normals, colours)
    assert (found - ambient_lighting(1)).abs().max() < 10


def test_where_nothing_is_weighed_the_prior_is_returned():
    normals, albedo = random_normals(20).float(), torch.full((1, 20, 3), 0.5)
    prior = torch.randn(1, 9, 3)
    found = solve_lighting(albedo, normals, albedo * 3, torch.zeros(1, 20), prior=prior)
    torch.testing.assert_close(found, prior)


def test_vertices_of_no_weight_are_not_heard():
    normals, albedo = random_normals(100), torch.full((1, 100, 3), 0.5).double()
    light = ambient_lighting(1, 0.7, dtype=torch.float64)
    colours = shade(albedo, normals, light)
    weights = torch.ones(1, 100)
    weights[:, ::3] = 0
    spoilt = torch.where(weights[..., None] > 0, colours, 9.0)
    torch.testing.assert_close(
        solve_lighting(albedo, normals, spoilt, weights, ridge=0.0), light, rtol=0, atol=1e-8
    )


def test_the_size_of_the_weights_does_not_matter():
    normals, albedo = random_normals(50), torch.rand(1, 50, 3, dtype=torch.float64)
    weights, colours = torch.rand(1, 50), torch.rand(1, 50, 3, dtype=torch.float64)
    one, many = (solve_lighting(albedo, normals, colours, w) for w in (weights, 1000 * weights))
    torch.testing.assert_close(one, many)


def test_a_stronger_ridge_stays_nearer_to_the_prior():
    normals, albedo = random_normals(50), torch.rand(1, 50, 3, dtype=torch.float64)
    away = [
        (solve_lighting(albedo, normals, albedo * 0.3, ridge=r) - ambient_lighting(1)).norm()
        for r in (1e-6, 1e-3, 1e-1, 10.0)
    ]
    assert away == sorted(away, reverse=True)


def test_each_face_of_a_batch_is_solved_alone():
    normals = random_normals(120).view(3, 40, 3)
    albedo, colours = torch.rand(2, 3, 40, 3, dtype=torch.float64)
    together = solve_lighting(albedo, normals, colours)
    assert together.shape == (3, 9, 3)
    torch.testing.assert_close(
        together[1:2], solve_lighting(albedo[1:2], normals[1:2], colours[1:2])
    )


def test_solving_has_the_right_gradient():
    normals, albedo = random_normals(12), torch.rand(1, 12, 3, dtype=torch.float64)
    colours = torch.rand(1, 12, 3, dtype=torch.float64)
    inputs = tuple(t.clone().requires_grad_() for t in (albedo, normals, colours))
    assert torch.autograd.gradcheck(lambda a, n, c: solve_lighting(a, n, c, ridge=0.1), inputs)


FIVE = torch.zeros(1, 5, 3)
WRONG = {
    r"normals: expected \(\.\.\., 3\), got \(3, 5\)": lambda: sh_basis(torch.zeros(3, 5)),
    r"albedo: expected \(batch, 5, 3\)": lambda: shade(FIVE[:, :4], FIVE, torch.zeros(1, 9, 3)),
    r"lighting: .* \(batch, 9, 3\), got \(1, 27\)": lambda: shade(FIVE, FIVE, torch.zeros(1, 27)),
    "weights: expected 0 or more, got -1": lambda: solve_lighting(
        FIVE, FIVE, FIVE, FIVE[..., 0] - 1
    ),
    r"weights: expected \(batch, 5\), got \(1, 4\)": lambda: solve_lighting(
        FIVE, FIVE, FIVE, FIVE[:, :4, 0]
    ),
}


@pytest.mark.parametrize("says", WRONG)
def test_a_wrong_argument_is_named(says):
    with pytest.raises(ValueError, match=says):
        WRONG[says]()
