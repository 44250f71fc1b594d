"""Triangles cut off at the near plane, so that none passes through the camera, and the way back.

    cut = cut_at_near_plane(mesh, view, near=1.0, frustum=False)
    cut.mesh                                             # the pieces, to be rasterized instead
    pix_to_face, bary_coords = cut.restore(pix_to_face, bary_coords)

`rasterizer.rasterize` does this for `z_clip_value` and `cull_to_frustum`. Gradients flow to the
vertices through both points where the plane meets a triangle's outline. Notebook 04, section 2.1.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from .warp.triangle import View


@dataclass(frozen=True)
class PackedMesh:
    """A packed batch: mesh b owns triangles first[b] to first[b + 1] - 1, at most `most`.

    twin[i] is the other half of a triangle that the near plane cut into two, or -1.
    """

    verts: Float[Tensor, "vertex 3"]
    faces: Int[Tensor, "face 3"]
    first: Int[Tensor, " batch_and_1"]
    most: int
    twin: Int[Tensor, " face_or_0"]


@dataclass(frozen=True)
class Cut:
    """A mesh cut by the near plane, and of each piece the whole triangle that it comes from.

    weights: the barycentric coordinates of a piece's vertices in the whole triangle.
    """

    mesh: PackedMesh
    origin: Int[Tensor, " piece"]
    weights: Float[Tensor, "piece 3 3"]

    def restore(
        self,
        pix_to_face: Int[Tensor, "batch height width k"],
        bary: Float[Tensor, "batch height width k 3"],
    ) -> tuple[Int[Tensor, "batch height width k"], Float[Tensor, "batch height width k 3"]]:
        """The fragments' triangles and weights, in terms of the whole triangles."""
        if not len(self.origin):
            return pix_to_face, bary
        empty, piece = pix_to_face < 0, pix_to_face.clamp(min=0)
        whole = (bary[..., None] * self.weights[piece]).sum(-2)
        return self.origin[piece].masked_fill(empty, -1), torch.where(empty[..., None], bary, whole)


def cut_at_near_plane(
    mesh: PackedMesh, view: View, near: float | None, frustum: bool
) -> Cut | None:
    """Leave out what is behind the near plane and, if `frustum`, what is beside the image; cut what
    crosses the plane. None where there is nothing to do.

    With p1 the corner that is alone on its side, the plane meets p1 p2 in p4 and p1 p3 in p5. With
    p1 in front what remains is the triangle p4 p5 p1, else the two triangles p4 p2 p5 and p5 p2 p3.
    """
    if near is not None and not near >= 0:
        raise ValueError(f"z_clip_value: expected a depth of 0 or more, got {near}")
    verts = mesh.verts
    is_behind = verts[:, 2] < (-torch.inf if near is None else near)
    if not frustum and not is_behind.any():
        return None
    faces = mesh.faces.long()
    behind = is_behind[faces]
    count = behind.sum(1)
    gone = count == 3
    if frustum:
        x, y, z = verts.detach()[faces].unbind(-1)
        for beyond in (x < -view.right, x > view.right, y < -view.top, y > view.top):
            gone |= (beyond & (z > 0)).all(1)  # behind the camera NDC says nothing

    crossing = ((count > 0) & ~gone).nonzero()[:, 0]
    in_front = count[crossing] == 2  # p1 is
    lone = (behind[crossing] != in_front[:, None]).int().argmax(1)
    order = (lone[:, None] + torch.arange(3, device=faces.device)) % 3
    corners = faces[crossing].gather(1, order)
    p1, p2, p3 = verts[corners].unbind(1)
    near = near or 0.0
    eye = torch.eye(3, dtype=verts.dtype, device=verts.device)
    points, weights = [verts], [eye[order]]
    for far, k in ((p2, 1), (p3, 2)):
        t = (p1[:, 2:] - near) / (p1[:, 2:] - far[:, 2:])
        point = p1 * (1 - t) + far * t
        if view.perspective:  # NDC x and y are linear along the edge only times the depth
            flat = p1[:, :2] * p1[:, 2:] * (1 - t) + far[:, :2] * far[:, 2:] * t
            point = torch.cat([flat / near, point[:, 2:]], 1)
        points.append(point)
        weights.append((eye[order[:, 0]] * (1 - t) + eye[order[:, k]] * t)[:, None])
    added = len(verts) + torch.arange(2 * len(crossing), device=faces.device).reshape(2, -1).T
    corners, weights = torch.cat([corners, added], 1), torch.cat(weights, 1)

    kept = ((count == 0) & ~gone).nonzero()[:, 0]
    pieces = [(kept, faces[kept], eye.expand(len(kept), -1, -1))]
    for some, trio in ((in_front, (3, 4, 0)), (~in_front, (3, 1, 4)), (~in_front, (4, 1, 2))):
        pieces.append((crossing[some], corners[some][:, trio], weights[some][:, trio]))
    origin, split, weights = (torch.cat(part) for part in zip(*pieces, strict=True))
    origin, order = origin.sort(stable=True)
    first = torch.searchsorted(origin, mesh.first.long()).int()
    most = int(first.diff().max()) if len(first) > 1 else 0
    number, again = torch.arange(len(origin), device=faces.device), origin[1:] == origin[:-1]
    twin = torch.where(F.pad(again, (1, 0)), number - 1, -1)
    twin = torch.where(F.pad(again, (0, 1)), number + 1, twin).int()
    result = PackedMesh(torch.cat(points), split[order].int().contiguous(), first, most, twin)
    return Cut(result, origin, weights[order])
