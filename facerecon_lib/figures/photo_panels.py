"""Panels of figures in which faces lie on photos."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import ImageFont
from torch import Tensor

from ..coefficients import FaceCoefficients
from ..morphable_model import MorphableModel
from ..plotting import DETECTED, FITTED, show_face, to_uint8, turned
from ..synthesis import CROP_SIZE, Face


@torch.no_grad()
def on_photo(
    image: Float[Tensor, "1 3 h w"], face: Face, size: int = 220, fine: int = 2
) -> UInt8[np.ndarray, "size size 3"]:
    """The first face of a batch on a photo; fine: samples a pixel and side (1 is quick)."""
    rendered, covered = face.render(fine * size, attributes=face.colours.clamp(0, 1))
    rendered, covered = F.avg_pool2d(rendered, fine)[:1], F.avg_pool2d(covered, fine)[:1]
    photo = F.interpolate(image[:1], (size, size), mode="bilinear", align_corners=False)
    return to_uint8((rendered + (1 - covered) * photo.to(rendered))[0])


@torch.no_grad()
def shape_view(
    model: MorphableModel, c: FaceCoefficients, yaw: float = 0.0, look="shape", size: int = 220
) -> UInt8[np.ndarray, "size size 3"]:
    """The first face of a batch, turned, grey or with its skin."""
    return show_face(turned(model, c, yaw), look, size)


def picture(axis: Axes, image, title: str = "", **imshow):
    """An image on an axis in pixels of the crop, so that landmarks can be drawn on it."""
    drawn = axis.imshow(image, extent=(0, CROP_SIZE, CROP_SIZE, 0), **imshow)
    axis.set_title(title, fontsize=10)
    axis.set(xlim=(0, CROP_SIZE), ylim=(CROP_SIZE, 0))
    axis.axis("off")
    return drawn


def points(axis: Axes, xy: Tensor, colour: str, size: float = 7, **kwargs) -> None:
    axis.scatter(*xy.detach().cpu().numpy().T, s=size, color=colour, linewidths=0, **kwargs)


def arrows(axis: Axes, start: Tensor, end: Tensor) -> None:
    a, b = start.detach().cpu().numpy(), end.detach().cpu().numpy()
    for (x0, y0), (x1, y1) in zip(a, b, strict=True):
        axis.plot([x0, x1], [y0, y1], color="white", linewidth=1.2)
    points(axis, start, FITTED, 9, zorder=3)
    points(axis, end, DETECTED, 9, zorder=3)


def sheet(columns: int, rows: int = 1, size: float = 3.0, title: str = "", head: float = 0.45):
    """A white figure and its axes, rows by columns, `size` inches a panel."""
    height = rows * size + head + (0.35 if title else 0)
    figure = Figure((columns * size, height), layout="constrained", facecolor="white")
    if title:
        figure.suptitle(title, fontsize=12)
    axes = figure.subplots(rows, columns, squeeze=False)
    return figure, axes


def font(size: int):
    return ImageFont.load_default(size=size)
