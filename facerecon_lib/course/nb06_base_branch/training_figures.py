"""Figures of training: curves, strips of answers, a slider over the steps.

diary = Diary(model, objective, weights, {"training": pool[:16], "held-out": held_out})
diary.note(0, network)
figures.learning_figure(diary)

Notebook 06, Eq. 7.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from matplotlib.figure import Figure
from torch import Tensor

from ...face.batch import FaceBatch
from ...face.coefficients import FaceCoefficients
from ...face.morphable_model import MorphableModel
from ...files.weights import shipped_file
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


BELOW_RIGHT = dict(fontsize=9, color="0.35", ha="right", va="top")
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
        settings = dict(title=title, ylim=(0, None), legend=axis is axes[0, 0], xticks=diary.steps)
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


def shipped_log() -> dict[str, dict]:
    """Of two training runs of the shipped encoder: losses, and errors on faces held out, by the
    number of faces seen. Thinned from the logs in docs/model_cards."""
    return json.loads(shipped_file("base_encoder.json").read_text())


def log_figure(runs: Mapping[str, Mapping]) -> Figure:
    """The losses of both runs, and what the network knew of faces that it was not trained on."""
    figure, axes = style.charts(10.8, 5.2, 2, 2, "How the encoder that ships was trained")
    for (name, run), (left, right) in zip(runs.items(), axes, strict=True):
        train, held_out = run["train"], run["held_out"]
        for axis, (seen, values), colour, form in (
            (left, (train["faces"], train["loss"]), BLUE, "-"),
            (left, (held_out["faces"], held_out["loss"]), RED, "o-"),
            (right, (held_out["faces"], held_out["mm"]), RED, "o-"),
        ):
            axis.plot([n / 1000 for n in seen], values, form, color=colour, markersize=4)
        rendered = f"{held_out['count']} rendered faces held out"
        left.set(title=f"{name}: the loss", ylabel="loss", xlabel="faces seen, thousands")
        left.legend(["faces to learn from", rendered], frameon=False, fontsize=8.5)
        right.axhline(held_out["mean_face_mm"], color=GREY, linestyle=":")
        right.set(title=f"{name}: the shape of the {rendered}", ylim=(0, None))
        right.set(ylabel="vertex error, mm", xlabel="faces seen, thousands")
        words = f"the mean face, {held_out['mean_face_mm']:.1f}"
        right.text(right.get_xlim()[1], 0.96 * held_out["mean_face_mm"], words, **BELOW_RIGHT)
    axes[0, 0].set(yscale="log")
    axes[0, 0].set_yticks([10, 20, 40, 80], ["10", "20", "40", "80"])
    axes[0, 0].minorticks_off()
    axes[1, 0].set(ylim=(0, None))
    return figure
