"""Figures of notebook 05 about losses: what each sees, where it leads, what it weighs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import matplotlib
import numpy as np
import torch
from jaxtyping import Float, UInt8
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ...face.camera import CROP_SIZE
from ...face.coefficients import FaceCoefficients
from ...face.morphable_model import MorphableModel
from ...networks.face_networks import FaceNetwork
from ...networks.recognition import chip_matrix, cut_chips, feature_distance
from ...photos.crop import Crop
from ...pictures.faces import DETECTED, FITTED, on_photo, to_uint8
from ...rendering.synthesis import Face, synthesise
from ..drawing.style import arrows, dots, panels, picture
from .photo_fits import SIZE, Target, at_distance


@torch.no_grad()
def guess_figure(crop: Crop, face: Face) -> Figure:
    """The photo, the guess on it, and what is wrong with it."""
    figure, axes = panels(1, 3, size=3.0, title="A photo, a guess, and how far apart they are")
    seen = face.landmarks("2d")[0]
    picture(axes[0, 0], to_uint8(crop.image[0]), "the photo and its 68 detected landmarks")
    dots(axes[0, 0], crop.landmarks[0], DETECTED, 10)
    picture(axes[0, 1], on_photo(crop.image, face), "the guess: the mean face")
    picture(axes[0, 2], to_uint8(crop.image[0]), "its points (red), the photo's (green)")
    arrows(axes[0, 2], seen, crop.landmarks[0])
    return figure


@torch.no_grad()
def pixel_figure(
    rendered: Float[Tensor, "1 3 h w"], photo: Float[Tensor, "1 3 h w"], mask: Tensor, value: str
) -> Figure:
    """The two images that Eq. 4 compares, and where it finds fault."""
    figure, axes = panels(
        1, 3, size=3.0, title="What Eq. 4 sees: nothing outside the mask exists for it"
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
    figure = Figure((9.6, 4.3), layout="constrained", facecolor="white")
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
    columns = 4
    figure, axes = panels(
        len(walks), columns, size=1.8, head=0.8,
        title="Adam chooses the distance: a mask that is alive lets the face run away",
    )  # fmt: skip
    for row, (name, states) in zip(axes, walks.items(), strict=True):
        chosen = [round(i * (len(states) - 1) / (columns - 1)) for i in range(columns)]
        for axis, step in zip(row, chosen, strict=True):
            mm = float(states[step].translation[0, 2])
            picture(axis, on_photo(crop.image, synthesise(model, states[step])))
            axis.set_title(f"{name}\nstep {step}: {mm:.0f} mm", fontsize=9)
    return figure


@torch.no_grad()
def basin_figure(shifts: Sequence[float], curves: Mapping[str, Sequence[float]]) -> Figure:
    """Two losses while the face is pushed up or down, and where downhill leads away from 0."""
    figure = Figure((8.6, 3.5), layout="constrained", facecolor="white")
    axis = figure.subplots()
    shifts = np.asarray(shifts)
    for (name, values), colour in zip(curves.items(), ("#1a7f37", "#b3202c"), strict=True):
        values = np.asarray(values) / max(values)
        axis.plot(shifts, values, color=colour, linewidth=2.2, label=name)
        wrong = (np.gradient(values, shifts) * np.sign(shifts) < 0) & (abs(shifts) > 5)
        lost = np.where(wrong, values, np.nan)
        axis.plot(shifts, lost, color=colour, linewidth=8, alpha=0.3, solid_capstyle="round")
    axis.axvline(0, color="0.7", linewidth=1, linestyle=":")
    axis.set(xlabel="the guess is pushed up by, mm", ylabel="loss (1 = its largest)")
    axis.set(ylim=(0, 1.08), title="Where the line is thick, downhill leads away from home")
    axis.legend(frameon=False, loc="lower right")
    return figure


@torch.no_grad()
def outlier_figure(
    crop: Crop, wrong: Tensor, faces: Mapping[str, Face], moved: Sequence[int]
) -> Figure:
    """Fits to landmarks of which some are wrong, on the photo."""
    figure, axes = panels(1, 1 + len(faces), size=2.7, title="Three wrong landmarks of 68")
    picture(axes[0, 0], to_uint8(crop.image[0]), "yellow: three points, 40 px off")
    dots(axes[0, 0], wrong[0], DETECTED, 9)
    dots(axes[0, 0], wrong[0, list(moved)], "#ffd21f", 30)
    right = [i for i in range(68) if i not in moved]
    for axis, (name, face) in zip(axes[0, 1:], faces.items(), strict=True):
        seen = face.landmarks("2d")[0]
        off = (seen - crop.landmarks[0])[list(moved)].norm(dim=-1).mean()
        title = f"{name}: {off:.0f} px from the truth"
        picture(axis, on_photo(crop.image, face), title)
        dots(axis, seen[list(moved)], "#ffd21f", 30, zorder=4)
        arrows(axis, seen[right], crop.landmarks[0, right])
    return figure


def optimiser_panel(
    image: Float[Tensor, "1 3 h w"],
    face: Face,
    rendered: Tensor,
    mask: Tensor,
    target: Target,
    lines: Sequence[str],
    size: int = 252,
) -> UInt8[np.ndarray, "height width 3"]:
    """The face on the photo with both sets of points, the squared difference, and lines of text."""
    left = Image.fromarray(on_photo(image, face, size, fine=1))
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
    figure = Figure((10.5, 3.1), layout="constrained", facecolor="white")
    figure.suptitle(
        "What a term is worth, and how hard it pulls on the shape (logarithmic)", fontsize=12
    )
    axes = figure.subplots(1, len(tables), sharey=True)
    for axis, (title, table) in zip(axes, tables.items(), strict=True):
        place = np.arange(len(table))[::-1]
        for shift, column, colour, label in (
            (0.2, 0, "#aab6c3", "weight × value"),
            (-0.2, 1, "#2f6fad", "weight × norm of its gradient"),
        ):
            values = [row[column] for row in table.values()]
            axis.barh(place + shift, values, height=0.38, color=colour, label=label)
            for y, v in zip(place + shift, values, strict=True):
                axis.text(v * 1.3, y, two_digits(v), fontsize=9, va="center")
        axis.set_yticks(place, list(table))
        axis.set(xscale="log", xlim=(1e-3, 6e4))
        axis.set_title(title, fontsize=10)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    return figure


def two_digits(value: float) -> str:
    """0.034, 0.77, 12, 2300: two significant digits without exponents."""
    digits = max(1 - int(np.floor(np.log10(abs(value)))), 0) if value else 0
    return f"{round(value, 1 - int(np.floor(np.log10(abs(value))))):.{digits}f}" if value else "0"


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
