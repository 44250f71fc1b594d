"""A part of a mesh as a linear map of its vertices, so that bases are cut as the mean is.

    part = cut_at_zero(faces, beyond, fixed)               # smooth: triangles are cut through
    part = keep_vertices(faces, keep)                      # along the mesh's own edges
    mean, basis = part.apply(mean), part.apply(basis)      # (V', 3), (N, V', 3)
    mirror, exact = find_mirror(mean, faces, known)        # before the cut, and after it

Notebook 01, Eq. 1.
"""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy import sparse
from scipy.spatial import cKDTree
from trimesh.geometry import faces_to_edges

from face_models import Faces, Mask, Numbers, PerVertex, Vertices
from face_models.registration import normals_of

FLIP = np.array([-1.0, 1.0, 1.0])
MIRROR_MM = 1.0  # how far from the mirror image of a vertex its mirror may be
SNAP = 0.3  # a cut nearer than this share of its edge moves the vertex instead: no slivers


class Part(NamedTuple):
    """operator (V', V) sparse, rows sum to 1; faces (F', 3); number (V,) of each old vertex, or -1
    where it is gone."""

    operator: sparse.csr_array
    faces: Faces
    number: Numbers

    def apply(self, values: Float[np.ndarray, "*batch vertex channel"]) -> np.ndarray:
        """Positions, a basis or colours on the part's vertices."""
        flat = np.moveaxis(values, -2, 0)
        cut = self.operator @ flat.reshape(len(flat), flat[0].size)
        return np.moveaxis(cut.reshape(self.operator.shape[0], *flat.shape[1:]), 0, -2)

    def renumber(self, other: Numbers) -> Int[np.ndarray, " kept"]:
        """A vertex for each vertex (-1: none) in the part's numbers; -1 on the cut and off it."""
        old = np.flatnonzero((self.number >= 0) & (other >= 0))
        numbers = np.full(self.operator.shape[0], -1)
        numbers[self.number[old]] = self.number[other[old]]
        return numbers

    def edges(self, edges: Int[np.ndarray, "edge 2"]) -> Int[np.ndarray, "kept 2"]:
        """Those of the old mesh's edges that are edges of the part too."""
        moved = self.number[edges]
        moved = moved[(moved >= 0).all(1)]
        return moved[np.isin(edge_keys(moved), edge_keys(faces_to_edges(self.faces)))]


def edge_keys(edges: Int[np.ndarray, "edge 2"]) -> Int[np.ndarray, " edge"]:
    """A number per edge, the same in both directions."""
    low, high = np.sort(edges.astype(np.int64), 1).T
    return low << 32 | high


def find_mirror(mean: Vertices, faces: Faces, known: Numbers) -> tuple[Numbers, bool]:
    """The vertex opposite each, and whether that is a symmetry of the mesh: edges go to edges.

    known: the source's own mirror; where it is -1, the vertex of alike normal nearest to the image.
    """
    normals = normals_of(mean, torch.as_tensor(faces))
    away, mirror = cKDTree(np.c_[mean, normals]).query(np.c_[mean * FLIP, normals * FLIP])
    near = away[known < 0].max(initial=0) < MIRROR_MM
    mirror = np.where(known < 0, mirror, known)
    edges = faces_to_edges(faces)
    symmetric = np.isin(edge_keys(mirror[edges]), edge_keys(edges)).all()
    return mirror, bool(near and symmetric and (mirror[mirror] == np.arange(len(mean))).all())


def keep_vertices(faces: Faces, keep: Mask) -> Part:
    """The triangles whose corners are all kept, and their vertices."""
    faces = faces[keep[faces].all(1)]
    return _part(sparse.eye_array(len(keep), format="csr"), faces, len(keep))


def cut_at_zero(faces: Faces, beyond: PerVertex, fixed: Int[np.ndarray, " fixed"]) -> Part:
    """What is on the negative side of `beyond`: triangles are cut through where it is zero.

    fixed: vertices on that side that are not moved onto the cut. A symmetric mesh gives a
    symmetric part where `beyond` is symmetric and the middle is fixed.
    """
    count = len(beyond)
    value = beyond.astype(float)
    sides = np.unique(np.sort(faces_to_edges(faces), 1), axis=0)
    crossing = sides[value[sides[:, 0]] * value[sides[:, 1]] < 0]
    share = value[crossing[:, 0]] / (value[crossing[:, 0]] - value[crossing[:, 1]])
    ends = np.r_[crossing, crossing[:, ::-1]]
    share = np.r_[share, 1 - share]  # of the way from the first end
    order = np.flatnonzero((share < SNAP) & ~np.isin(ends[:, 0], fixed))
    order = order[np.argsort(share[order], kind="stable")]
    moved, first = np.unique(ends[order, 0], return_index=True)
    towards, way = ends[order[first], 1], share[order[first]]
    value[moved] = 0.0
    corner = value[faces]
    inside = (corner <= 0).all(1) & (corner < 0).any(1)
    through = np.flatnonzero((corner < 0).any(1) & (corner > 0).any(1))
    triangles, new = [faces[inside]], {}
    for triangle in faces[through]:
        polygon = []
        corners = triangle.tolist()
        for a, b in zip(corners, corners[1:] + corners[:1], strict=True):
            if value[a] <= 0:
                polygon.append(a)
            if value[a] * value[b] < 0:
                polygon.append(new.setdefault((min(a, b), max(a, b)), count + len(new)))
        if len(polygon) == 4:  # the corner inside that is further in is cut off: both sides alike
            deep = min(range(4), key=lambda k: value[polygon[k]] if polygon[k] < count else 0.0)
            polygon = polygon[deep + 1 :] + polygon[: deep + 1]
        fan = [[polygon[0], polygon[k], polygon[k + 1]] for k in range(1, len(polygon) - 1)]
        triangles.append(np.array(fan, faces.dtype).reshape(-1, 3))
    a, b = np.array(list(new), int).reshape(-1, 2).T
    t = value[a] / (value[a] - value[b])
    old, cut, stay = np.arange(count), np.arange(len(new)) + count, np.ones(count)
    stay[moved] -= way
    rows, columns = np.r_[old, moved, cut, cut], np.r_[old, towards, a, b]
    weights = np.r_[stay, way, 1 - t, t]
    operator = sparse.csr_array((weights, (rows, columns)), (count + len(new), count))
    return _part(operator, np.concatenate(triangles), count)


def _part(operator: sparse.csr_array, faces: np.ndarray, count: int) -> Part:
    """Without the vertices of no triangle."""
    used = np.unique(faces)
    number = np.full(operator.shape[0], -1)
    number[used] = np.arange(len(used))
    return Part(operator[used], number[faces], number[:count])
