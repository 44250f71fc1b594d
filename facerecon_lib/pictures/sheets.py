"""Sheets of pictures: pictures in a grid, a fit on one page, and a figure as a file.

gallery([before, after], ["before", "after"], title="What changed")
save_figure(fit_figure(crop, face, coefficients, "2d", "me.jpg"), "me.png")

Every notebook; the results of `facerecon fit`.
"""

import math
import os
import warnings
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from ..face.camera import CROP_SIZE
from ..face.coefficients import FaceCoefficients
from ..files.atomic import write_whole
from ..photos.crop import Crop
from ..rendering.synthesis import Face
from .faces import DETECTED, FITTED, on_photo, show_face, to_uint8, turned

PANEL = 300  # px, about what a panel of `fit_figure` shows


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
    head = 0.35 * bool(title) + 0.2 * title.count("\n") + rows * (0.15 * bool(lines) + 0.2 * lines)
    figure = Figure((columns * size, rows * size + head), layout="constrained", facecolor="white")
    if title:
        figure.suptitle(title, fontsize=12, parse_math=False)
    for axis in figure.subplots(rows, columns, squeeze=False).flat:
        axis.axis("off")
    for i, image in enumerate(images):
        figure.axes[i].imshow(image, **imshow)
        if i < len(titles):
            figure.axes[i].set_title(titles[i], fontsize=10)
    return figure


def fit_figure(crop: Crop, face: Face, coefficients: FaceCoefficients, kind: str, title: str):
    """Photo, overlay, lit, unlit, shape, and turned views in one figure."""
    photo = to_uint8(crop.image[0])
    panels = {
        "photo, and the detected landmarks": photo,
        "the fitted face on the photo": on_photo(crop.image, face, PANEL),
        "lit as in the photo": show_face(face, "lit", PANEL),
        "unlit: its albedo": show_face(face, "unlit", PANEL),
        "its shape": show_face(face, "shape", PANEL),
        "landmarks: detected, fitted": photo,
    }
    for yaw in (-50, -25, 25, 50):
        view, look = turned(face.model, coefficients, yaw), "shape" if yaw == -25 else "studio"
        panels[f"turned by {yaw:+d}°"] = show_face(view, look, PANEL)
    extent = (0, CROP_SIZE, CROP_SIZE, 0)
    figure = gallery([*panels.values()], [*panels], title=title, columns=5, extent=extent)
    detected, fitted = crop.landmarks[0].cpu(), face.landmarks(kind).detach()[0].cpu()
    marks = (0, detected, DETECTED), (5, detected, DETECTED), (5, fitted, FITTED)
    for panel, points, colour in marks:
        figure.axes[panel].scatter(*points.numpy().T, s=5, linewidths=0, color=colour)
    return figure


def save_figure(figure: Figure, path: str | os.PathLike) -> None:
    """Write a figure as PNG, without a display; the file appears whole or not at all."""
    with write_whole(path) as partial, warnings.catch_warnings():
        # a name in a script that the font lacks is drawn as boxes: no reason to warn
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure.savefig(partial, format="png", dpi=110)
