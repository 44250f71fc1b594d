"""Brows, lips, beard and shadows from the photo, at the tone that the encoder gave.

    coefficients = refine_skin(model, coefficients, photo, valid)

Albedo and light share a factor that no photo tells (notebook 03): how bright and how tinted the
skin is stays the encoder's, which learned it from people; the pattern on it is the photo's.
Eq. 2 and 3.
"""

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from ..face.coefficients import FaceCoefficients
from ..face.lighting import sh_basis, solve_lighting
from ..face.morphable_model import MorphableModel
from ..rendering.synthesis import synthesise
from .photo_light import BURNT_OUT, DARKEST, LIGHT_RIDGE, region_weights, sample_photo_colours

OBSERVATIONS = 300.0  # as many colours count: what skin and light lack is smooth
NOISE = 0.05  # s.d. of a colour
FAR = 0.1  # a colour off by more counts less: Geman and McClure
SPREAD = 0.7  # s.d. of the albedo about the encoder's, in standard deviations
TONE_SD = 0.003  # of the skin's mean colour about the encoder's
ROUNDS = 3


@torch.no_grad()
def refine_skin(
    model: MorphableModel,
    coefficients: FaceCoefficients,
    photo: Float[Tensor, "batch 3 height width"],
    valid: Float[Tensor, "batch 1 height width"],
    together: bool = False,
) -> FaceCoefficients:
    """The coefficients with the likeliest albedo about their own, of the same mean colour of skin.

    By turns the light and the albedo, which Eq. 3 is linear in; nothing else changes.
    together: all photos are of one person, whose albedo is the same in every row.
    """
    skin = model.regions["skin"] * (1 - model.regions["border"])
    tone = torch.einsum("v,kvc->ck", skin / skin.sum(), model.albedo_basis) / TONE_SD
    fixed = torch.eye(model.sizes.albedo).to(tone) / SPREAD**2 + tone.mT @ tone
    face, start = synthesise(model, coefficients), coefficients
    colours, weight = sample_photo_colours(face, photo, valid)
    weight = weight * region_weights(model) * (colours.amax(-1) < BURNT_OUT)
    weight = weight / weight.sum(1, keepdim=True).clamp(min=1e-9)
    functions, prior, albedo = sh_basis(face.normals), start.lighting, start.albedo
    for _ in range(ROUNDS):
        own = model.albedo(albedo)
        bare, part = own.clamp(DARKEST, 1), weight * model.regions["skin"]
        light = solve_lighting(bare, face.normals, colours, part, prior=prior, ridge=LIGHT_RIDGE)
        shading = functions @ light
        error = colours - own * shading
        robust = (1 + error.square().mean(-1) / FAR**2) ** -2
        rows = (model.albedo_basis * shading[:, None]).flatten(2)  # (batch, mode, vertex colour)
        count = OBSERVATIONS / NOISE**2 * weight * robust
        weighted = rows * count.repeat_interleave(3, 1)[:, None]
        normal, pull = weighted @ rows.mT, (weighted @ error.flatten(1)[..., None])[..., 0]
        if together:
            normal, pull = normal.sum(0, keepdim=True), pull.sum(0, keepdim=True)
        pull = pull - (albedo - start.albedo)[: len(pull)] @ fixed
        albedo = albedo + torch.linalg.solve(normal + fixed, pull)
    return replace(start, albedo=albedo)
