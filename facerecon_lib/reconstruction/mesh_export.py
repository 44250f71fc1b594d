"""A mesh with vertex colours as a .ply or .glb file.

    export_mesh("face.ply", vertices[0], faces, colors)

Notebook 10, section 2.1.
"""

import json
import os
import struct
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from ..face.colour import srgb_to_linear
from ..face.mesh import check_faces
from ..face.shapes import expect
from ..files.atomic import write_whole

INDICES = dict(type="SCALAR", componentType=5125)  # uint32; 5126 is float32


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
    its specification demands, in float32: dark skin would keep a third of its colours in 8 bits.
    """
    check_faces(faces)
    sizes = expect("vertices", vertices, "vertex 3", "export one face at a time")
    points = vertices.detach().cpu().numpy().astype("<f4")
    triangles = faces.cpu().numpy().astype("<u4")
    values = None
    if colors is not None:
        expect("colors", colors, "vertex 3", **sizes)
        values = colors.detach().double().cpu().clamp(0, 1)
    return (_ply if kind == "ply" else _glb)(points, triangles, values)


def _ply(points: np.ndarray, triangles: np.ndarray, colors: Tensor | None) -> bytes:
    """Greg Turk's format, binary: a header, the vertices, the triangles."""
    corner = [(axis, "<f4") for axis in "xyz"]
    if colors is not None:
        corner += [(channel, "u1") for channel in ("red", "green", "blue")]
    vertices = np.empty(len(points), corner)
    vertices["x"], vertices["y"], vertices["z"] = points.T
    if colors is not None:
        red, green, blue = np.round(colors.numpy().T * 255)
        vertices["red"], vertices["green"], vertices["blue"] = red, green, blue
    sides = np.empty(len(triangles), [("count", "u1"), ("corners", "<i4", 3)])
    sides["count"], sides["corners"] = 3, triangles
    names = {"<f4": "float", "u1": "uchar"}
    header = ["ply", "format binary_little_endian 1.0", f"element vertex {len(points)}"]
    header += [f"property {names[kind]} {name}" for name, kind in corner]
    header += [f"element face {len(triangles)}", "property list uchar int vertex_indices"]
    lines = "".join(f"{line}\n" for line in (*header, "end_header"))
    return lines.encode() + vertices.tobytes() + sides.tobytes()


def _glb(points: np.ndarray, triangles: np.ndarray, colors: Tensor | None) -> bytes:
    """glTF 2.0 in one file: a tree in JSON, then the arrays that it names."""
    arrays = {"POSITION": points}
    if colors is not None:
        arrays["COLOR_0"] = srgb_to_linear(colors).numpy().astype("<f4")
    arrays["indices"] = triangles.reshape(-1)
    accessors, views, blob = [], [], b""
    for i, array in enumerate(arrays.values()):
        kind = dict(type="VEC3", componentType=5126) if array.ndim == 2 else INDICES
        accessors.append({"bufferView": i, "count": len(array), **kind})
        views.append({"buffer": 0, "byteOffset": len(blob), "byteLength": array.nbytes})
        blob += array.tobytes()
    if len(points):
        accessors[0] |= {"min": points.min(0).tolist(), "max": points.max(0).tolist()}
    attributes = {name: i for i, name in enumerate(arrays)}
    primitive = {"indices": attributes.pop("indices"), "attributes": attributes}
    tree = {
        "asset": {"version": "2.0", "generator": "facerecon-lib"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0}],
        "meshes": [{"primitives": [primitive]}],
        "accessors": accessors,
        "bufferViews": views,
        "buffers": [{"byteLength": len(blob)}],
    }
    text = json.dumps(tree).encode()
    chunks = [(b"JSON", text + b" " * (-len(text) % 4)), (b"BIN\0", blob)]
    body = b"".join(struct.pack("<I", len(data)) + name + data for name, data in chunks)
    return b"glTF" + struct.pack("<II", 2, 12 + len(body)) + body


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
