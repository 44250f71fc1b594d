"""From a photo and a posed face: the colours at its vertices, its light, its skin.

    colours, weight = sample_photo_colours(face, photo, valid)       # (B, V, 3), (B, V)
    lighting = light_from_photo(model, coefficients, photo, valid)   # (B, 9, 3)
    coefficients = recolour(model, coefficients, photo, valid, light="grey")    # light and albedo

Notebooks 03 and 09, Eq. 3.
"""

import math
from dataclasses import replace

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ..face.camera import project_ndc
from ..face.coefficients import FaceCoefficients
from ..face.lighting import LIGHT_LEVEL, ambient_lighting, light_level, sh_basis, solve_lighting
from ..face.morphable_model import MorphableModel
from ..rendering.synthesis import Face, synthesise

LIGHTS = ("free", "grey", "known")
LIGHT_RIDGE = 0.03  # how firmly `light_from_photo` keeps the given light, in squared colour
DARKEST = 0.02  # below this albedo any light would do

# Costs in `recolour`, in squared colour
SKIN_PRIOR = 1e-4  # of one squared standard deviation of albedo
LEVEL_PRIOR = 0.1  # of the squared difference of grey light's level from LIGHT_LEVEL
BANDS_PRIOR = 1e-4  # of the squares of bands 1 and 2 of the light: little beside the photo's
SKIN_REACH = 3.0
"""Bound of the albedo coefficients, in standard deviations. Further, a straight line leaves
the skins of the basis, and any basis reaches any colour."""
BURNT_OUT = 0.99  # a channel at white could be any brighter
_ENOUGH = 3000  # vertices: three colours each, for some fifty numbers
_HELD = 1e6  # a prior that no photo moves


def region_weights(model: MorphableModel) -> Float[Tensor, " vertex"]:
    """How much the photometric term trusts each vertex, 0 to 1: hair, eyes, mouth interior less."""
    distrust = {"border": 0.9, "mouth_interior": 0.9, "eyes": 0.6, "forehead": 0.5}
    return math.prod(1 - share * model.regions[name] for name, share in distrust.items())


def sample_photo_colours(
    face: Face, photo: Float[Tensor, "batch 3 height width"], valid: Tensor
) -> tuple[Float[Tensor, "batch vertex 3"], Float[Tensor, "batch vertex"]]:
    """The photo's colour at each vertex, and a weight: how squarely it faces the viewer; 0 where it
    looks away, lies outside the photo, or is behind another part of the face."""
    ndc = project_ndc(face.v_camera, face.fov_deg)
    grid = -ndc[:, None, :, :2]  # +x left, +y up -> image axes
    sampled = F.grid_sample(torch.cat([photo, valid], 1), grid, align_corners=False)[:, :, 0]
    colours, inside = sampled[:, :3].transpose(1, 2), sampled[:, 3]
    depth, _ = face.render(photo.shape[-1], attributes=face.v_camera[..., 2:], near=None)
    nearest = F.grid_sample(depth, grid, mode="nearest", align_corners=False)[:, 0, 0]
    free = face.v_camera[..., 2] < nearest + 2.0
    return colours, face.normals[..., 2].clamp(min=0) * free * (inside > 0.99)


@torch.no_grad()
def light_from_photo(
    model: MorphableModel,
    coefficients: FaceCoefficients,
    photo: Float[Tensor, "batch 3 height width"],
    valid: Float[Tensor, "batch 1 height width"],
    ridge: float = LIGHT_RIDGE,
) -> Float[Tensor, "batch 9 3"]:
    """The light under which this face has the photo's colours, near the light that it has already.

    Eq. 3 is linear in the light: one small least-squares problem per photo, over the visible skin.
    `ridge` keeps what the photo does not tell at coefficients.lighting.
    """
    face = synthesise(model, coefficients)
    colours, weight = sample_photo_colours(face, photo, valid)
    weight = weight * region_weights(model) * model.regions["skin"]
    skin, prior = face.albedo.clamp(DARKEST, 1), coefficients.lighting
    return solve_lighting(skin, face.normals, colours, weight, prior=prior, ridge=ridge)


@torch.no_grad()
def recolour(
    model: MorphableModel,
    coefficients: FaceCoefficients,
    photo: Float[Tensor, "batch 3 height width"],
    valid: Float[Tensor, "batch 1 height width"],
    light: str = "free",
    lighting: Float[Tensor, "batch 9 3"] | None = None,
    rounds: int = 6,
) -> FaceCoefficients:
    """The skin and the light under which a face of this shape and pose has the photo's colours.

    Only shape and pose of `coefficients` are read; they may come from a model with another albedo
    basis. The skin depends on the assumption about the light:

    "free": 27 numbers, of any level and tint. Albedo and light share an exact factor per channel:
        light can explain the tone of any skin, and takes what the basis or the prior will not.
    "grey": 9 numbers for all channels, of a level near LIGHT_LEVEL; the skin takes a tint.
    "known": `lighting`; only the albedo is solved for.

    Gauss-Newton steps minimise the squared difference of Eq. 3 and the photo, a weighted mean over
    what is visible and not burnt out, with the priors above. No step waits for a GPU.
    Raises ValueError for another `light`, and for a missing or unused `lighting`.
    """
    if light not in LIGHTS:
        raise ValueError(f"light {light!r}: expected one of {', '.join(LIGHTS)}")
    if (lighting is None) == (light == "known"):
        problem = "expected (batch, 9, 3)" if lighting is None else "is for light='known' alone"
        raise ValueError(f"lighting: {problem}; light is {light!r}")
    tint = {"free": torch.eye(3), "grey": torch.ones(1, 3), "known": torch.ones(0, 3)}[light]
    tint = tint.to(model.device, torch.float64, non_blocking=True)
    batch, channels = len(coefficients), len(tint)
    target = ambient_lighting(batch, LIGHT_LEVEL, device=model.device)
    start = replace(coefficients, albedo=model.neutral(batch).albedo, lighting=target)
    face = synthesise(model, start)
    colours, weight = sample_photo_colours(face, photo, valid)
    weight = weight * region_weights(model) * (colours.amax(-1) < BURNT_OUT)
    some = slice(None, None, max(1, len(model.mean) // _ENOUGH))  # of the vertices
    # in double: half a sphere of normals hardly tells the nine functions apart
    weight, colours = weight[:, some].double(), colours[:, some].double()
    root = (weight / weight.sum(1, keepdim=True).clamp(min=1e-9)).sqrt()[..., None]
    shading = sh_basis(face.normals[:, some].double())
    mean, basis = model.albedo_mean[some].double(), model.albedo_basis[:, some].double()

    modes = len(basis)
    skin_prior = torch.full((modes,), SKIN_PRIOR, dtype=tint.dtype, device=tint.device).diag()
    prior = torch.block_diag(skin_prior, _light_prior(tint, level=light == "grey"))
    x0 = torch.cat([start.albedo, target[..., :channels].flatten(1)], 1).double()
    x, held = x0, torch.zeros_like(x0)  # skin | light, row by row; 1 where a bound has been met
    fixed = 0.0 if lighting is None else lighting.double()

    def unpack() -> tuple[Tensor, Tensor]:
        return x[:, :modes], fixed + x[:, modes:].unflatten(1, (9, channels)) @ tint

    for _ in range(rounds):
        skin, estimate = unpack()
        albedo, level = mean + torch.einsum("bk,kvc->bvc", skin, basis), shading @ estimate
        by_light = torch.einsum("bvc,bvj,dc->bjdvc", albedo, shading, tint).flatten(1, 2)
        rows = torch.cat([basis * level[:, None], by_light], 1)
        rows = (rows * root[:, None]).flatten(2)  # (batch, unknown, vertex colour)
        error = ((colours - albedo * level) * root).flatten(1)
        normal = rows @ rows.mT + prior + torch.diag_embed(_HELD * held)
        right = (rows @ error[..., None])[..., 0] - (x - x0) @ prior
        x = x + torch.cholesky_solve(right[..., None], torch.linalg.cholesky_ex(normal).L)[..., 0]
        beyond = (x[:, :modes].abs() > SKIN_REACH).double()
        held[:, :modes] = torch.maximum(held[:, :modes], beyond)
        x = torch.cat([x[:, :modes].clamp(-SKIN_REACH, SKIN_REACH), x[:, modes:]], 1)
    skin, estimate = unpack()
    dtype = coefficients.albedo.dtype
    return replace(coefficients, albedo=skin.to(dtype), lighting=estimate.to(dtype))


def _light_prior(tint: Float[Tensor, "channel 3"], level: bool) -> Float[Tensor, "light light"]:
    """The priors' quadratic form of the light: bands 1 and 2, and its level."""
    kind = dict(dtype=tint.dtype, device=tint.device)
    each = torch.eye(9, **kind)
    form = BANDS_PRIOR * each
    form[0, 0] = 1e-6  # for a face without visible skin
    if level:
        row = light_level(each[..., None])  # of one unit of each of the nine
        form = form + LEVEL_PRIOR * torch.outer(row, row)
    return torch.kron(form, torch.eye(len(tint), **kind))
