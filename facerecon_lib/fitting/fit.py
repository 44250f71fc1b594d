"""Analysis by synthesis: the coefficients of a face in one photo, by gradient descent.

    result = fit(model, crop.image, crop.valid, crop.landmarks)
    result.coefficients, result.converged, result.losses

Pose first, from the 68 landmarks; then shape and expression, with the landmarks alone; then all
coefficients, with the photo, coarse to fine. The loss is `objective.BaseObjective`, the one that
the encoder is trained with: Eq. 4 under a robust function, Eq. 5, our priors and, in the fine stage
if a face-recognition network is given, Eq. 6. Notebook 05, section 2.1.
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
from ..networks.face_networks import FaceNetwork
from ..rendering.synthesis import synthesise
from .objective import BaseObjective
from .photo_light import region_weights, sample_photo_colours
from .pose_start import start_from_landmarks
from .weights import FIT_RECOGNITION_WEIGHTS, FIT_WEIGHTS, PRIORS

LEARNING_RATES = {
    "identity": 0.08,
    "expression": 0.08,
    "albedo": 0.08,
    "rotation": 0.01,
    "translation": 1.0,
    "log_scale": 0.002,
    "lighting": 0.03,
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
"""For a start from the encoder: on 13 photos the inner landmarks end 1.69 % off; from the landmarks
they end 1.66 % off, in 1.7 times the time."""


@dataclass
class FitResult:
    """Fitted coefficients, and `reasons` to distrust them, per photo.

    losses: per photo, each term unweighted. history: of the whole batch.
    landmark_error: per photo, all 68 points, as a share of the outer eye distance.
    """

    coefficients: FaceCoefficients
    losses: list[dict[str, float]]
    history: list[tuple[str, int, float]]  # stage, step, weighted loss
    reasons: list[list[str]]
    seconds: dict[str, float]
    landmark_error: Float[Tensor, " batch"]

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

    image: aligned crops in [0, 1]; valid: 1 where the photo has pixels; landmarks: crop pixels.
    kind: "2d" or "3d", of the landmark detector. coarse_model: the same model on a coarser mesh
    for the coarse stage. init: start here instead of from the landmarks.
    recognition: adds Eq. 6 to the fine stage, weighted by settings.weights["recognition"] or, by
    default, by FIT_RECOGNITION_WEIGHTS of the network.
    progress: called as progress(stage, step, steps, loss).
    Raises ValueError when shapes do not fit or an input is not finite, FloatingPointError when the
    loss stops being a number.
    """
    settings = settings or FitSettings()
    batch = _batch(image, valid, landmarks, kind)
    weights = dict(settings.weights)
    if recognition is not None:
        weights.setdefault("recognition", FIT_RECOGNITION_WEIGHTS[recognition.name])
    history, seconds = [], {}

    def stage(name: str, steps: int, start: FaceCoefficients, terms, mesh, **options):
        def report(step: int, loss: float) -> None:
            history.append((name, step, loss))
            if progress is not None:
                progress(name, step + 1, steps, loss)

        weighed = {term: weights[term] for term in terms if term in weights}
        objective = BaseObjective(mesh, weighed, fov_deg=settings.fov_deg, **options)
        names = LANDMARK_STAGE if name == "landmarks" else tuple(LEARNING_RATES)
        return descend(objective, batch, start, names, steps, report)

    clock = time.perf_counter
    began = clock()
    if init is None:
        c = start_from_landmarks(model, landmarks, settings.fov_deg)
        c = stage("landmarks", settings.landmark_steps, c, LANDMARK_TERMS, model)
        c = _first_colours(model, c, batch, settings.fov_deg)
    else:
        c = init.detach()
    seconds["landmarks"] = clock() - began
    began, coarse = clock(), coarse_model or model
    c = stage("coarse", settings.coarse_steps, c, PHOTO_TERMS, coarse, size=settings.coarse_size)
    seconds["coarse"] = clock() - began
    began, terms = clock(), PHOTO_TERMS if recognition is None else (*PHOTO_TERMS, "recognition")
    c = stage("fine", settings.fine_steps, c, terms, model, recognition=recognition)
    seconds["fine"] = clock() - began

    result = judge(
        model, image, valid, landmarks, c, kind=kind, settings=settings, recognition=recognition
    )
    tail = [loss for name, _, loss in history if name == "fine"]
    falling = 1 - tail[-1] / tail[-max(len(tail) // 5, 1)] if len(tail) > 5 else 0.0
    if falling > MAX_STILL_FALLING:
        for reasons in result.reasons:
            reasons.append(f"the loss was still falling ({falling:.0%} in the last steps)")
    return replace(result, history=history, seconds=seconds)


def descend(
    objective: BaseObjective,
    batch: FaceBatch,
    start: FaceCoefficients,
    names: tuple[str, ...],
    steps: int,
    report: Callable[[int, float], None] = lambda step, loss: None,
) -> FaceCoefficients:
    """Adam on the named coefficients; the learning rates fall along a cosine to a tenth.

    names: of LEARNING_RATES; the scale is moved through its logarithm. report: called with each
    step and its loss. Raises FloatingPointError for a loss that is not finite.
    """
    p = {name: getattr(start, name) for name in LEARNING_RATES if name != "log_scale"}
    p["log_scale"] = start.scale.log()
    p = {name: value.detach().clone().requires_grad_(name in names) for name, value in p.items()}

    def coefficients() -> FaceCoefficients:
        groups = {name: value for name, value in p.items() if name != "log_scale"}
        return FaceCoefficients(scale=p["log_scale"].exp(), **groups)

    groups = [{"params": [p[name]], "lr": LEARNING_RATES[name]} for name in names]
    adam = torch.optim.Adam(groups, betas=(0.9, 0.95), fused=True)
    decay = torch.optim.lr_scheduler.LambdaLR(
        adam, lambda i: 0.1 + 0.45 * (1 + math.cos(math.pi * i / max(steps, 1)))
    )
    for step in range(steps):
        loss = objective(coefficients(), batch).loss
        if not torch.isfinite(loss):
            raise FloatingPointError(
                f"fitting: the loss is {loss.item()} at step {step}; "
                "are photo and landmarks finite?"
            )
        adam.zero_grad(set_to_none=True)
        loss.backward()
        adam.step()
        decay.step()
        report(step, loss.item())
    return coefficients().detach()


@torch.no_grad()
def judge(
    model: MorphableModel,
    image: Float[Tensor, "batch 3 224 224"],
    valid: Float[Tensor, "batch 1 224 224"],
    landmarks: Float[Tensor, "batch 68 2"],
    coefficients: FaceCoefficients,
    *,
    kind: str = "2d",
    settings: FitSettings | None = None,
    recognition: FaceNetwork | None = None,
    seconds: dict[str, float] | None = None,
) -> FitResult:
    """The losses of any coefficients, an encoder's too, and the reasons to distrust them.

    Arguments and errors as of `fit`; nothing is optimised, so nothing can be "still falling".
    """
    settings = settings or FitSettings()
    batch, c = _batch(image, valid, landmarks, kind), coefficients.detach()
    terms = PHOTO_TERMS if recognition is None else (*PHOTO_TERMS, "recognition")
    weights = dict.fromkeys(terms, 1.0)
    objective = BaseObjective(model, weights, "mean", recognition, fov_deg=settings.fov_deg)
    result = objective(c, batch)
    points = objective.landmarks(c, kind)
    inner = landmark_error(points, landmarks, points="inner").tolist()
    facing = axis_angle_to_matrix(c.rotation)[:, 2, 2].clamp(-1, 1)  # cosine to the viewer
    away = torch.rad2deg(torch.arccos(facing)).tolist()
    rms = c.identity.square().mean(1).sqrt().tolist()
    covered = (result.mask > 0).float().mean((1, 2, 3)).tolist()
    reasons = [_reasons(*numbers) for numbers in zip(inner, away, rms, covered, strict=True)]
    values = {name: value.tolist() for name, value in result.per_face.items()}
    losses = [{name: values[name][b] for name in values} for b in range(len(image))]
    error = landmark_error(points, landmarks)
    return FitResult(c, losses, [], reasons, seconds or {}, error)


def _reasons(inner: float, away: float, rms: float, covered: float) -> list[str]:
    """Why one face is not to be trusted."""
    reasons = []
    if inner > MAX_LANDMARK_ERROR:
        reasons.append(
            f"landmarks are {inner:.1%} of the outer eye distance off, "
            f"over {MAX_LANDMARK_ERROR:.0%}"
        )
    if away > MAX_AWAY_DEG:
        reasons.append(f"the face looks {away:.0f} degrees away, over {MAX_AWAY_DEG:.0f}")
    if rms > MAX_IDENTITY_RMS:
        reasons.append(f"the shape is {rms:.1f} standard deviations from the mean")
    if covered < MIN_COVERED:
        reasons.append(f"the face covers {covered:.0%} of the crop, under {MIN_COVERED:.0%}")
    return reasons


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


def _batch(image: Tensor, valid: Tensor, landmarks: Tensor, kind: str) -> FaceBatch:
    """The inputs, checked. Raises ValueError."""
    shape = (len(image), 3, CROP_SIZE, CROP_SIZE)
    if tuple(image.shape) != shape:
        raise ValueError(f"image: expected shape {shape}, got {tuple(image.shape)}")
    for name, value in (("image", image), ("valid", valid), ("landmarks", landmarks)):
        if not torch.isfinite(value).all():
            raise ValueError(f"{name}: expected finite numbers, got NaN or infinity")
    return FaceBatch(image, valid, landmarks, kind, [""] * len(image))
