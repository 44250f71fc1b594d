"""Offset maps to offsets of the vertices, those of hidden vertices too.

    offsets = sample_offsets(unet(photo, rendering), face)   # .texture, .displacement: (B, V, 3)
    vertices = face.vertices + offsets.displacement          # mm, model frame, before pose

The maps are aligned with the image: a vertex reads them where the base mesh projects it. A hidden
vertex takes the reading of its mirror vertex, if that one is visible, else nothing. Notebook 07,
section 2.2.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ..face.camera import ndc_to_pixels, project_ndc
from ..face.device_constants import constant
from ..face.mesh import edges, neighbour_mean, once_per_mesh
from ..face.morphable_model import MorphableModel
from ..networks.unet import OffsetMaps
from ..rendering.synthesis import Face
from ..rendering.visibility import texel_depth, visible_vertices
from .map_sampling import sample_bilinear, sample_hyperbolic

SPACES = ("image", "uv")
"""The plane of a map: the photo's pixels, or the face's surface unrolled (the report's [12])."""
# mm along the surface: the blend of a vertex's own reading and its mirror vertex's, from where it
# becomes visible; and the fade into what neither side shows.
SEAM_WIDTH, FADE_WIDTH = 8.0, 30.0


@dataclass(eq=False)
class VertexOffsets:
    """What is added to the base face."""

    texture: Float[Tensor, "batch vertex 3"]  # to the albedo in [0, 1]
    displacement: Float[Tensor, "batch vertex 3"]  # mm, model frame
    seen: Float[Tensor, "batch vertex"]  # 1 where the vertex reads the maps itself, else 0


def sample_offsets(
    maps: OffsetMaps, face: Face, sampling: str = "bilinear", space: str = "image"
) -> VertexOffsets:
    """The offsets that each vertex of the base mesh takes from the maps.

    A visible vertex reads the maps where the base mesh projects it; the gradient reaches the maps
    alone. A hidden one takes the reading of its mirror vertex, if that is visible, with x of the
    displacement negated. A blend joins the two on the visible side. Where neither is visible the
    offset fades to zero along the surface.

    sampling: "bilinear", or "hyperbolic" with the depth before the camera, which the report gave
    up. space: in "uv" a vertex reads its place in `uv_layout`, visible in the photo or not,
    and counts as hidden if another part of the head covers it in that map.
    Raises ValueError for another sampling or space, and for hyperbolic sampling in uv space.
    """
    if sampling not in ("bilinear", "hyperbolic"):
        raise ValueError(f"sampling {sampling!r}: expected 'bilinear' or 'hyperbolic'")
    if space not in SPACES:
        raise ValueError(f"space {space!r}: expected 'image' or 'uv'")
    if space == "uv" and sampling == "hyperbolic":
        raise ValueError("sampling 'hyperbolic': a map in uv space has no depth; take 'bilinear'")
    model, size = face.model, maps.texture.shape[-1]
    both = torch.cat([maps.texture, maps.displacement], 1)
    with torch.no_grad():
        if space == "uv":
            from .uv_space import uv_layout  # with scipy, which is slow to import

            points = (size * uv_layout(model).uv).expand(len(both), -1, -1)
            seen = uv_layout(model).exposed.expand(len(both), -1)
        else:
            points = ndc_to_pixels(project_ndc(face.v_camera, face.fov_deg), size)
            seen = visible_vertices(face, size)
    if sampling == "bilinear":
        read = sample_bilinear(both, points)
    else:
        read = sample_hyperbolic(both, points, texel_depth(face, size).detach())
    own, other = _shares(seen[..., None], model)
    flip = constant((1.0, 1.0, 1.0, -1.0, 1.0, 1.0), read.dtype, read.device)
    taken = own * read + other * flip * read[:, model.mirror]
    texture, displacement = _continued(taken, own + other, model).split(3, -1)
    return VertexOffsets(texture, displacement, seen)


@torch.no_grad()
def _shares(
    seen: Float[Tensor, "batch vertex 1"], model: MorphableModel
) -> tuple[Float[Tensor, "batch vertex 1"], Float[Tensor, "batch vertex 1"]]:
    """The shares of a vertex's own reading and of its mirror vertex's; up to 1 together.

    A visible vertex with a hidden mirror vertex keeps its own reading. Where both are visible the
    own share falls within SEAM_WIDTH of the border; beyond it the mirror vertex's falls likewise.
    """
    ramp = seen
    for _ in range(_rings(model, SEAM_WIDTH)):
        ramp = seen * (ramp + neighbour_mean(ramp, model.faces)) / 2
    other = ramp[:, model.mirror]
    own = seen * (1 - other * (1 - ramp))
    return own, (1 - own) * other


def _continued(
    taken: Float[Tensor, "batch vertex channel"],
    share: Float[Tensor, "batch vertex 1"],
    model: MorphableModel,
) -> Float[Tensor, "batch vertex channel"]:
    """Fill a share below 1 from the neighbours, fading to 0 at FADE_WIDTH.

    One ring further per round, a vertex takes the mean of its neighbours that have a value.
    """
    rounds = []  # per round: a vertex's lack of a share, over the part of neighbours with a value
    with torch.no_grad():
        reached = (share > 0).to(share.dtype)
        weight = reached
        for _ in range(_rings(model, FADE_WIDTH)):
            some = neighbour_mean(reached, model.faces)
            rounds.append((1 - share) * torch.where(some > 0, some, torch.inf).reciprocal())
            reached = torch.maximum(reached, (some > 0).to(some.dtype))
            weight = weight + reached
        weight = weight / (len(rounds) + 1)
    # (vertex, batch, channel): one product with the mesh's matrix per round, and no copies
    taken, share = taken.transpose(0, 1).contiguous(), share.transpose(0, 1)
    values = taken / share.clamp(min=1e-6)
    for lack in rounds:
        around = neighbour_mean(values.flatten(1)[None], model.faces).view_as(values)
        values = torch.addcmul(taken, lack.transpose(0, 1), around)
    return weight * values.transpose(0, 1)


@once_per_mesh
def _rings(model: MorphableModel, width: float) -> int:
    """How many rings of vertices `width` mm are, by the mesh's mean edge."""
    mean_edge = float(model.mean[edges(model.faces)].diff(dim=1).norm(dim=-1).mean())
    return max(1, round(width / mean_edge))
