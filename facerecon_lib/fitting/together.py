"""One person in several photos: one identity and one albedo, the rest of every photo's own.

    coefficients = fit_together(model, encoder_answers, points, image, valid)
    coefficients.identity                                # the same in every row, as is the albedo

The encoder's answer to a photo lies between the mean face and the person, the nearer to the mean
the less one photo tells. So the answers to n photos are averaged and moved away from the mean face
again: the product of Gaussians. Shading and skin then take all photos as their evidence.
tests/benchmarks/together.py compares with other ways. Notebook 10, section 9.
"""

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from ..face.coefficients import FaceCoefficients
from ..face.morphable_model import MorphableModel
from .dense import DenseSettings, fit_points
from .shading import refine_identity
from .skin import refine_skin

SCATTER = 0.57
"""Variance of the encoder's answers to photos of one person, over that of people's mean answers:
tests/benchmarks/together.py prints it."""

HELD = DenseSettings(identity=1e-4)
"""Points tell of pose and expression: who it is they blur, of many photos as of one."""


def one_identity(answers: Float[Tensor, "photo identity"]) -> Float[Tensor, "1 identity"]:
    """The likeliest identity given the encoder's answer to each photo of a person.

    An answer m is the mean of the posterior under the prior N(0, 1) and a likelihood of variance
    SCATTER, about (1 + SCATTER) m. The product of n such likelihoods and one prior has its mean at
    n (1 + SCATTER) / (n + SCATTER) times the answers' mean: of one photo, the answer itself.
    """
    count = len(answers)
    return count * (1 + SCATTER) / (count + SCATTER) * answers.mean(0, keepdim=True)


@torch.no_grad()
def fit_together(
    model: MorphableModel,
    answers: FaceCoefficients,
    points: Float[Tensor, "photo 478 2"],
    image: Float[Tensor, "photo 3 height width"],
    valid: Float[Tensor, "photo 1 height width"],
) -> FaceCoefficients:
    """The person's identity and albedo in every row; expression and pose of each photo.

    answers: the encoder's. Raises ValueError as `fit_points`.
    """
    identity = one_identity(answers.identity).expand_as(answers.identity)
    albedo = answers.albedo.mean(0, keepdim=True).expand_as(answers.albedo)
    start = replace(answers, identity=identity, albedo=albedo)
    posed = replace(fit_points(model, points, start, HELD), identity=identity)
    shaded = refine_identity(model, posed, image, valid, together=True)
    skin = refine_skin(model, shaded, image, valid, together=True).albedo
    return replace(shaded, albedo=skin[:1].expand_as(skin))  # alike to the last bit
