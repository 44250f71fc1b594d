"""Which vertices the viewer sees, and how deep the surface lies in each pixel.

    seen = visible_vertices(face)                        # (B, V), 1 or 0
    depth = texel_depth(face)                            # (B, 1, 224, 224), mm
    seen = visible_points(points, depth[:, 0])           # (B, N), of points that are no vertices

Notebook 02, section 2.1, and notebook 07, section 2.2.
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from ..face.camera import CROP_SIZE, DEFAULT_FOV, ndc_to_pixels, pixels_to_ndc, project_ndc
from ..face.device_constants import constant
from .renderer import DEPTH_MARGIN
from .synthesis import Face

DEPTH_TOLERANCE = 0.5
"""How far before a vertex's tangent plane, in mm, a surface has to lie to hide the vertex."""

POINT_TOLERANCE = 5.0
"""The same for a landmark, before the landmark itself: rims of lids and lips lie in folds."""

LEAST_FACING = 0.2
"""Cosine between normal and direction to the viewer from which a vertex faces the viewer."""

_CORNERS = ((0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (1.0, 1.0))  # x, y of the texels around a point


def texel_depth(
    face: Face, size: int = CROP_SIZE, frame: str = "camera"
) -> Float[Tensor, "batch 1 size size"]:
    """The depth of the face's surface at each texel, for `map_sampling.sample_hyperbolic`.

    frame: "camera", mm before the camera; "object", mm behind the middle of the head's vertices;
    "clip", far / (far - near) · (1 - near / z), with planes a tenth of the head's depth before and
    behind it. Texels that show no face have the depth of the farthest vertex. Differentiable in the
    face, with its middle and the planes fixed.
    """
    z = face.v_camera[..., 2]
    low, high = z.detach().aminmax(dim=1, keepdim=True)
    if frame == "object":
        z = z - z.detach().mean(1, keepdim=True)
    elif frame == "clip":
        margin = DEPTH_MARGIN * (high - low)
        near, far = low - margin, high + margin
        z = far / (far - near) * (1 - near / z)
    elif frame != "camera":
        raise ValueError(f"frame {frame!r}: expected 'camera', 'object' or 'clip'")
    depth, mask = face.render(size, attributes=z[..., None], near=None)
    farthest = z.detach().amax(1)[:, None, None, None]
    return torch.where(mask > 0, depth, farthest)


@torch.no_grad()
def visible_vertices(face: Face, size: int = CROP_SIZE) -> Float[Tensor, "batch vertex"]:
    """1 where a vertex faces the viewer and nothing lies before what it would read, else 0.

    A vertex is hidden as soon as one of the four texels around it, of a map `size` pixels wide,
    shows a surface before the vertex's own tangent plane.
    """
    ndc = project_ndc(face.v_camera, face.fov_deg)
    depth, mask = face.render(size, attributes=ndc[..., 2:], near=None)
    depth = torch.where(mask > 0, depth, torch.inf).flatten(1)

    corners = constant(_CORNERS, ndc.dtype, ndc.device)
    texels = (ndc_to_pixels(ndc, size) - 0.5).floor()[:, :, None] + corners
    inside = texels.clamp(0, size - 1)
    x, y = inside.long().unbind(-1)
    surface = depth.gather(1, (y * size + x).flatten(1)).view_as(x)

    normals = face.normals * constant((-1.0, 1.0, -1.0), ndc.dtype, ndc.device)  # camera axes
    facing = -(normals * F.normalize(face.v_camera, dim=-1)).sum(-1)
    # Depth of the tangent plane on the ray (slope x, slope y, 1) through each texel's centre
    slopes = pixels_to_ndc(inside + 0.5, size) * math.tan(math.radians(face.fov_deg) / 2)
    along = (normals[:, :, None, :2] * slopes).sum(-1) + normals[..., 2:]
    plane = (normals * face.v_camera).sum(-1, keepdim=True) / along.clamp(max=-1e-6)
    clear = (surface > plane - DEPTH_TOLERANCE) & (texels == inside).all(-1)
    return (clear.all(-1) & (facing > LEAST_FACING)).to(ndc.dtype)


@torch.no_grad()
def visible_points(
    points: Float[Tensor, "batch point 3"],
    depth: Float[Tensor, "batch height width"],
    fov_deg: float = DEFAULT_FOV,
    tolerance: float = POINT_TOLERANCE,
) -> Bool[Tensor, "batch point"]:
    """Whether each point lies in the picture and no surface more than `tolerance` before it.

    points: camera frame, mm, before the camera. depth: of the surface in each pixel, mm, of any
    depth behind the face where there is none.
    """
    height, width = depth.shape[1:]
    column, row = ndc_to_pixels(project_ndc(points, fov_deg), (height, width)).floor().unbind(-1)
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    pixel = row.clamp(0, height - 1) * width + column.clamp(0, width - 1)
    return inside & (points[..., 2] - depth.flatten(1).gather(1, pixel.long()) <= tolerance)
