"""Figures full of faces, stored small: a palette takes a third of the room of full colours.

return in_palette(figure)                            # a PIL image, which a notebook shows
picture = fewer_colours(picture)                     # compresses better, still (H, W, 3)
"""

from __future__ import annotations

import numpy as np
from jaxtyping import UInt8
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

COLOURS = 200


def in_palette(figure: Figure, dpi: int = 90, colours: int = COLOURS) -> Image.Image:
    """The figure, drawn, as an image of at most 256 colours."""
    figure.set_dpi(dpi)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return _quantised(np.asarray(canvas.buffer_rgba())[..., :3], colours)


def fewer_colours(
    picture: UInt8[np.ndarray, "height width 3"], colours: int = COLOURS
) -> UInt8[np.ndarray, "height width 3"]:
    """The same picture in at most 256 colours, in a few milliseconds."""
    image = Image.fromarray(np.ascontiguousarray(picture))
    reduced = image.quantize(colours, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    return np.asarray(reduced.convert("RGB"))


def _quantised(picture: np.ndarray, colours: int) -> Image.Image:
    """A palette that reaches rare colours, such as a thin line's, and is then moved to the mean of
    what it stands for; no dithering, which is noise to a PNG."""
    method, none = Image.Quantize.MAXCOVERAGE, Image.Dither.NONE
    sample = Image.fromarray(np.ascontiguousarray(picture[::2, ::2]))  # five times as fast
    palette = sample.quantize(colours, method, kmeans=2, dither=none)
    return Image.fromarray(np.ascontiguousarray(picture)).quantize(palette=palette, dither=none)
