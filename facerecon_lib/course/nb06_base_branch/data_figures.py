"""Figures of notebook 06 about what is learned from: faces, their truth, splits, outputs, losses.

figures.faces_sheet(pool[:12], held_out[:12])
figures.anatomy(model, pool, 5)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor

from ...data.rendered.faces import flattened
from ...face.batch import FaceBatch
from ...face.camera import axis_angle_to_matrix, pose
from ...face.coefficients import FaceCoefficients
from ...face.lighting import sh_basis, shade
from ...face.measures import landmark_error
from ...face.morphable_model import MorphableModel
from ...fitting.fit import FitResult
from ...networks.encoder import OUTPUT_SCALES
from ...photos.crop import Crop
from ...pictures.faces import DETECTED, on_photo, show_face, studio_light, to_uint8
from ...rendering.renderer import render
from ...rendering.synthesis import synthesise
from ..drawing.light_balls import ball, ball_normals
from ..drawing.panels import shape_view
from ..drawing.style import BLUE, RED, dots, panels, picture


@torch.no_grad()
def first_screen(
    model: MorphableModel,
    crop: Crop,
    answer: FaceCoefficients,
    fitted: FitResult,
    seconds: Mapping[str, float],
) -> Figure:
    """The photo; the encoder's face and the fit's, on the photo and turned; errors and times."""
    title = "One photo, two answers: looked at once, and fitted"
    figure, axes = panels(1, 5, size=2.3, title=title, head=0.75)
    picture(axes[0, 0], to_uint8(crop.image[0]), "the photo\n\n")
    steps = len(fitted.history)
    for i, (name, c, how) in enumerate(
        (
            ("the encoder", answer, f"one look, {1000 * seconds['encoder']:.0f} ms"),
            ("the fit", fitted.coefficients, f"{steps} steps, {seconds['fit']:.1f} s"),
        )
    ):
        face = synthesise(model, c)
        error = float(landmark_error(face.landmarks("2d"), crop.landmarks)[0])
        on = axes[0, 1 + 2 * i]
        picture(on, on_photo(crop.image, face), f"{name}\n{how}\nlandmarks off by {error:.1%}")
        picture(axes[0, 2 + 2 * i], shape_view(model, c, 35), "turned\n\n")
    return figure


# Data -------------------------------------------------------------------------------------------


def faces_sheet(train: FaceBatch, held_out: FaceBatch, columns: int = 8) -> Figure:
    """The two families, rows of the first over rows of the second."""
    rows = [len(train) // columns, len(held_out) // columns]
    figure = Figure((columns * 1.2, sum(rows) * 1.2 + 0.8), layout="constrained")
    figure.set_facecolor("white")
    titles = (
        "Faces to learn from: lamps in a room, flat patterns behind (family 'train')",
        "Faces to be judged on: sky, ground and sun, checked patterns (family 'held-out')",
    )
    axes = figure.subplots(2, 1, height_ratios=rows)
    for axis, batch, n, title in zip(axes, (train, held_out), rows, titles, strict=True):
        photos = F.pad(batch.image[: n * columns], (6, 6, 6, 6), value=1.0)
        photos = photos.unflatten(0, (n, columns)).permute(2, 0, 3, 1, 4)
        axis.imshow(to_uint8(photos.flatten(3).flatten(1, 2)))
        axis.set_title(title, fontsize=11)
        axis.axis("off")
    return figure


@torch.no_grad()
def anatomy(model: MorphableModel, batch: FaceBatch, index: int) -> Figure:
    """One face, and what is known of it."""
    one, truth = batch[index : index + 1], batch.truth[index]
    figure, axes = panels(1, 6, size=2.0, head=0.5, title=f"All that is known of “{one.names[0]}”")
    image, face = one.image, synthesise(model, truth)
    picture(axes[0, 0], to_uint8(image[0]), "the picture")
    picture(axes[0, 1], to_uint8(image[0]), "landmarks, a little wrong")
    dots(axes[0, 1], one.landmarks[0], DETECTED, 9)
    hidden = 1 - one.valid
    painted = image * (1 - 0.75 * hidden) + image.new_tensor([0.9, 0.1, 0.2])[:, None, None] * (
        0.75 * hidden
    )
    picture(axes[0, 2], to_uint8(painted[0]), "not valid: in the way")
    picture(axes[0, 3], shape_view(model, truth), "its shape, in mm")
    tone = f"its skin, tone {int(one.tone[0])} of 10"
    picture(axes[0, 4], show_face(face, "unlit", 220), tone)
    light = truth.lighting / ball_brightness(truth.lighting)
    picture(axes[0, 5], ball(light, 220), "its light, on a ball")
    return figure


def ball_brightness(lighting: Float[Tensor, "1 9 3"]) -> float:
    """The brightest colour of a white ball under the light."""
    return float((sh_basis(ball_normals(64)[0]) @ lighting[0]).amax())


@torch.no_grad()
def relief_figure(model: MorphableModel, c: FaceCoefficients, keeps: Sequence[float]) -> Figure:
    """One face under several relief factors: as the crop sees it, and from the side."""
    figure, axes = panels(2, len(keeps) + 1, size=2.15, head=0.5)
    figure.suptitle(
        "One camera, nearly one picture (above), and three very different heads (below)"
    )
    vertices = model.shape(c.identity, c.expression)
    normals_of = synthesise(model, c)
    grey = torch.full_like(normals_of.albedo, 0.78)
    images = []
    for column, keep in zip(axes.T, keeps, strict=False):
        v_camera = pose(vertices, c.rotation, c.scale, c.translation)
        flat = flattened(v_camera, c, torch.tensor([keep]))
        image, mask = render(flat, model.faces, normals_of.colours.clamp(0, 1), 448)
        image = F.avg_pool2d(image + (1 - mask) * 0.96, 2)
        images.append(image)
        lens = "the crop's own 30° camera" if keep == 1 else f"{1 / keep:.0f} times as far away"
        picture(column[0], to_uint8(image[0]), f"{lens}\nrelief × {keep:.2f}")
        picture(column[1], _from_the_side(model, flat, c, grey), "from the side")
    apart = (images[0] - images[-1]).abs().mean(1)[0].numpy()
    drawn = picture(
        axes[0, -1], apart, "first minus last:\noutlines move a little", cmap="viridis", vmax=0.5
    )
    figure.colorbar(drawn, ax=axes[0, -1], shrink=0.75)
    axes[1, -1].axis("off")
    return figure


def _from_the_side(model: MorphableModel, v_camera: Tensor, c: FaceCoefficients, grey: Tensor):
    """Posed vertices turned by 80 degrees about the middle of the head, in studio light."""
    from ...face.mesh import vertex_normals

    middle = c.translation[:, None]
    turn = axis_angle_to_matrix(torch.tensor([[0.0, math.radians(80.0), 0.0]]))
    moved = (v_camera - middle) @ turn[0].T + middle.new_tensor([0.0, 0.0, 450.0])
    flip = moved.new_tensor([-1.0, 1.0, -1.0])  # the camera's frame to the viewer's
    colours = shade(grey, vertex_normals(moved * flip, model.faces), studio_light())
    image, mask = render(moved, model.faces, colours.clamp(0, 1), 448)
    return to_uint8(F.avg_pool2d(image + (1 - mask) * 0.96, 2)[0])


# Splits -----------------------------------------------------------------------------------------


@torch.no_grad()
def apart_mm(model: MorphableModel, found: Tensor, truth: Tensor) -> float:
    """How far two sets of identity coefficients lie apart, mm: root mean square over vertices."""
    basis = model.identity_basis.flatten(1)
    gram = basis @ basis.T / model.identity_basis.shape[1]
    off = found - truth
    return float(((off @ gram) * off).sum(1).sqrt().mean())


def split_figure(leaks: Mapping[str, float], errors: Mapping[str, float], mean: float) -> Figure:
    """How much of the test set's people training has seen, and how a memory does on them."""
    figure = Figure((9.6, 2.9), layout="constrained", facecolor="white")
    figure.suptitle("A random split praises a memory that has learned nothing about faces")
    left, right = figure.subplots(1, 2)
    for axis, values, form in ((left, leaks, "{:.0%}"), (right, errors, "{:.2f} mm")):
        bars = axis.barh(list(values), list(values.values()), color=[RED, BLUE], height=0.55)
        axis.bar_label(bars, [form.format(v) for v in values.values()], padding=4)
        axis.invert_yaxis()
    left.set(xlim=(0, 1.2), title="test photos whose person is in training")
    left.set_xticks([0, 0.5, 1], ["0", "50 %", "100 %"])
    right.axvline(mean, color="0.3", linestyle=":")
    right.text(mean, 0.5, "  the mean face, for all", fontsize=9, va="center", color="0.3")
    right.set(xlim=(0, 1.25 * max(mean, *errors.values())), xlabel="error of the shape, mm")
    right.set_title("the memory's answer on test photos")
    right.set_yticks([])
    return figure


# The encoder ------------------------------------------------------------------------------------


@torch.no_grad()
def starts_figure(
    model: MorphableModel, photos: Float[Tensor, "b 3 h w"], answers: Mapping[str, FaceCoefficients]
) -> Figure:
    """What untrained encoders answer, a row each."""
    title = "Before the first step: a head of zeros starts at a face, random numbers do not"
    figure, axes = panels(len(answers) + 1, len(photos), size=1.75, title=title, head=0.3)
    for axis, photo in zip(axes[0], photos, strict=True):
        picture(axis, to_uint8(photo))
    for row, (name, c) in zip(axes[1:], answers.items(), strict=True):
        for i, axis in enumerate(row):
            face = synthesise(model, c[i])
            picture(axis, show_face(face, "lit", 200))
        row[0].set_title(name, fontsize=10, loc="left")
    axes[0, 0].set_title("photos", fontsize=10, loc="left")
    return figure


def group_lengths(vector: Float[Tensor, "batch coefficient"], sizes) -> dict[str, float]:
    """Length of each group's part of a gradient, the root mean square over the batch."""
    parts = vector.detach().split([*sizes, 3, 3, 1, 27], dim=1)
    return {
        name: float(part.square().sum(1).mean().sqrt())
        for name, part in zip(OUTPUT_SCALES, parts, strict=True)
    }


def scales_figure(
    gradients: Mapping[str, Mapping[str, float]], curves: Mapping[str, Sequence[float]]
) -> Figure:
    """Gradient lengths a group, with and without scales; and a descent with either."""
    figure = Figure((10.4, 3.5), layout="constrained", facecolor="white")
    left, right = figure.subplots(1, 2, width_ratios=[1.25, 1])
    names = list(OUTPUT_SCALES)
    for i, ((label, values), colour) in enumerate(zip(gradients.items(), (RED, BLUE), strict=True)):
        places = np.arange(len(names)) + 0.4 * i - 0.2
        left.bar(places, [values[n] for n in names], 0.38, color=colour, label=label)
    left.set(yscale="log", ylabel="length of the gradient")
    left.set_xticks(range(len(names)), names, rotation=28, ha="right", fontsize=9)
    left.set_title("How hard the loss pulls at each group of outputs")
    left.legend(frameon=False, fontsize=9)
    for (label, values), colour in zip(curves.items(), (RED, BLUE), strict=True):
        right.plot(values, color=colour, linewidth=2.4, label=label)
    right.set(xlabel="step", ylabel="loss", title="Adam on the outputs, one learning rate for all")
    right.set_ylim(0, 1.1 * next(iter(curves.values()))[0])
    right.legend(frameon=False, fontsize=9)
    return figure


# The loss ---------------------------------------------------------------------------------------


def modes_figure(gram: Float[Tensor, "mode mode"]) -> Figure:
    """How far one standard deviation of each mode moves the face, and the matrix itself."""
    figure = Figure((10.4, 3.2), layout="constrained", facecolor="white")
    left, right = figure.subplots(1, 2, width_ratios=[1.7, 1])
    length = gram.diagonal().sqrt().numpy()
    left.bar(range(1, len(length) + 1), length, color=BLUE, width=0.8)
    left.set(xlabel="identity coefficient", ylabel="mm, root mean square over the skin")
    left.set_title("One standard deviation of each: not worth the same")
    limit = float(gram[1:, 1:].abs().max())
    drawn = right.imshow(gram.numpy()[:24, :24], cmap="RdBu_r", vmin=-limit, vmax=limit)
    right.set_title("G, its first 24 rows: mostly its diagonal", fontsize=10)
    figure.colorbar(drawn, ax=right, label="mm²", shrink=0.9)
    return figure


def gram_figure(
    long: Sequence[float], short: Sequence[float], times: Mapping[str, float]
) -> Figure:
    """Mean squared distances both ways, and what either costs."""
    figure = Figure((9.6, 3.2), layout="constrained", facecolor="white")
    left, right = figure.subplots(1, 2)
    left.plot([0, max(long)], [0, max(long)], color="0.75", linewidth=1)
    left.scatter(long, short, s=26, color=BLUE)
    left.set(xlabel="over all vertices, mm²", ylabel="through G, mm²")
    left.set_title("The same number, for pairs of faces")
    bars = right.barh(list(times), [1000 * t for t in times.values()], color=[RED, BLUE])
    right.bar_label(bars, [f"{1000 * t:.2f} ms" for t in times.values()], padding=4)
    right.set(xscale="log", xlabel="ms for 64 faces, forward and backward")
    right.set_xlim(right.get_xlim()[0] / 2, right.get_xlim()[1] * 6)
    right.invert_yaxis()
    right.set_title("What it costs")
    return figure


def seconds_of(function: Callable[[], object], repeats: int = 5) -> float:
    """Least seconds of some calls, after one that warms up."""
    import time

    function()
    taken = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        taken.append(time.perf_counter() - start)
    return min(taken)
