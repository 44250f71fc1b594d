"""Triangle meshes: edges, normals, neighbour means.

    normals = vertex_normals(vertices, faces)           # (B, V, 3), unit
    smooth = neighbour_mean(vertices, faces)            # (B, V, 3)

Triangles are counter-clockwise seen from outside, one (F, 3) table for the batch. What depends on
them alone is cached while the `faces` tensor lives: pass the same tensor at each step.
Notebook 01, section 2.1.
"""

import warnings
from collections.abc import Callable
from functools import wraps

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from .shapes import Triangles, VertexValues, Vertices, expect

_CACHE: WeakTensorKeyDictionary = WeakTensorKeyDictionary()


def check_faces(faces: Tensor) -> None:
    expect("faces", faces, "face 3")
    if faces.is_floating_point():
        raise ValueError(f"faces: expected integers, got {faces.dtype}")


def sparse_matrix(
    rows: Tensor, columns: Tensor, values: Tensor, shape: tuple[int, int]
) -> Float[Tensor, "row column"]:
    """A sparse COO matrix from its entries; entries of the same place add up."""
    with torch.sparse.check_sparse_tensor_invariants(True):
        return torch.sparse_coo_tensor(torch.stack([rows, columns]), values, shape).coalesce()


def half_edges(faces: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Undirected edges, sorted; which one each of the 3F sides is; how many triangles share each.

    Sides run from vertex i of a triangle to the next, listed by i, then by triangle.
    """
    check_faces(faces)
    sides = torch.cat([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]).long()
    return torch.unique(sides.sort(1).values, dim=0, return_inverse=True, return_counts=True)


def edges(faces: Triangles) -> Int[Tensor, "edge 2"]:
    """Every undirected edge once, as (smaller, larger) vertex number, sorted."""
    return half_edges(faces)[0]


def boundary_edges(faces: Triangles) -> Int[Tensor, "edge 2"]:
    """The edges of one triangle only, as (smaller, larger), sorted; none on a closed mesh."""
    pairs, _, counts = half_edges(faces)
    return pairs[counts == 1]


def cached(faces: Tensor, key: tuple, build: Callable[[], object]):
    """`build()`, remembered for this tensor of triangles until it is changed in place or freed.

    Not for a tensor of inference mode, which does not tell when it changes.
    """
    if faces.is_inference():
        return build()
    version, entries = _CACHE.get(faces, (None, None))
    if version != faces._version:
        entries = {}
        _CACHE[faces] = faces._version, entries
    if key not in entries:
        entries[key] = build()
    return entries[key]


def once_per_mesh(function: Callable) -> Callable:
    """A function of a model and numbers: `cached` with the model's triangles."""

    @wraps(function)
    def remembered(model, *numbers):
        return cached(model.faces, (function, *numbers), lambda: function(model, *numbers))

    return remembered


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


def _multiply(
    entries: Callable, faces: Tensor, n_vertices: int, values: Float[Tensor, "batch n channel"]
) -> Float[Tensor, "batch m channel"]:
    """The sparse matrix of `entries(faces, n_vertices)` (rows, columns, weights, shape) by values.

    Several times faster than indexing and index_add.
    """

    def build() -> tuple[Tensor, Tensor]:
        rows, columns, weights, shape = entries(faces.long(), n_vertices)
        matrix = sparse_matrix(rows, columns, weights.to(values.dtype), shape)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
            return matrix.to_sparse_csr(), matrix.t().coalesce().to_sparse_csr()

    matrices = cached(faces, (entries, n_vertices, values.dtype), build)
    batch, n, channels = values.shape
    product = _Multiply.apply(values.transpose(0, 1).reshape(n, batch * channels), *matrices)
    return product.view(-1, batch, channels).transpose(0, 1)


def _side_entries(faces: Tensor, n_vertices: int):
    """v1 - v0 of each triangle, then v2 - v0 of each."""
    a, b, c = faces.unbind(1)
    n_faces = len(faces)
    each, ones = torch.arange(n_faces, device=faces.device), torch.ones_like(a).double()
    rows = torch.cat([each, each, each + n_faces, each + n_faces])
    weights = torch.cat([ones, -ones, ones, -ones])
    return rows, torch.cat([b, a, c, a]), weights, (2 * n_faces, n_vertices)


def _incidence_entries(faces: Tensor, n_vertices: int):
    """The sum over each vertex's triangles."""
    each = torch.arange(len(faces), device=faces.device).repeat_interleave(3)
    return faces.reshape(-1), each, torch.ones_like(each).double(), (n_vertices, len(faces))


def _neighbour_entries(faces: Tensor, n_vertices: int):
    """The mean over each vertex's neighbours."""
    a, b = edges(faces).unbind(1)
    degree = torch.bincount(torch.cat([a, b]), minlength=n_vertices)
    alone = torch.nonzero(degree == 0).squeeze(1)
    rows, columns = torch.cat([a, b, alone]), torch.cat([b, a, alone])
    return rows, columns, 1 / degree.clamp_min(1).double()[rows], (n_vertices, n_vertices)


def _crosses(vertices: Tensor, faces: Tensor) -> Tensor:
    """(v1 - v0) x (v2 - v0) of each triangle: its normal, as long as twice its area."""
    check_faces(faces)
    expect("vertices", vertices, "batch vertex 3")
    sides = _multiply(_side_entries, faces, vertices.shape[1], vertices)
    x, y, z = sides[:, : len(faces)].unbind(-1)
    p, q, r = sides[:, len(faces) :].unbind(-1)
    return torch.stack([y * r - z * q, z * p - x * r, x * q - y * p], -1)


def _unit(vectors: Tensor) -> Tensor:
    squared = vectors.square().sum(-1, keepdim=True)
    some = squared > 1e-30
    return torch.where(some, vectors * torch.where(some, squared, 1.0).rsqrt(), 0.0)


def face_normals(vertices: Vertices, faces: Triangles) -> Float[Tensor, "batch face 3"]:
    """Unit normal of each triangle, outwards; zero where a triangle has no area."""
    return _unit(_crosses(vertices, faces))


def vertex_normals(vertices: Vertices, faces: Triangles) -> Vertices:
    """Unit normal of each vertex: the mean of its triangles' normals, weighted by their areas.

    Zero, with zero gradient, at a vertex whose triangles have no area.
    """
    crosses = _crosses(vertices, faces)
    return _unit(_multiply(_incidence_entries, faces, vertices.shape[1], crosses))


def neighbour_mean(values: VertexValues, faces: Triangles) -> VertexValues:
    """Mean of `values` over each vertex's neighbours along edges; its own where it has none."""
    check_faces(faces)
    expect("values", values, "batch vertex channel")
    return _multiply(_neighbour_entries, faces, values.shape[1], values)
