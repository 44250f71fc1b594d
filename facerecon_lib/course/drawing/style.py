"""One style for all figures: the palette, a colour map per quantity, pages, panels and charts.

figure, axes = panels(2, 3, size=2.4, title="What to notice")     # pictures, rows by columns
fill(axes[0], [photo, shape], ["the photo", "its shape"], name="the fit")
error = picture(axes[1, 2], error_mm, "off by", **sized(4.0))     # or **signed(0.3)
figure, (left, right) = charts(10.4, 3.4, columns=2, title="What to notice")
curves(left, {"trained on": a, "strangers": b}, steps, xlabel="step", ylabel="loss")

Every notebook.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import zip_longest

import matplotlib
import numpy as np
import torch
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from PIL import Image, ImageFont
from torch import Tensor

from ...face.camera import CROP_SIZE
from ...pictures.faces import DETECTED, FITTED, Picture

BLUE, RED, GREEN, ORANGE = "#2f6fad", "#b3202c", "#1a7f37", "#e08b2d"
GREY, INK = "0.55", "#2b2f36"
LINES = (BLUE, RED, GREEN, ORANGE, GREY)
BLUES = ("#9ecae1", "#4292c6", "#0b3c6f")  # from less to more of one thing
Pixels, Points, Lines = np.ndarray | Tensor, Float[Tensor, "point 2"], Mapping[str, Sequence[float]]
SIZE, SIGNED = "viridis", "RdBu_r"  # of magnitudes from 0; of numbers about 0, red above


def page(width: float, height: float, title: str = "", fontsize: float = 12) -> Figure:
    """An empty white figure, inches."""
    figure = Figure((width, height), layout="constrained", facecolor="white")
    if title:
        figure.suptitle(title, fontsize=fontsize)
    return figure


def pixels(figure: Figure, dpi: int = 80) -> Picture:
    """The figure, drawn."""
    figure.set_dpi(dpi)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def drawn(figure: Figure, dpi: int = 90) -> Image.Image:
    """The figure as a picture: one of faces needs no more than `dpi`."""
    return Image.fromarray(pixels(figure, dpi))


def panels(rows: int, columns: int, size=3.0, title="", head=0.45) -> tuple[Figure, np.ndarray]:
    """For square pictures of `size` inches, `head` for all rows' titles; axes (rows, columns)."""
    height = rows * size + head + (0.35 if title else 0)
    return charts(columns * size, height, columns, rows, title, squeeze=False)


def charts(
    width: float, height: float, columns=1, rows=1, title="", fontsize=12, **subplots
) -> tuple[Figure, Axes | np.ndarray]:
    """A figure of that size in inches, and its axes as `Figure.subplots` gives them."""
    figure = page(width, height, title, fontsize)
    return figure, figure.subplots(rows, columns, **subplots)


def picture(
    axis: Axes, image: Pixels, title: str = "", fontsize: float = 10, **imshow
) -> AxesImage:
    """An image without axes, CROP_SIZE wide, so that landmarks can be drawn on it."""
    height, width = image.shape[:2]
    bottom = CROP_SIZE * height / width
    panel = axis.imshow(image, extent=(0, CROP_SIZE, bottom, 0), **imshow)
    axis.set_title(title, fontsize=fontsize)
    axis.set(xlim=(0, CROP_SIZE), ylim=(bottom, 0))
    axis.axis("off")
    return panel


def fill(axes: np.ndarray, images: Iterable[Pixels], titles: Iterable[str] = (), name="") -> None:
    """Images row by row, the first ones under titles, behind the row's name."""
    for axis, image, title in zip_longest(np.ravel(axes), images, titles, fillvalue=""):
        picture(axis, image, title)
    if name:
        row_name(np.ravel(axes)[0], name)


def dots(axis: Axes, points: Points, colour: str, size: float = 7, **style) -> None:
    """Points on a picture, in pixels of the crop."""
    axis.scatter(*points.detach().cpu().T, s=size, color=colour, **dict(linewidths=0) | style)


def arrows(axis: Axes, start: Points, end: Points) -> None:
    """Lines from fitted points (red) to detected ones (green)."""
    axis.plot(*torch.stack([start, end]).detach().cpu().permute(2, 0, 1), color="white", lw=1.2)
    dots(axis, start, FITTED, 9, zorder=3)
    dots(axis, end, DETECTED, 9, zorder=3)


def row_name(axis: Axes, text: str, x: float = -0.06, **style) -> None:
    """A name before a row of pictures, upwards; axis: the row's first."""
    style = dict(rotation=90, ha="right", va="center", fontsize=10) | style
    axis.text(x, 0.5, text, transform=axis.transAxes, **style)


def bare(axis: Axes) -> None:
    """Takes ticks and frame away; labels stay."""
    axis.set(xticks=[], yticks=[])
    axis.spines[:].set_visible(False)


def sized(most: float = 1.0) -> dict:
    """How `imshow` draws magnitudes from 0 to `most`."""
    return dict(cmap=SIZE, vmin=0, vmax=most)


def signed(most: float = 1.0) -> dict:
    """How `imshow` draws numbers from -most (blue) to most (red)."""
    return dict(cmap=SIGNED, vmin=-most, vmax=most)


def heat(values: Float[Tensor, "*any"], most: float = 1.0, cmap=SIZE) -> Float[Tensor, "*any 3"]:
    """The colours of magnitudes from 0 to `most`, for a painter."""
    rgba = matplotlib.colormaps[cmap]((values / most).clamp(0, 1).detach().cpu().numpy())
    return torch.tensor(rgba[..., :3], dtype=torch.float32)


def colour_bar(figure: Figure, most: float, label: str, cmap=SIZE, least=0.0, **place) -> None:
    """A bar for colours that `heat` made. place: ax= or cax=, shrink=, ... of `colorbar`."""
    figure.colorbar(ScalarMappable(Normalize(least, most), cmap), label=label, **place)


def curves(
    axis: Axes, lines: Lines, x=None, form="-", *, colours=LINES, width=2, legend=True, **settings
) -> None:
    """Lines by their labels. x: of all lines, else 0, 1, 2 ... form: as in `Axes.plot`. legend: its
    settings, False for none; one line has none. settings: of the axis, as in `Axes.set`."""
    for (label, y), colour in zip(lines.items(), colours, strict=False):
        places = range(len(y)) if x is None else x
        axis.plot(places, y, form, color=colour, label=label, linewidth=width)
    axis.set(**settings)
    if legend and len(lines) > 1:
        add_legend(axis, **({} if legend is True else legend))


def bars(
    axis: Axes, values: Mapping[str, float], form: str, height=0.8, colours=(RED, BLUE), **settings
) -> None:
    """Horizontal bars from top to bottom, their numbers behind them."""
    rows = axis.barh(list(values), list(values.values()), height, color=colours)
    axis.bar_label(rows, map(form.format, values.values()), padding=4)
    axis.yaxis.set_inverted(True)
    axis.set(**settings)


def median_bar(
    axis: Axes, y: float, values: Float[Tensor, " face"], form: str, colour: str, height=0.6
) -> None:
    """The median as a pale bar, a dot per face, and the median as a number behind them."""
    values = values.detach().cpu().numpy()
    middle = np.median(values)
    axis.barh(y, middle, height, color=colour, alpha=0.3)
    axis.scatter(values, np.full(len(values), y), s=22, color=colour, zorder=3)
    axis.text(values.max(), y, "  " + form.format(middle), fontsize=9, va="center")


def number_grid(axis: Axes, shades: np.ndarray, texts: Sequence, most: float) -> None:
    """A table of texts on signed colours."""
    axis.imshow(shades, aspect="auto", **signed(most))
    for (i, j), shade in np.ndenumerate(shades):
        ink = "white" if abs(shade) > 0.7 * most else "black"
        axis.text(j, i, texts[i][j], ha="center", va="center", fontsize=9, color=ink)


def table(axis: Axes, cells: Sequence[Sequence[str]], fontsize: float, tall: float, **labels):
    """Texts in cells, `tall` times as high as matplotlib's. labels: of `Axes.table`."""
    axis.axis("off")
    grid = axis.table(cells, cellLoc="center", **labels)
    grid.auto_set_font_size(False)
    grid.set_fontsize(fontsize)
    grid.scale(1, tall)
    for cell in grid.get_celld().values():
        cell.set_edgecolor("0.85")
    return grid


def add_legend(axis: Axes, **settings) -> None:
    axis.legend(**(dict(frameon=False, fontsize=9) | settings))


def legend_below(figure: Figure, axis: Axes, columns: int, **settings) -> None:
    """One legend for all axes of a figure, of what `axis` shows."""
    place = dict(loc="outside lower center", ncols=columns, frameon=False)
    figure.legend(*axis.get_legend_handles_labels(), **place, **settings)


def log_ticks(axis: Axes, ticks: Sequence[float]) -> None:
    """A logarithmic x axis with these ticks and no others."""
    axis.set_xscale("log")
    axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axis.minorticks_off()


def font(size: int):
    """A font for words that PIL draws."""
    return ImageFont.load_default(size=size)
