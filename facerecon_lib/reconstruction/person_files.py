"""The person of several photos as a folder: a neutral head, who it was made of, and a sheet.

    write_person(faces, Path("outputs/person"))          # faces: of `together.encode_together`

Notebook 10, section 9.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from ..pictures.fit_sheet import person_sheet
from ..rendering.synthesis import Face, synthesise
from .mesh_export import export_mesh
from .output_folder import digests_of, replacing
from .reconstruct import FittedPhoto
from .result_files import QUICK, result_dict

ALIKE = "model", "version", "units", "method", "checkpoint"
OWN = "photo", "photo_path", "photo_sha256", "face", "distance", "converged"
FROM_IDENTITY = "id", "alb"


def write_person(
    faces: Sequence[FittedPhoto],
    folder: Path,
    photos: Iterable[Path] = (),
    figures: bool = True,
) -> dict:
    """Write the person of some photos into `folder`. Returns result.json's dict.

    photos, figures, errors: as of `result_files.write_photo`.
    """
    head, results = neutral_head(faces[0]), [result_dict(done) for done in faces]
    numbers = results[0]["coefficients"]
    result = {
        **{name: results[0][name] for name in ALIKE},
        **{"photo": None, "face": None, "photo_sha256": photos_of(faces)},
        "coefficients": {name: numbers[name] for name in FROM_IDENTITY},
        "photos": [{name: one[name] for name in OWN} for one in results],
    }
    with replacing(folder, photos) as partial:
        for name in ("mesh.ply", "mesh.glb"):
            export_mesh(partial / name, head.vertices[0], head.model.faces, head.albedo[0])
        if figures:
            shown = [(done.photo.name, done.crop, done.face) for done in faces]
            title = f"one person in {len(faces)} photos"
            person_sheet(head, shown, title).save(partial / "figure.png", **QUICK)
        result["files"] = digests_of(partial)
        text = json.dumps(result, indent=1, allow_nan=False)
        (partial / "result.json").write_text(text + "\n")
    return result


@torch.no_grad()
def neutral_head(done: FittedPhoto) -> Face:
    """The person at rest, before the viewer."""
    model, c = done.face.model, done.fitted.coefficients
    return synthesise(model, replace(model.neutral(), identity=c.identity, albedo=c.albedo))


def photos_of(faces: Sequence[FittedPhoto]) -> list[str]:
    """What makes two persons one: the same photos, in any order."""
    return sorted(str(done.photo.sha256) for done in faces)
