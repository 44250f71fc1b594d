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
    colors: sRGB in [0, 1], clamped. A PLY holds them as sRGB in 8 bits; a GLB as linear light, as
    its specification demands, in float32: dark skin would keep a third of its colours in 8 bits,
    and of 16, which it allows too, trimesh reads the low byte.
    """
    import trimesh  # here, so that fitting does not wait for it

    check_faces(faces)
    sizes = expect("vertices", vertices, "vertex 3", "export one face at a time")
    points, triangles = vertices.detach().cpu().numpy(), faces.cpu().numpy()
    mesh = trimesh.Trimesh(points, triangles, process=False)
    if colors is None:
        return mesh.export(file_type=kind)
    expect("colors", colors, "vertex 3", **sizes)
    values = colors.detach().double().cpu().clamp(0, 1)
    if kind == "ply":
        mesh.visual.vertex_colors = np.round(values.numpy() * 255).astype(np.uint8)
        return mesh.export(file_type=kind)
    mesh.vertex_attributes["_color"] = srgb_to_linear(values).numpy().astype(np.float32)
    return mesh.export(file_type=kind, tree_postprocessor=_name_colours)


def _name_colours(tree: dict) -> None:
    """Make the attribute of our own the mesh's colours: trimesh's are of 8 bits."""
    attributes = tree["meshes"][0]["primitives"][0]["attributes"]
    attributes["COLOR_0"] = attributes.pop("_color")


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
