"""What notebook 06 draws of a trained encoder's answers: millimetres, by skin tone, yaw and start.

answers.errors_figure({"the mean face": a, "the encoder": b}, batch.tone, "The shape, in mm")
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import matplotlib
import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor

from ...data.rendered.faces import RenderedFaces
from ...face.batch import FaceBatch
from ...face.coefficients import FaceCoefficients
from ...face.measures import landmark_error, vertex_error_mm
from ...face.morphable_model import MorphableModel
from ...photos.crop import Crop
from ...pictures.faces import on_photo, to_uint8, turned
from ...rendering.synthesis import synthesise
from ..drawing.panels import shape_view
from ..drawing.sliders import Curves, Picture, panel_row
from ..drawing.style import BLUE, GREEN, GREY, panels, picture

ERROR_MM = 5.0
"""End of the colour scale of maps in mm."""


@torch.no_grad()
def shape_mm(
    model: MorphableModel, c: FaceCoefficients | None, truth: FaceCoefficients
) -> Float[Tensor, "batch vertex"]:
    """Distance of each vertex after similarity alignment; c None: of the neutral mean face."""
    true = model.shape(truth.identity, truth.expression)
    found = model.mean.expand_as(true) if c is None else model.shape(c.identity, c.expression)
    return vertex_error_mm(found, true)


def errors_figure(
    errors: Mapping[str, Float[Tensor, " batch"]], tones: Tensor, title: str
) -> Figure:
    """Each face's mean error, one way beside the other, and the medians by skin tone."""
    figure = Figure((10.4, 3.4), layout="constrained", facecolor="white")
    figure.suptitle(title, fontsize=12)
    left, right = figure.subplots(1, 2, width_ratios=[1, 1.2])
    (a, before), (b, after) = ((k, v.numpy()) for k, v in errors.items())
    end = 1.08 * max(before.max(), after.max())
    left.plot([0, end], [0, end], color="0.75", linewidth=1)
    colours = matplotlib.colormaps["copper_r"](tones.numpy() / 10)
    left.scatter(before, after, s=34, c=colours, edgecolors="0.3", linewidths=0.5)
    left.set(xlabel=f"{a}, mm", ylabel=f"{b}, mm", xlim=(0, end), ylim=(0, end))
    left.set_title("Below the line: better than the mean face", fontsize=10)
    groups = {"tones 1 to 4": (1, 4), "5 to 7": (5, 7), "8 to 10": (8, 10)}
    for j, (values, colour) in enumerate(((before, GREY), (after, BLUE))):
        for i, (low, high) in enumerate(groups.values()):
            inside = ((tones >= low) & (tones <= high)).numpy()
            if inside.any():
                place = i + 0.38 * j - 0.19
                height = float(np.median(values[inside]))
                label = (a, b)[j] if i == 0 else None
                right.bar(place, height, 0.36, color=colour, label=label)
                right.text(place, height, f"{height:.1f}", ha="center", va="bottom", fontsize=9)
    counts = [int(((tones >= low) & (tones <= high)).sum()) for low, high in groups.values()]
    names = [f"{name}\n({n} faces)" for name, n in zip(groups, counts, strict=True)]
    right.set_xticks(range(len(groups)), names)
    right.set(ylabel="median error, mm", ylim=(0, 1.2 * right.get_ylim()[1]))
    right.set_title("By skin tone, 1 the lightest to 10", fontsize=10)
    right.legend(frameon=False, fontsize=9, loc="upper right", ncols=2)
    return figure


@torch.no_grad()
def best_and_worst(
    model: MorphableModel, batch: FaceBatch, c: FaceCoefficients, count: int = 3
) -> Figure:
    """The faces with the least and the largest error: photo, answer, map of the error, truth."""
    errors = shape_mm(model, c, batch.truth)
    order = errors.mean(1).argsort().tolist()
    faces = order[:count] + order[-count:]
    title = f"The {count} best answers, and the {count} worst"
    figure, axes = panels(4, len(faces), size=1.55, title=title, head=0.2)
    figure.set_size_inches(6 * 1.55 + 1.0, 4 * 1.55 + 0.6)
    colours = matplotlib.colormaps["viridis"]
    for column, i in zip(axes.T, faces, strict=True):
        picture(column[0], to_uint8(batch.image[i]), f"{float(errors[i].mean()):.1f} mm")
        picture(column[1], on_photo(batch.image[i : i + 1], synthesise(model, c[i]), 200))
        picture(column[2], shape_view(model, batch.truth[i], size=200))
        paint = colours((errors[i] / ERROR_MM).clamp(0, 1).numpy())[:, :3]
        view = turned(model, batch.truth[i], 0.0)
        image, mask = view.render(400, attributes=torch.tensor(paint)[None].float())
        image = F.avg_pool2d(image + (1 - mask) * 0.96, 2)
        picture(column[3], to_uint8(image[0]))
    for axis, name in zip(axes[:, 0], ("photo", "answer", "true shape", "error"), strict=True):
        axis.text(-12, 112, name, rotation=90, ha="right", va="center", fontsize=10)
    scale = matplotlib.cm.ScalarMappable(matplotlib.colors.Normalize(0, ERROR_MM), colours)
    figure.colorbar(scale, ax=axes, shrink=0.4, label="error, mm", aspect=16)
    return figure


def faces_turned(
    faces: RenderedFaces, index: int, yaws: Sequence[float]
) -> tuple[FaceBatch, Tensor]:
    """Face `index` with its head turned to each yaw (degrees), all else as it is."""
    rotation = torch.zeros(len(yaws), 3)
    rotation[:, 1] = torch.deg2rad(torch.tensor(yaws))
    return faces.batch(torch.full((len(yaws),), index), rotation), torch.tensor(yaws)


@torch.no_grad()
def yaw_panels(
    model: MorphableModel, batch: FaceBatch, c: FaceCoefficients, yaws: Tensor
) -> Callable[[int], Picture]:
    """place -> the face at that yaw, the answer, and the errors over all yaws with a mark."""
    mm = shape_mm(model, c, batch.truth).mean(1)
    mean = float(shape_mm(model, None, batch.truth).mean())
    off = torch.rad2deg(c.rotation[:, 1]) - yaws

    def draw(axes) -> None:
        axes[0].plot(yaws, mm, color=BLUE, linewidth=2)
        axes[0].axhline(mean, color=GREY, linestyle=":")
        top = 1.15 * max(mean, float(mm.max()))
        axes[0].set(title="error, mm (dots: mean face)", xlabel="true yaw, °", ylim=(0, top))
        axes[1].plot(yaws, off, color=GREEN, linewidth=2)
        axes[1].axhline(0, color=GREY, linestyle=":")
        axes[1].set(title="yaw: answer - truth, °", xlabel="true yaw, °")

    curves = Curves(draw, 2, (480, 186))

    @torch.no_grad()
    def at(place: int) -> Picture:
        face, yaw = synthesise(model, c[place]), float(yaws[place])
        panels = {
            f"turned by {yaw:+.0f}°": to_uint8(batch.image[place]),
            "the answer on it": on_photo(batch.image[place : place + 1], face, 160, fine=2),
            "its shape, front": shape_view(model, c[place], size=160),
        }
        return panel_row(panels, curves.marked([yaw, yaw]))

    return at


@torch.no_grad()
def starts_of_fits(
    model: MorphableModel,
    crop: Crop,
    runs: Mapping[str, Sequence[tuple[int, FaceCoefficients, float]]],
) -> Figure:
    """Photo, and for each way to start a fit the faces after some numbers of steps."""
    count = max(len(states) for states in runs.values())
    title = "The same descent from two starts: from the encoder, most of it is done"
    figure, axes = panels(len(runs), count, size=2.1, title=title, head=0.6)
    for row, (name, states) in zip(axes, runs.items(), strict=True):
        for axis, (steps, c, loss) in zip(row, states, strict=False):
            face = synthesise(model, c)
            error = float(landmark_error(face.landmarks("2d"), crop.landmarks)[0])
            words = f"{name}: {steps} steps\nlandmarks {error:.1%}, loss {loss:.1f}"
            picture(axis, on_photo(crop.image, face), words)
    return figure


@torch.no_grad()
def four_figure(
    model: MorphableModel, batch: FaceBatch, ways: Mapping[str, FaceCoefficients | None]
) -> Figure:
    """A dot a face and the median, for each way, in mm; and of the landmarks."""
    figure = Figure((10.4, 2.7), layout="constrained", facecolor="white")
    left, right = figure.subplots(1, 2)
    for i, c in enumerate(ways.values()):
        mm = shape_mm(model, c, batch.truth).mean(1)
        panels = [(left, mm, "{:.2f}")]
        if c is not None:
            face = synthesise(model, c)
            error = landmark_error(face.landmarks("2d"), batch.landmarks)
            panels.append((right, 100 * error, "{:.1f} %"))
        for axis, values, form in panels:
            middle = float(values.median())
            colour = GREY if c is None else BLUE
            axis.barh(i, middle, 0.6, color=colour, alpha=0.55)
            axis.plot(values, [i] * len(values), "o", color=colour, markersize=4)
            axis.text(float(values.max()), i, "  " + form.format(middle), va="center", fontsize=9)
    left.set_yticks(range(len(ways)), list(ways))
    right.set_yticks([])
    for axis in (left, right):
        axis.set_ylim(len(ways) - 0.5, -0.5)
        axis.set_xlim(0, 1.2 * axis.get_xlim()[1])
    left.set(xlabel="vertex error, mm", title=f"The shape: {len(batch)} strangers, and the median")
    right.set(xlabel="of the outer eye distance", title="The landmarks of the same answers")
    return figure
