"""Panels that several notebooks share: a face turned, and how skins lie to the Monk tones."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from ...face.coefficients import FaceCoefficients
from ...face.colour import MONK_TONES, srgb_to_lab
from ...face.morphable_model import MorphableModel
from ...pictures.faces import Picture, show_face, turned


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
