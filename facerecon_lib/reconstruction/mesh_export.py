"""A mesh with vertex colours or a texture as a .ply or .glb file.

    export_mesh("face.ply", vertices[0], faces, colors)
    export_mesh("face.glb", vertices[0], faces, colors, texture)

Notebook 10, section 2.1.
"""

import io
import json
import os
import struct
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor

from ..face.colour import srgb_to_linear
from ..face.mesh import check_faces, vertex_normals
from ..face.shapes import expect
from ..files.atomic import write_whole
from ..rendering.atlas import Texture

INDICES = dict(type="SCALAR", componentType=5125)  # uint32; 5126 is float32


def mesh_file(
    kind: str,
    vertices: Float[Tensor, "vertex 3"],
    faces: Int[Tensor, "face 3"],
    colors: Float[Tensor, "vertex 3"] | None = None,
    texture: Texture | None = None,
) -> bytes:
    """The bytes of a file of kind "ply" or "glb".

    vertices: written as they are, mm in both formats (a viewer that takes a GLB for metres, as its
    specification has it, shows the face a thousand times larger: scale the node by 0.001 there).
    colors: sRGB in [0, 1], clamped. A PLY holds them as sRGB in 8 bits; a GLB as linear light, as
    its specification demands, in float32: dark skin would keep a third of its colours in 8 bits.
    texture: in a GLB, instead of the colours: a JPEG, and normals, since the vertices are split
        where its charts meet. Viewers put no light on one that is lit.
    """
    check_faces(faces)
    sizes = expect("vertices", vertices, "vertex 3", "export one face at a time")
    points = vertices.detach().cpu().numpy().astype("<f4")
    triangles = faces.cpu().numpy().astype("<u4")
    values = None
    if colors is not None:
        expect("colors", colors, "vertex 3", **sizes)
        values = colors.detach().double().cpu().clamp(0, 1)
    if kind == "ply":
        return _ply(points, triangles, values)
    if texture is not None:
        return _textured(vertices.detach(), faces, texture)
    arrays = {"POSITION": points}
    if values is not None:
        arrays["COLOR_0"] = srgb_to_linear(values).numpy().astype("<f4")
    return _glb(arrays, triangles)


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


def _textured(vertices: Tensor, faces: Tensor, texture: Texture) -> bytes:
    """A GLB with normals and a JPEG."""
    vertex, corners, uv = texture.atlas[:3]
    normals = vertex_normals(vertices[None], faces)[0]
    parts = {"POSITION": vertices[vertex], "NORMAL": normals[vertex], "TEXCOORD_0": uv}
    arrays = {name: part.cpu().numpy().astype("<f4") for name, part in parts.items()}
    pixels = (texture.image[0].permute(1, 2, 0) * 255).round().byte().cpu().numpy()
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=92)
    material = {"pbrMetallicRoughness": {"baseColorTexture": {"index": 0}, "metallicFactor": 0}}
    more = {"materials": [material], "textures": [{"source": 0}]}
    if texture.lit:
        material["extensions"] = {"KHR_materials_unlit": {}}
        more["extensionsUsed"] = ["KHR_materials_unlit"]
    return _glb(arrays, corners.cpu().numpy().astype("<u4"), stream.getvalue(), **more)


def _glb(
    arrays: dict[str, np.ndarray], triangles: np.ndarray, jpeg: bytes = b"", **more: list
) -> bytes:
    """glTF 2.0 in one file: a tree in JSON, then the arrays and the picture that it names."""
    arrays = {**arrays, "indices": triangles.reshape(-1)}
    points = arrays["POSITION"]
    accessors, views, blob = [], [], b""
    for i, array in enumerate(arrays.values()):
        floats = dict(type=f"VEC{array.shape[-1]}", componentType=5126)
        kind = INDICES if array.ndim == 1 else floats
        accessors.append({"bufferView": i, "count": len(array), **kind})
        views.append({"buffer": 0, "byteOffset": len(blob), "byteLength": array.nbytes})
        blob += array.tobytes()
    if len(points):
        accessors[0] |= {"min": points.min(0).tolist(), "max": points.max(0).tolist()}
    attributes = {name: i for i, name in enumerate(arrays)}
    primitive = {"indices": attributes.pop("indices"), "attributes": attributes}
    if jpeg:
        primitive["material"] = 0
        more["images"] = [{"bufferView": len(views), "mimeType": "image/jpeg"}]
        views.append({"buffer": 0, "byteOffset": len(blob), "byteLength": len(jpeg)})
        blob += jpeg + bytes(-len(jpeg) % 4)
    tree = {
        "asset": {"version": "2.0", "generator": "facerecon-lib"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0}],
        "meshes": [{"primitives": [primitive]}],
        "accessors": accessors,
        "bufferViews": views,
        "buffers": [{"byteLength": len(blob)}],
        **more,
    }
    text = json.dumps(tree).encode()
    chunks = [(b"JSON", text + b" " * (-len(text) % 4)), (b"BIN\0", blob)]
    body = b"".join(struct.pack("<I", len(data)) + name + data for name, data in chunks)
    return b"glTF" + struct.pack("<II", 2, 12 + len(body)) + body


def export_mesh(path: str | os.PathLike, *mesh: Tensor | Texture | None) -> Path:
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
