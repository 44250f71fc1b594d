"""F() of Eq. 6: the warp, the mask, the gradient, and whose face it is."""

import importlib.util
import os
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_faces import model
from torch import nn

from facerecon_lib.face.landmarks68 import MIRROR_68
from facerecon_lib.fitting.losses import recognition_loss
from facerecon_lib.networks.face_networks import CHIPS, FaceNetwork, load_network
from facerecon_lib.networks.recognition import (
    ALIGNED_POINTS,
    MEAN_X,
    MEAN_Y,
    chip_matrix,
    cut_chips,
    face_features,
    feature_distance,
)
from facerecon_lib.photos.crop import align
from facerecon_lib.photos.detection import detect, sample_detection, sample_photo
from facerecon_lib.photos.reading import load_image
from facerecon_lib.rendering.synthesis import synthesise

DLIB = CHIPS["dlib"]


@lru_cache
def network() -> FaceNetwork:
    return load_network("dlib")


@lru_cache
def faces(count: int = 4):
    """Rendered faces: images, masks and their landmarks in crop pixels."""
    generator = torch.Generator().manual_seed(0)
    c = model().neutral(count)
    c.identity, c.expression, c.albedo = model().random(count, generator)
    c.rotation = 0.2 * torch.randn(count, 3, generator=generator)
    with torch.no_grad():
        face = synthesise(model(), c)
        image, mask = face.render(background=0.4)
    noise = torch.randn(image.shape, generator=generator) / 255  # flat areas have ties
    return (image + noise).clamp(0, 1), mask, face.landmarks("2d")


class Means(nn.Module):
    """A network that is quick and sees everything: means of chips over squares of 10 pixels."""

    def forward(self, x):
        return nn.functional.avg_pool2d(x, 10).flatten(1)


@lru_cache
def means() -> FaceNetwork:
    return FaceNetwork("dlib", Means(), (122.782, 117.001, 104.298), 256.0, same_person=0.6)


def mean_face(chip=DLIB) -> torch.Tensor:
    """The 68 points such that the aligned ones lie in the chip as the mean face does, a pixel of
    the image to one of the chip."""
    x, y, width, height = chip.box
    t = torch.stack([(torch.tensor(MEAN_X) - x) / width, (torch.tensor(MEAN_Y) - y) / height], -1)
    points = torch.zeros(1, 68, 2)
    points[:, ALIGNED_POINTS] = t * chip.size
    return points


# The warp ---------------------------------------------------------------------------------------


def test_a_face_that_lies_as_the_mean_face_is_cut_as_it_is():
    matrix = chip_matrix(mean_face(), DLIB)
    torch.testing.assert_close(matrix[0], torch.eye(2, 3), atol=1e-4, rtol=0)
    image = torch.rand(1, 3, 150, 150)
    chips = cut_chips(image, matrix, DLIB, torch.full((3,), 0.5))
    torch.testing.assert_close(chips, image, atol=1e-3, rtol=0)


@given(st.floats(-3.1, 3.1), st.floats(0.5, 3), st.floats(-50, 50), st.floats(-50, 50))
def test_the_warp_undoes_a_similarity(turn, scale, x, y):
    a = scale * np.exp(1j * turn)
    points = mean_face()[0]
    moved = torch.view_as_complex(points.double().contiguous()) * a + complex(x, y)
    landmarks = torch.view_as_real(moved)[None]
    matrix = chip_matrix(landmarks, DLIB)
    # dlib shows half a pixel of the image less on every side, so chip points are pulled to 75, 75
    shown = (150 * scale - 1) / (150 * scale) * 150 / 149
    chip = (points.double() - 75) / shown + 75
    back = chip @ matrix[0, :, :2].T + matrix[0, :, 2]
    torch.testing.assert_close(
        back[ALIGNED_POINTS], landmarks[0, ALIGNED_POINTS], atol=1e-3, rtol=0
    )


def test_points_off_the_inner_face_do_not_move_the_warp():
    _, _, points = faces()
    moved = points.clone()
    moved[:, :27] += 30  # jaw and brows
    moved[:, 65:] -= 30  # lower lip
    torch.testing.assert_close(chip_matrix(moved, DLIB), chip_matrix(points, DLIB))


def test_facenets_chip_is_stretched_to_its_square():
    chip = CHIPS["facenet"]
    matrix = chip_matrix(mean_face(DLIB), chip)[0]
    corner, far = matrix[:, 2], matrix[:, :2].sum(1) * 160 + matrix[:, 2]
    expected = torch.tensor([(-0.165 + 0.25) * 100, (-0.475 + 0.25) * 100])
    torch.testing.assert_close(corner, expected, atol=1e-2, rtol=0)
    torch.testing.assert_close(far - corner, torch.tensor([133.0, 175.0]), atol=1e-2, rtol=0)


def test_a_batch_is_cut_as_each_face_alone_and_in_any_order():
    image, mask, points = faces()
    together = face_features(means(), image, points, mask)
    alone = [face_features(means(), image[i : i + 1], points[i : i + 1], mask[i : i + 1])
             for i in range(4)]  # fmt: skip
    torch.testing.assert_close(together, torch.cat(alone), atol=1e-5, rtol=0)
    order = [2, 0, 3, 1]
    shuffled = face_features(means(), image[order], points[order], mask[order])
    torch.testing.assert_close(shuffled, together[order], atol=1e-5, rtol=0)


def test_a_mirrored_photo_gives_a_mirrored_chip():
    image, mask, points = faces()
    mirrored = points[:, MIRROR_68] * torch.tensor([-1.0, 1.0]) + torch.tensor([224.0, 0.0])
    colour = means().colour
    chips = cut_chips(image, chip_matrix(points, DLIB), DLIB, colour, mask)
    flipped = cut_chips(image.flip(-1), chip_matrix(mirrored, DLIB), DLIB, colour, mask.flip(-1))
    # the mean face's middle is at 0.4901 and not 0.5, and its halves differ by up to 0.02
    assert (flipped.flip(-1) - chips).abs().mean() < 0.03


# Eq. 6 ------------------------------------------------------------------------------------------


@settings(max_examples=10)
@given(st.integers(0, 1000))
def test_pixels_outside_the_mask_do_not_change_the_features(seed):
    image, mask, points = faces()
    other = torch.rand(image.shape, generator=torch.Generator().manual_seed(seed))
    changed = torch.where(mask > 0, image, other)
    before = face_features(means(), image, points, mask)
    assert torch.equal(face_features(means(), changed, points, mask), before)


def test_outside_the_mask_and_the_image_is_the_networks_colour():
    image, mask, points = faces()
    colour = means().colour
    empty = cut_chips(image, chip_matrix(points, DLIB), DLIB, colour, 0 * mask)
    torch.testing.assert_close(empty, colour[:, None, None].expand_as(empty))
    beside = cut_chips(image, chip_matrix(points + 1000, DLIB), DLIB, colour)
    torch.testing.assert_close(beside, colour[:, None, None].expand_as(beside))


def test_a_photo_and_a_rendering_that_equals_it_under_the_mask_lose_nothing():
    image, mask, points = faces()
    rendered = (image * mask).requires_grad_()
    photo_features = face_features(means(), image, points, mask)
    loss = recognition_loss(face_features(means(), rendered, points, mask), photo_features)
    assert loss == 0


def test_gradients_reach_the_image_and_neither_mask_nor_landmarks_nor_network():
    image, mask, points = (x.clone().requires_grad_() for x in faces())
    face_features(network(), image, points, mask).abs().sum().backward()
    assert mask.grad is None
    assert points.grad is None
    assert image.grad.abs().sum() > 0
    assert (image.grad * (mask == 0)).abs().sum() == 0
    assert not any(p.requires_grad for p in network().parameters())


def test_the_gradient_is_that_of_central_differences_in_double():
    image, mask, points = (x[:2].double() for x in faces())
    double = load_network("dlib").double()
    target = face_features(double, image.flip(0), points, mask)

    def loss(x):
        return recognition_loss(face_features(double, x, points, mask), target)

    x = image.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(x), x)
    generator = torch.Generator().manual_seed(1)
    for _ in range(4):
        way = torch.randn(image.shape, generator=generator, dtype=torch.float64)
        step = 1e-8  # at 1e-7 some of a million relus and maxima already change sides
        numeric = (loss(image + step * way) - loss(image - step * way)) / (2 * step)
        assert (gradient * way).sum().item() == pytest.approx(numeric.item(), rel=3e-6)


def test_a_matrix_at_hand_stands_for_the_landmarks():
    image, mask, points = faces()
    matrix = chip_matrix(points, DLIB)
    assert torch.equal(chip_matrix(points, DLIB, check=False), matrix)
    found = face_features(means(), image, points, mask, matrix)
    assert torch.equal(found, face_features(means(), image, points, mask))
    turned = chip_matrix(points.flip(0), DLIB)
    assert not torch.equal(face_features(means(), image, points, mask, turned), found)
    with pytest.raises(ValueError, match=r"matrix: expected \(4, 2, 3\), got \(1, 2, 3\)"):
        face_features(means(), image, points, mask, matrix[:1])


def test_unchecked_landmarks_that_are_not_finite_harm_only_their_own_face():
    points = faces()[2].clone()
    points[1] = float("nan")
    matrix = chip_matrix(points, DLIB, check=False)
    assert matrix[[0, 2, 3]].isfinite().all()
    assert not matrix[1].isfinite().any()


def test_wrong_shapes_are_named():
    image, mask, points = faces()
    with pytest.raises(ValueError, match=r"image: expected \(batch, 3, height, width\), got \(4, "):
        face_features(means(), image[:, :1], points, mask)
    with pytest.raises(ValueError, match=r"landmarks: expected \(4, 68, 2\), got \(1, 68, 2\)"):
        face_features(means(), image, points[:1], mask)
    with pytest.raises(ValueError, match=r"landmarks: expected \(4, 68, 2\), got \(4, 51, 2\)"):
        face_features(means(), image, points[:, 17:], mask)
    with pytest.raises(ValueError, match=r"mask: expected \(4, 1, 224, 224\), got \(4, 3, 224, "):
        face_features(means(), image, points, image)
    with pytest.raises(ValueError, match="wider than two pixels"):
        face_features(means(), image, 0 * points, mask)
    with pytest.raises(ValueError, match="finite points"):
        face_features(means(), image, points * float("nan"), mask)
    with pytest.raises(ValueError, match=r"chips: expected \(batch, 3, 150, 150\), got"):
        means()(image)
    with pytest.raises(RuntimeError, match=r"tensor a \(128\) must match .* tensor b \(512\)"):
        feature_distance(torch.zeros(128), torch.zeros(512))


# Beside dlib ------------------------------------------------------------------------------------


def dlib_chip(pixels: np.ndarray, landmarks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """dlib's own chip, and the landmarks as it takes them, to whole pixels."""
    dlib = pytest.importorskip("dlib")
    corners = np.round(landmarks - 0.5).astype(int)
    parts = [dlib.point(int(x), int(y)) for x, y in corners]
    box = dlib.rectangle(*map(int, (*corners.min(0), *corners.max(0))))
    shape = dlib.full_object_detection(box, parts)
    chip = dlib.get_face_chip(np.ascontiguousarray(pixels), shape, 150, 0.25)
    return chip, (corners + 0.5).astype(np.float32)


@lru_cache
def dlib_model():
    dlib, package = pytest.importorskip("dlib"), "face_recognition_models"
    spec = importlib.util.find_spec(package) or pytest.skip(f"{package} is missing")
    name = "models/dlib_face_recognition_resnet_model_v1.dat"
    return dlib.face_recognition_model_v1(str(Path(spec.submodule_search_locations[0], name)))


def photographs():
    """(pixels, landmarks): the sample, rendered faces, and FACERECON_TEST_PHOTOS' where given."""
    yield sample_photo().pixels, sample_detection().landmarks
    image, _, points = faces()
    for i in range(4):
        yield (255 * image[i]).round().byte().permute(1, 2, 0).numpy(), points[i].numpy()
    folder = os.environ.get("FACERECON_TEST_PHOTOS")
    for path in sorted(Path(folder).iterdir()) if folder else ():
        if path.suffix.lower() in (".jpg", ".jpeg", ".png"):
            photo = load_image(path)
            yield photo.pixels, detect(photo).landmarks


def test_features_are_those_that_dlib_had_for_a_chip_of_the_sample():
    """dlib 20.0.1's, with its own weights, stored beside the chip that it saw."""
    stored = np.load(Path(__file__).with_name("dlib_astronaut.npz"))
    chip = torch.from_numpy(stored["chip"]).permute(2, 0, 1)[None] / 255
    features = torch.from_numpy(stored["features"])
    assert feature_distance(network()(chip)[0], features) < 1e-3  # 0.0005 by float16
    ours = describe(sample_photo().pixels, sample_detection().landmarks)
    assert feature_distance(ours, features) < 0.1  # 0.07


def test_features_are_dlibs_own_on_dlibs_own_chips():
    worst = 0.0
    for pixels, landmarks in photographs():
        chip, _ = dlib_chip(pixels, landmarks)
        expected = np.array(dlib_model().compute_face_descriptor(chip))
        with torch.no_grad():
            found = network()(torch.from_numpy(chip).permute(2, 0, 1)[None] / 255)
        worst = max(worst, np.abs(found[0].numpy() - expected).max())
    assert worst < 5e-4  # of numbers up to 0.5


@torch.no_grad()
def describe(pixels: np.ndarray, landmarks: np.ndarray) -> torch.Tensor:
    """The features of one face of a photo of any size; only what lies outside it is masked."""
    # wide enough for a chip turned by 45 degrees, and about 1.5 pixels per pixel of dlib's chip
    crop = align(pixels, landmarks, size=480, margin=2.4)
    return face_features(network(), crop.image, crop.landmarks, crop.valid)[0]


def test_our_chips_say_what_dlibs_say():
    cut, described = [], []
    for pixels, landmarks in photographs():
        chip, rounded = dlib_chip(pixels, landmarks)
        expected = torch.tensor(list(dlib_model().compute_face_descriptor(chip)))
        image = torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255
        ours = face_features(network(), image, torch.from_numpy(rounded)[None])[0]
        cut.append(feature_distance(ours, expected).item())
        described.append(feature_distance(describe(pixels, rounded), expected).item())
    assert np.mean(cut) < 0.04  # 0.013 over 13 photos, 0.07 the worst; two people are 0.7 apart
    assert max(cut) < 0.1
    assert np.mean(described) < 0.06


def test_a_photo_is_near_itself_mirrored_or_darkened_and_far_from_others():
    pixels, landmarks = sample_photo().pixels, sample_detection().landmarks
    mirrored = landmarks[MIRROR_68] * np.array([-1, 1]) + np.array([pixels.shape[1], 0])
    me = describe(pixels, landmarks)
    there = describe(pixels[:, ::-1].copy(), mirrored.astype(np.float32))
    darker = describe((0.7 * pixels).astype(np.uint8), landmarks)
    assert me.shape == (128,)
    assert feature_distance(me, there) < 0.3
    assert feature_distance(me, darker) < 0.2
    image, _, points = faces()
    others = face_features(network(), image, points)
    assert (feature_distance(me, others) > network().same_person).all()
