"""Who is in several photos, and one person's face from them."""

from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest
import torch
from PIL import Image
from small_faces import model

from facerecon_lib.data.rendered.faces import PHOTO_MARGIN, RenderedFaces
from facerecon_lib.networks.encoder import load_encoder
from facerecon_lib.networks.face_networks import load_network
from facerecon_lib.photos.detection import sample_photo
from facerecon_lib.photos.reading import Photo
from facerecon_lib.pictures.faces import to_uint8
from facerecon_lib.reconstruction.person_files import neutral_head, write_person
from facerecon_lib.reconstruction.reconstruct import FittedPhoto
from facerecon_lib.reconstruction.result_files import result_dict
from facerecon_lib.reconstruction.together import TogetherError, encode_together, same_person

LIMIT = 0.6


def persons(*photos):
    """Features of each photo's faces, each face by a person's number; one person's are 0.3 off."""
    generator = torch.Generator().manual_seed(0)

    def feature(person):
        off = torch.randn(128, generator=generator)
        return 10 * torch.eye(128)[person] + 0.3 / 2**0.5 * off / off.norm()

    return [torch.stack([feature(person) for person in faces]) for faces in photos]


@pytest.mark.parametrize(
    ("photos", "faces", "tied"),
    [
        (((1,), (1,), (1,)), [0, 0, 0], False),
        (((1,), (2,), (1,)), [0, None, 0], False),
        (((1,), (2, 1), (3, 2, 1)), [0, 1, 2], False),  # the one whom all show
        (((2, 1), (3, 2, 1)), [0, 1], False),  # friends in both: the larger
        (((1,), (2,)), [0, None], True),
        (((1,), (1,), (2,), (2,)), [0, 0, None, None], True),
        (((1, 2), (1,), (2,)), [0, 0, None], True),
        (((1,),), [0], False),
        ((), [], False),
    ],
)
def test_who_is_in_most_photos(photos, faces, tied):
    choice = same_person(persons(*photos), LIMIT)
    assert choice.tied is tied
    if not tied:
        assert choice.faces == faces
        inside = [k is not None for k in faces]
        far = torch.tensor(choice.distances)
        assert all(far[torch.tensor(inside, dtype=torch.bool)] < LIMIT)
        assert all(far[~torch.tensor(inside, dtype=torch.bool)] > LIMIT)


def test_a_photo_is_judged_by_all_and_not_by_its_nearest():
    """The last is near the third alone."""
    line = [torch.tensor([[x]]) for x in (0.0, 0.1, 0.5, 0.95)]
    assert same_person(line, LIMIT).faces == [0, 0, 0, None]
    assert same_person(line, float("inf")).faces == [0, 0, 0, 0]


@lru_cache
def parts():
    return model(), load_encoder(model=model()), load_network()


def seen_as(name: str, pixels: np.ndarray) -> Photo:
    return Photo(np.ascontiguousarray(pixels), name, sha256=name)


@lru_cache
def results(keep_strangers: bool = False):
    """The bundled photo, brighter, mirrored, blank, again, and somebody else's."""
    photo = sample_photo()
    pixels = photo.pixels
    photos = [
        photo,
        seen_as("bright", np.clip(pixels * 1.15, 0, 255).astype(np.uint8)),
        seen_as("mirrored", pixels[:, ::-1]),
        seen_as("blank", np.full_like(pixels, 90)),
        replace(photo, name="again"),
        seen_as("stranger", rendered()),
    ]
    return list(encode_together(photos, *parts(), keep_strangers=keep_strangers))


def rendered() -> np.ndarray:
    """A man whom the model drew."""
    faces = RenderedFaces(model(), seed=3, clean=True, size=512, margin=PHOTO_MARGIN)
    return to_uint8(faces.batch(torch.tensor([1]), torch.zeros(1, 3)).image[0])


def test_one_identity_and_albedo_and_the_rest_of_each_photo():
    faces = results()[:3]
    assert all(isinstance(done, FittedPhoto) for done in faces)
    numbers = [result_dict(done) for done in faces]
    for group in ("id", "alb"):
        assert numbers[0]["coefficients"][group] == numbers[2]["coefficients"][group]
    for name in ("lighting", "pose", "gaze"):
        assert numbers[0][name] != numbers[2][name]
    assert {one["method"] for one in numbers} == {"together"}
    assert all(0 < one["distance"] < 0.45 for one in numbers)
    assert all(one["converged"] for one in numbers)
    assert max(one["losses"]["landmark_error_inner"] for one in numbers) < 0.03


def test_what_is_left_out_says_why():
    blank, again, stranger = results()[3:]
    assert "blank: no face found" in str(blank)
    assert str(again) == "again: is the same file as astronaut.jpg; left out"
    assert isinstance(stranger, TogetherError)
    assert "stranger: is not of the person in astronaut.jpg, bright, mirrored (F() is " in str(
        stranger
    )
    kept = results(keep_strangers=True)
    assert [isinstance(done, FittedPhoto) for done in kept] == [True] * 3 + [False] * 2 + [True]
    assert kept[5].distance > LIMIT


def test_a_photo_alone_and_two_people_are_refused():
    photo, blank = sample_photo(), seen_as("blank", np.full((64, 64, 3), 9, np.uint8))
    alone, _ = encode_together([photo, blank], *parts())
    assert str(alone).startswith("astronaut.jpg: is the only photo left")
    one, other = encode_together([photo, seen_as("him", rendered())], *parts())
    assert one is other
    assert str(one).startswith("astronaut.jpg, him: who is the person and who the stranger cannot")
    assert "--keep-strangers" in str(one)
    assert "F() is 0.00" not in str(one)


def test_of_several_faces_the_one_of_the_other_photos_is_taken():
    photo = sample_photo()
    small = np.asarray(Image.fromarray(photo.pixels[:256, 96:352]).resize((300, 300)))
    crowd = np.full((620, 820, 3), 120, np.uint8)
    crowd[:512, :512], crowd[300:600, 515:815] = rendered(), small
    first, second = encode_together([photo, seen_as("two", crowd)], *parts())
    assert (first.detection.face, second.detection.face) == (1, 2)
    first, second = encode_together([photo, seen_as("two", crowd)], *parts(), keep_strangers=True)
    assert second.detection.face == 1


def test_the_person_is_written_as_a_neutral_head(tmp_path):
    faces = results()[:3]
    result = write_person(faces, tmp_path / "person")
    files = {path.name for path in (tmp_path / "person").iterdir()}
    assert files == {"mesh.ply", "mesh.glb", "figure.png", "result.json"}
    assert [one["photo"] for one in result["photos"]] == ["astronaut.jpg", "bright", "mirrored"]
    assert result["coefficients"] == {
        name: result_dict(faces[0])["coefficients"][name] for name in ("id", "alb")
    }
    head = neutral_head(faces[1])
    torch.testing.assert_close(head.vertices, model().shape(faces[0].fitted.coefficients.identity))
    assert np.asarray(Image.open(tmp_path / "person" / "figure.png")).std() > 20
    assert set(write_person(faces, tmp_path / "person", figures=False)["files"]) == {
        "mesh.ply",
        "mesh.glb",
    }
