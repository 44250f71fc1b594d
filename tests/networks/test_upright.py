"""Networks see faces upright, however the photo lies, and their answers are turned back."""

from dataclasses import replace
from functools import lru_cache

import pytest
import torch
from small_faces import model

from facerecon_lib.augmented.branch import AugmentedBranch, BaseBranch
from facerecon_lib.data.rendered.faces import RenderedFaces
from facerecon_lib.face.batch import FaceBatch
from facerecon_lib.face.landmarks68 import MIRROR_68
from facerecon_lib.networks.encoder import load_encoder
from facerecon_lib.networks.unet import DoubleHeadUNet
from facerecon_lib.networks.upright import (
    encode_both_ways,
    encode_upright,
    quarters_of_points,
    quarters_of_rotation,
    turn_coefficients,
    turn_pictures,
)
from facerecon_lib.rendering.synthesis import synthesise

QUARTERS = [1, 2, 3]


@lru_cache
def faces() -> FaceBatch:
    """Upright, under light from the sides."""
    return RenderedFaces(model(), seed=11, family="held-out").batch(torch.arange(3))


@lru_cache
def lying() -> FaceBatch:
    """The same, as photos of which each lies by another quarter."""
    turned = [turn_pictures(getattr(faces(), part), QUARTERS) for part in ("image", "valid")]
    x, y = faces().landmarks.unbind(-1)
    points = [(y, 224 - x), (224 - x, 224 - y), (224 - y, x)]
    landmarks = torch.stack([torch.stack(p, -1)[i] for i, p in enumerate(points)])
    return FaceBatch(*turned, landmarks, faces().kind, faces().names)


def test_landmarks_and_rotation_tell_how_a_face_lies():
    assert quarters_of_points(faces().landmarks) == [0, 0, 0]
    assert quarters_of_points(lying().landmarks) == QUARTERS
    truth = faces().truth
    assert quarters_of_rotation(truth.rotation) == [0, 0, 0]
    assert quarters_of_rotation(turn_coefficients(truth, QUARTERS).rotation) == QUARTERS
    assert quarters_of_points(torch.full((1, 68, 2), torch.nan)) == [0]


def test_turned_coefficients_render_the_turned_picture_in_the_light_turned_with_it():
    truth = faces().truth
    upright, mask = synthesise(model(), truth).render()
    image, covered = synthesise(model(), turn_coefficients(truth, QUARTERS)).render()
    assert (covered - turn_pictures(mask, QUARTERS)).abs().mean() < 1e-3
    assert (image - turn_pictures(upright, QUARTERS)).abs().mean() < 1e-3
    assert (image - turn_pictures(upright, [0, 0, 0])).abs().mean() > 0.05
    again = turn_coefficients(turn_coefficients(truth, QUARTERS), [3, 2, 1])
    torch.testing.assert_close(again.to_vector(), truth.to_vector(), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("light", ["encoder", "photo"])
def test_both_branches_answer_a_photo_that_lies_as_they_answer_it_upright(light):
    torch.manual_seed(0)
    unet = DoubleHeadUNet(8, 3)
    for head in (unet.texture, unet.displacement):
        torch.nn.init.normal_(head.last.weight, std=0.05)
    branch = AugmentedBranch(unet, BaseBranch(load_encoder(None, model()), model(), light))
    upright = branch(replace(faces(), truth=None, true_vertices=None, true_albedo=None))
    found = branch(lying())
    wanted = turn_coefficients(upright.base.coefficients, QUARTERS)
    for name in ("identity", "expression", "albedo", "rotation", "translation", "scale"):
        ours, theirs = (getattr(c, name) for c in (found.base.coefficients, wanted))
        torch.testing.assert_close(ours, theirs, atol=2e-3, rtol=2e-3)
    assert (found.face.vertices - upright.face.vertices).norm(dim=-1).median() < 0.02  # mm
    assert (found.face.colours - upright.face.colours).abs().median() < 0.01
    assert (found.face.vertices - found.base.face.vertices).abs().max() > 0.05


def test_upright_photos_reach_the_encoder_as_they_are():
    seen = []
    batch = replace(faces(), truth=None, true_vertices=None, true_albedo=None)
    encode_upright(lambda image: seen.append(image), batch)
    assert seen[0] is batch.image


def test_a_mirrored_photo_has_the_mirrored_face():
    """Of both ways: identity and expression of faces and of their mirror images agree."""
    encoder, axes = load_encoder(model=model()), torch.tensor([-1.0, 1.0, 1.0])
    swapped = faces().landmarks[:, MIRROR_68] * axes[:2] + torch.tensor([224.0, 0.0])
    mirrored = replace(faces(), image=faces().image.flip(3), landmarks=swapped)

    def apart(encode) -> torch.Tensor:
        c, other = encode(faces()), encode(mirrored)
        one, two = (model().shape(x.identity, x.expression) for x in (c, other))
        return (two[:, model().mirror] * axes - one).norm(dim=-1).mean()

    with torch.no_grad():
        once = apart(lambda batch: encode_upright(encoder, batch))
        both = apart(lambda batch: encode_both_ways(encoder, model(), batch))
    assert both < 0.2 * once
