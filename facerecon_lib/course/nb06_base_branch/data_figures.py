"""Figures about what is learned from: faces, their truth, splits, outputs, losses.

figures.faces_sheet(pool[:12], held_out[:12])
figures.anatomy(model, pool, 5)

Notebook 06, section 2.1.
"""

import timeit
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor

from ...data.rendered.faces import flattened
from ...face.batch import FaceBatch
from ...face.camera import MODEL_TO_CAMERA
from ...face.coefficients import FaceCoefficients
from ...face.measures import landmark_error
from ...face.morphable_model import MorphableModel
from ...fitting.fit import FitResult
from ...networks.encoder import OUTPUT_SCALES
from ...photos.crop import Crop
from ...pictures.faces import DETECTED, on_photo, paint_mesh, show_face, to_uint8, turned_mesh
from ...rendering.synthesis import synthesise
from ..drawing import style
from ..drawing.light_balls import ball, ball_brightness
from ..drawing.panels import shape_view
from ..drawing.style import BLUE, RED


def first_screen(
    model: MorphableModel,
    crop: Crop,
    answer: FaceCoefficients,
    fit: FitResult,
    seconds: Mapping[str, float],
) -> Figure:
    """The photo; the encoder's face and the fit's, on the photo and turned; errors and times."""
    title = "One photo, two answers: looked at once, and fitted"
    figure, axes = style.panels(1, 5, size=2.3, title=title, head=0.75)
    ways = {
        f"the encoder\none look, {1000 * seconds['encoder']:.0f} ms": answer,
        f"the fit\n{len(fit.history)} steps, {seconds['fit']:.1f} s": fit.coefficients,
    }
    images, names = [to_uint8(crop.image[0])], ["the photo\n\n"]
    for name, c in ways.items():
        face = synthesise(model, c)
        error = float(landmark_error(face.landmarks("2d"), crop.landmarks)[0])
        images += [on_photo(crop.image, face), shape_view(model, c, 35)]
        names += [f"{name}\nlandmarks off by {error:.1%}", "turned\n\n"]
    style.fill(axes, images, names)
    return figure


# Data -------------------------------------------------------------------------------------------


def faces_sheet(train: FaceBatch, held_out: FaceBatch) -> Figure:
    """The two families, rows of the first over rows of the second."""
    columns = 8
    rows = [len(train) // columns, len(held_out) // columns]
    size = columns * 1.2, sum(rows) * 1.2 + 0.8
    figure, axes = style.charts(*size, rows=2, height_ratios=rows)
    titles = (
        "Faces to learn from: lamps in a room, flat patterns behind (family 'train')",
        "Faces to be judged on: sky, ground and sun, checked patterns (family 'held-out')",
    )
    for axis, batch, n, title in zip(axes, (train, held_out), rows, titles, strict=True):
        photos = F.pad(batch.image[: n * columns], (6, 6, 6, 6), value=1.0)
        photos = photos.unflatten(0, (n, columns)).permute(2, 0, 3, 1, 4)
        style.picture(axis, to_uint8(photos.flatten(3).flatten(1, 2)), title, 11)
    return figure


def anatomy(model: MorphableModel, batch: FaceBatch, index: int) -> Figure:
    """One face, and what is known of it."""
    one, truth = batch[index : index + 1], batch.truth[index]
    figure, axes = style.panels(
        1, 6, size=2.0, head=0.5, title=f"All that is known of “{one.names[0]}”"
    )
    red = one.image.new_tensor([0.9, 0.1, 0.2])[:, None, None]
    hidden = one.image + 0.75 * (1 - one.valid) * (red - one.image)
    images = {
        "the picture": to_uint8(one.image[0]),
        "landmarks, a little wrong": to_uint8(one.image[0]),
        "not valid: in the way": to_uint8(hidden[0]),
        "its shape, in mm": shape_view(model, truth),
        f"its skin, tone {int(one.tone[0])} of 10": show_face(
            synthesise(model, truth), "unlit", 220
        ),
        "its light, on a ball": ball(truth.lighting / ball_brightness(truth.lighting), 220),
    }
    style.fill(axes, images.values(), images)
    style.dots(axes[0, 1], one.landmarks[0], DETECTED, 9)
    return figure


def relief_figure(model: MorphableModel, c: FaceCoefficients, keeps: Sequence[float]) -> Figure:
    """One face under several relief factors: as the crop sees it, and from the side."""
    title = "One camera, nearly one picture (above), and three very different heads (below)"
    figure, axes = style.panels(2, len(keeps) + 1, size=2.15, head=0.15, title=title)
    face, fronts = synthesise(model, c), []
    for column, keep in zip(axes.T, keeps, strict=False):
        flat = flattened(face.v_camera, c, torch.tensor([keep]))
        fronts.append(paint_mesh(flat, model.faces, face.colours, 224))
        lens = "the crop's own 30° camera" if keep == 1 else f"{1 / keep:.0f} times as far away"
        names = f"{lens}\nrelief × {keep:.2f}", "from the side"
        vertices = (flat - c.translation[:, None]) @ MODEL_TO_CAMERA
        side = turned_mesh(model, vertices, face.albedo, 80.0)
        style.fill(column, [fronts[-1], show_face(side, "shape", 224)], names)
    apart = np.abs(fronts[0] / 255 - fronts[-1] / 255).mean(-1)
    words = "first minus last:\noutlines move a little"
    drawn = style.picture(axes[0, -1], apart, words, cmap="viridis", vmax=0.5)
    figure.colorbar(drawn, ax=axes[0, -1], shrink=0.75)
    axes[1, -1].axis("off")
    return figure


# Splits -----------------------------------------------------------------------------------------


def apart_mm(model: MorphableModel, answer: Tensor, truth: Tensor) -> float:
    """How far two sets of identity coefficients lie apart, mm: root mean square over vertices."""
    basis = model.identity_basis.flatten(1)
    gram = basis @ basis.T / model.identity_basis.shape[1]
    off = answer - truth
    return float(((off @ gram) * off).sum(1).sqrt().mean())


def split_figure(leaks: Mapping[str, float], errors: Mapping[str, float], mean: float) -> Figure:
    """How much of the test set's people training has seen, and how a memory does on them."""
    title = "A random split praises a memory that has learned nothing about faces"
    figure, (left, right) = style.charts(9.6, 2.9, 2, title=title)
    style.bars(left, leaks, "{:.0%}", height=0.55, xlim=(0, 1.2))
    left.set_title("test photos whose person is in training")
    left.set_xticks([0, 0.5, 1], ["0", "50 %", "100 %"])
    most = 1.25 * max(mean, *errors.values())
    labels = dict(xlim=(0, most), xlabel="error of the shape, mm", yticks=[])
    style.bars(right, errors, "{:.2f} mm", height=0.55, **labels)
    right.axvline(mean, color="0.3", linestyle=":")
    right.text(mean, 0.5, "  the mean face, for all", fontsize=9, va="center", color="0.3")
    right.set_title("the memory's answer on test photos")
    return figure


# The encoder ------------------------------------------------------------------------------------


def starts_figure(
    model: MorphableModel, photos: Float[Tensor, "b 3 h w"], answers: Mapping[str, FaceCoefficients]
) -> Figure:
    """What untrained encoders answer, a row per encoder."""
    title = "Before the first step: a head of zeros starts at a face, random numbers do not"
    figure, axes = style.panels(len(answers) + 1, len(photos), size=1.75, title=title, head=0.3)
    style.fill(axes[0], map(to_uint8, photos))
    for row, c in zip(axes[1:], answers.values(), strict=True):
        style.fill(
            row, [show_face(synthesise(model, c[i]), "lit", 200) for i in range(len(photos))]
        )
    for axis, name in zip(axes[:, 0], ("photos", *answers), strict=True):
        axis.set_title(name, fontsize=10, loc="left")
    return figure


def group_lengths(vector: Float[Tensor, "batch coefficient"], sizes) -> dict[str, float]:
    """Length of each group's part of a gradient, the root mean square over the batch."""
    parts = vars(FaceCoefficients.from_vector(vector.detach(), sizes))
    del parts["gaze"]  # which is none of the vector
    squares = {name: part.flatten(1).square().sum(1) for name, part in parts.items()}
    return {name: float(squared.mean().sqrt()) for name, squared in squares.items()}


def scales_figure(
    gradients: Mapping[str, Mapping[str, float]], losses: Mapping[str, Sequence[float]]
) -> Figure:
    """Gradient lengths of each group, with and without scales; and a descent with either."""
    figure, (left, right) = style.charts(10.4, 3.5, 2, width_ratios=[1.25, 1])
    names = list(OUTPUT_SCALES)
    for i, ((label, values), colour) in enumerate(zip(gradients.items(), (RED, BLUE), strict=True)):
        places = np.arange(len(names)) + 0.4 * i - 0.2
        left.bar(places, [values[n] for n in names], 0.38, color=colour, label=label)
    left.set(yscale="log", ylabel="length of the gradient")
    left.set_xticks(range(len(names)), names, rotation=28, ha="right", fontsize=9)
    left.set_title("How hard the loss pulls at each group of outputs")
    style.add_legend(left)
    title = "Adam on the outputs, one learning rate for all"
    top = 1.1 * next(iter(losses.values()))[0]
    labels = dict(xlabel="step", ylabel="loss", ylim=(0, top), title=title)
    style.curves(right, losses, colours=(RED, BLUE), width=2.4, **labels)
    return figure


# The loss ---------------------------------------------------------------------------------------


def modes_figure(gram: Float[Tensor, "mode mode"]) -> Figure:
    """How far one standard deviation of each mode moves the face, and the matrix itself."""
    figure, (left, right) = style.charts(10.4, 3.2, 2, width_ratios=[1.7, 1])
    length = gram.diagonal().sqrt().numpy()
    left.bar(range(1, len(length) + 1), length, color=BLUE, width=0.8)
    left.set(xlabel="identity coefficient", ylabel="mm, root mean square over the skin")
    left.set_title("One standard deviation of each: not worth the same")
    drawn = right.imshow(gram.numpy()[:24, :24], **style.signed(float(gram[1:, 1:].abs().max())))
    right.set_title("G, its first 24 rows: mostly its diagonal", fontsize=10)
    figure.colorbar(drawn, ax=right, label="mm²", shrink=0.9)
    return figure


def gram_figure(
    long: Sequence[float], short: Sequence[float], times: Mapping[str, float]
) -> Figure:
    """Mean squared distances both ways, and what either costs."""
    figure, (left, right) = style.charts(9.6, 3.2, 2)
    left.plot([0, max(long)], [0, max(long)], color="0.75", linewidth=1)
    left.scatter(long, short, s=26, color=BLUE)
    left.set(xlabel="over all vertices, mm²", ylabel="through G, mm²")
    left.set_title("The same number, for pairs of faces")
    labels = dict(xscale="log", xlabel="ms for 64 faces, forward and backward")
    style.bars(right, {name: 1000 * t for name, t in times.items()}, "{:.2f} ms", **labels)
    right.set_xlim(right.get_xlim()[0] / 2, right.get_xlim()[1] * 6)
    right.set_title("What it costs")
    return figure


def seconds_of(function: Callable[[], object]) -> float:
    """Least seconds of five calls, after one that warms up."""
    return min(timeit.repeat(function, number=1, repeat=6)[1:])
