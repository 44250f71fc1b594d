"""Points before and behind surfaces."""

import math

import torch

from facerecon_lib.pictures.faces import turned
from facerecon_lib.rendering.visibility import texel_depth, visible_points


def test_a_point_is_visible_in_the_picture_and_up_to_the_tolerance_behind_the_surface():
    depth = torch.full((1, 100, 200), 300.0)
    depth[..., 150:] = math.inf
    column = torch.tensor([20.0, 20.0, 20.0, 20.0, 160.0, -0.4, 199.6, 200.4])
    z = torch.tensor([200.0, 305.0, 305.5, 400.0, 400.0, 250.0, 250.0, 250.0])
    points = torch.stack([(100 - column) / 50 * z, 0 * z, z], -1)[None]
    seen = visible_points(points, depth, fov_deg=90.0)
    assert seen.tolist() == [[True, True, False, False, True, False, True, False]]


def test_half_of_the_landmarks_hide_in_profile(model):
    shares = {}
    for yaw in (-90, 0, 90):
        face = turned(model, model.neutral(), yaw)
        marks = face.v_camera[:, model.landmarks]
        shares[yaw] = visible_points(marks, texel_depth(face)[:, 0]).float().mean().item()
    assert shares[0] > 0.85
    assert 0.35 < shares[90] < 0.65
    assert math.isclose(shares[90], shares[-90], abs_tol=0.05)
