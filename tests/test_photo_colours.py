"""What a photo's colours say: at the vertices, and of the light."""

import pytest
import torch

from facerecon_lib.detection import align, sample_detection, sample_photo
from facerecon_lib.encoder import load_encoder
from facerecon_lib.evaluation import photometric_error
from facerecon_lib.lighting import sh_basis
from facerecon_lib.morphable_model import MorphableModel
from facerecon_lib.photo_colours import light_from_photo, sample_photo_colours
from facerecon_lib.rendered_faces import RenderedFaces
from facerecon_lib.results import encode_face
from facerecon_lib.synthesis import synthesise


@pytest.fixture(scope="module")
def model() -> MorphableModel:
    return MorphableModel.load(subdivision=0)


def test_the_light_of_a_rendered_face_is_found_again(model):
    """Seen from the front, shading is what counts: the nine functions are alike there."""
    batch = RenderedFaces(model, seed=2, clean=True).batch(torch.arange(6))
    truth = batch.truth.clone()
    truth.lighting = 0.6 * truth.lighting  # bright light is cut off at white in a picture
    face = synthesise(model, truth)
    photo, mask = face.render(background=0.5)
    guess = truth.clone()
    guess.lighting = model.neutral(6).lighting
    found = light_from_photo(model, guess, photo, torch.ones_like(mask), ridge=1e-5)
    front = torch.nn.functional.normalize(
        torch.tensor([[0.0, 0.0, 1.0], [0.3, 0.2, 0.9], [-0.4, 0.1, 0.9]]), dim=-1
    )
    ours, true, before = (
        sh_basis(front) @ light for light in (found, truth.lighting, guess.lighting)
    )
    assert (ours - true).abs().mean() < 0.04
    assert (ours - true).abs().mean() < 0.2 * (before - true).abs().mean()


def test_what_the_photo_does_not_show_leaves_the_light_as_it_was(model):
    c = model.neutral(2)
    nothing = torch.zeros(2, 1, 224, 224)
    found = light_from_photo(model, c, torch.rand(2, 3, 224, 224), nothing)
    torch.testing.assert_close(found, c.lighting)


def test_hidden_vertices_have_no_say(model):
    c = model.neutral()
    c.rotation = torch.tensor([[0.0, 0.9, 0.0]])
    face = synthesise(model, c)
    _, weight = sample_photo_colours(face, torch.rand(1, 3, 224, 224), torch.ones(1, 1, 224, 224))
    away = face.normals[0, :, 2] <= 0
    assert away.any()
    assert (weight[0, away] == 0).all()
    assert (weight[0] > 0.5).any()


def test_a_reconstruction_comes_nearer_to_its_photo(model):
    encoder = load_encoder(model=model)
    crop = align(sample_photo().pixels, sample_detection().landmarks)
    error = {}
    for light in ("encoder", "photo"):
        done = encode_face(sample_photo(), model, encoder, light=light)
        image, mask = done.face.render()
        error[light] = photometric_error(image.clamp(0, 1), crop.image, mask * crop.valid)
    assert error["photo"] < 0.95 * error["encoder"]
    with pytest.raises(ValueError, match="light 'moon': expected photo or encoder"):
        encode_face(sample_photo(), model, encoder, light="moon")
