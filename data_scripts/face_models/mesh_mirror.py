"""The vertex opposite each, on a face whose middle plane is x = 0.

    mirror, exact = find_mirror(mean, faces, known)        # (V,) vertex numbers; is it a symmetry?

Notebook 01, Eq. 1.
"""

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.spatial import cKDTree
from trimesh.geometry import faces_to_edges

from face_models.mesh_cut import edge_keys
from face_models.registration import normals_of

FLIP = np.array([-1.0, 1.0, 1.0])
MIRROR_MM = 1.0  # how far from the mirror image of a vertex its mirror may be


def find_mirror(
    mean: Float[np.ndarray, "vertex 3"],
    faces: Int[np.ndarray, "face 3"],
    known: Int[np.ndarray, " vertex"],
) -> tuple[Int[np.ndarray, " vertex"], bool]:
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
