"""Loop subdivision of a triangle mesh: one step smooths it to four times the triangles.

    step = loop_subdivide(faces, n_vertices=V, crease_edges=lips)
    vertices, basis, faces = step.apply(vertices), step.apply(basis), step.faces

Subdivision is linear in the vertices, so it is worked out once, from the triangles alone.
C. Loop, "Smooth subdivision surfaces based on triangles", 1987; creases after H. Hoppe et al.,
"Piecewise smooth surface reconstruction", SIGGRAPH 1994.
Notebook 01, section 2.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from .mesh import half_edges, sparse_matrix


class Subdivision(NamedTuple):
    """One step of subdivision. Vertices 0 to V - 1 keep their numbers; V + e is new, on edge e."""

    operator: Float[Tensor, "finer vertex"]  # sparse COO; rows sum to 1
    faces: Int[Tensor, "face4 3"]  # the children of triangle f are 4 f to 4 f + 3, corners first
    edges: Int[Tensor, "edge 2"]  # the ends of the edge that each new vertex lies on
    creases: Int[Tensor, "crease2 2"]  # the named creases, halved: pass them to the next step

    def apply(
        self, values: Float[Tensor, "*batch vertex channel"]
    ) -> Float[Tensor, "*batch finer channel"]:
        """Carry positions, a basis, uv or masks to the finer mesh, in their own dtype."""
        flat = values.movedim(-2, 0).reshape(values.shape[-2], -1)
        finer = torch.sparse.mm(self.operator.to(values.dtype), flat)
        return finer.view(-1, *values.shape[:-2], values.shape[-1]).movedim(0, -2)

    def mirror(self, mirror: Int[Tensor, " vertex"]) -> Int[Tensor, " finer"]:
        """Extend a left-right permutation: a new vertex has its mirror on the mirrored edge.

        Raises ValueError when `mirror` does not undo itself, or takes an edge to what is none.
        """
        n = self.operator.shape[1]
        each = torch.arange(n, device=mirror.device)
        if mirror.shape != (n,) or not torch.equal(mirror[mirror], each):
            raise ValueError(
                f"mirror: expected a permutation of {n} that undoes itself, got another"
            )
        number, exists = _edge_numbers(self.edges, mirror[self.edges], n)
        if not exists.all():
            raise ValueError(
                f"mirror: {int((~exists).sum())} of {len(exists)} edges have no mirror edge: "
                "triangulate both halves of the mesh alike"
            )
        return torch.cat([mirror, n + number])


def loop_subdivide(
    faces: Int[Tensor, "face 3"],
    n_vertices: int,
    crease_edges: Int[Tensor, "crease 2"] | None = None,
    *,
    dtype: torch.dtype = torch.float32,
) -> Subdivision:
    """One step of Loop subdivision as a linear map, for a mean and a basis alike.

    Edges: 3/8 of each end and 1/8 of each vertex opposite; the midpoint on a crease.
    Vertices: Loop's weights where at most one crease meets; 6/8 of itself and 1/8 along the crease
    each way where two do; fixed where three or more do.
    Border edges, and edges of more than two triangles, are creases without being named.

    Computed in float64; `dtype` is that of the operator. Raises ValueError when a crease is no edge
    of the mesh or a vertex number is out of range.
    """
    pairs, side, shared = half_edges(faces)
    low, high = (int(v) for v in pairs.aminmax()) if len(pairs) else (0, -1)
    if low < 0 or high >= n_vertices:
        raise ValueError(f"faces: expected numbers in [0, {n_vertices}), got {low} to {high}")
    named = torch.zeros(len(pairs), dtype=torch.bool, device=pairs.device)
    if crease_edges is not None and len(crease_edges):
        number, exists = _edge_numbers(pairs, crease_edges.long(), n_vertices)
        if not exists.all():
            first = f"{crease_edges[~exists][0].tolist()}: no triangle has it"
            raise ValueError(f"crease_edges: expected edges of the mesh, got {first}")
        named[number] = True
    sharp = named | (shared != 2)
    a, b = pairs.unbind(1)
    entries: list[tuple[Tensor, Tensor, Tensor]] = []

    def add(rows: Tensor, columns: Tensor, weights: Tensor | float) -> None:
        weights = torch.as_tensor(weights, dtype=torch.float64, device=faces.device)
        entries.append((rows, columns, weights.expand(len(rows))))

    new = n_vertices + torch.arange(len(pairs), device=faces.device)
    for end in (a, b):
        add(new, end, torch.where(sharp, 0.5, 0.375))
    opposite = torch.cat([faces[:, 2], faces[:, 0], faces[:, 1]]).long()
    smooth_side = ~sharp[side]
    add(new[side[smooth_side]], opposite[smooth_side], 0.125)

    creases = torch.bincount(pairs[sharp].reshape(-1), minlength=n_vertices)
    valence = torch.bincount(pairs.reshape(-1), minlength=n_vertices)
    on_crease = creases == 2
    smooth = (creases < 2) & (valence > 0)
    count = valence.clamp_min(1).double()
    beta = (0.625 - (0.375 + 0.25 * torch.cos(2 * torch.pi / count)) ** 2) / count
    every = torch.arange(n_vertices, device=faces.device)
    add(every, every, torch.where(smooth, 1 - count * beta, torch.where(on_crease, 0.75, 1.0)))
    for end, other in ((a, b), (b, a)):
        ring = smooth[end]
        add(end[ring], other[ring], beta[end[ring]])
        along = sharp & on_crease[end]
        add(end[along], other[along], 0.125)

    rows, columns, weights = (torch.cat(part) for part in zip(*entries, strict=True))
    operator = sparse_matrix(rows, columns, weights, (n_vertices + len(pairs), n_vertices))
    pq, qr, rp = new[side].view(3, -1)  # on the sides 01, 12, 20 of each triangle
    p, q, r = faces.long().unbind(1)
    children = [torch.stack(t, 1) for t in ((p, pq, rp), (q, qr, pq), (r, rp, qr), (pq, qr, rp))]
    halves = [torch.stack([end[named], new[named]], 1) for end in (a, b)]
    return Subdivision(
        operator.to(dtype), torch.stack(children, 1).reshape(-1, 3), pairs, torch.cat(halves)
    )


def _edge_numbers(
    pairs: Int[Tensor, "edge 2"], ends: Int[Tensor, "query 2"], n_vertices: int
) -> tuple[Int[Tensor, " query"], Bool[Tensor, " query"]]:
    """The number in the sorted `pairs` of each edge given by its ends, and whether it exists."""
    ends = ends.sort(1).values
    keys, queries = (x[:, 0] * n_vertices + x[:, 1] for x in (pairs, ends))
    number = torch.searchsorted(keys, queries).clamp_max(len(keys) - 1)
    return number, keys[number] == queries
