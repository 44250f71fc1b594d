"""From the face model's frame to pixels: pose, then a perspective camera of 30 degrees.

    v_camera = pose(v_model, rotation, scale, translation)      # (B, V, 3) mm
    ndc = project_ndc(v_camera)                                 # (B, V, 3): NDC x, NDC y, camera z
    pixels = ndc_to_pixels(ndc, 224)                            # (B, V, 2)

Model frame: mm, +x to the viewer's right, +y up, +z out of the face.
Camera frame, as PyTorch3D's: mm, +X left, +Y up, +Z into the screen.
NDC, as PyTorch3D's: the image's shorter side spans [-1, 1], +x left, +y up.
Pixels are continuous, from the top left: pixel i covers [i, i + 1), its centre is at i + 0.5.
Notebook 02, section 2.1.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from .device_constants import constant
from .shapes import expect

CROP_SIZE = 224
"""Side in pixels of the aligned crop, and of the renderings that are compared with it."""

DEFAULT_FOV = 30.0
"""Field of view across the image's shorter side, in degrees (section 2.1 of the report)."""

_HALF_TURN = ((-1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, -1.0))

MODEL_TO_CAMERA = torch.tensor(_HALF_TURN)
"""Half a turn about y: the viewer's right is the camera's -X, out of the face is its -Z."""

_SERIES_BELOW = 1e-3  # angle squared; the first missing term of the series is then under 1e-17


def axis_angle_to_matrix(axis_angle: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3 3"]:
    """Rotation matrix of an axis-angle vector (radians): Rodrigues' formula.

    R = I + (sin t / t) K + ((1 - cos t) / t^2) K^2, with K the vector's cross-product matrix and t
    its length. Near zero both factors come from their series, for right values and gradients.
    """
    expect("axis_angle", axis_angle, "... 3")
    squared = axis_angle.square().sum(-1)
    small = squared < _SERIES_BELOW
    # The branch that `where` drops must not hold a nan: its gradient would be nan times zero.
    angle = torch.where(small, torch.ones_like(squared), squared).sqrt()
    sine = torch.where(
        small, 1 - squared / 6 + squared**2 / 120 - squared**3 / 5040, angle.sin() / angle
    )
    cosine = torch.where(
        small,
        0.5 - squared / 24 + squared**2 / 720 - squared**3 / 40320,
        2 * ((angle / 2).sin() / angle) ** 2,  # 1 - cos t without the cancellation
    )
    x, y, z = axis_angle.unbind(-1)
    zero = torch.zeros_like(x)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).unflatten(-1, (3, 3))
    identity = torch.eye(3, dtype=axis_angle.dtype, device=axis_angle.device)
    return identity + sine[..., None, None] * cross + cosine[..., None, None] * (cross @ cross)


def matrix_to_axis_angle(matrix: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch 3"]:
    """Axis-angle vector (radians, length in [0, pi]) of a rotation matrix.

    Through the unit quaternion, read off its largest component: accurate at every angle, and
    differentiable everywhere but at pi, where the axis flips.
    """
    expect("matrix", matrix, "... 3 3")
    (a, b, c), (d, e, f), (g, h, i) = (row.unbind(-1) for row in matrix.unbind(-2))
    # Four times the quaternion's outer product with itself (w, x, y, z).
    x, y, z, xy, xz, yz = h - f, c - g, d - b, b + d, c + g, f + h
    first, second = (1 + a + e + i, x, y, z), (x, 1 + a - e - i, xy, xz)
    third, fourth = (y, xy, 1 - a + e - i, yz), (z, xz, yz, 1 - a - e + i)
    outer = torch.stack([*first, *second, *third, *fourth], -1).unflatten(-1, (4, 4))
    largest = outer.diagonal(dim1=-2, dim2=-1).argmax(-1)
    row = outer.gather(-2, largest[..., None, None].expand(*largest.shape, 1, 4)).squeeze(-2)
    quaternion = torch.nn.functional.normalize(row, dim=-1)
    quaternion = torch.where(quaternion[..., :1] < 0, -quaternion, quaternion)
    real, imaginary = quaternion[..., 0], quaternion[..., 1:]
    squared = imaginary.square().sum(-1)
    small = squared < _SERIES_BELOW
    length = torch.where(small, torch.ones_like(squared), squared).sqrt()
    # atan2(s, w) / s = asin(s) / s on the unit quaternion
    ratio = torch.where(
        small,
        1 + squared / 6 + 3 * squared**2 / 40 + 15 * squared**3 / 336,
        torch.atan2(length, real) / length,
    )
    return 2 * ratio[..., None] * imaginary


def pose(
    vertices: Float[Tensor, "batch vertex 3"],
    rotation: Float[Tensor, "batch 3"],
    scale: Float[Tensor, "batch 1"],
    translation: Float[Tensor, "batch 3"],
) -> Float[Tensor, "batch vertex 3"]:
    """Model frame to camera frame: scale * MODEL_TO_CAMERA @ R(rotation) @ v + translation, in mm.

    The picture fixes only translation / scale.
    """
    expect("vertices", vertices, "... 3")
    expect("rotation", rotation, "... 3")
    expect("scale", scale, "... 1")
    expect("translation", translation, "... 3")
    half_turn = constant(_HALF_TURN, vertices.dtype, vertices.device)
    turn = scale[..., None] * (half_turn @ axis_angle_to_matrix(rotation))
    return vertices @ turn.transpose(-1, -2) + translation[..., None, :]


def project_ndc(
    v_camera: Float[Tensor, "*batch 3"], fov_deg: float = DEFAULT_FOV
) -> Float[Tensor, "*batch 3"]:
    """Camera frame (mm) to (NDC x, NDC y, camera z in mm): x = f X / Z with f = 1 / tan(fov / 2).

    The depth may have any sign: the rasterizer clips what lies behind the camera.
    """
    expect("v_camera", v_camera, "... 3")
    if not 0 < fov_deg < 180:
        raise ValueError(f"fov_deg: expected degrees between 0 and 180, got {fov_deg}")
    focal = 1 / math.tan(math.radians(fov_deg) / 2)
    depth = v_camera[..., 2:]
    return torch.cat([focal * v_camera[..., :2] / depth, depth], -1)


def ndc_to_pixels(
    ndc: Float[Tensor, "*batch coordinate"], image_size: int | tuple[int, int] = CROP_SIZE
) -> Float[Tensor, "*batch 2"]:
    """NDC x and y (further columns are dropped) to continuous pixels x, y from the top left."""
    half, centre = _half_and_centre(image_size, ndc)
    return centre - half * ndc[..., :2]


def pixels_to_ndc(
    pixels: Float[Tensor, "*batch 2"], image_size: int | tuple[int, int] = CROP_SIZE
) -> Float[Tensor, "*batch 2"]:
    """The inverse of `ndc_to_pixels`."""
    expect("pixels", pixels, "... 2")
    half, centre = _half_and_centre(image_size, pixels)
    return (centre - pixels) / half


def _half_and_centre(image_size: int | tuple[int, int], points: Tensor) -> tuple[float, Tensor]:
    """Pixels per unit of NDC, and the image's centre."""
    height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
    if height < 1 or width < 1:
        raise ValueError(f"image_size: expected an int or (height, width), got {image_size}")
    return min(height, width) / 2, constant((width / 2, height / 2), points.dtype, points.device)


def orthographic_pose(
    points: Float[Tensor, "point 3"], image_points: Float[Tensor, "batch point 2"]
) -> tuple[Float[Tensor, "batch 3 3"], Float[Tensor, " batch"], Float[Tensor, "batch 2"]]:
    """(rotation, scale, shift) of image_points = scale * (R @ points)[:2] + shift, y up.

    The 2 by 3 matrix of least squares, then the rotation nearest to it. Section 2.1.
    """
    middle, image_middle = points.mean(0), image_points.mean(1, keepdim=True)
    centred = (points - middle).expand(len(image_points), -1, -1)
    # The default driver starts from pivots that torch never sets: its last bits vary.
    affine = torch.linalg.lstsq(centred, image_points - image_middle, driver="gels").solution.mT
    u, spectrum, vh = torch.linalg.svd(affine, full_matrices=False)
    rows, scale = u @ vh, spectrum.mean(1)
    rotation = torch.cat([rows, torch.linalg.cross(rows[:, :1], rows[:, 1:])], 1)
    return rotation, scale, image_middle[:, 0] - scale[:, None] * (rows @ middle)
