"""Sheets of pictures: pictures in a grid, and a figure as a file.

save_figure(gallery([before, after], ["before", "after"], title="What changed"), "change.png")

Every notebook.
"""

import math
import os
import warnings
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from ..files.atomic import write_whole


def gallery(
    images: Sequence[np.ndarray],
    titles: Sequence[str] = (),
    *,
    title: str = "",
    columns: int | None = None,
    size: float = 2.6,
    **imshow,
) -> Figure:
    """Pictures in a grid, each under its title; `size` inches a panel.

    images: (H, W, 3) uint8, or (H, W) numbers with cmap=, vmin=, vmax= for `imshow`.
    Raises ValueError without images, or with more titles than images.
    """
    if not images or len(titles) > len(images):
        raise ValueError(f"gallery: expected images, got {len(images)} and {len(titles)} titles")
    columns = min(columns or len(images), len(images))
    rows = math.ceil(len(images) / columns)
    lines = 1 + max((name.count("\n") for name in titles), default=-1)
    head = 0.35 * bool(title) + 0.2 * title.count("\n") + rows * (0.15 * bool(lines) + 0.2 * lines)
    figure = Figure((columns * size, rows * size + head), layout="constrained", facecolor="white")
    if title:
        figure.suptitle(title, fontsize=12, parse_math=False)
    for axis in figure.subplots(rows, columns, squeeze=False).flat:
        axis.axis("off")
    for i, image in enumerate(images):
        figure.axes[i].imshow(image, **imshow)
        if i < len(titles):
            figure.axes[i].set_title(titles[i], fontsize=10)
    return figure


def save_figure(figure: Figure, path: str | os.PathLike) -> None:
    """Write a figure as PNG, without a display; the file appears whole or not at all."""
    with write_whole(path) as partial, warnings.catch_warnings():
        # a name in a script that the font lacks is drawn as boxes: no reason to warn
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure.savefig(partial, format="png", dpi=110)
