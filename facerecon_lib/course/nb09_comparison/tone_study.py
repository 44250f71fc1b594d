"""The stored study: base beside augmented, by skin tone, under six beliefs.

Six U-Nets at most, one for each albedo basis ("monk", all tones; "light", tones 1 to 4) and belief
about the light, trained alike and asked about the same rendered faces, which none of them met.
`data_scripts/skin_tone_study.py` makes the file.

Notebook 09, section 4.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

import matplotlib
import numpy as np
import torch
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from ...evaluation.surface import AREAS
from ...face.colour import MONK_TONES, SKIN_LIGHTNESS
from ...files.errors import FacereconError
from ...files.weights import shipped_file
from ..drawing.style import BLUE, GREY, RED, add_legend, charts, curves, legend_below, number_grid

FORMAT = "facerecon-tone-study-1"
BASES = {"monk": "basis of all tones", "light": "basis of tones 1 to 4"}
LIGHTS = ("free", "grey", "known")
RUNS = tuple(f"{albedo}-{light}" for albedo, light in product(BASES, LIGHTS))
METHODS = {"base": "encoder", "augmented": "augmented"}  # ours: what an evaluation calls it
MEASURES = {
    "photometric": "colour error on the photo, of 1",
    "albedo_rgb": "colour error of the unlit skin, of 1",
    "ita_bias": "how far its skin tone is off, degrees of ITA",
    "vertex_mm": "shape error, mm",
}
OFFSETS = ("displacement_mm", "texture", "texture_even", *(f"in {area}" for area in AREAS))
GROUPS = ("1-2", "3-4", "5-6", "7-8", "9-10")


class StudyFileError(FacereconError):
    """A file that holds no study."""


def tone_groups(tones: Int[Tensor, " face"]) -> Int[Tensor, " face"]:
    """Monk's tones 1 to 10, two by two: 0 for 1 and 2, ... 4 for 9 and 10."""
    return torch.div(tones - 1, 2, rounding_mode="floor")


def places_by_tone(tones: Int[Tensor, " face"], reach: float) -> Float[Tensor, " face"]:
    """Where faces stand on an axis of the groups, spread so that none hides another."""
    return tone_groups(tones) + torch.linspace(-reach, reach, len(tones))


@dataclass(eq=False)
class ToneStudy:
    """One number per face, by run ("light-known"), method ("base", "augmented") and measure.

    tones: Monk's, 1 to 10, of the true skin without light. area_shares: of the skin's surface.
    faces, encoder, trained: whose faces, and what all the U-Nets were trained with.
    photos: real ones, where there are: how their skins were rated by eye, and numbers of each by
    run and method, "lightness" (L* of the unlit skin) and "photometric".
    """

    runs: dict[str, dict]
    tones: Int[Tensor, " face"]
    area_shares: dict[str, float]
    faces: str
    encoder: str
    trained: dict
    photos: dict = field(default_factory=dict)

    @property
    def groups(self) -> Int[Tensor, " face"]:
        return tone_groups(self.tones)

    def values(self, run: str, method: str, measure: str) -> Float[Tensor, " face"]:
        """method: "base", "augmented", or "offsets". Raises StudyFileError for an unknown run."""
        if run not in self.runs:
            raise StudyFileError(f"no run {run} in the study; there are {', '.join(self.runs)}")
        return _numbers(self.runs[run][method][measure])


def _numbers(values: Sequence[float | None]) -> Float[Tensor, " face"]:
    return torch.tensor([torch.nan if value is None else value for value in values])


def load_study(path: Path | None = None) -> ToneStudy:
    """Read the study. Raises StudyFileError, one line, for a missing or damaged file."""
    path = path or shipped_file("skin_tone_study.json")
    maker = "data_scripts/skin_tone_study.py makes one"
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError:
        raise StudyFileError(f"{path}: there is no such file; {maker}") from None
    except ValueError as problem:
        raise StudyFileError(f"{path.name}: no JSON ({problem}); {maker}") from None
    if not isinstance(data, dict) or data.pop("format", "") != FORMAT:
        raise StudyFileError(f"{path.name}: is not of format {FORMAT}; {maker}")
    columns = [(m, k) for m in METHODS for k in MEASURES] + [("offsets", k) for k in OFFSETS]
    try:
        study = ToneStudy(**data | dict(tones=torch.tensor(data["tones"])))
        for run, column in product(study.runs, columns):
            count = len(study.values(run, *column))
            if count != len(study.tones):
                raise ValueError(f"{count} numbers for {len(study.tones)} faces")
        for run, method in product(study.photos.get("runs", ()), METHODS):
            for numbers in study.photos["runs"][run][method].values():
                if len(numbers) != len(study.photos["ratings"]):
                    raise ValueError(f"{len(numbers)} numbers for the rated photos")
    except (KeyError, TypeError, ValueError) as problem:
        raise StudyFileError(f"{path.name}: damaged ({problem!r}); {maker}") from None
    return study


def medians(values: Float[Tensor, " face"], groups: Int[Tensor, " face"]) -> list[float]:
    """Of each of the five groups of tones; NaN where there is no face."""
    parts = [values[groups == g].double() for g in range(len(GROUPS))]
    return [part.nanquantile(0.5).item() if len(part) else torch.nan for part in parts]


def tone_table(
    rows: Mapping[str, Sequence], groups: Int[Tensor, " face"], decimals: int = 2, title: str = ""
) -> str:
    """Text: a line per row, a column per group of tones. A row holds a number per face, whose
    medians are shown, or five numbers that are shown as they are."""
    counts = groups.bincount(minlength=len(GROUPS)).tolist()
    lines = [(title, [f"tones {g}" for g in GROUPS]), ("", [f"({n})" for n in counts])]
    for name, values in rows.items():
        numbers = medians(values, groups) if len(values) == len(groups) else values
        lines.append((name, ["–" if v != v else f"{v:.{decimals}f}" for v in map(float, numbers)]))
    wide = max(len(name) for name, _ in lines) + 2
    return "\n".join(
        f"{name:<{wide}}" + "".join(f"{c:>13}" for c in cells) for name, cells in lines
    )


def offsets_of_runs(study: ToneStudy, measure: str, factor: float = 1.0) -> dict[str, Tensor]:
    """What a table takes, one of OFFSETS of every run that is there."""
    return {
        run_words(run, ", light "): factor * study.values(run, "offsets", measure)
        for run in study.runs
    }


def tone_ticks(axis: Axes) -> None:
    """The five groups below an axis, each above its two tones."""
    axis.set_xticks(range(len(GROUPS)), GROUPS, fontsize=9)
    axis.set(xlim=(-0.5, len(GROUPS) - 0.5), ylim=axis.get_ylim())
    for i, tone in enumerate(MONK_TONES):
        corner = (i // 2 + 0.2 + 0.3 * (i % 2)) / len(GROUPS), -0.035
        form = dict(facecolor=tone, edgecolor="0.5", linewidth=0.4, transform=axis.transAxes)
        axis.add_artist(Rectangle(corner, 0.3 / len(GROUPS), 0.03, clip_on=False, **form))
    axis.tick_params(axis="x", length=0, pad=8)


def run_words(run: str, between: str = ", ") -> str:
    """Its basis and its light."""
    albedo, light = run.split("-")
    return BASES[albedo] + between + light


def run_line(run: str) -> dict:
    """How a run is drawn everywhere: its light is the colour, its basis the kind of line."""
    albedo, light = run.split("-")
    colour = matplotlib.colormaps["viridis"](0.05 + 0.4 * LIGHTS.index(light))
    form = {"monk": (0, (3, 1.5)), "light": "solid"}[albedo]
    return dict(color=colour, linestyle=form, linewidth=2, marker="o", markersize=5)


def _run_lines(axis: Axes, study: ToneStudy, measure: str, method: str, less: str = "") -> None:
    """Medians by tone, a line per run; `less` the same measure of another method."""
    for run in study.runs:
        values = study.values(run, method, measure)
        values = values - study.values(run, less, measure) if less else values
        axis.plot(medians(values, study.groups), label=run_words(run), **run_line(run))


def spread(values: Float[Tensor, " face"], groups: Int[Tensor, " face"]) -> list[tuple]:
    """Between which numbers 95 % of a group's medians lie, were other faces drawn (bootstrap)."""
    random = np.random.default_rng(0)
    bounds = [(np.nan, np.nan)] * len(GROUPS)
    for g in groups.unique().tolist():
        of_group = values[groups == g].numpy()
        sampled = np.median(random.choice(of_group, (400, len(of_group))), axis=1)
        bounds[g] = tuple(np.quantile(sampled, (0.025, 0.975)))
    return bounds


def conditions_figure(
    study: ToneStudy, measure: str, title: str, live: Mapping | None = None, live_tones=()
) -> Figure:
    """One measure by tone, base and augmented: a panel per basis and light.

    live: the base's errors on a few faces of those tones, by run, as computed in the notebook.
    """
    figure, axes = charts(10.6, 5.9, 3, 2, title, sharey=True)
    tops = [values.abs().max() for values in (live or {}).values()]
    for run, axis in zip(RUNS, axes.flat, strict=True):
        if live:
            form = dict(s=16, color="0.6", label="base, computed here", zorder=2)
            axis.scatter(places_by_tone(live_tones, 0.12), live[run].abs(), **form)
        if run in study.runs:
            tops.append(_stored_medians(axis, study, run, measure))
        else:
            words = dict(transform=axis.transAxes, ha="center", fontsize=9, color="0.4")
            axis.text(0.5, 0.9, "no U-Net trained yet", **words)
    for axis, light in zip(axes[0], LIGHTS, strict=True):
        axis.set_title(f"light: {light}", fontsize=11)
    for axis, basis in zip(axes[:, 0], BASES.values(), strict=True):
        axis.set_ylabel(basis, fontsize=10)
    for axis in axes.flat:
        axis.set_ylim(0, 1.06 * float(max(tops)))
        tone_ticks(axis)
    figure.supylabel(MEASURES[measure], fontsize=9)
    legend_below(figure, axes[1, 2], 3, fontsize=9)
    return figure


def _stored_medians(axis: Axes, study: ToneStudy, run: str, measure: str) -> float:
    """Medians of both methods and how far they are sure; returns the base's highest bound."""
    forms = {"base": (GREY, "0.25", -0.08), "augmented": (RED, RED, 0.08)}
    tops = []
    for method, (pale, colour, shift) in forms.items():
        values = study.values(run, method, measure).abs()
        bounds, x = np.array(spread(values, study.groups)).T, np.arange(len(GROUPS)) + shift
        axis.vlines(x, *bounds, color=pale, linewidth=5, alpha=0.35)
        line = {f"{method}, median of the study": medians(values, study.groups)}
        curves(axis, line, x, "o-", colours=(colour,), width=1.6)
        tops.append(np.nanmax(bounds))
    return tops[0]


def photos_figure(study: ToneStudy) -> Figure:
    """Real people: the unlit skin's lightness by ratings, base and augmented."""
    runs = study.photos["runs"]
    title = "Real photos: the unlit skin, beside ratings by eye"
    figure, axes = charts(2.6 * len(runs) + 0.6, 3.3, len(runs), title=title, sharey=True)
    ratings = np.array(study.photos["ratings"])
    tones = np.arange(1, len(SKIN_LIGHTNESS) + 1)
    for axis, run in zip(np.atleast_1d(axes), runs, strict=True):
        axis.plot(tones, SKIN_LIGHTNESS, color="0.75", linewidth=5, label="skin rated so")
        forms = {"base": dict(s=34, edgecolors="0.35", facecolors="none")}
        forms["augmented"] = dict(s=9, color=RED)
        for method, form in forms.items():  # rings around dots: where both agree, both are seen
            axis.scatter(ratings, runs[run][method]["lightness"], label=method, **form)
        axis.set_title(run_words(run, "\nlight "), fontsize=9)
        axis.set(xlabel="Monk tone, rated by eye", xticks=tones[::3])
    np.atleast_1d(axes)[0].set_ylabel("lightness L* of the unlit skin", fontsize=9)
    legend_below(figure, np.atleast_1d(axes)[0], 3, fontsize=9)
    return figure


def photos_table(study: ToneStudy) -> str:
    """Text: medians by rating, of how much too light the unlit skin is (L*) and of the colour error
    on the photo."""
    ratings = torch.tensor(study.photos["ratings"])
    groups = tone_groups(ratings.round().long())
    expected = torch.from_numpy(np.interp(ratings, range(1, 11), SKIN_LIGHTNESS))
    tables = []
    for measure, title, decimals in (
        ("lightness", "L* of the unlit skin, too light by", 0),
        ("photometric", "colour error on the photo", 3),
    ):
        rows = {}
        for run, methods in study.photos["runs"].items():
            for method in METHODS:
                values = _numbers(methods[method][measure])
                less = expected if measure == "lightness" else 0
                rows[f"{run_words(run)}, {method}"] = values - less
        tables.append(tone_table(rows, groups, decimals, title))
    return "\n\n".join(tables)


def size_figure(study: ToneStudy) -> Figure:
    """What the displacement moves, beside what there is to mend."""
    title = "Is the displacement near zero? It is small beside the error that it leaves"
    figure, (left, right) = charts(10.2, 3.5, 2, title=title)
    _run_lines(left, study, "displacement_mm", "offsets")
    _run_lines(right, study, "vertex_mm", "augmented", less="base")
    error = study.values(next(iter(study.runs)), "base", "vertex_mm")
    left.plot(medians(error, study.groups), "k:", label="shape error of the base", linewidth=2)
    left.set(ylim=(0, None), title="root mean square displacement, mm")
    add_legend(left, fontsize=8, handlelength=3, loc="center left", bbox_to_anchor=(0, 0.62))
    right.axhline(0, color="0.6", linewidth=1)
    right.set(ylim=(-0.15, 0.15), title="change of the shape error, mm (below 0: better)")
    for axis in (left, right):
        tone_ticks(axis)
    return figure


def areas_figure(study: ToneStudy) -> Figure:
    """How much more than its share of the surface each area is moved, by tone; a panel per run."""
    columns, lines = min(len(study.runs), 3), -(-len(study.runs) // 3)
    title = "Does it move the lower jaw? Share of the displacement's energy, by area:\n"
    title += "1 is as much as an even displacement would have (red: more, blue: less)"
    size = 2.6 + 2.5 * columns, 0.6 + 3 * lines
    figure, axes = charts(*size, columns, lines, title, 11, squeeze=False)
    for axis in axes.flat[len(study.runs) :]:
        axis.axis("off")
    for axis, run in zip(axes.flat, study.runs, strict=False):
        shares = [study.values(run, "offsets", f"in {area}") for area in AREAS]
        shares = np.array([medians(share, study.groups) for share in shares])
        rows = shares / [[study.area_shares[area]] for area in AREAS]
        number_grid(axis, np.log2(rows), [[f"{v:.1f}" for v in row] for row in rows], 2.2)
        axis.set_xticks(range(len(GROUPS)), GROUPS, fontsize=8)
        axis.set_yticks(range(len(AREAS)), AREAS if axis in axes[:, 0] else [""] * len(AREAS))
        axis.set_title(run_words(run, "\nlight "), fontsize=9)
        axis.set_xlabel("tones", fontsize=9)
    return figure


def even_figure(study: ToneStudy) -> Figure:
    """How large the texture offset is by tone, and how much of it is one colour for all skin."""
    title = "Does the texture map change the skin's colour, and most for dark skin?"
    figure, (left, right) = charts(10.2, 3.5, 2, title=title)
    _run_lines(left, study, "texture", "offsets")
    _run_lines(right, study, "texture_even", "offsets")
    left.set(ylim=(0, None), title="its size: root mean square, of 1")
    right.set(ylim=(0, 1), title="share of its energy that is one colour")
    for axis in (left, right):
        tone_ticks(axis)
    legend_below(figure, left, 3, fontsize=9, handlelength=3)
    return figure


def gaps_figure(
    gaps: Mapping[str, float], intervals: Mapping[str, Mapping[str, Sequence]], title: str
) -> Figure:
    """The gap of each run, with the ends of intervals by the name of what was drawn."""
    figure, axis = charts(8.2, 3.8, title=title)
    axis.axvline(0, color="0.6", linewidth=1)
    for row, run in enumerate(gaps):
        for k, (name, colour) in enumerate(zip(intervals, (BLUE, RED), strict=False)):
            low, high = (100 * float(end) for end in intervals[name][run])
            y, label = row + 0.3 * (k - (len(intervals) - 1) / 2), name if row == 0 else None
            axis.plot([low, high], [y, y], color=colour, linewidth=5, alpha=0.45, label=label)
            axis.plot(100 * float(gaps[run]), y, "o", color=colour, markersize=5)
    axis.set_yticks(range(len(gaps)), [run_words(run) for run in gaps], fontsize=9)
    axis.yaxis.set_inverted(True)
    axis.set_xlabel("gain of tones 7 to 10 minus gain of tones 1 to 4, percentage points")
    legend_below(figure, axis, 2, fontsize=9)
    return figure
