"""What a photo's colours say of a posed face: colours at its vertices, and the light on it.

colours, weight = sample_photo_colours(face, photo, valid)       # (B, V, 3), (B, V)
lighting = light_from_photo(model, coefficients, photo, valid)   # (B, 9, 3)
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from .camera import DEFAULT_FOV, project_ndc
from .coefficients import FaceCoefficients
from .lighting import solve_lighting
from .morphable_model import MorphableModel
from .synthesis import Face, synthesise

LIGHT_RIDGE = 0.03
"""How firmly `light_from_photo` holds on to the light that it is given, in squared colour."""

DARKEST = 0.02  # albedo below it would ask for any light at all


def region_weights(model: MorphableModel) -> Float[Tensor, " vertex"]:
    """How much the photometric term trusts each vertex, 0 to 1: hair, eyes, mouth interior less."""
    r = model.regions
    return (
        (1 - 0.9 * r["border"])
        * (1 - 0.9 * r["mouth_interior"])
        * (1 - 0.6 * r["eyes"])
        * (1 - 0.5 * r["forehead"])
    )


def sample_photo_colours(
    face: Face, photo: Float[Tensor, "batch 3 height width"], valid: Tensor
) -> tuple[Float[Tensor, "batch vertex 3"], Float[Tensor, "batch vertex"]]:
    """The photo's colour at each vertex, and a weight: how squarely it faces the viewer, 0 hidden.

    Hidden is what looks away, lies outside the photo, or is behind another part of the face.
    """
    ndc = project_ndc(face.v_camera, face.fov_deg)
    grid = (ndc[..., :2] * ndc.new_tensor([-1.0, -1.0]))[:, None]  # +x left, +y up -> image axes
    sampled = F.grid_sample(torch.cat([photo, valid], 1), grid, align_corners=False)[:, :, 0]
    colours, inside = sampled[:, :3].transpose(1, 2), sampled[:, 3]
    depth, _ = face.render(photo.shape[-1], attributes=face.v_camera[..., 2:])
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
    fov_deg: float = DEFAULT_FOV,
) -> Float[Tensor, "batch 9 3"]:
    """The light under which this face has the photo's colours, near the light that it has already.

    Eq. 3 is linear in the light, so this is one small least-squares problem a photo: what an
    encoder, which never sees its own rendering, cannot know to the last shade. Skin that is seen
    counts, as in fitting; `ridge` keeps what the photo does not tell at coefficients.lighting.
    """
    face = synthesise(model, coefficients, fov_deg)
    colours, weight = sample_photo_colours(face, photo, valid)
    weight = weight * region_weights(model) * model.regions["skin"]
    albedo = face.albedo.clamp(DARKEST, 1)
    prior = coefficients.lighting
    return solve_lighting(albedo, face.normals, colours, weight, prior=prior, ridge=ridge)
