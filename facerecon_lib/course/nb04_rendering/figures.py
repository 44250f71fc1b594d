"""Notebook 04: pixels, triangles and their gradients, drawn; and the scenes that it draws.

ndc_maps([hard, soft], ["hard", "soft"], triangle)      # maps over the image plane
animation(hunt_frames(target, {"hard": path, "soft": other}))  # two triangles hunt a third

Section 2.1.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

import numpy as np
import torch
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageOps
from scipy.stats import binned_statistic_2d
from torch import Tensor

from ...face.camera import ndc_to_pixels, pixels_to_ndc, project_ndc
from ...pictures.faces import Picture, to_uint8
from ...pictures.sheets import gallery
from ...rendering.rasterizer import Fragments, rasterize
from ...rendering.renderer import SoftSettings
from ..drawing.style import (
    BLUE,
    BLUES,
    GREEN,
    GREY,
    RED,
    add_legend,
    charts,
    curves,
    font,
    picture,
    signed,
)

HARD, SOFT, TARGET = RED, BLUE, GREEN
WARM = "#c9a227"
SHARP = dict(interpolation="nearest")
NDC = dict(xlim=(1, -1), ylim=(-1, 1))  # of a square picture
CLOSED = [0, 1, 2, 0]  # the outline of a triangle
panel = partial(picture, fontsize=11, **SHARP)

# Geometry: leading axes are broadcast -----------------------------------------------------------

Points = Float[Tensor, "*batch 2"]
Triangles = Float[Tensor, "*batch 3 2"]


def pixel_centres(height: int, width: int) -> Float[Tensor, "height width 2"]:
    """NDC x and y of every pixel's centre: +x left, +y up, the shorter side spans [-1, 1]."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return pixels_to_ndc(torch.stack([columns, rows], -1) + 0.5, (height, width))


def squared_distance(points: Points, a: Points, b: Points) -> Float[Tensor, "*batch"]:
    """From points to the segment from a to b."""
    ab = b - a
    along = ((points - a) * ab).sum(-1, keepdim=True) / ab.square().sum(-1, keepdim=True)
    return (a + along.clamp(0, 1) * ab - points).square().sum(-1)


def outline_distances(points: Points, triangles: Triangles, distance=squared_distance) -> Tensor:
    """From points to each of the triangles' three sides, the sides first."""
    a, b, c = triangles.unbind(-2)
    return torch.stack([distance(points, *side) for side in ((a, b), (b, c), (c, a))])


def doubled_area(a: Points, b: Points, c: Points) -> Float[Tensor, "*batch"]:
    """Twice the signed area of the triangles a, b, c."""
    (ax, ay), (bx, by), (cx, cy) = a.unbind(-1), b.unbind(-1), c.unbind(-1)
    return (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)


def areas(points: Points, triangles: Triangles) -> Float[Tensor, "*batch 3"]:
    """Doubled signed areas of the triangles that points make with two corners."""
    a, b, c = triangles.unbind(-2)
    corners = (points, b, c), (a, points, c), (a, b, points)
    return torch.stack([doubled_area(*three) for three in corners], -1)


def weights_at(points: Points, triangles: Triangles) -> Float[Tensor, "*batch 3"]:
    """Barycentric weights of points in triangles."""
    return areas(points, triangles) / doubled_area(*triangles.unbind(-2))[..., None]


def crossing_triangles() -> tuple[Float[Tensor, "9 3"], Int[Tensor, "3 3"]]:
    """Three triangles that pass through one another: NDC x, y and depth, and the faces."""
    verts = [
        [(0.85, 0.55, 2.0), (-0.75, 0.75, 4.0), (0.05, -0.35, 3.0)],
        [(-0.85, 0.15, 2.1), (-0.15, -0.85, 3.6), (0.55, 0.85, 3.4)],
        [(0.8, -0.55, 2.2), (-0.85, -0.45, 3.9), (0.0, 0.5, 3.1)],
    ]
    return torch.tensor(verts).reshape(-1, 3), torch.arange(9).reshape(3, 3)


def floor() -> tuple[Float[Tensor, "1 4 3"], Int[Tensor, "2 3"], Float[Tensor, "1 4 2"]]:
    """A floor that runs away from the viewer, two triangles: NDC vertices, faces, tile numbers."""
    corners = torch.tensor([[1.5, -0.9, 1], [-1.5, -0.9, 1], [-1.5, -0.9, 7], [1.5, -0.9, 7]])
    verts = torch.cat([corners[:, :2] / corners[:, 2:], corners[:, 2:]], 1)
    verts[:, 1] = 2.3 * verts[:, 1] + 1.05  # fills the picture
    tiles = torch.tensor([[0.0, 0], [6, 0], [6, 12], [0, 12]])
    return verts[None], torch.tensor([[0, 1, 2], [0, 2, 3]]), tiles[None]


def edge_at(x: Float[Tensor, " edge"]) -> Float[Tensor, "edge 3 2"]:
    """Triangles whose right-hand edge stands upright at x; they reach far to the left."""
    zero = torch.zeros_like(x)
    corners = [(x, zero - 3), (x, zero + 3), (zero + 4, zero)]
    return torch.stack([torch.stack(corner, -1) for corner in corners], 1)


def image_derivative(
    v_camera: Float[Tensor, "1 vertex 3"],
    faces: Int[Tensor, "face 3"],
    colours: Float[Tensor, "1 vertex 3"],
    move: Float[Tensor, "3"],
    picture: Callable[[Fragments, Tensor], Tensor],
    size: int,
    soft: SoftSettings | None = None,
) -> Float[Tensor, "height width"]:
    """How each pixel's grey value changes when the mesh moves by `move` mm, as autograd sees it.

    That is: with the triangles that a pixel lists held fixed. picture: the fragments and the
    colours at them (1, H, W, K, 3) to (1, H, W, 3). Every pixel is given a mesh that moves for it
    alone, so that one backward pass tells all pixels' derivatives apart.
    """
    settings = dict(perspective_correct=True)
    if soft is not None:
        settings |= dict(blur_radius=soft.blur_radius, faces_per_pixel=soft.faces_per_pixel)
    listed = rasterize(project_ndc(v_camera), faces, size, **settings).pix_to_face
    corner = faces[listed.clamp(min=0)]
    steps = torch.zeros(1, size, size, 1, 1, 1, requires_grad=True)
    ndc = project_ndc(v_camera[0][corner] + steps * move)
    centres, triangles, depth = pixel_centres(size, size)[:, :, None], ndc[..., :2], ndc[..., 2]
    flat = weights_at(centres, triangles)
    weights = (flat / depth).clamp(min=0)
    weights = weights / weights.sum(-1, keepdim=True)
    outline = outline_distances(centres, triangles).amin(0)
    dists = torch.where((flat >= 0).all(-1), -outline, outline)
    fragments = Fragments(listed, (weights * depth).sum(-1), weights, dists)
    shown = (weights[..., None] * colours[0][corner]).sum(-2) * (listed >= 0)[..., None]
    grey = picture(fragments, shown).mean(-1)
    return torch.autograd.grad(grey.sum(), steps)[0].reshape(size, size)


# Maps over the image plane ----------------------------------------------------------------------


def ndc_maps(
    maps: Sequence[Tensor],
    titles: Sequence[str],
    triangles: Iterable[Float[Tensor, "3 2"]] = (),
    *,
    title: str = "",
    size: float = 2.7,
    outline: str = "white",
    bar: str = "",
    **imshow,
) -> Figure:
    """Square maps (H, H) or pictures (H, H, 3) over NDC, with the triangles' outlines.

    bar: what a colour bar beside the last map is labelled with.
    """
    shape = len(maps) * size + 0.8 * bool(bar), size + 0.3 + 0.35 * bool(title)
    figure, axes = charts(*shape, len(maps), title=title)
    for axis, values, name in zip(axes, maps, titles, strict=True):
        drawn = axis.imshow(values.detach().numpy(), extent=(1, -1, -1, 1), **SHARP | imshow)
        axis.set_title(name, fontsize=10)
        for triangle in triangles:
            axis.plot(*triangle[CLOSED].T, color=outline, linewidth=1.6)
        axis.set(**NDC)
        _frame(axis)
    if bar:
        figure.colorbar(drawn, ax=axes, label=bar, shrink=0.85)
    return figure


def share_maps(
    maps: Sequence[Tensor], titles: Sequence[str], triangles, bar: str, **more
) -> Figure:
    """As `ndc_maps`, of numbers from 0 to 1."""
    return ndc_maps(maps, titles, triangles, bar=bar, cmap="viridis", vmin=0, vmax=1, **more)


def pixel_panels(
    pictures: Sequence[Float[Tensor, "height width 3"]], titles: Sequence[str], **more
) -> Figure:
    """Small pictures in a grid, their pixels as squares. more: of `gallery`."""
    panels = [to_uint8(picture.detach().permute(2, 0, 1)) for picture in pictures]
    return gallery(panels, titles, **SHARP, **more)


def _frame(axis: Axes) -> None:
    axis.set(xticks=(), yticks=())
    axis.spines[:].set(visible=True, color="#dddddd")


def question_figure(triangle: Float[Tensor, "3 2"], covered: Tensor) -> Figure:
    """A triangle over a coarse grid: the outline, the centres, and which of them it covers."""
    height, width = covered.shape
    title = "A rasterizer asks each pixel centre one question: inside or not?"
    figure, axes = charts(8.2, 4.4, 2, title=title)
    points, inside = pixel_centres(height, width).reshape(-1, 2), covered.flatten()
    axes[1].imshow(covered, extent=(1, -1, -1, 1), cmap="Blues", vmax=2.2, vmin=0)
    labels = dict(xlabel="NDC x (grows to the left)", ylabel="NDC y")
    ticks = dict(xticks=(1, 0, -1), yticks=(-1, 0, 1), aspect="equal")
    for axis in axes:
        axis.plot(*points[~inside].T, "+", color="#aaaaaa", markersize=5)
        axis.plot(*points[inside].T, "s", color=SOFT, markersize=4)
        axis.plot(*triangle[CLOSED].T, color=HARD, linewidth=2)
        axis.set_xticks(np.linspace(-1, 1, width + 1), minor=True)
        axis.set_yticks(np.linspace(-1, 1, height + 1), minor=True)
        axis.grid(which="minor", color="#dddddd", linewidth=0.7)
        axis.tick_params(which="minor", length=0)
        axis.set(**NDC, **ticks, **labels)
    axes[0].set_title("the question: 256 centres, 3 edges")
    axes[1].set_title("the answer: a staircase")
    return figure


def fragments_figure(
    pix_to_face: Int[Tensor, "height width"],
    zbuf: Float[Tensor, "height width"],
    image: Float[Tensor, "height width 3"],
    title: str,
    depth_label: str = "depth",
    picture_label: str = "colours, mixed by bary",
) -> Figure:
    """Which triangle, how deep, what colour."""
    depth = zbuf.detach().masked_fill(pix_to_face < 0, torch.nan)
    figure, axes = charts(9.2, 3.4, 3, title=title)
    panel(axes[0], face_colours(pix_to_face), "pix_to_face: one colour per triangle")
    drawn = panel(axes[1], depth, "zbuf: near is bright", cmap="viridis_r")
    figure.colorbar(drawn, ax=axes[1], label=depth_label, shrink=0.75)
    panel(axes[2], image.detach().clamp(0, 1), picture_label)
    return figure


def face_colours(pix_to_face: Int[Tensor, "height width"]) -> Picture:
    """A colour for every triangle, the same each time; nothing is near white."""
    colours = [[232, 119, 78], [72, 133, 190], [92, 168, 104], [196, 78, 82], [129, 114, 178]]
    colours += [[204, 185, 116], [100, 181, 205], [140, 97, 60], [220, 126, 192], [60, 80, 110]]
    count = int(pix_to_face.max()) + 1
    if count > 3:  # neighbours in the list are neighbours on the mesh
        colours = np.take(colours, np.random.default_rng(4).integers(0, 10, count), 0)
    return np.uint8([*colours, [245, 245, 245]])[pix_to_face.numpy()]  # -1 is the last, empty


def agreement_figure(ours: Fragments, theirs: Fragments | None) -> Figure:
    """Which triangle each pixel shows: ours, PyTorch3D's, and where the two part."""
    figure, axes = charts(10.0, 3.8, 3)
    shown = ours.pix_to_face[0, ..., 0]
    panel(axes[0], face_colours(shown), "facerecon_lib")
    if theirs is None:
        for axis in axes[1:]:
            axis.axis("off")
        axes[1].text(0.5, 0.5, "PyTorch3D\nis not installed", ha="center", va="center")
        return figure
    other = theirs.pix_to_face[0, ..., 0]
    differs = shown != other
    panel(axes[1], face_colours(other), "PyTorch3D")
    words = f"pixels that differ: {int(differs.sum())} of {differs.numel():,}"
    panel(axes[2], differs, words, cmap="Greys", vmin=0, vmax=1)
    axes[2].axis("on")
    _frame(axes[2])
    if not differs.any():
        axes[2].text(112, 112, "none", ha="center", va="center", color="0.5")
    return figure


# Curves -----------------------------------------------------------------------------------------


def slide_figure(
    x: Tensor, lines: Mapping[str, tuple[Tensor, Tensor]], *, xlabel: str, title: str
) -> Figure:
    """A pixel's value above, its gradient below. lines: label: (value, gradient)."""
    figure, (above, below) = charts(8.0, 4.5, rows=2, title=title, sharex=True)
    blues = [*BLUES[::-1]]
    styles = {
        "hard": dict(color=HARD, linewidth=2.4),
        "area covered": dict(color=GREY, linestyle="--", linewidth=1.8),
    }
    for label, (value, gradient) in lines.items():
        style = styles.get(label) or dict(color=blues.pop(0), linewidth=1.8)
        above.plot(x.detach(), value.detach(), label=label, **style)
        below.plot(x.detach(), gradient.detach(), **style)
    above.set_ylabel("value")
    below.set(ylabel="gradient", xlabel=xlabel)
    add_legend(above)
    below.axhline(0, color="#cccccc", linewidth=0.8, zorder=0)
    return figure


def hunt_curves(
    scores: Mapping[str, Sequence[float]], title: str, colours=(*BLUES[::-1], WARM)
) -> Figure:
    """Overlap with the target against the step, one line per setting; labels beside them."""
    figure, axis = charts(9.0, 3.8)
    labels = dict(xlabel="step of the optimiser", ylabel="overlap with the target (IoU)")
    style = dict(colours=colours, width=1.8, legend=False)
    curves(axis, scores, ylim=(-0.03, 1.02), title=title, **labels, **style)
    axis.lines[-1].set_linewidth(3)  # the one to look at
    add_legend(axis, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def trap_figure(x: Tensor, lines: Mapping[str, Tensor], reach: float, title: str) -> Figure:
    """Colour along a line that leaves a triangle; reach: how far the blur goes."""
    figure, axis = charts(9.0, 3.8)
    labels = dict(xlabel="NDC distance from the edge (left: inside the triangle)")
    labels |= dict(ylabel="grey value (triangle 0, background 1)", title=title)
    style = dict(colours=(HARD, WARM, BLUES[1], TARGET), width=2.2, legend=False)
    curves(axis, lines, x, ylim=(-0.05, 1.08), **labels, **style)
    axis.lines[-1].set_linestyle("--")
    axis.axvspan(-reach, 0, color="#f3f3f3", zorder=0)
    axis.axvspan(0, reach, color="#e9eff6", zorder=0)
    axis.axvline(0, color="#999999", linewidth=1)
    add_legend(axis)
    return figure


# The hunt ---------------------------------------------------------------------------------------


def hunt_frames(
    target: Float[Tensor, "3 2"], paths: Mapping[str, Sequence[tuple[Tensor, Tensor]]]
) -> list[Picture]:
    """Panels side by side, one per path: a list of (triangle (3, 2), picture (H, W, 3))."""
    length = len(next(iter(paths.values())))
    frames = []
    for moment in [*range(0, length, 8), *[length - 1] * 4]:  # the end is held
        panels = [
            _hunt_panel(target, *path[moment], f"{label}: step {moment}")
            for label, path in paths.items()
        ]
        frames.append(_beside(panels, 12))
    return frames


def _hunt_panel(target: Tensor, triangle: Tensor, image: Tensor, words: str) -> Picture:
    """One path at one step: the picture, the target's and the triangle's outline."""
    drawn = Image.fromarray(_enlarged(image, 6))
    pen = ImageDraw.Draw(drawn)
    for corners, colour, width in ((target, TARGET, 4), (triangle, "#222222", 2)):
        points = ndc_to_pixels(corners[CLOSED], drawn.width)
        pen.line(points.flatten().tolist(), fill=colour, width=width)
    sheet = ImageOps.expand(drawn, (0, 30, 0, 0), "white")
    ImageDraw.Draw(sheet).text((4, 6), words, fill="#222222", font=font(15))
    return np.asarray(sheet)


def _enlarged(image: Float[Tensor, "height width 3"], zoom: int) -> Picture:
    return to_uint8(image.permute(2, 0, 1)).repeat(zoom, 0).repeat(zoom, 1)


def _beside(pictures: Sequence[Picture], gap: int) -> Picture:
    wide = [np.pad(p, ((0, 0), (0, gap), (0, 0)), constant_values=255) for p in pictures]
    return np.hstack(wide)[:, :-gap]


def side_by_side(*pictures: Float[Tensor, "height width 3"], zoom: int = 8) -> Picture:
    """Small pictures as bytes, beside one another, each pixel `zoom` wide."""
    return _beside([_enlarged(image, zoom) for image in pictures], 10)


# Gradients on the face --------------------------------------------------------------------------


def derivative_figure(maps: Mapping[str, Tensor], title: str) -> Figure:
    """Signed maps of how the picture changes; red brighter, blue darker."""
    figure, axes = charts(4.1 * len(maps) + 0.9, 4.8, len(maps), title=title)
    for axis, (label, values) in zip(axes, maps.items(), strict=True):
        drawn = panel(axis, values.detach(), label, **signed(0.3))
    figure.colorbar(drawn, ax=list(axes), label="change of the grey value", shrink=0.8)
    return figure


def push_figure(
    panels: Mapping[str, tuple[Tensor, Float[Tensor, "vertex 3"]]],
    v_camera: Float[Tensor, "vertex 3"],
    title: str,
) -> Figure:
    """Where a step downhill would move the vertices: summed over the cells of a grid.

    panels: label: (picture (H, W, 3), gradient of the loss with respect to v_camera). Each panel's
    arrows have the length of their longest in common.
    """
    cells = 16
    style = dict(color="#111111", width=0.006, angles="xy", scale_units="xy")
    figure, axes = charts(5.0 * len(panels), 5.4, len(panels), title=title)
    for axis, (label, (image, gradient)) in zip(axes, panels.items(), strict=True):
        side = len(image)
        x, y = ndc_to_pixels(project_ndc(v_camera), side).T
        # downhill is along the gradient's x and y: both axes of the picture are turned round
        numbers = [x, y, torch.ones_like(x), *gradient[:, :2].T]
        sums = binned_statistic_2d(x, y, numbers, "sum", cells, [(0, side)] * 2).statistic
        sums = sums.reshape(5, -1)
        push = np.hypot(*sums[3:])
        x, y, count, right, down = sums[:, push > 0.03 * push.max()]
        axis.imshow(0.45 + 0.55 * image.detach().clamp(0, 1), **SHARP)
        axis.set_title(label, fontsize=11)
        axis.axis("off")
        scale = 0.5 * cells / side * push.max()
        axis.quiver(x / count, y / count, right, down, scale=scale, **style)
    return figure
