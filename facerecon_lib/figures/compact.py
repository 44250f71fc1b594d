"""Figures stored as PNG in 256 colours: a third of the size, and little that one sees.

compact_figures()  # once, in a notebook: every matplotlib figure shown afterwards
"""

from __future__ import annotations

import io

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

COMMON, RARE = 168, 86  # colours of skin and paper; and of thin lines, dots and colour bars


def compact_png(figure: Figure) -> bytes:
    """The figure as PNG with a palette.

    Median cut alone gives all colours to the skin, and turns a violet dot grey: so a third of the
    palette is chosen to cover whatever colours there are, however few pixels have them.
    """
    out = io.BytesIO()
    figure.savefig(out, format="png", bbox_inches="tight", dpi=figure.get_dpi())
    image = Image.open(out).convert("RGB")
    colours = [255, 255, 255, 0, 0, 0]
    for count, method in ((COMMON, "MEDIANCUT"), (RARE, "MAXCOVERAGE")):
        some = image.quantize(count, method=Image.Quantize[method], dither=Image.Dither.NONE)
        colours += some.getpalette()[: 3 * count]
    palette = Image.new("P", (1, 1))
    palette.putpalette(colours)
    index = np.asarray(image.quantize(palette=palette, dither=Image.Dither.NONE)).copy()
    index[(np.asarray(image) == 255).all(-1)] = 0  # paper stays white: the search is not exact
    reduced = Image.fromarray(index, "P")
    reduced.putpalette(colours)
    out = io.BytesIO()
    reduced.save(out, "PNG", optimize=True)
    return out.getvalue()


def compact_figures() -> None:
    """Show figures of this kernel so; does nothing outside IPython."""
    from IPython import get_ipython

    shell = get_ipython()
    if shell is not None:
        shell.display_formatter.formatters["image/png"].for_type(Figure, compact_png)
