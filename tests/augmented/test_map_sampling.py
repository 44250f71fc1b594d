"""Reading maps at points: bilinear and hyperbolic, texel depths, and which vertices are seen."""

import math
from types import SimpleNamespace

import pytest
import torch
from small_faces import model, pixels, turned
from torch.autograd import gradcheck

from facerecon_lib.augmented.map_sampling import sample_bilinear, sample_hyperbolic
from facerecon_lib.face.mesh import neighbour_mean, vertex_normals
from facerecon_lib.rendering.synthesis import Face
from facerecon_lib.rendering.visibility import texel_depth, visible_vertices


def centres(height: int, width: int) -> torch.Tensor:
    """(1, 2, height, width) x and y of each texel's centre."""
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    return torch.stack([x, y])[None].double()


def random(*shape: int) -> torch.Tensor:
    draw = torch.Generator().manual_seed(3)
    return torch.rand(*shape, generator=draw, dtype=torch.float64)


# Bilinear ----------------------------------------------------------------------------------------


def test_a_map_of_places_reads_the_place():
    """Whatever is linear in x and y is read exactly, between the outermost centres."""
    points = 0.5 + random(2, 50, 2) * torch.tensor([39.0, 29.0])
    read = sample_bilinear(centres(30, 40).expand(2, -1, -1, -1), points)
    torch.testing.assert_close(read, points, rtol=0, atol=1e-12)


def test_between_four_texels_each_counts_by_its_nearness():
    maps = torch.tensor([[[[1.0, 2.0], [4.0, 8.0]]]], dtype=torch.float64)
    points = torch.tensor([[[0.5, 0.5], [1.0, 0.5], [1.0, 1.0], [0.75, 1.25]]]).double()
    expected = [1.0, 1.5, 3.75, (3 * 1 + 1 * 2 + 9 * 4 + 3 * 8) / 16]
    torch.testing.assert_close(sample_bilinear(maps, points)[0, :, 0].tolist(), expected)


def test_each_face_reads_its_own_map():
    maps = torch.arange(3.0)[:, None, None, None].expand(3, 2, 4, 4)
    read = sample_bilinear(maps, torch.full((3, 5, 2), 1.3))
    torch.testing.assert_close(read, torch.arange(3.0)[:, None, None].expand(3, 5, 2))


def test_beyond_the_border_its_value_holds_and_the_point_feels_nothing():
    points = torch.tensor([[[-50.0, 2.0], [0.2, 3.9], [99.0, 99.0]]]).double().requires_grad_()
    maps = centres(4, 6)
    read = sample_bilinear(maps, points)
    expected = torch.tensor([[0.5, 2.0], [0.5, 3.5], [5.5, 3.5]]).double()
    torch.testing.assert_close(read[0], expected)
    read.sum().backward()
    torch.testing.assert_close(points.grad[0], torch.tensor([[0.0, 1.0], [0, 0], [0, 0]]).double())


def test_gradients_to_maps_points_and_depth():
    maps = random(2, 3, 5, 6).requires_grad_()
    points = (random(2, 7, 2) * 7 - 1).requires_grad_()  # some beyond the border
    assert gradcheck(sample_bilinear, (maps, points))
    depth = (0.5 + random(2, 1, 5, 6)).requires_grad_()
    inner = (random(2, 7, 2) * 6).requires_grad_()
    assert gradcheck(sample_hyperbolic, (maps, inner, depth))


@pytest.mark.parametrize("shape", [(1, 5, 2), (2, 5, 3), (2, 5)])
def test_points_that_do_not_fit_are_refused(shape):
    with pytest.raises(ValueError, match=r"points: expected \(2, vertex, 2\), got"):
        sample_bilinear(torch.zeros(2, 3, 4, 4), torch.zeros(shape))


# Hyperbolic --------------------------------------------------------------------------------------


def test_hyperbolic_is_the_mean_weighted_by_nearness_over_depth():
    maps, depth = random(1, 2, 2, 2), 1 + random(1, 1, 2, 2)
    x, y = 0.9, 1.2
    bx, by = torch.tensor([1.5 - x, x - 0.5]).double(), torch.tensor([1.5 - y, y - 0.5]).double()
    weights = by[:, None] * bx[None] / depth[0, 0]
    expected = (weights * maps[0]).sum((1, 2)) / weights.sum()
    read = sample_hyperbolic(maps, torch.tensor([[[x, y]]]).double(), depth)
    torch.testing.assert_close(read[0, 0], expected)


@pytest.mark.parametrize("depth", [350.0, -2.0, 1e-3])
def test_with_a_constant_depth_it_is_bilinear(depth):
    maps, points = random(2, 3, 8, 8), random(2, 40, 2) * 10 - 1
    depths = torch.full((2, 1, 8, 8), depth, dtype=torch.float64)
    read = sample_hyperbolic(maps, points, depths)
    torch.testing.assert_close(read, sample_bilinear(maps, points), rtol=1e-13, atol=1e-13)


def test_the_unit_of_depth_cancels():
    """Small depths alone magnify nothing, in value or in gradient."""
    maps, points, depth = random(1, 3, 8, 8), random(1, 40, 2) * 8, 1 + random(1, 1, 8, 8)
    reads, slopes = [], []
    for unit in (1.0, 1e-6):
        inputs = maps.clone().requires_grad_(), points.clone().requires_grad_()
        reads.append(sample_hyperbolic(*inputs, unit * depth))
        slopes.append(torch.autograd.grad(reads[-1].square().sum(), inputs))
    torch.testing.assert_close(*reads)
    torch.testing.assert_close(*slopes)


def test_it_reads_a_slanted_plane_exactly_where_bilinear_does_not():
    """Attributes linear in space are, divided by depth, linear in the picture."""
    x, y = centres(20, 20)[0]
    nearness = (1 + 0.2 * x + 0.1 * y) / 300
    maps, depth = ((3 + 0.5 * x - y) / nearness)[None, None], (1 / nearness)[None, None]
    points = 1 + 18 * random(1, 30, 2)
    px, py = points[0].unbind(1)
    true = (3 + 0.5 * px - py) / ((1 + 0.2 * px + 0.1 * py) / 300)
    torch.testing.assert_close(sample_hyperbolic(maps, points, depth)[0, :, 0], true)
    assert (sample_bilinear(maps, points)[0, :, 0] - true).abs().max() > 0.5


def test_depths_that_do_not_fit_the_maps_are_refused():
    maps, points = torch.zeros(2, 3, 4, 4), torch.zeros(2, 5, 2)
    for shape in ((1, 1, 4, 4), (2, 4, 4), (2, 1, 8, 8)):
        with pytest.raises(ValueError, match=r"texel_depth: expected \(2, 1, 4, 4\)"):
            sample_hyperbolic(maps, points, torch.ones(shape))


# Depths ------------------------------------------------------------------------------------------


def test_camera_depths_are_those_of_the_vertices_that_are_seen():
    face = turned(0, 30)
    depth = texel_depth(face)
    assert depth.shape == (2, 1, 224, 224)
    seen = visible_vertices(face) > 0
    off = sample_bilinear(depth, pixels(face))[..., 0] - face.v_camera[..., 2]
    assert off[seen].abs().median() < 0.1  # mm
    assert off[seen].abs().quantile(0.95) < 1.5
    _, mask = face.render(224)
    farthest = face.v_camera[..., 2].amax(1)
    for b in (0, 1):
        assert torch.equal(depth[b][mask[b] == 0].unique(), farthest[b][None])
    assert texel_depth(face, 64).shape == (2, 1, 64, 64)


def test_object_depths_pass_through_zero_and_clip_depths_are_small():
    face = turned(0, 30)
    camera, on = texel_depth(face), face.render(224)[1] > 0
    middle = face.v_camera[..., 2].mean(1)[:, None, None, None]
    objects = texel_depth(face, frame="object")
    torch.testing.assert_close(objects, camera - middle, rtol=0, atol=1e-3)
    low, high = (z[..., None, None] for z in face.v_camera[..., 2].aminmax(dim=1, keepdim=True))
    near, far = low - 0.1 * (high - low), high + 0.1 * (high - low)
    clip = texel_depth(face, frame="clip")
    assert 0 < clip.min() < 0.3
    assert 0.7 < clip.max() < 1
    expected = far / (far - near) * (1 - near / camera)
    torch.testing.assert_close(clip[on], expected[on], rtol=0, atol=5e-3)


def test_depths_move_with_the_face():
    for frame, slope in (("camera", 1.0), ("object", 1.0), ("clip", 0.005)):
        face = turned(10)
        face.v_camera.requires_grad_()
        shown = face.render(224)[1] > 0
        texel_depth(face, frame=frame)[shown].sum().backward()
        per_texel = face.v_camera.grad[..., 2].sum() / shown.sum()
        assert slope / 2 < per_texel < 3 * slope


def test_where_depth_passes_zero_the_gradient_explodes_and_nowhere_else():
    face = turned(0, 25)
    points = pixels(face)
    maps = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    seen = visible_vertices(face)[..., None]

    def slope(frame: str | None) -> float:
        places = points.clone().requires_grad_()
        if frame is None:
            read = sample_bilinear(maps, places)
        else:
            read = sample_hyperbolic(maps, places, texel_depth(face, frame=frame))
        (seen * read).sum().backward()
        return places.grad.norm().item()

    plain = slope(None)
    assert slope("camera") == pytest.approx(plain, rel=0.02)
    assert slope("clip") == pytest.approx(plain, rel=0.1)
    assert slope("object") > 10 * plain
    with pytest.raises(ValueError, match="frame 'world': expected 'camera', 'object' or 'clip'"):
        texel_depth(turned(0), frame="world")


# Who is seen -------------------------------------------------------------------------------------


def sheets(*sheets: tuple[float, float, float], count: int = 21, slant: float = 0.0) -> Face:
    """Square sheets facing the viewer: half a side (mm), depth (mm), shift to the left (mm)."""
    vertices, faces = [], []
    line = torch.linspace(-1, 1, count)
    y, x = torch.meshgrid(line, line, indexing="ij")
    i = torch.arange(count * count).view(count, count)
    a, b, c, d = (t.flatten() for t in (i[:-1, :-1], i[:-1, 1:], i[1:, :-1], i[1:, 1:]))
    for half, depth, left in sheets:
        faces.append(torch.cat([torch.stack(t, 1) for t in ((a, c, b), (b, c, d))]))
        faces[-1] = faces[-1] + count * count * len(vertices)
        z = depth + half * x * math.tan(math.radians(slant))
        vertices.append(torch.stack([half * x + left, half * y, z], -1).view(-1, 3))
    v, f = torch.cat(vertices)[None], torch.cat(faces)
    normals = vertex_normals(v, f) * torch.tensor([-1.0, 1.0, -1.0])  # viewer axes
    mesh, nothing = SimpleNamespace(faces=f), torch.zeros_like(v)
    return Face(mesh, v, normals, v, nothing, nothing, torch.zeros(1, 3), 30.0)


def test_a_sheet_hides_what_stands_behind_it_and_a_texel_around():
    face = sheets((20.0, 300.0, 5.0), (60.0, 350.0, 0.0), count=41)
    seen = visible_vertices(face)[0] > 0
    near, far = seen.view(2, 41, 41)
    assert near.all()
    points = pixels(face)[0].view(2, 41, 41, 2)
    low, high = points[0].amin((0, 1)), points[0].amax((0, 1))
    behind = ((points[1] > low - 0.4) & (points[1] < high + 0.4)).all(-1)
    clear = ((points[1] < low - 1.6) | (points[1] > high + 1.6)).any(-1)
    assert behind.sum() > 100
    assert not far[behind].any()
    assert far[clear].all()
    smaller = visible_vertices(face, 56)  # hides a wider rim
    assert smaller.sum() < seen.sum()


@pytest.mark.parametrize("slant", [0, 40, 70, -70])
def test_a_slanted_sheet_does_not_hide_itself(slant):
    assert visible_vertices(sheets((30.0, 350.0, 0.0), slant=slant)).mean() > 0.99


def test_what_faces_away_is_not_seen_nor_what_is_edge_on():
    face = sheets((30.0, 350.0, 0.0))
    face.normals = -face.normals
    assert not visible_vertices(face).any()
    assert not visible_vertices(sheets((5.0, 350.0, 0.0), slant=82)).any()


def test_what_lies_beyond_the_picture_is_not_seen():
    face = sheets((100.0, 350.0, 80.0))
    points = pixels(face)[0]
    within = ((points > 0.5) & (points < 223.5)).all(1)
    assert 50 < within.sum() < 400
    assert torch.equal(visible_vertices(face)[0] > 0, within)


def test_a_turned_face_shows_one_side_and_no_back():
    front, right = visible_vertices(turned(0, 45))
    assert set(front.unique().tolist()) == {0.0, 1.0}
    tip = model().landmarks[30]
    assert front[tip] == right[tip] == 1
    side = model().mean[:, 0]
    cheek = (model().regions["skin"] > 0.5) & (side.abs() > 30)
    on_left, on_right = cheek & (side < 0), cheek & (side > 0)
    assert abs(front[on_left].mean() - front[on_right].mean()) < 0.02
    assert right[on_left].mean() > 2 * right[on_right].mean()


def test_who_is_seen_reads_nothing_of_what_stands_in_front():
    """A map painted on what shows of the nose is read by the nose and its neighbours alone."""
    face = turned(45)
    nose = (model().regions["nose"] > 0.05).float()[None, :, None]
    picture = (face.render(224, attributes=nose)[0] > 0).float()
    for _ in range(4):
        nose = torch.maximum(nose, (neighbour_mean(nose, model().faces) > 0).float())
    read = sample_bilinear(picture, pixels(face))[..., 0]
    others = (nose[..., 0] == 0) & (model().regions["skin"] > 0.5)
    assert (read[others] > 0).sum() > 20  # the hidden ones behind it would
    assert not ((read > 0) & others & (visible_vertices(face) > 0)).any()
