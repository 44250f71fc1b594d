"""Checks of notebook 02: rotations, pose, perspective, crop, poses from landmarks, visibility."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ...face import camera
from ...photos.crop import laid_on
from ...rendering import visibility
from ..checks import exercise_check
from ..compare import Wrong, drawn_together, like, normal, same_length, strided, uniform

M = camera.MODEL_TO_CAMERA
QUARTER = math.pi / 2
IN_MATRIX = ("batch", "row", "column")

TURN = "rotation_matrix([[0, pi/2, 0]])"


def by_v_itself(v: Float[Tensor, "batch 3"]) -> Float[Tensor, "batch 3 3"]:
    """Rodrigues' formula with the vector for its axis."""
    angle, eye = v.norm(dim=-1)[:, None, None], torch.eye(3).to(v)
    k = torch.linalg.cross(v[:, None].expand(-1, 3, 3), eye.expand(len(v), 3, 3)).mT
    return eye + angle.sin() * k + (1 - angle.cos()) * (k @ k)


@exercise_check(
    stand_in=camera.axis_angle_to_matrix,
    mistakes={
        f"{TURN} turns the wrong way: the nose, (0, 0, 1), should go to (1, 0, 0), and yours sends "
        "it to (-1, 0, 0). This is the transpose: look at the signs in "
        "K.": lambda v: camera.axis_angle_to_matrix(v).mT,
        f"{TURN} has shape (3, 3): the batch axis is lost. Expected (1, 3, 3).": lambda v: (
            camera.axis_angle_to_matrix(v[0])
        ),
        f"{TURN} hardly turns at all: the vector is in radians already.": lambda v: (
            camera.axis_angle_to_matrix(torch.deg2rad(v))
        ),
        "rotation_matrix(v) turns by one radian whatever the length of v: the length is the "
        "angle.": lambda v: camera.axis_angle_to_matrix(F.normalize(v, dim=-1)),
        "K is made of v itself; the formula asks for the unit axis, v / angle.": by_v_itself,
    },
    axes=IN_MATRIX,
    points=3,
)
def rotation_matrix(attempt) -> str:
    quarter = torch.tensor([[0.0, QUARTER, 0.0]])
    expected = torch.tensor([[[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]]])
    vectors = 1.5 * normal(7, 3, seed=1)
    mixed = torch.cat([torch.zeros(1, 3), 1e-6 * vectors[:1], 1e-2 * vectors[1:2], vectors[2:4]])
    lengths = torch.tensor([[8e-3], [0.04], [0.3], [math.pi], [math.tau]])
    several = lengths * F.normalize(normal(5, 3, seed=5), dim=-1)
    with attempt.part("large turns"):
        hint = "It should send the nose, (0, 0, 1), to (1, 0, 0)."
        attempt.case(TURN, (quarter,), hint, expected=expected)
        attempt.case("rotation_matrix(v) for 7 random vectors", (vectors,))
        far = F.normalize(vectors[:4], dim=-1) * torch.tensor([[3.1], [4.0], [6.0], [9.0]])
        attempt.case("rotation_matrix(v) for angles of 3.1 to 9 radians", (far,))
    with attempt.part("small turns"):
        what = "rotation_matrix(v) for a zero vector, two small ones and two others"
        got = attempt.trial(what)(mixed)
        if isinstance(got, Tensor) and torch.isnan(got[:1]).any():
            raise Wrong(
                "rotation_matrix([[0, 0, 0]]) holds nan: 0 / 0, since the angle is zero. No "
                "rotation is the most common rotation of all: it must give the identity."
            )
        attempt.close(what, got, camera.axis_angle_to_matrix(mixed))
        what = "rotation_matrix(v) for angles of 0.008, 0.04, 0.3, pi and 2 pi"
        attempt.case(what, (several,), axes=IN_MATRIX)
    with attempt.part("layouts"):
        reverse = strided(-vectors.flip(0))
        attempt.case("rotation_matrix(v) for 7 others, not contiguous", reverse)
        attempt.case("rotation_matrix(v) for turns about x, y and z", (0.8 * torch.eye(3),))
        double = normal(3, 3, seed=2, dtype=torch.float64)
        attempt.case("rotation_matrix(v) in float64", (double,), atol=1e-7, rtol=1e-6)
    with attempt.part("gradients"):
        call = "rotation_matrix(v), for random vectors,"
        attempt.gradients(call, {"v": mixed[2:]}, atol=1e-4)
        leaf, weights = mixed.clone().requires_grad_(), normal(5, 3, 3, seed=3)
        [gradient] = torch.autograd.grad(attempt(leaf), leaf, weights, materialize_grads=True)
        if not gradient[0].any():
            raise Wrong(
                "rotation_matrix(v) is right at v = 0, but its gradient there is zero, as if no "
                "small step away from zero could turn anything: an optimiser that starts there "
                "never moves. Near zero R is I plus the cross-product matrix of v itself."
            )
        if gradient.isnan().any():
            raise Wrong(
                "rotation_matrix(v) is right at v = 0, but its gradient there is nan: the branch "
                "that torch.where drops still divides by zero, and nan times 0 is nan. Give the "
                "dropped branch a harmless angle before you divide."
            )
        what = "rotation_matrix(v), for vectors that include zero,"
        attempt.gradients(what, {"v": mixed}, atol=1e-4)
        what = "rotation_matrix(v), for angles of 0.008, 0.04, 0.3, pi and 2 pi,"
        attempt.gradients(what, {"v": several}, atol=2e-4)
    return "values and gradients agree, at zero as well"


AWAY = "to_camera of a nose tip at (0, 0, 10), unturned, 400 mm away,"
TURNED = "to_camera of a head turned by the rotation (0, pi/2, 0)"


def turned_by(matrix):
    """Eq. 2 with another matrix for M R: matrix(R)."""

    def to_camera(v, r, s, t):
        return s[:, None] * (v @ matrix(camera.axis_angle_to_matrix(r)).mT) + t[:, None]

    return to_camera


@exercise_check(
    stand_in=camera.pose,
    mistakes={
        f"{TURNED} looks to the viewer's left; it should look to the right, with the nose at "
        "X = -10. The matrix is applied from the wrong side: rows of vertices times R need the "
        "transpose of R.": lambda v, r, s, t: camera.pose(v, -r, s, t),
        f"{AWAY} is at Z = 410: behind the head. The model's +z comes out of the face, the "
        "camera's +Z goes into the screen: M turns one into the other. Expected Z = "
        "390.": turned_by(lambda r: r),
        "The viewer's right, model (10, 0, 0), should come out at X = -10, since the camera's +X "
        "is left; yours is at +10. Flipping z alone is a mirror, not a "
        "turn.": turned_by(lambda r: torch.diag(torch.tensor([1.0, 1.0, -1.0])) @ r),
        f"{AWAY} is at Z = -410, behind the camera: the translation went through M. It is in the "
        "camera's own axes already, so it is added last, as it is.": (
            lambda v, r, s, t: camera.pose(v, r, s, t @ M),
            lambda v, r, s, t: camera.pose(v + t[:, None], r, s, 0 * t),
        ),
        f"{AWAY} is behind the camera: the translation is added, not taken "
        "off.": lambda v, r, s, t: camera.pose(v, r, s, -t),
        "The translation comes out multiplied by the scale. In the equation the scale belongs to M "
        "R v alone: t is already in mm of the "
        "camera.": lambda v, r, s, t: camera.pose(v, r, s, s * t),
        "to_camera ignores the scale.": lambda v, r, s, t: camera.pose(v, r, torch.ones_like(s), t),
        "M is applied before R: the order in the equation is M R v, R first.": turned_by(
            lambda r: r @ M
        ),
    },
    axes=("batch", "vertex", "x, y, z"),
    atol=1e-3,
    points=2,
)
def to_camera(attempt) -> str:
    points = torch.tensor([[[0.0, 0.0, 10.0], [10.0, 0.0, 0.0], [0.0, 10.0, 0.0]]])
    still, one, away = torch.zeros(1, 3), torch.ones(1, 1), torch.tensor([[0.0, -20.0, 400.0]])
    v, r = 30 * normal(3, 5, 3, seed=4), normal(3, 3, seed=5)
    s, t = torch.tensor([[0.5], [1.0], [1.7]]), 20 * normal(3, 3, seed=6) + away
    with attempt.part("by hand"):
        attempt.case(AWAY.rstrip(","), (points, still, one, away))
        attempt.case(TURNED, (points, torch.tensor([[0.0, QUARTER, 0.0]]), one, away))
    with attempt.part("batches"):
        what = "to_camera(vertices, rotation, scale, translation) for three heads"
        picture = drawn_together("seen along the camera's axis, mm", ("o", "x"), aspect="equal")
        attempt.case(what, (v, r, s, t), picture=picture)
        attempt.case("to_camera of 4 vertices for a batch of 2", (v[:2, :4], r[:2], s[:2], t[:2]))
        three = v[:, :3], -r, s.flip(0), t
        attempt.case("to_camera of 3 vertices for a batch of 3, not contiguous", strided(*three))
        three = v[:, 2:], r / 2, s, t.flip(0)
        attempt.case("to_camera of 3 other vertices for a batch of 3", three)
        attempt.case("to_camera of one vertex", (v[:1, :1], r[:1], s[2:], 3 * t[:1]))
    with attempt.part("whole heads"):
        mean, yaw = 60 * normal(1, 3437, 3, seed=14), torch.tensor([[0.0, 0.436, 0.0]])
        for words, turn, scale, place in (
            ("unturned, 470 mm away", still, one, torch.tensor([[0.0, -14.0, 470.0]])),
            ("25 degrees of yaw, 0.2 times as large", yaw, one / 5, away),
            ("4 times as large, 2 m away", still, 4 * one, torch.tensor([[700.0, 0.0, 2000.0]])),
            ("at the camera itself", still, one, torch.zeros(1, 3)),
        ):
            attempt.case(f"to_camera of 3,437 vertices, {words}", (mean, turn, scale, place))
    with attempt.part("gradients"):
        inputs = {"vertices": v, "rotation": r, "scale": s, "translation": t}
        attempt.gradients("to_camera(...)", inputs, atol=1e-3)
        inputs |= {"rotation": 0 * r, "translation": 0 * t}
        attempt.gradients("to_camera(...), unturned and at the camera,", inputs, atol=1e-3)
    return "three heads of different size, turn and place are where they belong"


def pixels_of(
    v_camera: Float[Tensor, "batch vertex 3"], fov_deg: float, image_size: tuple[int, int]
) -> Float[Tensor, "batch vertex 2"]:
    """The library's answer to `project_to_pixels`: NDC, then pixels."""
    return camera.ndc_to_pixels(camera.project_ndc(v_camera, fov_deg), image_size)


def projected(
    *,
    angle=lambda fov: math.radians(fov) / 2,
    side=min,
    signs=(-1, -1),
    half=0.0,
    depth=lambda v: v[..., 2:],
    centre=lambda size: [size[1] / 2, size[0] / 2],
):
    """The projection with one thing done otherwise."""

    def project_to_pixels(v, fov, size):
        focal = side(*size) / 2 / math.tan(angle(fov))
        middle = v.new_tensor(centre(size)) + half
        return middle + focal * v.new_tensor(signs) * v[..., :2] / depth(v)

    return project_to_pixels


ON_AXIS = "project_to_pixels of two points on the camera's axis, 100 high and 300 wide,"
WIDE = "project_to_pixels with a field of view of 90 degrees, 200 x 200,"
OBLONG = "project_to_pixels(v_camera, 30, (120, 260))"


@exercise_check(
    stand_in=pixels_of,
    mistakes={
        f"{ON_AXIS} gives (50, 150), row before column; expected (150, 50). Either the order of u "
        "and v or that of width and height is swapped.": (
            lambda v, fov, size: pixels_of(v, fov, size).flip(-1),
            projected(centre=lambda size: [size[0] / 2, size[1] / 2]),
        ),
        f"{ON_AXIS} is half a pixel off the middle: our pixels are continuous, counted from the "
        "corner of the picture, not from the centre of the first "
        "pixel.": (projected(half=-0.5), projected(half=0.5)),
        f"{WIDE} comes out upside down and mirrored: +X is left and +Y is up, pixels count to the "
        "right and down.": projected(signs=(1, 1)),
        f"{WIDE} comes out mirrored: +X is to the left, pixels count to the right.": projected(
            signs=(1, -1)
        ),
        f"{WIDE} comes out upside down: +Y is up, pixels count down.": projected(signs=(-1, 1)),
        f"{WIDE} has another field of view: the whole angle goes from edge to edge, so half of it "
        "lies between the axis and an edge.": (
            projected(angle=math.radians),
            projected(angle=lambda fov: math.radians(fov) / 4),
        ),
        f"{WIDE} takes the tangent of degrees: math.tan wants radians.": (
            projected(angle=lambda fov: fov / 2),
            projected(angle=lambda fov: fov),
        ),
        f"{WIDE} divides by the distance from the camera; the equation has the depth Z, else "
        "straight lines bend.": projected(depth=lambda v: v.norm(dim=-1, keepdim=True)),
        f"{OBLONG} spreads the field of view over the longer side (260): it spans the shorter one "
        "(120).": projected(side=max),
        f"{OBLONG} multiplies by the tangent: a wider view must make things smaller.": projected(
            angle=lambda fov: math.atan(1 / math.tan(math.radians(fov) / 2))
        ),
        f"{OBLONG} divides by one depth for all: each point has its own.": projected(
            depth=lambda v: v[..., 2:].mean(1, keepdim=True)
        ),
    },
    axes=("batch", "vertex", "u or v"),
    points=2,
)
def project_to_pixels(attempt) -> str:
    straight = torch.tensor([[[0.0, 0.0, 350.0], [0.0, 0.0, 900.0]]])
    v = 60 * normal(3, 6, 3, seed=8) + torch.tensor([10.0, -20.0, 420.0])
    with attempt.part("by hand"):
        hint = "The axis meets the picture in its middle: u = 150, v = 50."
        attempt.case(ON_AXIS.rstrip(","), (straight, 30.0, (100, 300)), hint)
        odd = "project_to_pixels of the same points in a picture 75 high and 131 wide"
        middle = torch.tensor([65.5, 37.5]).expand(1, 2, 2)
        hint = "Half of an odd number is not whole: u = 65.5, v = 37.5."
        attempt.case(odd, (straight, 30.0, (75, 131)), hint, expected=middle)
        edge = torch.tensor([[[0.0, 100.0, 100.0], [-100.0, 0.0, 100.0], [50.0, 0.0, 100.0]]])
        hint = "A point 45 degrees above the axis lies on the upper edge: v = 0."
        attempt.case(WIDE.rstrip(","), (edge, 90.0, (200, 200)), hint)
    with attempt.part("pictures and lenses"):
        picture = drawn_together("pixels", ("o", "x"), downwards=True, aspect="equal")
        for points, fov, size in (
            (v, 30, (120, 260)),
            (v[:1], 12, (224, 224)),
            (v[:1], 75, (300, 90)),
        ):
            call = f"project_to_pixels(v_camera, {fov}, {size})"
            attempt.case(call, (points, float(fov), size), atol=2e-3, picture=picture)
        shifted = *strided(v + torch.tensor([5.0, 9.0, -80.0])), 30.0, (120, 260)
        attempt.case("project_to_pixels of 3 other heads, not contiguous", shifted, atol=2e-3)
    with attempt.part("near and far"):
        head = 60 * normal(1, 3437, 3, seed=15) + torch.tensor([0.0, -14.0, 470.0])
        wide, square = head * torch.tensor([9.0, 9, 1]), (224, 224)
        for words, points, fov, size in (
            ("3,437 vertices 470 mm away, a field of view of 30, without a dot", head, 30, square),
            ("3,437 vertices 2,000 mm away, 10 degrees", head + 1530, 10.0, (448, 448)),
            ("points that lie far out of the picture", wide, 30.0, (64, 64)),
            ("points 2 to 5 mm from the camera", head / 100, 30.0, square),
            ("one point, 120 degrees, in a picture 481 by 641", v[:1, :1], 120.0, (481, 641)),
        ):
            options = dict(atol=1e-2, rtol=1e-4)
            attempt.case(f"project_to_pixels of {words}", (points, fov, size), **options)
    with attempt.part("gradients"):
        call = "project_to_pixels(v_camera, ...)"
        attempt.gradients(call, {"v_camera": v}, 30.0, (120, 260), atol=1e-4)
        axis = straight.repeat(2, 1, 1) * torch.tensor([[[1.0]], [[0.3]]])
        call = "project_to_pixels of points on the axis"
        attempt.gradients(call, {"v_camera": axis}, 30.0, (300, 90), atol=1e-4)
    return "square and oblong pictures, fields of view from 12 to 90 degrees"


Marks, Affine = Float[Tensor, "point 2"], Float[Tensor, "2 3"]


def similarity(landmarks: Marks, template: Marks) -> Affine:
    """The library's answer to `crop_similarity`: least squares over complex numbers."""
    photo, crop = (points.double().numpy() @ [1, 1j] for points in (landmarks, template))
    scale, origin = laid_on(photo, crop)
    rows = [scale.real, -scale.imag, origin.real], [scale.imag, scale.real, origin.imag]
    return torch.tensor(rows, dtype=landmarks.dtype)


def similarity_but(change, template_follows: bool = True):
    """The similarity with its two columns of turn and size changed: change(them, two, centred).

    template_follows: the shift is the one that carries the mean onto the template's.
    """

    def crop_similarity(landmarks, template):
        matrix = similarity(landmarks, template)
        two = (points - points.mean(0) for points in (landmarks, template))
        linear = change(matrix[:, :2], *two)
        middle = linear @ landmarks.mean(0) if template_follows else landmarks.mean(0)
        return torch.cat([linear, (template.mean(0) - middle)[:, None]], 1)

    return crop_similarity


def free_affine(_, photo: Marks, crop: Marks) -> Float[Tensor, "2 2"]:
    """Least squares over all four numbers of the matrix."""
    return torch.linalg.lstsq(photo, crop).solution.mT


def mirror_allowed(_, photo: Marks, crop: Marks) -> Float[Tensor, "2 2"]:
    """Procrustes by the SVD, whatever the sign of the determinant."""
    u, spectrum, vh = torch.linalg.svd(crop.mT @ photo)
    return spectrum.sum() / photo.square().sum() * (u @ vh)


def ratio_of_spreads(right: Tensor, photo: Marks, crop: Marks) -> Float[Tensor, "2 2"]:
    return right / right.det().sqrt() * crop.norm() / photo.norm()


HAND = "crop_similarity of a photo that lies on its side, twice as large as the crop"


@exercise_check(
    stand_in=similarity,
    mistakes={
        "The matrix carries the template onto the photo. It should carry the landmarks, which "
        "are the photo's, onto the template.": lambda x, y: similarity(y, x),
        f"{HAND}: yours turns the other way. With u to the right and v down, rows (a, -b) and "
        "(b, a) turn u towards v where b is above 0.": similarity_but(lambda m, *_: m.mT),
        "The crop comes out sheared: these are the six numbers of any affine map. A similarity "
        "has four, and its matrix the form ((a, -b), (b, a)).": similarity_but(free_affine),
        "For landmarks of a mirrored face yours is a mirror: the determinant of U Vᵀ is -1. A "
        "crop only turns, so flip the smaller direction back.": similarity_but(mirror_allowed),
        "The size comes from the ratio of the two spreads. Least squares asks for another: "
        "points that do not fit make the map a little smaller.": similarity_but(ratio_of_spreads),
        f"{HAND}: the size is missing. Yours only turns and shifts.": similarity_but(
            lambda m, *_: m / m.det().sqrt()
        ),
        f"{HAND}: the turn is missing. Yours only sizes and shifts.": similarity_but(
            lambda m, *_: m.det().sqrt() * torch.eye(2).to(m)
        ),
        f"{HAND}: the shift is the difference of the means. The landmarks' mean is turned and "
        "sized first, then taken off.": similarity_but(lambda m, *_: m, template_follows=False),
    },
    axes=("row", "column"),
    points=2,
    atol=1e-4,
)
def crop_similarity(attempt) -> str:
    corners = torch.tensor([[100.0, 100.0], [300.0, 100.0], [300.0, 500.0], [100.0, 500.0]])
    lying = torch.tensor([[250.0, 50.0], [250.0, 150.0], [50.0, 150.0], [50.0, 50.0]])
    expected = torch.tensor([[0.0, -0.5, 300.0], [0.5, 0.0, 0.0]])
    face = torch.tensor([70.0, 80.0]) * uniform(68, 2, seed=20) + torch.tensor([80.0, 70.0])
    degrees = torch.tensor([3.0, -25.0, 120.0, 180.0])
    turns = camera.axis_angle_to_matrix(F.pad(torch.deg2rad(degrees)[:, None], (2, 0)))[:, :2, :2]
    photos = [
        factor * (face - 112) @ turn.mT + torch.tensor(place) + factor * normal(68, 2, seed=21)
        for turn, factor, place in zip(
            turns,
            (0.7, 4.0, 1.5, 0.1),
            ((230.0, 140.0), (3100.0, 2200.0), (400.0, 900.0), (90.0, 30.0)),
            strict=True,
        )
    ]
    with attempt.part("by hand"):
        attempt.case(HAND, (corners, lying), expected=expected)
        what = "crop_similarity of landmarks that are in their places already"
        attempt.case(what, (lying, lying), expected=torch.eye(2, 3), atol=2e-3)
    with attempt.part("68 landmarks"):
        hint = "Take both means off first: beside thousands, float32 loses what is small."
        for photo, turn in zip(photos, degrees, strict=True):
            what = f"crop_similarity of 68 landmarks, in a photo that is turned by {turn:g} degrees"
            attempt.case(what, (photo, face), hint)
    with attempt.part("points that do not fit"):
        mirrored = torch.tensor([448.0, 0.0]) + corners * torch.tensor([-1.0, 1.0])
        attempt.case("crop_similarity of a mirrored face", (mirrored + face[:4] / 4, corners))
        wide = photos[1] * torch.tensor([1.0, 1.6])
        attempt.case("crop_similarity of a face that is stretched", (wide, face))
    with attempt.part("few points and layouts"):
        attempt.case("crop_similarity of two points", (photos[2][:2], face[:2]))
        line = torch.tensor([[40.0, 80.0], [90.0, 80.0], [200.0, 80.0]])
        attempt.case("crop_similarity of three points in a row", (line, photos[0][:3]))
        attempt.case(
            "crop_similarity of 51 points, not contiguous", strided(photos[0][:51], face[17:])
        )
        double = photos[1].double() + 1e5, face.double()
        attempt.case("crop_similarity in float64", double, atol=1e-7, rtol=1e-7)
    return "photos upright, lying and upside down, and points that do not fit"


Rotations = Float[Tensor, "batch 3 3"]
Scales, Pixels = Float[Tensor, " batch"], Float[Tensor, "batch 2"]
DOWN = torch.tensor([1.0, -1.0])  # from x and y, upwards, to u and v, downwards


def orthographic_pose(
    points: Float[Tensor, "point 3"], pixels: Float[Tensor, "batch point 2"]
) -> tuple[Rotations, Scales, Pixels]:
    """Rotation, pixels per mm, and the pixel of the model's origin."""
    rotation, per_mm, shift = camera.orthographic_pose(points, pixels * DOWN)
    return rotation, per_mm, shift * DOWN


def flat_pixels(
    points: Float[Tensor, "point 3"], rotation: Rotations, per_mm: Scales, shift: Pixels
) -> Float[Tensor, "batch point 2"]:
    """The scaled orthographic camera."""
    return per_mm[:, None, None] * (points @ rotation.mT)[..., :2] * DOWN + shift[:, None]


def pose_but(*, shift_follows: bool = False, **change):
    """The closed form with parts changed: change(the three, points, pixels).

    shift_follows: the shift is the one that belongs to the changed parts.
    """

    def pose_from_landmarks(points, pixels):
        parts = orthographic_pose(points, pixels)
        pose = dict(zip(("rotation", "per_mm", "shift"), parts, strict=True))
        pose |= {name: new(parts, points, pixels) for name, new in change.items()}
        if shift_follows:
            pose["shift"] += (pixels - flat_pixels(points, **pose)).mean(1)
        return tuple(pose.values())

    return pose_from_landmarks


def least_squares(pose, points, pixels) -> Rotations:
    """The fitted rows as they are, not the rotation nearest to them."""
    centred, seen = points - points.mean(0), pixels - pixels.mean(1, keepdim=True)
    rows = torch.linalg.lstsq(centred.expand(len(seen), -1, -1), seen * DOWN).solution.mT
    rows = rows / pose[1][:, None, None]
    return torch.cat([rows, torch.linalg.cross(rows[:, :1], rows[:, 1:])], 1)


@exercise_check(
    stand_in=orthographic_pose,
    mistakes={
        "rotation is transposed: its first two ROWS are what the camera sees as right and "
        "up.": pose_but(rotation=lambda pose, p, x: pose[0].mT),
        "The second row has its sign flipped: v counts down and the model's y up. Turn the pixels' "
        "v around before you fit.": camera.orthographic_pose,
        "The third row points into the head (determinant -1: a mirror). It is the first row cross "
        "the second, in this order.": pose_but(
            rotation=lambda pose, p, x: pose[0] * torch.tensor([[1.0], [1.0], [-1.0]])
        ),
        "per_mm is twice what it should be: the MEAN of the two singular values, not their sum.": (
            pose_but(per_mm=lambda pose, p, x: 2 * pose[1], shift_follows=True),
            pose_but(per_mm=lambda pose, p, x: 2 * pose[1]),
        ),
        "per_mm is upside down: mm per pixel. Expected pixels per mm.": (
            pose_but(per_mm=lambda pose, p, x: 1 / pose[1], shift_follows=True),
            pose_but(per_mm=lambda pose, p, x: 1 / pose[1]),
        ),
        "shift is the mean pixel. The points' own mean is not the origin, so the mean pixel is "
        "where that mean is seen: take the turned, scaled, flipped mean of the points off "
        "it.": pose_but(shift=lambda pose, p, x: x.mean(1)),
        "shift is measured upwards: v counts down. Turn its sign back.": pose_but(
            shift=lambda pose, p, x: pose[2] * DOWN
        ),
        "With noise of 3 pixels on the landmarks, rotation is no rotation any more: R times its "
        "transpose is not the identity. Take the nearest rotation, by the "
        "SVD.": pose_but(rotation=least_squares, shift_follows=True),
    },
    parts={
        "rotation": dict(axes=IN_MATRIX, atol=1e-3),
        "per_mm": dict(
            axes=("batch",), atol=1e-3, hint="It is the mean of the two singular values."
        ),
        "shift": dict(axes=("batch", "u or v"), atol=3e-2),
    },
    points=3,
)
def pose_from_landmarks(attempt) -> str:
    points = 30 * normal(9, 3, seed=10) + torch.tensor([4.0, -15.0, 12.0])
    vectors = torch.tensor([[0.0, 0.0, 0.0], [0.3, -0.5, 0.2], [-0.2, 0.9, -0.4]])
    rotation, per_mm = camera.axis_angle_to_matrix(vectors), torch.tensor([1.0, 1.3, 0.7])
    shift = torch.tensor([[112.0, 112.0], [90.0, 130.0], [140.0, 60.0]])
    poses = rotation, per_mm, shift
    pixels = flat_pixels(points, *poses)
    noisy, call = pixels + 3 * normal(3, 9, 2, seed=11), "pose_from_landmarks(points, pixels)"
    with attempt.part("exact pixels"):
        got = attempt.trial(call)(points, pixels)
        same_length(f"(rotation, per_mm, shift) = {call}", got, poses)
        if like(got[0], rotation):
            rows = torch.isclose(got[0], rotation, atol=1e-3).all(-1)
            if rows[:, :2].all() and not rows[:, 2].all():
                raise Wrong(
                    "The first two rows are right; the third is not: it is square to both, and of "
                    "unit length."
                )
        attempt.close(call, got, poses)
    with attempt.part("noise and shear"):
        hint = "With noise the three steps of the docstring decide the answer."
        attempt.case(f"{call}, for noisy pixels", (points, noisy), hint)
        sheared = pixels @ torch.tensor([[1.0, 0.2], [0.1, 1.6]])
        hint = "The nearest rotation is U Vᵀ; the scale is the mean of both singular values."
        attempt.case(f"{call}, for pixels stretched and sheared", (points, sheared), hint)
    with attempt.part("batches and layouts"):
        more, last = 40 * normal(51, 3, seed=12), tuple(part[2:] for part in poses)
        what = f"{call}, for one face of 51 points"
        attempt.case(what, (more, flat_pixels(more, *last)), expected=last)
        others = strided(points.flip(0) + 8, noisy.flip(0) - 7)
        attempt.case(f"{call}, for other points and pixels, not contiguous", others)
    with attempt.part("near and far"):
        six = torch.cat([normal(5, 3, seed=16), torch.tensor([[0.0, 2.5, 0.0]])])
        rotation = camera.axis_angle_to_matrix(torch.cat([torch.zeros(1, 3), six]))
        scales, shift = torch.linspace(0.2, 2.1, 7), 112 + 90 * normal(7, 2, seed=17)
        marks = 40 * normal(68, 3, seed=18) + torch.tensor([0.0, -20.0, 60.0])
        marks -= marks[:51].mean(0)
        options = {"rotation": dict(atol=1e-3), "per_mm": dict(atol=1e-4), "shift": dict(atol=3e-2)}
        poses = rotation, scales, shift
        inputs, what = (marks, flat_pixels(marks, *poses)), f"{call}, 68 points, 200 to 2,000 mm"
        attempt.case(what, inputs, expected=poses, parts=options)
        inputs = marks, inputs[1] + normal(7, 68, 2, seed=19)
        attempt.case(f"{what}, noisy", inputs, parts=options)
        four, one = marks[:4], tuple(part[2:3] for part in poses)
        inputs, what = (four, flat_pixels(four, *one)), f"{call}, for one face of 4 points"
        attempt.case(what, inputs, expected=one, parts=options)
    return "three poses found exactly, and the least-squares one under noise"


Vector, Size = Float[Tensor, "3"], tuple[int, int]


def seen_at(
    points: Float[Tensor, "point 3"], rotation: Vector, translation: Vector, fov: float, size: Size
) -> Marks:
    """Where points of the model are seen from a pose of scale 1, in pixels."""
    posed = camera.pose(points, rotation, points.new_ones(1), translation)
    return pixels_of(posed, fov, size)


def refined(residuals=lambda seen, pixels, depth: seen - pixels):
    """The pose of least squares of `residuals`, by MINPACK's Levenberg-Marquardt, in float64."""

    def pose_under_perspective(points, pixels, fov_deg, image_size, rotation, translation):
        from scipy.optimize import least_squares  # slow to import

        exact, target = points.double(), pixels.double()

        def miss(pose):
            where = torch.from_numpy(pose).split(3)
            depth = camera.pose(exact, where[0], exact.new_ones(1), where[1])[:, 2:]
            seen = seen_at(exact, *where, fov_deg, image_size)
            return residuals(seen, target, depth).flatten().numpy()

        start = torch.cat([rotation, translation]).double().numpy()
        tight = dict(method="lm", xtol=1e-12, ftol=1e-12, gtol=1e-12)
        pose = torch.from_numpy(least_squares(miss, start, **tight).x).to(translation)
        return pose[:3], pose[3:]

    return pose_under_perspective


perspective_pose = refined()


def some_steps(steps: int, keep=lambda old, new: new):
    """Steps of Gauss-Newton without a brake. keep(old, new): what is taken of a step's pose."""

    def pose_under_perspective(points, pixels, fov_deg, image_size, rotation, translation):
        def miss(pose):
            return (seen_at(points, pose[:3], pose[3:], fov_deg, image_size) - pixels).flatten()

        pose = torch.cat([rotation, translation])
        for _ in range(steps):
            jacobian = torch.autograd.functional.jacobian(miss, pose, vectorize=True)
            pose = keep(
                pose, pose - torch.linalg.lstsq(jacobian, miss(pose)[:, None]).solution[:, 0]
            )
        return pose[:3], pose[3:]

    return pose_under_perspective


NEAR = "pose_under_perspective of a head 180 mm away"


@exercise_check(
    stand_in=perspective_pose,
    mistakes={
        f"{NEAR}: the start comes back as it was. Was no step an improvement? The step that "
        "lowers the distances solves (J^T J) step = -J^T miss.": lambda p, x, f, n, r, t: (r, t),
        f"{NEAR}: that is one step of Gauss-Newton. The picture is not linear in the pose: take "
        "the Jacobian anew and step again, until nothing changes.": some_steps(1),
        f"{NEAR}: the rotation stays as it was. All six numbers are unknown.": some_steps(
            6, lambda old, new: torch.cat([old[:3], new[3:]])
        ),
        f"{NEAR}: the translation stays as it was. All six numbers are unknown.": some_steps(
            6, lambda old, new: torch.cat([new[:3], old[3:]])
        ),
        "With noise yours is another pose: its equations are multiplied by the depth, so what "
        "is far weighs more. The distances are those in the picture, in pixels.": refined(
            lambda seen, pixels, depth: (seen - pixels) * depth
        ),
    },
    parts={
        "rotation": dict(axes=("x, y, z",), atol=1e-3),
        "translation": dict(axes=("x, y, z",), atol=0.05, rtol=1e-3),
    },
    points=3,
    challenge=True,
)
def pose_under_perspective(attempt) -> str:
    points = torch.tensor([60.0, 70.0, 40.0]) * (2 * uniform(68, 3, seed=22) - 1)
    lens, call = (30.0, (224, 224)), "pose_under_perspective"
    turned = torch.tensor([[0.1, 0.35, 0.0], [-0.3, -0.8, 0.2], [0.0, 1.3, 0.1]])
    away = torch.tensor([[0.0, 0.0, 180.0], [12.0, -20.0, 420.0], [-40.0, 30.0, 1900.0]])
    nearby = turned + 0.1 * normal(3, 3, seed=23), away + 10 * normal(3, 3, seed=24)

    def starts():
        return zip(turned, away, *nearby, strict=True)

    with attempt.part("exact pixels"):
        for r, t, *start in starts():
            what = f"{call} of a head {t[2]:.0f} mm away"
            attempt.case(what, (points, seen_at(points, r, t, *lens), *lens, *start))
        r, t = turned[0], away[0]
        what = f"{call} from the right pose itself"
        attempt.case(what, (points, seen_at(points, r, t, *lens), *lens, r, t), expected=(r, t))
    with attempt.part("noisy pixels"):
        for i, (r, t, *start) in enumerate(starts()):
            noisy = seen_at(points, r, t, *lens) + 2 * normal(68, 2, seed=25 + i)
            what = f"{call} of a head {t[2]:.0f} mm away, for pixels with noise"
            attempt.case(what, (points, noisy, *lens, *start))
    with attempt.part("lenses, pictures and few points"):
        r, t, *start = next(starts())
        for fov, size in ((70.0, (300, 160)), (12.0, (100, 481))):
            inputs = points, seen_at(points, r, t, fov, size), fov, size, *start
            attempt.case(f"{call} with a field of view of {fov:g}, {size}", inputs)
        few = strided(points[:4], seen_at(points[:4], r, t, *lens))
        attempt.case(f"{call} of 4 points, not contiguous", (*few, *lens, *start))
    with attempt.part("a start far off"):
        still, far = torch.zeros(3), torch.tensor([0.0, 0.0, 3000.0])
        for r, t in zip(turned[:2], away[:2], strict=True):
            pixels = seen_at(points, r, t, *lens)
            what = f"{call} of a head {t[2]:.0f} mm away, from an unturned start 3,000 mm away"
            got = attempt.trial(what)(points, pixels, *lens, still, far)
            same_length(f"(rotation, translation) = {what}", got, (r, t))
            missed = like(got[0], r) and (seen_at(points, *got, *lens) - pixels).norm()
            if (
                isinstance(got[0], Tensor)
                and not missed <= (seen_at(points, still, far, *lens) - pixels).norm()
            ):
                raise Wrong(
                    f"{what}: yours ends further off than it began. From afar a step overshoots, "
                    "the head passes through the camera, and there is no way back. Take a step "
                    "only where it lowers the distances; where it does not, try a shorter one."
                )
            attempt.close(what, got, (r, t))
    return "near and far, with noise, and from 3 m away"


Depths = Float[Tensor, "batch height width"]


def depth_test(
    *,
    pixel=torch.floor,
    of=lambda points: points[..., 2],
    place=lambda column, row, depth: (column, row),
    inside=lambda column, row, height, width: (
        (column >= 0) & (column < width) & (row >= 0) & (row < height)
    ),
    hidden=lambda behind, tolerance: behind > tolerance,
):
    """The test by depth with one thing done otherwise."""

    def visible_points(points, depth, fov_deg, tolerance):
        height, width = depth.shape[1:]
        column, row = pixel(pixels_of(points, fov_deg, (height, width))).long().unbind(-1)
        there = inside(column, row, height, width)
        column, row = place(column, row, depth)
        row, column = row.clamp(0, height - 1), column.clamp(0, width - 1)
        surface = depth[torch.arange(len(depth))[:, None], row, column]
        return there & ~hidden(of(points) - surface, tolerance)

    return visible_points


def before_walls(
    batch: int, count: int, size: Size, fov: float, tolerance: float, seed: int
) -> tuple[Float[Tensor, "batch point 3"], Depths, float, float]:
    """Walls of uneven depth, and points before and behind them, some out of the picture; none so
    near to a decision that rounding would make it."""
    height, width = size
    depth = 300 + 40 * uniform(batch, height, width, seed=seed)
    share = 1.4 * uniform(batch, count, 2, seed=seed + 1) - 0.2
    corner = (share * torch.tensor([width, height])).floor()
    pixel = corner + 0.1 + 0.8 * uniform(batch, count, 2, seed=seed + 2)
    column, row = corner.long().unbind(-1)
    column, row = column.clamp(0, width - 1), row.clamp(0, height - 1)
    surface = depth[torch.arange(batch)[:, None], row, column]
    behind = 25 * (2 * uniform(batch, count, seed=seed + 3) - 1) ** 3
    z = surface + tolerance + behind + 0.02 * behind.sign()
    per_mm = min(size) / 2 / math.tan(math.radians(fov) / 2) / z[..., None]
    beside = (torch.tensor([width / 2, height / 2]) - pixel) / per_mm
    return torch.cat([beside, z[..., None]], -1), depth, fov, tolerance


WALL = "visible_points of six points before a wall 300 mm away"
PILLAR = "visible_points of points beside and behind a pillar"


@exercise_check(
    stand_in=visibility.visible_points,
    mistakes={
        f"{WALL} says hidden for visible and visible for hidden: what is behind the surface is "
        "hidden.": depth_test(hidden=lambda behind, tolerance: behind <= tolerance),
        f"{WALL}: a point 4 mm behind it is hidden. The tolerance of 5 mm should save it, or every "
        "rim of a lid is hidden by its own fold.": (
            depth_test(hidden=lambda behind, tolerance: behind > 0),
            depth_test(hidden=lambda behind, tolerance: behind >= 0),
        ),
        f"{WALL}: a point 100 mm before it is hidden. Only what lies behind the surface can be: "
        "the difference has a sign.": depth_test(
            hidden=lambda behind, tolerance: behind.abs() > tolerance
        ),
        f"{PILLAR} reads the map at (u, v): a picture's rows come first, so the row is v and the "
        "column u.": depth_test(
            place=lambda column, row, depth: (
                row.clamp(0, depth.shape[2] - 1),
                column.clamp(0, depth.shape[1] - 1),
            )
        ),
        f"{PILLAR} rounds to the nearest whole number. Pixel i goes from i to i + 1, so 139.7 lies "
        "in pixel 139.": depth_test(pixel=torch.round),
        f"{PILLAR} compares the distance from the camera with a depth. The map holds Z, and away "
        "from the axis the distance is longer.": depth_test(of=lambda points: points.norm(dim=-1)),
        "A point beside the picture counts as visible. Where the map is clamped to its edge, say "
        "of each point whether it was inside before.": depth_test(
            inside=lambda column, row, height, width: torch.ones_like(row, dtype=torch.bool)
        ),
        "A point left of the picture counts as visible, as if it lay in the first pixel. Cutting "
        "off the digits makes 0 of -0.4: take the floor first.": depth_test(pixel=torch.trunc),
        "Every face is tested against the first face's map.": lambda p, d, fov, t: (
            visibility.visible_points(p, d[:1].expand_as(d), fov, t)
        ),
    },
    axes=("face", "point"),
    points=2,
)
def visible_points(attempt) -> str:
    call = "visible_points(points, depth, fov_deg, tolerance)"
    wall, lens = torch.full((1, 100, 200), 300.0), (90.0, 5.0)
    depths = torch.tensor([300.0, 304.0, 305.0, 306.0, 340.0, 200.0])
    points = F.pad(depths[:, None], (2, 0))[None]
    with attempt.part("by hand"):
        expected = torch.tensor([[True, True, True, False, False, True]])
        hint = "They lie 0, 4, 5, 6 and 40 mm behind it, and 100 mm before it."
        attempt.case(WALL, (points, wall, *lens), hint, expected=expected)
        pillar = wall.clone()
        pillar[:, 60:, 120:140] = 250.0
        u, v, z = torch.tensor([
            [130.0, 80.0, 290.0], [130.0, 40.0, 290.0], [80.0, 80.0, 290.0], [139.7, 80.0, 290.0],
            [119.7, 80.0, 290.0], [140.3, 80.0, 290.0], [130.0, 59.7, 290.0], [130.0, 60.3, 290.0],
            [130.0, 90.0, 252.0], [20.0, 10.0, 295.0],
        ]).T  # fmt: skip
        beside = torch.stack([(100 - u) / 50 * z, (50 - v) / 50 * z, z], -1)[None]
        attempt.case(PILLAR, (beside, pillar, *lens))
    with attempt.part("the edges"):
        u = torch.tensor([0.3, 0.7, 199.3, 199.7, -0.4, -30.0, 200.4, 250.0, *[100.0] * 6])
        v = torch.tensor([*[50.0] * 8, 0.3, 99.7, -0.4, -30.0, 100.4, 170.0])
        edge = torch.stack([(100 - u) / 50 * 300, (50 - v) / 50 * 300, 0 * u + 300], -1)[None]
        hint = "What is beside the picture is not visible."
        attempt.case(f"{call} of points at the picture's edges", (edge, wall, *lens), hint)
        hint = "Where there is no surface, the map is inf, and nothing hides a point."
        empty = torch.full_like(wall, torch.inf)
        attempt.case(f"{call} before an empty map", (points, empty, *lens), hint)
        tall = before_walls(1, 90, (120, 40), 50.0, 5.0, seed=60)
        attempt.case(f"{call} in a picture that is taller than wide", tall)
    with attempt.part("batches"):
        for batch, count, size, fov, tolerance, seed in (
            (3, 68, (90, 90), 30.0, 5.0, 61),
            (2, 40, (50, 110), 60.0, 1.0, 62),
            (1, 1, (30, 20), 30.0, 5.0, 63),
            (4, 4, (4, 4), 12.0, 0.0, 64),
        ):
            what = f"{call}, {count} points of {batch} faces, {size[0]} x {size[1]} pixels"
            attempt.case(what, before_walls(batch, count, size, fov, tolerance, seed))
        points, depth, *others = before_walls(2, 60, (70, 80), 30.0, 5.0, seed=65)
        attempt.case(f"{call}, not contiguous", (*strided(points, depth), *others))
    with attempt.part("a whole face"):
        what = f"{call} of 3,437 vertices, 224 x 224 pixels"
        attempt.case(what, before_walls(1, 3437, (224, 224), 30.0, 5.0, seed=66))
        attempt.case(f"{what}, other walls", before_walls(1, 3437, (224, 224), 30.0, 12.0, seed=70))
    return "before walls, behind pillars, and beside the picture"
