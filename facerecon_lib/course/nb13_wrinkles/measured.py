"""How right the wrinkles are: normals in degrees and relief in mm, on rendered faces from pixels.

rows = list(measured(branch, unet_branch, found_faces(faces, range(8))))
print(table(rows))
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace

import torch

from ...augmented.branch import AugmentedBranch, AugmentedFaces, BaseFaces
from ...beyond.wrinkles import WrinkleBranch, raised
from ...data.rendered.faces import RenderedFaces
from ...evaluation import surface
from ...face.batch import FaceBatch
from ...face.measures import similarity_align, vertex_error_mm
from ...face.mesh import vertex_normals
from ...photos.crop import align
from ...photos.detection import detect
from ...photos.landmarks import DetectionError
from ...photos.reading import Photo
from ...pictures.faces import to_uint8
from ...rendering.synthesis import Face, pose_and_light

COLUMNS = {
    "normals": "normals, deg",
    "relief": "relief, mm",
    "found": "relief found",
    "vertices": "vertices, mm",
}
Row = dict[str, dict[str, float]]


def found_faces(faces: RenderedFaces, numbers: Iterable[int]) -> Iterator[FaceBatch]:
    """Faces of rendered photos as the detectors find and crop them; those not found are left out.

    The true translation is of the photo, not of the crop.
    """
    for number in numbers:
        batch = faces.batch(torch.tensor([number]))
        photo = Photo(to_uint8(batch.image[0]), *batch.names)
        try:
            detection = detect(photo)
        except DetectionError:
            continue
        crop = align(photo.pixels, detection.landmarks)
        cut = dict(image=crop.image, valid=crop.valid, landmarks=crop.landmarks)
        yield replace(batch, **cut, kind=detection.kind)


@torch.no_grad()
def measured(
    branch: WrinkleBranch, unet_branch: AugmentedBranch, batches: Iterable[FaceBatch]
) -> Iterator[Row]:
    """Per batch of one face: the errors of the base, of the report's U-Net, and after each pass."""
    for batch in batches:
        base = branch.base_branch(batch)
        steps = branch.heights(batch.image, base, batch.valid)
        methods: dict[str, Face | AugmentedFaces] = {"base": base.face}
        methods["U-Net"] = unet_branch.detail(batch.image, base)
        methods |= {name: raised(base, height) for name, height in steps.items()}
        yield {name: errors(made, base.face, batch) for name, made in methods.items()}


def errors(made: Face | AugmentedFaces, base: Face, batch: FaceBatch) -> dict[str, float]:
    """As `facerecon evaluate` measures: see evaluation/surface.py."""
    face, displacement = made, torch.zeros_like(base.vertices)
    if isinstance(made, AugmentedFaces):
        face, displacement = made.face, made.offsets.displacement
    model, true = face.model, batch.true_vertices
    area = surface.skin_area(model) * model.regions["skin"]
    angle = surface.normal_error_degrees(face.vertices, true, model.faces)
    lacking = true - model.shape(batch.truth.identity, batch.truth.expression)
    normals = vertex_normals(true, model.faces)
    return {
        "normals": float((angle * area).sum() / area.sum()),
        "relief": float(surface.relief_error_mm(face.vertices, true, model)),
        "found": float(surface.relief_found(displacement, lacking, normals, model)),
        "vertices": float(vertex_error_mm(face.vertices, true).median()),
    }


def table(rows: list[Row]) -> str:
    """Medians over the faces, and on how many each method's normals beat the base's."""
    lines = [f"{len(rows)} faces".ljust(10) + "".join(f"{c:>14}" for c in COLUMNS.values())]
    lines[0] += f"{'better on':>12}"
    for name in rows[0]:
        values = [torch.tensor([row[name][c] for row in rows]).nanmedian() for c in COLUMNS]
        better = sum(row[name]["normals"] < row["base"]["normals"] for row in rows)
        numbers = "".join(f"{value:14.3f}" for value in values)
        lines.append(name.ljust(10) + numbers + f"{better:>12}")
    return "\n".join(lines)


def true_face(batch: FaceBatch, base: BaseFaces) -> Face:
    """The true face in the base's place and light."""
    laid = similarity_align(batch.true_vertices, base.face.vertices)
    return pose_and_light(base.face.model, laid, batch.true_albedo, base.coefficients)
