"""Figures and plumbing of notebook 05: losses, and a fit of one photo.

target = figures.target_of(crop)                     # photo, valid pixels, landmarks
p = figures.parameters(figures.first_guess(model, target))
found, losses = fit_face(loss_of, p, RATES, steps=60)
c = figures.coefficients(found)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from .. import losses
from ..camera import pose
from ..coefficients import FaceCoefficients
from ..evaluation import vertex_error_mm
from ..fitting import JAW_WEIGHT, LEARNING_RATES, sample_photo_colours, start_from_landmarks
from ..lighting import ambient_lighting, solve_lighting
from ..morphable_model import MorphableModel
from ..photo import Crop
from ..plotting import DETECTED, FITTED, show_face, to_uint8, turned
from ..recognition import FaceNetwork, chip_matrix, cut_chips, feature_distance
from ..renderer import SoftSettings
from ..synthesis import CROP_SIZE, Face, project_landmarks, synthesise

SIZE = 112
"""Side in px at which the notebook renders: a quarter of the pixels of the crop."""

ERROR_MM = 4.0
"""End of the colour scale of maps in mm."""

SHAPE = ("identity", "expression", "rotation", "translation", "log_scale")
"""The parameters that landmarks depend on."""


@dataclass(eq=False)
class Target:
    """What a fit is compared with: photos at `SIZE`, where they are valid, landmarks of the crop."""

    image: Float[Tensor, "batch 3 size size"]
    valid: Float[Tensor, "batch 1 size size"]
    landmarks: Float[Tensor, "batch 68 2"]

    def __getitem__(self, rows: slice | Sequence[int]) -> Target:
        return Target(self.image[rows], self.valid[rows], self.landmarks[rows])


# Plumbing -------------------------------------------------------------------------------------


def target_of(crop: Crop, size: int = SIZE) -> Target:
    """The crop, averaged to `size` pixels a side; landmarks stay in pixels of the 224 crop."""
    small = [F.interpolate(v, (size, size), mode="area") for v in (crop.image, crop.valid)]
    return Target(*small, crop.landmarks)


def point_weights() -> Float[Tensor, " 68"]:
    """1 for each landmark, 0.3 for the jaw's 17: a 2D detector marks an outline there."""
    weights = torch.ones(68)
    weights[:17] = JAW_WEIGHT
    return weights


def parameters(c: FaceCoefficients) -> dict[str, Tensor]:
    """Fresh tensors by name, as an optimiser wants them; scale as its logarithm, so it stays > 0."""
    p = {name: getattr(c, name).detach().clone() for name in LEARNING_RATES if name != "log_scale"}
    return p | {"log_scale": c.scale.detach().log()}


def coefficients(p: Mapping[str, Tensor]) -> FaceCoefficients:
    """The other way; gradients flow through."""
    p = dict(p)
    return FaceCoefficients(scale=p.pop("log_scale").exp(), **p)


def first_guess(model: MorphableModel, target: Target) -> FaceCoefficients:
    """The mean face in the pose of the 68 landmarks, in the light that explains the photo best."""
    return lit_by_photo(model, start_from_landmarks(model, target.landmarks), target)


@torch.no_grad()
def lit_by_photo(model: MorphableModel, c: FaceCoefficients, target: Target) -> FaceCoefficients:
    """The same face under the least-squares light of notebook 03, its skin kept."""
    c = c.detach().clone()
    face = synthesise(model, c)
    seen, weight = sample_photo_colours(face, target.image, target.valid)
    prior = ambient_lighting(len(c), losses.LIGHT_LEVEL, device=model.device)
    weight = weight * model.regions["skin"]
    albedo = face.albedo.clamp(0.02, 1)
    c.lighting = solve_lighting(albedo, face.normals, seen, weight, prior=prior, ridge=3e-3)
    return c


class Film:
    """A loss that remembers the coefficients of every step it was asked about."""

    def __init__(self, loss_of: Callable[[Mapping[str, Tensor]], Tensor]):
        self.loss_of = loss_of
        self.states: list[FaceCoefficients] = []

    def __call__(self, p: Mapping[str, Tensor]) -> Tensor:
        self.states.append(coefficients(p).detach().clone())
        return self.loss_of(p)


@torch.no_grad()
def random_faces(
    model: MorphableModel, count: int, seed: int, size: int = SIZE
) -> tuple[FaceCoefficients, Target]:
    """Faces whose truth is known, rendered, with half a pixel of noise on their landmarks."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*sds: float) -> Tensor:
        return torch.randn(count, len(sds), generator=generator) * torch.tensor(sds)

    c = model.neutral(count)
    c.identity, c.expression, c.albedo = model.random(count, generator)
    c.rotation = normal(0.1, 0.25, 0.05).to(model.device)
    c.translation = c.translation + normal(5.0, 5.0, 15.0).to(model.device)
    light = ambient_lighting(count) * (0.75 + 0.2 * torch.rand(count, 1, 1, generator=generator))
    light[:, 1:4] += (normal(0.2, 0.15, 0.25) + torch.tensor([0.1, 0.25, 0.0]))[..., None]
    c.lighting = light.to(model.device)
    face = synthesise(model, c)
    image, _ = face.render(2 * size, background=0.6)
    image = F.avg_pool2d(image.clamp(0, 1), 2)
    jitter = 0.5 * torch.randn(count, 68, 2, generator=generator).to(model.device)
    return c, Target(image, torch.ones_like(image[:, :1]), face.landmarks("2d") + jitter)


@torch.no_grad()
def shape_errors(
    model: MorphableModel, c: FaceCoefficients | None, truth: FaceCoefficients, align="similarity"
) -> Float[Tensor, "batch vertex"]:
    """Distance in mm of each vertex to the truth's, after alignment; of the mean face if c is None."""
    true = model.shape(truth.identity, truth.expression)
    if c is None:
        return vertex_error_mm(model.mean.expand(len(true), -1, -1), true, align=align)
    return vertex_error_mm(model.shape(c.identity, c.expression), true, align=align)


# Pictures -------------------------------------------------------------------------------------


@torch.no_grad()
def on_photo(
    image: Float[Tensor, "1 3 h w"], face: Face, size: int = 300
) -> UInt8[np.ndarray, "size size 3"]:
    """The first face of a batch on a photo, antialiased."""
    rendered, covered = face.render(2 * size, attributes=face.colours.clamp(0, 1))
    rendered, covered = F.avg_pool2d(rendered, 2)[:1], F.avg_pool2d(covered, 2)[:1]
    photo = F.interpolate(image[:1], (size, size), mode="bilinear", align_corners=False)
    return to_uint8((rendered + (1 - covered) * photo.to(rendered))[0])


@torch.no_grad()
def shape_view(
    model: MorphableModel, c: FaceCoefficients, yaw: float = 0.0, look="shape", size: int = 300
) -> UInt8[np.ndarray, "size size 3"]:
    """The first face of a batch, turned, grey or with its skin."""
    return show_face(turned(model, c, yaw), look, size)


def picture(axis: Axes, image, title: str = "", **imshow):
    """An image on an axis in pixels of the crop, so that landmarks can be drawn on it."""
    drawn = axis.imshow(image, extent=(0, CROP_SIZE, CROP_SIZE, 0), **imshow)
    axis.set_title(title, fontsize=10)
    axis.set(xlim=(0, CROP_SIZE), ylim=(CROP_SIZE, 0))
    axis.axis("off")
    return drawn


def points(axis: Axes, xy: Tensor, colour: str, size: float = 7, **kwargs) -> None:
    axis.scatter(*xy.detach().cpu().numpy().T, s=size, color=colour, linewidths=0, **kwargs)


def sheet(columns: int, rows: int = 1, size: float = 3.0, title: str = "", head: float = 0.45):
    """A white figure and its axes, rows by columns, `size` inches a panel."""
    height = rows * size + head + (0.35 if title else 0)
    figure = Figure((columns * size, height), layout="constrained", facecolor="white")
    if title:
        figure.suptitle(title, fontsize=12)
    axes = figure.subplots(rows, columns, squeeze=False)
    return figure, axes


@torch.no_grad()
def guess_figure(crop: Crop, face: Face) -> Figure:
    """The photo, the guess on it, and what is wrong with it."""
    figure, axes = sheet(3, size=3.3, title="A photo, a guess, and how far apart they are")
    seen = face.landmarks("2d")[0]
    picture(axes[0, 0], to_uint8(crop.image[0]), "the photo and its 68 detected landmarks")
    points(axes[0, 0], crop.landmarks[0], DETECTED, 10)
    picture(axes[0, 1], on_photo(crop.image, face), "the guess: the mean face, posed and lit")
    picture(
        axes[0, 2], to_uint8(crop.image[0]), "from where the guess has each point to where it is"
    )
    arrows(axes[0, 2], seen, crop.landmarks[0])
    return figure


def arrows(axis: Axes, start: Tensor, end: Tensor) -> None:
    a, b = start.detach().cpu().numpy(), end.detach().cpu().numpy()
    for (x0, y0), (x1, y1) in zip(a, b, strict=True):
        axis.plot([x0, x1], [y0, y1], color="white", linewidth=1.2)
    points(axis, start, FITTED, 9, zorder=3)
    points(axis, end, DETECTED, 9, zorder=3)


@torch.no_grad()
def pixel_figure(
    rendered: Float[Tensor, "1 3 h w"], photo: Float[Tensor, "1 3 h w"], mask: Tensor, value: str
) -> Figure:
    """The two images that Eq. 4 compares, and where it finds fault."""
    figure, axes = sheet(
        3, size=3.3, title="What Eq. 4 sees: nothing outside the mask exists for it"
    )
    grey = 0.96 * (1 - mask)
    picture(axes[0, 0], to_uint8((photo * mask + grey)[0]), "the photo under the mask")
    picture(axes[0, 1], to_uint8((rendered * mask + grey)[0]), "the rendering")
    squared = ((rendered - photo) ** 2).sum(1)[0]
    squared = np.where(mask[0, 0] > 0, squared, np.nan)
    drawn = picture(axes[0, 2], squared, value, cmap="viridis", vmin=0, vmax=0.5)
    figure.colorbar(drawn, ax=axes[0, 2], shrink=0.8, label="squared difference, three channels")
    return figure


@torch.no_grad()
def distance_figure(
    model: MorphableModel,
    crop: Crop,
    c: FaceCoefficients,
    distances: Sequence[float],
    curves: Mapping[str, Sequence[float]],
) -> Figure:
    """Losses over distance, each divided by its largest value, and the face at some distances."""
    figure = Figure((10.5, 4.7), layout="constrained", facecolor="white")
    figure.suptitle("Eq. 4 likes faces that are far away; landmarks do not", fontsize=12)
    left, right = figure.subfigures(1, 2, width_ratios=[1.2, 1])
    axis = left.subplots()
    for (name, values), colour in zip(
        curves.items(), ("#b3202c", "#e08b2d", "#1a7f37"), strict=True
    ):
        values = np.asarray(values) / max(values)
        axis.plot(distances, values, color=colour, linewidth=2.2, label=name)
        low = int(np.argmin(values))
        axis.plot(distances[low], values[low], "o", color=colour, markersize=9)
    axis.set(
        xscale="log",
        ylim=(-0.03, 1.05),
        xlabel="distance of the face, mm",
        ylabel="loss (1 = its largest)",
        title="Dots: where each loss is least",
    )
    ticks = [250, 350, 500, 700, 1000, 1500]
    axis.set_xticks(ticks, [str(t) for t in ticks])
    axis.minorticks_off()
    axis.legend(frameon=False, fontsize=9)
    for panel, mm in zip(right.subplots(2, 2).flat, (250, 350, 700, 1500), strict=True):
        face = synthesise(model, at_distance(c, mm))
        picture(panel, on_photo(crop.image, face), f"{mm} mm")
    return figure


@torch.no_grad()
def walk_figure(
    model: MorphableModel, crop: Crop, walks: Mapping[str, Sequence[FaceCoefficients]]
) -> Figure:
    """Some states of each walk, a row a walk."""
    columns = 5
    figure, axes = sheet(
        columns, len(walks), size=2.1, head=0.8,
        title="Adam chooses the distance: a mask that is alive lets the face run away",
    )  # fmt: skip
    for row, (name, states) in zip(axes, walks.items(), strict=True):
        chosen = [round(i * (len(states) - 1) / (columns - 1)) for i in range(columns)]
        for axis, step in zip(row, chosen, strict=True):
            mm = float(states[step].translation[0, 2])
            picture(axis, on_photo(crop.image, synthesise(model, states[step])))
            axis.set_title(f"{name}\nstep {step}: {mm:.0f} mm", fontsize=9)
    return figure


# Traps ----------------------------------------------------------------------------------------


def at_distance(c: FaceCoefficients, mm: float | Tensor) -> FaceCoefficients:
    """The same face moved along its line of sight, so that it stays where it is in the picture."""
    moved = c.detach().clone()
    moved.translation = c.translation.detach() * (mm / c.translation[:, 2:].detach())
    return moved


def walk(
    model: MorphableModel,
    c: FaceCoefficients,
    target: Target,
    loss_of: Callable[[Tensor, Tensor, Tensor], Tensor],
    steps: int = 40,
    rate: float = 0.03,
) -> list[FaceCoefficients]:
    """Lets Adam choose the distance alone, under a soft renderer, whose mask has a gradient.

    loss_of(rendered, photo, mask) -> a scalar. Returns the face at each step.
    """
    log_mm = c.translation[:, 2:].detach().log().requires_grad_()
    adam = torch.optim.Adam([log_mm], lr=rate)
    states = []
    for _ in range(steps):
        moved = at_distance(c, log_mm.exp())
        states.append(moved.detach())
        image, mask = synthesise(model, moved).render(SIZE, soft=SoftSettings(faces_per_pixel=4))
        loss = loss_of(image, target.image, mask * target.valid)
        adam.zero_grad()
        loss.backward()
        adam.step()
    return states


def fit_points(
    model: MorphableModel,
    start: FaceCoefficients,
    landmarks: Float[Tensor, "1 68 2"],
    loss_of: Callable[[Tensor, Tensor, Tensor], Tensor],
    steps: int = 120,
) -> FaceCoefficients:
    """Pose and shape of 68 landmarks with priors, under a landmark loss of one's own."""
    few, weights = model.landmark_model(), point_weights()
    p = {name: value.requires_grad_() for name, value in parameters(start).items()}
    adam = torch.optim.Adam([{"params": [p[n]], "lr": LEARNING_RATES[n]} for n in SHAPE])
    for _ in range(steps):
        c = coefficients(p)
        loss = losses.FIT_WEIGHTS["landmark"] * loss_of(landmark_points(few, c), landmarks, weights)
        loss = loss + shape_prior(model, c).mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
    return coefficients(p).detach()


def landmark_points(few: MorphableModel, c: FaceCoefficients) -> Float[Tensor, "batch 68 2"]:
    """The landmarks of a `landmark_model`, in crop pixels."""
    v_camera = pose(few.shape(c.identity, c.expression), c.rotation, c.scale, c.translation)
    return project_landmarks(few, v_camera, c.rotation, "2d")


def shape_prior(model: MorphableModel, c: FaceCoefficients) -> Float[Tensor, " batch"]:
    """The shape's priors at FIT_WEIGHTS, one number a face."""
    w = losses.FIT_WEIGHTS
    actions = model.actions(c.expression)
    outside = (-actions).clamp(min=0) + (actions - 1).clamp(min=0)
    return (
        w["identity"] * (c.identity**2).sum(-1)
        + w["expression"] * (c.expression**2).sum(-1)
        + w["action_range"] * (outside**2).sum(-1)
        + w["scale"] * (c.scale[:, 0].log() / losses.LOG_SCALE_SD) ** 2
    )


@torch.no_grad()
def basin_figure(shifts: Sequence[float], curves: Mapping[str, Sequence[float]]) -> Figure:
    """Two losses while the face is pushed sideways, each divided by its largest value."""
    figure = Figure((8.6, 3.5), layout="constrained", facecolor="white")
    axis = figure.subplots()
    for (name, values), colour in zip(curves.items(), ("#1a7f37", "#b3202c"), strict=True):
        values = np.asarray(values)
        axis.plot(shifts, values / values.max(), color=colour, linewidth=2.2, label=name)
        slope = np.sign(np.gradient(values, shifts)) == np.sign(shifts)
        wrong = ~slope & (np.abs(shifts) > 3)
        lost = np.where(wrong, values / values.max(), np.nan)
        axis.plot(shifts, lost, color=colour, linewidth=7, alpha=0.3, solid_capstyle="round")
    axis.axvline(0, color="0.6", linewidth=1, linestyle=":")
    axis.set(
        xlabel="the face is pushed sideways by, mm",
        ylabel="loss (1 = its largest)",
        ylim=(0, 1.08),
        title="Landmarks lead home from far away; pixels lead astray (thick: downhill is the wrong way)",
    )
    axis.legend(frameon=False, loc="lower left")
    return figure


@torch.no_grad()
def outlier_figure(
    crop: Crop, wrong: Tensor, faces: Mapping[str, Face], moved: Sequence[int]
) -> Figure:
    """Fits to landmarks of which some are wrong, on the photo."""
    figure, axes = sheet(1 + len(faces), size=3.2, title="Three wrong landmarks of 68")
    picture(axes[0, 0], to_uint8(crop.image[0]), "what a detector said: three points are 40 px off")
    points(axes[0, 0], wrong[0], DETECTED, 9)
    points(axes[0, 0], wrong[0, list(moved)], "#ffd21f", 30)
    right = [i for i in range(68) if i not in moved]
    for axis, (name, face) in zip(axes[0, 1:], faces.items(), strict=True):
        seen = face.landmarks("2d")[0]
        off = (seen - crop.landmarks[0])[right].norm(dim=-1).mean()
        picture(axis, on_photo(crop.image, face), f"{name}: the 65 right ones are {off:.1f} px off")
        arrows(axis, seen[right], crop.landmarks[0, right])
    return figure


# Be the optimiser -----------------------------------------------------------------------------


def optimiser_panel(
    image: Float[Tensor, "1 3 h w"],
    face: Face,
    rendered: Tensor,
    mask: Tensor,
    target: Target,
    lines: Sequence[str],
    size: int = 320,
) -> UInt8[np.ndarray, "height width 3"]:
    """The face on the photo with both sets of points, the squared difference, and lines of text."""
    import matplotlib

    left = Image.fromarray(on_photo(image, face, size))
    pen = ImageDraw.Draw(left)
    for xy, colour in ((target.landmarks, DETECTED), (face.landmarks("2d"), FITTED)):
        for x, y in (xy[0].detach() * size / CROP_SIZE).tolist():
            pen.ellipse((x - 2.2, y - 2.2, x + 2.2, y + 2.2), fill=colour)
    squared = ((rendered - target.image) ** 2).sum(1)[0].detach()
    colours = matplotlib.colormaps["viridis"](np.clip(squared.numpy() / 0.5, 0, 1))[..., :3]
    covered = mask[0, 0].detach().numpy()[..., None]
    colours = colours * covered + 0.96 * (1 - covered)
    right = Image.fromarray((255 * colours).astype(np.uint8)).resize((size, size))
    paper = Image.new("RGB", (2 * size + 6, size + 34), (255, 255, 255))
    paper.paste(left, (0, 34))
    paper.paste(right, (size + 6, 34))
    pen, font = ImageDraw.Draw(paper), ImageFont.load_default(size=17)
    for i, text in enumerate(lines):
        pen.text((8 + i * (size + 6), 7), text, fill=(30, 40, 60), font=font)
    return np.asarray(paper)


# Recognition and balance ----------------------------------------------------------------------


@torch.no_grad()
def chips_figure(
    network: FaceNetwork,
    target: Target,
    mask: Tensor,
    rendered: Mapping[str, Tensor],
    features_of: Callable[[Tensor, Tensor, Target], Tensor],
    loss_of: Callable[[Tensor, Tensor], Tensor],
) -> Figure:
    """What the network sees, and the numbers it gives: the photo's behind, the face's in front."""
    images = {"the photo, masked": target.image, **rendered}
    features = {name: features_of(image, mask, target) for name, image in images.items()}
    photo = features["the photo, masked"]
    matrix = chip_matrix(target.landmarks * target.image.shape[-1] / CROP_SIZE, network.chip)
    figure = Figure((10.5, 3.3), layout="constrained", facecolor="white")
    figure.suptitle("What the recognition network sees, and what it makes of it", fontsize=12)
    axes = figure.subplots(1, len(images) + 1, width_ratios=[1] * len(images) + [1.9])
    for axis, (name, image) in zip(axes, images.items(), strict=False):
        axis.imshow(to_uint8(cut_chips(image, matrix, network.chip, network.colour, mask)[0]))
        axis.set_title(name, fontsize=10)
        axis.axis("off")
    axis, place = axes[-1], np.arange(48)
    axis.bar(place, photo[0, :48], width=0.9, color="0.75", label="the photo")
    name, value = list(features.items())[-1]
    axis.step(place, value[0, :48], where="mid", color="#b3202c", linewidth=1.4, label=name)
    apart = float(feature_distance(value, photo)[0])
    axis.set_title(
        f"Eq. 6: {float(loss_of(value, photo)):.1f};  in a straight line {apart:.2f}, "
        f"one person below {network.same_person:g}",
        fontsize=10,
    )
    axis.set(xlabel="feature (the first 48 of 128)", ylim=(-0.36, 0.36), yticks=[-0.3, 0, 0.3])
    axis.legend(frameon=False, fontsize=8, loc="lower right", ncols=2)
    return figure


def balance_figure(tables: Mapping[str, Mapping[str, tuple[float, float]]]) -> Figure:
    """For each set of weights: weighted value and weighted gradient norm of every term."""
    rows = max(len(t) for t in tables.values())
    figure = Figure((11, 0.9 + 0.34 * rows), layout="constrained", facecolor="white")
    figure.suptitle("What a term is worth, and how hard it pulls on the shape", fontsize=12)
    for axis, (title, table) in zip(figure.subplots(1, len(tables)), tables.items(), strict=True):
        names = list(table)
        place = np.arange(len(names))[::-1]
        for shift, column, colour, label in (
            (0.2, 0, "#9aa7b5", "weight × value"),
            (-0.2, 1, "#2f6fad", "weight × norm of its gradient"),
        ):
            values = [max(table[n][column], 1e-9) for n in names]
            axis.barh(place + shift, values, height=0.38, color=colour, label=label)
            for y, v in zip(place + shift, values, strict=True):
                axis.text(
                    max(v, 2e-3) * 1.25, y, f"{v:.2g}" if v > 1e-3 else "0", fontsize=8, va="center"
                )
        axis.set_yticks(place, names)
        axis.set(xscale="log", xlim=(1e-3, 1e5), title=title)
        axis.legend(frameon=False, fontsize=8, loc="lower right")
    return figure


# Fits -----------------------------------------------------------------------------------------


@torch.no_grad()
def fit_rows(
    model: MorphableModel,
    image: Float[Tensor, "1 3 h w"],
    found: Mapping[str, FaceCoefficients],
    title: str,
    rows: int = 3,
) -> Figure:
    """One column a fit: on the photo; its shape from the front; turned."""
    figure, axes = sheet(len(found), rows, size=2.7, title=title, head=0.5)
    for column, (name, c) in zip(axes.T, found.items(), strict=True):
        picture(column[0], on_photo(image, synthesise(model, c)), name)
        if rows > 1:
            picture(column[1], shape_view(model, c))
        if rows > 2:
            picture(column[2], shape_view(model, c, 40, "studio"))
    return figure


def history_figure(history: Mapping[str, Sequence[float]], title: str) -> Figure:
    """The loss of each step, of one or more fits."""
    figure = Figure((7.5, 2.9), layout="constrained", facecolor="white")
    axis = figure.subplots()
    for (name, values), colour in zip(
        history.items(), ("#b3202c", "#1a7f37", "#2f6fad"), strict=False
    ):
        axis.plot(values, color=colour, linewidth=2, label=name)
    axis.set(yscale="log", xlabel="step", ylabel="loss", title=title)
    axis.legend(frameon=False)
    return figure


@torch.no_grad()
def robust_figure(
    model: MorphableModel, c: FaceCoefficients, target: Target, trust: Tensor, sigma: float
) -> Figure:
    """Geman and McClure's function, what it leaves of a fit's residuals, and the region weights."""
    face = synthesise(model, c)
    shown = torch.cat([face.colours, trust.expand(len(c), -1, 1)], -1)
    image, covered = face.render(SIZE, attributes=shown)
    seen = covered[0, 0].numpy() > 0
    squared = ((image[:, :3] - target.image) ** 2).mean(1)[0].numpy()
    figure = Figure((11, 3.3), layout="constrained", facecolor="white")
    axes = figure.subplots(1, 4, width_ratios=[1.35, 1, 1, 1])
    r = np.linspace(0, 0.5, 200)
    axes[0].plot(r, r**2, color="#b3202c", linewidth=2.2, label="r², Eq. 4")
    robust = r**2 / (1 + r**2 / sigma**2)
    axes[0].plot(r, robust, color="#1a7f37", linewidth=2.2, label="robust")
    axes[0].axvline(sigma, color="0.6", linewidth=1, linestyle=":")
    axes[0].set(ylim=(0, 0.06), xlabel="difference r of a pixel's colour", ylabel="what it costs")
    axes[0].set_title("Past the dotted line, more wrong\nhardly costs more", fontsize=10)
    axes[0].legend(frameon=False)
    pull = np.sqrt(squared)
    for axis, values, title in (
        (axes[1], pull / 0.5, "how far off each pixel is\n(1 = half of the colour range)"),
        (
            axes[2],
            1 / (1 + squared / sigma**2) ** 2,
            "share of its pull that\nthe robust loss keeps",
        ),
        (axes[3], image[0, 3].numpy(), "how far the model\nis trusted there"),
    ):
        drawn = picture(axis, np.where(seen, values, np.nan), title, cmap="viridis", vmin=0, vmax=1)
    figure.colorbar(drawn, ax=axes[1:], shrink=0.8)
    return figure


@torch.no_grad()
def film_frames(
    model: MorphableModel,
    image: Tensor,
    states: Sequence[FaceCoefficients],
    count: int = 20,
    size: int = 208,
) -> list[UInt8[np.ndarray, "height width 3"]]:
    """The photo beside the fit on it at some steps, more of them at the start, the last one held."""
    last = len(states) - 1
    chosen = sorted({round(last * (i / (count - 1)) ** 1.6) for i in range(count)})
    photo = F.interpolate(image, (size, size), mode="bilinear", align_corners=False)
    left = to_uint8(photo[0])
    frames = []
    for step in chosen:
        face = synthesise(model, states[step])
        panels = [left, on_photo(image, face, size), shape_view(model, states[step], 30, size=size)]
        sheet_ = Image.fromarray(np.concatenate(panels, 1))
        pen = ImageDraw.Draw(sheet_)
        pen.text(
            (size + 6, 4),
            f"step {step}",
            fill=(255, 255, 255),
            font=_font(15),
            stroke_width=2,
            stroke_fill=(0, 0, 0),
        )
        frames.append(np.asarray(sheet_))
    return frames + [frames[-1]] * 4


def _font(size: int):
    return ImageFont.load_default(size=size)


@torch.no_grad()
def film_values(
    model: MorphableModel,
    target: Target,
    states: Sequence[FaceCoefficients],
    pixel_term: Callable[[Face, Target], Tensor],
    landmark_term: Callable[[Tensor, Tensor], Tensor],
) -> list[tuple[float, float]]:
    """Pixel and landmark loss of each state."""
    values = []
    for c in states:
        face = synthesise(model, c)
        landmark = landmark_term(face.landmarks("2d"), target.landmarks)
        values.append((float(pixel_term(face, target)), float(landmark)))
    return values


def step_panel(
    model: MorphableModel,
    image: Tensor,
    states: Sequence[FaceCoefficients],
    values: Sequence[tuple[float, float]],
    step: int,
    size: int = 260,
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
        pen.text((10, top - 24), text, fill=colour, font=_font(15))
    panels = [on_photo(image, synthesise(model, c), size), shape_view(model, c, 35, size=size)]
    return np.concatenate([*panels, np.asarray(chart)], 1)


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


def prior_sweep(
    model: MorphableModel,
    truth: FaceCoefficients,
    target: Target,
    strengths: Sequence[float],
    fit_face: Callable,
    steps: int = 100,
) -> tuple[Tensor, Tensor]:
    """Every face under every strength of the priors, fitted to its landmarks in one batch.

    Adam treats each number by itself, so the rows do not disturb each other. Returns the median
    vertex errors in mm and the landmark losses in px, (strength, face) both.
    """
    count, few, points_count = len(truth), model.landmark_model(), point_weights()
    landmarks = target.landmarks.repeat(len(strengths), 1, 1)
    strength = torch.tensor(strengths, dtype=torch.float32).repeat_interleave(count)
    start = FaceCoefficients.cat([start_from_landmarks(model, target.landmarks)] * len(strengths))

    def landmark(c: FaceCoefficients) -> Tensor:
        off = (landmark_points(few, c) - landmarks).abs().sum(-1) * points_count.to(landmarks)
        return off.sum(1) / 68

    def loss_of(p: Mapping[str, Tensor]) -> Tensor:
        c = coefficients(p)
        prior = strength.to(landmarks) * shape_prior(model, c)
        return (losses.FIT_WEIGHTS["landmark"] * landmark(c) + prior).sum()

    rates = {name: LEARNING_RATES[name] for name in SHAPE}
    found, _ = fit_face(loss_of, parameters(start), rates, steps)
    with torch.no_grad():
        c = coefficients(found)
        again = FaceCoefficients.cat([truth] * len(strengths))
        errors = shape_errors(model, c, again).median(1).values
        return errors.view(-1, count), landmark(c).view(-1, count)


@torch.no_grad()
def table_figure(columns: Sequence[str], rows: Mapping[str, Sequence[str]], title: str) -> Figure:
    """A table as a picture: results of a long optimisation, whose last digits differ by machine."""
    figure = Figure((1.55 * len(columns) + 3.2, 0.75 + 0.36 * (len(rows) + 1)), facecolor="white")
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
def mm_figure(errors: Mapping[str, Tensor], title: str) -> Figure:
    """Median vertex error of each face, a row a way of fitting; thick: the median over faces."""
    figure = Figure((9, 0.8 + 0.5 * len(errors)), layout="constrained", facecolor="white")
    axis = figure.subplots()
    for y, (name, value) in enumerate(reversed(errors.items())):
        each = value.median(1).values.cpu().numpy()
        colour = "0.55" if name.startswith("the mean") else "#2f6fad"
        axis.barh(y, np.median(each), height=0.62, color=colour, alpha=0.35)
        axis.scatter(each, np.full(len(each), y), s=26, color=colour, zorder=3)
        axis.text(
            np.median(each) + 0.03, y + 0.2, f"{np.median(each):.2f}", fontsize=9, va="center"
        )
    axis.set_yticks(range(len(errors)), list(reversed(errors)))
    axis.set(xlabel="vertex error after similarity alignment, mm", title=title, xlim=(0, None))
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
    import matplotlib

    figure, axes = sheet(2 + len(found), len(faces), size=2.35, title=title, head=0.5)
    colours = matplotlib.colormaps["viridis"]
    for row, b in zip(axes, faces, strict=True):
        head = b == faces[0]
        picture(row[0], to_uint8(image[b]), "the photo" if head else "")
        picture(row[1], shape_view(model, truth[b]), "the truth" if head else "")
        for axis, (name, c) in zip(row[2:], found.items(), strict=True):
            error = shape_errors(model, None if c is None else c[b], truth[b])
            paint = torch.tensor(colours((error[0] / ERROR_MM).clamp(0, 1).cpu().numpy())[:, :3])
            face = turned(model, truth[b], 0.0)
            view, mask = face.render(600, attributes=paint[None].float().to(model.device))
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


# Things on the face ---------------------------------------------------------------------------


def with_sunglasses(target: Target) -> Target:
    """The same photo with dark glasses painted over the eyes; the landmarks are left as they are."""
    size = target.image.shape[-1]
    scale = 4 * size / CROP_SIZE
    layer = Image.new("L", (4 * size, 4 * size), 0)
    pen = ImageDraw.Draw(layer)
    xy = target.landmarks[0].cpu() * scale
    eyes = [xy[36:42].mean(0), xy[42:48].mean(0)]
    reach = float((xy[45] - xy[36]).norm())
    for x, y in (e.tolist() for e in eyes):
        w, h = 0.29 * reach, 0.22 * reach
        pen.rounded_rectangle((x - w, y - 0.75 * h, x + w, y + 1.25 * h), 0.12 * reach, fill=255)
    (x0, y0), (x1, y1) = (e.tolist() for e in eyes)
    pen.line((x0, y0 - 0.06 * reach, x1, y1 - 0.06 * reach), fill=255, width=int(0.05 * reach))
    for (x, y), end in zip((e.tolist() for e in eyes), (xy[0], xy[16]), strict=True):
        pen.line((x, y - 0.04 * reach, *end.tolist()), fill=255, width=int(0.05 * reach))
    layer = layer.resize((size, size), Image.Resampling.BOX)
    alpha = torch.from_numpy(np.asarray(layer).astype(np.float32) / 255).to(target.image)
    dark = target.image.new_tensor([0.05, 0.05, 0.07])[:, None, None]
    painted = target.image * (1 - alpha) + dark * alpha
    return Target(painted, target.valid, target.landmarks)


def mm_between(model: MorphableModel, a: FaceCoefficients, b: FaceCoefficients) -> float:
    """Mean distance in mm of two fits' vertices after similarity alignment."""
    with torch.no_grad():
        return float(shape_errors(model, a, b).mean())


# What one photo cannot tell -------------------------------------------------------------------


@torch.no_grad()
def other_skin(model: MorphableModel, c: FaceCoefficients, factor: float) -> FaceCoefficients:
    """The same colours in the picture from a skin `factor` times as dark, in that much more light.

    The albedo is the basis' nearest to factor times the old one; the light is divided by factor.
    """
    changed = c.detach().clone()
    basis = model.albedo_basis.reshape(len(model.albedo_basis), -1)
    wanted = (factor * model.albedo(c.albedo)[0] - model.albedo_mean).reshape(-1)
    weight = model.regions["skin"][:, None].expand(-1, 3).reshape(-1)
    normal = (basis * weight) @ basis.T + 1e-3 * torch.eye(len(basis))
    changed.albedo = torch.linalg.solve(normal, (basis * weight) @ wanted)[None]
    changed.lighting = c.lighting / factor
    return changed


@torch.no_grad()
def skins_figure(
    model: MorphableModel,
    image: Tensor,
    faces: Mapping[str, FaceCoefficients],
    values: Sequence[float],
) -> Figure:
    """In the picture, and out of its light."""
    title = "Above: nearly one picture. Below: three different people's skin"
    figure, axes = sheet(len(faces), 2, size=2.9, title=title, head=0.5)
    for column, (name, c), value in zip(axes.T, faces.items(), values, strict=True):
        face = synthesise(model, c)
        picture(column[0], on_photo(image, face), f"{name}\nEq. 4: {value:.1f} / 1000")
        picture(column[1], show_face(face, "unlit", 300))
    axes[1, 0].set_title("without light: the skin that each one claims", fontsize=10)
    return figure


@torch.no_grad()
def disguise_figure(
    model: MorphableModel,
    target: Target,
    behind: Mapping[str, FaceCoefficients],
    without: Mapping[str, FaceCoefficients],
) -> Figure:
    """The disguised photo, and what the glasses did to each fit."""
    figure, axes = sheet(
        1 + 2 * len(behind), size=2.55, title="Sunglasses are not a face", head=0.5
    )
    picture(axes[0, 0], to_uint8(target.image[0]), "the disguised photo\n")
    for i, (name, c) in enumerate(behind.items()):
        mm = mm_between(model, c, without[name])
        picture(axes[0, 1 + 2 * i], show_face(synthesise(model, c), "unlit", 300), f"{name}:\nskin")
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
    figure = Figure((8, 2.3), layout="constrained", facecolor="white")
    axis = figure.subplots()
    for j, (label, how) in enumerate(kinds.items()):
        for i, (name, c) in enumerate(found.items()):
            value = float(shape_errors(model, c, truth, how).median(1).values.median())
            y = -i - 0.38 * j
            colour = ("#2f6fad", "#b9cfe4")[j]
            axis.barh(y, value, 0.34, color=colour, label=label if i == 0 else None)
            axis.text(value + 0.03, y, f"{value:.2f}", va="center", fontsize=9)
    axis.set_yticks([-i - 0.19 for i in range(len(found))], list(found))
    axis.set(xlabel="median vertex error, mm", title="Whether the size counts makes a difference")
    axis.legend(frameon=False, fontsize=9)
    return figure
