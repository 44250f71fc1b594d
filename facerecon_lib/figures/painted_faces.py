"""Pictures of faces from bare vertices, alone and in rows.

paint = FacePainter(MorphableModel.load(subdivision=0))
paint(vertices)                               # (V, 3) mm -> a grey face, uint8
paint(vertices, albedo, yaw=30)               # with its skin, turned
paint(vertices, heat=error_mm, top=2.0)       # a number at each vertex, as viridis
gallery([...], [...], title="What to notice") # pictures in rows
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from torch import Tensor

from ..camera import axis_angle_to_matrix
from ..lighting import shade
from ..mesh import vertex_normals
from ..morphable_model import MorphableModel
from ..plotting import PAPER, studio_light, to_uint8
from ..renderer import render

CLAY = 0.78
WIDTH = 0.8  # of a picture, as a share of its height


def panels(
    rows: Sequence[Sequence[np.ndarray | None]],
    *,
    title: str,
    columns: Sequence[str] = (),
    names: Sequence[str] = (),
    below: Mapping[tuple[int, int], str] | None = None,
    size: float = 1.9,
    bar: tuple[float, str, int] | None = None,
) -> Figure:
    """Pictures of one upright shape in rows, `size` inches wide; a name before each row, a title on
    each column, a line below some pictures. None leaves a place empty.

    bar: (its top, its label, the row that it belongs to): a viridis bar from 0.
    """
    # placed by hand, since a layout engine takes longer than the renderer
    across = max(map(len, rows))
    shape = next(p.shape for row in rows for p in row if p is not None)
    tall, gap = size * shape[0] / shape[1], 0.06
    left, right = 0.3 * bool(names), 0.85 * (bar is not None)
    lines = 1 + max((c.count("\n") for c in columns), default=-1)
    step = tall + gap + 0.22 * bool(below)
    wide = left + across * (size + gap) + right
    high = 0.38 + 0.2 * lines + len(rows) * step
    figure = Figure((wide, high), facecolor="white", layout="none")
    middle = (left + across * (size + gap) / 2) / wide
    figure.text(middle, 1 - 0.08 / high, title, fontsize=12, ha="center", va="top")
    for i, row in enumerate(rows):
        y = high - 0.38 - 0.2 * lines - i * step - tall
        for j, picture in enumerate(row):
            x = left + j * (size + gap)
            axis = figure.add_axes((x / wide, y / high, size / wide, tall / high))
            axis.axis("off")
            if picture is not None:
                axis.imshow(picture, aspect="auto")
            if i == 0 and j < len(columns):
                axis.set_title(columns[j], fontsize=10, pad=4)
            if below and (i, j) in below:
                axis.text(0.5, -0.02, below[i, j], ha="center", va="top", transform=axis.transAxes)
        if i < len(names):
            figure.text(
                0.12 / wide, (y + tall / 2) / high, names[i], rotation=90, va="center", ha="center"
            )
        if bar is not None and bar[2] == i:
            box = ((wide - right + 0.08) / wide, y / high, 0.12 / wide, tall / high)
            colours = ScalarMappable(Normalize(0, bar[0]), "viridis")
            figure.colorbar(colours, cax=figure.add_axes(box), label=bar[1])
    return figure


def gallery(
    images: Sequence[np.ndarray],
    titles: Sequence[str] = (),
    *,
    title: str,
    columns: int | None = None,
    size: float = 2.2,
) -> Figure:
    """As `plotting.gallery`, for upright pictures `size` inches wide."""
    columns = columns or len(images)
    starts = range(0, len(images), columns)
    rows = [images[i : i + columns] for i in starts]
    if len(rows) == 1:
        return panels(rows, title=title, columns=titles, size=size)
    below = {divmod(i, columns): name for i, name in enumerate(titles)}
    return panels(rows, title=title, below=below, size=size)


class FacePainter:
    """Pictures of vertices on a model's mesh, all from one camera, so that size and place show."""

    def __init__(self, model: MorphableModel):
        self.faces = model.faces
        self.middle = (model.mean.amin(0) + model.mean.amax(0)) / 2

    @torch.no_grad()
    def __call__(
        self,
        vertices: Float[Tensor, "vertex 3"],
        albedo: Float[Tensor, "vertex 3"] | None = None,
        *,
        yaw: float = 0.0,
        size: int = 240,
        heat: Float[Tensor, " vertex"] | None = None,
        top: float = 1.0,
        lit: bool = True,
        frame: float = 1.0,
        fine: int = 2,
    ) -> UInt8[np.ndarray, "size width 3"]:
        """albedo: sRGB; grey without. heat: a magnitude to show as viridis, `top` its brightest.
        yaw: degrees. size: height, px. lit: under the studio light, else the bare colours.
        frame: 2 shows twice as much around the face. fine: 2 is antialiased, 1 four times as fast.
        """
        if heat is not None:
            shown = matplotlib.colormaps["viridis"]((heat / top).clamp(0, 1).numpy())
            albedo = torch.tensor(shown[:, :3], dtype=torch.float32)
        elif albedo is None:
            albedo = torch.full_like(vertices, CLAY)
        turn = axis_angle_to_matrix(torch.tensor([0.0, math.radians(yaw), 0.0]))
        seen = (vertices - self.middle) @ turn.T
        normals = vertex_normals(seen[None], self.faces)
        colours = shade(albedo[None], normals, studio_light()) if lit else albedo[None]
        v_camera = seen * torch.tensor([-1.0, 1, -1]) + torch.tensor([0, 0, 365.0 * frame])
        shape = (fine * size, fine * round(WIDTH * size))
        image, mask = render(v_camera[None], self.faces, colours.clamp(0, 1), shape)
        return to_uint8(F.avg_pool2d(image + (1 - mask) * PAPER, fine)[0])
