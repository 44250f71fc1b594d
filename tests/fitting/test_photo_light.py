"""What a photo's colours say: at the vertices, and of the light."""

import functools
from dataclasses import replace

import pytest
import small_faces
import torch

from facerecon_lib.data.rendered.faces import RenderedFaces
from facerecon_lib.face.batch import FaceBatch
from facerecon_lib.face.lighting import LIGHT_LEVEL, light_level, sh_basis
from facerecon_lib.face.measures import albedo_error, photometric_error
from facerecon_lib.face.morphable_model import MorphableModel
from facerecon_lib.fitting.photo_light import (
    LIGHTS,
    SKIN_REACH,
    light_from_photo,
    recolour,
)
from facerecon_lib.networks.encoder import load_encoder
from facerecon_lib.photos.detection import sample_photo
from facerecon_lib.reconstruction.reconstruct import encode_face
from facerecon_lib.rendering.synthesis import synthesise


def test_the_light_of_a_rendered_face_is_found_again(model):
    """Seen from the front, shading is what counts: the nine functions are alike there."""
    batch = RenderedFaces(model, seed=2, clean=True).batch(torch.arange(6))
    truth = batch.truth.clone()
    truth.lighting = 0.6 * truth.lighting  # bright light is cut off at white in a picture
    photo, mask = synthesise(model, truth).render(background=0.5)
    guess = truth.clone()
    guess.lighting = model.neutral(6).lighting
    found = light_from_photo(model, guess, photo, torch.ones_like(mask), ridge=1e-5)
    front = torch.tensor([[0.0, 0.0, 1.0], [0.3, 0.2, 0.9], [-0.4, 0.1, 0.9]])
    basis = sh_basis(torch.nn.functional.normalize(front, dim=-1))
    ours, true, before = (basis @ light for light in (found, truth.lighting, guess.lighting))
    assert (ours - true).abs().mean() < 0.04
    assert (ours - true).abs().mean() < 0.2 * (before - true).abs().mean()


def test_what_the_photo_does_not_show_leaves_the_light_as_it_was(model):
    c = model.neutral(2)
    nothing = torch.zeros(2, 1, 224, 224)
    found = light_from_photo(model, c, torch.rand(2, 3, 224, 224), nothing)
    torch.testing.assert_close(found, c.lighting)


def test_a_reconstruction_comes_nearer_to_its_photo(model):
    encoder = load_encoder(model=model)
    error = {}
    for light in ("encoder", "photo"):
        done = encode_face(sample_photo(), model, encoder, light=light)
        image, mask = done.face.render()
        seen = mask * done.crop.valid
        error[light] = photometric_error(image.clamp(0, 1), done.crop.image, seen)
    assert error["photo"] < error["encoder"]
    with pytest.raises(ValueError, match="light 'moon': expected one of photo, encoder"):
        encode_face(sample_photo(), model, encoder, light="moon")


# Skin and light together ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def light_skinned() -> MorphableModel:
    """The same faces with a basis of light-skinned people, as scans of few people would give."""
    return small_faces.model(albedo="light")


@pytest.fixture(scope="module")
def faces(model):
    """Rendered faces whose shape and pose are known: six of light, middle and dark skin each."""
    numbers = [13, 21, 26, 29, 35, 47, 1, 3, 4, 7, 9, 11, 0, 6, 8, 10, 12, 16]
    return RenderedFaces(model, 3, "held-out", clean=True).batch(torch.tensor(numbers))


@pytest.fixture(scope="module")
def recoloured(faces):
    """The coefficients found; of each face how wrong its unlit skin is, and its lit picture."""

    @functools.cache
    def recoloured(basis: MorphableModel, light: str):
        found = solve(basis, faces, light)
        face = synthesise(basis, found)
        image, mask = face.render()
        skin = albedo_error(face.albedo, faces.true_albedo, basis.regions["skin"])
        return found, skin, photometric_error(image.clamp(0, 1), faces.image, mask)

    return recoloured


def solve(basis: MorphableModel, faces: FaceBatch, light: str, start=None, **rounds):
    """`recolour` with the true light where it is known."""
    lighting = faces.truth.lighting if light == "known" else None
    start = start or faces.truth
    return recolour(basis, start, faces.image, faces.valid, light, lighting, **rounds)


def test_known_light_gives_the_true_skin_of_every_tone(model, faces, recoloured):
    found, skin, seen = recoloured(model, "known")
    assert skin["ita"].abs().mean() < 2
    assert skin["ita"].abs().max() < 12  # degrees
    assert skin["rgb"].mean() < 0.02
    assert seen.mean() < 0.02
    torch.testing.assert_close(found.lighting, faces.truth.lighting)


def test_light_skinned_scans_cannot_give_dark_skin_under_known_light(
    model, light_skinned, faces, recoloured
):
    """Section 2.3 of the report: and here the picture shows it."""
    found, skin, seen = recoloured(light_skinned, "known")
    _, _, possible = recoloured(model, "known")
    dark, pale = faces.tone >= 9, faces.tone <= 4
    assert min(dark.sum(), pale.sum()) >= 5
    assert (skin["ita"][dark] > 15).all()
    assert skin["ita"][dark].mean() > 20
    assert (skin["rgb"][dark] > 0.05).all()
    assert (seen[dark] > 3 * possible[dark]).all()
    assert skin["ita"][pale].abs().mean() < 3
    assert found.albedo.abs().max() <= SKIN_REACH


def test_free_light_takes_the_blame(light_skinned, faces, recoloured):
    """The picture is right, the skin is paler still, and the light is two thirds of the true."""
    found, skin, seen = recoloured(light_skinned, "free")
    _, known, _ = recoloured(light_skinned, "known")
    dark = faces.tone >= 9
    assert (seen[dark] < 0.03).all()
    assert (skin["ita"][dark] > 27).all()
    assert (skin["ita"][dark] > known["ita"][dark] + 5).all()
    share = light_level(found.lighting) / light_level(faces.truth.lighting)
    assert (share[dark] < 0.85).all()
    assert share[dark].mean() < 0.75


def test_grey_light_of_the_usual_level_keeps_dark_skin_dark(
    model, light_skinned, faces, recoloured
):
    dark = faces.tone >= 9
    found, skin, possible = recoloured(model, "grey")
    _, free, _ = recoloured(model, "free")
    assert skin["ita"][dark].mean() < free["ita"][dark].mean()
    assert skin["ita"][dark].abs().mean() < 8
    assert skin["rgb"][dark].mean() < 0.04
    torch.testing.assert_close(found.lighting, found.lighting[..., :1].expand(-1, -1, 3))
    assert (light_level(found.lighting) - LIGHT_LEVEL).abs().mean() < 0.1
    _, skin, seen = recoloured(light_skinned, "grey")
    assert (skin["ita"][dark] > 15).all()
    assert seen[dark].mean() > 1.5 * possible[dark].mean()


@pytest.mark.parametrize("light", LIGHTS)
def test_only_shape_and_pose_are_read(model, faces, light):
    some, other = faces[:3], faces[:3].truth.clone()
    other.albedo, other.lighting = other.albedo + 1, other.lighting * 2
    found, again = solve(model, some, light), solve(model, some, light, other)
    torch.testing.assert_close(found.to_vector(), again.to_vector())
    for name in ("identity", "expression", "rotation", "translation", "scale"):
        assert torch.equal(getattr(found, name), getattr(some.truth, name))


@pytest.mark.parametrize("light", LIGHTS)
def test_more_rounds_change_nothing(model, faces, light):
    a, b = (solve(model, faces[:6], light, rounds=n) for n in (6, 25))
    torch.testing.assert_close(model.albedo(a.albedo), model.albedo(b.albedo), atol=2e-3, rtol=0)


@pytest.mark.parametrize("light", LIGHTS)
def test_a_face_that_is_not_seen_is_the_mean_in_ordinary_light(model, faces, light):
    hidden = replace(faces[:2], valid=torch.zeros_like(faces.valid[:2]))
    found = solve(model, hidden, light)
    torch.testing.assert_close(found.albedo, torch.zeros_like(found.albedo))
    if light != "known":
        torch.testing.assert_close(light_level(found.lighting), torch.full((2,), LIGHT_LEVEL))


def test_what_is_burnt_out_has_no_say(model, faces):
    """White pixels say only that the true colour is white or brighter."""
    some = replace(faces[6:12], image=faces.image[6:12].clone())
    some.image[:, :, 60:110] = 1.0
    albedo = model.albedo(solve(model, some, "known").albedo)
    error = albedo_error(albedo, some.true_albedo, model.regions["skin"])
    assert (error["rgb"] < 0.06).all()  # 0.2 and more where they count


def test_lights_that_cannot_be_are_refused(model, faces):
    some = faces[:1]
    arguments = (model, some.truth, some.image, some.valid)
    with pytest.raises(ValueError, match="light 'moon': expected one of free, grey, known"):
        recolour(*arguments, "moon")
    with pytest.raises(ValueError, match=r"lighting: expected \(batch, 9, 3\); light is 'known'"):
        recolour(*arguments, "known")
    with pytest.raises(ValueError, match="lighting: is for light='known' alone; light is 'grey'"):
        recolour(*arguments, "grey", some.truth.lighting)
