"""Scan to mesh: nothing for the same surface in any pose, and what is known for known surfaces."""

import math

import pytest
import torch
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st
from meshes import TRIANGLE
from small_faces import model

from facerecon_lib.evaluation.now_protocol import (
    NOW_LANDMARKS,
    Surface,
    face_part,
    now_error,
    now_errors,
    outer_surface,
    pooled,
    sample_surface,
)
from facerecon_lib.face.camera import axis_angle_to_matrix


def random_face(seed: int) -> torch.Tensor:
    identity, _, _ = model().random(1, torch.Generator().manual_seed(seed))
    return model().shape(identity)[0].double()


def scan_of(vertices: torch.Tensor, points: int = 2000, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return sample_surface(vertices, outer_surface(model()), points, generator)


def seven(vertices: torch.Tensor) -> torch.Tensor:
    return vertices[model().landmarks[NOW_LANDMARKS]]


def moved(points: torch.Tensor, seed: int, unit: float = 1.0) -> torch.Tensor:
    """Turned, scaled and carried off at random."""
    g = torch.Generator().manual_seed(seed)
    turn = axis_angle_to_matrix(torch.randn(3, generator=g, dtype=torch.float64))
    scale = unit * (0.3 + torch.rand(1, generator=g, dtype=torch.float64))
    return scale * points @ turn.T + 500 * unit * torch.randn(3, generator=g, dtype=torch.float64)


def error_of(scan, true, mesh):
    return now_error(scan, seven(true), mesh, model().faces, seven(mesh))


def distances(points, vertices, faces):
    """Of every point to the nearest place on the surface, in mm."""
    return (points - Surface(vertices, faces).nearest(points)[0]).norm(dim=1)


def test_scan_distances_over_a_triangle_its_edges_and_its_corners():
    vertices = torch.tensor([[0.0, 0, 0], [10, 0, 0], [0, 10, 0]])
    scan = torch.tensor([[2.0, 2, 7], [2, 2, -7], [5, -3, 0], [-3, -4, 0], [10, 10, 0], [3, 3, 0]])
    expected = torch.tensor([7, 7, 3, 5, 10 / math.sqrt(2), 0]).double()
    for faces in (TRIANGLE, TRIANGLE.flip(1)):
        found = distances(scan, vertices, faces)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**31))
def test_scan_distances_agree_with_a_dense_sampling_of_the_surface(seed):
    rng = torch.Generator().manual_seed(seed)
    vertices = 20 * torch.randn(6, 3, generator=rng, dtype=torch.float64)
    faces = torch.tensor([[0, 1, 2], [2, 3, 4], [4, 5, 0]])
    scan = 30 * torch.randn(9, 3, generator=rng, dtype=torch.float64)
    share = torch.linspace(0, 1, 60, dtype=torch.float64)
    u, v = torch.meshgrid(share, share, indexing="ij")
    bary = torch.stack([1 - u, u * (1 - v), u * v], -1).reshape(-1, 3)
    samples = torch.einsum("sk,fkd->fsd", bary, vertices[faces]).reshape(-1, 3)
    sampled = torch.cdist(scan, samples).amin(1)
    exact = distances(scan, vertices, faces)
    assert (exact <= sampled + 1e-4).all()
    assert (sampled - exact).max() < 3


def test_the_nearest_points_are_those_of_brute_force():
    true = random_face(0)
    generator = torch.Generator().manual_seed(1)
    points = scan_of(true, 300) + 8 * torch.randn(300, 3, generator=generator)
    place, triangle = Surface(true, model().faces).nearest(points)
    mesh = trimesh.Trimesh(true, model().faces, process=False)
    exact = torch.from_numpy(trimesh.proximity.closest_point_naive(mesh, points.numpy())[1])
    torch.testing.assert_close((points - place).norm(dim=1), exact, rtol=0, atol=1e-4)
    a, b, c = true[model().faces[triangle]].unbind(1)
    area = torch.linalg.cross(b - a, c - a).norm(dim=1)
    a, b, c = a - place, b - place, c - place
    parts = sum(torch.linalg.cross(x, y).norm(dim=1) for x, y in ((a, b), (b, c), (c, a)))
    torch.testing.assert_close(parts, area, rtol=1e-4, atol=1e-4)  # inside its triangle


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("unit", [1.0, 1e-3])
def test_a_face_has_no_error_against_itself_in_any_pose_size_and_unit(seed, unit):
    true = random_face(seed)
    error = error_of(scan_of(true), true, moved(true, seed, unit))
    assert error.median < 1e-3
    assert error.distances.max() < 1e-2
    back = error.scale * moved(true, seed, unit) @ error.rotation.T + error.translation
    torch.testing.assert_close(back, true, rtol=0, atol=1e-2)


def test_the_error_does_not_depend_on_the_pose_of_scan_or_mesh():
    true, other = random_face(1), random_face(2)
    scan = scan_of(true)
    error = error_of(scan, true, other)
    posed = error_of(scan, true, moved(other, 5))
    assert posed.median == pytest.approx(error.median, abs=2e-3)
    assert posed.mean == pytest.approx(error.mean, abs=2e-3)
    turn = axis_angle_to_matrix(torch.tensor([0.5, -1.0, 0.3], dtype=torch.float64))
    shift = torch.tensor([100.0, -50.0, 900.0])
    turned = error_of(scan @ turn.T + shift, true @ turn.T + shift, other)
    assert turned.mean == pytest.approx(error.mean, abs=2e-3)


def test_points_so_far_off_the_surface_on_either_side_are_so_far_off():
    """Each point on both sides: what lies on one side alone is partly a larger face."""
    true = random_face(0)
    on_it, surface = scan_of(true), Surface(true, model().faces)
    off = 0.3 * surface.normals[surface.nearest(on_it)[1]]
    error = error_of(torch.cat([on_it + off, on_it - off]), true, moved(true, 3))
    assert error.median == pytest.approx(0.3, abs=0.005)
    assert error.mean == pytest.approx(0.3, abs=0.01)
    assert error.sd < 0.05


def test_another_face_is_further_off_than_one_that_is_nearly_right():
    true, other = random_face(1), random_face(2)
    scan = scan_of(true)
    near = error_of(scan, true, true + 0.1 * (other - true))
    far = error_of(scan, true, other)
    assert 0 < near.median < 0.3 * far.median
    assert far.median > 0.5


def test_badly_placed_landmarks_are_made_good_by_the_surface():
    true, generator = random_face(0), torch.Generator().manual_seed(4)
    noise = 3 * torch.randn(7, 3, generator=generator)
    error = now_error(scan_of(true), seven(true) + noise, true, model().faces, seven(true))
    assert error.distances.max() < 1e-2


def test_no_small_turn_shift_or_scale_makes_the_sum_of_squares_less():
    true, other = random_face(1), random_face(2)
    scan = scan_of(true)
    error = error_of(scan, true, other)
    surface, points = Surface(other, model().faces), scan[error.face]
    best = error.distances.pow(2).mean()
    middle = points.mean(0)
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        turn = axis_angle_to_matrix(3e-3 * torch.randn(3, generator=generator).double())
        grow = 1 + 3e-3 * torch.randn(1, generator=generator).double()
        shift = 0.1 * torch.randn(3, generator=generator).double()
        t = grow * turn @ (error.translation - middle) + middle + shift
        trial = surface.offsets(points, grow * error.scale, turn @ error.rotation, t)[1]
        assert trial.pow(2).mean() > best - 1e-5


def test_only_a_ball_around_the_middle_of_the_face_counts():
    corners = [[-45.0, 30, 0], [-15, 30, 0], [15, 30, 0], [45, 30, 0]]
    landmarks = torch.tensor([*corners, [0, -20, 0], [0, 0, 0], [0, 0, 0]])
    radius, centre = 1.4 * (90 + 50) / 2, torch.tensor([0.0, -20 + 0.3 * 50, 0])
    direction = torch.nn.functional.normalize(torch.randn(50, 3), dim=1)
    assert face_part(centre + 0.999 * radius * direction, landmarks).all()
    assert not face_part(centre + 1.001 * radius * direction, landmarks).any()


def test_what_lies_outside_the_face_does_not_count():
    true = random_face(0)
    scan = scan_of(true)
    far = torch.tensor([[0.0, 400.0, 0.0], [0.0, -300.0, 50.0]])
    with_hair = error_of(torch.cat([scan, far]), true, true)
    assert len(with_hair.distances) == len(error_of(scan, true, true).distances)
    assert not with_hair.face[-2:].any()


def test_a_scan_is_spread_evenly_over_the_outside():
    corners = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [3, 0, 0]])
    faces = torch.tensor([[0, 1, 2], [1, 3, 2]])  # areas 0.5 and 1
    points = sample_surface(corners, faces, 6000, torch.Generator().manual_seed(0))
    beyond = (points[:, 0] + points[:, 1] > 1).double().mean()
    assert beyond.item() == pytest.approx(2 / 3, abs=0.02)
    inside = model().regions["mouth_interior"] + model().regions["eyeballs"] > 0.5
    assert not inside[outer_surface(model())].any()


def test_a_batch_gives_an_error_a_face_and_the_points_are_pooled():
    true, mean = torch.stack([random_face(1), random_face(2)]), model().mean.double()
    errors = now_errors(model(), mean.expand_as(true), true, points=500)
    for one, error in zip(true, errors, strict=True):
        assert error.mean == now_errors(model(), mean[None], one[None], points=500)[0].mean
    distances = torch.cat([e.distances for e in errors]).sort().values
    together = pooled(errors)
    assert together["median"] == distances[(len(distances) - 1) // 2]
    assert together["mean"] == pytest.approx(distances.mean().item())
    assert together["sd"] == pytest.approx(math.sqrt(distances.var(correction=0)))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda scan, points: (scan, points[:6]), r"scan_landmarks: expected \(7, 3\)"),
        (lambda scan, points: (scan * torch.nan, points), "finite"),
        (lambda scan, points: (scan + 5000, points), "no point of it lies near"),
    ],
)
def test_what_cannot_be_compared_is_refused(change, says):
    true = random_face(0)
    with pytest.raises(ValueError, match=says):
        now_error(*change(scan_of(true, 100), seven(true)), true, model().faces, seven(true))
