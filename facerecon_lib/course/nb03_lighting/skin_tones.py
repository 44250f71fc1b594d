"""One picture, several skins: what light can hide, for notebook 03."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor

from ...face.lighting import shade
from ...face.morphable_model import MorphableModel
from ...pictures.faces import paint
from ...pictures.sheets import gallery
from ...rendering.synthesis import Face
from ..drawing.light_balls import ball, ball_brightness, with_ball
from ..drawing.panels import tone_distances
from ..drawing.style import BLUE, RED, bare, curves, page

RIDGE = 3e-4  # of `albedo_from_colours`


def monk_ladder(model: MorphableModel) -> Float[Tensor, "10 albedo"]:
    """Albedo coefficients of a typical skin near each of the ten Monk tones, lightest first.

    The mean of the eight of the model's sample skins that lie nearest, in CIELAB.
    """
    nearest = tone_distances(model).topk(8, dim=0, largest=False).indices
    return model.albedo_samples[nearest].mean(0)


def albedo_from_colours(
    model: MorphableModel,
    shading: Float[Tensor, "b vertex 3"],
    colours: Float[Tensor, "b vertex 3"],
    weights: Float[Tensor, "b vertex"],
) -> Float[Tensor, "b albedo"]:
    """The coefficients of Eq. 2 whose albedo, times this shading, looks most like the colours.

    They are in standard deviations, so that RIDGE on their squares is the prior N(0, 1) beside
    pixel errors of the ridge's square root.
    """
    root = (weights / weights.sum(-1, keepdim=True)).sqrt()[:, None, :, None]
    rows = (model.albedo_basis * shading[:, None] * root).flatten(2)  # (b, K, 3 V)
    rest = ((colours - shading * model.albedo_mean)[:, None] * root).flatten(2)  # (b, 1, 3 V)
    normal, right = (rows @ rows.mT).double(), (rows @ rest.mT).double()
    normal = normal + RIDGE * torch.eye(normal.shape[-1], dtype=torch.float64)
    return torch.linalg.solve(normal, right)[..., 0].float()


def tone_figure(
    truth: Tensor, found: dict[str, Tensor], picture: dict[str, Tensor], away: dict[str, Tensor]
) -> Figure:
    """Per Monk tone: error of the picture, of the skin under the light, its rarity; and the skins.

    truth: (10, 3) skin colours; by name: found (10, 3), picture (10,) errors, away (10,) in
    standard deviations.
    """
    title = "With free light every picture fits, and the skin under it is wrong"
    figure = page(10.5, 5.3, title)
    top, bottom = figure.subfigures(2, 1, height_ratios=[2, 1])
    left, middle, right = top.subplots(1, 3)
    errors = {name: (skin - truth).abs().mean(-1) for name, skin in found.items()}
    tones = range(1, 11)
    form = dict(colours=(BLUE, RED), width=1.5, xlabel="Monk tone", xticks=tones)
    rgb = form | dict(ylabel="RGB, 0 to 1", ylim=(-0.02, 0.72))
    curves(left, picture, tones, "o-", title="error of the picture", **rgb)
    curves(middle, errors, tones, "o-", title="error of the unlit skin", legend=False, **rgb)
    form |= dict(ylabel="standard deviations", ylim=(-0.7, None), legend=False)
    curves(right, away, tones, "o-", title="distance from the mean skin", **form)
    axis = bottom.subplots()
    rows = torch.stack([truth, *found.values()]).clamp(0, 1)
    axis.imshow(rows.numpy(), aspect="auto")
    bare(axis)
    axis.set_yticks(range(len(rows)), ["truth", *found])
    axis.set_xticks(range(10), tones)
    axis.set_xlabel("Monk tone")
    axis.set_title("the skin that each reading finds", fontsize=11)
    axis.tick_params(length=0)
    return figure


def counterfeit_figure(face: Face, readings: Sequence[tuple[Tensor, Tensor]]) -> Figure:
    """For each (albedo, light): the skin, the light's ball, and the picture that they make."""
    pictures, brightest = [], max(ball_brightness(light) for _, light in readings)
    for albedo, light in readings:
        lit = shade(albedo, face.normals, light)
        pictures += [paint(face, albedo), ball(light / brightest, 300), paint(face, lit)]
    names = ["its skin (unlit)", f"its light, divided by {brightest:.1f}", "the picture"]
    title = "Dark skin in bright light, light skin in dim light: the same picture"
    return gallery(pictures, names * 2, title=title, columns=3, size=2.5)


def readings_figure(
    face: Face, normals: Tensor, readings: Sequence[tuple[Tensor, Tensor]], names: Sequence[str]
) -> Figure:
    """The pictures of several readings of one photo over their unlit skins; balls share a scale."""
    brightest = max(ball_brightness(light) for _, light in readings)
    top = [with_ball(paint(face, shade(b, normals, g)), g / brightest) for b, g in readings]
    bottom = [paint(face, b) for b, _ in readings]
    title = "Three readings of one photo: lit above (all equal, balls on one scale), unlit below"
    return gallery([*top, *bottom], names, title=title, columns=3, size=2.7)
