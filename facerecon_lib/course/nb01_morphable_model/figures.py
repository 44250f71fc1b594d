"""The figures of notebook 01: modes, measures, fits and their errors, skins. Eq. 1 and 2."""

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from matplotlib.colors import hsv_to_rgb
from matplotlib.figure import Figure
from safetensors import safe_open
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from ...face.camera import axis_angle_to_matrix
from ...face.measures import albedo_error, umeyama
from ...face.mesh import edges, vertex_normals
from ...face.morphable_model import MorphableModel
from ...face.subdivision import Subdivision, loop_subdivide
from ...files.weights import shipped_file
from ..drawing import style
from ..drawing.panels import FacePainter, upright_rows
from ..drawing.style import BLUE, BLUES, GREEN, GREY, INK, RED, charts, curves, log_ticks, sized

Vertices, Modes = Float[Tensor, "vertex 3"], Float[Tensor, "mode vertex 3"]
SIZES = (*BLUES[:2], BLUE)  # fewer to more training faces


def target_rings(model: MorphableModel) -> Vertices:
    """Colours that name a vertex: eight hues around the nose's tip, rings by distance from it."""
    away = model.mean - model.mean[model.landmarks[30]]
    hue = (torch.atan2(away[:, 1], away[:, 0]) * 4 / math.pi).round() / 8 % 1
    ring = 0.5 + 0.5 * torch.cos(away[:, :2].norm(dim=1) * 2 * math.pi / 20)
    hsv = torch.stack([hue, 0.15 + 0.55 * ring, 1.05 - 0.25 * ring], -1).clamp(0, 1)
    return torch.tensor(hsv_to_rgb(hsv.numpy()))


def shaken(
    faces: Float[Tensor, "face vertex 3"], degrees: float, mm: float, generator: torch.Generator
) -> Float[Tensor, "face vertex 3"]:
    """Each face turned and moved at random, as heads in a scanner are; its shape is kept."""
    turn = torch.randn(len(faces), 3, generator=generator) * math.radians(degrees)
    move = torch.randn(len(faces), 1, 3, generator=generator) * mm
    return faces @ axis_angle_to_matrix(turn).transpose(1, 2) + move


def modes_figure(
    paint: FacePainter, mean: Vertices, basis: Modes, title: str, heat: bool = True, **look: float
) -> Figure:
    """Five modes at minus and plus 2.5 standard deviations, and how far each moves a vertex.

    heat: whether to show that last row. look: yaw, frame for the painter.
    """
    first = basis[:5]
    rows = [[paint(mean + sd * m, size=210, **look) for m in first] for sd in (-2.5, 2.5)]
    layout = dict(names=["−2.5 sd", "+2.5 sd"], columns=[f"mode {i}" for i in range(1, 6)])
    if heat:
        move = first.norm(dim=-1)
        top = math.ceil(float(move.quantile(0.995)))
        rows.append([paint(mean, style.heat(m, top), size=210, **look) for m in move])
        layout["names"] += ["moved by 1 sd"]
        layout["bar"] = (top, "mm", 2)
    return upright_rows(rows, title=title, size=1.75, **layout)


def compactness_figure(
    deviations: Mapping[str, Float[Tensor, " mode"]], ours: Modes, shipped: Modes
) -> Figure:
    """Variance held by the first modes of some models; |cosine| between the modes of two."""
    figure, (left, right) = charts(11.5, 4.2, 2, width_ratios=(1.35, 1))
    for (name, deviation), colour in zip(deviations.items(), (*SIZES, RED), strict=True):
        share = 100 * deviation.square().cumsum(0) / deviation.square().sum()
        needed = int((share < 90).sum()) + 1
        label = f"{name}: {needed} modes hold 90 %"
        left.plot(range(1, len(share) + 1), share, color=colour, label=label, lw=2)
        left.plot(needed, share[needed - 1], "o", color=colour)
    left.axhline(90, color="#999999", lw=0.8, ls=":")
    log_ticks(left, [1, 2, 5, 10, 20, 40, 80])
    title = "Compactness: a dozen numbers hold most of a face,\nand few samples flatter the model"
    left.set(xlabel="modes kept", ylabel="variance held, %", ylim=(40, 102), title=title)
    left.legend(frameon=False, loc="lower right")
    left.grid(alpha=0.25)

    a, b = (F.normalize(basis[:12].flatten(1), dim=1) for basis in (ours, shipped))
    extent = (0.5, 12.5, 12.5, 0.5)
    image = right.imshow((a @ b.T).abs(), extent=extent, **sized())
    title = "The first agree, later ones mix\nwith neighbours of nearly their size"
    right.set(xlabel="mode of the shipped model (3,000 faces)", title=title)
    right.set_ylabel("mode of yours (96 faces)")
    figure.colorbar(image, ax=right, label="|cosine| of their angle")
    return figure


def jaw_figure(model: MorphableModel) -> Figure:
    """The lower teeth on their straight way to `jawOpen` = 1, beside the arc of a real jaw."""
    rest = model.mean
    opened = model.expression_from_controls({"jawOpen": 1.0})
    wide = model.shape(torch.zeros(1, model.sizes.identity), opened)[0]
    teeth = lower_teeth(model, (wide - rest).norm(dim=1))
    _, rotation, move = umeyama(rest[teeth][None], wide[teeth][None], with_scale=False)
    turn = rotation[0, 1:, 1:]  # about the axis from ear to ear: y and z alone
    hinge = torch.linalg.solve(torch.eye(2) - turn, move[0, 1:])
    angle = torch.atan2(turn[1, 0], turn[0, 0])
    y, z = rest[teeth[rest[teeth][:, 2].argmax()], 1:] - hinge

    def swung(share: Tensor) -> Tensor:
        cos, sin = (angle * share).cos(), (angle * share).sin()
        return hinge + torch.stack([cos * y - sin * z, sin * y + cos * z], -1)

    figure, (side, size) = charts(11, 4.2, 2, width_ratios=(1, 1.1))
    outline = rest[(rest[:, 0].abs() < 2.5) & (model.regions["mouth_interior"] < 0.5)]
    side.plot(outline[:, 2], outline[:, 1], ".", color="#c9cdd3", ms=4, label="profile, at rest")
    start, end = swung(torch.tensor([0.0, 1.0]))
    arc = swung(torch.linspace(-0.3, 1.9, 60))
    chord = torch.stack([start.lerp(end, share) for share in (-0.3, 1.9)])
    side.plot(arc[:, 1], arc[:, 0], color=BLUE, lw=2, label="a jaw turns: an arc")
    side.plot(chord[:, 1], chord[:, 0], "--", color=RED, lw=2, label="Eq. 1: a straight line")
    steps = [(f"{share:g}", start.lerp(end, share), RED) for share in (0, 0.5, 1)]
    for name, at, colour in [("hinge", hinge, INK), *steps]:
        side.plot(*at.flip(0), "o", color=colour)
        side.annotate(name, at.flip(0), (7, 3), textcoords="offset points", color=colour)
    side.set(xlabel="z, mm (the face looks right)", ylabel="y, mm", aspect="equal")
    title = f"The lower teeth swing by {math.degrees(abs(angle)):.0f}° about a hinge"
    side.set(title=title, ylim=(-125, 15))
    side.legend(frameon=False, fontsize=8, loc="upper left")

    def length(weight: Tensor) -> Tensor:  # |(1 - w) + w R| for a rotation in the plane, %
        return 100 * (1 + 2 * weight * (weight - 1) * (1 - angle.cos())).sqrt()

    weight, title = torch.linspace(-0.6, 2.0, 100), "Halfway it is too short; beyond 1 it grows"
    lines = {"Eq. 1": length(weight), "a rigid jaw": torch.full_like(weight, 100)}
    settings = dict(xlabel="weight of jawOpen", title=title, legend=dict(fontsize=10))
    settings["ylabel"] = "length of jaw and teeth, front to back, %"
    curves(size, lines, weight, colours=(RED, BLUE), **settings)
    for w in (0.5, 2.0):
        value = float(length(torch.tensor(w)))
        size.plot(w, value, "o", color=RED)
        size.annotate(f"{value:.0f} %", (w, value), textcoords="offset points", xytext=(-36, 4))
    size.grid(alpha=0.25)
    return figure


def lower_teeth(model: MorphableModel, distance: Float[Tensor, " vertex"]) -> Tensor:
    """Their vertices: the piece of the mesh that moves furthest on `jawOpen`. distance: moved."""
    pairs = edges(model.faces).T
    graph = coo_matrix((torch.ones(len(pairs[0])), pairs), shape=(len(model.mean),) * 2)
    piece = torch.from_numpy(connected_components(graph, directed=False)[1]).long()
    furthest = (piece.bincount(distance) / piece.bincount()).argmax()
    return (piece == furthest).nonzero()[:, 0]


def rebuilt_figure(
    paint: FacePainter,
    face: Vertices,
    rebuilt: Mapping[str, Vertices],
    title: str,
    top: float = 2.0,
    yaw: float = 0.0,
) -> Figure:
    """The face, each rebuilding of it, and below the distance of every vertex as viridis, mm."""
    pictures, heats, names = [paint(face, yaw=yaw)], [None], ["the face itself"]
    for name, other in rebuilt.items():
        error = (other - face).norm(dim=-1)
        pictures.append(paint(other, yaw=yaw))
        heats.append(paint(face, style.heat(error, top), yaw=yaw))
        names.append(f"{name}\n{float(error.mean()):.2f} mm off")
    bar = (top, "distance to the face, mm", 1)
    return upright_rows([pictures, heats], title=title, columns=names, size=1.8, bar=bar)


def landmarks_figure(
    paint: FacePainter,
    face: Vertices,
    points: Float[Tensor, "68 3"],
    fits: Mapping[str, Vertices],
    title: str,
) -> Figure:
    """A face, the noisy landmarks that are all we know, and what was fitted to them."""
    figure = rebuilt_figure(paint, face, fits, title, top=4.0)
    axis = figure.axes[len(fits) + 1]  # the empty place below the face
    away = points - paint.middle
    axis.scatter(away[:, 0], away[:, 1], s=6, color=INK)
    axis.set(aspect="equal", xlim=(-90, 90), ylim=(-122, 103))
    axis.text(0, -118, "all that the fit is told", fontsize=9, ha="center")
    return figure


def curves_figure(
    generalisation: Mapping[str, Mapping[int, float]],
    specificity: Mapping[str, Mapping[int, float]],
    real: float,
) -> Figure:
    """Generalisation and specificity against the number of modes, {model: {modes: mm}}.

    Models of growing training sets first, then the shipped one, then the one tested on itself.
    real: distance of a real unseen face to its nearest sample, mm.
    """
    figure, (left, right) = charts(11, 3.9, 2)
    ticks = sorted({k for curve in generalisation.values() for k in curve})
    for axis, lines in ((left, generalisation), (right, specificity)):
        for (name, curve), colour in zip(lines.items(), (*SIZES, RED, GREY), strict=False):
            form = "o--" if "themselves" in name else "o-"
            axis.plot([*curve], [*curve.values()], form, ms=4, color=colour, label=name)
        log_ticks(axis, ticks)
        axis.set(xlabel="modes kept", ylim=(0, 2.2))
        axis.grid(alpha=0.25)
    right.axhline(real, color=INK, lw=1, ls=":")
    right.text(1, real + 0.04, "real unseen faces, from the 96", fontsize=9, color=INK)
    title = "Generalisation: unseen faces, rebuilt\n(lower is better; the dashed line misleads)"
    left.set(ylabel="mean distance, mm", title=title)
    title = "Specificity: random faces of the model\n(lower is closer to faces that exist)"
    right.set(ylabel="distance to the nearest sample, mm", title=title)
    left.legend(frameon=False, fontsize=9, loc="lower left")
    right.legend(frameon=False, fontsize=9, loc="lower right")
    return figure


def finer(model: MorphableModel) -> Subdivision:
    """The step of Loop subdivision that takes the native mesh to the one the course mostly uses."""
    with safe_open(shipped_file("face_model.safetensors"), "pt") as file:
        creases = file.get_tensor("creases").long()
    return loop_subdivide(model.faces, len(model.mean), creases)


def scar(model: MorphableModel, vertices: Vertices) -> Vertices:
    """A raised scar across one cheek and three furrows in the brow: offsets in mm along the
    normals of `vertices`, on a model subdivided once."""
    normal, at = vertex_normals(vertices[None], model.faces)[0], vertices[:, :2]
    front = (normal[:, 2] > 0) & (model.regions["mouth_interior"] < 0.5)
    front = front & (model.regions["eyeballs"] < 0.5)
    eye, mouth, brow = (at[model.landmarks[i]].mean(0) for i in ([45], [54], [21, 22]))
    lines = [(eye + torch.tensor([4, -14]), mouth + torch.tensor([10, -2]), 2.5, 2.2)]
    for up, half in ((19, 20), (28, 25), (37, 20)):
        left, right = (brow + torch.tensor([sign * half, up]) for sign in (-1, 1))
        lines.append((left, right, -1.75, 1.9))
    bump = torch.zeros(len(at))
    for start, end, high, width in lines:
        along = end - start
        share = ((at - start) @ along / along.square().sum()).clamp(0, 1)
        distance = (at - start - share[:, None] * along).norm(dim=1)
        bump += high * torch.exp(-((distance / width) ** 2))
    return (bump * front)[:, None] * normal


def scar_figure(paint: FacePainter, face: Vertices, answer: Vertices, title: str) -> Figure:
    """A face, the model's answer, and their distance, drawn large."""
    error = (answer - face).norm(dim=-1)
    look = dict(yaw=-22, size=430)
    row = [paint(face, **look), paint(answer, **look), paint(face, style.heat(error, 2.0), **look)]
    names = ["the face, scarred", "the nearest face of the model", "what is lost"]
    return upright_rows([row], title=title, columns=names, size=3.1, bar=(2.0, "distance, mm", 0))


def skin_modes_figure(
    paint: FacePainter,
    shape: Vertices,
    skins: Float[Tensor, "2 mode vertex 3"],
    deviations: float,
    title: str,
) -> Figure:
    """Skins at minus and plus some standard deviations of each mode, unlit."""
    rows = [[paint(shape, skin, lit=False, size=200) for skin in row] for row in skins]
    columns = [f"mode {i + 1}" for i in range(len(rows[0]))]
    names = [f"−{deviations:g} sd", f"+{deviations:g} sd"]
    return upright_rows(rows, title=title, columns=columns, names=names, size=1.3)


def shown_parts(
    model: MorphableModel, count: int, generator: torch.Generator
) -> Bool[Tensor, "face vertex"]:
    """What each face shows: all on one side of a line through it, of random direction.

    The line lies 10 mm beyond the tip of the nose, as seen from the front.
    """
    angle = 2 * math.pi * torch.rand(count, 1, generator=generator)
    away = (model.mean - model.mean[model.landmarks[30]])[:, :2]
    return torch.cat([angle.cos(), angle.sin()], 1) @ away.T < 10


def skins_figure(
    paint: FacePainter,
    shape: Vertices,
    rows: Mapping[str, Float[Tensor, "skin vertex 3"]],
    title: str,
) -> Figure:
    """Rows of skins, unlit; grey where a skin is nan."""
    look = dict(lit=False, size=140)
    pictures = [
        [paint(shape, skin.nan_to_num(0.82), **look) for skin in row] for row in rows.values()
    ]
    return upright_rows(pictures, title=title, names=[*rows], size=1.1)


def skin_cloud_figure(
    coefficients: Float[Tensor, "sample mode"],
    colours: Float[Tensor, "sample 3"],
    drawn: Float[Tensor, "other mode"],
    drawn_colours: Float[Tensor, "other 3"],
) -> Figure:
    """Two albedo coefficients of real skins and of draws from N(0, 1), each in its own colour."""
    figure, axes = charts(10.5, 4.2, 2, sharex=True, sharey=True)
    titles = (
        "The samples are spread evenly and end ...",
        "... N(0, 1) crowds the middle, without ends",
    )
    clouds = (coefficients, colours), (drawn, drawn_colours)
    for axis, (points, shades), title in zip(axes, clouds, titles, strict=True):
        look = dict(s=70, color=shades.clamp(0, 1).numpy(), lw=0.5, ec="#777777")
        axis.scatter(*points[:, :2].T, **look)
        axis.set(xlabel="albedo coefficient 1, sd", title=title)
        axis.grid(alpha=0.25)
    axes[0].set_ylabel("albedo coefficient 2, sd")
    return figure


def nearest_albedo(
    targets: Float[Tensor, "skin vertex 3"], model: MorphableModel, reach: float
) -> tuple[Float[Tensor, "skin vertex 3"], Float[Tensor, "skin mode"]]:
    """The model's albedo nearest to each target with |coefficients| at most `reach`.

    Least squares in a ball: the ridge whose answer has that length, found by bisection.
    """
    rows = model.albedo_basis.flatten(1).double()
    values, vectors = torch.linalg.eigh(rows @ rows.T)
    right = (targets - model.albedo_mean).flatten(1).double() @ rows.T @ vectors
    low = torch.full((len(targets), 1), -18.0, dtype=torch.float64)  # exponents of e
    high = torch.full_like(low, 25.0)
    for _ in range(60):
        middle = (low + high) / 2
        inside = (right / (values + middle.exp())).norm(dim=1, keepdim=True) <= reach
        low, high = torch.where(inside, low, middle), torch.where(inside, middle, high)
    coefficients = ((right / (values + high.exp())) @ vectors.T).to(targets.dtype)
    return model.albedo(coefficients), coefficients


def tones_figure(
    paint: FacePainter,
    shape: Vertices,
    targets: Float[Tensor, "10 vertex 3"],
    rebuilt: Mapping[str, Float[Tensor, "10 vertex 3"]],
    skin: Float[Tensor, " vertex"],
    title: str,
) -> Figure:
    """Ten skins, each basis' nearest, and the error of the tone in ITA degrees."""
    skins = [targets, *rebuilt.values()]
    rows = [[paint(shape, t, lit=False, size=150) for t in row] for row in skins]
    below = {}
    for i, other in enumerate(rebuilt.values(), start=1):
        errors = albedo_error(other, targets, skin)["ita"].round().int().tolist()
        below |= {(i, j): f"{e:+d}°" if e else "0°" for j, e in enumerate(errors)}
    layout = dict(columns=[f"tone {i}" for i in range(1, 11)], names=["the skin", *rebuilt])
    return upright_rows(rows, title=title, below=below, size=0.84, **layout)


def told_colour_figure(
    lengths: Mapping[str, Float[Tensor, " tone"]],
    errors: Mapping[str, Float[Tensor, " tone"]],
    reach: float,
) -> Figure:
    """Tones of which the mean colour is told: how long their coefficients are when it is told
    exactly, with draws as long as `reach`, and their errors, ITA degrees, when roughly."""
    figure, (left, right) = charts(10.5, 3.6, 2)
    look = dict(x=range(1, 11), form="o-", colours=(BLUE, RED), width=1.5)
    look |= dict(xlabel="Monk tone, light to dark", xticks=range(1, 11))
    look["legend"] = dict(title="basis learned from", fontsize=9, loc="upper left")
    title = "The colour told exactly: dark tones\nare far out in the light basis"
    curves(left, lengths, ylim=(0, None), title=title, ylabel="length, sd", **look)
    left.axhspan(0, reach, color="#dff0d8", zorder=0)
    left.text(5.6, 0.3, "green: 99.7 % of draws", fontsize=9, color=GREEN)
    title = "The colour told roughly: the light basis\nmakes dark skin light"
    curves(right, errors, title=title, ylabel="error of the tone, ITA degrees", **look)
    right.axhline(0, color=GREY, lw=0.8, zorder=0)
    return figure


def acting_figure(
    paint: FacePainter,
    albedo: Vertices,
    truth: Mapping[str, Float[Tensor, "2 vertex 3"]],
    models: Mapping[str, Float[Tensor, "person vertex 3"]],
    title: str,
    top: float = 3.0,
) -> Figure:
    """People (by name) at rest and in a pose, and how far each model's pose is off, to `top` mm."""
    look, rows = dict(size=200, frame=1.12), []
    for i, (rest, pose) in enumerate(truth.values()):
        rows.append([paint(rest, albedo, **look), paint(pose, albedo, **look)])
        errors = [(shapes[i] - pose).norm(dim=-1) for shapes in models.values()]
        rows[-1] += [paint(pose, style.heat(error, top), **look) for error in errors]
    layout = dict(columns=["at rest", "in truth", *models], names=[*truth])
    return upright_rows(rows, title=title, size=1.55, bar=(top, "off by, mm", 0), **layout)


def actions_figure(errors: Mapping[str, Mapping[str, float]], title: str) -> Figure:
    """{model: {action: mm}} as bars, a row per action."""
    figure, axis = charts(7.6, 3.6)
    wide = 0.8 / len(errors)
    for k, ((name, of), colour) in enumerate(zip(errors.items(), (RED, BLUE), strict=True)):
        places = [i + k * wide for i in range(len(of))]
        bars = axis.barh(places, list(of.values()), wide, color=colour, label=name)
        axis.bar_label(bars, fmt="%.2f", padding=3, fontsize=9)
    axis.set_yticks([i + wide / 2 for i in range(len(of))], list(of))
    axis.yaxis.set_inverted(True)
    axis.set(xlabel="what the action moves, off by mm", title=title)
    axis.legend(frameon=False, loc="lower right")
    return figure
