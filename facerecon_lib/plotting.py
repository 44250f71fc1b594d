"""Figures: the face in its photo, turned, lit and unlit, and its bare shape.

overlay = overlay_on_photo(photo.pixels, face, crop.matrix)          # (H, W, 3) uint8
figure = fit_figure(photo.pixels, crop, face, kind, "me.jpg")         # a matplotlib Figure
"""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from .camera import axis_angle_to_matrix, ndc_to_pixels, pixels_to_ndc, project_ndc
from .coefficients import FaceCoefficients
from .detection import Crop, crop_to_photo
from .lighting import ambient_lighting, shade
from .morphable_model import MorphableModel
from .rasterizer import rasterize
from .renderer import interpolate
from .synthesis import CROP_SIZE, Face, pose_and_light

VIEW_DISTANCE = 430.0  # mm from the middle of the face to the camera of turned views
PANEL = 300  # px, about what a panel of `fit_figure` shows
PAPER = 0.96  # background of renderings
DETECTED, FITTED = "#00c46a", "#ff3355"


def to_uint8(image: Float[Tensor, "3 height width"]) -> UInt8[np.ndarray, "height width 3"]:
    """A float image, channels first, as bytes, channels last; clamped to [0, 1]."""
    return (image.detach().clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()


def studio_light() -> Float[Tensor, "1 9 3"]:
    """White light from above and the viewer's left: shows shape well."""
    lighting = ambient_lighting(1, 0.72)
    lighting[:, 1] += 0.35  # up
    lighting[:, 2] += 0.55  # towards the viewer
    lighting[:, 3] -= 0.30  # from the left
    return lighting


@torch.no_grad()
def show_face(
    face: Face, look: str = "lit", size: int = 448, background: float = PAPER
) -> UInt8[np.ndarray, "size size 3"]:
    """The first face of a batch, antialiased.

    look: "lit" as in the photo; "unlit" its albedo; "shape" grey under the studio light; "studio"
    its albedo under the studio light.
    """
    white = torch.full_like(face.albedo, 0.78)
    light = studio_light().to(face.albedo)
    colours = {
        "lit": lambda: face.colours,
        "unlit": lambda: face.albedo,
        "shape": lambda: shade(white, face.normals, light.expand(len(white), -1, -1)),
        "studio": lambda: shade(face.albedo, face.normals, light.expand(len(white), -1, -1)),
    }
    if look not in colours:
        raise ValueError(f"look: expected one of {', '.join(colours)}, got {look!r}")
    image, mask = face.render(2 * size, attributes=colours[look]().clamp(0, 1))
    image = image + (1 - mask) * background
    return to_uint8(F.avg_pool2d(image, 2)[0])


@torch.no_grad()
def turned(
    model: MorphableModel, coefficients: FaceCoefficients, yaw_deg: float, pitch_deg: float = 0.0
) -> Face:
    """The first face of a batch, turned, in the middle of the view and filling it."""
    one = coefficients[:1]
    vertices, albedo = model.shape(one.identity, one.expression), model.albedo(one.albedo)
    return turned_mesh(model, vertices, albedo, yaw_deg, pitch_deg)


@torch.no_grad()
def turned_mesh(
    model: MorphableModel,
    vertices: Float[Tensor, "1 vertex 3"],
    albedo: Float[Tensor, "1 vertex 3"],
    yaw_deg: float,
    pitch_deg: float = 0.0,
) -> Face:
    """The same of any vertices (mm, model frame) and albedo of the model's mesh."""
    start = model.neutral()
    start.rotation = torch.tensor(
        [[math.radians(pitch_deg), math.radians(yaw_deg), 0.0]], device=model.device
    )
    seen = vertices[0] @ axis_angle_to_matrix(start.rotation)[0].T
    middle = (seen.amin(0) + seen.amax(0)) / 2
    start.translation = torch.stack([middle[0], -middle[1], middle[2] + VIEW_DISTANCE])[None]
    return pose_and_light(model, vertices, albedo, start)


@torch.no_grad()
def overlay_on_photo(
    pixels: UInt8[np.ndarray, "height width 3"],
    face: Face,
    matrix: Float[Tensor, "2 3"],
    attributes: Float[Tensor, "1 vertex 3"] | None = None,
    longest: int = 1600,
) -> UInt8[np.ndarray, "height2 width2 3"]:
    """The photo with the rendered face on it; reduced so that its longer side is at most `longest`.

    matrix: of the crop, photo pixels to crop pixels. attributes: instead of the lit colours.
    """
    height, width = pixels.shape[:2]
    shrink = min(1.0, longest / max(height, width))
    size = (max(round(height * shrink), 1), max(round(width * shrink), 1))
    small = np.asarray(Image.fromarray(pixels).resize(size[::-1], Image.Resampling.LANCZOS))
    ndc = project_ndc(face.v_camera[:1], face.fov_deg)
    points = crop_to_photo(ndc_to_pixels(ndc, CROP_SIZE), matrix.to(ndc))
    points = points * points.new_tensor([size[1] / width, size[0] / height])
    ndc = torch.cat([pixels_to_ndc(points, size), ndc[..., 2:]], -1)
    fine = (2 * size[0], 2 * size[1])
    fragments = rasterize(ndc, face.model.faces, fine, perspective_correct=True, z_clip_value=1.0)
    shown = face.colours[:1] if attributes is None else attributes
    image = interpolate(fragments, face.model.faces, shown.clamp(0, 1).contiguous())[..., 0, :]
    image = torch.cat([image, (fragments.pix_to_face >= 0).to(image)], -1).permute(0, 3, 1, 2)
    image = F.avg_pool2d(image, 2)[0]
    photo = torch.as_tensor(small.copy()).permute(2, 0, 1).to(image) / 255
    return to_uint8(image[:3] + (1 - image[3:]) * photo)


def fit_figure(
    crop: Crop,
    face: Face,
    coefficients: FaceCoefficients,
    kind: str,
    title: str,
) -> Figure:
    """Photo, overlay, lit, unlit, shape, and turned views in one figure."""
    overlay = face_in_crop(crop, face, PANEL)
    points = face.landmarks(kind).detach()[0].cpu().numpy()
    detected = crop.landmarks[0].cpu().numpy()
    views = {yaw: turned(face.model, coefficients, yaw) for yaw in (-50, -25, 25, 50)}
    figure = Figure(figsize=(13, 5.8), layout="constrained", facecolor="white")
    figure.suptitle(title, fontsize=13, parse_math=False)
    axes = figure.subplots(2, 5)
    panels = [
        ("photo, and the detected landmarks", to_uint8(crop.image[0])),
        ("the fitted face on the photo", overlay),
        ("lit as in the photo", show_face(face, "lit", PANEL)),
        ("unlit: its albedo", show_face(face, "unlit", PANEL)),
        ("its shape", show_face(face, "shape", PANEL)),
        ("landmarks: detected, fitted", to_uint8(crop.image[0])),
        *(
            (f"turned by {yaw:+d}°", show_face(view, "shape" if yaw == -25 else "studio", PANEL))
            for yaw, view in views.items()
        ),
    ]
    for axis, (name, image) in zip(axes.flat, panels, strict=True):
        axis.imshow(image, extent=(0, CROP_SIZE, CROP_SIZE, 0))
        axis.set_title(name, fontsize=9)
        axis.axis("off")
    dots = dict(s=5, linewidths=0)
    axes[0, 0].scatter(*detected.T, color=DETECTED, **dots)
    axes[1, 0].scatter(*detected.T, color=DETECTED, **dots)
    axes[1, 0].scatter(*points.T, color=FITTED, **dots)
    return figure


def gallery(
    images: Sequence[np.ndarray],
    titles: Sequence[str] = (),
    *,
    title: str = "",
    columns: int | None = None,
    size: float = 2.6,
    **imshow,
) -> Figure:
    """Pictures in a grid, each under its title; `size` inches a panel.

    images: (H, W, 3) uint8, or (H, W) numbers with cmap=, vmin=, vmax= for `imshow`.
    Raises ValueError without images, or with more titles than images.
    """
    if not images or len(titles) > len(images):
        raise ValueError(f"gallery: expected images, got {len(images)} and {len(titles)} titles")
    columns = min(columns or len(images), len(images))
    rows = math.ceil(len(images) / columns)
    lines = 1 + max((name.count("\n") for name in titles), default=-1)
    head = 0.35 * bool(title) + rows * (0.15 * bool(lines) + 0.2 * lines)
    figure = Figure((columns * size, rows * size + head), layout="constrained", facecolor="white")
    if title:
        figure.suptitle(title, fontsize=12)
    for axis in figure.subplots(rows, columns, squeeze=False).flat:
        axis.axis("off")
    for i, image in enumerate(images):
        figure.axes[i].imshow(image, **imshow)
        if i < len(titles):
            figure.axes[i].set_title(titles[i], fontsize=10)
    return figure


@torch.no_grad()
def face_in_crop(crop: Crop, face: Face, size: int = 448) -> UInt8[np.ndarray, "size size 3"]:
    """The rendered face on the crop, antialiased."""
    image, mask = face.render(2 * size, attributes=face.colours.clamp(0, 1))
    image, mask = F.avg_pool2d(image, 2)[:1], F.avg_pool2d(mask, 2)[:1]
    photo = F.interpolate(crop.image, (size, size), mode="bilinear", align_corners=False)
    return to_uint8((image + (1 - mask) * photo.to(image))[0])


def save_figure(figure: Figure, path: str | os.PathLike) -> None:
    """Write a figure as PNG, without a display; the file appears whole or not at all."""
    path = Path(path)
    partial = path.with_name(f".{path.stem[:40]}.part")
    try:
        with warnings.catch_warnings(), matplotlib.rc_context({"savefig.dpi": 110}):
            # a name in a script that the font lacks is drawn as boxes: no reason to warn
            warnings.filterwarnings("ignore", message="Glyph .* missing from")
            figure.savefig(partial, format="png")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
