"""What an evaluation found, as tables, as JSON and as a figure.

for table in found.tables(): console.print(table)
json.dumps(found.as_dict())                          # every number
save_figure(found.figure(), "evaluation.png")
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from matplotlib.figure import Figure
from rich.table import Table

from . import __version__
from .coefficients import FaceCoefficients
from .evaluation import by_group
from .face_batch import FaceBatch
from .morphable_model import MorphableModel
from .plotting import gallery, show_face, to_uint8
from .synthesis import synthesise

SHOWN = 16  # faces in the figure
ENCODER, MEAN, POSED = "encoder", "mean face", "mean face, posed"
MEASURES = {  # row's name, factor, decimals, what it is
    "landmark": ("landmarks %", 100, 2, "% of the outer eye distance, all 68"),
    "landmark_inner": ("inner landmarks %", 100, 2, "the 51 without the jaw"),
    "photometric": ("colours", 1, 3, "mean difference of covered pixels, of 1"),
    "identity": ("identity, F()", 1, 3, "distance of photo and rendering"),
    "vertex_mm": ("vertices, mm", 1, 2, "after similarity alignment"),
    "vertex_mm_rigid": ("... rigid, mm", 1, 2, "after rigid alignment"),
    "scan_mm": ("scan to mesh, mm", 1, 2, "faces at rest, by NoW's protocol"),
    "albedo_rgb": ("skin RGB", 1, 3, "difference of the skin without light, of 1"),
    "ita": ("skin ITA, deg", 1, 1, "how far its individual typology angle is off"),
    "ita_bias": ("... its sign, deg", 1, 1, "the same, + is too light; means"),
}

NEARER = {"landmark": "nearer by landmarks", "vertex_mm": "nearer by vertices"}


@dataclass(eq=False)
class Evaluation:
    """One number a face for every method and measure (MEASURES), in the order of `names`.

    NaN: not measured. tones: Monk's, 1 to 10; tones_are: whose. scan_to_mesh: mm, over the points
    of all scans together, a method. distances: a method's renderings (rows) to photos (columns) by
    F(). failures: photos without a result, and why.
    """

    what: str
    encoder: str
    recipe: dict[str, str]
    names: list[str]
    tones: list[int]
    tones_are: str
    values: dict[str, dict[str, list[float]]]
    seconds_per_face: dict[str, float]
    model: MorphableModel
    shown: list[tuple[FaceBatch, FaceCoefficients]] = field(default_factory=list)
    photos: bool = False
    scan_to_mesh: dict[str, dict[str, float]] = field(default_factory=dict)
    recognition: str | None = None
    same_person: float | None = None
    distances: dict[str, list[list[float]]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def summary(self, method: str, measure: str) -> dict[str, float]:
        """Count, mean, median and p90 over all faces."""
        return by_group(self.values[method][measure], ["all"] * len(self.names))["all"]

    def by_tone(self, method: str, measure: str) -> dict[str, dict[str, float]]:
        """The same for tones 1-2, 3-4, ... 9-10."""
        return by_group(self.values[method][measure], [tone_pair(t) for t in self.tones])

    def encoder_better(self, method: str, measure: str) -> int:
        """On how many faces the encoder's error is below that of `method`."""
        ours, theirs = (self.values[m][measure] for m in (ENCODER, method))
        return sum(a < b for a, b in zip(ours, theirs, strict=True))

    def own_nearest(self, method: str) -> list[bool]:
        """For each rendering: is its own photo the nearest of all?"""
        matrix = np.asarray(self.distances[method])
        return (matrix.argmin(1) == np.arange(len(matrix))).tolist()

    def as_dict(self) -> dict:
        """Plain numbers and names; what was not measured is None."""
        tables = {
            method: {
                name: {"all": self.summary(method, name), "by_tone": self.by_tone(method, name)}
                for name in measures
            }
            for method, measures in self.values.items()
        }
        content = {
            "version": __version__,
            "what": self.what,
            "encoder": self.encoder,
            "recipe": self.recipe,
            "recognition": self.recognition,
            "same_person": self.same_person,
            "seconds_per_face": self.seconds_per_face,
            "tones_are": self.tones_are,
            "summary": tables,
            "scan_to_mesh_mm": self.scan_to_mesh,
            "encoder_better": {
                method: {name: self.encoder_better(method, name) for name in self._measured()}
                for method in self.values
                if method != ENCODER
            },
            "own_nearest": {m: sum(self.own_nearest(m)) for m in self.distances},
            "faces": self.names,
            "tones": self.tones,
            "values": self.values,
            "distances": self.distances,
            "failures": self.failures,
            "notes": self.notes,
        }
        return _without_nan(content)

    def tables(self) -> list[Table]:
        """For a terminal."""
        tables = [self._overall(), self._tones()]
        if self.photos:
            tables.append(self._faces())
        return tables

    def _overall(self) -> Table:
        table = Table(title=f"{self.encoder} on {self.what}", caption=self._caption())
        table.add_column("median (90 % are below)")
        for method in self.values:
            table.add_column(method, justify="right")
        for name in self._measured():
            cells = []
            for method in self.values:
                row = self.summary(method, name)
                p90 = "" if name == "ita_bias" else f" ({_number(row['p90'], name)})"
                cells.append(_number(row[_average(name)], name) + p90)
            table.add_row(MEASURES[name][0], *cells)
        if self.scan_to_mesh:
            numbers = (self.scan_to_mesh.get(method, {}).values() for method in self.values)
            cells = (" / ".join(f"{n:.2f}" for n in row) for row in numbers)
            table.add_row("all points, mm *", *cells)
        for name in NEARER:
            better = (self.encoder_better(m, name) for m in self.values if m != ENCODER)
            if name in self._measured():
                cells = ("", *(f"in {n} of {len(self.names)}" for n in better))
                table.add_row(NEARER[name], *cells)
        if self.distances:
            cells = (f"{sum(self.own_nearest(m))} of {len(self.names)}" for m in self.values)
            table.add_row("own photo nearest, F()", *cells)
        return table

    def _caption(self) -> str:
        lines = [f"{MEASURES[name][0]}: {MEASURES[name][3]}" for name in self._measured()]
        if self.scan_to_mesh:
            lines.append("* of all scans: median / mean / standard deviation")
        lines.append("nearer by: on how many faces the encoder is nearer to the truth")
        if self.recognition is not None:
            line = f"F(): {self.recognition}; one person's photos are mostly nearer than "
            lines.append(f"{line}{self.same_person:g}")
        lines.append(f"the encoder took {self.seconds_per_face['encoder'] * 1000:.1f} ms a face")
        return "\n".join(lines)

    def _tones(self) -> Table:
        groups = sorted({tone_pair(t) for t in self.tones})
        table = Table(title=f"by {self.tones_are}")
        table.add_column("median")
        for group in groups:
            count = sum(tone_pair(t) == group for t in self.tones)
            table.add_column(f"{group} ({count})", justify="right")
        for method in (ENCODER, POSED):
            table.add_section()
            table.add_row(f"[bold]{method}[/]")
            for name in self._measured():
                rows = self.by_tone(method, name)
                cells = (_number(rows[g][_average(name)], name) for g in groups)
                table.add_row(MEASURES[name][0], *cells)
        return table

    def _faces(self) -> Table:
        title = "photo by photo: tone, inner landmarks %, and the rendering's distances to photos"
        table = Table(title=title)
        table.add_column("photo", overflow="fold")
        for column in ("tone", *self.values):
            table.add_column(column, justify="right")
        if self.distances:
            table.add_column("own, F()", justify="right")
            table.add_column("nearest", overflow="fold")
        for i, (name, tone) in enumerate(zip(self.names, self.tones, strict=True)):
            cells = [self.values[m]["landmark_inner"][i] for m in self.values]
            row = [name, str(tone), *(_number(c, "landmark_inner") for c in cells)]
            if self.distances:
                distances = self.distances[ENCODER][i]
                j = int(np.argmin(distances))
                row += [f"{distances[i]:.3f}", "own" if j == i else self.names[j]]
            table.add_row(*row)
        return table

    def _measured(self) -> list[str]:
        return [name for name in MEASURES if name in self.values[ENCODER]]

    @torch.no_grad()
    def figure(self) -> Figure:
        """The first SHOWN faces: photo, the encoder's face on it, its shape, the true shape."""
        rows = []
        for batch, found in self.shown:
            for i in range(len(batch)):
                one = batch[i : i + 1].to(self.model.device)
                face = synthesise(self.model, found[i].to(self.model.device))
                image, mask = face.render()
                shown = image.clamp(0, 1) + (1 - mask) * one.image
                row = [to_uint8(one.image[0]), to_uint8(shown[0]), show_face(face, "shape", 224)]
                if one.truth is not None:
                    row.append(show_face(synthesise(self.model, one.truth), "shape", 224))
                rows.append(row)
        rows = rows[:SHOWN]
        legend = ("photo", "the encoder's face on it", "its shape", "the true shape")
        return gallery(
            [panel for row in rows for panel in row],
            title=f"{self.encoder}: {self.what}\n{', '.join(legend[: len(rows[0])])}",
            columns=(2 if len(rows) > 4 else 1) * len(rows[0]),
            size=1.7,
        )


def tone_pair(tone: int) -> str:
    """Monk's tones two by two: "1-2" ... "9-10"."""
    first = (tone - 1) // 2 * 2 + 1
    return f"{first}-{first + 1}"


def _number(value: float, measure: str) -> str:
    _, factor, decimals, _ = MEASURES[measure]
    return "–" if math.isnan(value) else f"{value * factor:.{decimals}f}"


def _average(measure: str) -> str:
    return "mean" if measure == "ita_bias" else "median"


def _without_nan(value):
    if isinstance(value, dict):
        return {str(k): _without_nan(v) for k, v in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_without_nan(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
