"""Triangles cut off at the near plane, so that none passes through the camera, and the way back.

    cut = cut_at_near_plane(mesh, 1.0, False, corner=(1.0, 1.0), perspective=True)
    cut.mesh                                             # the pieces, to be rasterized instead
    pix_to_face, bary_coords = cut.restore(pix_to_face, bary_coords)

`rasterizer.rasterize` does this for `z_clip_value` and `cull_to_frustum`. Gradients flow to the
vertices through both points where the plane meets a triangle's outline. Notebook 04, section 2.1.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..face.device_constants import constant


@dataclass(frozen=True)
class PackedMesh:
    """A packed batch: mesh b owns triangles first[b] to first[b + 1] - 1, at most `most`.

    twin[i] is the other half of a triangle that the near plane cut into two, or -1.
    """

    verts: Float[Tensor, "vertex 3"]
    faces: Int[Tensor, "face 3"]
    first: Int[Tensor, " batch_and_1"]
    most: int
    twin: Int[Tensor, " face_or_0"] | None = None


@dataclass(frozen=True)
class Cut:
    """A mesh cut by the near plane: its pieces, the triangle each comes from, and how to go back.

    weights[row[i]] holds the three barycentric vectors, in the whole triangle, of piece i's
    vertices; row[i] is -1 for a triangle that was left whole.
    """

    mesh: PackedMesh
    origin: Int[Tensor, " piece"]
    row: Int[Tensor, " piece"]
    weights: Float[Tensor, "cut 3 3"]

    def restore(
        self,
        pix_to_face: Int[Tensor, "batch height width k"],
        bary: Float[Tensor, "batch height width k 3"],
    ) -> tuple[Int[Tensor, "batch height width k"], Float[Tensor, "batch height width k 3"]]:
        """The fragments' triangles and weights, in terms of the whole triangles."""
        if not len(self.origin):
            return pix_to_face, bary
        empty, piece = pix_to_face < 0, pix_to_face.clamp(min=0)
        where = ((self.row[piece] >= 0) & ~empty).nonzero(as_tuple=True)
        if len(where[0]):
            corner = self.weights[self.row[piece[where]]]
            bary = bary.index_put(where, (bary[where][..., None] * corner).sum(-2))
        return self.origin[piece].masked_fill(empty, -1), bary


def cut_at_near_plane(
    mesh: PackedMesh,
    near: float | None,
    frustum: bool,
    corner: tuple[float, float],
    perspective: bool,
) -> Cut | None:
    """Leave out what is behind the near plane or beside the frustum, and cut what crosses it.

    With p1 the corner that is alone on its side, the plane meets p1 p2 in p4 and p1 p3 in p5. With
    p1 in front what remains is the triangle p4 p5 p1, else the two triangles p4 p2 p5 and p5 p2 p3.
    None where there is nothing to do.

    near: depth of the plane, None for no cutting. frustum: leave out what lies beside the image.
    corner: NDC x and y of the image's first corner. perspective: NDC x and y are divided by depth.
    """
    verts, faces = mesh.verts, mesh.faces.long()
    behind = torch.zeros_like(faces, dtype=torch.bool)
    if near is not None:
        if not near >= 0:
            raise ValueError(f"z_clip_value: expected a depth of 0 or more, got {near}")
        is_behind = verts[:, 2] < near
        if not frustum and not bool(is_behind.any()):
            return None
        behind = is_behind[faces]
    count = behind.sum(1)
    gone = count == 3
    if frustum:
        x, y, z = verts.detach()[faces].unbind(-1)
        right, top = corner
        for beyond in (x < -right, x > right, y < -top, y > top):
            gone |= (beyond & (z > 0)).all(1)  # behind the camera NDC says nothing
    pieces = torch.where(gone, 0, torch.where(count == 1, 2, 1))
    origin = torch.arange(len(faces), device=faces.device).repeat_interleave(pieces)
    first = torch.nn.functional.pad(pieces.cumsum(0), (1, 0))[mesh.first.long()].int()
    most = int(first.diff().max()) if len(first) > 1 else 0

    crossing = ((count == 1) | (count == 2)) & ~gone
    whole = crossing.nonzero()[:, 0]
    alone_in_front = count[whole] == 2
    lone = (behind[whole] != alone_in_front[:, None]).int().argmax(1)
    order = (lone[:, None] + torch.arange(3, device=faces.device)) % 3
    corners = faces[whole].gather(1, order)
    p1, p2, p3 = verts[corners].unbind(1)
    near = near or 0.0
    unit = torch.eye(3, dtype=verts.dtype, device=verts.device)[order]
    points, weights = [verts], [unit]
    for far, k in ((p2, 1), (p3, 2)):
        t = (p1[:, 2:] - near) / (p1[:, 2:] - far[:, 2:])
        point = p1 * (1 - t) + far * t
        if perspective:  # NDC x and y are linear along the edge only after multiplying by depth
            flat = p1[:, :2] * p1[:, 2:] * (1 - t) + far[:, :2] * far[:, 2:] * t
            point = torch.cat([flat / near, point[:, 2:]], 1)
        points.append(point)
        weights.append((unit[:, 0] * (1 - t) + unit[:, k] * t)[:, None])
    added = len(verts) + torch.arange(2 * len(whole), device=faces.device).reshape(2, -1).T
    corners, weights = torch.cat([corners, added], 1), torch.cat(weights, 1)

    number = torch.full_like(count, -1)
    number[whole] = torch.arange(len(whole), device=faces.device)
    cut = (number[origin] >= 0).nonzero()[:, 0]
    source = number[origin[cut]]
    second = torch.zeros_like(origin)
    second[1:] = (origin[1:] == origin[:-1]).long()
    kind = torch.where(alone_in_front[source], 0, 1 + second[cut])
    table = constant(((3, 4, 0), (3, 1, 4), (4, 1, 2)), torch.long, faces.device)[kind]
    split = faces[origin]
    split[cut] = corners[source].gather(1, table)
    row = torch.full_like(origin, -1)
    row[cut] = torch.arange(len(cut), device=faces.device)
    piece = torch.arange(len(origin), device=faces.device)
    twin = torch.where(pieces[origin] == 2, torch.where(second == 1, piece - 1, piece + 1), -1)
    result = PackedMesh(torch.cat(points), split.int().contiguous(), first, most, twin.int())
    return Cut(result, origin, row, weights[source[:, None], table])
