"""Figures about reading between texels: weights, poles, and gradients.

Notebook 07, section 2.2.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from PIL import Image, ImageDraw
from torch import Tensor

from ...augmented.branch import BaseFaces
from ...face.batch import FaceBatch
from ...face.camera import CROP_SIZE
from ...pictures.faces import FITTED, Picture
from ...rendering.renderer import DEPTH_MARGIN
from ...rendering.synthesis import Face, pose_and_light
from ..drawing.style import BLUE, RED, Lines, add_legend, charts, curves, font, heat, table

TEXEL = 78  # px
NUMBERS = ((1, 2, 6, 3), (4, 8, 0, 5), (7, 3, 9, 2), (0, 6, 4, 1))  # to read between
MOST = 9  # of them
DARK = (90, 90, 90)

Reader = Callable[[Tensor, Tensor], Tensor]


def texel_panels(read: Reader) -> Callable[..., Picture]:
    """draw(x, y): a vertex over a map of 4 by 4, its four texels, their weights, the reading."""
    maps = torch.tensor(NUMBERS, dtype=torch.float32)[None, None]

    def rgb(value: float) -> tuple[int, ...]:
        return tuple((255 * heat(torch.tensor([float(value)]), MOST)[0]).int().tolist())

    def draw(x: float, y: float) -> Picture:
        sheet = Image.new("RGB", (4 * TEXEL + 430, 4 * TEXEL + 20), "white")
        pen, margin = ImageDraw.Draw(sheet), 10
        for (j, i), value in np.ndenumerate(NUMBERS):
            left, top = margin + i * TEXEL, margin + j * TEXEL
            pen.rectangle((left, top, left + TEXEL, top + TEXEL), fill=rgb(value))
            ink = "white" if value < 6 else "black"
            pen.text((left + 8, top + 6), str(value), fill=ink, font=font(17))
        cx, cy = (min(max(v, 0.5), 3.5) for v in (x, y))
        square = [margin + TEXEL * v for v in (cx - 0.5, cy - 0.5, cx + 0.5, cy + 0.5)]
        pen.rectangle(square, outline="white", width=3)
        place = margin + x * TEXEL, margin + y * TEXEL
        pen.circle(place, 7, fill=FITTED, outline="white", width=2)
        left = 4 * TEXEL + 40
        pen.text((left, 14), f"the vertex is at ({x:.2f}, {y:.2f})", fill="black", font=font(17))
        words = "each texel counts by its part of the white square"
        pen.text((left, 40), words, fill=DARK, font=font(14))
        i, j = min(int(cx - 0.5), 2), min(int(cy - 0.5), 2)
        for k, (a, b) in enumerate(((i, j), (i + 1, j), (i, j + 1), (i + 1, j + 1))):
            weight = (1 - abs(cx - 0.5 - a)) * (1 - abs(cy - 0.5 - b))
            value, top = NUMBERS[b][a], 74 + 40 * k
            pen.rectangle((left, top, left + 26, top + 26), fill=rgb(value))
            pen.rectangle((left + 200, top + 4, left + 200 + 180 * weight, top + 22), fill="#888")
            text = f"{weight:.2f}  of  {value}"
            pen.text((left + 40, top + 4), text, fill="black", font=font(17))
        result = float(read(maps, torch.tensor([[[x, y]]]))[0, 0, 0])
        pen.rectangle((left, 250, left + 44, 294), fill=rgb(result))
        pen.text((left + 58, 260), f"reading: {result:.2f}", fill="black", font=font(21))
        return np.asarray(sheet)

    return draw


VALUES = (-0.4, 0.2, 0.5, -0.1, 0.6, 0.3)  # mm
DEPTHS = (352.0, 347.0, 343.0, 338.0, 333.0, 329.0)  # mm before the camera: a nose's flank
REACH = 2.0  # mm, end of the axis


def row_panels(read: Reader, read_hyperbolic: Callable) -> Callable[[int], Picture]:
    """draw(zero): both readings along a row of six texels, depth counted from `zero` mm."""
    maps, depth = (torch.tensor(row)[None, None, None] for row in (VALUES, DEPTHS))
    x = torch.linspace(0.5, 5.5, 401)
    points = torch.stack([x, torch.full_like(x, 0.5)], -1)[None]
    straight = read(maps, points)[0, :, 0]
    width, height, margin = 640, 300, 54

    def place(at: float, value: float) -> tuple[float, float]:
        left = margin + (at - 0.5) / 5 * (width - margin - 20)
        return left, 24 + (REACH - value) / (2 * REACH) * (height - 90)

    def draw(zero: int) -> Picture:
        counted = depth - zero - 0.01  # never just 0
        curve = read_hyperbolic(maps, points, counted)[0, :, 0]
        sheet = Image.new("RGB", (width, height), "white")
        pen = ImageDraw.Draw(sheet)
        for value in (-2, -1, 0, 1, 2):
            left, top = place(0.5, value)
            pen.line((left, top, width - 20, top), fill=(215, 215, 215), width=1)
            pen.text((left - 8, top), f"{value:+d} mm", fill="black", font=font(12), anchor="rm")
        for i, (value, w) in enumerate(zip(VALUES, counted.flatten().tolist(), strict=True)):
            at, ink = place(i + 0.5, value), BLUE if w > 0 else RED
            pen.circle(at, 5, fill="black")
            pen.text((at[0], height - 58), f"{w:+.0f}", fill=ink, font=font(14), anchor="mt")
        words = "depth of each texel as it is counted, mm"
        pen.text((margin, height - 36), words, fill=DARK, font=font(13))
        pen.text((margin + 74, 4), "hyperbolic", fill=RED, font=font(14))
        pen.text((margin + 4, 4), "bilinear", fill=BLUE, font=font(14))
        for readings, colour, thick in ((curve, RED, 3), (straight, BLUE, 2)):
            for one, other in pairwise(zip(x.tolist(), readings.tolist(), strict=True)):
                start, end = place(*one), place(*other)
                if max(abs(one[1]), abs(other[1])) <= REACH and abs(start[1] - end[1]) <= 60:
                    pen.line((*start, *end), fill=colour, width=thick)
        return np.asarray(sheet)

    return draw


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
    measured: Mapping[str, tuple], depths: Mapping[str, Tensor], seen: Float[Tensor, "batch vertex"]
) -> Figure:
    """A table, a row per frame, of what reading and its gradients are; the first is bilinear.

    measured: name: (reading, gradient of the maps, gradient of the points).
    """
    usual, usual_sizes = measured["bilinear"][0], _sizes(*measured["bilinear"][1:])
    rows, wild = [], []
    for name, (read, *gradients) in measured.items():
        apart = float(((read - usual).abs() * seen[..., None])[..., 3:].max())
        times = (_sizes(*gradients) / usual_sizes).tolist()
        limits = map(float, depths[name].aminmax()) if name in depths else ()
        span = " to ".join(f"{limit:.3g}" for limit in limits)
        rows.append([span, _mm(apart), *(f"× {_times(t)}" for t in times)])
        wild.append(max(times) > 2)
    figure, axis = charts(11.4, 0.75 + 0.42 * (len(rows) + 1))
    title = "The same pull of the photo, through six readings: gradients as multiples of bilinear's"
    axis.set_title(title)
    columns = ["depths", "reading differs\nfrom bilinear by", "gradient\nof the maps"]
    columns += ["its largest\ntexel", "gradient\nof the points"]
    labels = dict(rowLabels=list(measured), colLabels=columns, loc="center")
    cells = table(axis, rows, 10.5, 1.75, **labels, colWidths=[0.22, 0.17, 0.14, 0.14, 0.14])
    for (row, column), cell in cells.get_celld().items():
        if row == 0:
            cell.set_height(1.5 * cell.get_height())
        elif wild[row - 1] and column >= 0:
            cell.set_facecolor("#f9dcdc")
    return figure


def _sizes(of_maps: Tensor, of_points: Tensor) -> Tensor:
    return torch.stack([of_maps.norm(), of_maps.abs().max(), of_points.norm()])


def _mm(value: float) -> str:
    return "0" if value == 0 else f"{value:.2g} mm" if value >= 1e-4 else "under 0.0001 mm"


def _times(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{float(f'{value:.2g}'):,.0f}"


def sweep_figure(places: Sequence[float], lengths: Lines, marks: Mapping[str, float]) -> Figure:
    """Gradients as multiples of bilinear's, by where zero depth lies along the head."""
    title = "What makes the gradient explode is not a small depth, but one that changes its sign"
    figure, axis = charts(11.4, 4.0)
    axis.axvspan(0, 1, color="#f3e6d8", label="the head, nose to rim")
    labels = dict(title=f"{title} on the face", ylabel="times bilinear's")
    labels["xlabel"] = (
        "where depth is zero: 0 at the vertex nearest to the camera, 1 at the farthest"
    )
    curves(axis, lengths, places, "o-", legend=False, yscale="log", **labels)
    for name, s in marks.items():
        axis.axvline(s, color="0.3", linestyle=":", linewidth=1)
        crowded = any(0 < other - s < 0.05 for other in marks.values())
        side, at = ("right", s - 0.015) if crowded else ("left", s + 0.015)
        form = dict(rotation=90, fontsize=9, va="top", transform=axis.get_xaxis_transform())
        axis.text(at, 0.97, name, ha=side, **form)
    add_legend(axis, loc="center left", bbox_to_anchor=(0.06, 0.6))
    return figure


def zero_marks(face: Face) -> dict[str, float]:
    """Where the frames of section 7 have their zero, as `in_head` counts; means over the batch."""
    z = face.v_camera[..., 2].detach()
    low, high = z.aminmax(dim=1)
    near, far = low.lerp(high, -DEPTH_MARGIN), low.lerp(high, 1 + DEPTH_MARGIN)
    zeros = {
        "camera": torch.zeros_like(low),
        "buffer, 0 to 1": near,
        "buffer, -1 to 1": 2 * far * near / (far + near),
        "middle of the head": z.mean(1),
    }
    return {name: float(((at - low) / (high - low)).mean()) for name, at in zeros.items()}
