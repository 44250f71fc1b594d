"""Eq. 4 to 12, the priors, and the weights."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from facerecon_lib.face.lighting import LIGHT_LEVEL, ambient_lighting, light_level, sh_basis
from facerecon_lib.fitting import losses
from facerecon_lib.fitting.weights import (
    FIT_RECOGNITION_WEIGHTS,
    FIT_WEIGHTS,
    RECOGNITION_WEIGHTS,
    REPORT_WEIGHTS,
)

LINE = torch.tensor([[0, 1, 2]])  # one triangle: every vertex neighbours the other two


def images():
    return torch.rand(2, 2, 3, 4, 4, generator=torch.Generator().manual_seed(0))


def test_equation_4_is_a_sum_over_covered_pixels_divided_by_the_batch():
    rendered, photo = torch.zeros(2, 3, 4, 4), torch.full((2, 3, 4, 4), 0.5)
    mask = torch.zeros(2, 1, 4, 4)
    mask[0, 0, :2] = 1  # eight pixels of the first photo
    assert losses.pixel_loss(rendered, photo, mask) == pytest.approx(8 * 3 * 0.25 / 2)
    assert losses.pixel_loss(rendered, photo, mask, "mean") == pytest.approx(0.25 / 2)


def test_the_mask_of_equation_4_gets_no_gradient():
    rendered, photo = images()
    mask = torch.ones(2, 1, 4, 4, requires_grad=True)
    rendered.requires_grad_()
    losses.pixel_loss(rendered, photo, mask).backward()
    assert mask.grad is None
    assert rendered.grad.abs().sum() > 0


def test_unequal_shapes_and_unknown_reductions_are_refused():
    rendered, photo = images()
    with pytest.raises(ValueError, match="photo: expected"):
        losses.pixel_loss(rendered, photo[:1], torch.ones(2, 1, 4, 4))
    with pytest.raises(ValueError, match="reduction: expected 'sum' or 'mean', got 'average'"):
        losses.pixel_loss(rendered, photo, torch.ones(2, 1, 4, 4), "average")
    with pytest.raises(ValueError, match=r"\(batch, 68, 2\)"):
        losses.landmark_loss(torch.zeros(1, 51, 2), torch.zeros(1, 51, 2))
    with pytest.raises(ValueError, match="features"):
        losses.recognition_loss(torch.zeros(2, 4), torch.zeros(2, 3))


def test_the_robust_loss_is_squared_for_small_differences_and_flat_for_large_ones():
    photo, weight = torch.zeros(1, 3, 2, 2), torch.ones(1, 1, 2, 2)
    small = losses.robust_pixel_loss(photo + 0.001, photo, weight, sigma=0.1)
    assert small == pytest.approx(1e-6, rel=1e-3)
    large = losses.robust_pixel_loss(photo + 5.0, photo, weight, sigma=0.1)
    assert large == pytest.approx(0.01, rel=1e-2)


def test_pixels_of_weight_zero_do_not_count_and_none_at_all_give_zero_and_not_nan():
    rendered, photo = images()
    weight = torch.ones(2, 1, 4, 4)
    weight[:, :, 0] = 0
    before = losses.robust_pixel_loss(rendered, photo, weight)
    rendered[:, :, 0] = 9.0
    assert losses.robust_pixel_loss(rendered, photo, weight) == before
    empty = torch.zeros(2, 1, 4, 4)
    assert losses.pixel_loss(rendered, photo, empty, "mean") == 0
    assert losses.robust_pixel_loss(rendered, photo, empty) == 0


def test_equation_5_is_l1_over_68_in_pixels():
    points = torch.zeros(2, 68, 2)
    target = points.clone()
    target[:, 0] = torch.tensor([3.0, -4.0])
    assert losses.landmark_loss(points, target) == pytest.approx(7 / 68)
    weights = torch.ones(68)
    weights[0] = 0.3
    assert losses.landmark_loss(points, target, weights) == pytest.approx(0.3 * 7 / 68)


def test_equation_6_is_l1_over_features_and_equation_8_sums_over_the_map():
    a, b = torch.zeros(2, 4), torch.tensor([[1.0, -1, 0, 0], [0, 0, 0, 2.0]])
    assert losses.recognition_loss(a, b) == pytest.approx(2.0)
    assert losses.offset_l2_loss(torch.full((2, 3, 4, 4), 2.0)) == pytest.approx(3 * 16 * 4)


@given(st.integers(0, 1000))
def test_equation_9_is_zero_for_a_map_that_is_its_own_mirror(seed):
    half = torch.rand(1, 3, 5, 4, generator=torch.Generator().manual_seed(seed))
    symmetric = torch.cat([half, half.flip(-1)], -1)
    assert losses.offset_symmetry_loss(symmetric, displacement=False) == 0
    widening = symmetric.clone()
    widening[:, 0, :, :4] *= -1  # left half moves left, right half moves right
    assert losses.offset_symmetry_loss(widening, displacement=True) == 0
    assert losses.offset_symmetry_loss(widening, displacement=False) > 0


def test_mesh_symmetry_compares_mirror_vertices():
    mirror = torch.tensor([1, 0, 2])
    widening = torch.tensor([[[-1.0, 2, 3], [1.0, 2, 3], [0, 5, 6]]])
    assert losses.mesh_symmetry_loss(widening, mirror, displacement=True) == 0
    assert losses.mesh_symmetry_loss(widening, mirror, displacement=False) == pytest.approx(8 / 3)


def test_equations_10_and_11_are_means_over_the_ring_then_over_vertices():
    values = torch.tensor([[[0.0], [1.0], [3.0]]])
    # means over each ring: (1 + 9) / 2, (1 + 4) / 2, (9 + 4) / 2
    assert losses.smoothness_loss(values, LINE) == pytest.approx((5 + 2.5 + 6.5) / 3)


@given(st.floats(-5, 5), st.integers(0, 100))
def test_smoothness_does_not_see_a_shift_of_everything(shift, seed):
    values = torch.rand(2, 3, 3, generator=torch.Generator().manual_seed(seed))
    moved = losses.smoothness_loss(values + shift, LINE)
    torch.testing.assert_close(moved, losses.smoothness_loss(values, LINE), atol=1e-4, rtol=1e-4)


def test_priors_cost_nothing_where_they_lead():
    assert losses.coefficient_prior(torch.tensor([[1.0, 2.0], [0, 0]])) == pytest.approx(2.5)
    assert losses.scale_prior(torch.ones(3, 1)) == 0
    assert losses.scale_prior(torch.tensor([[math.exp(0.02)]])) == pytest.approx(1, rel=1e-4)
    assert losses.action_range_prior(torch.tensor([[0.0, 0.5, 1.0]])) == 0
    assert losses.action_range_prior(torch.tensor([[-0.5, 1.5, 0.2]])) == pytest.approx(0.5)
    terms = losses.light_priors(ambient_lighting(2, LIGHT_LEVEL))
    assert all(value == pytest.approx(0, abs=1e-10) for value in terms.values())


def test_the_light_level_is_the_mean_shading_of_the_visible_half_sphere():
    generator = torch.Generator().manual_seed(0)
    lighting = torch.randn(1, 9, 3, generator=generator)
    # a disc of points is a half sphere by seen area
    radius = torch.rand(200_000, generator=generator).sqrt()
    turn = 2 * math.pi * torch.rand(200_000, generator=generator)
    x, y = radius * turn.cos(), radius * turn.sin()
    normals = torch.stack([x, y, (1 - x * x - y * y).clamp(min=0).sqrt()], -1)
    expected = (sh_basis(normals) @ lighting[0]).mean()
    assert light_level(lighting)[0] == pytest.approx(float(expected), abs=0.01)


@given(st.floats(0.3, 2.0))
def test_the_cost_of_directed_light_does_not_depend_on_how_bright_it_is(factor):
    lighting = ambient_lighting(1)
    lighting[:, 1:] = 0.3 * torch.randn(1, 8, 1, generator=torch.Generator().manual_seed(1))
    bright, usual = (losses.light_priors(k * lighting)["light_bands"] for k in (factor, 1))
    torch.testing.assert_close(bright, usual, rtol=1e-4, atol=0)


def test_the_weighted_sum_is_equation_7_and_refuses_no_term_and_one_without_a_weight():
    terms = {"pixel": torch.tensor(1500.0), "landmark": torch.tensor(4.0)}
    terms["recognition"] = torch.tensor(10.0)
    assert losses.weighted_sum(terms, REPORT_WEIGHTS) == 1500 + 4 + 200
    with pytest.raises(KeyError, match="no weight for pixels"):
        losses.weighted_sum({"pixels": torch.tensor(1.0)}, REPORT_WEIGHTS)
    with pytest.raises(ValueError, match="at least one"):
        losses.weighted_sum({}, REPORT_WEIGHTS)


def test_named_weights_are_the_reports_and_cannot_be_changed():
    assert REPORT_WEIGHTS["recognition"] == 20
    assert REPORT_WEIGHTS["smooth_shape"] == 0.08
    assert REPORT_WEIGHTS["smooth_albedo"] == 0.1
    assert REPORT_WEIGHTS["offset_l2"] == REPORT_WEIGHTS["offset_symmetry"] == 1e-4
    assert RECOGNITION_WEIGHTS["facenet"] == REPORT_WEIGHTS["recognition"]
    for weights in (RECOGNITION_WEIGHTS, FIT_RECOGNITION_WEIGHTS):
        # the same for either network, in units of the distance between two people
        assert weights["dlib"] / weights["facenet"] == pytest.approx(25.5 / 7.9, rel=0.05)
    with pytest.raises(TypeError):
        FIT_WEIGHTS["pixel"] = 0
