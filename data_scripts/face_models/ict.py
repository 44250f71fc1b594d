"""Reads ICT-FaceKit's folder `FaceXModel/` (Li et al., CVPR 2020), or a part of it.

    source = read_ict(Path("ICT-FaceKit/FaceXModel"))

It holds one mesh many times, in centimetres: `generic_neutral_mesh.obj`; `identityNNN.obj`, the
neutral face plus one standard deviation of a mode; an .obj per expression at its full strength; and
`vertex_indices.json`, which names the expressions and the 68 landmarks. The ranges of vertices are
those of the repository's README (github.com/ICT-VGL/ICT-FaceKit).

Notebook 01, Eq. 1.
"""

import json
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from rich.progress import track
from scipy.spatial import cKDTree

from face_models import Faces, Landmarks, Mask, Modes, Numbers, Vertices
from face_models.mesh_cut import FLIP
from face_models.source_model import SourceModel, errors
from face_models.tables import ImportModelError, refuse

VERTICES, MODES = 26719, 100
NARROW = 6706  # the face without ears, scalp and throat
# Each part's range of vertices, what is on the left before its right twin, and where its own square
# of uv lies in the one of all: corner and size.
SIDE = (0.75, 0.0, 0.25)
PARTS = {
    "face": (0, 9409, (0.0, 0.0, 0.75)),
    "head": (9409, 11248, SIDE),
    "mouth_socket": (11248, 13294, SIDE),
    "eye_sockets": (13294, 14062, SIDE),
    "gums_tongue": (14062, 17039, (0.75, 0.25, 0.25)),
    "teeth": (17039, 21451, (0.75, 0.5, 0.25)),
    "left_eyeball": (21451, 22221, (0.25, 0.75, 0.25)),
    "left_iris": (22221, 23021, None),
    "right_eyeball": (23021, 23791, (0.0, 0.75, 0.25)),
    "right_iris": (23791, 24591, None),
    "shells": (24591, 26719, None),
}
# What a smile shows: second bicuspid to second bicuspid, above and below.
FRONT_TEETH = (slice(17607, 18679), slice(19814, 20884))
# Parts whose mirror image is another part; every other part is its own.
TWINS = {"left_eyeball": "right_eyeball", "right_eyeball": "left_eyeball"}
# Irises lie inside the eyeballs; tears, lashes and shadows of the eyes are see-through.
NOT_DRAWN = ("left_iris", "right_iris", "shells")
ACTION_SD = 0.26  # root mean square of an action as faces are drawn: U(0, 1), one time in five
MM = 10.0  # in a centimetre


def part(name: str) -> slice:
    """The vertices of a part."""
    return slice(*PARTS[name][:2])


class Obj(NamedTuple):
    """What counts of an .obj file: places, texture coordinates, and the polygons as written."""

    vertices: Vertices
    texture: Float[np.ndarray, "corner 2"]
    polygons: list[str]


def read_obj(path: Path) -> Obj:
    """The file, its vertices as many and in that order: trimesh's loader splits them by uv."""
    try:
        lines = path.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError as error:
        refuse(path, f"cannot be read ({error.strerror or error})")

    def table(mark: str, width: int) -> np.ndarray:
        rows = [line for line in lines if line.startswith(mark)]
        try:
            values = np.loadtxt(rows, np.float64, usecols=range(1, width + 1), ndmin=2)
        except ValueError:
            values = np.full((1, width), np.nan)
        if not np.isfinite(values).all():
            refuse(path, f"a line {mark.strip()!r} does not hold {width} numbers: get it again")
        return values

    if (count := sum(line.startswith("v ") for line in lines)) != VERTICES:
        other = "it is of another model, or cut off: get it again"
        refuse(path, f"has {count} vertices, a mesh of ICT-FaceKit {VERTICES}; {other}")
    polygons = [line for line in lines if line.startswith("f ")]
    return Obj(table("v ", 3), table("vt ", 2) if polygons else np.zeros((0, 2)), polygons)


def corners(path: Path, obj: Obj) -> list[Int[np.ndarray, "polygon corner 2"]]:
    """Triangles and quads apart, each corner the numbers of its vertex and of its uv, from 0."""
    pattern = re.compile(r"f(?: (\d+)/(\d+)){3,4}\s*$")
    polygons: dict[int, list] = {3: [], 4: []}
    for line in obj.polygons:
        if not pattern.match(line):
            refuse(path, f"{line[:40]!r} is no triangle or quad with uv: get it again")
        polygon = [corner.split("/") for corner in line.split()[1:]]
        polygons[len(polygon)].append(polygon)
    tables = [np.array(p, np.int64).reshape(-1, n, 2) - 1 for n, p in polygons.items()]
    for numbers, most, what in ((0, VERTICES, "vertices"), (1, len(obj.texture), "uv")):
        if any(((t[..., numbers] < 0) | (t[..., numbers] >= most)).any() for t in tables):
            refuse(path, f"a polygon names {what} outside 1 to {most}")
    return tables


def mirror_of(mean: Vertices) -> Numbers:
    """The vertex at each one's mirror image, part by part: lids and lips have two layers."""
    mirror = np.arange(len(mean))
    for name in PARTS:
        twin = part(TWINS.get(name, name))
        mirror[part(name)] = twin.start + cKDTree(mean[twin] * FLIP).query(mean[part(name)])[1]
    return mirror


def triangles(tables: list[Int[np.ndarray, "polygon corner 2"]], mirror: Numbers) -> Faces:
    """Quads are cut from the corner whose number, or its mirror vertex's, is least: both alike."""
    key = np.minimum(mirror, np.arange(len(mirror)))
    three, four = (table[..., 0] for table in tables)
    start = key[four].argmin(1)
    a, b, c, d = (np.take_along_axis(four, (start + k)[:, None] % 4, 1)[:, 0] for k in range(4))
    halves = np.stack([np.stack([a, b, c], 1), np.stack([a, c, d], 1)], 1).reshape(-1, 3)
    return np.concatenate([three, halves])


def one_uv(
    tables: list[Int[np.ndarray, "polygon corner 2"]], texture: Float[np.ndarray, "corner 2"]
) -> Float[np.ndarray, "vertex 2"]:
    """One place per vertex in one square: each part has its own, and a seam one of its sides."""
    uv = np.zeros((VERTICES, 2))
    vertex, place = np.concatenate([t.reshape(-1, 2) for t in tables]).T
    uv[vertex[::-1]] = np.clip(texture[place[::-1]], 0, None)  # of several, the first in the file
    for name, (_, _, square) in PARTS.items():
        if square is not None:
            own = uv[part(name)]
            tile = np.floor(np.median(own, 0))  # its picture's number is u's whole part
            own[:] = square[:2] + square[2] * np.clip(own - tile, 0, 1)
    return uv


def face_region(mean: Vertices, wide: bool) -> Mask:
    """The face, and what its openings show: the eyeballs' fronts, the mouth's inside, teeth."""
    keep = np.zeros(len(mean), bool)
    for rows in (part("face") if wide else slice(NARROW), part("mouth_socket"), *FRONT_TEETH):
        keep[rows] = True
    for eyeball in map(part, TWINS):
        depth = mean[eyeball, 2]
        keep[eyeball] = depth > np.median(depth) - 12
    return keep


def check_side(path: Path, offset: Vertices, x: np.ndarray) -> None:
    """Refuse an action on the other side of the face; the subject's left is +x."""
    weight = (offset**2).sum(1)
    on_left = weight[x > 0].sum() / max(weight.sum(), 1e-12)
    expected = {"_L": on_left, "_R": 1 - on_left}.get(path.stem[-2:], 1.0)
    if expected < 0.1:
        refuse(path, "moves the other side of the face; left and right are mixed up: get it again")


def read_indices(folder: Path) -> tuple[list[str], Landmarks]:
    """The names of the expressions and the vertices of the landmarks, from vertex_indices.json."""
    path = folder / "vertex_indices.json"
    try:
        table = json.loads(path.read_text())
        names, landmarks = table["expressions"], np.array(table["idx_to_landmark_verts"], np.int64)
        names = [str(name) for name in names]
    except OSError as error:
        todo = "it names the landmarks and the expressions: copy it beside generic_neutral_mesh.obj"
        refuse(path, f"cannot be read ({error.strerror or error}); {todo}")
    except (ValueError, TypeError, KeyError) as error:
        reason = f"{type(error).__name__}: {error}"
        refuse(path, f"lacks a readable 'expressions' or 'idx_to_landmark_verts' ({reason})")
    if landmarks.shape != (68,) or landmarks.min() < 0 or landmarks.max() >= NARROW:
        expected = f"expected 68 vertices of the face, 0 to {NARROW - 1}, got {landmarks.size}"
        refuse(path, f"idx_to_landmark_verts: {expected}")
    return names, landmarks


def offsets(folder: Path, names: list[str], neutral: Obj) -> Modes:
    """Each named mesh less the neutral one, mm."""
    result = np.zeros((len(names), VERTICES, 3))
    bar = dict(console=errors, transient=True, disable=not errors.is_terminal)
    for i, name in enumerate(track(names, "meshes", **bar)):
        path = folder / f"{name}.obj"
        mesh = read_obj(path)
        if mesh.polygons != neutral.polygons:
            other = "it is cut off, or of another release: get the folder again"
            refuse(path, f"its polygons are not those of generic_neutral_mesh.obj; {other}")
        result[i] = MM * (mesh.vertices - neutral.vertices)
        if not result[i].any():
            refuse(path, "is the neutral face; get it again")
    return result


def read_ict(folder: Path, wide: bool = False, modes: int = 0) -> SourceModel:
    """The folder's model, mm, without what is see-through; `modes` identities, 0 all.

    wide: see `face_region`. Raises ImportModelError.
    """
    folder = folder / "FaceXModel" if (folder / "FaceXModel").is_dir() else folder
    if not folder.is_dir():
        reason = "is a file" if folder.is_file() else "no such folder"
        raise ImportModelError(f"{folder}: {reason}; give ICT-FaceKit's folder FaceXModel/")
    listed, landmarks = read_indices(folder)
    neutral = read_obj(folder / "generic_neutral_mesh.obj")
    tables = corners(folder / "generic_neutral_mesh.obj", neutral)
    present = sorted(p.stem for p in folder.glob("*.obj"))
    every = [name for name in present if re.fullmatch(r"identity\d{3}", name)]
    expressions = [name for name in listed if name in present]
    if not every:
        raise ImportModelError(f"{folder}: holds no identity000.obj or another mode's; get them")
    mean = MM * neutral.vertices
    identity = offsets(folder, every[: modes or None], neutral)
    actions = offsets(folder, expressions, neutral)
    for name, offset in zip(expressions, actions, strict=True):
        check_side(folder / f"{name}.obj", offset, mean[:, 0])
    mirror = mirror_of(mean)
    missing = [name for name in listed if name not in present]
    more = f" and {len(missing) - 4} more" if len(missing) > 4 else ""
    notes = [f"identity: {len(identity)} of ICT's {MODES} modes"]
    notes += [f"expressions: {len(expressions)} of the {len(listed)} in vertex_indices.json"]
    notes[1] += f"; not in the folder: {', '.join(missing[:4])}{more}" if missing else ""
    if strange := {*present} - {*every, *listed, "generic_neutral_mesh"}:
        notes.append(f"left out, not named there: {', '.join(sorted(strange))}")
    number, faces = np.arange(VERTICES), triangles(tables, mirror)
    hidden = np.isin(faces, np.concatenate([number[part(name)] for name in NOT_DRAWN]))
    # ARKit's names; left and right are the subject's
    controls = [re.sub("_R$", "Right", re.sub("_L$", "Left", name)) for name in expressions]
    return SourceModel(
        name="ICT-FaceKit",
        licence="MIT",
        provenance="ICT-FaceKit (github.com/ICT-VGL/ICT-FaceKit), copyright 2020 USC Institute for "
        "Creative Technologies; FaceXModel/ read by data_scripts/import_ict.py",
        mean=mean,
        identity=identity,
        expression=ACTION_SD * actions,
        faces=faces[~hidden.any(1)],
        landmarks=landmarks,
        uv=one_uv(tables, neutral.texture),
        mirror=mirror,
        keep=face_region(mean, wide),
        teeth=np.isin(number, number[part("teeth")]),
        controls=dict(zip(controls, np.eye(len(controls)) / ACTION_SD, strict=True)),
        notes=notes,
    )
