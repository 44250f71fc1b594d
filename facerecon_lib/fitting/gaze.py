"""Where the eyes look, from the irises among the 478 points.

    sight = find_gaze(model, coefficients, points)       # points: (B, 478, 2), crop pixels
    coefficients = replace(coefficients, gaze=sight.turns)

The ray through an iris's middle meets the fitted face's eyeball, a sphere: there lies the model's
iris once the eye is turned by `turns`. The gaze in degrees is not quite that, since the fit moves
eyeballs along with irises, and both eyes of a person look nearly the same way while a detector errs
on each. tests/benchmarks/gaze.py shows what that brings. docs/PERFORMANCE.md.
"""

import math
from dataclasses import dataclass
from typing import Self

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from ..face.camera import DEFAULT_FOV, MODEL_TO_CAMERA, axis_angle_to_matrix, pixels_to_ndc
from ..face.coefficients import FaceCoefficients
from ..face.gaze import Gaze, angles, eyeballs
from ..face.morphable_model import MorphableModel
from ..face.shapes import expect
from .dense import LEFT_LIDS, RIGHT_LIDS

IRISES = 468, 473  # their middles
CORNERS = (33, 133), (362, 263)  # of the eyes
GAIN = 1.3, 0.6  # of yaw and pitch; renders ask for 1.3 and 0.25, but hide pitch from detectors
DIVERGENCE = math.radians(2.0)  # of irises outwards: people look along a line nasal of the pupil's
OWN = 0.15  # of what an eye's gaze differs from the mean of both
CLOSED = 0.12, 0.16  # shares of its width: an eye open by less, as seen or as fitted, has no iris
AWAY = 0.2  # nor does one that faces the viewer by less than this cosine


@dataclass(eq=False)
class Sight:
    """Where the eyes of each face look; all angles as in `face.gaze`.

    An eye that shows no iris looks where the other one does; where none does, both look straight
    ahead.
    """

    turns: Gaze  # of the model's eyes: puts irises where the photo's are; one pitch for both
    gaze: Gaze  # where the person looks
    seen: Bool[Tensor, "batch 2"]  # whether the eye's own iris tells

    def __getitem__(self, part: slice) -> Self:
        """Some faces of the batch."""
        return type(self)(self.turns[part], self.gaze[part], self.seen[part])


@torch.no_grad()
def find_gaze(
    model: MorphableModel,
    coefficients: FaceCoefficients,
    points: Float[Tensor, "batch 478 2"],
    fov_deg: float = DEFAULT_FOV,
) -> Sight | None:
    """Of fitted faces; None for a model without eyeballs. points: in pixels of the crop."""
    c = coefficients
    expect("points", points, "batch 478 2", batch=len(c))
    eyes = eyeballs(model, c.identity)
    if not eyes:
        return None
    to_model = MODEL_TO_CAMERA.to(points) @ axis_angle_to_matrix(c.rotation)  # rows times this
    viewer = -(c.translation / c.scale)[:, None] @ to_model
    focal = 1 / math.tan(math.radians(fov_deg) / 2)
    irises = pixels_to_ndc(points[:, IRISES]) / focal
    rays = F.normalize(F.pad(irises, (0, 1), value=1.0), dim=-1) @ to_model
    centres = torch.stack([eye.centre for eye in eyes], 1)
    radii = torch.stack([eye.radius for eye in eyes], 1)
    away = viewer - centres
    along = (away * rays).sum(-1)
    inside = along.square() - away.square().sum(-1) + radii.square()
    # a ray beside the sphere: where it comes nearest
    turns = angles(away - (along + inside.clamp(min=0).sqrt())[..., None] * rays)
    outwards = turns.new_tensor([[-DIVERGENCE, 0.0], [DIVERGENCE, 0.0]])
    facing = F.normalize(away, dim=-1)[..., 2]
    seen = (_openings(points) > CLOSED[0]) & (facing > AWAY)
    if model.dense is not None:
        bound = model.shape(c.identity, c.expression)[:, model.dense.vertices] + model.dense.offsets
        seen &= _openings(bound) > CLOSED[1]
    gaze = _shared((turns - outwards) * turns.new_tensor(GAIN), seen)
    middle = gaze.mean(1, keepdim=True)
    turns = _shared(turns, seen)
    turns[..., 1] = turns[..., 1].mean(1, keepdim=True)
    return Sight(turns, middle + OWN * (gaze - middle), seen)


def _openings(points: Float[Tensor, "batch 478 coordinate"]) -> Float[Tensor, "batch 2"]:
    """How far each eye is open, as a share of its width."""
    shares = []
    for lids, (inner, outer) in zip((RIGHT_LIDS, LEFT_LIDS), CORNERS, strict=True):
        upper, lower = torch.tensor(lids).T
        gap = (points[:, upper] - points[:, lower]).norm(dim=-1).amax(1)
        shares.append(gap / (points[:, inner] - points[:, outer]).norm(dim=-1).clamp(min=1e-6))
    return torch.stack(shares, 1)


def _shared(gaze: Gaze, seen: Bool[Tensor, "batch 2"]) -> Gaze:
    """Each eye's own where that is seen, else the other's, else zero."""
    other = torch.where(seen.flip(1)[..., None], gaze.flip(1), 0.0)
    return torch.where(seen[..., None], gaze, other)
