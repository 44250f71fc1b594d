"""The stored study of notebook 09: base beside augmented, by skin tone, under six beliefs.

study = load_study()
study.values("light", "known", "augmented", "ita_bias")      # (face,) degrees
print(tone_table({"base": errors}, study.groups, decimals=1))
conditions_figure(study, "ita_bias")

Six U-Nets at most, one for each albedo basis ("monk", all tones; "light", tones 1 to 4) and belief
about the light, trained alike and asked about the same rendered faces, which none of them met.
`data_scripts/skin_tone_study.py` makes the file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from matplotlib.figure import Figure
from torch import Tensor

from ...evaluation.surface import AREAS
from ...face.colour import MONK_TONES
from ...files.errors import FacereconError
from ...files.weights import shipped_file

FORMAT = "facerecon-tone-study-1"
ALBEDOS, LIGHTS = ("monk", "light"), ("free", "grey", "known")
METHODS = {"base": "encoder", "augmented": "augmented"}  # ours: what an evaluation calls it
MEASURES = ("photometric", "albedo_rgb", "ita_bias", "vertex_mm")
OFFSETS = ("displacement_mm", "texture", "texture_even", *(f"in {area}" for area in AREAS))
GROUPS = ("1-2", "3-4", "5-6", "7-8", "9-10")
BASES = {"monk": "basis of all tones", "light": "basis of tones 1 to 4"}
GREY, RED, BLUE = "#9a9a9a", "#c0392b", "#1f6fb2"
NAMES = {
    "photometric": "colour error on the photo, of 1",
    "albedo_rgb": "colour error of the unlit skin, of 1",
    "ita_bias": "how far its skin tone is off, degrees of ITA",
    "vertex_mm": "shape error, mm",
}


class StudyFileError(FacereconError):
    """A file that holds no study."""


def tone_groups(tones: Int[Tensor, " face"]) -> Int[Tensor, " face"]:
    """Monk's tones 1 to 10, two by two: 0 for 1 and 2, ... 4 for 9 and 10."""
    return torch.div(tones - 1, 2, rounding_mode="floor")


@dataclass(eq=False)
class ToneStudy:
    """One number a face, by run ("light-known"), method ("base", "augmented") and measure.

    tones: Monk's, 1 to 10, of the true skin without light. area_shares: of the skin's surface.
    faces, encoder, trained: whose faces, and what all the U-Nets were trained with.
    """

    runs: dict[str, dict]
    tones: Int[Tensor, " face"]
    area_shares: dict[str, float]
    faces: str
    encoder: str
    trained: dict

    @property
    def groups(self) -> Int[Tensor, " face"]:
        return tone_groups(self.tones)

    def has(self, albedo: str, light: str) -> bool:
        """Whether a U-Net was trained so."""
        return f"{albedo}-{light}" in self.runs

    def values(self, albedo: str, light: str, method: str, measure: str) -> Float[Tensor, " face"]:
        """method: "base", "augmented", or "offsets". Raises StudyFileError for a run that is not
        there."""
        name = f"{albedo}-{light}"
        if name not in self.runs:
            raise StudyFileError(f"no run {name} in the study; there are {', '.join(self.runs)}")
        numbers = self.runs[name][method][measure]
        return torch.tensor([torch.nan if v is None else v for v in numbers])


def load_study(path: Path | None = None) -> ToneStudy:
    """Read the study. Raises StudyFileError, one line, for a missing or damaged file."""
    path = shipped_file("skin_tone_study.json") if path is None else Path(path)
    maker = "data_scripts/skin_tone_study.py makes one"
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError:
        raise StudyFileError(f"{path}: there is no such file; {maker}") from None
    except ValueError as problem:
        raise StudyFileError(f"{path.name}: no JSON ({problem}); {maker}") from None
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise StudyFileError(f"{path.name}: is not of format {FORMAT}; {maker}")
    try:
        study = ToneStudy(
            data["runs"],
            torch.tensor(data["tones"]),
            data["area_shares"],
            *(data[key] for key in ("faces", "encoder", "trained")),
        )
        for name in study.runs:
            albedo, light = name.split("-")
            for method in METHODS:
                for measure in MEASURES:
                    _as_many(study, study.values(albedo, light, method, measure))
            for measure in OFFSETS:
                _as_many(study, study.values(albedo, light, "offsets", measure))
    except (KeyError, TypeError, ValueError) as problem:
        raise StudyFileError(f"{path.name}: damaged ({problem!r}); {maker}") from None
    return study


def _as_many(study: ToneStudy, values: Tensor) -> None:
    if len(values) != len(study.tones):
        raise ValueError(f"{len(values)} numbers for {len(study.tones)} faces")


# Tables -----------------------------------------------------------------------------------------


def medians(values: Float[Tensor, " face"], groups: Int[Tensor, " face"]) -> list[float]:
    """Of each of the five groups of tones; NaN where there is no face."""
    return [values[groups == g].double().nanquantile(0.5).item() if (groups == g).any()
            else torch.nan for g in range(len(GROUPS))]  # fmt: skip


def tone_table(
    rows: Mapping[str, Tensor | Sequence[float]],
    groups: Int[Tensor, " face"],
    decimals: int = 2,
    title: str = "",
) -> str:
    """Text: a line a row, a column a group of tones. A row holds a number a face, of which the
    medians are shown, or five numbers that are shown as they are."""
    wide = max([len(name) for name in rows] + [len(title)]) + 2
    counts = [int((groups == g).sum()) for g in range(len(GROUPS))]
    head = "".join(f"{'tones ' + g:>13}" for g in GROUPS)
    lines = [f"{title:<{wide}}{head}", f"{'':<{wide}}" + "".join(f"{f'({n})':>13}" for n in counts)]
    for name, values in rows.items():
        shown = medians(values, groups) if len(values) == len(groups) else list(values)
        cells = ["–" if v != v else f"{v:.{decimals}f}" for v in map(float, shown)]
        lines.append(f"{name:<{wide}}" + "".join(f"{cell:>13}" for cell in cells))
    return "\n".join(lines)


def each_run(study: ToneStudy, method: str, measure: str, factor: float = 1.0) -> dict[str, Tensor]:
    """What a table takes, of every run that is there."""
    return {
        f"{BASES[albedo]}, light {light}": factor * study.values(albedo, light, method, measure)
        for albedo in ALBEDOS
        for light in LIGHTS
        if study.has(albedo, light)
    }


# Figures ----------------------------------------------------------------------------------------


def tone_ticks(axis) -> None:
    """The five groups below an axis, each above its two tones."""
    axis.set_xticks(range(len(GROUPS)), GROUPS, fontsize=9)
    low, high = axis.get_ylim()
    for i, tone in enumerate(MONK_TONES):
        left = (i // 2 - 0.3 + 0.3 * (i % 2) + 0.5 * 1.0) / len(GROUPS)
        patch = axis.add_patch(
            _rectangle(left, -0.035, 0.3 / len(GROUPS), 0.03, tone, axis.transAxes)
        )
        patch.set_clip_on(False)
    axis.set(xlim=(-0.5, len(GROUPS) - 0.5), ylim=(low, high))
    axis.tick_params(axis="x", length=0, pad=8)


def _rectangle(x, y, width, height, colour, transform):
    from matplotlib.patches import Rectangle

    return Rectangle(
        (x, y), width, height, facecolor=colour, edgecolor="0.5", linewidth=0.4, transform=transform
    )


def spread(
    values: Float[Tensor, " face"], groups: Int[Tensor, " face"], draws: int = 400
) -> list[tuple[float, float]]:
    """Between which two numbers 95 % of a group's medians lie, were other faces drawn from it
    (bootstrap, seeded)."""
    random = np.random.default_rng(0)
    bounds = []
    for g in range(len(GROUPS)):
        of_group = values[groups == g].numpy()
        if not len(of_group):
            bounds.append((np.nan, np.nan))
            continue
        drawn = np.median(random.choice(of_group, (draws, len(of_group))), axis=1)
        bounds.append(tuple(np.quantile(drawn, (0.025, 0.975))))
    return bounds


def conditions_figure(
    study: ToneStudy,
    measure: str,
    title: str,
    live: Mapping[str, Float[Tensor, " few"]] | None = None,
    live_tones: Int[Tensor, " few"] | None = None,
) -> Figure:
    """One measure by tone, base and augmented: a panel a basis and light.

    live: the base's errors on a few faces, by run ("light-known"), as computed in the notebook.
    """
    figure = Figure((10.6, 5.9), layout="constrained", facecolor="white")
    figure.suptitle(title, fontsize=12)
    axes = figure.subplots(2, 3, sharey=True)
    for row, albedo in zip(axes, ALBEDOS, strict=True):
        for axis, light in zip(row, LIGHTS, strict=True):
            _panel(axis, study, albedo, light, measure, live, live_tones)
        row[0].set_ylabel(BASES[albedo], fontsize=10)
    figure.supylabel(NAMES[measure], fontsize=9)
    tops = [values.abs().max() for values in (live or {}).values()]
    tops += [np.nanmax(spread(study.values(*run.split("-"), "base", measure).abs(), study.groups))
             for run in study.runs]  # fmt: skip
    top = 1.06 * float(max(tops))
    for axis in axes.flat:
        axis.set_ylim(0, top)
        tone_ticks(axis)
    for axis, light in zip(axes[0], LIGHTS, strict=True):
        axis.set_title(f"light: {light}", fontsize=11)
    handles, labels = axes[1, 2].get_legend_handles_labels()
    figure.legend(handles, labels, frameon=False, fontsize=9, ncols=3, loc="outside lower center")
    return figure


def _panel(axis, study, albedo, light, measure, live, live_tones) -> None:
    groups, name = study.groups, f"{albedo}-{light}"
    if live is not None:
        place = tone_groups(live_tones) + torch.linspace(-0.12, 0.12, len(live_tones))
        label = "base, computed here"
        axis.scatter(place, live[name].abs(), s=16, color="0.6", label=label, zorder=2)
    if not study.has(albedo, light):
        axis.text(0.5, 0.9, "no U-Net trained yet", transform=axis.transAxes, ha="center",
                  fontsize=9, color="0.4")  # fmt: skip
        return
    for method, colour, shift in (("base", GREY, -0.08), ("augmented", RED, 0.08)):
        values = study.values(albedo, light, method, measure).abs()
        middle, bounds = medians(values, groups), np.array(spread(values, groups)).T
        x = np.arange(len(GROUPS)) + shift
        axis.vlines(x, *bounds, color=colour, linewidth=5, alpha=0.35)
        axis.plot(x, middle, "o-", color="0.25" if method == "base" else colour, linewidth=1.6,
                  markersize=6, label=f"{method}, median of the study")  # fmt: skip
    axis.set_ylim(0, None)


def size_figure(study: ToneStudy) -> Figure:
    """What the displacement moves, beside what there is to mend."""
    figure = Figure((10.2, 3.5), layout="constrained", facecolor="white")
    figure.suptitle("Is the displacement near zero? It is small beside the error that it leaves")
    left, right = figure.subplots(1, 2)
    runs = [name.split("-") for name in study.runs]
    for albedo, light in runs:
        words, line = f"{BASES[albedo]}, {light}", run_line(albedo, light)
        moved = study.values(albedo, light, "offsets", "displacement_mm")
        x = range(len(GROUPS))
        left.plot(x, medians(moved, study.groups), label=words, **line)
        change = study.values(albedo, light, "augmented", "vertex_mm")
        change = change - study.values(albedo, light, "base", "vertex_mm")
        right.plot(x, medians(change, study.groups), **line)
    error = study.values(*runs[0], "base", "vertex_mm")
    left.plot(x, medians(error, study.groups), "k:", label="shape error of the base", linewidth=2)
    left.set(ylim=(0, None), title="root mean square displacement, mm")
    left.legend(
        frameon=False, fontsize=8, handlelength=3, loc="center left", bbox_to_anchor=(0, 0.62)
    )
    right.axhline(0, color="0.6", linewidth=1)
    most = 0.15
    right.set(ylim=(-most, most), title="change of the shape error, mm (below 0: better)")
    for axis in (left, right):
        tone_ticks(axis)
    return figure


def areas_figure(study: ToneStudy) -> Figure:
    """How much more than its share of the surface each area is moved, by tone; a panel a run."""
    runs = [name.split("-") for name in study.runs]
    columns, lines = min(len(runs), 3), -(-len(runs) // 3)
    figure = Figure((2.6 + 2.5 * columns, 0.6 + 3 * lines), layout="constrained", facecolor="white")
    figure.suptitle(
        "Does it move the lower jaw? Share of the displacement's energy, by area:\n"
        "1 is as much as an even displacement would have (red: more, blue: less)",
        fontsize=11,
    )
    axes = figure.subplots(lines, columns, squeeze=False)
    for axis in axes.flat[len(runs) :]:
        axis.axis("off")
    for axis, (albedo, light) in zip(axes.flat, runs, strict=False):
        table = np.array(
            [
                medians(study.values(albedo, light, "offsets", f"in {area}"), study.groups)
                for area in AREAS
            ]
        )
        dense = table / np.array([study.area_shares[area] for area in AREAS])[:, None]
        axis.imshow(np.log2(dense), cmap="RdBu_r", vmin=-2.2, vmax=2.2, aspect="auto")
        for (i, j), value in np.ndenumerate(dense):
            dark = abs(np.log2(value)) > 1.5
            axis.text(j, i, f"{value:.1f}", ha="center", va="center", fontsize=9,
                      color="white" if dark else "black")  # fmt: skip
        axis.set_xticks(range(len(GROUPS)), GROUPS, fontsize=8)
        axis.set_yticks(range(len(AREAS)), AREAS if axis in axes[:, 0] else [""] * len(AREAS))
        axis.set_title(f"{BASES[albedo]}\nlight {light}", fontsize=9)
        axis.set_xlabel("tones", fontsize=9)
    return figure


def even_figure(study: ToneStudy) -> Figure:
    """How large the texture offset is by tone, and how much of it is one colour for all skin."""
    figure = Figure((10.2, 3.5), layout="constrained", facecolor="white")
    figure.suptitle("Does the texture map change the skin's colour, and most for dark skin?")
    axes = figure.subplots(1, 2)
    runs = [name.split("-") for name in study.runs]
    for albedo, light in runs:
        for axis, name in zip(axes, ("texture", "texture_even"), strict=True):
            values = study.values(albedo, light, "offsets", name)
            label = f"{BASES[albedo]}, {light}"
            axis.plot(
                range(len(GROUPS)),
                medians(values, study.groups),
                label=label,
                **run_line(albedo, light),
            )
    axes[0].set(ylim=(0, None), title="its size: root mean square, of 1")
    axes[1].set(ylim=(0, 1), title="share of its energy that is one colour")
    axes[0].legend(frameon=False, fontsize=8, handlelength=3, loc="upper left")
    for axis in axes:
        tone_ticks(axis)
    return figure


def run_line(albedo: str, light: str) -> dict:
    """How a run is drawn everywhere: its light is the colour, its basis the kind of line."""
    import matplotlib

    colour = matplotlib.colormaps["viridis"](0.05 + 0.4 * LIGHTS.index(light))
    style = {"monk": (0, (3, 1.5)), "light": "solid"}[albedo]
    return dict(color=colour, linestyle=style, linewidth=2, marker="o", markersize=5)
