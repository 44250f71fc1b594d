"""Figures about losses: what each sees, where it leads, what it weighs.

Notebook 05, Eq. 4 to 6.
"""

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from PIL import Image, ImageDraw
from torch import Tensor

from ...face.batch import FaceBatch
from ...face.camera import CROP_SIZE
from ...face.coefficients import FaceCoefficients
from ...face.morphable_model import MorphableModel
from ...networks.face_networks import FaceNetwork
from ...networks.recognition import chip_matrix, cut_chips, feature_distance
from ...photos.crop import Crop
from ...pictures.faces import DETECTED, FITTED, PAPER, Picture, on_photo, to_uint8, with_points
from ...rendering.synthesis import Face, synthesise
from ..drawing import style
from ..drawing.style import BLUE, GREEN, ORANGE, RED
from .photo_fits import SIZE, PointLoss, at_distance

Losses, Photo = Mapping[str, Sequence[float]], Float[Tensor, "1 3 h w"]
YELLOW = "#ffd21f"


def guess_figure(crop: Crop, face: Face) -> Figure:
    """The photo, the guess on it, and what is wrong with it."""
    title = "A photo, a guess, and how far apart they are"
    figure, axes = style.panels(1, 3, size=2.8, title=title)
    photo, guess = to_uint8(crop.image[0]), on_photo(crop.image, face)
    names = ["the photo and its 68 detected landmarks", "the guess: the mean face"]
    names.append("its points (red), the photo's (green)")
    style.fill(axes, [photo, guess, photo], names)
    style.dots(axes[0, 0], crop.landmarks[0], DETECTED, 10)
    style.arrows(axes[0, 2], face.landmarks("2d")[0], crop.landmarks[0])
    return figure


def pixel_figure(rendered: Photo, photo: Photo, mask: Tensor, value: str) -> Figure:
    """The two images that Eq. 4 compares, and where it finds fault."""
    title = "What Eq. 4 sees: nothing outside the mask exists for it"
    figure, axes = style.panels(1, 3, size=3.0, title=title)
    grey = PAPER * (1 - mask)
    images = [to_uint8((image * mask + grey)[0]) for image in (photo, rendered)]
    style.fill(axes[0, :2], images, ["the photo under the mask", "the rendering"])
    squared = ((rendered - photo) ** 2).sum(1)[0].masked_fill(mask[0, 0] == 0, torch.nan)
    drawn = style.picture(axes[0, 2], squared, value, **style.sized(0.5))
    figure.colorbar(drawn, ax=axes[0, 2], shrink=0.8, label="squared difference, three channels")
    return figure


def distance_figure(
    model: MorphableModel,
    crop: Crop,
    c: FaceCoefficients,
    distances: Sequence[float],
    losses: Losses,
) -> Figure:
    """Losses over distance, each divided by its largest value, and the face at some distances."""
    figure = style.page(9.6, 4.3, "Eq. 4 likes faces that are far away; landmarks do not")
    left, right = figure.subfigures(1, 2, width_ratios=[1.2, 1])
    axis = left.subplots()
    shares, colours = _shares(losses), (RED, ORANGE, GREEN)
    for values, colour in zip(shares.values(), colours, strict=True):
        low = values.argmin()
        axis.plot(distances[low], values[low], "o", color=colour, markersize=9)
    labels = dict(xlabel="distance of the face, mm", ylabel="loss (1 = its largest)")
    labels |= dict(ylim=(-0.03, 1.05), title="Dots: where each loss is least")
    style.curves(axis, shares, distances, colours=colours, width=2.2, **labels)
    style.log_ticks(axis, [250, 350, 500, 700, 1000, 1500])
    for panel, mm in zip(right.subplots(2, 2).flat, (250, 350, 700, 1500), strict=True):
        face = synthesise(model, at_distance(c, mm))
        style.picture(panel, on_photo(crop.image, face), f"{mm} mm")
    return figure


def _shares(losses: Losses) -> dict[str, np.ndarray]:
    return {name: np.asarray(values) / max(values) for name, values in losses.items()}


def walk_figure(
    model: MorphableModel, crop: Crop, walks: Mapping[str, Sequence[FaceCoefficients]]
) -> Figure:
    """Some states of each walk, a row per walk."""
    title = "Adam chooses the distance: a mask that is alive lets the face run away"
    columns = 4
    figure, axes = style.panels(len(walks), columns, size=1.8, head=0.8, title=title)
    for row, (name, states) in zip(axes, walks.items(), strict=True):
        steps = [round(i * (len(states) - 1) / (columns - 1)) for i in range(columns)]
        for axis, step in zip(row, steps, strict=True):
            words = f"{name}\nstep {step}: {float(states[step].translation[0, 2]):.0f} mm"
            style.picture(axis, on_photo(crop.image, synthesise(model, states[step])), words, 9)
    return figure


def basin_figure(shifts: Sequence[float], losses: Losses) -> Figure:
    """Two losses while the face is pushed up or down, and where downhill leads away from 0."""
    figure, axis = style.charts(8.6, 3.5)
    shifts, shares, colours = np.asarray(shifts), _shares(losses), (GREEN, RED)
    labels = dict(xlabel="the guess is pushed up by, mm", ylabel="loss (1 = its largest)")
    labels |= dict(ylim=(0, 1.08), title="Where the line is thick, downhill leads away from home")
    place = dict(loc="lower right", fontsize=10)
    style.curves(axis, shares, shifts, colours=colours, width=2.2, legend=place, **labels)
    for values, colour in zip(shares.values(), colours, strict=True):
        wrong = (np.gradient(values, shifts) * np.sign(shifts) < 0) & (abs(shifts) > 5)
        lost = np.where(wrong, values, np.nan)
        axis.plot(shifts, lost, color=colour, linewidth=8, alpha=0.3, solid_capstyle="round")
    axis.axvline(0, color="0.7", linewidth=1, linestyle=":")
    return figure


def outlier_figure(
    model: MorphableModel,
    crop: Crop,
    wrong: Tensor,
    fits: Mapping[str, FaceCoefficients],
    moved: Sequence[int],
) -> Figure:
    """Fits to landmarks, some of them wrong, on the photo."""
    figure, axes = style.panels(1, 1 + len(fits), size=2.7, title="Three wrong landmarks of 68")
    style.picture(axes[0, 0], to_uint8(crop.image[0]), "yellow: three points, 40 px off")
    style.dots(axes[0, 0], wrong[0], DETECTED, 9)
    style.dots(axes[0, 0], wrong[0, list(moved)], YELLOW, 30)
    right = [i for i in range(68) if i not in moved]
    for axis, (name, c) in zip(axes[0, 1:], fits.items(), strict=True):
        face = synthesise(model, c)
        points = face.landmarks("2d")[0]
        off = (points - crop.landmarks[0])[list(moved)].norm(dim=-1).mean()
        style.picture(axis, on_photo(crop.image, face), f"{name}: {off:.0f} px from the truth")
        style.dots(axis, points[list(moved)], YELLOW, 30, zorder=4)
        style.arrows(axis, points[right], crop.landmarks[0, right])
    return figure


@torch.no_grad()
def optimiser_panel(
    image: Photo, face: Face, rendered: Photo, mask: Tensor, target: FaceBatch, lines: Sequence[str]
) -> Picture:
    """The face on the photo with both sets of points, the squared difference, and lines of text."""
    size = 252
    left = on_photo(image, face, size, fine=1)
    for points, colour in ((target.landmarks, DETECTED), (face.landmarks("2d"), FITTED)):
        left = with_points(left, points[0], colour, radius=2.2)
    squared = style.heat(((rendered - target.image) ** 2).sum(1)[0], 0.5).permute(2, 0, 1)
    right = Image.fromarray(to_uint8(squared * mask[0] + PAPER * (1 - mask[0])))
    paper = Image.new("RGB", (2 * size + 6, size + 34), "white")
    paper.paste(Image.fromarray(left), (0, 34))
    paper.paste(right.resize((size, size)), (size + 6, 34))
    pen = ImageDraw.Draw(paper)
    for i, text in enumerate(lines):
        pen.text((8 + i * (size + 6), 7), text, fill=(30, 40, 60), font=style.font(17))
    return np.asarray(paper)


@torch.no_grad()
def chips_figure(
    network: FaceNetwork,
    target: FaceBatch,
    mask: Tensor,
    rendered: Mapping[str, Tensor],
    features_of: Callable,
    loss_of: PointLoss,
) -> Figure:
    """What the network sees, and the numbers it gives: the photo's behind, the face's in front."""
    images = {"the photo, masked": target.image, **rendered}
    photo, *_, face = (features_of(image, mask, target) for image in images.values())
    matrix = chip_matrix(target.landmarks * target.image.shape[-1] / CROP_SIZE, network.chip)
    title = "What the recognition network sees, and what it makes of it"
    ratios = [1] * len(images) + [1.9]
    figure, axes = style.charts(10.5, 3.3, len(ratios), title=title, width_ratios=ratios)
    chip = network.chip, network.colour, mask
    style.fill(
        axes[:-1], [to_uint8(cut_chips(i, matrix, *chip)[0]) for i in images.values()], images
    )
    axis, place = axes[-1], np.arange(48)
    axis.bar(place, photo[0, :48], width=0.9, color="0.75", label="the photo")
    name = list(images)[-1]
    axis.step(place, face[0, :48], where="mid", color=RED, linewidth=1.4, label=name)
    title = f"Eq. 6: {float(loss_of(face, photo)):.1f};  in a straight line "
    title += f"{float(feature_distance(face, photo)[0]):.2f}, "
    axis.set_title(title + f"one person below {network.same_person:g}", fontsize=10)
    most = 1.3 * float(torch.cat([photo, face])[:, :48].abs().max())  # room for the legend
    axis.set(xlabel="feature (the first 48 of 128)", ylim=(-most, most))
    style.add_legend(axis, fontsize=8, loc="lower right", ncols=2)
    return figure


def balance_figure(tables: Mapping[str, Mapping[str, tuple[float, float]]]) -> Figure:
    """For each set of weights: weighted value and weighted gradient norm of every term."""
    title = "What a term is worth, and how hard it pulls on the shape (logarithmic)"
    figure, axes = style.charts(10.5, 3.1, len(tables), title=title, sharey=True)
    forms = ((0.2, "#aab6c3", "weight × value"), (-0.2, BLUE, "weight × norm of its gradient"))
    for axis, (title, rows) in zip(axes, tables.items(), strict=True):
        place = np.arange(len(rows))[::-1]
        worths, pulls = zip(*rows.values(), strict=True)
        for values, (shift, colour, label) in zip((worths, pulls), forms, strict=True):
            drawn = axis.barh(place + shift, values, height=0.38, color=colour, label=label)
            axis.bar_label(drawn, [two_digits(v) for v in values], padding=3, fontsize=9)
        axis.set_yticks(place, list(rows))
        axis.set(xscale="log", xlim=(1e-3, 6e4))
        axis.set_title(title, fontsize=10)
    style.legend_below(figure, axes[0], 2, fontsize=9)
    return figure


def two_digits(value: float) -> str:
    """0.034, 0.77, 12, 2300: two significant digits without exponents."""
    if not value:
        return "0"
    digits = 1 - math.floor(math.log10(abs(value)))
    return f"{round(value, digits):.{max(digits, 0)}f}"


def robust_figure(
    model: MorphableModel, c: FaceCoefficients, target: FaceBatch, trust: Tensor, sigma: float
) -> Figure:
    """Geman and McClure's function, what it leaves of a fit's residuals, and the region weights."""
    face = synthesise(model, c)
    attributes = torch.cat([face.colours, trust.expand(len(c), -1, 1)], -1)
    image, covered = face.render(SIZE, attributes=attributes)
    squared = ((image[:, :3] - target.image) ** 2).mean(1)[0]
    figure, axes = style.charts(11, 3.3, 4, width_ratios=[1.35, 1, 1, 1])
    r = np.linspace(0, 0.5, 200)
    costs = {"r², Eq. 4": r**2, "robust": r**2 / (1 + r**2 / sigma**2)}
    axes[0].axvline(sigma, color="0.6", linewidth=1, linestyle=":")
    labels = dict(xlabel="difference r of a pixel's colour", ylabel="what it costs", ylim=(0, 0.06))
    legend = dict(fontsize=10)
    style.curves(axes[0], costs, r, colours=(RED, GREEN), width=2.2, legend=legend, **labels)
    axes[0].set_title("Past the dotted line, more wrong\nhardly costs more", fontsize=10)
    maps = {
        "how far off each pixel is\n(1 = half of the colour range)": squared.sqrt() / 0.5,
        "share of its pull that\nthe robust loss keeps": 1 / (1 + squared / sigma**2) ** 2,
        "how far the model\nis trusted there": image[0, 3],
    }
    for axis, (title, values) in zip(axes[1:], maps.items(), strict=True):
        drawn = style.picture(
            axis, values.masked_fill(covered[0, 0] == 0, torch.nan), title, **style.sized()
        )
    figure.colorbar(drawn, ax=axes[1:], shrink=0.8)
    return figure
