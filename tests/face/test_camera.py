"""Rotations, pose and the perspective camera."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from facerecon_lib.face.camera import (
    DEFAULT_FOV,
    MODEL_TO_CAMERA,
    axis_angle_to_matrix,
    matrix_to_axis_angle,
    ndc_to_pixels,
    orthographic_pose,
    pixels_to_ndc,
    pose,
    project_ndc,
)
from facerecon_lib.face.coefficients import DEFAULT_DEPTH

coordinate = st.floats(-1, 1, width=32)
axis_angles = st.tuples(coordinate, coordinate, coordinate).map(
    lambda v: torch.tensor(v, dtype=torch.float64) * 3
)
unit_axes = (
    st.tuples(coordinate, coordinate, coordinate)
    .filter(lambda v: math.hypot(*v) > 1e-3)
    .map(lambda v: torch.tensor(v, dtype=torch.float64) / math.hypot(*v))
)


@given(axis_angles)
def test_rodrigues_agrees_with_scipy(axis_angle):
    expected = torch.from_numpy(Rotation.from_rotvec(axis_angle.numpy()).as_matrix())
    torch.testing.assert_close(axis_angle_to_matrix(axis_angle), expected, rtol=0, atol=1e-14)


@given(axis_angles)
def test_a_rotation_keeps_lengths_and_handedness(axis_angle):
    matrix = axis_angle_to_matrix(axis_angle)
    eye = torch.eye(3, dtype=torch.float64)
    torch.testing.assert_close(matrix @ matrix.T, eye, rtol=0, atol=1e-13)
    assert torch.linalg.det(matrix).item() == pytest.approx(1, abs=1e-13)


@given(unit_axes, coordinate, coordinate)
def test_rotations_about_one_axis_compose(axis, first, second):
    joined = axis_angle_to_matrix(axis * (first + second))
    one_by_one = axis_angle_to_matrix(axis * first) @ axis_angle_to_matrix(axis * second)
    torch.testing.assert_close(joined, one_by_one, rtol=0, atol=1e-14)


@given(axis_angles)
def test_the_opposite_rotation_undoes_it(axis_angle):
    there_and_back = axis_angle_to_matrix(-axis_angle) @ axis_angle_to_matrix(axis_angle)
    eye = torch.eye(3, dtype=torch.float64)
    torch.testing.assert_close(there_and_back, eye, rtol=0, atol=1e-13)


@pytest.mark.parametrize("axis", [(1.0, 0, 0), (0, 1.0, 0), (0, 0, 1.0)])
def test_a_quarter_turn_follows_the_right_hand(axis):
    axis = torch.tensor(axis)
    matrix = axis_angle_to_matrix(axis * math.pi / 2)
    following = axis.roll(1)
    torch.testing.assert_close(matrix @ following, axis.roll(2), rtol=0, atol=1e-6)


@pytest.mark.parametrize("angle", [0.0, 1e-9, 1e-5, math.sqrt(1e-3), 0.04, 1.0, math.pi - 1e-6])
def test_axis_angle_survives_the_way_through_a_matrix(angle):
    axes = torch.nn.functional.normalize(
        torch.tensor([[1.0, 0, 0], [0, -1, 0], [0, 0, 1], [1, 2, 3], [-3, 1, -1]]).double(), dim=-1
    )
    again = matrix_to_axis_angle(axis_angle_to_matrix(axes * angle))
    torch.testing.assert_close(again, axes * angle, rtol=0, atol=1e-9)


@given(axis_angles)
def test_the_vector_read_off_a_matrix_is_the_short_way_round(axis_angle):
    vector = matrix_to_axis_angle(axis_angle_to_matrix(axis_angle))
    assert vector.norm().item() <= math.pi + 1e-12
    torch.testing.assert_close(
        axis_angle_to_matrix(vector), axis_angle_to_matrix(axis_angle), rtol=0, atol=1e-12
    )


@pytest.mark.parametrize("angle", [0.0, 1e-4, 0.0316, 0.0317, 0.5, math.pi - 1e-3, math.pi, 4.0])
def test_rodrigues_has_the_right_gradient(angle):
    axis = torch.tensor([2.0, -1.0, 2.0], dtype=torch.float64) / 3
    vector = (axis * angle).requires_grad_()
    assert torch.autograd.gradcheck(axis_angle_to_matrix, vector)
    assert torch.autograd.gradgradcheck(axis_angle_to_matrix, vector)


@pytest.mark.parametrize("angle", [0.0, 1e-4, 0.0632, 0.0633, 0.5, 3.0])
def test_reading_off_a_matrix_has_the_right_gradient(angle):
    axis = torch.tensor([2.0, -1.0, 2.0], dtype=torch.float64) / 3
    vector = (axis * angle).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda v: matrix_to_axis_angle(axis_angle_to_matrix(v)), vector, atol=1e-6
    )


def test_single_precision_is_accurate_next_to_the_zero_rotation():
    vectors = torch.logspace(-8, 0, 200)[:, None] * torch.tensor([0.6, -0.48, 0.64])
    wanted = torch.from_numpy(Rotation.from_rotvec(vectors.double().numpy()).as_matrix())
    difference = (axis_angle_to_matrix(vectors).double() - wanted).abs().max().item()
    assert difference < 2e-7


def pose_one(point, rotation=(0.0, 0, 0), scale=1.0, translation=(0.0, 0, 0)):
    return pose(
        torch.tensor([[point]]),
        torch.tensor([rotation]),
        torch.tensor([[scale]]),
        torch.tensor([translation]),
    )[0, 0].tolist()


def test_the_frontal_model_looks_at_the_camera():
    # the viewer's right is the camera's -X, up stays up, out of the face is towards the camera
    assert pose_one((1.0, 2.0, 3.0), translation=(0.0, 0, 100)) == [-1, 2, 97]
    assert torch.linalg.det(MODEL_TO_CAMERA).item() == pytest.approx(1)


def test_scale_comes_before_translation_and_rotation_before_both():
    turned = pose_one((10.0, 0, 0), rotation=(0.0, math.pi / 2, 0), scale=2.0)
    # a quarter turn about +y takes +x to -z of the model, that is +Z, away from the camera
    assert turned == pytest.approx([0, 0, 20], abs=1e-5)
    moved = pose_one((10.0, 0, 0), (0.0, math.pi / 2, 0), 2.0, (1.0, 2.0, 3.0))
    assert moved == pytest.approx([1, 2, 23], abs=1e-5)


@pytest.mark.parametrize(
    ("rotation", "nose_goes"),
    [
        ((0.0, 0.3, 0), "right"),
        ((0.0, -0.3, 0), "left"),
        ((0.3, 0, 0), "down"),
        ((-0.3, 0, 0), "up"),
    ],
)
def test_a_turned_head_points_its_nose_where_the_axis_says(rotation, nose_goes):
    nose = torch.tensor([[[0.0, 0, 100]]])
    camera = pose(nose, torch.tensor([rotation]), torch.ones(1, 1), torch.tensor([[0.0, 0, 350]]))
    x, y = (ndc_to_pixels(project_ndc(camera), 224)[0, 0] - 112).tolist()
    seen = {"right": x, "left": -x, "down": y, "up": -y}
    assert seen[nose_goes] > 10


def test_a_permuted_batch_is_posed_permuted(generator):
    vertices = torch.randn(4, 7, 3, generator=generator)
    rotation, translation = torch.randn(2, 4, 3, generator=generator)
    scale = torch.rand(4, 1, generator=generator)
    order = torch.tensor([2, 0, 3, 1])
    once = pose(vertices, rotation, scale, translation)[order]
    torch.testing.assert_close(
        once, pose(vertices[order], rotation[order], scale[order], translation[order])
    )


def test_one_mesh_takes_a_batch_of_poses(generator):
    vertices = torch.randn(1, 7, 3, generator=generator)
    rotation, translation = torch.randn(2, 4, 3, generator=generator)
    posed = pose(vertices, rotation, torch.ones(4, 1), translation)
    assert posed.shape == (4, 7, 3)
    alone = pose(vertices, rotation[2:3], torch.ones(1, 1), translation[2:3])
    torch.testing.assert_close(posed[2:3], alone)


@given(st.floats(10, 120), st.floats(50, 5000))
def test_the_field_of_view_ends_at_the_shorter_side(fov, depth):
    edge = depth * math.tan(math.radians(fov) / 2)
    point = torch.tensor([[edge, -edge, depth]], dtype=torch.float64)
    expected = torch.tensor([[1.0, -1.0, depth]], dtype=torch.float64)
    torch.testing.assert_close(project_ndc(point, fov), expected)


@given(st.floats(0.1, 10), axis_angles)
def test_doubling_size_and_distance_together_moves_no_pixel(factor, rotation):
    rng = np.random.default_rng(0)
    vertices = torch.from_numpy(rng.normal(size=(1, 20, 3))) * 50
    translation = torch.tensor([[5.0, -8.0, 350.0]], dtype=torch.float64)
    one = torch.ones(1, 1, dtype=torch.float64)
    near = project_ndc(pose(vertices, rotation[None], one, translation))
    far = project_ndc(pose(vertices, rotation[None], one * factor, translation * factor))
    torch.testing.assert_close(near[..., :2], far[..., :2])


def test_projection_is_pytorch3d_s():
    cameras = pytest.importorskip("pytorch3d.renderer").FoVPerspectiveCameras(fov=DEFAULT_FOV)
    points = torch.tensor([[[10.0, 20, 300], [-40, 5, 400], [0, 0, 200]]])
    theirs = cameras.transform_points(points)
    torch.testing.assert_close(project_ndc(points)[..., :2], theirs[..., :2], rtol=1e-5, atol=1e-6)
    screen = cameras.transform_points_screen(points, image_size=((120, 200),))
    ours = ndc_to_pixels(project_ndc(points), (120, 200))
    torch.testing.assert_close(ours, screen[..., :2], rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(
    ("ndc", "pixel"),
    [((0, 0), (100, 60)), ((1, 1), (40, 0)), ((-1, -1), (160, 120)), ((100 / 60, 0), (0, 60))],
)
def test_pixels_count_from_the_top_left_and_the_shorter_side_spans_two(ndc, pixel):
    found = ndc_to_pixels(torch.tensor([ndc], dtype=torch.float64), (120, 200))
    assert found[0].tolist() == pytest.approx(pixel)


@given(st.integers(1, 500), st.integers(1, 500), coordinate, coordinate)
def test_pixels_go_back_to_where_they_came_from(height, width, x, y):
    ndc = torch.tensor([[x, y]], dtype=torch.float64)
    again = pixels_to_ndc(ndc_to_pixels(ndc, (height, width)), (height, width))
    torch.testing.assert_close(again, ndc, rtol=0, atol=1e-12)


def test_the_default_depth_shows_about_twenty_centimetres():
    side = 2 * DEFAULT_DEPTH * math.tan(math.radians(DEFAULT_FOV) / 2)
    assert 150 < side < 250


WRONG = {
    r"axis_angle: .*\(3, 4\): transpose it\?": lambda: axis_angle_to_matrix(torch.zeros(3, 4)),
    r"matrix: expected \(\.\.\., 3, 3\)": lambda: matrix_to_axis_angle(torch.zeros(3, 4)),
    "fov_deg: .*between 0 and 180, got 180": lambda: project_ndc(torch.zeros(1, 3), 180.0),
    "image_size: expected .* got 0": lambda: ndc_to_pixels(torch.zeros(1, 2), 0),
    r"pixels: expected \(\.\.\., 2\)": lambda: pixels_to_ndc(torch.zeros(1, 3), 224),
    r"scale: expected \(\.\.\., 1\)": lambda: pose(torch.zeros(1, 5, 3), *torch.zeros(3, 1, 3)),
}


@pytest.mark.parametrize("says", WRONG)
def test_a_wrong_argument_is_named(says):
    with pytest.raises(ValueError, match=says):
        WRONG[says]()


def test_a_pose_repeats_to_the_last_bit_whatever_lay_in_memory_before():
    random = torch.Generator().manual_seed(0)
    points = 30 * torch.randn(51, 3, generator=random, dtype=torch.float64)
    image_points = 50 * torch.randn(1, 51, 2, generator=random, dtype=torch.float64)
    answers = set()
    for _ in range(100):
        used = [torch.randint(0, 2, (size,), dtype=torch.int32) for size in (3, 4, 6, 8, 16)]
        del used
        pose_numbers = torch.cat([v.flatten() for v in orthographic_pose(points, image_points)])
        answers.add(tuple(pose_numbers.tolist()))
    assert len(answers) == 1
