"""Figures of training: curves, strips of answers, a slider over the steps.

diary = Diary(model, objective, weights, {"training": pool[:16], "held-out": held_out})
diary.note(0, network)
figures.learning_figure(diary)

Notebook 06, Eq. 7.
"""

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
from ..drawing import style
from ..drawing.panels import shape_errors
from ..drawing.sliders import Curves, Picture, panel_row
from ..drawing.style import BLUE, GREY, RED


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
            result = self.objective(c, batch)
            terms = {k: self.weights[k] * float(v) for k, v in result.terms.items()}
            self.terms.setdefault(name, []).append({"loss": float(result.loss), **terms})
            self.states.setdefault(name, []).append(c)

    def loss(self, name: str) -> list[float]:
        """The whole loss of a set, over the notes."""
        return [terms["loss"] for terms in self.terms[name]]

    def mm(self, name: str) -> list[float]:
        """Mean vertex error of a set, over the notes."""
        truth = self.sets[name].truth
        return [float(shape_errors(self.model, c, truth).mean()) for c in self.states[name]]


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
    title = "What is learned, and for whom: faces trained on (blue), strangers (red)"
    figure, axes = style.charts(10.4, 5.2, 3, 2, title)
    for axis, (title, names) in zip(axes.flat, TERM_GROUPS.items(), strict=True):
        sums = {
            name: [sum(terms[n] for n in names) for terms in notes]
            for name, notes in diary.terms.items()
        }
        settings = dict(title=title, ylim=(0, None), legend=axis is axes[0, 0])
        style.curves(axis, sums, diary.steps, colours=(BLUE, RED), width=2.2, **settings)
    for bottom in axes[-1]:
        bottom.set_xlabel("step")
    for left in axes[:, 0]:
        left.set_ylabel("weighted loss")
    return figure


def memory_figure(diaries: Mapping[str, Diary], mean_mm: float) -> Figure:
    """Loss and millimetres on training and held-out faces; a kind of line per pool of faces."""
    figure, (left, right) = style.charts(10.4, 3.3, 2)
    for (label, diary), form in zip(diaries.items(), ("--", "-"), strict=True):
        settings = dict(x=diary.steps, form=form, colours=(BLUE, RED), legend=False)
        losses = {f"{name}, {label}": diary.loss(name) for name in diary.sets}
        style.curves(left, losses, **settings, title="Loss: the gap is the memory", ylabel="loss")
        mm = {name: diary.mm(name) for name in diary.sets}
        title = "Millimetres: strangers gain nothing"
        style.curves(right, mm, **settings, title=title, ylabel="vertex error, mm")
    style.add_legend(left, fontsize=8.5)
    right.axhline(mean_mm, color=GREY, linestyle=":")
    steps = max((diary.steps for diary in diaries.values()), key=max)
    words = "dotted: the mean face, on strangers"
    right.text(0.5 * steps[-1], 0.12, words, fontsize=9, color="0.35", ha="center")
    for axis in (left, right):
        axis.set(xlabel="step", ylim=(0, None), xticks=steps)
    return figure


def strip_figure(diary: Diary, faces: Mapping[str, Sequence[int]], steps: Sequence[int]) -> Figure:
    """Photos and the faces answered at some steps, rows of both sets."""
    rows = [(name, i) for name, several in faces.items() for i in several]
    title = "The answer while it learns: faces it trains on, and strangers"
    figure, axes = style.panels(len(rows), len(steps) + 2, size=1.72, title=title, head=0.25)
    head = ["the photo", *(f"step {step}" for step in steps), "the truth"]
    for row, (name, i) in zip(axes, rows, strict=True):
        batch, states = diary.sets[name], diary.states[name]
        answers = [states[diary.steps.index(step)][i] for step in steps]
        views = [synthesise(diary.model, c) for c in (*answers, batch.truth[i])]
        images = [to_uint8(batch.image[i]), *(show_face(view, "lit", 200) for view in views)]
        style.fill(row, images, head)
        head = ()
        style.row_name(row[0], name)
    return figure


def step_panels(diary: Diary, faces: Mapping[str, int]) -> Callable[[int], Picture]:
    """place -> one face of either set as answered at that note, and the losses with a mark."""

    def draw(axes) -> None:
        losses = {name: diary.loss(name) for name in faces}
        settings = dict(title="loss", xlabel="step", ylim=(0, None), legend=dict(loc="lower left"))
        style.curves(axes[0], losses, diary.steps, **settings, colours=(BLUE, RED))

    plot = Curves(draw, 1, (250, 186))

    @torch.no_grad()
    def at(place: int) -> Picture:
        images = {}
        for name, i in faces.items():
            batch = diary.sets[name]
            face = synthesise(diary.model, diary.states[name][place][i])
            images[f"{name}: photo"] = to_uint8(batch.image[i])
            images[f"{name}: answer"] = on_photo(batch.image[i : i + 1], face, 160)
        return panel_row(images, plot.marked([diary.steps[place]]))

    return at


def log_figure(records: Sequence[Mapping], title: str) -> Figure:
    """The loss of a run's log, and the shares of its terms."""
    notes = [r for r in records if r["kind"] == "train"]
    figure, (left, right) = style.charts(9.6, 2.9, 2, title=title)
    steps = [r["step"] for r in notes]
    settings = dict(xlabel="step", ylabel="loss", ylim=(0, None), title="log.jsonl: the loss")
    style.curves(left, {"loss": [r["loss"] for r in notes]}, steps, "o-", **settings)
    names = sorted(notes[-1]["shares"], key=lambda n: -notes[0]["shares"][n])
    names = [n for n in names if max(r["shares"][n] for r in notes) > 0.01]
    heights = [[r["shares"][n] for r in notes] for n in names]
    colours = matplotlib.colormaps["viridis"](np.linspace(0.05, 0.95, len(names)))
    right.stackplot(steps, heights, labels=names, colors=colours)
    right.set(xlabel="step", ylim=(0, 1), title="each term's share of it")
    style.add_legend(right, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure
