"""Figures from the stored fits: degenerate faces, symmetry, pulls, ablation, luck.

Notebook 08, Eq. 8 to 12.
"""

from collections.abc import Mapping
from itertools import product

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from ..drawing import style
from ..drawing.style import BLUE, GREEN, GREY, RED, charts, drawn, fill, page, panels
from .sweep import EQUATIONS, MEASURES, OffsetSweep

WAYS = {"report": "the report's weights", "balanced": "balanced weights"}
ABLATION = tuple(MEASURES)[:10]
WAY_COLOURS = {"report": RED, "balanced": BLUE}


def _face_rows(axes: np.ndarray, sweep: OffsetSweep, faces: range, columns: Mapping) -> None:
    """A row per face, a column per run and panel; names above and before them."""
    for i, (row, face) in enumerate(zip(axes, faces, strict=True)):
        images = [sweep.panel(run, face, panel) for run, panel in columns.values()]
        fill(row, images, () if i else columns, sweep.faces[face])


def first_screen(sweep: OffsetSweep) -> Image.Image:
    """The report's Fig. 3: what the photo terms alone make of each base face, large."""
    alone = sweep.find("report", "alone")
    columns = {
        "the photo": ("wanted", "rendering"),
        "before: the base's shape": ("base", "shape"),
        "after: the rendering": (alone, "rendering"),
        "after: its shape": (alone, "shape"),
    }
    title = "Pixel and landmark terms alone: from the front it is a better likeness"
    figure, axes = panels(len(sweep.faces), len(columns), 3.34, title)
    _face_rows(axes, sweep, range(len(sweep.faces)), columns)
    return drawn(figure)


def baked_light(sweep: OffsetSweep) -> Image.Image:
    """Skin before and after, beside the true one where it is known, and the errors."""
    alone, faces = sweep.find("report", "alone"), range(1, len(sweep.faces))
    figure = page(12.5, 5.6, "The rendering fits better; skin and shape are another matter")
    left, right = figure.subfigures(1, 2, width_ratios=[1.3, 1])
    columns = {
        "the photo": ("wanted", "rendering"),
        "base: skin": ("base", "skin"),
        "fitted: skin": (alone, "skin"),
        "its true skin": ("wanted", "skin"),
    }
    grid = left.subplots(len(sweep.faces), 4)
    _face_rows(grid, sweep, range(len(sweep.faces)), columns)
    grid[0, 3].text(0.5, 0.5, "nobody knows", transform=grid[0, 3].transAxes, ha="center")
    axis, names = right.subplots(), ("photometric", "truth_albedo", "truth_mm", "truth_normals_deg")
    for k, face in enumerate(faces):
        ratios = [sweep.number(alone, n, face) / sweep.number(None, n, face) for n in names]
        change = [100 * (ratio - 1) for ratio in ratios]
        form = dict(color=[GREEN if c < 0 else RED for c in change], alpha=0.95 - 0.4 * k)
        rows = axis.barh(np.arange(len(names)) + 0.38 * (k - 0.5), change, 0.34, **form)
        axis.bar_label(rows, [f"{sweep.faces[face]}: {c:+.0f} %" for c in change], fontsize=8)
    axis.set_yticks(range(len(names)), [MEASURES[n] for n in names], fontsize=9)
    axis.invert_yaxis()
    axis.axvline(0, color="0.3", linewidth=0.8)
    low, high = axis.get_xlim()
    axis.set_xlim(low - 0.9 * (high - low), high + 1.2 * (high - low))
    axis.set_xlabel("change against the base, %")
    axis.spines["left"].set_visible(False)
    axis.tick_params(axis="y", length=0)
    return drawn(figure)


def symmetry_on_turned(sweep: OffsetSweep) -> Image.Image:
    """Image and mesh symmetry on a turned face, weight by weight."""
    face, ways = 2, {"flip the map": "image", "compare mirror vertices": ""}
    fits = {name: sweep.at_weights("balanced", "Eq. 9", way) for name, way in ways.items()}
    heavy = list(fits["flip the map"])[-4:]
    title = "Heavy symmetry on a face turned aside: flipping the map costs more of the likeness"
    figure = page(12.5, 5.2, title)
    left, right = figure.subfigures(1, 2, width_ratios=[2.2, 1])
    names = [f"rendering\nweight × {heavy[-2]:g}"]
    names += [f"texture map\nweight × {m:g}" for m in heavy]
    for row, (name, runs) in zip(left.subplots(2, len(names)), fits.items(), strict=True):
        images = [sweep.panel(runs[m], face, "texture") for m in heavy]
        fill(row, [sweep.panel(runs[heavy[-2]], face, "rendering"), *images], names, name)
    for axis, at in zip(right.subplots(2, 1), (face, 1), strict=True):
        for (name, runs), colour in zip(fits.items(), (RED, BLUE), strict=True):
            values = [sweep.number(run, "photometric", at) for run in runs.values()]
            axis.semilogx(list(runs), values, "o-", color=colour, label=name, markersize=4)
        axis.axhline(sweep.number(None, "photometric", at), color=GREY, ls=":", label="base")
        axis.set(title=f"photometric error, {sweep.faces[at]}", ylim=(0, None))
    axis.set_xlabel("weight of Eq. 9, times ours")
    style.add_legend(right.axes[0], fontsize=8)
    return drawn(figure)


def ablation_faces(sweep: OffsetSweep) -> Image.Image:
    """The photo: nothing held, everything held, each equation left out; both sets of weights."""
    title = f"Each term left out in turn: shape and skin of {sweep.faces[0]}"
    names = ["no regulariser", "all four", *(f"without {e}" for e in EQUATIONS)]
    figure, axes = panels(4, len(names), 1.4, title, head=0.25)
    for row, (way, panel) in zip(axes, product(WAYS, ("shape", "skin")), strict=True):
        runs = [sweep.find(way, "alone"), *_left_out(sweep, way)]
        fill(row, [sweep.panel(run, 0, panel) for run in runs], names, way)
        names = ()
    return drawn(figure)


def _left_out(sweep: OffsetSweep, way: str) -> list[int]:
    """The fit with all four equations, and with each left out."""
    return [sweep.find(way, "full"), *(sweep.find(way, "without", e) for e in EQUATIONS)]


def luck(sweep: OffsetSweep) -> Figure:
    """Fits that differ in next to nothing, as dots: how far results scatter by themselves."""

    weak = [run for e in EQUATIONS[2:] for run in sweep.at_weights("report", e).values()]
    faint = [next(iter(sweep.at_weights("balanced", e).values())) for e in EQUATIONS]
    groups = {
        "report: photo terms, and\none term of next to no pull": weak,
        "report: all four,\nor one left out": _left_out(sweep, "report"),
        "balanced: photo terms, and\none at a hundredth": faint,
        "balanced: all four,\nor one left out": _left_out(sweep, "balanced"),
    }
    title = "One dot a fit: at the report's weights, left out or not is a matter of luck"
    figure, axes = charts(11.5, 3.4, 2, title=title, sharey=True)
    for axis, name in zip(axes, ("displacement_max_mm", "bend_deg"), strict=True):
        for row, (group, runs) in enumerate(groups.items()):
            values = [_mean(sweep, run, name) for run in runs]
            colour = WAY_COLOURS[group.partition(":")[0]]
            axis.plot(values, [row] * len(runs), "o", color=colour, alpha=0.55)
        axis.set(title=f"{MEASURES[name]}, mean of the faces", xlim=(0, None), ylim=(3.5, -0.5))
    axes[0].set_yticks(range(len(groups)), list(groups), fontsize=9)
    return figure


def ablation_table(sweep: OffsetSweep) -> Image.Image:
    """Measures of base, of nothing held, of all, and of all but one, for both sets of weights."""
    title = "Each regulariser left out, mean over the faces: red is more than with all four, blue "
    figure, axes = charts(12.5, 5.6, rows=2, title=f"{title}less")
    names = ["base", "no regulariser", "all four", *(f"without {e}" for e in EQUATIONS)]
    for axis, (way, words) in zip(axes, WAYS.items(), strict=True):
        runs = [None, sweep.find(way, "alone"), *_left_out(sweep, way)]
        values = np.array([[_mean(sweep, run, n) for n in ABLATION] for run in runs])
        worse = np.log2((values + 1e-6) / (values[2] + 1e-6))
        style.number_grid(axis, worse, [[_three(v) for v in row] for row in values], 2)
        axis.set_yticks(range(len(names)), names, fontsize=9)
        axis.set_xticks(range(len(ABLATION)), [MEASURES[n].replace(", ", "\n") for n in ABLATION])
        axis.tick_params(axis="x", labelsize=8, length=0)
        axis.xaxis.tick_top()
        axis.set_xlabel(words, fontsize=10, fontweight="bold")
        axis.spines[:].set_visible(False)
    return drawn(figure)


def _mean(sweep: OffsetSweep, run: int | None, name: str) -> float:
    return float(np.nanmean([sweep.number(run, name, face) for face in range(len(sweep.faces))]))


def _three(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:#.3g}".rstrip(".") if value else "0"
