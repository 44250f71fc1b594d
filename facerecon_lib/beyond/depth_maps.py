"""Depth maps of a face: from depth to normals, and from heights over a base face to its mesh.

    maps = base_maps(base)                               # depth, normals, mask of the base face
    normals = normals_from_depth(raised_depth(maps, height, scale), maps.mask)
    displacement = displacement_map(maps, height, base)  # (B, 3, 224, 224) mm, model frame

A height is in mm of the face model, out of the base face along its normals. Notebook 13.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ..augmented.branch import BaseFaces
from ..data.rendered.faces import flattened
from ..face.batch import FaceBatch
from ..face.camera import (
    CROP_SIZE,
    DEFAULT_FOV,
    axis_angle_to_matrix,
    pixels_to_ndc,
    pose,
)
from ..face.measures import similarity_align
from ..face.mesh import vertex_normals
from ..rendering.renderer import render

LEAST_FACING = 0.3
"""Cosine between normal and ray; below it a height is taken as on a slope of that cosine."""

Map = Float[Tensor, "batch 1 height width"]


@dataclass(eq=False)
class DepthMaps:
    """A face as the camera sees it; 0 beyond the mask."""

    depth: Map  # mm before the camera
    normals: Float[Tensor, "batch 3 height width"]  # viewer axes, unit
    skin: Map  # 0 to 1: what may have wrinkles
    mask: Map


def pixel_rays(
    size: int, fov_deg: float = DEFAULT_FOV, *, like: Tensor
) -> Float[Tensor, "3 size size"]:
    """The points at depth 1 of the rays through the pixels' centres, camera axes."""
    steps = torch.arange(size, dtype=like.dtype, device=like.device) + 0.5
    pixels = torch.stack(torch.meshgrid(steps, steps, indexing="xy"), -1)
    slopes = pixels_to_ndc(pixels, size) * math.tan(math.radians(fov_deg) / 2)
    return torch.cat([slopes, torch.ones_like(slopes[..., :1])], -1).permute(2, 0, 1)


def normals_from_depth(
    depth: Map, mask: Map, fov_deg: float = DEFAULT_FOV
) -> Float[Tensor, "batch 3 height width"]:
    """Unit normals in viewer axes of the surface in a depth map; differentiable in the depth.

    The pixels' points in space are `depth` (mm) times the rays through their centres. A tangent is
    the mean of the differences to the two neighbours in a row (column), of those inside the mask;
    a pixel without a neighbour in a row or column, or outside the mask, has the normal 0.
    """
    points = depth * pixel_rays(depth.shape[-1], fov_deg, like=depth)
    across, down = (_difference(points, mask, axis) for axis in (3, 2))
    normals = (
        torch.linalg.cross(down, across, dim=1)
        * points.new_tensor([-1.0, 1.0, -1.0])[:, None, None]
    )
    return F.normalize(normals, dim=1, eps=1e-9) * mask


def _difference(points: Tensor, mask: Map, axis: int) -> Tensor:
    """Mean of the steps from and to the neighbours along an axis; 0 where there are none."""
    size = points.shape[axis]
    step = points.diff(dim=axis)
    both = mask.narrow(axis, 1, size - 1) * mask.narrow(axis, 0, size - 1)
    total = [0, 0] * (3 - axis)
    before, after = [*total, 1, 0], [*total, 0, 1]
    step = step * both
    count = F.pad(both, before) + F.pad(both, after)
    return (F.pad(step, before) + F.pad(step, after)) / count.clamp(min=1)


@torch.no_grad()
def base_maps(base: BaseFaces, size: int = CROP_SIZE) -> DepthMaps:
    """The base face's maps; skin is the model's, without lips, lids' rims and the mesh's border."""
    face, regions = base.face, base.face.model.regions
    inside = torch.maximum(regions["eyeballs"], regions["mouth_interior"])
    skin = regions["skin"] * (1 - regions["border"]) * (1 - inside)
    attributes = [face.v_camera[..., 2:], face.normals, skin[None, :, None].expand_as(face.albedo)]
    image, mask = face.render(size, attributes=torch.cat(attributes, -1)[..., :5], near=None)
    return DepthMaps(image[:, :1], F.normalize(image[:, 1:4], dim=1), image[:, 4:], mask)


@torch.no_grad()
def true_height(batch: FaceBatch, base: BaseFaces, size: int = CROP_SIZE) -> tuple[Map, Map]:
    """Of rendered faces: the height of the true face over the base, mm, and where it is known.

    What the bases lack (wrinkles, bumps) lies where the photo shows it, under the true camera with
    its flat lens. How far the base is off otherwise lies on the base's vertices: a photo does not
    tell it, up to a similarity, and the base's pixels are a millimetre or two beside the photo's.
    """
    t, face = batch.truth, base.face
    model = face.model
    smooth = model.shape(t.identity, t.expression)
    lacking = batch.true_vertices - smooth
    detail = (lacking * vertex_normals(smooth, model.faces)).sum(-1, keepdim=True)
    seen = pose(batch.true_vertices, t.rotation, t.scale, t.translation)
    place = flattened(seen, t, batch.flatness)
    image, mask = render(place, model.faces, detail, size, near=None)
    off = similarity_align(smooth, face.vertices) - face.vertices
    off = (off * vertex_normals(face.vertices, model.faces)).sum(-1, keepdim=True)
    rest, own = face.render(size, attributes=off, near=None)
    return image + rest, mask * own * batch.valid


def facing(maps: DepthMaps) -> Map:
    """Cosine between normal and ray, LEAST_FACING at least."""
    rays = F.normalize(pixel_rays(maps.depth.shape[-1], like=maps.depth), dim=0)
    rays = rays * rays.new_tensor([1.0, -1.0, 1.0])[:, None, None]  # viewer axes, to the viewer
    return (maps.normals * rays).sum(1, keepdim=True).clamp(min=LEAST_FACING)


def raised_depth(maps: DepthMaps, height: Map, scale: Float[Tensor, "batch 1"]) -> Map:
    """The depth of the base face with a height on it: along a ray it is longer on a slope."""
    return maps.depth - scale[..., None, None] * height / facing(maps)


def displacement_map(
    maps: DepthMaps, height: Map, base: BaseFaces
) -> Float[Tensor, "batch 3 height width"]:
    """Heights as vectors of the model's frame, mm."""
    turn = axis_angle_to_matrix(base.coefficients.rotation)
    return height * torch.einsum("bji,bjhw->bihw", turn, maps.normals)
