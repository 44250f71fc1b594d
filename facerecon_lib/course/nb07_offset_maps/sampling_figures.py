"""Figures about reading between texels: weights, poles, and gradients.

Notebook 07, section 2.2.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from ...augmented.branch import BaseFaces
from ...face.batch import FaceBatch
from ...face.camera import CROP_SIZE
from ...fitting.losses import pixel_loss
from ...pictures.faces import FITTED, Picture
from ...rendering.renderer import DEPTH_MARGIN
from ...rendering.synthesis import Face, pose_and_light
from ..drawing.style import BLUE, RED, Lines, add_legend, charts, curves, pixels, sized, table

NUMBERS = np.array([(1, 2, 6, 3), (4, 8, 0, 5), (7, 3, 9, 2), (0, 6, 4, 1)])  # to read between
COLOURS = sized(9)

Reader = Callable[[Tensor, Tensor], Tensor]


def texel_panels(read: Reader) -> Callable[..., Picture]:
    """draw(x, y): a vertex over a map of 4 by 4, its four texels, their weights, the reading."""
    maps = torch.tensor(NUMBERS, dtype=torch.float32)[None, None]
    figure, (left, right) = charts(9.3, 4.15, 2)
    left.imshow(NUMBERS, extent=(0, 4, 4, 0), **COLOURS)
    for (j, i), value in np.ndenumerate(NUMBERS):
        ink = "white" if value < 6 else "black"
        left.text(i + 0.1, j + 0.08, value, color=ink, fontsize=13, va="top")
    square = left.add_patch(Rectangle((0, 0), 1, 1, fill=False, edgecolor="white", linewidth=3))
    look = dict(color=FITTED, markersize=12, markeredgecolor="white", markeredgewidth=2)
    [vertex] = left.plot([], [], "o", clip_on=False, in_layout=False, **look)
    left.axis("off")

    def draw(x: float, y: float) -> Picture:
        cx, cy = (min(max(v, 0.5), 3.5) - 0.5 for v in (x, y))
        square.set_xy((cx, cy))
        vertex.set_data([x], [y])
        i, j = min(int(cx), 2), min(int(cy), 2)
        s, t = cx - i, cy - j
        weights = np.outer((1 - t, t), (1 - s, s)).flatten()
        values = NUMBERS[j : j + 2, i : i + 2].flatten()
        reading = float(read(maps, torch.tensor([[[x, y]]]))[0, 0, 0])
        right.clear()
        right.scatter([0] * 5, range(5), [500] * 4 + [1000], [*values, reading], "s", **COLOURS)
        right.barh(range(4), weights, 0.45, left=1.3, color="#888")
        for row, (weight, value) in enumerate(zip(weights, values, strict=True)):
            right.text(0.2, row, f"{weight:.2f}  of  {value}", va="center", fontsize=14)
        right.text(0.2, 4, f"reading: {reading:.2f}", va="center", fontsize=18)
        words = "each texel counts by its part of the white square"
        right.set_title(f"the vertex is at ({x:.2f}, {y:.2f})\n{words}")
        right.set(xlim=(-0.2, 2.4), ylim=(4.5, -0.5))
        right.axis("off")
        return pixels(figure)

    return draw


VALUES = (-0.4, 0.2, 0.5, -0.1, 0.6, 0.3)  # mm
DEPTHS = (352.0, 347.0, 343.0, 338.0, 333.0, 329.0)  # mm before the camera: a nose's flank


def row_panels(read: Reader, read_hyperbolic: Callable) -> Callable[[int], Picture]:
    """draw(zero): both readings along a row of six texels, depth counted from `zero` mm."""
    maps, depth = (torch.tensor(row)[None, None, None] for row in (VALUES, DEPTHS))
    x, centres = torch.linspace(0.5, 5.5, 401), np.arange(0.5, 6)
    points = torch.stack([x, torch.full_like(x, 0.5)], -1)[None]
    lines = {"hyperbolic": x, "bilinear": read(maps, points)[0, :, 0]}
    figure, axis = charts(8, 3.75)
    axis.set(xlabel="depth of each texel as it is counted, mm", ylim=(-2, 2))
    axis.set_yticks(range(-2, 3), ["-2 mm", "-1 mm", "0", "+1 mm", "+2 mm"])
    axis.grid(axis="y", color="0.85")
    curves(axis, lines, x, colours=(RED, BLUE), legend=dict(loc="upper left", ncols=2))
    axis.plot(centres, VALUES, "o", color="black")

    def draw(zero: int) -> Picture:
        counted = depth - zero - 0.01  # never just 0
        curve = read_hyperbolic(maps, points, counted)[0, :, 0]
        leaps = curve.diff(append=curve[-1:]).abs() > 1  # from one end of the axis to the other
        axis.lines[0].set_ydata(curve.masked_fill(leaps, torch.nan))
        axis.set_xticks(centres, [f"{w:+.0f}" for w in counted.flatten()])
        for label, w in zip(axis.get_xticklabels(), counted.flatten(), strict=True):
            label.set_color(BLUE if w > 0 else RED)
        return pixels(figure)

    return draw


def pull_of_photo(
    base: BaseFaces, batch: FaceBatch, read: Float[Tensor, "batch vertex 6"], seen: Tensor
) -> Float[Tensor, "batch vertex 6"]:
    """Gradient of Eq. 4 with respect to what each vertex has read; zero at hidden ones."""
    read = read.detach().requires_grad_()
    vertices, albedo = base.face.vertices + read[..., 3:], base.face.albedo + read[..., :3]
    face = pose_and_light(base.face.model, vertices, albedo, base.coefficients)
    image, mask = face.render(CROP_SIZE, near=None)
    loss = pixel_loss(image, batch.image, mask * batch.valid)
    return torch.autograd.grad(loss, read)[0] * seen[..., None]


def never_zero(depth: Tensor) -> Tensor:
    """The same, with a tiny depth where it happens to be exactly 0: 1 / 0 would be no number."""
    return torch.where(depth == 0, 1e-6, depth)


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
    where = "where depth is zero: 0 at the vertex nearest to the camera, 1 at the farthest"
    labels = dict(title=f"{title} on the face", xlabel=where, ylabel="times bilinear's")
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
