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
from pathlib import Path

import matplotlib
import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ...files.errors import FacereconError, one_line
from ...files.weights import shipped_file
from ..drawing.palettes import fewer_colours
from ..drawing.sliders import CAPTION, Curves, Picture, panel_row
from ..drawing.style import BLUE, GREY, RED

FORMAT = "facerecon-offset-sweep-1"
PAPER_BYTE = 245
SLIDER_PANEL = 170  # px
EQUATIONS = ("Eq. 8", "Eq. 9", "Eq. 10", "Eq. 11")
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


class SweepError(FacereconError):
    """A file of stored fits that cannot be used."""


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
    path = shipped_file("offset_weight_sweep.safetensors") if path is None else Path(path)
    maker = "data_scripts/sweep_offset_weights.py makes one"
    if not path.is_file():
        raise SweepError(f"{path}: there is no such file; {maker}")
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            data = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as problem:
        raise SweepError(
            f"{path.name}: not a readable safetensors file ({one_line(problem)})"
        ) from None
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
                (195 * len(measures), SLIDER_PANEL + CAPTION),
            )
        captions = {**CAPTIONS, "rendering": f"rendering, weight {several[place]:,g}"}
        panels = {
            captions[name]: fewer_colours(_enlarged(sweep.panel(runs[place], at, name)), 48)
            for name in ("rendering", *about)
        }
        mark = math.log10(several[place])
        return panel_row(panels, drawn[key, at].marked([mark] * len(measures)))

    return draw


def _enlarged(panel: Picture) -> Picture:
    size = (SLIDER_PANEL, SLIDER_PANEL)
    return np.asarray(Image.fromarray(panel).resize(size, Image.Resampling.BICUBIC))


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
