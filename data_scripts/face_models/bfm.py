"""Reads the Basel Face Model, of 2009, 2017 or 2019.

    source = read_bfm(Path("01_MorphableModel.mat"), expression=Path("BFM"))

BFM 2009 (Paysan et al., AVSS 2009) is a MATLAB file in micrometres. Its shapeEV are standard
deviations, not variances; its triangles are wound inwards and count from 1; its colours go to 255.
Its expressions are Guo et al.'s (TPAMI 2018), Exp_Pca.bin and std_exp.txt, on 53,215 of its 53,490
vertices; Deep3DFaceReconstruction's BFM_exp_idx.mat and BFM_front_idx.mat say which, and which of
those are the face. BFM 2017 and 2019 (Gerig et al., FG 2018) have their own: `statismo.py`.

Notebook 01, Eq. 1 and 2.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from face_models import Landmarks
from face_models.landmarks import read_landmarks
from face_models.source_model import SourceModel
from face_models.statismo import read_statismo
from face_models.tables import (
    ImportModelError,
    check_kind,
    in_unit_range,
    linear_model,
    outwards,
    read_mat,
    refuse,
    triangles,
)

PARTS = ("shapeMU", "shapePC", "shapeEV", "texMU", "texPC", "texEV", "tl")
EXPRESSION_FILES = ("Exp_Pca.bin", "std_exp.txt", "BFM_exp_idx.mat", "BFM_front_idx.mat")
MICROMETRE = 1e-3  # in mm
LICENCE = (
    "Basel Face Model {}: the University of Basel's, as signed for at faces.dmi.unibas.ch"
    " (non-commercial; the model, and so this file, is not to be passed on)"
)


def read_bfm(
    path: Path, expression: Path | None = None, landmarks: Path | None = None, modes: int = 0
) -> SourceModel:
    """The model of a BFM file of any year, told by its content. Raises ImportModelError.

    expression: the folder with EXPRESSION_FILES, for 2009 alone. landmarks: 68 vertex numbers of
    the file, from 0. modes: of each basis, 0 all.
    """
    check_kind(path)
    with path.open("rb") as file:
        statismo = file.read(8) == b"\x89HDF\r\n\x1a\n"  # MATLAB's v7.3 begins with a text
    if statismo:
        if expression is not None:
            refuse(path, "has expressions of its own; --expression is for BFM 2009's .mat")
        source = read_statismo(path, LICENCE, modes)
        place = np.arange(len(source.mean))
    else:
        source, place = read_2009(path, expression, modes)
    if landmarks is None:
        return source
    points = place[read_landmarks(landmarks, len(place))]
    if (lost := points < 0).any():
        refuse(landmarks, f"point {lost.argmax() + 1} is on a vertex that expressions leave out")
    notes = [*source.notes, "landmarks: from a file of vertex numbers"]
    return replace(source, landmarks=points, notes=notes)


def read_2009(
    path: Path, folder: Path | None, modes: int
) -> tuple[SourceModel, Int[np.ndarray, " in_file"]]:
    """01_MorphableModel.mat, and where each of the file's vertices went: -1 nowhere."""
    lacking = [x for x in EXPRESSION_FILES if folder is not None and not (folder / x).is_file()]
    if lacking:
        lacks = f"--expression {folder}: lacks {', '.join(lacking)}"
        todo = f"{', '.join(EXPRESSION_FILES)} (Deep3DFaceReconstruction says where from)"
        raise ImportModelError(f"{lacks}; it needs all of {todo}")
    data = read_mat(path, PARTS)
    if missing := [name for name in PARTS if name not in data]:
        refuse(path, f"lacks {', '.join(missing)}; give BFM 2009's 01_MorphableModel.mat, whole")
    shape, colour = (
        linear_model(path, x, data[f"{x}MU"], data[f"{x}PC"], data[f"{x}EV"], modes)
        for x in ("shape", "tex")
    )
    count = len(shape[0])
    if len(colour[0]) != count:
        refuse(path, f"texMU has {len(colour[0])} vertices and shapeMU {count}")
    faces = triangles(path, data["tl"], count, first=1)
    used, keep, points, actions = np.arange(count), None, None, np.zeros((0, count, 3))
    if folder is not None:
        used, front, actions = read_expression(folder, count, modes)
        keep = np.isin(np.arange(len(used)), front)
        points = key_points(folder, front)
    place = np.full(count, -1)
    place[used] = np.arange(len(used))
    faces, mean, tones = place[faces], MICROMETRE * shape[0][used], in_unit_range(*colour)
    source = SourceModel(
        name="BFM 2009",
        licence=LICENCE.format("2009"),
        provenance=f"{path.name}, imported by data_scripts/import_bfm.py",
        mean=mean,
        identity=MICROMETRE * shape[1][:, used],
        expression=MICROMETRE * actions,
        faces=outwards(path, mean, faces[(faces >= 0).all(1)]),
        albedo_mean=tones[0][used],
        albedo=tones[1][:, used],
        landmarks=points,
        keep=keep,
        notes=["shapeEV and texEV: standard deviations, as the file has them"],
    )
    if folder is not None:
        source.name += " + Guo et al.'s expressions"
        source.licence += "; the expressions, made from FaceWarehouse, under terms of their own"
        product = f"Exp_Pca.bin times std_exp.txt, on {len(used)} of {count} vertices"
        left_out = "its mean expression is left out: zero coefficients are neutral"
        source.notes.append(f"expressions: {product}; {left_out}")
    return source, place


def read_expression(
    folder: Path, count: int, modes: int
) -> tuple[Int[np.ndarray, " used"], Int[np.ndarray, " front"], Float[np.ndarray, "mode used 3"]]:
    """Guo et al.'s expressions: which of `count` vertices they move, which are the face, modes.

    Exp_Pca.bin: the count of modes (int32), a mean, the modes (float32). The mean is left out, as
    Deep3DFaceReconstruction does: zero coefficients are the neutral face.
    """
    used = vertex_list(folder / "BFM_exp_idx.mat", "trimIndex", count)
    if len(np.unique(used)) < len(used):
        refuse(folder / "BFM_exp_idx.mat", "trimIndex names a vertex twice")
    front = vertex_list(folder / "BFM_front_idx.mat", "idx", len(used))
    path, scales = folder / "Exp_Pca.bin", folder / "std_exp.txt"
    size = path.stat().st_size
    count = int(np.fromfile(path, "<i4", 1)[0]) if size >= 4 else 0
    whole = 4 + 4 * 3 * len(used) * (1 + count)
    if count < 1 or size != whole:
        expected = f"{count} modes on {len(used)} vertices (BFM_exp_idx.mat) make {whole} bytes"
        refuse(path, f"{expected}, it has {size}: cut short, or of another mesh")
    numbers = np.fromfile(path, "<f4", offset=4).reshape(1 + count, -1)
    try:
        deviation = np.array(scales.read_text().split(), float)
    except ValueError as error:
        refuse(scales, f"not a list of numbers ({error})")
    if len(deviation) != count:
        refuse(scales, f"{len(deviation)} standard deviations for {count} modes in Exp_Pca.bin")
    neutral = np.zeros(3 * len(used))
    actions = linear_model(path, "expressions", neutral, numbers[1:].T, deviation, modes)[1]
    return used, front, actions


def vertex_list(path: Path, name: str, count: int) -> Int[np.ndarray, " listed"]:
    """Numbers of vertices, from 1 in the file, from 0 here."""
    data = read_mat(path, (name,))
    if name not in data or not data[name].size:
        refuse(path, f"lacks {name}")
    numbers = data[name].ravel().astype(np.int64) - 1
    if numbers.min() < 0 or numbers.max() >= count:
        refuse(path, f"{name} names vertices outside 1 to {count}: it belongs to another mesh")
    return numbers


def key_points(folder: Path, front: Int[np.ndarray, " front"]) -> Landmarks | None:
    """The 68 landmarks on the face, where the folder has Deep3D's facemodel_info.mat."""
    path = folder / "facemodel_info.mat"
    if not path.is_file():
        return None
    points = vertex_list(path, "keypoints", len(front))
    if len(points) != 68:
        refuse(path, f"keypoints are {len(points)}, expected 68")
    return front[points]
