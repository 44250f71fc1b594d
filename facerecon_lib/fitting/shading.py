"""Who it is from shading: the identity moves to where the photo is lighter and darker.

    coefficients = refine_identity(model, coefficients, photo, valid)

Every vertex keeps its pixel, so that shading alone tells of the shape: edges of brows, eyes and
lips lie where a person has them, not where the albedo basis has them. Notebook 03, Eq. 3.
"""

from dataclasses import replace

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from ..face.camera import axis_angle_to_matrix
from ..face.coefficients import FaceCoefficients
from ..face.lighting import sh_basis
from ..face.mesh import vertex_normals
from ..face.morphable_model import MorphableModel
from ..rendering.synthesis import synthesise
from .photo_light import BURNT_OUT, light_from_photo, region_weights, sample_photo_colours

OBSERVATIONS = 40.0  # as many colours count: what skin and light lack is smooth
NOISE = 0.05  # s.d. of a colour
FAR = 0.1  # a colour off by more counts less: Geman and McClure
PRIORS = {"identity": 0.6, "albedo": 1.0, "lighting": 10.0}  # s.d. about the start
MODES = 40  # of the identity, at most: the others move little
STEP = 0.1  # standard deviations, of a difference that stands for a derivative
VERTICES, TRUSTED = 1000, 0.2  # at most so many, of at least such `region_weights`


@torch.no_grad()
def refine_identity(
    model: MorphableModel,
    coefficients: FaceCoefficients,
    photo: Float[Tensor, "batch 3 height width"],
    valid: Float[Tensor, "batch 1 height width"],
) -> FaceCoefficients:
    """The coefficients with the likeliest identity under Eq. 3; nothing else of them changes.

    One Gauss-Newton step of identity, albedo and light together, from `light_from_photo`.
    """
    light = light_from_photo(model, coefficients, photo, valid)
    start = replace(coefficients, lighting=light)
    colours, weight = sample_photo_colours(synthesise(model, start), photo, valid)
    trust = region_weights(model)
    for inside in ("eyeballs", "mouth_interior"):
        trust = trust * (1 - model.regions[inside])
    some = (trust > TRUSTED).nonzero()[:, 0]
    some = some[:: -(-len(some) // VERTICES)].contiguous()
    weight = (weight * trust * (colours.amax(-1) < BURNT_OUT))[:, some]
    weight = weight / weight.sum(1, keepdim=True).clamp(min=1e-9)
    part, rows = _around(model, some)
    identity = [
        _refine(part, rows, start[i], colours[i, some], weight[i]) for i in range(len(start))
    ]
    return replace(coefficients, identity=torch.cat(identity))


def _around(
    model: MorphableModel, some: Int[Tensor, " vertex"]
) -> tuple[MorphableModel, Int[Tensor, " vertex"]]:
    """The model on the triangles about some vertices, and where those are in it."""
    chosen = torch.zeros_like(model.mean[:, 0], dtype=torch.bool)
    chosen[some] = True
    used, faces = model.faces[chosen[model.faces].any(1)].unique(return_inverse=True)
    bases = ("identity_basis", "expression_basis", "albedo_basis")
    cut = {name: getattr(model, name)[:, used] for name in bases}
    cut |= {name: getattr(model, name)[used] for name in ("mean", "albedo_mean")}
    return replace(model, faces=faces, **cut), torch.searchsorted(used, some)


def _refine(
    model: MorphableModel,
    rows: Int[Tensor, " vertex"],
    c: FaceCoefficients,
    colours: Float[Tensor, "vertex 3"],
    weight: Float[Tensor, " vertex"],
) -> Float[Tensor, "1 identity"]:
    """Of one face: colours of these rows of the model's vertices, and how much each counts."""
    modes = min(MODES, model.sizes.identity)
    rest = model.sizes.identity - modes
    steps = STEP * F.pad(torch.eye(modes).to(colours), (0, rest, 1, 0))  # the first is none
    shapes = model.shape(c.identity + steps, c.expression.expand(len(steps), -1))
    turn = axis_angle_to_matrix(c.rotation)
    functions = sh_basis(vertex_normals(shapes, model.faces)[:, rows] @ turn.mT)
    shading, albedo = functions @ c.lighting[0], model.albedo(c.albedo)[0, rows]
    by_identity = albedo * (shading[1:] - shading[0]) / STEP
    by_albedo = model.albedo_basis[:, rows] * shading[0]
    by_light = torch.einsum("vc,vj,dc->jdvc", albedo, functions[0], torch.eye(3).to(albedo))
    parts = dict(zip(PRIORS, (by_identity, by_albedo, by_light.flatten(0, 1)), strict=True))
    prior = torch.cat([x.new_full((len(x),), PRIORS[name] ** -2) for name, x in parts.items()])
    error = colours - albedo * shading[0]
    robust = (1 + error.square().mean(1) / FAR**2) ** -2
    jacobian = torch.cat([*parts.values()])
    weighted = jacobian * (OBSERVATIONS / NOISE**2 * weight * robust)[:, None]
    normal = weighted.flatten(1) @ jacobian.flatten(1).T + prior.diag()
    move = torch.linalg.solve(normal, weighted.flatten(1) @ error.flatten())
    return c.identity + F.pad(move[:modes], (0, rest))
