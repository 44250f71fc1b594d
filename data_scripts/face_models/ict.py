"""Reads ICT-FaceKit's folder `FaceXModel/`.

    source = read_ict(Path("ICT-FaceKit/FaceXModel"))

The folder holds one mesh many times: `generic_neutral_mesh.obj`; `identityNNN.obj`, the neutral
face plus one standard deviation of a mode; an .obj an expression at its full strength; and
`vertex_indices.json`, which names the expressions and the 68 landmarks. Lengths are centimetres.
What each range of vertices is, the repository's README says (github.com/ICT-VGL/ICT-FaceKit). A
part of the folder is enough.

R. Li and others, "Learning formation of physically-based face attributes", CVPR 2020.

Notebook 01, Eq. 1.
"""

import json
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from rich.progress import track
from scipy.spatial import cKDTree

from face_models.mesh_mirror import FLIP
from face_models.source_model import SourceModel, errors
from face_models.tables import ImportModelError, refuse

VERTICES, LANDMARKS, MODES = 26719, 68, 100
NARROW = 6706  # the face without ears, scalp and throat
PARTS = {  # the vertices' ranges; what is on the left comes before its right twin
    "face": (0, 9409),
    "head": (9409, 11248),
    "mouth_socket": (11248, 13294),
    "eye_sockets": (13294, 14062),
    "gums_tongue": (14062, 17039),
    "teeth": (17039, 21451),
    "left_eyeball": (21451, 22221),
    "left_iris": (22221, 23021),
    "right_eyeball": (23021, 23791),
    "right_iris": (23791, 24591),
    "shells": (24591, 26719),
}
# What a smile shows: second bicuspid to second bicuspid, above and below.
FRONT_TEETH = ((17607, 18679), (19814, 20884))
# Parts whose mirror image is another part; every other part is its own.
TWINS = {"left_eyeball": "right_eyeball", "right_eyeball": "left_eyeball"}
# Irises lie inside the eyeballs; tears, lashes and shadows of the eyes are see-through.
NOT_DRAWN = ("left_iris", "right_iris", "shells")
ATLAS = {  # corner and size, in one uv square, of the square that each part has to itself
    "face": (0.0, 0.0, 0.75),
    "head": (0.75, 0.0, 0.25),
    "mouth_socket": (0.75, 0.0, 0.25),
    "eye_sockets": (0.75, 0.0, 0.25),
    "gums_tongue": (0.75, 0.25, 0.25),
    "teeth": (0.75, 0.5, 0.25),
    "left_eyeball": (0.25, 0.75, 0.25),
    "right_eyeball": (0.0, 0.75, 0.25),
}
ACTION_SD = 0.26  # root mean square of an action as faces are drawn: U(0, 1), one time in five
MM = 10.0  # in a centimetre


class Obj(NamedTuple):
    """What counts of an .obj file: places, texture coordinates, and the polygons as written."""

    vertices: Float[np.ndarray, "vertex 3"]
    texture: Float[np.ndarray, "corner 2"]
    polygons: list[str]


def read_obj(path: Path) -> Obj:
    """The file, its vertices as many and in that order: trimesh's loader splits them by uv.

    Raises ImportModelError for a file that is missing, cut off, or of another mesh's size.
    """
    try:
        lines = path.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError as error:
        raise ImportModelError(f"{path}: cannot be read ({error.strerror or error})") from None

    def table(mark: str, width: int) -> np.ndarray:
        rows = [line for line in lines if line.startswith(mark)]
        try:
            values = np.loadtxt(rows, np.float64, usecols=range(1, width + 1), ndmin=2)
        except ValueError:
            values = np.full((1, width), np.nan)
        if not np.isfinite(values).all():
            refuse(path, f"a line {mark.strip()!r} does not hold {width} numbers: get it again")
        return values

    count = sum(line.startswith("v ") for line in lines)
    if count != VERTICES:
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


def mirror_of(mean: Float[np.ndarray, "vertex 3"]) -> Int[np.ndarray, " vertex"]:
    """The vertex at each one's mirror image, part by part: lids and lips have two layers."""
    mirror = np.arange(len(mean))
    for part, (start, stop) in PARTS.items():
        low, high = PARTS[TWINS.get(part, part)]
        mirror[start:stop] = low + cKDTree(mean[low:high] * FLIP).query(mean[start:stop])[1]
    return mirror


def triangles(
    tables: list[Int[np.ndarray, "polygon corner 2"]], mirror: Int[np.ndarray, " vertex"]
) -> Int[np.ndarray, "face 3"]:
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
    """One place per vertex in one square: each part has its own, and a seam one of its sides.

    The narrow face has no seam; the whole one has them at the ears and the neck (138 vertices).
    """
    uv = np.zeros((VERTICES, 2))
    vertex, place = np.concatenate([t.reshape(-1, 2) for t in tables]).T
    uv[vertex[::-1]] = np.clip(texture[place[::-1]], 0, None)  # of several, the first in the file
    for part, (u, v, size) in ATLAS.items():
        rows = slice(*PARTS[part])
        tile = np.floor(np.median(uv[rows], 0))  # its picture's number is u's whole part
        uv[rows] = (u, v) + size * np.clip(uv[rows] - tile, 0, 1)
    return uv


def face_region(mean: Float[np.ndarray, "vertex 3"], wide: bool) -> Bool[np.ndarray, " vertex"]:
    """The face, and what its openings show: the eyeballs' fronts, the mouth's inside, teeth."""
    keep = np.zeros(len(mean), bool)
    keep[: PARTS["face"][1] if wide else NARROW] = True
    for start, stop in (PARTS["mouth_socket"], *FRONT_TEETH):
        keep[start:stop] = True
    for part in TWINS:
        ball = mean[slice(*PARTS[part])]
        keep[slice(*PARTS[part])] = ball[:, 2] > np.median(ball[:, 2]) - 12
    return keep


def check_side(path: Path, offset: Float[np.ndarray, "vertex 3"], x: np.ndarray) -> None:
    """The subject's left is +x. Raises ImportModelError for an action on the other side."""
    weight = (offset**2).sum(1)
    on_left = weight[x > 0].sum() / max(weight.sum(), 1e-12)
    expected = {"_L": on_left, "_R": 1 - on_left}.get(path.stem[-2:], 1.0)
    if expected < 0.1:
        refuse(path, "moves the other side of the face; left and right are mixed up: get it again")


def read_indices(folder: Path) -> tuple[list[str], Int[np.ndarray, " 68"]]:
    """The names of the expressions and the vertices of the landmarks, from vertex_indices.json."""
    path = folder / "vertex_indices.json"
    try:
        table = json.loads(path.read_text())
        names, landmarks = table["expressions"], np.array(table["idx_to_landmark_verts"], np.int64)
        names = [str(name) for name in names]
    except OSError as error:
        raise ImportModelError(
            f"{path}: cannot be read ({error.strerror or error}); it names the landmarks and the "
            "expressions: copy it beside generic_neutral_mesh.obj"
        ) from None
    except (ValueError, TypeError, KeyError) as error:
        reason = f"{type(error).__name__}: {error}"
        refuse(path, f"lacks a readable 'expressions' or 'idx_to_landmark_verts' ({reason})")
    if landmarks.shape != (LANDMARKS,) or landmarks.min() < 0 or landmarks.max() >= NARROW:
        expected = f"expected 68 vertices of the face, 0 to {NARROW - 1}, got {landmarks.size}"
        refuse(path, f"idx_to_landmark_verts: {expected}")
    return names, landmarks


def offsets(folder: Path, names: list[str], neutral: Obj) -> Float[np.ndarray, "mode vertex 3"]:
    """Each named mesh less the neutral one, mm. Raises ImportModelError for another topology."""
    result = np.zeros((len(names), VERTICES, 3))
    quiet = not errors.is_terminal
    bar = track(names, "meshes", console=errors, transient=True, disable=quiet)
    for i, name in enumerate(bar):
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
    """The folder's model, mm, without what is see-through. Raises ImportModelError.

    wide: see `face_region`. modes: the first so many identities; 0 all that are there.
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
    identities = every[: modes or None]
    mean = MM * neutral.vertices
    identity = offsets(folder, identities, neutral)
    actions = offsets(folder, expressions, neutral)
    for name, offset in zip(expressions, actions, strict=True):
        check_side(folder / f"{name}.obj", offset, mean[:, 0])
    mirror = mirror_of(mean)
    strange = set(present) - set(every) - set(listed) - {"generic_neutral_mesh"}
    missing = [name for name in listed if name not in present]
    more = f" and {len(missing) - 4} more" if len(missing) > 4 else ""
    notes = [
        f"identity: {len(identities)} of ICT's {MODES} modes",
        f"expressions: {len(expressions)} of the {len(listed)} in vertex_indices.json"
        + (f"; not in the folder: {', '.join(missing[:4])}{more}" if missing else ""),
    ]
    if strange:
        notes.append(f"left out, not named there: {', '.join(sorted(strange))}")
    drawn, teeth = np.ones(VERTICES, bool), np.zeros(VERTICES, bool)
    for part in NOT_DRAWN:
        drawn[slice(*PARTS[part])] = False
    teeth[slice(*PARTS["teeth"])] = True
    faces = triangles(tables, mirror)
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
        faces=faces[drawn[faces].all(1)],
        landmarks=landmarks,
        uv=one_uv(tables, neutral.texture),
        mirror=mirror,
        keep=face_region(mean, wide),
        teeth=teeth,
        controls=dict(zip(controls, np.eye(len(controls)) / ACTION_SD, strict=True)),
        notes=notes,
    )
