"""Figures full of faces, stored small: a palette takes a third of the room of full colours.

return in_palette(figure)                            # a PIL image, which a notebook shows
picture = fewer_colours(picture)                     # compresses better, still (H, W, 3)
"""

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from ...pictures.faces import Picture

COLOURS = 200


def drawn(figure: Figure, dpi: int = 80) -> Picture:
    """The figure's pixels."""
    figure.set_dpi(dpi)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def in_palette(figure: Figure, dpi: int = 90, colours: int = COLOURS) -> Image.Image:
    """The figure, drawn, as an image of at most 256 colours.

    The palette reaches rare colours, such as a thin line's, and is then moved to the mean of what
    it stands for; no dithering, which is noise to a PNG.
    """
    picture, none = drawn(figure, dpi), Image.Dither.NONE
    sample = Image.fromarray(picture[::2, ::2].copy())  # five times as fast
    palette = sample.quantize(colours, Image.Quantize.MAXCOVERAGE, kmeans=2, dither=none)
    return Image.fromarray(picture).quantize(palette=palette, dither=none)


def fewer_colours(picture: Picture, colours: int = COLOURS) -> Picture:
    """The same picture in at most 256 colours, in a few milliseconds."""
    image = Image.fromarray(np.ascontiguousarray(picture))
    reduced = image.quantize(colours, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    return np.asarray(reduced.convert("RGB"))
