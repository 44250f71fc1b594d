"""One photo to one folder of results: what `facerecon fit` and `facerecon reconstruct` write.

    done = fit_face(load_image("me.jpg"), model, coarse_model)   # analysis by synthesis
    done = encode_face(load_image("me.jpg"), model, encoder)     # the encoder, feed-forward
    write_photo(path, Path("outputs/me"), lambda photo: encode_face(photo, model, encoder))

`result.json` holds everything that is needed to put the mesh back on the photo: for a point v of
mesh.ply,

    x = scale * rotation_matrix @ v + translation_mm                    camera frame, mm
    u = size / 2 * (1 - x[0] / x[2] / tan(fov / 2)),  v likewise        crop pixels
    photo pixel = inverse of crop.matrix applied to (u, v)
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from . import __version__
from .camera import MODEL_TO_CAMERA, axis_angle_to_matrix, ndc_to_pixels, project_ndc
from .coefficients import FaceCoefficients
from .detection import Crop, Detection, Photo, align, crop_to_photo, detect, load_image
from .encoder import Encoder
from .evaluation import landmark_error, photometric_error
from .fitting import FROM_ENCODER, FitResult, FitSettings, fit, judge
from .mesh import export_mesh
from .morphable_model import MorphableModel
from .output_folder import check_replaceable, readable_name, replacing
from .photo_colours import light_from_photo
from .plotting import fit_figure, overlay_on_photo, save_figure
from .recognition import FaceNetwork
from .synthesis import CROP_SIZE, Face, landmark_vertices, synthesise

FRAME = (
    "camera: +x left, +y up, +z into the screen, mm; x_camera = scale * rotation_matrix @ v + "
    "translation_mm; rotation is the axis-angle of the head in viewer axes (+x right, +y up, +z to "
    "the viewer), rotation_matrix is diag(-1, 1, -1) times its matrix"
)


@dataclass
class FittedPhoto:
    """A photo, its crop, and the face that was found for it.

    method: "fit" or "encoder". init: what fitting started from, "landmarks" or "encoder".
    checkpoint: of the encoder, where one was used. recognition: the network of Eq. 6.
    seconds: of finding the face and of each stage after that.
    """

    photo: Photo
    detection: Detection
    crop: Crop
    fitted: FitResult
    face: Face
    method: str
    seconds: dict[str, float]
    init: str | None = None
    checkpoint: str | None = None
    recognition: str | None = None


def fit_face(
    photo: Photo,
    model: MorphableModel,
    coarse_model: MorphableModel | None = None,
    face: int | None = None,
    settings: FitSettings | None = None,
    recognition: FaceNetwork | None = None,
    progress: Callable[[str, int, int, float], None] | None = None,
    encoder: Encoder | None = None,
) -> FittedPhoto:
    """Detect, align and fit the face of one photo, on the model's device.

    face: which of several, 1 the largest. recognition: as in `fitting.fit`. encoder: start from
    what it says instead of from the landmarks. Raises DetectionError when there is no face, and
    FloatingPointError when the loss is no number.
    """
    settings = settings or (FitSettings() if encoder is None else FROM_ENCODER)
    found, crop, inputs, seconds = _aligned(photo, model, face)
    start = None
    if encoder is not None:
        start, seconds["encoder"] = _encoded(encoder, inputs[0])
    fitted = fit(
        model,
        *inputs,
        kind=found.kind,
        settings=settings,
        coarse_model=coarse_model,
        init=start,
        recognition=recognition,
        progress=progress,
    )
    face_found = synthesise(model, fitted.coefficients, settings.fov_deg)
    return FittedPhoto(
        photo,
        found,
        crop,
        fitted,
        face_found,
        method="fit",
        seconds=seconds | fitted.seconds,
        init="landmarks" if encoder is None else "encoder",
        checkpoint=None if encoder is None else encoder.name,
        recognition=None if recognition is None else recognition.name,
    )


def encode_face(
    photo: Photo,
    model: MorphableModel,
    encoder: Encoder,
    face: int | None = None,
    light: str = "photo",
) -> FittedPhoto:
    """Detect and align the face of one photo and ask the encoder, on the model's device.

    light: "encoder", or "photo": the encoder's, moved by least squares to the photo's colours.
    Losses, and the rules by which a result is trusted, are those of fitting; so are the errors.
    """
    if light not in ("photo", "encoder"):
        raise ValueError(f"light {light!r}: expected photo or encoder")
    found, crop, inputs, seconds = _aligned(photo, model, face)
    coefficients, seconds["encoder"] = _encoded(encoder, inputs[0])
    if light == "photo":
        start = time.perf_counter()
        coefficients.lighting = light_from_photo(model, coefficients, *inputs[:2])
        seconds["light"] = time.perf_counter() - start
    fitted = judge(model, *inputs, coefficients, kind=found.kind)
    with torch.no_grad():
        face_found = synthesise(model, coefficients)
    shown = (photo, found, crop, fitted, face_found)
    return FittedPhoto(*shown, method="encoder", seconds=seconds, checkpoint=encoder.name)


def _aligned(photo: Photo, model: MorphableModel, face: int | None):
    """(detection, crop, the crop's tensors on the model's device, seconds)."""
    start = time.perf_counter()
    device = model.device
    found = detect(photo, face, device=str(device))
    crop = align(photo.pixels, found.landmarks)
    inputs = tuple(x.to(device) for x in (crop.image, crop.valid, crop.landmarks))
    return found, crop, inputs, {"detection": time.perf_counter() - start}


@torch.no_grad()
def _encoded(encoder: Encoder, image: torch.Tensor) -> tuple[FaceCoefficients, float]:
    start = time.perf_counter()
    coefficients = encoder(image)
    if not torch.isfinite(coefficients.to_vector()).all():
        raise FloatingPointError("the encoder's answer is not finite; is the checkpoint damaged?")
    return coefficients, time.perf_counter() - start


def write_photo(
    path: Path,
    folder: Path,
    reconstruct: Callable[[Photo], FittedPhoto],
    started: float | None = None,
) -> dict:
    """Reconstruct the face in the photo at `path` into `folder`. Returns what result.json holds.

    An older result in `folder` is replaced. Raises PhotoError, DetectionError, OutputError or
    FloatingPointError, one line each; `folder` is then as it was.
    """
    started = time.perf_counter() if started is None else started
    check_replaceable(folder)
    photo = load_image(path, name=readable_name(path))
    opened = time.perf_counter()
    done = reconstruct(photo)
    result = describe(done)
    seconds = {"start": opened - started, **done.seconds}
    writing = time.perf_counter()
    with replacing(folder) as partial:
        write_pictures(done, partial)
        seconds["writing"] = time.perf_counter() - writing
        seconds["total"] = time.perf_counter() - started
        result["seconds"] = {k: round(v, 3) for k, v in seconds.items()}
        text = json.dumps(result, indent=1, allow_nan=False)
        (partial / "result.json").write_text(text + "\n")
    return result


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
        "method": done.method,
        "init": done.init,
        "checkpoint": done.checkpoint,
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
        what = "not converged" if done.method == "fit" else "not to be trusted"
        title += f": {what}: " + "; ".join(done.fitted.reasons[0])
    figure = fit_figure(done.crop, face, c, done.detection.kind, title)
    save_figure(figure, folder / "figure.png")


def _numbers(values) -> list:
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu().numpy()
    return np.round(np.asarray(values, np.float64), 7).tolist()
