"""The augmented branch: maps to a face, frozen base, and the U-Net fitted to a few photos."""

import copy
from functools import lru_cache

import pytest
import torch
from small_faces import model
from torch import Tensor

from facerecon_lib.augmented.branch import (
    AugmentedBranch,
    BaseBranch,
    BaseFaces,
    augment,
    unet_inputs,
)
from facerecon_lib.augmented.objective import AugmentedObjective
from facerecon_lib.course.unet_fit import fit_unet, gradient_length
from facerecon_lib.data.rendered.faces import RenderedFaces
from facerecon_lib.face.batch import FaceBatch
from facerecon_lib.face.camera import axis_angle_to_matrix
from facerecon_lib.face.mesh import vertex_normals
from facerecon_lib.face.morphable_model import MorphableModel
from facerecon_lib.networks.encoder import load_encoder
from facerecon_lib.networks.unet import DoubleHeadUNet, OffsetMaps, load_unet
from facerecon_lib.rendering.synthesis import synthesise


@lru_cache
def faces() -> FaceBatch:
    return RenderedFaces(model(), seed=5, family="held-out", wrinkles=True).batch(torch.arange(2))


@lru_cache
def base() -> BaseFaces:
    return BaseBranch(load_encoder(None, model()), model())(faces())


def even_maps(texture=(0.0, 0.0, 0.0), displacement=(0.0, 0.0, 0.0), batch=2) -> OffsetMaps:
    """The same offset at every pixel."""
    values = torch.tensor([texture, displacement])[:, None, :, None, None]
    return OffsetMaps(*values.expand(-1, batch, -1, 224, 224).clone())


def test_empty_maps_leave_the_base_face_as_it_is():
    found = augment(base(), even_maps())
    for name in ("vertices", "normals", "v_camera", "albedo", "colours"):
        torch.testing.assert_close(getattr(found.face, name), getattr(base().face, name))


def test_texture_goes_to_the_albedo_and_displacement_to_the_shape_before_pose():
    found = augment(base(), even_maps((0.1, -0.05, 0.02), (0.0, 0.0, 2.0)))
    seen = found.offsets.seen > 0.999
    assert seen.any(1).all()
    added = (found.face.albedo - base().face.albedo)[seen]
    torch.testing.assert_close(added, torch.tensor([0.1, -0.05, 0.02]).expand_as(added))
    moved = (found.face.vertices - base().face.vertices)[seen]
    shift = torch.tensor([0.0, 0.0, 2.0]).expand_as(moved)
    torch.testing.assert_close(moved, shift, atol=1e-4, rtol=0)
    # 2 mm out of the face come nearer to the camera along the posed axis, times the scale
    c = base().coefficients
    axis = axis_angle_to_matrix(c.rotation)[:, :, 2] * torch.tensor([-1.0, 1.0, -1.0])
    step = (found.face.v_camera - base().face.v_camera)[0][seen[0]]
    expected = 2.0 * c.scale[0] * axis[0]
    torch.testing.assert_close(step, expected.expand_as(step), atol=1e-3, rtol=0)


def test_normals_and_light_are_those_of_the_moved_face():
    rows = torch.arange(224.0)[None, None, :, None] / 8
    maps = even_maps()
    maps.displacement[:, 2:] = 1.5 * rows.sin()
    face = augment(base(), maps).face
    assert (face.normals - base().face.normals).norm(dim=-1).max() > 0.2
    turned = axis_angle_to_matrix(base().coefficients.rotation)
    expected = vertex_normals(face.vertices, model().faces) @ turned.transpose(1, 2)
    torch.testing.assert_close(face.normals, expected)
    assert (face.colours - base().face.colours).abs().max() > 0.02


def test_the_maps_get_gradients_and_the_base_gets_none():
    maps = OffsetMaps(*(m.requires_grad_() for m in even_maps()))
    image, _ = augment(base(), maps).face.render(64)
    image.sum().backward()
    assert maps.texture.grad.abs().max() > 0
    assert maps.displacement.grad.abs().max() > 0
    assert not any(x.requires_grad for x in vars(base().face).values() if isinstance(x, Tensor))


def test_the_base_branch_is_frozen():
    encoder = load_encoder(None, model()).train()
    branch = BaseBranch(encoder, model())
    assert not encoder.training
    assert not any(p.requires_grad for p in encoder.parameters())
    before = copy.deepcopy(encoder.state_dict())
    branch(faces())
    assert all(torch.equal(before[k], v) for k, v in encoder.state_dict().items())


def test_its_rendering_is_that_of_its_face():
    image, mask = synthesise(model(), base().coefficients).render(224)
    torch.testing.assert_close(base().image, image.clamp(0, 1))
    torch.testing.assert_close(base().mask, mask)
    assert base().image[base().mask.expand(-1, 3, -1, -1) == 0].abs().max() == 0


@pytest.mark.parametrize("light", ["free", "grey", "known", "photo", "encoder"])
def test_the_light_is_the_one_asked_for(light):
    branch = BaseBranch(load_encoder(None, model()), model(), light)
    c, plain = branch(faces()).coefficients, branch.encoder(faces().image)
    torch.testing.assert_close(c.identity, plain.identity)
    torch.testing.assert_close(c.rotation, plain.rotation)
    same_skin = torch.allclose(c.albedo, plain.albedo, atol=1e-4)
    assert same_skin == (light in ("photo", "encoder"))
    if light == "known":
        torch.testing.assert_close(c.lighting, faces().truth.lighting)
    elif light == "encoder":
        torch.testing.assert_close(c.lighting, plain.lighting)
    else:
        assert (c.lighting - plain.lighting).abs().max() > 1e-3
    if light == "grey":
        torch.testing.assert_close(c.lighting[..., :1].expand(-1, -1, 3), c.lighting)


def test_what_cannot_be_is_refused():
    encoder = load_encoder(None, model())
    with pytest.raises(ValueError, match="light 'sun': expected photo, encoder"):
        BaseBranch(encoder, model(), "sun")
    photo = FaceBatch(faces().image, faces().valid, faces().landmarks, "2d", faces().names)
    with pytest.raises(ValueError, match="photos come without it"):
        BaseBranch(encoder, model(), "known")(photo)
    unet = DoubleHeadUNet(8, 3)
    unet.metadata = {"space": "sphere"}
    with pytest.raises(ValueError, match="space 'sphere'"):
        AugmentedBranch(unet, BaseBranch(encoder, model()))


def test_in_uv_space_the_network_sees_both_pictures_unrolled():
    photo, rendering = unet_inputs(faces().image, base(), "uv")
    assert photo.shape == rendering.shape == faces().image.shape
    both = (rendering.sum(1) > 0) & (photo.sum(1) > 0)
    assert 0.15 < both.float().mean() < 0.9
    # where the base is right, both show the same skin: nearer than two places of one picture are
    near = (photo - rendering).abs().mean(1)[both].mean()
    far = (photo - rendering.roll(60, -1)).abs().mean(1)[both].mean()
    assert near < 0.7 * far


def test_the_shipped_network_comes_nearer_to_photo_and_skin():
    fine = MorphableModel.load()
    batch = RenderedFaces(fine, seed=77, family="held-out", wrinkles=True).batch(torch.arange(6))
    found = AugmentedBranch(load_unet(None, fine), BaseBranch(load_encoder(), fine))(batch)
    objective = AugmentedObjective(fine, {"pixel": 1.0, "truth_texture": 1.0, "truth_normals": 1.0})
    with torch.no_grad():
        terms = objective(found, batch).terms
        nothing = OffsetMaps(*(torch.zeros_like(m) for m in found.maps))
        before = objective(augment(found.base, nothing), batch).terms
    assert terms["pixel"] < 0.75 * before["pixel"]
    assert terms["truth_texture"] < before["truth_texture"]
    assert terms["truth_normals"] < 1.05 * before["truth_normals"]


# Fitting a few photos ---------------------------------------------------------------------------


def test_a_fit_lowers_its_loss_and_says_what_each_term_did():
    torch.manual_seed(0)
    objective = AugmentedObjective(model(), {"pixel": 300.0, "texture_l2": 1.0})
    inputs = DoubleHeadUNet(8, 3), faces(), base(), objective
    fitted = fit_unet(*inputs, steps=20, learning_rate=1e-2)
    assert len(fitted.maps) == 20
    assert not fitted.maps[0].displacement.any()  # before the first step
    assert fitted.maps[-1].texture.any()
    assert not fitted.maps[-1].texture.requires_grad
    assert set(fitted.terms) == {"loss", "pixel", "texture_l2"}
    assert all(len(values) == 20 for values in fitted.terms.values())
    assert fitted.terms["loss"][-1] < 0.9 * fitted.terms["loss"][0]
    assert not fitted.found.maps.texture.requires_grad


def test_a_gradient_s_length_is_over_all_maps_and_0_where_there_is_none():
    maps = even_maps((0.1, 0.0, 0.0), batch=2)
    length = gradient_length(lambda texture, _: 3 * texture.square().sum(), maps)
    assert float(length) == pytest.approx(3 * 2 * 0.1 * (2 * 224 * 224) ** 0.5, rel=1e-4)
    assert gradient_length(lambda *_: torch.zeros(()), maps) == 0
    assert not length.requires_grad


def test_a_fit_that_cannot_be_says_so():
    objective = AugmentedObjective(model(), {"texture_l2": 1.0})
    with pytest.raises(ValueError, match="steps: expected 1 or more"):
        fit_unet(DoubleHeadUNet(8, 3), faces(), base(), objective, steps=0)
    broken = DoubleHeadUNet(8, 3)
    with torch.no_grad():
        broken.texture.last.bias.fill_(torch.nan)
    with pytest.raises(FloatingPointError, match="step 0"):
        fit_unet(broken, faces(), base(), objective, steps=2)
