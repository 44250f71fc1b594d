"""Fits that are stored: the weights of Eq. 12 turned up and down.

sweep = load_sweep()
run = sweep.find("report", "alone")          # or sweep.at_weights("report", "Eq. 8")[100.0]
sweep.number(run, "flipped_percent", face=0), sweep.panel(run, face=0, name="shape")

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
from matplotlib.axes import Axes
from PIL import Image
from torch import Tensor

from ...files.errors import FacereconError
from ...files.weights import read_weights, shipped_file
from ...pictures.faces import to_uint8
from ..drawing.sliders import CAPTION, Curves, Picture, panel_row
from ..drawing.style import BLUE, GREY, RED, add_legend, heat

FORMAT = "facerecon-offset-sweep-1"
MAKER = "data_scripts/sweep_offset_weights.py"
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
MEASURES = {  # those of the table of ablations first
    "photometric": "photometric error",
    "displacement_rms_mm": "displacement, mm",
    "displacement_max_mm": "largest displacement, mm",
    "flipped_percent": "flipped triangles, %",
    "rough_mm": "neighbours apart, mm",
    "asymmetry_mm": "left from right, mm",
    "texture_rms": "texture offset",
    "truth_mm": "off the true shape, mm",
    "truth_normals_deg": "off the true normals, degrees",
    "truth_albedo": "off the true skin",
    "landmark_px": "landmarks, px",
    "bend_deg": "triangles bent, degrees",
    "asymmetry_colour": "left from right, colour",
}


class SweepError(FacereconError):
    """An unusable file of stored fits."""


@dataclass(eq=False)
class OffsetSweep:
    """Stored fits. runs: what each was, with "way", "kind", "equation", "multiple", "symmetry".

    numbers: MEASURES of each run and face; start: of the base faces.
    """

    runs: list[dict]
    faces: list[str]
    numbers: Float[Tensor, "run face number"]
    start: Float[Tensor, "face number"]
    number_names: list[str]
    panel_names: list[str]
    metadata: dict[str, str]
    pictures: dict[str, Tensor] = field(repr=False)
    opened: dict[str, np.ndarray] = field(default_factory=dict, repr=False)

    def find(self, way: str, kind: str, equation: str = "") -> int:
        """The first such run's number. Raises SweepError where there is none."""
        runs = self._runs(way=way, kind=kind, equation=equation)
        if not runs:
            raise SweepError(f"no stored fit {way} {kind} {equation}")
        return runs[0]

    def at_weights(self, way: str, equation: str, symmetry: str = "") -> dict[float, int]:
        """The runs of an equation alone, by multiples of the way's weight, the smallest first."""
        runs = self._runs(way=way, kind="term", equation=equation, symmetry=symmetry)
        return dict(sorted((self.runs[i]["multiple"], i) for i in runs))

    def _runs(self, **parts: str) -> list[int]:
        return [i for i, run in enumerate(self.runs) if run.items() >= parts.items()]

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


def load_sweep(path: Path | None = None) -> OffsetSweep:
    """Read the stored fits. Raises SweepError, one line, for a missing or damaged file."""
    path = path or shipped_file("offset_weight_sweep.safetensors")
    data, metadata = read_weights(path, FORMAT, SweepError, MAKER, finite=False)
    try:
        names = (json.loads(metadata[key]) for key in ("numbers", "panels"))
        return OffsetSweep(
            json.loads(metadata["runs"]),
            ["the photo", *map(_described, json.loads(metadata["yaw_deg"]))],
            data["numbers"],
            data["base_numbers"],
            *names,
            metadata,
            pictures={name: value for name, value in data.items() if name.startswith("picture.")},
        )
    except (KeyError, TypeError, ValueError) as problem:
        raise SweepError(
            f"{path.name}: its parts do not fit ({problem}); {MAKER} makes one"
        ) from None


def _described(yaw: float) -> str:
    return f"turned by {abs(yaw):.0f}°" if abs(yaw) > 10 else "frontal"


def weight_panels(
    sweep: OffsetSweep, equation: str, shows: str, measures: Sequence[str]
) -> Callable[..., Picture]:
    """draw(place, way, face) for `widgets.explore`: the fit at the place-th weight of an equation,
    and its measures over all weights. shows: "shape" or "skin", with its map. `way` is the first
    word of a menu's entry."""
    names = ("rendering", shows, {"shape": "displacement", "skin": "texture"}[shows])

    @functools.cache
    def charts(way: str, face: int) -> Curves:
        draw = functools.partial(plot, way, face)
        return Curves(draw, len(measures), (195 * len(measures), SLIDER_PANEL + CAPTION))

    def plot(way: str, face: int, axes: Sequence[Axes]) -> None:
        """Each measure over all weights of the equation, and without it."""
        alone, runs = sweep.find(way, "alone"), sweep.at_weights(way, equation)
        for axis, name in zip(axes, measures, strict=True):
            axis.axhline(sweep.number(alone, name, face), color=RED, lw=1, label="without it")
            base = sweep.number(None, name, face)
            if not math.isnan(base):
                axis.axhline(base, color=GREY, ls=":", label="base")
            values = [sweep.number(run, name, face) for run in runs.values()]
            axis.semilogx(list(runs), values, "o-", color=BLUE, markersize=4)
            axis.set_ylim(0, None)
            axis.set_xlabel("weight, times its unit", fontsize=8)
            axis.tick_params(labelsize=7)
            axis.set_title(MEASURES[name], fontsize=9)
        add_legend(axes[0], fontsize=7)

    def draw(place: int, way: str, face: str) -> Picture:
        way, at = way.split()[0], sweep.faces.index(face)
        runs = list(sweep.at_weights(way, equation).items())
        multiple, run = runs[min(place, len(runs) - 1)]
        captions = {**CAPTIONS, "rendering": f"rendering, weight {multiple:,g}"}
        panels = {}
        for name in names:
            panel = Image.fromarray(sweep.panel(run, at, name))
            large = panel.resize((SLIDER_PANEL, SLIDER_PANEL), Image.Resampling.BICUBIC)
            panels[captions[name]] = np.asarray(large)
        return panel_row(panels, charts(way, at).marked([multiple] * len(measures)))

    return draw
