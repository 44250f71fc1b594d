"""Analysis by synthesis: the coefficients of a face in one photo, by gradient descent.

    found = fit(model, crop.image, crop.valid, crop.landmarks)
    found.coefficients, found.converged, found.losses

Pose first, from the 68 landmarks; then shape and expression with the landmarks alone; then all
coefficients with the photo, coarse to fine (Eq. 4 under a robust function, Eq. 5, and the priors of
`losses.py`; in the fine stage Eq. 6 as well, where a face-recognition network is given). Region
weights keep hair, the inside of the mouth and the eyes from bending the shape.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ..face.camera import CROP_SIZE, DEFAULT_FOV, axis_angle_to_matrix, pose
from ..face.coefficients import FaceCoefficients
from ..face.landmarks68 import JAW
from ..face.lighting import LIGHT_LEVEL, ambient_lighting, solve_lighting
from ..face.measures import landmark_error
from ..face.morphable_model import MorphableModel
from ..networks.recognition import FaceNetwork, face_features
from ..rendering.synthesis import Face, project_landmarks, synthesise
from . import losses
from .photo_light import region_weights, sample_photo_colours
from .pose_start import start_from_landmarks
from .weights import FIT_RECOGNITION_WEIGHTS, FIT_WEIGHTS, JAW_WEIGHT, PRIORS

LEARNING_RATES = {
    "identity": 0.08,
    "expression": 0.08,
    "albedo": 0.08,
    "rotation": 0.01,
    "translation": 1.0,
    "log_scale": 0.002,
    "lighting": 0.03,
}
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
    pixel_sigma: float = 0.12
    fov_deg: float = DEFAULT_FOV


FROM_ENCODER = FitSettings(landmark_steps=0, coarse_steps=60, fine_steps=40)
"""Where fitting starts from the encoder: on 13 photos inner landmarks end 1.69 % off, and 1.66 %
where it starts from landmarks, which takes 1.7 times as long."""


@dataclass
class FitResult:
    """What fitting found, and whether it is to be trusted: `reasons` says why not, per photo.

    losses: per photo, each term unweighted, of the coefficients found. history: of the whole batch.
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
        return [not r for r in self.reasons]


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
    recognition: adds Eq. 6 to the fine stage, weighted by settings.weights["recognition"] or, where
    that is not given, by FIT_RECOGNITION_WEIGHTS of the network.
    progress: called as progress(stage, step, steps, loss).
    Raises ValueError when shapes do not fit or an input is not finite, FloatingPointError when the
    loss stops being a number.
    """
    settings = settings or FitSettings()
    _check(image, valid, landmarks)
    run = _Run(model, image, valid, landmarks, kind, settings, recognition, progress)
    clock = time.perf_counter
    start = clock()
    if init is None:
        run.set(start_from_landmarks(model, landmarks, settings.fov_deg))
        run.optimise("landmarks", settings.landmark_steps, run.landmark_terms, LANDMARK_STAGE)
        run.start_colours()
    else:
        run.set(init.detach())
    seconds = {"landmarks": clock() - start}
    for stage, steps, size in (
        ("coarse", settings.coarse_steps, settings.coarse_size),
        ("fine", settings.fine_steps, CROP_SIZE),
    ):
        start = clock()
        run.use(coarse_model if stage == "coarse" and coarse_model is not None else model, size)
        run.optimise(stage, steps, run.photo_terms, tuple(LEARNING_RATES))
        seconds[stage] = clock() - start
    return run.result(seconds)


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
    """Coefficients that were not fitted, the encoder's, under the losses and the rules of `fit`.

    Arguments and errors as there; nothing is optimised, so nothing can be "still falling".
    """
    settings = settings or FitSettings()
    _check(image, valid, landmarks)
    run = _Run(model, image, valid, landmarks, kind, settings, recognition, None)
    run.set(coefficients.detach())
    return run.result(seconds or {})


LANDMARK_STAGE = ("identity", "expression", "rotation", "translation", "log_scale")


class _Run:
    """The state of one fit: the parameters being optimised and the photo they are compared to."""

    def __init__(self, model, image, valid, landmarks, kind, settings, recognition, progress):
        self.settings, self.kind, self.progress = settings, kind, progress
        self.recognition = recognition
        self.photo, self.valid, self.target = image, valid, landmarks
        self.point_weights = torch.ones(68, device=image.device)
        if kind == "2d":
            self.point_weights[JAW] = JAW_WEIGHT
        self.history: list[tuple[str, int, float]] = []
        self.stage_losses: list[float] = []
        self.landmark_model = model.landmark_model()
        self.use(model, CROP_SIZE)

    def use(self, model: MorphableModel, size: int) -> None:
        self.model, self.size = model, size
        self.vertex_weights = region_weights(model)
        scaled = dict(size=(size, size), mode="area")
        full = size == CROP_SIZE
        self.small_photo = self.photo if full else F.interpolate(self.photo, **scaled)
        self.small_valid = self.valid if full else F.interpolate(self.valid, **scaled)

    def set(self, c: FaceCoefficients) -> None:
        self.p = {
            name: getattr(c, name).detach().clone()
            for name in LEARNING_RATES
            if name != "log_scale"
        }
        self.p["log_scale"] = c.scale.detach().log()

    def coefficients(self) -> FaceCoefficients:
        p = dict(self.p)
        return FaceCoefficients(scale=p.pop("log_scale").exp(), **p)

    def prior_terms(self, c: FaceCoefficients) -> dict[str, Tensor]:
        return {
            "identity": losses.coefficient_prior(c.identity),
            "expression": losses.coefficient_prior(c.expression),
            "action_range": losses.action_range_prior(self.model.actions(c.expression)),
            "scale": losses.scale_prior(c.scale),
        }

    def landmark_terms(self) -> dict[str, Tensor]:
        c, few = self.coefficients(), self.landmark_model
        vertices = few.shape(c.identity, c.expression)
        v_camera = pose(vertices, c.rotation, c.scale, c.translation)
        points = project_landmarks(few, v_camera, c.rotation, self.kind, self.settings.fov_deg)
        landmark = losses.landmark_loss(points, self.target, self.point_weights)
        return {"landmark": landmark} | self.prior_terms(c)

    def photo_terms(self) -> dict[str, Tensor]:
        c = self.coefficients()
        face = synthesise(self.model, c, self.settings.fov_deg)
        points = face.landmarks(self.kind)
        rendered, weight, mask = self.rendered(face)
        pixel = losses.robust_pixel_loss(
            rendered, self.small_photo, weight, self.settings.pixel_sigma
        )
        return {
            "pixel": pixel,
            "landmark": losses.landmark_loss(points, self.target, self.point_weights),
            **self.recognition_term(rendered, mask),
            "albedo": losses.coefficient_prior(c.albedo),
            **self.prior_terms(c),
            **losses.light_priors(c.lighting),
        }

    def recognition_term(self, rendered: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """Eq. 6, at the crop's full size alone: a smaller picture says little about who it is."""
        if self.recognition is None or self.size != CROP_SIZE:
            return {}
        photo, features = (
            face_features(self.recognition, image, self.target, mask)
            for image in (self.photo, rendered)
        )
        return {"recognition": losses.recognition_loss(features, photo)}

    def rendered(self, face: Face) -> tuple[Tensor, Tensor, Tensor]:
        """The lit face, how much each of its pixels counts, and where it covers the photo."""
        weights = self.vertex_weights[None, :, None].expand(len(face.colours), -1, 1)
        shown = torch.cat([face.colours, weights], -1)
        image, mask = face.render(self.size, attributes=shown)
        mask = mask * self.small_valid
        return image[:, :3], image[:, 3:] * mask, mask

    def weights(self) -> dict[str, float]:
        """Those of the settings; a prior that they do not name counts for nothing."""
        weights = dict.fromkeys(PRIORS, 0.0)
        if self.recognition is not None:
            weights["recognition"] = FIT_RECOGNITION_WEIGHTS[self.recognition.name]
        return weights | dict(self.settings.weights)

    def optimise(self, stage: str, steps: int, terms: Callable, names: tuple[str, ...]) -> None:
        """Adam, its learning rates falling along a cosine to a tenth."""
        for name, value in self.p.items():
            value.requires_grad_(name in names)
        groups = [{"params": [self.p[n]], "lr": LEARNING_RATES[n]} for n in names]
        adam = torch.optim.Adam(groups, betas=(0.9, 0.95), fused=True)
        decay = torch.optim.lr_scheduler.LambdaLR(
            adam, lambda i: 0.1 + 0.45 * (1 + math.cos(math.pi * i / max(steps, 1)))
        )
        self.stage_losses = []
        weights = self.weights()
        for step in range(steps):
            values = terms()
            loss = losses.weighted_sum(values, weights)
            if not torch.isfinite(loss):
                raise FloatingPointError(
                    f"fitting: the loss is {loss.item()} at step {step} of stage {stage}; "
                    "are photo and landmarks finite?"
                )
            adam.zero_grad(set_to_none=True)
            loss.backward()
            adam.step()
            decay.step()
            self.stage_losses.append(loss.item())
            self.history.append((stage, step, self.stage_losses[-1]))
            if self.progress is not None:
                self.progress(stage, step + 1, steps, self.stage_losses[-1])
        self.p = {name: value.detach() for name, value in self.p.items()}

    @torch.no_grad()
    def start_colours(self) -> None:
        """Skin from the photo under the prior's ambient light, then the light that is left over."""
        c = self.coefficients()
        face = synthesise(self.model, c, self.settings.fov_deg)
        seen, weight = sample_photo_colours(face, self.photo, self.valid)
        weight = weight * self.vertex_weights * self.model.regions["skin"]
        basis = self.model.albedo_basis.reshape(len(self.model.albedo_basis), -1)
        for b in range(len(seen)):
            w = weight[b, :, None].expand(-1, 3).reshape(-1)
            difference = (seen[b] / LIGHT_LEVEL - self.model.albedo_mean).reshape(-1)
            normal = (basis * w) @ basis.T / w.sum().clamp(min=1)
            right = (basis * w) @ difference / w.sum().clamp(min=1)
            ridge = 2e-4 * torch.eye(len(basis), device=basis.device)
            self.p["albedo"][b] = torch.linalg.solve(normal + ridge, right)
        albedo = self.model.albedo(self.p["albedo"]).clamp(0.02, 1)
        prior = ambient_lighting(len(seen), LIGHT_LEVEL, device=seen.device)
        self.p["lighting"] = solve_lighting(
            albedo, face.normals, seen, weight, prior=prior, ridge=3e-3
        )

    @torch.no_grad()
    def losses_per_photo(self, c: FaceCoefficients) -> list[dict[str, float]]:
        each = []
        for b in range(len(self.photo)):
            inputs = (self.photo[b : b + 1], self.valid[b : b + 1], self.target[b : b + 1])
            settings = (self.kind, self.settings, self.recognition, None)
            alone = _Run(self.model, *inputs, *settings)
            alone.set(c[b])
            each.append({name: value.item() for name, value in alone.photo_terms().items()})
        return each

    def result(self, seconds: dict[str, float]) -> FitResult:
        with torch.no_grad():
            c = self.coefficients()
            face = synthesise(self.model, c, self.settings.fov_deg)
            points = face.landmarks(self.kind)
            error = landmark_error(points, self.target)
            inner = landmark_error(points, self.target, points="inner")
            mask = self.rendered(face)[1] > 0
        tail = self.stage_losses
        fifth = max(len(tail) // 5, 1)
        falling = 1 - tail[-1] / tail[-fifth] if len(tail) > 5 else 0.0
        facing = axis_angle_to_matrix(c.rotation)[:, 2, 2].clamp(-1, 1)  # cosine to the viewer
        away = torch.rad2deg(torch.arccos(facing))
        reasons = []
        for b in range(len(points)):
            why = []
            if inner[b] > MAX_LANDMARK_ERROR:
                why.append(
                    f"landmarks are {inner[b]:.1%} of the outer eye distance off, "
                    f"over {MAX_LANDMARK_ERROR:.0%}"
                )
            if away[b] > MAX_AWAY_DEG:
                why.append(f"the face looks {away[b]:.0f} degrees away, over {MAX_AWAY_DEG:.0f}")
            rms = c.identity[b].pow(2).mean().sqrt()
            if rms > MAX_IDENTITY_RMS:
                why.append(f"the shape is {rms:.1f} standard deviations from the mean")
            covered = mask[b].float().mean()
            if covered < MIN_COVERED:
                why.append(f"the face covers {covered:.0%} of the crop, under {MIN_COVERED:.0%}")
            if falling > MAX_STILL_FALLING:
                why.append(f"the loss was still falling ({falling:.0%} in the last steps)")
            reasons.append(why)
        return FitResult(c, self.losses_per_photo(c), self.history, reasons, seconds, error)


def _check(image: Tensor, valid: Tensor, landmarks: Tensor) -> None:
    batch = len(image)
    side = (CROP_SIZE, CROP_SIZE)
    for name, value, shape in (
        ("image", image, (batch, 3, *side)),
        ("valid", valid, (batch, 1, *side)),
        ("landmarks", landmarks, (batch, 68, 2)),
    ):
        if tuple(value.shape) != shape:
            raise ValueError(f"{name}: expected shape {shape}, got {tuple(value.shape)}")
        if not torch.isfinite(value).all():
            raise ValueError(f"{name}: expected finite numbers, got NaN or infinity")
