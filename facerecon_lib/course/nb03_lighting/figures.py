"""Figures of notebook 03, made of what `light_balls`, `relighting` and `skin_tones` hold. Eq. 3."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor

from ...face.camera import axis_angle_to_matrix
from ...face.lighting import ambient_lighting, sh_basis, shade
from ...face.mesh import face_normals
from ...face.morphable_model import MorphableModel
from ...photos.crop import Crop
from ...pictures.faces import CLAY, paint, to_uint8, turned, value_map
from ...pictures.sheets import gallery
from ...rendering.synthesis import Face
from ..drawing.light_balls import (
    ball,
    ball_brightness,
    ball_values,
    lamp,
    paint_flat,
    sphere_points,
    value_panels,
    with_ball,
    zoomed,
)
from ..drawing.style import BLUE, BLUES, INK, ORANGE, RED, charts, curves, picture, signed
from .checks import crosses, summed

ORDER = [(band, m) for band in range(3) for m in range(-band, band + 1)]
FORMULAS = ["0.282", r"0.489\,y", r"0.489\,z", r"0.489\,x", r"1.093\,x y", r"1.093\,y z"]
FORMULAS += [r"0.315\,(3 z^2 - 1)", r"1.093\,x z", r"0.546\,(x^2 - y^2)"]


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
    return gallery(pictures, list(lights), title=title, columns=3, size=2.5)


@torch.no_grad()
def normals_figure(model: MorphableModel, vertex_normals: Callable) -> Figure:
    """Flat, smooth, normals as colours, sums that were not normalised; and a look from nearby."""
    face = turned(model, model.neutral(), 25)
    turn = axis_angle_to_matrix(face.rotation).transpose(1, 2)
    light = ambient_lighting(1, 0.22) + lamp((-0.9, 0.6, 0.5), (0.95, 0.95, 0.95))
    flat = face_normals(face.vertices, model.faces) @ turn
    smooth = vertex_normals(face.vertices, model.faces) @ turn
    raw = summed(face.vertices, model.faces, crosses(face.vertices, model.faces))
    raw = raw / raw.norm(dim=-1).quantile(0.9) @ turn

    def grey(n: Tensor) -> Tensor:
        return shade(torch.full_like(n, CLAY), n, light)

    size = 400
    pictures = {
        "one normal per triangle": paint_flat(face, grey(flat), size),
        "one normal per vertex": paint(face, grey(smooth), size),
        "normals as colours": paint(face, smooth / 2 + 0.5, size),
        "not normalised": paint(face, grey(raw), size),
    }
    close_ups = [zoomed(p, 0.42, 0.3, 0.4, 300) for p in pictures.values()]
    title = "Shared normals hide the facets; normals of the wrong length drown the features"
    images = [*pictures.values(), *close_ups]
    return gallery(images, list(pictures), title=title, columns=4, size=2.2)


def nine_spheres(basis: Callable[[Tensor], Tensor]) -> Figure:
    """Each basis function on a sphere: rows are bands l, columns m from -2 to 2."""
    title = "Nine functions of a direction: red is positive, blue negative"
    figure, axes = charts(9.4, 6.2, 5, 3, title)
    for axis in axes.flat:
        axis.axis("off")
    for k, (band, m) in enumerate(ORDER):
        values = ball_values(lambda n, k=k: basis(n)[:, k], 150)
        name = f"k = {k}:  l = {band}, m = {m}\n${FORMULAS[k]}$"
        drawn = picture(axes[band, m + 2], values, name, **signed(1.1))
    arrow = dict(arrowstyle="-|>", color="0.25", linewidth=1.4)
    corner = axes[0, 0]
    corner.set(xlim=(-1, 1), ylim=(-1, 1))
    for tip, name in (((0.75, -0.5), "x"), ((-0.5, 0.75), "y")):
        corner.annotate("", tip, (-0.5, -0.5), arrowprops=arrow)
        corner.text(tip[0] + 0.06, tip[1], name, fontsize=11)
    corner.plot(-0.5, -0.5, "o", color="0.25", markersize=9, fillstyle="none")
    corner.plot(-0.5, -0.5, "o", color="0.25", markersize=3)
    corner.text(-0.38, -0.82, "z, to you", fontsize=10)
    figure.colorbar(drawn, cax=axes[0, 4].inset_axes((0.45, 0.05, 0.1, 0.9)))
    return figure


def matrix_figure(matrix: Float[Tensor, "9 9"], title: str) -> Figure:
    """The 81 inner products of the basis functions."""
    figure, axis = charts(4.6, 4.0)
    drawn = axis.imshow(matrix.numpy(), **signed())
    names = [f"{band},{m}" for band, m in ORDER]
    axis.set_xticks(range(9), names, fontsize=8)
    axis.set_yticks(range(9), names, fontsize=8)
    axis.set(xlabel="l, m", ylabel="l, m", title=title)
    axis.spines[:].set_visible(False)
    figure.colorbar(drawn, shrink=0.8)
    return figure


def room(directions: Float[Tensor, "*n 3"]) -> Float[Tensor, "*n 3"]:
    """Radiance from each direction of a made-up room: a window, a lamp, sky, walls, a floor."""
    x, y, z = directions.unbind(-1)
    sky = torch.stack([0.35 + 0.1 * y, 0.45 + 0.15 * y, 0.6 + 0.3 * y], -1)
    floor = directions.new_tensor([0.35, 0.22, 0.12]).expand_as(sky)
    colour = torch.where(y[..., None] > -0.15, sky, floor)
    window = (x < -0.45) & (y.abs() < 0.55) & (z.abs() < 0.6)
    bars = ((y / 0.37) % 1.0 < 0.12) | ((z / 0.4) % 1.0 < 0.12)
    lamp_at = F.normalize(directions.new_tensor([0.7, 0.45, 0.5]), dim=0)
    glass, spot = (window & ~bars)[..., None], (directions @ lamp_at > 0.95)[..., None]
    colour = torch.where(glass, directions.new_tensor([2.6, 2.5, 2.2]), colour)
    return torch.where(spot, directions.new_tensor([5.0, 3.0, 1.2]), colour)


def matte(normals: Float[Tensor, "p 3"]) -> Float[Tensor, "p 3"]:
    """What a white matte ball in the room sends back: means of light times max(0, n . d), times 4.

    Times 4, so that a room that is white all over shades it with 1.
    """
    directions = sphere_points(4000)
    radiance = room(directions)
    rows = [(n @ directions.T).clamp(min=0) @ radiance for n in normals.split(2000)]
    return 4 / len(directions) * torch.cat(rows)


def mirror_figure() -> Figure:
    """A mirror ball and a matte ball in the same room."""

    def mirror(n: Tensor) -> Tensor:
        return room(2 * n[:, 2:] * n - n.new_tensor([0.0, 0, 1])) / 2.6

    names = ["a mirror ball: the room", "a white matte ball, same place"]
    title = "A matte surface blurs the world"
    return gallery([ball(mirror), ball(matte)], names, title=title, size=2.7)


def room_figure(light: Float[Tensor, "9 3"]) -> Figure:
    """The matte ball, the ball of nine numbers, and their difference."""
    error = ball_values(lambda n: (sh_basis(n) @ light - matte(n)).mean(-1))
    names = ["every direction of the room", "9 numbers per channel", "difference"]
    title = "The room of section 2 in 27 numbers"
    shown = [ball(matte), ball(light), error]
    return value_panels(shown, names, title, limit=0.1, label="nine minus all", width=8.0)


def band_coefficients() -> np.ndarray:
    """Of the clamped cosine: integral of max(0, c) P_l(c) over the sphere, for eight bands."""
    nodes, weights = np.polynomial.legendre.leggauss(64)
    c, w = (nodes + 1) / 2, weights / 2  # the half where the cosine is positive
    return 2 * np.pi * (w * c) @ np.polynomial.legendre.legvander(c, 7)


def lamp_figure(values: dict[int, Tensor], angles: Tensor) -> Figure:
    """The clamped cosine and its approximations along an angle, and what each band holds.

    values: number of functions: values at `angles` (degrees between normal and lamp).
    """
    figure, (left, right) = charts(10.5, 3.9, 2, width_ratios=[1.6, 1])
    left.plot(angles, angles.deg2rad().cos().clamp(min=0), color=INK, lw=2.6, label="a lamp")
    lines = {f"{n} function" + "s" * (n > 1): y for n, y in values.items()}
    title = "Nine functions follow a lamp closely; four dip far below zero"
    settings = dict(xlabel="angle between normal and lamp, degrees", ylabel="brightness")
    settings |= dict(xlim=(0, 180), ylim=(-0.28, 1.12), xticks=range(0, 181, 30), title=title)
    curves(left, lines, angles, colours=(*BLUES[:2], ORANGE), legend=dict(fontsize=10), **settings)
    left.axhline(0, color="0.6", lw=0.8)
    left.fill_between(angles, -0.16, 0, color=ORANGE, alpha=0.1, lw=0)
    left.text(2, -0.13, "less than no light", color=RED, fontsize=9)
    a = band_coefficients()
    right.bar(range(len(a)), a, color=[BLUES[1]] * 3 + ["0.7"] * (len(a) - 3))
    title = "Above band 2: little left"
    right.set(xlabel="band l", ylabel="$A_l$: how much of the lamp", title=title)
    right.axhline(0, color="0.6", lw=0.8)
    for band, value in enumerate(a):
        number = f"{value:.2f}" if abs(value) > 1e-6 else "0"
        right.text(band, max(value, 0) + 0.05, number, ha="center", fontsize=8)
    return figure


def negative_figure(face: Face, light: Tensor, shading: Float[Tensor, "1 vertex"]) -> Figure:
    """Where the shading is negative: on the ball and on the face, and the face as shown."""
    g = light.reshape(9, 3)[:, 1]
    clamped = paint(face, shade(face.albedo, face.normals, light), 300)
    shown = [ball_values(lambda n: sh_basis(n) @ g, 300), value_map(face, shading, 300), clamped]
    names = ["on the ball", "on the face", "as shown: clamped to [0, 1]"]
    title = "Blue: shading below zero, a darkness that no lamp can make"
    return value_panels(shown, names, title, limit=1.0, label="shading")


def curves_figure(lines: dict[str, Sequence[float]], title: str) -> Figure:
    """Losses over steps, on a logarithmic axis."""
    figure, axis = charts(6.4, 3.1)
    settings = dict(xlabel="step", ylabel="squared error of the colours", title=title)
    curves(axis, lines, colours=(RED, BLUE), legend=dict(fontsize=10), yscale="log", **settings)
    return figure


def _difference_figure(
    face: Face, one: Tensor, other: Tensor, names: list[str], title: str, sign: int = 1
) -> Figure:
    """The face in two colours, and the second minus the first, or the other way round."""
    difference = value_map(face, sign * (other - one).mean(-1), 300)
    images = [paint(face, one), paint(face, other), difference]
    return value_panels(images, names, title, limit=0.3, label="RGB, 0 to 1")


def linear_figure(face: Face, srgb: Tensor, linear: Tensor) -> Figure:
    """Shading of pixel values, shading of light, and the difference."""
    names = ["albedo times light, on sRGB values", "the same in linear light", "linear minus sRGB"]
    title = "The same lamp: in linear light, half-shadows are brighter"
    return _difference_figure(face, srgb, linear, names, title)


def ridge_figure(
    face: Face,
    colours: Tensor,
    seen: Float[Tensor, "1 vertex"],
    lights: dict[str, Float[Tensor, "1 9 3"]],
) -> Figure:
    """The face and the part of it that was seen; then lights as balls, front and behind."""
    grey = torch.full_like(colours, 0.85)
    part = torch.lerp(grey, colours, (4 * seen).clamp(0, 1)[..., None])
    greys = [light.reshape(9, 3).mean(-1) for light in lights.values()]

    def balls(behind: bool) -> list:
        return [ball_values(lambda n, g=g: sh_basis(n) @ g, 240, behind) for g in greys]

    shown = [paint(face, colours), *balls(False), paint(face, part), *balls(True)]
    behind = ["the same, from behind"] * len(greys)
    names = ["the truth", *lights, "what is seen of it", *behind]
    title = "A forehead says little about the light from behind: there the ridge decides"
    settings = dict(limit=3.0, label="shading of a white ball", width=10.0, rows=2)
    return value_panels(shown, names, title, **settings)


def limits_figure(face: Face, truth: Tensor, best: Tensor) -> Figure:
    """A picture with shadow and highlight, its best nine numbers, and what they miss."""
    names = ["lamp, cast shadows, highlights", "the best nine numbers", "lamp minus nine numbers"]
    title = "No cast shadow, no highlight: Eq. 3 knows only which way a point faces"
    return _difference_figure(face, truth, best, names, title, -1)


def photo_figure(
    crop: Crop, face: Face, albedo: Tensor, relit: Tensor, light: Float[Tensor, "1 9 3"]
) -> Figure:
    """The photo, the albedo that is assumed, that albedo in the light found, and the light."""
    photo = F.interpolate(crop.image, (300, 300), mode="bicubic", antialias=True)[0]
    brightest = ball_brightness(light)
    pictures = {
        "the photo": to_uint8(photo),
        "assumed: the mean albedo": paint(face, albedo),
        "the same in the light found": paint(face, relit),
        f"the light, divided by {brightest:.1f}": ball(light / brightest, 300),
    }
    title = "A light, read off the skin of a photo"
    return gallery([*pictures.values()], [*pictures], title=title, size=2.2)
