"""What notebook 06 draws of training and of trained encoders: curves, strips, errors, sliders.

diary = Diary(model, objective, weights, {"training": pool[:16], "held-out": held_out})
diary.note(0, network)
figures.learning_figure(diary)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import matplotlib
import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from ...face.batch import FaceBatch
from ...face.coefficients import FaceCoefficients
from ...face.morphable_model import MorphableModel
from ...fitting.objective import Objective
from ...pictures.faces import on_photo, show_face, to_uint8
from ...rendering.synthesis import synthesise
from ..drawing.sliders import Curves, Picture, panel_row
from ..drawing.style import BLUE, GREY, RED, panels, picture
from .answer_figures import shape_mm


@dataclass(eq=False)
class Diary:
    """What a network says of some sets of faces, from time to time while it is trained.

    steps, losses, mm: of each note; terms: weighted. states: the coefficients, of each set.
    """

    model: MorphableModel
    objective: Callable[[FaceCoefficients, FaceBatch], Objective]
    weights: Mapping[str, float]
    sets: Mapping[str, FaceBatch]
    steps: list[int] = field(default_factory=list)
    terms: dict[str, list[dict[str, float]]] = field(default_factory=dict)
    states: dict[str, list[FaceCoefficients]] = field(default_factory=dict)

    @torch.no_grad()
    def note(self, step: int, network: Callable[[Tensor], FaceCoefficients]) -> None:
        """Ask the network about every set."""
        self.steps.append(step)
        for name, batch in self.sets.items():
            c = network(batch.image)
            said = self.objective(c, batch)
            weighted = {k: self.weights[k] * float(v) for k, v in said.terms.items()}
            self.terms.setdefault(name, []).append({"loss": float(said.loss), **weighted})
            self.states.setdefault(name, []).append(c)

    def loss(self, name: str) -> list[float]:
        """The whole loss of a set, over the notes."""
        return [terms["loss"] for terms in self.terms[name]]

    def mm(self, name: str) -> list[float]:
        """Mean vertex error of a set, over the notes."""
        truth = self.sets[name].truth
        return [float(shape_mm(self.model, c, truth).mean()) for c in self.states[name]]


TERM_GROUPS = {
    "pixels": ("pixel",),
    "landmarks": ("landmark",),
    "shape and expression": ("truth_shape", "truth_expression"),
    "skin": ("truth_albedo",),
    "pose": ("truth_pose",),
    "light": ("truth_light",),
}


def learning_figure(diary: Diary) -> Figure:
    """Each part of the weighted loss over the steps, on training faces and on held-out ones."""
    figure, axes = panels(2, 3, size=2.3, head=0.4)
    figure.set_size_inches(10.4, 5.2)
    figure.suptitle("What is learned, and for whom: faces trained on (blue), strangers (red)")
    for axis, (title, names) in zip(axes.flat, TERM_GROUPS.items(), strict=True):
        for (name, notes), colour in zip(diary.terms.items(), (BLUE, RED), strict=True):
            values = [sum(terms[n] for n in names) for terms in notes]
            axis.plot(diary.steps, values, color=colour, linewidth=2.2, label=name)
        axis.set(title=title, ylim=(0, None))
    axes[0, 0].legend(frameon=False, fontsize=9)
    for axis in axes[-1]:
        axis.set_xlabel("step")
    axes[0, 0].set_ylabel("weighted loss")
    axes[1, 0].set_ylabel("weighted loss")
    return figure


def memory_figure(diaries: Mapping[str, Diary], mean_mm: float) -> Figure:
    """Loss and millimetres on training and held-out faces, a row of panels a pool of faces."""
    figure = Figure((10.4, 3.3), layout="constrained", facecolor="white")
    left, right = figure.subplots(1, 2)
    for (label, diary), style in zip(diaries.items(), ("--", "-"), strict=True):
        for name, colour in zip(diary.sets, (BLUE, RED), strict=True):
            words = f"{name}, {label}"
            left.plot(diary.steps, diary.loss(name), style, color=colour, linewidth=2, label=words)
            right.plot(diary.steps, diary.mm(name), style, color=colour, linewidth=2)
    left.set(xlabel="step", ylabel="loss", ylim=(0, None), title="Loss: the gap is the memory")
    left.legend(frameon=False, fontsize=8.5)
    right.axhline(mean_mm, color=GREY, linestyle=":")
    place = 0.5 * max(d.steps[-1] for d in diaries.values())
    words = "dotted: the mean face, on strangers"
    right.text(place, 0.12, words, fontsize=9, color="0.35", ha="center")
    right.set(xlabel="step", ylabel="vertex error, mm", ylim=(0, None))
    right.set_title("Millimetres: strangers gain nothing")
    for axis in (left, right):
        axis.set_xticks(max(diaries.values(), key=lambda d: d.steps[-1]).steps)
    return figure


def strip_figure(diary: Diary, chosen: Mapping[str, Sequence[int]], steps: Sequence[int]) -> Figure:
    """Photos and the faces answered at some steps, rows of both sets."""
    rows = [(name, i) for name, several in chosen.items() for i in several]
    title = "The answer while it learns: faces it trains on, and strangers"
    figure, axes = panels(len(rows), len(steps) + 2, size=1.72, title=title, head=0.25)
    places = [diary.steps.index(s) for s in steps]
    for number, (row, (name, i)) in enumerate(zip(axes, rows, strict=True)):
        batch, head = diary.sets[name], number == 0
        picture(row[0], to_uint8(batch.image[i]), "the photo" if head else "")
        for axis, place in zip(row[1:], places, strict=False):
            face = synthesise(diary.model, diary.states[name][place][i])
            picture(axis, show_face(face, "lit", 200))
            axis.set_title(f"step {diary.steps[place]}" if head else "", fontsize=10)
        truth = synthesise(diary.model, batch.truth[i])
        picture(row[-1], show_face(truth, "lit", 200), "the truth" if head else "")
        row[0].text(
            -12, 112, name, rotation=90, ha="right", va="center", fontsize=10,
        )  # fmt: skip
    return figure


def step_panels(diary: Diary, chosen: Mapping[str, int]) -> Callable[[int], Picture]:
    """place -> one face of either set as answered at that note, and the losses with a mark."""

    def draw(axes) -> None:
        for name, colour in zip(chosen, (BLUE, RED), strict=True):
            axes[0].plot(diary.steps, diary.loss(name), color=colour, linewidth=2, label=name)
        axes[0].set(title="loss", xlabel="step", ylim=(0, None))
        axes[0].legend(frameon=False, fontsize=9, loc="lower left")

    curves = Curves(draw, 1, (250, 186))

    @torch.no_grad()
    def at(place: int) -> Picture:
        panels = {}
        for name, i in chosen.items():
            batch = diary.sets[name]
            face = synthesise(diary.model, diary.states[name][place][i])
            panels[f"{name}: photo"] = to_uint8(batch.image[i])
            panels[f"{name}: answer"] = on_photo(batch.image[i : i + 1], face, 160, fine=2)
        return panel_row(panels, curves.marked([diary.steps[place]]))

    return at


def log_figure(records: Sequence[Mapping], title: str) -> Figure:
    """The loss of a run's log, and the shares of its terms."""
    notes = [r for r in records if r["kind"] == "train"]
    figure = Figure((9.6, 2.9), layout="constrained", facecolor="white")
    figure.suptitle(title, fontsize=12)
    left, right = figure.subplots(1, 2)
    steps = [r["step"] for r in notes]
    left.plot(steps, [r["loss"] for r in notes], "o-", color=BLUE, linewidth=2)
    left.set(xlabel="step", ylabel="loss", ylim=(0, None), title="log.jsonl: the loss")
    names = sorted(notes[-1]["shares"], key=lambda n: -notes[0]["shares"][n])
    names = [n for n in names if max(r["shares"][n] for r in notes) > 0.01]
    heights = [[r["shares"][n] for r in notes] for n in names]
    colours = matplotlib.colormaps["viridis"](np.linspace(0.05, 0.95, len(names)))
    right.stackplot(steps, heights, labels=names, colors=colours)
    right.set(xlabel="step", ylim=(0, 1), title="each term's share of it")
    right.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure
