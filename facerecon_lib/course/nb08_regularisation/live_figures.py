"""Figures that are computed live: a fit that runs away, flips, smoothing.

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

from ...augmented.branch import AugmentedFaces, augment
from ...augmented.map_sampling import sample_bilinear
from ...augmented.offsets import sample_offsets
from ...face.camera import CROP_SIZE, ndc_to_pixels, project_ndc
from ...face.morphable_model import MorphableModel
from ...pictures.faces import VIEW_DISTANCE, Picture, show_face, to_uint8, turned_mesh
from ...rendering.synthesis import Face
from ..drawing.sliders import Curves, panel_row
from ..drawing.style import (
    BLUE,
    GREY,
    RED,
    bars,
    charts,
    curves,
    drawn,
    fill,
    panels,
    picture,
    signed,
)
from ..unet_fit import UNetFit

Vertices = Float[Tensor, "1 vertex 3"]
TERMS = {
    "pixel": "pixel, Eq. 4",
    "landmark": "landmark, Eq. 5",
    "texture_l2": "size of texture, Eq. 8",
    "displacement_l2": "size of displacement, Eq. 8",
    "texture_symmetry": "symmetry of texture, Eq. 9",
    "displacement_symmetry": "symmetry of displacement, Eq. 9",
    "smooth_shape": "smooth shape, Eq. 10",
    "smooth_albedo": "smooth albedo, Eq. 11",
}


def posed(
    model: MorphableModel, vertices: Vertices, albedo: Vertices, yaw_deg=0.0, away=0.0
) -> Face:
    """Any vertices of the model's mesh, turned, where the mean face would fill the view; `away`
    mm further back."""
    view = dict(distance=VIEW_DISTANCE + away, middle_of=model.mean)
    return turned_mesh(model, vertices, albedo, yaw_deg, **view)


def _views(face: Face, yaw_deg: float, size: int = 448) -> list[Picture]:
    """Rendering, skin without light, and turned shape of a face."""
    side = posed(face.model, face.vertices, face.albedo, yaw_deg)
    lit, unlit = (show_face(face, look, size) for look in ("lit", "unlit"))
    return [lit, unlit, show_face(side, "shape", size)]


def runaway_frames(fit: UNetFit) -> list[Picture]:
    """Rendering and skin as in the photo, and turned shape, of every fifth step."""
    faces = [augment(fit.found.base, maps).face for maps in fit.maps[::5]]
    return [np.concatenate(_views(face, 50, 150), 1) for face in faces]


def runaway_figure(fit: UNetFit, flipped_share: Callable) -> Figure:
    """The loss falls; displacement and flipped triangles rise."""
    base = fit.found.base.face
    moves = [sample_offsets(maps, base).displacement[:1] for maps in fit.maps]
    largest = [float(move.norm(dim=-1).max()) for move in moves]
    before, triangles = base.vertices[:1], base.model.faces
    flipped = [float(flipped_share(before, before + move, triangles)[0]) for move in moves]
    figure, axes = charts(12, 3.3, 3)
    for axis, values, colour, title, unit in (
        (axes[0], fit.terms["pixel"], BLUE, "What the photo terms see: better and better", "Eq. 4"),
        (axes[1], largest, RED, "The vertex that has gone furthest", "mm"),
        (axes[2], flipped, RED, "Triangles that show their back", "%"),
    ):
        labels = dict(title=title, xlabel="step", ylabel=unit, ylim=(0, None))
        curves(axis, {title: values}, colours=(colour,), **labels)
    return figure


def close_up(augmented: AugmentedFaces, photo: Float[Tensor, "1 3 224 224"]) -> Image.Image:
    """The fitted face from where nobody was looking."""
    lit, unlit, near = _views(augmented.face, 40)
    images = [to_uint8(photo[0]), lit, near, _views(augmented.face, 75)[2], unlit]
    names = ["the photo", "as in the photo", "turned by 40°", "turned by 75°"]
    title = "The same face, from where no photo was taken"
    figure, axes = panels(1, 5, size=2.6, title=title)
    fill(axes, images, [*names, "its skin, without the light"])
    return drawn(figure)


def tamed_figure(runs: Mapping[str, AugmentedFaces]) -> Image.Image:
    """Fits below each other: as in the photo, turned, skin, and both maps."""
    names = ["as in the photo", "turned by 60°", "skin, unlit", "texture map", "displacement map"]
    title = "The same network, photo and number of steps: only the loss differs"
    figure, axes = panels(len(runs), len(names), size=1.9, title=title)
    for row, (words, augmented) in zip(axes, runs.items(), strict=True):
        texture, displacement = (m[0].detach() for m in augmented.maps)
        lit, unlit, side = _views(augmented.face, 60)
        fill(row[:4], [lit, side, unlit, to_uint8(0.5 + texture / 0.6)], name=words)
        panel = picture(row[4], displacement.norm(dim=0), norm=PowerNorm(0.5, 0, 20))
    for axis, name in zip(axes[0], names, strict=True):
        axis.set_title(name, fontsize=10)
    figure.colorbar(panel, ax=axes[:, -1], label="mm", shrink=0.8, ticks=[0, 1, 5, 20])
    return drawn(figure)


def pull_bars(ways: Mapping[str, Mapping[str, float]]) -> Figure:
    """Each term's pull at the maps as a share of the pixel term's; ways: lengths by term."""
    title = "Each term's pull at the maps of the runaway face, as a share of the pixel term's"
    figure, axes = charts(11.5, 4.2, len(ways), title=title, sharey=True)
    for axis, colour, (words, lengths) in zip(axes, (RED, BLUE), ways.items(), strict=True):
        shares = {TERMS[name]: length / lengths["pixel"] for name, length in lengths.items()}
        colours = [GREY] * 2 + [colour] * 6  # of the photo, and of Eq. 12's other terms
        bars(axis, shares, "{:.2g}", colours=colours, xscale="log", xlim=(1e-8, 200), title=words)
    return figure


@torch.no_grad()
def draw_map(face: Face, offsets: Vertices) -> Float[Tensor, "1 3 224 224"]:
    """Offsets of the vertices as the map that they could have been read from, 0 beside the face."""
    image, mask = face.render(CROP_SIZE, attributes=offsets.contiguous(), near=None)
    return image * mask


def read_map(face: Face, offset_map: Float[Tensor, "1 3 224 224"]) -> Vertices:
    """The map at each vertex' place in the picture."""
    return sample_bilinear(offset_map, ndc_to_pixels(project_ndc(face.v_camera), CROP_SIZE))


def widening_figure(model: MorphableModel, map_symmetry: Callable) -> Image.Image:
    """A face grown wider on both sides, and what is left of it when Eq. 9 is to cost nothing."""
    mean, albedo = model.mean[None], model.albedo_mean[None]
    face, (x, y, _) = posed(model, mean, albedo, away=90), model.mean.T
    jaw = torch.sigmoid((-y - y.mean() - 5) / 12)  # and cheeks
    offset_map = draw_map(face, torch.stack([0.17 * x * jaw, 0 * x, 0 * x], -1)[None])
    negate_x = torch.tensor([-1.0, 1.0, 1.0])[:, None, None]
    ways = (
        ("x negated", offset_map.flip(-1) * negate_x, map_symmetry(offset_map, True)),
        ("x forgotten", offset_map.flip(-1), map_symmetry(offset_map, False)),
    )
    title = "A jaw that widens on both sides is symmetric, and only one of these flips knows it"
    figure, axes = panels(2, 5, size=2.5, title=title)
    limit = float(offset_map[:, 0].abs().max())
    for row, (name, flipped, cost) in zip(axes, ways, strict=True):
        moved = mean + read_map(face, (offset_map + flipped) / 2)
        picture(row[0], show_face(face, "studio"), "the base face")
        picture(row[1], offset_map[0, 0], "M: displacement in x", **signed(limit))
        picture(row[2], flipped[0, 0], f"flip(M), {name}", **signed(limit))
        apart, words = (offset_map - flipped)[0, 0], f"M − flip(M): Eq. 9 is {float(cost):,.0f}"
        panel = picture(row[3], apart, words, **signed(limit))
        left = show_face(posed(model, moved, albedo, away=90), "studio")
        picture(row[4], left, "what Eq. 9 leaves of it")
    figure.colorbar(panel, ax=axes[:, 3], label="mm", shrink=0.8)
    return drawn(figure)


def make_up(model: MorphableModel) -> Vertices:
    """A texture offset that is the same on both sides: brows, lips and cheeks."""
    colours = {"brows": (-0.35, -0.3, -0.25), "lips": (0.1, -0.35, -0.25)}
    colours["cheeks"] = (0.12, -0.1, -0.08)
    paint = sum(model.regions[name][:, None] * torch.tensor(c) for name, c in colours.items())
    return ((paint + paint[model.mirror]) / 2)[None]


def flip_panels(
    model: MorphableModel, map_symmetry: Callable, mesh_symmetry: Callable
) -> Callable[[int], Picture]:
    """draw(yaw) for `widgets.explore`: make-up on both sides of a face, its map, the map's flip,
    and the face with what image symmetry leaves; beside it, what either symmetry charges."""
    paint, yaws = make_up(model), range(-60, 61, 10)

    def turned(yaw: float) -> tuple[Face, Tensor]:
        face = posed(model, model.mean[None], model.albedo_mean[None], yaw, away=90)
        return face, draw_map(face, paint)

    maps = [turned(yaw)[1] for yaw in yaws]
    shares = [100 * float(map_symmetry(m, False) / (2 * m.square().sum())) for m in maps]
    on_mesh = 100 * float(mesh_symmetry(paint, model.mirror, False))

    def plot(axes) -> None:
        lines = {"flip the map": shares, "mirror vertices": [on_mesh] * len(yaws)}
        labels = dict(xlabel="yaw, degrees", title="What Eq. 9 charges, % of the most")
        labels |= dict(legend=dict(fontsize=8, loc="upper center", ncols=2), ylim=(-4, 118))
        curves(axes[0], lines, yaws, colours=(RED, BLUE), **labels)

    chart = Curves(plot, 1, (290, 200))

    def draw(yaw: int) -> Picture:
        face, offset_map = turned(yaw)
        flipped = offset_map.flip(-1)
        left = read_map(face, (offset_map + flipped) / 2)
        faces = [replace(face, albedo=face.albedo + offsets) for offsets in (paint, left)]
        made_up, ghost = (show_face(face, "unlit", 174) for face in faces)
        names = ["a face made up", "its texture map M", "flip(M)", "what Eq. 9 leaves"]
        images = [made_up, to_uint8(0.5 + offset_map[0]), to_uint8(0.5 + flipped[0]), ghost]
        return panel_row(dict(zip(names, images, strict=True)), chart.marked([yaw]))

    return draw


def smoothing_figure(
    model: MorphableModel, shapes: Mapping[str, Vertices], base: Vertices, title: str
) -> Image.Image:
    """Faces beside each other, each with its mean distance from the base face."""
    figure, axes = panels(2, len(shapes), size=2.1, title=title)
    middle = model.regions["skin"] * (1 - model.regions["border"]) > 0.5
    for column, (name, vertices) in zip(axes.T, shapes.items(), strict=True):
        apart = float((vertices - base)[:, middle].norm(dim=-1).mean())
        views = [posed(model, vertices, 0 * vertices, yaw, away=60) for yaw in (0, 70)]
        words = f"{name}\n{apart:.1f} mm from the base"
        fill(column, [show_face(view, "shape") for view in views], [words])
    return drawn(figure)
