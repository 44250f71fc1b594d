"""Coefficients to a picture."""

import pytest
import torch
from small_faces import model

from facerecon_lib.face.camera import ndc_to_pixels, project_ndc
from facerecon_lib.face.lighting import ambient_lighting
from facerecon_lib.rendering.synthesis import landmark_vertices, project_dense, synthesise


def turned(yaw: float, pitch: float = 0.0, roll: float = 0.0):
    c = model().neutral()
    c.rotation = torch.deg2rad(torch.tensor([[pitch, yaw, roll]]))
    return synthesise(model(), c)


def test_the_mean_face_stands_upright_in_the_middle_of_the_crop():
    image, mask = turned(0).render()
    assert image.shape == (1, 3, 224, 224)
    rows, columns = mask[0, 0].nonzero().float().mean(0).tolist()
    assert abs(columns - 112) < 2
    assert abs(rows - 100) < 25
    points = turned(0).landmarks()[0]
    assert points[8, 1] > points[57, 1] > points[30, 1] > points[27, 1]  # chin lowest: y grows down
    assert points[36, 0] < points[45, 0]


def test_a_positive_yaw_turns_the_nose_to_the_viewers_right():
    nose = turned(30).landmarks()[0, 30, 0] - turned(30).landmarks()[0, 36:48, 0].mean()
    assert nose > 5


def test_a_positive_pitch_lowers_the_nose_and_a_positive_roll_turns_against_the_clock():
    def eye_to_nose(face):
        points = face.landmarks()[0]
        return points[30] - points[36:48].mean(0)

    assert eye_to_nose(turned(0, 20))[1] > eye_to_nose(turned(0))[1] + 2
    points = turned(0, 0, 20).landmarks()[0]
    assert points[36:42, 1].mean() > points[42:48, 1].mean()  # the viewer's left eye sinks


def test_ambient_light_of_level_one_shows_the_albedo():
    face = turned(20, 5)
    torch.testing.assert_close(face.colours, face.albedo, atol=1e-5, rtol=0)


def test_light_from_the_viewers_left_brightens_the_viewers_left():
    c = model().neutral()
    c.lighting = ambient_lighting(1) * 0.6
    c.lighting[:, 3] -= 0.8
    image, mask = synthesise(model(), c).render()
    left = (image[..., :112] * mask[..., :112]).sum() / mask[..., :112].sum()
    right = (image[..., 112:] * mask[..., 112:]).sum() / mask[..., 112:].sum()
    assert left > 1.3 * right


def test_a_mirrored_face_is_the_mirrored_picture():
    c = model().neutral()
    c.rotation = torch.tensor([[0.1, 0.4, 0.05]])
    other = model().neutral()
    other.rotation = torch.tensor([[0.1, -0.4, -0.05]])
    image, _ = synthesise(model(), c).render()
    mirrored, _ = synthesise(model(), other).render()
    assert (image - mirrored.flip(-1)).abs().mean() < 0.004


def test_every_coefficient_gets_a_gradient():
    c = model().neutral()
    c.lighting[:, 1:] += 0.1
    names = ("identity", "expression", "albedo", "rotation", "translation", "scale", "lighting")
    for name in names:
        setattr(c, name, getattr(c, name).clone().requires_grad_())
    image, _ = synthesise(model(), c).render(64)
    (image**2).sum().backward()
    for name in names:
        gradient = getattr(c, name).grad
        assert torch.isfinite(gradient).all(), name
        assert gradient.abs().sum() > 0, name


def test_a_batch_is_the_faces_one_by_one():
    c = model().neutral(2)
    c.identity, c.expression, c.albedo = model().random(2, torch.Generator().manual_seed(0))
    c.rotation = torch.tensor([[0.0, 0.3, 0.0], [0.1, -0.2, 0.0]])
    together, _ = synthesise(model(), c).render(96)
    for i in range(2):
        alone, _ = synthesise(model(), c[i : i + 1]).render(96)
        assert (together[i] - alone[0]).abs().mean() < 1e-3


def test_fixed_landmarks_keep_their_vertices_and_the_outline_moves():
    frontal, side = turned(0), turned(40)
    fixed = landmark_vertices(model(), side.v_camera, side.rotation, "3d")
    assert torch.equal(fixed[0], model().landmarks)
    outline = landmark_vertices(model(), side.v_camera, side.rotation, "2d")
    assert torch.equal(outline[0, 17:], model().landmarks[17:])
    # turned to the viewer's right, the far (viewer's right) side shows the cheek
    moved = outline[0, :17] != fixed[0, :17]
    assert moved[11:].any()
    points = side.landmarks("2d")[0] - side.landmarks("3d")[0]
    assert (points[11:16, 0] >= -1e-3).all()
    at_rest = frontal.landmarks("2d")[0, :17] - frontal.landmarks("3d")[0, :17]
    assert at_rest.norm(dim=-1).median() < 2.0


def test_outline_landmarks_follow_a_rolled_head():
    """Rolling the head turns the picture: the same outline vertices, to a pixel."""
    level = turned(30)
    c = model().neutral()
    from facerecon_lib.face.camera import axis_angle_to_matrix, matrix_to_axis_angle

    roll = axis_angle_to_matrix(torch.tensor([[0.0, 0.0, 0.3]]))
    c.rotation = matrix_to_axis_angle(roll @ axis_angle_to_matrix(level.rotation))
    rolled = synthesise(model(), c)
    a = landmark_vertices(model(), level.v_camera, level.rotation, "2d")[0]
    b = landmark_vertices(model(), rolled.v_camera, rolled.rotation, "2d")[0]
    apart = (model().mean[a] - model().mean[b]).norm(dim=-1)
    assert apart.max() < 8.0
    assert apart.median() < 1.0


def test_an_unknown_kind_of_landmarks_is_refused():
    with pytest.raises(ValueError, match="kind: expected '2d' or '3d', got 'dlib'"):
        turned(0).landmarks("dlib")


def test_dense_points_lie_by_their_vertices_and_turn_with_the_head():
    c = model().neutral(2)
    c.rotation[1, 2], c.scale[1] = torch.pi / 2, 1.2
    face = synthesise(model(), c)
    points = project_dense(model(), face.vertices, c)
    near = ndc_to_pixels(project_ndc(face.v_camera, face.fov_deg), 224)[:, model().dense.vertices]
    away = points - near
    assert away.norm(dim=-1).median() < 2
    assert away[0].norm(dim=-1).max() > 1  # the offsets are seen
    x, y = away[0].unbind(-1)
    assert torch.allclose(away[1], 1.2 * torch.stack([y, -x], -1), atol=0.3)
