"""Figures: uv maps, faces by three models, what terms do, paths and outliers.

Notebook 12.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from ...augmented.uv_space import uv_layout
from ...beyond.nonlinear_model import FaceMaps, NonlinearModel
from ...face.morphable_model import MorphableModel
from ...face.shapes import Vertices
from ...files.weights import shipped_file
from ...pictures.faces import on_photo, show_face, to_uint8, turned_mesh, value_map
from ...rendering.rasterizer import rasterize
from ...rendering.renderer import interpolate
from ..drawing import style
from ..drawing.panels import FacePainter, upright_rows
from ..drawing.style import BLUE, GREY, RED, charts, drawn, panels, picture, signed, sized
from .study import Answers, Parts, posed

SHIPPED_LOG = shipped_file("nonlinear_model_log.jsonl")


@torch.no_grad()
def on_map(values: Vertices, model: MorphableModel, size: int = 64) -> Float[Tensor, "3 s s"]:
    """Values of the vertices (V, 3), painted where they lie in a uv map; white beside."""
    layout = uv_layout(model)
    depth = layout.height.max() + 1 - layout.height
    places = torch.cat([1 - 2 * layout.uv, depth[:, None]], 1)[None]
    u = layout.uv[model.faces, 0]
    faces = model.faces[u.amax(1) - u.amin(1) < 0.5]
    fragments = rasterize(places, faces, size)
    image = interpolate(fragments, faces, values[None].contiguous())[0, ..., 0, :]
    inside = fragments.pix_to_face[0, ..., 0, None] >= 0
    return torch.where(inside, image, 1.0).permute(2, 0, 1)


def first_screen(
    photo: Float[Tensor, "1 3 s s"],
    seen: Answers,
    nonlinear: NonlinearModel,
    model: MorphableModel,
) -> Image.Image:
    """Photo, both maps, the face that they make, and it turned."""
    vertices, albedo = (x[:1] for x in seen.parts["nonlinear"])
    face = posed(model, seen.encoded[:1], (vertices, albedo))
    side = turned_mesh(model, vertices, albedo, 40.0)
    colours = on_map(nonlinear.mean[1], model) + seen.maps.albedo[0]
    forward = seen.maps.shape[0, 2].masked_fill(outside(model), torch.nan)
    figure, axes = charts(13.6, 3.4, 5, 1, "A photo, two pictures that a decoder painted, a face")
    picture(axes[0], to_uint8(photo[0]), "the photo")
    picture(axes[1], to_uint8(colours.clamp(0, 1)), "albedo: mean and painted offset")
    panel = picture(axes[2], forward, "shape: mm out of the mean face", **signed(6))
    figure.colorbar(panel, ax=axes[2], shrink=0.75)
    picture(axes[3], on_photo(photo, face, 300), "on the photo")
    picture(axes[4], show_face(side, "studio", 300), "turned, in the studio")
    return drawn(figure)


def outside(model: MorphableModel, size: int = 64) -> Tensor:
    """(size, size) True where no vertex of the mesh is near in the map."""
    return (on_map(torch.zeros_like(model.mean), model, size) > 0.5).all(0)


def layout_figure(nonlinear: NonlinearModel, model: MorphableModel) -> Image.Image:
    """The mean albedo's map with the vertices, and the mouth with its texels."""
    uv, exposed = uv_layout(model).uv, uv_layout(model).exposed > 0
    image = on_map(nonlinear.mean[1], model, 256)
    figure, axes = charts(11.0, 5.2, 2, 1, "Where the vertices lie in a map")
    for axis, words in zip(axes, ("all of it", "around the mouth, with 64 texels"), strict=True):
        axis.imshow(to_uint8(image.clamp(0, 1)), extent=(0, 1, 1, 0))
        for rows, colour, name in ((exposed, BLUE, "seen"), (~exposed, RED, "covered by others")):
            axis.scatter(*uv[rows].T, s=3, color=colour, label=name, linewidths=0)
        axis.set_title(words)
    axes[0].axis("off")
    points = uv[model.landmarks[48:68]]
    (left, top), (right, bottom) = points.amin(0) - 0.04, points.amax(0) + 0.04
    axes[1].set(xlim=(left, right), ylim=(bottom, top))
    axes[1].set_xticks(np.arange(0, 65) / 64, labels=[])
    axes[1].set_yticks(np.arange(0, 65) / 64, labels=[])
    axes[1].set(xlim=(left, right), ylim=(bottom, top))
    axes[1].grid(color="white", lw=0.8)
    axes[1].legend(loc="lower right", markerscale=3, fontsize=9)
    return drawn(figure)


def limits_figure(sizes: Sequence[int], shape: Tensor, albedo: Tensor) -> Figure:
    """What the best map of each size loses."""
    figure, axes = charts(9.0, 3.2, 2, 1, "What the best possible map of each size loses, on skin")
    for axis, lost, words in ((axes[0], shape, "mm"), (axes[1], albedo, "colour, of 0 to 1")):
        axis.plot(sizes, lost, "o-", color=BLUE)
        axis.set(xlabel="texels per side", ylabel=words, ylim=(0, None))
        axis.set_xticks(sizes)
    return figure


def learning_figure(losses: Sequence[float], pca: float, rows: Mapping) -> Image.Image:
    """The autodecoder's loss beside PCA's, and faces: truth, PCA, learned."""
    figure = style.page(12.6, 4.4, "A decoder learns 48 skins in a few seconds")
    left, right = figure.subfigures(1, 2, width_ratios=(1, 1.9))
    axis = left.subplots()
    axis.plot(losses, color=BLUE, label="the decoder")
    axis.axhline(pca, color=RED, ls="--", label="PCA, as many coefficients")
    axis.set(xlabel="step", ylabel="colour error on these faces", ylim=(0, None))
    axis.legend(fontsize=9)
    axes = right.subplots(len(rows), len(next(iter(rows.values()))))
    for line, (name, images) in zip(axes, rows.items(), strict=True):
        style.fill(line, images, name=name)
    return drawn(figure)


def albedo_picture(model: MorphableModel, albedo: Vertices, size: int = 200) -> np.ndarray:
    """An albedo on the mean face, unlit."""
    return show_face(turned_mesh(model, model.mean[None], albedo[None], 0.0), "unlit", size)


def terms_figure(
    model: MorphableModel,
    photo: Float[Tensor, "1 3 s s"],
    albedos: Mapping[str, Vertices],
    words: Mapping[str, str],
    truth: Vertices,
) -> Image.Image:
    """The photo, the skin that each choice of terms paints, unlit, and the true one."""
    title = "One photo, lit from the side: what is painted on the skin"
    figure, axes = panels(1, len(albedos) + 2, 2.4, title, 0.35)
    picture(axes[0, 0], to_uint8(photo[0]), "the photo")
    for axis, (name, albedo) in zip(axes[0, 1:-1], albedos.items(), strict=True):
        picture(axis, albedo_picture(model, albedo.clamp(0, 1)), f"{name}: {words[name]}")
    picture(axes[0, -1], albedo_picture(model, truth), "the truth")
    return drawn(figure)


def maps_figure(maps: FaceMaps, model: MorphableModel) -> Image.Image:
    """Proxies and details of three faces: albedo about grey, shape's length in mm."""
    rows = ("albedo: proxy", "albedo: details, x 3", "shape: proxy", "shape: details")
    hidden, count = outside(model), len(maps.shape)
    figure, axes = panels(count, 4, 2.3, "What the proxy paints, and what the details add")
    for line, i in zip(axes, range(count), strict=True):
        for axis, image, factor in (
            (line[0], maps.albedo_proxy[i], 1.0),
            (line[1], maps.albedo_detail[i], 3.0),
        ):
            colours = (0.5 + factor * image).clamp(0, 1).masked_fill(hidden, 1.0)
            picture(axis, to_uint8(colours))
        far = maps.shape_proxy[i].norm(dim=0).masked_fill(hidden, torch.nan)
        broad = picture(line[2], far, **sized(8))
        far = maps.shape_detail[i].norm(dim=0).masked_fill(hidden, torch.nan)
        fine = picture(line[3], far, **sized(0.8))
    for axis, name in zip(axes[0], rows, strict=True):
        axis.set_title(name, fontsize=11)
    figure.colorbar(broad, ax=axes[:, 2], label="mm", shrink=0.6)
    figure.colorbar(fine, ax=axes[:, 3], label="mm", shrink=0.6)
    return drawn(figure)


def beside_figure(
    model: MorphableModel,
    photos: Float[Tensor, "face 3 s s"],
    models: Mapping[str, Parts],
    chosen: Sequence[int],
    title: str,
) -> Image.Image:
    """Rows of faces: the photo, and the unlit face by each model, turned a little."""
    figure, axes = panels(len(chosen), 1 + len(models), 2.5, title, 0.35)
    for line, i in zip(axes, chosen, strict=True):
        picture(line[0], to_uint8(photos[i]))
        for axis, (vertices, albedo) in zip(line[1:], models.values(), strict=True):
            face = turned_mesh(model, vertices[i : i + 1], albedo[i : i + 1], 15.0)
            picture(axis, show_face(face, "studio", 260))
    for axis, name in zip(axes[0], ("the photo", *models), strict=True):
        axis.set_title(name, fontsize=11)
    return drawn(figure)


def errors_figure(
    model: MorphableModel,
    models: Mapping[str, Parts],
    truth: Parts,
    face: int,
    most: tuple[float, float] = (0.8, 0.12),
) -> Image.Image:
    """One face: where each model's shape and colour are off, on the true shape."""
    figure, axes = panels(2, len(models) + 1, 2.5, "Where they are off, coefficients fitted", 0.35)
    true = turned_mesh(model, truth[0][face : face + 1], truth[1][face : face + 1], 0.0)
    picture(axes[0, 0], show_face(true, "shape", 260), "the truth")
    picture(axes[1, 0], show_face(true, "unlit", 260))
    for column, (name, (vertices, albedo)) in zip(axes.T[1:], models.items(), strict=True):
        far = (vertices[face] - truth[0][face]).norm(dim=-1)
        off = (albedo[face] - truth[1][face]).abs().mean(-1)
        top = picture(column[0], value_map(true, far[None]), name, **sized(most[0]))
        low = picture(column[1], value_map(true, off[None]), **sized(most[1]))
    figure.colorbar(top, ax=axes[0], label="mm", shrink=0.8)
    figure.colorbar(low, ax=axes[1], label="colour", shrink=0.8)
    return drawn(figure)


def strip(
    model: MorphableModel, rows: Mapping[str, Vertices], columns: Sequence[str], title: str
) -> Figure:
    """A row of skins per model, on the mean face."""
    paint = FacePainter(model)
    pictures = [
        [paint(model.mean, albedo.clamp(0, 1), yaw=12, size=200) for albedo in albedos]
        for albedos in rows.values()
    ]
    return upright_rows(pictures, title=title, columns=columns, names=list(rows), size=1.45)


def pace_figure(paces: Mapping[str, Tensor]) -> Figure:
    """How far the face moves in each step of a path."""
    figure, axis = charts(6.4, 3.0, title="How much the face changes per step of the path")
    for (name, pace), colour in zip(paces.items(), (BLUE, RED, GREY), strict=False):
        axis.plot(range(1, len(pace) + 1), pace, "o-", color=colour, label=name)
    axis.set(xlabel="step", ylabel="change of colour", ylim=(0, None))
    axis.legend(fontsize=9)
    return figure


def outlier_figure(deviations: Sequence[float], lines: Mapping[str, Sequence[Tensor]]) -> Figure:
    """Distance from the mean skin, and the share of skin outside of colours, by deviations."""
    figure, axes = charts(10.0, 3.2, 2, 1, "Further out")
    labels = ("colour distance from the mean skin", "share of colours below 0 or above 1")
    for axis, i, label in zip(axes, (0, 1), labels, strict=True):
        for (name, values), colour in zip(lines.items(), (BLUE, RED), strict=False):
            axis.plot(deviations, values[i], "o-", color=colour, label=name)
        axis.set(xlabel="standard deviations", ylabel=label, ylim=(0, None))
    axes[0].legend(fontsize=9)
    return figure


def run_figure(records: Sequence[Mapping]) -> Figure:
    """A run's validations: shape and colour of three models."""
    steps = [r for r in records if r["kind"] == "validation"]
    figure, axes = charts(10.0, 3.0, 2, 1, "Held-out faces, from pixels, as training goes on")
    for axis, name, label in ((axes[0], "vertex_mm", "mm"), (axes[1], "albedo_rgb", "colour")):
        for prefix, words, colour in (
            ("", "nonlinear", BLUE),
            ("linear_", "linear", RED),
            ("base_", "the report's", GREY),
        ):
            values = [r[prefix + name] for r in steps]
            axis.plot([r["step"] for r in steps], values, "o-", color=colour, label=words, ms=4)
        axis.set(xlabel="step", ylabel=label)
    axes[0].legend(fontsize=9)
    return figure
