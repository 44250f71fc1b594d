"""Heights over a base face: what they do to depth, normals and the mesh."""

from dataclasses import replace

import pytest
import torch

from facerecon_lib.augmented.branch import BaseBranch, base_faces
from facerecon_lib.beyond.depth_maps import (
    base_maps,
    facing,
    normals_from_depth,
    raised_depth,
    true_height,
)
from facerecon_lib.beyond.depth_network import DepthUNet
from facerecon_lib.beyond.wrinkles import WrinkleBranch, raised
from facerecon_lib.data.rendered.faces import RenderedFaces
from facerecon_lib.face.morphable_model import MorphableModel
from facerecon_lib.networks.encoder import load_encoder


@pytest.fixture(scope="module")
def scene():
    model = MorphableModel.load(subdivision=0)
    batch = RenderedFaces(model, seed=3, wrinkles=True).batch(torch.arange(2))
    return batch, base_faces(model, batch.truth, 224)


def test_normals_of_a_faces_depth_are_its_own(scene):
    _, base = scene
    maps = base_maps(base)
    squarely = (maps.normals[:, 2:] > 0.8) & (maps.skin > 0.9)
    cosine = (normals_from_depth(maps.depth, maps.mask) * maps.normals).sum(1, keepdim=True)
    assert torch.rad2deg(cosine.clamp(-1, 1).acos())[squarely].median() < 5.0  # facets


def test_the_true_base_lacks_only_its_details(scene):
    batch, base = scene
    height, known = true_height(batch, base)
    lacking = batch.true_vertices - base.face.vertices
    assert height[known > 0].abs().max() < 1.2 * lacking.norm(dim=-1).max()


def test_a_height_brings_the_surface_nearer_and_moves_seen_vertices(scene):
    _, base = scene
    maps, height = base_maps(base), torch.full((2, 1, 224, 224), 0.5)
    nearer = maps.depth - raised_depth(maps, height, base.coefficients.scale)
    expected = base.coefficients.scale[..., None, None] * 0.5 / facing(maps)
    torch.testing.assert_close(nearer, expected, atol=1e-4, rtol=1e-3)
    moved = raised(base, height)
    length = moved.offsets.displacement.norm(dim=-1)
    inner = moved.offsets.seen * base.face.model.regions["skin"] > 0.9
    assert length[inner].median() == pytest.approx(0.5, abs=0.05)
    assert not moved.offsets.texture.any()


def test_passes_come_in_order_and_another_is_refused(scene):
    batch, base = scene
    branch = BaseBranch(load_encoder(), base.face.model)
    heights = WrinkleBranch(DepthUNet(32), branch, "finer").heights(batch.image, base, batch.valid)
    assert [*heights] == ["dense", "fine", "finer"]
    assert not heights["dense"].any()
    assert heights["fine"].any()
    with pytest.raises(ValueError, match="dense, fine, finer"):
        WrinkleBranch(DepthUNet(32), branch, "finest")


def test_where_no_photo_is_no_shading_is_read(scene):
    batch, base = scene
    branch = WrinkleBranch(DepthUNet(32), BaseBranch(load_encoder(), base.face.model))
    nowhere = replace(batch, valid=torch.zeros_like(batch.valid))
    assert branch(batch).maps.displacement.any()
    assert not branch(nowhere).maps.displacement.any()
