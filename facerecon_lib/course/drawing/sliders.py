"""Pictures for sliders that are redrawn in milliseconds: curves are drawn once, then only marked.

Notebooks 06 and 08.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw

from ...pictures.faces import Picture
from .style import charts, font, pixels

CAPTION = 26  # px above a panel
GAP = 8  # px behind one
MARK = 140  # of 255: the grey of the line in a plot


class Curves:
    """Plots beside each other, drawn once; `marked` puts a vertical line into each."""

    def __init__(self, draw: Callable[[Sequence], None], count: int, size: tuple[int, int]):
        figure, axes = charts(size[0] / 80, size[1] / 80, count, squeeze=False)
        self.axes = list(axes[0])
        draw(self.axes)
        self.picture = pixels(figure)

    def marked(self, values: Sequence[float]) -> Picture:
        """The plots with a line at one value of x each, behind what is drawn and written there."""
        marked = self.picture.copy()
        for axis, value in zip(self.axes, values, strict=True):
            (x, low), (_, high) = (axis.transData.transform((value, y)) for y in axis.get_ylim())
            rows = slice(max(len(marked) - round(high), 0), len(marked) - round(low))
            behind = marked[rows, round(x) - 1 : round(x) + 1]
            np.minimum(behind, MARK, out=behind)
        return marked


def panel_row(panels: Mapping[str, Picture], plots: Picture) -> Picture:
    """Square panels under their captions, then the plots, which are as high as all of it."""
    side = len(plots) - CAPTION
    step = side + GAP
    sheet = Image.new("RGB", (len(panels) * step + plots.shape[1], len(plots)), "white")
    pen = ImageDraw.Draw(sheet)
    for left, (caption, panel) in zip(range(0, sheet.width, step), panels.items(), strict=False):
        image = Image.fromarray(panel).resize((side, side), Image.Resampling.BILINEAR)
        sheet.paste(image, (left, CAPTION))
        pen.text((left + side // 2, 5), caption, fill=(20, 20, 20), font=font(14), anchor="mt")
    sheet.paste(Image.fromarray(plots), (len(panels) * step, 0))
    return np.asarray(sheet)
