"""Eyes that turn: each eyeball about its own centre.

    vertices = turn_eyes(model, vertices, identity, gaze)        # gaze: (B, 2, 2), radians

A gaze is (eye, angle): the right eye, which the viewer sees on the left, then the left one; the yaw
to the viewer's right, then the pitch upwards. At zero both eyes look straight out of the face,
along +z. From there an eye turns without twisting (Listing's law). Lids do not follow: they are
facial actions. docs/CONVENTIONS.md.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from .morphable_model import MorphableModel
from .shapes import Vertices, expect

STIFF = 0.43  # of the angle from the front to the rim: what turns in full

Gaze = Float[Tensor, "batch 2 2"]


@dataclass(eq=False)
class Eyeball:
    """One eye of each face, at rest, in the model's frame, mm."""

    rows: Int[Tensor, " vertex"]  # of the model's vertices
    points: Float[Tensor, "batch vertex 3"]
    centre: Float[Tensor, "batch 3"]
    radius: Float[Tensor, " batch"]


def eyeballs(model: MorphableModel, identity: Float[Tensor, "batch identity"]) -> list[Eyeball]:
    """The right eye and the left, each the sphere of least squares; none where a model has none.

    |p|² = 2 p·c + r² - |c|², linear in c and r² - |c|².
    """
    expect("identity", identity, "batch identity", identity=model.sizes.identity)
    eyes = []
    for rows in model.eyeballs:
        basis = model.identity_basis[:, rows].flatten(1)
        points = model.mean[rows] + (identity @ basis).unflatten(1, (-1, 3))
        middle = points.mean(1, keepdim=True)
        away = points - middle
        system = torch.cat([2 * away, torch.ones_like(away[..., :1])], -1)
        squares = away.square().sum(-1, keepdim=True)
        solution = torch.linalg.solve(system.mT @ system, system.mT @ squares)[..., 0]
        centre, rest = solution[:, :3], solution[:, 3]
        radius = (rest + centre.square().sum(1)).sqrt()
        eyes.append(Eyeball(rows, points, middle[:, 0] + centre, radius))
    return eyes


def directions(gaze: Gaze) -> Float[Tensor, "batch 2 3"]:
    """Unit vectors in the model's frame."""
    yaw, pitch = gaze.unbind(-1)
    flat = pitch.cos()
    return torch.stack([flat * yaw.sin(), pitch.sin(), flat * yaw.cos()], -1)


def angles(directions: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 2"]:
    """Yaw and pitch, radians, of vectors of any length."""
    x, y, z = directions.unbind(-1)
    return torch.stack([torch.atan2(x, z), torch.atan2(y, torch.hypot(x, z))], -1)


def turn_eyes(
    model: MorphableModel,
    vertices: Vertices,
    identity: Float[Tensor, "batch identity"],
    gaze: Gaze,
) -> Vertices:
    """The vertices with eyeballs that look along `gaze`, whatever they did before.

    The front, with the iris, turns in full; behind it the sphere turns less and less, and its rim
    rests in the socket, so that no gap opens. A model without eyeballs stays as it is.
    """
    expect("gaze", gaze, "batch 2 2", batch=len(vertices))
    vertices = vertices.clone()
    for eye, towards in zip(eyeballs(model, identity), directions(gaze).unbind(1), strict=False):
        away = eye.points - eye.centre[:, None]
        from_front = torch.atan2(away[..., :2].norm(dim=-1), away[..., 2])
        rim = from_front.amax(1, keepdim=True)
        share = ((1 - from_front / rim) / (1 - STIFF)).clamp(max=1)
        x, y, z = towards.unbind(1)
        across = torch.hypot(x, y)
        angle = (share * torch.atan2(across, z)[:, None])[..., None]
        axis = torch.stack([-y, x, torch.zeros_like(x)], 1) / across[:, None].clamp(min=1e-9)
        axis = axis[:, None].expand_as(away)
        along = (away * axis).sum(-1, keepdim=True) * axis
        turned = (away - along) * angle.cos() + torch.linalg.cross(axis, away) * angle.sin()
        vertices[:, eye.rows] = eye.centre[:, None] + along + turned
    return vertices
