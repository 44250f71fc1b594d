"""Figures: right sizes, right things in them."""

from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest
import torch
from small_faces import model

from facerecon_lib.fitting.pose_start import start_from_landmarks
from facerecon_lib.photos.crop import align
from facerecon_lib.photos.detection import sample_detection, sample_photo
from facerecon_lib.pictures.faces import on_photo, overlay_on_photo, show_face, to_uint8, turned
from facerecon_lib.pictures.sheets import fit_figure, save_figure
from facerecon_lib.rendering.synthesis import synthesise


@lru_cache
def scene():
    photo = sample_photo()
    crop = align(photo.pixels, sample_detection().landmarks)
    coefficients = start_from_landmarks(model(), crop.landmarks)
    return photo, crop, coefficients, synthesise(model(), coefficients)


def test_bytes_are_rounded_and_clamped():
    image = torch.tensor([-1.0, 0.5, 2.0])[:, None, None]
    assert to_uint8(image).ravel().tolist() == [0, 128, 255]


@pytest.mark.parametrize("look", ["lit", "unlit", "shape", "studio"])
def test_every_look_shows_a_face_on_paper(look):
    face = scene()[-1]
    image = show_face(face, look, size=96)
    assert image.shape == (96, 96, 3)
    assert (image[0, 0] > 230).all()
    assert image[48, 48].mean() < 230


def test_an_unknown_look_is_refused():
    with pytest.raises(ValueError, match="look: expected one of lit, unlit, shape, studio"):
        show_face(scene()[-1], "wireframe")


def test_a_face_turned_left_is_the_mirror_of_one_turned_right():
    faces = (turned(model(), model().neutral(), yaw) for yaw in (-30, 30))
    left, right = (show_face(face, "unlit", 96).astype(int) for face in faces)
    assert np.abs(left - right[:, ::-1]).mean() < 2


def test_the_overlay_lies_where_the_landmarks_are():
    photo, crop, _, face = scene()
    red = torch.tensor([1.0, 0.0, 0.0]).expand_as(face.colours)
    overlay = overlay_on_photo(photo.pixels, replace(face, colours=red), crop.matrix)
    assert overlay.shape == photo.pixels.shape
    nose = sample_detection().landmarks[30].astype(int)
    assert tuple(overlay[nose[1], nose[0]]) == (255, 0, 0)
    assert (overlay[:20] == photo.pixels[:20]).all()


def test_a_large_photo_is_reduced_and_the_face_stays_in_place():
    photo, crop, _, face = scene()
    small = overlay_on_photo(photo.pixels, face, crop.matrix, longest=256)
    large = overlay_on_photo(photo.pixels, face, crop.matrix)
    assert small.shape == (256, 256, 3)
    halved = large.reshape(256, 2, 256, 2, 3).mean((1, 3))
    assert np.abs(halved - small).mean() < 4


def test_the_figure_of_a_fit_is_written_without_a_display(tmp_path):
    _, crop, coefficients, face = scene()
    figure = fit_figure(crop, face, coefficients, "2d", "$^$ 漢字.jpg")
    assert len(figure.axes) == 10
    assert figure.get_suptitle() == "$^$ 漢字.jpg"
    save_figure(figure, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 50_000
    assert on_photo(crop.image, face, 128).shape == (128, 128, 3)
