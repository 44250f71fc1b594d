"""Rendered faces: always the same ones, cut as photos are cut, with the truth that they claim."""

import math
import zlib

import pytest
import torch

from facerecon_lib.data.rendered.counted_random import CountedRandom
from facerecon_lib.data.rendered.faces import CROP_MARGIN, RenderedFaces, flattened
from facerecon_lib.face.batch import FaceBatch
from facerecon_lib.face.camera import axis_angle_to_matrix
from facerecon_lib.face.colour import skin_tone_group
from facerecon_lib.face.lighting import light_level, sh_basis
from facerecon_lib.face.measures import landmark_error
from facerecon_lib.photos.crop import align
from facerecon_lib.rendering.synthesis import pose_and_light, synthesise


@pytest.fixture(scope="module")
def batch(model) -> FaceBatch:
    return RenderedFaces(model, seed=3).batch(torch.arange(24))


def test_a_face_is_the_same_in_any_batch(model, batch):
    again = RenderedFaces(model, seed=3).batch(torch.tensor([17, 2]))
    same = torch.testing.assert_close
    same(again.image, batch.image[[17, 2]], atol=2e-2, rtol=0)
    assert (again.image - batch.image[[17, 2]]).abs().mean() < 1e-4  # JPEG rounds either way
    same(again.landmarks, batch.landmarks[[17, 2]], atol=1e-2, rtol=0)
    same(again.truth.to_vector(), batch.truth.to_vector()[[17, 2]], atol=2e-3, rtol=1e-4)
    assert again.names == ["seed 3 face 17", "seed 3 face 2"]


def test_other_seeds_other_faces(model, batch):
    other = RenderedFaces(model, seed=4).batch(torch.arange(2))
    assert (other.truth.identity - batch.truth.identity[:2]).abs().mean() > 0.5


def test_families_share_the_face_and_not_the_light(model, batch):
    other = RenderedFaces(model, seed=3, family="held-out").batch(torch.arange(4))
    torch.testing.assert_close(other.truth.identity, batch.truth.identity[:4])
    assert (other.truth.lighting - batch.truth.lighting[:4]).abs().mean() > 0.05
    assert (other.image - batch.image[:4]).abs().mean() > 0.03


def test_shapes_and_ranges(batch):
    assert batch.image.shape == (24, 3, 224, 224)
    assert batch.valid.shape == (24, 1, 224, 224)
    assert 0 <= batch.image.min() <= batch.image.max() <= 1
    assert set(batch.valid.unique().tolist()) <= {0.0, 1.0}
    assert 0.3 < batch.valid.mean() < 1
    assert torch.isfinite(batch.truth.to_vector()).all()
    assert 1 <= batch.tone.min() <= batch.tone.max() <= 10


def test_cut_as_photos_are(batch):
    """`align` of its own landmarks would leave the crop nearly as it is."""
    for landmarks in batch.landmarks:
        crop = align((torch.zeros(224, 224, 3)).byte().numpy(), landmarks.numpy())
        scale = crop.matrix[0, 0]
        middle = (landmarks.amin(0) + landmarks.amax(0)) / 2
        assert abs(scale - 1) < 0.12
        assert (middle - 112).abs().max() < 8
        side = (landmarks.amax(0) - landmarks.amin(0)).max()
        torch.testing.assert_close(side * scale, torch.tensor(224 / CROP_MARGIN))


def test_truth_reprojects_onto_the_landmarks(model):
    """Where the lens is the crop's own, the truth's landmarks are the detector's but for noise."""
    batch = RenderedFaces(model, seed=5).batch(torch.arange(40))
    points = synthesise(model, batch.truth).landmarks("2d")
    error = landmark_error(points, batch.landmarks, points="inner")
    assert (error < 0.035).sum() > 8  # a third of the faces is taken from nearby
    assert error.median() < 0.12  # the others lack some of their relief


def test_relief_is_kept_or_lost(model):
    c = model.neutral(2)
    v = synthesise(model, c).v_camera
    flat = flattened(v, c, torch.tensor([1.0, 0.25]))
    torch.testing.assert_close(flat[0], v[0])
    torch.testing.assert_close(flat[1, :, :2], v[1, :, :2])
    depth = lambda x: x[..., 2].max() - x[..., 2].min()  # noqa: E731
    torch.testing.assert_close(depth(flat[1]), 0.25 * depth(v[1]))


def test_clean_faces_are_the_truth_itself(model):
    """Without scenes and camera, skin is albedo times light, and the rest is grey."""
    batch = RenderedFaces(model, seed=6, clean=True).batch(torch.arange(3))
    assert (batch.image[:, :, 0, 0] == 0.5).all()
    face = synthesise(model, batch.truth)
    image, mask = face.render(224)
    seen = (mask * (image.clamp(0, 1) - batch.image).abs()).sum() / mask.sum() / 3
    assert seen < 0.05  # the relief may differ, the colours may not
    assert (batch.valid == 1).all()


def test_light_is_exposed_and_rarely_absurd(model):
    for family in ("train", "held-out"):
        truth = RenderedFaces(model, seed=7, family=family).batch(torch.arange(32)).truth
        level = light_level(truth.lighting)
        assert 0.6 < level.median() < 0.95
        front = sh_basis(torch.tensor([[0.0, 0.0, 1.0]])) @ truth.lighting
        assert (front > 0).all()


def test_all_skin_tones_and_poses_come(model):
    batch = RenderedFaces(model, seed=8, clean=True).batch(torch.arange(150))
    assert len(set(batch.tone.tolist())) >= 7
    assert min((batch.tone <= 4).sum(), (batch.tone >= 7).sum()) > 25
    skin = model.regions["skin"] > 0.5
    albedo = model.albedo(batch.truth.albedo)[:, skin].mean(1).clamp(0, 1)
    assert torch.equal(skin_tone_group(albedo), batch.tone)
    away = torch.rad2deg(torch.acos(axis_angle_to_matrix(batch.truth.rotation)[:, 2, 2]))
    assert away.max() > 40
    assert away.median() < 30
    actions = model.actions(batch.truth.expression)
    assert actions.min() > -1e-3
    assert actions.max() < 1.001
    assert (actions.amax(1) < 1e-3).float().mean() > 0.15  # some are at rest


def test_without_details_the_truth_is_the_coefficients(model, batch):
    vertices = model.shape(batch.truth.identity, batch.truth.expression)
    torch.testing.assert_close(batch.true_vertices, vertices)
    torch.testing.assert_close(batch.true_albedo, model.albedo(batch.truth.albedo))


# Other heads, other pictures --------------------------------------------------------------------


def test_a_rotation_turns_the_head_and_nothing_else(model, batch):
    faces, indices = RenderedFaces(model, seed=3), torch.arange(6)
    rotation = batch.truth.rotation[:6]
    same = faces.batch(indices, rotation)
    assert (same.image - batch.image[:6]).abs().mean() < 1e-4  # JPEG rounds either way
    rotation = rotation + torch.tensor([0.0, 0.5, 0.0])
    turned = faces.batch(indices, rotation)
    assert torch.equal(turned.truth.rotation, rotation)
    for name in ("identity", "expression", "albedo", "scale", "lighting"):
        assert torch.equal(getattr(turned.truth, name), getattr(same.truth, name)), name
    assert torch.equal(turned.tone, same.tone)
    assert torch.equal(turned.true_vertices, same.true_vertices)  # of the model's frame
    assert turned.names == same.names
    assert (turned.image - same.image).abs().mean() > 0.02


def test_a_turned_head_is_seen_from_the_side_and_is_still_in_the_middle(model):
    faces, indices = RenderedFaces(model, seed=3), torch.arange(6)
    spans, sides = [], []
    for yaw in (-0.7, 0.0, 0.7):
        marks = faces.batch(indices, torch.tensor([0.0, yaw, 0.0]).expand(6, 3)).landmarks
        low, high = marks.amin(1), marks.amax(1)
        assert ((low + high) / 2 - 112).abs().max() < 8
        span = torch.full((6,), 224 / CROP_MARGIN)
        torch.testing.assert_close((high - low).amax(1), span, rtol=0.1, atol=0)
        eyes = (marks[:, 36] - marks[:, 45]).norm(dim=1)
        spans.append(eyes / (high - low)[:, 1])  # foreshortened, beside the face's height
        sides.append(marks[:, 30, 0] - (low + high)[:, 0] / 2)  # the nose points to a side
    left, front, right = spans
    assert (front > 1.1 * torch.maximum(left, right)).all()
    assert (sides[0] * sides[2] < 0).all()
    assert (sides[1].abs() < torch.minimum(sides[0].abs(), sides[2].abs())).all()


def test_another_size_is_the_same_picture_in_other_pixels(model):
    small, large = (
        RenderedFaces(model, seed=6, clean=True, size=size).batch(torch.arange(4))
        for size in (224, 448)
    )
    assert large.image.shape == (4, 3, 448, 448)
    assert large.valid.shape == (4, 1, 448, 448)
    halved = torch.nn.functional.avg_pool2d(large.image, 2)
    assert (halved - small.image).abs().mean() < 0.02
    assert (large.landmarks / 2 - small.landmarks).abs().mean() < 2  # noise is of pixels
    for name in ("identity", "rotation", "lighting"):
        assert torch.equal(getattr(large.truth, name), getattr(small.truth, name))


def test_a_margin_leaves_room_around_the_landmarks(model):
    for size, margin in ((224, 1.3), (384, 1.5), (384, 3.0)):
        batch = RenderedFaces(model, seed=6, size=size, margin=margin).batch(torch.arange(5))
        assert batch.image.shape[-2:] == (size, size)
        low, high = batch.landmarks.amin(1), batch.landmarks.amax(1)
        span = (high - low).amax(1)
        torch.testing.assert_close(span, torch.full((5,), size / margin), rtol=0.08, atol=4)
        assert ((low + high) / 2 - size / 2).abs().max() < 12
        c = batch.truth
        points = synthesise(model, c).landmarks("2d") * (size / 224)  # a wider crop, same lens
        assert landmark_error(points, batch.landmarks, points="inner").median() < 0.15


@pytest.fixture(scope="module")
def detailed(model) -> FaceBatch:
    return RenderedFaces(model, seed=3, wrinkles=True).batch(torch.arange(24))


def test_details_are_added_to_the_same_faces(batch, detailed):
    """Whoever stands there, in what light and before what, is as without them."""
    for name in ("identity", "expression", "albedo", "rotation", "scale", "lighting"):
        assert torch.equal(getattr(detailed.truth, name), getattr(batch.truth, name))
    raised = (detailed.true_vertices - batch.true_vertices).norm(dim=-1).amax(1)
    stained = (detailed.true_albedo - batch.true_albedo).abs().amax((1, 2))
    assert (raised < 3).all()
    assert (raised > 0.5).float().mean() > 0.6
    assert (stained > 0.005).all()
    difference = (detailed.image - batch.image).abs()
    assert 0.002 < difference.mean() < 0.05
    assert difference[:, :, :8, :8].mean((1, 2, 3)).median() < 0.01


def test_what_is_seen_is_the_true_face(model):
    """Clean, under the truth's light, the detailed face is rendered and the plain one is not."""
    batch = RenderedFaces(model, seed=6, clean=True, wrinkles=True).batch(torch.arange(12))
    shapes = model.shape(batch.truth.identity, batch.truth.expression)
    albedos = model.albedo(batch.truth.albedo)
    errors, marks = [], []
    for vertices, albedo in ((batch.true_vertices, batch.true_albedo), (shapes, albedos)):
        face = pose_and_light(model, vertices, albedo, batch.truth)
        image, mask = face.render(224)
        error = (mask * (image.clamp(0, 1) - batch.image).abs()).sum((1, 2, 3))
        errors.append(error / mask.sum((1, 2, 3)) / 3)
        marks.append(landmark_error(face.landmarks("2d"), batch.landmarks, points="inner"))
    assert (errors[0] < errors[1]).float().mean() > 0.85
    assert errors[0].median() < 0.8 * errors[1].median()
    assert marks[0].mean() < marks[1].mean()


def test_the_tone_is_of_the_true_skin(model, detailed):
    skin = model.regions["skin"] > 0.5
    seen = detailed.true_albedo[:, skin].mean(1).clamp(0, 1)
    assert torch.equal(skin_tone_group(seen), detailed.tone)


def test_no_two_names_share_their_numbers(model, monkeypatch):
    """The hash sees a name's CRC-32."""
    names, draw = set(), CountedRandom._unit
    noting = lambda self, name, shape: names.add(name) or draw(self, name, shape)  # noqa: E731
    monkeypatch.setattr(CountedRandom, "_unit", noting)
    for family in ("train", "held-out"):
        RenderedFaces(model, seed=3, family=family, wrinkles=True).batch(torch.arange(1))
    assert len(names) > 160
    assert len({zlib.crc32(name.encode()) for name in names}) == len(names)


def test_refusals(model):
    for options, message in (
        (dict(family="studio"), "family 'studio': expected train or held-out"),
        *((dict(size=s), f"size {s}: expected a multiple of 8") for s in (0, -8, 100)),
        *((dict(margin=m), f"margin {m}: expected more than 0") for m in (0.0, -1.3, math.nan)),
    ):
        with pytest.raises(ValueError, match=message):
            RenderedFaces(model, seed=1, **options)
    for indices in ([], [-1], [3, -2], [[1, 2]]):
        with pytest.raises(ValueError, match="indices: expected one face number or more"):
            RenderedFaces(model, seed=1).batch(torch.tensor(indices, dtype=torch.long))
    with pytest.raises(ValueError, match="indices: expected whole numbers"):
        RenderedFaces(model, seed=1).batch(torch.tensor([1.0]))
    with pytest.raises(ValueError, match=r"rotation: expected \(2, 3\), got \(3,\)"):
        RenderedFaces(model, seed=1).batch(torch.arange(2), torch.zeros(3))


@pytest.mark.gpu
def test_the_same_faces_on_cuda(model, batch):
    cuda = RenderedFaces(model.to("cuda"), seed=3).batch(torch.arange(24)).to("cpu")
    coefficients = cuda.truth.to_vector(), batch.truth.to_vector()
    torch.testing.assert_close(*coefficients, atol=5e-3, rtol=1e-3)
    assert (cuda.image - batch.image).abs().mean() < 5e-3
    assert (cuda.landmarks - batch.landmarks).abs().max() < 0.05


@pytest.mark.gpu
def test_the_same_details_on_cuda(model, detailed):
    there = RenderedFaces(model.to("cuda"), seed=3, wrinkles=True).batch(torch.arange(24)).to("cpu")
    assert (there.true_vertices - detailed.true_vertices).abs().max() < 0.02
    assert (there.true_albedo - detailed.true_albedo).abs().mean() < 1e-3
    assert torch.equal(there.tone, detailed.tone)


def test_frames_of_a_person_share_who_it_is_and_people_come_again(model):
    faces = RenderedFaces(model, seed=4, clean=True, size=32, frames=2, people=2)
    batch = faces.batch(torch.arange(6))  # two people, then the first again
    identity, albedo = batch.truth.identity, batch.truth.albedo
    for first, second in ((0, 1), (2, 3), (0, 4)):
        assert torch.equal(identity[first], identity[second])
        assert torch.equal(albedo[first], albedo[second])
        assert not torch.equal(batch.truth.rotation[first], batch.truth.rotation[second])
    assert not torch.equal(identity[0], identity[2])
    assert batch.person[0] == batch.person[1] != batch.person[4]
    with pytest.raises(ValueError, match="expected 1 or more"):
        RenderedFaces(model, seed=4, frames=0)
