"""Figures of notebook 08 that are computed live: a fit that runs away, flips, smoothing.

watch = Watch()
fitted = fit_unet(unet, batch, base, objective, steps=40, learning_rate=2e-2, on_step=watch)
widgets.animation(watch.frames)
runaway_figure(watch, fitted, flipped_share)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import matplotlib
import numpy as np
import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from ...augmented.branch import AugmentedFaces
from ...augmented.map_sampling import sample_bilinear
from ...face.camera import CROP_SIZE, axis_angle_to_matrix, ndc_to_pixels, project_ndc
from ...face.morphable_model import MorphableModel
from ...pictures.faces import VIEW_DISTANCE, show_face, to_uint8
from ...rendering.synthesis import Face, pose_and_light
from ..drawing.palettes import fewer_colours, in_palette
from ..drawing.sliders import Curves, Picture, panel_row
from ..drawing.style import BLUE, RED, panels, picture
from ..unet_fit import UNetFit

PANEL = 150  # px


@torch.no_grad()
def posed(
    model: MorphableModel,
    vertices: Float[Tensor, "vertex 3"],
    albedo: Float[Tensor, "vertex 3"],
    yaw_deg: float = 0.0,
    away: float = 0.0,
) -> Face:
    """Any vertices of the model's mesh, turned, where the mean face would fill the view; `away`
    mm further back."""
    start = model.neutral()
    start.rotation = torch.tensor([[0.0, math.radians(yaw_deg), 0.0]])
    mean = model.mean @ axis_angle_to_matrix(start.rotation)[0].T
    middle = (mean.amin(0) + mean.amax(0)) / 2
    distance = middle[2] + VIEW_DISTANCE + away
    start.translation = torch.stack([middle[0], -middle[1], distance])[None]
    return pose_and_light(model, vertices[None], albedo[None], start)


# A fit that runs away ---------------------------------------------------------------------------


class Watch:
    """Keeps the first face of each step, for `fit_unet(on_step=...)`; `frames` draws some."""

    def __init__(self, every: int = 5):
        self.every = every
        self.seen: list[AugmentedFaces] = []

    def __call__(self, step: int, found: AugmentedFaces) -> None:
        face = found.face
        kept = Face(*(v.detach() if isinstance(v, Tensor) else v for v in vars(face).values()))
        self.seen.append(AugmentedFaces(found.base, found.maps, found.offsets, kept))

    @property
    def vertices(self) -> list[Float[Tensor, "1 vertex 3"]]:
        return [found.face.vertices[:1] for found in self.seen]

    @property
    def frames(self) -> list[Picture]:
        """Rendering and shape, as in the photo and turned, of every so many steps."""
        return [beside(found.face, PANEL) for found in self.seen[:: self.every]]


def beside(face: Face, size: int) -> Picture:
    """Rendering, skin without light and turned shape of a face, in one picture."""
    side = posed(face.model, face.vertices[0], face.albedo[0], 50)
    panels = [show_face(face, "lit", size), show_face(face, "unlit", size)]
    return np.concatenate([*panels, show_face(side, "shape", size)], 1)


def runaway_figure(
    watch: Watch, fitted: UNetFit, flipped_share: Callable[[Tensor, Tensor, Tensor], Tensor]
) -> Figure:
    """The loss falls; displacement and flipped triangles rise."""
    model = watch.seen[0].face.model
    start = watch.vertices[0]
    flipped = [float(flipped_share(start, v, model.faces)[0]) for v in watch.vertices]
    largest = [float((v - start).norm(dim=-1).max()) for v in watch.vertices]
    figure = Figure((12, 3.3), layout="constrained", facecolor="white")
    axes = figure.subplots(1, 3)
    rows = (
        (fitted.terms["pixel"], BLUE, "What the photo terms see: better and better", "Eq. 4"),
        (largest, RED, "The vertex that has gone furthest", "mm"),
        (flipped, RED, "Triangles that show their back", "%"),
    )
    for axis, (values, colour, title, unit) in zip(axes, rows, strict=True):
        axis.plot(values, color=colour, linewidth=2)
        axis.set(title=title, xlabel="step", ylabel=unit, ylim=(0, None))
        axis.spines[["top", "right"]].set_visible(False)
    return figure


def close_up(found: AugmentedFaces, photo: Float[Tensor, "1 3 224 224"]) -> Image.Image:
    """The fitted face from where nobody was looking."""
    face = found.face
    views = {
        "the photo": to_uint8(photo[0]),
        "as in the photo": show_face(face, "lit"),
    }
    for yaw in (40, 75):
        turned = posed(face.model, face.vertices[0], face.albedo[0], yaw)
        views[f"turned by {yaw}°"] = show_face(turned, "shape")
    views["its skin, without the light"] = show_face(face, "unlit")
    figure, axes = panels(
        1, len(views), size=2.6, title="The same face, from where no photo was taken"
    )
    for axis, (name, image) in zip(axes[0], views.items(), strict=True):
        picture(axis, image, name)
    return in_palette(figure, colours=112)


def tamed_figure(runs: Mapping[str, AugmentedFaces]) -> Image.Image:
    """Fits beside each other, a row each: as in the photo, turned, skin, and both maps."""
    names = ("as in the photo", "turned by 60°", "skin, unlit", "texture map", "displacement map")
    title = "The same network, photo and number of steps: only the loss differs"
    figure, axes = panels(len(runs), len(names), size=1.9, title=title)
    for row, (words, found) in zip(axes, runs.items(), strict=True):
        face, maps = found.face, found.maps
        side = posed(face.model, face.vertices[0], face.albedo[0], 60)
        length = maps.displacement[0].detach().norm(dim=0)
        picture(row[0], show_face(face, "lit"))
        picture(row[1], show_face(side, "shape"))
        picture(row[2], show_face(face, "unlit"))
        picture(row[3], to_uint8(0.5 + maps.texture[0].detach() / 0.6))
        drawn = picture(row[4], length, cmap="viridis", norm=_lengths())
        row[0].text(
            -0.05, 0.5, words, transform=row[0].transAxes, rotation=90, va="center", ha="right"
        )
    for axis, name in zip(axes[0], names, strict=True):
        axis.set_title(name, fontsize=10)
    bar = figure.colorbar(drawn, ax=list(axes[:, -1]), label="mm", shrink=0.8)
    bar.set_ticks([0, 1, 5, 20])
    return in_palette(figure, colours=112)


def _lengths():
    return matplotlib.colors.PowerNorm(0.5, 0, 20)


# Flips ------------------------------------------------------------------------------------------


@torch.no_grad()
def draw_map(face: Face, offsets: Float[Tensor, "1 vertex 3"]) -> Float[Tensor, "1 3 224 224"]:
    """Offsets of the vertices as the map that they could have been read from, 0 beside the face."""
    image, mask = face.render(CROP_SIZE, attributes=offsets.contiguous(), near=None)
    return image * mask


@torch.no_grad()
def read_map(face: Face, offset_map: Float[Tensor, "1 3 224 224"]) -> Float[Tensor, "1 vertex 3"]:
    """The map at each vertex' place in the picture."""
    return sample_bilinear(offset_map, ndc_to_pixels(project_ndc(face.v_camera), CROP_SIZE))


def flip(offset_map: Tensor, signs: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> Tensor:
    """Left and right swapped; each channel times its sign."""
    return offset_map.flip(-1) * torch.tensor(signs)[:, None, None]


@torch.no_grad()
def widening_figure(
    model: MorphableModel, map_symmetry: Callable[[Tensor, bool], Tensor]
) -> Image.Image:
    """A face grown wider on both sides, and what is left of it when Eq. 9 is to cost nothing."""
    mean, albedo = model.mean, model.albedo_mean
    face = posed(model, mean, albedo, away=90)
    wider = torch.zeros_like(mean)
    low = torch.sigmoid((-mean[:, 1] - mean[:, 1].mean() - 5) / 12)  # cheeks and jaw
    wider[:, 0] = 0.17 * mean[:, 0] * low
    offset_map = draw_map(face, wider[None])
    ways = {
        "x negated": (flip(offset_map, (-1.0, 1.0, 1.0)), float(map_symmetry(offset_map, True))),
        "x forgotten": (flip(offset_map), float(map_symmetry(offset_map, False))),
    }
    title = "A jaw that widens on both sides is symmetric, and only one of these flips knows it"
    figure, axes = panels(2, 5, size=2.5, title=title)
    limit = float(offset_map[:, 0].abs().max())
    before = show_face(face, "studio")
    for row, (name, (flipped, cost)) in zip(axes, ways.items(), strict=True):
        left = (offset_map + flipped) / 2
        moved = posed(model, mean + read_map(face, left)[0], albedo, away=90)
        picture(row[0], before, "the base face")
        for axis, values, words in (
            (row[1], offset_map, "M: displacement in x"),
            (row[2], flipped, f"flip(M), {name}"),
            (row[3], offset_map - flipped, f"M − flip(M): Eq. 9 is {cost:,.0f}"),
        ):
            drawn = picture(axis, values[0, 0], words, cmap="RdBu_r", vmin=-limit, vmax=limit)
        picture(row[4], show_face(moved, "studio"), "what Eq. 9 leaves of it")
    figure.colorbar(drawn, ax=list(axes[:, 3]), label="mm", shrink=0.8)
    return in_palette(figure, colours=112)


def make_up(model: MorphableModel) -> Float[Tensor, "1 vertex 3"]:
    """A texture offset that is the same on both sides: brows, lips and cheeks."""
    regions = model.regions
    colours = {"brows": (-0.35, -0.3, -0.25), "lips": (0.1, -0.35, -0.25)}
    colours["cheeks"] = (0.12, -0.1, -0.08)
    paint = sum(regions[name][:, None] * torch.tensor(c) for name, c in colours.items())
    return ((paint + paint[model.mirror]) / 2)[None]


def flip_panels(
    model: MorphableModel,
    map_symmetry: Callable[[Tensor, bool], Tensor],
    mesh_symmetry: Callable[[Tensor, Tensor, bool], Tensor],
) -> Callable[[int], Picture]:
    """draw(yaw) for `widgets.explore`: make-up on both sides of a face, its map, the map's flip,
    and the face with what image symmetry leaves; beside it, what either symmetry charges."""
    paint = make_up(model)
    albedo = model.albedo_mean

    def seen(yaw: float) -> tuple[Face, Tensor]:
        face = posed(model, model.mean, albedo, yaw, away=90)
        return face, draw_map(face, paint)

    yaws = list(range(-60, 61, 10))
    shares = []
    for yaw in yaws:
        offset_map = seen(yaw)[1]
        twice = 2 * offset_map.square().sum((1, 2, 3)).mean()
        shares.append(100 * float(map_symmetry(offset_map, False) / twice))
    on_mesh = 100 * float(mesh_symmetry(paint, model.mirror, False))

    def plot(axes) -> None:
        axes[0].plot(yaws, shares, color=RED, linewidth=2, label="flip the map")
        axes[0].plot(yaws, [on_mesh] * len(yaws), color=BLUE, linewidth=2, label="mirror vertices")
        axes[0].set(
            xlabel="yaw, degrees", ylim=(-4, 118), title="What Eq. 9 charges, % of the most"
        )
        axes[0].legend(frameon=False, fontsize=8, loc="upper center", ncols=2)

    curves = Curves(plot, 1, (290, 200))

    def draw(yaw: int) -> Picture:
        face, offset_map = seen(yaw)
        left = read_map(face, (offset_map + flip(offset_map)) / 2)
        painted = posed(model, model.mean, albedo + paint[0], yaw, away=90)
        ghost = posed(model, model.mean, albedo + left[0], yaw, away=90)
        panels = {
            "a face made up": show_face(painted, "unlit", 174),
            "its texture map M": to_uint8(0.5 + offset_map[0]),
            "flip(M)": to_uint8(0.5 + flip(offset_map)[0]),
            "what Eq. 9 leaves": show_face(ghost, "unlit", 174),
        }
        panels = {name: fewer_colours(panel, 48) for name, panel in panels.items()}
        return panel_row(panels, curves.marked([yaw]))

    return draw


# Smoothing --------------------------------------------------------------------------------------


def smoothing_figure(
    model: MorphableModel,
    shapes: Mapping[str, Float[Tensor, "1 vertex 3"]],
    base: Float[Tensor, "1 vertex 3"],
) -> Image.Image:
    """Faces beside each other, each with its mean distance from the base face."""
    title = "Smoothing positions wears the face away; smoothing offsets only takes out the noise"
    figure, axes = panels(2, len(shapes), size=2.1, title=title)
    middle = model.regions["skin"] * (1 - model.regions["border"]) > 0.5
    for column, (name, vertices) in zip(axes.T, shapes.items(), strict=True):
        apart = float((vertices - base)[:, middle].norm(dim=-1).mean())
        for axis, yaw in zip(column, (0, 70), strict=True):
            view = posed(model, vertices[0].detach(), model.albedo_mean, yaw, away=60)
            picture(axis, show_face(view, "shape"))
        column[0].set_title(f"{name}\n{apart:.1f} mm from the base", fontsize=10)
    return in_palette(figure, colours=64)
