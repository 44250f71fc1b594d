"""An evaluation's tables, for a terminal: all faces, by skin tone, photo by photo, and the detail.

for table in tables(evaluation): console.print(table)
"""

from __future__ import annotations

import math

import numpy as np
import torch
from rich.table import Table

from ..face.measures import by_group
from .evaluation import AUGMENTED, ENCODER, MEASURES, POSED, Evaluation, tone_pair
from .surface import AREAS, area_shares, recovered

TONES = {
    "labels": "Monk tone of the true skin, unlit",
    "estimates": "Monk tone of the skin as the encoder sees it (an estimate)",
}
NEARER = {"landmark": "nearer by landmarks", "vertex_mm": "nearer by vertices"}
OFFSETS = {  # row's name, factor, decimals
    "displacement_mm": ("displacement, mm", 1, 3),
    "relief_found": ("... wrinkles found, %", 100, 0),
    "texture": ("texture, of 1", 1, 4),
    "texture_even": ("... one colour, %", 100, 0),
} | {f"in {area}": (f"... {area}, %", 100, 0) for area in AREAS}


def tables(result: Evaluation) -> list[Table]:
    """All faces, by skin tone; with detail, what it gains; of photos, each photo."""
    shown = [_overall(result), _tones(result)]
    if result.detail is not None:
        shown += [_gains(result), _offsets(result)]
    if result.photos:
        shown.append(_faces(result))
    return shown


def _overall(result: Evaluation) -> Table:
    table = Table(title=f"{result.encoder} on {result.what}", caption=_caption(result))
    table.add_column("median (90 % are below)")
    for method in result.values:
        table.add_column(method, justify="right")
    for name in result.measured():
        cells = []
        for method in result.values:
            row = result.summary(method, name)
            p90 = "" if name == "ita_bias" else f" ({number(row['p90'], name)})"
            cells.append(number(row[average(name)], name) + p90)
        table.add_row(MEASURES[name][0], *cells)
    if result.scan_to_mesh:
        numbers = (result.scan_to_mesh.get(method, {}).values() for method in result.values)
        cells = (" / ".join(f"{n:.2f}" for n in row) for row in numbers)
        table.add_row("all points, mm *", *cells)
    for name in NEARER:
        better = (result.encoder_better(m, name) for m in result.values if m != ENCODER)
        if name in result.measured():
            cells = ("", *(f"in {n} of {len(result.names)}" for n in better))
            table.add_row(NEARER[name], *cells)
    if result.distances:
        cells = (f"{sum(result.own_nearest(m))} of {len(result.names)}" for m in result.values)
        table.add_row("own photo nearest, F()", *cells)
    return table


def _caption(result: Evaluation) -> str:
    lines = [f"{MEASURES[name][0]}: {MEASURES[name][3]}" for name in result.measured()]
    if result.scan_to_mesh:
        lines.append("* of all scans: median / mean / standard deviation")
    lines.append("nearer by: on how many faces the encoder is nearer to the truth")
    if result.recognition is not None:
        line = f"F(): {result.recognition}; one person's photos are mostly nearer than "
        lines.append(f"{line}{result.same_person:g}")
    lines.append(f"the encoder took {result.seconds_per_face['encoder'] * 1000:.1f} ms a face")
    if result.detail is not None:
        took = result.seconds_per_face["detail"] * 1000
        lines.append(
            f"augmented: {result.detail}, {took:.1f} ms a face more; light: {result.light}"
        )
    return "\n".join(lines)


def _tones(result: Evaluation) -> Table:
    groups = sorted({tone_pair(t) for t in result.tones})
    table = Table(title=f"by {TONES[result.tones_source]}")
    table.add_column("median")
    for group in groups:
        count = sum(tone_pair(t) == group for t in result.tones)
        table.add_column(f"{group} ({count})", justify="right")
    for method in (ENCODER, AUGMENTED, POSED):
        if method not in result.values:
            continue
        table.add_section()
        table.add_row(f"[bold]{method}[/]")
        for name in result.measured():
            rows = result.by_tone(method, name)
            cells = (number(rows[g][average(name)], name) for g in groups)
            table.add_row(MEASURES[name][0], *cells)
    return table


def _faces(result: Evaluation) -> Table:
    title = "photo by photo: tone, inner landmarks %, and the rendering's distances to photos"
    table = Table(title=title)
    table.add_column("photo", overflow="fold")
    for column in ("tone", *result.values):
        table.add_column(column, justify="right")
    if result.distances:
        table.add_column("own, F()", justify="right")
        table.add_column("nearest", overflow="fold")
    for i, (name, tone) in enumerate(zip(result.names, result.tones, strict=True)):
        cells = [result.values[m]["landmark_inner"][i] for m in result.values]
        row = [name, str(tone), *(number(c, "landmark_inner") for c in cells)]
        if result.distances:
            distances = result.distances[ENCODER][i]
            j = int(np.argmin(distances))
            row += [f"{distances[i]:.3f}", "own" if j == i else result.names[j]]
        table.add_row(*row)
    return table


def _gains(result: Evaluation) -> Table:
    """The augmented branch beside the base branch, by tone."""
    table = Table(title="the augmented branch: what it changes in the median, %, - is better")
    table.add_column("")
    groups = _groups(result)
    for name in ("all", *groups, "better on"):
        table.add_column(name, justify="right")
    for name in result.measured():
        if average(name) == "mean":
            continue
        cells = []
        for row in ("all", *groups):
            base, ours = (
                (result.summary(m, name) if row == "all" else result.by_tone(m, name)[row])[
                    "median"
                ]
                for m in (ENCODER, AUGMENTED)
            )
            cells.append("–" if not base > 0 else f"{100 * (ours / base - 1):+.0f}")
        better = f"{result.better(AUGMENTED, ENCODER, name)} of {len(result.names)}"
        table.add_row(MEASURES[name][0], *cells, better)
    if "relief_mm" in result.measured():
        ours, base = (torch.tensor(result.values[m]["relief_mm"]) for m in (AUGMENTED, ENCODER))
        shares = recovered(ours, base)
        rows = by_group(shares, [tone_pair(t) for t in result.tones])
        cells = [f"{100 * float(shares.median()):.0f}"]
        cells += [f"{100 * rows[g]['median']:.0f}" for g in groups]
        table.add_row("relief recovered, %", *cells, "")
    table.caption = "relief recovered: of the encoder's squared relief error, what is gone; median"
    return table


def _offsets(result: Evaluation) -> Table:
    """How large the offsets are, what of the texture is one colour, and what of the shape where."""
    table = Table(title="what the augmented branch adds, median")
    groups, even = _groups(result), area_shares(result.model)
    for name in ("", "all", *groups, "if even"):
        table.add_column(name, justify="right" if name else "left")
    for name, (title, factor, decimals) in OFFSETS.items():
        if name not in result.offsets:
            continue
        values = result.offsets[name]
        rows = by_group(values, ["all"] * len(values))
        rows |= by_group(values, [tone_pair(t) for t in result.tones])
        medians = [rows[g]["median"] for g in ("all", *groups)]
        cells = ["–" if math.isnan(v) else f"{factor * v:.{decimals}f}" for v in medians]
        area = name.removeprefix("in ")
        table.add_row(title, *cells, f"{100 * even[area]:.0f}" if area in even else "")
    table.caption = """displacement, texture: r.m.s. over the skin
... wrinkles found: of the relief that the bases lack, how much is in the displacement
... one colour: how much of the texture's square is its mean over the skin
... forehead and so on: shares of the squared displacement; of the skin, if it were even"""
    return table


def _groups(result: Evaluation) -> list[str]:
    return sorted({tone_pair(t) for t in result.tones}, key=lambda g: int(g.split("-")[0]))


def number(value: float, measure: str) -> str:
    """As the tables show it."""
    _, factor, decimals, _ = MEASURES[measure]
    return "–" if math.isnan(value) else f"{value * factor:.{decimals}f}"


def average(measure: str) -> str:
    """Which of a summary's numbers is shown."""
    return "mean" if measure == "ita_bias" else "median"
