"""Figures of notebook 13: relief in raking light, normals, bands of a photo."""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from ...pictures.faces import Picture, paint, to_uint8
from ...rendering.synthesis import Face
from ..drawing.style import drawn, fill, panels

SIZE = 300
RAKING = (-0.62, 0.6, 0.5)  # to the lamp, viewer axes: from above and the left, low over the skin
MOST_MM = 1.5


def relief(face: Face, size: int = SIZE, towards: Sequence[float] = RAKING) -> Picture:
    """The first face as grey clay under one lamp from the side, which makes slopes visible."""
    lamp = F.normalize(torch.tensor(towards), dim=0)
    light = 0.12 + 0.95 * (face.normals @ lamp).clamp(min=0)
    return paint(face, light[..., None].expand_as(face.normals), size)


def relief_figure(rows: Mapping[str, Mapping[str, Face | Tensor]], title: str) -> Image.Image:
    """Per person a row: photos as they are, faces in raking light, names above."""
    names = list(next(iter(rows.values())))
    figure, axes = panels(len(rows), len(names), 2.5, title)
    pictures = [
        relief(x) if isinstance(x, Face) else to_uint8(x[0])
        for row in rows.values()
        for x in row.values()
    ]
    fill(axes, pictures, names)
    for axis, name in zip(axes[:, 0], rows, strict=True):
        axis.text(0.03, 0.03, name, transform=axis.transAxes, color="white", fontsize=9)
    return drawn(figure, 100)


def normals_figure(
    normals: Mapping[str, Float[Tensor, "1 3 height width"]], title: str
) -> Image.Image:
    """Normals as colours: red to the right, green up, blue to the viewer."""
    figure, axes = panels(1, len(normals), 2.9, title)
    fill(axes, [to_uint8(0.5 + n[0] / 2) for n in normals.values()], normals)
    return drawn(figure)


def maps_figure(
    maps: Mapping[str, Float[Tensor, "batch channel height width"]],
    title: str,
    most: float = MOST_MM,
    label: str = "mm",
) -> Image.Image:
    """Numbers of the first of each batch, from -most (blue) to most (red); pictures as they are."""
    figure, axes = panels(1, len(maps), 2.9, title)
    shown = None
    for axis, (name, values) in zip(axes.ravel(), maps.items(), strict=True):
        axis.set_title(name, fontsize=11)
        axis.axis("off")
        if values.shape[1] == 3:
            axis.imshow(to_uint8(values[0]))
        else:
            shown = axis.imshow(values[0, 0].numpy(), cmap="RdBu_r", vmin=-most, vmax=most)
    figure.colorbar(shown, ax=list(axes.ravel()), shrink=0.8, pad=0.01, label=label)
    return drawn(figure)
