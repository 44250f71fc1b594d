"""Faces are found, and their landmarks, in the coordinates of the photo."""

import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from PIL import Image

from facerecon_lib.face.landmarks68 import MIRROR_68
from facerecon_lib.photos import detection, landmarks
from facerecon_lib.photos.detection import detect
from facerecon_lib.photos.face_mesh import five_points
from facerecon_lib.photos.face_mesh_network import load_networks
from facerecon_lib.photos.landmarks import DetectionError
from facerecon_lib.photos.reading import Photo, load_image

needs_mtcnn = pytest.mark.skipif(
    not landmarks._installed("facenet_pytorch"), reason="facenet-pytorch is missing"
)
needs_dlib = pytest.mark.skipif(
    not landmarks._ready()["dlib"], reason="needs the extra [dlib], which no set-up installs"
)


@pytest.fixture(scope="module")
def sample():
    return detection.sample_photo()


@pytest.fixture(scope="module")
def portrait():
    """The part of the sample around the face, 256 x 256: quicker to search."""
    return np.ascontiguousarray(detection.sample_photo().pixels[:256, 96:352])


@pytest.fixture(scope="module")
def found(portrait):
    return detect(portrait)


def eye_distance(landmarks):
    return np.linalg.norm(landmarks[36] - landmarks[45])


def mean_shift(landmarks, expected):
    """Mean distance as a share of the outer-eye distance."""
    return np.linalg.norm(landmarks - expected, axis=1).mean() / eye_distance(expected)


# Faces and landmarks ----------------------------------------------------------------------------


def test_the_stored_points_are_what_the_detector_finds(sample):
    stored, fresh = detection.sample_detection(), detect(sample)
    assert (stored.detector, stored.kind) == ("dlib", "2d")
    assert (fresh.detector, fresh.kind) == ("face-mesh", "3d")
    for own in (stored, fresh):
        assert (own.faces_found, own.face) == (1, 1)
        assert own.landmarks.shape == (68, 2)
        assert own.landmarks.dtype == np.float32
    away = np.linalg.norm(fresh.landmarks - stored.landmarks, axis=1)[27:]  # no brows, no jaw
    assert away.mean() < 0.04 * eye_distance(stored.landmarks)
    for name in ("box", "points"):
        assert np.abs(getattr(fresh, name) - getattr(stored, name)).max() < 0.05, name
    assert np.abs(fresh.faces[0].points - stored.faces[0].points).max() < 0.05
    assert fresh.score == pytest.approx(stored.score, abs=1e-4)
    assert fresh.scatter == pytest.approx(stored.scatter, abs=1e-4)


def test_the_stored_landmarks_lie_where_a_face_has_them():
    stored = detection.sample_detection()
    points = stored.landmarks
    assert replace(stored, face=2).face == 2  # a plain record
    assert (stored.box[2:] > stored.box[:2]).all()
    nose, brows, mouth = points[30], points[17:27], points[48:68]
    left, right = points[36:42].mean(0), points[42:48].mean(0)
    assert left[0] < nose[0] < right[0]
    downwards = [brows[:, 1].max(), min(left[1], right[1]), nose[1], mouth[:, 1].mean()]
    assert sorted(downwards) == downwards
    assert downwards[-1] < points[8, 1]  # the chin
    credits = json.loads((detection.ASSETS / "astronaut_landmarks.json").read_text())
    assert "public domain" in credits["credit"]


def test_mirroring_the_points_twice_changes_nothing():
    np.testing.assert_array_equal(MIRROR_68[MIRROR_68], np.arange(68))
    assert (np.arange(68) != MIRROR_68).sum() == 58  # ten points lie on the midline


def test_landmarks_follow_a_mirrored_photo(portrait, found):
    mirrored = detect(np.ascontiguousarray(portrait[:, ::-1])).landmarks
    back = mirrored[MIRROR_68].copy()
    back[:, 0] = 256 - back[:, 0]
    assert mean_shift(back, found.landmarks) < 0.015


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_a_photo_that_lies_on_its_side_gives_the_same_landmarks(portrait, found, quarters):
    turned = detect(np.ascontiguousarray(np.rot90(portrait, quarters)))
    assert turned.turned == 360 - 90 * quarters
    x, y = turned.landmarks.T
    back = {1: (256 - y, x), 2: (256 - x, 256 - y), 3: (y, 256 - x)}[quarters]
    assert mean_shift(np.stack(back, 1), found.landmarks) < 0.015


def test_a_tilted_head_gives_the_same_landmarks(portrait, found):
    angle, centre = np.deg2rad(35), 128
    tilted = Image.fromarray(portrait).rotate(35, Image.Resampling.BICUBIC)
    landmarks = detect(np.asarray(tilted)).landmarks
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    assert mean_shift((landmarks - centre) @ turn.T + centre, found.landmarks) < 0.015


@pytest.mark.parametrize("size", [100, 700])
def test_landmarks_scale_with_the_photo(portrait, found, size):
    resized = Image.fromarray(portrait).resize((size, size), Image.Resampling.BICUBIC)
    landmarks = detect(np.asarray(resized)).landmarks * (256 / size)
    assert mean_shift(landmarks, found.landmarks) < 0.025


def test_landmarks_hold_in_the_dark(portrait, found):
    dark = (portrait * 0.15).astype(np.uint8)
    assert mean_shift(detect(dark).landmarks, found.landmarks) < 0.02


@needs_mtcnn
def test_a_face_that_fills_the_photo_is_found(portrait, found):
    low = np.floor(found.landmarks.min(0)).astype(int)
    high = np.ceil(found.landmarks.max(0)).astype(int)
    tight = np.ascontiguousarray(portrait[low[1] : high[1], low[0] : high[0]])
    assert mean_shift(detect(tight).landmarks + low, found.landmarks) < 0.05


@needs_mtcnn
def test_faces_are_numbered_from_the_largest(portrait, found):
    pair = Photo(np.zeros((256, 426, 3), np.uint8), "pair.png")
    pair.pixels[:170, :170] = Image.fromarray(portrait).resize((170, 170), Image.Resampling.LANCZOS)
    pair.pixels[:, 170:] = portrait
    first, second = (detect(pair, face=number) for number in (1, 2))
    assert (first.faces_found, first.face, second.face) == (2, 1, 2)
    assert mean_shift(first.landmarks - [170, 0], found.landmarks) < 0.02
    assert mean_shift(second.landmarks * (256 / 170), found.landmarks) < 0.03
    with pytest.raises(DetectionError, match=r"pair.png: has 2 faces, no face 3; choose 1 .* to 2"):
        detect(pair, face=3)
    with pytest.raises(DetectionError, match="no face 0"):
        detect(pair, face=0)


@needs_mtcnn
@pytest.mark.parametrize("shape", [(1, 1), (2, 150), (80, 60)])
def test_a_photo_without_a_face_says_so_and_what_to_try(shape):
    noise = np.random.default_rng(7).integers(0, 256, (*shape, 3), np.uint8)
    with pytest.raises(DetectionError, match=r"wall.png: no face found.*try a photo"):
        detect(Photo(noise, "wall.png"))


def test_pixels_of_the_wrong_kind_and_unknown_detectors_are_refused(sample):
    with pytest.raises(DetectionError, match="'mediapipe' is unknown"):
        detect(sample, detector="mediapipe")
    with pytest.raises(DetectionError, match="expected uint8 pixels"):
        detect(np.zeros((64, 64, 3), np.float32))
    with pytest.raises(DetectionError, match=r"got uint8 \(64, 64\)"):
        detect(np.zeros((64, 64), np.uint8))


@needs_mtcnn
def test_a_batch_gives_what_each_photo_gives_alone(sample, portrait):
    pair = np.zeros((256, 426, 3), np.uint8)
    pair[:170, :170] = Image.fromarray(portrait).resize((170, 170), Image.Resampling.LANCZOS)
    pair[:, 170:] = portrait
    wall, floats = Photo(np.full((120, 160, 3), 127, np.uint8), "wall.png"), Photo(portrait / 255.0)
    photos = [sample, wall, floats, Photo(pair)]
    results = detection.detect_each(photos)
    assert "wall.png: no face found" in str(results[1])
    assert "expected uint8 pixels" in str(results[2])
    for photo, result in ((sample, results[0]), (Photo(pair), results[3])):
        alone = detect(photo)
        assert np.abs(alone.points - result.points).max() < 0.01
        assert (alone.faces_found, alone.score) == (result.faces_found, pytest.approx(result.score))
    second = detection.detect_each(photos, face=2)
    assert "has 1 face, no face 2" in str(second[0])
    assert (second[3].face, second[3].faces_found) == (2, 2)
    assert second[3].points[:, 0].max() < 170 < results[3].points[:, 0].min()


# The 68 landmarks -------------------------------------------------------------------------------


def test_landmarks_are_means_that_move_turn_and_grow_with_the_points():
    points = detection.sample_detection().points.astype(float)
    matrix, shift = np.array([[0.3, -2.0], [1.5, 0.4]]), np.array([900.0, -70.0])
    expected = landmarks.landmarks_from(points) @ matrix.T + shift
    np.testing.assert_allclose(landmarks.landmarks_from(points @ matrix.T + shift), expected, 1e-5)
    assert landmarks.landmarks_from(np.stack([points] * 3)).shape == (3, 68, 2)


def test_landmarks_of_mirrored_points_are_the_mirrored_landmarks():
    points, mirror = detection.sample_detection().points, load_networks()[1].mirror.numpy()
    mirrored = landmarks.landmarks_from(points[mirror] * [-1, 1])
    expected = landmarks.landmarks_from(points)[MIRROR_68] * [-1, 1]
    np.testing.assert_allclose(mirrored, expected, atol=1e-3)


def test_landmarks_lie_beside_the_points_that_mark_the_same_places():
    stored = detection.sample_detection()
    same = {36: 33, 39: 133, 42: 362, 45: 263, 48: 61, 54: 291, 51: 0, 57: 17, 30: 4}
    found = landmarks.landmarks_from(stored.points)
    away = found[[*same]] - stored.points[[*same.values()]]
    assert np.linalg.norm(away, axis=1).max() < 0.07 * eye_distance(stored.landmarks)


@needs_dlib
def test_dlibs_landmarks_are_near_ours(portrait, found):
    other = detect(portrait, detector="dlib")
    assert (other.detector, other.kind) == ("dlib", "2d")
    inner = slice(27, 68)  # brows and jaw are defined otherwise
    far = np.linalg.norm(other.landmarks - found.landmarks, axis=1)[inner]
    assert far.mean() < 0.05 * eye_distance(found.landmarks)


# Choosing a detector ----------------------------------------------------------------------------


def test_another_detector_is_used_only_by_name_and_when_its_weights_are_there(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(landmarks, "_installed", lambda module: True)
    monkeypatch.setattr(landmarks, "_dlib_weights", lambda: tmp_path)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    assert landmarks.choose_detector(None) == "face-mesh"
    assert landmarks.choose_detector("face-alignment", allow_download=True) == "face-alignment"
    with pytest.raises(DetectionError, match=r"face-alignment is not ready.*allow_download"):
        landmarks.choose_detector("face-alignment")
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "3DFAN4-0123456789.pth.tar").touch()
    assert landmarks.choose_detector("face-alignment") == "face-alignment"
    assert landmarks.choose_detector("dlib") == "dlib"
    assert landmarks.choose_detector(None, allow_download=True) == "face-mesh"


def test_a_detector_that_is_not_installed_says_what_to_install(monkeypatch):
    monkeypatch.setattr(landmarks, "_installed", lambda module: False)
    with pytest.raises(DetectionError, match=r"dlib is not ready.*facerecon-lib\[dlib\]"):
        landmarks.choose_detector("dlib", allow_download=True)
    mesh, *others = landmarks.detectors()
    assert (mesh["ready"], mesh["todo"]) == (True, "")  # it ships
    assert [row["ready"] for row in others] == [False] * 3
    assert all("pip install" in row["todo"] for row in others)


def test_the_list_of_detectors_states_their_terms():
    rows = {row["name"]: row for row in landmarks.detectors()}
    assert "research" in rows["dlib"]["licence"]
    assert all(row["todo"] == "" for row in rows.values() if row["ready"])


def test_face_alignment_sees_an_upright_patch_and_its_points_come_back(sample, monkeypatch):
    network = mock.Mock()
    network().get_landmarks_from_image.return_value = [np.full((68, 2), landmarks.PATCH / 2 - 0.5)]
    fake = mock.Mock(FaceAlignment=network)
    monkeypatch.setitem(sys.modules, "face_alignment", fake)
    monkeypatch.setattr(detection, "choose_detector", lambda *_: "face-alignment")
    stored = detection.sample_detection()
    monkeypatch.setattr(detection, "detect_faces", lambda *_, **__: stored.faces)
    landmarks._face_alignment.cache_clear()
    try:
        result = detect(sample)
    finally:
        landmarks._face_alignment.cache_clear()
    assert (result.detector, result.kind) == ("face-alignment", "3d")
    # no depth network: its weights are a pickle
    kind, settings = fake.LandmarksType.TWO_HALF_D, dict(face_detector="folder", compile=False)
    network.assert_called_with(kind, device="cpu", **settings)
    (patch,), _ = network().get_landmarks_from_image.call_args
    assert patch.shape == (landmarks.PATCH, landmarks.PATCH, 3)
    # The middle of the patch is the middle of the face: between the eyes and the mouth.
    five = five_points(stored.points)
    middle, far = (five[:2].mean(0) + five[3:].mean(0)) / 2, 0.15 * eye_distance(stored.landmarks)
    assert np.linalg.norm(result.landmarks - middle, axis=1).max() < far


# Real photos ------------------------------------------------------------------------------------


@needs_mtcnn
@pytest.mark.skipif(
    not os.environ.get("FACERECON_TEST_PHOTOS"), reason="FACERECON_TEST_PHOTOS names no folder"
)
def test_a_face_is_found_in_every_photo_of_the_folder():
    folder = Path(os.environ["FACERECON_TEST_PHOTOS"])
    paths = [p for p in sorted(folder.iterdir()) if p.suffix.lower() in (".jpg", ".jpeg", ".png")]
    assert paths, f"no photos in {folder}"
    for path in paths:
        face = detect(load_image(path))
        near = eye_distance(face.landmarks)
        inside = (face.landmarks > face.box[:2] - near) & (face.landmarks < face.box[2:] + near)
        assert inside.all(), path.name
