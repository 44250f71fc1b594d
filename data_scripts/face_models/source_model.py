"""From somebody else's face model to the project's file: what all importers share.

    run(lambda: read_bfm(path), out=Path("bfm.safetensors"), crop=True)

A reader hands over what its format holds, in millimetres and the project's frame (+x the viewer's
right, +y up, +z out of the face). Here that is checked, given what it lacks (landmarks, mirror,
regions, skin colours), cropped, and written in the format that `MorphableModel.load` reads.

Notebook 01, Eq. 1 and 2.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import typer
from jaxtyping import Float, Int
from makehuman.landmarks import contour_bands
from rich.console import Console
from safetensors import SafetensorError
from safetensors.numpy import save_file
from torch import Tensor

from face_models import Faces, Landmarks, Mask, Numbers, Vertices
from face_models.binding import bind_file
from face_models.landmarks import MIDLINE, NONE_GIVEN, find_landmarks, read_landmarks
from face_models.mesh_cut import Part, cut_at_zero, find_mirror, keep_vertices
from face_models.registration import CLOSE, INNER_POINTS, LOOSE, LaidOn, shipped_face
from face_models.sanity import check_arrays, check_face, check_motion, check_places
from face_models.tables import ImportModelError
from face_models.transfer import CarriedOver, outline
from facerecon_lib.face.model_file import FORMAT
from facerecon_lib.face.morphable_model import MorphableModel
from facerecon_lib.face.subdivision import loop_subdivide
from facerecon_lib.files.atomic import claim_file, write_whole
from facerecon_lib.files.errors import FacereconError, one_line

DENSE = 8000  # vertices: a finer mesh is not subdivided unless asked for
BAND = 96  # candidates at most for where a jaw point's outline may be
DETECTED = "found by a detector on renderings of the mean"
SAMPLES, SEED = 500, 0  # of a PCA's albedos, N(0, 1)
BINDING_FACES = 200  # to render; twice as many bind no better
OUTSIDE_DEG = 2.0  # the border stays so far outside of the jaw's landmarks

console, errors = Console(highlight=False), Console(stderr=True, highlight=False)


@dataclass(eq=False)
class SourceModel:
    """What a format holds: mm, the project's frame, triangles wound outwards.

    identity, expression, albedo: per standard deviation; expressions with `controls`, which name
    full actions by their coefficients, per full action.
    """

    name: str
    licence: str
    provenance: str
    mean: Vertices
    identity: Float[np.ndarray, "identity vertex 3"]
    expression: Float[np.ndarray, "expression vertex 3"]
    faces: Faces
    albedo_mean: Vertices | None = None  # sRGB in [0, 1]; None: the shipped
    albedo: Float[np.ndarray, "albedo vertex 3"] | None = None  # None: a mean alone, no modes
    landmarks: Landmarks | None = None  # iBUG order; -1 or None: detected
    uv: Float[np.ndarray, "vertex 2"] | None = None  # (0, 0) bottom left; None: a cylinder
    mirror: Numbers | None = None  # the vertex opposite; None: by place
    keep: Mask | None = None  # for --crop; None: what the shipped covers
    creases: Int[np.ndarray, "crease 2"] | None = None  # edges that subdivision keeps sharp
    teeth: Mask | None = None  # None: found by place
    controls: dict[str, np.ndarray] = field(default_factory=dict)  # (expression,) each
    notes: list[str] = field(default_factory=list)  # lines of `facerecon model info`


def run(
    read: Callable[[], SourceModel],
    out: Path,
    crop: bool = True,
    landmarks: Path | None = None,
    bind: bool = True,
) -> None:
    """Read, finish, write, bind, print the facts; a refusal is one line on stderr, and exit 2."""
    try:
        claim(out)
        with errors.status("reading the source"):
            source = read()
        with errors.status("checking, landmarks, regions, crop"):
            tensors, metadata = finish(source, crop, landmarks)
        with errors.status("writing"):
            model = write_model(out, tensors, metadata)
        binding = [bind_file(out, BINDING_FACES)] if bind else []
    except FacereconError as error:
        errors.print(one_line(error), markup=False, soft_wrap=True)
        raise typer.Exit(2) from None
    sizes = "{} identity, {} expression, {} albedo modes".format(*model.sizes)
    size = f"{out.stat().st_size / 1e6:.1f} MB"
    lines = [f"{out}: {len(tensors['mean'])} vertices, {sizes}, {size}"]
    lines += [f"note: {note}" for note in json.loads(metadata["notes"])]
    lines += [*binding, f"look at it: facerecon model show {out}"]
    console.print("\n".join(lines), markup=False, soft_wrap=True)


def claim(path: Path) -> None:
    """Make sure that the file can be written. Raises ImportModelError."""
    if path.suffix != ".safetensors":
        raise ImportModelError(f"--out {path}: expected a name that ends in .safetensors")
    try:
        claim_file(path)
    except FacereconError as error:
        raise ImportModelError(f"--out {error}") from None


def write_model(
    path: Path, tensors: dict[str, np.ndarray], metadata: dict[str, str]
) -> MorphableModel:
    """Write the file, if it loads; the model as it loads by default.

    Raises ImportModelError where it cannot be written, ModelError where it would not load.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with write_whole(path) as partial:
            save_file({k: np.ascontiguousarray(t) for k, t in tensors.items()}, partial, metadata)
            model = MorphableModel.load(partial)
    except (OSError, SafetensorError) as error:
        raise ImportModelError(f"--out {path}: cannot be written ({error})") from None
    model.metadata["file"] = path.name
    return model


def finish(
    source: SourceModel, crop: bool = True, landmarks: Path | None = None
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The tensors and the metadata of the model's file.

    landmarks: a file of 68 vertex numbers instead of the source's own. Raises ImportModelError for
    what is no plausible face in mm, DetectionError without a detector that landmarks need.
    """
    notes = list(source.notes)
    check_arrays(source)
    points, smoothing = _landmarks(source, crop, landmarks, notes)
    check_face(source.mean, source.faces, points)
    moved, offset = _centred(source.mean, points)
    opposite = np.full(len(moved), -1) if source.mirror is None else source.mirror
    nearest, symmetric = find_mirror(moved, source.faces, opposite)
    opposite = nearest if symmetric else opposite
    part = _part(source, points, smoothing, crop, nearest if symmetric else None)
    mean, landmarks = part.apply(moved), part.number[points]
    steps = 0 if len(mean) > DENSE else 1
    creases = np.zeros((0, 2), int) if source.creases is None else part.edges(source.creases)
    teeth = None if source.teeth is None else part.apply(1.0 * source.teeth[:, None])[:, 0] > 0.5
    as_loaded = _as_it_loads(mean, part.faces, creases, steps)
    carried = CarriedOver(*as_loaded, landmarks, smoothing=smoothing, teeth=teeth)
    check_places(carried.missed)
    regions = {name: values[: len(mean)] for name, values in carried.regions().items()}
    skin = carried.skin[: len(mean)]
    regions["border"] = outline(mean, part.faces, skin)
    identity, expression = part.apply(source.identity), part.apply(source.expression)
    check_motion(identity, expression, bool(source.controls))
    mirror, exact = find_mirror(mean, part.faces, part.renumber(opposite))
    if not exact:
        notes.append("mirror: the triangles are not symmetric; each vertex has the nearest one")
    inside = regions["mouth_interior"] + regions["eyeballs"] > 0.5
    controls = np.array(list(source.controls.values()))
    whole = {"faces": part.faces, "creases": creases, "mirror": mirror, "landmarks": landmarks}
    whole["contour_bands"] = contour_bands(mean, landmarks, skin & ~inside, most=BAND)
    single = {"mean": mean, "controls": controls.reshape(len(controls), len(expression))}
    single["uv"] = _cylinder(mean) if source.uv is None else part.apply(source.uv)
    half = {"identity_basis": identity, "expression_basis": expression}
    half["regions"] = np.stack(list(regions.values()))
    skins = _skins(source, part, carried, notes)
    for name, (colour, basis, samples) in skins.items():
        single[f"albedo_mean_{name}"] = colour
        half |= {f"albedo_basis_{name}": basis, f"albedo_samples_{name}": samples}
    groups = {np.int32: whole, np.float32: single, np.float16: half}
    tensors = {n: t.astype(dtype) for dtype, group in groups.items() for n, t in group.items()}
    metadata = {
        **{name: getattr(source, name) for name in ("name", "licence", "provenance")},
        "format": FORMAT,
        "units": "mm",
        "controls": json.dumps(list(source.controls)),
        "regions": json.dumps(list(regions)),
        "default_subdivision": str(steps),
        "default_albedo": next(iter(skins)),
        "mirror": "exact" if exact else "nearest",
        "offset_mm": json.dumps(offset.round(4).tolist()),
        "notes": json.dumps(notes),
    }
    return tensors, metadata


def _landmarks(
    source: SourceModel, crop: bool, file: Path | None, notes: list[str]
) -> tuple[Landmarks, float]:
    """Of the file, of the source, or found; and how closely the shipped model is to follow them."""
    if file is not None:
        notes.append("landmarks: from a file of vertex numbers")
        return read_landmarks(file, len(source.mean)), CLOSE
    named = NONE_GIVEN if source.landmarks is None else source.landmarks
    if (named >= 0).all():
        return named, CLOSE
    faces = source.faces
    if crop and source.keep is not None:  # they have to be on what is kept
        faces = faces[source.keep[faces].all(1)]
    points = find_landmarks(source.mean, faces, source.albedo_mean, named)
    count = "all" if (named < 0).all() else f"{(named < 0).sum()} of the 68"
    inner = (named[INNER_POINTS] >= 0).all()
    how = "carried over from the model that ships" if inner else DETECTED
    notes.append(f"landmarks: {count} {how}")
    return points, CLOSE if inner else LOOSE


def _part(
    source: SourceModel, points: Landmarks, smoothing: float, crop: bool, mirror: Numbers | None
) -> Part:
    """The face alone, or all vertices of triangles; with a mirror, symmetric as the mesh is."""
    faces = source.faces
    if not crop:
        return keep_vertices(faces, np.ones(len(source.mean), bool))
    if source.keep is not None:
        part = keep_vertices(faces, source.keep)
        if (lost := part.number[points] < 0).any():
            todo = "try --no-crop, or name other vertices with --landmarks FILE"
            number = lost.argmax() + 1
            raise ImportModelError(f"the crop leaves out landmark {number} (of 68); {todo}")
        return part
    laid_on = LaidOn(source.mean, torch.as_tensor(faces), points, smoothing=smoothing)
    beyond, fixed = laid_on.beyond_border(), points
    beyond = beyond - max(0.0, beyond[points].max() + OUTSIDE_DEG)
    if mirror is not None:
        beyond = (beyond + beyond[mirror]) / 2
        fixed = np.r_[fixed, mirror[points], np.flatnonzero(mirror == np.arange(len(mirror)))]
    return cut_at_zero(faces, beyond, fixed)


def _as_it_loads(
    mean: Vertices, faces: np.ndarray, creases: np.ndarray, steps: int
) -> tuple[Float[np.ndarray, "finer 3"], Int[Tensor, "finer_face 3"]]:
    """The mesh after so many Loop steps, which move vertices too: a coarse brow by a millimetre."""
    points, triangles = (torch.as_tensor(x) for x in (mean, faces))
    sharp = torch.as_tensor(creases)
    for _ in range(steps):
        step = loop_subdivide(triangles, len(points), sharp, dtype=torch.float64)
        points, triangles, sharp = step.apply(points), step.faces, step.creases
    return points.numpy(), triangles


def _centred(mean: Vertices, points: Landmarks) -> tuple[Vertices, Float[np.ndarray, " 3"]]:
    """The mean moved to the shipped one's place, and by how many mm; a middle at x = 0 stays."""
    shipped, _ = shipped_face()
    target = shipped.mean[shipped.landmarks[17:]].double().numpy().mean(0)
    offset = target - mean[points[17:]].mean(0)
    aside = mean[points[MIDLINE], 0].mean()
    offset[0] = 0.0 if abs(aside) < 0.5 else -aside
    return mean + offset, offset


def _cylinder(mean: np.ndarray) -> Float[np.ndarray, "vertex 2"]:
    """uv: angle around a vertical axis through where the face is widest, and height; in [0, 1]."""
    x, y, z = mean.T
    angle = np.arctan2(x, z - z[np.abs(x).argmax()])
    return np.stack([0.5 + angle / (2 * np.abs(angle).max()), (y - y.min()) / np.ptp(y)], 1)


def _skins(
    source: SourceModel, part: Part, carried: CarriedOver, notes: list[str]
) -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Mean, basis and samples of each albedo basis; the default first, the shipped ones always."""
    shipped = {name: carried.albedo(name) for name in ("monk", "light")}
    if source.albedo_mean is None:
        notes.append("albedo: the CC0 tones of the model that ships, carried over")
        return shipped
    mean = part.apply(source.albedo_mean)
    basis, what = np.zeros((0, *mean.shape)), "mean skin (scans); it has no albedo modes"
    if source.albedo is not None:
        basis, what = part.apply(source.albedo), "own (scans)"
    beside = "beside it the tones of the model that ships, carried over (monk, light)"
    notes.append(f"albedo: the source's {what}; {beside}")
    samples = np.random.default_rng(SEED).standard_normal((SAMPLES, len(basis)))
    return {"scans": (mean, basis, samples), **shipped}
