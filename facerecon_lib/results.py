"""One photo to one folder of results: what `facerecon fit` writes.

    result = fit_photo(Path("me.jpg"), Path("outputs/me"), model, coarse_model)

A folder appears whole or not at all, and replaces only what this module wrote. `result.json` holds
everything that is needed to put the mesh back on the photo: for a point v of mesh.ply,

    x = scale * rotation_matrix @ v + translation_mm                    camera frame, mm
    u = size / 2 * (1 - x[0] / x[2] / tan(fov / 2)),  v likewise        crop pixels
    photo pixel = inverse of crop.matrix applied to (u, v)
"""

from __future__ import annotations

import json
import math
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from . import __version__
from .camera import MODEL_TO_CAMERA, axis_angle_to_matrix, ndc_to_pixels, project_ndc
from .detection import Crop, Detection, Photo, align, crop_to_photo, detect, load_image
from .evaluation import landmark_error, photometric_error
from .fitting import FitResult, FitSettings, fit
from .mesh import export_mesh
from .morphable_model import MorphableModel
from .plotting import fit_figure, overlay_on_photo, save_figure
from .recognition import FaceNetwork
from .synthesis import CROP_SIZE, Face, landmark_vertices, synthesise

WRITTEN = {"mesh.ply", "mesh.glb", "overlay.png", "figure.png", "result.json"}
FRAME = (
    "camera: +x left, +y up, +z into the screen, mm; x_camera = scale * rotation_matrix @ v + "
    "translation_mm; rotation is the axis-angle of the head in viewer axes (+x right, +y up, +z to "
    "the viewer), rotation_matrix is diag(-1, 1, -1) times its matrix"
)


class OutputError(ValueError):
    """The results cannot be written; the message is one line and says what to do."""


@dataclass
class FittedPhoto:
    """A photo, its crop, and the face that was fitted to it; recognition: the network of Eq. 6."""

    photo: Photo
    detection: Detection
    crop: Crop
    fitted: FitResult
    face: Face
    recognition: str | None = None


def claim_folder(folder: Path) -> None:
    """Make sure that results can be written under `folder`. Raises OutputError if not."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputError(
            f"--out {folder}: cannot be written ({reason}); choose another folder"
        ) from error


def check_replaceable(folder: Path) -> None:
    """Make sure that `folder` is free, or holds nothing but our own results of an earlier run.

    Raises OutputError otherwise: nothing that somebody else put there is ever removed.
    """
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise OutputError(f"{folder}: is there already and is no folder; choose another --out")
    if folder.is_dir():
        foreign = sorted({p.name for p in folder.iterdir()} - WRITTEN)
        if foreign:
            raise OutputError(
                f"{folder}: holds {foreign[0]}, which facerecon did not write; choose another --out"
            )


def readable_name(path: Path) -> str:
    """The file's name for people: bytes that are no UTF-8 replaced, on one line."""
    return " ".join(os.fsencode(path.name).decode("utf-8", "replace").split()) or "photo"


def fit_face(
    photo: Photo,
    model: MorphableModel,
    coarse_model: MorphableModel | None = None,
    face: int | None = None,
    settings: FitSettings | None = None,
    recognition: FaceNetwork | None = None,
    progress: Callable[[str, int, int, float], None] | None = None,
) -> FittedPhoto:
    """Detect, align and fit the face of one photo, on the model's device.

    face: which of several, 1 the largest. recognition: as in `fitting.fit`. Raises DetectionError
    when there is no face, and FloatingPointError when the loss is no number.
    """
    settings = settings or FitSettings()
    device = model.device
    found = detect(photo, face, device=str(device))
    crop = align(photo.pixels, found.landmarks)
    fitted = fit(
        model,
        crop.image.to(device),
        crop.valid.to(device),
        crop.landmarks.to(device),
        kind=found.kind,
        settings=settings,
        coarse_model=coarse_model,
        recognition=recognition,
        progress=progress,
    )
    face_found = synthesise(model, fitted.coefficients, settings.fov_deg)
    name = None if recognition is None else recognition.name
    return FittedPhoto(photo, found, crop, fitted, face_found, name)


def fit_photo(
    path: Path,
    folder: Path,
    model: MorphableModel,
    coarse_model: MorphableModel | None = None,
    face: int | None = None,
    settings: FitSettings | None = None,
    recognition: FaceNetwork | None = None,
    progress: Callable[[str, int, int, float], None] | None = None,
    started: float | None = None,
) -> dict:
    """Fit the face in the photo at `path` and write `folder`. Returns what result.json holds.

    An older result in `folder` is replaced. Raises PhotoError, DetectionError, OutputError or
    FloatingPointError, one line each; `folder` is then as it was.
    """
    started = time.perf_counter() if started is None else started
    check_replaceable(folder)
    photo = load_image(path, name=readable_name(path))
    opened = time.perf_counter()
    done = fit_face(photo, model, coarse_model, face, settings, recognition, progress)
    fitted_at = time.perf_counter()
    result = describe(done)
    seconds = {"start": opened - started, **done.fitted.seconds}
    seconds["detection"] = fitted_at - opened - sum(done.fitted.seconds.values())
    work = None
    try:
        work = Path(tempfile.mkdtemp(prefix=".facerecon-", dir=folder.parent))
        partial = work / "new"
        partial.mkdir()  # with the permissions that the user's umask gives
        write_pictures(done, partial)
        seconds["writing"] = time.perf_counter() - fitted_at
        seconds["total"] = time.perf_counter() - started
        result["seconds"] = {k: round(v, 3) for k, v in seconds.items()}
        text = json.dumps(result, indent=1, allow_nan=False)
        (partial / "result.json").write_text(text + "\n")
        _swap(partial, folder, work / "old")
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputError(f"{folder}: cannot be written ({reason})") from error
    finally:
        if work is not None:
            shutil.rmtree(work, ignore_errors=True)
    return result


def _swap(partial: Path, folder: Path, aside: Path) -> None:
    """Put `partial` in the place of `folder`; on failure what was there comes back."""
    check_replaceable(folder)
    if folder.is_dir():
        folder.rename(aside)
    try:
        partial.rename(folder)
    except BaseException:
        if aside.is_dir():
            aside.rename(folder)
        raise


@torch.no_grad()
def describe(done: FittedPhoto) -> dict:
    """What result.json holds, but for the seconds."""
    c, face, model = done.fitted.coefficients, done.face, done.face.model
    crop, found = done.crop, done.detection
    fov = face.fov_deg
    index = landmark_vertices(model, face.v_camera, face.rotation, found.kind, fov)[0]
    matrix = MODEL_TO_CAMERA.to(c.rotation) @ axis_angle_to_matrix(c.rotation)[0]
    in_crop = ndc_to_pixels(project_ndc(face.v_camera[:, index], fov), CROP_SIZE)
    target = crop.landmarks.to(in_crop)
    image, mask = face.render()
    counted = mask * crop.valid.to(mask)
    colours = photometric_error(image.clamp(0, 1), crop.image.to(image), counted)
    return {
        "photo": done.photo.name,
        "model": model.metadata.get("name", model.metadata["file"]),
        "version": __version__,
        "units": "mm",
        "coefficients": {
            "id": _numbers(c.identity[0]),
            "exp": _numbers(c.expression[0]),
            "alb": _numbers(c.albedo[0]),
        },
        "pose": {
            "rotation": _numbers(c.rotation[0]),
            "rotation_matrix": _numbers(matrix),
            "translation_mm": _numbers(c.translation[0]),
            "scale": float(c.scale[0, 0]),
        },
        "camera": {
            "fov_deg": float(fov),
            "principal_point": [CROP_SIZE / 2, CROP_SIZE / 2],
            "frame": FRAME,
        },
        "crop": {"matrix": _numbers(crop.matrix), "size": CROP_SIZE},
        "lighting": _numbers(c.lighting[0]),
        "detector": {"name": found.detector, "kind": found.kind, "score": float(found.score)},
        "faces_found": found.faces_found,
        "face": found.face,
        "recognition": done.recognition,
        "landmarks_px": _numbers(np.asarray(found.landmarks)),
        "landmarks_model_px": _numbers(crop_to_photo(in_crop[0].cpu(), crop.matrix)),
        "landmarks_mm": _numbers(face.vertices[0, index]),
        "actions": dict(zip(model.controls, _numbers(model.actions(c.expression)[0]), strict=True)),
        "losses": {
            **done.fitted.losses[0],
            "landmark_error": float(landmark_error(in_crop, target)[0]),
            "landmark_error_inner": float(landmark_error(in_crop, target, points="inner")[0]),
            # no number where no pixel of the photo is covered
            "photometric_error": None if math.isnan(colours[0]) else float(colours[0]),
        },
        "converged": done.fitted.converged[0],
        "not_converged_because": done.fitted.reasons[0],
    }


@torch.no_grad()
def write_pictures(done: FittedPhoto, folder: Path) -> None:
    """mesh.ply, mesh.glb, overlay.png and figure.png."""
    face, c = done.face, done.fitted.coefficients
    for name in ("mesh.ply", "mesh.glb"):
        export_mesh(folder / name, face.vertices[0], face.model.faces, face.albedo[0])
    overlay = overlay_on_photo(done.photo.pixels, face, done.crop.matrix)
    Image.fromarray(overlay).save(folder / "overlay.png")
    title = done.photo.name
    if not done.fitted.converged[0]:
        title += ": not converged: " + "; ".join(done.fitted.reasons[0])
    figure = fit_figure(done.crop, face, c, done.detection.kind, title)
    save_figure(figure, folder / "figure.png")


def _numbers(values) -> list:
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu().numpy()
    return np.round(np.asarray(values, np.float64), 7).tolist()
