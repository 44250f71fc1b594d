"""Reads FLAME, 2020 or 2023.

    source = read_flame(Path("generic_model.pkl"), landmarks=Path("landmark_embedding.npy"))

FLAME (Li et al., SIGGRAPH Asia 2017) is a pickle in metres, +y up and +z out of the face, 5,023
vertices. shapedirs holds 300 identity and 100 expression directions per standard deviation.

The mouth opens by a joint, which Eq. 1 does not have. One more expression mode is its linear part:
half the difference of skinning at +0.2 and -0.2 rad about the jaw's x axis; the import prints what
that loses. Neck and eyes stay still. posedirs are left out: they correct poses of the joints.

Notebook 01, Eq. 1.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import issparse
from scipy.spatial.transform import Rotation

from face_models import Faces, Landmarks, PerVertex, Vertices
from face_models.flame_albedo import read_albedo
from face_models.landmarks import read_landmarks
from face_models.pickles import read_pickle
from face_models.source_model import SourceModel
from face_models.tables import check_kind, outwards, read_npz, refuse, triangles

MM = 1000.0  # of a metre
IDENTITY, EXPRESSION = 300, 100
JOINTS, JAW = 5, 2  # the whole, neck, jaw, left and right eye
STEP, OPEN = 0.2, 0.4  # rad: one standard deviation of the jaw's mode, and jawOpen in full
SIZE = (0.05, 1.0)  # metres that a head may be high
LICENCE = (
    "FLAME's own, as accepted for the download, not to be passed on: CC BY 4.0 for FLAME 2023 Open,"
    " research without profit for the others (flame.is.tue.mpg.de/modellicense.html)"
)
ALBEDO_LICENCE = "; albedo: academic research (github.com/waps101/AlbedoMM)"
EMBEDDINGS = (
    ("full_lmk_faces_idx", "full_lmk_bary_coords"),
    ("lmk_face_idx", "lmk_b_coords"),
    ("static_lmk_faces_idx", "static_lmk_bary_coords"),
)


@dataclass(eq=False)
class Flame:
    """What is used of FLAME's pickle, in metres."""

    template: Vertices
    directions: Float[np.ndarray, "vertex 3 400"]
    faces: Faces
    joint: Float[np.ndarray, " 3"]  # the jaw's
    weight: PerVertex  # of the jaw, and of what hangs on it
    corrective: Float[np.ndarray, "vertex 3 9"] | None  # posedirs' columns of the jaw


def read_flame(
    path: Path,
    albedo: Path | None = None,
    landmarks: Path | None = None,
    jaw: bool | None = None,
    modes: int = 0,
) -> SourceModel:
    """The model of a pickle of FLAME's, or an .npz of its arrays. Raises ImportModelError.

    albedo: AlbedoMM's .npz. landmarks: an embedding (.pkl, .npy, .npz), or vertex numbers. jaw: a
    mode for it; None: unless the file's name says no_jaw. modes: of each basis, 0 all.
    """
    flame, first = read_parts(path), slice(modes or None)
    mean = MM * flame.template
    directions = MM * np.moveaxis(flame.directions, 2, 0)
    source = SourceModel(
        name=f"FLAME ({path.stem})",
        licence=LICENCE,
        provenance=f"{path.name}; posedirs, neck and eyeballs' rotation left out",
        mean=mean,
        identity=directions[:IDENTITY][first],
        expression=directions[IDENTITY:][first],
        faces=outwards(path, mean, flame.faces),
    )
    if jaw or (jaw is None and "no_jaw" not in path.stem.lower()):
        add_jaw(path, flame, source)
    if landmarks is not None:
        source.landmarks = read_points(landmarks, flame.faces, len(mean))
    if albedo is not None:
        source.albedo_mean, source.albedo, source.uv = read_albedo(albedo, flame.faces, len(mean))
        source.albedo = source.albedo[first]
        source.licence += ALBEDO_LICENCE
        source.provenance += f"; diffuse albedo of {albedo.name}, from linear light to sRGB"
    return source


def read_parts(path: Path) -> Flame:
    """The file's arrays, their sizes checked against each other."""
    needed = ("v_template", "shapedirs", "f", "J_regressor", "weights", "kintree_table")
    held = read_file(path, (*needed, "posedirs"))
    if lacking := [name for name in needed if name not in held]:
        refuse(path, f"lacks {', '.join(lacking)}: no FLAME model (generic_model.pkl)")
    parts = {name: numbers(path, name, held[name]) for name in needed}
    template, count = parts["v_template"], len(parts["v_template"])
    if (joints := parts["weights"].shape[-1]) != JOINTS:
        refuse(path, f"has {joints} joints, FLAME has {JOINTS}: is it SMPL, MANO or SMPL-X?")
    shapes = {
        "v_template": (count, 3),
        "shapedirs": (count, 3, IDENTITY + EXPRESSION),
        "J_regressor": (JOINTS, count),
        "weights": (count, JOINTS),
        "kintree_table": (2, JOINTS),
    }
    for name, shape in shapes.items():
        if parts[name].shape != shape:
            refuse(path, f"{name} has shape {parts[name].shape}, expected {shape}; is it FLAME?")
    height = np.ptp(template[:, 1])
    if not SIZE[0] < height < SIZE[1]:
        refuse(path, f"is {height:.3g} high, not a head in metres ({SIZE[0]} to {SIZE[1]})")
    moved = [j for j in range(JOINTS) if JAW in chain(path, parts["kintree_table"][0], j)]
    posedirs = numbers(path, "posedirs", held.get("posedirs", np.zeros(0)))
    whole = posedirs.shape == (count, 3, 9 * (JOINTS - 1))
    return Flame(
        template=template,
        directions=parts["shapedirs"],
        faces=triangles(path, parts["f"], count, first=0),
        joint=parts["J_regressor"][JAW] @ template,
        weight=parts["weights"][:, moved].sum(1),
        corrective=posedirs[:, :, 9 * (JAW - 1) : 9 * JAW] if whole else None,
    )


def read_file(path: Path, names: tuple[str, ...] = ()) -> dict:
    """What a pickle holds, or an .npz, of that `names` alone where there are some."""
    if path.suffix.lower() == ".npz":
        return read_npz(path, names)
    check_kind(path)
    return read_pickle(path)


def numbers(path: Path, name: str, value) -> np.ndarray:
    """A part as a dense array: float64, or as it is when of whole numbers."""
    value = value.toarray() if issparse(value) and value.shape[0] <= JOINTS else value
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "iuf":
        refuse(path, f"{name} holds no table of numbers")
    value = value.astype(np.float64 if value.dtype.kind == "f" else np.int64)
    if not np.isfinite(value).all():
        refuse(path, f"{name} holds numbers that are not finite")
    return value


def chain(path: Path, parents: Int[np.ndarray, " joint"], joint: int) -> list[int]:
    """A joint and those that it hangs on. The root's parent is -1, or 2**32 - 1."""
    links = [joint]
    while 0 <= (parent := int(parents[links[-1]])) < JOINTS:
        if parent in links:
            refuse(path, "kintree_table goes round in a circle")
        links.append(parent)
    return links


def skinned(flame: Flame, angle: float) -> Vertices:
    """The mean face, mm, its jaw turned by so many radians about x: linear blend skinning."""
    arm = flame.template - flame.joint
    turned = arm @ Rotation.from_euler("x", angle).as_matrix().T
    return MM * (flame.template + flame.weight[:, None] * (turned - arm))


def add_jaw(path: Path, flame: Flame, source: SourceModel) -> None:
    """One more expression mode with the control jawOpen, and notes on what it loses."""
    mode = (skinned(flame, STEP) - skinned(flame, -STEP)) / 2  # odd in the angle: no square of it
    far = np.linalg.norm(mode, axis=1).max()
    if far < 1:
        refuse(path, f"its jaw moves by {far:.2g} mm for {STEP} rad; leave it out with --no-jaw")
    source.expression = np.concatenate([source.expression, mode[None]])
    source.controls = {"jawOpen": np.eye(len(source.expression))[-1] * OPEN / STEP}
    arcs = (skinned(flame, a) - source.mean - a / STEP * mode for a in (STEP, OPEN))
    lost = [np.linalg.norm(arc, axis=1).max() for arc in arcs]
    mode_is = f"one SD for {STEP} rad ({far:.1f} mm at most), jawOpen for {OPEN} rad"
    arc = "the joint's arc differs by at most {:.1f} mm there, {:.1f} mm in full".format(*lost)
    source.notes.append(f"jaw: a linear mode, {mode_is}; {arc}")
    if flame.corrective is not None:
        entries = (Rotation.from_euler("x", OPEN).as_matrix() - np.eye(3)).ravel()
        skin = np.linalg.norm(MM * flame.corrective @ entries, axis=1).max()
        source.notes.append(f"posedirs left out: {skin:.1f} mm at most with the jaw at {OPEN} rad")


def read_points(path: Path, faces: Faces, count: int) -> Landmarks:
    """68 vertices of an embedding: of each point's triangle the corner that is nearest to it.

    51 points are 18 to 68; the jaw's are then -1, to be detected. FLAME's flame_static_embedding
    (.pkl), DECA's landmark_embedding.npy, an .npz, or a list of vertices (.txt, .json).
    """
    if path.suffix not in (".pkl", ".npy", ".npz"):
        return read_landmarks(path, count)
    held = read_file(path)
    names = next((pair for pair in EMBEDDINGS if all(n in held for n in pair)), None)
    if names is None:
        refuse(path, f"lacks {' and '.join(EMBEDDINGS[1])}: no embedding of landmarks in FLAME")
    face, corner = (numbers(path, name, held[name]) for name in names)
    face = face.ravel()
    if len(face) not in (51, 68) or corner.size != 3 * len(face):
        refuse(path, f"{names[0]} has {len(face)} points, expected 51 or 68")
    if face.min() < 0 or face.max() >= len(faces):
        refuse(path, f"{names[0]} names triangles outside 0 to {len(faces) - 1}")
    nearest = faces[face.astype(int), corner.reshape(-1, 3).argmax(1)]
    return np.concatenate([np.full(68 - len(nearest), -1), nearest])
