"""A texture's atlas: every triangle has texels of its own, and the first chart is symmetric."""

import pytest
import torch
from small_faces import model, turned

from facerecon_lib.rendering.atlas import FIRST_CHART, texture_atlas, without_holes
from facerecon_lib.rendering.visibility import visible_vertices

SIZE = 512


@pytest.fixture(scope="module")
def atlas():
    return texture_atlas(model(), SIZE)


def test_corners_are_the_models_vertices(atlas):
    assert torch.equal(atlas.vertex[atlas.faces], model().faces.long())
    assert len(model().mean) < len(atlas.vertex) < 1.3 * len(model().mean)
    assert 0 < atlas.uv.min() < atlas.uv.max() < 1


def test_what_shows_lies_in_the_first_chart_and_mirrors(atlas):
    m = model()
    first = (atlas.uv[atlas.faces][..., 1] < FIRST_CHART).all(1)
    seen = visible_vertices(turned(0.0))[0] > 0
    assert first[(seen & (m.regions["skin"] > 0.5))[m.faces].all(1)].float().mean() > 0.99
    assert not first[(m.regions["mouth_interior"] > 0.99)[m.faces].all(1)].any()
    mirrored = torch.stack([1 - atlas.first[:, 0], atlas.first[:, 1]], 1)
    torch.testing.assert_close(atlas.first[m.mirror], mirrored, atol=1e-5, rtol=0)


def test_skin_shares_no_texel_with_anything_else(atlas):
    """The texel at its middle reads a triangle that touches it: itself, or one beside."""
    m = model()
    skin = (m.regions["skin"] > 0.9)[m.faces].all(1)
    skin &= (atlas.uv[atlas.faces][..., 1] < FIRST_CHART).all(1)
    x, y = (atlas.uv[atlas.faces[skin]].mean(1) * SIZE).long().T
    read = m.faces[atlas.fragments.pix_to_face[0, y, x, 0]]
    touches = (read[:, :, None] == m.faces[skin][:, None]).flatten(1).any(1)
    assert touches.float().mean() > 0.99


def test_values_unroll_to_where_their_vertices_lie(atlas):
    flat = atlas.unroll(atlas.first[None])
    assert flat.shape == (1, SIZE, SIZE, 2)
    rows = round(FIRST_CHART * SIZE)
    covered = (atlas.fragments.pix_to_face[0, :rows, :, 0] >= 0)[2:-2, 2:-2]
    centres = (torch.arange(SIZE) + 0.5) / SIZE
    x, y = flat[0, 2 : rows - 2, 2:-2].unbind(-1)
    assert (x - centres[None, 2:-2])[covered].abs().median() < 1e-4
    assert (y - centres[2 : rows - 2, None])[covered].abs().median() < 1e-4
    part = atlas.unroll(atlas.first[None], slice(10, 20), slice(0, None, 4))
    assert torch.equal(part, flat[:, 10:20, ::4])


def test_a_map_without_holes_keeps_what_is_there_and_goes_on_smoothly():
    weight = torch.zeros(1, 1, 32, 32)
    weight[..., 8:16, 8:24] = 1
    ramp = torch.linspace(0, 1, 32).expand(1, 3, 32, 32)
    flat = without_holes(torch.cat([ramp * weight, weight], 1))
    there = weight.expand_as(ramp) > 0
    torch.testing.assert_close(flat[there], ramp[there])
    assert flat.min() >= ramp[there].min() - 1e-6
    assert flat.max() <= ramp[there].max() + 1e-6
    assert flat.diff(dim=2).abs().max() < 0.15
