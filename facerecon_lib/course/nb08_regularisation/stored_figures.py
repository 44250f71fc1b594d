"""Figures of notebook 08 from the stored fits: degenerate faces, symmetry, pulls, ablation, luck.

sweep = load_sweep()
fits.first_screen(sweep)
fits.ablation_table(sweep)
"""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from ..drawing.palettes import in_palette
from ..drawing.style import BLUE, GREEN, GREY, RED
from .sweep import EQUATIONS, MEASURES, OffsetSweep

WAYS = {"report": "the report's weights", "balanced": "balanced weights"}
WAY_COLOURS = {"report": RED, "balanced": BLUE}
TERMS = {
    "pixel": "pixel, Eq. 4",
    "landmark": "landmark, Eq. 5",
    "texture_l2": "size of texture, Eq. 8",
    "displacement_l2": "size of displacement, Eq. 8",
    "texture_symmetry": "symmetry of texture, Eq. 9",
    "displacement_symmetry": "symmetry of displacement, Eq. 9",
    "smooth_shape": "smooth shape, Eq. 10",
    "smooth_albedo": "smooth albedo, Eq. 11",
}


def _picture(axis: Axes, image: np.ndarray, title: str = "", size: int = 10) -> None:
    axis.imshow(image)
    axis.set_title(title, fontsize=size)
    axis.axis("off")


def _grid(rows: int, columns: int, title: str, size: float = 1.55, head: float = 0.6):
    figure = Figure((columns * size, rows * size + head), layout="constrained", facecolor="white")
    figure.suptitle(title, fontsize=12)
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    return figure, axes


def _row_name(axis: Axes, text: str) -> None:
    axis.text(
        -0.06,
        0.5,
        text,
        transform=axis.transAxes,
        rotation=90,
        ha="right",
        va="center",
        fontsize=10,
    )


def first_screen(sweep: OffsetSweep) -> Image.Image:
    """Base and what the photo terms alone make of it: every face in a row."""
    alone = sweep.find("report", "alone")
    columns = [
        ("the photo", "wanted", "rendering"),
        ("base: rendering", "base", "rendering"),
        ("base: shape", "base", "shape"),
        ("fitted: rendering", alone, "rendering"),
        ("fitted: its shape", alone, "shape"),
        ("fitted: its skin", alone, "skin"),
    ]
    title = "Pixel and landmark terms alone: from the front it is a better likeness"
    figure, axes = _grid(len(sweep.faces), len(columns), title)
    for face, row in enumerate(axes):
        for axis, (name, run, panel) in zip(row, columns, strict=True):
            _picture(axis, sweep.panel(run, face, panel), name if face == 0 else "")
        _row_name(row[0], sweep.faces[face])
    return in_palette(figure, colours=128)


def baked_light(sweep: OffsetSweep) -> Image.Image:
    """True skin beside the skin before and after, of the rendered faces, and the errors."""
    alone = sweep.find("report", "alone")
    faces = range(1, len(sweep.faces))
    figure = Figure((12, 3.9), layout="constrained", facecolor="white")
    figure.suptitle("The rendering fits better; skin and shape are another matter", fontsize=12)
    left, right = figure.subfigures(1, 2, width_ratios=[1.25, 1])
    axes = left.subplots(len(faces), 4, squeeze=False)
    for row, face in zip(axes, faces, strict=True):
        panels = {
            "the photo": ("wanted", "rendering"),
            "its true skin": ("wanted", "skin"),
            "base: skin": ("base", "skin"),
            "fitted: skin": (alone, "skin"),
        }
        for axis, (name, (run, panel)) in zip(row, panels.items(), strict=True):
            _picture(axis, sweep.panel(run, face, panel), name if face == 1 else "")
        _row_name(row[0], sweep.faces[face])
    axis = right.subplots()
    names = ("photometric", "truth_albedo", "truth_mm", "truth_normals_deg")
    for k, face in enumerate(faces):
        change = [
            100 * (sweep.number(alone, n, face) / sweep.number(None, n, face) - 1) for n in names
        ]
        place = np.arange(len(names)) + 0.38 * (k - 0.5)
        colours = [GREEN if c < 0 else RED for c in change]
        bars = axis.barh(place, change, 0.34, color=colours, alpha=0.95 - 0.4 * k)
        axis.bar_label(bars, [f"{sweep.faces[face]}: {c:+.0f} %" for c in change], fontsize=8)
    axis.set_yticks(range(len(names)), [MEASURES[n] for n in names], fontsize=9)
    axis.invert_yaxis()
    axis.axvline(0, color="0.3", linewidth=0.8)
    low, high = axis.get_xlim()
    axis.set_xlim(low - 0.9 * (high - low), high + 1.2 * (high - low))
    axis.set_xlabel("change against the base, %")
    axis.spines[["top", "right", "left"]].set_visible(False)
    axis.tick_params(axis="y", length=0)
    return in_palette(figure, colours=160)


def symmetry_on_turned(sweep: OffsetSweep, face: int = 2) -> Image.Image:
    """Image and mesh symmetry on a turned face, weight by weight."""
    several = sweep.multiples("balanced", "Eq. 9", "image")
    several = [m for m in several if m in sweep.multiples("balanced", "Eq. 9")][-4:]
    rows = {"flip the map": "image", "compare mirror vertices": ""}
    title = "Heavy symmetry on a face turned aside: flipping the map costs more of the likeness"
    figure = Figure((12.5, 5.2), layout="constrained", facecolor="white")
    figure.suptitle(title, fontsize=12)
    left, right = figure.subfigures(1, 2, width_ratios=[2.2, 1])
    axes = left.subplots(2, 1 + len(several))
    for row, (name, symmetry) in zip(axes, rows.items(), strict=True):
        run = sweep.find("balanced", "term", "Eq. 9", several[-2], symmetry)
        _picture(
            row[0], sweep.panel(run, face, "rendering"), f"rendering\nweight × {several[-2]:g}"
        )
        _row_name(row[0], name)
        for axis, m in zip(row[1:], several, strict=True):
            run = sweep.find("balanced", "term", "Eq. 9", m, symmetry)
            _picture(axis, sweep.panel(run, face, "texture"), f"texture map\nweight × {m:g}")
    for axis, at in zip(right.subplots(2, 1), (face, 1), strict=True):
        for (words, symmetry), colour in zip(rows.items(), (RED, BLUE), strict=True):
            places = sweep.multiples("balanced", "Eq. 9", symmetry)
            runs = [sweep.find("balanced", "term", "Eq. 9", m, symmetry) for m in places]
            values = [sweep.number(run, "photometric", at) for run in runs]
            axis.semilogx(places, values, "o-", color=colour, label=words, markersize=4)
        axis.axhline(sweep.number(None, "photometric", at), color=GREY, ls=":", label="base")
        axis.set(title=f"photometric error, {sweep.faces[at]}", ylim=(0, None))
        axis.spines[["top", "right"]].set_visible(False)
    axis.set_xlabel("weight of Eq. 9, times ours")
    right.axes[0].legend(fontsize=8, frameon=False)
    return in_palette(figure, colours=96)


def pulls(sweep: OffsetSweep) -> Figure:
    """How hard each term pulls at the maps, where the photo terms alone have led."""
    figure = Figure((11.5, 4.2), layout="constrained", facecolor="white")
    figure.suptitle(
        "How hard each term pulls at the maps of the runaway faces, as a share of the pixel term",
        fontsize=12,
    )
    for axis, (way, words) in zip(figure.subplots(1, 2, sharey=True), WAYS.items(), strict=True):
        run = sweep.find(way, "alone")
        pixel = float(sweep.gradients[run, sweep.term_names.index("pixel")])
        shares = [float(v) / pixel for v in sweep.gradients[run]]
        colours = [GREY if name in ("pixel", "landmark") else WAY_COLOURS[way] for name in TERMS]
        bars = axis.barh(range(len(shares)), shares, color=colours)
        axis.bar_label(bars, [_share(s) for s in shares], padding=3, fontsize=9)
        axis.set_xscale("log")
        axis.set_xlim(1e-8, 200)
        axis.set_yticks(range(len(shares)), [TERMS[n] for n in sweep.term_names])
        axis.set_title(words)
        axis.spines[["top", "right"]].set_visible(False)
    figure.axes[0].invert_yaxis()
    return figure


def _share(share: float) -> str:
    if share == 1:
        return "1"
    return f"{share:.0e}".replace("e-0", "e-") if share < 0.01 else f"{share:.2f}"


def ablation_faces(sweep: OffsetSweep, face: int = 0) -> Image.Image:
    """One face: nothing held, everything held, each equation left out; both sets of weights."""
    title = f"Each term left out in turn: shape and skin of {sweep.faces[face]}"
    cases = ("no regulariser", "all four", *(f"without {e}" for e in EQUATIONS))
    figure, axes = _grid(4, len(cases), title, size=1.4)
    for pair, way in zip((axes[:2], axes[2:]), WAYS, strict=True):
        runs = [sweep.find(way, "alone"), sweep.find(way, "full")]
        runs += [sweep.find(way, "without", e) for e in EQUATIONS]
        for row, name in zip(pair, ("shape", "skin"), strict=True):
            _row_name(row[0], way)
            for axis, case, run in zip(row, cases, runs, strict=True):
                first = way == "report" and name == "shape"
                _picture(axis, sweep.panel(run, face, name), case if first else "")
    return in_palette(figure, colours=80)


ABLATION = (
    "photometric",
    "displacement_rms_mm",
    "displacement_max_mm",
    "flipped_percent",
    "rough_mm",
    "asymmetry_mm",
    "texture_rms",
    "truth_mm",
    "truth_normals_deg",
    "truth_albedo",
)


def luck(sweep: OffsetSweep) -> Figure:
    """Fits that differ in next to nothing, as dots: how far results scatter by themselves."""
    weak = [("term", e, m) for e in ("Eq. 10", "Eq. 11") for m in sweep.multiples("report", e)]
    faint = [("term", e, sweep.multiples("balanced", e)[0]) for e in EQUATIONS]
    left_out = [("full", "", 1.0), *(("without", e, 1.0) for e in EQUATIONS)]
    groups = {
        "report: photo terms, and\none term of next to no pull": ("report", weak),
        "report: all four,\nor one left out": ("report", left_out),
        "balanced: photo terms, and\none at a hundredth": ("balanced", faint),
        "balanced: all four,\nor one left out": ("balanced", left_out),
    }
    figure = Figure((11.5, 3.4), layout="constrained", facecolor="white")
    figure.suptitle("One dot a fit: at the report's weights, left out or not is a matter of luck")
    axes = figure.subplots(1, 2, sharey=True)
    for axis, name in zip(axes, ("displacement_max_mm", "bend_deg"), strict=True):
        for row, (way, kinds) in enumerate(groups.values()):
            runs = [sweep.find(way, kind, e, m) for kind, e, m in kinds]
            values = [_mean(sweep, run, name) for run in runs]
            axis.plot(values, [row] * len(runs), "o", color=WAY_COLOURS[way], alpha=0.55)
        axis.set(title=f"{MEASURES[name]}, mean of the faces", xlim=(0, None), ylim=(3.5, -0.5))
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_yticks(range(len(groups)), list(groups), fontsize=9)
    return figure


def ablation_table(sweep: OffsetSweep) -> Image.Image:
    """Measures of base, of nothing held, of all, and of all but one, for both sets of weights."""
    figure = Figure((12.5, 5.6), layout="constrained", facecolor="white")
    figure.suptitle(
        "Each regulariser left out, mean over the faces: red is more than with all four, blue less",
        fontsize=12,
    )
    for axis, (way, words) in zip(figure.subplots(2, 1), WAYS.items(), strict=True):
        full = sweep.find(way, "full")
        rows = {"base": None, "no regulariser": sweep.find(way, "alone"), "all four": full}
        rows |= {f"without {e}": sweep.find(way, "without", e) for e in EQUATIONS}
        values = np.array([[_mean(sweep, run, n) for n in ABLATION] for run in rows.values()])
        reference = values[list(rows).index("all four")]
        worse = np.log2((values + 1e-6) / (reference + 1e-6))
        axis.imshow(worse, cmap="RdBu_r", vmin=-2, vmax=2, aspect="auto")
        for (i, j), value in np.ndenumerate(values):
            colour = "white" if abs(worse[i, j]) > 1.4 else "black"
            axis.text(j, i, _three(value), ha="center", va="center", fontsize=9, color=colour)
        axis.set_yticks(range(len(rows)), list(rows), fontsize=9)
        axis.set_xticks(range(len(ABLATION)), [MEASURES[n].replace(", ", "\n") for n in ABLATION])
        axis.tick_params(axis="x", labelsize=8, length=0)
        axis.xaxis.tick_top()
        axis.set_xlabel(words, fontsize=10, fontweight="bold")
        axis.spines[:].set_visible(False)
    return in_palette(figure, colours=64)


def _mean(sweep: OffsetSweep, run: int | None, name: str) -> float:
    values = [sweep.number(run, name, face) for face in range(len(sweep.faces))]
    return float(np.nanmean(values))


def _three(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:#.3g}".rstrip(".") if value else "0"
