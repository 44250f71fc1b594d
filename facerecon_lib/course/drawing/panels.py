"""Panels that several notebooks share: a face's views, its error in mm, and the Monk tones.

fill(axes[0], three_views(model, crop.image, c), ["on the photo", "its shape", "turned"])
error = shape_errors(model, c, truth)                # (face, vertex) mm
picture(axis, error_view(model, truth[0], error[0], most=4.0))

Notebooks 01, 03, 05 and 06.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from ...face.coefficients import FaceCoefficients
from ...face.colour import MONK_TONES, srgb_to_lab
from ...face.measures import vertex_error_mm
from ...face.morphable_model import MorphableModel
from ...pictures.faces import Picture, on_photo, paint, show_face, turned
from ...rendering.synthesis import synthesise
from .style import heat


def shape_view(
    model: MorphableModel, c: FaceCoefficients, yaw: float = 0.0, look="shape", size: int = 220
) -> Picture:
    """The first face of a batch, turned, grey or with its skin."""
    return show_face(turned(model, c, yaw), look, size)


def skin_colour(model: MorphableModel, albedo: Float[Tensor, "b vertex 3"]) -> Float[Tensor, "b 3"]:
    """Mean colour of the skin."""
    skin = model.regions["skin"]
    return (albedo * (skin / skin.sum())[:, None]).sum(1)


def tone_distances(model: MorphableModel) -> Float[Tensor, "sample tone"]:
    """From each of the model's sample skins to each Monk tone, lightest first, in CIELAB."""
    mean, basis = (skin_colour(model, a) for a in (model.albedo_mean[None], model.albedo_basis))
    colours = mean + model.albedo_samples @ basis
    tones = colours.new_tensor(MONK_TONES)
    away = srgb_to_lab(colours.clamp(0, 1))[:, None] - srgb_to_lab(tones)
    return away.norm(dim=-1)


@torch.no_grad()
def three_views(
    model: MorphableModel, image: Float[Tensor, "batch 3 h w"], c: FaceCoefficients
) -> list[Picture]:
    """The face on its photo; its shape from the front; turned, with its skin."""
    shape, side = shape_view(model, c), shape_view(model, c, 40, "studio")
    return [on_photo(image, synthesise(model, c)), shape, side]


@torch.no_grad()
def shape_errors(
    model: MorphableModel, c: FaceCoefficients | None, truth: FaceCoefficients, align="similarity"
) -> Float[Tensor, "batch vertex"]:
    """Distance in mm of each vertex to the truth's, after alignment; c None: of the mean face."""
    true = model.shape(truth.identity, truth.expression)
    shape = model.mean.expand_as(true) if c is None else model.shape(c.identity, c.expression)
    return vertex_error_mm(shape, true, align=align)


def error_view(
    model: MorphableModel, truth: FaceCoefficients, error: Tensor, most: float, size: int = 220
) -> Picture:
    """The error at each vertex, from 0 to `most` mm, as colours on the true shape."""
    return paint(turned(model, truth, 0.0), heat(error, most)[None], size)
