"""Edges and Loop subdivision, on meshes whose answers are known."""

import math

import numpy as np
import pytest
import torch
import trimesh
from hypothesis import given
from hypothesis import strategies as st
from meshes import TETRAHEDRON, TRIANGLE, sphere

from facerecon_lib.face.mesh import boundary_edges, edges, face_normals, neighbour_mean
from facerecon_lib.face.subdivision import loop_subdivide


def grid(n: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    """n by n vertices on the plane z = 0, mirrored in x = (n - 1) / 2: (1, n^2, 3), (F, 3)."""
    y, x = torch.meshgrid(torch.arange(n), torch.arange(n), indexing="ij")
    vertices = torch.stack([x, y, torch.zeros_like(x)], -1).reshape(1, -1, 3).double()
    faces = []
    for a in (row * n + column for row in range(n - 1) for column in range(n - 1)):
        b, c, d = a + 1, a + n, a + n + 1
        left = a % n < (n - 1) / 2
        faces += [[a, b, d], [a, d, c]] if left else [[a, b, c], [b, d, c]]
    return vertices, torch.tensor(faces)


def test_a_tetrahedron_has_six_edges_and_no_border():
    every = [[0, 1], [0, 2], [0, 3], [1, 2], [1, 3], [2, 3]]
    assert edges(TETRAHEDRON).tolist() == every
    assert boundary_edges(TETRAHEDRON).shape == (0, 2)


def test_the_border_of_a_grid_is_its_outline():
    n = 5
    vertices, faces = grid(n)
    border = boundary_edges(faces)
    assert len(border) == 4 * (n - 1)
    ends = vertices[0, border]
    on_outline = (ends[..., :2] == 0).any(1).any(-1) | (ends[..., :2] == n - 1).any(1).any(-1)
    assert on_outline.all()


def test_euler_counts_a_sphere():
    vertices, faces = sphere(2)
    assert vertices.shape[1] - len(edges(faces)) + len(faces) == 2


# --- Loop subdivision


def meshes_and_creases():
    """Name, vertices, faces, creases: closed, bordered and creased meshes."""
    ball, ball_faces = sphere(1)
    plane, plane_faces = grid(5)
    line = torch.tensor([[2 + 5 * i, 7 + 5 * i] for i in range(4)])
    ring = edges(ball_faces)
    equator = ring[(ball[0, ring, 2].abs() < 1e-9).all(1)]
    assert len(equator) > 3
    return [
        pytest.param(ball, ball_faces, None, id="closed"),
        pytest.param(plane, plane_faces, None, id="bordered"),
        pytest.param(plane, plane_faces, line, id="creased"),
        pytest.param(ball, ball_faces, equator, id="equator"),
    ]


@pytest.mark.parametrize(("vertices", "faces", "creases"), meshes_and_creases())
def test_every_new_vertex_is_an_average(vertices, faces, creases):
    step = loop_subdivide(faces, vertices.shape[1], creases, dtype=torch.float64)
    operator = step.operator.to_dense()
    assert operator.shape == (vertices.shape[1] + len(edges(faces)), vertices.shape[1])
    torch.testing.assert_close(operator.sum(1), torch.ones(len(operator), dtype=torch.float64))
    assert operator.min() >= 0


@pytest.mark.parametrize(("vertices", "faces", "creases"), meshes_and_creases())
def test_four_triangles_come_of_one_and_nothing_tears(vertices, faces, creases):
    step = loop_subdivide(faces, vertices.shape[1], creases, dtype=torch.float64)
    assert step.faces.shape == (4 * len(faces), 3)
    assert step.faces.unique().tolist() == list(range(step.operator.shape[0]))
    assert len(boundary_edges(step.faces)) == 2 * len(boundary_edges(faces))
    finer = step.apply(vertices)
    # children look the way their parent does, and are listed with it
    parents = face_normals(vertices, faces).repeat_interleave(4, dim=1)
    assert (face_normals(finer, step.faces) * parents).sum(-1).min() > 0.5


def test_a_plane_stays_plane_and_its_inside_stays_put():
    vertices, faces = grid(7)
    finer = loop_subdivide(faces, 49, dtype=torch.float64).apply(vertices)
    assert not finer[..., 2].any()
    # a regular vertex: six neighbours in three opposite pairs leave it where it is
    six = torch.bincount(edges(faces).flatten()) == 6
    inside = torch.nonzero(six).flatten()
    assert len(inside) > 5
    regular = [i for i in inside.tolist() if i % 7 != 3]
    torch.testing.assert_close(finer[:, regular], vertices[:, regular])


@pytest.mark.parametrize("valence", [3, 4, 5, 6, 7, 9])
def test_loop_s_weights_of_each_valence(valence):
    rim = torch.arange(1, valence + 1)
    faces = torch.stack([torch.zeros_like(rim), rim, rim.roll(-1)], 1)
    row = loop_subdivide(faces, valence + 1, dtype=torch.float64).operator.to_dense()[0]
    around = (5 / 8 - (3 / 8 + math.cos(2 * math.pi / valence) / 4) ** 2) / valence
    assert row[0].item() == pytest.approx(1 - valence * around)
    assert row[1:].tolist() == pytest.approx([around] * valence)
    if valence == 6:
        assert around == pytest.approx(1 / 16)


def test_an_edge_takes_three_eighths_of_its_ends_and_an_eighth_of_each_vertex_opposite():
    operator = loop_subdivide(TETRAHEDRON, 4, dtype=torch.float64).operator.to_dense()
    assert operator[4].tolist() == [3 / 8, 3 / 8, 1 / 8, 1 / 8]  # on edge 0, 1


def test_a_border_and_a_named_crease_follow_the_same_curve_rule():
    _, faces = grid(5)
    line = torch.tensor([[2 + 5 * i, 7 + 5 * i] for i in range(4)])
    operator = loop_subdivide(faces, 25, line, dtype=torch.float64).operator.to_dense()
    for middle, before, after in [(12, 7, 17), (10, 5, 15)]:  # on the crease, on the border
        row = torch.zeros(25, dtype=torch.float64)
        row[middle], row[before], row[after] = 6 / 8, 1 / 8, 1 / 8
        assert operator[middle].tolist() == row.tolist()
    pairs = edges(faces).tolist()
    for a, b in [(7, 12), (5, 10)]:
        row = torch.zeros(25, dtype=torch.float64)
        row[[a, b]] = 0.5
        assert operator[25 + pairs.index([a, b])].tolist() == row.tolist()
    # the crease meets the border: three creases, a corner
    assert operator[2].tolist() == torch.eye(25)[2].tolist()


def test_a_crease_that_ends_inside_leaves_its_tip_smooth():
    _, faces = grid(5)
    dart = torch.tensor([[7, 12]])
    plain = loop_subdivide(faces, 25, dtype=torch.float64).operator.to_dense()
    creased = loop_subdivide(faces, 25, dart, dtype=torch.float64).operator.to_dense()
    torch.testing.assert_close(creased[12], plain[12])
    assert creased[25:].ne(plain[25:]).any(1).sum() == 1


def test_a_sharp_fold_stays_sharp_along_its_crease():
    vertices, faces = grid(5)
    folded = vertices.clone()
    folded[..., 2] = -(vertices[..., 0] - 2).abs()
    line = torch.tensor([[2 + 5 * i, 7 + 5 * i] for i in range(4)])
    top = {}
    for name, crease in (("creased", line), ("smooth", None)):
        v, f, c = folded, faces, crease
        for _ in range(3):
            step = loop_subdivide(f, v.shape[1], c, dtype=torch.float64)
            v, f, c = step.apply(v), step.faces, step.creases if crease is not None else None
        ridge = v[0, (v[0, :, 0] - 2).abs() < 1e-9]
        top[name] = ridge[(ridge[:, 1] - 2).abs() < 1, 2].abs().max().item()
    assert top["creased"] < 1e-12
    assert top["smooth"] > 0.1


def test_an_octahedron_subdivides_to_a_round_ball():
    ball = trimesh.creation.icosphere(subdivisions=0)
    vertices, faces = torch.tensor(ball.vertices)[None], torch.tensor(np.asarray(ball.faces))
    for _ in range(4):
        step = loop_subdivide(faces, vertices.shape[1], dtype=torch.float64)
        vertices, faces = step.apply(vertices), step.faces
    radius = vertices.norm(dim=-1)
    assert radius.min() / radius.max() > 0.97
    # the limit of each of the twelve first vertices: Loop's limit mask of valence five
    around = (5 / 8 - (3 / 8 + math.cos(2 * math.pi / 5) / 4) ** 2) / 5
    weight = 1 / (3 / (8 * around) + 5)
    first = torch.tensor(ball.vertices)
    ring = neighbour_mean(first[None], torch.tensor(np.asarray(ball.faces)))[0]
    limit = (1 - 5 * weight) * first + 5 * weight * ring
    torch.testing.assert_close(vertices[0, :12], limit, rtol=0, atol=2e-3)


@given(st.integers(0, 10_000))
def test_subdividing_a_basis_is_subdividing_the_deformed_mesh(seed):
    rng = torch.Generator().manual_seed(seed)
    mean, faces = sphere(1)
    basis = torch.randn(3, *mean.shape[1:], generator=rng, dtype=torch.float64)
    weights = torch.randn(3, generator=rng, dtype=torch.float64)
    step = loop_subdivide(faces, mean.shape[1], dtype=torch.float64)
    deformed = mean + torch.einsum("k,kvc->vc", weights, basis)
    joined = step.apply(mean) + torch.einsum("k,kvc->vc", weights, step.apply(basis))
    torch.testing.assert_close(step.apply(deformed), joined)


def test_two_steps_are_one_operator():
    vertices, faces = sphere(1)
    first = loop_subdivide(faces, vertices.shape[1], dtype=torch.float64)
    second = loop_subdivide(first.faces, first.operator.shape[0], dtype=torch.float64)
    once = torch.sparse.mm(second.operator @ first.operator, vertices[0])
    torch.testing.assert_close(once, second.apply(first.apply(vertices))[0])


def test_masks_keep_within_their_range_and_their_dtype():
    vertices, faces = sphere(1)
    mask = (vertices[..., :1] > 0).float()
    finer = loop_subdivide(faces, vertices.shape[1]).apply(mask)
    assert finer.dtype == torch.float32
    assert finer.min() >= 0
    assert finer.max() <= 1 + 1e-6


def test_gradients_flow_back_through_subdivision():
    vertices, faces = sphere(0)
    step = loop_subdivide(faces, 12, dtype=torch.float64)
    vertices.requires_grad_()
    step.apply(vertices).sum().backward()
    expected = step.operator.to_dense().sum(0)[None, :, None].expand(1, 12, 3)
    torch.testing.assert_close(vertices.grad, expected)


def test_a_mirrored_mesh_stays_mirrored():
    n = 5
    vertices, faces = grid(n)
    vertices[..., 2] = torch.sin(vertices[..., 1]) + (vertices[..., 0] - 2) ** 2
    rows = torch.arange(n * n).view(n, n)
    mirror = rows.flip(1).reshape(-1)
    for _ in range(2):
        step = loop_subdivide(faces, vertices.shape[1], dtype=torch.float64)
        vertices, faces, mirror = step.apply(vertices), step.faces, step.mirror(mirror)
        flipped = vertices * torch.tensor([-1.0, 1, 1]) + torch.tensor([n - 1.0, 0, 0])
        torch.testing.assert_close(vertices[:, mirror], flipped)
        assert torch.equal(mirror[mirror], torch.arange(vertices.shape[1]))


def test_a_lopsided_mesh_has_no_mirror():
    _, faces = grid(5)
    faces[0] = torch.tensor([0, 1, 5])
    faces[1] = torch.tensor([1, 6, 5])
    mirror = torch.arange(25).view(5, 5).flip(1).reshape(-1)
    step = loop_subdivide(faces, 25)
    with pytest.raises(ValueError, match="edges have no mirror edge: triangulate both halves"):
        step.mirror(mirror)
    with pytest.raises(ValueError, match="a permutation of 25 that undoes itself"):
        step.mirror(mirror.roll(1))


WRONG = {
    r"faces: expected \(face, 3\)": lambda: edges(TRIANGLE.T),
    r"numbers in \[0, 2\), got 0 to 2": lambda: loop_subdivide(TRIANGLE, 2),
    r"crease_edges: expected edges of the mesh, got \[3, 2\]": lambda: loop_subdivide(
        TETRAHEDRON[:2], 4, torch.tensor([[0, 1], [3, 2]])
    ),
}


@pytest.mark.parametrize("says", WRONG)
def test_a_wrong_argument_is_named(says):
    with pytest.raises(ValueError, match=says):
        WRONG[says]()
