"""Maps in uv space: a symmetric layout in which nothing that shows lies over something else."""

import pytest
import torch
from small_faces import model, pixels, turned

from facerecon_lib.augmented import uv_space
from facerecon_lib.augmented.map_sampling import sample_bilinear
from facerecon_lib.augmented.uv_space import unwrap, uv_layout
from facerecon_lib.face.morphable_model import MorphableModel
from facerecon_lib.rendering.rasterizer import rasterize
from facerecon_lib.rendering.visibility import visible_vertices


@pytest.mark.parametrize("subdivision", [0, 1])
def test_mirror_vertices_are_mirrored_to_the_last_bit(subdivision):
    uv, mirror = uv_layout(model(subdivision)).uv, model(subdivision).mirror
    assert 0 <= uv.min() < uv.max() <= 1
    assert torch.equal(uv[mirror, 0], 1 - uv[:, 0])
    assert torch.equal(uv[mirror, 1], uv[:, 1])


def test_u_runs_to_the_viewers_right_and_v_down():
    uv, points = uv_layout(model()).uv, model().landmarks
    chin, brow, eyes, lips = uv[points[8]], uv[points[21]], uv[points[36:48]], uv[points[51]]
    assert brow[1] < eyes[:, 1].min() < eyes[:, 1].max() < lips[1] < chin[1]
    assert chin[0] == lips[0] == 0.5
    right = model().mean[:, 0] > 10
    assert (uv[right, 0] > 0.5).all()


def skin_that_shows(m: MorphableModel) -> torch.Tensor:
    """Its triangles."""
    skin = (m.regions["eyeballs"] < 0.5) & (m.regions["mouth_interior"] < 0.5)
    return m.faces[(skin & uv_space._visible_from_outside(m))[m.faces].all(1)]


def turns(uv: torch.Tensor, faces: torch.Tensor) -> torch.Tensor:
    """Twice the signed area of each triangle."""
    a, b, c = uv.double()[faces].unbind(1)
    return (b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0]


@pytest.mark.parametrize("subdivision", [0, 1])
def test_no_skin_that_shows_lies_over_other_skin_that_shows(subdivision):
    m = model(subdivision)
    uv, shown = uv_layout(m).uv, skin_that_shows(m)
    assert len(shown) > 0.4 * len(m.faces)
    places = torch.cat([1 - 2 * uv, torch.ones(len(uv), 1)], 1)
    depth = rasterize(places[None], shown, 512, faces_per_pixel=2).pix_to_face >= 0
    once, twice = depth[..., 0].sum(), depth[..., 1].sum()
    assert once > 0.6 * 512**2
    assert twice < 1e-4 * once
    assert (turns(uv, shown) <= 1e-7).all()  # u right and v down: clockwise


def test_a_plain_cylinder_would_fold(monkeypatch):
    """What the unfolding is for."""
    monkeypatch.setattr(uv_space, "MOST_ROUNDS", 0)
    m = MorphableModel.load(subdivision=0)
    plain = uv_layout(m).uv
    assert (turns(plain, skin_that_shows(m)) > 0).sum() > 20
    moved = (plain - uv_layout(model()).uv).abs().amax(1)
    assert (moved > 0).float().mean() < 0.2  # elsewhere it is the cylinder's
    assert moved.max() < 0.05


def test_what_shows_is_on_top_and_what_lies_under_it_is_covered():
    exposed, regions = uv_layout(model()).exposed > 0, model().regions
    seen = uv_space._visible_from_outside(model())
    assert exposed[seen].float().mean() > 0.98
    for name in ("cheeks", "forehead", "brows"):
        assert exposed[regions[name] > 0.5].all()
    assert exposed[regions["mouth_interior"] > 0.5].float().mean() < 0.05
    balls = regions["eyeballs"] > 0.5
    front = model().mean[:, 2] > model().mean[balls, 2].quantile(0.9)
    assert exposed[balls & front].float().mean() > 0.9
    back = model().mean[:, 2] < model().mean[balls, 2].quantile(0.3)
    assert exposed[balls & back].float().mean() < 0.25
    assert torch.equal(exposed, exposed[model().mirror])


def test_it_is_worked_out_once_and_serves_training_after_inference():
    m = MorphableModel.load(subdivision=0)
    with torch.inference_mode():
        uv = uv_layout(m).uv
    assert uv_layout(m).uv is uv
    assert not uv.is_inference()
    torch.testing.assert_close(uv, uv_layout(model()).uv)


def test_triangles_around_the_back_of_a_whole_head_are_left_out():
    uv = torch.tensor([[0.1, 0.2], [0.3, 0.2], [0.2, 0.8], [0.9, 0.5]])
    faces = torch.tensor([[0, 1, 2], [1, 2, 3]])
    triangle, weights = uv_space._on_top(uv, torch.zeros(4), faces, 32)
    assert set(triangle.unique().tolist()) == {-1, 0}
    assert weights.shape == (32, 32, 3)


# Pictures ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("yaw", [0, 30])
def test_an_unwrapped_picture_shows_each_bit_of_skin_at_its_place(yaw):
    """A picture of where each vertex is in the map, unwrapped, shows the map's own coordinates."""
    face, uv = turned(yaw), uv_layout(model()).uv
    places = face.render(224, attributes=torch.cat([uv, torch.ones(len(uv), 1)], 1)[None])[0]
    flat = unwrap(places, face)
    assert flat.shape == (1, 3, 224, 224)
    shown = flat[0, 2] > 0.99  # no texel half in the background
    assert shown.float().mean() > 0.2
    line = (torch.arange(224) + 0.5) / 224
    v, u = torch.meshgrid(line, line, indexing="ij")
    off = torch.maximum((flat[0, 0] - u).abs(), (flat[0, 1] - v).abs())[shown]
    assert off.median() < 0.5 / 224
    assert off.quantile(0.98) < 4 / 224


def test_it_is_zero_where_the_photo_does_not_show_the_skin():
    face = turned(0, 50)
    flat = unwrap(torch.ones(2, 1, 224, 224), face)[:, 0]
    torch.testing.assert_close(flat, flat.round())
    outside = flat[:, [0, 0, -1, -1], [0, -1, 0, -1]]
    assert not outside.any()
    points = (224 * uv_layout(model()).uv).expand(2, -1, -1)
    read = sample_bilinear(flat[:, None], points)[..., 0]
    hidden = (visible_vertices(face) == 0) & (uv_layout(model()).exposed > 0)
    assert read[hidden].mean() < 0.15
    left, right = flat[1, :, :112].sum(), flat[1, :, 112:].sum()
    assert left > 1.5 * right


def test_a_flipped_photo_of_the_mirrored_face_is_a_flipped_map():
    face, other = turned(20), turned(-20)
    photo = face.render(224, attributes=face.model.mean[None] / 100)[0]
    one, two = unwrap(photo, face), unwrap(photo.flip(3), other).flip(3)
    same = ((one - two).abs() < 1e-3).float().mean()
    assert same > 0.995


def test_many_channels_in_another_size():
    photo = torch.rand(2, 6, 100, 100)
    assert unwrap(photo, turned(0, 10), 64).shape == (2, 6, 64, 64)
    assert unwrap(photo, turned(0, 10)).shape == (2, 6, 100, 100)


def test_it_reads_the_photo_at_the_skins_projection():
    face = turned(15)
    y, x = torch.meshgrid(torch.arange(224) + 0.5, torch.arange(224) + 0.5, indexing="ij")
    flat = unwrap(torch.stack([x, y, torch.ones_like(x)])[None], face, 448)
    read = sample_bilinear(flat, 448 * uv_layout(model()).uv[None])[0]
    points = pixels(face)[0]
    sure = (read[:, 2] > 0.999) & (visible_vertices(face)[0] > 0)
    assert sure.sum() > 500
    off = (read[:, :2] - points)[sure].norm(dim=1)
    assert off.median() < 0.2  # pixels
    assert off.quantile(0.98) < 1


@pytest.mark.parametrize("shape", [(1, 3, 224, 224), (2, 3, 224, 200), (3, 224, 224)])
def test_pictures_that_do_not_fit_are_refused(shape):
    with pytest.raises(ValueError, match=r"image: expected \(2, channel, size, size\)"):
        unwrap(torch.zeros(shape), turned(0, 10))
