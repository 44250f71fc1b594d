"""Pictures of faces that several notebooks share: views and errors of a fit, bare vertices, skins.

error = shape_errors(model, c, truth)                # (face, vertex) mm
picture(axis, error_view(model, truth[0], error[0], most=4.0))
paint = FacePainter(MorphableModel.load(subdivision=0))
gallery([paint(vertices, albedo, yaw=30), paint(vertices, heat(error_mm, 2.0))], title="Notice")

Notebooks 01, 03, 05 and 06.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, UInt8
from matplotlib.figure import Figure
from torch import Tensor

from ...face.camera import MODEL_TO_CAMERA, axis_angle_to_matrix
from ...face.coefficients import FaceCoefficients
from ...face.colour import SKIN_LIGHTNESS, srgb_to_lab
from ...face.measures import vertex_error_mm
from ...face.mesh import vertex_normals
from ...face.morphable_model import MorphableModel
from ...pictures.faces import CLAY, Picture, in_studio, on_photo, paint, paint_mesh, show_face
from ...pictures.faces import turned as turned_face
from ...rendering.synthesis import synthesise
from .style import colour_bar, heat, row_name

Vertices = Float[Tensor, "vertex 3"]
WIDTH = 0.8  # of an upright picture, as a share of its height
GAP, HEAD, LINE = 0.06, 0.38, 0.2  # inches


def shape_view(model: MorphableModel, c: FaceCoefficients, yaw=0.0, look="shape", size=220):
    """The first face of a batch, turned, grey or with its skin."""
    return show_face(turned_face(model, c, yaw), look, size)


@torch.no_grad()
def three_views(
    model: MorphableModel, image: Float[Tensor, "batch 3 h w"], c: FaceCoefficients
) -> list[Picture]:
    """The face on its photo; its shape from the front; turned, with its skin."""
    shape, side = shape_view(model, c), shape_view(model, c, 40, "studio")
    return [on_photo(image, synthesise(model, c)), shape, side]


@torch.no_grad()
def shape_errors(
    model: MorphableModel, c: FaceCoefficients | None, truth: FaceCoefficients, align="similarity"
) -> Float[Tensor, "batch vertex"]:
    """Distance in mm of each vertex to the truth's, after alignment; c None: of the mean face."""
    true = model.shape(truth.identity, truth.expression)
    shape = model.mean.expand_as(true) if c is None else model.shape(c.identity, c.expression)
    return vertex_error_mm(shape, true, align=align)


def error_view(
    model: MorphableModel, truth: FaceCoefficients, error: Tensor, most: float, size: int = 220
) -> Picture:
    """The error at each vertex, from 0 to `most` mm, as colours on the true shape."""
    return paint(turned_face(model, truth, 0.0), heat(error, most)[None], size)


def skin_colour(model: MorphableModel, albedo: Float[Tensor, "b vertex 3"]) -> Float[Tensor, "b 3"]:
    """Mean colour of the skin."""
    skin = model.regions["skin"]
    return (albedo * (skin / skin.sum())[:, None]).sum(1)


def tone_distances(model: MorphableModel) -> Float[Tensor, "sample tone"]:
    """From each of the model's sample skins to each Monk tone, lightest first, in L*."""
    mean, basis = (skin_colour(model, a) for a in (model.albedo_mean[None], model.albedo_basis))
    colours = (mean + model.albedo_samples @ basis).clamp(0, 1)
    return (srgb_to_lab(colours)[:, :1] - colours.new_tensor(SKIN_LIGHTNESS)).abs()


class FacePainter:
    """Pictures of vertices on a model's mesh, all from one camera, so that size and place show."""

    def __init__(self, model: MorphableModel):
        self.faces = model.faces
        self.middle = (model.mean.amin(0) + model.mean.amax(0)) / 2

    @torch.no_grad()
    def __call__(
        self, vertices: Vertices, albedo=None, *, yaw=0.0, size=240, lit=True, frame=1.0, fine=2
    ) -> UInt8[np.ndarray, "size width 3"]:
        """albedo: (V, 3) sRGB; grey without. yaw: degrees. size: height, px. lit: in the studio, or
        bare colours. frame: 2 shows twice as much. fine: 2 is antialiased, 1 four times as fast."""
        albedo = torch.full_like(vertices, CLAY) if albedo is None else albedo
        turn = axis_angle_to_matrix(torch.tensor([0.0, math.radians(yaw), 0.0]))
        seen, colours = (vertices - self.middle) @ turn.T, albedo[None]
        if lit:
            colours = in_studio(vertex_normals(seen[None], self.faces), colours)
        v_camera = seen @ MODEL_TO_CAMERA + torch.tensor([0, 0, 365.0 * frame])
        shape = (size, round(WIDTH * size))
        return paint_mesh(v_camera[None], self.faces, colours, shape, fine=fine)


def upright_rows(
    rows: Sequence, *, title: str, columns=(), names=(), below=None, size=1.9, bar=None
) -> Figure:
    """Pictures of one upright shape, `size` inches wide; None leaves a place empty. names: before
    rows. below: lines under pictures, by (row, column). bar: of viridis from 0: its top, its label
    and its row."""
    # placed by hand, since a layout engine takes longer than the renderer
    shape, count = next(p.shape for row in rows for p in row if p is not None), max(map(len, rows))
    tall, across = size * shape[0] / shape[1], count * (size + GAP)
    left, right = 0.3 * bool(names), 0.85 * (bar is not None)
    top = HEAD + LINE * (1 + max((c.count("\n") for c in columns), default=-1))
    under = GAP + 0.22 * bool(below)
    wide, high = left + across + right, top + len(rows) * (tall + under)
    figure = Figure((wide, high), facecolor="white", layout="none")
    middle = (left + across / 2) / wide
    figure.text(middle, 1 - 0.08 / high, title, fontsize=12, ha="center", va="top")

    grid = dict(left=left / wide, right=1 - (right + GAP) / wide, wspace=GAP / size)
    grid |= dict(bottom=under / high, top=1 - top / high, hspace=under / tall)
    axes = figure.subplots(len(rows), count, squeeze=False, gridspec_kw=grid)
    words = dict(ha="center", va="top")
    for (i, j), axis in np.ndenumerate(axes):
        axis.axis("off")
        axis.text(0.5, -0.02, (below or {}).get((i, j), ""), transform=axis.transAxes, **words)
        if j < len(rows[i]) and rows[i][j] is not None:
            axis.imshow(rows[i][j], aspect="auto")
    for axis, name in zip(axes[0], columns, strict=False):
        axis.set_title(name, fontsize=10, pad=4)
    for axis, name in zip(axes[:, 0], names, strict=False):
        row_name(axis, name, (0.12 - left) / size, ha="center")
    if bar is not None:
        most, label, row = bar
        _, low, _, height = axes[row, 0].get_position().bounds
        place = 1 - (right - 0.08) / wide, low, 0.12 / wide, height
        colour_bar(figure, most, label, cax=figure.add_axes(place))
    return figure


def gallery(
    images: Sequence, titles: Sequence[str] = (), *, title: str, columns=None, size: float = 2.2
) -> Figure:
    """As `sheets.gallery`, for upright pictures `size` inches wide."""
    columns = columns or len(images)
    rows = [images[i : i + columns] for i in range(0, len(images), columns)]
    below = {divmod(i, columns): name for i, name in enumerate(titles)}
    words = dict(below=below) if len(rows) > 1 else dict(columns=titles)
    return upright_rows(rows, title=title, size=size, **words)
