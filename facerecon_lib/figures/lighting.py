"""Figures and plumbing of notebook 03: balls that show a light, painted faces, lamps with shadows.

    picture = paint(face, colours, 300)                  # any vertex colours, antialiased
    picture = with_ball(picture, lighting)               # the light beside it, on a white ball
    gallery([...], [...])                                # from plotting

A light is (1, 9, 3) or (9, 3), as in `lighting`. A ball is seen from the front: the pixel at its
middle faces the viewer, +x is right, +y is up.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, UInt8
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from .. import plotting
from ..camera import axis_angle_to_matrix
from ..detection import Crop
from ..evaluation import MONK_TONES, srgb_to_lab
from ..lighting import ambient_lighting, sh_basis, shade
from ..mesh import face_normals
from ..morphable_model import MorphableModel
from ..plotting import PAPER, to_uint8, turned
from ..rasterizer import rasterize
from ..renderer import render
from ..synthesis import Face

Picture = UInt8[np.ndarray, "height width 3"]
ORDER = [(0, 0), (1, -1), (1, 0), (1, 1), (2, -2), (2, -1), (2, 0), (2, 1), (2, 2)]
FORMULAS = [
    r"$0.282$",
    r"$0.489\,y$",
    r"$0.489\,z$",
    r"$0.489\,x$",
    r"$1.093\,x y$",
    r"$1.093\,y z$",
    r"$0.315\,(3 z^2 - 1)$",
    r"$1.093\,x z$",
    r"$0.546\,(x^2 - y^2)$",
]
CLAMPED_COSINE = (math.pi, 2 * math.pi / 3, math.pi / 4)  # of bands 0 to 2: Basri and Jacobs, 2003


# Sheets -----------------------------------------------------------------------------------------


class _PaletteCanvas(FigureCanvasAgg):
    """Saves in 256 dithered colours: half the bytes in a notebook, and next to no difference."""

    def print_png(self, filename_or_obj, **_settings):
        self.draw()
        image = Image.fromarray(np.asarray(self.buffer_rgba())).convert("RGB")
        palette = image.quantize(256, method=Image.Quantize.MEDIANCUT, kmeans=3)
        reduced = image.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG)
        reduced.save(filename_or_obj, format="PNG", optimize=True)


def _sheet(width: float, height: float) -> Figure:
    figure = Figure((width, height), layout="constrained", facecolor="white")
    _PaletteCanvas(figure)
    return figure


def gallery(images: Sequence[np.ndarray], titles: Sequence[str] = (), **settings) -> Figure:
    """As `plotting.gallery`."""
    figure = plotting.gallery(images, titles, **settings)
    _PaletteCanvas(figure)
    return figure


def _panels(
    panels: Sequence[np.ndarray],
    names: Sequence[str],
    title: str,
    *,
    limit: float,
    label: str,
    width: float = 10.0,
    rows: int = 1,
) -> Figure:
    """Panels of one size with one bar: colours as they are, numbers from -limit to limit."""
    columns = len(panels) // rows
    figure = _sheet(width, 0.75 + 0.93 * rows * (width - 1.2) / columns)
    axes = figure.subplots(rows, columns, squeeze=False)
    shown = None
    for axis, panel, name in zip(axes.flat, panels, names, strict=True):
        axis.axis("off")
        axis.set_title(name, fontsize=10)
        if panel.ndim == 3:
            axis.imshow(panel)
        else:
            shown = axis.imshow(panel, cmap="RdBu_r", vmin=-limit, vmax=limit)
    figure.colorbar(shown, ax=axes, shrink=0.8, aspect=18, pad=0.02, label=label)
    figure.suptitle(title, fontsize=12)
    return figure


# Directions and balls ---------------------------------------------------------------------------


def sphere_points(count: int = 4000) -> Float[Tensor, "count 3"]:
    """Unit vectors spread evenly over the sphere (a Fibonacci spiral); each stands for 4 pi / n."""
    i = torch.arange(count, dtype=torch.float64) + 0.5
    z = 1 - 2 * i / count
    around = math.pi * (1 + 5**0.5) * i
    ring = (1 - z * z).sqrt()
    return torch.stack([ring * around.cos(), ring * around.sin(), z], -1).float()


def direction(azimuth_deg: float, elevation_deg: float) -> Float[Tensor, " 3"]:
    """Viewer axes: azimuth 0 is from the viewer, +90 from the right; elevation +90 from above."""
    a, e = math.radians(azimuth_deg), math.radians(elevation_deg)
    return torch.tensor([math.cos(e) * math.sin(a), math.sin(e), math.cos(e) * math.cos(a)])


def lamp(towards: Sequence[float] | Tensor, colour: Sequence[float] = (1.0, 1.0, 1.0)) -> Tensor:
    """(1, 9, 3): a lamp at infinity, max(0, n . d) as well as nine functions can say it."""
    d = F.normalize(torch.as_tensor(towards, dtype=torch.float32), dim=-1)
    a = torch.tensor(CLAMPED_COSINE)[[0, 1, 1, 1, 2, 2, 2, 2, 2]]
    return ((a * sh_basis(d))[:, None] * torch.tensor([colour]))[None]


def ball_normals(size: int, behind: bool = False) -> tuple[Float[Tensor, "p 3"], Tensor]:
    """Normals of the pixels of a ball that fills a square, (size * size, 3), and which are on it.

    behind: as seen from the other side, so that the viewer's right is its left.
    """
    t = (torch.arange(size) + 0.5) / size * 2 - 1
    y, x = torch.meshgrid(-t, t, indexing="ij")
    inside = x * x + y * y <= 1
    z = (1 - x * x - y * y).clamp(min=0).sqrt()
    n = torch.stack([-x, y, -z] if behind else [x, y, z], -1)
    return F.normalize(n, dim=-1).reshape(-1, 3), inside.reshape(-1)


def ball(
    light: Tensor | Callable[[Tensor], Tensor], size: int = 160, behind: bool = False
) -> Picture:
    """A white ball under a light, antialiased. light: nine rows, or a function of the normals."""
    n, inside = ball_normals(2 * size, behind)
    colours = sh_basis(n) @ light.reshape(9, 3) if isinstance(light, Tensor) else light(n)
    colours = torch.where(inside[:, None], colours.expand(-1, 3).clamp(0, 1), PAPER)
    image = colours.T.reshape(1, 3, 2 * size, 2 * size)
    return to_uint8(F.avg_pool2d(image, 2)[0])


def ball_values(function: Callable[[Tensor], Tensor], size: int = 160) -> np.ndarray:
    """(size, size) values of a function of the normal, nan outside the ball, for imshow."""
    n, inside = ball_normals(size)
    values = torch.where(inside, function(n).reshape(-1), torch.nan)
    return values.reshape(size, size).detach().numpy()


# Faces ------------------------------------------------------------------------------------------


@torch.no_grad()
def paint(face: Face, colours: Float[Tensor, "1 vertex 3"], size: int = 300) -> Picture:
    """The face with these colours at its vertices, on paper, antialiased; clamped for display."""
    image, mask = face.render(2 * size, attributes=colours.clamp(0, 1).contiguous())
    return to_uint8(F.avg_pool2d(image + (1 - mask) * PAPER, 2)[0])


@torch.no_grad()
def paint_flat(face: Face, colours: Float[Tensor, "1 face 3"], size: int = 300) -> Picture:
    """The face with one colour a triangle: no vertex is shared, nothing is interpolated."""
    corners = face.v_camera[:, face.model.faces].flatten(1, 2)
    own = torch.arange(corners.shape[1]).view(-1, 3)
    each = colours.clamp(0, 1).repeat_interleave(3, 1)
    image, mask = render(corners, own, each, 2 * size, face.fov_deg)
    return to_uint8(F.avg_pool2d(image + (1 - mask) * PAPER, 2)[0])


@torch.no_grad()
def paint_values(face: Face, values: Float[Tensor, "1 vertex"], size: int = 300) -> np.ndarray:
    """(size, size) numbers at the face's pixels, nan around it, for imshow."""
    image, mask = face.render(size, attributes=values[..., None].contiguous())
    return torch.where(mask > 0, image, torch.nan)[0, 0].numpy()


def zoomed(picture: Picture, left: float, top: float, side: float, size: int = 300) -> Picture:
    """A square of the picture, given as shares of its width, enlarged without smoothing."""
    n = len(picture)
    a, b, s = int(left * n), int(top * n), int(side * n)
    rows = (np.arange(size) * s) // size
    return picture[b + rows][:, a + rows]


def with_ball(picture: Picture, light: Tensor | Callable, share: float = 0.24) -> Picture:
    """The picture with the light's ball in its lower right corner."""
    size = int(share * picture.shape[0])
    small, out = ball(light, size), picture.copy()
    inside = ball_normals(size)[1].reshape(size, size).numpy()
    h, w = picture.shape[:2]
    corner = out[h - size - 4 : h - 4, w - size - 4 : w - 4]
    corner[inside] = small[inside]
    return out


def beside(*pictures: Picture, margin: int = 16) -> Picture:
    """Pictures side by side on paper, centred in height."""
    height = max(p.shape[0] for p in pictures)
    paper = round(255 * PAPER)
    gap = np.full((height, margin, 3), paper, np.uint8)
    row = []
    for p in pictures:
        room = height - p.shape[0]
        pad = ((room // 2, room - room // 2), (0, 0), (0, 0))
        row += [np.pad(p, pad, constant_values=paper), gap]
    return np.concatenate(row, 1)


def six_lights(model: MorphableModel) -> Figure:
    """The same shape and the same skin under six lights."""
    face = turned(model, model.neutral(), 15)
    grey, warm, cold = (0.9, 0.9, 0.9), (1.0, 0.78, 0.5), (0.45, 0.65, 1.0)
    dim = ambient_lighting(1, 0.3)
    lights = {
        "the same from everywhere": ambient_lighting(1),
        "lamp at the right": dim + lamp((1, 0.3, 0.5), grey),
        "torch from below": 0.5 * dim + lamp((0, -1, 0.5), grey),
        "sky above": dim + lamp((0, 1, 0.25), (0.85, 0.92, 1.0)),
        "sunset and dusk": 0.4 * dim + lamp((-1, 0.1, 0.3), warm) + lamp((1, 0.5, 0.2), cold),
        "lamp behind": 0.6 * dim + lamp((0.6, 0.3, -1), grey),
    }
    pictures = [
        with_ball(paint(face, shade(face.albedo, face.normals, light), 250), light)
        for light in lights.values()
    ]
    title = "One shape, one skin, six lights: each light is 27 numbers"
    return gallery(pictures, list(lights), title=title, columns=3, size=2.7)


# The basis --------------------------------------------------------------------------------------


def nine_spheres(basis: Callable[[Tensor], Tensor], title: str = "", size: int = 150) -> Figure:
    """Each basis function on a sphere: rows are bands l, columns m from -2 to 2."""
    n, inside = ball_normals(size)
    values = basis(n).detach()
    figure = _sheet(9.4, 6.2)
    axes = figure.subplots(3, 5)
    for axis in axes.flat:
        axis.axis("off")
    shown = None
    for k, (band, m) in enumerate(ORDER):
        picture = torch.where(inside, values[:, k], torch.nan).reshape(size, size)
        axis = axes[band, m + 2]
        shown = axis.imshow(picture.numpy(), cmap="RdBu_r", vmin=-1.1, vmax=1.1)
        axis.set_title(f"k = {k}:  l = {band}, m = {m}\n{FORMULAS[k]}", fontsize=10)
    arrow = dict(arrowstyle="-|>", color="0.25", linewidth=1.4)
    corner = axes[0, 0]
    corner.set(xlim=(-1, 1), ylim=(-1, 1))
    for tip, name in (((0.75, -0.5), "x"), ((-0.5, 0.75), "y")):
        corner.annotate("", tip, (-0.5, -0.5), arrowprops=arrow)
        corner.text(tip[0] + 0.06, tip[1], name, fontsize=11)
    corner.plot(-0.5, -0.5, "o", color="0.25", markersize=9, fillstyle="none")
    corner.plot(-0.5, -0.5, "o", color="0.25", markersize=3)
    corner.text(-0.38, -0.82, "z, to you", fontsize=10)
    figure.colorbar(shown, cax=axes[0, 4].inset_axes((0.45, 0.05, 0.1, 0.9)))
    figure.suptitle(title or "Nine functions of a direction: red is positive, blue negative")
    return figure


def two_bases(got: Callable[[Tensor], Tensor], expected: Callable[[Tensor], Tensor]) -> Figure:
    """Nine expected spheres over nine others."""
    n, inside = ball_normals(90)
    figure = _sheet(10, 2.9)
    axes = figure.subplots(2, 9)
    for row, (name, basis) in enumerate((("expected", expected), ("yours", got))):
        values = torch.as_tensor(basis(n)).detach()
        for k, axis in enumerate(axes[row]):
            picture = torch.where(inside, values[:, k], torch.nan).reshape(90, 90)
            axis.imshow(picture.numpy(), cmap="RdBu_r", vmin=-1.1, vmax=1.1)
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_visible(False)
            if row == 0:
                axis.set_title(f"k = {k}", fontsize=10)
        axes[row, 0].set_ylabel(name, fontsize=11)
    return figure


def matrix_figure(matrix: Float[Tensor, "9 9"], title: str) -> Figure:
    """The 81 inner products of the basis functions."""
    figure = _sheet(4.6, 4.0)
    axis = figure.subplots()
    shown = axis.imshow(matrix.numpy(), cmap="RdBu_r", vmin=-1, vmax=1)
    names = [f"{band},{m}" for band, m in ORDER]
    axis.set_xticks(range(9), names, fontsize=8)
    axis.set_yticks(range(9), names, fontsize=8)
    axis.set(xlabel="l, m", ylabel="l, m", title=title)
    axis.spines[:].set_visible(False)
    figure.colorbar(shown, shrink=0.8)
    return figure


# Why nine ---------------------------------------------------------------------------------------


def room(directions: Float[Tensor, "*n 3"]) -> Float[Tensor, "*n 3"]:
    """Radiance from each direction of a made-up room: a window, a lamp, sky, walls, a floor."""
    x, y, z = directions.unbind(-1)
    sky = torch.stack([0.35 + 0.1 * y, 0.45 + 0.15 * y, 0.6 + 0.3 * y], -1)
    floor = directions.new_tensor([0.35, 0.22, 0.12]).expand_as(sky)
    colour = torch.where(y[..., None] > -0.15, sky, floor)
    window = (x < -0.45) & (y.abs() < 0.55) & (z.abs() < 0.6)
    bars = ((y / 0.37) % 1.0 < 0.12) | ((z / 0.4) % 1.0 < 0.12)
    colour = torch.where(
        (window & ~bars)[..., None], directions.new_tensor([2.6, 2.5, 2.2]), colour
    )
    spot = directions @ F.normalize(directions.new_tensor([0.7, 0.45, 0.5]), dim=0) > 0.95
    return torch.where(spot[..., None], directions.new_tensor([5.0, 3.0, 1.2]), colour)


@cache
def _matte_ball(size: int) -> Float[Tensor, "p 3"]:
    """What a white matte ball in the room sends back: means of light times max(0, n . d), times 4.

    Times 4, so that a room that is white all over shades it with 1.
    """
    directions = sphere_points(4000)
    radiance = room(directions)
    rows = [(n @ directions.T).clamp(min=0) @ radiance for n in ball_normals(size)[0].split(2000)]
    return 4 / len(directions) * torch.cat(rows)


def _picture_of_ball(colours: Tensor, size: int) -> Picture:
    inside = ball_normals(size)[1][:, None]
    return to_uint8(torch.where(inside, colours.clamp(0, 1), 1.0).T.reshape(3, size, size))


def mirror_figure() -> Figure:
    """A mirror ball and a matte ball in the same room."""
    n, size = ball_normals(400)[0], 200
    mirror = (room(2 * n[:, 2:] * n - n.new_tensor([0.0, 0, 1])) / 2.6).clamp(0, 1)
    mirror = F.avg_pool2d(
        torch.where(ball_normals(400)[1][:, None], mirror, 1.0).T.reshape(1, 3, 400, 400), 2
    )
    pictures = [to_uint8(mirror[0]), _picture_of_ball(_matte_ball(size), size)]
    names = ["a mirror ball: the room", "a white matte ball, same place"]
    return gallery(pictures, names, title="A matte surface blurs the world", size=3.2)


def room_figure(light: Float[Tensor, "9 3"]) -> Figure:
    """The matte ball, the ball of nine numbers, and their difference."""
    size = 200
    n, inside = ball_normals(size)
    nine, matte = sh_basis(n) @ light, _matte_ball(size)
    error = torch.where(inside, (nine - matte).mean(-1), torch.nan).reshape(size, size).numpy()
    panels = [_picture_of_ball(matte, size), _picture_of_ball(nine, size), error]
    names = ["every direction of the room", "9 numbers a channel", "difference"]
    title = "The room of section 2 in 27 numbers"
    return _panels(panels, names, title, limit=0.1, label="nine minus all", width=8.6)


def band_coefficients(bands: int = 8) -> np.ndarray:
    """Of the clamped cosine: integral of max(0, c) P_l(c) over the sphere, one a band."""
    nodes, weights = np.polynomial.legendre.leggauss(64)
    c, w = (nodes + 1) / 2, weights / 2  # the half where the cosine is positive
    return np.array(
        [
            2 * np.pi * (w * c * np.polynomial.legendre.Legendre.basis(band)(c)).sum()
            for band in range(bands)
        ]
    )


def lamp_figure(values: dict[int, Tensor], angles: Tensor) -> Figure:
    """The clamped cosine and its approximations along an angle, and what each band holds.

    values: number of functions: values at `angles` (degrees between normal and lamp).
    """
    figure = _sheet(10.5, 3.9)
    left, right = figure.subplots(1, 2, width_ratios=[1.6, 1])
    left.plot(angles, angles.deg2rad().cos().clamp(min=0), color="black", lw=2.6, label="a lamp")
    for (count, y), colour in zip(values.items(), ("#9ecae1", "#4292c6", "#d6604d"), strict=False):
        label = f"{count} function" + "s" * (count > 1)
        left.plot(angles, y, color=colour, lw=2, label=label)
    left.axhline(0, color="0.6", lw=0.8)
    left.fill_between(angles, -0.16, 0, color="#d6604d", alpha=0.08, lw=0)
    left.text(2, -0.13, "less than no light", color="#b2182b", fontsize=9)
    left.set(
        xlabel="angle between normal and lamp, degrees",
        ylabel="brightness",
        xlim=(0, 180),
        ylim=(-0.28, 1.12),
        title="Nine functions follow a lamp closely; four dip far below zero",
    )
    left.set_xticks(range(0, 181, 30))
    left.legend(frameon=False)
    a = band_coefficients()
    right.bar(range(len(a)), a, color=["#4292c6"] * 3 + ["0.7"] * (len(a) - 3))
    right.set(
        xlabel="band l", ylabel="$A_l$: how much of the lamp", title="Above band 2: little left"
    )
    right.axhline(0, color="0.6", lw=0.8)
    for band, value in enumerate(a):
        number = f"{value:.2f}" if abs(value) > 1e-6 else "0"
        right.text(band, max(value, 0) + 0.05, number, ha="center", fontsize=8)
    return figure


# Clamping ---------------------------------------------------------------------------------------


def negative_figure(face: Face, light: Tensor, shading: Float[Tensor, "1 vertex"]) -> Figure:
    """Where the shading is negative: on the ball and on the face, and the face as shown."""
    g = light.reshape(9, 3)[:, 1]
    panels = [
        ball_values(lambda n: sh_basis(n) @ g, 300),
        paint_values(face, shading, 300),
        paint(face, shade(face.albedo, face.normals, light), 300),
    ]
    names = ["on the ball", "on the face", "as shown: clamped to [0, 1]"]
    title = "Blue: shading below zero, a darkness that no lamp can make"
    return _panels(panels, names, title, limit=1.0, label="shading")


def curves_figure(curves: dict[str, Sequence[float]], title: str) -> Figure:
    """Losses over steps, on a logarithmic axis."""
    figure = _sheet(6.4, 3.1)
    axis = figure.subplots()
    for (name, values), colour in zip(curves.items(), ("#b2182b", "#2166ac"), strict=False):
        axis.semilogy(values, lw=2.2, color=colour, label=name)
    axis.set(xlabel="step", ylabel="squared error of the colours", title=title)
    axis.legend(frameon=False)
    return figure


# Light that is not Eq. 3 --------------------------------------------------------------------------


def srgb_to_linear(colours: Tensor) -> Tensor:
    """What a pixel value in [0, 1] means as an amount of light (IEC 61966-2-1)."""
    c = colours.clamp(min=0)
    return torch.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)


def linear_to_srgb(light: Tensor) -> Tensor:
    """The pixel value that stands for an amount of light: the inverse of `srgb_to_linear`."""
    c = light.clamp(min=0)
    bent = 1.055 * c.clamp(min=1e-8) ** (1 / 2.4) - 0.055
    return torch.where(c <= 0.0031308, 12.92 * c, bent)


def _unshadowed(points: Tensor, faces: Tensor, towards: Tensor) -> Bool[Tensor, " vertex"]:
    """Which points see a lamp at infinity: a depth map from the lamp, read at each point."""
    d = F.normalize(towards, dim=0)
    right = F.normalize(torch.linalg.cross(d.new_tensor([0.0, 1.0, 0.01]), d), dim=0)
    up = torch.linalg.cross(d, right)
    flat = torch.stack([points @ right, points @ up], -1)
    low, high = flat.amin(0), flat.amax(0)
    flat = (flat - (low + high) / 2) / ((high - low).max() / 2) * 0.98
    depth = 1000 - points @ d
    ndc = torch.cat([-flat[:, :1], flat[:, 1:], depth[:, None]], -1)[None]
    zbuf = rasterize(ndc, faces, 400).zbuf[..., 0][:, None]
    grid = torch.stack([flat[:, 0], -flat[:, 1]], -1)[None, None]
    nearest = F.grid_sample(zbuf, grid, mode="nearest", align_corners=False)[0, 0, 0]
    return (depth < nearest + 3.0) | (nearest < 0)


@torch.no_grad()
def physical_lamp(
    face: Face,
    towards: Tensor,
    ambient: float = 0.25,
    strength: float = 0.85,
    gloss: float = 0.0,
    shadows: bool = True,
) -> Float[Tensor, "1 vertex 3"]:
    """Colours under a real lamp: clamped cosine, cast shadows (a lamp 6 degrees wide), highlights.

    gloss: strength of a Blinn-Phong highlight of exponent 40.
    """
    d = F.normalize(towards, dim=0)
    points = face.v_camera[0] * face.v_camera.new_tensor([-1.0, 1.0, -1.0])  # viewer axes
    n = face.normals[0]
    seen = torch.ones(len(points))
    if shadows:
        wobble = torch.tensor([[0.0, 0, 0]] + [[math.cos(t), math.sin(t), 0] for t in range(6)])
        seen = torch.stack(
            [_unshadowed(points, face.model.faces, d + 0.05 * w).float() for w in wobble]
        ).mean(0)
    cosine = (n @ d).clamp(min=0) * seen
    view = F.normalize(-points, dim=-1)
    half = F.normalize(view + d, dim=-1)
    shine = gloss * (n * half).sum(-1).clamp(min=0) ** 40 * seen * (n @ d > 0)
    return face.albedo * (ambient + strength * cosine)[None, :, None] + shine[None, :, None]


# The photo --------------------------------------------------------------------------------------


class Relighter:
    """A photo under another light: each pixel times new shading over old (a quotient image).

    Riklin-Raviv and Shashua, "The quotient image", PAMI 2001. `size` px a side.
    """

    @torch.no_grad()
    def __init__(self, crop: Crop, face: Face, light: Float[Tensor, "1 9 3"], size: int = 320):
        self.photo = F.interpolate(crop.image, (size, size), mode="bicubic", antialias=True)[0]
        inner = 1 - face.model.regions["border"][None, :, None]
        image, mask = face.render(size, attributes=torch.cat([face.normals, inner], -1))
        smooth = image[:, :3] * mask  # creases of a quick fit would show as bright seams
        for _ in range(3):
            smooth = F.avg_pool2d(smooth, 11, 1, 5) / F.avg_pool2d(mask, 11, 1, 5).clamp(min=0.05)
            smooth = smooth * mask
        normals = F.normalize(smooth[0].permute(1, 2, 0), dim=-1)
        self.basis = sh_basis(normals)
        soft = F.avg_pool2d(mask * image[:, 3:], 9, 1, 4, count_include_pad=False)[0]
        self.blend = soft * mask[0]
        self.old = self.shading(light).clamp(min=0.15)

    def shading(self, light: Tensor) -> Float[Tensor, "3 size size"]:
        return (self.basis @ light.reshape(9, 3)).permute(2, 0, 1)

    def __call__(self, light: Tensor) -> Picture:
        ratio = (self.shading(light).clamp(min=0) / self.old).clamp(max=2.2)
        return to_uint8(self.photo * (1 + self.blend * (ratio - 1)))

    def albedo(self) -> Picture:
        """The photo with its light divided out."""
        return self(ambient_lighting(1))


# Figures of single sections -----------------------------------------------------------------------


@torch.no_grad()
def normals_figure(model: MorphableModel, vertex_normals: Callable) -> Figure:
    """Flat, smooth, normals as colours, sums that were not normalised; and a look from nearby."""
    face = turned(model, model.neutral(), 25)
    turn = axis_angle_to_matrix(face.rotation).transpose(1, 2)
    light = ambient_lighting(1, 0.22) + lamp((-0.9, 0.6, 0.5), (0.95, 0.95, 0.95))
    flat = face_normals(face.vertices, model.faces) @ turn
    smooth = vertex_normals(face.vertices, model.faces) @ turn
    a, b, c = (face.vertices[:, model.faces[:, i]] for i in range(3))
    cross = torch.linalg.cross(b - a, c - a)
    raw = torch.zeros_like(face.vertices)
    for i in range(3):
        raw = raw.index_add(1, model.faces[:, i], cross)
    raw = raw / raw.norm(dim=-1).quantile(0.9) @ turn

    def grey(n: Tensor) -> Tensor:
        return shade(torch.full_like(n, 0.78), n, light)

    size = 400
    pictures = [
        paint_flat(face, grey(flat), size),
        paint(face, grey(smooth), size),
        paint(face, smooth / 2 + 0.5, size),
        paint(face, grey(raw), size),
    ]
    names = ["one normal a triangle", "one normal a vertex", "normals as colours"]
    names.append("not normalised")
    close_ups = [zoomed(p, 0.42, 0.3, 0.4, 300) for p in pictures]
    title = "Shared normals hide the facets; normals of the wrong length bruise the face"
    return gallery([*pictures, *close_ups], names, title=title, columns=4, size=2.5)


def linear_figure(face: Face, srgb: Tensor, linear: Tensor) -> Figure:
    """Shading of pixel values, shading of light, and the difference."""
    difference = paint_values(face, (linear - srgb).mean(-1))
    panels = [paint(face, srgb), paint(face, linear), difference]
    names = ["albedo times light, on sRGB values", "the same in linear light", "linear minus sRGB"]
    title = "The same lamp: in linear light, half-shadows are brighter"
    return _panels(panels, names, title, limit=0.3, label="RGB, 0 to 1")


def ridge_figure(
    face: Face, colours: Tensor, seen: Float[Tensor, "1 vertex"], guesses: dict[float, Tensor]
) -> Figure:
    """The truth, the part of it that was seen, and the whole face in each light guessed from it."""
    grey = torch.full_like(colours, 0.85)
    part = torch.lerp(grey, colours, (4 * seen).clamp(0, 1)[..., None])
    pictures = [paint(face, colours), paint(face, part)]
    for light in guesses.values():
        picture = paint(face, shade(face.albedo, face.normals, light))
        pictures.append(with_ball(picture, light, 0.3))
    names = ["the truth", "what is seen of it"] + [f"ridge {r:.0e}" for r in guesses]
    title = "The light of a forehead, on the whole face: without a ridge it runs wild"
    return gallery(pictures, names, title=title, size=2.6)


def limits_figure(face: Face, truth: Tensor, best: Tensor) -> Figure:
    """A picture with shadow and highlight, its best nine numbers, and what they miss."""
    difference = paint_values(face, (truth - best).mean(-1))
    panels = [paint(face, truth), paint(face, best), difference]
    names = ["lamp, cast shadows, highlights", "the best nine numbers", "lamp minus nine numbers"]
    title = "No cast shadow, no highlight: Eq. 3 knows only which way a point faces"
    return _panels(panels, names, title, limit=0.3, label="RGB, 0 to 1")


def photo_figure(
    crop: Crop, face: Face, albedo: Tensor, relit: Tensor, light: Float[Tensor, "1 9 3"]
) -> Figure:
    """The photo, the albedo that is assumed, that albedo in the light found, and the light."""
    size = 300
    photo = F.interpolate(crop.image, (size, size), mode="bicubic", antialias=True)[0]
    pictures = [to_uint8(photo), paint(face, albedo, size), paint(face, relit, size)]
    brightest = float((sh_basis(ball_normals(60)[0]) @ light[0]).max())
    pictures.append(ball(light / brightest, size))
    names = ["the photo", "assumed albedo: the model's mean", "the same in the light found"]
    names.append(f"the light, divided by {brightest:.1f}")
    return gallery(pictures, names, title="A light, read off the skin of a photo", size=2.6)


def counterfeit_figure(face: Face, readings: Sequence[tuple[Tensor, Tensor]]) -> Figure:
    """For each (albedo, light): the skin, the light's ball, and the picture that they make."""
    pictures = []
    for albedo, light in readings:
        n = face.normals
        pictures += [paint(face, albedo), ball(light, 300), paint(face, shade(albedo, n, light))]
    names = ["its skin (unlit)", "its light", "the picture"]
    title = "Dark skin in bright light, light skin in dim light: the same picture"
    return gallery(pictures, names * 2, title=title, columns=3, size=2.5)


def readings_figure(
    face: Face, normals: Tensor, readings: Sequence[tuple[Tensor, Tensor]], names: Sequence[str]
) -> Figure:
    """The pictures of several readings of one photo over their unlit skins."""
    top = [with_ball(paint(face, shade(b, normals, g)), g) for b, g in readings]
    bottom = [paint(face, b) for b, _ in readings]
    title = "Three readings of one photo: lit (above, all equal) and unlit (below)"
    return gallery([*top, *bottom], names, title=title, columns=3, size=2.7)


# Skin tones -------------------------------------------------------------------------------------


def monk_ladder(model: MorphableModel) -> Float[Tensor, "10 albedo"]:
    """Albedo coefficients of a typical skin near each of the ten Monk tones, lightest first.

    The mean of the eight of the model's sample skins that lie nearest, in CIELAB.
    """
    skin = model.regions["skin"]
    weights = (skin / skin.sum())[:, None]
    mean = (weights * model.albedo_mean).sum(0)
    colours = mean + model.albedo_samples @ (weights * model.albedo_basis).sum(1)
    tones = [[int(tone[i : i + 2], 16) / 255 for i in (0, 2, 4)] for tone in MONK_TONES]
    away = srgb_to_lab(colours.clamp(0, 1))[:, None] - srgb_to_lab(colours.new_tensor(tones))
    nearest = away.norm(dim=-1).topk(8, dim=0, largest=False).indices
    return model.albedo_samples[nearest].mean(0)


def skin_colour(model: MorphableModel, albedo: Float[Tensor, "b vertex 3"]) -> Tensor:
    """Mean colour of the skin, (b, 3)."""
    skin = model.regions["skin"]
    return (albedo * (skin / skin.sum())[:, None]).sum(1)


def albedo_from_colours(
    model: MorphableModel,
    shading: Float[Tensor, "b vertex 3"],
    colours: Float[Tensor, "b vertex 3"],
    weights: Float[Tensor, "b vertex"],
    ridge: float = 3e-4,
) -> Float[Tensor, "b albedo"]:
    """The coefficients of Eq. 2 whose albedo, times this shading, looks most like the colours.

    ridge: on their squares. They are in standard deviations, so this is the prior N(0, 1) beside
    pixel errors of the ridge's square root.
    """
    w = (weights / weights.sum(-1, keepdim=True))[:, None, :, None]
    rows = model.albedo_basis[None] * shading[:, None]  # (b, K, V, 3)
    rest = colours - shading * model.albedo_mean
    normal = ((rows * w).flatten(2) @ rows.flatten(2).transpose(1, 2)).double()
    right = ((rows * w).flatten(2) @ rest.flatten(1)[..., None]).double()
    eye = torch.eye(normal.shape[-1], dtype=torch.float64)
    return torch.linalg.solve(normal + ridge * eye, right)[..., 0].float()


def tone_figure(
    truth: Tensor, found: dict[str, Tensor], picture: dict[str, Tensor], away: dict[str, Tensor]
) -> Figure:
    """Per Monk tone: error of the picture, of the skin under the light, its rarity; and the skins.

    truth: (10, 3) skin colours; by name: found (10, 3), picture (10,) errors, away (10,) in
    standard deviations.
    """
    figure = _sheet(10.5, 5.0)
    top, bottom = figure.subfigures(2, 1, height_ratios=[2, 1])
    axes = top.subplots(1, 3)
    tones = range(1, 11)
    for (name, skin), colour in zip(found.items(), ("#2166ac", "#b2182b"), strict=True):
        errors = (picture[name], (skin - truth).abs().mean(-1), away[name])
        for axis, values in zip(axes, errors, strict=True):
            axis.plot(tones, values, "o-", color=colour, label=name)
    names = ["error of the picture", "error of the unlit skin", "distance from the mean skin"]
    for axis, name in zip(axes, names, strict=True):
        axis.set(title=name, xlabel="Monk tone")
        axis.set_xticks(tones)
    for axis in axes[:2]:
        axis.set(ylim=(-0.02, 0.72), ylabel="RGB, 0 to 1")
    axes[2].set(ylabel="standard deviations", ylim=(-0.7, None))
    axes[0].legend(frameon=False)
    axis = bottom.subplots()
    rows = torch.stack([truth, *found.values()]).clamp(0, 1)
    axis.imshow(rows.numpy(), aspect="auto")
    axis.set_yticks(range(len(rows)), ["truth", *found])
    axis.set_xticks(range(10), tones)
    axis.set_xlabel("Monk tone")
    axis.set_title("the skin that each reading finds", fontsize=11)
    axis.spines[:].set_visible(False)
    axis.tick_params(length=0)
    return figure
