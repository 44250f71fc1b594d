"""Figures that are computed live: a fit that runs away, flips, smoothing.

watch = Watch()
fit = fit_unet(unet, batch, base, objective, steps=40, learning_rate=2e-2, on_step=watch)
widgets.animation(watch.frames)
runaway_figure(watch, fit, flipped_share)

Notebook 08, Eq. 8 to 12.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from ...augmented.branch import AugmentedFaces
from ...augmented.map_sampling import sample_bilinear
from ...face.camera import CROP_SIZE, ndc_to_pixels, project_ndc
from ...face.morphable_model import MorphableModel
from ...pictures.faces import VIEW_DISTANCE, Picture, show_face, to_uint8, turned_mesh
from ...rendering.synthesis import Face
from ..drawing import style
from ..drawing.palettes import fewer_colours, in_palette
from ..drawing.sliders import Curves, panel_row
from ..drawing.style import BLUE, RED, charts, curves, fill, panels, picture, signed
from ..unet_fit import UNetFit


def posed(
    model: MorphableModel,
    vertices: Float[Tensor, "vertex 3"],
    albedo: Float[Tensor, "vertex 3"],
    yaw_deg: float = 0.0,
    away: float = 0.0,
) -> Face:
    """Any vertices of the model's mesh, turned, where the mean face would fill the view; `away`
    mm further back."""
    view = dict(distance=VIEW_DISTANCE + away, middle_of=model.mean)
    return turned_mesh(model, vertices[None], albedo[None], yaw_deg, **view)


def _views(face: Face, yaw_deg: float, size: int = 448) -> list[Picture]:
    """Rendering, skin without light, and turned shape of a face."""
    side = posed(face.model, face.vertices[0], face.albedo[0], yaw_deg)
    lit, unlit = (show_face(face, look, size) for look in ("lit", "unlit"))
    return [lit, unlit, show_face(side, "shape", size)]


# A fit that runs away ---------------------------------------------------------------------------


class Watch:
    """Keeps the faces of each step, for `fit_unet(on_step=...)`; `frames` draws some."""

    def __init__(self) -> None:
        self.faces: list[Face] = []

    def __call__(self, _step: int, augmented: AugmentedFaces) -> None:
        parts = vars(augmented.face).items()
        self.faces.append(Face(**{k: v.detach() if isinstance(v, Tensor) else v for k, v in parts}))

    @property
    def frames(self) -> list[Picture]:
        """Rendering and skin as in the photo, and turned shape, of every fifth step."""
        return [np.concatenate(_views(face, 50, 150), 1) for face in self.faces[::5]]


def runaway_figure(
    watch: Watch, fit: UNetFit, flipped_share: Callable[[Tensor, Tensor, Tensor], Tensor]
) -> Figure:
    """The loss falls; displacement and flipped triangles rise."""
    faces = watch.faces[0].model.faces
    start, *_ = steps = [face.vertices[:1] for face in watch.faces]
    flipped = [float(flipped_share(start, vertices, faces)[0]) for vertices in steps]
    largest = [float((vertices - start).norm(dim=-1).max()) for vertices in steps]
    rows = (
        (fit.terms["pixel"], BLUE, "What the photo terms see: better and better", "Eq. 4"),
        (largest, RED, "The vertex that has gone furthest", "mm"),
        (flipped, RED, "Triangles that show their back", "%"),
    )
    figure, axes = charts(12, 3.3, 3)
    for axis, (values, colour, title, unit) in zip(axes, rows, strict=True):
        labels = dict(title=title, xlabel="step", ylabel=unit, ylim=(0, None))
        curves(axis, {title: values}, colours=(colour,), **labels)
    return figure


def close_up(augmented: AugmentedFaces, photo: Float[Tensor, "1 3 224 224"]) -> Image.Image:
    """The fitted face from where nobody was looking."""
    lit, unlit, near = _views(augmented.face, 40)
    images = {
        "the photo": to_uint8(photo[0]),
        "as in the photo": lit,
        "turned by 40°": near,
        "turned by 75°": _views(augmented.face, 75)[2],
        "its skin, without the light": unlit,
    }
    title = "The same face, from where no photo was taken"
    figure, axes = panels(1, len(images), size=2.6, title=title)
    fill(axes, images.values(), images)
    return in_palette(figure, colours=112)


def tamed_figure(runs: Mapping[str, AugmentedFaces]) -> Image.Image:
    """Fits below each other: as in the photo, turned, skin, and both maps."""
    names = ["as in the photo", "turned by 60°", "skin, unlit", "texture map", "displacement map"]
    title = "The same network, photo and number of steps: only the loss differs"
    figure, axes = panels(len(runs), len(names), size=1.9, title=title)
    for row, (words, augmented) in zip(axes, runs.items(), strict=True):
        texture, displacement = (m[0].detach() for m in augmented.maps)
        lit, unlit, side = _views(augmented.face, 60)
        fill(row[:4], [lit, side, unlit, to_uint8(0.5 + texture / 0.6)])
        drawn = picture(
            row[4], displacement.norm(dim=0), cmap="viridis", norm=PowerNorm(0.5, 0, 20)
        )
        style.row_name(row[0], words)
    for axis, name in zip(axes[0], names, strict=True):
        axis.set_title(name, fontsize=10)
    figure.colorbar(drawn, ax=axes[:, -1], label="mm", shrink=0.8, ticks=[0, 1, 5, 20])
    return in_palette(figure, colours=112)


# Flips ------------------------------------------------------------------------------------------


@torch.no_grad()
def draw_map(face: Face, offsets: Float[Tensor, "1 vertex 3"]) -> Float[Tensor, "1 3 224 224"]:
    """Offsets of the vertices as the map that they could have been read from, 0 beside the face."""
    image, mask = face.render(CROP_SIZE, attributes=offsets.contiguous(), near=None)
    return image * mask


def read_map(face: Face, offset_map: Float[Tensor, "1 3 224 224"]) -> Float[Tensor, "1 vertex 3"]:
    """The map at each vertex' place in the picture."""
    return sample_bilinear(offset_map, ndc_to_pixels(project_ndc(face.v_camera), CROP_SIZE))


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
    negate_x = torch.tensor([-1.0, 1.0, 1.0])[:, None, None]
    ways = (
        ("x negated", offset_map.flip(-1) * negate_x, map_symmetry(offset_map, True)),
        ("x forgotten", offset_map.flip(-1), map_symmetry(offset_map, False)),
    )
    title = "A jaw that widens on both sides is symmetric, and only one of these flips knows it"
    figure, axes = panels(2, 5, size=2.5, title=title)
    limit = float(offset_map[:, 0].abs().max())
    for row, (name, flipped, cost) in zip(axes, ways, strict=True):
        left = read_map(face, (offset_map + flipped) / 2)[0]
        maps = {
            "M: displacement in x": offset_map,
            f"flip(M), {name}": flipped,
            f"M − flip(M): Eq. 9 is {float(cost):,.0f}": offset_map - flipped,
        }
        picture(row[0], show_face(face, "studio"), "the base face")
        for axis, (words, values) in zip(row[1:4], maps.items(), strict=True):
            drawn = picture(axis, values[0, 0], words, **signed(limit))
        moved = posed(model, mean + left, albedo, away=90)
        picture(row[4], show_face(moved, "studio"), "what Eq. 9 leaves of it")
    figure.colorbar(drawn, ax=axes[:, 3], label="mm", shrink=0.8)
    return in_palette(figure, colours=112)


def make_up(model: MorphableModel) -> Float[Tensor, "1 vertex 3"]:
    """A texture offset that is the same on both sides: brows, lips and cheeks."""
    colours = {"brows": (-0.35, -0.3, -0.25), "lips": (0.1, -0.35, -0.25)}
    colours["cheeks"] = (0.12, -0.1, -0.08)
    paint = sum(model.regions[name][:, None] * torch.tensor(c) for name, c in colours.items())
    return ((paint + paint[model.mirror]) / 2)[None]


def flip_panels(
    model: MorphableModel,
    map_symmetry: Callable[[Tensor, bool], Tensor],
    mesh_symmetry: Callable[[Tensor, Tensor, bool], Tensor],
) -> Callable[[int], Picture]:
    """draw(yaw) for `widgets.explore`: make-up on both sides of a face, its map, the map's flip,
    and the face with what image symmetry leaves; beside it, what either symmetry charges."""
    paint, yaws = make_up(model), range(-60, 61, 10)

    def turned(yaw: float) -> tuple[Face, Tensor]:
        face = posed(model, model.mean, model.albedo_mean, yaw, away=90)
        return face, draw_map(face, paint)

    maps = [turned(yaw)[1] for yaw in yaws]
    shares = [100 * float(map_symmetry(m, False) / (2 * m.square().sum())) for m in maps]
    on_mesh = 100 * float(mesh_symmetry(paint, model.mirror, False))

    def plot(axes) -> None:
        lines = {"flip the map": shares, "mirror vertices": [on_mesh] * len(yaws)}
        labels = dict(xlabel="yaw, degrees", title="What Eq. 9 charges, % of the most")
        legend = dict(fontsize=8, loc="upper center", ncols=2)
        form = dict(colours=(RED, BLUE), legend=legend, ylim=(-4, 118))
        curves(axes[0], lines, yaws, **form, **labels)

    chart = Curves(plot, 1, (290, 200))

    def draw(yaw: int) -> Picture:
        face, offset_map = turned(yaw)
        flipped = offset_map.flip(-1)
        left = read_map(face, (offset_map + flipped) / 2)
        made_up, ghost = (replace(face, albedo=face.albedo + offsets) for offsets in (paint, left))
        images = {
            "a face made up": show_face(made_up, "unlit", 174),
            "its texture map M": to_uint8(0.5 + offset_map[0]),
            "flip(M)": to_uint8(0.5 + flipped[0]),
            "what Eq. 9 leaves": show_face(ghost, "unlit", 174),
        }
        images = {name: fewer_colours(image, 48) for name, image in images.items()}
        return panel_row(images, chart.marked([yaw]))

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
        views = [posed(model, vertices[0], model.albedo_mean, yaw, away=60) for yaw in (0, 70)]
        words = f"{name}\n{apart:.1f} mm from the base"
        fill(column, [show_face(view, "shape") for view in views], [words])
    return in_palette(figure, colours=64)
