"""Figures full of faces, stored small: a palette takes a third of the room of full colours.

Notebooks 07 to 09.
"""

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from ...pictures.faces import Picture

NONE = Image.Dither.NONE  # dithering is noise to a PNG


def pixels(figure: Figure, dpi: int = 80) -> Picture:
    """The figure, drawn."""
    figure.set_dpi(dpi)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def in_palette(figure: Figure, dpi: int = 90, colours: int = 200) -> Image.Image:
    """The figure in at most 256 colours: those reach rare ones, such as a thin line's, and are then
    moved to the mean of what they stand for."""
    picture = pixels(figure, dpi)
    sample = Image.fromarray(picture[::2, ::2].copy())  # five times as fast
    palette = sample.quantize(colours, Image.Quantize.MAXCOVERAGE, kmeans=2, dither=NONE)
    return Image.fromarray(picture).quantize(palette=palette, dither=NONE)


def fewer_colours(picture: Picture, colours: int) -> Picture:
    """The same picture in at most 256 colours, in a few milliseconds."""
    image = Image.fromarray(np.ascontiguousarray(picture))
    return np.asarray(image.quantize(colours, Image.Quantize.MEDIANCUT, dither=NONE).convert("RGB"))
