"""Pose, expression and lids from 478 points: Gauss-Newton on a linear model, in milliseconds.

    coefficients = fit_points(model, points, start)      # points: (B, 478, 2), crop pixels

The likeliest face given the points and `start`, about which the priors lie: the encoder's answer.
Points tell where a face is, how it is turned and what it does. Of who it is they tell little, since
a detector errs by as much as people differ, and as smoothly: so the identity hardly moves.
tests/benchmarks/people.py compares. Notebook 05, section 2.1.
"""

import math
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
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
from ..face.dense_points import OUTER_EYES
from ..face.mesh import vertex_normals
from ..face.morphable_model import MorphableModel
from ..face.shapes import expect

HUBER = 2.0  # of the noise: a point further off counts by its distance, not its square
FACING, HIDDEN = 0.3, 0.02  # a point counts in full from this cosine to the viewer on, and at least
RIGHT_LIDS = (159, 145), (158, 153), (160, 144), (157, 154)
LEFT_LIDS = (386, 374), (385, 380), (387, 373), (384, 381)
LIPS = (13, 14), (82, 87), (312, 317), (81, 178), (311, 402)
GAPS = torch.tensor(RIGHT_LIDS + LEFT_LIDS + LIPS).T
"""Points of the upper and lower rim: how far an eye or the mouth is open, wherever it lies."""
SMOOTH = 20.0  # mm about a point in which the skin's normals are averaged
ACTION_SD = 0.26  # root mean square of a named action, as faces are drawn; of other modes, 1
HELD = 1e6  # 1 / variance of what is held
CHUNK = 16  # faces at once


@dataclass(frozen=True)
class DenseSettings:
    """How much the points count, and the priors' standard deviations around the start.

    identity, expression: as shares of the model's own. expression_mm: root mean square over the
    points of how far an expression moves them. The encoder was taught in millimetres: it knows an
    action the better, the more skin that moves.
    """

    evidence: float = 0.1  # of the points' likelihood: neighbours err alike
    gaps: float = 1.0  # of the likelihood of GAPS
    gap_noise: float = 0.015  # s.d. of a gap, as a share of the outer eye distance
    identity: float = 0.02  # both as far as the encoder is off
    expression: float = 0.77
    expression_mm: float = 0.2
    rotation: float = 0.1  # radians
    translation: float = 60.0  # mm
    relief: tuple[float, float] = (0.6, 0.3)  # mean, s.d.: what the photo's lens leaves of depth
    rounds: int = 4  # of all unknowns, then as many of the pose
    fov_deg: float = DEFAULT_FOV


FROM_MEAN = DenseSettings(
    gaps=0.3, identity=1.0, expression=1.0, expression_mm=math.inf, rotation=1.0
)
"""For a start from the mean face."""


def fit_points(
    model: MorphableModel,
    points: Float[Tensor, "batch 478 2"],
    start: FaceCoefficients,
    settings: DenseSettings | None = None,
) -> FaceCoefficients:
    """Identity, expression, rotation and translation moved to the points; the rest is start's.

    points: in pixels of the crop. Actions stay in [0, 1]. The lens that took the photo is unknown:
    all is fitted with the relief that it leaves, then the pose again with the crop's own camera.
    Raises ValueError for points of another shape and for a model without `dense` points.
    """
    if model.dense is None:
        name = model.metadata.get("file", "the model")
        todo = "run data_scripts/bind_face_mesh.py on its file"
        raise ValueError(f"{name}: is not bound to the 478 points; {todo}")
    expect("points", points, "batch 478 2", batch=len(start))
    s, linear = settings or DenseSettings(), _Linear(model)
    pieces = range(0, len(start), CHUNK)
    parts = [(points[i : i + CHUNK], start[i : i + CHUNK]) for i in pieces]
    return FaceCoefficients.cat([_fit(model, linear, *part, s) for part in parts])


class _Linear:
    """The bound points as a linear function of identity and actions."""

    def __init__(self, model: MorphableModel):
        at = model.dense.vertices
        self.mean = model.mean[at] + model.dense.offsets  # mm
        near = (torch.cdist(self.mean, self.mean) < SMOOTH).float()  # a rim of a lid faces away
        self.normals = F.normalize(
            near @ vertex_normals(model.mean[None], model.faces)[0, at], dim=1
        )
        loose = torch.eye(model.sizes.expression).to(self.mean)[model.unnamed_modes > 0]
        self.moves = torch.cat([model.control_matrix, loose])  # actions, and modes of no action
        action, mode = (self.mean.new_ones(len(x)) for x in (model.controls, loose))
        self.low = torch.cat([0 * action, -math.inf * mode])
        self.high = torch.cat([action, math.inf * mode])
        self.sd = torch.cat([ACTION_SD * action, mode])
        moves = torch.einsum("ae,epi->api", self.moves, model.expression_basis[:, at])
        self.squares = moves.flatten(1) @ moves.flatten(1).T / len(at)  # mm²
        self.basis = torch.cat([model.identity_basis[:, at], moves])  # (unknown, 478, 3)
        self.acts = slice(model.sizes.identity, len(self.basis))


@torch.no_grad()
def _fit(
    model: MorphableModel,
    linear: _Linear,
    points: Float[Tensor, "batch 478 2"],
    start: FaceCoefficients,
    s: DenseSettings,
) -> FaceCoefficients:
    acts, shape = linear.acts, len(linear.basis)
    moves = start.expression @ torch.linalg.pinv(linear.moves.double()).to(start.expression)
    moves = moves.clamp(linear.low, linear.high)
    relief = torch.full_like(start.scale, s.relief[0])
    x = torch.cat([start.identity, moves, start.translation, relief], 1)  # and the rotation
    turn = axis_angle_to_matrix(start.rotation)
    pose = [s.translation] * 3 + [s.relief[1]] + [s.rotation] * 3
    shape_sd = x.new_full((acts.start,), s.identity), s.expression * linear.sd
    sd = torch.cat([*shape_sd, x.new_tensor(pose)])
    unit = (points[:, OUTER_EYES[1]] - points[:, OUTER_EYES[0]]).norm(dim=-1)
    noise = model.dense.noise * unit[:, None]  # pixels

    def descend(x: Tensor, turn: Tensor, precision: Tensor) -> tuple[Tensor, Tensor]:
        x0, turn0 = x, turn
        for _ in range(s.rounds):
            pixels, rows = _project(linear, x, turn, start.scale, s.fov_deg)
            error, facing = points - pixels, (linear.normals @ turn.mT)[..., 2]
            seen = (facing / FACING).clamp(HIDDEN, 1)
            trust = (HUBER * noise / error.norm(dim=-1).clamp(min=1e-6)).clamp(max=1)
            trust = s.evidence * trust * seen / noise.square()
            of_gap = s.gaps * seen[:, GAPS].prod(1) / (s.gap_noise * unit[:, None]).square()
            error, rows, trust = _with_gaps(error), _with_gaps(rows), torch.cat([trust, of_gap], 1)
            weighted = (rows * trust[:, None, :, None]).flatten(2)
            away = torch.cat([x - x0, matrix_to_axis_angle(turn @ turn0.mT)], 1)
            pull = (weighted @ error.flatten(1)[..., None])[..., 0] - away @ precision
            held = torch.zeros_like(pull)
            a, p = x[:, acts], pull[:, acts]
            held[:, acts] = HELD * (((a <= linear.low) & (p < 0)) | ((a >= linear.high) & (p > 0)))
            normal = weighted @ rows.flatten(2).mT + precision + torch.diag_embed(held)
            step = torch.linalg.solve(normal, pull)
            x = x + step[:, :-3]
            x[:, acts] = x[:, acts].clamp(linear.low, linear.high)
            turn = axis_angle_to_matrix(step[:, -3:]) @ turn
        return x, turn

    precision = sd.pow(-2).diag()
    precision[acts, acts] += linear.squares / s.expression_mm**2
    x, turn = descend(x, turn, precision)
    x = torch.cat([x[:, :-1], torch.ones_like(relief)], 1)  # as the crop's camera sees it
    firm = torch.full_like(sd, HELD)
    firm[shape : shape + 3] = firm[-3:] = 0
    x, turn = descend(x, turn, firm.diag())
    return replace(
        start,
        identity=x[:, : acts.start],
        expression=x[:, acts] @ linear.moves,
        rotation=matrix_to_axis_angle(turn),
        translation=x[:, shape:-1],
    )


def _project(
    linear: _Linear, x: Tensor, turn: Tensor, scale: Tensor, fov_deg: float
) -> tuple[Float[Tensor, "batch 478 2"], Float[Tensor, "batch unknown 478 2"]]:
    """The points in crop pixels, and their derivatives: by shape, translation, relief, rotation."""
    shape = len(linear.basis)
    relief, axes = x[:, -1:], scale[..., None] * MODEL_TO_CAMERA.to(x)
    turned = (linear.mean + torch.einsum("bk,kpi->bpi", x[:, :shape], linear.basis)) @ turn.mT
    flat, deep = (turned @ axes.mT).split([2, 1], -1)  # mm, about the translation
    flat, depth = flat + x[:, None, shape:-2], deep * relief[:, None] + x[:, None, -2:-1]
    focal = CROP_SIZE / 2 / math.tan(math.radians(fov_deg) / 2)
    ratio, zero = flat / depth, torch.zeros_like(depth)
    one = zero + 1
    columns = [torch.cat(c, -1) for c in ((one, zero), (zero, one))]
    of_move = torch.stack([*columns, -ratio], 1) * (-focal / depth)[:, None]  # (b, 3, p, 2)
    of_camera = torch.cat([of_move[:, :2], of_move[:, 2:] * relief[:, :, None, None]], 1)
    of_turned = torch.einsum("bcpx,bci->bpix", of_camera, axes)
    of_shape = torch.einsum("bpix,bij,kpj->bkpx", of_turned, turn, linear.basis)
    swing = torch.linalg.cross(torch.eye(3).to(x)[:, None, None], turned[None], dim=-1)
    of_turn = torch.einsum("bpix,kbpi->bkpx", of_turned, swing)
    of_relief = of_move[:, 2:] * deep[:, None]
    rows = torch.cat([of_shape, of_move, of_relief, of_turn], 1)
    return CROP_SIZE / 2 - focal * ratio, rows


def _with_gaps(values: Float[Tensor, "*batch 478 2"]) -> Float[Tensor, "*batch row 2"]:
    """Of the points, then of each upper point less the lower one."""
    return torch.cat([values, values[..., GAPS[0], :] - values[..., GAPS[1], :]], -2)
