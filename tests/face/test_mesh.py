"""Normals and neighbours, on meshes whose answers are known."""

import gc
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from meshes import TETRAHEDRON, TRIANGLE, sphere

from facerecon_lib.face import mesh
from facerecon_lib.face.camera import axis_angle_to_matrix
from facerecon_lib.face.mesh import face_normals, neighbour_mean, vertex_normals

axis_angles = st.tuples(*[st.floats(-3, 3, width=32)] * 3).map(
    lambda v: torch.tensor(v, dtype=torch.float64)
)


# --- normals


def test_a_triangle_seen_counter_clockwise_faces_the_viewer():
    vertices = torch.tensor([[[0.0, 0, 0], [1, 0, 0], [0, 1, 0]]])
    assert face_normals(vertices, TRIANGLE).tolist() == [[[0, 0, 1]]]
    assert vertex_normals(vertices, TRIANGLE).tolist() == [[[0, 0, 1]] * 3]


def test_the_normals_of_a_sphere_point_away_from_its_centre():
    vertices, faces = sphere(3)
    cosine = (vertex_normals(vertices, faces) * vertices).sum(-1)
    assert cosine.min() > math.cos(math.radians(1.5))
    centres = torch.nn.functional.normalize(vertices[:, faces].mean(2), dim=-1)
    assert (face_normals(vertices, faces) * centres).sum(-1).min() > 0.999


def test_normals_are_those_of_a_plain_loop():
    vertices, faces = sphere(1)
    vertices = vertices + 0.1 * torch.randn_like(vertices)
    summed = torch.zeros_like(vertices[0])
    for a, b, c in faces.tolist():
        p, q, r = vertices[0, a], vertices[0, b], vertices[0, c]
        for corner in (a, b, c):
            summed[corner] += torch.linalg.cross(q - p, r - p)
    expected = summed / summed.norm(dim=-1, keepdim=True)
    torch.testing.assert_close(vertex_normals(vertices, faces)[0], expected)


BALL, BALL_FACES = sphere(1)


@given(axis_angles, st.floats(0.01, 100))
def test_normals_turn_with_the_mesh_and_ignore_its_place_and_size(axis_angle, size):
    rng = torch.Generator().manual_seed(1)
    vertices = BALL + 0.1 * torch.randn(BALL.shape, generator=rng, dtype=torch.float64)
    turn = axis_angle_to_matrix(axis_angle)
    moved = vertex_normals(size * vertices @ turn.T + 5, BALL_FACES)
    torch.testing.assert_close(moved, vertex_normals(vertices, BALL_FACES) @ turn.T)


def test_a_turned_over_triangle_turns_its_normal_over():
    vertices, faces = sphere(1)
    torch.testing.assert_close(
        vertex_normals(vertices, faces.flip(1)), -vertex_normals(vertices, faces)
    )


def test_normals_have_the_right_gradient():
    vertices = torch.randn(2, 4, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda v: vertex_normals(v, TETRAHEDRON), vertices)
    assert torch.autograd.gradcheck(lambda v: face_normals(v, TETRAHEDRON), vertices)
    assert torch.autograd.gradgradcheck(lambda v: vertex_normals(v, TETRAHEDRON), vertices)


def test_a_vertex_without_area_gets_a_zero_normal_and_a_finite_gradient():
    vertices = torch.tensor([[[0.0, 0, 0], [1, 0, 0], [2, 0, 0], [5, 5, 5]]], requires_grad=True)
    normals = vertex_normals(vertices, TRIANGLE)
    assert not normals.any()
    normals.sum().backward()
    assert torch.isfinite(vertices.grad).all()


def test_a_batch_is_as_its_meshes_one_by_one():
    vertices, faces = sphere(1)
    batch = vertices + 0.1 * torch.randn(4, *vertices.shape[1:], dtype=torch.float64)
    alone = torch.cat([vertex_normals(v[None], faces) for v in batch])
    torch.testing.assert_close(vertex_normals(batch, faces), alone)


def test_triangles_changed_in_place_are_noticed():
    vertices, _ = sphere(0)
    faces = sphere(0)[1]
    before = vertex_normals(vertices, faces)
    faces.copy_(faces.flip(1))
    torch.testing.assert_close(vertex_normals(vertices, faces), -before)


def test_what_is_kept_for_a_mesh_goes_with_its_triangles():
    gc.collect()
    kept = len(mesh._CACHE)
    vertices, faces = sphere(0)
    vertex_normals(vertices, faces)
    neighbour_mean(vertices, faces)
    assert len(mesh._CACHE) == kept + 1
    del faces
    gc.collect()
    assert len(mesh._CACHE) == kept


def test_a_first_call_without_gradients_does_not_spoil_a_later_one():
    vertices, faces = sphere(0)
    with torch.inference_mode():
        vertex_normals(vertices, faces)
    vertices.requires_grad_()
    vertex_normals(vertices, faces)[..., 0].sum().backward()
    assert vertices.grad.abs().sum() > 0


def test_normals_stay_in_single_precision_under_autocast():
    vertices, faces = sphere(1, torch.float32)
    plain = vertex_normals(vertices, faces)
    with torch.autocast("cpu", torch.bfloat16):
        vertices.requires_grad_()
        mixed = vertex_normals(vertices, faces)
        mixed[..., 0].sum().backward()
    assert mixed.dtype == torch.float32
    torch.testing.assert_close(mixed, plain)
    assert torch.isfinite(vertices.grad).all()


# --- neighbours


def test_the_neighbour_mean_of_a_tetrahedron_is_the_mean_of_the_other_three():
    values = torch.randn(2, 4, 5)
    expected = (values.sum(1, keepdim=True) - values) / 3
    torch.testing.assert_close(neighbour_mean(values, TETRAHEDRON), expected)


def test_a_vertex_without_neighbours_keeps_its_value():
    values = torch.randn(1, 5, 2)
    torch.testing.assert_close(neighbour_mean(values, TRIANGLE)[:, 3:], values[:, 3:])


def test_the_neighbour_mean_has_the_right_gradient():
    values = torch.randn(2, 4, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda v: neighbour_mean(v, TETRAHEDRON), values)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: vertex_normals(torch.zeros(4, 3), TRIANGLE), "add the batch axis"),
        (lambda: vertex_normals(torch.zeros(1, 3, 4), TRIANGLE), r"\(1, 3, 4\): transpose it\?"),
        (lambda: face_normals(torch.zeros(1, 3, 3), TRIANGLE.float()), "faces: expected integers"),
    ],
)
def test_a_wrong_argument_is_named(call, says):
    with pytest.raises(ValueError, match=says):
        call()
