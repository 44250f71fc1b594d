"""What `facerecon fit` and `facerecon reconstruct` leave of a photo: a folder of results.

    write_photo(fit_face(load_image(path), model), Path("outputs/me"))

`result.json` holds everything that is needed to put the mesh back on the photo: for a point v of
mesh.ply,

    x = scale * rotation_matrix @ v + translation_mm                    camera frame, mm
    u = size / 2 * (1 - x[0] / x[2] / tan(fov / 2)),  v likewise        crop pixels
    photo pixel = inverse of crop.matrix applied to (u, v)

Notebook 10, Eq. 1 to 3.
"""

import json
import math
import time
from collections.abc import Iterable
from pathlib import Path
from textwrap import fill

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from .. import __version__
from ..face.camera import (
    CROP_SIZE,
    MODEL_TO_CAMERA,
    axis_angle_to_matrix,
    ndc_to_pixels,
    project_ndc,
)
from ..face.measures import landmark_error, photometric_error
from ..files.weights import write_weights
from ..photos.crop import Crop, crop_to_photo
from ..pictures.faces import overlay_on_photo
from ..pictures.fit_sheet import fit_sheet
from ..rendering.atlas import Texture
from ..rendering.synthesis import Face, landmark_vertices
from . import TEXTURES
from .mesh_export import export_mesh
from .output_folder import digests_of, replacing
from .reconstruct import FittedPhoto
from .texture import bake

QUICK = {"compress_level": 1, "compress_type": 3}  # PNG by runs: a third of the time of the usual

FRAME = (
    "camera: +x left, +y up, +z into the screen, mm; x_camera = scale * rotation_matrix @ v + "
    "translation_mm; rotation is the axis-angle of the head in viewer axes (+x right, +y up, +z to "
    "the viewer), rotation_matrix is diag(-1, 1, -1) times its matrix"
)


def write_photo(
    done: FittedPhoto,
    folder: Path,
    photos: Iterable[Path] = (),
    figures: bool = True,
    texture: str = "photo",
) -> dict:
    """Write a reconstructed photo into `folder`, over an older result. Returns result.json's dict.

    photos: inputs, which are never replaced. figures: without them, figure.png and the maps'
    pictures are left out.
    texture: of mesh.glb and of turned views, one of TEXTURES: "albedo" the fitted skin; "photo" the
    photo's pixels with the fitted light divided out; "lit" the photo's pixels. Raises ValueError
    for another, and OutputError, one line; `folder` is then as it was.
    """
    if texture not in TEXTURES:
        raise ValueError(f"texture {texture!r}: expected one of {', '.join(TEXTURES)}")
    began = time.perf_counter()
    result = {**result_dict(done), "texture": texture}
    with replacing(folder, photos) as partial:
        baked = None if texture == "albedo" else _baked(done, texture)
        write_meshes(done, partial, baked)
        if figures:
            draw_figures(done, partial, baked)
        result["files"] = digests_of(partial)
        seconds = {**done.seconds, "writing": time.perf_counter() - began}
        seconds["total"] = sum(seconds.values())
        result["seconds"] = {k: round(v, 3) for k, v in seconds.items()}
        text = json.dumps(result, indent=1, allow_nan=False)
        (partial / "result.json").write_text(text + "\n")
    return result


@torch.no_grad()
def result_dict(done: FittedPhoto) -> dict:
    """What result.json holds, but for the seconds."""
    c, face, model = done.fitted.coefficients, done.face, done.face.model
    crop, seen, fov = done.crop, done.detection, done.face.fov_deg
    index = landmark_vertices(model, face.v_camera, face.rotation, seen.kind, fov)[0]
    matrix = MODEL_TO_CAMERA.to(c.rotation) @ axis_angle_to_matrix(c.rotation)[0]
    in_crop = ndc_to_pixels(project_ndc(face.v_camera[:, index], fov), CROP_SIZE)
    target = crop.landmarks.to(in_crop)
    groups = {"id": c.identity, "exp": c.expression, "alb": c.albedo}
    return {
        "photo": done.photo.name,
        "photo_path": None if done.photo.path is None else str(done.photo.path.absolute()),
        "photo_sha256": done.photo.sha256,
        "model": model.metadata.get("name", model.metadata["file"]),
        "version": __version__,
        "units": "mm",
        "coefficients": {name: _numbers(values[0]) for name, values in groups.items()},
        "pose": {
            "rotation": _numbers(c.rotation[0]),
            "rotation_matrix": _numbers(matrix),
            "translation_mm": _numbers(c.translation[0]),
            "scale": float(c.scale[0, 0]),
        },
        "camera": {"fov_deg": float(fov), "principal_point": [CROP_SIZE / 2] * 2, "frame": FRAME},
        "crop": {"matrix": _numbers(crop.matrix), "size": CROP_SIZE},
        "lighting": _numbers(c.lighting[0]),
        "detector": {"name": seen.detector, "kind": seen.kind, "score": float(seen.score)},
        **{name: getattr(seen, name) for name in ("faces_found", "face")},
        **{name: getattr(done, name) for name in ("method", "init", "checkpoint", "recognition")},
        "distance": None if done.distance is None else round(done.distance, 4),
        "landmarks_px": _numbers(seen.landmarks),
        "landmarks_model_px": _numbers(crop_to_photo(in_crop[0].cpu(), crop.matrix)),
        "landmarks_mm": _numbers(face.vertices[0, index]),
        "actions": dict(zip(model.controls, _numbers(model.actions(c.expression)[0]), strict=True)),
        "gaze": _gaze_dict(done),
        "losses": {
            **done.fitted.losses[0],
            "landmark_error": float(landmark_error(in_crop, target)[0]),
            "landmark_error_inner": float(landmark_error(in_crop, target, points="inner")[0]),
            "photometric_error": _photometric_error(face, crop),
        },
        "detail": _detail_dict(done),
        "evidence": done.evidence.numbers(),
        "converged": not done.reasons,
        "not_converged_because": done.reasons,
    }


def _gaze_dict(done: FittedPhoto) -> dict | None:
    """Where each eye looks, relative to the head; None for a model without eyeballs."""
    sight = done.sight
    if sight is None:
        return None
    eyes = {}
    for side, name in enumerate(("right", "left")):
        gaze, turn = (values[0, side].rad2deg().tolist() for values in (sight.gaze, sight.turns))
        gaze = [round(value, 2) if sight.seen[0].any() else None for value in gaze]
        eyes[name] = dict(zip(("yaw_deg", "pitch_deg"), gaze, strict=True))
        eyes[name] |= {"seen": bool(sight.seen[0, side]), "mesh_deg": [round(v, 2) for v in turn]}
    return eyes


def _photometric_error(face: Face, crop: Crop) -> float | None:
    """Mean absolute difference to the photo; None where no pixel of it is covered."""
    image, mask = face.render()
    counted = mask * crop.valid.to(mask)
    error = float(photometric_error(image.clamp(0, 1), crop.image.to(image), counted)[0])
    return None if math.isnan(error) else error


def _detail_dict(done: FittedPhoto) -> dict | None:
    """What the augmented branch added to the vertices; None without it."""
    detail = done.detail
    if detail is None:
        return None
    length = detail.offsets.displacement[0].norm(dim=-1)
    faces = {"base": detail.base.face, "detailed": done.face}
    return {
        "checkpoint": done.unet,
        "space": detail.space,
        "sampling": detail.sampling,
        "texture_rms": float(detail.offsets.texture[0].square().mean().sqrt()),
        "displacement_rms_mm": float(length.square().mean().sqrt()),
        "displacement_max_mm": float(length.max()),
        "seen_share": float(detail.offsets.seen[0].mean()),
        "photometric_error": {k: _photometric_error(face, done.crop) for k, face in faces.items()},
    }


def _baked(done: FittedPhoto, kind: str) -> Texture:
    return bake(done.photo.pixels, done.crop, done.face, done.fitted.coefficients.lighting, kind)


@torch.no_grad()
def write_meshes(done: FittedPhoto, folder: Path, texture: Texture | None = None) -> None:
    """Meshes, overlay.png, and with details the maps as numbers. texture: of mesh.glb."""
    meshes = {"mesh.ply": done.face, "mesh.glb": done.face}
    if done.detail is not None:
        meshes["base_mesh.ply"] = done.detail.base.face
        maps = {name: values[0] for name, values in done.detail.maps._asdict().items()}
        about = {"texture": "added to sRGB in [0, 1]", "displacement": "mm, model frame (x, y, z)"}
        about["space"] = done.detail.space
        write_weights(folder / "offset_maps.safetensors", maps, about)
    for name, face in meshes.items():
        mesh = face.vertices[0], face.model.faces, face.albedo[0]
        export_mesh(folder / name, *mesh, texture if name == "mesh.glb" else None)
    overlay = overlay_on_photo(done.photo.pixels, done.face, done.crop.matrix)
    Image.fromarray(overlay).save(folder / "overlay.png", **QUICK)


@torch.no_grad()
def draw_figures(done: FittedPhoto, folder: Path, texture: Texture | None = None) -> None:
    """figure.png, and with details texture_map.png and displacement_map.png.

    texture: of the turned views.
    """
    title, detail = done.photo.name, done.detail
    if done.reasons:
        title += ": not to be relied on: " + "; ".join(done.reasons)
    title = fill(title, 120)
    if detail is None:
        coefficients, kind = done.fitted.coefficients, done.detection.kind
        page = fit_sheet(done.crop, done.face, coefficients, kind, title, texture, done.sight)
        page.save(folder / "figure.png", **QUICK)
        return
    from ..pictures import offset_maps, sheets  # with Matplotlib, which is slow to import

    figures = {
        "figure": offset_maps.detail_figure(done.crop, detail, title, texture),
        "texture_map": offset_maps.texture_figure(detail),
        "displacement_map": offset_maps.displacement_figure(detail),
    }
    for name, figure in figures.items():
        sheets.save_figure(figure, folder / f"{name}.png")


def _numbers(values: Tensor | np.ndarray) -> list:
    return np.round(torch.as_tensor(values).cpu().double().numpy(), 7).tolist()
