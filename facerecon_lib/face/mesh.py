"""Triangle meshes: normals, neighbour means, export.

    normals = vertex_normals(vertices, faces)           # (B, V, 3), unit
    smooth = neighbour_mean(vertices, faces)            # (B, V, 3)
    export_mesh("face.ply", vertices[0], faces, colors)

Triangles are counter-clockwise seen from outside. Vertices are (batch, V, 3) with one (F, 3) table
of triangles for the whole batch. What depends on the triangles alone (who touches whom) is worked
out on the first call with a `faces` tensor and kept as long as that tensor lives: hold on to one
tensor rather than make it anew each step. Edges and Loop subdivision stand in `subdivision.py`.
"""

import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from ..files.atomic import write_whole
from .subdivision import check_faces, edges, sparse_matrix

_CACHE: WeakTensorKeyDictionary = WeakTensorKeyDictionary()


class _Multiply(torch.autograd.Function):
    """Constant sparse matrix times dense; with the transpose at hand, backward is as fast."""

    @staticmethod
    def forward(ctx, dense: Tensor, matrix: Tensor, transposed: Tensor) -> Tensor:
        ctx.pair = matrix, transposed
        with torch.autocast(dense.device.type, enabled=False):  # sparse products know no half
            return matrix @ dense

    @staticmethod
    def backward(ctx, gradient: Tensor):
        matrix, transposed = ctx.pair
        return _Multiply.apply(gradient, transposed, matrix), None, None


class _Operator(NamedTuple):
    matrix: Tensor
    transposed: Tensor

    def __call__(
        self, values: Float[Tensor, "batch n channel"]
    ) -> Float[Tensor, "batch m channel"]:
        batch, _, channels = values.shape
        flat = values.transpose(0, 1).reshape(values.shape[1], batch * channels)
        product = _Multiply.apply(flat, self.matrix, self.transposed)
        return product.view(-1, batch, channels).transpose(0, 1)


def _operator(rows: Tensor, columns: Tensor, values: Tensor, shape: tuple[int, int]) -> _Operator:
    matrix = sparse_matrix(rows, columns, values, shape)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        return _Operator(matrix.to_sparse_csr(), matrix.t().coalesce().to_sparse_csr())


def cached(faces: Tensor, key: tuple, build: Callable[[], object]):
    """`build()`, remembered for this tensor of triangles until it is changed in place or freed."""
    version = 0 if faces.is_inference() else faces._version
    entry = _CACHE.get(faces)
    if entry is None or entry[0] != version:
        entry = _CACHE[faces] = (version, {})
    if key not in entry[1]:
        entry[1][key] = build()
    return entry[1][key]


def _check(values: Tensor, faces: Tensor, channels: int | None = None) -> None:
    check_faces(faces)
    if values.ndim != 3 or channels not in (None, values.shape[-1]):
        last = "channel" if channels is None else channels
        shape = tuple(values.shape)
        hint = "add the batch axis with [None]" if values.ndim == 2 else "transpose it?"
        raise ValueError(f"vertices: expected shape (batch, vertex, {last}), got {shape}: {hint}")


def _crosses(vertices: Tensor, faces: Tensor) -> Tensor:
    """(v1 - v0) x (v2 - v0) of each triangle: its normal, as long as twice its area."""
    n_faces, n_vertices = faces.shape[0], vertices.shape[1]

    def build() -> _Operator:
        a, b, c = faces.long().unbind(1)
        each = torch.arange(n_faces, device=faces.device)
        signs = torch.tensor([1, -1, 1, -1], dtype=vertices.dtype, device=faces.device)
        return _operator(
            torch.cat([each, each, each + n_faces, each + n_faces]),
            torch.cat([b, a, c, a]),
            signs.repeat_interleave(n_faces),
            (2 * n_faces, n_vertices),
        )

    sides = cached(faces, ("sides", n_vertices, vertices.dtype), build)(vertices)
    x, y, z = sides[:, :n_faces].unbind(-1)
    p, q, r = sides[:, n_faces:].unbind(-1)
    return torch.stack([y * r - z * q, z * p - x * r, x * q - y * p], -1)


def _unit(vectors: Tensor) -> Tensor:
    squared = vectors.square().sum(-1, keepdim=True)
    some = squared > 1e-30
    return torch.where(some, vectors * torch.where(some, squared, 1.0).rsqrt(), 0.0)


def face_normals(
    vertices: Float[Tensor, "batch vertex 3"], faces: Int[Tensor, "face 3"]
) -> Float[Tensor, "batch face 3"]:
    """Unit normal of each triangle, outwards; zero where a triangle has no area.

    Raises ValueError when a shape does not fit.
    """
    _check(vertices, faces, 3)
    return _unit(_crosses(vertices, faces))


def vertex_normals(
    vertices: Float[Tensor, "batch vertex 3"], faces: Int[Tensor, "face 3"]
) -> Float[Tensor, "batch vertex 3"]:
    """Unit normal of each vertex: the mean of its triangles' normals, weighted by their areas.

    Zero, with zero gradient, at a vertex of no triangle or of none with an area. Gathering and
    scattering are products with fixed sparse matrices, which several times outrun indexing and
    index_add once the backward pass counts.

    Raises ValueError when a shape does not fit.
    """
    _check(vertices, faces, 3)
    n_faces, n_vertices = faces.shape[0], vertices.shape[1]

    def build() -> _Operator:
        each = torch.arange(n_faces, device=faces.device).repeat_interleave(3)
        ones = torch.ones(3 * n_faces, dtype=vertices.dtype, device=faces.device)
        return _operator(faces.long().reshape(-1), each, ones, (n_vertices, n_faces))

    incidence = cached(faces, ("incidence", n_vertices, vertices.dtype), build)
    return _unit(incidence(_crosses(vertices, faces)))


def neighbour_mean(
    values: Float[Tensor, "batch vertex channel"], faces: Int[Tensor, "face 3"]
) -> Float[Tensor, "batch vertex channel"]:
    """Mean of `values` over the vertices that share an edge with each; its own where it has none.

    Raises ValueError when a shape does not fit.
    """
    _check(values, faces)
    n_vertices = values.shape[1]

    def build() -> _Operator:
        a, b = edges(faces).unbind(1)
        degree = torch.bincount(torch.cat([a, b]), minlength=n_vertices)
        alone = torch.nonzero(degree == 0).squeeze(1)
        rows, columns = torch.cat([a, b, alone]), torch.cat([b, a, alone])
        weights = 1 / degree.clamp_min(1).to(values.dtype)
        return _operator(rows, columns, weights[rows], (n_vertices, n_vertices))

    return cached(faces, ("neighbours", n_vertices, values.dtype), build)(values)


def mesh_file(
    kind: str,
    vertices: Float[Tensor, "vertex 3"],
    faces: Int[Tensor, "face 3"],
    colors: Float[Tensor, "vertex 3"] | None = None,
) -> bytes:
    """What `export_mesh` writes: a file of kind "ply" or "glb". Raises ValueError as it does."""
    import trimesh  # here, so that fitting does not wait for it

    if kind not in ("ply", "glb"):
        raise ValueError(f"kind: expected ply or glb, got {kind!r}")
    check_faces(faces)
    if vertices.ndim != 2 or vertices.shape[1] != 3:
        shape = tuple(vertices.shape)
        raise ValueError(
            f"vertices: expected shape (vertex, 3), got {shape}: export one face at a time"
        )
    stored = None
    if colors is not None:
        if colors.shape != vertices.shape:
            shape, expected = tuple(colors.shape), tuple(vertices.shape)
            raise ValueError(f"colors: expected shape {expected} as the vertices, got {shape}")
        values = colors.detach().double().cpu().numpy().clip(0, 1)
        if kind == "glb":
            values = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
        stored = np.full((len(values), 4), 255, dtype=np.uint8)
        stored[:, :3] = np.round(values * 255)
    mesh = trimesh.Trimesh(
        vertices.detach().cpu().numpy(), faces.cpu().numpy(), vertex_colors=stored, process=False
    )
    return mesh.export(file_type=kind)


def export_mesh(
    path: str | os.PathLike,
    vertices: Float[Tensor, "vertex 3"],
    faces: Int[Tensor, "face 3"],
    colors: Float[Tensor, "vertex 3"] | None = None,
) -> Path:
    """Write a mesh with vertex colours to a .ply or .glb file, through trimesh; returns the path.

    vertices: written as they are, mm in both formats (a viewer that takes a GLB for metres, as its
    specification has it, shows the face a thousand times larger: scale the node by 0.001 there).
    colors: sRGB in [0, 1], clamped and stored as uint8. A PLY holds them as sRGB; a GLB as linear
    light, which is what its specification and viewers expect.

    The file appears whole or not at all. Raises ValueError on another suffix or shape.
    """
    path = Path(path)
    kind = path.suffix.lower().lstrip(".")
    if kind not in ("ply", "glb"):
        raise ValueError(f"path: expected a name that ends in .ply or .glb, got {path.name!r}")
    data = mesh_file(kind, vertices, faces, colors)
    with write_whole(path) as partial:
        partial.write_bytes(data)
    return path
