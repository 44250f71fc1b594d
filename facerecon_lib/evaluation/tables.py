"""An evaluation's tables, for a terminal: all faces, by skin tone, photo by photo, and the detail.

for table in tables(evaluation): console.print(table)

Notebook 09, section 2.3.
"""

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


def tables(evaluation: Evaluation) -> list[Table]:
    """All faces, by skin tone; with detail, what it gains; of photos, each photo."""
    found = [_overall(evaluation), _tones(evaluation)]
    if evaluation.detail is not None:
        found += [_gains(evaluation), _offsets(evaluation)]
    if evaluation.photos:
        found.append(_faces(evaluation))
    return found


def _table(title: str, first: str, *columns: str) -> Table:
    table = Table(title=title)
    table.add_column(first, overflow="fold")
    for column in columns:
        table.add_column(column, justify="right")
    return table


def _overall(evaluation: Evaluation) -> Table:
    title = f"{evaluation.encoder} on {evaluation.what}"
    table = _table(title, "median (90 % are below)", *evaluation.values)
    table.caption = _caption(evaluation)
    for name in evaluation.measured():
        cells = []
        for method in evaluation.values:
            row = evaluation.summary(method, name)
            p90 = "" if name == "ita_bias" else f" ({number(row['p90'], name)})"
            cells.append(number(row[average(name)], name) + p90)
        table.add_row(MEASURES[name][0], *cells)
    if evaluation.scan_to_mesh:
        numbers = (evaluation.scan_to_mesh.get(method, {}).values() for method in evaluation.values)
        table.add_row("all points, mm *", *(" / ".join(f"{n:.2f}" for n in row) for row in numbers))
    faces, others = len(evaluation.names), [m for m in evaluation.values if m != ENCODER]
    for name in filter(evaluation.measured().count, NEARER):
        better = (evaluation.better(ENCODER, method, name) for method in others)
        table.add_row(NEARER[name], "", *(f"in {n} of {faces}" for n in better))
    if evaluation.distances:
        nearest = (sum(evaluation.own_nearest(method)) for method in evaluation.values)
        table.add_row("own photo nearest, F()", *(f"{n} of {faces}" for n in nearest))
    return table


def _caption(evaluation: Evaluation) -> str:
    lines = [f"{MEASURES[name][0]}: {MEASURES[name][3]}" for name in evaluation.measured()]
    if evaluation.scan_to_mesh:
        lines.append("* of all scans: median / mean / standard deviation")
    lines.append("nearer by: on how many faces the encoder is nearer to the truth")
    if evaluation.recognition is not None:
        line = f"F(): {evaluation.recognition}; one person's photos are mostly nearer than "
        lines.append(f"{line}{evaluation.same_person:g}")
    ms = {name: 1000 * seconds for name, seconds in evaluation.seconds_per_face.items()}
    lines.append(f"the encoder took {ms['encoder']:.1f} ms per face")
    if evaluation.detail is not None:
        line = f"augmented: {evaluation.detail}, {ms['detail']:.1f} ms per face more"
        lines.append(f"{line}; light: {evaluation.light}")
    return "\n".join(lines)


def _tones(evaluation: Evaluation) -> Table:
    groups = _groups(evaluation)
    pairs = [tone_pair(t) for t in evaluation.tones]
    columns = (f"{group} ({pairs.count(group)})" for group in groups)
    table = _table(f"by {TONES[evaluation.tones_source]}", "median", *columns)
    for method in (ENCODER, AUGMENTED, POSED):
        if method not in evaluation.values:
            continue
        table.add_section()
        table.add_row(f"[bold]{method}[/]")
        for name in evaluation.measured():
            rows = evaluation.by_tone(method, name)
            cells = (number(rows[g][average(name)], name) for g in groups)
            table.add_row(MEASURES[name][0], *cells)
    return table


def _faces(evaluation: Evaluation) -> Table:
    title = "photo by photo: tone, inner landmarks %, and the rendering's distances to photos"
    table = _table(title, "photo", "tone", *evaluation.values)
    if evaluation.distances:
        table.add_column("own, F()", justify="right")
        table.add_column("nearest", overflow="fold")
    for i, (name, tone) in enumerate(zip(evaluation.names, evaluation.tones, strict=True)):
        errors = (values["landmark_inner"][i] for values in evaluation.values.values())
        row = [name, str(tone), *(number(error, "landmark_inner") for error in errors)]
        if evaluation.distances:
            distances = evaluation.distances[ENCODER][i]
            j = int(np.argmin(distances))
            row += [f"{distances[i]:.3f}", "own" if j == i else evaluation.names[j]]
        table.add_row(*row)
    return table


def _gains(evaluation: Evaluation) -> Table:
    """The augmented branch beside the base branch, by tone."""
    groups = _groups(evaluation)
    title = "the augmented branch: what it changes in the median, %, - is better"
    table = _table(title, "", "all", *groups, "better on")
    table.caption = "relief recovered: of the encoder's squared relief error, what is gone; median"
    for name in evaluation.measured():
        if average(name) == "mean":
            continue
        base, ours = (
            _medians(evaluation, evaluation.values[m][name]) for m in (ENCODER, AUGMENTED)
        )
        cells = (
            f"{100 * (b / a - 1):+.0f}" if a > 0 else "–" for a, b in zip(base, ours, strict=True)
        )
        better = f"{evaluation.better(AUGMENTED, ENCODER, name)} of {len(evaluation.names)}"
        table.add_row(MEASURES[name][0], *cells, better)
    if "relief_mm" in evaluation.measured():
        errors = (evaluation.values[m]["relief_mm"] for m in (AUGMENTED, ENCODER))
        shares = recovered(*map(torch.tensor, errors))
        cells = (f"{100 * share:.0f}" for share in _medians(evaluation, shares))
        table.add_row("relief recovered, %", *cells, "")
    return table


def _offsets(evaluation: Evaluation) -> Table:
    """How large the offsets are, what of the texture is one colour, and what of the shape where."""
    title, even = "what the augmented branch adds, median", area_shares(evaluation.model)
    table = _table(title, "", "all", *_groups(evaluation), "if even")
    for name, (title, factor, decimals) in OFFSETS.items():
        if name not in evaluation.offsets:
            continue
        medians = _medians(evaluation, evaluation.offsets[name])
        cells = ("–" if math.isnan(v) else f"{factor * v:.{decimals}f}" for v in medians)
        area = name.removeprefix("in ")
        table.add_row(title, *cells, f"{100 * even[area]:.0f}" if area in even else "")
    table.caption = """displacement, texture: r.m.s. over the skin
... wrinkles found: of the relief that the bases lack, how much is in the displacement
... one colour: how much of the texture's square is its mean over the skin
... forehead and so on: shares of the squared displacement; of the skin, if it were even"""
    return table


def _medians(evaluation: Evaluation, values) -> list[float]:
    """Of all faces, and of each group of tones."""
    rows = by_group(values, ["all"] * len(values))
    rows |= by_group(values, [tone_pair(t) for t in evaluation.tones])
    return [rows[group]["median"] for group in ("all", *_groups(evaluation))]


def _groups(evaluation: Evaluation) -> list[str]:
    return [tone_pair(tone) for tone in range(1, 11, 2) if {tone, tone + 1} & {*evaluation.tones}]


def number(value: float, measure: str) -> str:
    """As the tables show it."""
    _, factor, decimals, _ = MEASURES[measure]
    return "–" if math.isnan(value) else f"{value * factor:.{decimals}f}"


def average(measure: str) -> str:
    """Which of a summary's numbers is shown."""
    return "mean" if measure == "ita_bias" else "median"
