"""What the rasterizer promises by itself: coverage, depth, weights, distances, gradients."""

import math
import subprocess
import sys
import textwrap

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from meshes import TRIANGLE, soup

from facerecon_lib.rendering.pytorch3d import WarpMeshRasterizer, rasterize_pytorch3d
from facerecon_lib.rendering.rasterizer import rasterize

SEEDS = st.integers(0, 2**31 - 1)


def generator(seed):
    return torch.Generator().manual_seed(seed)


def centres(height, width, dtype=torch.float64):
    """NDC of the pixel centres, (height, width, 2): +x left, +y up, the shorter side is [-1, 1]."""
    half = min(height, width) / 2
    x = (width / 2 - (torch.arange(width, dtype=dtype) + 0.5)) / half
    y = (height / 2 - (torch.arange(height, dtype=dtype) + 0.5)) / half
    return torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], -1)


def fan(inner, corners):
    """A closed polygon as triangles round an inner point: (1, n + 1, 3) vertices, (n, 3) faces."""
    ring = torch.tensor(corners)
    verts = torch.cat([torch.tensor([inner]), ring])
    verts = torch.cat([verts, torch.full((len(verts), 1), 2.0)], 1)[None]
    k = torch.arange(len(ring))
    return verts, torch.stack([torch.zeros_like(k), 1 + k, 1 + (k + 1) % len(ring)], 1)


SQUARE = [(2.0, 2.0), (0.0, 2.0), (-2.0, 2.0), (-2.0, 0.0), (-2.0, -2.0), (0.0, -2.0), (2.0, -2.0)]


# Coverage


@settings(max_examples=60, deadline=None)
@given(
    inner=st.tuples(st.integers(-16, 16), st.integers(-16, 16)),
    flip=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    k=st.sampled_from([1, 4]),
)
def test_a_closed_fan_covers_every_pixel_exactly_once_even_where_edges_run_through_centres(
    inner, flip, dtype, k
):
    # Multiples of 1/16: with 16 pixels, half of them are pixel centres.
    verts, faces = fan((inner[0] / 16, inner[1] / 16), SQUARE)
    faces = faces.flip(1) if flip else faces
    fragments = rasterize(verts.to(dtype), faces, 16, faces_per_pixel=k)
    assert ((fragments.pix_to_face >= 0).sum(-1) == 1).all()


@settings(max_examples=40, deadline=None)
@given(seed=SEEDS, size=st.sampled_from([(9, 16), (16, 16), (20, 11)]))
def test_a_fan_round_any_point_covers_every_pixel_exactly_once(seed, size):
    x, y = (torch.rand(2, generator=generator(seed)) * 1.8 - 0.9).tolist()
    verts, faces = fan((x, y), SQUARE)
    fragments = rasterize(verts, faces, size, faces_per_pixel=4)
    assert ((fragments.pix_to_face >= 0).sum(-1) == 1).all()


def test_a_square_on_pixel_centres_owns_its_top_and_left_side_only():
    # Corners on the centres of pixels 1 and 5 of 8 in both directions.
    low, high = (4 - 5.5) / 4, (4 - 1.5) / 4
    verts = torch.tensor([[[high, high, 1], [low, high, 1], [low, low, 1], [high, low, 1.0]]])
    covered = rasterize(verts, torch.tensor([[0, 1, 2], [0, 2, 3]]), 8).pix_to_face[0, ..., 0] >= 0
    expected = torch.zeros(8, 8, dtype=torch.bool)
    expected[1:5, 1:5] = True
    assert torch.equal(covered, expected)


@settings(max_examples=40, deadline=None)
@given(seed=SEEDS, size=st.sampled_from([(7, 12), (10, 10)]))
def test_a_triangle_covers_the_centres_inside_it(seed, size):
    verts, faces = soup(seed, vertices=3, faces=1, dtype=torch.float64)
    covered = rasterize(verts, faces, size).pix_to_face[0, ..., 0] >= 0
    a, b, c = verts[0, faces[0], :2]
    p = centres(*size)

    def side(u, v):
        return (p[..., 0] - u[0]) * (v[1] - u[1]) - (p[..., 1] - u[1]) * (v[0] - u[0])

    sides = torch.stack([side(a, b), side(b, c), side(c, a)])
    assert torch.equal(covered, (sides > 0).all(0) | (sides < 0).all(0))


def test_the_first_pixel_is_at_positive_x_and_y():
    verts = torch.tensor([[[0.9, 0.9, 1], [0.6, 0.9, 1], [0.9, 0.6, 1.0]]])
    covered = rasterize(verts, TRIANGLE, 16).pix_to_face[0, ..., 0] >= 0
    rows, cols = covered.nonzero(as_tuple=True)
    assert len(rows)
    assert rows.max() < 4
    assert cols.max() < 4


def test_the_longer_side_of_an_image_reaches_beyond_one():
    verts = torch.tensor([[[1.9, 0.5, 1], [1.2, 0.5, 1], [1.5, -0.5, 1.0]]])
    wide = rasterize(verts, TRIANGLE, (16, 32)).pix_to_face[0, ..., 0] >= 0
    assert wide[:, :8].any()
    assert not wide[:, 8:].any()
    assert (rasterize(verts, TRIANGLE, (16, 16)).pix_to_face < 0).all()


@settings(max_examples=25, deadline=None)
@given(seed=SEEDS, k=st.sampled_from([1, 3]), blur=st.sampled_from([0.0, 1e-2]))
def test_a_permuted_batch_gives_permuted_fragments(seed, k, blur):
    verts, faces = soup(seed, batch=4)
    order = torch.randperm(4, generator=generator(seed))
    args = {"blur_radius": blur, "faces_per_pixel": k, "perspective_correct": True}
    straight = rasterize(verts, faces, 12, **args)
    permuted = rasterize(verts[order], faces, 12, **args)
    assert torch.equal(permuted.zbuf, straight.zbuf[order])
    assert torch.equal(permuted.bary_coords, straight.bary_coords[order])
    assert torch.equal(permuted.dists, straight.dists[order])
    f, empty = len(faces), straight.pix_to_face < 0
    own = (straight.pix_to_face % f).masked_fill(empty, -1)[order]
    assert torch.equal((permuted.pix_to_face % f).masked_fill(empty[order], -1), own)
    mesh = permuted.pix_to_face.div(f, rounding_mode="floor")
    assert (mesh == torch.arange(4)[:, None, None, None])[~empty[order]].all()


# Depth


@settings(max_examples=25, deadline=None)
@given(seed=SEEDS)
def test_each_pixel_lists_its_triangles_by_depth_and_the_hard_image_is_the_first(seed):
    verts, faces = soup(seed)
    many = rasterize(verts, faces, 14, faces_per_pixel=6, perspective_correct=True)
    there = many.pix_to_face >= 0
    z = many.zbuf.masked_fill(~there, math.inf)
    assert (z[..., 1:] >= z[..., :-1]).all()
    hard = rasterize(verts, faces, 14, perspective_correct=True)
    assert torch.equal(hard.pix_to_face[..., 0], many.pix_to_face[..., 0])
    assert torch.equal(hard.zbuf[..., 0], many.zbuf[..., 0])
    assert torch.equal(hard.bary_coords[..., 0, :], many.bary_coords[..., 0, :])
    assert torch.equal(hard.dists[..., 0], many.dists[..., 0])


@settings(max_examples=25, deadline=None)
@given(seed=SEEDS)
def test_fewer_faces_a_pixel_are_the_first_of_more(seed):
    verts, faces = soup(seed, faces=60)
    few = rasterize(verts, faces, 10, 1e-3, 2)
    more = rasterize(verts, faces, 10, 1e-3, 40)
    assert torch.equal(few.pix_to_face, more.pix_to_face[..., :2])


@pytest.mark.parametrize("k", [1, 2])
def test_of_two_equal_triangles_the_first_in_the_list_is_nearer(k):
    verts = torch.tensor([[[0.8, 0.7, 2], [-0.8, 0.7, 2.5], [0, -0.8, 3.0]]])
    fragments = rasterize(verts, torch.tensor([[0, 1, 2], [0, 1, 2]]), 9, faces_per_pixel=k)
    found = fragments.pix_to_face[fragments.pix_to_face[..., 0] >= 0]
    assert torch.equal(found, torch.arange(k).expand_as(found))


@settings(max_examples=25, deadline=None)
@given(seed=SEEDS)
def test_single_and_double_precision_agree(seed):
    verts, faces = soup(seed)
    single = rasterize(verts, faces, 12, 1e-2, 3, True, True)
    double = rasterize(verts.double(), faces, 12, 1e-2, 3, True, True)
    assert double.zbuf.dtype == double.dists.dtype == double.bary_coords.dtype == torch.float64
    torch.testing.assert_close(single.zbuf.double(), double.zbuf, rtol=0, atol=1e-4)
    same = single.pix_to_face == double.pix_to_face  # equal depths may swap
    torch.testing.assert_close(single.dists[same].double(), double.dists[same], rtol=0, atol=1e-5)
    weights = single.bary_coords[same].double()
    torch.testing.assert_close(weights, double.bary_coords[same], rtol=0, atol=1e-3)


# Weights and distances


def filled(fragments, verts, faces):
    """Of one mesh: where fragments are; their weights, their corners, and their pixels' centres."""
    there = fragments.pix_to_face >= 0
    corner = verts[0, faces[fragments.pix_to_face[there]]]
    centre = centres(*there.shape[1:3])[None, :, :, None].expand(*there.shape, 2)
    return there, fragments.bary_coords[there], corner, centre[there]


@settings(max_examples=40, deadline=None)
@given(seed=SEEDS, size=st.sampled_from([(8, 13), (11, 11)]))
def test_barycentric_coordinates_sum_to_one_and_reproduce_the_pixel_centre(seed, size):
    verts, faces = soup(seed, dtype=torch.float64)
    fragments = rasterize(verts, faces, size, faces_per_pixel=4)
    _, weights, corner, pixel = filled(fragments, verts, faces)
    flat = corner[..., :2]
    edge = flat[:, 1:] - flat[:, :1]
    area = (edge[:, 0, 0] * edge[:, 1, 1] - edge[:, 0, 1] * edge[:, 1, 0]).abs()
    slack = 1e-8 / area + 1e-12  # PyTorch3D's guard against division by zero, kept
    assert ((weights.sum(-1) - 1).abs() <= 1.01 * slack).all()
    error = ((weights[..., None] * flat).sum(1) - pixel).norm(dim=-1)
    assert (error <= 4 * slack).all()
    assert (weights >= 0).all()


@settings(max_examples=40, deadline=None)
@given(seed=SEEDS)
def test_perspective_weights_give_the_point_in_space_that_projects_to_the_pixel(seed):
    verts, faces = soup(seed, dtype=torch.float64)
    fragments = rasterize(verts, faces, 10, faces_per_pixel=4, perspective_correct=True)
    there, weights, corner, pixel = filled(fragments, verts, faces)
    space = torch.cat([corner[..., :2] * corner[..., 2:], corner[..., 2:]], -1)
    point = (weights[..., None] * space).sum(1)
    torch.testing.assert_close(weights.sum(-1), torch.ones(len(weights)).double())
    torch.testing.assert_close(point[:, :2] / point[:, 2:], pixel, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(point[:, 2], fragments.zbuf[there])


@settings(max_examples=25, deadline=None)
@given(seed=SEEDS, blur=st.floats(1e-3, 0.3))
def test_a_blurred_triangle_counts_wherever_its_distance_is_below_the_blur(seed, blur):
    verts, faces = soup(seed, vertices=3, faces=1, dtype=torch.float64)
    fragments = rasterize(verts, faces, 12, blur, 1, False, True)
    corners, p = verts[0, faces[0], :2], centres(12, 12)
    squared = []
    for a, b in ((0, 1), (1, 2), (2, 0)):
        along = corners[b] - corners[a]
        t = (((p - corners[a]) @ along) / (along @ along)).clamp(0, 1)
        squared.append((corners[a] + t[..., None] * along - p).square().sum(-1))
    squared = torch.stack(squared).amin(0)
    inside = rasterize(verts, faces, 12).pix_to_face[0, ..., 0] >= 0
    there = fragments.pix_to_face[0, ..., 0] >= 0
    assert torch.equal(there, inside | (squared < blur))
    signed = torch.where(inside, -squared, squared)
    torch.testing.assert_close(fragments.dists[0, ..., 0][there], signed[there])
    weights = fragments.bary_coords[0, ..., 0, :][there]
    assert (weights >= 0).all()
    torch.testing.assert_close(weights.sum(-1), torch.ones(len(weights)).double())


def test_empty_pixels_hold_minus_one_everywhere():
    verts = torch.tensor([[[0.5, 0.5, 1], [-0.5, 0.5, 1], [0, -0.5, 1.0]]])
    for k, blur in ((1, 0.0), (3, 0.0), (3, 1e-2)):
        fragments = rasterize(verts, TRIANGLE, 16, blur, k)
        empty = fragments.pix_to_face == -1
        assert empty.any()
        assert not empty.all()
        assert (fragments.zbuf[empty] == -1).all()
        assert (fragments.dists[empty] == -1).all()
        assert (fragments.bary_coords[empty] == -1).all()


# Culling and the near plane


def test_backface_culling_leaves_out_clockwise_triangles():
    verts = torch.tensor([[[0.8, 0.7, 2], [-0.8, 0.7, 2], [0, -0.8, 2.0]]])
    # From the camera +x is left: left, right, bottom runs clockwise for the viewer.
    for faces, anticlockwise in ((TRIANGLE, False), (TRIANGLE[:, [0, 2, 1]], True)):
        for k in (1, 2):
            assert (rasterize(verts, faces, 8, faces_per_pixel=k).pix_to_face >= 0).any()
        culled = rasterize(verts, faces, 8, cull_backfaces=True)
        assert (culled.pix_to_face >= 0).any() == anticlockwise


def project(points):
    return torch.cat([points[..., :2] / points[..., 2:], points[..., 2:]], -1)


@settings(max_examples=30, deadline=None)
@given(seed=SEEDS, k=st.sampled_from([1, 3]))
def test_a_triangle_through_the_near_plane_is_cut_and_reports_in_its_own_weights(seed, k):
    draw = generator(seed)
    points = torch.randn(1, 12, 3, generator=draw, dtype=torch.float64)
    faces = torch.arange(12).reshape(4, 3)
    near = dict(perspective_correct=True, z_clip_value=0.2)
    fragments = rasterize(project(points), faces, 10, 0.0, k, **near)
    there, weights, corner, pixel = filled(fragments, points, faces)
    point = (weights[..., None] * corner).sum(1)
    assert (point[:, 2] >= 0.2 - 1e-9).all()
    torch.testing.assert_close(weights.sum(-1), torch.ones(len(weights)).double())
    torch.testing.assert_close(point[:, 2], fragments.zbuf[there], rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(point[:, :2] / point[:, 2:], pixel, rtol=1e-6, atol=1e-6)
    # The ray through each pixel centre meets the same triangles.
    ray = torch.cat([centres(10, 10).reshape(-1, 2), torch.ones(100, 1).double()], 1)
    hits = torch.zeros(100, dtype=torch.long)
    for a, b, c in points[0][faces]:
        solution = torch.linalg.solve(torch.stack([a, b, c], 1), ray.T).T
        inside = (solution > 0).all(1) | (solution < 0).all(1)
        hits += inside & (1 / solution.sum(1) > 0.2)
    assert torch.equal(there.sum(-1).flatten(), hits.clamp(max=k))


def test_without_a_near_plane_a_triangle_with_a_vertex_behind_the_camera_is_left_out():
    points = torch.tensor([[[1.0, 1, 2], [-1, 1, 2], [0, -1, -1]]])
    assert (rasterize(project(points), TRIANGLE, 8).pix_to_face < 0).all()
    cut = rasterize(project(points), TRIANGLE, 8, perspective_correct=True, z_clip_value=0.1)
    assert (cut.pix_to_face >= 0).any()


def test_frustum_culling_changes_no_pixel():
    verts, faces = soup(5, batch=2, faces=80)
    verts[..., :2] *= 2.5
    for size in ((12, 12), (8, 20)):
        plain = rasterize(verts, faces, size, faces_per_pixel=3)
        culled = rasterize(verts, faces, size, faces_per_pixel=3, cull_to_frustum=True)
        assert torch.equal(plain.pix_to_face, culled.pix_to_face)
        assert torch.equal(plain.bary_coords, culled.bary_coords)


# Gradients


def away_from_jumps(verts, faces, size, **options):
    """Which fragments keep their triangles and the sign of their distance under small moves."""
    states = []
    for seed in range(4):
        move = 1e-4 * torch.randn(verts.shape, generator=generator(seed), dtype=verts.dtype)
        fragments = rasterize(verts + move, faces, size, **options)
        states.append(fragments.pix_to_face + 1000 * (fragments.dists > 0))
    same = torch.stack(states).eq(states[0]).all(0)
    return same & (states[0] % 1000 != 999)


def assert_right_gradients(field, verts, faces, size, **options):
    kept = away_from_jumps(verts, faces, size, **options)
    assert kept.sum() > 10

    def values(verts):
        return getattr(rasterize(verts, faces, size, **options), field)[kept]

    assert torch.autograd.gradcheck(values, verts.requires_grad_(), eps=1e-7, atol=1e-5)


PERSPECTIVE = {"perspective_correct": True}
BLURRED = {"blur_radius": 0.02, "faces_per_pixel": 3}
CLIPPED = BLURRED | {"clip_barycentric_coords": True}
THREE = PERSPECTIVE | {"faces_per_pixel": 3}
SWITCHES = [{}, PERSPECTIVE, THREE, BLURRED, CLIPPED, CLIPPED | PERSPECTIVE]


@pytest.mark.parametrize("options", SWITCHES)
@pytest.mark.parametrize("field", ["zbuf", "bary_coords", "dists"])
def test_gradients_are_those_of_finite_differences(options, field):
    verts, faces = soup(11, batch=2, vertices=7, faces=4, dtype=torch.float64)
    assert_right_gradients(field, verts, faces, 5, **options)


@pytest.mark.parametrize("perspective", [False, True])
@pytest.mark.parametrize("field", ["zbuf", "bary_coords", "dists"])
def test_gradients_through_the_near_plane_are_those_of_finite_differences(perspective, field):
    points = torch.tensor(
        [[[0.9, 0.8, 1.4], [-1.1, 0.7, 1.9], [0.1, -0.9, 0.1], [0.7, -0.8, 0.15]]]
    ).double()
    faces = torch.tensor([[0, 1, 2], [1, 2, 3]])  # one vertex behind the plane, and two
    verts = project(points) if perspective else points
    options = {"z_clip_value": 0.4, "perspective_correct": perspective, "faces_per_pixel": 2}
    assert_right_gradients(field, verts, faces, 6, **options)


def test_gradients_of_all_fragments_add_up_at_shared_vertices():
    verts, faces = soup(3, batch=2, dtype=torch.float64)
    verts.requires_grad_()
    fragments = rasterize(verts, faces, 9, faces_per_pixel=3, perspective_correct=True)
    draw = generator(0)
    pull = torch.randn(fragments.zbuf.shape, generator=draw, dtype=torch.float64)
    (together,) = torch.autograd.grad((fragments.zbuf * pull).sum(), verts, retain_graph=True)
    apart = torch.zeros_like(verts)
    for k in range(3):
        one = (fragments.zbuf * pull)[..., k].sum()
        apart += torch.autograd.grad(one, verts, retain_graph=True)[0]
    torch.testing.assert_close(together, apart)


def test_a_mesh_that_needs_no_gradient_gets_none():
    verts, faces = soup(1)
    assert not rasterize(verts, faces, 8).zbuf.requires_grad
    fragments = rasterize(verts.requires_grad_(), faces, 8)
    assert fragments.zbuf.requires_grad
    assert not fragments.pix_to_face.requires_grad


def test_vertices_in_any_memory_layout_give_the_same_fragments_and_gradients():
    verts, faces = soup(2, batch=2)
    strided = torch.empty(3, 2, verts.shape[1]).permute(1, 2, 0).copy_(verts).requires_grad_()
    verts.requires_grad_()
    assert not strided.is_contiguous()
    for v in (verts, strided):
        rasterize(v, faces.int(), 8, perspective_correct=True).bary_coords[..., 0].sum().backward()
    assert torch.equal(verts.grad, strided.grad)


def test_faces_that_were_changed_in_place_are_looked_at_again():
    verts, faces = soup(4)
    whole = rasterize(verts, faces, 8).pix_to_face
    faces[:] = faces.flip(0)
    turned = rasterize(verts, faces, 8).pix_to_face
    assert torch.equal(turned, torch.where(whole < 0, -1, len(faces) - 1 - whole))
    with pytest.raises(ValueError, match="expected vertex indices 0 to 4"):
        rasterize(verts[:, :5], faces, 8)
    faces[0, 0] = 99
    with pytest.raises(ValueError, match="to 99: does the mesh belong"):
        rasterize(verts, faces, 8)


def test_gradients_flow_after_a_look_in_inference_mode():
    verts, faces = soup(4)
    with torch.inference_mode():
        first = rasterize(verts, faces, 37, perspective_correct=True)
        assert torch.equal(
            rasterize(verts.clone(), faces.clone(), 8).zbuf, rasterize(verts, faces, 8).zbuf
        )
    fragments = rasterize(verts.requires_grad_(), faces, 37, perspective_correct=True)
    assert torch.equal(fragments.pix_to_face, first.pix_to_face)
    fragments.zbuf.sum().backward()
    assert verts.grad.any()


# Odd input


@pytest.mark.parametrize(("k", "blur"), [(1, 0.0), (2, 1e-2)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_nothing_to_draw_gives_empty_fragments(k, blur, dtype):
    verts, faces = soup(0, batch=2, dtype=dtype)
    away = verts + torch.tensor([9.0, 0, 0], dtype=dtype)
    behind = verts - torch.tensor([0, 0, 9.0], dtype=dtype)
    cases = [
        (verts[:0], faces, 0),
        (verts, faces[:0], 2),
        (verts[:, :0], faces[:0], 2),
        (away, faces, 2),
        (behind, faces, 2),
    ]
    for verts, faces, batch in cases:
        for options in ({}, {"z_clip_value": 0.1}, {"cull_to_frustum": True}):
            verts = verts.detach().requires_grad_()
            fragments = rasterize(verts, faces, (5, 6), blur, k, **options)
            assert fragments.pix_to_face.shape == (batch, 5, 6, k)
            assert fragments.bary_coords.shape == (batch, 5, 6, k, 3)
            assert (fragments.pix_to_face == -1).all()
            fragments.zbuf.sum().backward()
            assert not verts.grad.any()


@pytest.mark.parametrize(("k", "blur"), [(1, 0.0), (2, 1e-2)])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e30])
def test_broken_vertices_leave_the_rest_of_the_mesh_alone(k, blur, bad):
    good = torch.tensor([[0.6, 0.6, 2], [-0.6, 0.6, 2], [0, -0.6, 2.0]])
    for axis in range(3):
        broken = good * torch.tensor([0.9, 0.9, 1.2])  # behind the other
        broken[1, axis] = bad
        verts = torch.cat([good, broken])[None].requires_grad_()
        faces = torch.tensor([[0, 1, 2], [3, 4, 5]])
        fragments = rasterize(verts, faces, 8, blur, k, perspective_correct=True)
        alone = rasterize(verts[:, :3], faces[:1], 8, blur, k, perspective_correct=True)
        there = alone.pix_to_face[..., 0] == 0
        assert (fragments.pix_to_face[there] == 0).any(-1).all()
        if not math.isfinite(bad):
            assert torch.equal(fragments.pix_to_face, alone.pix_to_face)
            fragments.zbuf.sum().backward()
            assert verts.grad.isfinite().all()


def test_degenerate_triangles_are_left_out():
    verts = torch.tensor([[[0.5, 0.5, 1], [-0.5, -0.5, 1], [0, 0, 1], [0.5, 0.5, 1.0]]])
    faces = torch.tensor([[0, 1, 2], [0, 3, 1], [2, 2, 2]])
    for blur, k in ((0.0, 1), (1e-2, 3)):
        assert (rasterize(verts, faces, 8, blur, k).pix_to_face < 0).all()


VERTS, FACES = torch.zeros(1, 4, 3), TRIANGLE
WRONG = [
    (ValueError, r"got \(3, 4\): transpose it\?", (VERTS[0].T, FACES, 8)),
    (ValueError, r"got \(1, 3, 4\): transpose it\?", (VERTS.mT, FACES, 8)),
    (ValueError, r"got \(4, 3\): add the batch axis", (VERTS[0], FACES, 8)),
    (ValueError, r"got \(1, 4, 2\)$", (VERTS[..., :2], FACES, 8)),
    (TypeError, r"expected float32 or float64, got torch.float16", (VERTS.half(), FACES, 8)),
    (ValueError, r"faces: expected \(face, 3\), got \(3, 1\): transpose it\?", (VERTS, FACES.T, 8)),
    (ValueError, r"faces: .*one mesh's faces", (VERTS, FACES[None], 8)),
    (TypeError, r"faces: expected integer vertex indices, got", (VERTS, FACES.float(), 8)),
    (ValueError, r"faces: expected vertex indices 0 to 3, got 7 to 9", (VERTS, FACES + 7, 8)),
    (ValueError, r"faces: expected vertex indices 0 to 3, got -1 to 1", (VERTS, FACES - 1, 8)),
    (ValueError, r"faces: expected on cpu .*, got meta", (VERTS, FACES.to("meta"), 8)),
    (ValueError, r"image_size: .* \(height, width\), got \(8, 8, 8\)", (VERTS, FACES, (8, 8, 8))),
    (ValueError, r"image_size: .*, got 0", (VERTS, FACES, 0)),
    (ValueError, r"blur_radius: .*, got -1", (VERTS, FACES, 8, -1.0)),
    (ValueError, r"faces_per_pixel: expected at least 1, got 0", (VERTS, FACES, 8, 0.0, 0)),
    (ValueError, r"image_size: .* fragments are too many", (VERTS, FACES, 60_000)),
]


@pytest.mark.parametrize(("error", "words", "arguments"), WRONG)
def test_a_wrong_call_is_told_in_one_line_what_was_expected(error, words, arguments):
    with pytest.raises(error, match=words) as caught:
        rasterize(*arguments)
    assert "\n" not in str(caught.value)


def test_a_negative_near_plane_is_refused():
    with pytest.raises(ValueError, match="z_clip_value: expected a depth of 0 or more, got -1"):
        rasterize(VERTS, FACES, 8, z_clip_value=-1)


def test_a_missing_pytorch3d_is_said_with_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pytorch3d.renderer", None)
    for call in (WarpMeshRasterizer, lambda: rasterize_pytorch3d(VERTS, FACES, 8)):
        with pytest.raises(ImportError, match=r"pip install facerecon-lib\[pytorch3d\]"):
            call()


def test_rasterizing_prints_nothing_and_imports_no_pytorch3d():
    program = """
        import sys, torch
        from facerecon_lib.rendering.rasterizer import rasterize
        rasterize(torch.rand(1, 3, 3) + 1, torch.tensor([[0, 1, 2]]), 8)
        assert "pytorch3d" not in sys.modules
    """
    command = [sys.executable, "-c", textwrap.dedent(program)]
    run = subprocess.run(command, capture_output=True, text=True)
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")
