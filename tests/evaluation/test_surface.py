"""Normals, relief and where it lies: angles that were turned, waves that are fine, six areas."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from facerecon_lib.evaluation.surface import (
    AREAS,
    area_shares,
    displacement_share_by_region,
    even_share,
    face_areas,
    normal_error_degrees,
    recovered,
    relief_error_mm,
    relief_found,
    relief_mm,
    rms_over_skin,
    skin_area,
    vertex_area,
)
from facerecon_lib.face.camera import axis_angle_to_matrix
from facerecon_lib.face.mesh import vertex_normals
from facerecon_lib.face.morphable_model import MorphableModel


@pytest.fixture(scope="module")
def model() -> MorphableModel:
    return MorphableModel.load()


def moved(vertices, angle=(0.3, -0.5, 0.2), scale=1.3):
    turn = axis_angle_to_matrix(torch.tensor([angle]))
    return scale * vertices @ turn.transpose(1, 2) + torch.tensor([5.0, -80.0, 900.0])


def waves(model: MorphableModel, length: float) -> torch.Tensor:
    """Heights that go up and down with y, 1 mm, along z."""
    height = torch.zeros(1, len(model.mean), 3)
    height[0, :, 2] = torch.sin(2 * math.pi * model.mean[:, 1] / length)
    return height


def bump(model: MorphableModel, landmark: int, width: float = 3.0) -> torch.Tensor:
    """A hill of 1 mm on a landmark of the mean face, along its normals."""
    distance = (model.mean - model.mean[model.landmarks[landmark]]).norm(dim=1)
    normals = vertex_normals(model.mean[None], model.faces)
    return torch.exp(-((distance / width) ** 2) / 2)[None, :, None] * normals


def test_normals_do_not_see_where_how_large_and_how_turned_a_face_is(model):
    face = model.mean[None]
    assert normal_error_degrees(moved(face), face, model.faces).max() < 0.05


def test_normals_are_off_by_the_angle_that_a_slope_has():
    """A plane tilted about x by 10 degrees, its border kept from turning it back."""
    n = 21
    y, x = torch.meshgrid(torch.linspace(-1, 1, n), torch.linspace(-1, 1, n), indexing="ij")
    i = torch.arange(n * n).view(n, n)
    a, b, c, d = (v.reshape(-1) for v in (i[:-1, :-1], i[:-1, 1:], i[1:, :-1], i[1:, 1:]))
    faces = torch.cat([torch.stack([a, b, c], 1), torch.stack([b, d, c], 1)])
    flat = torch.stack([x, y, torch.zeros_like(x)], -1).view(1, -1, 3)
    roof = flat.clone()
    roof[..., 2] = -math.tan(math.radians(10)) * flat[..., 1].abs()
    angle = normal_error_degrees(roof, flat, faces)[0].view(n, n)
    torch.testing.assert_close(angle[3:8], torch.full((5, n), 10.0), atol=0.01, rtol=0)


@pytest.mark.parametrize(("times", "kept"), [(2, 0.99), (4, 0.71), (8, 0.27)])
def test_relief_is_what_is_finer_than_the_patch(model, times, kept):
    towards = torch.tensor([0.0, 0.0, 1.0]).expand(1, len(model.mean), 3)
    whole = waves(model, times * 8.0)
    x, y, _ = model.mean.T
    middle = (x.abs() < 40) & (y < 100) & (y > -70) & (model.regions["skin"] > 0.5)
    fine = relief_mm(whole, towards, model)[:, middle]
    share = (fine.square().mean() / whole[:, middle, 2].square().mean()).sqrt()
    assert float(share) == pytest.approx(kept, abs=0.08)
    assert relief_mm(10 * torch.ones_like(whole), towards, model).abs().max() < 1e-3
    off_skin = skin_area(model) == 0
    assert (relief_mm(whole, towards, model)[:, off_skin] == 0).all()


def test_relief_sees_a_hill_and_no_turn_or_size(model):
    face = model.mean[None]
    hill = relief_error_mm(face + bump(model, 30, 4.0), face, model)
    assert 0.01 < hill < 0.1  # 1 mm, but on a hundredth of the skin
    assert relief_error_mm(moved(face), face, model) < 1e-3
    twice = relief_error_mm(face + 2 * bump(model, 30, 4.0), face, model)
    assert float(twice / hill) == pytest.approx(2, rel=0.05)


def test_what_is_found_of_the_relief_is_its_slope(model):
    normals = vertex_normals(model.mean[None], model.faces)
    wanted, elsewhere = bump(model, 8, 5.0), bump(model, 27, 5.0)
    share = relief_found(0.4 * wanted + 0.7 * elsewhere, wanted, normals, model)
    assert float(share) == pytest.approx(0.4, abs=0.02)
    assert float(relief_found(-wanted, wanted, normals, model)) == pytest.approx(-1, abs=1e-4)
    broad = 0.4 * wanted + 0.5 * normals  # a face that is larger all over has no relief
    assert float(relief_found(broad, wanted, normals, model)) == pytest.approx(0.4, abs=0.05)
    assert relief_found(wanted, 1e-3 * wanted, normals, model).isnan().all()


def test_what_is_recovered_is_counted_in_squares():
    base = torch.tensor([2.0, 2.0, 2.0])
    errors = torch.tensor([0.0, 1.0, 4.0])
    torch.testing.assert_close(recovered(errors, base), torch.tensor([1.0, 0.75, -3.0]))


def test_areas_of_vertices_add_up_to_the_surface():
    corners = torch.tensor([[0.0, 0, 0], [3, 0, 0], [0, 4, 0], [3, 4, 0]])
    area = vertex_area(corners, torch.tensor([[0, 1, 2], [1, 3, 2]]))
    torch.testing.assert_close(area, torch.tensor([2.0, 4, 4, 2]))


def test_the_areas_of_the_face_are_a_partition_of_its_skin(model):
    areas = face_areas(model)
    assert tuple(areas) == AREAS
    times = torch.stack(list(areas.values())).sum(0)
    assert torch.equal(times == 1, skin_area(model) > 0)
    assert times.max() == 1
    assert sum(area_shares(model).values()) == pytest.approx(1)
    for name, area in areas.items():
        assert (area == area[model.mirror]).float().mean() > 0.995, name
        assert area_shares(model)[name] > 0.03


@pytest.mark.parametrize(
    ("area", "landmarks"),
    [
        ("eyes and brows", [18, 19, 21, 22, 37, 38, 40, 44, 46]),
        ("nose", [28, 29, 30, 31, 33, 35]),
        ("mouth", [48, 50, 51, 54, 57]),
        ("lower jaw", [5, 7, 8, 9, 11]),
    ],
)
def test_landmarks_lie_in_their_areas(model, area, landmarks):
    inside = face_areas(model)[area][model.landmarks[landmarks]]
    counted = skin_area(model)[model.landmarks[landmarks]] > 0
    assert inside[counted].all()
    assert counted.any()


@pytest.mark.parametrize("subdivision", [0, 1])
@pytest.mark.parametrize("area", AREAS)
def test_displacement_is_found_where_it_is(area, subdivision):
    model = MorphableModel.load(subdivision=subdivision)
    there = face_areas(model)[area]
    moved = 0.1 * torch.ones(2, len(model.mean), 3)
    moved[0, there] = 1.0
    shares = displacement_share_by_region(moved, model)
    total = torch.stack(list(shares.values())).sum(0)
    torch.testing.assert_close(total, torch.ones(2))
    assert float(shares[area][1]) == pytest.approx(area_shares(model)[area], abs=1e-4)
    even = area_shares(model)[area]
    assert float(shares[area][0]) == pytest.approx(even / (even + 0.01 * (1 - even)), abs=1e-3)
    assert displacement_share_by_region(0 * moved, model)[area].isnan().all()


@settings(max_examples=10)
@given(st.floats(0.1, 5), st.integers(0, 100))
def test_shares_know_no_size_and_lengths_do(size, seed):
    model = MorphableModel.load(subdivision=0)
    generator = torch.Generator().manual_seed(seed)
    moved = torch.randn(1, len(model.mean), 3, generator=generator)
    one, other = (displacement_share_by_region(v, model) for v in (moved, size * moved))
    for area in AREAS:
        torch.testing.assert_close(one[area], other[area], atol=1e-5, rtol=1e-4)
    length = rms_over_skin(moved, model)
    torch.testing.assert_close(rms_over_skin(size * moved, model), size * length)
    turned = moved @ axis_angle_to_matrix(torch.tensor([[0.1, 2.0, -0.4]])).mT
    torch.testing.assert_close(rms_over_skin(turned, model), length)


def test_one_colour_for_all_skin_is_told_from_spots(model):
    one = torch.tensor([0.1, -0.05, 0.02]).expand(1, len(model.mean), 3)
    spots = waves(model, 10.0).flip(-1)
    torch.testing.assert_close(even_share(one, model), torch.ones(1))
    assert even_share(spots, model) < 0.05
    length = rms_over_skin(one, model) / rms_over_skin(spots, model)
    assert float(even_share(one + length * spots, model)) == pytest.approx(0.5, abs=0.05)
    assert even_share(0 * one, model).isnan().all()
