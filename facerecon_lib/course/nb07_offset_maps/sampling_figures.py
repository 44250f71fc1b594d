"""Figures of notebook 07 about reading between texels: weights, poles, and gradients.

widgets.explore(figures.texel_panels(read_bilinear), x=(0.0, 4.0, 1.7), y=(0.0, 4.0, 2.3))
gradients = {"camera": felt(depth), ...}             # each a tuple: of the maps, of the points
figures.frames_figure(...)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import matplotlib
import numpy as np
import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from PIL import Image, ImageDraw
from torch import Tensor

from ...augmented.branch import BaseFaces
from ...face.batch import FaceBatch
from ...face.camera import CROP_SIZE
from ...rendering.renderer import DEPTH_MARGIN
from ...rendering.synthesis import Face, pose_and_light
from ..drawing.sliders import Picture
from ..drawing.style import BLUE, GREY, RED, font

TEXEL = 78  # px
MOST = 9.0  # of the numbers in the small map

Reader = Callable[[Tensor, Tensor], Tensor]


def small_map() -> Float[Tensor, "1 1 4 4"]:
    """Sixteen numbers from 0 to 9 to read between."""
    return torch.tensor([[1.0, 2, 6, 3], [4, 8, 0, 5], [7, 3, 9, 2], [0, 6, 4, 1]])[None, None]


def texel_panels(read: Reader) -> Callable[..., Picture]:
    """draw(x, y): a vertex over a map of 4 by 4, its four texels, their weights, the reading."""
    maps, colours = small_map(), matplotlib.colormaps["viridis"]
    values = maps[0, 0].tolist()

    def rgb(value: float) -> tuple[int, ...]:
        return tuple(int(255 * c) for c in colours(value / MOST)[:3])

    def draw(x: float, y: float) -> Picture:
        sheet = Image.new("RGB", (4 * TEXEL + 430, 4 * TEXEL + 20), "white")
        pen, m = ImageDraw.Draw(sheet), 10
        for j, row in enumerate(values):
            for i, value in enumerate(row):
                at = (m + i * TEXEL, m + j * TEXEL)
                pen.rectangle((*at, at[0] + TEXEL, at[1] + TEXEL), fill=rgb(value))
                ink = "white" if value < 6 else "black"
                pen.text((at[0] + 8, at[1] + 6), f"{value:g}", fill=ink, font=font(17))
        cx, cy = (min(max(v, 0.5), 3.5) for v in (x, y))
        a, b = m + cx * TEXEL, m + cy * TEXEL
        half = TEXEL / 2
        pen.rectangle((a - half, b - half, a + half, b + half), outline="white", width=3)
        px, py = m + x * TEXEL, m + y * TEXEL
        pen.ellipse((px - 7, py - 7, px + 7, py + 7), fill="#ff3355", outline="white", width=2)
        i, j = min(int(cx - 0.5), 2), min(int(cy - 0.5), 2)
        s, t = cx - 0.5 - i, cy - 0.5 - j
        left = 4 * TEXEL + 40
        pen.text((left, 14), f"the vertex is at ({x:.2f}, {y:.2f})", fill="black", font=font(17))
        pen.text((left, 40), "each texel counts by its part of the white square",
                 fill=(90, 90, 90), font=font(14))  # fmt: skip
        for k, (dx, dy) in enumerate(((0, 0), (1, 0), (0, 1), (1, 1))):
            weight = (s if dx else 1 - s) * (t if dy else 1 - t)
            value, top = values[j + dy][i + dx], 74 + 40 * k
            pen.rectangle((left, top, left + 26, top + 26), fill=rgb(value))
            pen.rectangle((left + 200, top + 4, left + 200 + 180 * weight, top + 22), fill="#888")
            text = f"{weight:.2f}  of  {value:g}"
            pen.text((left + 40, top + 4), text, fill="black", font=font(17))
        result = float(read(maps, torch.tensor([[[x, y]]]))[0, 0, 0])
        pen.rectangle((left, 250, left + 44, 294), fill=rgb(min(max(result, 0), MOST)))
        pen.text((left + 58, 260), f"reading: {result:.2f}", fill="black", font=font(21))
        return np.asarray(sheet)

    return draw


# A row of texels, one depth each ------------------------------------------------------------------

VALUES = (-0.4, 0.2, 0.5, -0.1, 0.6, 0.3)  # mm
DEPTHS = (352.0, 347.0, 343.0, 338.0, 333.0, 329.0)  # mm before the camera: a nose's flank
REACH = 2.0  # mm, end of the axis


def row_panels(
    read: Reader, read_hyperbolic: Callable[[Tensor, Tensor, Tensor], Tensor]
) -> Callable[[int], Picture]:
    """draw(zero): both readings along a row of six texels, depth counted from `zero` mm."""
    maps = torch.tensor(VALUES)[None, None, None]
    depth = torch.tensor(DEPTHS)[None, None, None]
    x = torch.linspace(0.5, 5.5, 401)
    points = torch.stack([x, torch.full_like(x, 0.5)], -1)[None]
    straight = read(maps, points)[0, :, 0]
    width, height, m = 640, 300, 54

    def place(at: float, value: float) -> tuple[float, float]:
        return (
            m + (at - 0.5) / 5 * (width - m - 20),
            24 + (REACH - value) / (2 * REACH) * (height - 90),
        )

    def draw(zero: int) -> Picture:
        counted = depth - zero - 0.01  # never just 0
        curve = read_hyperbolic(maps, points, counted)[0, :, 0]
        sheet = Image.new("RGB", (width, height), "white")
        pen = ImageDraw.Draw(sheet)
        for value in (-2, -1, 0, 1, 2):
            a, b = place(0.5, value), place(5.5, value)
            pen.line((*a, *b), fill=(215, 215, 215), width=1)
            pen.text((a[0] - 8, a[1]), f"{value:+d} mm", fill="black", font=font(12), anchor="rm")
        for i, (value, w) in enumerate(zip(VALUES, counted.flatten().tolist(), strict=True)):
            px, py = place(i + 0.5, value)
            sign = (47, 111, 173) if w > 0 else (179, 32, 44)
            pen.ellipse((px - 5, py - 5, px + 5, py + 5), fill="black")
            words = dict(fill=sign, font=font(14), anchor="mt")
            pen.text((px, height - 58), f"{w:+.0f}", **words)
        pen.text((m, height - 36), "depth of each texel as it is counted, mm", fill=(90, 90, 90),
                 font=font(13))  # fmt: skip
        for line, colour, thick in ((curve, "#b3202c", 3), (straight, "#2f6fad", 2)):
            piece: list[tuple[float, float]] = []
            for at, value in zip(x.tolist(), line.tolist(), strict=True):
                if abs(value) > REACH or (piece and abs(place(at, value)[1] - piece[-1][1]) > 60):
                    if len(piece) > 1:
                        pen.line(piece, fill=colour, width=thick)
                    piece = []
                if abs(value) <= REACH:
                    piece.append(place(at, value))
            if len(piece) > 1:
                pen.line(piece, fill=colour, width=thick)
        pen.text((m + 4, 4), "bilinear", fill="#2f6fad", font=font(14))
        pen.text((m + 74, 4), "hyperbolic", fill="#b3202c", font=font(14))
        return np.asarray(sheet)

    return draw


# Gradients over a batch ---------------------------------------------------------------------------


def pull_of_photo(
    base: BaseFaces, batch: FaceBatch, read: Float[Tensor, "batch vertex 6"], seen: Tensor
) -> Float[Tensor, "batch vertex 6"]:
    """Gradient of Eq. 4 with respect to what each vertex has read; zero at hidden ones."""
    read = read.detach().requires_grad_()
    vertices, albedo = base.face.vertices + read[..., 3:], base.face.albedo + read[..., :3]
    face = pose_and_light(base.face.model, vertices, albedo, base.coefficients)
    image, mask = face.render(CROP_SIZE, near=None)
    loss = (mask.detach() * batch.valid * (image - batch.image)).abs().sum() / len(batch.image)
    return torch.autograd.grad(loss, read)[0] * seen[..., None]


def never_zero(depth: Tensor) -> Tensor:
    """The same, with a tiny depth where it happens to be exactly 0: 1 / 0 would be no number."""
    return torch.where(depth == 0, 1e-6, depth)


def clip_symmetric(clip: Tensor) -> Tensor:
    """Depth from -1 to 1 (OpenGL's) of one from 0 to 1."""
    return never_zero(2 * clip - 1)


def in_head(face: Face, depth: Tensor, places: Sequence[float]) -> list[Tensor]:
    """Depth counted from several places: 0 the nearest vertex of each head, 1 the farthest."""
    low, high = face.v_camera[..., 2].detach().aminmax(dim=1)
    zeros = [(low + s * (high - low))[:, None, None, None] for s in places]
    return [never_zero(depth - zero) for zero in zeros]


def frames_figure(
    measured: Mapping[str, tuple[Tensor, Tensor, Tensor]],
    depths: Mapping[str, Tensor],
    seen: Float[Tensor, "batch vertex"],
) -> Figure:
    """A table, a row a frame, of what reading and its gradients are; the first row is bilinear.

    measured: name: (reading, gradient of the maps, gradient of the points).
    """
    columns = ("depths", "reading differs\nfrom bilinear by", "gradient\nof the maps",
               "its largest\ntexel", "gradient\nof the points")  # fmt: skip
    first = next(iter(measured.values()))
    rows, wild = [], []
    for name, (read, of_maps, of_points) in measured.items():
        apart = float(((read - first[0]).abs() * seen[..., None])[..., 3:].max())
        least = (first[1].norm(), first[1].abs().max(), first[2].norm())
        times = [
            float(v / w)
            for v, w in zip((of_maps.norm(), of_maps.abs().max(), of_points.norm()), least,
                            strict=True)
        ]  # fmt: skip
        span = "" if name not in depths else "{:.3g} to {:.3g}".format(
            *(float(v) for v in depths[name].aminmax()))  # fmt: skip
        rows.append([span, _mm(apart), *(f"× {_times(t)}" for t in times)])
        wild.append(max(times) > 2)
    figure = Figure((11.4, 0.75 + 0.42 * (len(rows) + 1)), layout="constrained", facecolor="white")
    axis = figure.subplots()
    axis.axis("off")
    axis.set_title("The same pull of the photo, through six readings: gradients as multiples of "
                   "bilinear's")  # fmt: skip
    table = axis.table(rows, rowLabels=list(measured), colLabels=columns, cellLoc="center",
                       loc="center", colWidths=[0.22, 0.17, 0.14, 0.14, 0.14])  # fmt: skip
    table.auto_set_font_size(False)
    table.set_fontsize(10.5)
    table.scale(1, 1.75)
    for (row, column), cell in table.get_celld().items():
        cell.set_edgecolor("0.85")
        if row == 0:
            cell.set_height(1.5 * cell.get_height())
        elif wild[row - 1] and column >= 0:
            cell.set_facecolor("#f9dcdc")
    return figure


def _mm(value: float) -> str:
    return "0" if value == 0 else f"{value:.2g} mm" if value >= 1e-4 else "under 0.0001 mm"


def _times(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{float(f'{value:.2g}'):,.0f}"


def sweep_figure(
    places: Sequence[float],
    lengths: Mapping[str, Sequence[float]],
    marks: Mapping[str, float],
) -> Figure:
    """Gradients as multiples of bilinear's, by where zero depth lies along the head."""
    figure = Figure((11.4, 4.0), layout="constrained", facecolor="white")
    axis = figure.subplots()
    axis.axvspan(0, 1, color="#f3e6d8", label="the head, nose to rim")
    for (name, values), colour in zip(lengths.items(), (BLUE, RED, GREY), strict=False):
        axis.plot(places, values, "o-", color=colour, markersize=4, label=name)
    for name, s in marks.items():
        axis.axvline(s, color="0.3", linestyle=":", linewidth=1)
        crowded = any(0 < other - s < 0.05 for other in marks.values())
        side, at = ("right", s - 0.015) if crowded else ("left", s + 0.015)
        axis.text(at, 0.97, name, rotation=90, fontsize=9, va="top", ha=side,
                  transform=axis.get_xaxis_transform())  # fmt: skip
    axis.set_yscale("log")
    axis.set(
        xlabel="where depth is zero: 0 at the vertex nearest to the camera, 1 at the farthest",
        ylabel="times bilinear's",
        title="What makes the gradient explode is not a small depth, but one that changes its "
        "sign on the face",
    )
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False, loc="center left", bbox_to_anchor=(0.06, 0.6), fontsize=9)
    return figure


def zero_marks(face: Face) -> dict[str, float]:
    """Where the frames of section 7 have their zero, as `in_head` counts; means over the batch."""
    z = face.v_camera[..., 2].detach()
    low, high = z.aminmax(dim=1)
    margin = DEPTH_MARGIN * (high - low)
    near, far = low - margin, high + margin
    zeros = {
        "camera": torch.zeros_like(low),
        "buffer, 0 to 1": near,
        "buffer, -1 to 1": 2 * far * near / (far + near),
        "middle of the head": z.mean(1),
    }
    return {name: float(((at - low) / (high - low)).mean()) for name, at in zeros.items()}
