"""What notebook 08 shows of fits that were made beforehand: Eq. 12's weights turned up and down.

sweep = load_sweep()                                 # data_scripts/sweep_offset_weights.py
run = sweep.find("report", "alone")
sweep.number(run, "flipped_percent", face=0), sweep.panel(run, face=0, name="shape")
draw = weight_panels(sweep, "Eq. 8", "shape", ["displacement_max_mm"])    # for widgets.explore
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path

import matplotlib
import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image
from safetensors import SafetensorError, safe_open
from torch import Tensor

from .base_branch import BLUE, GREEN, GREY, RED
from .slider_panels import Curves, Picture, panel_row
from .small_pictures import in_palette

FORMAT = "facerecon-offset-sweep-1"
PAPER_BYTE = 245
EQUATIONS = ("Eq. 8", "Eq. 9", "Eq. 10", "Eq. 11")
WAYS = {"report": "the report's weights", "balanced": "balanced weights"}
WAY_COLOURS = {"report": RED, "balanced": BLUE}
CAPTIONS = {
    "rendering": "rendering",
    "skin": "skin, unlit",
    "shape": "shape, turned by 35°",
    "texture": "texture map",
    "displacement": "displacement map",
}
MEASURES = {
    "photometric": "photometric error",
    "landmark_px": "landmarks, px",
    "displacement_max_mm": "largest displacement, mm",
    "displacement_rms_mm": "displacement, mm",
    "texture_rms": "texture offset",
    "flipped_percent": "flipped triangles, %",
    "bend_deg": "triangles bent, degrees",
    "rough_mm": "neighbours apart, mm",
    "asymmetry_mm": "left from right, mm",
    "asymmetry_colour": "left from right, colour",
    "truth_mm": "off the true shape, mm",
    "truth_normals_deg": "off the true normals, degrees",
    "truth_albedo": "off the true skin",
}
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


class SweepError(ValueError):
    """A file of stored fits that cannot be used."""


def shipped_sweep_path() -> Path:
    """The stored fits in the package."""
    return Path(str(files("facerecon_lib"))) / "assets" / "offset_weight_sweep.safetensors"


@dataclass(eq=False)
class OffsetSweep:
    """Stored fits. runs: what each was, with "way", "kind", "equation", "multiple", "symmetry".

    numbers: MEASURES of each run and face; start: of the base faces. terms, gradients: of each run,
    values at its end and lengths of their weighted gradients with respect to the maps.
    """

    runs: list[dict]
    faces: list[str]
    numbers: Float[Tensor, "run face number"]
    start: Float[Tensor, "face number"]
    terms: Float[Tensor, "run term"]
    gradients: Float[Tensor, "run term"]
    number_names: list[str]
    term_names: list[str]
    panel_names: list[str]
    millimetres: float  # what white stands for in a displacement panel
    metadata: dict[str, str]
    pictures: dict[str, Tensor] = field(repr=False)
    opened: dict[str, np.ndarray] = field(default_factory=dict, repr=False)

    def find(
        self, way: str, kind: str, equation: str = "", multiple: float = 1.0, symmetry: str = ""
    ) -> int:
        """The run's number. Raises SweepError where there is none."""
        wanted = {"way": way, "kind": kind, "equation": equation, "symmetry": symmetry}
        for i, run in enumerate(self.runs):
            same = math.isclose(run["multiple"], multiple, rel_tol=1e-6)
            if same and all(run[key] == value for key, value in wanted.items()):
                return i
        raise SweepError(f"no stored fit {way} {kind} {equation} {symmetry} x {multiple:g}")

    def multiples(self, way: str, equation: str, symmetry: str = "") -> list[float]:
        """At which multiples of the way's weight an equation was tried alone."""
        wanted = {"way": way, "kind": "term", "equation": equation, "symmetry": symmetry}
        found = [r["multiple"] for r in self.runs if all(r[k] == v for k, v in wanted.items())]
        return sorted(found)

    def number(self, run: int | None, name: str, face: int) -> float:
        """One measure of one face; run None is the base face."""
        values = self.start if run is None else self.numbers[run]
        return float(values[face, self.number_names.index(name)])

    def panel(self, run: int | str, face: int, name: str) -> UInt8[np.ndarray, "size size 3"]:
        """One picture; run: a number, "base" or "wanted", where "rendering" is the photo."""
        key = f"picture.{run}"
        if key not in self.opened:
            sheet = np.asarray(Image.open(io.BytesIO(self.pictures[key].numpy().tobytes())))
            side = sheet.shape[0] // len(self.faces)
            self.opened[key] = sheet.reshape(len(self.faces), side, -1, side, 3).swapaxes(1, 2)
        shown = self.opened[key][face, self.panel_names.index(name)].copy()
        if name == "displacement":
            shown = (matplotlib.colormaps["viridis"](shown[..., 0])[..., :3] * 255).astype(np.uint8)
        elif name != "texture" and run != "wanted":
            shown[(shown > PAPER_BYTE - 8).all(-1)] = PAPER_BYTE  # JPEG's ripples beside the face
        return shown


def load_sweep(path: Path | None = None) -> OffsetSweep:
    """Read the stored fits. Raises SweepError, one line, for a missing or damaged file."""
    path = shipped_sweep_path() if path is None else Path(path)
    maker = "data_scripts/sweep_offset_weights.py makes one"
    if not path.is_file():
        raise SweepError(f"{path}: there is no such file; {maker}")
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            data = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as problem:
        reason = " ".join(str(problem).split())
        raise SweepError(f"{path.name}: not a readable safetensors file ({reason})") from None
    if metadata.get("format") != FORMAT:
        raise SweepError(f"{path.name}: format {metadata.get('format')!r}, not {FORMAT!r}; {maker}")
    try:
        about = {
            name: json.loads(metadata[name])
            for name in ("runs", "yaw_deg", "numbers", "terms", "panels", "ranges")
        }
        return OffsetSweep(
            runs=about["runs"],
            faces=["the photo", *(_described(yaw) for yaw in about["yaw_deg"])],
            numbers=data["numbers"],
            start=data["base_numbers"],
            terms=data["terms"],
            gradients=data["gradients"],
            number_names=about["numbers"],
            term_names=about["terms"],
            panel_names=about["panels"],
            millimetres=about["ranges"]["displacement_mm"],
            metadata=metadata,
            pictures={name: value for name, value in data.items() if name.startswith("picture.")},
        )
    except (KeyError, TypeError, ValueError) as problem:
        raise SweepError(f"{path.name}: its parts do not fit ({problem}); {maker}") from None


def _described(yaw: float) -> str:
    return f"turned by {abs(yaw):.0f}°" if abs(yaw) > 10 else "frontal"


# Sliders ----------------------------------------------------------------------------------------


def weight_panels(
    sweep: OffsetSweep, equation: str, shows: str, measures: Sequence[str], symmetry: str = ""
) -> Callable[..., Picture]:
    """draw(place, way, face) for `widgets.explore`: the fit at the place-th weight of an equation,
    and its measures over all weights. shows: "shape" or "skin", with its map. `way` is the first
    word of a menu's entry."""
    about = ("shape", "displacement") if shows == "shape" else ("skin", "texture")
    drawn: dict[tuple, Curves] = {}

    def draw(place: int, way: str, face: str) -> Picture:
        key, at = way.split()[0], sweep.faces.index(face)
        several = sweep.multiples(key, equation, symmetry)
        place = min(place, len(several) - 1)
        runs = [sweep.find(key, "term", equation, m, symmetry) for m in several]
        if (key, at) not in drawn:
            drawn[key, at] = Curves(
                lambda axes: _measured(axes, sweep, key, runs, several, measures, at),
                len(measures),
                (195 * len(measures), 194),
            )
        panels = {
            CAPTIONS[name]: sweep.panel(runs[place], at, name) for name in ("rendering", *about)
        }
        mark = math.log10(several[place])
        return panel_row(panels, drawn[key, at].marked([mark] * len(measures)))

    return draw


def _measured(axes, sweep: OffsetSweep, way: str, runs, several, measures, face: int) -> None:
    alone = sweep.find(way, "alone")
    x = [math.log10(m) for m in several]
    for axis, name in zip(axes, measures, strict=True):
        axis.axhline(sweep.number(alone, name, face), color=RED, linewidth=1, label="without it")
        if not math.isnan(sweep.number(None, name, face)):
            axis.axhline(sweep.number(None, name, face), color=GREY, ls=":", label="base")
        axis.plot(x, [sweep.number(r, name, face) for r in runs], "o-", color=BLUE, markersize=4)
        axis.set_ylim(0, None)
        axis.set_xlabel("weight, times its unit", fontsize=8)
        axis.set_xticks(x, [_power(v) for v in x], fontsize=7)
        axis.tick_params(axis="y", labelsize=7)
        axis.set_title(MEASURES[name], fontsize=9)
    axes[0].legend(fontsize=7, frameon=False)


def _power(log: float) -> str:
    return f"{10**log:g}" if -3 < log < 3 else f"1e{log:.0f}"


# Figures ----------------------------------------------------------------------------------------


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
    return in_palette(figure)


def baked_light(sweep: OffsetSweep) -> Image.Image:
    """True skin beside the skin before and after, of the rendered faces, and the errors."""
    alone = sweep.find("report", "alone")
    faces = range(1, len(sweep.faces))
    figure = Figure((11.5, 4.2), layout="constrained", facecolor="white")
    figure.suptitle("The rendering fits better; skin and shape are another matter", fontsize=12)
    left, right = figure.subfigures(1, 2, width_ratios=[1.5, 1])
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
    axis.set_xlim(low - 0.9 * (high - low), high + 0.9 * (high - low))
    axis.set_xlabel("change of the error against the base, %")
    axis.spines[["top", "right", "left"]].set_visible(False)
    axis.tick_params(axis="y", length=0)
    return in_palette(figure)


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
        _picture(row[0], sweep.panel("wanted", face, "rendering"), "the photo")
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
    return in_palette(figure)


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
    return in_palette(figure)


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
    return in_palette(figure)


def _mean(sweep: OffsetSweep, run: int | None, name: str) -> float:
    values = [sweep.number(run, name, face) for face in range(len(sweep.faces))]
    return float(np.nanmean(values))


def _three(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:#.3g}".rstrip(".") if value else "0"
