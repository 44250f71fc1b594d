"""An evaluation's tables, for a terminal: all faces, by skin tone, photo by photo, and the detail.

for table in tables(found): console.print(table)
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from rich.table import Table

from .evaluation import by_group
from .surface_measures import AREAS, area_shares, recovered

if TYPE_CHECKING:
    from .evaluation_report import Evaluation

ENCODER, MEAN, POSED = "encoder", "mean face", "mean face, posed"
AUGMENTED = "augmented"
MEASURES = {  # row's name, factor, decimals, what it is
    "landmark": ("landmarks %", 100, 2, "% of the outer eye distance, all 68"),
    "landmark_inner": ("inner landmarks %", 100, 2, "the 51 without the jaw"),
    "photometric": ("colours", 1, 3, "mean difference of covered pixels, of 1"),
    "identity": ("identity, F()", 1, 3, "distance of photo and rendering"),
    "vertex_mm": ("vertices, mm", 1, 2, "after similarity alignment"),
    "vertex_mm_rigid": ("... rigid, mm", 1, 2, "after rigid alignment"),
    "scan_mm": ("scan to mesh, mm", 1, 2, "faces at rest, by NoW's protocol"),
    "normal_deg": ("normals, deg", 1, 2, "mean angle over the skin, after similarity alignment"),
    "relief_mm": ("relief, mm", 1, 3, "r.m.s. of the skin's height less its mean within 8 mm"),
    "albedo_rgb": ("skin RGB", 1, 3, "difference of the skin without light, of 1"),
    "ita": ("skin ITA, deg", 1, 1, "how far its individual typology angle is off"),
    "ita_bias": ("... its sign, deg", 1, 1, "the same, + is too light; means"),
}

NEARER = {"landmark": "nearer by landmarks", "vertex_mm": "nearer by vertices"}
OFFSETS = {  # row's name, factor, decimals
    "displacement_mm": ("displacement, mm", 1, 3),
    "relief_found": ("... wrinkles found, %", 100, 0),
    "texture": ("texture, of 1", 1, 4),
    "texture_even": ("... one colour, %", 100, 0),
} | {f"in {area}": (f"... {area}, %", 100, 0) for area in AREAS}


def tables(found: Evaluation) -> list[Table]:
    """What there is to say of it."""
    shown = [_overall(found), _tones(found)]
    if found.detail is not None:
        shown += [_gains(found), _offsets(found)]
    if found.photos:
        shown.append(_faces(found))
    return shown


def _overall(found: Evaluation) -> Table:
    table = Table(title=f"{found.encoder} on {found.what}", caption=_caption(found))
    table.add_column("median (90 % are below)")
    for method in found.values:
        table.add_column(method, justify="right")
    for name in found.measured():
        cells = []
        for method in found.values:
            row = found.summary(method, name)
            p90 = "" if name == "ita_bias" else f" ({number(row['p90'], name)})"
            cells.append(number(row[average(name)], name) + p90)
        table.add_row(MEASURES[name][0], *cells)
    if found.scan_to_mesh:
        numbers = (found.scan_to_mesh.get(method, {}).values() for method in found.values)
        cells = (" / ".join(f"{n:.2f}" for n in row) for row in numbers)
        table.add_row("all points, mm *", *cells)
    for name in NEARER:
        better = (found.encoder_better(m, name) for m in found.values if m != ENCODER)
        if name in found.measured():
            cells = ("", *(f"in {n} of {len(found.names)}" for n in better))
            table.add_row(NEARER[name], *cells)
    if found.distances:
        cells = (f"{sum(found.own_nearest(m))} of {len(found.names)}" for m in found.values)
        table.add_row("own photo nearest, F()", *cells)
    return table


def _caption(found: Evaluation) -> str:
    lines = [f"{MEASURES[name][0]}: {MEASURES[name][3]}" for name in found.measured()]
    if found.scan_to_mesh:
        lines.append("* of all scans: median / mean / standard deviation")
    lines.append("nearer by: on how many faces the encoder is nearer to the truth")
    if found.recognition is not None:
        line = f"F(): {found.recognition}; one person's photos are mostly nearer than "
        lines.append(f"{line}{found.same_person:g}")
    lines.append(f"the encoder took {found.seconds_per_face['encoder'] * 1000:.1f} ms a face")
    if found.detail is not None:
        took = found.seconds_per_face["detail"] * 1000
        lines.append(f"augmented: {found.detail}, {took:.1f} ms a face more; light: {found.light}")
    return "\n".join(lines)


def _tones(found: Evaluation) -> Table:
    groups = sorted({tone_pair(t) for t in found.tones})
    table = Table(title=f"by {found.tones_are}")
    table.add_column("median")
    for group in groups:
        count = sum(tone_pair(t) == group for t in found.tones)
        table.add_column(f"{group} ({count})", justify="right")
    for method in (ENCODER, AUGMENTED, POSED):
        if method not in found.values:
            continue
        table.add_section()
        table.add_row(f"[bold]{method}[/]")
        for name in found.measured():
            rows = found.by_tone(method, name)
            cells = (number(rows[g][average(name)], name) for g in groups)
            table.add_row(MEASURES[name][0], *cells)
    return table


def _faces(found: Evaluation) -> Table:
    title = "photo by photo: tone, inner landmarks %, and the rendering's distances to photos"
    table = Table(title=title)
    table.add_column("photo", overflow="fold")
    for column in ("tone", *found.values):
        table.add_column(column, justify="right")
    if found.distances:
        table.add_column("own, F()", justify="right")
        table.add_column("nearest", overflow="fold")
    for i, (name, tone) in enumerate(zip(found.names, found.tones, strict=True)):
        cells = [found.values[m]["landmark_inner"][i] for m in found.values]
        row = [name, str(tone), *(number(c, "landmark_inner") for c in cells)]
        if found.distances:
            distances = found.distances[ENCODER][i]
            j = int(np.argmin(distances))
            row += [f"{distances[i]:.3f}", "own" if j == i else found.names[j]]
        table.add_row(*row)
    return table


def _gains(found: Evaluation) -> Table:
    """The augmented branch beside the base branch, by tone."""
    table = Table(title="the augmented branch: what it changes in the median, %, - is better")
    table.add_column("")
    groups = _groups(found)
    for name in ("all", *groups, "better on"):
        table.add_column(name, justify="right")
    for name in found.measured():
        if average(name) == "mean":
            continue
        cells = []
        for row in ("all", *groups):
            base, ours = (
                (found.summary(m, name) if row == "all" else found.by_tone(m, name)[row])["median"]
                for m in (ENCODER, AUGMENTED)
            )
            cells.append("–" if not base > 0 else f"{100 * (ours / base - 1):+.0f}")
        better = f"{found.better(AUGMENTED, ENCODER, name)} of {len(found.names)}"
        table.add_row(MEASURES[name][0], *cells, better)
    if "relief_mm" in found.measured():
        ours, base = (torch.tensor(found.values[m]["relief_mm"]) for m in (AUGMENTED, ENCODER))
        shares = recovered(ours, base)
        rows = by_group(shares, [tone_pair(t) for t in found.tones])
        cells = [f"{100 * float(shares.median()):.0f}"]
        cells += [f"{100 * rows[g]['median']:.0f}" for g in groups]
        table.add_row("relief recovered, %", *cells, "")
    table.caption = "relief recovered: of the encoder's squared relief error, what is gone; median"
    return table


def _offsets(found: Evaluation) -> Table:
    """How large the offsets are, what of the texture is one colour, and what of the shape where."""
    table = Table(title="what the augmented branch adds, median")
    groups, even = _groups(found), area_shares(found.model)
    for name in ("", "all", *groups, "if even"):
        table.add_column(name, justify="right" if name else "left")
    for name, (title, factor, decimals) in OFFSETS.items():
        if name not in found.offsets:
            continue
        values = found.offsets[name]
        rows = by_group(values, ["all"] * len(values))
        rows |= by_group(values, [tone_pair(t) for t in found.tones])
        medians = [rows[g]["median"] for g in ("all", *groups)]
        cells = ["–" if math.isnan(v) else f"{factor * v:.{decimals}f}" for v in medians]
        area = name.removeprefix("in ")
        table.add_row(title, *cells, f"{100 * even[area]:.0f}" if area in even else "")
    table.caption = """displacement, texture: r.m.s. over the skin
... wrinkles found: of the relief that the bases lack, how much is in the displacement
... one colour: how much of the texture's square is its mean over the skin
... forehead and so on: shares of the squared displacement; of the skin, if it were even"""
    return table


def _groups(found: Evaluation) -> list[str]:
    return sorted({tone_pair(t) for t in found.tones}, key=lambda g: int(g.split("-")[0]))


def tone_pair(tone: int) -> str:
    """Monk's tones two by two: "1-2" ... "9-10"."""
    first = (tone - 1) // 2 * 2 + 1
    return f"{first}-{first + 1}"


def number(value: float, measure: str) -> str:
    """As the tables show it."""
    _, factor, decimals, _ = MEASURES[measure]
    return "–" if math.isnan(value) else f"{value * factor:.{decimals}f}"


def average(measure: str) -> str:
    """Which of a summary's numbers is shown."""
    return "mean" if measure == "ita_bias" else "median"
