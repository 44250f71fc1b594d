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
    together: bool = False,
) -> FaceCoefficients:
    """The coefficients with the likeliest identity under Eq. 3; nothing else of them changes.

    One Gauss-Newton step of identity, albedo and light together, from `light_from_photo`.
    together: all photos are of one person, whose identity and albedo are the same in every row.
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
    size = len(start) if together else 1
    photos = [slice(i, i + size) for i in range(0, len(start), size)]
    identity = [_refine(part, rows, start[i], colours[i, some], weight[i]) for i in photos]
    return replace(coefficients, identity=torch.cat(identity).repeat_interleave(size, 0))


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
    colours: Float[Tensor, "photo vertex 3"],
    weight: Float[Tensor, "photo vertex"],
) -> Float[Tensor, "1 identity"]:
    """Of one person: colours of these rows of the model's vertices, and how much each counts.

    Identity and albedo are the same in all photos, each of which has a light of its own.
    """
    modes = min(MODES, model.sizes.identity)
    sizes = modes, model.sizes.albedo, 27 * len(c)
    prior = torch.cat([
        colours.new_full((size,), sd**-2) for size, sd in zip(sizes, PRIORS.values(), strict=True)
    ])  # fmt: skip
    normal, pull = prior.diag(), torch.zeros_like(prior)
    unknown = torch.arange(len(prior), device=prior.device)
    shared, lights = unknown[: -sizes[2]], unknown[-sizes[2] :].split(27)
    for i, light in enumerate(lights):
        slopes, error = _slopes(model, rows, c[i], colours[i], modes)
        robust = (1 + error.square().mean(1) / FAR**2) ** -2
        weighted = slopes * (OBSERVATIONS / NOISE**2 * weight[i] * robust)[:, None]
        mine = torch.cat([shared, light])
        normal[mine[:, None], mine] += weighted.flatten(1) @ slopes.flatten(1).T
        pull[mine] += weighted.flatten(1) @ error.flatten()
    move = torch.linalg.solve(normal, pull)
    return c.identity[:1] + F.pad(move[:modes], (0, model.sizes.identity - modes))


def _slopes(
    model: MorphableModel,
    rows: Int[Tensor, " vertex"],
    c: FaceCoefficients,
    colours: Float[Tensor, "vertex 3"],
    modes: int,
) -> tuple[Float[Tensor, "unknown vertex 3"], Float[Tensor, "vertex 3"]]:
    """Eq. 3 in one photo by identity, albedo and light, and what the photo's colours are off."""
    steps = STEP * F.pad(torch.eye(modes).to(colours), (0, model.sizes.identity - modes, 1, 0))
    shapes = model.shape(c.identity + steps, c.expression.expand(len(steps), -1))  # first, no step
    turn = axis_angle_to_matrix(c.rotation)
    functions = sh_basis(vertex_normals(shapes, model.faces)[:, rows] @ turn.mT)
    shading, albedo = functions @ c.lighting[0], model.albedo(c.albedo)[0, rows]
    by_identity = albedo * (shading[1:] - shading[0]) / STEP
    by_albedo = model.albedo_basis[:, rows] * shading[0]
    by_light = torch.einsum("vc,vj,dc->jdvc", albedo, functions[0], torch.eye(3).to(albedo))
    slopes = torch.cat([by_identity, by_albedo, by_light.flatten(0, 1)])
    return slopes, colours - albedo * shading[0]
