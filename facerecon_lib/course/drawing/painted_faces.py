"""Pictures of faces from bare vertices, alone and in rows.

paint = FacePainter(MorphableModel.load(subdivision=0))
paint(vertices)                               # (V, 3) mm -> a grey face, uint8
paint(vertices, albedo, yaw=30)               # with its skin, turned
paint(vertices, heat=error_mm, top=2.0)       # a number at each vertex, as viridis
gallery([...], [...], title="What to notice") # pictures in rows

Notebook 01.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float, UInt8
from matplotlib.figure import Figure
from torch import Tensor

from ...face.camera import MODEL_TO_CAMERA, axis_angle_to_matrix
from ...face.mesh import vertex_normals
from ...face.morphable_model import MorphableModel
from ...pictures.faces import CLAY, in_studio, paint_mesh
from .style import colour_bar
from .style import heat as heat_colours

WIDTH = 0.8  # of a picture, as a share of its height
GAP, HEAD, LINE = 0.06, 0.38, 0.2  # inches


def upright_rows(
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
    shape = next(p.shape for row in rows for p in row if p is not None)
    tall, across = size * shape[0] / shape[1], max(map(len, rows)) * (size + GAP)
    left, right = 0.3 * bool(names), 0.85 * (bar is not None)
    top = HEAD + LINE * (1 + max((c.count("\n") for c in columns), default=-1))
    step = tall + GAP + 0.22 * bool(below)
    wide, high = left + across + right, top + len(rows) * step
    figure = Figure((wide, high), facecolor="white", layout="none")
    middle = (left + across / 2) / wide
    figure.text(middle, 1 - 0.08 / high, title, fontsize=12, ha="center", va="top")

    def place(x: float, y: float, width: float):
        return figure.add_axes((x / wide, y / high, width / wide, tall / high))

    for i, row in enumerate(rows):
        y = high - top - i * step - tall
        for j, image in enumerate(row):
            axis = place(left + j * (size + GAP), y, size)
            axis.axis("off")
            if image is not None:
                axis.imshow(image, aspect="auto")
            if i == 0 and j < len(columns):
                axis.set_title(columns[j], fontsize=10, pad=4)
            if below and (i, j) in below:
                axis.text(0.5, -0.02, below[i, j], ha="center", va="top", transform=axis.transAxes)
        if i < len(names):
            at = (0.12 / wide, (y + tall / 2) / high)
            figure.text(*at, names[i], rotation=90, va="center", ha="center")
        if bar is not None and bar[2] == i:
            colour_bar(figure, bar[0], bar[1], cax=place(wide - right + 0.08, y, 0.12))
    return figure


def gallery(
    images: Sequence[np.ndarray],
    titles: Sequence[str] = (),
    *,
    title: str,
    columns: int | None = None,
    size: float = 2.2,
) -> Figure:
    """As `sheets.gallery`, for upright pictures `size` inches wide."""
    columns = columns or len(images)
    rows = [images[i : i + columns] for i in range(0, len(images), columns)]
    if len(rows) == 1:
        return upright_rows(rows, title=title, columns=titles, size=size)
    below = {divmod(i, columns): name for i, name in enumerate(titles)}
    return upright_rows(rows, title=title, below=below, size=size)


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
            albedo = heat_colours(heat, top)
        elif albedo is None:
            albedo = torch.full_like(vertices, CLAY)
        turn = axis_angle_to_matrix(torch.tensor([0.0, math.radians(yaw), 0.0]))
        seen = (vertices - self.middle) @ turn.T
        normals, colours = vertex_normals(seen[None], self.faces), albedo[None]
        colours = in_studio(normals, colours) if lit else colours
        v_camera = seen @ MODEL_TO_CAMERA + torch.tensor([0, 0, 365.0 * frame])
        shape = (size, round(WIDTH * size))
        return paint_mesh(v_camera[None], self.faces, colours, shape, fine=fine)
