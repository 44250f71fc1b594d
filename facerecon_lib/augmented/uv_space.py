"""A symmetric flat map of the head, and pictures unwrapped onto it: maps in uv space.

    uv = uv_layout(model).uv                             # (V, 2) in [0, 1], row and column of a map
    flat = unwrap(photo, face)                           # (B, 3, S, S), zero where nothing is seen

A texel is the same bit of skin in every photo, and flipping the map mirrors the face, so that Eq. 9
holds at any pose (Tran and Liu, TPAMI 2019, the report's [12]). Notebook 07.
"""

import math
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy import sparse
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import splu
from torch import Tensor

from ..face.camera import ndc_to_pixels, project_ndc
from ..face.mesh import once_per_mesh
from ..face.morphable_model import MorphableModel
from ..face.shapes import expect
from ..rendering.rasterizer import rasterize
from ..rendering.synthesis import Face, synthesise
from ..rendering.visibility import visible_vertices
from .map_sampling import sample_bilinear

MARGIN = 0.01  # free border of the map, as a share of its width
FINE_SIZE = 1024  # texels per side of the map that decides which vertices are covered
MOST_ROUNDS = 10  # of unfolding; the shipped model needs three, subdivided once eight
_VIEWS = [(pitch, yaw) for pitch in (-30, 0, 30) for yaw in (-60, -30, 0, 30, 60)]  # degrees


class UVLayout(NamedTuple):
    """Where vertices lie on a cylinder around the head, unrolled.

    In a map of `size` texels a vertex is at size · uv, in pixels from the top left. Mirror vertices
    are mirrored to the last bit: uv[mirror] = (1 - u, v).
    """

    uv: Float[Tensor, "vertex 2"]  # u to the viewer's right, v down
    height: Float[Tensor, " vertex"]  # the greater lies on top in the map
    exposed: Float[Tensor, " vertex"]  # 1 on top, 0 where it is covered, as inside the mouth


@once_per_mesh
@torch.no_grad()
@torch.inference_mode(False)  # the first call may come from inference, a later one from training
def uv_layout(model: MorphableModel) -> UVLayout:
    """Of the mean face; computed once per mesh."""
    mirror, faces = model.mirror.cpu(), model.faces.long().cpu()
    visible = _visible_from_outside(model)
    x, y, z = model.mean.double().cpu().unbind(1)
    depth = z - z[x.abs().argmax()]  # the axis stands where the head is widest
    angle, radius = torch.atan2(x, depth), torch.hypot(x, depth)
    on_cylinder = [0.5 + angle / (2 * angle.abs().max()), (y.max() - y) / (y.max() - y.min())]
    flat = _symmetric(MARGIN + (1 - 2 * MARGIN) * torch.stack(on_cylinder, 1), mirror)
    uv = _unfolded(flat, faces, visible, mirror).to(model.device, torch.float32)
    height = (radius + visible * radius.max()).to(uv)
    top, _ = _on_top(uv, height, model.faces, FINE_SIZE)
    exposed = torch.zeros_like(height)
    exposed[model.faces[top[top >= 0]]] = 1
    return UVLayout(uv, height, torch.maximum(exposed, exposed[model.mirror]))


@torch.no_grad()
def unwrap(
    image: Float[Tensor, "batch channel height width"], face: Face, size: int | None = None
) -> Float[Tensor, "batch channel size size"]:
    """The picture in uv space: each texel has the colour of its skin, or zero where that is hidden.

    size: texels per side, the picture's if None.
    """
    expect("image", image, "batch channel size size", batch=len(face.v_camera))
    size = image.shape[-1] if size is None else size
    corners, weights, covered = _texels(face.model, size)
    places = (face.v_camera[:, corners] * weights[..., None]).sum(2)
    points = ndc_to_pixels(project_ndc(places, face.fov_deg), image.shape[-1])
    seen = visible_vertices(face, image.shape[-1])[:, corners].amin(2) * covered
    flat = sample_bilinear(image, points) * seen[..., None]
    return flat.transpose(1, 2).unflatten(2, (size, size))


def _visible_from_outside(model: MorphableModel) -> Tensor:
    """(V,) True where one of _VIEWS or its mirror image shows the vertex of the mean head."""
    c = model.neutral(len(_VIEWS))
    c.rotation[:, :2] = torch.tensor(_VIEWS, device=model.device) * (math.pi / 180)
    c.translation[:, 2] *= 1.3  # all of the head in the picture
    seen = visible_vertices(synthesise(model, c)).amax(0)
    return torch.maximum(seen, seen[model.mirror]).cpu() > 0


def _symmetric(uv: Float[Tensor, "vertex 2"], mirror: Tensor) -> Float[Tensor, "vertex 2"]:
    """Mirrored about u = 1/2, in steps of 2^-24, so that float32 holds u and 1 - u exactly."""
    u = 0.5 + ((uv[:, 0] - uv[mirror, 0]) * 2**23).round() / 2**24
    v = (uv[:, 1] + uv[mirror, 1]) / 2
    return torch.stack([u, v], 1)


def _sides(faces: Int[Tensor, "face 3"], count: int) -> sparse.csr_array:
    """(V, V) how many triangles share the side from i to j: 2 inside the mesh, 1 at a border."""
    a, b, c = faces.numpy().T
    ends = (np.r_[a, b, c], np.r_[b, c, a])
    one_way = sparse.csr_array((np.ones(3 * len(a)), ends), shape=(count, count))
    return one_way + one_way.T


def _outline(sides: sparse.csr_array, uv: Tensor) -> Tensor:
    """(V,) True on the widest of the mesh's borders in the map, which frames it and stays."""
    borders = sides == 1
    _, loop = connected_components(borders)
    u, on_border = uv[:, 0].numpy(), borders.sum(1) > 0
    loops = np.unique(loop[on_border])
    widest = max(loops, key=lambda k: np.ptp(u[loop == k]), default=-1)
    return torch.from_numpy(loop == widest)


def _unfolded(
    uv: Float[Tensor, "vertex 2"], faces: Tensor, visible: Tensor, mirror: Tensor
) -> Float[Tensor, "vertex 2"]:
    """The same map without folded triangles of visible skin.

    On a cylinder the rims of lids, lips and nostrils fold over the skin around them. There, and at
    each round further around, a vertex becomes the mean of its neighbours (Tutte, 1963: a disk laid
    out so does not fold). Eyes, mouth and nostrils count as holes.
    """
    _, part = connected_components(_sides(faces, len(uv)))
    skin = torch.from_numpy(part == np.bincount(part).argmax())
    face_visible = (visible & skin)[faces].all(1)
    sides = _sides(faces[face_visible], len(uv))
    stays = _outline(sides, uv)
    graph = (sides > 0).astype(float)
    laplacian = sparse.diags_array(graph.sum(1)) - graph
    free, start = torch.zeros(len(uv), dtype=torch.bool), uv
    for rings in range(1, MOST_ROUNDS + 1):
        a, b, c = uv[faces].unbind(1)
        areas = (c - a)[:, 0] * (b - a)[:, 1] - (c - a)[:, 1] * (b - a)[:, 0]  # twice
        folded = face_visible & (areas <= 0)
        if not folded.any():
            break
        around = np.zeros(len(uv))
        around[faces[folded]] = 1
        for _ in range(rings):
            around += graph @ around > 0
        free |= torch.from_numpy(around > 0) & ~stays
        free |= free[mirror]
        inner, rest = free.numpy(), ~free.numpy()
        pull = -laplacian[inner][:, rest] @ start.numpy()[rest]
        uv = start.clone()
        uv[free] = torch.from_numpy(splu(laplacian[inner][:, inner].tocsc()).solve(pull))
        uv = _symmetric(uv, mirror)
    return uv


def _on_top(uv: Tensor, height: Tensor, faces: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """(size, size) the triangle at each texel's centre, -1 for none, and its weights.

    Triangles around the back of a whole head, from one end of the map to the other, are left out.
    """
    places = torch.cat([1 - 2 * uv, (height.max() + 1 - height)[:, None]], 1)
    u = uv[faces, 0]
    narrow = (u.amax(1) - u.amin(1) < 0.5).nonzero()[:, 0]
    fragments = rasterize(places[None], faces[narrow], size)
    face = fragments.pix_to_face[0, ..., 0]
    return torch.where(face < 0, -1, narrow[face]), fragments.bary_coords[0, ..., 0, :]


@once_per_mesh
def _texels(model: MorphableModel, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """(size², 3) vertices around each texel, their weights, and (size²,) 1 where there is skin."""
    triangle, weights = _on_top(*uv_layout(model)[:2], model.faces, size)
    corners = model.faces[triangle.clamp(min=0)].flatten(0, 1)
    covered = (triangle >= 0).float().flatten()
    return corners, weights.flatten(0, 1) * covered[:, None], covered
