"""The gaze of irises: from where they are drawn, back to the angles, closed eyes left out."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from facerecon_lib.data.rendered.counted_random import CountedRandom
from facerecon_lib.data.rendered.faces import PHOTO_MARGIN, PHOTO_SIZE, RenderedFaces
from facerecon_lib.data.rendered.random_faces import random_coefficients
from facerecon_lib.face.camera import ndc_to_pixels, pose, project_ndc
from facerecon_lib.face.gaze import directions, eyeballs
from facerecon_lib.face.landmarks68 import FIVE
from facerecon_lib.face.morphable_model import MorphableModel
from facerecon_lib.fitting import gaze as fitting
from facerecon_lib.fitting.gaze import IRISES, find_gaze
from facerecon_lib.photos.face_mesh import face_points
from facerecon_lib.pictures.faces import to_uint8

COUNT = 6


@pytest.fixture(scope="module")
def model():
    return MorphableModel.load()


@pytest.fixture(scope="module")
def faces(model):
    """Turned faces of every shape, with their lids open, that look about."""
    numbers = CountedRandom(8, torch.arange(COUNT))
    c = random_coefficients(model, numbers)
    turn = numbers.uniform("turn", 3, low=-1, high=1) * numbers.fixed(0.3, 0.6, 0.3)
    gaze = numbers.uniform("gaze", 2, 2, low=-0.35, high=0.35)
    gaze[:, 1, 1] = gaze[:, 0, 1]
    return replace(c, rotation=turn, gaze=gaze, expression=0 * c.expression)


@pytest.fixture(scope="module")
def points(model, faces):
    """The 478 points, with irises where those of the turned eyes are."""
    c, dense = faces, model.dense
    bound = model.shape(c.identity, c.expression)[:, dense.vertices] + dense.offsets
    for iris, eye, along in zip(
        IRISES, eyeballs(model, c.identity), directions(c.gaze).unbind(1), strict=True
    ):
        bound[:, iris] = eye.centre + eye.radius[:, None] * along
    turned = pose(bound, c.rotation, c.scale, c.translation)
    return ndc_to_pixels(project_ndc(turned))


def shut(points, side):
    """Upper lids on the lower ones."""
    points = points.clone()
    upper, lower = torch.tensor((fitting.RIGHT_LIDS, fitting.LEFT_LIDS)[side]).T
    points[:, upper] = points[:, lower]
    return points


def test_true_irises_give_the_turn_of_the_eyes_back(model, faces, points):
    sight = find_gaze(model, faces, points)
    assert sight.seen.all()
    torch.testing.assert_close(sight.turns, faces.gaze, atol=2e-3, rtol=0)


def test_both_eyes_share_a_pitch_and_nearly_a_yaw(model, faces, points):
    lower = points.clone()
    lower[:, IRISES[0], 1] += 3  # px
    one, other = (find_gaze(model, faces, p) for p in (points, lower))
    assert torch.equal(other.turns[:, 0, 1], other.turns[:, 1, 1])
    assert (other.turns[:, :, 1] < one.turns[:, :, 1] - 0.05).all()
    apart = one.gaze[:, 1] - one.gaze[:, 0]
    assert (apart.abs() < 0.5 * (one.turns[:, 1] - one.turns[:, 0]).abs() + 0.03).all()


def test_a_closed_eye_looks_where_the_other_does(model, faces, points):
    open_eyes = find_gaze(model, faces, points)
    for side in (0, 1):
        sight = find_gaze(model, faces, shut(points, side))
        assert not sight.seen[:, side].any()
        assert sight.seen[:, 1 - side].all()
        torch.testing.assert_close(sight.turns[:, 1 - side, 0], open_eyes.turns[:, 1 - side, 0])
        assert torch.equal(sight.turns[:, side], sight.turns[:, 1 - side])
        assert torch.equal(sight.gaze[:, side], sight.gaze[:, 1 - side])
    sight = find_gaze(model, faces, shut(shut(points, 0), 1))
    assert not sight.seen.any()
    assert not sight.turns.any()
    assert not sight.gaze.any()


def test_a_single_eye_that_looks_outwards_looks_straight_ahead(model, faces, points):
    """As far outwards as the pupil's axis lies beside the line of sight."""
    for side, outwards in ((0, -1), (1, 1)):
        sight = find_gaze(model, faces, shut(points, 1 - side))
        yaw = sight.turns[:, side, 0] - outwards * fitting.DIVERGENCE
        torch.testing.assert_close(sight.gaze[:, side, 0], yaw * fitting.GAIN[0])


def test_an_eye_behind_the_nose_is_not_seen(model, faces, points):
    away = replace(faces, rotation=torch.tensor([[0.0, 1.5, 0.0]]).expand(COUNT, -1))
    assert not find_gaze(model, away, points).seen.any()


def test_an_iris_beside_the_eyeball_is_at_its_edge(model, faces, points):
    far = points.clone()
    far[:, IRISES[0]] += torch.tensor([60.0, 0.0])
    turns = find_gaze(model, faces, far).turns[:, 0]
    assert torch.isfinite(turns).all()
    assert (turns[:, 0] > math.radians(30)).all()


def test_a_model_without_eyeballs_has_no_gaze(model, faces, points):
    blind = replace(model, regions=model.regions | {"eyeballs": 0 * model.regions["eyeballs"]})
    assert find_gaze(blind, faces, points) is None


def test_points_of_another_shape_are_refused(model, faces, points):
    with pytest.raises(ValueError, match=r"points: expected \(6, 478, 2\)"):
        find_gaze(model, faces, points[:, :468])


@pytest.mark.parametrize("axis", ["yaw", "pitch"])
def test_rendered_eyes_that_the_network_marks_look_the_right_way(model, axis):
    """From pixels: right and left, up and down are told apart, though the true pose is used."""
    faces = RenderedFaces(model, 5, clean=True, size=PHOTO_SIZE, margin=PHOTO_MARGIN)
    numbers, across = torch.arange(4), torch.zeros(4, 3)
    size = {"yaw": 0.35, "pitch": 0.2}[axis]
    gaze, one = torch.zeros(4, 2, 2), ["yaw", "pitch"].index(axis)
    seen = []
    for sign in (-1, 1):
        gaze[..., one] = sign * size
        batch = faces.batch(numbers, across, gaze)
        c = batch.truth
        v_camera = pose(batch.true_vertices, c.rotation, c.scale, c.translation)
        pixels = ndc_to_pixels(project_ndc(v_camera), PHOTO_SIZE)[:, model.landmarks].numpy()
        five = [np.stack([p[part].mean(0) for part in FIVE]) for p in pixels]
        marks = face_points([to_uint8(image) for image in batch.image], five)
        points = torch.from_numpy(marks.points) * 224 / PHOTO_SIZE
        seen.append(find_gaze(model, c, points).turns[..., one].mean(1))
    assert (seen[1] - seen[0] > 0.3 * 2 * size).all()
