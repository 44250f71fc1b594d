"""Analysis by synthesis: the coefficients of a face in one photo, by gradient descent.

    result = fit(model, crop.image, crop.valid, crop.landmarks)
    result.coefficients, result.converged, result.losses

Pose first, from the 68 landmarks; then shape and expression, with the landmarks alone; then all
coefficients, with the photo, coarse to fine. The loss is the one that the encoder is trained with.
Notebook 05, section 2.1.
"""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float
from torch import Tensor

from ..face.batch import FaceBatch
from ..face.camera import CROP_SIZE, DEFAULT_FOV, axis_angle_to_matrix
from ..face.coefficients import FaceCoefficients
from ..face.lighting import LIGHT_LEVEL, ambient_lighting, solve_lighting
from ..face.measures import landmark_error
from ..face.morphable_model import MorphableModel
from ..face.shapes import expect
from ..networks.face_networks import FaceNetwork
from ..rendering.synthesis import synthesise
from .objective import BaseObjective
from .photo_light import region_weights, sample_photo_colours
from .pose_start import start_from_landmarks
from .weights import FIT_RECOGNITION_WEIGHTS, FIT_WEIGHTS, PRIORS

LEARNING_RATES = {
    **dict.fromkeys(("identity", "expression", "albedo"), 0.08),
    **dict(rotation=0.01, translation=1.0, log_scale=0.002, lighting=0.03),
}
LANDMARK_STAGE = ("identity", "expression", "rotation", "translation", "log_scale")
LANDMARK_TERMS = ("landmark", "identity", "expression", "action_range", "scale")
PHOTO_TERMS = ("pixel", "landmark", *PRIORS)

MAX_LANDMARK_ERROR = 0.08  # of the outer eye distance, over the inner 51 points
MAX_AWAY_DEG = 75.0  # between where the face looks and the viewer; roll does not count
MAX_IDENTITY_RMS = 2.5  # standard deviations
MAX_STILL_FALLING = 0.03  # share of the loss that the last fifth of the steps took off
MIN_COVERED = 0.08  # share of the crop


@dataclass(frozen=True)
class FitSettings:
    """Steps and sizes of each stage, and the weights of the losses."""

    landmark_steps: int = 150
    coarse_steps: int = 90
    coarse_size: int = 112
    fine_steps: int = 60
    weights: Mapping[str, float] = field(default_factory=lambda: FIT_WEIGHTS)
    fov_deg: float = DEFAULT_FOV


FROM_ENCODER = FitSettings(landmark_steps=0, coarse_steps=60, fine_steps=40)
"""For a start from the encoder: as near the landmarks of 13 photos in 60 % of the time."""


@dataclass
class FitResult:
    """Fitted coefficients, and `reasons` to distrust them, per photo."""

    coefficients: FaceCoefficients
    losses: list[dict[str, float]]  # each term unweighted
    reasons: list[list[str]]
    landmark_error: Float[Tensor, " batch"]  # all 68, as a share of the outer eye distance
    history: list[tuple[str, int, float]] = field(default_factory=list)  # stage, step, batch's loss
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def converged(self) -> list[bool]:
        return [not reasons for reasons in self.reasons]


def fit(
    model: MorphableModel,
    image: Float[Tensor, "batch 3 224 224"],
    valid: Float[Tensor, "batch 1 224 224"],
    landmarks: Float[Tensor, "batch 68 2"],
    *,
    kind: str = "2d",
    settings: FitSettings | None = None,
    coarse_model: MorphableModel | None = None,
    init: FaceCoefficients | None = None,
    recognition: FaceNetwork | None = None,
    progress: Callable[[str, int, int, float], None] | None = None,
) -> FitResult:
    """Fit every face of a batch.

    image, valid, landmarks, kind: as in `FaceBatch`. coarse_model: the same model on a coarser mesh
    for the coarse stage. init: start here instead of from the landmarks. recognition: adds Eq. 6 to
    the fine stage; its weight, if settings.weights has none, is that of FIT_RECOGNITION_WEIGHTS.
    progress: called as progress(stage, step, steps, loss). Raises ValueError when shapes do not fit
    or an input is not finite, FloatingPointError when the loss stops being a number.
    """
    s = settings or FitSettings()
    expect("image", image, f"batch 3 {CROP_SIZE} {CROP_SIZE}")
    batch = FaceBatch(image, valid, landmarks, kind, [""] * len(image))
    _check_finite(batch)
    weights = dict(s.weights)
    if recognition is not None:
        weights.setdefault("recognition", FIT_RECOGNITION_WEIGHTS[recognition.name])
    history, seconds, began = [], {}, time.perf_counter()

    def stage(name: str, steps: int, start: FaceCoefficients, terms, mesh, **options):
        def report(step: int, loss: float) -> None:
            history.append((name, step, loss))
            if progress is not None:
                progress(name, step + 1, steps, loss)

        stage_weights = {term: weights[term] for term in terms if term in weights}
        objective = BaseObjective(mesh, stage_weights, fov_deg=s.fov_deg, **options)
        names = LANDMARK_STAGE if name == "landmarks" else tuple(LEARNING_RATES)
        c = descend(objective, batch, start, names, steps, report)
        seconds[name] = time.perf_counter() - began - sum(seconds.values())
        return c

    if init is None:
        c = start_from_landmarks(model, landmarks, s.fov_deg)
        c = stage("landmarks", s.landmark_steps, c, LANDMARK_TERMS, model)
        c = _first_colours(model, c, batch, s.fov_deg)
    else:
        c = init.detach()
    c = stage("coarse", s.coarse_steps, c, PHOTO_TERMS, coarse_model or model, size=s.coarse_size)
    terms = PHOTO_TERMS if recognition is None else (*PHOTO_TERMS, "recognition")
    c = stage("fine", s.fine_steps, c, terms, model, recognition=recognition)

    result = judge(model, batch, c, fov_deg=s.fov_deg, recognition=recognition)
    result.history, result.seconds = history, seconds
    tail = [loss for name, _, loss in history if name == "fine"]
    falling = 1 - tail[-1] / tail[-max(len(tail) // 5, 1)] if len(tail) > 5 else 0.0
    if falling > MAX_STILL_FALLING:
        for reasons in result.reasons:
            reasons.append(f"the loss was still falling ({falling:.0%} in the last steps)")
    return result


def descend(
    objective: BaseObjective,
    batch: FaceBatch,
    start: FaceCoefficients,
    names: tuple[str, ...],
    steps: int,
    report: Callable[[int, float], None],
) -> FaceCoefficients:
    """Adam on the named coefficients; the LEARNING_RATES fall along a cosine to a tenth.

    report: called with each step and its loss. Raises FloatingPointError if that is not finite.
    """
    c = start.detach().clone()
    p = vars(c) | {"log_scale": c.scale.log()}
    groups = [{"params": [p[name].requires_grad_()], "lr": LEARNING_RATES[name]} for name in names]

    def cosine(step: int) -> float:
        return 0.1 + 0.45 * (1 + math.cos(math.pi * step / max(steps, 1)))

    adam = torch.optim.Adam(groups, betas=(0.9, 0.95), fused=True)
    decay = torch.optim.lr_scheduler.LambdaLR(adam, cosine)
    for step in range(steps):
        c.scale = p["log_scale"].exp()
        loss = objective(c, batch).loss
        if not torch.isfinite(loss):
            raise FloatingPointError(f"fitting: the loss is {loss.item()} at step {step}")
        adam.zero_grad(set_to_none=True)
        loss.backward()
        adam.step()
        decay.step()
        report(step, loss.item())
    c.scale = p["log_scale"].exp()
    return c.detach()


@torch.no_grad()
def judge(
    model: MorphableModel,
    batch: FaceBatch,
    coefficients: FaceCoefficients,
    fov_deg: float = DEFAULT_FOV,
    recognition: FaceNetwork | None = None,
) -> FitResult:
    """The losses of any coefficients, an encoder's too, and the reasons to distrust them.

    Nothing is optimised, so nothing can be "still falling". Errors as of `fit`.
    """
    _check_finite(batch)
    c = coefficients.detach()
    terms = PHOTO_TERMS if recognition is None else (*PHOTO_TERMS, "recognition")
    weights = dict.fromkeys(terms, 1.0)
    objective = BaseObjective(model, weights, recognition=recognition, fov_deg=fov_deg)
    result = objective(c, batch)
    values = {name: value.tolist() for name, value in result.per_face.items()}
    losses = [{name: values[name][b] for name in values} for b in range(len(batch))]
    points = objective.landmarks(c, batch.kind)
    facing = axis_angle_to_matrix(c.rotation)[:, 2, 2].clamp(-1, 1)  # cosine to the viewer
    measures = (
        landmark_error(points, batch.landmarks, points="inner"),
        torch.rad2deg(torch.arccos(facing)),
        c.identity.square().mean(1).sqrt(),
        (result.mask > 0).float().mean((1, 2, 3)),
    )
    reasons = [_reasons(*face) for face in torch.stack(measures, 1).tolist()]
    return FitResult(c, losses, reasons, landmark_error(points, batch.landmarks))


def _reasons(inner: float, away: float, rms: float, covered: float) -> list[str]:
    """Why one face is not to be trusted."""
    most, least = MAX_LANDMARK_ERROR, MIN_COVERED
    checks = (
        (inner > most, f"landmarks are {inner:.1%} of the outer eye distance off, over {most:.0%}"),
        (away > MAX_AWAY_DEG, f"the face looks {away:.0f} degrees away, over {MAX_AWAY_DEG:.0f}"),
        (rms > MAX_IDENTITY_RMS, f"the shape is {rms:.1f} standard deviations from the mean"),
        (covered < least, f"the face covers {covered:.0%} of the crop, under {least:.0%}"),
    )
    return [reason for doubtful, reason in checks if doubtful]


@torch.no_grad()
def _first_colours(
    model: MorphableModel, c: FaceCoefficients, batch: FaceBatch, fov_deg: float
) -> FaceCoefficients:
    """Skin from the photo under the prior's ambient light, then the light that fits the rest."""
    face = synthesise(model, c, fov_deg)
    colours, weight = sample_photo_colours(face, batch.image, batch.valid)
    weight = weight * region_weights(model) * model.regions["skin"]
    basis = model.albedo_basis.flatten(1)
    w = weight.repeat_interleave(3, 1)
    w = w / w.sum(1, keepdim=True).clamp(min=1)
    rows = basis * w[:, None]  # (batch, mode, vertex colour)
    difference = (colours / LIGHT_LEVEL - model.albedo_mean).flatten(1)
    ridge = 2e-4 * torch.eye(len(basis), device=basis.device)
    albedo = torch.linalg.solve(rows @ basis.T + ridge, (rows @ difference[..., None])[..., 0])
    prior = ambient_lighting(len(colours), LIGHT_LEVEL, device=colours.device)
    skin = model.albedo(albedo).clamp(0.02, 1)
    lighting = solve_lighting(skin, face.normals, colours, weight, prior=prior, ridge=3e-3)
    return replace(c, albedo=albedo, lighting=lighting)


def _check_finite(batch: FaceBatch) -> None:
    for name in ("image", "valid", "landmarks"):
        if not torch.isfinite(getattr(batch, name)).all():
            raise ValueError(f"{name}: expected finite numbers, got NaN or infinity")
