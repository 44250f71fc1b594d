"""Figures: right sizes, right things in them."""

from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest
import torch
from PIL import ImageColor
from small_faces import model

from facerecon_lib.face.camera import CROP_SIZE
from facerecon_lib.face.landmarks68 import RIGHT_EYE
from facerecon_lib.fitting.gaze import Sight
from facerecon_lib.fitting.pose_start import start_from_landmarks
from facerecon_lib.photos.crop import align
from facerecon_lib.photos.detection import sample_detection, sample_photo
from facerecon_lib.pictures.faces import (
    DETECTED,
    enlarged,
    overlay_on_photo,
    show_face,
    to_uint8,
    turned,
)
from facerecon_lib.pictures.fit_sheet import GAP, LINE, LOOK, PANEL, _font, fit_sheet
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


def test_a_fit_on_one_page_shows_the_photo_the_face_and_its_landmarks():
    _, crop, coefficients, face = scene()
    page = fit_sheet(crop, face, coefficients, "2d", "$^$ Лицо.jpg\n and a reason")
    one_line = fit_sheet(crop, face, coefficients, "2d", "Лицо.jpg")
    assert page.height - one_line.height == LINE
    pixels, top = np.asarray(one_line), 2 * LINE + GAP
    photo, overlay, lit = (
        pixels[top : top + PANEL, x : x + PANEL] for x in range(GAP, 600, PANEL + GAP)
    )
    plain = enlarged(crop.image, PANEL)
    x, y = (crop.landmarks[0, 30] * PANEL / CROP_SIZE).int().tolist()
    assert tuple(photo[y, x]) == ImageColor.getrgb(DETECTED)
    assert (photo == plain).all(-1).mean() > 0.97  # but for the dots
    beside = (lit == lit[-1, 0]).all(-1)
    assert 0.2 < beside.mean() < 0.8
    off = np.abs(overlay.astype(int) - plain).mean(-1)
    assert off[beside].mean() < 4 < 8 < off[~beside].mean()


def test_a_gaze_is_drawn_from_the_eye_that_is_seen():
    _, crop, coefficients, face = scene()
    gaze = torch.tensor([[[-0.9, 0.0], [0.9, 0.0]]])
    sight = Sight(torch.zeros_like(gaze), gaze, torch.tensor([[True, False]]))
    page = np.asarray(fit_sheet(crop, face, coefficients, "2d", "", None, sight))
    rows, columns = (page == ImageColor.getrgb(LOOK)).all(-1).nonzero()
    ends = torch.tensor([columns.min(), columns.max()]) - GAP
    eye = crop.landmarks[0, RIGHT_EYE, 0] * PANEL / CROP_SIZE
    assert eye.min() < ends[1] < eye.max()
    assert eye.mean() - ends[0] > 40  # px, to the viewer's left
    assert len(rows) > 60
    assert np.ptp(rows) < 40


def test_a_name_in_greek_or_cyrillic_is_drawn_in_its_letters():
    letters = [bytes(_font().getmask(letter)) for letter in ("Л", "Ω", "\uffff")]
    assert len(set(letters)) == 3
