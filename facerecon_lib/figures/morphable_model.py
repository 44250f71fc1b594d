"""The figures of notebook 01: faces from bare vertices, modes, errors on the mesh, and curves.

paint = FacePainter(MorphableModel.load(subdivision=0))
paint(vertices)                               # (V, 3) mm -> a grey face, uint8
paint(vertices, albedo, yaw=30)               # with its skin, turned
paint(vertices, heat=error_mm, top=2.0)       # a number at each vertex, as viridis
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import matplotlib
import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, hsv_to_rgb
from matplotlib.figure import Figure
from torch import Tensor

from ..camera import axis_angle_to_matrix
from ..evaluation import albedo_error, umeyama
from ..lighting import shade
from ..mesh import vertex_normals
from ..morphable_model import MorphableModel
from ..plotting import PAPER, studio_light, to_uint8
from ..renderer import render

CLAY = 0.78
WIDTH = 0.8  # of a picture, as a share of its height
OURS, SHIPPED = "#1f5fa8", "#d1495b"
SIZES = ("#9ecae1", "#4292c6", OURS)  # fewer to more training faces


class FacePainter:
    """Pictures of vertices on a model's mesh, all from one camera, so that size and place show."""

    def __init__(self, model: MorphableModel):
        self.faces = model.faces
        self.middle = (model.mean.amin(0) + model.mean.amax(0)) / 2

    @torch.no_grad()
    def __call__(
        self,
        vertices: Float[Tensor, "vertex 3"],
        albedo: Float[Tensor, "vertex 3"] | None = None,
        *,
        yaw: float = 0.0,
        size: int = 240,
        heat: Float[Tensor, " vertex"] | None = None,
        top: float = 1.0,
        lit: bool = True,
        frame: float = 1.0,
    ) -> UInt8[np.ndarray, "size width 3"]:
        """albedo: sRGB; grey without. heat: a magnitude to show as viridis, `top` its brightest.
        yaw: degrees. size: height, px. lit: under the studio light, else the bare colours.
        frame: 2 shows twice as much around the face.
        """
        if heat is not None:
            shown = matplotlib.colormaps["viridis"]((heat / top).clamp(0, 1).numpy())
            albedo = torch.tensor(shown[:, :3], dtype=torch.float32)
        elif albedo is None:
            albedo = torch.full_like(vertices, CLAY)
        turn = axis_angle_to_matrix(torch.tensor([0.0, math.radians(yaw), 0.0]))
        seen = (vertices - self.middle) @ turn.T
        normals = vertex_normals(seen[None], self.faces)
        colours = shade(albedo[None], normals, studio_light()) if lit else albedo[None]
        v_camera = seen * torch.tensor([-1.0, 1, -1]) + torch.tensor([0, 0, 395.0 * frame])
        shape = (2 * size, 2 * round(WIDTH * size))
        image, mask = render(v_camera[None], self.faces, colours.clamp(0, 1), shape)
        return to_uint8(F.avg_pool2d(image + (1 - mask) * PAPER, 2)[0])


# Faces as vectors -------------------------------------------------------------------------------


def target_rings(model: MorphableModel) -> Float[Tensor, "vertex 3"]:
    """Colours that name a vertex: hue by the direction from the nose's tip, rings by distance."""
    away = model.mean - model.mean[model.landmarks[30]]
    hue = (torch.atan2(away[:, 1], away[:, 0]) / (2 * math.pi)) % 1
    ring = 0.5 + 0.5 * torch.cos(away[:, :2].norm(dim=1) * 2 * math.pi / 22)
    return torch.tensor(hsv_to_rgb(np.stack([hue, 0.35 + 0.5 * ring, 0.95 - 0.25 * ring], -1)))


def shaken(
    faces: Float[Tensor, "face vertex 3"], degrees: float, mm: float, generator: torch.Generator
) -> Float[Tensor, "face vertex 3"]:
    """Each face turned and moved at random, as heads in a scanner are; its shape is kept."""
    turn = torch.randn(len(faces), 3, generator=generator) * math.radians(degrees)
    move = torch.randn(len(faces), 1, 3, generator=generator) * mm
    return faces @ axis_angle_to_matrix(turn).transpose(1, 2) + move


def panels(
    rows: Sequence[Sequence[np.ndarray]],
    *,
    title: str,
    columns: Sequence[str] = (),
    names: Sequence[str] = (),
    size: float = 1.9,
    bar: tuple[float, str, int] | None = None,
) -> Figure:
    """Pictures in rows of equal length, a name before each row and a title on each column.

    bar: (its top, its label, the row that it belongs to): a viridis bar from 0 mm.
    """
    across = len(rows[0])
    aspect = rows[0][0].shape[0] / rows[0][0].shape[1]
    wide = across * size + 0.3 * bool(names) + 0.9 * (bar is not None)
    figure = Figure((wide, len(rows) * size * aspect + 0.7), layout="constrained")
    figure.set_facecolor("white")
    figure.suptitle(title, fontsize=12)
    axes = figure.subplots(len(rows), across, squeeze=False)
    for i, row in enumerate(rows):
        for j, picture in enumerate(row):
            axis = axes[i, j]
            axis.imshow(picture)
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_visible(False)
            if i == 0 and j < len(columns):
                axis.set_title(columns[j], fontsize=10)
        if i < len(names):
            axes[i, 0].set_ylabel(names[i], fontsize=10)
    if bar is not None:
        top, label, row = bar
        colours = ScalarMappable(Normalize(0, top), "viridis")
        figure.colorbar(colours, ax=axes[row, :], label=label, fraction=0.03, pad=0.01)
    return figure


# Modes ------------------------------------------------------------------------------------------


def modes_figure(
    paint: FacePainter,
    mean: Float[Tensor, "vertex 3"],
    basis: Float[Tensor, "mode vertex 3"],
    title: str,
    deviations: float = 2.5,
    count: int = 5,
    yaw: float = 0.0,
) -> Figure:
    """The first modes at minus and plus some standard deviations, and where each moves the face."""
    first = basis[:count]
    move = first.norm(dim=-1)
    top = math.ceil(float(move.max()))
    rows = [
        [paint(mean + sign * deviations * mode, yaw=yaw, size=210) for mode in first]
        for sign in (-1, 1)
    ]
    rows.append([paint(mean, heat=m, top=top, yaw=yaw, size=210) for m in move])
    return panels(
        rows,
        title=title,
        columns=[f"mode {i + 1}" for i in range(count)],
        names=[f"-{deviations:g} sd", f"+{deviations:g} sd", "mm moved by 1 sd"],
        size=1.75,
        bar=(top, "mm", 2),
    )


def share_figure(
    deviations: Mapping[str, Float[Tensor, " mode"]],
    title: str,
    colours: Sequence[str] = (OURS, SHIPPED),
    shares: Sequence[float] = (0.9,),
) -> Figure:
    """How much of the variance the first modes hold, for some models (compactness)."""
    figure = Figure((7.2, 3.4), layout="constrained", facecolor="white")
    axis = figure.subplots()
    for (name, deviation), colour in zip(deviations.items(), colours, strict=True):
        held = deviation.square().cumsum(0) / deviation.square().sum()
        number = range(1, len(held) + 1)
        axis.plot(number, 100 * held, color=colour, label=name, lw=2)
        for share in shares:
            needed = int((held < share).sum()) + 1
            axis.plot(needed, 100 * held[needed - 1], "o", color=colour)
            axis.annotate(
                f"{needed}",
                (needed, 100 * float(held[needed - 1])),
                textcoords="offset points",
                xytext=(5, -13),
                color=colour,
            )
    for share in shares:
        axis.axhline(100 * share, color="#999999", lw=0.8, ls=":")
    axis.set(xlabel="modes kept", ylabel="variance held, %", ylim=(0, 103), title=title)
    axis.legend(frameon=False, loc="lower right")
    axis.grid(alpha=0.25)
    return figure


def agreement_figure(
    ours: Float[Tensor, "mode vertex 3"], shipped: Float[Tensor, "mode vertex 3"], count: int = 12
) -> Figure:
    """|cosine| of the angle between each of our first modes and each of the shipped model's."""
    a, b = (F.normalize(basis[:count].flatten(1), dim=1) for basis in (ours, shipped))
    figure = Figure((5.4, 4.3), layout="constrained", facecolor="white")
    axis = figure.subplots()
    edge = (0.5, count + 0.5)
    image = axis.imshow(
        (a @ b.T).abs(), vmin=0, vmax=1, cmap="viridis", extent=(*edge, *edge[::-1])
    )
    axis.set(
        xlabel="mode of the model that ships (3,000 faces)",
        ylabel="mode of yours (96 faces)",
        title="The first three agree, later ones mix\nwith neighbours of nearly their size",
    )
    figure.colorbar(image, ax=axis, label="|cosine| of their angle")
    return figure


# Expressions ------------------------------------------------------------------------------------


def jaw_figure(model: MorphableModel) -> Figure:
    """The lower teeth on their straight way to `jawOpen` = 1, beside the arc of a real jaw."""
    rest = model.mean
    wide = model.shape(
        torch.zeros(1, model.sizes.identity), model.expression_from_controls({"jawOpen": 1.0})
    )[0]
    teeth = lower_teeth(model)
    _, rotation, move = umeyama(rest[teeth][None], wide[teeth][None], with_scale=False)
    turn = rotation[0, 1:, 1:]  # about the axis from ear to ear: y and z alone
    hinge = torch.linalg.solve(torch.eye(2) - turn, move[0, 1:])
    angle = math.acos(float((turn[0, 0] + turn[1, 1]) / 2))
    sense = math.copysign(1.0, float(turn[1, 0]))
    front = teeth[rest[teeth][:, 2].argmax()]
    lever = rest[front, 1:] - hinge

    def swung(share: float) -> Tensor:
        a = sense * angle * share
        matrix = torch.tensor([[math.cos(a), -math.sin(a)], [math.sin(a), math.cos(a)]])
        return hinge + matrix @ lever

    figure = Figure((11, 4.2), layout="constrained", facecolor="white")
    side, size = figure.subplots(1, 2, width_ratios=(1, 1.1))
    outline = rest[(rest[:, 0].abs() < 2.5) & (model.regions["mouth_interior"] < 0.5)]
    side.plot(outline[:, 2], outline[:, 1], ".", color="#c9cdd3", ms=4, label="profile, at rest")
    ends = torch.stack([swung(0.0), swung(1.0)])
    arc = torch.stack([swung(s) for s in torch.linspace(-0.3, 1.9, 60).tolist()])
    chord = ends[0] + torch.tensor([[-0.3], [1.9]]) * (ends[1] - ends[0])
    side.plot(arc[:, 1], arc[:, 0], color=OURS, lw=2, label="a jaw turns: an arc")
    side.plot(chord[:, 1], chord[:, 0], "--", color=SHIPPED, lw=2, label="Eq. 1: a straight line")
    side.plot(*hinge.flip(0), "o", color="#333333")
    side.annotate("hinge", hinge.flip(0), textcoords="offset points", xytext=(8, 4))
    for share in (0.0, 0.5, 1.0):
        at = ends[0] + share * (ends[1] - ends[0])
        side.plot(*at.flip(0), "o", color=SHIPPED)
        side.annotate(
            f"{share:g}", at.flip(0), textcoords="offset points", xytext=(6, 2), color=SHIPPED
        )
    side.set(
        aspect="equal",
        xlabel="z, mm (the face looks right)",
        ylabel="y, mm",
        title=f"The lower teeth turn by {math.degrees(angle):.0f}° about a hinge by the ear",
        ylim=(-125, 15),
    )
    side.legend(frameon=False, fontsize=8, loc="upper left")

    weight = torch.linspace(-0.6, 2.0, 100)
    # |(1 - w) + w R| for a rotation in the plane
    length = (1 + 2 * weight * (weight - 1) * (1 - math.cos(angle))).sqrt()
    size.plot(weight, 100 * length, color=SHIPPED, lw=2, label="Eq. 1")
    size.axhline(100, color=OURS, lw=2, label="a rigid jaw")
    for w in (0.5, 2.0):
        value = 100 * math.sqrt(1 + 2 * w * (w - 1) * (1 - math.cos(angle)))
        size.plot(w, value, "o", color=SHIPPED)
        size.annotate(f"{value:.0f} %", (w, value), textcoords="offset points", xytext=(-34, -4))
    size.set(
        xlabel="weight of jawOpen",
        ylabel="length of jaw and teeth, front to back, %",
        title="Halfway it is too short; beyond 1 it grows",
    )
    size.legend(frameon=False)
    size.grid(alpha=0.25)
    return figure


def lower_teeth(model: MorphableModel) -> Tensor:
    """Their vertices: the piece of the mesh that moves most on `jawOpen` as one rigid body."""
    import scipy.sparse as sp
    from scipy.sparse.csgraph import connected_components

    count, f = len(model.mean), model.faces.numpy()
    pairs = np.concatenate([f[:, :2], f[:, 1:]])
    graph = sp.coo_matrix((np.ones(len(pairs)), pairs.T), shape=(count, count))
    _, label = connected_components(graph, directed=False)
    step = model.expression_from_controls({"jawOpen": 1.0})
    move = (step @ model.expression_basis.flatten(1)).reshape(-1, 3)
    best, least = None, math.inf
    for piece in range(label.max() + 1):
        chosen = torch.tensor(np.flatnonzero(label == piece))
        if len(chosen) < 8 or float(move[chosen].norm(dim=1).mean()) < 5:
            continue
        points = model.mean[chosen][None]
        moved = points + move[chosen]
        _, turn, shift = umeyama(points, moved, with_scale=False)
        left = (points @ turn.transpose(1, 2) + shift - moved).norm(dim=-1).mean()
        if float(left) < least:
            best, least = chosen, float(left)
    return best


# Fits and errors --------------------------------------------------------------------------------


def rebuilt_figure(
    paint: FacePainter,
    face: Float[Tensor, "vertex 3"],
    rebuilt: Mapping[str, Float[Tensor, "vertex 3"]],
    title: str,
    top: float = 2.0,
    yaw: float = 0.0,
    size: float = 1.9,
) -> Figure:
    """The face, each rebuilding of it, and below the distance of every vertex as viridis, mm."""
    pictures, heats = [paint(face, yaw=yaw)], [np.full_like(paint(face, yaw=yaw), 255)]
    names = ["the face itself"]
    for name, other in rebuilt.items():
        error = (other - face).norm(dim=-1)
        pictures.append(paint(other, yaw=yaw))
        heats.append(paint(face, heat=error, top=top, yaw=yaw))
        names.append(f"{name}\n{float(error.mean()):.2f} mm off")
    figure = panels(
        [pictures, heats],
        title=title,
        columns=names,
        size=size,
        bar=(top, "distance to the face, mm", 1),
    )
    return figure


def landmarks_figure(
    paint: FacePainter,
    face: Float[Tensor, "vertex 3"],
    points: Float[Tensor, "68 3"],
    fits: Mapping[str, Float[Tensor, "vertex 3"]],
    title: str,
    top: float = 4.0,
) -> Figure:
    """A face, the noisy landmarks that are all we know, and what was fitted to them."""
    figure = rebuilt_figure(paint, face, fits, title, top=top)
    axis = figure.axes[len(fits) + 1]  # the empty panel below the face
    away = points - paint.middle
    axis.clear()
    axis.scatter(away[:, 0], away[:, 1], s=6, color=SHIPPED)
    axis.set(aspect="equal", xlim=(-90, 90), ylim=(-112, 112), xticks=[], yticks=[])
    axis.spines[:].set_visible(False)
    axis.set_xlabel("all that the fit is told", fontsize=9)
    return figure


def curves_figure(
    modes: Sequence[int],
    generalisation: Mapping[str, Sequence[float]],
    specificity: Mapping[str, Sequence[float]],
    real: float,
    colours: Mapping[str, str],
) -> Figure:
    """Generalisation and specificity against the number of modes, for several models."""
    figure = Figure((11, 3.9), layout="constrained", facecolor="white")
    left, right = figure.subplots(1, 2)
    for axis, curves in ((left, generalisation), (right, specificity)):
        for name, values in curves.items():
            shown = [m for m, v in zip(modes, values, strict=True) if not math.isnan(v)]
            there = [v for v in values if not math.isnan(v)]
            dashed = "--" if "seen" in name else "-"
            axis.plot(shown, there, dashed, marker="o", ms=4, color=colours[name], label=name)
        axis.set(xlabel="modes kept", xscale="log", ylim=(0, None))
        axis.set_xticks(modes, [str(m) for m in modes])
        axis.minorticks_off()
        axis.grid(alpha=0.25)
    right.axhline(real, color="#333333", lw=1, ls=":")
    right.text(1.05, real + 0.04, "a real held-out face", fontsize=9, color="#333333")
    left.set(
        ylabel="mean distance, mm",
        title="Generalisation: unseen faces, rebuilt\n(lower is better; training faces mislead)",
    )
    right.set(
        ylabel="mean distance to the nearest sample, mm",
        title="Specificity: random faces of the model\n(lower is closer to faces that exist)",
    )
    left.legend(frameon=False, fontsize=9)
    right.legend(frameon=False, fontsize=9, loc="lower right")
    return figure


def scar(
    model: MorphableModel, height: float = 3.0, width: float = 2.6
) -> Float[Tensor, "vertex 3"]:
    """A raised scar across one cheek and a furrow in the brow: offsets in mm along the normals."""
    x, normal = model.mean, vertex_normals(model.mean[None], model.faces)[0]
    front = (normal[:, 2] > 0) & (model.regions["mouth_interior"] < 0.5)
    front = front & (model.regions["eyeballs"] < 0.5)
    eye = x[model.landmarks[45]]
    mouth = x[model.landmarks[54]]
    start, end = eye + torch.tensor([8.0, -16, 0]), mouth + torch.tensor([14.0, -4, 0])
    brow = x[model.landmarks[[21, 22]]].mean(0)
    lines = [
        (start, end, height),
        *(
            (brow + torch.tensor([-26.0, up, 0]), brow + torch.tensor([26.0, up, 0]), -0.7 * height)
            for up in (20.0, 33.0)
        ),
    ]
    bump = torch.zeros(len(x))
    for a, b, high in lines:
        along = (b - a)[:2]
        t = (((x - a)[:, :2] @ along) / along.square().sum()).clamp(0, 1)
        distance = (x[:, :2] - a[:2] - t[:, None] * along).norm(dim=1)
        bump = bump + high * torch.exp(-((distance / width) ** 2))
    return (bump * front)[:, None] * normal


# Skin -------------------------------------------------------------------------------------------


def skin_modes_figure(
    paint: FacePainter,
    shape: Float[Tensor, "vertex 3"],
    mean: Float[Tensor, "vertex 3"],
    basis: Float[Tensor, "mode vertex 3"],
    deviations: float,
    title: str,
    count: int = 6,
) -> Figure:
    """The first albedo modes at minus and plus some standard deviations, unlit."""
    rows = [
        [paint(shape, mean + sign * deviations * m, lit=False, size=200) for m in basis[:count]]
        for sign in (-1, 1)
    ]
    return panels(
        rows,
        title=title,
        columns=[f"mode {i + 1}" for i in range(count)],
        names=[f"-{deviations:g} sd", f"+{deviations:g} sd"],
        size=1.6,
    )


def skin_cloud_figure(
    coefficients: Float[Tensor, "sample mode"],
    colours: Float[Tensor, "sample 3"],
    drawn: Float[Tensor, "other mode"],
    drawn_colours: Float[Tensor, "other 3"],
) -> Figure:
    """Two albedo coefficients of real skins and of draws from N(0, 1), each in its own colour."""
    figure = Figure((10.5, 4.2), layout="constrained", facecolor="white")
    for axis, points, shades, title in zip(
        figure.subplots(1, 2, sharex=True, sharey=True),
        (coefficients, drawn),
        (colours, drawn_colours),
        ("The samples lie on a bent line ...", "... which N(0, 1) knows nothing about"),
        strict=True,
    ):
        axis.scatter(
            points[:, 0], points[:, 1], s=70, color=shades.clamp(0, 1).numpy(), lw=0.5, ec="#777777"
        )
        axis.set(xlabel="albedo coefficient 1, sd", title=title)
        axis.grid(alpha=0.25)
    figure.axes[0].set_ylabel("albedo coefficient 2, sd")
    return figure


def nearest_albedo(
    targets: Float[Tensor, "skin vertex 3"], model: MorphableModel, limit: float
) -> tuple[Float[Tensor, "skin vertex 3"], Float[Tensor, "skin mode"]]:
    """The model's albedo nearest to each target with every coefficient within +-limit sd.

    Least squares in a box, by projected gradient steps (the step is 1 over the largest curvature).
    """
    rows = model.albedo_basis.flatten(1).double()
    gram = rows @ rows.T
    right = (targets - model.albedo_mean).flatten(1).double() @ rows.T
    best = torch.linalg.solve(gram, right.T).T.clamp(-limit, limit)
    step = 1 / float(torch.linalg.eigvalsh(gram)[-1])
    for _ in range(300):
        best = (best - step * (best @ gram - right)).clamp(-limit, limit)
    coefficients = best.to(targets.dtype)
    return model.albedo(coefficients), coefficients


def tones_figure(
    paint: FacePainter,
    shape: Float[Tensor, "vertex 3"],
    targets: Float[Tensor, "10 vertex 3"],
    rebuilt: Mapping[str, Float[Tensor, "10 vertex 3"]],
    skin: Float[Tensor, " vertex"],
    title: str,
) -> Figure:
    """Ten skins, each basis' nearest, and the error of the tone in ITA degrees."""
    rows = [[paint(shape, t, lit=False, size=170) for t in targets]]
    rows += [[paint(shape, t, lit=False, size=170) for t in s] for s in rebuilt.values()]
    figure = panels(
        rows,
        title=title,
        columns=[f"tone {i + 1}" for i in range(len(targets))],
        names=["the skin", *rebuilt],
        size=1.22,
    )
    for i, other in enumerate(rebuilt.values()):
        errors = albedo_error(other, targets, skin)["ita"]
        for j, error in enumerate(errors.tolist()):
            axis = figure.axes[(i + 1) * len(targets) + j]
            axis.set_xlabel(
                f"{error + 0.0:+.0f}°", fontsize=10, fontweight="bold" if abs(error) > 10 else None
            )
    return figure


def deviations_needed_figure(
    norms: Mapping[str, Float[Tensor, " tone"]], colours: Sequence[str] = (OURS, SHIPPED)
) -> Figure:
    """How far from the mean each tone's exact rebuilding lies, in standard deviations."""
    figure = Figure((7.2, 3.0), layout="constrained", facecolor="white")
    axis = figure.subplots()
    for (name, values), colour in zip(norms.items(), colours, strict=True):
        axis.plot(range(1, len(values) + 1), values, "o-", color=colour, label=name)
    axis.axhspan(0, 3, color="#dff0d8", zorder=0)
    axis.text(1, 1.2, "where 99.7 % of draws lie", fontsize=9, color="#3c763d")
    axis.set(
        xlabel="Monk tone, light to dark",
        ylabel="largest coefficient, sd",
        title="Without a limit both bases reach every tone, one of them absurdly far out",
        xticks=range(1, 11),
    )
    axis.legend(frameon=False)
    return figure


Draw = Callable[..., np.ndarray]
