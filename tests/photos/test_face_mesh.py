"""The networks give what MediaPipe's own runtime gives, and a face's points follow its photo."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from facerecon_lib.face.landmarks68 import FIVE
from facerecon_lib.photos import detection, face_mesh_network
from facerecon_lib.photos.face_mesh import OUTER_EYES, face_points, five_points
from facerecon_lib.photos.face_mesh_network import FaceMeshError, load_networks
from facerecon_lib.photos.face_search import _merged, find_faces

# Outputs of mediapipe 0.10.21 on parts of the bundled photo: the mesh in a crop of 192 x 192 that
# needs no resampling, the short-range detector on 128 x 128.
MEDIAPIPE = np.load(Path(__file__).with_name("mediapipe_astronaut.npz"))
CROP = 138, 36, 318, 216


@pytest.fixture(scope="module")
def photo() -> Image.Image:
    return Image.fromarray(detection.sample_photo().pixels)


@pytest.fixture(scope="module")
def five() -> np.ndarray:
    stored = detection.sample_detection().landmarks
    return np.stack([stored[part].mean(0) for part in FIVE])


def pictures(*images: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.stack([np.array(i) for i in images])).movedim(-1, 1) / 255


def apart(points: np.ndarray, expected: np.ndarray) -> float:
    """Mean distance as a share of the outer eye distance."""
    right, left = (expected[corner] for corner in OUTER_EYES)
    return np.linalg.norm(points - expected, axis=1).mean() / np.linalg.norm(left - right)


def test_the_mesh_is_mediapipes(photo):
    crop = photo.crop(CROP).resize((192, 192))
    upside_down = crop.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
    with torch.no_grad():
        points, score = load_networks()[1](pictures(crop, upside_down))
    assert np.abs(points[0].numpy() - MEDIAPIPE["points"]).max() < 0.02  # px; 1e-4 where it is made
    assert score[0] > 0.99 > score[1]


def test_the_detector_is_mediapipes(photo):
    with torch.no_grad():
        boxes, keypoints, scores = load_networks()[0](pictures(photo.resize((128, 128))))
    ((box, points, score),) = _merged(boxes[0].numpy(), keypoints[0].numpy(), scores[0].numpy())
    assert score == pytest.approx(float(MEDIAPIPE["score"]), abs=1e-3)
    assert np.abs(box - MEDIAPIPE["box"]).max() < 1e-3  # of the picture's side
    assert np.abs(points - MEDIAPIPE["keypoints"]).max() < 1e-3


def test_a_batch_gives_what_each_face_gives_alone(photo, five):
    pixels = np.asarray(photo)
    other = np.ascontiguousarray(np.asarray(photo.resize((300, 300))))
    both = face_points([pixels, other], [five, five * 300 / 512])
    alone = face_points([other], [five * 300 / 512])
    np.testing.assert_allclose(both.points[1], alone.points[0], atol=1e-2)
    assert apart(both.points[1] * 512 / 300, both.points[0]) < 0.01
    assert (both.score > 0.99).all()
    assert (both.scatter < 0.02).all()


def test_mirroring_the_points_twice_changes_nothing(photo, five):
    mirror = load_networks()[1].mirror.numpy()
    np.testing.assert_array_equal(mirror[mirror], np.arange(478))
    assert (mirror == np.arange(478)).sum() == 28  # on the midline
    assert mirror[list(OUTER_EYES)].tolist() == list(OUTER_EYES[::-1])
    assert mirror[[468, 473]].tolist() == [473, 468]
    points = face_points([np.asarray(photo)], [five]).points[0]
    mirrored = five[[1, 0, 2, 4, 3]] * (-1, 1) + (512, 0)
    pixels = np.ascontiguousarray(np.asarray(photo)[:, ::-1])
    back = face_points([pixels], [mirrored]).points[0][mirror] * (-1, 1) + (512, 0)
    assert apart(back, points) < 0.008


@pytest.mark.parametrize("degrees", [-70, 35, 90])
def test_points_turn_with_the_photo(photo, five, degrees):
    """A pixel's centre is + 0.5: a turn about the photo's middle is one about (256, 256)."""
    pixels = np.asarray(photo.rotate(degrees, Image.Resampling.BICUBIC))
    turn = np.exp(1j * np.radians(degrees))

    def turned(points: np.ndarray, factor: complex) -> np.ndarray:
        z = (points @ np.array([1, 1j]) - 256 * (1 + 1j)) * factor + 256 * (1 + 1j)
        return np.stack([z.real, z.imag], -1)

    points = face_points([pixels], [turned(five, turn.conjugate())]).points[0]
    assert apart(turned(points, turn), face_points([np.asarray(photo)], [five]).points[0]) < 0.012


def test_points_lie_on_eyes_lips_and_irises(photo, five):
    mesh = face_points([np.asarray(photo)], [five])
    points, landmarks = mesh.points[0], detection.sample_detection().landmarks
    eyes = np.linalg.norm(landmarks[36] - landmarks[45])
    assert np.abs(five_points(points) - five).max() < 0.06 * eyes
    for iris, lids in ((468, slice(36, 42)), (473, slice(42, 48))):
        x, y = points[iris]
        low, high = landmarks[lids].min(0), landmarks[lids].max(0)
        assert (low < (x, y)).all()
        assert ((x, y) < high).all()
        pupil, cheek = (np.asarray(photo)[int(b), int(a)].mean() for a, b in ((x, y), points[50]))
        assert pupil < 0.6 * cheek
    assert not np.isclose(points, np.roll(points, 1, axis=0)).all(1).any()


def test_a_face_beyond_the_photo_has_points_there(photo, five):
    """The edge repeats: points of the missing half lie outside, those of the other half stay."""
    whole = face_points([np.asarray(photo)], [five]).points[0]
    middle = int(five[2, 0])
    half = np.ascontiguousarray(np.asarray(photo)[:, middle:])
    points = face_points([half], [five - (middle, 0)]).points[0] + (middle, 0)
    assert points[:, 0].min() < middle - 20
    there = whole[:, 0] > middle + 15
    eyes = np.linalg.norm(whole[OUTER_EYES[0]] - whole[OUTER_EYES[1]])
    assert np.linalg.norm(points - whole, axis=1)[there].mean() < 0.08 * eyes


def test_faces_of_several_photos_are_found_at_once(photo):
    pixels = np.asarray(photo)
    turned = np.ascontiguousarray(np.rot90(pixels))
    upright, none, lying = find_faces([pixels, np.zeros((40, 60, 3), np.uint8), turned])
    assert [len(upright), len(none), len(lying)] == [1, 0, 1]
    assert (upright[0].turned, lying[0].turned) == (0, 270)
    x, y = lying[0].points.T
    back = np.stack([512 - y, x], -1)
    assert np.abs(back - upright[0].points).max() < 4


def test_a_damaged_file_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(face_mesh_network, "shipped_file", lambda name: tmp_path / name)
    load = face_mesh_network.load_networks.__wrapped__
    with pytest.raises(FaceMeshError, match=r"no such file.*convert_face_mesh"):
        load()
    (tmp_path / "face_mesh.safetensors").write_bytes(b"no weights")
    with pytest.raises(FaceMeshError, match="not a readable safetensors file"):
        load()
