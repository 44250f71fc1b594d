"""Offset maps to offsets of the vertices: what each vertex reads, and what a hidden one takes.

    offsets = sample_offsets(unet(photo, rendering), face)   # .texture, .displacement: (B, V, 3)
    vertices = face.vertices + offsets.displacement          # mm, model frame, before pose

The maps are aligned with the image (section 2.2): a vertex reads them where the base mesh projects
it. Behind the nose there is no map to read, so a hidden vertex takes what its mirror vertex reads,
if that one is seen, and else nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from .camera import ndc_to_pixels, project_ndc
from .constants import constant
from .map_sampling import sample_bilinear, sample_hyperbolic, texel_depth, visible_vertices
from .mesh import cached, neighbour_mean
from .morphable_model import MorphableModel
from .subdivision import edges
from .synthesis import Face
from .unet import OffsetMaps
from .uv_space import cylindrical_uv, unwrap, uv_exposed

__all__ = ["FADE_WIDTH", "SEAM_WIDTH", "VertexOffsets", "cylindrical_uv", "sample_bilinear"]
__all__ += ["sample_hyperbolic", "sample_offsets", "texel_depth", "unwrap", "visible_vertices"]

SEAM_WIDTH = 8.0
"""Over how many mm along the surface, where it begins to be seen, a vertex turns from its mirror
vertex's reading to its own."""

FADE_WIDTH = 30.0
"""How far offsets reach, fading, into what neither side shows: mm along the surface."""


@dataclass(eq=False)
class VertexOffsets:
    """What is added to the base face.

    texture: added to the albedo in [0, 1]. displacement: mm, model frame. seen: 1 where the vertex
    reads the maps itself, 0 where it takes what others have read, or nothing.
    """

    texture: Float[Tensor, "batch vertex 3"]
    displacement: Float[Tensor, "batch vertex 3"]
    seen: Float[Tensor, "batch vertex"]


def sample_offsets(
    maps: OffsetMaps, face: Face, sampling: str = "bilinear", space: str = "image"
) -> VertexOffsets:
    """What each vertex of the base mesh takes from the maps.

    A vertex that is seen reads them where the base mesh projects it; the gradient reaches the maps
    alone. One that is hidden takes what its mirror vertex reads, if that is seen, with x of the
    displacement negated: seen vertices near the border are blended with theirs over SEAM_WIDTH, so
    that there is no seam and nobody reads what lies before him. Where neither is seen the offset is
    zero, but for a fade along the surface, FADE_WIDTH wide. Eyeballs and mouth interior likewise.

    sampling: "bilinear", or "hyperbolic" with the depth before the camera.
    space: "image", or "uv": there a vertex reads its place in `cylindrical_uv`, in the photo seen
    or not, and counts as hidden if another part of the head covers it in that map.
    Raises ValueError for another sampling or space, and for hyperbolic sampling in uv space.
    """
    if sampling not in ("bilinear", "hyperbolic"):
        raise ValueError(f"sampling {sampling!r}: expected 'bilinear' or 'hyperbolic'")
    if space not in ("image", "uv"):
        raise ValueError(f"space {space!r}: expected 'image' or 'uv'")
    if space == "uv" and sampling == "hyperbolic":
        raise ValueError("sampling 'hyperbolic': a map in uv space has no depth; take 'bilinear'")
    model, size = face.model, maps.texture.shape[-1]
    both = torch.cat([maps.texture, maps.displacement], 1)
    with torch.no_grad():
        if space == "uv":
            points = (size * cylindrical_uv(model)).expand(len(both), -1, -1)
            seen = uv_exposed(model).expand(len(both), -1)
        else:
            points = ndc_to_pixels(project_ndc(face.v_camera, face.fov_deg), size)
            seen = visible_vertices(face, size)
        depth = texel_depth(face, size) if sampling == "hyperbolic" else None
    if depth is None:
        read = sample_bilinear(both, points)
    else:
        read = sample_hyperbolic(both, points, depth)
    mirror = model.mirror
    with torch.no_grad():
        ramp = seen[..., None]
        for _ in range(_rings(model, SEAM_WIDTH)):
            ramp = seen[..., None] * (ramp + neighbour_mean(ramp, model.faces)) / 2
        other = ramp[:, mirror]
        own = seen[..., None] * (1 - other * (1 - ramp))
        known = torch.maximum(seen, seen[:, mirror])[..., None]
        other = (1 - own) * other
        total = (own + other).clamp(min=1e-6)  # above 0 for all who are known
    flip = constant((1.0, 1.0, 1.0, -1.0, 1.0, 1.0), read.dtype, read.device)
    offsets = own / total * read + other / total * flip * read[:, mirror]
    offsets = _faded(offsets, known, model)
    return VertexOffsets(offsets[..., :3], offsets[..., 3:], seen)


def _faded(
    values: Float[Tensor, "batch vertex channel"],
    known: Float[Tensor, "batch vertex 1"],
    model: MorphableModel,
) -> Float[Tensor, "batch vertex channel"]:
    """The known vertices' values, handed on ring by ring to the others, down to 0 at FADE_WIDTH.

    Each newly reached vertex takes the mean of its neighbours that are reached.
    """
    rings = _rings(model, FADE_WIDTH)
    values, reached, weight = known * values, known, known
    for _ in range(rings):
        around = neighbour_mean(torch.cat([values, reached], -1), model.faces)
        share = around[..., -1:]
        fresh = (1 - reached) * (share > 0)
        values = values + fresh * around[..., :-1] / share.clamp(min=1e-3)
        reached = reached + fresh
        weight = weight + reached
    return weight / (rings + 1) * values


def _rings(model: MorphableModel, width: float) -> int:
    """How many rings of vertices `width` mm are, by the mesh's mean edge."""

    def mean_edge() -> float:
        a, b = model.mean[edges(model.faces)].unbind(1)
        return float((a - b).norm(dim=1).mean())

    return max(1, round(width / cached(model.faces, ("mean edge",), mean_edge)))
