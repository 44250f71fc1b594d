"""Checks of notebook 02: rotations, the pose, the perspective, and a pose from landmarks."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor

from .. import camera
from . import Wrong, close, exercise_check, same_gradient

M = camera.MODEL_TO_CAMERA
QUARTER = math.pi / 2


def _random(*shape: int, seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def _equal(got: object, wrong: Tensor, atol: float = 1e-3) -> bool:
    return (
        isinstance(got, Tensor)
        and got.shape == wrong.shape
        and got.dtype == wrong.dtype
        and torch.allclose(got, wrong, atol=atol, rtol=1e-3)
    )


# Rotation -------------------------------------------------------------------------------------


@exercise_check(stand_in=camera.axis_angle_to_matrix)
def rotation_matrix(attempt) -> str:
    quarter = torch.tensor([[0.0, QUARTER, 0.0]])
    got = attempt(quarter)
    expected = torch.tensor([[[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]]])
    call = "rotation_matrix([[0, pi/2, 0]])"
    if _equal(got, expected.mT):
        raise Wrong(
            f"{call} turns the wrong way: the nose, (0, 0, 1), should go to (1, 0, 0), and yours "
            "sends it to (-1, 0, 0). This is the transpose: look at the signs in K."
        )
    if isinstance(got, Tensor) and got.shape == (3, 3):
        raise Wrong(f"{call} has shape (3, 3): the batch axis is lost. Expected (1, 3, 3).")
    if _equal(got, camera.axis_angle_to_matrix(torch.deg2rad(quarter))):
        raise Wrong(f"{call} hardly turns at all: the vector is in radians already.")
    close(
        call,
        got,
        expected,
        axes=("batch", "row", "column"),
        hint="It should send the nose, (0, 0, 1), to (1, 0, 0).",
    )
    vectors = 1.5 * _random(7, 3, seed=1)
    got = attempt(vectors)
    unit = vectors / vectors.norm(dim=-1, keepdim=True)
    if _equal(got, camera.axis_angle_to_matrix(unit)):
        raise Wrong(
            "rotation_matrix(v) turns by one radian whatever the length of v: the length "
            "is the angle."
        )
    close(
        "rotation_matrix(v) for 7 random vectors",
        got,
        camera.axis_angle_to_matrix(vectors),
        axes=("batch", "row", "column"),
        hint="Is K made of the unit axis, v divided by the "
        "angle, where the formula asks for the axis?",
    )
    far = (
        vectors[:4]
        / vectors[:4].norm(dim=-1, keepdim=True)
        * torch.tensor([[3.1], [4.0], [6.0], [9.0]])
    )
    close(
        "rotation_matrix(v) for angles of 3.1 to 9 radians",
        attempt(far),
        camera.axis_angle_to_matrix(far),
        axes=("batch", "row", "column"),
    )
    mixed = torch.cat([torch.zeros(1, 3), 1e-6 * vectors[:1], 1e-2 * vectors[1:2], vectors[2:4]])
    got = attempt(mixed)
    if isinstance(got, Tensor) and torch.isnan(got[:1]).any():
        raise Wrong(
            "rotation_matrix([[0, 0, 0]]) holds nan: 0 / 0, since the angle is zero. No "
            "rotation is the most common rotation of all: it must give the identity."
        )
    close(
        "rotation_matrix(v) for a zero vector, two small ones and two others",
        got,
        camera.axis_angle_to_matrix(mixed),
        axes=("batch", "row", "column"),
    )
    double = _random(3, 3, seed=2, dtype=torch.float64)
    close(
        "rotation_matrix(v) in float64",
        attempt(double),
        camera.axis_angle_to_matrix(double),
        atol=1e-7,
        rtol=1e-6,
    )
    weights = _random(5, 3, 3, seed=3)
    _rotation_gradient(attempt, mixed[2:], weights[2:], "random vectors")
    _rotation_gradient(attempt, mixed, weights, "vectors that include zero")
    return "values and gradients agree, at zero as well"


def _rotation_gradient(attempt, vectors: Tensor, weights: Tensor, of: str) -> None:
    mine, ours = (vectors.clone().requires_grad_() for _ in range(2))
    got = (attempt(mine) * weights).sum()
    what = f"a weighted sum of rotation_matrix(v), for {of},"
    if got.requires_grad:
        (gradient,) = torch.autograd.grad(got, mine, retain_graph=True, allow_unused=True)
        still = (vectors == 0).all(-1)
        if gradient is not None and still.any() and not gradient[still].any():
            raise Wrong(
                "rotation_matrix(v) is right at v = 0, but its gradient there is zero, as if no "
                "small step away from zero could turn anything: an optimiser that starts there "
                "never moves. Near zero R is I plus the cross-product matrix of v itself."
            )
        if gradient is not None and torch.isnan(gradient).any():
            raise Wrong(
                "rotation_matrix(v) is right at v = 0, but its gradient there is nan: the branch "
                "that torch.where drops still divides by zero, and nan times 0 is nan. Give the "
                "dropped branch a harmless angle before you divide."
            )
    expected = (camera.axis_angle_to_matrix(ours) * weights).sum()
    same_gradient(what, got, expected, {"v": (mine, ours)}, atol=1e-4, rtol=1e-3)


# Pose -----------------------------------------------------------------------------------------


@exercise_check(stand_in=camera.pose)
def to_camera(attempt) -> str:
    points = torch.tensor([[[0.0, 0.0, 10.0], [10.0, 0.0, 0.0], [0.0, 10.0, 0.0]]])
    still, one = torch.zeros(1, 3), torch.ones(1, 1)
    away = torch.tensor([[0.0, 0.0, 400.0]])
    names = ("batch", "vertex", "coordinate")
    call = "to_camera of a nose tip at (0, 0, 10), unturned, 400 mm away,"
    got = attempt(points, still, one, away)
    if isinstance(got, Tensor) and got.shape == points.shape:
        if torch.allclose(got, points + away):
            raise Wrong(
                f"{call} is at Z = 410: behind the head. The model's +z comes out of the face, the "
                "camera's +Z goes into the screen: M turns one into the other. Expected Z = 390."
            )
        if torch.allclose(got, points * torch.tensor([1.0, 1.0, -1.0]) + away):
            raise Wrong(
                "The viewer's right, model (10, 0, 0), should come out at X = -10, since the "
                "camera's +X is left; yours is at +10. Flipping z alone is a mirror, not a turn."
            )
    if _equal(got, camera.pose(points + away[:, None], still, one, 0 * away)):
        raise Wrong(
            f"{call} is at Z = -410, behind the camera: the translation went through M. It is in "
            "the camera's own axes already, so it is added last, as it is."
        )
    if _equal(got, camera.pose(points, still, one, -away)):
        raise Wrong(f"{call} is behind the camera: the translation is added, not taken off.")
    close(call.rstrip(","), got, camera.pose(points, still, one, away), axes=names)
    turned = torch.tensor([[0.0, QUARTER, 0.0]])
    call = "to_camera of a head turned by the rotation (0, pi/2, 0)"
    got = attempt(points, turned, one, away)
    if _equal(got, camera.pose(points, -turned, one, away)):
        raise Wrong(
            f"{call} looks to the viewer's left; it should look to the right, with the nose at "
            "X = -10. The matrix is applied from the wrong side: rows of vertices times R need the "
            "transpose of R."
        )
    close(call, got, camera.pose(points, turned, one, away), axes=names)
    v, r = 30 * _random(3, 5, 3, seed=4), _random(3, 3, seed=5)
    s, t = torch.tensor([[0.5], [1.0], [1.7]]), 20 * _random(3, 3, seed=6) + away
    expected, got = camera.pose(v, r, s, t), attempt(v, r, s, t)
    if _equal(got, camera.pose(v, r, s, s * t)):
        raise Wrong(
            "The translation comes out multiplied by the scale. In the equation the scale belongs "
            "to M R v alone: t is already in mm of the camera."
        )
    if _equal(got, camera.pose(v, r, torch.ones_like(s), t)):
        raise Wrong("to_camera ignores the scale.")
    matrix = camera.axis_angle_to_matrix(r)
    if _equal(got, s[..., None] * (v @ M.T @ matrix.mT) + t[:, None]):
        raise Wrong("M is applied before R: the order in the equation is M R v, R first.")
    if _equal(got, s[..., None] * ((v + t[:, None]) @ (M @ matrix).mT)):
        raise Wrong(
            "The translation is added before the rotation, which then swings the head "
            "around the camera. Rotate first, translate after."
        )
    close(
        "to_camera(vertices, rotation, scale, translation) for three heads",
        got,
        expected,
        axes=names,
        atol=1e-3,
        picture=_dots("seen along the camera's axis, mm"),
    )
    close(
        "to_camera of 4 vertices for a batch of 2",
        attempt(v[:2, :4], r[:2], s[:2], t[:2]),
        expected[:2, :4],
        axes=names,
        atol=1e-3,
    )
    leaves = {}
    for name, value in (("vertices", v), ("rotation", r), ("scale", s), ("translation", t)):
        leaves[name] = tuple(value.clone().requires_grad_() for _ in range(2))
    weights = _random(3, 5, 3, seed=7)
    mine, ours = ([pair[i] for pair in leaves.values()] for i in (0, 1))
    same_gradient(
        "a weighted sum of to_camera(...)",
        (attempt(*mine) * weights).sum(),
        (camera.pose(*ours) * weights).sum(),
        leaves,
        atol=1e-3,
    )
    return "three heads of different size, turn and place are where they belong"


# Perspective ----------------------------------------------------------------------------------


def pixels_of(
    v_camera: Float[Tensor, "batch vertex 3"], fov_deg: float, image_size: tuple[int, int]
) -> Float[Tensor, "batch vertex 2"]:
    """The library's answer to `project_to_pixels`: NDC, then pixels."""
    return camera.ndc_to_pixels(camera.project_ndc(v_camera, fov_deg), image_size)


@exercise_check(stand_in=pixels_of)
def project_to_pixels(attempt) -> str:
    names = ("batch", "vertex", "u or v")
    straight = torch.tensor([[[0.0, 0.0, 350.0], [0.0, 0.0, 900.0]]])
    got, expected = attempt(straight, 30.0, (100, 300)), pixels_of(straight, 30.0, (100, 300))
    call = "project_to_pixels of two points on the camera's axis, 100 high and 300 wide,"
    if _equal(got, expected.flip(-1)):
        raise Wrong(
            f"{call} gives (50, 150), row before column; expected (150, 50). Either the order of u "
            "and v or that of width and height is swapped."
        )
    if _equal(got, expected - 0.5) or _equal(got, expected + 0.5):
        raise Wrong(
            f"{call} is half a pixel off the middle: our pixels are continuous, counted from the "
            "corner of the picture, not from the centre of the first pixel."
        )
    hint = "The axis meets the picture in its middle: u = 150, v = 50."
    close(call.rstrip(","), got, expected, axes=names, hint=hint)
    odd = "project_to_pixels of the same points in a picture 75 high and 131 wide"
    middle = expected.new_tensor([65.5, 37.5]).expand_as(expected)
    hint = "Half of an odd number is not whole: u = 65.5, v = 37.5."
    close(odd, attempt(straight, 30.0, (75, 131)), middle, axes=names, hint=hint)
    edge = torch.tensor([[[0.0, 100.0, 100.0], [-100.0, 0.0, 100.0], [50.0, 0.0, 100.0]]])
    got, expected = attempt(edge, 90.0, (200, 200)), pixels_of(edge, 90.0, (200, 200))
    call = "project_to_pixels with a field of view of 90 degrees, 200 x 200,"
    if _equal(got, 200 - expected):
        raise Wrong(
            f"{call} comes out upside down and mirrored: +X is left and +Y is up, pixels "
            "count to the right and down."
        )
    for column, words in (
        (0, "mirrored: +X is to the left, pixels count to the right"),
        (1, "upside down: +Y is up, pixels count down"),
    ):
        flipped = expected.clone()
        flipped[..., column] = 200 - flipped[..., column]
        if _equal(got, flipped):
            raise Wrong(f"{call} comes out {words}.")
    middle = torch.full_like(expected, 100.0)
    if _equal(got, middle) or _equal(got, pixels_of(edge, 45.0, (200, 200))):
        raise Wrong(
            f"{call} has another field of view: the whole angle goes from edge to edge, so half of "
            "it lies between the axis and an edge."
        )
    if any(_equal(got, middle + (expected - middle) / math.tan(a)) for a in (45.0, 90.0)):
        raise Wrong(f"{call} takes the tangent of degrees: math.tan wants radians.")
    close(
        call.rstrip(","),
        got,
        expected,
        axes=names,
        hint="A point 45 degrees above the axis lies on the upper edge: v = 0.",
    )
    v = 60 * _random(3, 6, 3, seed=8) + torch.tensor([10.0, -20.0, 420.0])
    got, size = attempt(v, 30.0, (120, 260)), (120, 260)
    expected = pixels_of(v, 30.0, size)
    call = "project_to_pixels(v_camera, 30, (120, 260))"
    centre = torch.tensor([130.0, 60.0])
    if _equal(got, centre + (expected - centre) * 260 / 120):
        raise Wrong(
            f"{call} spreads the field of view over the longer side (260): it spans the "
            "shorter one (120)."
        )
    tangent = math.tan(math.radians(15))
    if _equal(got, centre + (expected - centre) * tangent**2):
        raise Wrong(f"{call} multiplies by the tangent: a wider view must make things smaller.")
    depth = v[..., 2:]
    mean = depth.mean(1, keepdim=True)
    if _equal(got, centre + (expected - centre) * depth / mean):
        raise Wrong(f"{call} divides by one depth for all: each point has its own.")
    if _equal(got, centre + (expected - centre) * depth / v.norm(dim=-1, keepdim=True)):
        raise Wrong(
            f"{call} divides by the distance from the camera; the equation has the depth "
            "Z, else straight lines bend."
        )
    drawing = _dots("pixels", upright=False)
    close(call, got, expected, axes=names, atol=2e-3, picture=drawing)
    for fov, size in ((12.0, (224, 224)), (75.0, (300, 90))):
        call = f"project_to_pixels(v_camera, {fov:g}, {size})"
        close(
            call,
            attempt(v[:1], fov, size),
            pixels_of(v[:1], fov, size),
            axes=names,
            atol=2e-3,
            picture=drawing,
        )
    mine, ours = (v.clone().requires_grad_() for _ in range(2))
    weights = _random(3, 6, 2, seed=9)
    same_gradient(
        "a weighted sum of project_to_pixels(v_camera, ...)",
        (attempt(mine, 30.0, (120, 260)) * weights).sum(),
        (pixels_of(ours, 30.0, (120, 260)) * weights).sum(),
        {"v_camera": (mine, ours)},
        atol=1e-4,
    )
    return "square and oblong pictures, fields of view from 12 to 90 degrees"


# Pose from landmarks --------------------------------------------------------------------------


def orthographic_pose(
    points: Float[Tensor, "point 3"], pixels: Float[Tensor, "batch point 2"]
) -> tuple[Float[Tensor, "batch 3 3"], Float[Tensor, " batch"], Float[Tensor, "batch 2"]]:
    """Rotation, pixels a mm, and the pixel of the model's origin, in closed form.

    The library's answer to `pose_from_landmarks`; `fitting.start_from_landmarks` does the same for
    its 51 points.
    """
    middle = points.mean(0)
    seen = pixels * pixels.new_tensor([1.0, -1.0])
    seen_middle = seen.mean(1, keepdim=True)
    spread = (points - middle).expand(len(seen), -1, -1)
    affine = torch.linalg.lstsq(spread, seen - seen_middle).solution.mT
    u, s, vh = torch.linalg.svd(affine, full_matrices=False)
    rows = u @ vh
    rotation = torch.cat([rows, torch.linalg.cross(rows[:, 0], rows[:, 1])[:, None]], 1)
    per_mm = s.mean(1)
    shift = seen_middle[:, 0] - per_mm[:, None] * (rows @ middle)
    return rotation, per_mm, shift * pixels.new_tensor([1.0, -1.0])


def flat_pixels(
    points: Float[Tensor, "point 3"],
    rotation: Float[Tensor, "batch 3 3"],
    per_mm: Float[Tensor, " batch"],
    shift: Float[Tensor, "batch 2"],
) -> Float[Tensor, "batch point 2"]:
    """The scaled orthographic camera: x and y of the turned points, y flipped, scaled, moved."""
    flat = (points @ rotation.mT)[..., :2] * points.new_tensor([1.0, -1.0])
    return per_mm[:, None, None] * flat + shift[:, None]


@exercise_check(stand_in=orthographic_pose)
def pose_from_landmarks(attempt) -> str:
    points = 30 * _random(9, 3, seed=10) + torch.tensor([4.0, -15.0, 12.0])
    vectors = torch.tensor([[0.0, 0.0, 0.0], [0.3, -0.5, 0.2], [-0.2, 0.9, -0.4]])
    rotation = camera.axis_angle_to_matrix(vectors)
    per_mm = torch.tensor([1.0, 1.3, 0.7])
    shift = torch.tensor([[112.0, 112.0], [90.0, 130.0], [140.0, 60.0]])
    pixels = flat_pixels(points, rotation, per_mm, shift)
    got = attempt(points, pixels)
    what = "(rotation, per_mm, shift) = pose_from_landmarks(points, pixels)"
    if not isinstance(got, tuple | list) or len(got) != 3:
        raise Wrong(f"{what}: expected three tensors.")
    _expect_rotation(got[0], rotation)
    close("rotation", got[0], rotation, axes=("batch", "row", "column"), atol=1e-3)
    _expect_scale(got[1], got[0], points, pixels, per_mm)
    close("per_mm", got[1], per_mm, axes=("batch",), atol=1e-3)
    middle = pixels.mean(1)
    if _equal(got[2], middle):
        raise Wrong(
            "shift is the mean pixel. The points' own mean is not the origin, so the mean pixel is "
            "where that mean is seen: take the turned, scaled, flipped mean of the points off it."
        )
    if _equal(got[2], shift * torch.tensor([1.0, -1.0]), 1e-2):
        raise Wrong("shift is measured upwards: v counts down. Turn its sign back.")
    close("shift", got[2], shift, axes=("batch", "u or v"), atol=2e-2)
    noisy = pixels + 3 * _random(3, 9, 2, seed=11)
    got, expected = attempt(points, noisy), orthographic_pose(points, noisy)
    note = "With noise the three steps of the docstring decide the answer."
    gram = got[0] @ got[0].mT
    if not torch.allclose(gram, torch.eye(3).expand_as(gram), atol=1e-3):
        raise Wrong(
            "With noise of 3 pixels on the landmarks, rotation is no rotation any more: R times "
            "its transpose is not the identity. Take the nearest rotation, by the SVD."
        )
    close(
        "rotation, for noisy pixels",
        got[0],
        expected[0],
        axes=("batch", "row", "column"),
        atol=1e-3,
        hint=note,
    )
    close(
        "per_mm, for noisy pixels",
        got[1],
        expected[1],
        axes=("batch",),
        atol=1e-3,
        hint="It is the mean of the two singular values.",
    )
    close(
        "shift, for noisy pixels",
        got[2],
        expected[2],
        axes=("batch", "u or v"),
        atol=3e-2,
        hint=note,
    )
    more = 40 * _random(51, 3, seed=12)
    one = flat_pixels(more, rotation[2:], per_mm[2:], shift[2:])
    names = ("rotation", "per_mm", "shift")
    for name, mine, ours in zip(
        names, attempt(more, one), (rotation[2:], per_mm[2:], shift[2:]), strict=True
    ):
        close(f"{name}, for one face of 51 points", mine, ours, atol=2e-2)
    return "three poses found exactly, and the least-squares one under noise"


def _expect_rotation(got: object, rotation: Tensor) -> None:
    if not isinstance(got, Tensor) or got.shape != rotation.shape:
        return  # `close` says it
    if _equal(got, rotation):
        return
    if _equal(got, rotation.mT):
        raise Wrong(
            "rotation is transposed: its first two ROWS are what the camera sees as right and up."
        )
    flip = torch.tensor([1.0, -1.0, 1.0])[:, None]
    if _equal(got[:, :2], (rotation * flip)[:, :2]):
        raise Wrong(
            "The second row has its sign flipped: v counts down and the model's y up. "
            "Turn the pixels' v around before you fit."
        )
    if _equal(got[:, :2], rotation[:, :2]) and _equal(got[:, 2], -rotation[:, 2]):
        raise Wrong(
            "The third row points into the head (determinant -1: a mirror). It is the "
            "first row cross the second, in this order."
        )
    if _equal(got[:, :2], rotation[:, :2]):
        raise Wrong(
            "The first two rows are right; the third is not: it is square to both, and of "
            "unit length."
        )


def _expect_scale(
    got: object, rotation: Tensor, points: Tensor, pixels: Tensor, per_mm: Tensor
) -> None:
    if isinstance(got, Tensor) and got.shape == per_mm.shape and _equal(got, 2 * per_mm):
        raise Wrong(
            "per_mm is twice what it should be: the MEAN of the two singular values, not their sum."
        )
    if isinstance(got, Tensor) and got.shape == per_mm.shape and _equal(got, 1 / per_mm):
        raise Wrong("per_mm is upside down: mm a pixel. Expected pixels a mm.")


def _dots(title: str, upright: bool = True):
    def draw(got: Tensor, expected: Tensor) -> Figure:
        figure = Figure(figsize=(5, 4), layout="constrained", facecolor="white")
        axis = figure.subplots()
        for points, name, mark in ((expected, "expected", "o"), (got, "yours", "x")):
            flat = points.reshape(-1, points.shape[-1]).cpu().numpy()
            axis.scatter(flat[:, 0], flat[:, 1], marker=mark, label=name)
        if not upright:
            axis.invert_yaxis()
        axis.set(title=title, aspect="equal")
        axis.legend()
        return figure

    return draw
