"""Reads a bilinear tensor of FaceWarehouse's layout (Cao et al., TVCG 2014).

    source = read_bilinear(Path("tensor.npz"), Path("neutral.obj"))
    run_bilinear(Path("tensor.npz"), Path("bilinear.safetensors"))

The tensor is (people, poses, vertices, 3) or (people, poses, 3 x vertices): FaceWarehouse's is
150 x 47 x 11,510, pose 0 at rest. Units are told by the size of a face at rest.

Notebook 01, Eq. 1.
"""

from pathlib import Path

import numpy as np
import torch
import trimesh
import typer
from jaxtyping import Float

from face_models import Faces
from face_models.source_model import SourceModel, claim, console, errors
from face_models.tables import ImportModelError, check_kind, outwards, read_mat, read_npz, refuse
from facerecon_lib.face.bilinear import BilinearModel
from facerecon_lib.files.errors import FacereconError, one_line

NAMES = ("tensor", "vertices", "data", "core")
IDENTITIES, LEAST_PEOPLE, POSES = 50, 8, (2, 200)
UNITS = {"mm": 1.0, "cm": 10.0, "dm": 100.0, "m": 1000.0}
FACE_MM = (150.0, 450.0)  # the largest extent of a face at rest, with or without the head
LICENCE = "its owner's: not to be passed on"

Tensor4 = Float[np.ndarray, "person pose vertex 3"]


def read_tensor(path: Path) -> tuple[Tensor4, str]:
    """The tensor in mm, and the units that it was in. Raises ImportModelError."""
    if path.suffix == ".mat":
        arrays = read_mat(path, NAMES)
    elif path.suffix == ".npz":
        arrays = read_npz(path, NAMES, most_bytes=2**33)
    elif path.suffix == ".npy":
        check_kind(path)
        try:
            arrays = {"tensor": np.load(path, allow_pickle=False)}
        except (OSError, ValueError, EOFError) as error:
            refuse(path, f"not a readable .npy of numbers ({type(error).__name__}); get it again")
    else:
        todo = "save the array as .npy first (float32: people, poses, vertices, 3)"
        refuse(path, f"is no .mat, .npz or .npy; {todo}")
    if "core" in arrays and len(arrays) == 1:
        todo = "give the raw tensor of people and poses"
        refuse(path, f"holds a core tensor alone, whose axes are no people and no poses; {todo}")
    named = [name for name in NAMES[:3] if name in arrays]
    if not named:
        refuse(path, f"lacks an array called {', '.join(NAMES[:3])}")
    tensor = np.asarray(arrays[named[0]])
    if tensor.dtype.kind not in "iuf":
        refuse(path, f"{named[0]} holds no numbers")
    if tensor.ndim == 3 and tensor.shape[2] % 3 == 0:
        tensor = tensor.reshape(*tensor.shape[:2], -1, 3)
    if tensor.ndim != 4 or tensor.shape[3] != 3:
        expected = "expected (people, poses, vertices, 3) or (people, poses, 3 x vertices)"
        refuse(path, f"{named[0]} has the shape {tensor.shape}, {expected}")
    people, poses, vertices, _ = tensor.shape
    if people < LEAST_PEOPLE:
        refuse(path, f"holds {people} people; a basis of identities needs {LEAST_PEOPLE} or more")
    if not POSES[0] <= poses <= POSES[1]:
        todo = "is the first axis the people, the second the poses?"
        refuse(path, f"holds {poses} poses, expected {POSES[0]} to {POSES[1]}: {todo}")
    if vertices < 100:
        refuse(path, f"holds {vertices} vertices: no face has so few")
    tensor = tensor.astype(np.float32)
    if not np.isfinite(tensor).all():
        refuse(path, "holds numbers that are not finite: get it again")
    size = float(np.median(np.ptp(tensor[:, 0], axis=1).max(-1)))
    for unit, mm in UNITS.items():
        if FACE_MM[0] <= size * mm <= FACE_MM[1]:
            return tensor * np.float32(mm), unit
    sizes = f"{', '.join(UNITS)}, {FACE_MM[0]:.0f} to {FACE_MM[1]:.0f} mm across"
    refuse(path, f"a face at rest is {size:.4g} across: no face in {sizes}")


def read_mesh(path: Path | None, count: int) -> Faces:
    """The triangles of an .obj of `count` vertices; polygons are cut."""
    if path is None:
        raise ImportModelError("--mesh: a tensor holds no triangles; name an .obj of its mesh")
    check_kind(path)
    try:
        mesh = trimesh.load(path, process=False, maintain_order=True, skip_materials=True)
        vertices, faces = mesh.vertices, np.asarray(mesh.faces, np.int64)
    except Exception as error:  # trimesh raises whatever the damage made it stumble over
        refuse(path, f"not a readable .obj ({type(error).__name__}); get it again")
    if len(vertices) != count or not len(faces):
        refuse(
            path, f"has {len(vertices)} vertices, {len(faces)} triangles; the tensor has {count}"
        )
    return faces


def pose_names(path: Path | None, poses: int) -> list[str]:
    """One line per pose but the first, or per pose; numbers without a file."""
    if path is None:
        return [f"pose{i:02d}" for i in range(1, poses)]
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise ImportModelError(f"--names {path}: cannot be read ({one_line(error)})") from None
    lines = [line for line in lines if line]
    lines = lines[1:] if len(lines) == poses else lines
    if len(lines) != poses - 1 or len(set(lines)) < len(lines):
        fault = f"expected {poses - 1} different names, a line each, got {len(set(lines))}"
        raise ImportModelError(f"--names {path}: {fault}")
    return lines


def read_bilinear(
    path: Path, mesh: Path | None, modes: int = 0, names: Path | None = None
) -> SourceModel:
    """Eq. 1 nearest to a tensor, mm: PCA of the faces at rest, and the mean of each pose.

    modes: identities; 0: 50, or one fewer than people. Raises ImportModelError.
    """
    tensor, unit = read_tensor(path)
    people, poses, count, _ = tensor.shape
    named = pose_names(names, poses)
    faces = read_mesh(mesh, count)
    rest = tensor[:, 0].astype(np.float64)
    mean = rest.mean(0)
    rank = min(modes or IDENTITIES, people - 1)
    _, size, directions = np.linalg.svd((rest - mean).reshape(people, -1), full_matrices=False)
    identity = (size[:rank, None] / (people - 1) ** 0.5 * directions[:rank]).reshape(rank, -1, 3)
    moved = (tensor[:, 1:] - tensor[:, :1]).astype(np.float64)
    expression = moved.mean(0)
    lost = float(np.linalg.norm(moved - expression, axis=-1).max(-1).mean())
    notes = [
        f"{people} people in {poses} poses, in {unit}; {rank} identity modes of the faces at rest"
    ]
    notes.append(
        "expressions: the mean of what a pose moves; its furthest vertex is off by"
        f" {lost:.1f} mm for one person (mean), which --bilinear keeps"
    )
    return SourceModel(
        name=f"linear part of {path.stem}",
        licence=LICENCE,
        provenance=f"{path.name}, read by data_scripts/import_bilinear.py",
        mean=mean,
        identity=identity,
        expression=expression,
        faces=outwards(path, mean, faces),
        controls=dict(zip(named, np.eye(poses - 1), strict=True)),
        notes=notes,
    )


def run_bilinear(path: Path, out: Path, modes: int = 0) -> None:
    """Write a BilinearModel file, of all poses; a refusal is one line on stderr, and exit 2."""
    try:
        claim(out)
        tensor, unit = read_tensor(path)
        people, poses, count, _ = tensor.shape
        rank = min(modes or IDENTITIES, people)
        model = BilinearModel.learn(torch.from_numpy(tensor), (rank, poses))
        facts = {"units": "mm", "licence": LICENCE, "provenance": path.name}
        out.parent.mkdir(parents=True, exist_ok=True)
        model.save(out, facts)
    except FacereconError as error:
        errors.print(one_line(error), markup=False, soft_wrap=True)
        raise typer.Exit(2) from None
    size = f"{out.stat().st_size / 1e6:.1f} MB"
    line = f"{out}: {count} vertices, {people} people in {poses} poses ({unit})"
    console.print(f"{line}, {rank} identity weights, {size}", markup=False, soft_wrap=True)
