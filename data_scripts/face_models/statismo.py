"""BFM 2017 and 2019: HDF5 files of the statismo library, through h5py.

/shape, /color and /expression each hold model/mean (3V,), model/pcaBasis (3V, K) and
model/pcaVariance (K,); /shape/representer holds points (3, V) and cells (3, F), counted from 0;
/metadata/landmarks/json some sixty named places on those points. Millimetres, +x to the subject's
left, +y up, +z out of the face; colours in [0, 1]. (As unibas-gravis/scalismo-faces reads them.)

Notebook 01, Eq. 1 and 2.
"""

import json
from pathlib import Path

import numpy as np
from jaxtyping import Float
from scipy.spatial import cKDTree

from face_models import Landmarks, Modes, Vertices
from face_models.source_model import SourceModel
from face_models.tables import (
    in_unit_range,
    linear_model,
    open_hdf5,
    outwards,
    read_array,
    refuse,
    triangles,
)

RELEASES = {53149: "2017", 28588: "2017", 47439: "2019", 27657: "2019", 58203: "2019"}
# Those of iBUG's 68, counted from 0, that the files name. Not the chin's tip, which is the foremost
# point here and the lowest there, 15 mm apart; nor the brows, whose named ends are no ends of
# iBUG's: what is missing is detected.
NAMED = {
    "center.nose.tip": 30,
    "right.nose.wing.tip": 31,
    "center.nose.attachement_to_philtrum": 33,
    "left.nose.wing.tip": 35,
    "right.eye.corner_outer": 36,
    "right.eye.corner_inner": 39,
    "left.eye.corner_inner": 42,
    "left.eye.corner_outer": 45,
    "right.lips.corner": 48,
    "right.lips.philtrum_ridge": 50,
    "center.lips.upper.outer": 51,
    "left.lips.philtrum_ridge": 52,
    "left.lips.corner": 54,
    "center.lips.lower.outer": 57,
    "center.lips.upper.inner": 62,
    "center.lips.lower.inner": 66,
}
NEAR_MM = 4.0  # a place farther from every vertex is on a part that the file leaves out


def read_statismo(path: Path, licence: str, modes: int = 0) -> SourceModel:
    """The model of model2017-1_*.h5 or model2019_*.h5; of each basis the first `modes`, 0 all."""
    with open_hdf5(path) as file:
        shape, colour = (_part(path, file, name, modes) for name in ("shape", "color"))
        actions = _part(path, file, "expression", modes=0)
        count = len(shape[0])
        if len(colour[0]) != count or len(actions[0]) != count:
            refuse(path, "shape, color and expression are not on one mesh")
        cells = read_array(path, file, "shape/representer/cells")
        faces = triangles(path, cells.T, count, first=0)
        points = read_array(path, file, "shape/representer/points")
        if points.shape != (3, count):
            refuse(path, f"shape/representer/points is {points.shape}, expected (3, {count})")
        landmarks = named_landmarks(file, points.T)
    year = RELEASES.get(count, "2017 or 2019")
    tones, expression = in_unit_range(*colour), about_neutral(*actions)
    notes = ["standard deviations: the roots of pcaVariance"]
    if expression is not actions[1]:
        far = np.linalg.norm(actions[0], axis=1).max()
        joined = "joined to the modes, so that their coefficients are not the file's"
        mean = f"with the file's mean expression ({far:.1f} mm at most)"
        notes.append(f"expressions: about the neutral face, {mean} {joined}")
    return SourceModel(
        name=f"BFM {year} ({path.stem})",
        licence=licence.format(year),
        provenance=f"{path.name}, imported by data_scripts/import_bfm.py",
        mean=shape[0],
        identity=shape[1],
        expression=expression[: modes or None],
        faces=outwards(path, shape[0], faces),
        albedo_mean=tones[0],
        albedo=tones[1],
        landmarks=landmarks,
        notes=notes,
    )


def _part(path: Path, file, name: str, modes: int) -> tuple[np.ndarray, np.ndarray]:
    mean, basis, variance = (
        read_array(path, file, f"{name}/model/{x}") for x in ("mean", "pcaBasis", "pcaVariance")
    )
    if not (variance >= 0).all():
        refuse(path, f"{name}/model/pcaVariance holds numbers below zero")
    # columns are taken at length one: statismo before 0.9 stored them times the deviation
    length = np.maximum(np.linalg.norm(basis, axis=0), 1e-30)
    if length.shape != variance.shape:
        refuse(path, f"{name}: pcaBasis is {basis.shape}, pcaVariance {variance.shape}")
    return linear_model(path, name, mean, basis, np.sqrt(variance) / length, modes)


def about_neutral(mean: Vertices, basis: Modes) -> Float[np.ndarray, "mode_2 vertex 3"]:
    """Modes per standard deviation about the neutral face, instead of about the mean expression.

    The expressions are N(mean, basisᵀ basis), their mean several mm from neutral, which Eq. 1 has
    at zero. A root of the second moment about neutral, mean meanᵀ + basisᵀ basis, has one mode
    more, and spans neutral and all of their expressions.
    """
    if np.abs(mean).max() < 1e-6:
        return basis
    rows = np.concatenate([mean[None], basis]).reshape(1 + len(basis), -1)
    moment, turn = np.linalg.eigh(rows @ rows.T)  # of the few rows, not of the many vertices
    turn, moment = turn[:, ::-1], moment[::-1]
    turn = turn[:, moment > 1e-9 * moment[0]]
    turn = turn * np.where(turn[0] < 0, -1, 1)  # each mode towards the mean expression
    return (turn.T @ rows).reshape(-1, *mean.shape)


def named_landmarks(file, points: Vertices) -> Landmarks:
    """The vertex of each of the 68 that the file names and that is on the mesh; else -1."""
    landmarks = np.full(68, -1)
    try:
        text = np.asarray(file["metadata/landmarks/json"][()]).tobytes().decode()
        listed = json.loads(text.rstrip("\0"))
        places = {str(x["id"]): np.array(x["coordinates"], float) for x in listed}
    except (KeyError, TypeError, ValueError):
        return landmarks
    tree = cKDTree(points)
    for name, place in places.items():
        if name in NAMED and place.shape == (3,) and np.isfinite(place).all():
            distance, vertex = tree.query(place)
            landmarks[NAMED[name]] = vertex if distance < NEAR_MM else -1
    return landmarks
