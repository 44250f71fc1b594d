"""Heights from shading: the bands, the pigment, and a bump that light shows."""

import torch

from facerecon_lib.augmented.branch import base_faces
from facerecon_lib.beyond.depth_maps import base_maps
from facerecon_lib.beyond.shading_depth import (
    STAINS,
    ShadedScene,
    grey_part,
    refine_by_shading,
    split_bands,
    steps,
    steps_back,
)
from facerecon_lib.face.morphable_model import MorphableModel


def test_bands_add_up_and_do_not_leak():
    picture, mask = torch.full((1, 1, 20, 20), 0.4), torch.ones(1, 1, 20, 20)
    picture[..., 10:], mask[..., 10:] = 9.0, 0.0
    low, high = split_bands(picture, mask, 2.0)
    torch.testing.assert_close((low + high)[..., :10], picture[..., :10])
    assert high.abs().max() < 1e-5


def test_pigment_is_less_grey_than_shade():
    colours = torch.tensor([[1.0, 1.0, 1.0], *STAINS])[..., None, None]
    shade, melanin, blood = grey_part(colours).flatten().tolist()
    assert shade > 0.5
    assert abs(melanin) < 0.2 * shade
    assert abs(blood) < 0.2 * shade


def test_steps_back_is_the_transpose():
    h, a, b = torch.randn(3, 2, 1, 5, 7, generator=torch.Generator().manual_seed(1))
    dx, dy = steps(h)
    torch.testing.assert_close((dx * a + dy * b).sum(), (h * steps_back(a, b)).sum())


def test_a_bump_that_the_light_shows_is_found_with_its_sign():
    model = MorphableModel.load(subdivision=0)
    c = model.neutral(1)
    c.translation[:, 2] = 350.0
    c.lighting[:, 3] = 0.8  # from the right
    base = base_faces(model, c, 224)
    maps = base_maps(base)
    rows, columns = torch.meshgrid(torch.arange(224.0), torch.arange(224.0), indexing="ij")
    place = (maps.skin * maps.mask)[0, 0].nonzero().float().mean(0) - torch.tensor([45.0, 0.0])
    far = (rows - place[0]).square() + (columns - place[1]).square()
    bump = torch.exp(-far / (2 * 4.0**2))[None, None]
    scene = ShadedScene(base.image, maps.mask, base, maps)
    light = (scene.log_shading(bump) - scene.log_shading(0 * bump)).exp()
    scene.photo = (base.image * light).clamp(0, 1)
    found = refine_by_shading(scene, 0 * bump)
    inside = scene.trust > 0.5
    assert (found * bump)[inside].sum() / (bump * bump)[inside].sum() > 0.05
    assert found.abs().max() < 1.5
