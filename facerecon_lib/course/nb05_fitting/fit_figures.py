"""Figures of notebook 05 about fits: films, faces side by side, millimetres."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import matplotlib
import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from matplotlib.figure import Figure
from PIL import Image, ImageDraw
from torch import Tensor

from ...face.coefficients import FaceCoefficients
from ...face.lighting import shade
from ...face.measures import albedo_error
from ...face.morphable_model import MorphableModel
from ...pictures.faces import on_photo, show_face, studio_light, to_uint8, turned
from ...rendering.synthesis import Face, synthesise
from ..drawing.panels import shape_view
from ..drawing.style import font, panels, picture
from .photo_fits import Target, shape_errors

ERROR_MM = 4.0
"""End of the colour scale of maps in mm."""


@torch.no_grad()
def fit_rows(
    model: MorphableModel,
    image: Float[Tensor, "1 3 h w"],
    found: Mapping[str, FaceCoefficients],
    title: str,
    rows: int = 3,
) -> Figure:
    """One column a fit: on the photo; its shape from the front; turned."""
    wide = len(found) < 3 and rows == 3  # a row a fit reads better than two tall columns
    if wide:
        figure, axes = panels(len(found), 3, size=2.6, title=title, head=0.5)
    else:
        figure, axes = panels(rows, len(found), size=2.1, title=title, head=0.5)
        axes = axes.T
    for places, (name, c) in zip(axes, found.items(), strict=True):
        picture(places[0], on_photo(image, synthesise(model, c)), name)
        if rows > 1:
            picture(places[1], shape_view(model, c), "its shape" if wide else "")
        if rows > 2:
            picture(places[2], shape_view(model, c, 40, "studio"), "turned" if wide else "")
    return figure


@torch.no_grad()
def monster_figure(
    model: MorphableModel, image: Tensor, c: FaceCoefficients, history: Sequence[float]
) -> Figure:
    """A loss that falls, and the face that it falls to."""
    title = "The loss falls, and the face becomes a monster"
    figure, axes = panels(1, 4, size=2.7, title=title, head=0.6)
    axis = axes[0, 0]
    axis.plot(history, color="#b3202c", linewidth=2)
    axis.set(xlabel="step", ylabel="landmark loss, px", ylim=(0, None))
    picture(axes[0, 1], on_photo(image, synthesise(model, c)), "on the photo")
    picture(axes[0, 2], shape_view(model, c), "its shape")
    picture(axes[0, 3], shape_view(model, c, 40, "studio"), "turned")
    return figure


@torch.no_grad()
def film_frames(
    model: MorphableModel,
    image: Tensor,
    states: Mapping[str, FaceCoefficients],
    size: int = 168,
) -> list[UInt8[np.ndarray, "height width 3"]]:
    """The photo, the fit on it, and turned, at each of the named states; the last is held."""
    photo = F.interpolate(image, (size, size), mode="bilinear", align_corners=False)
    left, frames = to_uint8(photo[0]), []
    for name, c in states.items():
        panels = [left, on_photo(image, synthesise(model, c), size, fine=1)]
        joined = Image.fromarray(np.concatenate([*panels, shape_view(model, c, 30, size=size)], 1))
        pen = ImageDraw.Draw(joined)
        style = dict(fill=(255, 255, 255), stroke_width=2, stroke_fill=(0, 0, 0))
        pen.text((size + 5, 3), name, font=font(13), **style)
        frames.append(np.asarray(joined))
    return frames + [frames[-1]] * 5


@torch.no_grad()
def step_panel(
    model: MorphableModel,
    image: Tensor,
    states: Sequence[FaceCoefficients],
    values: Sequence[tuple[float, float]],
    step: int,
    size: int = 216,
) -> UInt8[np.ndarray, "height width 3"]:
    """The fit at one state: on the photo, turned, and where on its loss curves it is."""
    c = states[step]
    chart = Image.new("RGB", (size, size), (255, 255, 255))
    pen = ImageDraw.Draw(chart)
    for which, (label, unit, factor, colour) in enumerate(
        (("pixel loss", "/ 1000", 1000, (26, 127, 55)), ("landmark loss", "px", 1, (179, 32, 44)))
    ):
        top, height = 26 + which * size // 2, size // 2 - 40
        curve = np.array([v[which] for v in values])
        x = 10 + np.arange(len(curve)) / max(len(curve) - 1, 1) * (size - 20)
        y = top + height * (1 - curve / curve.max())
        pen.line([*zip(x.tolist(), y.tolist(), strict=True)], fill=colour, width=2)
        at = float(x[step]), float(y[step])
        pen.ellipse((at[0] - 5, at[1] - 5, at[0] + 5, at[1] + 5), fill=colour)
        text = f"{label}: {factor * curve[step]:.1f} {unit}"
        pen.text((10, top - 24), text, fill=colour, font=font(15))
    view = turned(model, c, 35)
    light = studio_light().to(view.albedo)
    grey = shade(torch.full_like(view.albedo, 0.78), view.normals, light)
    turned_face, covered = view.render(size, attributes=grey)
    turned_face = to_uint8((turned_face + (1 - covered) * 0.96)[0])
    panels = [on_photo(image, synthesise(model, c), size, fine=1), turned_face]
    joined = Image.fromarray(np.concatenate([*panels, np.asarray(chart)], 1))
    return np.asarray(joined)


@torch.no_grad()
def ablation_table(
    model: MorphableModel,
    target: Target,
    found: Mapping[str, FaceCoefficients],
    pixel_term: Callable[[Face, Target], Tensor],
    landmark_term: Callable[[Tensor, Tensor], Tensor],
    recognition_term: Callable[[Face, Target], Tensor],
) -> Figure:
    """Every loss of every fit, whether it was fitted to it or not."""
    rows = {}
    for name, c in found.items():
        face = synthesise(model, c)
        rows[name] = [
            f"{float(landmark_term(face.landmarks('2d'), target.landmarks)):.1f}",
            f"{1000 * float(pixel_term(face, target)):.1f}",
            f"{float(recognition_term(face, target)):.1f}",
            f"{float(c.identity.pow(2).mean().sqrt()):.1f}",
            f"{float(c.identity.abs().max()):.1f}",
        ]
    columns = ["landmarks, px", "pixels / 1000", "recognition", "identity, rms sd", "largest, sd"]
    return table_figure(columns, rows, "Every loss of every fit; 1 standard deviation is ordinary")


@torch.no_grad()
def table_figure(columns: Sequence[str], rows: Mapping[str, Sequence[str]], title: str) -> Figure:
    """A table as a picture: results of a long optimisation, whose last digits differ by machine."""
    figure = Figure(
        (1.55 * len(columns) + 3.2, 0.55 + 0.28 * (len(rows) + 1)), facecolor="white", layout="none"
    )
    axis = figure.subplots()
    figure.subplots_adjust(0.01, 0.01, 0.99, 0.86)
    axis.axis("off")
    axis.set_title(title, fontsize=11)
    drawn = axis.table(
        [[name, *cells] for name, cells in rows.items()],
        colLabels=["", *columns],
        colWidths=[3.0 / (1.55 * len(columns) + 3.2)]
        + [1.55 / (1.55 * len(columns) + 3.2)] * len(columns),
        loc="upper center",
        cellLoc="center",
    )
    drawn.auto_set_font_size(False)
    drawn.set_fontsize(9.5)
    drawn.scale(1, 1.55)
    for (row, column), cell in drawn.get_celld().items():
        cell.set_edgecolor("0.85")
        if row == 0:
            cell.set_facecolor("#e8ecf1")
        if column == 0:
            cell.get_text().set_ha("left")
            cell.PAD = 0.03
    return figure


@torch.no_grad()
def truth_figure(
    model: MorphableModel,
    truth: FaceCoefficients,
    found: Mapping[str, FaceCoefficients | None],
) -> Figure:
    """Shape and skin error of each face (dots) and the median over faces (bars), a row a fit."""
    skin, true = model.regions["skin"], model.albedo(truth.albedo).clamp(0, 1)
    figure = Figure((10.5, 0.9 + 0.46 * len(found)), layout="constrained", facecolor="white")
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=[1.3, 1])
    for y, c in zip(range(len(found))[::-1], found.values(), strict=True):
        mm = shape_errors(model, c, truth).median(1).values
        skins = model.albedo_mean.expand_as(true) if c is None else model.albedo(c.albedo)
        rgb = albedo_error(skins.clamp(0, 1), true, skin)["rgb"]
        colour = "0.5" if c is None else "#2f6fad"
        for axis, each, form in ((left, mm, "{:.2f}"), (right, rgb, "{:.3f}")):
            each = each.cpu().numpy()
            axis.barh(y, np.median(each), height=0.62, color=colour, alpha=0.3)
            axis.scatter(each, np.full(len(each), y), s=22, color=colour, zorder=3)
            text = form.format(np.median(each))
            axis.text(each.max() * 1.03, y, text, fontsize=9, va="center")
    left.set_yticks(range(len(found))[::-1], list(found))
    left.set(xlabel="vertex error, mm, after similarity alignment", title="Shape: priors buy most")
    right.set(xlabel="error of the skin's colour, of 1", title="Skin: only pixels tell")
    return figure


@torch.no_grad()
def heat_figure(
    model: MorphableModel,
    truth: FaceCoefficients,
    image: Tensor,
    found: Mapping[str, FaceCoefficients | None],
    faces: Sequence[int],
    title: str,
) -> Figure:
    """The photo, the true shape, and each fit's error painted on it, mm."""
    figure, axes = panels(len(faces), 2 + len(found), size=2.15, title=title, head=0.5)
    colours = matplotlib.colormaps["viridis"]
    for row, b in zip(axes, faces, strict=True):
        head = b == faces[0]
        picture(row[0], to_uint8(image[b]), "the photo" if head else "")
        picture(row[1], shape_view(model, truth[b]), "the truth" if head else "")
        for axis, (name, c) in zip(row[2:], found.items(), strict=True):
            error = shape_errors(model, None if c is None else c[b], truth[b])
            paint = torch.tensor(colours((error[0] / ERROR_MM).clamp(0, 1).cpu().numpy())[:, :3])
            face = turned(model, truth[b], 0.0)
            view, mask = face.render(440, attributes=paint[None].float().to(model.device))
            view = F.avg_pool2d(view + (1 - mask) * 0.96, 2)
            label = f"{name}\n" if head else ""
            picture(axis, to_uint8(view[0]), f"{label}median {float(error.median()):.1f} mm")
    scale = matplotlib.cm.ScalarMappable(matplotlib.colors.Normalize(0, ERROR_MM), colours)
    figure.colorbar(scale, ax=axes[:, -1], shrink=0.8, label="distance to the true vertex, mm")
    return figure


@torch.no_grad()
def sweep_figure(strengths: Sequence[float], errors: Tensor, fits: Tensor, mean: Tensor) -> Figure:
    """The priors' strength against millimetres (thin: each face) and against the landmark loss."""
    figure = Figure((9.5, 3.6), layout="constrained", facecolor="white")
    left, right = figure.subplots(1, 2)
    errors, fits = errors.cpu().numpy(), fits.cpu().numpy()
    places, mean_mm = range(len(strengths)), float(mean.median(1).values.median())
    left.plot(places, errors, color="#2f6fad", alpha=0.3, linewidth=1)
    left.plot(places, np.median(errors, 1), color="#2f6fad", linewidth=2.6, label="fits, median")
    left.axhline(mean_mm, color="0.4", linestyle=":", label="the mean face")
    left.set(ylabel="vertex error, mm", title="The truth: a valley between monster and mean")
    left.set_ylim(0, None)
    right.plot(places, np.median(fits, 1), color="#b3202c", linewidth=2.6)
    right.set(ylabel="landmark loss, px", ylim=(0, None))
    right.set_title("The loss: it only sees that the prior is in its way")
    for axis in (left, right):
        axis.set_xticks(places, [f"{v:g}" for v in strengths])
        axis.set_xlabel("strength of the priors (1 = FIT_WEIGHTS)")
        axis.axvline(list(strengths).index(1), color="0.8", linewidth=1, zorder=0)
    left.legend(frameon=False, fontsize=9)
    return figure


def mm_between(model: MorphableModel, a: FaceCoefficients, b: FaceCoefficients) -> float:
    """Mean distance in mm of two fits' vertices after similarity alignment."""
    with torch.no_grad():
        return float(shape_errors(model, a, b).mean())


@torch.no_grad()
def skins_figure(
    model: MorphableModel,
    image: Tensor,
    faces: Mapping[str, FaceCoefficients],
    values: Sequence[float],
) -> Figure:
    """In the picture, and out of its light."""
    title = "Above: nearly one picture. Below: three different people's skin"
    figure, axes = panels(2, len(faces), size=2.35, title=title, head=0.5)
    for column, (name, c), value in zip(axes.T, faces.items(), values, strict=True):
        face = synthesise(model, c)
        picture(column[0], on_photo(image, face), f"{name}\nEq. 4: {value:.1f} / 1000")
        picture(column[1], show_face(face, "unlit", 220))
    for axis in axes[1]:
        axis.set_title("its skin, without light", fontsize=10)
    return figure


@torch.no_grad()
def disguise_figure(
    model: MorphableModel,
    target: Target,
    behind: Mapping[str, FaceCoefficients],
    without: Mapping[str, FaceCoefficients],
) -> Figure:
    """The disguised photo, and what the glasses did to each fit."""
    figure, axes = panels(
        1, 1 + 2 * len(behind), size=2.55, title="Sunglasses are not a face", head=0.5
    )
    picture(axes[0, 0], to_uint8(target.image[0]), "the disguised photo\n")
    for i, (name, c) in enumerate(behind.items()):
        mm = mm_between(model, c, without[name])
        picture(axes[0, 1 + 2 * i], show_face(synthesise(model, c), "unlit", 220), f"{name}:\nskin")
        picture(
            axes[0, 2 + 2 * i], shape_view(model, c), f"{mm:.1f} mm from its fit\nwithout glasses"
        )
    return figure


@torch.no_grad()
def align_figure(
    model: MorphableModel, truth: FaceCoefficients, found: Mapping[str, FaceCoefficients | None]
) -> Figure:
    """Median vertex errors with the size free, and with the size as the fit says it is."""
    kinds = {"similarity: turned, moved, scaled": "similarity", "rigid: turned and moved": "rigid"}
    figure = Figure((10, 2.3), layout="constrained", facecolor="white")
    axis = figure.subplots()
    for j, (label, how) in enumerate(kinds.items()):
        for i, c in enumerate(found.values()):
            value = np.median(shape_errors(model, c, truth, how).median(1).values.cpu())
            y = -i - 0.38 * j
            colour = ("#2f6fad", "#b9cfe4")[j]
            axis.barh(y, value, 0.34, color=colour, label=label if i == 0 else None)
            axis.text(value + 0.03, y, f"{value:.2f}", va="center", fontsize=9)
    axis.set_yticks([-i - 0.19 for i in range(len(found))], list(found))
    axis.set(xlabel="median vertex error, mm", title="Whether the size counts makes a difference")
    axis.legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure
