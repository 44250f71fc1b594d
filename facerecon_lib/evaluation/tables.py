"""An evaluation's tables, for a terminal: all faces, by skin tone, photo by photo, and the detail.

for table in tables(evaluation): console.print(table)

Notebook 09, section 2.3.
"""

import math

import numpy as np
import torch
from rich.table import Table

from ..face.measures import by_group
from .evaluation import AUGMENTED, ENCODER, FIT, MEASURES, POSED, SKIN, Evaluation, tone_pair
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
    """All faces, by skin tone; with detail, what it gains; by ratings; of photos, each photo."""
    parts = [_overall, _tones]
    parts += [] if evaluation.detail is None else [_gains, _offsets]
    parts += [_ratings, _by_rating] if evaluation.ratings else []
    parts += [_faces] if evaluation.photos else []
    return [part(evaluation) for part in parts]


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
    measured = evaluation.measured()
    for name in measured:
        cells = []
        for method in evaluation.values:
            row = evaluation.summary(method, name)
            p90 = "" if name == "ita_bias" else f" ({_number(row['p90'], name)})"
            cells.append(_number(row[_average(name)], name) + p90)
        table.add_row(MEASURES[name][0], *cells)
    if evaluation.scan_to_mesh:
        rows = (evaluation.scan_to_mesh.get(method, {}).values() for method in evaluation.values)
        table.add_row("all points, mm *", *(" / ".join(f"{n:.2f}" for n in row) for row in rows))
    others = [method for method in evaluation.values if method != ENCODER]
    for name in filter(measured.count, NEARER):
        better = (evaluation.better(ENCODER, method, name) for method in others)
        table.add_row(NEARER[name], "", *(f"in {n} of {len(evaluation.names)}" for n in better))
    if evaluation.distances:
        nearest = (evaluation.own_nearest(method) for method in evaluation.values)
        cells = (f"{sum(own)} of {len(own)}" for own in nearest)
        table.add_row("own photo nearest, F()", *cells)
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
    pairs = [tone_pair(tone) for tone in evaluation.tones]
    columns = (f"{pair} ({pairs.count(pair)})" for pair in sorted(set(pairs)))
    table = _table(f"by {TONES[evaluation.tones_source]}", "median", *columns)
    for method in (m for m in (ENCODER, FIT, AUGMENTED, POSED) if m in evaluation.values):
        table.add_section()
        table.add_row(f"[bold]{method}[/]")
        for name in evaluation.measured():
            _, *rows = evaluation.groups(evaluation.values[method][name]).values()
            cells = (_number(row[_average(name)], name) for row in rows)
            table.add_row(MEASURES[name][0], *cells)
    return table


def _ratings(evaluation: Evaluation) -> Table:
    title = f"skin tone beside how people rate it: {len(evaluation.ratings)} photos"
    table = _table(title, "rank correlation (Spearman)", *evaluation.skin)
    table.caption = "1: both have the photos in one order; 0: they have nothing in common"
    for name, (words, _) in SKIN.items():
        ranks = (evaluation.rank_correlation(method, name) for method in evaluation.skin)
        table.add_row(words, *("–" if math.isnan(rank) else f"{rank:.2f}" for rank in ranks))
    return table


def _by_rating(evaluation: Evaluation) -> Table:
    rated = [i for i, name in enumerate(evaluation.names) if name in evaluation.ratings]
    tones = [math.floor(evaluation.ratings[evaluation.names[i]] + 0.5) for i in rated]
    columns = (f"{tone} ({tones.count(tone)})" for tone in sorted(set(tones)))
    table = _table("by rating: Monk tone as people see it", "mean", *columns)

    def add(words: str, values: list[float], factor: float, decimals: int) -> None:
        rows = by_group([values[i] for i in rated], tones).values()
        means = (factor * row["mean"] for row in rows)
        table.add_row(words, *("–" if math.isnan(m) else f"{m:.{decimals}f}" for m in means))

    for method, skin in evaluation.skin.items():
        table.add_section()
        table.add_row(f"[bold]{method}[/]")
        for name, (words, decimals) in SKIN.items():
            add(words, skin[name], 1, decimals)
        for name in filter(evaluation.values.get(method, {}).__contains__, evaluation.measured()):
            words, factor, decimals, _ = MEASURES[name]
            add(words, evaluation.values[method][name], factor, decimals)
    return table


def _faces(evaluation: Evaluation) -> Table:
    title = "photo by photo: tone, inner landmarks %, and the rendering's distances to photos"
    table = _table(title, "photo", "tone", *["rated"] * bool(evaluation.ratings), "L*", "ITA")
    for method in evaluation.values:
        table.add_column(method, justify="right")
    if evaluation.distances:
        table.add_column("own, F()", justify="right")
        table.add_column("nearest", overflow="fold")
    for i, (name, tone) in enumerate(zip(evaluation.names, evaluation.tones, strict=True)):
        errors = (values["landmark_inner"][i] for values in evaluation.values.values())
        row = [name, str(tone)]
        if evaluation.ratings:
            rating = evaluation.ratings.get(name)
            row.append("" if rating is None else f"{rating:g}")
        row += [f"{evaluation.skin[ENCODER][skin][i]:.0f}" for skin in SKIN]
        row += [_number(error, "landmark_inner") for error in errors]
        if evaluation.distances:
            distances = evaluation.distances[ENCODER][i]
            j = int(np.argmin(distances))
            row += [f"{distances[i]:.3f}", "own" if j == i else evaluation.names[j]]
        table.add_row(*row)
    return table


def _gains(evaluation: Evaluation) -> Table:
    """The augmented branch beside the base branch, by tone."""
    title = "the augmented branch: what it changes in the median, %, - is better"
    table = _table(title, "", *_columns(evaluation), "better on")
    table.caption = "relief recovered: of the encoder's squared relief error, what is gone; median"
    values = [evaluation.values[method] for method in (ENCODER, AUGMENTED)]
    for name in filter(lambda name: _average(name) == "median", evaluation.measured()):
        medians = zip(*(_medians(evaluation, errors[name]) for errors in values), strict=True)
        cells = (f"{100 * (new / old - 1):+.0f}" if old > 0 else "–" for old, new in medians)
        better = f"{evaluation.better(AUGMENTED, ENCODER, name)} of {len(evaluation.names)}"
        table.add_row(MEASURES[name][0], *cells, better)
    if "relief_mm" in evaluation.measured():
        base, augmented = (torch.tensor(errors["relief_mm"]) for errors in values)
        shares = _medians(evaluation, recovered(augmented, base))
        table.add_row("relief recovered, %", *(f"{100 * share:.0f}" for share in shares), "")
    return table


def _offsets(evaluation: Evaluation) -> Table:
    """How large the offsets are, what of the texture is one colour, and what of the shape where."""
    even = area_shares(evaluation.model)
    table = _table("what the augmented branch adds, median", "", *_columns(evaluation), "if even")
    for name in filter(evaluation.offsets.__contains__, OFFSETS):
        title, factor, decimals = OFFSETS[name]
        medians = _medians(evaluation, evaluation.offsets[name])
        cells = ("–" if math.isnan(v) else f"{factor * v:.{decimals}f}" for v in medians)
        area = name.removeprefix("in ")
        table.add_row(title, *cells, f"{100 * even[area]:.0f}" if area in even else "")
    table.caption = """displacement, texture: r.m.s. over the skin
... wrinkles found: of the relief that the bases lack, how much is in the displacement
... one colour: how much of the texture's square is its mean over the skin
... forehead and so on: shares of the squared displacement; of the skin, if it were even"""
    return table


def _columns(evaluation: Evaluation) -> list[str]:
    return ["all", *sorted({tone_pair(tone) for tone in evaluation.tones})]


def _medians(evaluation: Evaluation, values) -> list[float]:
    """Of all faces, and of each pair of tones."""
    return [row["median"] for row in evaluation.groups(values).values()]


def _number(value: float, measure: str) -> str:
    _, factor, decimals, _ = MEASURES[measure]
    return "–" if math.isnan(value) else f"{value * factor:.{decimals}f}"


def _average(measure: str) -> str:
    """Which of a summary's numbers is shown."""
    return "mean" if measure == "ita_bias" else "median"
