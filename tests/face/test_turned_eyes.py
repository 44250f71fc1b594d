"""Eyes that turn: where they then look, and that nothing else moves."""

import math
from dataclasses import replace

import pytest
import torch
from small_faces import turned

from facerecon_lib.face.coefficients import FaceCoefficients
from facerecon_lib.face.gaze import angles, directions, eyeballs, turn_eyes


def drawn(model, count=3):
    generator = torch.Generator().manual_seed(4)
    identity = torch.randn(count, model.sizes.identity, generator=generator)
    expression = model.expression_from_controls({"jawOpen": 0.5, "eyeWide": 0.3})
    return identity, model.shape(identity, expression.expand(count, -1))


def test_an_eyeball_is_a_sphere_behind_its_lids(model):
    identity, vertices = drawn(model)
    right, left = eyeballs(model, identity)
    for eye, corners in ((right, (36, 39)), (left, (42, 45))):
        off = (eye.points - eye.centre[:, None]).norm(dim=-1) - eye.radius[:, None]
        assert off.abs().max() < 0.5  # mm
        lids = vertices[:, model.landmarks[list(corners)]].mean(1)
        assert (lids - eye.centre)[:, :2].abs().max() < 4
        assert ((lids - eye.centre)[:, 2] > 6).all()
    assert (right.centre[:, 0] < 0).all()
    assert (left.centre[:, 0] > 0).all()


def test_angles_are_those_of_the_directions():
    gaze = torch.tensor([[[0.4, -0.3], [-0.2, 0.25]]])
    torch.testing.assert_close(angles(directions(gaze)), gaze)
    right_and_up = directions(torch.tensor([[[0.1, 0.2], [0.0, 0.0]]]))[0]
    assert (right_and_up[0, :2] > 0).all()
    assert right_and_up[1].tolist() == [0, 0, 1]


def test_an_iris_goes_where_the_eye_looks_and_its_rim_rests(model):
    identity, vertices = drawn(model)
    gaze = torch.tensor([[[0.4, -0.2], [-0.1, 0.3]]]).expand(3, -1, -1)
    moved = turn_eyes(model, vertices, identity, gaze)
    for eye, towards in zip(eyeballs(model, identity), directions(gaze).unbind(1), strict=True):
        there = moved[:, eye.rows] - eye.centre[:, None]
        front = (eye.points - eye.centre[:, None])[..., 2].argmax(1)  # the pupil
        pupil = there[torch.arange(3), front] / eye.radius[:, None]
        assert ((pupil * towards).sum(1).clamp(max=1).arccos() < math.radians(6)).all()
        torch.testing.assert_close(
            there.norm(dim=-1), (eye.points - eye.centre[:, None]).norm(dim=-1)
        )
        height = eye.points[0, :, 2] - eye.centre[0, 2]
        rim = height < height.min() + 0.01  # mm
        torch.testing.assert_close(
            moved[0, eye.rows][rim], vertices[0, eye.rows][rim], atol=0.02, rtol=0
        )
    rest = model.regions["eyeballs"] < 0.5
    assert torch.equal(moved[:, rest], vertices[:, rest])


def test_a_gaze_replaces_what_an_expression_does_to_the_eyes(model):
    """As a model's own actions that turn its eyes."""
    eyes = model.regions["eyeballs"][:, None]
    looking = replace(model, expression_basis=model.expression_basis + 3 * eyes)
    identity, gaze = torch.zeros(1, model.sizes.identity), torch.tensor([[[0.2, 0.1]] * 2])
    expression = torch.ones(1, model.sizes.expression)
    one, other = (
        turn_eyes(m, m.shape(identity, expression), identity, gaze) for m in (model, looking)
    )
    torch.testing.assert_close(one, other, atol=1e-3, rtol=0)


def test_eyes_at_rest_look_straight_ahead(model):
    identity, vertices = drawn(model)
    still = turn_eyes(model, vertices, identity, torch.zeros(3, 2, 2))
    torch.testing.assert_close(still, vertices, atol=1e-3, rtol=0)


def test_a_model_without_eyeballs_has_none_to_turn(model):
    blind = replace(model, regions=model.regions | {"eyeballs": 0 * model.regions["eyeballs"]})
    identity, vertices = drawn(model)
    assert eyeballs(blind, identity) == []
    assert torch.equal(turn_eyes(blind, vertices, identity, torch.ones(3, 2, 2)), vertices)


def test_eyes_of_one_surface_with_their_lids_and_too_few_vertices_do_not_turn(model):
    """An eye that went on beyond its region would tear; three points are of many spheres."""
    eyes = model.regions["eyeballs"].clone()
    eyes[model.eyeballs[0][0]] = 0  # its triangles now lie half inside
    assert replace(model, regions=model.regions | {"eyeballs": eyes}).eyeballs == ()
    for count, turns in ((3, False), (4, True)):
        eyes = torch.zeros_like(eyes)
        eyes[torch.cat([rows[:count] for rows in model.eyeballs])] = 1
        few = replace(model, faces=model.faces[:0], regions=model.regions | {"eyeballs": eyes})
        assert bool(few.eyeballs) == turns


def test_coefficients_carry_a_gaze_that_no_vector_holds():
    faces = FaceCoefficients.mean(2, 4, 3, 2)
    assert faces.gaze is None
    looking = replace(faces, gaze=torch.rand(2, 2, 2))
    assert torch.equal(looking.to_vector(), faces.to_vector())
    assert torch.equal(looking[1].gaze, looking.gaze[1:])
    assert torch.equal(FaceCoefficients.cat([looking, looking]).gaze[2:], looking.gaze)
    assert looking.detach().clone().to(torch.float64).gaze.dtype == torch.float64
    with pytest.raises(ValueError, match="argument"):
        FaceCoefficients.cat([looking, faces])
    with pytest.raises(ValueError, match=r"gaze: expected \(2, 2, 2\)"):
        replace(faces, gaze=torch.zeros(2, 4))


def test_a_rendered_face_looks_where_its_coefficients_say():
    """To the viewer's right: more of the dark iris there than left of the eye's middle."""
    face = turned(0.0, subdivision=1)
    model = face.model
    dark = {}
    for yaw in (-0.4, 0.4):
        gaze = torch.tensor([[[yaw, 0.0]] * 2])
        identity = torch.zeros(1, model.sizes.identity)
        vertices = turn_eyes(model, face.vertices, identity, gaze)
        eye = eyeballs(model, identity)[0]
        black = face.albedo[0, eye.rows].amax(1) < 0.1
        dark[yaw] = vertices[0, eye.rows][black].mean(0)[0] - eye.centre[0, 0]
    assert dark[-0.4] < -4
    assert dark[0.4] > 4
