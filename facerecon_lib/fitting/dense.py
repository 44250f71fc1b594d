"""Pose, facial actions and lids from 478 points: Gauss-Newton on a linear model.

    coefficients = fit_points(model, points, start)      # (B, 478, 2) crop pixels; some 20 ms

The face that is likeliest given the points and `start`, whose identity and actions are the means
of the priors. Points tell where a face is, how it is turned and what it does; of who it is they
tell little, since a detector's errors are as smooth as identities are. So their errors' covariance,
measured on renders, stands in the likelihood (`DensePoints`). Notebook 05, section 2.1.
"""

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from ..face.camera import (
    CROP_SIZE,
    DEFAULT_FOV,
    MODEL_TO_CAMERA,
    axis_angle_to_matrix,
    matrix_to_axis_angle,
)
from ..face.coefficients import FaceCoefficients
from ..face.dense_points import OUTER_EYES, DensePoints
from ..face.morphable_model import MorphableModel
from ..face.shapes import expect

HUBER = 2.0  # of the noise: beyond, a point counts by its distance, not its square
PRIOR = None
FACING = None
HELD = 1e6  # the weight of an action that a bound holds
CHUNK = 16  # faces at once: the Jacobians of more leave the cache


@dataclass(frozen=True)
class DenseSettings:
    """Standard deviations of the priors, and how much the points count."""

    rounds: int = 5
    evidence: float = 0.3  # of the points' likelihood: renders are kinder to detectors than photos
    identity: float = 0.35  # standard deviations around the start's
    action: float = 0.35  # around the start's; 0 is rest, 1 the full action
    rotation: float = 0.3  # radians
    translation: float = 60.0  # mm
    relief: tuple[float, float] = (0.6, 0.3)  # mean and s.d. of the depth that a lens leaves
    fov_deg: float = DEFAULT_FOV


def fit_points(
    model: MorphableModel,
    points: Float[Tensor, "batch 478 2"],
    start: FaceCoefficients,
    settings: DenseSettings | None = None,
) -> FaceCoefficients:
    """Identity, expression, rotation and translation moved to the points; the rest is start's.

    points: in pixels of the crop. Raises ValueError for a model without `dense` points.
    """
    s = settings or DenseSettings()
    if model.dense is None:
        raise ValueError(
            f"{model.metadata.get('file', 'the model')}: not bound to the dense points; "
            "run data_scripts/bind_face_mesh.py on it"
        )
    expect("points", points, "batch 478 2", batch=len(start))
    parts = zip(points.split(CHUNK), torch.arange(len(start)).split(CHUNK), strict=True)
    return FaceCoefficients.cat([_fit(model, part, start[rows], s) for part, rows in parts])


@torch.no_grad()
def _fit(
    model: MorphableModel, points: Tensor, start: FaceCoefficients, s: DenseSettings
) -> FaceCoefficients:
    dense = model.dense
    mean, identities, actions, bounded = _bound_basis(model)
    ki, ka = len(identities), len(actions)
    basis = torch.cat([identities, actions])
    known = start.expression if not bounded else model.actions(start.expression).clamp(0, 1)
    relief = x_like(start, s.relief[0])
    x0 = torch.cat([start.identity, known, start.translation, relief], 1)
    x, turn = x0, axis_angle_to_matrix(start.rotation)
    turn0, held = turn, torch.zeros_like(x[:, ki : ki + ka])
    sd = x.new_tensor([s.identity] * ki + [s.action] * ka + [s.translation] * 3 + [s.relief[1]] + [s.rotation] * 3)
    prior = torch.diag(sd**-2) if PRIOR is None else PRIOR(sd)
    upright = _upright(points)
    axes = start.scale[:, :, None] * MODEL_TO_CAMERA.to(mean)
    focal = CROP_SIZE / 2 / math.tan(math.radians(s.fov_deg) / 2)

    def place() -> tuple[Tensor, Tensor]:
        local = mean + torch.einsum("bk,kpi->bpi", x[:, : ki + ka], basis)
        turned = local @ turn.mT
        return turned, turned @ axes.mT

    for _ in range(s.rounds):
        turned, camera = place()
        move, keep = x[:, None, ki + ka : -1], x[:, None, -1:]
        deep = camera[..., 2:]
        camera = torch.cat([camera[..., :2], keep * deep], -1) + move
        depth = camera[..., 2:]
        error = upright(points - (CROP_SIZE / 2 - focal * camera[..., :2] / depth))
        # d pixel / d camera, then camera / unknowns: bases turned, translation, rotation
        to_pixel = torch.cat([torch.eye(2).to(x).expand(*depth.shape[:2], 2, 2),
                              -(camera[..., :2] / depth)[..., None]], -1) * (-focal / depth)[..., None]  # fmt: skip
        to_pixel = upright(to_pixel.transpose(-1, -2)).transpose(-1, -2)
        of_move = to_pixel.permute(0, 3, 1, 2)
        of_keep = of_move[:, 2:] * deep[:, None]
        to_pixel = torch.cat([to_pixel[..., :2], to_pixel[..., 2:] * keep[..., None]], -1)
        by_model = to_pixel @ axes[:, None]  # (b, p, 2, 3): of turned points
        of_basis = torch.einsum("bpci,bij,kpj->bkpc", by_model, turn, basis)
        swing = torch.linalg.cross(
            torch.eye(3).to(x)[:, None, None], turned[None], dim=-1
        )  # (3, b, p, 3)
        of_turn = torch.einsum("bpci,kbpi->bkpc", by_model, swing)
        rows = torch.cat([of_basis, of_move, of_keep, of_turn], 1)  # (b, unknown, p, 2)
        away = error.norm(dim=-1) / dense.noise
        weight = (HUBER / away.clamp(min=1e-6)).clamp(max=1) / dense.noise**2
        if FACING is not None:
            weight = weight * FACING(turn, weight)
        normal, right = _information(rows, error, weight, dense.modes, s.evidence)
        swung = matrix_to_axis_angle(turn @ turn0.mT)
        offset = torch.cat([x - x0, swung], 1)
        right = right - offset @ prior
        normal = normal + prior
        if bounded:
            acts, pull = x[:, ki : ki + ka], right[:, ki : ki + ka]
            held = ((acts <= 0) & (pull < 0)) | ((acts >= 1) & (pull > 0))
            stop = torch.zeros_like(right)
            stop[:, ki : ki + ka] = HELD * held
            normal = normal + torch.diag_embed(stop)
        step = torch.linalg.solve(normal, right)
        x = x + step[:, :-3]
        if bounded:
            acts = x[:, ki : ki + ka].clamp(0, 1)
            x = torch.cat([x[:, :ki], acts, x[:, ki + ka :]], 1)
        turn = axis_angle_to_matrix(step[:, -3:]) @ turn
    expression = x[:, ki : ki + ka]
    return replace(
        start,
        identity=x[:, :ki],
        expression=expression @ model.control_matrix if bounded else expression,
        rotation=matrix_to_axis_angle(turn),
        translation=x[:, ki + ka : -1],
    )


def x_like(start, value):
    return torch.full_like(start.scale, value)


def _bound_basis(model: MorphableModel) -> tuple[Tensor, Tensor, Tensor, bool]:
    """(points, identities, actions) of the bound points, mm, and whether actions have names."""
    dense: DensePoints = model.dense
    mean = model.mean[dense.vertices] + dense.offsets
    identities = model.identity_basis[:, dense.vertices]
    actions, bounded = model.expression_basis[:, dense.vertices], not model.unnamed_modes.any()
    if bounded:
        actions = torch.einsum("ak,kpi->api", model.control_matrix, actions)
    return mean, identities, actions, bool(bounded)


def _upright(points: Float[Tensor, "batch 478 2"]):
    """A map of pixels to units of the outer eye distance, along it and across."""
    along = points[:, OUTER_EYES[1]] - points[:, OUTER_EYES[0]]
    size = along.norm(dim=-1, keepdim=True)
    c, d = (along / size**2).unbind(1)
    frame = torch.stack([torch.stack([c, d], 1), torch.stack([-d, c], 1)], 1)

    def apply(vectors: Tensor) -> Tensor:
        return torch.einsum("bij,b...j->b...i", frame, vectors)

    return apply


def _information(
    rows: Tensor, error: Tensor, weight: Tensor, modes: Tensor, evidence: float
) -> tuple[Tensor, Tensor]:
    """J' S J and J' S e, for S the inverse of the noise's covariance diag(1 / weight) + M' M."""
    root = weight.sqrt()[..., None]
    j, e = (rows * root[:, None]).flatten(2), (error * root).flatten(1)
    m = (modes * root[:, None]).flatten(2)
    inner = torch.linalg.cholesky(m @ m.mT + torch.eye(m.shape[1]).to(m))
    both = torch.cat([j, e[:, None]], 1)
    shared = torch.linalg.solve_triangular(inner, m @ both.mT, upper=False)
    normal = j @ both.mT - shared[..., :-1].mT @ shared
    return evidence * normal[..., :-1], evidence * normal[..., -1]
