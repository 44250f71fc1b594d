"""Figures about fits: films, faces side by side, millimetres.

Notebook 05, Eq. 7.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from PIL import Image, ImageDraw
from torch import Tensor

from ...face.batch import FaceBatch
from ...face.coefficients import FaceCoefficients
from ...face.measures import albedo_error
from ...face.morphable_model import MorphableModel
from ...pictures.faces import Picture, on_photo, show_face, to_uint8
from ...rendering.synthesis import synthesise
from ..drawing import style
from ..drawing.panels import error_view, shape_errors, shape_view, three_views
from ..drawing.style import BLUE, GREEN, GREY, RED
from .photo_fits import FaceLoss, PointLoss

Fits = Mapping[str, FaceCoefficients | None]  # None: the mean face
ERROR_MM = 4.0  # end of the colour scale of maps in mm


def fit_rows(model: MorphableModel, image: Tensor, fits: Fits, title: str) -> Figure:
    """Three views of each fit: one fit's in a row, else a column per fit."""
    one = len(fits) == 1
    shape, others = (
        ((1, 3, 2.6), ("its shape", "turned")) if one else ((3, len(fits), 1.9), ("", ""))
    )
    figure, axes = style.panels(*shape, title=title, head=0.5)
    views = [view for c in fits.values() for view in three_views(model, image, c)]
    style.fill(axes.T, views, [words for name in fits for words in (name, *others)])
    return figure


def monster_figure(
    model: MorphableModel, image: Tensor, c: FaceCoefficients, history: Sequence[float]
) -> Figure:
    """A loss that falls, and the face that it falls to."""
    title = "The loss falls, and the face becomes a monster"
    figure, axes = style.panels(1, 4, size=2.7, title=title, head=0.6)
    labels = dict(xlabel="step", ylabel="landmark loss, px", ylim=(0, None))
    style.curves(axes[0, 0], {"loss": history}, colours=(RED,), **labels)
    style.fill(axes[0, 1:], three_views(model, image, c), ("on the photo", "its shape", "turned"))
    return figure


def film_frames(model: MorphableModel, image: Tensor, states: Fits) -> list[Picture]:
    """The photo, the fit on it, and turned, at each of the named states; the last is held."""
    size = 160
    photo = F.interpolate(image, (size, size), mode="bilinear", align_corners=False)
    frames = []
    for name, c in states.items():
        fit = on_photo(image, synthesise(model, c), size, fine=1)
        views = [to_uint8(photo[0]), fit, shape_view(model, c, 30, size=size)]
        frame = Image.fromarray(np.concatenate(views, 1))
        form = dict(fill="white", stroke_width=2, stroke_fill="black", font=style.font(13))
        ImageDraw.Draw(frame).text((size + 5, 3), name, **form)
        frames.append(np.asarray(frame))
    return frames + [frames[-1]] * 5


def step_panel(
    model: MorphableModel,
    image: Tensor,
    states: Sequence[FaceCoefficients],
    values: Sequence[tuple[float, float]],
    step: int,
) -> Picture:
    """The fit at one state: on the photo, turned, and where on its loss curves it is."""
    size = 216
    figure, axes = style.charts(3.2, size / 90, rows=2, sharex=True)
    labels = ("pixels / 1000", 1000, RED), ("landmarks, px", 1, GREEN)
    for axis, losses, (label, factor, colour) in zip(axes, np.array(values).T, labels, strict=True):
        losses = factor * losses
        axis.plot(losses, color=colour, linewidth=2)
        axis.plot(step, losses[step], "o", color=colour, markersize=8)
        axis.set_title(f"{label}: {losses[step]:.1f}", fontsize=10, color=colour)
        axis.set(ylim=(0, None))
        axis.tick_params(labelsize=8)
    axes[1].set_xlabel("state of the fit", fontsize=9)
    fit = on_photo(image, synthesise(model, states[step]), size, fine=1)
    side = shape_view(model, states[step], 35, size=size)
    return np.concatenate([fit, side, style.pixels(figure, 90)], 1)


@torch.no_grad()
def ablation_table(
    model: MorphableModel,
    target: FaceBatch,
    fits: Fits,
    pixel_term: FaceLoss,
    landmark_term: PointLoss,
    recognition_term: FaceLoss,
) -> Figure:
    """Every loss of every fit, whether it was fitted to it or not."""
    columns = ["landmarks, px", "pixels / 1000", "recognition", "identity, rms sd", "largest, sd"]
    rows = []
    for name, c in fits.items():
        face = synthesise(model, c)
        numbers = (
            landmark_term(face.landmarks("2d"), target.landmarks),
            1000 * pixel_term(face, target),
            recognition_term(face, target),
            c.identity.square().mean().sqrt(),
            c.identity.abs().max(),
        )
        rows.append([name, *(f"{float(number):.1f}" for number in numbers)])
    wide = 3.2 + 1.55 * len(columns)
    figure = Figure((wide, 0.55 + 0.28 * (len(rows) + 1)), facecolor="white", layout="none")
    axis = figure.subplots()
    figure.subplots_adjust(0.01, 0.01, 0.99, 0.86)
    axis.set_title("Every loss of every fit; 1 standard deviation is ordinary", fontsize=11)
    widths = [3.0 / wide] + [1.55 / wide] * len(columns)
    labels = dict(colLabels=["", *columns], colWidths=widths, loc="upper center")
    for (row, column), cell in style.table(axis, rows, 9.5, 1.55, **labels).get_celld().items():
        if row == 0:
            cell.set_facecolor("#e8ecf1")
        if column == 0:
            cell.get_text().set_ha("left")
            cell.PAD = 0.03
    return figure


def truth_figure(model: MorphableModel, truth: FaceCoefficients, fits: Fits) -> Figure:
    """Shape and skin error of each face (dots) and the median over faces (bars), a row per fit."""
    skin, true = model.regions["skin"], model.albedo(truth.albedo).clamp(0, 1)
    form = dict(sharey=True, width_ratios=[1.3, 1])
    figure, (left, right) = style.charts(10.5, 0.9 + 0.46 * len(fits), 2, **form)
    places = range(len(fits))[::-1]
    for y, c in zip(places, fits.values(), strict=True):
        albedo = model.albedo_mean.expand_as(true) if c is None else model.albedo(c.albedo)
        rgb = albedo_error(albedo.clamp(0, 1), true, skin)["rgb"]
        mm, colour = shape_errors(model, c, truth).median(1).values, GREY if c is None else BLUE
        style.median_bar(left, y, mm, "{:.2f}", colour, 0.62)
        style.median_bar(right, y, rgb, "{:.3f}", colour, 0.62)
    left.set_yticks(places, list(fits))
    left.set(xlabel="vertex error, mm, after similarity alignment", title="Shape: points buy most")
    right.set(xlabel="error of the skin's colour, of 1", title="Skin: only pixels tell")
    return figure


def heat_figure(
    model: MorphableModel,
    truth: FaceCoefficients,
    image: Tensor,
    fits: Fits,
    faces: Sequence[int],
    title: str,
) -> Figure:
    """The photo, the true shape, and each fit's error painted on it, mm."""
    figure, axes = style.panels(len(faces), 2 + len(fits), size=2.15, title=title, head=0.5)
    for row, b in zip(axes, faces, strict=True):
        head = b == faces[0]
        images, names = [to_uint8(image[b]), shape_view(model, truth[b])], []
        for name, c in fits.items():
            error = shape_errors(model, None if c is None else c[b], truth[b])[0]
            images.append(error_view(model, truth[b], error, ERROR_MM))
            names.append(f"{name}\n" * head + f"median {float(error.median()):.1f} mm")
        style.fill(row, images, ["the photo" * head, "the truth" * head, *names])
    label = "distance to the true vertex, mm"
    style.colour_bar(figure, ERROR_MM, label, ax=axes[:, -1], shrink=0.8)
    return figure


def sweep_figure(strengths: Sequence[float], errors: Tensor, fits: Tensor, mean: Tensor) -> Figure:
    """The priors' strength against millimetres (thin: each face) and against the landmark loss."""
    figure, (left, right) = style.charts(9.5, 3.6, 2)
    errors, fits = errors.cpu().numpy(), fits.cpu().numpy()
    left.plot(errors, color=BLUE, alpha=0.3, linewidth=1)
    title = "The truth: a valley between monster and mean"
    medians = {"fits, median": np.median(errors, 1)}
    labels = dict(ylabel="vertex error, mm", ylim=(0, None), title=title)
    style.curves(left, medians, width=2.6, **labels)
    mean_mm = float(mean.median(1).values.median())
    left.axhline(mean_mm, color="0.4", linestyle=":", label="the mean face")
    title = "The loss: it only sees that the prior is in its way"
    labels = dict(ylabel="landmark loss, px", ylim=(0, None), title=title)
    style.curves(right, {"loss": np.median(fits, 1)}, colours=(RED,), width=2.6, **labels)
    for axis in (left, right):
        axis.set_xticks(range(len(strengths)), [f"{v:g}" for v in strengths])
        axis.set_xlabel("strength of the priors (1 = FIT_WEIGHTS)")
        axis.axvline(list(strengths).index(1), color="0.8", linewidth=1, zorder=0)
    style.add_legend(left)
    return figure


def skins_figure(
    model: MorphableModel, image: Tensor, faces: Fits, values: Sequence[float]
) -> Figure:
    """In the picture, and out of its light."""
    title = "Above: on the photo. Below: three different people's skin"
    views = [synthesise(model, c) for c in faces.values()]
    images = [on_photo(image, face) for face in views]
    images += [show_face(face, "unlit", 220) for face in views]
    names = [f"{name}\nEq. 4: {v:.1f} / 1000" for name, v in zip(faces, values, strict=True)]
    names += ["its skin, without light"] * len(views)
    figure, axes = style.panels(2, len(views), size=2.15, title=title, head=0.5)
    style.fill(axes, images, names)
    return figure


def disguise_figure(
    model: MorphableModel, target: FaceBatch, behind: Fits, without: Fits
) -> Figure:
    """The disguised photo, and what the glasses did to each fit."""
    images, names = [to_uint8(target.image[0])], ["the disguised photo\n"]
    for name, c in behind.items():
        mm = float(shape_errors(model, c, without[name]).mean())
        images += [show_face(synthesise(model, c), "unlit", 220), shape_view(model, c)]
        names += [f"{name}:\nskin", f"{mm:.1f} mm from its fit\nwithout glasses"]
    title = "Sunglasses are not a face"
    figure, axes = style.panels(1, len(images), size=2.55, title=title, head=0.5)
    style.fill(axes, images, names)
    return figure


def align_figure(model: MorphableModel, truth: FaceCoefficients, fits: Fits) -> Figure:
    """Median vertex errors with the size free, and with the size as the fit says it is."""
    ways = {"similarity: turned, moved, scaled": BLUE, "rigid: turned and moved": "#b9cfe4"}
    figure, axis = style.charts(10, 2.3)
    for j, (label, colour) in enumerate(ways.items()):
        align = label.partition(":")[0]
        medians = [shape_errors(model, c, truth, align).median(1).values for c in fits.values()]
        values = [float(np.median(mm.cpu())) for mm in medians]
        places = [-i - 0.38 * j for i in range(len(fits))]
        drawn = axis.barh(places, values, 0.34, color=colour, label=label)
        axis.bar_label(drawn, fmt="%.2f", padding=3, fontsize=9)
    axis.set_yticks([-i - 0.19 for i in range(len(fits))], list(fits))
    axis.set(xlabel="median vertex error, mm", title="Whether the size counts makes a difference")
    style.add_legend(axis, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def steps_figure(
    model: MorphableModel, image: Tensor, energies: Mapping[str, Sequence[float]], fits: Fits
) -> Figure:
    """The energy of each method step by step, and faces on the way."""
    title = "The same energy, two ways down"
    figure, axes = style.charts(11, 3.2, 1 + len(fits), title=title, width_ratios=[1.5, 1, 1, 1])
    for (name, values), colour in zip(energies.items(), (RED, GREEN), strict=True):
        axes[0].plot(values, "o-", color=colour, markersize=3, label=name)
    ticks = [200, 300, 500, 1000, 2000]
    axes[0].set(xlabel="step", ylabel="energy E", yscale="log")
    axes[0].set_yticks(ticks, ticks)
    axes[0].minorticks_off()
    style.add_legend(axes[0])
    images = [on_photo(image, synthesise(model, c)) for c in fits.values()]
    style.fill(axes[1:], images, [f"\n{name}" for name in fits])
    return figure
