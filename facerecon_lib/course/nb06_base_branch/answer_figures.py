"""Figures of a trained encoder's answers: millimetres, by skin tone, yaw and start.

answers.errors_figure({"the mean face": a, "the encoder": b}, batch.tone, "The shape, in mm")

Notebook 06, section 2.1.
"""

from collections.abc import Callable, Mapping, Sequence

import matplotlib
import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor

from ...data.rendered.faces import RenderedFaces
from ...face.batch import FaceBatch
from ...face.coefficients import FaceCoefficients
from ...face.measures import landmark_error
from ...face.morphable_model import MorphableModel
from ...photos.crop import Crop
from ...pictures.faces import on_photo, to_uint8
from ...rendering.synthesis import synthesise
from ..drawing import style
from ..drawing.panels import error_view, shape_errors, shape_view, three_views
from ..drawing.sliders import Curves, Picture, panel_row
from ..drawing.style import BLUE, GREEN, GREY

State = tuple[int, FaceCoefficients, float]  # of a fit: steps, and the loss after them
ERROR_MM = 5.0  # end of the colour scale of maps in mm
TONES = {"tones 1 to 4": (1, 4), "5 to 7": (5, 7), "8 to 10": (8, 10)}


def errors_figure(
    errors: Mapping[str, Float[Tensor, " batch"]], tones: Tensor, title: str
) -> Figure:
    """Each face's mean error, one way beside the other, and the medians by skin tone."""
    figure, (left, right) = style.charts(10.4, 3.4, 2, title=title, width_ratios=[1, 1.2])
    (a, b), (before, after) = errors, errors.values()
    end = 1.08 * float(max(before.max(), after.max()))
    left.plot([0, end], [0, end], color="0.75", linewidth=1)
    colours = matplotlib.colormaps["copper_r"](tones.numpy() / 10)
    left.scatter(before, after, s=34, c=colours, edgecolors="0.3", linewidths=0.5)
    left.set(xlabel=f"{a}, mm", ylabel=f"{b}, mm", xlim=(0, end), ylim=(0, end))
    left.set_title("Below the line: better than the mean face", fontsize=10)
    groups = [(tones >= low) & (tones <= high) for low, high in TONES.values()]
    for (label, values), colour, shift in zip(
        errors.items(), (GREY, BLUE), (-0.19, 0.19), strict=True
    ):
        medians = [float(values[group].quantile(0.5)) if group.any() else 0 for group in groups]
        places = [i + shift for i in range(len(groups))]
        drawn = right.bar(places, medians, 0.36, color=colour, label=label)
        right.bar_label(drawn, [f"{mm:.1f}" if mm else "" for mm in medians], fontsize=9)
    names = [f"{n}\n({int(group.sum())} faces)" for n, group in zip(TONES, groups, strict=True)]
    right.set_xticks(range(len(groups)), names)
    right.set(ylabel="median error, mm", ylim=(0, 1.2 * right.get_ylim()[1]))
    right.set_title("By skin tone, 1 the lightest to 10", fontsize=10)
    style.add_legend(right, loc="upper right", ncols=2)
    return figure


def best_and_worst(model: MorphableModel, batch: FaceBatch, c: FaceCoefficients) -> Figure:
    """The faces with the least and the largest error: photo, answer, map of the error, truth."""
    errors = shape_errors(model, c, batch.truth)
    order = errors.mean(1).argsort().tolist()
    figure, axes = style.panels(4, 6, size=1.55, title="The 3 best answers, and the 3 worst")
    figure.set_size_inches(6 * 1.55 + 1.0, 4 * 1.55 + 0.6)
    for column, i in zip(axes.T, order[:3] + order[-3:], strict=True):
        truth = batch.truth[i]
        answer = on_photo(batch.image[i : i + 1], synthesise(model, c[i]), 200)
        images = [to_uint8(batch.image[i]), answer, shape_view(model, truth, size=200)]
        images.append(error_view(model, truth, errors[i], ERROR_MM, 200))
        style.fill(column, images, [f"{float(errors[i].mean()):.1f} mm"])
    for axis, name in zip(axes[:, 0], ("photo", "answer", "true shape", "error"), strict=True):
        style.row_name(axis, name)
    style.colour_bar(figure, ERROR_MM, "error, mm", ax=axes, shrink=0.4, aspect=16)
    return figure


def faces_turned(
    faces: RenderedFaces, index: int, yaws: Sequence[float]
) -> tuple[FaceBatch, Tensor]:
    """Face `index` with its head turned to each yaw (degrees), all else as it is."""
    rotation = torch.zeros(len(yaws), 3)
    rotation[:, 1] = torch.deg2rad(torch.tensor(yaws))
    return faces.batch(torch.full((len(yaws),), index), rotation), torch.tensor(yaws)


def yaw_panels(
    model: MorphableModel, batch: FaceBatch, c: FaceCoefficients, yaws: Tensor
) -> Callable[[int], Picture]:
    """place -> the face at that yaw, the answer, and the errors over all yaws with a mark."""
    mm = shape_errors(model, c, batch.truth).mean(1)
    mean = float(shape_errors(model, None, batch.truth).mean())
    off = torch.rad2deg(c.rotation[:, 1]) - yaws

    def draw(axes) -> None:
        top = 1.15 * max(mean, float(mm.max()))
        title = "error, mm (dots: mean face)"
        style.curves(axes[0], {"mm": mm}, yaws, title=title, xlabel="true yaw, °", ylim=(0, top))
        title = "yaw: answer - truth, °"
        style.curves(
            axes[1], {"off": off}, yaws, colours=(GREEN,), title=title, xlabel="true yaw, °"
        )
        for axis, level in zip(axes, (mean, 0), strict=True):
            axis.axhline(level, color=GREY, linestyle=":")

    plots = Curves(draw, 2, (480, 186))

    @torch.no_grad()
    def at(place: int) -> Picture:
        face, yaw = synthesise(model, c[place]), float(yaws[place])
        images = {
            f"turned by {yaw:+.0f}°": to_uint8(batch.image[place]),
            "the answer on it": on_photo(batch.image[place : place + 1], face, 160),
            "its shape, front": shape_view(model, c[place], size=160),
        }
        return panel_row(images, plots.marked([yaw, yaw]))

    return at


def starts_of_fits(
    model: MorphableModel, crop: Crop, runs: Mapping[str, Sequence[State]]
) -> Figure:
    """For each way to start a fit, the faces after some numbers of steps."""
    count = max(len(states) for states in runs.values())
    title = "The same descent from two starts: from the encoder, most of it is done"
    figure, axes = style.panels(len(runs), count, size=2.1, title=title, head=0.6)
    for row, (name, states) in zip(axes, runs.items(), strict=True):
        for axis, (steps, c, loss) in zip(row, states, strict=False):
            face = synthesise(model, c)
            error = float(landmark_error(face.landmarks("2d"), crop.landmarks)[0])
            words = f"{name}: {steps} steps\nlandmarks {error:.1%}, loss {loss:.1f}"
            style.picture(axis, on_photo(crop.image, face), words)
    return figure


def four_figure(
    model: MorphableModel, batch: FaceBatch, ways: Mapping[str, FaceCoefficients | None]
) -> Figure:
    """A dot per face and the median, for each way, in mm; and of the landmarks."""
    figure, (left, right) = style.charts(10.4, 2.7, 2)
    for i, c in enumerate(ways.values()):
        mm, colour = shape_errors(model, c, batch.truth).mean(1), GREY if c is None else BLUE
        style.median_bar(left, i, mm, "{:.2f}", colour)
        if c is not None:
            points = synthesise(model, c).landmarks("2d")
            share = 100 * landmark_error(points, batch.landmarks)
            style.median_bar(right, i, share, "{:.1f} %", colour)
    left.set_yticks(range(len(ways)), list(ways))
    right.set_yticks([])
    for axis in (left, right):
        axis.set(xlim=(0, 1.2 * axis.get_xlim()[1]), ylim=(len(ways) - 0.5, -0.5))
    left.set(xlabel="vertex error, mm", title=f"The shape: {len(batch)} strangers, and the median")
    right.set(xlabel="of the outer eye distance", title="The landmarks of the same answers")
    return figure


def photos_figure(
    model: MorphableModel, photos: Mapping[str, tuple[Crop, FaceCoefficients]]
) -> Figure:
    """Fig. 2 of the report: for each photo the base face on it, its shape, and it turned."""
    title = "Fig. 2 again: the photo, the base branch's face on it, and its shape"
    figure, axes = style.panels(len(photos), 4, size=2.0, title=title, head=0.1)
    names = "the photo", "the face on it", "its shape", "turned"
    for row, (name, (crop, c)) in zip(axes, photos.items(), strict=True):
        style.fill(row, [to_uint8(crop.image[0]), *three_views(model, crop.image, c)], names, name)
        names = ()
    return figure
