"""Measures of a face's quality: angles are the head's, blur is blur, and dark skin is no fault."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter

from facerecon_lib.face.camera import axis_angle_to_matrix
from facerecon_lib.face.landmarks68 import FIVE
from facerecon_lib.photos.crop import align
from facerecon_lib.photos.detection import sample_detection, sample_photo
from facerecon_lib.photos.face_search import FaceBox
from facerecon_lib.photos.quality import (
    FLAGS,
    LIMITS,
    Quality,
    blur_effect,
    face_mask,
    head_angles,
    measure_quality,
)

GOOD = Quality(0.9999, 0.0, 150.0, 0.4, 0.0, 0.0, 0.0, 0.006, 0.0, 0.0, 0.0, 0.0)


def five_of(landmarks: np.ndarray) -> np.ndarray:
    return np.float32([landmarks[part].mean(0) for part in FIVE])


def quality_of(pixels: np.ndarray, landmarks: np.ndarray, faces: list[FaceBox] | None = None):
    box = np.concatenate([landmarks.min(0), landmarks.max(0)])
    faces = faces or [FaceBox(box, five_of(landmarks), 0.9999)]
    return measure_quality(pixels, faces, landmarks, align(pixels, landmarks), 0.003)


@pytest.mark.parametrize("angles", [(0, 0, 0), (35, 0, 0), (-20, 0, 0), (0, 25, 0), (0, 0, -30)])
def test_angles_of_a_head_are_those_it_was_turned_by(model, angles):
    yaw, pitch, roll = np.radians(angles)
    axis_angle = torch.tensor([[-pitch, yaw, roll]], dtype=torch.float64)
    turned = model.mean[model.landmarks].double() @ axis_angle_to_matrix(axis_angle)[0].T
    pixels = turned[:, :2].numpy() * (1.7, -1.7) + (300, 200)  # y down
    assert np.allclose(head_angles(pixels), angles, atol=0.5)


def test_the_sample_photo_has_no_fault():
    found = sample_detection()
    quality = quality_of(sample_photo().pixels, found.landmarks)
    assert quality.flags() == ()
    assert quality.face_px == pytest.approx(np.ptp(found.landmarks, axis=0).max(), abs=0.1)
    assert quality.outside == 0
    assert set(quality.facts()) == {*Quality.__dataclass_fields__, "flags"}


def test_blur_grows_with_blur_and_is_flagged():
    found, photo = sample_detection(), Image.fromarray(sample_photo().pixels)
    blurs = []
    for radius in (0, 1, 2, 4, 8):
        pixels = np.asarray(photo.filter(ImageFilter.GaussianBlur(radius)))
        blurs.append(quality_of(pixels, found.landmarks).blur)
    assert blurs == sorted(blurs)
    assert blurs[0] < LIMITS["blurred"][1] < blurs[-1]
    assert blur_effect(np.full((224, 224, 3), 0.5, np.float32)) == 1.0


def test_the_exposure_is_judged_by_what_is_cut_off_and_not_by_the_skin():
    found, pixels = sample_detection(), sample_photo().pixels
    mean = pixels.mean((0, 1))
    deepest = np.array([0x29, 0x24, 0x20])  # tone 10 of the Monk scale
    dark = np.clip(pixels / mean * deepest, 0, 255).astype(np.uint8)
    assert quality_of(dark, found.landmarks).flags() == ()
    night = np.clip(pixels.astype(int) - 210, 0, 255).astype(np.uint8)
    assert "dark" in quality_of(night, found.landmarks).flags()
    flash = np.clip(pixels.astype(int) * 3, 0, 255).astype(np.uint8)
    assert "bright" in quality_of(flash, found.landmarks).flags()


def test_other_faces_scatter_and_edges_are_noticed():
    found, pixels = sample_detection(), sample_photo().pixels
    landmarks = found.landmarks
    box, five = np.concatenate([landmarks.min(0), landmarks.max(0)]), five_of(landmarks)
    beside = FaceBox(box * 0.6, five * 0.6, 0.99)
    quality = quality_of(pixels, landmarks, [FaceBox(box, five, 0.9999), beside])
    assert quality.others == pytest.approx(0.6, abs=1e-3)
    assert quality.flags() == ("several",)
    faces = [FaceBox(box, five, 0.95)]
    scattered = measure_quality(pixels, faces, landmarks, align(pixels, landmarks), 0.02)
    assert scattered.scatter == 0.02
    assert scattered.flags() == ("unsure", "scattered")
    left = int(landmarks[:, 0].min() + 0.2 * np.ptp(landmarks[:, 0]))
    cut = quality_of(pixels[:, left:], landmarks - (left, 0))
    assert 0.05 < cut.outside < 0.5
    assert "cut" in cut.flags()


def test_every_flag_has_a_number_and_a_limit():
    assert GOOD.flags() == ()
    for flag in FLAGS:
        name, limit, words = LIMITS[flag]
        worse = limit * 0.9 if name in ("score", "face_px") else limit * 1.1
        assert replace(GOOD, **{name: worse}).flags() == (flag,)
        assert f"{limit:g}" in words.format(limit=limit)
    assert replace(GOOD, yaw=-60.0).flags() == ("turned",)


def test_a_drawing_or_a_mosaic_has_no_shade():
    sample, pixels = sample_detection(), sample_photo().pixels
    assert quality_of(pixels, sample.landmarks).flat < 0.1
    blocks = np.asarray(Image.fromarray(pixels[::8, ::8]).resize((512, 512), Image.NEAREST))
    assert "flat" in quality_of(blocks, sample.landmarks).flags()
    assert "flat" in quality_of(pixels // 64 * 64, sample.landmarks).flags()


def test_the_mask_is_the_hull_of_the_points():
    points = np.float32([[20, 30], [80, 30], [80, 90], [20, 90], *[[50, 60]] * 64])
    mask = face_mask(points, 100)
    assert mask[[31, 88], [21, 78]].all()
    assert not mask[[20, 95], 50].any()
    assert mask.sum() == pytest.approx(60 * 60, rel=0.05)
