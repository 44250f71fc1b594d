"""A mesh with vertex colours as a .ply or .glb file.

    export_mesh("face.ply", vertices[0], faces, colors)

Notebook 10, section 2.1.
"""

import os
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from ..face.colour import srgb_to_linear
from ..face.mesh import check_faces
from ..face.shapes import expect
from ..files.atomic import write_whole


def mesh_file(
    kind: str,
    vertices: Float[Tensor, "vertex 3"],
    faces: Int[Tensor, "face 3"],
    colors: Float[Tensor, "vertex 3"] | None = None,
) -> bytes:
    """The bytes of a file of kind "ply" or "glb".

    vertices: written as they are, mm in both formats (a viewer that takes a GLB for metres, as its
    specification has it, shows the face a thousand times larger: scale the node by 0.001 there).
    colors: sRGB in [0, 1], clamped and stored as uint8. A PLY holds them as sRGB; a GLB as linear
    light, as its specification demands.
    """
    import trimesh  # here, so that fitting does not wait for it

    check_faces(faces)
    sizes = expect("vertices", vertices, "vertex 3", "export one face at a time")
    stored = None
    if colors is not None:
        expect("colors", colors, "vertex 3", **sizes)
        values = colors.detach().double().cpu().clamp(0, 1)
        values = srgb_to_linear(values) if kind == "glb" else values
        stored = np.full((len(values), 4), 255, dtype=np.uint8)
        stored[:, :3] = np.round(values.numpy() * 255)
    points, triangles = vertices.detach().cpu().numpy(), faces.cpu().numpy()
    mesh = trimesh.Trimesh(points, triangles, vertex_colors=stored, process=False)
    return mesh.export(file_type=kind)


def export_mesh(path: str | os.PathLike, *mesh: Tensor) -> Path:
    """Write a mesh, given as to `mesh_file`, to a .ply or .glb file, whole or not at all.

    Raises ValueError on another suffix or shape.
    """
    path = Path(path)
    kind = path.suffix.lower().lstrip(".")
    if kind not in ("ply", "glb"):
        raise ValueError(f"path: expected a name that ends in .ply or .glb, got {path.name!r}")
    data = mesh_file(kind, *mesh)
    with write_whole(path) as partial:
        partial.write_bytes(data)
    return path
