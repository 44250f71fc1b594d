"""A face model on one sheet: its mean, its modes, its expressions, its skins, its landmarks.

    save_figure(model_sheet(MorphableModel.load("bfm.safetensors")), "bfm.png")

All faces of the sheet have one scale. Works for any model: what it lacks, the sheet leaves out.
Notebook 01; `facerecon model --sheet`.
"""

import math
from collections.abc import Iterator
from itertools import zip_longest
from textwrap import shorten
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor

from ..face.camera import CROP_SIZE, DEFAULT_FOV
from ..face.landmarks68 import BROWS, EYES, JAW, MOUTH, NOSE
from ..face.morphable_model import MorphableModel
from .faces import show_face, turned_mesh

COLUMNS = 8
INCHES, PANEL = 1.9, 330  # px
WIDTH = 0.8  # of a panel, as a share of its height: a face is taller than wide
DEVIATIONS = {"studio": 2.0, "unlit": 1.0}  # of shape, of skin: two leave what a colour can be
ROOM = 1.1  # perspective enlarges the near
GROUPS = ((JAW, "#3b6fd4"), (BROWS, "#8e44ad"), (NOSE, "#e08214"), (EYES, "#1a9850"))
GROUPS += ((MOUTH, "#d7191c"),)  # landmarks and their colours
ACTIONS = ("jawOpen", "mouthSmile", "eyeBlink", "browInnerUp", "mouthPucker", "browDown")
ACTIONS += ("mouthFrown", "noseSneer", "mouthFunnel", "browOuterUp", "cheekPuff", "eyeWide")


class Panel(NamedTuple):
    title: str
    vertices: Float[Tensor, "vertex 3"]
    albedo: Float[Tensor, "vertex 3"]
    look: str = "studio"
    yaw: float = 0.0
    landmarks: bool = False


@torch.no_grad()
def model_sheet(model: MorphableModel) -> Figure:
    """Rows of faces: the mean, identity, expression and albedo modes at DEVIATIONS both ways (named
    actions in full), and faces drawn at random."""
    rows = list(_rows(model))
    frontal = [panel.vertices for _, panels in rows for panel in panels if panel.yaw == 0]
    half = [(v.amax(0) - v.amin(0))[:2] / 2 / v.new_tensor([WIDTH, 1.0]) for v in frontal]
    # The edge of the view, mm from its middle, is where every face of the sheet fits.
    reach = ROOM * float(torch.stack(half).max())
    distance = reach / math.tan(math.radians(DEFAULT_FOV / 2))
    size = (COLUMNS * INCHES * WIDTH, len(rows) * (INCHES + 0.42) + 0.7)
    figure = Figure(size, facecolor="white", layout="constrained")
    name, (identity, expression, albedo) = model.metadata.get("name", "face model"), model.sizes
    title = f"{shorten(name, 80, placeholder=' ...')}\n{len(model.mean):,} vertices; {identity} "
    title += f"identity, {expression} expression and {albedo} albedo modes"
    figure.suptitle(title, fontsize=14, fontweight="bold", parse_math=False)
    strips = np.atleast_1d(figure.subfigures(len(rows), 1))
    for strip, (heading, panels) in zip(strips, rows, strict=True):
        strip.suptitle(heading, x=0.008, ha="left", fontsize=12, parse_math=False)
        for axis, panel in zip_longest(strip.subplots(1, COLUMNS), panels):
            axis.axis("off")
            if panel is not None:
                _draw(axis, model, panel, distance)
    return figure


def _rows(model: MorphableModel) -> Iterator[tuple[str, list[Panel]]]:
    mean, skin = model.mean, model.albedo_mean
    views = {"-60°": -60.0, "-30°": -30.0, "frontal": 0.0, "+30°": 30.0, "+60°": 60.0}
    panels = [Panel(name, mean, skin, yaw=yaw) for name, yaw in views.items()]
    views = {"its shape": (), "its shape, +45°": (45.0,), "68 landmarks": (0.0, True)}
    panels += [Panel(name, mean, skin, "shape", *view) for name, view in views.items()]
    yield "The mean face, and the landmarks", panels

    def both_ways(basis: Tensor, count: int, look: str) -> list[Panel]:
        panels = []
        for k, mode in enumerate(basis[:count]):
            for sign, name in ((-1, "−"), (1, "+")):
                step = sign * DEVIATIONS[look] * mode
                face = (mean, skin + step) if look == "unlit" else (mean + step, skin)
                panels.append(Panel(f"mode {k + 1}, {name}{DEVIATIONS[look]:g} sd", *face, look))
        return panels

    count = COLUMNS if len(model.identity_basis) >= COLUMNS else COLUMNS // 2
    modes = both_ways(model.identity_basis, count, "studio")
    for first in range(0, len(modes), COLUMNS):
        which = "next" if first else "first"
        yield f"Identity: the {which} modes", modes[first : first + COLUMNS]
    panels = [
        Panel(name, mean + torch.einsum("k,kvc->vc", row, model.expression_basis), skin)
        for name, row in _actions(model).items()
    ]
    heading = "Expressions: named actions, in full" if panels else "Expressions: the first modes"
    unnamed = model.expression_basis[model.unnamed_modes > 0]
    panels += both_ways(unnamed, max(COLUMNS - len(panels), 0) // 2, "studio")
    if panels:
        yield heading, panels[:COLUMNS]
    if len(model.albedo_basis):
        yield "Albedo, unlit: the first modes", both_ways(model.albedo_basis, COLUMNS // 2, "unlit")
    drawn = model.random(COLUMNS, torch.Generator().manual_seed(0))
    identity, _, albedo = (x.to(model.device) for x in drawn)
    faces = zip(model.shape(identity), model.albedo(albedo), strict=True)
    panels = [Panel(f"face {i}", *face) for i, face in enumerate(faces, start=1)]
    yield "Drawn at random: identity and albedo", panels


def _actions(model: MorphableModel) -> dict[str, Float[Tensor, " expression"]]:
    """ACTIONS, both sides together; then all others, and sides alone."""
    chosen, left = {}, dict(model.controls)
    for action in ACTIONS:
        sides = [name for name in left if name.lower().startswith(action.lower())]
        if sides:
            chosen[action] = torch.stack([left.pop(name) for name in sides]).sum(0)
    return chosen | left | {n: row for n, row in model.controls.items() if n not in chosen}


def _draw(axis, model: MorphableModel, panel: Panel, distance: float) -> None:
    mesh = panel.vertices[None], panel.albedo[None]
    face = turned_mesh(model, *mesh, panel.yaw, distance=distance)
    axis.imshow(show_face(face, panel.look, PANEL), extent=(0, CROP_SIZE, CROP_SIZE, 0))
    side = CROP_SIZE * (1 - WIDTH) / 2
    axis.set_xlim(side, CROP_SIZE - side)
    axis.set_title(panel.title, fontsize=9.5, pad=3, parse_math=False)
    if panel.landmarks:
        points = face.landmarks("3d")[0].cpu().numpy()
        for group, colour in GROUPS:
            axis.scatter(*points[group].T, s=5, color=colour, linewidths=0)
