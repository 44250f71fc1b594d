"""How far landmarks that an import finds are from those that are known, part by part, in mm.

    python tests/benchmarks/judge_landmarks.py ict ICT-FaceKit/FaceXModel
    python tests/benchmarks/judge_landmarks.py flame made_up/generic_model.pkl    # made_up_flame.py
    python tests/benchmarks/judge_landmarks.py bfm made_up/01_MorphableModel.mat  # made_up_bfm.py

ICT-FaceKit names its landmarks. A made-up file holds the shipped model's mesh, so its landmarks are
the truth there. The second line says how far brows and jaw are off where nothing has to be found:
by how much the two models define them differently.
"""

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

sys.path.insert(0, str(Path(__file__).parents[2] / "data_scripts"))

import numpy as np
import torch
import typer
from face_models.bfm import read_bfm
from face_models.flame import read_flame
from face_models.ict import read_ict
from face_models.landmarks import SURE, find_landmarks, habits
from face_models.registration import LOOSE, LaidOn, shipped_model
from face_models.source_model import SourceModel, errors
from face_models.tables import ImportModelError
from jaxtyping import Int

from facerecon_lib.photos.landmarks import DetectionError

PARTS = {"nose": (27, 36), "eyes": (36, 48), "mouth": (48, 68), "brows": (17, 27), "jaw": (0, 17)}


class Kind(StrEnum):
    ict = "ict"
    flame = "flame"
    bfm = "bfm"


READERS = {Kind.ict: read_ict, Kind.flame: read_flame, Kind.bfm: read_bfm}


def read(kind: Kind, path: Path) -> tuple[SourceModel, Int[np.ndarray, " 68"]]:
    """The model, and its true landmarks. Raises ImportModelError."""
    source = READERS[kind](path)
    if kind is Kind.ict:
        return source, source.landmarks
    shipped = shipped_model(0)
    if len(source.mean) != len(shipped.mean):
        raise ImportModelError(f"{path}: is none of made_up_{kind}.py's: its truth is not known")
    return source, shipped.landmarks.numpy()


def main(
    kind: Annotated[Kind, typer.Argument()],
    path: Annotated[Path, typer.Argument(help="The model, as for its import.")],
) -> None:
    """Print the mean distance of the landmarks that are found from the true ones, in mm."""
    try:
        source, truth = read(kind, path)
        keep = np.ones(len(source.mean), bool) if source.keep is None else source.keep
        faces = source.faces[keep[source.faces].all(1)]
        found = find_landmarks(source.mean, faces, source.albedo_mean)
    except (ImportModelError, DetectionError) as error:
        errors.print(str(error), markup=False, soft_wrap=True)
        raise typer.Exit(2) from None
    here = LaidOn(source.mean, torch.as_tensor(faces), truth, used=SURE, smoothing=LOOSE)
    laid = here.points[here.shipped.landmarks]
    missed = habits(source.albedo_mean is None)
    for what, away, parts in (
        ("found", source.mean[found] - source.mean[truth], list(PARTS)),
        ("laid on by the true nose, eyes and mouth", laid - source.mean[truth], ["brows", "jaw"]),
        ("the detector on the shipped model", missed, list(PARTS)),
    ):
        far = np.linalg.norm(away, axis=1)
        means = [f"{part} {far[slice(*PARTS[part])].mean():.1f}" for part in parts]
        print(f"{what}: {', '.join(means)} mm")


if __name__ == "__main__":
    typer.run(main)
