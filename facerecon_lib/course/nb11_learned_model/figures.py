"""Figures of notebook 11: frames, modes, angles, errors.

figures.frames_figure(batch, frames=4)
figures.growth_figure(hidden, {"step 0": basis, "step 20": later})
figures.angles_figure({"learned": angles, "random": others})
"""

import json
from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor

from ...beyond.learned_model import LearnedFaces
from ...beyond.subspaces import best_shape
from ...face.batch import FaceBatch
from ...face.measures import vertex_error_mm
from ...face.morphable_model import MorphableModel
from ...files.weights import read_weights, shipped_file
from ...pictures.faces import on_photo, to_uint8
from ...rendering.synthesis import synthesise
from ..drawing.panels import FacePainter, upright_rows
from ..drawing.style import BLUE, GREY, LINES, RED, add_legend, charts, curves, fill, heat, panels

Basis = Float[Tensor, "mode vertex 3"]
GROWTH_FORMAT = "facerecon-learned-model-growth-1"


def given_figure(hidden: MorphableModel, bare: MorphableModel) -> Figure:
    """What the learner is given, and what is hidden from it."""
    paint, still = FacePainter(hidden), bare.mean
    smile, jaw = (
        bare.shape(torch.zeros(1, 0), bare.expression_from_controls(weights))[0]
        for weights in ({"mouthSmile": 1.0}, {"jawOpen": 0.8})
    )
    skin = bare.albedo_mean
    names = ("mean face", "one skin colour", "a smile", "the jaw opens")
    given = [paint(still), paint(still, skin), paint(smile, skin), paint(jaw, skin)]
    identity, _, albedo = hidden.random(4, torch.Generator().manual_seed(3))
    people = zip(hidden.shape(identity), hidden.albedo(albedo).clamp(0, 1), strict=True)
    rows = [given, [paint(v, colour) for v, colour in people]]
    names = (names, ("hidden: a stranger", "another", "another", "another"))
    below = {(i, j): text for i, row in enumerate(names) for j, text in enumerate(row)}
    title = "Upper row: all that is given. Lower row: people whom no given number describes"
    return upright_rows(rows, title=title, below=below, size=2.2)


def frames_figure(batch: FaceBatch, frames: int) -> Figure:
    """A row per person."""
    people = len(batch) // frames
    figure, axes = panels(people, frames, 1.9, "A row is a person, a picture is a frame", head=0.1)
    for row in range(people):
        images = [to_uint8(image) for image in batch.image[row * frames : (row + 1) * frames]]
        fill(axes[row], images, name=f"person {row + 1}")
    return figure


def growth_figure(
    model: MorphableModel, bases: Mapping[str, Basis], modes: int = 3, far: float = 2.5
) -> Figure:
    """The first modes at several moments, each as far as makes a mean shift of `far` mm."""
    paint = FacePainter(model)

    def moved(mode: Float[Tensor, "vertex 3"]):
        return paint(model.mean + mode * far / mode.norm(dim=1).mean().clamp(min=1e-6), yaw=20)

    rows = [[moved(basis[k]) for basis in bases.values()] for k in range(modes)]
    names = [f"mode {k + 1}" for k in range(modes)]
    title = f"A mode added to the mean face, {far:g} mm on the average: noise becomes faces"
    return upright_rows(rows, title=title, columns=list(bases), names=names)


def angles_figure(lines: Mapping[str, Tensor], title: str) -> Figure:
    """Principal angles, the smallest first; 90 degrees is nothing in common."""
    figure, axis = charts(8.5, 3.6, title=title)
    for (label, angles), colour in zip(lines.items(), LINES, strict=False):
        places = range(1, len(angles) + 1)
        axis.plot(places, angles, "o-", ms=4, color=colour, label=label)
    axis.set(xlabel="principal angle, the smallest first", ylabel="degrees", ylim=(0, 92))
    axis.set_yticks([0, 30, 60, 90])
    add_legend(axis, loc="lower right")
    return figure


def still(basis: Basis, mean: Float[Tensor, "vertex 3"]) -> Basis:
    """The basis without what no picture tells: moving, turning and resizing the whole head."""
    x, y, z = (mean - mean.mean(0)).double().unbind(1)
    zero, one = torch.zeros_like(x), torch.ones_like(x)
    moves = [(one, zero, zero), (zero, one, zero), (zero, zero, one), (x, y, z)]
    moves += [(zero, -z, y), (z, zero, -x), (-y, x, zero)]
    q = torch.linalg.qr(torch.stack([torch.stack(m, 1) for m in moves]).flatten(1).T).Q
    flat = basis.flatten(1).double()
    return (flat - flat @ q @ q.T).view(basis.shape).to(basis.dtype)


def principal_directions(model: MorphableModel, count: int) -> Basis:
    """Along which people of a model, N(0, 1) in each mode, differ most in shape; of length 1."""
    flat = still(model.identity_basis, model.mean).flatten(1).double()
    return torch.linalg.svd(flat, full_matrices=False)[2][:count].view(-1, *model.mean.shape)


@torch.no_grad()
def best_error_mm(
    shapes: Float[Tensor, "face vertex 3"], mean: Tensor, basis: Basis
) -> Float[Tensor, " face"]:
    """How far the nearest shapes of a basis are from these, mm, the mean over vertices, after
    similarity alignment."""
    return vertex_error_mm(best_shape(shapes - mean, basis) + mean, shapes).mean(1)


@torch.no_grad()
def answers_figure(
    batch: FaceBatch, answers: Mapping[str, LearnedFaces], size: int = 200, count: int = 4
) -> Figure:
    """Photos, and answers of some moments laid on them."""
    names = ["the picture", *answers]
    figure, axes = panels(len(names), count, 2.0, "The same four faces, asked again", head=0.1)
    fill(axes[0], [to_uint8(image) for image in batch.image[:count]], name=names[0])
    for row, (name, faces) in enumerate(answers.items(), 1):
        pictures = []
        for i in range(count):
            face = synthesise(faces.model, faces.coefficients[i])
            pictures.append(on_photo(batch.image[i : i + 1], face))
        fill(axes[row], pictures, name=name)
    return figure


def losses_figure(losses: Sequence[float], terms: Mapping[str, Sequence[float]]) -> Figure:
    """The whole loss of the live run, and two of its terms."""
    figure, (left, right) = charts(9.5, 3.2, columns=2, title="Every step sees other people")
    curves(left, {"loss": losses}, xlabel="step", ylabel="loss", ylim=(0, None))
    curves(right, terms, xlabel="step", ylabel="weighted term", ylim=(0, None))
    return figure


def shipped_growth() -> dict[str, dict[str, Tensor]]:
    """By the step of the shipped run: the albedo's mean, and the principal modes of shape and
    albedo at that moment."""
    path = shipped_file("learned_model_growth.safetensors")
    state, _ = read_weights(
        path, GROWTH_FORMAT, ValueError, "data_scripts/learned_model_growth.py", "file"
    )
    steps: dict[str, dict[str, Tensor]] = {}
    for key in sorted(state):
        step, name = key.split(".")
        steps.setdefault(f"step {int(step):,}", {})[name] = state[key]
    return steps


def shipped_growth_figure(model: MorphableModel, far: float = 2.5) -> Figure:
    """The run that ships, from its first step to its last."""
    paint, rows = FacePainter(model), [[], [], [], []]
    steps = shipped_growth()
    for parts in steps.values():
        rows[0].append(paint(model.mean, parts["albedo_mean"].clamp(0, 1), lit=False))
        for k in (0, 1):
            mode = parts["shape"][k]
            moved = model.mean + far * mode / mode.norm(dim=1).mean().clamp(min=1e-6)
            rows[k + 1].append(paint(moved, yaw=20))
        mode = parts["albedo"][1]
        skin = parts["albedo_mean"] + 0.06 * mode / mode.norm(dim=1).mean().clamp(min=1e-6)
        rows[3].append(paint(model.mean, skin.clamp(0, 1), lit=False))
    names = ("mean albedo", "1st shape mode", "2nd shape mode", "2nd albedo mode")
    title = "The shipped run: what it took for a face, from the first step to the last"
    return upright_rows(rows, title=title, columns=list(steps), names=names, size=1.7)


def side_by_side_figure(
    model: MorphableModel, learned: Basis, true: Basis, count: int = 5, far: float = 3.0
) -> Figure:
    """The first modes of two bases, both in PCA's gauge, each added to the mean and subtracted."""
    paint, rows = FacePainter(model), []
    for basis in (learned, true):
        for side in (1, -1):
            pictures = []
            for mode in basis[:count]:
                step = side * far * mode / mode.norm(dim=1).mean()
                pictures.append(paint(model.mean + step, yaw=15))
            rows.append(pictures)
    columns = [f"mode {k + 1}" for k in range(count)]
    names = ("learned, +", "learned, -", "hidden, +", "hidden, -")
    title = "Learned from pictures (upper rows), and the hidden model's own (lower rows)"
    return upright_rows(rows, title=title, columns=columns, names=names, size=1.8)


def overlap_figure(table: Float[Tensor, "learned hidden"]) -> Figure:
    """How much of each learned mode lies along each hidden one: cosines, 0 to 1."""
    figure, axis = charts(6.2, 4.6, title="Cosine of each pair of modes, signs left out")
    image = axis.imshow(table.abs(), cmap="viridis", vmin=0, vmax=1)
    axis.set(xlabel="hidden PCA mode", ylabel="learned mode")
    axis.set_xticks(range(table.shape[1]), range(1, table.shape[1] + 1))
    axis.set_yticks(range(table.shape[0]), range(1, table.shape[0] + 1))
    figure.colorbar(image)
    return figure


def frames_error_figure(errors: Mapping[str, Sequence[Tensor]], counts: Sequence[int]) -> Figure:
    """Error in mm by the number of frames that are averaged, and its standard error."""
    title = "One person, more frames: neutral shape, from pixels"
    figure, axis = charts(7.5, 3.6, title=title)
    for (label, values), colour in zip(errors.items(), (BLUE, RED, GREY), strict=False):
        mean = torch.stack([v.mean() for v in values])
        spread = torch.stack([v.std() / len(v) ** 0.5 for v in values])
        axis.fill_between(counts, mean - spread, mean + spread, color=colour, alpha=0.15, lw=0)
        axis.plot(counts, mean, "o-", color=colour, label=label)
    axis.set_xscale("log", base=2)
    axis.set_xticks(counts, counts)
    axis.set(xlabel="frames", ylabel="mm")
    add_legend(axis)
    return figure


def one_person_figure(
    model: MorphableModel,
    shapes: Mapping[str, Float[Tensor, "vertex 3"]],
    truth: Float[Tensor, "vertex 3"],
    errors: Mapping[str, Float[Tensor, " vertex"]],
    most: float = 4.0,
) -> Figure:
    """A person's neutral shape from more and more frames, and where it is off."""
    paint = FacePainter(model)
    upper = [*(paint(v, yaw=20) for v in shapes.values()), paint(truth, yaw=20)]
    lower = [paint(truth, heat(error, most), yaw=20, lit=False) for error in errors.values()]
    below = {(1, j): f"{float(e.mean()):.2f} mm" for j, e in enumerate(errors.values())}
    columns = [*shapes, "truth"]
    title = "The same person, from more and more frames"
    bar = (most, "mm off", 1)
    return upright_rows([upper, lower], title=title, columns=columns, below=below, bar=bar)


def study() -> dict:
    """The rows of data_scripts/learned_model_study.py."""
    return json.loads(shipped_file("learned_model_study.json").read_text())


def study_figure(rows: Sequence[Mapping]) -> Figure:
    """Errors by the number of people, a line per number of frames."""
    title = "How many people, and how many frames of each? (from landmarks; as many frames per run)"
    figure, axes = charts(11, 3.5, columns=3, title=title)
    measures = dict(mm="from landmarks, mm", basis_mm="nearest face of the basis, mm")
    measures["angle"] = "mean principal angle, degrees"
    people = list(dict.fromkeys(row["people"] for row in rows))
    for axis, (name, label) in zip(axes, measures.items(), strict=True):
        for frames, colour in zip((1, 2, 4), LINES, strict=False):
            own = [row[name] for row in rows if row["frames"] == frames]
            words = f"{frames} frame{'s' * (frames > 1)} each"
            axis.plot(range(len(own)), own, "o-", color=colour, label=words)
        axis.set_xticks(range(len(people)), [p or "endless" for p in people])
        axis.set(xlabel="people", ylabel=label)
    add_legend(axes[0])
    return figure
