"""Fits that are stored: the weights of Eq. 12 turned up and down.

sweep = load_sweep()                                 # data_scripts/sweep_offset_weights.py
run = sweep.find("report", "alone")
sweep.number(run, "flipped_percent", face=0), sweep.panel(run, face=0, name="shape")
draw = weight_panels(sweep, "Eq. 8", "shape", ["displacement_max_mm"])    # for widgets.explore

Notebook 08, Eq. 8 to 12.
"""

import functools
import io
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ...files.errors import FacereconError, one_line
from ...files.weights import shipped_file
from ...pictures.faces import to_uint8
from ..drawing.palettes import fewer_colours
from ..drawing.sliders import CAPTION, Curves, Picture, panel_row
from ..drawing.style import BLUE, GREY, RED, add_legend, heat

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
    """An unusable file of stored fits."""


@dataclass(eq=False)
class OffsetSweep:
    """Stored fits. runs: what each was, with "way", "kind", "equation", "multiple", "symmetry".

    numbers: MEASURES of each run and face; start: of the base faces. gradients: of each run, the
    lengths of its weighted terms' gradients with respect to the maps.
    """

    runs: list[dict]
    faces: list[str]
    numbers: Float[Tensor, "run face number"]
    start: Float[Tensor, "face number"]
    gradients: Float[Tensor, "run term"]
    number_names: list[str]
    term_names: list[str]
    panel_names: list[str]
    metadata: dict[str, str]
    pictures: dict[str, Tensor] = field(repr=False)
    opened: dict[str, np.ndarray] = field(default_factory=dict, repr=False)

    def find(
        self, way: str, kind: str, equation: str = "", multiple: float = 1.0, symmetry: str = ""
    ) -> int:
        """The run's number. Raises SweepError where there is none."""
        for i, run in enumerate(self.runs):
            same = math.isclose(run["multiple"], multiple, rel_tol=1e-6)
            if same and _is(run, way, kind, equation, symmetry):
                return i
        raise SweepError(f"no stored fit {way} {kind} {equation} {symmetry} x {multiple:g}")

    def multiples(self, way: str, equation: str, symmetry: str = "") -> list[float]:
        """At which multiples of the way's weight an equation was tried alone."""
        runs = [run for run in self.runs if _is(run, way, "term", equation, symmetry)]
        return sorted(run["multiple"] for run in runs)

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
        panel = self.opened[key][face, self.panel_names.index(name)].copy()
        if name == "displacement":
            return to_uint8(heat(torch.tensor(panel[..., 0]), 255).permute(2, 0, 1))
        if name != "texture" and run != "wanted":
            panel[(panel > PAPER_BYTE - 8).all(-1)] = PAPER_BYTE  # JPEG's ripples beside the face
        return panel


def _is(run: dict, way: str, kind: str, equation: str, symmetry: str) -> bool:
    parts = {"way": way, "kind": kind, "equation": equation, "symmetry": symmetry}
    return run.items() >= parts.items()


def load_sweep(path: Path | None = None) -> OffsetSweep:
    """Read the stored fits. Raises SweepError, one line, for a missing or damaged file."""
    path = path or shipped_file("offset_weight_sweep.safetensors")
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
        yaws = json.loads(metadata["yaw_deg"])
        return OffsetSweep(
            runs=json.loads(metadata["runs"]),
            faces=["the photo", *(_described(yaw) for yaw in yaws)],
            numbers=data["numbers"],
            start=data["base_numbers"],
            gradients=data["gradients"],
            number_names=json.loads(metadata["numbers"]),
            term_names=json.loads(metadata["terms"]),
            panel_names=json.loads(metadata["panels"]),
            metadata=metadata,
            pictures={name: value for name, value in data.items() if name.startswith("picture.")},
        )
    except (KeyError, TypeError, ValueError) as problem:
        raise SweepError(f"{path.name}: its parts do not fit ({problem}); {maker}") from None


def _described(yaw: float) -> str:
    return f"turned by {abs(yaw):.0f}°" if abs(yaw) > 10 else "frontal"


# Sliders ----------------------------------------------------------------------------------------


def weight_panels(
    sweep: OffsetSweep, equation: str, shows: str, measures: Sequence[str]
) -> Callable[..., Picture]:
    """draw(place, way, face) for `widgets.explore`: the fit at the place-th weight of an equation,
    and its measures over all weights. shows: "shape" or "skin", with its map. `way` is the first
    word of a menu's entry."""
    names = ("rendering", shows, {"shape": "displacement", "skin": "texture"}[shows])

    @functools.cache
    def charts(way: str, face: int) -> Curves:
        size = 195 * len(measures), SLIDER_PANEL + CAPTION
        draw = functools.partial(_measured, sweep, way, equation, measures, face)
        return Curves(draw, len(measures), size)

    def draw(place: int, way: str, face: str) -> Picture:
        way, at = way.split()[0], sweep.faces.index(face)
        multiples = sweep.multiples(way, equation)
        multiple = multiples[min(place, len(multiples) - 1)]
        run = sweep.find(way, "term", equation, multiple)
        captions = {**CAPTIONS, "rendering": f"rendering, weight {multiple:,g}"}
        panels = {captions[n]: fewer_colours(_enlarged(sweep.panel(run, at, n)), 48) for n in names}
        marks = [math.log10(multiple)] * len(measures)
        return panel_row(panels, charts(way, at).marked(marks))

    return draw


def _enlarged(panel: Picture) -> Picture:
    size = (SLIDER_PANEL, SLIDER_PANEL)
    return np.asarray(Image.fromarray(panel).resize(size, Image.Resampling.BICUBIC))


def _measured(sweep: OffsetSweep, way: str, equation: str, measures, face: int, axes) -> None:
    """Each measure over all weights of an equation, and without it."""
    alone, multiples = sweep.find(way, "alone"), sweep.multiples(way, equation)
    x = [math.log10(m) for m in multiples]
    for axis, name in zip(axes, measures, strict=True):
        axis.axhline(sweep.number(alone, name, face), color=RED, linewidth=1, label="without it")
        if not math.isnan(sweep.number(None, name, face)):
            axis.axhline(sweep.number(None, name, face), color=GREY, ls=":", label="base")
        runs = [sweep.find(way, "term", equation, m) for m in multiples]
        axis.plot(x, [sweep.number(r, name, face) for r in runs], "o-", color=BLUE, markersize=4)
        axis.set_ylim(0, None)
        axis.set_xlabel("weight, times its unit", fontsize=8)
        axis.set_xticks(x, [_power(v) for v in x], fontsize=7)
        axis.tick_params(axis="y", labelsize=7)
        axis.set_title(MEASURES[name], fontsize=9)
    add_legend(axes[0], fontsize=7)


def _power(log: float) -> str:
    return f"{10**log:g}" if -3 < log < 3 else f"1e{log:.0f}"
